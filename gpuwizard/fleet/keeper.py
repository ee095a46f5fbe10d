"""The process that all processes of simulated hosts descend from: it dies with the fleet, and they die with it.

For each host it forks a small parent behind the host's walls, which forks whatever runs on that host. Both speak
lines of JSON over a socket that the fleet holds. Stands alone (standard library only): the fleet starts it as
``python -I -S``.
"""

import array
import ctypes
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from gpuwizard.fleet.sandbox import Walls, command_prefix, enclose, enclose_further

__all__ = ["main"]

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_MOST_DESCRIPTORS = 8


class _Line:
    """Requests on a socket, each a line of JSON with the descriptors that came along."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self._rest = b""
        self._descriptors: list[int] = []

    def receive(self) -> list[dict[str, Any]] | None:
        """The requests that have arrived; None when the other side is gone."""
        try:
            data, extra, _, _ = self.link.recvmsg(65536, socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4))
        except ConnectionError:
            return None
        for level, kind, payload in extra:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                self._descriptors.extend(numbers)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def take(self, count: int) -> list[int]:
        """The next descriptors that were sent."""
        taken, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        return taken

    def send(self, message: dict[str, Any]) -> None:
        try:
            self.link.sendall(json.dumps(message).encode() + b"\n")
        except ConnectionError:
            return


def main() -> None:
    """Run the keeper over standard input, which is a socket."""
    line = _Line(socket.socket(fileno=os.dup(0)))
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    hosts: dict[str, int] = {}

    def requested() -> bool:
        messages = line.receive()
        for message in messages or ():
            name = str(message["host"])
            if message["op"] == "open":
                (descriptor,) = line.take(1)
                hosts[name] = _fork_host(Walls(**message["walls"]), socket.socket(fileno=descriptor), line)
            elif name in hosts:
                os.kill(hosts[name], signal.SIGKILL)
        return messages is not None

    def ended(pid: int, _status: int) -> None:
        for name in [n for n, p in hosts.items() if p == pid]:
            del hosts[name]
            _kill_orphans(set(hosts.values()))

    _serve(line.link, requested, ended)
    for pid in hosts.values():
        os.kill(pid, signal.SIGKILL)
    _kill_orphans(set())


def _kill_orphans(spare: set[int]) -> None:
    """End every child but those: what a host leaves behind comes to us. What it started comes after it."""
    while children := _children() - spare:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _children() -> set[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:  # noqa: PTH123 - no pathlib here
            return {int(pid) for pid in file.read().split()}
    except OSError:
        return set()


def _fork_host(walls: Walls, link: socket.socket, control: _Line) -> int:
    pid = os.fork()
    if pid:
        link.close()
    else:
        _guarded(lambda: _host(walls, _Line(link), control))
    return pid


def _guarded(run: Callable[[], None]) -> NoReturn:
    """Run to the end in a forked child; never return into the parent's code."""
    code = 0
    try:
        run()
    except BaseException:  # nothing may unwind into the parent's frames
        traceback.print_exc()
        code = 1
    finally:
        os._exit(code)


def _host(walls: Walls, line: _Line, control: _Line) -> None:
    """The parent of everything that runs on one host."""
    control.link.close()
    keeper = os.getppid()
    os.setsid()
    try:
        enclose(walls)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which clears it
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    except OSError as error:
        line.send({"failed": str(error)})
        return
    if os.getppid() != keeper:
        return
    prefix = command_prefix(walls.tree)
    line.send({"ready": True})
    running: dict[int, int] = {}

    def requested() -> bool:
        messages = line.receive()
        for message in messages or ():
            pid = _spawn(message, line.take(3), prefix, walls)
            running[pid] = message["id"]
            line.send({"id": message["id"], "pid": pid})
        return messages is not None

    def ended(pid: int, status: int) -> None:
        if pid in running:
            line.send({"id": running.pop(pid), "status": os.waitstatus_to_exitcode(status)})

    _serve(line.link, requested, ended)
    for pid in running:
        os.killpg(pid, signal.SIGKILL)


def _spawn(message: dict[str, Any], descriptors: list[int], prefix: list[str], walls: Walls) -> int:
    pid = os.fork()
    if pid:
        for descriptor in descriptors:
            os.close(descriptor)
    else:
        _guarded(lambda: _become_command(message, descriptors, prefix, walls))
    return pid


def _become_command(message: dict[str, Any], descriptors: list[int], prefix: list[str], walls: Walls) -> None:
    signal.set_wakeup_fd(-1)
    for ignored in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT):
        signal.signal(ignored, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.umask(0o022)
    os.chdir(message["cwd"])
    if message["write"] is not None and walls.landlock:
        enclose_further(message["write"], message["read"], walls.landlock)
    argv = [*prefix, *message["argv"]]
    try:
        os.execvpe(argv[0], argv, message["env"])  # noqa: S606 - the whole point of it
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
        os._exit(127)


def _serve(link: socket.socket, requested: Callable[[], bool], ended: Callable[[int, int], None]) -> None:
    """Answer requests and notice ended children until the other side of the socket is gone."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    with selectors.DefaultSelector() as selector:
        selector.register(link, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is link:
                    if not requested():
                        return
                    continue
                os.read(woken, 4096)
                _reap(ended)


def _reap(ended: Callable[[int, int], None]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        ended(pid, status)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main()
