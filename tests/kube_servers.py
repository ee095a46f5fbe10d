"""API servers for tests: the simulated one with nodes whose runtime the test sets, and a real kube-apiserver."""

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gpuwizard.clock import FastClock
from gpuwizard.fleet.api import SimulatedCluster
from gpuwizard.fleet.node import NodeRuntime
from gpuwizard.kube.cluster import Cluster, open_cluster

H200 = "NVIDIA H200"
SPEED = 40.0


def runtime(version: str = "2.1.9", *, gpus: int = 2, nvidia: bool = True, name: str = "a") -> NodeRuntime:
    """A healthy host with GPUs, its containerd with or without the nvidia handler."""
    return NodeRuntime(
        service_active=True,
        cri="ok",
        cri_message="",
        handlers=("nvidia", "runc") if nvidia else ("runc",),
        default_handler="runc",
        runtime_version=f"containerd://{version}",
        gpus=tuple((i, H200, f"GPU-{name}{i:07d}-0000-0000-0000-000000000000") for i in range(gpus)),
    )


@dataclass
class Host:
    """A host in the simulated cluster; the test changes `state` as an operator would change the machine."""

    name: str
    state: NodeRuntime | None
    labels: Mapping[str, str] = field(default_factory=dict)
    kubelet_version: str = "v1.36.2"

    async def runtime(self) -> NodeRuntime:
        if self.state is None:
            raise OSError("the host is off")
        return self.state

    def change(self, **fields: Any) -> None:
        assert self.state is not None
        self.state = replace(self.state, **fields)


@asynccontextmanager
async def simulated(
    *hosts: Host, state: Path | None = None, speed: float = SPEED, **options: Any
) -> AsyncIterator[tuple[SimulatedCluster, Cluster, FastClock]]:
    """A running simulated cluster and an open client."""
    clock = FastClock(speed)
    server = SimulatedCluster({h.name: h for h in hosts}, clock, state=state, **options)
    config = await server.start()
    try:
        cluster = await open_cluster(config=config, clock=clock)
        try:
            yield server, cluster, clock
        finally:
            await cluster.close()
    finally:
        await server.stop()


async def eventually(look: Callable[[], Any], server: SimulatedCluster, limit: float = 20.0) -> Any:
    """Wait, change by change of the server's store, until `look` returns something true."""
    async with asyncio.timeout(limit):
        while True:
            version = server.store.version
            found = look()
            if found:
                return found
            await server.store.wait_after(version, limit)


def missing_binaries() -> str | None:
    """Why the real API server cannot run here; None when it can."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return "KUBEBUILDER_ASSETS is not set (a folder with kube-apiserver and etcd)"
    lacking = [n for n in ("kube-apiserver", "etcd") if not (Path(folder) / n).is_file()]
    return f"KUBEBUILDER_ASSETS lacks {', '.join(lacking)}" if lacking else None


@contextmanager
def real_server() -> Iterator[dict[str, Any]]:
    """Start etcd and kube-apiserver from KUBEBUILDER_ASSETS; yields a kubeconfig for an administrator."""
    assets = Path(os.environ["KUBEBUILDER_ASSETS"])
    folder = Path(tempfile.mkdtemp(prefix="gpuwizard-apiserver-"))
    etcd_port, peer_port, api_port = _free_ports(3)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        etcd = f"http://127.0.0.1:{etcd_port}"
        peer = f"http://127.0.0.1:{peer_port}"
        processes.append(
            _start(
                folder / "etcd.log",
                [assets / "etcd", "--data-dir", folder / "etcd", "--unsafe-no-fsync"],
                ["--listen-client-urls", etcd, "--advertise-client-urls", etcd, "--listen-peer-urls", peer],
            )
        )
        key = folder / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        tokens = folder / "tokens.csv"
        tokens.write_text("admin-token,admin,1,system:masters\nviewer-token,viewer,2\n")
        processes.append(
            _start(
                folder / "apiserver.log",
                [assets / "kube-apiserver", f"--etcd-servers={etcd}", f"--secure-port={api_port}"],
                [f"--cert-dir={folder / 'certs'}", "--bind-address=127.0.0.1", "--authorization-mode=RBAC"],
                [f"--token-auth-file={tokens}", f"--service-account-signing-key-file={key}"],
                [f"--service-account-key-file={key}", "--service-account-issuer=https://tests.invalid"],
                ["--service-cluster-ip-range=10.0.0.0/24", "--disable-admission-plugins=ServiceAccount"],
            )
        )
        yield _config(api_port, "admin")
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _config(port: int, user: str) -> dict[str, Any]:
    cluster = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    return {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": f"{user}-token"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": user}}],
        "current-context": "c",
    }


def _start(log: Path, *arguments: list[Any]) -> subprocess.Popen[bytes]:
    words = [str(a) for part in arguments for a in part]
    with log.open("wb") as out:
        return subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
