"""A lab: a free slot of the machine, its network, its hosts, and the removal of everything, also after a crash."""

import base64
import contextlib
import fcntl
import hashlib
import hmac
import itertools
import json
import re
import secrets
import shutil
import struct
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tests.lab.harness import cgroup, network
from tests.lab.harness.base import Base
from tests.lab.harness.disk import HostSpec, lay_out, mount_overlay, new_key
from tests.lab.harness.hardware import build_hardware
from tests.lab.harness.host import LabHost
from tests.lab.harness.recipe import IMAGE
from tests.lab.harness.shell import LabError, call, mounts

if TYPE_CHECKING:
    from gpuwizard.remote.options import ConnectOptions

__all__ = ["SLOTS", "STANDARD", "Lab", "clean_stale"]

STATE = Path("/run/gpuwizard-lab")
SLOTS = range(100, 200)

STANDARD = {
    spec.name: spec
    for spec in (
        HostSpec("bookworm", "bookworm", gateway=True),
        HostSpec("trixie", "trixie"),
        HostSpec("sid", "sid"),
        HostSpec("sudo-rs", "trixie", sudo="sudo-rs"),
        HostSpec("hidden", "trixie", hidden=True),
        HostSpec("bare", "bookworm", gpu=False, kubeadm=False),
    )
}
_USERS = ("admin", "ops", "guest", "typist", "twofactor")


def clean_stale() -> list[int]:
    """Remove what labs left whose process is gone; return their slots. A lab that runs is not touched."""
    cleaned = []
    for lock in sorted(STATE.glob("*.lock")):
        with lock.open("r+") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if (note := lock.with_suffix(".json")).exists():
                left = json.loads(note.read_text())
                _remove_all(int(lock.stem), Path(left["folder"]), left["groups"])
                cleaned.append(int(lock.stem))
    return cleaned


def _remove_all(slot: int, folder: Path, groups: str) -> None:
    """End the hosts of a slot, then take away network, mounts and files. The caller holds the slot's lock."""
    cgroup.all_gone(groups)
    network.remove(slot)
    for _, point, _ in reversed(mounts()):
        if Path(point).is_relative_to(folder):
            call("umount", point)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(STATE / str(slot), ignore_errors=True)
    (STATE / f"{slot}.json").unlink(missing_ok=True)


def _write_whole(path: Path, text: str) -> None:
    """Somebody may be reading it: never half a file."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


def _take_slot() -> tuple[int, IO[str]]:
    """The first slot that nobody has and whose addresses are free; the lock ends with this process."""
    STATE.mkdir(parents=True, exist_ok=True)
    for slot in SLOTS:
        handle = (STATE / f"{slot}.lock").open("w")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            continue
        if network.is_free(slot):
            return slot, handle
        handle.close()
    raise LabError(f"no free network 10.N with N from {SLOTS[0]} to {SLOTS[-1]}")


class Lab:
    """Hosts by name. `ssh_config` and `known_hosts` always name all hosts that are up."""

    agent_key_comment = "lab-agent"

    def __init__(self, bases: Mapping[str, Base], directory: Path) -> None:
        clean_stale()
        self.bases = bases
        self.slot, self._lock = _take_slot()
        self.folder = directory / "run" / str(self.slot)
        # containers of one machine may share its control groups, but neither slots nor what cleans up after a crash
        self._groups = f"{self.slot}-{secrets.token_hex(4)}"
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "hosts").mkdir(parents=True)
        (STATE / str(self.slot)).mkdir(mode=0o700, exist_ok=True)
        (STATE / f"{self.slot}.json").write_text(json.dumps({"folder": str(self.folder), "groups": self._groups}))
        self._hosts: dict[str, LabHost] = {}
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        self.key = self.folder / "key"
        self.agent_key = self.folder / "agent_key"
        self.ssh_config = self.folder / "ssh_config"
        self.known_hosts = self.folder / "known_hosts"
        self.passwords = {user: f"lab-{user}-pw" for user in _USERS}
        new_key(self.key, "lab")
        new_key(self.agent_key, self.agent_key_comment)
        self._logins = "".join(Path(f"{k}.pub").read_text() for k in (self.key, self.agent_key))
        self._network = network.Network(self.slot)
        self._network.create()
        self._ports = itertools.count(1)
        self._mutex = threading.RLock()

    # ── hosts ────────────────────────────────────────────────────────────────────────────────────────────────────

    def host(self, name: str) -> LabHost:
        """A standard host by name, booted on first use."""
        if name not in self._hosts:
            self.start([STANDARD[name]])
        return self._hosts[name]

    def start(self, specs: list[HostSpec]) -> list[LabHost]:
        """Boot hosts side by side and return when all are up. Raises LabError with the console of one that is not."""
        with ThreadPoolExecutor(min(len(specs), 6)) as pool:
            return list(pool.map(self._start, specs))

    def fresh(self, suite: str, *, name: str | None = None, **options: Any) -> LabHost:
        """Boot a new host with an untouched disk; `options` are those of HostSpec."""
        with self._mutex:
            taken = set(self._hosts)
        name = name or next(n for i in range(1, 1000) if (n := f"{suite}-{i}") not in taken)
        return self._start(HostSpec(name, suite, **options))

    def _start(self, spec: HostSpec) -> LabHost:
        base = self.bases[spec.suite]
        folder = self.folder / "hosts" / spec.name
        with self._mutex:
            if spec.name in self._hosts:
                raise LabError(f"there is a host {spec.name} already")
            notify = STATE / str(self.slot) / f"{spec.name}.notify"
            port, group = next(self._ports), f"{self._groups}/{spec.name}"
            host = LabHost(spec, base, self._network, port, folder, notify, group=group, login=self.key)
            self._hosts[spec.name] = host
        folder.mkdir(parents=True)
        build_hardware(folder / "hardware", gpu=spec.gpu)
        new_key(folder / "host_key", spec.name)
        root = mount_overlay(folder, base)
        lay_out(root, spec, base, host.address, folder / "host_key", self._logins)
        self._network.attach(spec.name, host.port, front=not spec.hidden, back=spec.hidden or spec.gateway)
        host.boot()
        host.wait_booted()
        host.prove_inside()
        self._write_lists()
        return host

    def remove(self, host: LabHost) -> None:
        """End one host and forget it."""
        with self._mutex:
            self._hosts.pop(host.name)
        self._write_lists()
        host.destroy()

    def _write_lists(self) -> None:
        with self._mutex:
            hosts = [h for h in self._hosts.values() if (h.folder / "host_key.pub").exists()]
            _write_whole(self.known_hosts, "".join(f"{h.name},{h.address} {h.host_key}\n" for h in hosts))
            common = (
                f"Host *\n  IdentityFile {self.key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {self.known_hosts}\n"
            )
            blocks = [f"Host {h.name}\n  HostName {h.address}\n" for h in hosts]
            jumps = [f"Host {h.name}\n  ProxyJump admin@bookworm\n" for h in hosts if h.spec.hidden]
            _write_whole(self.ssh_config, "".join([*blocks, *jumps, common]))

    # ── logging in ───────────────────────────────────────────────────────────────────────────────────────────────

    def options(self, user: str = "admin", **fields: Any) -> "ConnectOptions":
        """Connect options that read nothing but the lab's own files; `fields` override."""
        from gpuwizard.remote.options import ConnectOptions

        known: dict[str, Any] = {
            "user": user,
            "identity": self.key,
            "jump": None,
            "ssh_config": self.ssh_config,
            "known_hosts": self.known_hosts,
            "host_keys": "strict",
            "connect_timeout": 10.0,
            "password": None,
            "sudo_password": None,
            "use_agent": False,
        }
        return ConnectOptions(**(known | fields))

    def one_time_code(self, at: float | None = None) -> str:
        """The six digits that `twofactor`'s authenticator shows now (RFC 6238, 30 s, SHA-1)."""
        found = re.search(r"printf '%s\\n' ([A-Z2-7]+) ", (IMAGE / "prepare.sh").read_text())
        assert found is not None
        secret = base64.b32decode(found[1] + "=" * (-len(found[1]) % 8))
        step = struct.pack(">Q", int((time.time() if at is None else at) // 30))
        digest = hmac.new(secret, step, hashlib.sha1).digest()
        offset = digest[-1] & 15
        number = struct.unpack(">I", digest[offset : offset + 4])[0] & 0x7FFFFFFF
        return f"{number % 1_000_000:06d}"

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """End every host and remove everything of this lab."""
        with contextlib.closing(self._lock):
            hosts = list(self._hosts.values())
            self._hosts.clear()
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda h: cgroup.end(f"{self._groups}/{h.name}"), hosts))
            for host in hosts:
                host.forget()
            _remove_all(self.slot, self.folder, self._groups)
