"""Rules about CDI specifications and their upkeep, on text that provokes them and on text that must not."""

from dataclasses import replace

import pytest

from gpuwizard.facts.model import Gpu, Handler, MigDevice, Probe, RuntimeFacts
from gpuwizard.facts.parse import parse_probe
from tests.captured import CAPTURE, changed, edit, ids, only, without
from tests.probe_tree import H200_UUID as UUID

OTHER = "GPU-99999999-2222-3333-4444-555555555555"
MIG = "MIG-aaaaaaaa-1111-2222-3333-444444444444"
REFRESHED = "/var/run/cdi/nvidia.yaml"
BY_HAND = "/etc/cdi/nvidia.yaml"
UNITS = """

Id=nvidia-cdi-refresh.path
LoadState={load}
ActiveState=active
SubState=waiting
UnitFileState={state}
Result=success

Id=nvidia-cdi-refresh.service
LoadState={load}
ActiveState={active}
SubState=dead
UnitFileState={state}
Result={result}
"""


def told(
    path: str = REFRESHED,
    *devices: str,
    kind: str = "nvidia.com/gpu",
    driver: str = "580.159.04",
    missing: tuple[str, ...] = (),
    broken: str | None = None,
) -> str:
    """What the probe's filter says of one file."""
    lines = [f"f {path}", "v 0.5.0", f"k {kind}", *(f"d {name}" for name in devices or ("0", UUID, "all"))]
    lines += [f"l {driver}", *(f"m {path}" for path in missing), *([f"b {broken}"] if broken else [])]
    return f"s 1795000000 9000 {path}\n" + "\n".join(lines) + "\n"


def host(*files: str, probe: bytes = CAPTURE) -> bytes:
    """The captured host with these specifications."""
    text = "".join(files)
    paths = "".join(f"{line.split()[3]}\n" for line in text.splitlines() if line.startswith("s "))
    return edit("cdi-scan", text, probe=edit("cdi-specs", paths, probe=probe))


def units(
    probe: bytes, *, load: str = "loaded", state: str = "enabled", active: str = "inactive", result: str = "success"
) -> bytes:
    start = probe.index(b"@@ units ")
    section = probe[start:].split(b"\n@@ ")[0].split(b"\n", 1)[1].decode()
    return edit("units", section + UNITS.format(load=load, state=state, active=active, result=result), probe=probe)


def mode(name: str, probe: bytes, kind: str = "nvidia.com/gpu") -> bytes:
    config = (
        f'[nvidia-container-runtime]\nmode = "{name}"\n[nvidia-container-runtime.modes.cdi]\ndefault-kind = "{kind}"\n'
    )
    return edit("toolkit-config", config, probe=probe)


def mine(probe: Probe | bytes) -> list[str]:
    return [found for found in ids(probe) if found.startswith(("GW-CDI", "GW-TOOLKIT", "GW-OPERATOR"))]


def test_a_specification_that_is_kept_is_silent() -> None:
    assert mine(units(host(told()))) == []
    assert mine(units(mode("cdi", host(told())))) == []
    plugin = told("/var/run/cdi/k8s.device-plugin.nvidia.com-gpu.json", UUID, kind="k8s.device-plugin.nvidia.com/gpu")
    management = told("/var/run/cdi/management.nvidia.com-gpu.yaml", "all", kind="management.nvidia.com/gpu")
    imex = told("/var/run/cdi/k8s.imex.json", "0", "1", "2", kind="k8s.device-plugin.nvidia.com/imex-channel")
    other = told("/etc/cdi/amd.json", "0", "1", kind="amd.com/gpu", driver="", missing=("/dev/kfd",))
    assert mine(units(host(told(), plugin, management, imex, other))) == []
    assert mine(host()) == []


def test_another_driver() -> None:
    raw = units(host(told(driver="570.195.03")))
    finding = only(raw, "GW-CDI-001")
    assert (finding.severity, finding.remedy) == (
        "warning",
        "Write it anew: `systemctl restart nvidia-cdi-refresh.service`.",
    )
    assert finding.evidence == (f"{REFRESHED} (nvidia.com/gpu): libraries of driver 570.195.03, loaded is 580.159.04",)
    assert only(mode("cdi", raw), "GW-CDI-001").severity == "error"
    assert (
        "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
        in only(host(told(BY_HAND, driver="570.1.2")), "GW-CDI-001").remedy
    )
    removed = only(units(host(told(BY_HAND, driver="570.1.2"))), "GW-CDI-001")
    assert "`rm /etc/cdi/nvidia.yaml`" in removed.remedy


def test_each_writer_has_its_own_remedy() -> None:
    plugin = told("/var/run/cdi/p.json", UUID, kind="k8s.device-plugin.nvidia.com/gpu", driver="570.1.2")
    management = told("/var/run/cdi/m.yaml", "all", kind="management.nvidia.com/gpu", driver="570.1.2")
    finding = only(units(host(told(driver="570.1.2"), plugin, management)), "GW-CDI-001")
    assert finding.severity == "error"
    for words in ("nvidia-cdi-refresh.service", "device plugin's pod", "nvidia-container-toolkit-daemonset"):
        assert words in finding.remedy


def test_a_driver_that_waits_for_its_reboot_is_not_stale() -> None:
    library = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.178.04\n"
    said = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.178"
    raw = edit("smi-core", said, 18, probe=edit("nvml-files", library, probe=host(told(driver="580.178.04"))))
    assert "GW-CDI-001" not in ids(raw)
    mounted = "/run/nvidia/driver/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.595.91.07"
    container = edit(
        "operator",
        f"driver /run/nvidia/driver\ndriver-library {mounted}\n",
        probe=host(told(driver="595.91.07")),
    )
    assert "GW-CDI-001" not in ids(container)
    unloaded = without("nvrm-version", "module-version", probe=host(told(driver="570.1.2")))
    assert "GW-CDI-001" not in ids(unloaded)


def test_other_gpus() -> None:
    finding = only(host(told(REFRESHED, "0", OTHER, "all")), "GW-CDI-002")
    assert finding.evidence == (
        f"{REFRESHED} (nvidia.com/gpu): {OTHER} is not in this host",
        f"{REFRESHED} (nvidia.com/gpu): {UUID} is in this host and not named",
    )
    assert (
        only(host(told(REFRESHED, "0", "1", "all")), "GW-CDI-002").evidence[0].endswith("GPUs 0, 1; nvidia-smi shows 0")
    )
    assert "GW-CDI-002" not in ids(host(told(REFRESHED, "0", "all")))
    assert "GW-CDI-002" not in ids(host(told(REFRESHED, "all")))
    assert "GW-CDI-002" not in ids(host(told(REFRESHED, "gpu0", "all")))


def test_gpus_that_nobody_could_ask_are_not_held_against_it() -> None:
    raw = host(told(REFRESHED, OTHER))
    failed = edit("smi-core", "Failed to initialize NVML: GPU is lost", 15, probe=raw)
    assert "GW-CDI-002" not in ids(failed)
    lost = edit("pci", "0000:00:06.0 0x2335 0x030200 0\n0000:5f:00.0 0x2335 0x030200 0\n", probe=raw)
    assert "GW-CDI-002" not in ids(lost)
    vfio = told(REFRESHED, OTHER, kind="nvidia.com/pgpu")
    assert "GW-CDI-002" not in ids(host(vfio))


def sliced(raw: bytes, *uuids: str) -> Probe:
    probe = parse_probe(raw)
    (gpu,) = probe.facts.gpus
    instances = tuple(MigDevice("1g.18gb", number, uuid) for number, uuid in enumerate(uuids))
    return changed(probe, gpus=(replace(gpu, mig="Enabled", mig_instances=instances),))


def test_other_mig_devices() -> None:
    gone = only(host(told(REFRESHED, "0:0", MIG, "all")), "GW-CDI-003")
    assert gone.evidence == (f"{REFRESHED} (nvidia.com/gpu): {MIG} is no MIG device of this host",)
    anew = only(sliced(host(told(REFRESHED, "0:0", "MIG-old", "all")), MIG), "GW-CDI-003")
    assert len(anew.evidence) == 2
    whole = only(sliced(host(told()), MIG), "GW-CDI-003")
    assert any(line.endswith("in MIG mode and named whole") for line in whole.evidence)
    fits = sliced(host(told(REFRESHED, "0:0", MIG, "all")), MIG)
    assert mine(fits) == []
    assert "GW-CDI-003" not in ids(sliced(host(told(REFRESHED, MIG))))  # the devices were not listed
    assert "GW-CDI-003" not in ids(host(told()))


def test_missing_paths() -> None:
    gone = tuple(f"/usr/lib/x{number}.so" for number in range(10))
    finding = only(host(told(missing=("/run/nvidia-persistenced/socket", *gone))), "GW-CDI-004")
    assert finding.severity == "warning"
    assert finding.evidence[0] == f"{REFRESHED} (nvidia.com/gpu): /run/nvidia-persistenced/socket does not exist"
    assert finding.evidence[-1].endswith("and 3 more")
    plugin = told("/var/run/cdi/p.json", UUID, kind="k8s.device-plugin.nvidia.com/gpu", missing=("/dev/nvidia7",))
    assert only(host(plugin), "GW-CDI-004").severity == "error"


def test_missing_paths_that_have_another_reason() -> None:
    stale = told(driver="570.1.2", missing=("/usr/lib/libcuda.so.570.1.2",))
    assert "GW-CDI-004" not in ids(host(stale))  # GW-CDI-001 says it
    unloaded = without("nvrm-version", "module-version", probe=host(told(missing=("/dev/nvidia0",))))
    assert "GW-CDI-004" not in ids(unloaded)
    assert "GW-CDI-004" not in ids(host(told()))


def test_one_device_twice_in_a_folder() -> None:
    finding = only(host(told(BY_HAND), told("/etc/cdi/nvidia-gpu.yaml")), "GW-CDI-005")
    assert finding.severity == "error"
    assert finding.evidence == (
        f"/etc/cdi/nvidia.yaml and /etc/cdi/nvidia-gpu.yaml both name nvidia.com/gpu=0, {UUID}, all",
    )
    assert "GW-TOOLKIT-002" not in ids(host(told(BY_HAND), told("/etc/cdi/nvidia-gpu.yaml")))
    other = told("/etc/cdi/p.yaml", kind="k8s.device-plugin.nvidia.com/gpu")
    assert "GW-CDI-005" not in ids(host(told(BY_HAND), other))
    assert "GW-CDI-005" not in ids(host(told(BY_HAND), told("/etc/cdi/b.yaml", broken="it ends in the middle")))


def test_one_by_hand_and_one_that_is_kept() -> None:
    finding = only(host(told(BY_HAND), told()), "GW-TOOLKIT-002")
    assert finding.evidence == (f"{BY_HAND} and {REFRESHED} both name nvidia.com/gpu=0, {UUID}, all",)
    assert "GW-CDI-005" not in ids(host(told(BY_HAND), told()))
    plugin = told("/var/run/cdi/k8s.device-plugin.nvidia.com-gpu.json", kind="k8s.device-plugin.nvidia.com/gpu")
    assert "GW-TOOLKIT-002" not in ids(host(told(BY_HAND), plugin))
    assert "GW-TOOLKIT-002" not in ids(host(told(BY_HAND)))


def test_cdi_mode_without_a_specification() -> None:
    raw = mode("cdi", host())
    finding = only(raw, "GW-CDI-006")
    assert finding.severity == "error"
    assert "no file in /etc/cdi and /run/cdi" in finding.evidence
    operators = mode("cdi", host(told()), "management.nvidia.com/gpu")
    assert f"{REFRESHED}: nvidia.com/gpu" in only(operators, "GW-CDI-006").evidence
    assert "GW-CDI-006" not in ids(mode("cdi", host(told())))
    assert "GW-CDI-006" not in ids(mode("jit-cdi", host()))
    assert "GW-CDI-006" not in ids(edit("cdi-specs", f"{REFRESHED}\n", probe=raw))  # it was not read
    elsewhere = (
        '[nvidia-container-runtime]\nmode = "cdi"\n[nvidia-container-runtime.modes.cdi]\nspec-dirs = ["/srv/cdi"]\n'
    )
    assert "GW-CDI-006" not in ids(edit("toolkit-config", elsewhere, probe=host()))


def test_a_specification_that_cannot_be_read() -> None:
    finding = only(host(told(broken="line 7: a string does not end")), "GW-CDI-007")
    assert finding.evidence == (f"{REFRESHED}: line 7: a string does not end",)
    assert only(host("s 1 0 /etc/cdi/nvidia.yaml\n"), "GW-CDI-007").evidence == ("/etc/cdi/nvidia.yaml: it is empty",)
    assert "GW-CDI-007" not in ids(host("s 1 0 /etc/cdi/amd.json\n"))
    assert "GW-CDI-007" not in ids(host(told()))


def test_the_service_that_writes_it() -> None:
    failed = units(host(), active="failed", result="exit-code")
    assert "result exit-code" in only(failed, "GW-CDI-008").evidence[0]
    assert "GW-CDI-008" not in ids(units(host()))  # it ran and ended
    assert "GW-CDI-008" not in ids(units(host(), result="exec-condition"))
    assert "GW-CDI-008" not in ids(without("nvrm-version", "module-version", probe=failed))
    said = "Failed to initialize NVML: Driver/library version mismatch"
    assert "GW-CDI-008" not in ids(edit("smi-core", said, 18, probe=failed))


@pytest.mark.parametrize(("load", "state"), [("loaded", "disabled"), ("masked", "masked")])
def test_units_that_are_switched_off(load: str, state: str) -> None:
    raw = units(host(told()), load=load, state=state)
    finding = only(raw, "GW-CDI-009")
    assert finding.severity == "info"
    assert f"nvidia-cdi-refresh.path: {state}" in finding.evidence
    assert only(mode("cdi", raw), "GW-CDI-009").severity == "warning"
    assert "GW-CDI-009" not in ids(units(host(), load=load, state=state))  # nothing to keep


def test_units_that_are_on_or_not_there() -> None:
    assert "GW-CDI-009" not in ids(units(host(told())))
    assert "GW-CDI-009" not in ids(units(host(told()), load="not-found", state=""))
    assert "GW-CDI-009" not in ids(host(told()))


def test_an_oci_hook_beside_cdi() -> None:
    hook = edit("toolkit-state", "hook /usr/share/containers/oci/hooks.d/oci-nvidia-hook.json\n", probe=host(told()))
    probe = parse_probe(hook)
    crio = RuntimeFacts("crio", "1.34.1", handlers={"crun": Handler("oci")}, used_by_kubelet=True, running=True)
    assert (
        "/usr/share/containers/oci/hooks.d/oci-nvidia-hook.json"
        in only(changed(probe, runtimes=(crio,)), "GW-CDI-010").evidence
    )
    assert "GW-CDI-010" not in ids(probe)  # containerd does not look there
    bare = parse_probe(host(told()))
    assert "GW-CDI-010" not in ids(changed(bare, runtimes=(crio,)))


def test_a_gpu_that_shares_no_uuid_says_nothing() -> None:
    probe = parse_probe(host(told(REFRESHED, OTHER)))
    orin = Gpu(name="Orin (nvgpu)", uuid=None, index=0, seen_by=("nvidia-smi",))
    assert "GW-CDI-002" not in ids(changed(probe, gpus=(orin,)))
