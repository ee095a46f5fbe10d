"""Whole nodes that nobody had thought of, through the real probe: what an expert would say of each.

Every case here was wrong or silent once; the plain ones beside them show that the rule does not speak without need.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.captured import found
from tests.cdi_specs import block_yaml, specification
from tests.facts.busy_hosts import process, says
from tests.findings.test_k3s import ETC, NVIDIA, RUNC, k3s
from tests.probe_tree import SHELLS, Tree
from tests.whole_nodes import H100, Card, Node, probed, told

NEWER = "6.8.0-90-generic"
HEADER = (
    "index, uuid, name, pci.bus_id, pci.device_id, driver_version, memory.total [MiB], mig.mode.current, "
    "persistence_mode"
)
VERSION = "containerd github.com/containerd/containerd 2.1.4 x"
CRUN = (
    '[crio.runtime]\ndefault_runtime = "crun"\n[crio.runtime.runtimes.crun]\nruntime_path = "/usr/libexec/crio/crun"\n'
)
CRIO_NVIDIA = (
    '[crio.runtime.runtimes.nvidia]\nruntime_path = "/usr/bin/nvidia-container-runtime"\nruntime_type = "oci"\n'
)


def fabric(state: str, status: str) -> Card:
    return Card("2330", "NVIDIA H100 80GB HBM3", cells={"fabric.state": state, "fabric.status": status})


def says_nothing(text: str = "") -> Callable[[Tree], None]:
    return lambda tree: tree.tool("nvidia-smi", f"echo '{text}'" if text else "exit 0")


def newer(version: str) -> Callable[[Tree], None]:
    return lambda tree: tree.kernel(NEWER, version, signer="a key")


def cannot_run(tree: Tree) -> None:
    refused = "echo 'sh: containerd: Operation not permitted' >&2; exit 126"
    tree.tool("containerd", f"case $* in --version) echo '{VERSION}' ;; *) {refused} ;; esac")


def never_joined(tree: Tree) -> None:
    for path in ("etc/kubernetes/kubelet.conf", "var/lib/kubelet/config.yaml"):
        (tree.root / path).unlink()


def stale_beside_fresh(tree: Tree) -> None:
    uuid = "GPU-00000000-2222-3333-4444-555555555555"
    for folder, driver in (("/etc/cdi", "550.163.01"), ("/var/run/cdi", "580.95.05")):
        tree.file(f"{folder}/nvidia.yaml", block_yaml(specification("0", uuid, "all", driver=driver)))


PLAIN = Node(toolkit="1.19.0")


def of(card: Card, driver: str = "580.95.05", flavour: str = "open", **smi: object) -> Node:
    return Node(cards=(card,), driver=driver, flavour=flavour, toolkit="1.19.0", smi=smi)


def unlisted(device: str, name: str) -> Card:
    return Card(device, name, cells=None)


def nothing(_: Tree) -> None:
    """The node as it is."""


CASES = [
    pytest.param(PLAIN, nothing, {}, True, id="plain"),
    pytest.param(PLAIN, newer("580.105.08"), {"GW-DRIVER-069": "warning"}, True, id="next-module-is-newer"),
    pytest.param(PLAIN, newer("570.211.01"), {"GW-DRIVER-069": "warning"}, True, id="next-module-is-older"),
    pytest.param(PLAIN, newer("580.95.05"), {}, True, id="next-module-fits"),
    pytest.param(
        of(unlisted("2330", "H100"), "450.248.02", "proprietary"), nothing, {"GW-GPU-024": "error"}, False,
        id="450-h100",
    ),
    pytest.param(
        of(unlisted("27b8", "NVIDIA L4"), "515.105.01", "proprietary"), nothing, {"GW-GPU-024": "error"}, False,
        id="515-l4",
    ),
    pytest.param(
        of(H100, errors="WARNING: infoROM is corrupted at gpu 0000:03:00.0\n"), nothing, {"GW-GPU-008": "warning"},
        True, id="inforom-with-status-0",
    ),
    pytest.param(PLAIN, says_nothing(), {"GW-DRIVER-006": "error"}, False, id="smi-says-nothing"),
    pytest.param(PLAIN, says_nothing(HEADER), {"GW-DRIVER-006": "error"}, False, id="smi-has-no-rows"),
    pytest.param(of(fabric("Completed", "Success")), nothing, {}, True, id="fabric-is-well"),
    pytest.param(of(fabric("Completed", "N/A")), nothing, {}, True, id="fabric-has-no-status"),
    pytest.param(
        of(fabric("Completed", "Insufficient Resources")), nothing, {"GW-DRIVER-061": "error"}, False,
        id="fabric-did-not-take-it",
    ),
    pytest.param(
        of(fabric("Completed", "Unknown Error")), nothing, {"GW-DRIVER-061": "error"}, False, id="fabric-in-error"
    ),
    pytest.param(PLAIN, cannot_run, {}, True, id="containerd-cannot-be-asked"),
    pytest.param(PLAIN, never_joined, {}, False, id="a-kubelet-that-never-joined"),
    pytest.param(PLAIN, stale_beside_fresh, {"GW-CDI-001": "warning"}, True, id="stale-cdi-beside-fresh"),
]  # fmt: skip


@pytest.mark.parametrize(("node", "change", "wanted", "ready"), CASES)
def test_a_node(
    node: Node,
    change: Callable[[Tree], None],
    wanted: dict[str, str],
    ready: bool,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    tree = Tree(tmp_path / "host", list(SHELLS)[len(request.node.name) % len(SHELLS)])
    node.place(tree)
    change(tree)
    findings = told(probed(tree))
    graves = {name: f.severity for name, f in findings.items() if f.severity in ("error", "warning")}
    assert graves == wanted
    assert ("GW-OK-001" in findings) is ready


def listed_without(tree: Tree) -> None:
    """MIG is on, and what ``nvidia-smi -L`` says of it cannot be read."""
    tree.file("/data/smi-listing", "")


def admin_container(tree: Tree) -> None:
    tree.folder("/.bottlerocket")
    tree.file("/etc/os-release", 'NAME="Amazon Linux"\nID="amzn"\nID_LIKE="centos rhel fedora"\nVERSION_ID="2"\n')


SLICED = Card("2330", "NVIDIA H100 80GB HBM3", cells={"mig.mode.current": "Enabled", "mig.mode.pending": "Enabled"})


@pytest.mark.parametrize(
    ("node", "change", "wanted"),
    [
        pytest.param(of(SLICED), listed_without, set(), id="slices-that-nobody-saw"),
        pytest.param(PLAIN, admin_container, {"GW-HOST-012"}, id="the-admin-container-of-bottlerocket"),
        pytest.param(
            of(Card("2330", "H100", driver="nova_core", cells=None)), nothing, {"GW-DRIVER-004"}, id="nova-holds-it"
        ),
    ],
)
def test_what_is_not_known_to_work_is_not_ready(
    node: Node, change: Callable[[Tree], None], wanted: set[str], tmp_path: Path
) -> None:
    tree = Tree(tmp_path / "host")
    node.place(tree)
    change(tree)
    findings = told(probed(tree))
    assert {name for name, f in findings.items() if f.severity in ("error", "warning")} == wanted
    assert "GW-OK-001" not in findings
    assert not any("no VERSION_ID" in line for f in findings.values() for line in f.evidence)


def test_a_drop_in_of_an_older_version_hides_nothing_of_k3s() -> None:
    folder = f"{ETC}/config-v3.toml.d"
    older = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.x]\n'
    rendered = f'imports = ["{folder}/*.toml"]\n{RUNC}{NVIDIA}'
    findings = {f.id for f in found(k3s(files={f"{folder}/x.toml": older}, version="v1.36.0+k3s1", rendered=rendered))}
    assert "GW-K3S-017" in findings
    assert "GW-RUNTIME-001" not in findings


def crio_node(tree: Tree) -> None:
    """The plain node with CRI-O, which brings its own crun, in place of containerd."""
    PLAIN.machine(tree)
    says(tree, "kubelet", ("*", "Kubernetes v1.34.1\n"))
    tree.file("/etc/kubernetes/kubelet.conf", "")
    tree.file("/etc/crio/crio.conf", "")
    tree.file("/etc/crio/crio.conf.d/10-crio.conf", CRUN)
    tree.file("/usr/libexec/crio/crun", "", 0o755)
    says(tree, "crio", ("--version", "crio version 1.34.2\n"), ("*", ""))
    for socket in ("/var/run/crio/crio.sock", "/run/crio/crio.sock"):
        tree.file(socket, "")
    endpoint = "containerRuntimeEndpoint: unix:///var/run/crio/crio.sock"
    tree.file("/var/lib/kubelet/config.yaml", f"cgroupDriver: systemd\n{endpoint}\n")
    units = process(tree, 700, "crio.service", "/usr/bin/crio")
    tree.units(
        units | process(tree, 800, "kubelet.service", "/usr/bin/kubelet", "--config=/var/lib/kubelet/config.yaml")
    )


def crio_graves(tree: Tree) -> dict[str, str]:
    return {name: f.severity for name, f in told(probed(tree)).items() if f.severity in ("error", "warning")}


def test_a_folder_that_crio_does_not_read_is_why_there_is_no_handler(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "host")
    crio_node(tree)
    tree.file("/etc/crio/conf.d/99-nvidia.toml", CRIO_NVIDIA)
    assert crio_graves(tree) == {"GW-CRIO-003": "error"}


def test_a_backup_is_why_the_handlers_program_is_not_there(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "host")
    crio_node(tree)
    tree.file("/etc/crio/crio.conf.d/99-nvidia.toml", CRIO_NVIDIA)
    assert crio_graves(tree) == {}
    former = CRIO_NVIDIA.replace("/usr/bin", "/usr/local/nvidia/toolkit")
    tree.file("/etc/crio/crio.conf.d/99-nvidia.toml.bak", former)
    assert crio_graves(tree) == {"GW-CRIO-004": "error"}
