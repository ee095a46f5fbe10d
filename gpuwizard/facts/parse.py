"""The probe's raw output made into facts: pure, and never an exception, whatever the bytes are."""

from collections.abc import Mapping

from gpuwizard.clean import clean
from gpuwizard.facts.driver import driver_facts
from gpuwizard.facts.files import host_files
from gpuwizard.facts.frames import Frames, read_frames
from gpuwizard.facts.gpus import join_gpus, parse_information
from gpuwizard.facts.kubernetes import KubernetesInputs, kubernetes_facts
from gpuwizard.facts.model import DriverFacts, Gpu, HostFacts, HostFile, KubernetesFacts, Probe, RuntimeFacts, Unseen
from gpuwizard.facts.nvidia_smi import CORE, MORE, SmiTable, cell, parse_csv, parse_mig_devices
from gpuwizard.facts.os_release import kernel_facts, os_facts, secure_boot
from gpuwizard.facts.pci import PciFunction, bus_address, parse_drivers, parse_pci
from gpuwizard.facts.privilege import privilege_facts
from gpuwizard.facts.runtimes import ContainerdLook, RuntimeInputs, runtime_facts
from gpuwizard.facts.text import number, value
from gpuwizard.facts.toolkit import toolkit_facts
from gpuwizard.facts.units import Process, Unit, parse_process, parse_units

__all__ = ["parse_probe"]

_COMPONENT_UNITS = {
    "nvidia-persistenced.service": "nvidia-persistenced",
    "nvidia-fabricmanager.service": "nvidia-fabricmanager",
    "nvidia-cdi-refresh.service": "nvidia-cdi-refresh",
    "nvidia-dcgm.service": "dcgm",
}
_COMPONENT_MARKS = {
    "/usr/local/nvidia/toolkit": "gpu-operator-toolkit",
    "/run/nvidia/validations": "gpu-operator-validator",
}


def parse_probe(raw: bytes, *, seconds: float = 0.0) -> Probe:
    """Facts and files from what probe.sh printed. Never raises: what is missing or garbled is None and named in
    `unseen`. `seconds` is how long the probe took."""
    frames = read_frames(raw)
    files, broken = host_files(frames)
    privileged = frames.get("privilege")
    root = privileged is not None and privileged.status == 1
    marks = {line.strip() for line in (*frames.lines("marks"), *frames.lines("kubernetes-marks"))}
    uname = frames.text("uname")
    hostname, kernel = kernel_facts(uname, _secure_boot(frames))
    functions = parse_pci(frames.text("pci"), parse_drivers(frames.text("pci-drivers")))
    smi = _smi(frames)
    units = parse_units(frames.text("units"))
    processes = tuple(p for s in frames.all("process") if (p := parse_process(s.key, s.text)) is not None)
    kubernetes, endpoint = _kubernetes(frames, units, processes, marks, files, hostname, root)
    memory = number((frames.text("memory") or "").partition(" ")[0])
    facts = HostFacts(
        os=os_facts(
            frames.text("os-release"),
            dgx_text=frames.text("dgx-release"),
            tegra_text=frames.text("tegra-release"),
            marks=marks,
            kernel_release=kernel.release,
        ),
        kernel=kernel,
        gpus=_gpus(frames, functions or (), smi),
        driver=_driver(frames, kernel.release, smi),
        toolkit=toolkit_facts(
            runtime_path=frames.text("toolkit-runtime"),
            version_text=frames.good("toolkit-version"),
            config_text=frames.text("toolkit-config"),
            cdi_specs=frames.lines("cdi-specs"),
        ),
        runtimes=_runtimes(frames, units, processes, files, kubernetes, endpoint),
        kubernetes=kubernetes,
        components=_components(units, marks),
        privilege=privilege_facts(frames.text("privilege")),
        unseen=_unseen(frames, broken),
        hostname=hostname,
        boot_id=value(frames.text("boot-id")),
        memory_bytes=memory * 1024 if memory is not None else None,
        nvswitches=sum(f.is_nvswitch for f in functions or ()),
    )
    return Probe(facts, files, readable=root, seconds=seconds)


def _secure_boot(frames: Frames) -> bool | None:
    section = frames.get("secure-boot")
    return None if section is None else secure_boot(section.text, section.status)


def _smi(frames: Frames) -> tuple[int, SmiTable] | None:
    """Status and rows of the first query; a query that was begun and never ended counts as a time-out."""
    section = frames.get("smi-core")
    if section is not None and not section.cut:
        return section.status, parse_csv(section.text, CORE)
    if frames.get("smi-started") is not None:
        return 124, SmiTable((), ())
    return None


def _gpus(frames: Frames, functions: tuple[PciFunction, ...], smi: tuple[int, SmiTable] | None) -> tuple[Gpu, ...]:
    information = {
        address: parse_information(section.text)
        for section in frames.all("gpu-information")
        if (address := bus_address(section.key)) is not None
    }
    more = frames.good("smi-more")
    return join_gpus(
        functions,
        information,
        (row for row in (smi[1].rows if smi else ()) if number(row.get("index")) is not None or cell(row.get("uuid"))),
        parse_csv(more, MORE).rows if more is not None else (),
        parse_mig_devices(frames.good("smi-list") or ""),
    )


def _driver(frames: Frames, running: str | None, smi: tuple[int, SmiTable] | None) -> DriverFacts:
    modinfo = frames.get("modinfo")
    took = number(frames.text("smi-seconds"))
    return driver_facts(
        nvrm=frames.text("nvrm-version"),
        module=frames.text("module-version"),
        modinfo=(modinfo.status, modinfo.text) if modinfo is not None and not modinfo.cut else None,
        license_text=frames.good("modinfo-license"),
        others={s.key: (s.status, s.text) for s in frames.all("modinfo-other") if not s.cut},
        kernels=frames.lines("kernels"),
        running=running,
        libraries=frames.lines("nvml-files"),
        help_text=frames.text("smi-help"),
        smi=smi,
        smi_seconds=None if took is None else float(took),
    )


def _kubernetes(
    frames: Frames,
    units: Mapping[str, Unit],
    processes: tuple[Process, ...],
    marks: set[str],
    files: Mapping[str, HostFile],
    hostname: str | None,
    root: bool,
) -> tuple[KubernetesFacts, str | None]:
    if frames.get("kubernetes-marks") is None:
        return KubernetesFacts(), None
    versions = {p: text for p in ("k3s", "rke2", "k0s", "kubelet") if (text := frames.good(f"{p}-version")) is not None}
    versions |= {f"snap:{s.key}": s.text for s in frames.all("snap")}
    configs = [s.lines for s in frames.all("containerd")]
    data_dirs = [
        line.removeprefix("config=").removesuffix("/agent/etc/containerd/config.toml")
        for lines in configs
        for line in lines
        if line.startswith("config=") and line.endswith("/agent/etc/containerd/config.toml") and "/rke2/" not in line
    ]
    inputs = KubernetesInputs(
        units=units,
        processes=processes,
        marks=marks,
        versions=versions,
        files=files,
        hostname=hostname,
        node_id=value(frames.text("node-id")),
        data_dirs=data_dirs,
        flags={s.key: s.text for s in frames.all("kubelet-flags")},
        configs={s.key: s.text for s in frames.all("kubelet-config")},
        init_scripts={s.key for s in frames.all("init-script")},
        root=root,
    )
    return kubernetes_facts(inputs)


def _runtimes(
    frames: Frames,
    units: Mapping[str, Unit],
    processes: tuple[Process, ...],
    files: Mapping[str, HostFile],
    kubernetes: KubernetesFacts,
    endpoint: str | None,
) -> tuple[RuntimeFacts, ...]:
    looks = []
    for section in frames.all("containerd"):
        fields = dict(line.partition("=")[::2] for line in section.lines)
        if not fields.get("config"):
            continue
        looks.append(
            ContainerdLook(
                pid=number(section.key) or None,
                config=fields["config"],
                socket=fields.get("socket") or None,
                binary=fields.get("binary") or None,
                version_text=frames.good("containerd-version", section.key),
                dump=frames.good("containerd-dump", section.key),
                dump_error=frames.text("containerd-error", section.key),
                plugins=frames.good("containerd-plugins", section.key),
            )
        )
    inputs = RuntimeInputs(
        containerds=looks,
        processes=processes,
        units=units,
        files=files,
        kubernetes=kubernetes,
        endpoint=endpoint,
        docker_version=frames.good("docker-version"),
        crio_version=frames.good("crio-version"),
    )
    return runtime_facts(inputs)


def _components(units: Mapping[str, Unit], marks: set[str]) -> tuple[str, ...]:
    found = [name for unit, name in _COMPONENT_UNITS.items() if unit in units and units[unit].loaded]
    found += [name for mark, name in _COMPONENT_MARKS.items() if mark in marks]
    return tuple(sorted(found))


def _unseen(frames: Frames, broken: tuple[str, ...]) -> tuple[Unseen, ...]:
    found = []
    for line in clean(frames.text("unseen") or "").splitlines():
        what, bar, why = line.partition("|")
        if bar:
            found.append(Unseen(value(what) or "?", value(why) or "?"))
    found += [Unseen(value(path) or "?", "its content did not arrive whole") for path in broken]
    if frames.get("begin") is None:
        found.append(Unseen("everything", "the probe printed nothing that could be read"))
    elif not frames.complete:
        last = next((s.name for s in reversed(frames.sections)), "begin")
        found.append(Unseen("the rest of the host", f"the probe was cut off after its section {last}"))
    return tuple(found)
