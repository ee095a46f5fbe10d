"""One running host: boot it, look into it, take its cable out, crash it, end it."""

import contextlib
import hashlib
import os
import re
import select
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.harness import cgroup
from tests.lab.harness.base import Base
from tests.lab.harness.disk import HostSpec
from tests.lab.harness.network import Network
from tests.lab.harness.shell import LabError, call

__all__ = ["LabHost", "Ran"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BOOT_SECONDS = 60.0
# what runs instead of systemd on a host without it
_NO_INIT = "mkdir -p /run/sshd /run/containerd; containerd >/var/log/containerd.log 2>&1 & exec /usr/sbin/sshd -D"
# every process of sshd except the listener itself
_DROP_LOGINS = """
main=$(systemctl show -P MainPID ssh.service)
for d in /proc/[0-9]*; do
    read -r name <"$d/comm" || continue
    case $name in sshd | sshd-session | sshd-auth) [ "${d#/proc/}" = "$main" ] || kill -KILL "${d#/proc/}" ;; esac
done 2>/dev/null
true
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended inside a host."""

    status: int
    stdout: str
    stderr: str


class LabHost:
    """A booted Debian host. `address` is reachable from this machine unless the host is hidden."""

    def __init__(
        self,
        spec: HostSpec,
        base: Base,
        network: Network,
        port: int,
        folder: Path,
        notify: Path,
        *,
        group: str,
        login: Path,
    ) -> None:
        self.spec = spec
        self.base = base
        self.name = spec.name
        self.suite = spec.suite
        self.containerd = base.containerd
        self.address = network.address(port, back=spec.hidden)
        self.key = login
        self.known_hosts = login.parent / "known_hosts"
        self.folder = folder
        self._network = network
        self.port = port
        self._group = group
        self._notify_path = notify
        self._notify: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._leader: int | None = None
        self._uncabled = False

    @property
    def containerd_minor(self) -> tuple[int, int]:
        """The installed containerd as (major, minor)."""
        match = re.match(r"(\d+)\.(\d+)", self.containerd)
        assert match is not None, self.containerd
        return int(match[1]), int(match[2])

    @property
    def host_key(self) -> str:
        """The public host key: type and key, without a comment."""
        words = (self.folder / "host_key.pub").read_text().split()
        return f"{words[0]} {words[1]}"

    def cpu_seconds(self) -> float:
        """CPU seconds that the host has used so far, all its processes together."""
        return cgroup.cpu_seconds(self._group)

    # ── booting ──────────────────────────────────────────────────────────────────────────────────────────────────

    def boot(self) -> None:
        """Start systemd as PID 1 of the host, or what a host without it runs; `wait_booted` says when it is up."""
        self._notify_path.unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(self._notify_path))
        cgroup.make(self._group)
        nspawn = [
            "systemd-nspawn",
            "--quiet",
            *(("--boot", "--notify-ready=yes") if self.spec.init == "systemd" else ("--as-pid2",)),
            "--register=no",
            "--keep-unit",
            f"--machine=gwlab{self._network.slot}-{self.name}",
            f"--hostname={self.name}",
            f"--directory={self.folder / 'root'}",
            f"--network-namespace-path=/run/netns/{self._network.namespace(self.name)}",
            f"--bind={self.folder / 'containerd'}:/var/lib/containerd",
            f"--bind-ro={self.folder / 'hardware'}:/usr/share/gpuwizard-lab/hardware",
            "--capability=all",
            "--system-call-filter=@keyring bpf",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--console=pipe",
            *(("systemd.show_status=0",) if self.spec.init == "systemd" else ("/bin/sh", "-c", _NO_INIT)),
        ]
        # nspawn with --keep-unit ends with 133 when the host reboots and leaves starting it again to its caller
        loop = f"while :; do {shlex.join(nspawn)}; [ $? = 133 ] || break; done"
        # without this systemd 262 refuses machines that still have version 1 control groups
        environment = dict(os.environ, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1", NOTIFY_SOCKET=str(self._notify_path))
        with (self.folder / "console").open("ab") as console:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", cgroup.join_command(self._group) + loop],
                env=environment,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )

    def wait_booted(self) -> None:
        """Return when the host's own systemd says that it is up. Raises LabError with the console when it is not."""
        assert self._notify is not None
        assert self._process is not None
        deadline = time.monotonic() + _BOOT_SECONDS
        ended = os.pidfd_open(self._process.pid)
        try:
            while True:
                left = deadline - time.monotonic()
                ready, _, _ = select.select([self._notify.fileno(), ended], [], [], max(left, 0))
                if self._notify.fileno() in ready:
                    if self._take(self._notify.recv(4096).decode(errors="replace")):
                        return
                    continue
                console = (self.folder / "console").read_text(errors="replace")[-3000:]
                why = "ended" if ready else f"is not up after {_BOOT_SECONDS:.0f} s"
                raise LabError(f"host {self.name} {why}; its console:\n{console}")
        finally:
            os.close(ended)

    def prove_inside(self) -> None:
        """Raise LabError unless commands really run on this host's disk: they are about to change it as root."""
        own = (self.folder / "root/etc/machine-id").read_bytes()
        if self.read("/etc/machine-id") != own:
            raise LabError(f"commands for host {self.name} would not run on its disk; nothing was run")

    def _take(self, message: str) -> bool:
        """Note the leader's PID; true when the message says that the host is up."""
        fields = dict(line.split("=", 1) for line in message.splitlines() if "=" in line)
        if "X_NSPAWN_LEADER_PID" in fields:
            self._leader = int(fields["X_NSPAWN_LEADER_PID"])
        return fields.get("READY") == "1"

    # ── looking inside ───────────────────────────────────────────────────────────────────────────────────────────

    def run(self, command: str, *, stdin: bytes | str | None = None, check: bool = True, timeout: float = 60.0) -> Ran:
        """Run a shell command as root inside the host, not through its network.

        Raises LabError when it fails (unless `check` is false) or takes longer than `timeout` seconds.
        """
        ran = self._enter(command, stdin.encode() if isinstance(stdin, str) else stdin, timeout)
        done = Ran(ran.returncode, ran.stdout.decode(errors="replace"), ran.stderr.decode(errors="replace"))
        if check and done.status:
            raise LabError(f"{self.name}: {command}: status {done.status}: {done.stderr or done.stdout}")
        return done

    def _enter(self, command: str, stdin: bytes | None, timeout: float) -> "subprocess.CompletedProcess[bytes]":
        if self._leader is None:
            raise LabError(f"host {self.name} is not up")
        spaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        inside = ["env", "-i", f"PATH={_PATH}", "HOME=/root", "LC_ALL=C", "/bin/sh", "-c", command]
        try:
            return subprocess.run(
                ["nsenter", f"--target={self._leader}", *spaces, "--root", "--wd", "--", *inside],
                input=b"" if stdin is None else stdin,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as problem:
            raise LabError(f"{self.name}: {command}: still running after {timeout:.0f} s") from problem

    def wait_until(self, command: str, *, timeout: float = 30.0) -> Ran:
        """Repeat a shell command inside the host until it succeeds. Raises LabError after `timeout` seconds."""
        loop = f"until {{ {command}\n}}; do sleep 0.1; done"
        return self.run(loop, timeout=timeout)

    def read(self, path: str) -> bytes:
        """The bytes of a file of the host."""
        ran = self._enter(f"exec cat -- {shlex.quote(path)}", None, 30)
        if ran.returncode:
            raise LabError(f"{self.name}: {ran.stderr.decode(errors='replace')}")
        return ran.stdout

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file of the host, making its folder."""
        name = shlex.quote(path)
        self.run(f'mkdir -p "$(dirname {name})" && cat >{name} && chmod {mode:o} {name}', stdin=data)

    def exists(self, path: str) -> bool:
        """True when the path exists in the host, be it a dangling link."""
        name = shlex.quote(path)
        return self.run(f"[ -e {name} ] || [ -L {name} ]", check=False).status == 0

    def sha256(self, path: str) -> str:
        """Hexadecimal sha256 of a file of the host."""
        return hashlib.sha256(self.read(path)).hexdigest()

    # ── doing harm ───────────────────────────────────────────────────────────────────────────────────────────────

    def cut(self) -> None:
        """Take the network cable out: connections hang in silence."""
        self._uncabled = True
        self._network.set_cable(self.port, front=not self.spec.hidden, up=False)

    def heal(self) -> None:
        """Put the cable back (also when it never was out) and return when the host answers on it."""
        if not self._uncabled:
            return
        self._network.set_cable(self.port, front=not self.spec.hidden, up=True)
        self._uncabled = False
        if self._leader is not None and not self.spec.hidden:
            self._network.wait_cabled(self.port)

    @contextlib.contextmanager
    def link_cut(self) -> Iterator[None]:
        """The cable is out inside the block."""
        self.cut()
        try:
            yield
        finally:
            self.heal()

    def drop_logins(self) -> None:
        """Kill every SSH session of the host: the connections end at once, the listener stays."""
        self.run(_DROP_LOGINS)

    def reboot(self) -> None:
        """Reboot in good order and return when the host is up again."""
        assert self._notify is not None
        while select.select([self._notify], [], [], 0)[0]:
            self._notify.recv(4096)
        self.run("systemctl reboot", check=False)
        self.wait_booted()

    def crash(self) -> None:
        """End every process at once, as a power loss does, and boot again from the same disk."""
        self._end_processes()
        self.boot()
        self.wait_booted()

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _end_processes(self) -> None:
        cgroup.end(self._group)
        self._leader = None
        if self._process is not None:
            self._process.wait(30)
            self._process = None
        if self._notify is not None:
            self._notify.close()
            self._notify = None
            self._notify_path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Close this process's ends; the lab removes the rest."""
        self._end_processes()

    def destroy(self) -> None:
        """End the host and remove its network, mounts and disk."""
        self._end_processes()
        self._network.detach(self.name)
        call("umount", "--recursive", self.folder / "root")
        shutil.rmtree(self.folder)
