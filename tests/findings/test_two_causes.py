"""Errors and warnings that stand beside one another on some host of the tests, each pair looked at: two causes.

It comes last in this folder, when the other tests have asked about their hosts. A pair that is not here is new: either
one of the two is told by the other (`Rule.instead_of`), or the pair belongs here. The captured host has no nvidia
handler, so GW-RUNTIME-001 stands beside anything and is left out.
"""

from tests.captured import SEEN_TOGETHER

TWO_CAUSES = {
    ("GW-CDI-003", "GW-GPU-013"): "MIG devices of the specification; a MIG mode that waits for a reset",
    ("GW-CDI-004", "GW-TOOLKIT-001"): "missing libraries; no runtime",
    ("GW-CONTAINERD-001", "GW-RUNTIME-005"): "a containerd that nobody uses; no runtime of the kubelet",
    ("GW-CONTAINERD-014", "GW-RUNTIME-008"): "the option of one handler; the program of another",
    ("GW-CONTAINERD-014", "GW-TOOLKIT-001"): "an option of the handler; its program",
    ("GW-CRIO-001", "GW-RUNTIME-019"): "a file of CRI-O; two runtimes",
    ("GW-CRIO-002", "GW-RUNTIME-019"): "CRI-O's default; two runtimes",
    ("GW-CRIO-003", "GW-RUNTIME-019"): "a folder of CRI-O; two runtimes",
    ("GW-CRIO-004", "GW-RUNTIME-019"): "a backup of CRI-O; two runtimes",
    ("GW-DOCKER-003", "GW-RUNTIME-009"): "Docker's default runtime; its cgroup driver",
    ("GW-DRIVER-001", "GW-DRIVER-024"): "no driver; nouveau, which has to go for it",
    ("GW-DRIVER-003", "GW-GPU-002"): "of a test: two things are changed",
    ("GW-DRIVER-003", "GW-GPU-016"): "of a test: two things are changed",
    ("GW-DRIVER-003", "GW-GPU-024"): "of a test: two things are changed",
    ("GW-DRIVER-003", "GW-GPU-025"): "of a test: two things are changed",
    ("GW-DRIVER-043", "GW-HOST-005"): "NVML fails; what was seen is a container",
    ("GW-DRIVER-054", "GW-HOST-027"): "a package of the driver; packages of others",
    ("GW-DRIVER-064", "GW-DRIVER-065"): "memory; NVLink",
    ("GW-DRIVER-064", "GW-DRIVER-066"): "memory; the GPU's processor",
    ("GW-DRIVER-064", "GW-GPU-011"): "memory of one GPU; of its neighbour",
    ("GW-DRIVER-065", "GW-DRIVER-066"): "NVLink; the GPU's processor",
    ("GW-GPU-024", "GW-GPU-025"): "a driver that must be changed; a card that must be replaced",
    ("GW-HOST-001", "GW-HOST-005"): "the distribution; a container",
    ("GW-HOST-014", "GW-KUBE-003"): "no version of the system; two Kubernetes",
    ("GW-HOST-030", "GW-HOST-031"): "images; packages",
    ("GW-K0S-001", "GW-RUNTIME-005"): "of a test: no process of containerd",
    ("GW-K0S-002", "GW-RUNTIME-005"): "of a test: no process of containerd",
    ("GW-K0S-004", "GW-RUNTIME-005"): "of a test: no process of containerd",
    ("GW-K0S-005", "GW-RUNTIME-005"): "of a test: no process of containerd",
    ("GW-K3S-002", "GW-TOOLKIT-001"): "a template that is deadly with the toolkit; no toolkit",
    ("GW-K3S-003", "GW-K3S-016"): "a start before the toolkit; a drop-in that this release does not import",
    ("GW-RUNTIME-005", "GW-SNAP-001"): "of a test: no process of containerd",
    ("GW-RUNTIME-005", "GW-SNAP-002"): "of a test: no process of containerd",
    ("GW-RUNTIME-005", "GW-SNAP-003"): "of a test: no process of containerd",
    ("GW-RUNTIME-005", "GW-SNAP-004"): "of a test: no process of containerd",
    ("GW-RUNTIME-005", "GW-SNAP-005"): "of a test: no process of containerd",
    ("GW-TOOLKIT-011", "GW-TOOLKIT-014"): "two settings",
}


def test_every_pair_was_looked_at() -> None:
    new = {pair for pair in SEEN_TOGETHER if "GW-RUNTIME-001" not in pair} - TWO_CAUSES.keys()
    assert new == set()
