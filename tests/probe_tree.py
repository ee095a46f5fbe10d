"""A host in a folder, for probe.sh and metrics.sh: files below a root, and a PATH that holds only what a host has."""

import os
import shutil
import subprocess
import textwrap
from collections.abc import Sequence
from pathlib import Path

from gpuwizard.remote.script import render
from gpuwizard.remote.transport import Script

SHELLS = {"dash": ("dash",), "busybox": ("busybox", "sh"), "bash": ("bash", "--posix")}
REAL_TOOLS = (
    "base64",
    "cat",
    "chmod",
    "cut",
    "date",
    "head",
    "kill",
    "ls",
    "mktemp",
    "od",
    "readlink",
    "rm",
    "sed",
    "sha256sum",
    "sleep",
    "stat",
    "tail",
    "timeout",
    "tr",
    "uname",
    "wc",
)
H200_UUID = "GPU-11111111-2222-3333-4444-555555555555"
UBUNTU = 'PRETTY_NAME="Ubuntu 24.04.3 LTS"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n'


class Tree:
    """Build the host with its methods, then `run` a script on it."""

    def __init__(self, root: Path, shell: str = "dash") -> None:
        missing = shutil.which(SHELLS[shell][0])
        assert missing is not None, f"{shell} is not installed"
        self.root = root
        self.bin = root / "bin"
        self.bin.mkdir(parents=True)
        (root / "tmp").mkdir()
        self.shell = SHELLS[shell]
        for tool in REAL_TOOLS:
            found = shutil.which(tool)
            assert found is not None, f"{tool} is not installed"
            (self.bin / tool).symlink_to(found)
        words = " ".join([missing, *self.shell[1:]])
        self.tool("sh", f'exec {words} "$@"')
        self.login(0)
        self.file("/etc/os-release", UBUNTU)
        self.file("/proc/uptime", "1000.00 900.00\n")
        self.file("/proc/sys/kernel/random/boot_id", "11111111-1111-1111-1111-111111111111\n")
        self.file("/proc/meminfo", "MemTotal:       131072 kB\nMemFree: 1 kB\nMemAvailable: 65536 kB\n")
        self.folder("/proc/1")
        self.folder("/sys/bus/pci/devices")
        self.folder("/run/systemd/system")
        self.units({})

    def file(self, path: str, content: str | bytes, mode: int = 0o644) -> Path:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        target.chmod(mode)
        return target

    def folder(self, path: str) -> None:
        (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def link(self, path: str, target: str) -> None:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    def tool(self, name: str, body: str) -> None:
        """A program of the host, written in shell."""
        place = self.bin / name
        place.unlink(missing_ok=True)
        place.write_text(f"#!/bin/sh\n{textwrap.dedent(body).strip()}\n")
        place.chmod(0o755)

    def login(self, uid: int, user: str = "root") -> None:
        """Who logs in; sudo's stand-in makes it root."""
        self.tool("id", f'uid=${{FAKE_UID-{uid}}}\ncase $* in -u) echo "$uid" ;; -un) echo {user} ;; esac')

    def sudo(self, *, refuses: str | None = None) -> None:
        if refuses is None:
            self.tool("sudo", 'shift 2\nFAKE_UID=0 SUDO_UID=1000 SUDO_USER=admin exec "$@"')
        else:
            self.tool("sudo", f"echo '{refuses}' >&2\nexit 1")

    def gpu(self, address: str, device: str, driver: str | None = "nvidia", pci_class: str = "0x030200") -> None:
        folder = f"/sys/bus/pci/devices/{address}"
        self.file(f"{folder}/vendor", "0x10de\n")
        self.file(f"{folder}/device", f"0x{device}\n")
        self.file(f"{folder}/class", f"{pci_class}\n")
        if driver is not None:
            self.link(f"{folder}/driver", f"../../../bus/pci/drivers/{driver}")

    def process(self, pid: int, *arguments: str, unit: str | None = None) -> None:
        self.file(f"/proc/{pid}/cmdline", "".join(f"{a}\0" for a in arguments))
        self.file(f"/proc/{pid}/comm", arguments[0].rpartition("/")[2] + "\n")
        if unit is not None:
            self.file(f"/proc/{pid}/cgroup", f"0::/system.slice/{unit}\n")

    def units(self, units: dict[str, str]) -> None:
        """systemctl, knowing these units; the value holds further lines of ``systemctl show``."""
        lines = [
            f"*' {name} '*) printf '%s\\n' Id={name} LoadState=loaded {_quoted(extra)} '' ;;"
            for name, extra in units.items()
        ]
        body = "\n".join(f'case " $* " in {line} esac' for line in lines)
        self.tool("systemctl", body or "exit 0")

    def nvidia_smi(self, core: str, more: str = "", status: int = 0) -> None:
        self.file("/data/smi-core", core)
        self.file("/data/smi-more", more)
        self.tool(
            "nvidia-smi",
            f"""
            case $* in
            *--query-gpu=index,uuid*) cat "{self.root}/data/smi-core"; exit {status} ;;
            *compute_cap*)
                [ -s "{self.root}/data/smi-more" ] || {{
                    echo 'Field "compute_cap" is not a valid field to query.'
                    exit 2
                }}
                cat "{self.root}/data/smi-more" ;;
            -L) echo "GPU 0: NVIDIA H200 (UUID: {H200_UUID})"
                echo "  MIG 1g.18gb     Device  0: (UUID: MIG-aaaaaaaa-1111-2222-3333-444444444444)" ;;
            -h) echo "NVIDIA System Management Interface -- v580.159.04" ;;
            *) exit 2 ;;
            esac
            """,
        )

    def h200(self) -> None:
        """The GPU of a real host (its own output)."""
        self.gpu("0000:00:06.0", "2335")
        self.file(
            "/proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (nixbld@)  \n",
        )
        self.file("/sys/module/nvidia/version", "580.159.04\n")
        self.file("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.159.04", "")
        self.tool("modinfo", 'case $* in *license*) echo "Dual MIT/GPL" ;; *) echo 580.159.04 ;; esac')
        self.nvidia_smi(
            f"0, {H200_UUID}, NVIDIA H200, 00000000:00:06.0, 0x233510DE, 580.159.04, 143771, Disabled, Enabled\n",
            f"{H200_UUID}, 9.0, None, N/A\n",
        )

    def environment(self) -> dict[str, str]:
        return {"PATH": str(self.bin), "GPUWIZARD_FLEET_ROOT": str(self.root)}

    def command(self) -> list[str]:
        return [str(shutil.which(self.shell[0])), *self.shell[1:], "-s"]

    def run(self, script: Script, *, status: int | None = 0) -> bytes:
        """Standard output from after the token on."""
        done = subprocess.run(
            self.command(),
            input=render(script, "TOKEN123"),
            env=self.environment(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert status is None or done.returncode == status, done.stderr.decode()
        before, token, after = done.stdout.partition(b"TOKEN123\n")
        assert token, (before, done.stderr)
        return after

    def left_over(self) -> Sequence[str]:
        return os.listdir(self.root / "tmp")


def _quoted(lines: str) -> str:
    return " ".join(f"'{line}'" for line in lines.splitlines())
