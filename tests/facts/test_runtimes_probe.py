"""Runtimes as the real probe finds them on hosts in a folder, in three shells (`runtimes.md §8-§10`)."""

import os
import re
from pathlib import Path

import pytest

from gpuwizard.facts.model import Probe, RuntimeFacts
from gpuwizard.facts.parse import parse_probe
from gpuwizard.work.probe import probe_script
from tests.probe_tree import SHELLS, Tree

CONFIG = """\
version = 2
imports = ["/etc/containerd/conf.d/*.toml", "/etc/containerd/gone.toml"]
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
  BinaryName = "/usr/local/nvidia/toolkit/nvidia-container-runtime"
"""
DUMP = """\
version = 2
[grpc]
  address = "/run/second/containerd.sock"
[debug]
  address = "/run/wrong.sock"
[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    enable_cdi = true
    cdi_spec_dirs = ["/etc/cdi"]
    sandbox_image = "registry.example/pause:3.9"
    [plugins."io.containerd.grpc.v1.cri".containerd]
      default_runtime_name = "runc"
      snapshotter = "overlayfs"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
        runtime_type = "io.containerd.runc.v2"
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
          BinaryName = ""
          SystemdCgroup = true
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
        runtime_type = "io.containerd.runc.v2"
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
          BinaryName = "/usr/local/nvidia/toolkit/nvidia-container-runtime"
          SystemdCgroup = true
"""
DUMP_4 = """\
version = 4
[plugins]
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = 'runc'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
  [plugins.'io.containerd.server.v1.grpc']
    address = '/run/four/containerd.sock'
  [plugins.'io.containerd.server.v1.grpc-tcp']
    address = '/run/wrong.sock'
"""


@pytest.fixture(params=SHELLS)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path / "host", request.param)


def probed(tree: Tree) -> Probe:
    raw = tree.run(probe_script())
    assert not tree.left_over()
    return parse_probe(raw)


def containerd(tree: Tree, dump: str = DUMP, version: str = "1.7.24") -> None:
    tree.file("/data/dump", dump)
    tree.tool(
        "containerd",
        f"case $* in --version) echo 'containerd containerd.io v{version} abc' ;; "
        f"*'config dump') cat {tree.root}/data/dump ;; *) exit 1 ;; esac",
    )


def one(probe: Probe, kind: str, **wanted: object) -> RuntimeFacts:
    found = [
        r for r in probe.facts.runtimes if r.kind == kind and all(getattr(r, name) == it for name, it in wanted.items())
    ]
    assert len(found) == 1, [(r.kind, r.config_path) for r in probe.facts.runtimes]
    return found[0]


def test_a_dump_says_it_all(tree: Tree) -> None:
    containerd(tree)
    tree.file("/etc/containerd/config.toml", CONFIG)
    tree.process(70, "/usr/bin/containerd", unit="containerd.service")
    tree.units(
        {"containerd.service": "ActiveState=active\nSubState=running\nMainPID=70\nNRestarts=7\nNeedDaemonReload=yes"}
    )
    probe = probed(tree)
    runtime = one(probe, "containerd")
    assert (runtime.cdi, runtime.cdi_spec_dirs) == (True, ("/etc/cdi",))
    assert (runtime.sandbox_image, runtime.snapshotter) == ("registry.example/pause:3.9", "overlayfs")
    assert (runtime.systemd_cgroup, runtime.restarts, runtime.needs_daemon_reload) == (True, 7, True)
    assert runtime.service is not None
    assert (runtime.service.sub, runtime.in_path, runtime.refused) == ("running", True, False)
    assert runtime.socket == "/run/second/containerd.sock"
    assert dict(runtime.missing_binaries) == {"nvidia": "/usr/local/nvidia/toolkit/nvidia-container-runtime"}
    (missing,) = [w for w in runtime.warnings if w.kind == "missing-import"]
    assert (missing.line, "/etc/containerd/gone.toml" in missing.text) == (2, True)
    assert probe.files["/etc/containerd/gone.toml"].content is None


def test_the_socket_of_version_4(tree: Tree) -> None:
    containerd(tree, DUMP_4, "2.3.2")
    tree.file("/etc/containerd/config.toml", "version = 3\n")
    tree.process(70, "/usr/bin/containerd")
    assert one(probed(tree), "containerd").socket == "/run/four/containerd.sock"


def test_a_program_that_is_there_is_not_missing(tree: Tree) -> None:
    containerd(tree)
    tree.file("/etc/containerd/config.toml", CONFIG)
    tree.file("/usr/local/nvidia/toolkit/nvidia-container-runtime", "", 0o755)
    tree.process(70, "/usr/bin/containerd")
    assert one(probed(tree), "containerd").missing_binaries == {}


def test_two_containerds_by_their_own_arguments(tree: Tree) -> None:
    containerd(tree)
    tree.file("/etc/containerd/config.toml", "version = 2\n")
    tree.file("/etc/kube/containerd.toml", "version = 2\n")
    tree.process(70, "/usr/bin/containerd", unit="containerd.service")
    tree.process(
        80, "/opt/kube/containerd", "--config=/etc/kube/containerd.toml", "-a", "/run/kube.sock", unit="kube-c.service"
    )
    tree.process(90, "/usr/bin/kubelet", "--container-runtime-endpoint=unix:///run/kube.sock", unit="kubelet.service")
    tree.units({"kubelet.service": "ActiveState=active\nMainPID=90"})
    probe = probed(tree)
    kubelets = one(probe, "containerd", used_by_kubelet=True)
    assert (kubelets.config_path, kubelets.pid, kubelets.unit) == ("/etc/kube/containerd.toml", 80, "kube-c.service")
    other = one(probe, "containerd", used_by_kubelet=False)
    assert (other.config_path, other.pid) == ("/etc/containerd/config.toml", 70)


def test_questions_to_containerd_are_no_daemons(tree: Tree) -> None:
    containerd(tree)
    tree.file("/etc/containerd/config.toml", "version = 2\n")
    tree.process(70, "/usr/bin/containerd", unit="containerd.service")
    tree.process(71, "/usr/bin/containerd", unit="containerd.service")  # just forked, and not yet another program
    tree.process(72, "/usr/bin/containerd", "--address", "/run/x.sock", "publish", "--topic", "/tasks/exit")
    tree.process(73, "/usr/bin/containerd", "--config", "/tmp/try.toml", "config", "dump")
    tree.process(74, "containerd", "--version")
    probe = probed(tree)
    assert one(probe, "containerd").pid == 70
    assert "/tmp/try.toml" not in probe.files


def test_one_that_is_stopped_has_the_configuration_of_its_unit(tree: Tree) -> None:
    containerd(tree)
    tree.file("/etc/containerd/site.toml", "version = 2\n")
    tree.units(
        {
            "docker.service": "ExecStart={ path=/usr/bin/dockerd ; argv[]=/usr/bin/dockerd -H fd:// ; }",
            "containerd.service": "ActiveState=inactive\nMainPID=0\n"
            "FragmentPath=/lib/systemd/system/containerd.service\n"
            "ExecStart={ path=/usr/bin/containerd ; argv[]=/usr/bin/containerd -c /etc/containerd/site.toml ; x=y }",
        }
    )
    runtime = one(probed(tree), "containerd")
    assert (runtime.config_path, runtime.running, runtime.pid) == ("/etc/containerd/site.toml", False, None)
    assert (runtime.version, runtime.unit) == ("1.7.24", "containerd.service")


def test_files_after_the_start_are_not_what_runs(tree: Tree) -> None:
    containerd(tree)
    config = tree.file("/etc/containerd/config.toml", "version = 2\n")
    tree.process(70, "/usr/bin/containerd", unit="containerd.service")
    tree.folder("/proc/self")
    now = int((tree.root / "proc/self").stat().st_mtime)
    # up for 1000 s, and the process began 100 s after the boot: 900 s ago
    tree.file("/proc/70/stat", "70 (contai ner)) S " + " ".join(["1"] * 18) + " 10000 0 0\n")
    os.utime(config, (now - 100, now - 100))
    assert one(probed(tree), "containerd").config_newer_than_process is True
    os.utime(config, (now - 2000, now - 2000))  # its time was set, but it was touched just now: not known
    assert one(probed(tree), "containerd").config_newer_than_process is None
    tree.file("/proc/70/stat", "70 (containerd) S " + " ".join(["1"] * 18) + " 100500 0 0\n")  # it begins in 5 s
    assert one(probed(tree), "containerd").config_newer_than_process is None  # a container's uptime: not the host's


def test_docker_by_its_flags(tree: Tree) -> None:
    tree.tool("dockerd", "echo 'Docker version 28.2.2, build 1234567'")
    tree.file(
        "/srv/docker.json",
        '{"hosts": ["unix:///run/d.sock"], "default-runtime": "nvidia",\n'
        ' "runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}, "features": {"cdi": false},\n'
        ' "exec-opts": ["native.cgroupdriver=cgroupfs"]}\n',
    )
    tree.process(50, "/usr/bin/dockerd", "-H", "fd://", "--config-file", "/srv/docker.json", unit="docker.service")
    docker = one(probed(tree), "docker")
    assert (docker.config_path, docker.socket, docker.default_handler) == ("/srv/docker.json", "/run/d.sock", "nvidia")
    assert (docker.cdi, docker.systemd_cgroup, docker.running) == (False, False, True)
    assert dict(docker.missing_binaries) == {"nvidia": "nvidia-container-runtime"}
    (warning,) = docker.warnings
    assert (warning.kind, warning.line, '"hosts"' in warning.text) == ("flag-and-file", 1, True)


def test_rootless_docker_is_not_the_hosts(tree: Tree) -> None:
    tree.process(50, "dockerd", "--config-file", "/home/u/daemon.json")
    tree.file("/proc/50/status", "Name:\tdockerd\nUid:\t1000\t1000\t1000\t1000\n")
    tree.file("/home/u/daemon.json", "{}")
    probe = probed(tree)
    assert probe.facts.runtimes == ()
    assert "/home/u/daemon.json" not in probe.files


def test_crio_reads_every_file_of_its_folder(tree: Tree) -> None:
    tree.tool("crio", "echo 'crio version 1.33.2'")
    tree.file("/etc/crio/crio.conf", '[crio.runtime]\ndefault_runtime = "crun"\ncgroup_manager = "cgroupfs"\n')
    tree.file(
        "/etc/crio/crio.conf.d/10-crio.conf",
        '[crio.runtime]\ndefault_runtime = "runc"\n'
        '[crio.runtime.runtimes.runc]\nruntime_path = "/usr/libexec/crio/runc"\n',
    )
    tree.file("/etc/crio/crio.conf.d/sub/99-nvidia.conf.bak", '[crio.runtime]\ndefault_runtime = "nvidia"\n')
    tree.file(
        "/etc/crio/crio.conf.d/.hidden",
        '[crio.runtime.runtimes.nvidia]\nruntime_path = "/usr/bin/nvidia-container-runtime"\n',
    )
    tree.file("/etc/crio/conf.d/99-nvidia.toml", "")
    tree.file("/usr/libexec/crio/runc", "", 0o755)
    tree.process(60, "/usr/bin/crio", unit="crio.service")
    runtime = one(probed(tree), "crio")
    folder = "/etc/crio/crio.conf.d"
    assert runtime.config_files == (
        "/etc/crio/crio.conf",
        f"{folder}/.hidden",
        f"{folder}/10-crio.conf",
        f"{folder}/sub/99-nvidia.conf.bak",
    )
    assert (runtime.default_handler, set(runtime.handlers)) == ("nvidia", {"nvidia", "runc", "crun"})
    assert (runtime.systemd_cgroup, runtime.cdi, runtime.version) == (False, True, "1.33.2")
    assert dict(runtime.missing_binaries) == {"nvidia": "/usr/bin/nvidia-container-runtime"}
    assert {(w.kind, w.path) for w in runtime.warnings} == {
        ("backup", f"{folder}/sub/99-nvidia.conf.bak"),
        ("unread", "/etc/crio/conf.d/99-nvidia.toml"),
    }


def test_podman_is_there_or_not(tree: Tree) -> None:
    tree.tool("podman", "exit 0")
    assert one(probed(tree), "podman").used_by_kubelet is False


def test_dot_files_are_imported_and_other_patterns_are_names(tree: Tree) -> None:
    containerd(tree)
    tree.file("/etc/containerd/config.toml", 'version = 2\nimports = ["conf.d/*.toml", "/etc/containerd/[ab].toml"]\n')
    tree.file("/etc/containerd/conf.d/.hidden.toml", "version = 2\n")
    tree.file("/etc/containerd/a.toml", "version = 2\n")
    tree.process(70, "/usr/bin/containerd")
    probe = probed(tree)
    runtime = one(probe, "containerd")
    assert runtime.config_files == ("/etc/containerd/config.toml", "/etc/containerd/conf.d/.hidden.toml")
    assert [w.kind for w in runtime.warnings] == ["missing-import"]
    assert "/etc/containerd/a.toml" not in probe.files


def test_large_files_are_named_and_not_sent(tree: Tree) -> None:
    containerd(tree)
    tree.file("/etc/containerd/config.toml", 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n')
    tree.file("/etc/containerd/conf.d/1-big.toml", b"#" * (1 << 20) + b"\n")
    tree.file("/etc/containerd/conf.d/2-empty.toml", b"")
    tree.file("/etc/containerd/conf.d/3-odd.toml", bytes(range(256)) + b"\n==> /etc/containerd/config.toml <==\n")
    tree.process(70, "/usr/bin/containerd")
    probe = probed(tree)
    assert "1048577 bytes" in {u.what: u.why for u in probe.facts.unseen}["/etc/containerd/conf.d/1-big.toml"]
    assert "/etc/containerd/conf.d/1-big.toml" not in probe.files
    contents = {p.rpartition("/")[2]: f.content.raw for p, f in probe.files.items() if f.content is not None}
    assert contents["2-empty.toml"] == b""
    assert contents["3-odd.toml"] == bytes(range(256)) + b"\n==> /etc/containerd/config.toml <==\n"
    assert contents["config.toml"].startswith(b"version = 2")


def test_several_symlinks(tree: Tree) -> None:
    containerd(tree)
    tree.file("/etc/containerd/config.toml", 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n')
    for name in ("one", "two"):
        tree.file(f"/srv/{name}.toml", f"# {name}\n")
        tree.link(f"/etc/containerd/conf.d/{name}.toml", str(tree.root / f"srv/{name}.toml"))
    tree.process(70, "/usr/bin/containerd")
    files = probed(tree).files
    assert {name: files[f"/etc/containerd/conf.d/{name}.toml"].target for name in ("one", "two")} == {
        "one": "/srv/one.toml",
        "two": "/srv/two.toml",
    }


def test_hundreds_of_processes_are_searched_by_one_tool(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "host")
    containerd(tree)
    for pid in range(1000, 1300):
        tree.process(pid, "/usr/bin/containerd-shim-runc-v2")
    tree.process(70, "/usr/bin/containerd")
    assert one(probed(tree), "containerd").pid == 70  # without grep
    tree.tool("grep", f'echo x >>{tree.root}/data/grep; exec /usr/bin/env PATH=/usr/bin:/bin grep "$@"')
    assert one(probed(tree), "containerd").pid == 70
    assert (tree.root / "data/grep").exists()


def test_the_version_of_the_package_that_put_it_there(tmp_path: Path) -> None:
    """Another process is spared where dpkg's list and the program came at the same time."""
    tree = Tree(tmp_path / "host")
    containerd(tree, version="9.9.9")
    tree.file("/usr/bin/containerd", "", 0o755)
    tree.file("/var/lib/dpkg/status", "x")
    tree.file("/var/lib/dpkg/info/containerd.io.list", "")
    tree.tool("dpkg-query", "echo 'install installed containerd.io 1.7.27-1'")
    tree.process(70, "/usr/bin/containerd")
    (tree.root / "proc/70/exe").symlink_to("/usr/bin/containerd")
    raw = tree.run(probe_script())
    runtime = one(parse_probe(raw), "containerd")
    # below a root for tests programs are called by name, so the version is asked for all the same
    assert (runtime.version, runtime.package) == ("9.9.9", "containerd.io 1.7.27-1")
    moved = re.sub(rb"\npackage=\n", rb"\npackage=containerd.io\n", raw)
    moved = re.sub(rb"@@ (containerd:70 0) (\d+)", lambda m: b"@@ %s %d" % (m[1], int(m[2]) + 13), moved)
    assert one(parse_probe(moved), "containerd").version == "1.7.27"
