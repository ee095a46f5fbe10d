"""MicroK8s: the template is edited, its placeholders stay, and containerd.toml is left to MicroK8s."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwizard.actions import Activation, HostPlanned
from gpuwizard.answers.model import Answers, Runtime
from gpuwizard.containerd import Effective, effective
from gpuwizard.facts.model import KubernetesFacts, OperatorFacts, Probe, RuntimeFacts
from gpuwizard.flavours import plan_host, strategies
from gpuwizard.flavours.microk8s_template import RENDERED, TEMPLATE, Masked
from tests.plan_probes import RUNTIME_PATH, applied, probe

LEAVE = Answers()
NVIDIA = Answers(runtime=Runtime(default_runtime="nvidia"))
FORMERLY = Answers(runtime=Runtime(default_runtime="former"))
TEXT = """# The template of MicroK8s' containerd: ${SNAP_DATA} and others are filled in.
version = 2
oom_score = 0

[grpc]
  uid = 0

[plugins."io.containerd.grpc.v1.cri"]
  stream_server_port = "0"
  sandbox_image = "registry.k8s.io/pause:3.7"

  # settings of containerd
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "${SNAPSHOTTER}"
    default_runtime_name = "${RUNTIME}"   # runc, or that of the GPU

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      # cgroups decide
      runtime_type = "${RUNTIME_TYPE}"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia-container-runtime]
      runtime_type = "${RUNTIME_TYPE}"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia-container-runtime.options]
        BinaryName = "nvidia-container-runtime"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${SNAP_DATA}/opt/cni/bin"
    conf_dir = "${SNAP_DATA}/args/cni-network"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "${SNAP_DATA}/args/certs.d"
"""
ADDED = f"""
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
      runtime_type = "${{RUNTIME_TYPE}}"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
        BinaryName = "{RUNTIME_PATH}"
"""
VALUES = {
    "SNAP": "/snap/microk8s/7394",
    "SNAP_DATA": "/var/snap/microk8s/7394",
    "SNAPSHOTTER": "overlayfs",
    "RUNTIME": "runc",
    "RUNTIME_TYPE": "io.containerd.runc.v2",
}


def filled(template: str, **values: str) -> str:
    """As MicroK8s' sed writes it, comments included."""
    return re.sub(r"\$\{(\w+)\}", lambda m: {**VALUES, **values}.get(m[1], m[0]), template)


def microk8s_host(
    template: str | None = TEXT,
    rendered: str | None = "",
    *,
    version: str = "1.7.28",
    files: dict[str, str] | None = None,
    values: dict[str, str] | None = None,
    **changes: Any,
) -> Probe:
    """A MicroK8s node; `rendered` is "" for what its template gives."""
    if rendered == "" and template is not None:
        rendered = filled(template, **(values or {}))
    facts = {k: changes.pop(k) for k in ("operator", "toolkit") if k in changes}
    runtime = RuntimeFacts(
        kind="containerd",
        version=version,
        socket="/var/snap/microk8s/common/run/containerd.sock",
        config_path="/var/snap/microk8s/7394/args/containerd.toml",
        used_by_kubelet=True,
        owner="snap",
        unit="snap.microk8s.daemon-containerd.service",
        running=True,
    )
    kubernetes = KubernetesFacts("microk8s", "v1.34.1", "control-plane", node_name="m1", active=True)
    known = {TEMPLATE: template, RENDERED: rendered, **(files or {})}
    return probe(known, replace(runtime, **changes), kubernetes, **facts)


def after(host: Probe, planned: HostPlanned) -> str:
    changes = {c.path: c.after.raw if c.after else None for c in planned.change.files}
    content = applied(host, changes)[TEMPLATE]
    return content.decode() if isinstance(content, bytes) else content or ""


def seen(template: str, version: str) -> Effective:
    return effective({RENDERED: filled(template).encode()}, RENDERED, version)


def with_mtime(host: Probe, **times: int) -> Probe:
    paths = {"template": TEMPLATE, "rendered": RENDERED}
    files = {**host.files, **{paths[n]: replace(host.files[paths[n]], mtime=t) for n, t in times.items()}}
    return replace(host, files=files)


@pytest.mark.parametrize("version", ["1.6.36", "1.7.27", "1.7.28", "2.1.3", "2.2.3"])
def test_the_handler_stands_behind_runc_and_everything_else_stays(version: str) -> None:
    host = microk8s_host(version=version)
    planned = plan_host("m1", host, LEAVE)
    assert planned.refusals == ()
    assert planned.strategy == "in-place"
    assert [c.path for c in planned.change.files] == [TEMPLATE]
    at = TEXT.index('\n    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia-container-runtime]')
    expected = TEXT[:at] + ADDED + TEXT[at:]
    if version.startswith("1.7"):
        expected = expected.replace('pause:3.7"\n', 'pause:3.7"\n  enable_cdi = true\n')
    assert after(host, planned) == expected
    state = seen(expected, version)
    assert state.runtimes["nvidia"].options == {"BinaryName": RUNTIME_PATH}, "no SystemdCgroup: MicroK8s sets none"
    assert state.runtimes["nvidia"].runtime_type == "io.containerd.runc.v2"
    assert {"runc", "nvidia-container-runtime"} < set(state.runtimes)
    assert planned.change.activation == Activation(
        "snap.microk8s.daemon-containerd.service", "snap-restart", "microk8s.daemon-containerd"
    )
    assert planned.change.check is not None
    assert planned.change.check.rendered == RENDERED
    assert "nvidia-container-runtime is built in" in planned.reason
    assert planned.change.prediction
    again = plan_host("m1", microk8s_host(expected, version=version), LEAVE)
    assert (again.change.empty, again.refusals) == (True, ())


def test_cdi_stays_as_it_is_when_the_answers_say_so() -> None:
    host = microk8s_host(version="1.7.28")
    planned = plan_host("m1", host, Answers(runtime=Runtime(cdi="leave")))
    assert "enable_cdi" not in after(host, planned)


@pytest.mark.parametrize("version", ["1.6.36", "1.7.28", "2.1.3"])
def test_the_default_on_and_off_again_is_the_same_file(version: str) -> None:
    host = microk8s_host(version=version)
    handler = after(host, plan_host("m1", host, LEAVE))
    on = plan_host("m1", microk8s_host(handler, version=version), NVIDIA)
    assert on.refusals == ()
    with_default = after(microk8s_host(handler, version=version), on)
    assert seen(with_default, version).default_runtime_name == "nvidia"
    assert '"${RUNTIME}"' in with_default, "what was there is remembered as it was written"
    for answers in (NVIDIA, LEAVE):
        assert plan_host("m1", microk8s_host(with_default, version=version), answers).change.empty
    off = plan_host("m1", microk8s_host(with_default, version=version), FORMERLY)
    assert off.refusals == ()
    assert after(microk8s_host(with_default, version=version), off) == handler
    assert plan_host("m1", microk8s_host(handler, version=version), FORMERLY).change.empty


def test_values_come_from_the_file_that_microk8s_wrote() -> None:
    values = {"SNAPSHOTTER": "zfs", "RUNTIME": "nvidia-container-runtime"}
    host = microk8s_host(values=values)
    planned = plan_host("m1", host, NVIDIA)
    changed = {c.key: (c.before, c.after) for c in planned.change.effective}
    assert changed["default handler"] == ("nvidia-container-runtime", "nvidia")
    assert "snapshotter" not in changed
    assert planned.refusals == ()


def test_without_a_rendered_file_the_usual_values_are_taken() -> None:
    host = microk8s_host(rendered=None)
    planned = plan_host("m1", host, LEAVE)
    assert planned.refusals == ()
    assert planned.change.check is not None
    assert planned.change.check.default_handler == "runc"


def test_on_cgroup_v1_the_shim_that_2x_does_not_have_is_refused() -> None:
    values = {"RUNTIME_TYPE": "io.containerd.runc.v1"}
    old = plan_host("m1", microk8s_host(version="1.7.28", values=values), LEAVE)
    assert old.refusals == ()
    assert {c.key: c.after for c in old.change.effective}["handler nvidia"] == "io.containerd.runc.v1"
    new = plan_host("m1", microk8s_host(version="2.1.3", values=values), LEAVE)
    assert [r.id for r in new.refusals] == ["removed-shim"]
    assert "cgroup" in new.refusals[0].remedy


def test_an_edit_of_the_rendered_file_would_be_lost() -> None:
    """§11 trap 12: the right place is named."""
    edited = (
        filled(TEXT) + '\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]\nruntime_type = "io.kata.v2"\n'
    )
    host = with_mtime(microk8s_host(rendered=edited), template=100, rendered=200)
    planned = plan_host("m1", host, LEAVE)
    assert [r.id for r in planned.refusals] == ["owned-file"]
    assert "handler kata" in planned.reason
    assert TEMPLATE in planned.refusals[0].remedy


def test_a_template_changed_since_the_start_is_not_activated_in_passing() -> None:
    host = microk8s_host(TEXT.replace("pause:3.7", "pause:3.9"), filled(TEXT))
    planned = plan_host("m1", with_mtime(host, template=300, rendered=200), LEAVE)
    assert [r.id for r in planned.refusals] == ["latent-change"]
    assert "sandbox image" in planned.reason


IMPORTS = TEXT.replace("version = 2\n", 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n')
BY_OPERATOR = """version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{}/opt/cni/bin"
"""


@pytest.mark.parametrize(
    ("version", "folder", "reason"),
    [
        ("1.7.28", "/var/snap/microk8s/7000", "stale-revision"),
        ("2.1.3", "/var/snap/microk8s/x3", "stale-revision"),
        ("1.7.28", "/var/snap/microk8s/current", "operator-imports"),
    ],
)
def test_imports_that_the_operator_added_are_traps(version: str, folder: str, reason: str) -> None:
    path = "/etc/containerd/conf.d/99-nvidia.toml"
    host = microk8s_host(IMPORTS, version=version, files={path: BY_OPERATOR.format(folder)})
    planned = plan_host("m1", host, LEAVE)
    assert [r.id for r in planned.refusals] == [reason]
    assert path in planned.reason


def test_the_snaps_revision_in_a_path_that_vanishes_is_repaired() -> None:
    """§11 trap 18."""
    gone = "/usr/local/nvidia/toolkit/nvidia-container-runtime"
    at = TEXT.index('\n    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia-container-runtime]')
    host = microk8s_host(
        TEXT[:at] + ADDED.replace(RUNTIME_PATH, gone) + TEXT[at:], missing_binaries={"nvidia": gone}, version="2.1.3"
    )
    planned = plan_host("m1", host, LEAVE)
    assert planned.refusals == ()
    assert after(host, planned) == TEXT[:at] + ADDED + TEXT[at:]


REFUSALS = [
    ("no-template", microk8s_host(None, None)),
    ("broken-now", microk8s_host("version = 3\n")),
    ("broken-now", microk8s_host("version = 2\n[x\n", None, version="2.1.3")),
    ("not-editable", microk8s_host(TEXT.replace("${SNAPSHOTTER}", "${NOBODY}"), None)),
    ("wrong-runtime", microk8s_host(config_path="/etc/containerd/config.toml")),
    ("operator-manages", microk8s_host(operator=OperatorFacts(toolkit_pod="running"))),
    ("not-running", microk8s_host(running=False)),
]


@pytest.mark.parametrize(("reason", "host"), REFUSALS, ids=[f"{i}-{r}" for i, (r, _) in enumerate(REFUSALS)])
def test_refused_with_a_reason_and_a_remedy(reason: str, host: Probe) -> None:
    planned = plan_host("m1", host, LEAVE)
    assert [r.id for r in planned.refusals] == [reason]
    assert planned.change.empty
    assert planned.refusals[0].remedy


def test_only_the_template_is_offered() -> None:
    offered = {o.value: o for o in strategies(microk8s_host())}
    assert (offered["in-place"].recommended, offered["drop-in"].enabled, offered["k3s-native"].enabled) == (
        True,
        False,
        False,
    )


NAMES = st.sampled_from(["SNAP", "SNAP_DATA", "SNAPSHOTTER", "RUNTIME", "PORT"])
LINES = st.one_of(
    NAMES.map(lambda n: f"x{n.lower()} = ${{{n}}}"),
    NAMES.map(lambda n: f'y{n.lower()} = "a/${{{n}}}/b" # ${{{n}}}'),
    NAMES.map(lambda n: f"# c = ${{{n}}}"),
    st.just(""),
)


@given(st.lists(LINES, max_size=8))
@settings(max_examples=100, deadline=None)
def test_placeholders_come_back_as_they_were(lines: list[str]) -> None:
    text = "\n".join(["version = 2", *dict.fromkeys(lines), ""])
    masked = Masked.of(text)
    assert masked.unmasked(masked.text) == text


OTHERS = st.fixed_dictionaries(
    {},
    optional={
        "max_container_log_line_size": st.integers(1, 99999).map(str),
        "enable_selinux": st.sampled_from(["true", "false"]),
        "tolerate_missing_hugetlb_controller": st.sampled_from(["true # kept", "false"]),
    },
)


@given(OTHERS, st.sampled_from(["1.6.36", "1.7.28", "2.1.3", "2.2.3"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_other_key_is_kept(others: dict[str, str], version: str, crlf: bool) -> None:
    lines = "".join(f"  {k} = {v}\n" for k, v in others.items())
    text = TEXT.replace('  stream_server_port = "0"\n', '  stream_server_port = "0"\n' + lines)
    text = text.replace("\n", "\r\n") if crlf else text
    host = microk8s_host(text, version=version)
    planned = plan_host("m1", host, NVIDIA)
    assert planned.refusals == ()
    keys = {c.key.partition(".")[0] for c in planned.change.effective} - {"CDI"}
    assert keys == {"handler nvidia", "default handler"}
    new = after(host, planned)
    kept = iter(new.splitlines(keepends=True))
    assert all(line in kept for line in text.splitlines(keepends=True) if "default_runtime_name" not in line)
    assert plan_host("m1", microk8s_host(new, version=version), NVIDIA).change.empty
