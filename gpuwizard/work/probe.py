"""Look at one host: one script, one channel, one round trip."""

import functools
import shlex
import time
from collections.abc import Callable

from assets import asset
from gpuwizard.clean import clean_line
from gpuwizard.errors import GpuwizardError, LoginError, UnreachableError
from gpuwizard.facts.model import Probe
from gpuwizard.remote.transport import Script, Transport

__all__ = ["PARTS", "REACH_PART", "STEPS", "probe_host", "probe_script"]

PARTS = (
    "probe-system.sh",
    "probe-machine.sh",
    "probe-gpus.sh",
    "probe-driver.sh",
    "probe-toolkit.sh",
    "probe-cdi.sh",
    "probe-units.sh",
    "probe-grpc.sh",
    "probe-runtimes.sh",
    "probe-kubernetes.sh",
    "probe-files.sh",
    "probe.sh",
)
"""The assets that make the probe; `main` is in the last one."""

REACH_PART = "probe-reach.sh"
"""The asset that is sent, too, when registries and package sources are to be tried."""

STEPS = (
    "system",
    "gpus",
    "driver",
    "toolkit",
    "services",
    "runtimes",
    "kubernetes",
    "files",
    "reach",
    "nvidia-smi",
)
"""What the probe looks at, in its order: it says each as ``@@ step:NAME`` before it begins with it."""

_STEP = b"\n@@ step:"
_STEP_LENGTH = len(_STEP) + max(len(step) for step in STEPS) + 1


@functools.cache
def probe_script(*, reach: bool = False, steps: bool = False) -> Script:
    """The probe as a script: it runs itself through ``sudo -n`` where that works, else as the login user. With `reach`
    the host asks its registries and package sources whether they answer. With `steps` it sends each step when it
    begins, and not with what comes after it: many small packets, which cost us a millisecond a host."""
    names = (*PARTS, REACH_PART) if reach else PARTS
    parts = [_lean(asset(f"remote/{name}").read_text(encoding="utf-8")) for name in names]
    start = _lean(asset("remote/probe-start.sh").read_text(encoding="utf-8"))
    plugins, live = (
        shlex.quote(_lean(asset(f"remote/{name}.pl").read_text(encoding="utf-8"))) for name in ("plugins", "live")
    )
    settings = f"REACH={int(reach)} STEPS={int(steps)} PLUGINS_PL={plugins} LIVE_PL={live}"
    text = "\n".join(["{", *parts, settings, 'main "$@" </dev/null', "}"])
    return Script(start, environment={"PROBE": text})


def _lean(text: str) -> str:
    """A script without its indentation and lines of comment: a quarter less to encrypt, send and parse, for each host.
    Texts in quotes that span lines are programs, too (awk, Perl), to which neither matters."""
    lines = (line.lstrip(" \t") for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if not line.startswith("#"))


async def probe_host(
    transport: Transport,
    *,
    sudo_password_known: bool,
    timeout: float = 90,
    on_step: Callable[[str], None] | None = None,
    reach: bool = False,
    now: Callable[[], float] | None = time.time,
) -> Probe:
    """Facts and configuration files of the host behind `transport`; `timeout` in seconds.

    `on_step` hears what the host is being looked at for, as it goes on: `STEPS`, in their order. With
    `sudo_password_known` the whole probe runs as root, with `reach` it asks registries and package sources whether
    they answer. `now` is this machine's clock, which the host's is compared with (seconds since the epoch); None for a
    simulated host, whose time is another. A host that answers in time but not to the end (an nvidia-smi that hangs on
    a lost GPU) gives a partial probe: `facts.unseen` says what is missing.

    Raises UnreachableError when the link dies and GpuwizardError when nothing useful came back. Where sudo does not
    take the password the host is probed without root.
    """
    started = time.monotonic()
    arrived = _Arrived(on_step)
    script = probe_script(reach=reach, steps=on_step is not None)
    try:
        raw, why = await _run(transport, script, arrived, root=sudo_password_known, timeout=timeout)
    except UnreachableError as error:
        if not (sudo_password_known and isinstance(error, LoginError)):
            raise
        arrived = _Arrived(on_step)
        raw, why = await _run(transport, script, arrived, root=False, timeout=timeout)
    from gpuwizard.containerd.dump import predicted_dump  # here, while the hosts are at work
    from gpuwizard.facts.parse import parse_probe

    received = now() if now is not None else None
    probe = parse_probe(raw, seconds=time.monotonic() - started, received=received, predict=predicted_dump)
    if not raw.lstrip().startswith(b"@@ begin") and b"\n@@ begin" not in raw:
        raise GpuwizardError(
            "the probe printed nothing that could be read",
            where=transport.name,
            remedy=f"the host said: {why}" if why else "log in by hand and run `sh -c 'echo works'`",
        )
    return probe


class _Arrived:
    """Standard output as far as it came; `on_step` hears of every ``@@ step:NAME`` in it."""

    def __init__(self, on_step: Callable[[str], None] | None) -> None:
        self.raw = bytearray()
        self._on_step = on_step

    def take(self, data: bytes) -> None:
        """Keep another piece. Of several steps in one piece only the last one is still going on."""
        unread = max(len(self.raw) - _STEP_LENGTH, 0)
        self.raw += data
        if self._on_step is None:
            return
        at = self.raw.rfind(_STEP, unread)
        end = self.raw.find(b" ", at + len(_STEP), at + _STEP_LENGTH) if at >= 0 else -1
        if end >= 0 and (step := self.raw[at + len(_STEP) : end].decode("ascii", "replace")) in STEPS:
            self._on_step(step)


async def _run(
    transport: Transport, script: Script, arrived: _Arrived, *, root: bool, timeout: float
) -> tuple[bytes, str]:
    """Standard output, and the last words on standard error. `arrived` collects it, for the case of a time-out."""
    try:
        done = await transport.run(script, root=root, timeout=timeout, on_data=arrived.take)
    except UnreachableError:
        raise
    except GpuwizardError as error:
        if b"\n@@ smi-started " not in arrived.raw:
            raise
        return bytes(arrived.raw), str(error)
    return done.stdout, clean_line(done.stderr.decode("utf-8", "replace"), 200)
