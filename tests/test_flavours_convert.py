"""Files that a runtime cannot use as they are: consent, what is kept, and every value that comes alive."""

import tomllib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuwizard.actions import HostPlanned
from gpuwizard.answers.model import Answers, HostOverride, Runtime
from gpuwizard.containerd import Effective, effective
from gpuwizard.containerd.convert import converted
from gpuwizard.containerd.edit import literal
from gpuwizard.errors import RefusedError
from gpuwizard.facts.model import Probe
from gpuwizard.flavours import plan_host
from tests.plan_probes import DROP_IN, MAIN, applied, containerd_host

RELEASES = ["1.6.20", "1.7.24", "2.0.5", "2.1.9", "2.3.4"]
AGREED = Answers(runtime=Runtime(convert=True))
STUB = """\
#   Licensed to somebody, with many words.

disabled_plugins = ["cri"]

#root = "/var/lib/containerd"
#[grpc]
#  address = "/run/containerd/containerd.sock"
"""
OLD = """\
# the cluster of 2019
oom_score = -999 # never
disabled_plugins = ["aufs", 'zfs']

[plugins.cri]
  sandbox_image = "example.test/pause:3.1" # mirrored
  [plugins.cri.cni]
    bin_dir = "/opt/cni/bin"
  [plugins.cri.containerd]
    snapshotter = "native"
    [plugins.cri.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins.cri.containerd.runtimes.runc.options]
        SystemdCgroup = true
    [plugins.cri.containerd.runtimes."kata.dev"]
      runtime_type = "io.containerd.kata.v2"
[plugins.opt]
  path = "/opt/x"
"""


def kubelet(probe: Probe, driver: str | None) -> Probe:
    kubernetes = replace(probe.facts.kubernetes, cgroup_driver=driver)  # type: ignore[arg-type]
    return replace(probe, facts=replace(probe.facts, kubernetes=kubernetes))


def after(probe: Probe, planned: HostPlanned) -> dict[str, bytes]:
    changes = {c.path: c.after.raw if c.after else None for c in planned.change.files}
    return {p: c.encode() if isinstance(c, str) else c for p, c in applied(probe, changes).items() if c is not None}


def state(files: dict[str, bytes], version: str) -> Effective:
    return effective(files, MAIN, version)


@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize("text", [STUB, "version = 2\n" + STUB, 'disabled_plugins = [\n  "cri", # Docker\n]\n'])
def test_dockers_stub_needs_consent(version: str, text: str) -> None:
    probe = containerd_host(version, {MAIN: text})
    (refusal,) = plan_host("n1", probe, Answers()).refusals
    assert refusal.id == "cri-disabled"
    assert "runtime.convert = true" in refusal.remedy
    assert (", and containerd would not start on it" in refusal.why) == text.startswith("version")


@pytest.mark.parametrize("driver", ["systemd", "cgroupfs", None])
@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize("text", [STUB, "version = 2\n" + STUB])
def test_dockers_stub_becomes_what_this_release_needs(version: str, text: str, driver: str | None) -> None:
    probe = kubelet(containerd_host(version, {MAIN: text}), driver)
    answers = Answers(host={"n1": HostOverride(convert=True)})
    planned = plan_host("n1", probe, answers)
    assert planned.refusals == ()
    files = after(probe, planned)
    seen = state(files, version)
    assert seen.usable
    systemd = driver != "cgroupfs"
    for handler in ("runc", "nvidia"):
        assert seen.runtimes[handler].options.get("SystemdCgroup", False) is systemd
    new = files[MAIN].decode()
    for line in STUB.splitlines():
        assert line in new or line.startswith("disabled")
    wanted = 2 if version < "2" or text.startswith("version") else 3
    assert tomllib.loads(new)["version"] == wanted
    assert tomllib.loads(new)["disabled_plugins"] == []
    assert f"cgroup driver {'systemd' if systemd else 'cgroupfs'}" in planned.reason
    assert ("could not be seen" in planned.reason) == (driver is None)
    assert "CRI plugin" in {c.key for c in planned.change.effective}
    again = plan_host("n1", kubelet(containerd_host(version, files), driver), answers)
    assert (again.change.empty, again.refusals) == (True, ())


@pytest.mark.parametrize("version", ["1.6.20", "1.7.24", "2.3.4"])
def test_a_file_of_version_1_that_counts_is_edited_in_its_dialect(version: str) -> None:
    probe = containerd_host(version, {MAIN: OLD})
    planned = plan_host("n1", probe, Answers())
    assert planned.refusals == ()
    files = after(probe, planned)
    seen = state(files, version)
    assert seen.runtimes["nvidia"].options["SystemdCgroup"] is True
    assert {"runc", "kata.dev"} <= set(seen.runtimes)
    assert "version" not in tomllib.loads(files[MAIN].decode())
    written = files[DROP_IN if version == "2.3.4" else MAIN].decode()
    assert "[plugins.cri.containerd.runtimes.nvidia]" in written


@pytest.mark.parametrize("version", ["2.0.5", "2.1.9"])
def test_a_file_of_version_1_that_is_ignored_needs_consent(version: str) -> None:
    probe = containerd_host(version, {MAIN: OLD})
    (refusal,) = plan_host("n1", probe, Answers()).refusals
    assert refusal.id == "unversioned-root"
    assert "runtime.convert = true" in refusal.remedy
    planned = plan_host("n1", probe, AGREED)
    assert planned.refusals == ()
    alive = {c.key: (c.before, c.after) for c in planned.change.effective}
    assert alive["sandbox image"] == ("registry.k8s.io/pause:3.10", "example.test/pause:3.1")
    assert alive["snapshotter"] == ("overlayfs", "native")
    assert alive["cgroup driver"] == ("cgroupfs", "systemd")
    assert alive["handler kata.dev"] == (None, "io.containerd.kata.v2")
    assert alive["handler runc.SystemdCgroup"] == (None, "true")


@pytest.mark.parametrize("version", RELEASES)
def test_a_conversion_keeps_every_line_and_every_setting(version: str) -> None:
    probe = containerd_host(version, {MAIN: OLD})
    planned = plan_host("n1", probe, AGREED)
    assert planned.refusals == ()
    new = after(probe, planned)
    text = new[MAIN].decode()
    assert tomllib.loads(text)["version"] == 2
    assert tomllib.loads(text)["disabled_plugins"] == [
        "io.containerd.snapshotter.v1.aufs",
        "io.containerd.snapshotter.v1.zfs",
    ]
    renamed = (
        text.replace('"io.containerd.grpc.v1.cri"', "cri")
        .replace('"io.containerd.internal.v1.opt"', "opt")
        .replace("io.containerd.snapshotter.v1.", "")
    )
    assert [line for line in OLD.splitlines() if line not in renamed.splitlines()] == []
    seen = state(new, version)
    model = state({MAIN: OLD.encode()}, "2.3.4" if version.startswith(("2.0", "2.1")) else version)
    assert {n: h for n, h in seen.runtimes.items() if n != "nvidia"} == model.runtimes
    assert (seen.sandbox_image, seen.snapshotter) == (model.sandbox_image, model.snapshotter)


def test_a_conversion_does_not_bring_a_shim_alive_that_is_gone() -> None:
    old = '[plugins.cri.containerd.runtimes.runc]\nruntime_type = "io.containerd.runtime.v1.linux"\n'
    (refusal,) = plan_host("n1", containerd_host("2.1.9", {MAIN: old}), AGREED).refusals
    assert refusal.id == "removed-shim"
    assert "io.containerd.runc.v2" in refusal.remedy


@pytest.mark.parametrize(
    "text",
    [
        "plugins = { cri = { sandbox_image = 'x' } }\n",
        '[plugins.cri]\nsandbox_image = "x"\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "y"\n',
    ],
)
def test_a_text_that_cannot_be_converted_is_refused(text: str) -> None:
    (refusal,) = plan_host("n1", containerd_host("2.1.9", {MAIN: text}), AGREED).refusals
    assert refusal.id == "not-editable"
    assert refusal.remedy
    with pytest.raises(RefusedError):
        converted(text, 2, enable_cri=False)


@pytest.mark.parametrize(("version", "root"), [("1.6.20", 2), ("1.7.24", 2), ("2.1.9", 3), ("2.3.4", 3)])
def test_without_a_file_one_is_begun_with_the_kubelets_cgroup_driver(version: str, root: int) -> None:
    probe = kubelet(containerd_host(version, {MAIN: None}), "systemd")
    planned = plan_host("n1", probe, Answers())
    assert planned.refusals == ()
    files = after(probe, planned)
    assert tomllib.loads(files[MAIN].decode())["version"] == root
    seen = state(files, version)
    assert seen.usable
    assert seen.runtimes["runc"].options == {"SystemdCgroup": True}
    assert seen.runtimes["nvidia"].options["SystemdCgroup"] is True
    assert ("cgroup driver", "cgroupfs", "systemd") in {(c.key, c.before, c.after) for c in planned.change.effective}
    assert plan_host("n1", kubelet(containerd_host(version, files), "systemd"), Answers()).change.empty
    unsaid = plan_host("n1", kubelet(containerd_host(version, {MAIN: None}), "cgroupfs"), Answers())
    assert "cgroup driver" not in {c.key for c in unsaid.change.effective}


NAMES = st.sampled_from(["cri", "opt", "linux", "overlayfs", "containers-service", "io.containerd.x.v1.y"])
VALUES = st.one_of(st.booleans(), st.integers(0, 9), st.sampled_from(["a # b", "[plugins.cri]", 'q"']))


@st.composite
def old_files(draw: st.DrawFn) -> str:
    """Files of version 1 in many hands."""
    lines = [draw(st.sampled_from(["", "# [plugins.cri]", "version = 1 # old"]))]
    if draw(st.booleans()):
        names = draw(st.lists(NAMES, max_size=3))
        open_, between = draw(st.sampled_from([("[", ", "), ("[\n  ", ", # why\n  "), ("[ ", " , ")]))
        lines.append(f"disabled_plugins = {open_}{between.join(literal(n) for n in names)}]")
    if draw(st.booleans()):
        lines.append(f"plugins.{draw(st.sampled_from(['restart', 'bolt']))}.x = {literal(draw(VALUES))}")
    elif draw(st.booleans()):
        lines += ["[plugins]", f"  {draw(st.sampled_from(['restart', 'bolt']))} . 'a=b' = {literal(draw(VALUES))}"]
    for name in draw(st.lists(NAMES, unique=True, max_size=3)):
        quoted = literal(name) if "." in name or draw(st.booleans()) else name
        lines += [f"  [plugins.{quoted}.z] # about it", f"k = {literal(draw(VALUES))}"]
    return "\n".join(lines) + draw(st.sampled_from(["", "\n"]))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(old_files(), st.sampled_from([2, 3, None]), st.booleans())
def test_any_conversion_renames_and_nothing_else(text: str, version: int | None, enable: bool) -> None:
    new = converted(text, version, enable_cri=enable)
    before, data = tomllib.loads(text), tomllib.loads(new)
    assert data.get("version") == (version or before.get("version"))
    assert all("." in name for name in data.get("plugins", {}))
    assert list(data.get("plugins", {}).values()) == list(before.get("plugins", {}).values())
    disabled = data.get("disabled_plugins", [])
    assert all("." in name for name in disabled)
    kept = [n for n in before.get("disabled_plugins", []) if not (enable and n == "cri")]
    assert len(disabled) == len(kept)
    comments = [line.partition("# ")[2] for line in text.splitlines() if "# " in line and '"' not in line]
    assert all(comment in new for comment in comments)
    assert converted(new, version, enable_cri=enable) == new


def test_consent_alone_changes_nothing() -> None:
    right = OLD + (
        "[plugins.cri.containerd.runtimes.nvidia]\nruntime_type = 'io.containerd.runc.v2'\n"
        "[plugins.cri.containerd.runtimes.nvidia.options]\n"
        "BinaryName = '/usr/bin/nvidia-container-runtime'\nSystemdCgroup = true\n"
    )
    answers: Any = Answers(runtime=Runtime(convert=True, cdi="leave"))
    assert plan_host("n1", containerd_host("1.7.24", {MAIN: right}), answers).change.empty
