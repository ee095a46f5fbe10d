"""What the plan of a K3s or RKE2 host starts from: files, template, and what it will detect (`runtimes.md §2`)."""

import functools
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import yaml

from gpuwizard.containerd import Effective, effective
from gpuwizard.containerd.k3s_base import DETECTABLE, Detected, NodeState
from gpuwizard.containerd.k3s_fresh import fresh_values
from gpuwizard.containerd.k3s_release import Applying, applying_template, finds_cdi_runtime, release_of
from gpuwizard.containerd.k3s_render import NextStart, predict, rendered_state
from gpuwizard.containerd.k3s_template import handlers_of
from gpuwizard.facts.kubernetes.release import KubeRelease
from gpuwizard.facts.kubernetes.settings import k3s_settings
from gpuwizard.facts.model import Probe, RuntimeFacts

__all__ = ["MARK", "REVERTED", "Situation", "TemplateState", "embedded", "judged", "situation"]

MARK = "Written by gpuwizard"
REVERTED = "# Written by gpuwizard to take back a restart: a copy of the file that was rendered before it.\n"
"""The first line of the template by which a restart-only change is taken back."""

TemplateState = Literal["none", "base", "nvidia", "full", "stale", "reverted"]
_OPERATOR = "/usr/local/nvidia/toolkit"
_USUAL_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_NAMES = {"k3s": "K3s", "rke2": "RKE2"}


@dataclass(frozen=True, slots=True)
class Situation:
    """One K3s or RKE2 host. `files` are those that exist, `before` what containerd made of the rendered file,
    `option` the user's own ``default-runtime``, `search` the folders where runtimes are looked for, `runtime_path`
    where nvidia-container-runtime lies."""

    program: Literal["k3s", "rke2"]
    files: Mapping[str, bytes]
    folder: str
    release: KubeRelease
    runtime: RuntimeFacts
    before: Effective
    search: tuple[str, ...]
    detected: Mapping[str, Detected]
    option: str | None
    fresh: Mapping[str, Any]
    runtime_path: str
    unit: str

    @property
    def name(self) -> str:
        """As people write it."""
        return _NAMES[self.program]

    @property
    def unit_name(self) -> str:
        """The unit without its suffix, as the files of its environment are called."""
        return self.unit.removesuffix(".service")

    @property
    def rendered(self) -> str:
        """The file that containerd reads, written anew at every start."""
        return posixpath.join(self.folder, "config.toml")

    @property
    def config_drop_in(self) -> str:
        """Our file with options."""
        return f"/etc/rancher/{self.program}/config.yaml.d/50-gpuwizard.yaml"

    @property
    def finds_nvidia(self) -> bool:
        """nvidia-container-runtime will be detected at the next start."""
        return "nvidia" in self.detected

    @property
    def own_option(self) -> str | None:
        """``default-runtime`` in our file."""
        return _option(self.files.get(self.config_drop_in, b""))

    @property
    def applying(self) -> Applying:
        """The template that applies at the next start."""
        node = rendered_state(self.next_start())
        return applying_template(self.files, self.folder, self.release, node.dialect if node is not None else None)

    def next_start(self, changes: Mapping[str, bytes | None] | None = None, *, fresh: bool = False) -> NextStart:
        """The next start, after `changes` of files (None removes). `fresh`: the rendered file was a stale copy's."""
        files = {p: raw for p, raw in {**self.files, **(changes or {})}.items() if raw is not None}
        default = _option(files.get(self.config_drop_in, b"")) or self.option
        values = self.fresh if fresh else {}
        return NextStart(self.release, self.program, self.folder, files, self.detected, default, values)

    def template(self) -> TemplateState:
        """What kind of template applies. Raises PredictionError where it cannot be evaluated."""
        applying = self.applying
        if applying.path is None:
            return "none"
        if applying.text.startswith(REVERTED):
            return "reverted"
        start = replace(self.next_start(fresh=True), default_runtime=None)
        found = predict(start)
        if not found.base:
            return "full" if found.renders else "stale"
        twice = handlers_of(found.own) & set(self.detected)
        return "nvidia" if twice else "base"

    def node(self) -> NodeState | None:
        """What the rendered file tells of this node."""
        return rendered_state(self.next_start())


def embedded(probe: Probe) -> bool:
    """True when pods run in the containerd that K3s or RKE2 starts itself: neither ``--docker`` nor another socket."""
    runtime = probe.facts.kubelet_runtime
    if runtime is None:
        return True
    path = runtime.config_path or ""
    return runtime.kind == "containerd" and (not path or path.endswith("/agent/etc/containerd/config.toml"))


def situation(probe: Probe, runtime: RuntimeFacts) -> Situation:
    """Put it together. Raises UsageError where a version cannot be understood."""
    facts = probe.facts
    program: Literal["k3s", "rke2"] = "rke2" if facts.kubernetes.flavour == "rke2" else "k3s"
    files = {p: f.content.raw for p, f in probe.files.items() if f.content is not None}
    data = facts.kubernetes.data_dir or f"/var/lib/rancher/{program}"
    folder = posixpath.join(data, "agent/etc/containerd")
    release = release_of(facts.kubernetes.version or "")
    start = NextStart(release, program, folder, files, {})
    node = rendered_state(start)
    search = facts.kubernetes.search_path or release.search_path(_USUAL_PATH)
    unit = facts.kubernetes.service or runtime.unit or ("k3s" if program == "k3s" else "rke2-server")
    systemd = facts.kubernetes.cgroup_driver != "cgroupfs"
    return Situation(
        program=program,
        files=files,
        folder=folder,
        release=release,
        runtime=runtime,
        before=judged(files, posixpath.join(folder, "config.toml"), runtime.version or ""),
        search=search,
        detected=_detected(probe, release, search, node),
        option=_user_option(probe, program),
        fresh=fresh_values(node, release, program, data, systemd=systemd, pause=_pause(files, program)),
        runtime_path=facts.toolkit.runtime_path or "",
        unit=unit if "." in unit else f"{unit}.service",
    )


def judged(files: Mapping[str, bytes], main: str, version: str) -> Effective:
    """What a containerd of `version` makes of the files; hosts that are alike are judged once."""
    return _judged(tuple(sorted(files.items())), main, version)


@functools.lru_cache(maxsize=256)
def _judged(files: tuple[tuple[str, bytes], ...], main: str, version: str) -> Effective:
    return effective(dict(files), main, version)


def _detected(
    probe: Probe, release: KubeRelease, search: tuple[str, ...], node: NodeState | None
) -> dict[str, Detected]:
    """The runtimes that the next start finds (`§2.4`). NVIDIA's are known from the toolkit's programs; of others it is
    known that they were found before."""
    if not release.detects_nvidia:
        return {}
    toolkit = probe.facts.toolkit
    paths = {*toolkit.binaries.values(), toolkit.runtime_path or ""}
    paths |= {f"{_OPERATOR}/{program}" for program in probe.facts.operator.toolkit_programs}
    found: dict[str, Detected] = {}
    known = node.detected if node is not None else {}
    for name, (kind, program) in DETECTABLE.items():
        if name == "nvidia-cdi" and not finds_cdi_runtime(release):
            continue
        path = next((f"{folder}/{program}" for folder in search if f"{folder}/{program}" in paths), None)
        if path is not None:
            found[name] = Detected(kind, path)
        elif name in known and name not in ("nvidia", "nvidia-cdi"):
            found[name] = known[name]
    return found


def _user_option(probe: Probe, program: str) -> str | None:
    """``default-runtime`` without our own file; a flag of the unit wins over files."""
    folder = f"/etc/rancher/{program}"
    ours = f"{folder}/config.yaml.d/50-gpuwizard.yaml"
    others = {path: file for path, file in probe.files.items() if path != ours}
    in_files = k3s_settings(others, folder).get("default-runtime", ())
    whole = k3s_settings(probe.files, folder).get("default-runtime", ())
    told = probe.facts.kubernetes.default_runtime
    if told is not None and told not in whole[-1:]:
        return told
    return in_files[-1] if in_files else None


def _option(raw: bytes, name: str = "default-runtime") -> str | None:
    """An option in one configuration file; None for a file that is no YAML mapping."""
    if name.encode() not in raw:
        return None
    try:
        document = yaml.safe_load(raw)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    value = document.get(name) if isinstance(document, dict) else None
    return value if isinstance(value, str) and value else None


def _pause(files: Mapping[str, bytes], program: str) -> str | None:
    """The option ``pause-image`` of the configuration files."""
    main = f"/etc/rancher/{program}/config.yaml"
    paths = (main, *sorted(path for path in files if path.startswith(f"{main}.d/")))
    found = [value for path in paths if (value := _option(files.get(path, b""), "pause-image"))]
    return found[-1] if found else None
