"""Simulated hosts and a simulated cluster: the demo, the tests, and whatever has no GPU at hand.

`open_fleet` gives targets and options with which the rest of the engine logs in as it does anywhere.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import importlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpuwizard.clock import FastClock
    from gpuwizard.fleet.api import SimulatedCluster
    from gpuwizard.fleet.host import SimulatedHost
    from gpuwizard.fleet.model import FleetSpec
    from gpuwizard.fleet.processes import Keeper
    from gpuwizard.fleet.server import HostServer
    from gpuwizard.remote.options import ConnectOptions

__all__ = ["Fleet", "list_fleets", "open_fleet"]


def list_fleets() -> tuple[str, ...]:
    """The names of the fleets that come with the program."""
    from gpuwizard.fleet import model

    return model.list_fleets()


@dataclass(slots=True)
class Fleet:
    """An open fleet.

    `targets` are the names of its hosts, `options` how to log in to them and to nothing else, `kubeconfig` the way to
    its cluster (None of it is written to disk). `state_dir` keeps its runs and its hosts' trees. `can_apply` says why
    nothing may be changed on it; None when it may. `hosts` and `servers` are for tests: power, faults, cut links.
    """

    name: str
    spec: "FleetSpec"
    targets: tuple[str, ...]
    options: "ConnectOptions"
    kubeconfig: dict[str, Any]
    clock: "FastClock"
    state_dir: Path
    can_apply: str | None
    cluster: "SimulatedCluster"
    hosts: "Mapping[str, SimulatedHost]" = field(default_factory=dict)
    servers: "Mapping[str, HostServer]" = field(default_factory=dict)


@asynccontextmanager
async def open_fleet(
    name_or_path: str, *, state_dir: Path, fresh: bool = False, sandboxed: bool = True
) -> AsyncIterator[Fleet]:
    """Bring a fleet up: a built-in one by name, or one of your own by folder or file; at the end all of it is gone.

    What was done to its hosts is kept below `state_dir` until it is opened with `fresh`. `sandboxed` false is for
    tests of machines that have no sandbox. Raises UsageError for a bad description, RefusedError when the fleet is
    open already.
    """
    from gpuwizard.fleet.model import load_fleet
    from gpuwizard.fleet.sandbox import reason_against

    spec = await asyncio.to_thread(load_fleet, name_or_path)
    reason = await asyncio.to_thread(reason_against) if sandboxed else "it was opened without a sandbox"
    async with AsyncExitStack() as stack:
        home = _home(state_dir, name_or_path, spec.name)
        stack.enter_context(_locked(home, spec.name))
        if fresh:
            await asyncio.to_thread(_forget, home)
        yield await _open(spec, home, reason, stack)


async def _open(spec: "FleetSpec", home: Path, reason: str | None, stack: AsyncExitStack) -> Fleet:
    """Start keeper, hosts, servers and cluster, each of which `stack` ends."""
    from gpuwizard.clock import FastClock
    from gpuwizard.fleet.processes import open_keeper
    from gpuwizard.fleet.walls import walls_for
    from gpuwizard.remote.options import ConnectOptions
    from gpuwizard.secret import Secret

    server = await asyncio.to_thread(importlib.import_module, "gpuwizard.fleet.server")
    host_module = await asyncio.to_thread(importlib.import_module, "gpuwizard.fleet.host")
    clock = FastClock(spec.speed)
    keeper = await stack.enter_async_context(open_keeper(home / "keeper.log"))
    line = host_module.describe_clock(spec.speed, time.time(), _uptime())
    walls = await asyncio.to_thread(walls_for, home / "hosts", [h.name for h in spec.hosts], reason)
    hosts: dict[str, SimulatedHost] = {
        h.name: host_module.SimulatedHost(h, home / "hosts" / h.name, clock, walls[h.name], reason) for h in spec.hosts
    }
    await asyncio.gather(*(_open_host(host, keeper, line, stack) for host in hosts.values()))
    client = await asyncio.to_thread(server.new_client_key)
    servers: dict[str, HostServer] = {name: server.HostServer(host, client) for name, host in hosts.items()}
    endpoints = {}
    for name, one in servers.items():
        endpoints[name] = await one.open()
        stack.push_async_callback(one.close)
    password = next((h.sudo.password for h in spec.hosts if h.sudo.kind == "password"), None)
    cluster = await _open_cluster(spec, hosts, clock, home)
    stack.push_async_callback(cluster.stop)
    return Fleet(
        name=spec.name,
        spec=spec,
        targets=tuple(hosts),
        options=ConnectOptions(
            isolated=True,
            use_agent=False,
            endpoints=endpoints,
            sudo_password=Secret(password) if password else None,
        ),
        kubeconfig=await cluster.start(),
        clock=clock,
        state_dir=home,
        can_apply=reason,
        cluster=cluster,
        hosts=hosts,
        servers=servers,
    )


async def _open_host(host: "SimulatedHost", keeper: "Keeper", line: str, stack: AsyncExitStack) -> None:
    await host.open(keeper, line)
    stack.push_async_callback(host.close)


async def _open_cluster(
    spec: "FleetSpec", hosts: "Mapping[str, SimulatedHost]", clock: "FastClock", home: Path
) -> "SimulatedCluster":
    api = await asyncio.to_thread(importlib.import_module, "gpuwizard.fleet.api")
    members = [h for h in spec.hosts if h.kubernetes.flavour != "none"]
    servers = [h for h in members if h.kubernetes.role in ("server", "control-plane")] or members
    cluster: SimulatedCluster = api.SimulatedCluster(
        {h.name: _Node(hosts[h.name]) for h in members},
        clock,
        state=home / "cluster.json",
        version=servers[0].kubernetes.version if servers else "v1.34.1",
        k3s_server=any(h.kubernetes.flavour == "k3s" and h.kubernetes.role == "server" for h in members),
    )
    return cluster


class _Node:
    """A host as a node of the simulated cluster."""

    def __init__(self, host: "SimulatedHost") -> None:
        self._host = host
        self.name = host.name
        self.labels = host.labels
        self.kubelet_version = host.kubelet_version
        self.runtime = host.runtime_state


def _home(state_dir: Path, name_or_path: str, name: str) -> Path:
    """Where this fleet is kept: fleets of the same name from different places do not share it."""
    from gpuwizard.fleet.model import list_fleets

    if name_or_path in list_fleets():
        return state_dir / name
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        path /= "fleet.toml"
    return state_dir / f"{name}-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"


@contextlib.contextmanager
def _locked(home: Path, name: str) -> Iterator[None]:
    """Hold the fleet for this process alone."""
    from gpuwizard.errors import RefusedError

    home.mkdir(mode=0o711, parents=True, exist_ok=True)
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(
                f"the simulated fleet {name} is open already",
                where=str(home),
                remedy="end the other gpuwizard, or set GPUWIZARD_STATE_DIR to another folder",
            ) from None
        yield
    finally:
        os.close(lock)


def _forget(home: Path) -> None:
    """Remove what earlier runs left, but the lock that is held."""
    from gpuwizard.fleet.build import remove_tree

    for entry in home.iterdir():
        if entry.name == "lock":
            continue
        if entry.name == "hosts":
            remove_tree(entry)
        elif entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _uptime() -> float:
    """Seconds since the machine was started, as the stand-in of date reads them."""
    try:
        return float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        return 0.0
