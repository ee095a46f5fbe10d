"""Rules about the container toolkit and its config.toml, on text that provokes them and on text that must not."""

from dataclasses import replace
from typing import Any

import pytest

from gpuwizard.facts.model import CdiSpec, Gpu, Handler, Probe, RuntimeFacts, ToolkitFacts
from gpuwizard.facts.parse import parse_probe
from tests.captured import CAPTURE, changed, edit, ids, only, ready, without

CONFIG = '[nvidia-container-runtime]\nmode = "{}"\nruntimes = ["runc", "crun"]\n'
BINARIES = """\
nvidia-container-runtime /usr/bin/nvidia-container-runtime
nvidia-container-runtime-hook /usr/bin/nvidia-container-runtime-hook
nvidia-ctk /usr/bin/nvidia-ctk
nvidia-cdi-hook /usr/bin/nvidia-cdi-hook
nvidia-container-cli /usr/bin/nvidia-container-cli
"""
CURRENT = (
    "nvidia-container-toolkit {0}\nnvidia-container-toolkit-base {0}\nlibnvidia-container-tools {0}\n"
    "libnvidia-container1 {0}\n"
)


def host(
    *,
    version: str = "1.20.0",
    config: str | None = None,
    binaries: str = BINARIES,
    state: str = "",
    low_level: str = "runc /usr/bin/runc\ncrun \n",
) -> bytes:
    """The captured host with a toolkit of that version and config.toml."""
    raw = edit("toolkit-version", f"NVIDIA Container Toolkit CLI version {version}")
    raw = edit("toolkit-config", config or "", 0 if config is not None else 1, probe=raw)
    raw = edit("toolkit-config-low-level", low_level, probe=raw)
    raw = edit("toolkit-binaries", binaries, probe=raw)
    return edit("toolkit-state", state, probe=raw)


def toolkit(**changes: Any) -> Probe:
    probe = ready()
    return changed(probe, toolkit=replace(probe.facts.toolkit, **changes))


def mine(probe: Probe | bytes) -> list[str]:
    """The findings of this domain, which must be none on a healthy host."""
    return [found for found in ids(probe) if found.startswith(("GW-TOOLKIT", "GW-CDI", "GW-OPERATOR"))]


def systemd(raw: bytes) -> Probe:
    """The host with containers in systemd's groups, and handlers that say so."""
    probe = parse_probe(raw)
    (runtime,) = probe.facts.runtimes
    handlers = {**runtime.handlers, "nvidia": Handler("io.containerd.runc.v2", {"SystemdCgroup": True})}
    return changed(probe, runtimes=(replace(runtime, handlers=handlers, systemd_cgroup=True),))


@pytest.mark.parametrize("version", ["1.18.1", "1.19.1", "1.20.0"])
def test_a_current_toolkit_with_its_defaults_is_silent(version: str) -> None:
    assert mine(systemd(host(version=version, config=CONFIG.format("auto")))) == []
    assert mine(systemd(host(version=version))) == []
    assert mine(systemd(edit("packages", CURRENT.format(f"{version}-1"), probe=host(version=version)))) == []


def test_no_toolkit() -> None:
    finding = only(without("toolkit-runtime", "toolkit-version"), "GW-TOOLKIT-001")
    assert finding.severity == "error"
    assert "nvidia-ctk is not there either" in finding.evidence


@pytest.mark.parametrize("kind", ["container", "bottlerocket"])
def test_a_container_is_not_asked_for_a_toolkit(kind: str) -> None:
    probe = parse_probe(without("toolkit-runtime"))
    assert "GW-TOOLKIT-001" not in ids(changed(probe, os=replace(probe.facts.os, kind=kind)))


def test_a_toolkit_in_a_place_of_its_own_is_not_missing() -> None:
    probe = parse_probe(without("toolkit-runtime"))
    (runtime,) = probe.facts.runtimes
    handler = Handler("io.containerd.runc.v2", {"BinaryName": "/opt/nvidia-runtime/toolkit/nvidia-container-runtime"})
    there = replace(runtime, handlers={**runtime.handlers, "nvidia": handler})
    assert "GW-TOOLKIT-001" not in ids(changed(probe, runtimes=(there,)))
    gone = replace(there, missing_binaries={"nvidia": "/opt/nvidia-runtime/toolkit/nvidia-container-runtime"})
    assert only(changed(probe, runtimes=(gone,)), "GW-TOOLKIT-001")


def test_cdi_alone_is_worth_knowing() -> None:
    spec = CdiSpec("/var/run/cdi/nvidia.yaml", "nvidia.com/gpu", "0.5.0", ("all",))
    probe = toolkit(runtime_path=None, specs=(spec,), cdi_specs=(spec.path,))
    assert only(probe, "GW-TOOLKIT-001").severity == "info"
    left_over = toolkit(runtime_path=None, specs=(replace(spec, missing=("/usr/bin/nvidia-cdi-hook",)),))
    assert only(left_over, "GW-TOOLKIT-001").severity == "error"


def test_packages_of_unlike_versions() -> None:
    packages = CURRENT.format("1.20.0-1").replace("libnvidia-container1 1.20.0-1", "libnvidia-container1 1.19.1-1")
    finding = only(edit("packages", packages), "GW-TOOLKIT-003")
    assert "libnvidia-container1 1.19.1-1" in finding.evidence
    assert len(finding.evidence) == 4


@pytest.mark.parametrize(
    "packages",
    [
        CURRENT.format("1.20.0-1"),
        "nvidia-container-toolkit 1.17.8-1\nlibnvidia-container 1.17.8-1\n",  # Arch
        "nvidia-container-toolkit 1.5.1-1\nlibnvidia-container1 1.4.0-1\n",  # before they shared one version
        "nvidia-container-toolkit 1.20.0-2\nnvidia-container-toolkit-base 1.20.0-1\n",
        "nvidia-driver-580 580.95.05-0ubuntu1\nlibnvidia-ml1 580.95.05-0ubuntu1\n",
        "",
    ],
)
def test_packages_that_fit(packages: str) -> None:
    assert "GW-TOOLKIT-003" not in ids(edit("packages", packages))


def test_the_hook_is_missing_in_legacy_mode() -> None:
    base = BINARIES.replace("nvidia-container-runtime-hook /usr/bin/nvidia-container-runtime-hook\n", "")
    finding = only(host(version="1.17.8", binaries=base), "GW-TOOLKIT-004")
    assert finding.severity == "error"
    assert "legacy hook" in finding.evidence[0]
    assert only(host(config=CONFIG.format("legacy"), binaries=base), "GW-TOOLKIT-004")
    assert "GW-TOOLKIT-004" not in ids(host(binaries=base))  # jit-cdi wants none
    assert "GW-TOOLKIT-004" not in ids(host(version="1.17.8"))
    assert "GW-TOOLKIT-004" not in ids(host(version="1.17.8", binaries=""))  # nobody looked


def docker(raw: bytes, version: str) -> Probe:
    probe = systemd(raw)
    facts = RuntimeFacts("docker", version, handlers={}, used_by_kubelet=False, running=True)
    return changed(probe, runtimes=(*probe.facts.runtimes, facts))


def test_docker_has_no_hook() -> None:
    base = BINARIES.replace("nvidia-container-runtime-hook /usr/bin/nvidia-container-runtime-hook\n", "")
    finding = only(docker(host(binaries=base), "28.2.2"), "GW-TOOLKIT-005")
    assert finding.severity == "info"
    assert "docker 28.2.2" in finding.evidence
    assert mine(docker(host(), "28.2.2")) == []
    assert mine(docker(host(binaries=base), "29.2.0")) == []
    operators = base.replace("/usr/bin/", "/usr/local/nvidia/toolkit/")
    assert "GW-TOOLKIT-005" not in ids(docker(host(binaries=operators), "28.2.2"))


def test_superseded_packages() -> None:
    finding = only(edit("packages", f"{CURRENT.format('1.17.8-1')}nvidia-docker2 2.14.0-1\n"), "GW-TOOLKIT-006")
    assert finding.evidence == ("nvidia-docker2 2.14.0-1",)
    assert "GW-TOOLKIT-006" not in ids(edit("packages", CURRENT.format("1.17.8-1")))


def test_the_release_that_loses_imports() -> None:
    assert only(host(version="1.18.0"), "GW-TOOLKIT-007").severity == "info"
    assert "GW-TOOLKIT-007" not in ids(host(version="1.18.1"))
    assert "GW-TOOLKIT-007" not in ids(without("toolkit-runtime", probe=host(version="1.18.0")))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("[nvidia-container-runtime\n", "line 1"),
        ('[nvidia-container-runtime]\nmode = ["auto"]\n', "mode is not a string"),
        ('[nvidia-container-cli]\nldconfig = "/sbin/ldconfig"\n', "does not start with '@'"),
    ],
)
def test_a_config_that_is_refused(config: str, says: str) -> None:
    finding = only(host(config=config), "GW-TOOLKIT-008")
    assert finding.severity == "error"
    assert finding.evidence[0].startswith("/etc/nvidia-container-runtime/config.toml: ")
    assert says in finding.evidence[0]


def test_configs_that_are_taken() -> None:
    good = '[nvidia-container-cli]\nldconfig = "@/sbin/ldconfig"\n' + CONFIG.format("auto")
    assert mine(systemd(host(config=good))) == []
    assert "GW-TOOLKIT-008" not in ids(host(config='[nvidia-container-cli]\nldconfig = "/x"\n', version="1.16.2"))
    unread = edit("toolkit-config", "", 2, probe=host())
    assert mine(systemd(unread)) == []
    assert parse_probe(unread).facts.toolkit.mode is None


def test_a_mode_that_nobody_knows() -> None:
    assert 'mode = "turbo"' in only(host(config=CONFIG.format("turbo")), "GW-TOOLKIT-009").evidence[0]
    old = only(host(config=CONFIG.format("jit-cdi"), version="1.17.8"), "GW-TOOLKIT-009")
    assert "jit-cdi" not in old.evidence[1]
    for mode in ("auto", "legacy", "cdi", "jit-cdi"):
        assert "GW-TOOLKIT-009" not in ids(host(config=CONFIG.format(mode)))


def test_a_debug_log() -> None:
    config = '[nvidia-container-cli]\ndebug = "/var/log/nvidia-container-toolkit.log"\n'
    assert only(host(config=config), "GW-TOOLKIT-010").severity == "info"
    assert "GW-TOOLKIT-010" not in ids(host(config=f"#{config}"))
    assert "GW-TOOLKIT-010" not in ids(host(config='[nvidia-container-runtime]\ndebug = "/dev/null"\n'))


def test_legacy_mode_by_hand_with_systemd() -> None:
    finding = only(systemd(host(config=CONFIG.format("legacy"))), "GW-TOOLKIT-011")
    assert finding.severity == "warning"
    assert any("control groups are systemd's" in line for line in finding.evidence)
    assert "GW-TOOLKIT-011" not in ids(systemd(host(config=CONFIG.format("auto"))))
    linked = host(config=CONFIG.format("legacy"), state="dev-char /dev/char\n")
    assert "GW-TOOLKIT-011" not in ids(systemd(linked))
    probe = parse_probe(host(config=CONFIG.format("legacy")))
    cgroupfs = replace(probe.facts.runtimes[0], systemd_cgroup=False, handlers={"runc": Handler()})
    assert "GW-TOOLKIT-011" not in ids(changed(probe, runtimes=(cgroupfs,)))


def test_an_old_toolkit_with_systemd_is_worth_knowing() -> None:
    probe = systemd(host(version="1.17.8", config=CONFIG.format("auto")))
    assert only(probe, "GW-TOOLKIT-012").severity == "info"
    assert mine(probe) == ["GW-TOOLKIT-012"]
    assert "GW-TOOLKIT-012" not in ids(systemd(host(version="1.18.0", config=CONFIG.format("auto"))))
    unknown = without("toolkit-state", probe=host(version="1.17.8"))
    assert "GW-TOOLKIT-012" not in ids(systemd(unknown))


def crio(raw: bytes) -> Probe:
    probe = parse_probe(raw)
    handlers = {"crun": Handler("oci"), "nvidia": Handler("oci")}
    runtime = RuntimeFacts(
        "crio", "1.34.1", handlers=handlers, default_handler="crun", used_by_kubelet=True, running=True
    )
    return changed(probe, runtimes=(runtime,))


def test_crio_keeps_its_runtimes_for_itself() -> None:
    nowhere = "runc \ncrun \nprivate /usr/libexec/crio/crun\n"
    finding = only(crio(host(config=CONFIG.format("auto"), low_level=nowhere)), "GW-TOOLKIT-013")
    assert finding.severity == "error"
    assert "CRI-O's own: /usr/libexec/crio/crun" in finding.evidence
    assert "GW-TOOLKIT-013" not in ids(
        crio(host(config=CONFIG.format("auto"), low_level="runc \ncrun /usr/bin/crun\n"))
    )
    assert "GW-TOOLKIT-013" not in ids(host(config=CONFIG.format("auto"), low_level=nowhere))  # K3s and others bring it
    assert "GW-TOOLKIT-013" not in ids(crio(host(config=CONFIG.format("auto"), low_level="runc \n")))


def test_no_cgroups() -> None:
    config = "[nvidia-container-cli]\nno-cgroups = true\n" + CONFIG
    assert only(host(config=config.format("legacy")), "GW-TOOLKIT-014").severity == "warning"
    assert "GW-TOOLKIT-014" not in ids(host(config=config.format("auto")))  # the CDI modes do not look at it
    assert "GW-TOOLKIT-014" not in ids(host(config=CONFIG.format("legacy")))


def no_driver() -> bytes:
    raw = without("nvrm-version", "module-version", "smi-core", "smi-started", "smi-more", "modinfo", probe=host())
    raw = edit("modinfo", "modinfo: ERROR: Module nvidia not found.", 1, probe=edit("nvml-files", "", probe=raw))
    return edit("smi-missing", "", probe=raw)


def test_a_toolkit_without_a_driver() -> None:
    finding = only(no_driver(), "GW-TOOLKIT-015")
    assert finding.severity == "info"
    assert finding.evidence[0] == "nvidia-container-runtime: /usr/bin/nvidia-container-runtime"
    assert "GW-TOOLKIT-015" not in ids(host())
    library = edit("nvml-files", "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.95.05\n", probe=no_driver())
    assert "GW-TOOLKIT-015" not in ids(library)
    assert "GW-TOOLKIT-015" not in ids(edit("operator", "validations /run/nvidia/validations\n", probe=no_driver()))
    probe = parse_probe(no_driver())
    assert "GW-TOOLKIT-015" not in ids(changed(probe, os=replace(probe.facts.os, immutable=True)))


def test_package_sources_in_each_others_way() -> None:
    place = "https://nvidia.github.io/libnvidia-container/stable/deb/$(ARCH) /"
    raw = edit("toolkit-source:/etc/apt/sources.list.d/a.list", f"deb [signed-by=/k.gpg] {place}\n")
    assert "GW-TOOLKIT-016" not in ids(raw)
    raw = edit("toolkit-source:/etc/apt/sources.list.d/libnvidia-container.list", f"deb {place}\n", probe=raw)
    finding = only(raw, "GW-TOOLKIT-016")
    assert [line.partition(":")[0] for line in finding.evidence] == [
        "/etc/apt/sources.list.d/a.list",
        "/etc/apt/sources.list.d/libnvidia-container.list",
    ]


def test_csv_mode_on_a_card() -> None:
    assert only(host(config=CONFIG.format("csv")), "GW-TOOLKIT-017").severity == "error"
    probe = parse_probe(host(config=CONFIG.format("csv")))
    jetson = changed(probe, os=replace(probe.facts.os, kind="jetson"), gpus=(Gpu(name="Orin (nvgpu)"),))
    assert "GW-TOOLKIT-017" not in ids(jetson)


def test_the_driver_is_looked_for_in_an_empty_folder() -> None:
    config = '[nvidia-container-cli]\nroot = "/run/nvidia/driver"\n'
    raw = edit("operator", "pod none\n", probe=host(config=config))
    assert only(raw, "GW-TOOLKIT-018").severity == "error"
    assert "GW-TOOLKIT-018" not in ids(edit("operator", "driver /run/nvidia/driver\n", probe=host(config=config)))
    assert "GW-TOOLKIT-018" not in ids(edit("operator", "pod none\n", probe=host(config=f"#{config}")))
    assert "GW-TOOLKIT-018" not in ids(host(config=config))  # nobody looked


def test_nothing_is_said_of_a_host_that_was_not_seen() -> None:
    probe = parse_probe(CAPTURE)
    assert mine(changed(probe, toolkit=ToolkitFacts(runtime_path="/usr/bin/nvidia-container-runtime"))) == []
    assert mine(b"") == []
