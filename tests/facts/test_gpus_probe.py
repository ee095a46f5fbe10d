"""The probe's look at GPUs, run for real by three shells: the bus in sysfs, and nvidia-smi of every age."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gpuwizard.facts.frames import read_frames
from gpuwizard.facts.gpu.nvidia_smi import COLUMNS
from gpuwizard.facts.model import HostFacts
from gpuwizard.facts.parse import parse_probe
from gpuwizard.work.probe import probe_script
from tests.probe_tree import H200, SHELLS, Tree

YOUNG = COLUMNS[COLUMNS.index("compute_cap") : -1]
REMAPPED = ("remapped_rows.pending", "remapped_rows.failure")
RESET = ("reset_status.reset_required", "reset_status.drain_and_reset_recommended")
MIG = ("mig.mode.current", "mig.mode.pending")
ACTION = "gpu_recovery_action"


@pytest.fixture(params=SHELLS)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    tree = Tree(tmp_path / "host", request.param)
    tree.h200()
    return tree


def facts(tree: Tree) -> HostFacts:
    return parse_probe(tree.run(probe_script())).facts


def calls(tree: Tree) -> list[list[str]]:
    """The columns of each query, or the option of each other call."""
    lines = (tree.root / "data/smi-calls").read_text().splitlines()
    return [line.split()[0].removeprefix("--query-gpu=").split(",") for line in lines]


def queries(tree: Tree) -> list[list[str]]:
    """The columns of each ``--query-gpu``."""
    return [columns for columns in calls(tree) if columns[0] == "index"]


def function(tree: Tree, address: str, device: str, pci_class: str = "0x030200", **files: str) -> str:
    """A function with these files beside vendor, device and class; ``__`` stands for a slash."""
    tree.gpu(address, device, None, pci_class)
    for name, text in files.items():
        tree.file(f"/sys/bus/pci/devices/{address}/{name.replace('__', '/')}", f"{text}\n")
    return f"/sys/bus/pci/devices/{address}"


def test_one_call_where_the_driver_knows_every_column(tree: Tree) -> None:
    probe = facts(tree)
    assert calls(tree) == [list(COLUMNS)]
    (gpu,) = probe.gpus
    assert (gpu.compute_capability, gpu.recovery_action, gpu.ecc_uncorrected) == ("9.0", "None", 0)
    assert not any(u.what.startswith("nvidia-smi") for u in probe.unseen)


@pytest.mark.parametrize(
    ("unknown", "sizes", "unseen", "action"),
    [
        ((*REMAPPED, ACTION), (24, 23), None, "Drain and Reset"),  # 535, 550
        (("addressing_mode", *REMAPPED, ACTION, *RESET), (24, 22, 20), "addressing_mode", None),  # 525
        ((*YOUNG, *RESET), (24, 19, 17), "compute_cap fabric.state fabric.status addressing_mode", None),  # 470
        ((ACTION,), (24, 25), None, "Drain and Reset"),
        ((ACTION, *RESET), (24, 25, 23), None, None),
        ((*REMAPPED, ACTION, *RESET), (24, 23, 21), None, None),
        (("retired_pages.pending",), (24, 18), "retired_pages.pending compute_cap fabric.state fabric.status", None),
        ((*MIG, *YOUNG), (24, 17, 15), "mig.mode.current mig.mode.pending compute_cap fabric.state", None),  # 418
    ],
)
def test_unknown_columns_are_left_out(
    tree: Tree, unknown: tuple[str, ...], sizes: tuple[int, ...], unseen: str | None, action: str | None
) -> None:
    """What the branches refuse was tried with Debian's nvidia-smi of 470, 525, 535 and 550."""
    cells = {"remapped_rows.pending": "Yes", RESET[0]: "No", RESET[1]: "Yes", ACTION: "[N/A]"}
    tree.nvidia_smi(H200 | cells, unknown=unknown)
    probe = facts(tree)
    assert tuple(len(columns) for columns in queries(tree)) == sizes
    assert set(queries(tree)[-1]).isdisjoint(unknown)
    (gpu,) = probe.gpus
    assert (gpu.name, gpu.memory_bytes, gpu.temperature_c) == ("NVIDIA H200", 143771 * 1024**2, 37)
    assert gpu.compute_capability == ("9.0" if "compute_cap" in queries(tree)[-1] else None)
    assert (gpu.recovery_action, gpu.remap_pending, gpu.remap_failed) == (action, True, False)
    assert probe.driver.problem is None
    named = [u.what.partition(": ")[2] for u in probe.unseen if u.what.startswith("nvidia-smi")]
    assert [name.startswith(unseen or "?") for name in named] == ([True] if unseen else [])


def test_repairs_are_asked_for_apart_only_where_there_is_ecc(tree: Tree) -> None:
    tree.nvidia_smi(H200 | {"ecc.mode.current": "[N/A]"}, unknown=REMAPPED)
    assert facts(tree).gpus[0].remap_pending is None
    assert not any("remapped" in name for (name, *_) in calls(tree))


def test_repairs_that_could_not_be_asked_for_are_unseen(tree: Tree) -> None:
    tree.nvidia_smi(H200, unknown=REMAPPED)
    script = tree.bin / "nvidia-smi"
    script.write_text(script.read_text().replace("--query-remapped-rows=*) ", "--query-something-else=*) "))
    probe = facts(tree)
    assert (probe.gpus[0].remap_pending, probe.driver.problem) == (None, None)
    assert "repairs of GPU memory" in {u.what for u in probe.unseen}


def test_the_tries_are_bounded(tree: Tree) -> None:
    """A driver that refuses the column of each query anew, and one that names a column it was not asked for."""
    tree.nvidia_smi(H200, unknown=COLUMNS)
    probe = facts(tree)
    assert len(calls(tree)) <= 6
    assert (probe.gpus[0].seen_by, probe.driver.problem_code) == (("pci",), 2)
    (tree.root / "data/smi-calls").unlink()
    tree.tool(
        "nvidia-smi",
        f"echo q >>{tree.root}/data/smi-calls; echo 'Field \"x.y\" is not a valid field to query.'; exit 2",
    )
    assert facts(tree).driver.problem_code == 2
    assert len(calls(tree)) == 2


def test_a_slow_driver_is_not_asked_again_and_again(tree: Tree) -> None:
    """Each call takes 25 s by the host's clock: after the refusal only the most needed columns are asked for."""
    tree.nvidia_smi(H200 | {"mig.mode.current": "Enabled"}, unknown=YOUNG, listing="GPU 0: x (UUID: GPU-x)\n")
    uptime = tree.root / "proc/uptime"
    real = tree.bin / "nvidia-smi"
    real.rename(tree.bin / "real-smi")
    tree.tool("nvidia-smi", f'read -r t _ <{uptime}; echo "$((${{t%%.*}} + 25)).00 1.00" >{uptime}; exec real-smi "$@"')
    probe = facts(tree)
    assert [len(columns) for columns in queries(tree)] == [len(COLUMNS), 9]
    (gpu,) = probe.gpus
    assert (gpu.name, gpu.mig, gpu.mig_instances, gpu.ecc) == ("NVIDIA H200", "Enabled", None, None)
    assert probe.driver.smi_seconds == 25
    assert {u.what for u in probe.unseen} >= {"MIG devices", "nvidia-smi: all but the most needed fields"}


def test_what_goes_to_standard_error_tears_no_row(tree: Tree) -> None:
    rows: list[Mapping[str, str]] = []
    for n in range(24):
        address = f"0000:{n + 1:02x}:00.0"
        tree.gpu(address, "25b6")
        row = {
            "index": str(n),
            "uuid": f"GPU-{n:08d}-0000",
            "name": "NVIDIA A16",
            "pci.bus_id": f"0000{address}".upper(),
        }
        rows.append(H200 | row)
    words = "Unable to determine the device handle for GPU6: 0000:00:06.0: Unknown Error\n"
    tree.nvidia_smi(*rows, errors=words)
    gpus = facts(tree).gpus
    assert len(gpus) == 25
    assert [gpu.pci for gpu in gpus if gpu.fault] == ["0000:00:06.0"]
    assert sum(gpu.seen_by == ("pci", "nvidia-smi") for gpu in gpus) == 24


def test_mig_devices_are_listed_where_mig_is_on(tree: Tree) -> None:
    listing = (
        f"GPU 0: NVIDIA H200 (UUID: {H200['uuid']})\n"
        "  MIG 1c.3g.71gb  Device  0: (UUID: MIG-aaaaaaaa-1111-2222-3333-444444444444)\n"
        "  MIG 1g.18gb     Device  1: (UUID: MIG-baaaaaaa-1111-2222-3333-444444444444)\n"
    )
    tree.nvidia_smi(H200 | {"mig.mode.current": "Enabled", "mig.mode.pending": "Enabled"}, listing=listing)
    assert facts(tree).gpus[0].mig_devices == ("1c.3g.71gb", "1g.18gb")
    tree.nvidia_smi(H200, listing=listing)
    (tree.root / "data/smi-calls").unlink()
    assert facts(tree).gpus[0].mig_instances is None
    assert ["-L"] not in calls(tree)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("GRID T4-8C", True),
        ("NVIDIA A40-48Q", True),
        ("NVIDIA L40S-2B", True),
        ("GRID A100-1-5CME", True),
        ("NVIDIA RTX Pro 6000 Blackwell DC-96Q", True),
        ("NVIDIA H200", False),
        ("NVIDIA A100-SXM4-80GB", False),
        ("Tesla V100-PCIE-16GB", False),
        ("NVIDIA GeForce RTX 4090", False),
        ("NVIDIA GH200 480GB", False),
    ],
)
def test_the_licence_is_asked_for_where_the_name_is_a_virtual_gpus(tmp_path: Path, name: str, asked: bool) -> None:
    tree = Tree(tmp_path / "host")
    tree.h200()
    full = (
        "GPU 00000000:00:06.0\n    Product Name : x\n        Virtualization Mode               : VGPU\n"
        "    vGPU Software Licensed Product\n        License Status                    : Unlicensed (Restricted)\n"
    )
    tree.nvidia_smi(H200 | {"name": name}, full=full)
    (gpu,) = facts(tree).gpus
    assert (["-q"] in calls(tree)) is asked
    assert gpu.virtualization == ("vgpu" if asked else None)
    assert (gpu.vgpu_license is not None) is asked


def test_the_licence_is_asked_for_where_the_licence_daemon_is(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "host")
    tree.h200()
    tree.nvidia_smi(H200, full="GPU 00000000:00:06.0\n        Virtualization Mode : Pass-Through\n")
    tree.file("/usr/bin/nvidia-gridd", "", 0o755)
    assert facts(tree).gpus[0].virtualization == "passthrough"


def test_uevent_names_driver_and_board_without_a_process(tree: Tree) -> None:
    (tree.root / "sys/bus/pci/devices/0000:00:06.0/driver").unlink()
    uevent = "DRIVER=nvidia\nPCI_CLASS=30200\nPCI_ID=10DE:2335\nPCI_SUBSYS_ID=10DE:18BF\nPCI_SLOT_NAME=0000:00:06.0"
    function(tree, "0000:00:06.0", "2335", uevent=uevent, numa_node="1", current_link_width="16")
    raw = tree.run(probe_script())
    (gpu,) = parse_probe(raw).facts.gpus
    assert (gpu.bound_driver, gpu.subsystem_id, gpu.numa_node, gpu.fault) == ("nvidia", "10de:18bf", 1, None)
    assert read_frames(raw).get("pci-drivers") is None


def test_links_where_there_is_no_uevent(tree: Tree) -> None:
    function(tree, "0000:41:00.0", "26b9", subsystem_vendor="0x10de", subsystem_device="0x1851", numa_node="-1")
    tree.link("/sys/bus/pci/devices/0000:41:00.0/driver", "../../../bus/pci/drivers/vfio-pci")
    probe = facts(tree)
    assert [gpu.bound_driver for gpu in probe.gpus] == ["nvidia"]
    assert [(d.pci, d.kind, d.bound_driver) for d in probe.other_devices] == [
        ("0000:41:00.0", "passed-through", "vfio-pci")
    ]


def test_virtual_functions_and_their_parent(tree: Tree) -> None:
    function(tree, "0000:43:00.0", "2235", sriov_numvfs="2", uevent="DRIVER=nvidia")
    for n in (4, 5):
        function(tree, f"0000:43:00.{n}", "2235", uevent="DRIVER=nvidia")
        tree.link(f"/sys/bus/pci/devices/0000:43:00.{n}/physfn", "../0000:43:00.0")
    tree.folder("/sys/bus/pci/devices/0000:43:00.0/mdev_supported_types")
    probe = facts(tree)
    assert [(gpu.pci, gpu.virtualization, gpu.virtual_functions) for gpu in probe.gpus] == [
        ("0000:00:06.0", None, None),
        ("0000:43:00.0", "host-vgpu", 2),
    ]
    assert [d.kind for d in probe.other_devices] == ["virtual-function"] * 2


def test_switches_bridges_and_other_functions(tree: Tree) -> None:
    function(tree, "0000:c0:00.0", "1af1", "0x068000", uevent="DRIVER=nvidia-nvswitch")
    function(tree, "0000:00:00.0", "22ce", "0x060400", uevent="DRIVER=pcieport")
    function(tree, "0000:00:06.1", "22ba", "0x040300")
    function(tree, "0000:00:06.2", "1ad6", "0x0c0330")
    probe = facts(tree)
    assert (len(probe.gpus), probe.nvswitches, len(probe.other_devices)) == (1, 1, 1)


def test_a_gpu_that_reads_as_ones(tree: Tree) -> None:
    function(tree, "0000:5f:00.0", "26b9", uevent="DRIVER=nvidia", current_link_width="63")
    tree.file(
        "/proc/driver/nvidia/gpus/0000:60:00.0/information", "Model: \t NVIDIA L40S\nBus Location: 0000:60:00.0\n"
    )
    folder = function(tree, "0000:60:00.0", "ffff", "0xffffff", uevent="DRIVER=nvidia")
    tree.file(f"{folder}/vendor", "0xffff\n")
    stranger = function(tree, "0000:61:00.0", "ffff", "0xffffff")
    tree.file(f"{stranger}/vendor", "0xffff\n")
    lost = {gpu.pci: gpu for gpu in facts(tree).gpus if gpu.fault}
    assert {address: gpu.fault for address, gpu in lost.items()} == {
        "0000:5f:00.0": "fallen off the bus",
        "0000:60:00.0": "fallen off the bus",
    }
    assert lost["0000:60:00.0"].name == "NVIDIA L40S"


def test_a_sleeping_gpu_is_not_woken_and_not_lost(tree: Tree) -> None:
    function(
        tree, "0000:01:00.0", "28e0", uevent="DRIVER=nvidia", power__runtime_status="suspended", current_link_width="63"
    )
    raw = tree.run(probe_script())
    assert b"width" not in next(s.data for s in read_frames(raw).sections if s.name == "pci").splitlines()[1]
    assert [gpu.fault for gpu in parse_probe(raw).facts.gpus] == [None, None]


def test_missing_and_garbled_files(tree: Tree) -> None:
    folder = function(tree, "0000:5f:00.0", "26b9")
    (tree.root / folder[1:] / "class").unlink()
    function(tree, "0000:60:00.0", "26b9", numa_node="many", sriov_numvfs="\xff\xfe", uevent="=\nDRIVER\n=x=y")
    tree.file("/sys/bus/pci/devices/0000:60:00.0/device", "?\n")
    empty = function(tree, "0000:61:00.0", "26b9")
    (tree.root / empty[1:] / "vendor").write_text("")
    (tree.root / "sys/bus/pci/devices/0000:62:00.0").mkdir()
    gpus = facts(tree).gpus
    assert [gpu.pci for gpu in gpus] == ["0000:00:06.0", "0000:5f:00.0"]


def test_no_devices_were_found(tree: Tree) -> None:
    for cell in (tree.root / "data/smi/000").iterdir():
        cell.unlink()
    (tree.root / "data/smi/000").rmdir()
    probe = facts(tree)
    assert (probe.driver.problem, probe.driver.problem_code) == ("No devices were found", 6)
    assert [gpu.seen_by for gpu in probe.gpus] == [("pci",)]
