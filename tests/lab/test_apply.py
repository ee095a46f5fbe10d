"""The protocol of a change on real hosts, and everything that can go wrong in it: links, power, operators, disks."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwizard.answers.model import Answers
from gpuwizard.events import HostOutcome
from gpuwizard.remote.transport import Transport
from gpuwizard.secret import Secret
from gpuwizard.work.host_lock import HostLock
from gpuwizard.work.report import Report
from tests.lab.faults.plays import BREAK_CRI
from tests.lab.harness import judge
from tests.lab.harness.host import LabHost
from tests.lab.harness.lab import Lab
from tests.lab.harness.recipe import SUITES
from tests.lab.operators import Operator

Login = Callable[..., Awaitable[Transport]]
FreshHost = Callable[..., LabHost]

RUNS = "/var/lib/gpuwizard/runs"
# A private mount namespace per file would not show on the host; owner, mode and times would.
LOOK = "cd /etc/containerd && find . -exec stat -c '%n %F %a %u %g %N' {} + | sort && stat -c '%n %Y' config.toml"
LEFT = (
    "systemctl list-units --state=active,activating,failed --plain --no-legend 'gpuwizard*';"
    "ls -d /etc/systemd/system/gpuwizard* /etc/systemd/system/*.wants/gpuwizard* /var/lib/gpuwizard/runs/*/armed "
    "/etc/containerd/.gpuwizard* /tmp/gpuwizard.* 2>/dev/null;"
    "findmnt -rno TARGET | grep -v gpuwizard-lab | grep -e gpuwizard -e ^/etc/; true"
)
CRI = "ctr plugins ls | awk '$1 ~ /cri/ || $2 == \"cri\" { print $NF }' | sort -u"


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    answers = {"kubernetes": {"manage": False}, "rollout": {"unit_hold": 3, "node_hold": 0, "confirm_timeout": 60}}
    return Operator(tmp_path / "state", Answers.model_validate(answers))


def only(report: Report) -> HostOutcome:
    (outcome,) = report.outcomes.values()
    return outcome


def state_word(host: LabHost) -> str:
    return host.run(f"cat {RUNS}/*/state | cut -d ' ' -f 1").stdout.strip()


def handlers(host: LabHost) -> bool:
    return host.run("containerd config dump | grep -q 'runtimes.*nvidia'", check=False).status == 0


@pytest.mark.parametrize("suite", SUITES)
async def test_apply_and_roll_back_byte_exact(
    suite: str, fresh_host: FreshHost, login: Login, operator: Operator
) -> None:
    host = fresh_host(suite)
    host.run("chmod 640 /etc/containerd/config.toml && chgrp adm /etc/containerd/config.toml")
    before, look = judge.installed(host), host.run(LOOK).stdout
    transport = await login(host)
    report = await operator.apply(await operator.plan(transport), transport, run_id="run-1")
    assert only(report).outcome == "confirmed", only(report)
    assert handlers(host)
    assert host.run(CRI).stdout == "ok\n"
    assert host.run("stat -c '%a %G' /etc/containerd/config.toml").stdout == "640 adm\n"
    assert host.run(LEFT).stdout == ""
    again = await operator.plan(transport)
    assert again.empty, "a second plan finds nothing to do"

    report = await operator.roll_back("run-1", transport)
    assert only(report).outcome == "confirmed", only(report)
    assert judge.installed(host) == before
    assert host.run(LOOK).stdout == look, "modes, owners and times as well"
    assert host.run(CRI).stdout == "ok\n"
    assert host.run(LEFT).stdout == ""
    assert host.run("journalctl -b --no-pager -o cat _PID=1 | grep -ci 'reloading'", check=False).stdout == "0\n"


@pytest.mark.parametrize("suite", SUITES)
async def test_a_configuration_that_breaks_cri_is_undone_while_the_link_is_cut(
    suite: str, fresh_host: FreshHost, login: Login, operator: Operator
) -> None:
    host = fresh_host(suite)
    host.run(BREAK_CRI)
    before = judge.installed(host)
    transport = await login(host)
    plan = await operator.plan(transport)
    running = asyncio.create_task(operator.apply(plan, transport))
    await asyncio.to_thread(host.wait_until, f"grep -q -e ^applying -e ^reverting {RUNS}/*/state")
    with host.link_cut():
        await asyncio.to_thread(host.wait_until, f"grep -q ^reverted {RUNS}/*/state", timeout=50)
        assert judge.installed(host) == before
        assert host.run(CRI).stdout == "ok\n"
    outcome = only(await running)
    assert outcome.outcome == "rolled-back", outcome
    assert "CRI plugin is error" in outcome.reason
    assert "snapshotter" in outcome.reason, "with the runtime's own words"
    assert host.run(LEFT).stdout == ""


async def test_the_timer_reverts_what_nobody_finished_or_confirmed(
    fresh_host: FreshHost, login: Login, operator: Operator
) -> None:
    """The link is cut and the script that watches the health is killed: only the armed timer is left."""
    host = fresh_host("trixie")
    before = judge.installed(host)
    transport = await login(host)
    operator.answers = operator.answers.model_copy(
        update={"rollout": operator.answers.rollout.model_copy(update={"unit_hold": 25, "confirm_timeout": 60})}
    )
    plan = await operator.plan(transport)
    running = asyncio.create_task(operator.apply(plan, transport))
    await operator.told("health")
    with host.link_cut():
        host.run("systemctl kill -s KILL 'gpuwizard-go-*'")
        assert state_word(host) == "applying"
        assert handlers(host)
        await asyncio.to_thread(host.wait_until, f"grep -q ^reverted {RUNS}/*/state", timeout=90)
    assert judge.installed(host) == before
    outcome = only(await running)
    assert outcome.outcome == "rolled-back", outcome
    assert "not confirmed within 60 s" in outcome.reason


@pytest.mark.parametrize("suite", SUITES)
async def test_power_is_lost_in_the_middle(suite: str, fresh_host: FreshHost, login: Login, operator: Operator) -> None:
    host = fresh_host(suite)
    before = judge.installed(host)
    transport = await login(host)
    running = asyncio.create_task(operator.apply(await operator.plan(transport), transport))
    await operator.told("health")
    await asyncio.to_thread(host.crash)
    assert judge.installed(host) == before
    outcome = only(await running)
    assert outcome.outcome == "rolled-back", outcome
    assert host.wait_until(f"{CRI} | grep -x ok").status == 0
    assert host.run("systemctl list-jobs --no-legend").stdout == "", "nothing waits for anything: no deadlock"
    started = host.run("systemctl show -P ActiveEnterTimestampMonotonic containerd").stdout
    assert int(started) > 0
    assert host.run("journalctl -b --no-pager -u containerd -o cat | grep -c nvidia", check=False).stdout == "0\n", (
        "the files were back before the runtime started"
    )
    assert host.run(LEFT).stdout == ""


async def test_a_reboot_between_plan_and_apply_is_stale(
    fresh_host: FreshHost, login: Login, operator: Operator
) -> None:
    host = fresh_host("bookworm")
    transport = await login(host)
    plan = await operator.plan(transport)
    changed = replace(plan, hosts=tuple(replace(h, boot_id="another-boot") for h in plan.hosts))
    outcome = only(await operator.apply(changed, transport))
    assert outcome.outcome == "refused"
    assert "boot" in outcome.reason
    assert not host.exists(RUNS)


async def test_a_file_changed_between_plan_and_apply_is_stale_and_the_other_host_goes_on(
    fresh_host: FreshHost, login: Login, operator: Operator
) -> None:
    stale, good = fresh_host("bookworm"), fresh_host("trixie")
    transports = [await login(stale), await login(good)]
    plan = await operator.plan(*transports)
    stale.run("echo '# by hand' >>/etc/containerd/config.toml")
    touched = judge.installed(stale)
    report = await operator.apply(plan, *transports)
    assert report.outcomes[stale.name].outcome == "refused"
    assert "/etc/containerd/config.toml" in report.outcomes[stale.name].reason
    assert report.outcomes[good.name].outcome == "confirmed"
    assert judge.installed(stale) == touched


async def test_a_locked_host_says_who_and_a_silent_laptop_loses_the_lock(
    fresh_host: FreshHost, login: Login, operator: Operator
) -> None:
    host = fresh_host("sid")
    mine, theirs = await login(host), await login(host)
    plan = await operator.plan(mine)
    lock = HostLock(theirs, "other-run", "ann on desk, run other-run, since noon", operator.clock)
    await lock.take()
    outcome = only(await operator.apply(plan, mine))
    assert outcome.outcome == "refused"
    assert "ann on desk" in outcome.reason
    with host.link_cut():
        took = "flock -n /var/lib/gpuwizard/lock true"
        assert host.run(took, check=False).status != 0, "sshd does not know yet that the link is gone"
        await asyncio.to_thread(host.wait_until, took, timeout=45)
    await lock.release()
    await mine.reconnect()
    assert only(await operator.apply(plan, mine)).outcome == "confirmed"


@pytest.mark.parametrize("step", ["judge", "restart", "health"])
async def test_ctrl_c_puts_the_host_back(step: str, fresh_host: FreshHost, login: Login, operator: Operator) -> None:
    host = fresh_host("trixie")
    before = judge.installed(host)
    transport = await login(host)
    running = asyncio.create_task(operator.apply(await operator.plan(transport), transport))
    await operator.told(step)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (outcome,) = [e for e in operator.events if isinstance(e, HostOutcome)]
    assert outcome.outcome in ("rolled-back", "unchanged")
    assert judge.installed(host) == before
    assert host.run(CRI).stdout == "ok\n"
    assert host.run(LEFT).stdout == ""


async def test_a_full_disk_is_refused_before_anything(fresh_host: FreshHost, login: Login, operator: Operator) -> None:
    host = fresh_host("bookworm")
    before = judge.installed(host)
    host.run("mkdir -p /var/lib/gpuwizard && mount -t tmpfs -o size=1m tmpfs /var/lib/gpuwizard")
    transport = await login(host)
    outcome = only(await operator.apply(await operator.plan(transport), transport))
    assert outcome.outcome == "refused"
    assert "10 MB" in outcome.reason
    assert judge.installed(host) == before


async def test_the_disk_fills_up_in_the_middle(fresh_host: FreshHost, login: Login, operator: Operator) -> None:
    """No space in the configuration's own file system when the new bytes are written: all is as it was."""
    host = fresh_host("trixie")
    host.run(
        "cp -a /etc/containerd /root/kept && mount -t tmpfs -o size=16m,mode=755 tmpfs /etc/containerd && "
        "cp -a /root/kept/. /etc/containerd/"
    )
    before = judge.installed(host)
    transport = await login(host)
    plan = await operator.plan(transport)
    running = asyncio.create_task(operator.apply(plan, transport))
    await operator.told("judge")
    host.run("dd if=/dev/zero of=/etc/containerd/filler bs=1k 2>/dev/null; true")
    outcome = only(await running)
    assert outcome.outcome == "rolled-back", outcome
    assert "could not be written" in outcome.reason
    host.run("rm /etc/containerd/filler")
    assert judge.installed(host) == before
    assert host.run(CRI).stdout == "ok\n"


async def test_a_service_that_does_not_start_gets_its_file_back(
    fresh_host: FreshHost, login: Login, operator: Operator
) -> None:
    """Something that no configuration check can see: the unit's own pre-start fails when the new file is there."""
    host = fresh_host("sid")
    host.write(
        "/etc/systemd/system/containerd.service.d/fail.conf",
        b"[Service]\nExecStartPre=/bin/sh -c '! grep -rq nvidia /etc/containerd'\n",
    )
    host.run("systemctl daemon-reload")
    before = judge.installed(host)
    transport = await login(host)
    outcome = only(await operator.apply(await operator.plan(transport), transport))
    assert outcome.outcome == "rolled-back", outcome
    assert judge.installed(host) == before
    assert host.run("systemctl is-active containerd").stdout == "active\n"
    assert host.run(CRI).stdout == "ok\n"


async def test_root_by_a_password_that_is_nowhere_afterwards(
    lab: Lab, fresh_host: FreshHost, login: Login, operator: Operator
) -> None:
    host = fresh_host("bookworm")
    password = lab.passwords["ops"]
    transport = await login(host, user="ops", sudo_password=Secret(password))
    assert only(await operator.apply(await operator.plan(transport), transport)).outcome == "confirmed"
    found = host.run(f"grep -rlF -- {password} {RUNS} /var/log /etc/systemd /tmp /run/systemd/transient", check=False)
    assert found.stdout == ""
    assert password not in "".join(p.read_text() for p in operator.state.rglob("*") if p.is_file())


async def test_an_edit_between_apply_and_rollback_is_left_alone(
    fresh_host: FreshHost, login: Login, operator: Operator
) -> None:
    host = fresh_host("trixie")
    transport = await login(host)
    await operator.apply(await operator.plan(transport), transport, run_id="run-1")
    host.run("echo '# mine' >>/etc/containerd/config.toml")
    mine = judge.installed(host)
    outcome = only(await operator.roll_back("run-1", transport))
    assert outcome.outcome == "refused"
    assert "changed by somebody else" in outcome.reason
    assert judge.installed(host) == mine


async def test_a_person_can_restore_from_the_manifest(fresh_host: FreshHost, login: Login, operator: Operator) -> None:
    host = fresh_host("sid")
    before, look = judge.installed(host), host.run(LOOK).stdout
    transport = await login(host)
    await operator.apply(await operator.plan(transport), transport, run_id="run-1")
    assert judge.installed(host) != before
    manifest = json.loads(host.read(f"{RUNS}/run-1/manifest.json"))
    commands = "\n".join(file["restore"] for file in reversed(manifest["files"]))
    host.run(f"{commands}\nrmdir /etc/containerd/conf.d 2>/dev/null; systemctl restart containerd")
    assert judge.installed(host) == before
    assert host.run(LOOK).stdout == look
