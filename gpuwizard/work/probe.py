"""Look at one host: one script, one channel, one round trip."""

import time

from assets import asset
from gpuwizard.clean import clean_line
from gpuwizard.errors import GpuwizardError, LoginError, UnreachableError
from gpuwizard.facts.model import Probe
from gpuwizard.facts.parse import parse_probe
from gpuwizard.remote.transport import Payload, Script, Transport

__all__ = ["PARTS", "probe_host", "probe_script"]

PARTS = (
    "probe-system.sh",
    "probe-gpus.sh",
    "probe-driver.sh",
    "probe-toolkit.sh",
    "probe-units.sh",
    "probe-runtimes.sh",
    "probe-kubernetes.sh",
    "probe-files.sh",
    "probe.sh",
)
"""The assets that make the probe; `main` is in the last one."""


def probe_script() -> Script:
    """The probe as a script: it runs itself through ``sudo -n`` where that works, else as the login user."""
    parts = [asset(f"remote/{name}").read_text(encoding="utf-8") for name in PARTS]
    start = asset("remote/probe-start.sh").read_text(encoding="utf-8")
    return Script(start, payloads=(Payload("probe", "\n".join([*parts, 'main "$@"\n']).encode()),))


async def probe_host(transport: Transport, *, sudo_password_known: bool, timeout: float = 90) -> Probe:
    """Facts and configuration files of the host behind `transport`; `timeout` in seconds.

    With `sudo_password_known` the whole probe runs as root. A host that answers in time but not to the end (an
    nvidia-smi that hangs on a lost GPU) gives a partial probe: `facts.unseen` says what is missing.

    Raises UnreachableError when the link dies and GpuwizardError when nothing useful came back. Where sudo does not
    take the password the host is probed without root.
    """
    started = time.monotonic()
    arrived: list[str] = []
    try:
        raw, why = await _run(transport, arrived, root=sudo_password_known, timeout=timeout)
    except UnreachableError as error:
        if not (sudo_password_known and isinstance(error, LoginError)):
            raise
        arrived.clear()
        raw, why = await _run(transport, arrived, root=False, timeout=timeout)
    probe = parse_probe(raw, seconds=time.monotonic() - started)
    if not raw.lstrip().startswith(b"@@ begin") and b"\n@@ begin" not in raw:
        raise GpuwizardError(
            "the probe printed nothing that could be read",
            where=transport.name,
            remedy=f"the host said: {why}" if why else "log in by hand and run `sh -c 'echo works'`",
        )
    return probe


async def _run(transport: Transport, arrived: list[str], *, root: bool, timeout: float) -> tuple[bytes, str]:
    """Standard output, and the last words on standard error. `arrived` collects lines, for the case of a time-out."""
    try:
        done = await transport.run(probe_script(), root=root, timeout=timeout, on_line=arrived.append)
    except UnreachableError:
        raise
    except GpuwizardError as error:
        if not any(line.startswith("@@ smi-started") for line in arrived):
            raise
        return "\n".join([*arrived, ""]).encode(), str(error)
    return done.stdout, clean_line(done.stderr.decode("utf-8", "replace"), 200)
