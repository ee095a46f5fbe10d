"""Making and removing the tree of a simulated host: generated files, the author's own laid over, tools, stand-ins."""

import contextlib
import os
import shutil
from pathlib import Path

from gpuwizard.fleet.files import Entry, system_files
from gpuwizard.fleet.kubefiles import K3S_DATA, containerd_version, kubernetes_files
from gpuwizard.fleet.model import HostSpec
from gpuwizard.fleet.tree import Tree

__all__ = ["CONTROL", "build", "remove_tree"]

CONTROL = "/.fleet"  # the folder by which scripts and fleet talk

_REAL = (  # tools of POSIX and their usual company: the real ones, by symlink
    "sh", "awk", "basename", "cat", "cksum", "cmp", "comm", "cp", "csplit", "cut", "dd", "diff", "dirname", "du",
    "echo", "env", "expand", "expr", "false", "find", "fold", "getopt", "grep", "egrep", "fgrep", "head", "join",
    "kill", "ln", "ls", "mkdir", "mkfifo", "mktemp", "mv", "nl", "nohup", "od", "paste", "pathchk", "pr", "printf",
    "pwd", "readlink", "realpath", "rm", "rmdir", "sed", "seq", "sort", "split", "tac", "tail", "tee", "test", "[",
    "touch", "tr", "true", "tsort", "tty", "uniq", "wc", "xargs", "sha256sum", "sha1sum", "md5sum", "base64",
    "timeout", "flock", "setsid",
)  # fmt: skip
_SHELL = ("chown", "chgrp", "date", "df", "hostname", "id", "mount", "sleep", "stat", "sudo", "sync",
          "umount", "uname", "unshare", "whoami", "apt-get", "dmesg")  # fmt: skip
_SPARE = ("sha256sum", "timeout", "setsid")  # in _REAL, and made up for where the machine has none
_ASKED = ("chmod", "systemctl", "systemd-run", "journalctl", "modinfo", "mokutil", "systemd-detect-virt", "getent")
_FOLDERS = (
    ("/tmp", 0o1777), ("/var/tmp", 0o1777),  # noqa: S108 - the simulated host's
    ("/run/lock", 0o1777), ("/run/systemd/system", 0o755), ("/root", 0o700),
    ("/var/log", 0o755), ("/var/lib", 0o755), ("/proc/1", 0o755), ("/dev", 0o755), ("/opt", 0o755),
    ("/usr/local/bin", 0o755), ("/etc/systemd/system", 0o755),
)  # fmt: skip
_PRIVATE = (
    "/etc/rancher", f"{K3S_DATA}/agent", f"{K3S_DATA}/server", "/var/lib/kubelet", "/etc/kubernetes/pki",
    "/var/lib/gpuwizard",
)  # fmt: skip


def build(tree: Tree, spec: HostSpec) -> None:
    """Fill an empty tree. Raises OSError."""
    for path, mode in _FOLDERS:
        tree.make_folder(path, mode)
    if spec.login != "root":
        tree.make_folder(f"/home/{spec.login}", 0o750)
    for alias, target in (("/bin", "usr/bin"), ("/sbin", "usr/bin"), ("/usr/sbin", "bin")):
        tree.make_folder("/usr/bin")
        tree.link(alias, target)
    entries = system_files(spec) | kubernetes_files(spec)
    entries |= _programs(spec)
    for path, entry in entries.items():
        _place(tree, path, entry)
    if spec.files is not None:
        _lay_over(tree, spec.files)
    for path in _PRIVATE:
        if tree.exists(path):
            tree.chmod(path, 0o700)
    _tools(tree, spec)


def _place(tree: Tree, path: str, entry: Entry) -> None:
    if entry.link is not None:
        tree.link(path, entry.link)
    else:
        tree.write(path, entry.data, entry.mode)


def _lay_over(tree: Tree, source: Path) -> None:
    for path in sorted(source.rglob("*")):
        inner = f"/{path.relative_to(source).as_posix()}"
        if path.is_symlink():
            tree.link(inner, str(path.readlink()))
        elif path.is_file():
            tree.write(inner, path.read_bytes(), path.stat().st_mode & 0o777)
        elif path.is_dir():
            tree.make_folder(inner)


def _programs(spec: HostSpec) -> dict[str, Entry]:
    """Programs of this host that ask the fleet."""
    asks = Entry.to(f"../..{CONTROL}/ask")
    names = [*_ASKED]
    if spec.distro.startswith("rocky"):
        names.append("rpm")
    elif spec.distro != "unknown":
        names.append("dpkg-query")
    if spec.driver is not None and spec.driver.userspace:
        names.append("nvidia-smi")
    if spec.toolkit is not None:
        names += ["nvidia-ctk"]
    if spec.kubernetes.flavour == "kubeadm":
        names += ["kubelet", "crictl"]
    if spec.kubernetes.flavour != "k3s" and containerd_version(spec) is not None:
        names += ["containerd", "ctr"]
    programs = {f"/usr/bin/{name}": asks for name in names}
    if spec.kubernetes.flavour == "k3s":
        programs["/usr/local/bin/k3s"] = Entry.to(f"../../..{CONTROL}/ask")
        applet = f"{K3S_DATA}/data/1f2e3d4c5b6a79888f9e0d1c2b3a4958/bin/containerd"
        programs[applet] = Entry.to("../" * (applet.count("/") - 1) + CONTROL[1:] + "/ask")
    return programs


def _tools(tree: Tree, spec: HostSpec) -> None:
    standins = Path(__file__).parent / "standins"
    for name in _REAL:
        found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin:/run/current-system/sw/bin")
        if found is not None:
            tree.link(f"/usr/bin/{name}", found)
        elif name in _SPARE:
            tree.write(f"/usr/bin/{name}", (standins / f"{name}.sh").read_bytes(), 0o755)
    for name in ("sleep", "date", "stat", "head", "mkfifo"):
        found = shutil.which(name, path="/usr/bin:/bin:/usr/local/bin:/run/current-system/sw/bin")
        if found is not None:
            tree.link(f"{CONTROL}/real/{name}", found)
    for name in _SHELL:
        if name == "apt-get" and spec.distro.startswith(("rocky", "unknown")):
            continue
        tree.write(f"/usr/bin/{name}", (standins / f"{name}.sh").read_bytes(), 0o755)
    tree.write(f"{CONTROL}/ask", (standins / "ask.sh").read_bytes(), 0o755)
    tree.link(f"{CONTROL}/now", "ask")
    if os.uname().sysname == "Darwin":  # its own stat takes other options
        tree.link("/usr/bin/stat", f"../..{CONTROL}/ask")
    for folder in ("questions", "answers"):
        tree.make_folder(f"{CONTROL}/{folder}", 0o777)


def remove_tree(folder: Path) -> None:
    """Remove a tree of any modes, following no symlink."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    with contextlib.suppress(PermissionError):
        folder.chmod(0o700)
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            remove_tree(Path(entry.path))
        else:
            Path(entry.path).unlink()
    folder.rmdir()
