"""The Kubernetes of one probe."""

import re
from collections.abc import Iterator

from gpuwizard.facts.files import file_times
from gpuwizard.facts.frames import Frames
from gpuwizard.facts.kubernetes.flavour import KubernetesInputs, kubernetes_facts
from gpuwizard.facts.look import Look
from gpuwizard.facts.model import KubernetesFacts
from gpuwizard.facts.text import number, value

__all__ = ["read_kubernetes"]

_RENDERED = "/agent/etc/containerd/config.toml"
_SYSTEM = re.compile(r"^[ \t]*(ID|OPENSHIFT_VERSION|hostnameOverride)[ \t]*[=:][ \t]*(\S+)[ \t]*$", re.MULTILINE)
_RKE2 = re.compile(r"/data/(v\d[\w.]*)-(rke2r\d+)(?:-[0-9a-f]+)?(?:/|$)")


def read_kubernetes(look: Look, hostname: str | None) -> tuple[KubernetesFacts, str | None]:
    """The flavour, and the kubelet's CRI socket (None: unknown, empty: there is no kubelet)."""
    frames = look.frames
    if frames.get("kubernetes-marks") is None:
        return KubernetesFacts(), None
    return kubernetes_facts(
        KubernetesInputs(
            units=look.units,
            processes=look.processes,
            marks=look.marks,
            versions=dict(_versions(look)),
            files=look.files,
            hostname=hostname,
            node_id=value(frames.text("node-id")),
            data_dirs=tuple(dict.fromkeys(_data_dirs(frames))),
            flags={s.key: s.text for s in frames.all("kubelet-flags")},
            configs={s.key: s.text for s in frames.all("kubelet-config")},
            init_scripts={s.key for s in frames.all("init-script")},
            root=look.root,
            programs=frozenset((frames.text("kubernetes-programs") or "").split()),
            environments=tuple((s.key, s.text) for s in frames.all("service-environment")),
            path=value(frames.text("service-path")),
            unread=frozenset((*look.broken, *_unread(frames))),
            nested=tuple(shown for line in frames.lines("nested-nodes") if (shown := value(line))),
            system=dict(_system(frames)),
            base_dir=value(base) or "" if (base := frames.good("k8s-base-dir")) is not None else None,
            changed={
                path: times.changed
                for path, times in file_times(frames).items()
                if path.endswith("/nvidia-container-runtime") and times.changed is not None
            },
        )
    )


def _versions(look: Look) -> Iterator[tuple[str, str]]:
    """What tells the version of each program: what it says itself, a file of it, or the name of its folder."""
    frames = look.frames
    for program in ("k3s", "k0s", "kubelet", "microshift", "kind", "rke2"):
        text = frames.good(f"{program}-version")
        if text is not None:
            yield program, text
    for program in ("kubelet", "microshift"):
        if program in look.packages and frames.good(f"{program}-version") is None:
            yield program, re.sub(r"^\d+:", "", look.packages[program]).partition("-")[0]
    for section in frames.all("snap"):
        yield f"snap:{section.key}", section.text
    places = [process.exe or "" for process in look.processes if process.program == "kubelet"]
    for place in (frames.text("rke2-runtime") or "", *places):
        if (found := _RKE2.search(place)) is not None:
            yield "rke2", f"{found[1]}+{found[2]}"


def _data_dirs(frames: Frames) -> Iterator[str]:
    """Where K3s and RKE2 keep their data, by the containerds of theirs that run."""
    for section in frames.all("containerd"):
        for line in section.lines:
            if line.startswith("config=") and line.endswith(_RENDERED) and number(section.key):
                yield value(line.removeprefix("config=").removesuffix(_RENDERED)) or "/"


def _unread(frames: Frames) -> Iterator[str]:
    """Files that are there and could not be read."""
    for line in frames.lines("unseen"):
        path, bar, why = line.partition("|")
        if bar and path.startswith("/") and "cannot be read" in why:
            yield path


def _system(frames: Frames) -> Iterator[tuple[str, str]]:
    for name in ("os-release", "microshift-config"):
        for key, text in _SYSTEM.findall(frames.text(name) or ""):
            yield key, text.strip("\"'")
