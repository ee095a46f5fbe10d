"""The disk of one host: an overlay over its base, with what makes it this host and what its role asks for."""

import platform
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.lab.harness.base import Base
from tests.lab.harness.hardware import DRIVER_VERSION
from tests.lab.harness.module import module_file
from tests.lab.harness.recipe import IMAGE
from tests.lab.harness.shell import LabError, call

__all__ = ["HostSpec", "lay_out", "mount_overlay", "new_key"]


@dataclass(frozen=True, slots=True)
class HostSpec:
    """What a host is to be. `files` lie on its disk before it boots; None removes a path.

    `hidden` puts it on the back bridge alone, `gateway` on both. `init` none: sshd and containerd run without systemd.
    """

    name: str
    suite: str
    gpu: bool = True
    kubeadm: bool = True
    sudo: Literal["sudo", "sudo-rs"] = "sudo"
    hidden: bool = False
    gateway: bool = False
    init: Literal["systemd", "none"] = "systemd"
    files: Mapping[str, bytes | None] = field(default_factory=dict)


def new_key(path: Path, comment: str) -> None:
    """Make an ed25519 key pair without passphrase at `path` and `path`.pub."""
    making = path.with_name(f"{path.name}.making")
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", making)
    for end in ("", ".pub"):  # others list the keys of all hosts meanwhile
        making.with_name(making.name + end).rename(path.with_name(path.name + end))


def mount_overlay(folder: Path, base: Base) -> Path:
    """Mount the host's disk at ``folder/root``; what the host writes stays in ``folder/upper``."""
    for name in ("upper", "work", "root", "containerd"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    lower = ":".join(str(layer) for layer in base.layers)
    options = f"lowerdir={lower},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    call("mount", "-t", "overlay", "gpuwizard-lab", "-o", options, folder / "root")
    return folder / "root"


def lay_out(root: Path, spec: HostSpec, base: Base, address: str, keys: Path, logins: str) -> None:
    """Write into the mounted disk what makes it this host. `logins` are the public keys of root, admin, ops, guest;
    `keys` is the private host key."""
    _put(root, "/etc/hostname", f"{spec.name}\n".encode())
    _put(root, "/etc/hosts", f"127.0.0.1 localhost\n{address} {spec.name}\n".encode())
    _put(root, "/etc/machine-id", f"{uuid.uuid4().hex}\n".encode())
    _put(root, "/etc/ssh/ssh_host_ed25519_key", keys.read_bytes(), 0o600)
    _put(root, "/etc/ssh/ssh_host_ed25519_key.pub", keys.with_suffix(".pub").read_bytes())
    _copy_image(root, "common")
    wants = root / "etc/systemd/system/sysinit.target.requires"
    wants.mkdir(parents=True)
    (wants / "lab-hardware.service").symlink_to("/usr/lib/systemd/system/lab-hardware.service")
    for home in ("root", "home/admin", "home/ops", "home/guest"):
        owner = (root / home).stat()
        allowed = _put(root, f"/{home}/.ssh/authorized_keys", logins.encode(), 0o600)
        shutil.chown(allowed, owner.st_uid, owner.st_gid)
    if spec.sudo == "sudo-rs":
        _replace_sudo(root)
    if spec.gpu:
        _add_gpu_software(root)
    if spec.kubeadm:
        _add_kubeadm(root, base)
    for path, content in spec.files.items():
        if content is None:
            (root / path.lstrip("/")).unlink()
        else:
            _put(root, path, content)


def _put(root: Path, path: str, content: bytes, mode: int = 0o644) -> Path:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    target.chmod(mode)
    return target


def _copy_image(root: Path, name: str) -> None:
    """Copy a tree of stand-ins; programs are executable, whatever the checkout made of their modes."""
    for source in sorted(p for p in (IMAGE / name).rglob("*") if p.is_file()):
        path = source.relative_to(IMAGE / name)
        _put(root, f"/{path}", source.read_bytes(), 0o755 if path.parent.name == "bin" else 0o644)


def _replace_sudo(root: Path) -> None:
    if not (root / "usr/lib/cargo/bin/sudo").exists():
        raise LabError(f"no sudo-rs in {root}")
    (root / "usr/bin/sudo").unlink()
    (root / "usr/bin/sudo").symlink_to("../lib/cargo/bin/sudo")


def _add_gpu_software(root: Path) -> None:
    """nvidia-smi, the driver's library by its name, its module on disk, device nodes, and the container toolkit."""
    _copy_image(root, "gpu")
    libraries = next(p for p in (root / "usr/lib").glob("*-linux-gnu*") if (p / "libc.so.6").exists())
    name = f"libnvidia-ml.so.{DRIVER_VERSION}"
    (libraries / name).touch()
    (libraries / "libnvidia-ml.so.1").symlink_to(name)
    kernel = platform.release()
    module = module_file(version=DRIVER_VERSION, license="Dual MIT/GPL", vermagic=f"{kernel} SMP")
    _put(root, f"/lib/modules/{kernel}/updates/dkms/nvidia.ko", module)
    call("chroot", root, "depmod", kernel)
    nodes = "".join(f"c /dev/{n} 0666 root root - 195:{minor}\n" for n, minor in (("nvidia0", 0), ("nvidiactl", 255)))
    _put(root, "/etc/tmpfiles.d/nvidia.conf", nodes.encode())


def _add_kubeadm(root: Path, base: Base) -> None:
    """A kubelet that stays up, and the containerd configuration of a node that kubeadm joined."""
    _copy_image(root, "kubeadm")
    wants = root / "etc/systemd/system/multi-user.target.wants"
    (wants / "kubelet.service").symlink_to("/usr/lib/systemd/system/kubelet.service")
    minor = re.match(r"\d+\.\d+", base.containerd)
    own = IMAGE / "containerd" / f"{minor.group() if minor else ''}.toml"
    if own.exists():
        text = own.read_text()
    else:
        text = call("chroot", root, "containerd", "config", "default")
        text = text.replace("SystemdCgroup = false", "SystemdCgroup = true")
    _put(root, "/etc/containerd/config.toml", text.encode())
