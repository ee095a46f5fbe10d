"""One containerd: what runs, what its files make of it, and who put it there (`runtimes.md §1`, `§10`)."""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gpuwizard.errors import UsageError
from gpuwizard.facts.model import ConfigWarning, RuntimeFacts
from gpuwizard.facts.runtimes.config_files import ConfigFiles, read_files, root_imports, root_version, table
from gpuwizard.facts.runtimes.cri_config import (
    CRI_V2,
    IMAGES_V3,
    RUNTIME_V3,
    CriConfig,
    merge_files,
    plugin_state,
    read_cri,
    settings_of,
)
from gpuwizard.facts.runtimes.dialect import Given, Settings
from gpuwizard.facts.runtimes.globs import matches
from gpuwizard.facts.runtimes.inputs import (
    ContainerdLook,
    RuntimeInputs,
    missing_programs,
    other_command,
    package_of,
    socket_path,
    started_at,
    upstream_version,
    used_by_kubelet,
    with_service,
    written_since,
)
from gpuwizard.facts.runtimes.release import Release
from gpuwizard.facts.runtimes.traps import config_warnings
from gpuwizard.facts.text import load_toml, value, version_of
from gpuwizard.facts.units import Process, Unit, by_pid

__all__ = ["RENDERED", "containerd_facts"]

RENDERED = "/agent/etc/containerd/config.toml"
"""Where K3s and RKE2 write containerd's configuration, below their data directory; at every start."""
_PACKAGES = ("containerd.io", "containerd", "moby-containerd", "moby-containerd-cc")
_KEPT = 256
_DOCKERS_OWN = "/run/docker/containerd/containerd.sock"
_UNSOUND = frozenset(
    ("version", "unversioned", "old-table", "new-table", "foreign-table", "newer-drop-in", "older-drop-in")
)
"""With one of these the files alone do not tell what containerd makes of them."""


def containerd_facts(look: ContainerdLook, inputs: RuntimeInputs) -> RuntimeFacts:
    """The facts of one containerd; what cannot be known is None."""
    process = next((p for p in inputs.processes if p.pid == look.pid), None)
    unit = _unit(look, process, inputs)
    version, release = _version(look, inputs)
    files = read_files(look.config, inputs.files, release)
    document = next((file.document for file in files.files if file.path == look.config), None)
    state, state_line = plugin_state(look.plugins) if look.plugins is not None else (None, None)
    judged = _judge(look, files, release, inputs)
    warnings = _warnings(look, files, release, inputs, judged, works=state == "ok")
    cri = _effective(look, files, warnings, release, judged)
    socket = _socket(look, document)
    binary = look.exe or look.binary
    newer, changed = _newer(look, process, files, inputs)
    facts = RuntimeFacts(
        kind="containerd",
        version=version,
        socket=socket,
        config_path=look.config,
        config_version=root_version(document) if document is not None else None,
        imports=root_imports(document) if document is not None else (),
        handlers=cri.handlers,
        default_handler=cri.default_handler,
        used_by_kubelet=used_by_kubelet(socket, inputs),
        owner=_owner(look, unit, inputs),
        unit=unit.name if unit is not None else _unit_name(look, process, inputs),
        binary=value(look.binary),
        pid=look.pid,
        cri="disabled" if state is None and cri.disabled else state,
        running=look.pid is not None,
        effective_error=cri.error or (state_line if state == "error" else None),
        systemd_cgroup=_systemd_cgroup(cri),
        cdi=cri.cdi,
        cdi_spec_dirs=cri.cdi_spec_dirs,
        snapshotter=cri.snapshotter,
        sandbox_image=cri.sandbox_image,
        warnings=warnings,
        missing_binaries=_missing(look, cri, unit, inputs),
        config_newer_than_process=newer,
        changed_files=changed,
        binary_replaced=_replaced(process, unit, inputs),
        waiting_command=other_command(process, unit),
        running_version=version_of(look.running_text),
        package=_package(binary, inputs),
        in_path=_in_path(binary, inputs),
        refused=judged.refused,
        config_files=files.paths,
    )
    return with_service(facts, unit)


def _version(look: ContainerdLook, inputs: RuntimeInputs) -> tuple[str | None, Release | None]:
    """The version of the program on disk: by its own word, or by the package that put it there."""
    text = look.version_text
    if look.package is not None and look.package in inputs.packages:
        text = upstream_version(inputs.packages[look.package])
    version = version_of(text)
    try:
        return version, Release.parse(version) if version is not None else None
    except (UsageError, ValueError):
        return version, None


def _unit(look: ContainerdLook, process: Process | None, inputs: RuntimeInputs) -> Unit | None:
    name = by_pid(inputs.units, look.pid) or _unit_name(look, process, inputs)
    return inputs.units.get(name) if name is not None else None


def _unit_name(look: ContainerdLook, process: Process | None, inputs: RuntimeInputs) -> str | None:
    """The unit by the process's control group, else the one that would own it."""
    if process is not None and process.unit is not None:
        return process.unit
    if look.config.endswith(RENDERED):
        return inputs.kubernetes.service
    if "/docker/" in look.config:
        return "docker.service"
    if look.pid is not None:  # it runs, and not as a service
        return None
    unit = inputs.units.get("containerd.service")
    return unit.name if unit is not None and unit.loaded else None


@dataclass(frozen=True, slots=True)
class _Judged:
    """What the release makes of the files: a document as its dump prints it, or why its loader refuses them; neither
    where that is not known. A document that is not `trusted` is not what the daemon makes of them."""

    document: Mapping[str, Any] | None = None
    error: str | None = None
    trusted: bool = True

    @property
    def refused(self) -> bool | None:
        """Whether the loader refuses the files."""
        return None if self.document is None and self.error is None else self.document is None


def _judge(look: ContainerdLook, files: ConfigFiles, release: Release | None, inputs: RuntimeInputs) -> _Judged:
    """By the host's own dump where it was asked for one, else as `RuntimeInputs.predict` says. The dump of containerd
    2.0.0 to 2.0.5 leaves out files of version 2 (`runtimes.md §1.3`)."""
    if look.dump_error is not None:
        return _Judged(error=_last_words(look.dump_error))
    if look.dump is not None:
        early = release is not None and Release(2, 0, 0) <= release <= Release(2, 0, 5)
        trusted = not (early and any((file.version or 0) == 2 for file in files.files))
        dumped = load_toml(look.dump)
        if isinstance(dumped, str):
            return _Judged({}, f"config dump: {dumped}", trusted)
        return _Judged(dumped, trusted=trusted)
    if inputs.predict is None or release is None or files.unknown or not files.files:
        return _Judged()
    raw = {path: file.content.raw for path, file in inputs.files.items() if file.content is not None}
    read = {path: raw[path] for path in files.paths if path in raw}
    predicted = inputs.predict(read, look.config, str(release))
    return _Judged(error=predicted) if isinstance(predicted, str) else _Judged(predicted)


def _warnings(
    look: ContainerdLook,
    files: ConfigFiles,
    release: Release | None,
    inputs: RuntimeInputs,
    judged: _Judged,
    *,
    works: bool,
) -> tuple[ConfigWarning, ...]:
    in_force = judged.document if judged.trusted and judged.error is None else None
    given = Given(release, judged.refused, _settings(in_force) if in_force is not None else None)
    sleeping: tuple[str, ...] = ()
    if not files.unknown and (inputs.root or files.files):
        folder = posixpath.join(posixpath.dirname(look.config), "conf.d/*.toml")
        read = {file.path for file in files.files}
        sleeping = tuple(
            sorted(
                path
                for path, file in inputs.files.items()
                if file.content is not None and path not in read and matches(folder, path)
            )
        )
    return config_warnings(files.files, given, (tuple(files.missing.items()), sleeping, works))


_SETTINGS: dict[int, tuple[Mapping[str, Any], Settings]] = {}


def _settings(document: Mapping[str, Any]) -> Settings:
    """The settings that a dump shows: one object for one document, because what follows from it is kept."""
    known = _SETTINGS.get(id(document))
    if known is not None:
        return known[1]
    version = root_version(document)
    names = (RUNTIME_V3, IMAGES_V3) if version > 2 else (CRI_V2 if version == 2 else "cri",)
    made = Settings(settings_of(table(document, "plugins"), *names))
    if len(_SETTINGS) >= _KEPT:
        _SETTINGS.clear()
    _SETTINGS[id(document)] = document, made
    return made


def _effective(
    look: ContainerdLook,
    files: ConfigFiles,
    warnings: tuple[ConfigWarning, ...],
    release: Release | None,
    judged: _Judged,
) -> CriConfig:
    """The settings as containerd sees them: by its own dump, or what takes its place, where that can be trusted."""
    if judged.error is not None and (judged.document is None or judged.trusted):
        return CriConfig(error=judged.error)
    if judged.document is not None and judged.trusted:
        return read_cri(judged.document, release)
    broken = next((file for file in files.files if file.document is None), None)
    if broken is not None:
        return CriConfig(error=broken.error if broken.path == look.config else f"{broken.path}: {broken.error}")
    if files.unknown or not files.files or any(warning.kind in _UNSOUND for warning in warnings):
        return CriConfig()
    if look.config.endswith(RENDERED) and release is None:
        release = Release(2, 2)  # the first of which K3s' own configuration imports anything (`runtimes.md §2.3`)
    merged = merge_files(files.files, release)
    if merged is None:
        return CriConfig()
    plain = read_cri(merged, release, complete=False)
    if look.dump is None:
        return plain
    why = "config dump of containerd 2.0.0 to 2.0.5 leaves out version 2 files: read from the files alone"
    return replace(plain, error=why)


def _last_words(text: str) -> str:
    """The refusal itself: containerd logs before it and repeats its usage after it."""
    lines = [line for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "containerd:" in line or "error" in line.lower() or "failed" in line]
    return value((telling or lines or ["config dump failed"])[-1]) or "config dump failed"


def _socket(look: ContainerdLook, document: Mapping[str, object] | None) -> str | None:
    """The socket of its arguments, else the one that its file names, else Docker's."""
    given = look.socket
    if given is None:
        for path in (("grpc",), ("plugins", "io.containerd.server.v1.grpc")):
            address = table(document, *path).get("address")
            if isinstance(address, str) and address:
                given = value(address)
    if given is None and re.match(r"/(?:var/)?run/docker/containerd/", look.config):
        given = _DOCKERS_OWN
    return socket_path(given)


def _systemd_cgroup(cri: CriConfig) -> bool | None:
    """The cgroup driver of the default handler, which containerd 2.x reports to the kubelet (`runtimes.md §1.4`)."""
    handler = cri.handlers.get(cri.default_handler or "")
    if handler is None or not (handler.runtime_type or "").startswith("io.containerd.runc."):
        return None
    return handler.options.get("SystemdCgroup") is True


def _missing(look: ContainerdLook, cri: CriConfig, unit: Unit | None, inputs: RuntimeInputs) -> dict[str, str]:
    named = {name: handler.options.get("BinaryName") for name, handler in cri.handlers.items()}
    return missing_programs(named, inputs, own_path=_own_path(look, unit))


def _own_path(look: ContainerdLook, unit: Unit | None) -> bool:
    """Whether its shims search other folders than those that systemd gives every service."""
    if unit is not None and "PATH" in unit.environment:
        return True
    return "/snap/" in look.config or (look.exe or "").startswith(
        ("/snap/", "/var/lib/k0s/", "/nix/", "/var/lib/rancher/")
    )


def _newer(
    look: ContainerdLook, process: Process | None, files: ConfigFiles, inputs: RuntimeInputs
) -> tuple[bool | None, tuple[str, ...]]:
    if look.config not in files.paths:
        return None, ()
    return written_since([*files.paths, *files.folders], started_at(process, inputs), inputs)


def _replaced(process: Process | None, unit: Unit | None, inputs: RuntimeInputs) -> bool | None:
    """Whether the program that a restart of the unit starts anew is another file now: containerd's own, or that of the
    K3s, RKE2 or k0s that starts it."""
    if process is None:
        return None
    starters = [p for p in inputs.processes if unit is not None and p.pid == unit.pid]
    return any(p.replaced for p in (process, *starters))


def _package(binary: str | None, inputs: RuntimeInputs) -> str | None:
    if binary is None or not (binary.startswith(("/usr/bin/", "/bin/")) or binary == "containerd"):
        return None
    return package_of(_PACKAGES, inputs.packages)


def _in_path(binary: str | None, inputs: RuntimeInputs) -> bool | None:
    """Whether PATH gives this very program; None where its own path is not known."""
    if binary is None:
        return None
    given = {inputs.path_programs.get("containerd"), inputs.path_programs.get("containerd-file")} - {None}
    if not binary.startswith("/"):
        return True if given else None
    return any(_merged(path or "") == _merged(binary) for path in given)


def _merged(path: str) -> str:
    """/bin and /usr/bin are one on every system of today."""
    return path.removeprefix("/usr")


def _owner(look: ContainerdLook, unit: Unit | None, inputs: RuntimeInputs) -> str | None:
    """Who put this runtime there: k3s, rke2, k0s, docker, snap, a package, or the administrator (``local``)."""
    config, program = look.config, look.exe or ""
    for mark, owner in (
        ("/rke2/", "rke2"),
        (RENDERED, "k3s"),
        ("/k0s/", "k0s"),
        ("/docker/", "docker"),
        ("/snap/", "snap"),
    ):
        if mark in config or (mark == "/snap/" and program.startswith(mark)):
            return owner
    if unit is not None and unit.name.startswith("snap."):
        return "snap"
    if program.startswith(("/usr/local/", "/opt/", "/home/", "/root/", "/srv/")):
        return "local"
    if program.startswith(("/usr/bin/", "/bin/")) and package_of(_PACKAGES, inputs.packages):
        return "package"
    if unit is None or unit.fragment is None:
        return None
    return "package" if unit.fragment.startswith(("/lib/", "/usr/lib/")) else "local"
