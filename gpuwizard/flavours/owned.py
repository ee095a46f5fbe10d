"""Files that another tool makes or keeps: they are never edited, and the right place is named (`runtimes.md §11`)."""

import posixpath

from gpuwizard.actions import Refusal
from gpuwizard.clean import clean_line
from gpuwizard.facts.model import HostFacts
from gpuwizard.flavours.handler import OPERATOR_BINARY

__all__ = ["owned_file"]

_TOOLKIT = posixpath.dirname(OPERATOR_BINARY)
_K0S_MAGIC = "# k0s_managed=true"


def owned_file(path: str, text: str, facts: HostFacts) -> Refusal | None:
    """Why the file `path` of this host is not gpuwizard's to edit; None where it is."""
    folder, name = posixpath.split(path)
    if name == "config.toml" and folder.endswith("/agent/etc/containerd"):
        return _refusal(
            path,
            "K3s and RKE2 render it anew at every start",
            f"their place is {posixpath.join(folder, 'config-v3.toml.tmpl')}, or the option default-runtime; mostly "
            "nothing is needed, because they find nvidia-container-runtime by themselves",
        )
    if name == "containerd.toml" and path.startswith("/var/snap/microk8s/"):
        return _refusal(
            path,
            "MicroK8s makes it anew at every start",
            f"its place is {posixpath.join(folder, 'containerd-template.toml')}",
        )
    if text.partition("\n")[0].rstrip("\r") == _K0S_MAGIC or path.startswith("/run/k0s/"):
        return _refusal(
            path,
            "k0s keeps it, as its first line says; an edit makes k0s stop looking after it",
            "its place is a file in /etc/k0s/containerd.d",
        )
    if path.startswith(("/run/docker/", "/var/run/docker/")):
        return _refusal(path, "dockerd makes it for its own containerd", "its place is /etc/docker/daemon.json")
    if _TOOLKIT in text and facts.operator.toolkit is not False:
        return _refusal(
            path,
            "the GPU Operator's toolkit writes it, and would undo an edit at its next start",
            "its place is toolkit.env in the operator's values (RUNTIME_CONFIG, RUNTIME_DROP_IN_CONFIG); where the "
            "operator is gone for good, remove this file and /usr/local/nvidia/toolkit, then plan again",
        )
    return None


def _refusal(path: str, owner: str, place: str) -> Refusal:
    return Refusal("owned-file", f"{clean_line(path)} is not edited: {owner}", place)
