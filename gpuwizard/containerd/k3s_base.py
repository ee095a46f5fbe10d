"""What the built-in template of each K3s and RKE2 emits, and when: our own tables, written from `runtimes.md §2.3`.

One row is one key. Its value is named (``sandbox``): a node has a value of that name or not, and a row without a
value is not written. The same rows read a rendered file back, which tells the values of this node.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuwizard.containerd.k3s_release import (
    Dialect,
    has_bin_dirs,
    systemd_cgroup_of_detected,
    writes_state,
)
from gpuwizard.containerd.model import CRI_V2, IMAGES_V3, RUNTIME_V3
from gpuwizard.facts.kubernetes.release import KubeRelease

__all__ = [
    "CRI_OF",
    "DETECTABLE",
    "WINDOWS",
    "Detected",
    "NodeState",
    "base_document",
    "dialect_of",
    "foreign_handlers",
    "own_tables",
    "read_document",
    "without_foreign",
]

Path = tuple[str, ...]
_RUNC = "io.containerd.runc.v2"
_OPT = ("plugins", "io.containerd.internal.v1.opt")
_TASKS = ("plugins", "io.containerd.service.v1.tasks-service")
WINDOWS = "runhcs-wcow-process"
"""The handler of Windows, which newer templates write everywhere."""

CRI_OF: Mapping[Dialect, str] = {1: "cri", 2: CRI_V2, 3: RUNTIME_V3}
"""The plugin that holds the handlers, by configuration version."""


@dataclass(frozen=True, slots=True)
class Row:
    """``key`` of ``table`` gets the node's value of the name `value`; `listed`: as a list of one."""

    table: Path
    key: str
    value: str
    listed: bool = False


def _cri(dialect: Dialect, *rest: str) -> Path:
    return ("plugins", CRI_OF[dialect], *rest)


def _images(*rest: str) -> Path:
    return ("plugins", IMAGES_V3, *rest)


_SERVER = (("stream_server_address", "stream_address"), ("stream_server_port", "stream_port"))
_NODE = (  # §2.3: SELinux, unprivileged ports and ICMP, devices of pods without root; rootless: no cgroups, no AppArmor
    ("enable_selinux", "selinux"),
    ("enable_unprivileged_ports", "unprivileged_ports"),
    ("enable_unprivileged_icmp", "unprivileged_icmp"),
    ("device_ownership_from_security_context", "device_ownership"),
    ("disable_cgroup", "disable_cgroup"),
    ("disable_apparmor", "disable_apparmor"),
    ("restrict_oom_score_adj", "restrict_oom"),
)
_STATE = (  # §2.3: written from the releases with containerd 2.0 on; before K3s passes them as flags
    Row((), "root", "root"),
    Row((), "state", "state"),
    Row(("grpc",), "address", "address"),
)


def _shared(dialect: Dialect) -> tuple[Row, ...]:
    """runc with its cgroup driver, the runtime of Windows, and block I/O and RDT classes (§2.3)."""
    runtimes = _cri(dialect, "containerd", "runtimes")
    return (
        Row((*runtimes, "runc"), "runtime_type", "runc_type"),
        Row((*runtimes, "runc", "options"), "SystemdCgroup", "systemd_cgroup"),
        Row((*runtimes, WINDOWS), "runtime_type", "runhcs_type"),
        Row(_TASKS, "blockio_config_file", "blockio"),
        Row(_TASKS, "rdt_config_file", "rdt"),
    )


def _one_plugin(dialect: Dialect, opt: Path) -> tuple[Row, ...]:
    """Versions 1 and 2 keep everything in the CRI plugin (§2.3, "V2"; §2.6 for version 1)."""
    cri, containerd = _cri(dialect), _cri(dialect, "containerd")
    return (
        Row(opt, "path", "opt"),
        *(Row(cri, key, value) for key, value in (*_SERVER, *_NODE)),
        Row(cri, "sandbox_image", "sandbox"),
        Row(containerd, "snapshotter", "snapshotter"),
        Row(containerd, "disable_snapshot_annotations", "disable_annotations"),
        Row(containerd, "default_runtime_name", "default_runtime"),
        Row((*cri, "cni"), "bin_dir", "cni_bin"),
        Row((*cri, "cni"), "conf_dir", "cni_conf"),
        Row((*cri, "registry"), "config_path", "registry_path"),
        *_shared(dialect),
    )


def _split(*, bin_dirs: bool) -> tuple[Row, ...]:
    """Version 3: images and runtime are plugins of their own; the table ``containerd`` exists for --default-runtime
    alone (§2.3, "V3")."""
    runtime = _cri(3)
    return (
        Row(_OPT, "path", "opt"),
        *(Row(("plugins", CRI_V2), key, value) for key, value in _SERVER),
        *(Row(runtime, key, value) for key, value in _NODE),
        Row(_images(), "snapshotter", "snapshotter"),
        Row(_images(), "disable_snapshot_annotations", "disable_annotations"),
        Row(_images(), "use_local_image_pull", "local_pull"),
        Row(_images("pinned_images"), "sandbox", "sandbox"),
        Row((*runtime, "containerd"), "default_runtime_name", "default_runtime"),
        Row((*runtime, "cni"), "bin_dirs", "cni_bin", listed=True)
        if bin_dirs
        else Row((*runtime, "cni"), "bin_dir", "cni_bin"),
        Row((*runtime, "cni"), "conf_dir", "cni_conf"),
        Row(_images("registry"), "config_path", "registry_path"),
        *_shared(3),
    )


_V1 = _one_plugin(1, ("plugins", "opt"))
_V2 = _one_plugin(2, _OPT)

DETECTABLE: Mapping[str, tuple[str, str]] = {
    "nvidia": (_RUNC, "nvidia-container-runtime"),
    "nvidia-experimental": (_RUNC, "nvidia-container-runtime-experimental"),
    "nvidia-cdi": (_RUNC, "nvidia-container-runtime.cdi"),
    "crun": (_RUNC, "crun"),
    "lunatic": ("io.containerd.lunatic.v1", "containerd-shim-lunatic-v1"),
    "slight": ("io.containerd.slight.v1", "containerd-shim-slight-v1"),
    "spin": ("io.containerd.spin.v2", "containerd-shim-spin-v2"),
    "wws": ("io.containerd.wws.v1", "containerd-shim-wws-v1"),
    "wasmedge": ("io.containerd.wasmedge.v1", "containerd-shim-wasmedge-v1"),
    "wasmer": ("io.containerd.wasmer.v1", "containerd-shim-wasmer-v1"),
    "wasmtime": ("io.containerd.wasmtime.v1", "containerd-shim-wasmtime-v1"),
}
"""The runtimes that are looked for at a start: name → shim and program (§2.4)."""


@dataclass(frozen=True, slots=True, order=True)
class Detected:
    """A runtime that was found: its shim and the path of its program."""

    runtime_type: str
    path: str


@dataclass(frozen=True, slots=True)
class NodeState:
    """What a rendered file tells of its node: `values` by their names, `detected` runtimes, the `rest` that no row
    explains (registries, stargz, nix, NRI, and what people added)."""

    dialect: Dialect
    values: Mapping[str, Any]
    detected: Mapping[str, Detected] = field(default_factory=dict)
    rest: Mapping[str, Any] = field(default_factory=dict)

    def with_values(self, values: Mapping[str, Any]) -> "NodeState":
        """The same node with other values."""
        return NodeState(self.dialect, values, self.detected, self.rest)


def dialect_of(document: Mapping[str, Any]) -> Dialect:
    """The configuration version that a document is written in."""
    version = document.get("version")
    if isinstance(version, int) and version >= 2:
        return 3 if version >= 3 else 2
    return 1


def read_document(document: Mapping[str, Any]) -> NodeState:
    """Read a rendered file back into the values of its node."""
    dialect = dialect_of(document)
    rest = copy.deepcopy(dict(document))
    values: dict[str, Any] = {}
    for row in (*_STATE, *_rows(dialect), *(_split(bin_dirs=False) if dialect == 3 else ())):
        value = _taken(rest, (*row.table, row.key))
        if value is not None:
            values[row.value] = value[0] if row.listed and isinstance(value, list) and len(value) == 1 else value
    rest.pop("version", None)
    rest.pop("imports", None)
    runtimes = ("plugins", CRI_OF[dialect], "containerd", "runtimes")
    detected: dict[str, Detected] = {}
    for name, (kind, program) in DETECTABLE.items():
        table = _taken(rest, (*runtimes, name))
        if isinstance(table, dict):
            options = table.get("options")
            path = options.get("BinaryName") if isinstance(options, dict) else None
            detected[name] = Detected(str(table.get("runtime_type", kind)), str(path or program))
    return NodeState(dialect, values, detected, _pruned(rest))


def base_document(
    node: NodeState, release: KubeRelease, dialect: Dialect, detected: Mapping[str, Detected], folder: str
) -> dict[str, Any]:
    """What the built-in template gives in `dialect` for this node, with the runtimes that are `detected`. The `rest`
    of a node is kept where it is written in the same dialect. `folder` is that of the rendered file."""
    document: dict[str, Any] = {} if dialect == 1 else {"version": int(dialect)}
    if release.has_imports:
        name = "config-v3.toml.d" if dialect == 3 else "config.toml.d"
        document["imports"] = [f"{folder}/{name}/*.toml"]
    rows = _rows(dialect) if dialect != 3 or has_bin_dirs(release) else _split(bin_dirs=False)
    state = _STATE if writes_state(release) and dialect != 1 else ()
    for row in (*state, *rows):
        value = node.values.get(row.value)
        if value is not None:
            _put(document, (*row.table, row.key), [value] if row.listed and isinstance(value, str) else value)
    if node.dialect == dialect:
        _merge(document, copy.deepcopy(dict(node.rest)))
    runtimes = ("plugins", CRI_OF[dialect], "containerd", "runtimes")
    for name, found in sorted(detected.items()):
        options: dict[str, Any] = {"BinaryName": found.path}
        cgroup = node.values.get("systemd_cgroup")
        if cgroup is not None and systemd_cgroup_of_detected(release):
            options["SystemdCgroup"] = cgroup
        _put(document, (*runtimes, name), {"runtime_type": found.runtime_type, "options": options})
    return document


def foreign_handlers(node: NodeState) -> tuple[str, ...]:
    """Handlers in a rendered file that the built-in template never writes and no start detects: a person's, or those
    of a template that was there. Every start writes the file anew, without them (`§2.1`)."""
    return tuple(sorted(set(_handlers_in(node.rest, node.dialect)) - {"runc", WINDOWS}))


def without_foreign(node: NodeState) -> NodeState:
    """The node as its next start writes it down: less the foreign handlers."""
    rest = copy.deepcopy(dict(node.rest))
    handlers = _handlers_in(rest, node.dialect)
    for name in foreign_handlers(node):
        del handlers[name]
    return NodeState(node.dialect, node.values, node.detected, _pruned(rest))


def _handlers_in(rest: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """The table of handlers; an empty one where there is none."""
    table: Any = rest
    for part in ("plugins", CRI_OF[dialect], "containerd", "runtimes"):
        table = table.get(part) if isinstance(table, dict) else None
    return table if isinstance(table, dict) else {}


def own_tables(document: Mapping[str, Any], prefix: Path = ()) -> frozenset[Path]:
    """Every table that has keys of its own: writing one of them a second time is fatal."""
    found: set[Path] = set()
    for key, value in document.items():
        if isinstance(value, Mapping):
            found |= own_tables(value, (*prefix, key))
    if prefix and any(not isinstance(value, Mapping) for value in document.values()):
        found.add(prefix)
    return frozenset(found)


def _rows(dialect: Dialect) -> tuple[Row, ...]:
    return {1: _V1, 2: _V2, 3: _split(bin_dirs=True)}[dialect]


def _taken(document: dict[str, Any], path: Path) -> Any:
    """Remove and return the value at `path`; None where there is none."""
    node: Any = document
    for part in path[:-1]:
        node = node.get(part) if isinstance(node, dict) else None
    return node.pop(path[-1], None) if isinstance(node, dict) else None


def _put(document: dict[str, Any], path: Path, value: Any) -> None:
    node = document
    for part in path[:-1]:
        inner = node.setdefault(part, {})
        node = inner if isinstance(inner, dict) else {}
    node[path[-1]] = value


def _merge(document: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        own = document.get(key)
        if isinstance(own, dict) and isinstance(value, Mapping):
            _merge(own, value)
        else:
            document.setdefault(key, value)


def _pruned(table: Mapping[str, Any]) -> dict[str, Any]:
    """Without tables that hold nothing any more."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        inner = _pruned(value) if isinstance(value, dict) else value
        if inner != {} or not isinstance(value, dict):
            found[key] = inner
    return found
