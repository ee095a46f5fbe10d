"""What a simulated fleet is, as its author writes it: one TOML file, or a folder with `fleet.toml` and file trees.

A host of a folder may have a tree `hosts/NAME/…`; its files are laid over the generated ones.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from assets import asset
from gpuwizard.errors import UsageError
from gpuwizard.fleet.hardware import MODELS, GpuModel

__all__ = [
    "Driver",
    "FleetSpec",
    "HostSpec",
    "KubernetesSpec",
    "Sudo",
    "list_fleets",
    "load_fleet",
]

Fault = Literal["refuses-login", "does-not-start-again", "dies-of-changes", "disk-full", "nvidia-smi-hangs"]
SudoKind = Literal["root", "nopasswd", "password", "none"]
SudoForm = Literal["classic", "sudo-rs"]
Flavour = Literal["k3s", "kubeadm", "none"]
Role = Literal["server", "agent", "control-plane", "worker"]

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
DISTROS = ("ubuntu-22.04", "ubuntu-24.04", "ubuntu-26.04", "debian-12", "debian-13", "rocky-9", "dgx-os-7", "unknown")


@dataclass(frozen=True, slots=True)
class Driver:
    """The NVIDIA driver. `loaded` is None when the module is not loaded, `userspace` when its libraries are not there;
    `on_disk` is the module that modprobe would take."""

    loaded: str | None
    userspace: str | None
    on_disk: str | None
    flavour: Literal["open", "proprietary"] = "open"


@dataclass(frozen=True, slots=True)
class Sudo:
    """How root is had on the host. `form` is whose prompts it shows."""

    kind: SudoKind = "nopasswd"
    form: SudoForm = "classic"
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class KubernetesSpec:
    """The host's part in the cluster. `started_before_toolkit`: K3s has not been started since the toolkit came."""

    flavour: Flavour = "none"
    role: Role = "worker"
    version: str = ""
    started_before_toolkit: bool = False


@dataclass(frozen=True, slots=True)
class HostSpec:
    """One host of a fleet. `files` is the folder whose tree is laid over the generated one."""

    name: str
    summary: str = ""
    distro: str = "ubuntu-24.04"
    kernel: str = "6.8.0-86-generic"
    arch: str = "x86_64"
    memory_gib: int = 128
    login: str = "ops"
    sudo: Sudo = Sudo()
    gpus: tuple[GpuModel, ...] = ()
    driver: Driver | None = None
    nouveau: bool = False
    toolkit: str | None = None
    containerd: str | None = None
    kubernetes: KubernetesSpec = KubernetesSpec()
    faults: tuple[Fault, ...] = ()
    files: Path | None = None


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """A fleet. `speed` is how many times faster than real its time goes."""

    name: str
    summary: str
    speed: float
    hosts: tuple[HostSpec, ...]


def list_fleets() -> tuple[str, ...]:
    """The names of the fleets that come with the program."""
    return tuple(sorted(path.parent.name for path in asset("fleets").glob("*/fleet.toml")))


def load_fleet(name_or_path: str) -> FleetSpec:
    """Read a built-in fleet by name, or a folder or file by path. Raises UsageError with file and key."""
    built_in = asset("fleets") / name_or_path / "fleet.toml"
    if "/" not in name_or_path and built_in.is_file():
        return _read(built_in)
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        path /= "fleet.toml"
    if not path.is_file():
        raise UsageError(
            f"there is no simulated fleet {name_or_path!r}",
            remedy=f"built in: {', '.join(list_fleets())}; or give a folder with fleet.toml, or a TOML file",
        )
    return _read(path)


def _read(path: Path) -> FleetSpec:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"the fleet cannot be read: {error}", where=str(path)) from error
    table = _Table(data, str(path), "")
    named = path.parent.name if path.name == "fleet.toml" else path.stem
    folder = path.parent / "hosts"
    hosts = table.table("hosts")
    spec = FleetSpec(
        name=table.text("name", named),
        summary=table.text("summary", ""),
        speed=table.number("speed", 20.0),
        hosts=tuple(_host(hosts.table(name), name, folder / name) for name in hosts.names()),
    )
    table.done()
    if not spec.hosts:
        raise UsageError("the fleet has no host", where=f"{path}: hosts", remedy='add a table like [hosts."node-1"]')
    if not 0.1 <= spec.speed <= 1000:
        raise UsageError("speed must be between 0.1 and 1000", where=f"{path}: speed")
    return spec


class _Table:
    """A TOML table that is read key by key; what is left over at the end is an error."""

    def __init__(self, data: Mapping[str, Any], file: str, path: str) -> None:
        self._data = dict(data)
        self._file = file
        self._path = path
        self._known: list[str] = []

    def _where(self, key: str) -> str:
        return f"{self._file}: {self._path}{key}"

    def wrong(self, key: str, what: str) -> UsageError:
        return UsageError(what, where=self._where(key))

    def names(self) -> tuple[str, ...]:
        for name in self._data:
            if not _NAME.fullmatch(name):
                raise self.wrong(name, "a host's name is made of small letters, digits, '-' and '.'")
        return tuple(self._data)

    def _take(self, key: str, kinds: tuple[type, ...], word: str, default: Any) -> Any:
        self._known.append(key)
        value = self._data.pop(key, None)
        if value is None:
            return default
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self.wrong(key, f"must be {word}, not {value!r}")
        return value

    def text(self, key: str, default: str) -> str:
        value: str = self._take(key, (str,), "a text", default)
        return value

    def optional(self, key: str) -> str | None:
        value: str | None = self._take(key, (str,), "a text", None)
        return value

    def number(self, key: str, default: float) -> float:
        return float(self._take(key, (int, float), "a number", default))

    def flag(self, key: str, default: bool) -> bool:
        return bool(self._take(key, (bool,), "true or false", default))

    def choice(self, key: str, allowed: tuple[str, ...], default: str) -> Any:
        value = self.text(key, default)
        if value not in allowed:
            raise self.wrong(key, f"must be one of {', '.join(allowed)}, not {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        values = self._take(key, (list,), "a list of texts", [])
        if not all(isinstance(v, str) for v in values):
            raise self.wrong(key, "must be a list of texts")
        return tuple(values)

    def table(self, key: str) -> "_Table":
        data = self._take(key, (dict,), "a table", {})
        return _Table(data, self._file, f"{self._path}{key}.")

    def text_or_table(self, key: str) -> "str | _Table | None":
        value = self._take(key, (str, dict), "a text or a table", None)
        return _Table(value, self._file, f"{self._path}{key}.") if isinstance(value, dict) else value

    def done(self) -> None:
        for key in self._data:
            raise self.wrong(key, f"unknown key; known are {', '.join(sorted(self._known))}")


def _host(table: _Table, name: str, files: Path) -> HostSpec:
    spec = HostSpec(
        name=name,
        summary=table.text("summary", ""),
        distro=table.choice("distro", DISTROS, "ubuntu-24.04"),
        kernel=table.text("kernel", "6.8.0-86-generic"),
        arch=table.choice("arch", ("x86_64", "aarch64"), "x86_64"),
        memory_gib=int(table.number("memory_gib", 128)),
        login=table.text("login", "ops"),
        sudo=_sudo(table),
        gpus=_gpus(table),
        driver=_driver(table),
        nouveau=table.flag("nouveau", False),
        toolkit=table.optional("toolkit"),
        containerd=table.optional("containerd"),
        kubernetes=_kubernetes(table.table("kubernetes")),
        faults=_faults(table),
        files=files if files.is_dir() else None,
    )
    table.done()
    if spec.kubernetes.flavour == "kubeadm" and spec.containerd is None:
        raise table.wrong("containerd", "a kubeadm node needs a containerd version, such as 2.1.4")
    if (spec.login == "root") != (spec.sudo.kind == "root"):
        raise table.wrong("sudo", 'sudo = "root" goes with login = "root", and the other way round')
    return spec


def _sudo(table: _Table) -> Sudo:
    value = table.text_or_table("sudo")
    if value is None or isinstance(value, str):
        kind = value or "nopasswd"
        if kind not in get_args(SudoKind) or kind == "password":
            raise table.wrong("sudo", 'must be "root", "nopasswd", "none", or a table {kind, form, password}')
        return Sudo(kind)  # type: ignore[arg-type]
    sudo = Sudo(
        value.choice("kind", get_args(SudoKind), "password"),
        value.choice("form", get_args(SudoForm), "classic"),
        value.text("password", ""),
    )
    value.done()
    if sudo.kind == "password" and not sudo.password:
        raise value.wrong("password", "must not be empty")
    return sudo


def _gpus(table: _Table) -> tuple[GpuModel, ...]:
    names = table.texts("gpus")
    for name in names:
        if name not in MODELS:
            raise table.wrong("gpus", f"unknown GPU {name!r}; known are {', '.join(MODELS)}")
    return tuple(MODELS[name] for name in names)


def _driver(table: _Table) -> Driver | None:
    value = table.text_or_table("driver")
    if value is None:
        return None
    if isinstance(value, str):
        return Driver(value, value, value)
    version = value.optional("version")
    driver = Driver(
        loaded=value.text("loaded", version or "") or None,
        userspace=value.text("userspace", version or "") or None,
        on_disk=value.text("on_disk", version or "") or None,
        flavour=value.choice("flavour", ("open", "proprietary"), "open"),
    )
    value.done()
    return driver


def _kubernetes(table: _Table) -> KubernetesSpec:
    flavour: Flavour = table.choice("flavour", get_args(Flavour), "none")
    spec = KubernetesSpec(
        flavour=flavour,
        role=table.choice("role", get_args(Role), "agent" if flavour == "k3s" else "worker"),
        version=table.text("version", ""),
        started_before_toolkit=table.flag("started_before_toolkit", False),
    )
    table.done()
    if flavour != "none" and not spec.version:
        raise table.wrong("version", "the Kubernetes version is missing, such as v1.34.1 or v1.34.1+k3s1")
    if flavour != "none" and (flavour == "k3s") != (spec.role in ("server", "agent")):
        raise table.wrong("role", f"a {flavour} host cannot be {spec.role!r}")
    return spec


def _faults(table: _Table) -> tuple[Fault, ...]:
    faults = table.texts("faults")
    for fault in faults:
        if fault not in get_args(Fault):
            raise table.wrong("faults", f"unknown fault {fault!r}; known are {', '.join(get_args(Fault))}")
    return faults  # type: ignore[return-value]
