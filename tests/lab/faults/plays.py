"""What strikes a host, and the plays that are more than one operator who applies a plan."""

import asyncio
import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gpuwizard.errors import GpuwizardError
from gpuwizard.events import HostOutcome
from gpuwizard.secret import Secret
from tests.lab.faults.api import Api
from tests.lab.faults.relay import Relay
from tests.lab.faults.run import apply
from tests.lab.faults.site import RUNS, Site

__all__ = [
    "BREAK_CRI", "FAKE_CLOCK", "KILL_GUARD", "api_away", "api_forbids", "api_starts", "cut", "disarm_race", "foreign",
    "foreign_and_killed", "immutable", "inside", "interrupted", "killed_laptop", "mended", "power_loss", "reboot",
    "refused_by_plan", "relayed", "stall", "together", "two_at_once", "two_rollbacks", "untouchable", "with_api",
    "wrong_password",
]  # fmt: skip

_ANSWERS = """\
version = 1
hosts = ["{host}"]
[kubernetes]
manage = false
[rollout]
unit_hold = 1.0
node_hold = 0.0
confirm_timeout = 45.0
[validation]
enabled = false
"""


_GET_FLAGS, _SET_FLAGS, _IMMUTABLE = 0x80086601, 0x40086602, 0x10  # linux/fs.h

# With the new configuration the snapshotter's folder is a file: the daemon runs and its CRI plugin does not. No
# configuration check can see that.
BREAK_CRI = """mkdir -p /etc/systemd/system/containerd.service.d && cat >/usr/local/sbin/break-cri <<'END'
folder=/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs
rm -rf "$folder"
! grep -rqs nvidia /etc/containerd || : >"$folder"
END
printf '[Service]\\nExecStartPre=/bin/sh /usr/local/sbin/break-cri\\n' \\
    >/etc/systemd/system/containerd.service.d/cri.conf
systemctl daemon-reload"""

# Every shell that works for us in the host, whoever started it.
KILL_GUARD = "for p in /proc/[0-9]*; do ! grep -qs 'guard[.]sh' $p/cmdline || kill -KILL ${p#/proc/}; done; true"

# `date` is the only clock that the guard looks at; the timer counts the kernel's own seconds.
FAKE_CLOCK = """mkdir -p /usr/local/lib/faketime && echo +0 >/etc/faketimerc && cat >/usr/local/sbin/date <<'END'
#!/bin/sh
LD_PRELOAD=/usr/local/lib/faketime/libfaketime.so.1 FAKETIME_NO_CACHE=1 exec /usr/bin/date "$@"
END
chmod 755 /usr/local/sbin/date"""


def cut(site: Site) -> None:
    """The cable goes out at once; then every login of the host ends; after two seconds the cable is back."""
    site.host.cut()

    def rest() -> None:
        site.host.drop_logins()
        time.sleep(2)
        site.host.heal()

    if _in_loop():
        site.later(rest)
    else:
        rest()


def stall(site: Site) -> None:
    """The cable is out for four seconds, nobody is told, and all connections live on."""
    site.host.cut()

    def rest() -> None:
        time.sleep(4)
        site.host.heal()

    if _in_loop():
        site.later(rest)
    else:
        rest()


def power_loss(site: Site) -> None:
    """Every process ends at once; the host boots again from the same disk."""
    _away(site, site.host.crash)


def reboot(site: Site) -> None:
    """Somebody reboots the host in good order."""
    _away(site, site.host.reboot)


def _away(site: Site, how: "object") -> None:
    assert callable(how)
    if _in_loop():
        site.later(how)
    else:
        how()


def _in_loop() -> bool:
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        return True
    return False


class inside:
    """A strike that is a shell command inside the host."""

    def __init__(self, command: str, *, check: bool = True) -> None:
        self.command, self.check = command, check

    def __call__(self, site: Site) -> None:
        site.host.run(self.command.replace("FIRST", site.paths()[0] if site.planned else ""), check=self.check)


class together:
    """Several strikes at the same moment."""

    def __init__(self, *strikes: Callable[[Site], None]) -> None:
        self.strikes = strikes

    def __call__(self, site: Site) -> None:
        for strike in self.strikes:
            strike(site)


def foreign(site: Site) -> None:
    """Somebody else writes the first file of the plan."""
    site.write_foreign()


def immutable(site: Site) -> None:
    """`chattr +i` on the configuration and its folder (the flag is set from outside: not every host has chattr)."""
    _set_immutable(site, ["/etc/containerd/config.toml", "/etc/containerd"], True)


def _set_immutable(site: Site, paths: list[str], on: bool) -> None:
    for path in paths:
        descriptor = os.open(site.host.folder / "root" / path.lstrip("/"), os.O_RDONLY)
        try:
            flags = bytearray(8)
            fcntl.ioctl(descriptor, _GET_FLAGS, flags)
            flags[0] = flags[0] | _IMMUTABLE if on else flags[0] & ~_IMMUTABLE
            fcntl.ioctl(descriptor, _SET_FLAGS, flags)
        finally:
            os.close(descriptor)


class untouchable:
    """`chattr +i` on all that the run has written and on its folders, and then the service fails; or, `on` false, all
    of it can be touched again."""

    def __init__(self, on: bool = True) -> None:
        self.on = on

    def __call__(self, site: Site) -> None:
        paths = site.paths()
        _set_immutable(site, [*paths, *sorted({path.rpartition("/")[0] for path in paths})], self.on)
        if self.on:
            site.host.run("systemctl stop --no-block containerd")


def foreign_and_killed(site: Site) -> None:
    """Somebody else writes the first file of the plan, and then the service fails for good."""
    site.write_foreign()
    site.host.run("systemctl stop --no-block containerd")


class disarm_race:
    """The timer's own unit is started some seconds after the laptop began to confirm."""

    def __init__(self, pause: float) -> None:
        self.pause = pause

    def __call__(self, site: Site) -> None:
        def fire() -> None:
            site.host.run(
                f"sleep {self.pause}; cd {RUNS} && "
                'for run in *; do systemctl start --no-block "gpuwizard-revert-$run.service"; done',
                check=False,  # when the run is disarmed already there is nothing to start
            )

        if self.pause:
            site.later(fire)
        else:
            fire()


async def interrupted(site: Site) -> None:
    """Ctrl-C at the fault's moment."""
    transport = await site.login()
    plan = await site.plan(transport)
    operator = site.operator()
    moment = site.cell.fault.moment
    assert moment is not None
    running = asyncio.create_task(operator.apply(plan, transport))
    told = asyncio.create_task(operator.told(moment.step))
    await asyncio.wait({running, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    await asyncio.sleep(moment.pause)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    site.outcomes += [e for e in operator.events if isinstance(e, HostOutcome)]


async def killed_laptop(site: Site) -> None:
    """`gpuwizard --answers FILE` as a process of its own, killed when its journal tells the moment."""
    site.planned = await site.plan(transport := await site.login())
    await transport.close()
    answers = site.folder / "answers.toml"
    answers.write_text(_ANSWERS.format(host=site.host.name))
    state = site.folder / "killed"
    words = [sys.executable, "-m", "gpuwizard", "--answers", str(answers), "--user", "admin",
             "--ssh-config", str(site.lab.ssh_config), "--identity", str(site.lab.key),
             "--known-hosts", str(site.lab.known_hosts)]  # fmt: skip
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[3]), "HOME": str(site.folder),
        "LC_ALL": "C.UTF-8", "GPUWIZARD_STATE_DIR": str(state),
    }  # fmt: skip
    moment = site.cell.fault.moment
    assert moment is not None
    with (site.folder / "said").open("wb") as said:
        process = subprocess.Popen(
            words, env=environment, cwd=site.folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
    try:
        while process.poll() is None and _told(state, moment.step) < moment.nth:
            await asyncio.sleep(0.01)
        if moment.until:
            await asyncio.to_thread(site.host.wait_until, moment.until, timeout=40)
        await asyncio.sleep(moment.pause)
        if process.poll() is not None and _told(state, moment.step) < moment.nth:
            site.notes.append(f"never at {moment.step}: {(site.folder / 'said').read_text()[-600:]}")
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)


def _told(state: Path, step: str) -> int:
    lines = [line for path in state.glob("runs/*/events.jsonl") for line in path.read_text().splitlines()]
    count = 0
    for line in lines:
        with contextlib.suppress(ValueError):  # the last line may be half written
            count += json.loads(line)["data"].get("state") == step
    return count


async def two_at_once(site: Site) -> None:
    """Two people with the same plan, at the same moment."""
    mine, theirs = await site.login(), await site.login()
    plan = await site.plan(mine)
    reports = await asyncio.gather(site.operator("mine").apply(plan, mine), site.operator("theirs").apply(plan, theirs))
    site.outcomes += [outcome for report in reports for outcome in report.outcomes.values()]
    words = sorted(o.outcome for o in site.outcomes)
    if words != ["confirmed", "refused"]:
        site.notes.append(f"two at once ended as {words}")


class mended:
    """A revert that fails; then `mend`, and the run is rolled back by the same operator."""

    def __init__(self, mend: Callable[[Site], None]) -> None:
        self.mend = mend

    async def __call__(self, site: Site) -> None:
        operator = site.operator()
        plan = await site.plan(transport := await site.login())
        run = "run-1"
        report = await operator.apply(plan, transport, run_id=run)
        (outcome,) = report.outcomes.values()
        site.outcomes.append(outcome)
        if outcome.outcome != "failed":
            site.notes.append(f"the revert did not fail: {outcome}")
        for part in (f"sh {RUNS}/{run}/guard.sh undo {run}", f"{RUNS}/{run}/README.txt"):
            if part not in outcome.reason:
                site.notes.append(f"the report does not name {part}")
        await asyncio.to_thread(self.mend, site)
        report = await operator.roll_back(run, transport)
        site.outcomes += report.outcomes.values()


async def two_rollbacks(site: Site) -> None:
    """Two people take the same run back, at the same moment, with the same record of it."""
    mine, theirs = await site.login(), await site.login()
    operator, other = site.operator(), site.operator()
    report = await operator.apply(await site.plan(mine), mine, run_id="run-1")
    (first,) = report.outcomes.values()
    if first.outcome != "confirmed":
        site.notes.append(f"there is nothing to roll back: {first}")
    reports = await asyncio.gather(operator.roll_back("run-1", mine), other.roll_back("run-1", theirs))
    site.outcomes += [outcome for report in reports for outcome in report.outcomes.values()]
    site.taken_back = True
    words = sorted(o.outcome for o in site.outcomes)
    if words not in (["confirmed", "refused"], ["confirmed", "unchanged"]):
        site.notes.append(f"two at once ended as {words}")


async def refused_by_plan(site: Site) -> None:
    """The plan refuses the host; whoever applies it all the same is told so."""
    plan = await site.plan(transport := await site.login(), may_refuse=True)
    if not plan.hosts[0].refusals or plan.hosts[0].actions:
        site.notes.append("the plan does not refuse it")
    report = await site.operator().apply(plan, transport)
    site.outcomes += report.outcomes.values()


async def with_api(site: Site) -> None:
    """The usual play, with an API server whose word counts for the node's health."""
    site.api = await Api.open()
    await apply(site)


def api_away(site: Site) -> None:
    """The API server is away for five seconds."""
    assert site.api is not None
    site.beside(site.api.away(5))


def api_starts(site: Site) -> None:
    """The API server restarts: it is away, then answers 401, then 403, three seconds each."""
    assert site.api is not None
    site.beside(site.api.starting(9))


def api_forbids(site: Site) -> None:
    """The operator's user may no longer see nodes."""
    assert site.api is not None
    site.beside(site.api.forbidding())


async def wrong_password(site: Site) -> None:
    """The plan was made with the right sudo password, the apply has a wrong one."""
    plan = await site.plan(await site.login(user="admin"))
    try:
        transport = await site.login(user="ops", sudo_password=Secret("not-the-password"))
        report = await site.operator().apply(plan, transport)
    except GpuwizardError as error:
        site.outcomes.append(HostOutcome(site.host.name, "refused", str(error)))
        return
    site.outcomes += report.outcomes.values()


class relayed:
    """The host is reached through a relay of our own in front of its sshd."""

    def __init__(self, *, delay: float = 0.0, stall: float = 0.0, lives: float = 0.0) -> None:
        self.delay, self.stall, self.lives = delay, stall, lives

    async def __call__(self, site: Site) -> None:
        plan = await site.plan(direct := await site.login())
        await direct.close()
        relay = Relay(site.host.address, delay=self.delay, stall=self.stall, lives=self.lives)
        port = await relay.start()
        try:
            config, known = site.folder / "ssh_config", site.folder / "known_hosts"
            config.write_text(f"Host {site.host.name}\n  HostName 127.0.0.1\n  Port {port}\n")
            known.write_text(f"[127.0.0.1]:{port} {site.host.host_key}\n")
            transport = await site.login(ssh_config=config, known_hosts=known, connect_timeout=60.0)
            report = await site.operator().apply(plan, transport)
            site.outcomes += report.outcomes.values()
            await transport.close()
            if self.lives and not relay.dropped:
                site.notes.append("the relay never dropped a connection")
        finally:
            await relay.stop()
