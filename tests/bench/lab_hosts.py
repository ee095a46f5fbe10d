"""Lab hosts for the benchmarks: many at once, alike or each a little different, with Python where a peer needs it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.lab.harness.base import Base, build_bases, lab_directory, mirror, proxy_environment
from tests.lab.harness.disk import HostSpec
from tests.lab.harness.host import LabHost
from tests.lab.harness.lab import Lab
from tests.lab.harness.recipe import SUITES
from tests.lab.harness.shell import LabError, call

__all__ = ["Fleet", "lab_fleet"]

_AT_ONCE = 8
_CURVE = "  KexAlgorithms curve25519-sha256\n"
"""One key exchange for all: OpenSSH's own first choice costs the client ten times more (`speed.md`)."""
_NO_SESSIONS = "sed -i /pam_systemd/d /etc/pam.d/common-session; systemctl stop 'user@*' 2>/dev/null; true"
"""Else the first login in ten seconds starts a service manager for the user, which costs more than all that any tool
asks and hides what they differ in."""
_DIFFER = r"""
n=$1
config=/etc/containerd/config.toml
sed -i -e "s/^\( *oom_score = \).*/\1-$n/" -e "s|pause:3[0-9.]*|pause:3.$n|" $config
printf '\n# host %s\n' "$n" >>$config
mkdir -p /etc/containerd/certs.d
sed -i "s/--/--node-labels=rack=r$n --/" /var/lib/kubelet/kubeadm-flags.env
printf '# host %s\n' "$n" >>/etc/nvidia-container-runtime/config.toml
printf 'BUILD_ID=%s\n' "$n" >>/etc/os-release
systemctl restart containerd kubelet
"""
"""Makes host $1 differ from the others in every file that a probe brings and in what containerd makes of them."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Hosts that run. `ssh_config` names them all and fixes the key exchange for OpenSSH."""

    lab: Lab
    hosts: tuple[LabHost, ...]
    ssh_config: Path

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts' names, all in `ssh_config`."""
        return tuple(host.name for host in self.hosts)

    def cpu(self) -> float:
        """CPU seconds that the hosts have used so far, all together."""
        return sum(host.cpu_seconds() for host in self.hosts)


@contextmanager
def lab_fleet(
    count: int, *, python: bool = False, varied: bool = False, suites: tuple[str, ...] = SUITES
) -> Iterator[Fleet]:
    """`count` hosts, `suites` in turn, ended afterwards. Needs root on Debian (tests/lab/README.md)."""
    directory = lab_directory()
    bases = build_bases(suites, directory, print)
    if python:
        bases = {suite: _with_python(base, directory) for suite, base in bases.items()}
    lab = Lab(bases, directory)
    try:
        specs = [HostSpec(f"h{n:03d}", suites[n % len(suites)]) for n in range(count)]
        hosts: list[LabHost] = []
        for start in range(0, count, _AT_ONCE):
            hosts += lab.start(specs[start : start + _AT_ONCE])
        for number, host in enumerate(hosts):
            host.run(_NO_SESSIONS)
            if varied:
                host.run(f"set -- {number + 1}\n{_DIFFER}")
        config = lab.folder / "bench_ssh_config"
        config.write_text(f"{lab.ssh_config.read_text()}  User admin\n{_CURVE}")
        yield Fleet(lab, tuple(hosts), config)
    finally:
        lab.close()


def _with_python(base: Base, directory: Path) -> Base:
    """`base` with Python over it, in a layer that is kept: Ansible runs nothing without it."""
    layer = directory / "bench" / f"{base.layers[0].name}-python"
    if not layer.exists():
        _install_python(base, layer)
    return replace(base, layers=(layer, *base.layers))


def _install_python(base: Base, layer: Path) -> None:
    where = mirror()
    if where is None:
        raise LabError("this machine's apt sources name no mirror that Python could come from")
    work = layer.with_suffix(".work")
    shutil.rmtree(work, ignore_errors=True)
    for name in ("upper", "work", "root"):
        (work / name).mkdir(parents=True)
    root = work / "root"
    lower = ":".join(map(str, base.layers))
    options = f"lowerdir={lower},upperdir={work / 'upper'},workdir={work / 'work'}"
    call("mount", "-t", "overlay", "gpuwizard-lab", "-o", options, root)
    try:
        (root / "etc/apt/sources.list").write_text(f"deb {where} {base.suite} main\n")
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        apt = "apt-get -q -y -o Acquire::Check-Valid-Until=false"
        script = f"{apt} update && {apt} install --no-install-recommends python3-minimal python3 && apt-get clean"
        environment = dict(proxy_environment(), PATH="/usr/sbin:/usr/bin:/sbin:/bin")
        call("chroot", root, "/bin/sh", "-ec", script, env=environment, timeout=600)
        os.truncate(root / "etc/resolv.conf", 0)
        shutil.rmtree(root / "var/lib/apt/lists")
    finally:
        call("umount", root)
    (work / "upper").rename(layer)
    shutil.rmtree(work)
