"""The traps of `runtimes.md §11` of containerd and Canonical Kubernetes: number → situation → refusal or right edit.

Traps of other runtimes are in the tests of their flavours; `ELSEWHERE` says where each of them belongs.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gpuwizard.actions import HostPlanned
from gpuwizard.answers.model import Answers, Runtime
from gpuwizard.containerd import Effective, effective
from gpuwizard.facts.model import OperatorFacts, Probe, RuntimeFacts
from gpuwizard.flavours import plan_host
from gpuwizard.flavours.owned import owned_file
from tests.plan_probes import DROP_IN, MAIN, RUNTIME_PATH, applied, containerd_host

ELSEWHERE = {
    4: "K3s: runtimes.nvidia next to what it detects",
    5: "K3s: a table appended after the base",
    13: "K3s: a full copy that survives upgrades",
    14: "K3s: a v3 template without root, state and address",
    17: "k0s: version-2 drop-ins when 1.36 comes",
    20: "K3s and RKE2: no RuntimeClass nvidia-cdi",
}
CTK = "/etc/containerd/conf.d/99-nvidia.toml"
CRI = '[plugins."io.containerd.grpc.v1.cri"'
RUNC = (
    f'{CRI}.containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n'
    f"{CRI}.containerd.runtimes.runc.options]\n  SystemdCgroup = true\n"
)
IMPORTS = 'imports = ["/etc/containerd/conf.d/*.toml"]\n'
ROOT = f"version = 2\n{IMPORTS}{CRI}]\n  sandbox_image = 'x'\n{RUNC}"
FOLDER_ROOT = f"version = 2\n{CRI}]\n  sandbox_image = 'x'\n{RUNC}"


def nvidia(binary: str = RUNTIME_PATH, *, systemd: bool = True, version: str = "version = 2\n") -> str:
    return (
        f'{version}{CRI}.containerd.runtimes.nvidia]\n  runtime_type = "io.containerd.runc.v2"\n'
        f'{CRI}.containerd.runtimes.nvidia.options]\n  BinaryName = "{binary}"\n'
        + ("  SystemdCgroup = true\n" if systemd else "")
    )


V3_NVIDIA = (
    "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]\n"
    "runtime_type = 'io.containerd.runc.v2'\n"
)


def after(probe: Probe, planned: HostPlanned) -> dict[str, bytes]:
    changes = {c.path: c.after.raw if c.after else None for c in planned.change.files}
    return {p: c.encode() if isinstance(c, str) else c for p, c in applied(probe, changes).items() if c is not None}


def state(probe: Probe, files: dict[str, bytes]) -> Effective:
    runtime = probe.facts.runtimes[0]
    return effective(files, runtime.config_path or MAIN, runtime.version or "")


def with_runtime(probe: Probe, **changes: Any) -> Probe:
    runtime = replace(probe.facts.runtimes[0], **changes)
    return replace(probe, facts=replace(probe.facts, runtimes=(runtime,)))


@dataclass(frozen=True)
class Trap:
    """A situation that breaks nodes, and what gpuwizard makes of it: a refusal id, or the files that it changes."""

    number: int
    what: str
    probe: Probe
    refusal: str | None = None
    files: tuple[str, ...] = ()
    answers: Answers = field(default_factory=Answers)
    holds: Callable[[Effective], bool] = lambda seen: True


DROP_IN_ASKED = Answers(runtime=Runtime(strategy="drop-in"))
DEFAULT = Answers(runtime=Runtime(default_runtime="nvidia"))
OPERATED = OperatorFacts(toolkit=True, toolkit_pod="running", drop_ins=(CTK,))
ABANDONED = OperatorFacts(toolkit=False, toolkit_pod="gone")
STOPPED = OperatorFacts(toolkit=True, toolkit_pod="none", drop_ins=(CTK,))
OPERATOR_BINARY = "/usr/local/nvidia/toolkit/nvidia-container-runtime"

TRAPS = [
    Trap(1, "partial drop-in asked for on 1.x", containerd_host("1.7.24", {MAIN: ROOT}), "strategy", (), DROP_IN_ASKED),
    Trap(1, "partial drop-in there on 1.x", containerd_host("1.7.24", {MAIN: ROOT, CTK: nvidia()}), "broken-now"),
    Trap(1, "1.x is edited in place", containerd_host("1.7.24", {MAIN: ROOT}), None, (MAIN,)),
    Trap(2, "ours has the root's version", containerd_host("2.1.9", {MAIN: ROOT}), None, (DROP_IN,)),
    Trap(2, "v3 drop-in on 2.3", containerd_host("2.3.4", {MAIN: ROOT, CTK: V3_NVIDIA}), "broken-now"),
    Trap(2, "v3 drop-in on 1.7", containerd_host("1.7.24", {MAIN: ROOT, CTK: V3_NVIDIA}), "broken-now"),
    Trap(
        2,
        "v3 drop-in on 2.1: the root does nothing, the handler follows what counts",
        containerd_host("2.1.9", {MAIN: ROOT, CTK: V3_NVIDIA}),
        None,
        (CTK,),
        Answers(),
        lambda seen: not seen.runtimes["runc"].options and "SystemdCgroup" not in seen.runtimes["nvidia"].options,
    ),
    Trap(
        3,
        "two CRI drop-ins on 1.x: the last one counts",
        containerd_host(
            "1.7.24",
            {
                MAIN: ROOT,
                "/etc/containerd/conf.d/10-a.toml": f"version = 2\n{RUNC}",
                "/etc/containerd/conf.d/20-b.toml": f"version = 2\n{CRI}]\n  sandbox_image = 'y'\n{RUNC}",
            },
        ),
        None,
        ("/etc/containerd/conf.d/20-b.toml",),
        Answers(),
        lambda seen: seen.sandbox_image == "y",
    ),
    Trap(
        6,
        "v1 table in a v2 file on 1.x",
        containerd_host("1.7.24", {MAIN: ROOT + '[plugins.cri.containerd.runtimes.nvidia]\nruntime_type = "x"\n'}),
        "broken-now",
    ),
    Trap(
        6,
        "v1 table in a v2 file on 2.x does nothing",
        containerd_host("2.1.9", {MAIN: ROOT + '[plugins.cri.containerd.runtimes.nvidia]\nruntime_type = "x"\n'}),
        None,
        (DROP_IN,),
    ),
    Trap(
        6,
        "v1 tables where they count",
        containerd_host("1.7.24", {MAIN: "[plugins.cri]\n  sandbox_image = 'x'\n"}),
        None,
        (MAIN,),
        Answers(),
        lambda seen: seen.root_version == 0 and seen.sandbox_image == "x",
    ),
    Trap(
        7,
        "version = 2 added to Docker's stub",
        containerd_host("1.7.24", {MAIN: 'version = 2\ndisabled_plugins = ["cri"]\n'}),
        "cri-disabled",
    ),
    Trap(
        8,
        "imports after the first table",
        containerd_host("2.1.9", {MAIN: f"version = 2\n{RUNC}{IMPORTS}", CTK: nvidia(systemd=False)}),
        None,
        (DROP_IN, MAIN),
        Answers(),
        lambda seen: seen.imports == ("/etc/containerd/conf.d/99-gpuwizard-nvidia*.toml",),
    ),
    Trap(9, "another SystemdCgroup", containerd_host("1.7.24", {MAIN: ROOT + nvidia(systemd=False, version="")}), None,
         (MAIN,)),
    Trap(9, "on 2.x in a later drop-in", containerd_host("2.1.9", {MAIN: ROOT, CTK: nvidia(systemd=False)}), None,
         (CTK,)),
    Trap(
        10,
        "default without handler",
        containerd_host("2.1.9", {MAIN: f'{ROOT}{CRI}.containerd]\n  default_runtime_name = "nvidia"\n'}),
        "broken-now",
    ),
    Trap(10, "default with its handler", containerd_host("1.7.24", {MAIN: ROOT}), None, (MAIN,), DEFAULT,
         lambda seen: seen.default_runtime_name == "nvidia"),
    Trap(11, "nvidia-ctk without a file on 1.x", containerd_host("1.7.24", {MAIN: IMPORTS, CTK: nvidia(systemd=False)}),
         "broken-now"),
    Trap(
        11,
        "nvidia-ctk without a file on 2.x",
        containerd_host("2.1.9", {MAIN: f"version = 2\n{IMPORTS}", CTK: nvidia(systemd=False)}),
    ),
    Trap(
        11,
        "nvidia-ctk on Docker's stub",
        containerd_host("1.7.24", {MAIN: 'disabled_plugins = ["cri"]\n', CTK: 'disabled_plugins = ["cri"]\n'}),
        "cri-disabled",
    ),
    Trap(
        12,
        "MicroK8s' rendered file",
        containerd_host("2.1.9", {"/var/snap/microk8s/current/args/containerd.toml": FOLDER_ROOT},
                        main="/var/snap/microk8s/current/args/containerd.toml"),
        "owned-file",
    ),
    Trap(
        12,
        "K3s' rendered file",
        containerd_host("1.7.24", {"/var/lib/rancher/k3s/agent/etc/containerd/config.toml": FOLDER_ROOT},
                        main="/var/lib/rancher/k3s/agent/etc/containerd/config.toml"),
        "owned-file",
    ),
    Trap(
        15,
        "copies in a folder that nothing imports",
        containerd_host("2.1.9", {MAIN: FOLDER_ROOT, "/etc/containerd/conf.d/a.bak.toml": ROOT.replace("'x'", "'y'")}),
        None,
        (DROP_IN, MAIN),
        Answers(),
        lambda seen: seen.sandbox_image == "x",
    ),
    Trap(
        18,
        "a program that vanished",
        with_runtime(containerd_host("1.7.24", {MAIN: ROOT + nvidia(OPERATOR_BINARY, version="")}, operator=ABANDONED),
                     missing_binaries={"nvidia": OPERATOR_BINARY}),
        None,
        (MAIN,),
    ),
    Trap(
        19,
        "the operator looks after this node",
        containerd_host("2.1.9", {MAIN: ROOT, CTK: nvidia(OPERATOR_BINARY, systemd=False)}, operator=OPERATED),
        "operator-manages",
    ),
    Trap(
        19,
        "the operator's drop-in is its own",
        containerd_host("2.1.9", {MAIN: ROOT, CTK: nvidia(OPERATOR_BINARY, systemd=False)}, operator=STOPPED),
        "owned-file",
    ),
    Trap(
        19,
        "what the operator did is right",
        containerd_host("2.1.9", {MAIN: ROOT, CTK: nvidia(OPERATOR_BINARY)}, operator=OPERATED),
    ),
    Trap(19, "what nvidia-ctk did is right", containerd_host("2.1.9", {MAIN: ROOT, CTK: nvidia()})),
]  # fmt: skip


@pytest.mark.parametrize("trap", TRAPS, ids=[f"{t.number}-{t.what}" for t in TRAPS])
def test_trap(trap: Trap) -> None:
    planned = plan_host("n1", trap.probe, trap.answers)
    if trap.refusal is not None:
        assert [r.id for r in planned.refusals] == [trap.refusal]
        assert planned.refusals[0].why
        assert planned.refusals[0].remedy
        assert planned.change.empty
        return
    assert planned.refusals == ()
    files = after(trap.probe, planned)
    seen = state(trap.probe, files)
    assert seen.usable
    handler = seen.runtimes["nvidia"]
    assert handler.options.get("SystemdCgroup") == seen.runtimes["runc"].options.get("SystemdCgroup")
    if trap.files or not planned.change.empty:
        assert handler.options["BinaryName"] == RUNTIME_PATH
    if trap.files:
        assert tuple(c.path for c in planned.change.files) == trap.files
    assert trap.holds(seen)
    never_both = [p for p in files if b"runtimes.nvidia]" in files[p] and p.startswith("/etc/containerd/conf.d")]
    assert len(never_both) <= 1 or seen.imports == ("/etc/containerd/conf.d/99-gpuwizard-nvidia*.toml",)


def test_trap_1_the_file_that_took_the_node_down_is_named() -> None:
    probe = containerd_host("1.7.24", {MAIN: ROOT, CTK: nvidia()})
    (refusal,) = plan_host("n1", probe, Answers()).refusals
    assert "no corresponding runtime" in refusal.why
    assert f"{CTK} takes the place of the whole CRI table of {MAIN}: move it away" in refusal.remedy


def test_trap_2_what_a_newer_drop_in_does_to_the_root_is_said() -> None:
    planned = plan_host("n1", containerd_host("2.1.9", {MAIN: ROOT, CTK: V3_NVIDIA}), Answers())
    assert f"a file of version 3 makes the CRI settings of {MAIN} do nothing" in planned.reason


def test_the_file_that_disables_cri_is_named_and_freed_with_consent() -> None:
    files = {MAIN: ROOT, CTK: 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"] # off\n'}
    probe = containerd_host("2.1.9", files)
    (refusal,) = plan_host("n1", probe, Answers()).refusals
    assert refusal.why.startswith(f"{CTK} disables the CRI plugin")
    planned = plan_host("n1", probe, Answers(runtime=Runtime(convert=True)))
    assert after(probe, planned)[CTK] == b"version = 2\ndisabled_plugins = [] # off\n"
    assert state(probe, after(probe, planned)).usable


def test_trap_16_the_wrong_containerd_of_two() -> None:
    probe = containerd_host("1.7.24", {MAIN: ROOT, "/etc/other.toml": "version = 3\n"})
    docker = RuntimeFacts(kind="containerd", version="2.1.9", config_path="/etc/other.toml", unit="docker.service")
    ours = probe.facts.runtimes[0]

    def planned(*runtimes: RuntimeFacts) -> HostPlanned:
        return plan_host("n1", replace(probe, facts=replace(probe.facts, runtimes=runtimes)), Answers())

    assert [c.path for c in planned(replace(docker, used_by_kubelet=False), ours).change.files] == [MAIN]
    assert [c.path for c in planned(docker, ours).change.files] == [MAIN]
    for two in ((docker, replace(ours, used_by_kubelet=None)), (replace(docker, used_by_kubelet=True), ours)):
        (refusal,) = planned(*two).refusals
        assert refusal.id == "two-containerds"
        assert "/etc/other.toml (docker.service)" in refusal.why
        assert "/etc/containerd/config.toml (containerd.service)" in refusal.why
        assert "containerRuntimeEndpoint" in refusal.remedy


@pytest.mark.parametrize(
    ("path", "text", "place"),
    [
        ("/var/lib/rancher/rke2/agent/etc/containerd/config.toml", "", "config-v3.toml.tmpl"),
        ("/var/snap/microk8s/x1/args/containerd.toml", "", "/var/snap/microk8s/x1/args/containerd-template.toml"),
        ("/etc/k0s/containerd.toml", "# k0s_managed=true\nversion = 2\n", "/etc/k0s/containerd.d"),
        ("/etc/k0s/containerd.toml", "# k0s_managed=true\r\nversion = 2\r\n", "/etc/k0s/containerd.d"),
        ("/run/k0s/containerd-cri.toml", "", "/etc/k0s/containerd.d"),
        ("/var/run/docker/containerd/containerd.toml", "", "/etc/docker/daemon.json"),
        (CTK, f'BinaryName = "{OPERATOR_BINARY}"', "RUNTIME_DROP_IN_CONFIG"),
    ],
)
def test_a_file_of_somebody_else_is_refused_with_its_right_place(path: str, text: str, place: str) -> None:
    refusal = owned_file(path, text, containerd_host("2.1.9", {}).facts)
    assert refusal is not None
    assert refusal.id == "owned-file"
    assert path in refusal.why
    assert place in refusal.remedy


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (MAIN, ROOT),
        ("/etc/k0s/containerd.toml", "version = 2\n# k0s_managed=true\n"),
        ("/var/snap/microk8s/current/args/containerd-template.toml", ROOT),
    ],
)
def test_a_file_of_the_administrator_is_edited(path: str, text: str) -> None:
    assert owned_file(path, text, containerd_host("2.1.9", {}).facts) is None


def test_the_operators_left_over_file_is_repaired_when_the_operator_is_gone() -> None:
    probe = containerd_host("2.1.9", {MAIN: ROOT, CTK: nvidia(OPERATOR_BINARY)}, operator=ABANDONED)
    probe = with_runtime(probe, missing_binaries={"nvidia": OPERATOR_BINARY})
    planned = plan_host("n1", probe, Answers())
    assert [c.path for c in planned.change.files] == [CTK]
    text = after(probe, planned)[CTK].decode()
    assert text == nvidia()
    assert tomllib.loads(text)["version"] == 2


def test_every_trap_has_a_place() -> None:
    here = {trap.number for trap in TRAPS} | {16}
    assert here | set(ELSEWHERE) == set(range(1, 21))
    assert not here & set(ELSEWHERE)
