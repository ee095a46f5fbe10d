"""Names of differences, and what counts as a loss."""

import pytest

from gpuwizard.containerd import Effective, Release, compare, effective, losses
from gpuwizard.errors import UsageError

MAIN = "/etc/containerd/config.toml"
ROOT = """version = 2
imports = ["/etc/containerd/conf.d/*.toml"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "example.test/pause:9"
  stream_server_port = "10010"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
"""
PARTIAL = """version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"
"""


def state(version: str, **drop_ins: str) -> Effective:
    files = {f"/etc/containerd/conf.d/{name}.toml": text.encode() for name, text in drop_ins.items()}
    return effective({MAIN: ROOT.encode(), **files}, MAIN, version)


def test_the_classic_mistake_on_1x_is_all_losses() -> None:
    before, after = state("1.7.24"), state("1.7.24", nvidia=PARTIAL)
    lost = {c.key: (c.before, c.after) for c in losses(before, after)}
    assert lost["handler runc"] == ("io.containerd.runc.v2", None)
    assert lost["sandbox image"] == ("example.test/pause:9", "registry.k8s.io/pause:3.8")
    assert lost["snapshotter"] == ("native", "overlayfs")
    assert lost["registry folder"] == ("/etc/containerd/certs.d", None)
    assert lost["CNI bin_dir"] == ("/usr/lib/cni", "/opt/cni/bin")
    assert lost["cgroup driver"] == ("systemd", None), "CRI does not load, so that nobody reports one"
    assert lost["io.containerd.grpc.v1.cri.stream_server_port"] == ("10010", None)
    assert lost["CRI plugin"][0] == "ok"
    assert "no corresponding runtime" in (lost["CRI plugin"][1] or "")


def test_the_same_drop_in_on_2x_loses_nothing() -> None:
    before, after = state("2.1.9"), state("2.1.9", nvidia=PARTIAL)
    assert [c.key for c in compare(before, after)] == ["handler nvidia"]
    assert losses(before, after) == ()


def test_an_announced_change_is_no_loss() -> None:
    text = PARTIAL + '[plugins."io.containerd.grpc.v1.cri".containerd]\ndefault_runtime_name = "nvidia"\n'
    before, after = state("2.1.9"), state("2.1.9", nvidia=text)
    changes = compare(before, after)
    assert {c.key for c in losses(before, after)} == {"default handler", "cgroup driver"}
    assert losses(before, after, changes) == ()


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("1.7.24~ds1", Release(1, 7, 24)),
        ("v2.1", Release(2, 1, 0)),
        ("containerd://2.0.5-k3s1.32", Release(2, 0, 5)),
        ("containerd github.com/containerd/containerd/v2 2.1.9+unknown", Release(2, 1, 9)),
    ],
)
def test_versions_as_people_write_them(text: str, release: Release) -> None:
    assert Release.parse(text) == release


def test_no_version_is_an_error() -> None:
    with pytest.raises(UsageError):
        Release.parse("unknown")


def test_byte_order_mark_and_wrong_types() -> None:
    assert effective({MAIN: b"\xef\xbb\xbfversion = 2\n"}, MAIN, "1.7.24").starts
    assert not effective({MAIN: b"\xef\xbb\xbfversion = 2\n"}, MAIN, "2.1.9").starts
    wrong = b'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = 5\n'
    assert "sandbox" in (effective({MAIN: wrong}, MAIN, "2.1.9").error or "")
    assert not effective({MAIN: b'version = "2"\n'}, MAIN, "1.7.24").starts


def test_ignored_parts_are_told() -> None:
    text = b'[plugins.cri.containerd.runtimes.nvidia]\nruntime_type = "io.containerd.runc.v2"\n'
    assert "ignored" in effective({MAIN: text}, MAIN, "2.1.9").warnings[0]
    assert "version-1 table" in effective({MAIN: b"version = 2\n" + text}, MAIN, "2.1.9").warnings[0]


def test_the_reported_cgroup_driver_is_that_of_the_first_handler_like_runc() -> None:
    kata = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]\nruntime_type = "io.containerd.kata.v2"\n'
    default = '[plugins."io.containerd.grpc.v1.cri".containerd]\ndefault_runtime_name = "kata"\n'
    assert state("2.1.9", kata=f"version = 2\n{default}{kata}").cgroup_driver == "systemd"
    crun = kata.replace("kata", "crun").replace("io.containerd.crun.v2", "io.containerd.runc.v2")
    assert state("2.1.9", crun=f"version = 2\n{default}{kata}{crun}").cgroup_driver == "cgroupfs"
