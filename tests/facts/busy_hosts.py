"""Hosts on which the probe has everything to look at, with stand-in programs that start no further process."""

from tests.probe_tree import H200, Tree

DRIVER = "580.159.04"
KERNELS = ("6.8.0-88-generic", "6.8.0-90-generic", "6.8.0-94-generic")
DUMP = """\
version = 2
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "runc"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""
PLUGINS = """\
TYPE                            ID       PLATFORMS      STATUS
io.containerd.grpc.v1           cri      linux/amd64    ok
"""
PACKAGES = """\
install installed nvidia-container-toolkit 1.18.0-1
install installed nvidia-driver-580-server-open 580.159.04-0ubuntu1
install installed nvidia-fabricmanager-580 580.159.04-1
install installed containerd.io 1.7.28-1
hold installed linux-headers-6.8.0-94-generic 6.8.0-94.96
"""
DMESG = (
    "[ 5.12] nvidia: loading out-of-tree module\n[ 9.5] NVRM: Xid (PCI:0000:83:00): 79, GPU has fallen off the bus.\n"
)


def says(tree: Tree, name: str, *cases: tuple[str, str]) -> None:
    """A program, by its name or its path, that prints a text by the pattern that its arguments match: with what the
    shell itself can do."""
    body = ["case $* in"]
    for number, (pattern, text) in enumerate(cases):
        file = tree.file(f"/data/says/{name.replace('/', '-')}-{number}", text)
        body.append(f"{pattern}) while IFS= read -r line; do printf '%s\\n' \"$line\"; done <'{file}'; exit 0 ;;")
    body += ["esac", "exit 2"]
    if name.startswith("/"):
        tree.file(name, "\n".join(["#!/bin/sh", *body, ""]), 0o755)
    else:
        tree.tool(name, "\n".join(body))


def gpu_node(tree: Tree) -> None:
    """Eight GPUs, NVSwitches, driver by DKMS for three kernels, toolkit by package, CDI, a long list of mounts."""
    for number in range(8):
        address = f"0000:{number * 16 + 3:02x}:00.0"
        tree.gpu(address, "2335")
        tree.file(f"/proc/driver/nvidia/gpus/{address}/information", f"Model: NVIDIA H200\nBus Location: {address}\n")
    for number in range(4):
        tree.gpu(f"0000:0{number + 4}:00.0", "22a3", "nvidia-nvswitch", "0x068000")
    tree.file("/proc/driver/nvidia/version", f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {DRIVER}  \n")
    tree.file("/sys/module/nvidia/version", f"{DRIVER}\n")
    tree.file(f"/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{DRIVER}", "")
    tree.link("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1", f"libnvidia-ml.so.{DRIVER}")
    tree.file("/proc/sys/kernel/osrelease", f"{KERNELS[1]}\n")
    for kernel in KERNELS:
        tree.file(f"/lib/modules/{kernel}/modules.dep", "updates/dkms/nvidia.ko.zst:\n")
        tree.file(f"/lib/modules/{kernel}/build/Makefile", "")
        tree.file(f"/boot/vmlinuz-{kernel}", "")
        tree.folder(f"/var/lib/dkms/nvidia/{DRIVER}/{kernel}/x86_64/module")
        tree.link(f"/var/lib/dkms/nvidia/kernel-{kernel}-x86_64", f"{DRIVER}/{kernel}/x86_64")
    tree.file(f"/var/lib/dkms/nvidia/{DRIVER}/build/make.log", "DKMS make.log\nError: no such file\n")
    tree.file("/etc/modprobe.d/nvidia.conf", "options nvidia NVreg_OpenRmEnableUnsupportedGpus=1\n")
    tree.folder("/sys/firmware/efi")
    tree.file("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\6\0\0\0\1")
    tree.file("/var/lib/dpkg/status", "Package: bash\n")
    tree.file("/proc/self/mounts", "".join(f"tmpfs /run/user/{n} tmpfs rw,nosuid 0 0\n" for n in range(300)))
    for number, name in enumerate(("systemd", *(f"worker-{n}" for n in range(250)))):
        tree.file(f"/proc/{number + 1}/comm", f"{name}\n")
        tree.file(f"/proc/{number + 1}/cmdline", f"{name}\0")
    for name in ("nvidia-container-runtime", "nvidia-container-runtime-hook", "nvidia-ctk", "nvidia-cdi-hook", "runc"):
        tree.file(f"/usr/bin/{name}", "", 0o755)
    tree.file("/etc/nvidia-container-runtime/config.toml", '[nvidia-container-runtime]\nmode = "auto"\n')
    tree.file("/var/run/cdi/nvidia.yaml", "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: all\n")
    tree.file("/etc/apt/sources.list.d/nvidia-container-toolkit.list", "deb https://nvidia.github.io/x /\n")
    tree.file("/var/log/fabricmanager.log", "[INFO] up\n")
    says(tree, "dpkg-query", ("*", PACKAGES))
    says(tree, "dmesg", ("*", DMESG))
    says(tree, "modinfo", ("*", f"filename: /lib/modules/x/nvidia.ko\nversion: {DRIVER}\nlicense: Dual MIT/GPL\n"))
    says(tree, "nvidia-ctk", ("*", "NVIDIA Container Toolkit CLI version 1.18.0\n"))
    says(tree, "df", ("*", "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 9 1 8 12% /\n"))
    says(tree, "nv-fabricmanager", ("*", f"Fabric Manager version is : {DRIVER}\n"))
    tree.nvidia_smi(*(H200 | {"index": str(n), "pci.bus_id": f"00000000:{n * 16 + 3:02X}:00.0"} for n in range(8)))


def containerd(
    tree: Tree, pid: int, unit: str, config: str, socket: str, *arguments: str, program: str = "/usr/bin/containerd"
) -> dict[str, str]:
    """A containerd that runs; returns its unit."""
    answers = (
        ("--version", "containerd github.com/containerd/containerd 1.7.28 b98a3aace\n"),
        ("*dump", DUMP.format(socket=socket)),
    )
    says(tree, "containerd" if program == "/usr/bin/containerd" else program, *answers)
    says(tree, "ctr", ("*", PLUGINS))
    tree.file(config, f'version = 2\nimports = ["{config.rpartition("/")[0]}/conf.d/*.toml"]\n')
    tree.file(f"{config.rpartition('/')[0]}/conf.d/10-site.toml", "version = 2\n")
    tree.file(socket, "")
    return process(tree, pid, unit, program, *arguments)


def process(tree: Tree, pid: int, unit: str, *arguments: str) -> dict[str, str]:
    """A service that runs, with everything that /proc says of it."""
    program = arguments[0]
    tree.process(pid, *arguments, unit=unit)
    tree.file(f"/proc/{pid}/status", f"Name:\tx\nUid:\t0\t0\t0\t0\nNSpid:\t{pid}\n")
    if not (tree.root / program.lstrip("/")).exists():
        tree.file(program, "", 0o755)
    tree.link(f"/proc/{pid}/exe", program)
    return {unit: f"ActiveState=active\nMainPID={pid}\nExecStart={{ path={program} ; argv[]={' '.join(arguments)} }}"}


CONTAINERD = ("containerd.service", "/etc/containerd/config.toml", "/run/containerd/containerd.sock")


def kubeadm_node(tree: Tree, **others: str) -> None:
    """A worker that kubeadm joined, on containerd from Docker's packages; `others` are units that run beside."""
    gpu_node(tree)
    units = containerd(tree, 700, *CONTAINERD)
    units |= process(tree, 800, "kubelet.service", "/usr/bin/kubelet", "--config=/var/lib/kubelet/config.yaml")
    tree.units(
        units | {"nvidia-persistenced.service": "ActiveState=active", "nvidia-fabricmanager.service": ""} | others
    )
    says(tree, "kubelet", ("*", "Kubernetes v1.34.1\n"))
    tree.file("/etc/kubernetes/kubelet.conf", "")
    tree.file(
        "/var/lib/kubelet/config.yaml", f"cgroupDriver: systemd\ncontainerRuntimeEndpoint: unix://{CONTAINERD[2]}\n"
    )
    tree.file("/var/lib/kubelet/kubeadm-flags.env", 'KUBELET_KUBEADM_ARGS="--node-ip=10.0.0.1"\n')
    tree.file("/run/nvidia/validations/toolkit-ready", "")


def k3s_node(tree: Tree) -> None:
    """A K3s agent with its own containerd, a template and drop-ins."""
    gpu_node(tree)
    data = "/var/lib/rancher/k3s"
    config, socket = f"{data}/agent/etc/containerd/config.toml", "/run/k3s/containerd/containerd.sock"
    binary = f"{data}/data/current/bin/containerd"
    units = containerd(tree, 901, "k3s-agent.service", config, socket, "-c", config, "-a", socket, program=binary)
    units |= process(tree, 900, "k3s-agent.service", "/usr/local/bin/k3s", "agent", "--token=x")
    tree.units(units)
    (tree.bin / "ctr").unlink()
    tree.file(f"{config}.tmpl", '{{ template "base" . }}\n')
    tree.file(f"{data}/agent/etc/containerd/config-v3.toml.d/10-site.toml", "version = 3\n")
    tree.file("/etc/rancher/k3s/config.yaml", "server: https://10.0.0.1:6443\n")
    tree.file("/etc/rancher/node/id", "x\n")
    tree.file("/etc/systemd/system/k3s-agent.service.env", "K3S_URL=https://10.0.0.1:6443\n")
    tree.file("/proc/900/environ", "PATH=/usr/bin\0")
    says(tree, "k3s", ("--version", "k3s version v1.34.1+k3s1 (aaaaaaaa)\ngo version go1.24.6\n"), ("*", PLUGINS))


def crowded_node(tree: Tree) -> None:
    """Two containerds that run, and Docker beside them."""
    config, socket, program = "/opt/second/config.toml", "/run/second.sock", "/opt/second/bin/containerd"
    flags = ("--config", config, "--address", socket)
    others = containerd(tree, 750, "second-containerd.service", config, socket, *flags, program=program)
    others |= process(tree, 760, "docker.service", "/usr/bin/dockerd", "-H", "fd://")
    says(tree, "dockerd", ("*", "Docker version 28.5.1, build f8215cc\n"))
    tree.file("/etc/docker/daemon.json", '{"runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}}\n')
    kubeadm_node(tree, **others)
