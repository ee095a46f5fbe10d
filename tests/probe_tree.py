"""A host in a folder, for probe.sh and metrics.sh: files below a root, and a PATH that holds only what a host has."""

import os
import shutil
import subprocess
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from gpuwizard.remote.script import render
from gpuwizard.remote.transport import Script

SHELLS = {"dash": ("dash",), "busybox": ("busybox", "sh"), "bash": ("bash", "--posix")}
REAL_TOOLS = (
    "awk",
    "base64",
    "cat",
    "chmod",
    "cut",
    "date",
    "dd",
    "grep",
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
H200 = {
    "index": "0",
    "uuid": H200_UUID,
    "name": "NVIDIA H200",
    "pci.bus_id": "00000000:00:06.0",
    "pci.device_id": "0x233510DE",
    "driver_version": "580.159.04",
    "memory.total": "143771",
    "mig.mode.current": "Disabled",
    "mig.mode.pending": "Disabled",
    "persistence_mode": "Enabled",
    "compute_mode": "Default",
    "ecc.mode.current": "Enabled",
    "ecc.errors.uncorrected.volatile.total": "0",
    "remapped_rows.pending": "No",
    "remapped_rows.failure": "No",
    "pstate": "P0",
    "temperature.gpu": "37",
    "compute_cap": "9.0",
    "addressing_mode": "None",
    "fabric.state": "N/A",
    "fabric.status": "N/A",
    "gpu_recovery_action": "None",
    "clocks_throttle_reasons.active": "0x0000000000000001",
}
"""The cells of a real host's nvidia-smi."""
_NVIDIA_SMI = """\
printf '%s\\n' "$*" >>'{root}/data/smi-calls'
case $1 in
-L) cat '{root}/data/smi-listing'; exit ;;
-q) cat '{root}/data/smi-full'; exit ;;
-h) echo 'NVIDIA System Management Interface -- v580.159.04'; exit ;;
--query-gpu=*) fields=${{1#*=}} unknown=' {unknown} ' ;;
--query-remapped-rows=*) fields=${{1#*=}} unknown= ;;
*) exit 2 ;;
esac
cat '{root}/data/smi-errors' >&2
IFS=,
header=
for field in $fields; do
    case $unknown in *" $field "*)
        printf 'Field "%s" is not a valid field to query.\\n\\n' "$field"
        exit 2
        ;;
    esac
    case $field in
    memory.total) field='memory.total [MiB]' ;;
    clocks_throttle_reasons.active) field=clocks_event_reasons.active ;; # drivers since 535 print the new name
    esac
    header="$header, $field"
done
[ -e '{root}/data/smi/000' ] || {{ echo 'No devices were found'; exit 6; }}
echo "${{header#, }}"
for gpu in '{root}/data/smi/'*; do
    row=
    for field in $fields; do
        value='[N/A]'
        [ "$field" != gpu_uuid ] || field=uuid
        [ ! -e "$gpu/$field" ] || read -r value <"$gpu/$field"
        row="$row, $value"
    done
    echo "${{row#, }}"
done
exit {status}
"""
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
        self.tool("dmesg", "exit 0")

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
        for name in units:
            self.file(f"/usr/lib/systemd/system/{name}", "[Service]\n")

    def kernel(
        self,
        release: str,
        module: str | None = None,
        *,
        terms: str = "Dual MIT/GPL",
        path: str = "updates/dkms/nvidia.ko.zst",
        signer: str | None = None,
        headers: bool = True,
        image: bool = True,
    ) -> None:
        """An installed kernel, with NVIDIA's module of version `module` at `path` below its directory."""
        folder = f"/lib/modules/{release}"
        listed = "kernel/fs/overlayfs/overlay.ko.zst:\n"
        if module is not None:
            listed += f"{path}: kernel/drivers/acpi/video.ko.zst\n"
            listed += f"{path.replace('nvidia.ko', 'nvidia-uvm.ko')}: {path}\n"
            signed = f"sig_id:         PKCS#7\nsigner:         {signer}\n" if signer else ""
            self.file(f"{folder}/{path}", f"version:        {module}\nlicense:        {terms}\n{signed}")
            self.tool(
                "modinfo",
                """
                for file; do
                    [ -e "$file" ] || { echo "modinfo: ERROR: Module $file not found." >&2; exit 1; }
                    echo "filename:       $file"
                    cat "$file"
                    echo 'parm:           NVreg_ResmanDebugLevel:int'
                done
                """,
            )
        self.file(f"{folder}/modules.dep", listed)
        if headers:
            self.file(f"{folder}/build/Makefile", "VERSION = 6\n")
        if image:
            self.file(f"/boot/vmlinuz-{release}", "")

    def nvidia_smi(
        self,
        *gpus: Mapping[str, str],
        unknown: Sequence[str] = (),
        status: int = 0,
        errors: str = "",
        listing: str = "",
        full: str = "",
    ) -> None:
        """nvidia-smi that answers any query with the cells of `gpus` (``[N/A]`` for what they do not say).

        `unknown` are fields that this driver refuses, `errors` what it writes to standard error, `listing` its ``-L``
        and `full` its ``-q``. Its calls are noted in /data/smi-calls.
        """
        for number, cells in enumerate(gpus):
            for name, text in cells.items():
                self.file(f"/data/smi/{number:03}/{name}", f"{text}\n")
        for path, text in (("errors", errors), ("listing", listing), ("full", full)):
            self.file(f"/data/smi-{path}", text)
        self.tool("nvidia-smi", _NVIDIA_SMI.format(root=self.root, unknown=" ".join(unknown), status=status))

    def h200(self) -> None:
        """The GPU of a real host (its own output)."""
        self.gpu("0000:00:06.0", "2335")
        self.file(
            "/proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (nixbld@)  \n",
        )
        self.file("/sys/module/nvidia/version", "580.159.04\n")
        self.file("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.159.04", "")
        for module in ("nvidia_uvm", "nvidia_modeset"):
            self.file(f"/sys/module/{module}/refcnt", "2\n")
        self.kernel(os.uname().release, "580.159.04")
        self.nvidia_smi(H200)

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
