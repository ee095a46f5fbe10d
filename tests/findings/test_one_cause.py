"""One cause makes one finding: the most exact one, as grave as what comes of it."""

import pytest

from gpuwizard.facts.model import OperatorFacts, Probe
from gpuwizard.facts.parse import parse_probe
from gpuwizard.findings import RULES, Finding
from gpuwizard.findings.one_cause import one_per_cause
from gpuwizard.findings.rule import Rule, Verdict
from tests import driver_hosts, gpu_hosts
from tests.captured import changed, found
from tests.findings.test_k3s import BASE, ETC, NVIDIA, RUNC, V3, k3s
from tests.findings.test_kubernetes import snap
from tests.kube_hosts import NOW, host, unit

BY_ID = {rule.id: rule for rule in RULES}


def graves(probe: Probe | bytes) -> dict[str, Finding]:
    return {finding.id: finding for finding in found(probe) if finding.severity in ("error", "warning")}


def rule(name: str, *instead_of: str, severity: str = "warning") -> Rule:
    return Rule(name, severity, name, "c", f"mend {name}.", lambda _: None, instead_of=instead_of)  # type: ignore[arg-type]


# --- the mechanism ---


def test_a_finding_takes_in_what_the_same_cause_makes_true() -> None:
    exact, general = rule("A", "B"), rule("B", severity="error")
    (finding,) = one_per_cause([(general, Verdict(("b", "a"))), (exact, Verdict(("a",)))])
    assert (finding.id, finding.severity, finding.evidence) == ("A", "error", ("a", "b"))
    assert finding.remedy == "mend A."


def test_what_is_about_something_else_stays() -> None:
    exact, general = rule("A", "B"), rule("B")
    here, both = frozenset(("gpu 0",)), frozenset(("gpu 0", "gpu 1"))
    assert len(one_per_cause([(exact, Verdict((), about=here)), (general, Verdict((), about=both))])) == 2
    assert len(one_per_cause([(exact, Verdict((), about=both)), (general, Verdict((), about=here))])) == 1


def test_a_chain_ends_at_its_most_exact_rule() -> None:
    chain = [(rule("C"), Verdict(("c",))), (rule("B", "C"), Verdict(("b",))), (rule("A", "B"), Verdict(("a",)))]
    (finding,) = one_per_cause(chain)
    assert (finding.id, finding.evidence) == ("A", ("a", "c", "b"))


def test_what_gpuwizard_mends_is_said() -> None:
    (finding,) = one_per_cause([(rule("A", "B"), Verdict(())), (rule("B"), Verdict((), fixable=True))])
    assert (finding.fixable, finding.remedy) == (True, "mend A. mend B.")


def test_rules_stand_for_rules_that_exist() -> None:
    named = {name for rule in RULES for name in rule.instead_of}
    assert named
    assert named <= BY_ID.keys()


def test_no_rule_stands_for_itself_in_the_end() -> None:
    def reaches(name: str, seen: frozenset[str]) -> None:
        assert name not in seen, (name, seen)
        for other in BY_ID[name].instead_of:
            reaches(other, seen | {name})

    for name in BY_ID:
        reaches(name, frozenset())


# --- situations ---


def containerd(main: str, *, version: str = "1.7.24", dump: str = "", **files: str) -> Probe:
    """A kubeadm node with this config.toml and these files in conf.d."""
    placed = {"/etc/containerd/config.toml": main}
    placed |= {f"/etc/containerd/conf.d/{name}.toml": text for name, text in files.items()}
    return host(
        unit("kubelet.service", "/usr/bin/kubelet"),
        unit("containerd.service", "/usr/bin/containerd"),
        files=placed,
        marks=("/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/config.yaml"),
        containerd__700="config=/etc/containerd/config.toml\nsocket=/run/containerd/containerd.sock\nbinary=\n",
        containerd_version__700=f"containerd github.com/containerd/containerd {version} x",
        containerd_plugins__700="TYPE ID PLATFORMS STATUS\nio.containerd.grpc.v1 cri linux/amd64 ok\n",
        containerd_dump__700=dump,
        kubelet__800="argv=/usr/bin/kubelet --container-runtime-endpoint=unix:///run/containerd/containerd.sock\n",
    )


V2 = 'plugins."io.containerd.grpc.v1.cri".containerd'
RUNC_2 = (
    f'[{V2}]\ndefault_runtime_name = "runc"\n[{V2}.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'
    f"[{V2}.runtimes.runc.options]\nSystemdCgroup = true\n"
)
NVIDIA_2 = (
    f'[{V2}.runtimes.nvidia]\nruntime_type = "io.containerd.runc.v2"\n[{V2}.runtimes.nvidia.options]\n'
    'BinaryName = "/usr/bin/nvidia-container-runtime"\nSystemdCgroup = true\n'
)
IMPORTS = 'imports = ["/etc/containerd/conf.d/*.toml"]\n'


def test_a_partial_drop_in_is_told_once() -> None:
    """Not the undefined default, nor that CRI is down, nor that a restart is due."""
    main = f"version = 2\n{IMPORTS}{RUNC_2}"
    lost = f'version = 2\n[{V2}]\ndefault_runtime_name = "runc"\n{NVIDIA_2}'
    told = graves(containerd(main, dump=lost, **{"99-nvidia": f"version = 2\n{NVIDIA_2}"}))
    assert set(told) == {"GW-CONTAINERD-002"}
    assert told["GW-CONTAINERD-002"].severity == "error"


def test_a_drop_in_that_nobody_imports_is_why_there_is_no_handler() -> None:
    main = f"version = 2\n{RUNC_2}"
    told = graves(containerd(main, dump=main, **{"99-nvidia": f"version = 2\n{NVIDIA_2}"}))
    assert set(told) == {"GW-CONTAINERD-019"}
    assert told["GW-CONTAINERD-019"].severity == "error"
    assert "handlers: runc" in told["GW-CONTAINERD-019"].evidence


def test_a_drop_in_without_the_handler_is_another_matter() -> None:
    main = f"version = 2\n{RUNC_2}"
    told = graves(containerd(main, dump=main, **{"50-site": "version = 2\noom_score = -999\n"}))
    assert set(told) == {"GW-CONTAINERD-019", "GW-RUNTIME-001"}
    assert told["GW-CONTAINERD-019"].severity == "warning"


def test_late_imports_are_why_nothing_is_imported() -> None:
    main = f"version = 2\n{RUNC_2}{IMPORTS}"
    told = graves(containerd(main, dump=main, **{"99-nvidia": f"version = 2\n{NVIDIA_2}"}))
    assert set(told) == {"GW-CONTAINERD-010"}
    assert told["GW-CONTAINERD-010"].severity == "error"


def test_a_default_handler_with_another_cgroup_driver_is_told_once() -> None:
    nvidia = NVIDIA_2.replace("SystemdCgroup = true\n", "").replace("[plugins", f"[{V2[:7]}", 1)
    main = f"version = 2\n{RUNC_2.replace('runc', 'nvidia', 1)}{nvidia}"
    told = graves(containerd(main, dump=main))
    assert set(told) == {"GW-CONTAINERD-014"}


def test_canonical_kubernetes_has_its_own_words() -> None:
    drop_in = f"version = 2\n{NVIDIA_2}"
    told = graves(
        snap(
            drop_in,
            containerd__700="config=/etc/containerd/config.toml\nsocket=/run/containerd/containerd.sock\nbinary=\n",
            containerd_version__700="containerd github.com/containerd/containerd 1.7.28 x",
            containerd_plugins__700="TYPE ID PLATFORMS STATUS\nio.containerd.grpc.v1 cri linux/amd64 error\n",
            containerd_dump__700=f'version = 2\n[{V2}]\ndefault_runtime_name = "runc"\n{NVIDIA_2}',
        )
    )
    assert set(told) == {"GW-SNAP-001"}
    assert "CRI plugin: error" in told["GW-SNAP-001"].evidence


@pytest.mark.parametrize(
    ("probe", "wanted"),
    [
        pytest.param(k3s(rendered=RUNC, installed=NOW + 60), "GW-K3S-003", id="toolkit-after-start"),
        pytest.param(k3s(rendered=RUNC, toolkit=None), "GW-TOOLKIT-001", id="no-toolkit"),
        pytest.param(k3s(BASE + NVIDIA, installed=NOW + 60), "GW-K3S-002", id="nvidia-twice"),
        pytest.param(k3s(RUNC, rendered=RUNC), "GW-K3S-001", id="copied-template"),
        pytest.param(
            k3s(config="default-runtime: nvidia\n", rendered=RUNC, toolkit=None), "GW-K3S-006", id="default-gone"
        ),
        pytest.param(
            k3s(
                rendered=RUNC,
                version="v1.33.3+k3s1",
                files={f"{ETC}/config-v3.toml.d/x.toml": f"[{V3}.containerd.runtimes.nvidia]\n"},
                installed=NOW + 60,
            ),
            None,
            id="two-causes",
        ),
    ],
)
def test_k3s(probe: Probe, wanted: str | None) -> None:
    told = graves(probe)
    assert "GW-RUNTIME-001" not in told
    if wanted is not None:
        assert set(told) == {wanted}
        assert told[wanted].severity == "error"


def lost_and_bad(**cells: str) -> bytes:
    rows = [
        gpu_hosts.row(0, "NVIDIA A100-SXM4-80GB", "00000000:04:00.0", "20b2", "81920"),
        gpu_hosts.row(1, "NVIDIA A100-SXM4-80GB", "00000000:08:00.0", "20b2", "81920", **cells),
    ]
    bus = gpu_hosts.function("0000:04:00.0", "20b2") + gpu_hosts.function("0000:08:00.0", "20b2")
    return gpu_hosts.host(rows, bus)


def of_gpus(raw: bytes) -> set[str]:
    return {name for name in graves(raw) if name.startswith(("GW-GPU", "GW-DRIVER"))}


XID = "NVRM: Xid (PCI:0000:{}:00): {}, pid='<unknown>', name=<unknown>, x"


def test_errors_of_memory_are_told_once_for_each_gpu() -> None:
    cells = {"ecc__errors__uncorrected__volatile__total": "3", "remapped_rows__pending": "Yes"}
    repaired = driver_hosts.host(lost_and_bad(**cells), kernel_log=driver_hosts.log(XID.format("08", 63)))
    assert of_gpus(repaired) == {"GW-GPU-011"}
    neighbour = driver_hosts.host(lost_and_bad(**cells), kernel_log=driver_hosts.log(XID.format("04", 63)))
    assert of_gpus(neighbour) == {"GW-GPU-011", "GW-DRIVER-064"}
    failed = lost_and_bad(**cells, remapped_rows__failure="Yes", gpu_recovery_action="Reset")
    assert of_gpus(failed) == {"GW-GPU-010"}


def test_a_gpu_that_must_be_reset_is_told_once() -> None:
    raw = lost_and_bad(temperature__gpu="[GPU requires reset]", gpu_recovery_action="Reset")
    raw = driver_hosts.host(raw, kernel_log=driver_hosts.log(XID.format("08", 119), XID.format("08", 62)))
    assert of_gpus(raw) == {"GW-GPU-005"}


def test_a_lost_gpu_is_told_once() -> None:
    lost = "Unable to determine the device handle for GPU1: 0000:08:00.0: Unknown Error\n"
    rows = [gpu_hosts.row(0, "NVIDIA A100-SXM4-80GB", "00000000:04:00.0", "20b2", "81920")]
    bus = gpu_hosts.function("0000:04:00.0", "20b2") + gpu_hosts.function("0000:08:00.0", "20b2")
    raw = gpu_hosts.host(rows, bus, said=lost, status=255)
    raw = driver_hosts.host(raw, kernel_log=driver_hosts.log(XID.format("08", 79), XID.format("08", 119)))
    assert of_gpus(raw) == {"GW-GPU-004"}


def test_a_driver_that_is_not_there_is_why_the_operator_waits() -> None:
    waits = changed(parse_probe(driver_hosts.bare()), operator=OperatorFacts(validations=("toolkit-ready",)))
    told = graves(waits)
    assert {name for name in told if name.startswith(("GW-DRIVER", "GW-OPERATOR"))} == {"GW-DRIVER-001"}
    assert "no driver-ready" in told["GW-DRIVER-001"].evidence


def test_a_reboot_that_would_cost_the_gpu_is_not_recommended_beside() -> None:
    raw = driver_hosts.host(
        kernels=driver_hosts.kernels(driver_hosts.KERNEL, driver_hosts.NEWER),
        reboot="needed:System restart required\n",
        reboot_packages="linux-image-6.8.0-90-generic\n",
        **driver_hosts.on_disk({driver_hosts.KERNEL: "580.159.04"}),
    )
    told = graves(raw)
    assert "linux-image-6.8.0-90-generic" in "\n".join(told["GW-DRIVER-007"].evidence)
    assert "GW-HOST-023" not in told
