"""What the GPU Operator and the device plugin leave on a host, found by the real probe in every shell."""

from pathlib import Path

import pytest

from gpuwizard.facts.model import OperatorFacts, Probe
from gpuwizard.facts.parse import parse_probe
from gpuwizard.work.probe import probe_script
from tests.cdi_specs import block_yaml, one_line_json, specification
from tests.probe_tree import SHELLS, Tree

TOOLKIT = "/usr/local/nvidia/toolkit"
WRAPPER = f"""\
#! /bin/sh
cat /proc/modules | grep -e "^nvidia " >/dev/null 2>&1
if [ "${{?}}" != "0" ]; then
\texec runc "$@"
fi
PATH={TOOLKIT}:$PATH \\
\t{TOOLKIT}/nvidia-container-runtime.real \\
\t\t"$@"
"""
CONFIG = """\
[nvidia-container-cli]
root = "/run/nvidia/driver"
[nvidia-container-runtime]
mode = "cdi"
runtimes = ["/usr/libexec/crio/crun", "runc"]
[nvidia-container-runtime.modes.cdi]
default-kind = "management.nvidia.com/gpu"
"""
DROP_IN = f"""\
version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
BinaryName = "{TOOLKIT}/nvidia-container-runtime"
"""


@pytest.fixture(params=SHELLS)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path / "host", request.param)


def probed(tree: Tree) -> Probe:
    return parse_probe(tree.run(probe_script()))


def operator(tree: Tree) -> OperatorFacts:
    return probed(tree).facts.operator


def placed(tree: Tree) -> None:
    """The toolkit as the operator's pod copies it."""
    for name in (
        "nvidia-container-runtime",
        "nvidia-container-runtime.cdi",
        "nvidia-container-runtime-hook",
        "nvidia-ctk",
    ):
        tree.file(f"{TOOLKIT}/{name}", WRAPPER, 0o755)
        tree.file(f"{TOOLKIT}/{name}.real", "", 0o755)
    tree.file(f"{TOOLKIT}/nvidia-ctk", "#!/bin/sh\necho NVIDIA Container Toolkit CLI version 1.18.0\n", 0o755)
    tree.file(f"{TOOLKIT}/libnvidia-container.so.1", "", 0o755)
    tree.file(f"{TOOLKIT}/.config/nvidia-container-runtime/config.toml", CONFIG)


def test_a_host_without_it(tree: Tree) -> None:
    facts = probed(tree).facts
    assert facts.operator == OperatorFacts(
        toolkit=False, driver_root=False, device_plugin_socket=False, toolkit_installed=False, toolkit_pod="none"
    )
    assert facts.components == ()


def test_a_node_that_the_operator_keeps(tree: Tree) -> None:
    placed(tree)
    tree.file("/run/nvidia/toolkit/toolkit.pid", "4711\n")
    tree.folder("/proc/4711")
    for name in ("driver-ready", "toolkit-ready", "cuda-ready", "plugin-ready", ".driver-ctr-ready"):
        tree.file(f"/run/nvidia/validations/{name}", "")
    tree.file(
        "/run/nvidia/validations/driver-ready",
        "IS_HOST_DRIVER=false\nNVIDIA_DRIVER_ROOT=/run/nvidia/driver\nDRIVER_ROOT_CTR_PATH=/driver-root\n",
    )
    tree.file("/run/nvidia/driver/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.595.91.07", "")
    tree.file("/var/lib/kubelet/device-plugins/nvidia-gpu.sock", "")
    tree.file("/etc/containerd/conf.d/99-nvidia.toml", DROP_IN)
    tree.file("/etc/containerd/config.toml", 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n')
    tree.file(
        "/var/run/cdi/management.nvidia.com-gpu.yaml",
        block_yaml(specification("all", kind="management.nvidia.com/gpu")),
    )
    tree.file(
        "/var/run/cdi/k8s.device-plugin.nvidia.com-gpu.json",
        one_line_json(specification("0", kind="k8s.device-plugin.nvidia.com/gpu")),
    )
    facts = probed(tree).facts
    assert facts.operator == OperatorFacts(
        toolkit=True,
        toolkit_programs=(
            "nvidia-container-runtime",
            "nvidia-container-runtime-hook",
            "nvidia-container-runtime.cdi",
            "nvidia-ctk",
        ),
        validations=(".driver-ctr-ready", "cuda-ready", "driver-ready", "plugin-ready", "toolkit-ready"),
        driver_root=True,
        device_plugin_socket=True,
        drop_ins=("/etc/containerd/conf.d/99-nvidia.toml",),
        toolkit_installed=True,
        toolkit_version="1.18.0",
        toolkit_pod="running",
        driver_version="595.91.07",
        host_driver=False,
    )
    toolkit = facts.toolkit
    assert (toolkit.runtime_path, toolkit.operator_placed) == (f"{TOOLKIT}/nvidia-container-runtime", True)
    assert (toolkit.version, toolkit.mode, toolkit.resolved_mode) == ("1.18.0", "cdi", "cdi")
    assert toolkit.config_path == f"{TOOLKIT}/.config/nvidia-container-runtime/config.toml"
    assert (toolkit.default_kind, toolkit.driver_root) == ("management.nvidia.com/gpu", "/run/nvidia/driver")
    assert toolkit.runtimes == ("/usr/libexec/crio/crun", "runc")
    assert toolkit.low_level["/usr/libexec/crio/crun"] is None
    assert facts.components == (
        "device-plugin",
        "gpu-operator-cdi",
        "gpu-operator-driver",
        "gpu-operator-toolkit",
        "gpu-operator-validator",
    )


def test_the_hosts_own_programs_come_before_the_operators(tree: Tree) -> None:
    placed(tree)
    tree.file("/usr/bin/nvidia-container-runtime", "", 0o755)
    tree.tool("nvidia-ctk", "echo 'NVIDIA Container Toolkit CLI version 1.20.0'")
    facts = probed(tree).facts
    assert facts.toolkit.binaries["nvidia-container-runtime"] == "/usr/bin/nvidia-container-runtime"
    assert facts.toolkit.binaries["nvidia-container-runtime-hook"] == f"{TOOLKIT}/nvidia-container-runtime-hook"
    assert facts.toolkit.runtime_path == f"{TOOLKIT}/nvidia-container-runtime"  # K3s takes it first
    assert (facts.toolkit.version, facts.operator.toolkit_version) == ("1.20.0", "1.18.0")


def test_a_wrapper_without_its_program(tree: Tree) -> None:
    placed(tree)
    (tree.root / f"{TOOLKIT}/nvidia-container-runtime.real".lstrip("/")).unlink()
    assert operator(tree).toolkit_error == f"{TOOLKIT}/nvidia-container-runtime.real does not exist"
    tree.file(f"{TOOLKIT}/nvidia-container-runtime.real", "", 0o644)
    assert operator(tree).toolkit_error == f"{TOOLKIT}/nvidia-container-runtime.real cannot be run"


@pytest.mark.parametrize("content", ["\x7fELF\x02\x01", '#!/bin/sh\nexec /usr/bin/nvidia-container-runtime "$@"\n'])
def test_a_program_that_somebody_else_put_there(tree: Tree, content: str) -> None:
    tree.file(f"{TOOLKIT}/nvidia-container-runtime", content, 0o755)
    facts = operator(tree)
    assert (facts.toolkit, facts.toolkit_installed, facts.toolkit_error) == (True, False, None)


def test_the_pod_of_the_toolkit(tree: Tree) -> None:
    tree.file("/run/nvidia/toolkit.pid", "99\n")  # where releases before 24.9 note it
    assert operator(tree).toolkit_pod == "gone"
    tree.folder("/proc/99")
    assert operator(tree).toolkit_pod == "running"
    tree.file("/run/nvidia/toolkit.pid", "../1\n")
    assert operator(tree).toolkit_pod == "gone"
    (tree.root / "run/nvidia/toolkit.pid").unlink()
    assert operator(tree).toolkit_pod == "none"
    tree.file("/run/nvidia/toolkit.pid", "99\n")
    (tree.root / "proc/1").rmdir()  # hidden processes: nobody knows
    assert operator(tree).toolkit_pod is None


def test_a_driver_of_the_host(tree: Tree) -> None:
    tree.file("/run/nvidia/validations/driver-ready", "IS_HOST_DRIVER=true\nNVIDIA_DRIVER_ROOT=/\n")
    tree.file("/run/nvidia/validations/workload-type", "vm-passthrough\n")
    tree.folder("/run/nvidia/driver")
    facts = operator(tree)
    assert (facts.host_driver, facts.driver_root, facts.workload) == (True, False, "vm-passthrough")
    assert facts.validations == ("driver-ready", "workload-type")


def test_an_empty_folder_of_validations_is_not_none(tree: Tree) -> None:
    tree.folder("/run/nvidia/validations")
    assert operator(tree).validations == ()


def test_files_of_runtimes_that_name_its_toolkit(tree: Tree) -> None:
    k3s = "/var/lib/rancher/k3s/agent/etc/containerd"
    tree.file(f"{k3s}/config.toml", DROP_IN)  # rendered by K3s itself
    tree.file(f"{k3s}/config.toml.tmpl", DROP_IN)
    tree.file("/etc/crio/crio.conf.d/99-nvidia.conf", f'runtime_path = "{TOOLKIT}/nvidia-container-runtime"\n')
    tree.file("/etc/containerd/conf.d/10-site.toml", "version = 2\n")
    assert operator(tree).drop_ins == ("/etc/crio/crio.conf.d/99-nvidia.conf", f"{k3s}/config.toml.tmpl")


def test_without_root_absence_is_not_known(tree: Tree) -> None:
    tree.login(1000, "ops")
    tree.sudo(refuses="sudo: a password is required")
    facts = operator(tree)
    assert (facts.driver_root, facts.device_plugin_socket, facts.validations) == (None, None, None)


def test_other_components(tree: Tree) -> None:
    tree.folder("/run/nvidia/mps")
    tree.folder("/var/lib/kubelet/plugins/gpu.nvidia.com")
    tree.file("/etc/kubernetes/node-feature-discovery/features.d/gfd", "")
    tree.file("/etc/cdi/nvidia.yaml", block_yaml(specification("0")))
    tree.units({"nvidia-imex.service": "ActiveState=active", "nvidia-cdi-refresh.service": "ActiveState=inactive"})
    assert probed(tree).facts.components == (
        "cdi",
        "dra-driver",
        "gpu-feature-discovery",
        "mps",
        "nvidia-cdi-refresh",
        "nvidia-imex",
    )
