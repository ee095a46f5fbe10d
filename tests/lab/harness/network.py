"""The lab's network: a bridge in a namespace of its own, one namespace per host, a free 10.x range, nothing routed out.

The machine itself is 10.N.0.1. A second bridge, which the machine has no address on, carries hosts that only another
host can reach.
"""

import json
import socket
import time
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from tests.lab.harness.shell import LabError, call

__all__ = ["Network", "is_free", "remove"]

_LIMITS = {
    "fs/inotify/max_user_instances": 8192,
    "fs/inotify/max_user_watches": 524288,
    "kernel/keys/maxkeys": 20000,
}


def is_free(slot: int) -> bool:
    """True when no address and no route of this machine touches 10.SLOT.0.0/16."""
    wanted = ip_network(f"10.{slot}.0.0/16")
    addresses = json.loads(call("ip", "-j", "-4", "addr") or "[]")
    routes = json.loads(call("ip", "-j", "-4", "route", "show", "table", "all") or "[]")
    taken = [f"{info['local']}/{info['prefixlen']}" for link in addresses for info in link.get("addr_info", ())]
    taken += [route["dst"] for route in routes if route["dst"] != "default"]
    return not any(ip_network(text, strict=False).overlaps(wanted) for text in taken)


def remove(slot: int) -> None:
    """Delete the namespaces and the link of a lab, as far as they exist."""
    folder = Path("/run/netns")
    for space in [*folder.glob(f"gwlab{slot}-*"), *folder.glob(f"gwlab{slot}")]:
        call("ip", "netns", "del", space.name)
    if Path(f"/sys/class/net/gwlab{slot}").exists():
        call("ip", "link", "del", f"gwlab{slot}")


@dataclass(frozen=True, slots=True)
class Network:
    """One lab's network; `slot` is the N of 10.N."""

    slot: int

    @property
    def switch(self) -> str:
        """Name of the namespace with the bridges."""
        return f"gwlab{self.slot}"

    def namespace(self, host: str) -> str:
        """Name of a host's network namespace."""
        return f"gwlab{self.slot}-{host}"

    def address(self, port: int, *, back: bool = False) -> str:
        """The address of the host at `port` on the front or the back bridge; ports are used once, 1 to 25599."""
        return f"10.{self.slot}.{128 * back + port // 200}.{10 + port % 200}"

    def create(self) -> None:
        """Make the bridges and this machine's own link. Raises LabError."""
        _raise_limits()
        call("ip", "netns", "add", self.switch)
        self._batch(
            None,
            f"link add gwlab{self.slot} type veth peer name uplink netns {self.switch}",
            f"addr add 10.{self.slot}.0.1/17 dev gwlab{self.slot}",
            f"link set gwlab{self.slot} up",
        )
        self._batch(
            self.switch,
            "link set lo up",
            "link add front type bridge",
            "link set front up",
            "link add back type bridge",
            "link set back up",
            "link set uplink master front",
            "link set uplink up",
        )

    def attach(self, host: str, port: int, *, front: bool, back: bool) -> None:
        """Make the namespace of `host` with a cable to each bridge that is wanted."""
        space = self.namespace(host)
        call("ip", "netns", "add", space)
        self._batch(space, "link set lo up")
        cables = [("front", "eth0", False)] * front + [("back", "eth1" if front else "eth0", True)] * back
        for bridge, device, is_back in cables:
            cable = f"{bridge[0]}{port}"
            self._batch(
                self.switch,
                f"link add {cable} type veth peer name {device} netns {space}",
                f"link set {cable} master {bridge}",
                f"link set {cable} up",
            )
            self._batch(space, f"addr add {self.address(port, back=is_back)}/17 dev {device}", f"link set {device} up")

    def detach(self, host: str) -> None:
        """Delete the namespace of `host` and its cables."""
        call("ip", "netns", "del", self.namespace(host))

    def set_cable(self, port: int, *, front: bool, up: bool) -> None:
        """Take the cable out (the host keeps its address and notices nothing), or put it back."""
        self._batch(self.switch, f"link set {'f' if front else 'b'}{port} {'up' if up else 'down'}")

    def wait_cabled(self, port: int, *, timeout: float = 15.0) -> None:
        """Return when the host at `port` answers again, be it with a refusal: a bridge takes a moment to notice."""
        address, deadline = self.address(port), time.monotonic() + timeout
        while time.monotonic() < deadline:
            call("ip", "neigh", "flush", "to", address)
            try:
                socket.create_connection((address, 22), 0.3).close()
            except ConnectionRefusedError:
                return
            except OSError:
                continue
            return
        raise LabError(f"{address} does not answer {timeout:.0f} s after its cable was put back")

    @staticmethod
    def _batch(space: str | None, *lines: str) -> None:
        call("ip", *(["-n", space] if space else []), "-batch", "-", stdin="\n".join(lines) + "\n")


def _raise_limits() -> None:
    """Each systemd needs inotify instances and keys; the defaults are enough for about ten."""
    for name, wanted in _LIMITS.items():
        path = Path("/proc/sys") / name
        if int(path.read_text()) < wanted:
            try:
                path.write_text(str(wanted))
            except OSError as problem:
                raise LabError(f"cannot set {path} to {wanted}: {problem}") from problem
