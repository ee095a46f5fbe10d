"""The container runtime of a simulated host: what it loaded when it started, and what it says of itself.

The verdict on a configuration is that of `gpuwizard.containerd.effective`; what changes on disk counts at the next
start, as on a real host.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpuwizard.clock import Clock
from gpuwizard.containerd.effective import effective
from gpuwizard.containerd.model import Effective
from gpuwizard.fleet.init import StartFailed
from gpuwizard.fleet.k3s import RenderError, render
from gpuwizard.fleet.kubefiles import K3S_DATA, K3S_ETC, containerd_version
from gpuwizard.fleet.model import HostSpec
from gpuwizard.fleet.proc import ProcTable
from gpuwizard.fleet.tree import Tree

__all__ = ["Runtime"]

_CONTAINERD_STARTS_IN, _K3S_STARTS_IN = 1.0, 6.0  # engine seconds
_PROGRAM_FOLDERS = ("/usr/bin", "/usr/local/bin", "/usr/local/nvidia/toolkit")


@dataclass(slots=True)
class Runtime:
    """The containerd of one host, alone or inside K3s; the `Service` of its unit.

    `loaded` are the files it was started with and `verdict` what they came to; None while it is down. `first` is the
    digest of what it loaded at its very first start. With `before_toolkit` the next start finds no toolkit yet.
    """

    spec: HostSpec
    tree: Tree
    clock: Clock
    processes: ProcTable
    unit: str
    log: Callable[[str, str], None]
    loaded: dict[str, bytes] | None = None
    verdict: Effective | None = None
    starts: int = 0
    before_toolkit: bool = False
    first: str = ""
    _pids: tuple[int, ...] = ()

    @property
    def k3s(self) -> bool:
        """It is a child of K3s."""
        return self.spec.kubernetes.flavour == "k3s"

    @property
    def version(self) -> str:
        """containerd's version."""
        return containerd_version(self.spec) or "1.7.24"

    @property
    def main_file(self) -> str:
        """The configuration file that it is started with."""
        return f"{K3S_ETC}/config.toml" if self.k3s else "/etc/containerd/config.toml"

    @property
    def socket(self) -> str:
        """Where it listens."""
        return "/run/k3s/containerd/containerd.sock" if self.k3s else "/run/containerd/containerd.sock"

    def files(self) -> dict[str, bytes]:
        """The host's files that its configuration can be made of."""
        return self.tree.files(K3S_ETC if self.k3s else "/etc/containerd")

    def judge(self, files: Mapping[str, bytes], main: str) -> Effective:
        """What this containerd makes of these files."""
        return effective(files, main, self.version)

    async def start(self, pid: int) -> None:
        """Come up from what is on the disk now. Raises StartFailed."""
        self.starts += 1
        await self.clock.sleep(_K3S_STARTS_IN if self.k3s else _CONTAINERD_STARTS_IN)
        if "does-not-start-again" in self.spec.faults and self.starts > 1:
            raise StartFailed("fatal error: the simulated host was told not to start this service again")
        if self.k3s:
            self._render()
        files = self.files()
        if not self.k3s:
            files.setdefault(self.main_file, b"")  # without a file at the default path it takes its defaults
        verdict = self.judge(files, self.main_file)
        self._die_of_changes(files)
        if not verdict.starts:
            what = "containerd exited: exit status 1" if self.k3s else ""
            raise StartFailed(f"containerd: failed to load TOML: {self.main_file}: {verdict.error}\n{what}".strip())
        if verdict.cri == "error":
            self.log(
                self.unit,
                f'failed to load plugin error="invalid plugin config: {verdict.error}" id=io.containerd.grpc.v1.cri',
            )
        self.loaded, self.verdict = files, verdict
        self._show(pid)

    def _die_of_changes(self, files: Mapping[str, bytes]) -> None:
        """The fault of that name: whatever differs from the first configuration is deadly. Raises StartFailed."""
        digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
        self.first = self.first or digest
        if "dies-of-changes" in self.spec.faults and digest != self.first:
            raise StartFailed("panic: the simulated host was told to die of any change of its configuration")

    def stop(self) -> None:
        """Be gone."""
        self.loaded = self.verdict = None
        for pid in self._pids:
            self.processes.hide(pid)
        self._pids = ()

    def _render(self) -> None:
        programs = frozenset() if self.before_toolkit else frozenset(
            f"{folder}/{name}" for folder in _PROGRAM_FOLDERS for name in self.tree.names(folder)
            if name.startswith("nvidia-container-runtime") and self.tree.executable(f"{folder}/{name}")
        )  # fmt: skip
        self.before_toolkit = False
        self.tree.write(self.main_file, self._rendered(programs).encode(), 0o644)

    def _rendered(self, programs: frozenset[str]) -> str:
        files = self.files() | self.tree.files("/etc/rancher/k3s")
        version = self.spec.kubernetes.version
        try:
            rendered = render(files, programs, version=version, containerd=self.version, data=K3S_DATA)
        except RenderError as error:
            raise StartFailed(f'level=fatal msg="Error: {error}"') from error
        for line in rendered.log:
            self.log(self.unit, f'level=info msg="{line}"')
        return rendered.text

    def _show(self, pid: int) -> None:
        if not self.k3s:
            self.processes.show(pid, "containerd", ["/usr/bin/containerd"], "/usr/bin/containerd", self.unit)
            self._pids = (pid,)
            return
        role = self.spec.kubernetes.role
        folder = f"{K3S_DATA}/data/1f2e3d4c5b6a79888f9e0d1c2b3a4958/bin"
        arguments = ["containerd", "-c", self.main_file]
        if self.verdict is not None and self.verdict.root_version < 3:
            arguments += ["-a", self.socket, "--state", "/run/k3s/containerd", "--root", f"{K3S_DATA}/agent/containerd"]
        self.processes.show(pid, f"k3s-{role}", [f"/usr/local/bin/k3s {role}"], f"{folder}/k3s", self.unit)
        self.processes.show(pid + 1, "containerd", arguments, f"{folder}/k3s", self.unit)
        self._pids = (pid, pid + 1)

    def as_json(self) -> dict[str, Any]:
        """What it has loaded, to be kept while the fleet is closed."""
        loaded = {path: base64.b64encode(data).decode() for path, data in (self.loaded or {}).items()}
        return {"loaded": loaded, "pids": list(self._pids), "first": self.first}

    def resume(self, kept: Mapping[str, Any]) -> None:
        """Go on as before the fleet was closed."""
        self.loaded = {path: base64.b64decode(data) for path, data in kept["loaded"].items()}
        self.verdict = self.judge(self.loaded, self.main_file)
        self._pids = tuple(kept["pids"])
        self.starts, self.first = 1, kept.get("first", "")
