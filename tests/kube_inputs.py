"""What the Kubernetes of a host is judged by, in the short form in which tests give it."""

from typing import Any

from gpuwizard.facts.kubernetes.flavour import KubernetesInputs, kubernetes_facts
from gpuwizard.facts.model import HostFile, KubernetesFacts
from gpuwizard.facts.units import Process, parse_units
from gpuwizard.secret import SecretBytes
from tests.kube_hosts import unit

__all__ = ["files", "kube", "process", "unit"]


def files(contents: dict[str, str | None]) -> dict[str, HostFile]:
    return {p: HostFile(p, None if t is None else SecretBytes(t.encode())) for p, t in contents.items()}


def kube(
    *units: str,
    processes: tuple[Process, ...] = (),
    marks: tuple[str, ...] = (),
    versions: dict[str, str] | None = None,
    host_files: dict[str, HostFile] | None = None,
    **more: Any,
) -> tuple[KubernetesFacts, str | None]:
    return kubernetes_facts(
        KubernetesInputs(
            units=parse_units("\n".join(units)),
            processes=processes,
            marks=marks,
            versions=versions or {},
            files=host_files or {},
            **{"hostname": "Node-1", **more},
        )
    )


def process(
    *arguments: str,
    comm: str = "",
    unit: str | None = None,
    exe: str | None = None,
    uid: int | None = 0,
    in_container: bool = False,
) -> Process:
    return Process(7, comm or arguments[0].rpartition("/")[2], uid, exe, unit, in_container, arguments)
