"""probe.sh, run for real by three shells on a host in a folder, and on this machine."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from assets import asset
from gpuwizard.facts.model import Probe
from gpuwizard.facts.parse import parse_probe
from gpuwizard.remote.script import render
from gpuwizard.work.probe import PARTS, probe_script
from tests.probe_tree import H200_UUID, SHELLS, Tree

CONTAINERD_V2 = """\
version = 2
imports = ["/etc/containerd/conf.d/*.toml"]
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = true
"""
DUMP = """\
version = 2
imports = ["/etc/containerd/config.toml", "/etc/containerd/conf.d/10-site.toml"]
[grpc]
  address = "/run/containerd/containerd.sock"
  gid = 0
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.site]
  runtime_type = "io.containerd.runc.v2"
"""
PLUGINS = """\
TYPE                                  ID                       PLATFORMS      STATUS
io.containerd.content.v1              content                  -              ok
io.containerd.snapshotter.v1          zfs                      linux/amd64    skip
io.containerd.grpc.v1                 cri                      linux/amd64    ok
"""
K3S_RENDERED = """\
version = 3
imports = ["/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d/*.toml"]
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'nvidia']
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'nvidia'.options]
  BinaryName = "/usr/bin/nvidia-container-runtime"
  SystemdCgroup = true
"""


@pytest.fixture(params=SHELLS)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path / "host", request.param)


def probed(tree: Tree) -> Probe:
    raw = tree.run(probe_script())
    assert not tree.left_over()
    return parse_probe(raw)


def kubeadm(tree: Tree) -> None:
    tree.file("/etc/containerd/config.toml", CONTAINERD_V2)
    tree.file("/etc/containerd/conf.d/10-site.toml", "version = 2\n")
    tree.file("/data/dump", DUMP)
    tree.file("/data/plugins", PLUGINS)
    tree.tool(
        "containerd",
        f"""
        case $* in
        --version) echo 'containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6' ;;
        "--config {tree.root}/etc/containerd/config.toml config dump") echo noise >&2; cat {tree.root}/data/dump ;;
        *) exit 1 ;;
        esac
        """,
    )
    tree.tool("ctr", f'cat "{tree.root}/data/plugins"')
    tree.tool("kubelet", "echo Kubernetes v1.31.4")
    tree.process(700, "/usr/bin/containerd", unit="containerd.service")
    tree.process(701, "/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", unit="containerd.service")
    tree.process(
        800,
        "/usr/bin/kubelet",
        "--container-runtime-endpoint=unix:///var/run/containerd/containerd.sock",
        "--hostname-override=gpu-a",
        unit="kubelet.service",
    )
    tree.file("/etc/kubernetes/kubelet.conf", "")
    tree.units(
        {
            "containerd.service": "ActiveState=active\nMainPID=700\n"
            "FragmentPath=/usr/lib/systemd/system/containerd.service",
            "kubelet.service": "ActiveState=active\nMainPID=800",
        }
    )


def test_kubeadm_host_with_an_h200(tree: Tree) -> None:
    tree.h200()
    kubeadm(tree)
    tree.file("/usr/bin/nvidia-container-runtime", "", 0o755)
    tree.tool("nvidia-ctk", "echo 'NVIDIA Container Toolkit CLI version 1.20.0'; echo 'commit: abc'")
    tree.file("/etc/nvidia-container-runtime/config.toml", '[nvidia-container-runtime]\nmode = "auto"\n')
    tree.file("/var/run/cdi/nvidia.yaml", "")
    probe = probed(tree)
    facts = probe.facts
    assert probe.readable
    assert facts.unseen == ()
    assert (facts.os.id, facts.os.family, facts.os.kind, facts.os.immutable) == ("ubuntu", "debian", "host", False)
    assert facts.kernel.secure_boot is False
    assert facts.memory_bytes == 131072 * 1024
    assert facts.boot_id == "11111111-1111-1111-1111-111111111111"
    (gpu,) = facts.gpus
    assert (gpu.pci, gpu.pci_id, gpu.uuid, gpu.index) == ("0000:00:06.0", "10de:2335", H200_UUID, 0)
    assert (gpu.memory_bytes, gpu.compute_capability, gpu.bound_driver) == (143771 * 1024**2, "9.0", "nvidia")
    assert gpu.seen_by == ("pci", "nvidia-smi")
    assert (facts.driver.loaded, facts.driver.on_disk, facts.driver.userspace) == ("580.159.04",) * 3
    assert (facts.driver.flavour, facts.driver.problem, facts.driver.persistence) == ("open", None, True)
    assert (facts.toolkit.version, facts.toolkit.mode) == ("1.20.0", "auto")
    assert facts.toolkit.runtime_path == "/usr/bin/nvidia-container-runtime"
    assert facts.toolkit.cdi_specs == ("/var/run/cdi/nvidia.yaml",)
    assert (facts.kubernetes.flavour, facts.kubernetes.version, facts.kubernetes.node_name) == (
        "kubeadm",
        "1.31.4",
        "gpu-a",
    )
    runtime = facts.kubelet_runtime
    assert runtime is not None
    assert (runtime.version, runtime.unit, runtime.pid, runtime.cri) == ("1.7.24~ds1", "containerd.service", 700, "ok")
    assert (runtime.config_version, runtime.imports) == (2, ("/etc/containerd/conf.d/*.toml",))
    assert set(runtime.handlers) == {"runc", "site"}  # from the dump, not from the file
    assert runtime.handlers["runc"].options == {"SystemdCgroup": True}
    assert (runtime.default_handler, runtime.owner) == ("runc", "package")
    assert len(facts.runtimes) == 1


def test_files_come_byte_for_byte(tree: Tree) -> None:
    kubeadm(tree)
    tree.h200()
    odd = bytes(range(256)) * 3 + b"\n\n@@ end 0 0\n\n"
    tree.file("/srv/real.toml", odd, 0o640)
    tree.link("/etc/containerd/conf.d/20-link.toml", str(tree.root / "srv/real.toml"))
    probe = probed(tree)
    main = probe.files["/etc/containerd/config.toml"]
    assert main.content is not None
    assert main.content.raw == CONTAINERD_V2.encode()
    assert (main.mode, main.uid, main.gid, main.target) == (0o644, os.getuid(), os.getgid(), None)
    assert main.mtime == int((tree.root / "etc/containerd/config.toml").stat().st_mtime)
    linked = probe.files["/etc/containerd/conf.d/20-link.toml"]
    assert linked.content is not None
    assert linked.content.raw == odd
    assert (linked.target, linked.mode) == ("/srv/real.toml", 0o640)
    absent = probe.files["/etc/containerd/conf.d/99-gpuwizard-nvidia.toml"]
    assert (absent.content, absent.sha256) == (None, "absent")
    assert not probe.facts.unseen


def test_imports_are_followed_breadth_first_and_once(tree: Tree) -> None:
    kubeadm(tree)
    tree.file(
        "/etc/containerd/config.toml",
        '# imports = ["/no"]\nversion = 2\nimports = [ # two\n'
        '  "/etc/containerd/a/*.toml",\n  \'extra.toml\', "/gone.toml" ]\n',
    )
    tree.file("/etc/containerd/a/1.toml", 'imports = ["/etc/containerd/b.toml", "/etc/containerd/config.toml"]\n')
    tree.file("/etc/containerd/b.toml", "")
    tree.file("/etc/containerd/extra.toml", '[x]\nimports = ["/never.toml"]\n')
    probe = probed(tree)
    present = {path for path, file in probe.files.items() if file.content is not None}
    assert present >= {f"/etc/containerd/{n}" for n in ("config.toml", "a/1.toml", "b.toml", "extra.toml")}
    assert probe.files["/gone.toml"].content is None
    assert not {"/never.toml", "/no"} & set(probe.files)


def test_k3s_agent(tree: Tree) -> None:
    folder = "/var/lib/rancher/k3s/agent/etc/containerd"
    tree.file(f"{folder}/config.toml", K3S_RENDERED)
    tree.file(f"{folder}/config.toml.tmpl", "[plugins.opt]\n")
    tree.file(
        f"{folder}/config-v3.toml.d/50-site.toml",
        "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = 'nvidia'\n",
    )
    tree.file("/etc/rancher/k3s/config.yaml", 'token: "K10abc::server:s3cret"\nnode-name: spark-1\n')
    tree.tool(
        "k3s",
        "case $* in --version) echo 'k3s version v1.33.10+k3s1 (abc)' ;; "
        f"'ctr plugins ls') cat {tree.root}/data/plugins ;; esac",
    )
    tree.file("/data/plugins", PLUGINS)
    tree.process(900, "/usr/local/bin/k3s", "agent", unit="k3s-agent.service")
    tree.process(901, "containerd", "-c", f"{folder}/config.toml", unit="k3s-agent.service")
    tree.units(
        {
            "k3s-agent.service": "ActiveState=active\nMainPID=900\n"
            "ExecStart={ path=/usr/local/bin/k3s ; argv[]=/usr/local/bin/k3s agent ; ignore_errors=no ; pid=900 }"
        }
    )
    probe = probed(tree)
    kubernetes = probe.facts.kubernetes
    assert (kubernetes.flavour, kubernetes.role, kubernetes.service) == ("k3s", "agent", "k3s-agent.service")
    assert (kubernetes.version, kubernetes.node_name, kubernetes.active) == ("1.33.10+k3s1", "spark-1", True)
    assert kubernetes.templates == (f"{folder}/config.toml.tmpl",)
    (runtime,) = probe.facts.runtimes
    assert (runtime.owner, runtime.unit, runtime.used_by_kubelet) == ("k3s", "k3s-agent.service", True)
    assert (runtime.socket, runtime.cri) == ("/run/k3s/containerd/containerd.sock", "ok")
    assert set(runtime.handlers) == {"runc", "nvidia"}
    assert runtime.default_handler == "nvidia"  # from the drop-in that the rendered file imports
    assert probe.files["/etc/rancher/k3s/config.yaml.d/50-gpuwizard.yaml"].content is None
    assert probe.files[f"{folder}/config-v3.toml.tmpl"].content is None
    assert "s3cret" not in repr(probe)


def test_passwordless_sudo_is_used_in_the_same_channel(tree: Tree) -> None:
    tree.login(1000, "admin")
    tree.sudo()
    probe = probed(tree)
    assert probe.readable
    assert (probe.facts.privilege.sudo, probe.facts.privilege.user) == ("nopasswd", "admin")


def test_without_root_it_says_what_it_could_not_see(tree: Tree) -> None:
    kubeadm(tree)
    tree.login(1000, "ops")
    tree.sudo(refuses="sudo: a password is required")
    probe = probed(tree)
    assert not probe.readable
    assert (probe.facts.privilege.sudo, probe.facts.privilege.reason) == ("password", "sudo: a password is required")
    assert any("no root rights" in unseen.why for unseen in probe.facts.unseen)
    runtime = probe.facts.kubelet_runtime
    assert runtime is not None
    assert (set(runtime.handlers), runtime.cri) == ({"runc"}, None)  # the file alone; the socket is root's


def test_no_sudo_at_all(tree: Tree) -> None:
    tree.login(1000, "ops")
    privilege = probed(tree).facts.privilege
    assert (privilege.sudo, privilege.reason) == ("none", "sudo is not installed")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_unreadable_files_are_unseen_and_not_absent(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "host")
    kubeadm(tree)
    tree.login(1000, "ops")
    secret = tree.file("/etc/containerd/config.toml", CONTAINERD_V2, 0o600)
    closed = tree.root / "etc/containerd/conf.d"
    closed.chmod(0o700)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    (tree.root / "tmp").chmod(0o1777)
    done = subprocess.run(
        [str(shutil.which("setpriv")), "--reuid=65534", "--regid=65534", "--clear-groups", *tree.command()],
        input=render(probe_script(), "TOKEN123"),
        env=tree.environment(),
        capture_output=True,
        check=True,
    )
    probe = parse_probe(done.stdout)
    unseen = {u.what: u.why for u in probe.facts.unseen}
    assert secret.exists()
    assert "cannot be read" in unseen["/etc/containerd/config.toml"]
    assert "cannot be searched" in unseen["/etc/containerd/conf.d/99-gpuwizard-nvidia.toml"]
    assert "/etc/containerd/config.toml" not in probe.files
    assert "/etc/containerd/conf.d/99-gpuwizard-nvidia.toml" not in probe.files


def test_a_refused_configuration_is_reported_in_containerds_words(tree: Tree) -> None:
    kubeadm(tree)
    tree.tool("containerd", 'case $* in *dump) echo "containerd: failed to load TOML: /etc/x: bad" >&2; exit 1 ;; esac')
    runtime = probed(tree).facts.runtimes[0]
    assert runtime.effective_error == "containerd: failed to load TOML: /etc/x: bad"
    assert runtime.handlers == {}


def test_containers_and_other_users_processes_are_not_asked(tree: Tree) -> None:
    tree.process(40, "/tmp/evil/containerd", "--config", "/tmp/evil.toml")
    tree.file("/proc/40/status", "Name:\tcontainerd\nUid:\t1000\t1000\t1000\t1000\n")
    tree.process(41, "containerd", "--config", "/etc/containerd/kind.toml")
    tree.file("/proc/41/cgroup", "0::/system.slice/docker-0123abcd.scope\n")
    tree.process(42, "containerd", "--config", "/etc/inner.toml")
    tree.file("/proc/42/status", "Name:\tcontainerd\nUid:\t0\t0\t0\t0\nNSpid:\t42\t7\n")
    assert probed(tree).facts.runtimes == ()


def test_docker_and_its_containerd_next_to_the_kubelets(tree: Tree) -> None:
    kubeadm(tree)
    tree.tool("dockerd", "echo 'Docker version 28.2.2, build 1234567'")
    tree.file("/etc/docker/daemon.json", '{"runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}}')
    tree.process(50, "/usr/bin/dockerd", "-H", "fd://", unit="docker.service")
    tree.process(51, "containerd", "--config", "/var/run/docker/containerd/containerd.toml", unit="docker.service")
    runtimes = {(r.kind, r.owner): r for r in probed(tree).facts.runtimes}
    assert runtimes["containerd", "package"].used_by_kubelet is True
    docker = runtimes["docker", None]
    assert (docker.version, docker.used_by_kubelet, set(docker.handlers)) == ("28.2.2", False, {"nvidia"})
    inner = runtimes["containerd", "docker"]
    assert (inner.unit, inner.used_by_kubelet) == ("docker.service", False)
    assert inner.socket == "/run/docker/containerd/containerd.sock"


def test_host_without_anything(tree: Tree) -> None:
    tree.bin.joinpath("systemctl").unlink()
    shutil.rmtree(tree.root / "sys")
    (tree.root / "etc/os-release").unlink()
    facts = probed(tree).facts
    assert {u.what for u in facts.unseen} >= {"services", "PCI devices", "NVIDIA module on disk"}
    assert (facts.os.id, facts.os.family, facts.os.immutable) == (None, "unknown", None)
    assert (facts.kubernetes.flavour, facts.gpus, facts.runtimes) == ("none", (), ())


def test_a_hanging_nvidia_smi_leaves_the_rest(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "host")
    tree.h200()
    tree.tool("timeout", 'shift; case $* in nvidia-smi*) exit 124 ;; esac; exec "$@"')
    driver = probed(tree).facts.driver
    assert (driver.problem, driver.problem_code) == ("nvidia-smi gave no answer in time", 124)
    assert driver.loaded == "580.159.04"


def test_few_processes(tmp_path: Path) -> None:
    """At most a hundred processes: every tool of the host notes its start."""
    tree = Tree(tmp_path / "host")
    tree.h200()
    kubeadm(tree)
    for n in range(10):
        tree.file(f"/etc/containerd/conf.d/{n}.toml", "")
    log = tree.root / "started"
    for tool in list(tree.bin.iterdir()):
        tool.rename(tree.bin / f".{tool.name}")
        tool.write_text(f'#!/bin/sh\necho {tool.name} >>{log}\nexec {tree.bin}/.{tool.name} "$@"\n')
        tool.chmod(0o755)
    probed(tree)
    started = log.read_text().split()
    assert len(started) <= 100, sorted(started)


def test_on_this_machine() -> None:
    """The real thing on whatever runs the tests: complete, quick, and no word on standard error."""
    done = subprocess.run(
        ["sh", "-s"], input=render(probe_script(), "TOKEN123"), capture_output=True, timeout=60, check=True
    )
    probe = parse_probe(done.stdout)
    assert not any(u.what in ("everything", "the rest of the host") for u in probe.facts.unseen)
    assert probe.facts.hostname == os.uname().nodename.lower() or probe.facts.hostname == os.uname().nodename
    assert probe.facts.kernel.release == os.uname().release
    assert done.stderr.decode().strip() == "TOKEN123"


@pytest.mark.parametrize("name", [*PARTS, "probe-start.sh", "metrics.sh"])
def test_scripts_only_define_functions(name: str) -> None:
    text = asset(f"remote/{name}").read_text()
    outside = re.sub(r"^\w+\(\) \{.*?^\}$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert [line for line in outside.splitlines() if line.strip() and not line.startswith("#")] == []
    assert "# Not POSIX:" in text
