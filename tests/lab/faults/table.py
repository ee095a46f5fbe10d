"""The faults, as data: what they are, how they are provoked, and how a host may end under each."""

from pathlib import Path

from tests.lab.faults import plays
from tests.lab.faults.model import Cell, End, Fault, Moment
from tests.lab.faults.says import (
    CONFIRMED,
    FILE,
    FULL_RUN,
    IN_TIME,
    LOST,
    REBOOTED,
    SCRIPT,
    STOPPED,
    UNIT,
    UNWRITTEN,
    says,
)

__all__ = ["CI", "FAULTS", "cells"]

_EITHER: tuple[End, ...] = ("as before", "applied")
_BACK: tuple[End, ...] = ("as before",)
_DONE: tuple[End, ...] = ("applied",)
_RUN = "/var/lib/gpuwizard/runs/*"

_BEFORE = {
    "before the lock": Moment("lock"),
    "before the facts are looked at again": Moment("check"),
    "before the backup": Moment("check", nth=2),
    "before the judgement": Moment("backup"),
    "before the revert is armed": Moment("judge"),
    "before the files are replaced": Moment("arm"),
    "before the restart": Moment("restart"),
    "before the health checks": Moment("health"),
    "before it is confirmed": Moment("confirm"),
}
_DURING = {
    "during the lock": Moment("lock", until="test -e /var/lib/gpuwizard/lock"),
    "while the facts are looked at again": Moment("check", pause=0.3),
    "during the backup": Moment("check", until=f"ls {_RUN}/params"),
    "during the judgement": Moment("check", until=f"ls -d {_RUN}/judge || ls {_RUN}/state"),
    "while the revert is being armed": Moment("judge", until=f"ls {_RUN}/boot"),
    "while the files are replaced": Moment("arm", until=f"grep -q -v -e prepared -e armed {_RUN}/state"),
    "during the restart": Moment("restart", pause=0.1),
    "during the health checks": Moment("health", pause=0.7),
    "during the confirmation": Moment("confirm", pause=0.05),
}
_AFTER = {
    "after it is confirmed, before the laptop hears of it": Moment("confirm", until=f"grep -q confirmed {_RUN}/state")
}
_MOMENTS = {**_BEFORE, **_DURING, **_AFTER}
_CHANGING = ("while the files are replaced", "during the restart", "during the health checks", "before it is confirmed")

_NVIDIA = "grep -rqs nvidia /etc/containerd"
_STATE_DISK = "mkdir -p /var/lib/gpuwizard && mount -t tmpfs -o size=16m tmpfs /var/lib/gpuwizard"
_CONFIG_DISK = (
    "cp -a /etc/containerd /root/kept && mount -t tmpfs -o size=16m,mode=755 tmpfs /etc/containerd && "
    "cp -a /root/kept/. /etc/containerd/"
)
_FILL = "dd if=/dev/zero of=%s/filler bs=1k 2>/dev/null; true"
# Looked for inside the host: what comes after it takes less time than a look from outside.
_UNTIL_BEGUN = f'n=0; until set -- {_RUN}/guard.sh && [ -e "$1" ]; do n=$((n + 1)); [ $n -lt 3000000 ] || break; done'
_FAIL_UNIT = (
    "mkdir -p /etc/systemd/system/containerd.service.d && printf '[Service]\\nExecStartPre=/bin/sh -c \"! "
    f"{_NVIDIA}\"\\n' >/etc/systemd/system/containerd.service.d/fail.conf && systemctl daemon-reload"
)
_STOP = "systemctl stop --no-block containerd"
_FLAP = f"for i in 1 2 3 4 5 6; do {_NVIDIA} || exit 0; systemctl kill -s KILL containerd; sleep 1; done; true"
_FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


def _links() -> list[Fault]:
    any_end = says(CONFIRMED, LOST, IN_TIME)
    faults = [
        Fault(name, "SSH cut", _EITHER, any_end, moment=moment, strike=plays.cut) for name, moment in _MOMENTS.items()
    ]
    faults += [
        Fault(name, "link stalls for 4 s", _DONE, says(CONFIRMED), moment=moment, strike=plays.stall)
        for name, moment in _MOMENTS.items()
        if name in ("before the lock", "before the revert is armed", *_CHANGING)
    ]
    slow = {"unit_hold": 1, "confirm_timeout": 120}
    faults.append(
        Fault("2,000 ms there and back", "slow link", _DONE, says(CONFIRMED), play=plays.relayed(delay=1.0),
              rollout=slow)
    )  # fmt: skip
    faults += [
        Fault(f"stalls every third second and drops after {lives}, {2 * lives} … s", "slow link", _EITHER, any_end,
              play=plays.relayed(delay=0.05, stall=0.6, lives=lives), rollout={"unit_hold": 4, "confirm_timeout": 60})
        for lives in (2, 5)
    ]  # fmt: skip
    return faults


def _laptops() -> list[Fault]:
    nobody = says("no run came so far$", "prepared", "abandoned", IN_TIME, CONFIRMED)
    killed = [
        Fault(name, "laptop killed (SIGKILL)", _EITHER, nobody, moment=moment, play=plays.killed_laptop)
        for name, moment in _MOMENTS.items()
        if name not in _AFTER and name != "during the lock"
    ]
    told = (
        "unchanged interrupted by the operator before anything was changed",
        "rolled-back interrupted by the operator",
    )
    stopped = [
        Fault(f"at {step}", "Ctrl-C", ends, says(*told, *also), moment=Moment(step), play=plays.interrupted)
        for step in ("lock", "check", "backup", "judge", "arm", "restart", "health", "confirm")
        for ends, also in (((_EITHER, (CONFIRMED,)),) if step == "confirm" else ((_BACK, ()),))
    ]
    return killed + stopped


def _hosts() -> list[Fault]:
    told = (LOST, REBOOTED, "refused the host was restarted since the plan was made")
    faults = [
        Fault(name, group, ends, says(*told, *also), moment=_MOMENTS[name], strike=strike)
        for group, strike in (("power lost", plays.power_loss), ("host rebooted", plays.reboot))
        for name in ("before the judgement", "while the revert is being armed", "before the health checks", *_CHANGING,
                     *_AFTER)
        for ends, also in (((_EITHER, (CONFIRMED,)),) if "confirm" in name else ((_BACK, ()),))
    ]  # fmt: skip
    group, kill = "the host's own script killed", plays.inside(plays.KILL_GUARD)
    faults += [
        Fault(name, group, _BACK, says(STOPPED), moment=_MOMENTS[name],
              strike=plays.inside("systemctl kill -s KILL 'gpuwizard-go-*'"))
        for name in ("before the restart", "during the restart", "during the health checks")
    ]  # fmt: skip
    faults += [
        Fault(name, group, ends, how, moment=_MOMENTS[name], strike=kill)
        for name, ends, how in (
            ("during the backup", _BACK, f"^failed {SCRIPT}.*; nothing was changed"),
            ("during the judgement", _BACK, f"^failed {SCRIPT}.*; nothing was changed"),
            # It may be armed already when the signal comes.
            ("while the revert is being armed", _EITHER, says(f"(?:refused|rolled-back) {SCRIPT}", STOPPED, CONFIRMED)),
            ("while the files are replaced", _BACK, says(f"rolled-back {SCRIPT}", STOPPED)),
        )
    ]
    faults.append(
        Fault("while it puts back", group, _BACK, says(f"rolled-back {UNIT}"), before=_FAIL_UNIT,
              moment=Moment("revert"), strike=kill)
    )  # fmt: skip
    return faults


def _services() -> list[Fault]:
    return [
        Fault("does not come back", "service", _BACK, says(f"rolled-back {UNIT}"), before=_FAIL_UNIT),
        Fault("flaps", "service", _BACK, says(f"rolled-back {UNIT}"), moment=Moment("health", pause=1.0),
              strike=plays.inside(_FLAP, check=False), rollout={"unit_hold": 4}),
        Fault("CRI in error while the unit is active", "service", _BACK,
              says(r"rolled-back containerd\.service runs, but its CRI plugin is error"), before=plays.BREAK_CRI),
    ]  # fmt: skip


def _disks() -> list[Fault]:
    group, state, config = "disk full", _FILL % "/var/lib/gpuwizard", _FILL % "/etc/containerd"
    small = "refused less than 10 MB are free"
    return [
        Fault("before the backup", group, _BACK, says(f"{small} in /var/lib/gpuwizard"), before=_STATE_DISK,
              moment=Moment("check"), strike=plays.inside(state)),
        Fault("during the backup and the staging", group, _BACK,
              says(small, "failed .*(?:no room|could not be).*; nothing was changed", "refused the .* could not be"),
              before=_STATE_DISK,
              moment=Moment("check", until="true"), strike=plays.inside(f"{_UNTIL_BEGUN}; {state}")),
        Fault("before the revert is armed", group, _BACK,
              says(f"rolled-back {FULL_RUN}", "refused the .* could not be"), before=_STATE_DISK,
              moment=Moment("judge"), strike=plays.inside(state)),
        Fault("before the files are replaced", group, _BACK,
              says(f"{UNWRITTEN}no space is left on the file system of /etc/containerd"), before=_CONFIG_DISK,
              moment=Moment("judge"), strike=plays.inside(config)),
        Fault("of the run folder, after the revert was armed", group, _BACK, says(f"rolled-back {FULL_RUN}"),
              before=_STATE_DISK, moment=Moment("arm"), strike=plays.inside(state)),
        Fault("of the run folder, during the health checks", group, _BACK, says(f"rolled-back {FULL_RUN}"),
              before=_STATE_DISK, moment=Moment("health"), strike=plays.inside(state)),
        Fault("of the configuration, when it is put back", group, _BACK, says(f"rolled-back {UNIT}"),
              before=_CONFIG_DISK, moment=Moment("health"), strike=plays.inside(f"{config}; {_STOP}")),
        Fault("of the configuration and the run folder, when it is put back", group, _BACK,
              says(f"rolled-back {UNIT}"), before=f"{_CONFIG_DISK} && {_STATE_DISK}", moment=Moment("health"),
              strike=plays.inside(f"{config}; {state}; {_STOP}")),
    ]  # fmt: skip


def _untouchable() -> list[Fault]:
    frozen, stuck, read_only = (
        "read-only file system",
        "immutable (chattr +i)",
        r"the file system of /etc/\S+ is read-only",
    )
    failed = f"^failed {UNIT}.*; putting it back failed: {FILE} could not be put back: "
    mended = r".*; by hand: \S+/README\.txt; confirmed "
    bound, frost = "mount --bind /etc/containerd /etc/containerd", "mount -o remount,ro,bind /etc/containerd"
    return [
        Fault("before the plan", frozen, _BACK, rf"^refused /etc/containerd\S* cannot be written: {read_only}",
              before=f"{bound} && {frost}"),
        Fault("between stage and replace", frozen, _BACK, says(UNWRITTEN + read_only), before=bound,
              moment=Moment("judge"), strike=plays.inside(frost)),
        Fault("when it is put back, then writable and rolled back", frozen, _BACK, failed + read_only + mended,
              before=bound, moment=Moment("health"), strike=plays.inside(f"{frost}; {_STOP}"),
              play=plays.mended(plays.inside("mount -o remount,rw,bind /etc/containerd"))),
        Fault("between plan and apply", stuck, _BACK, "^refused /etc/containerd.* immutable", between=plays.immutable),
        Fault("between stage and replace", stuck, _BACK, f"^{UNWRITTEN}.*immutable", moment=Moment("judge"),
              strike=plays.immutable),
        Fault("when it is put back, then mended and rolled back", stuck, _BACK, f"{failed}.*immutable{mended}",
              moment=Moment("health"), strike=plays.untouchable(), play=plays.mended(plays.untouchable(False))),
    ]  # fmt: skip


def _others() -> list[Fault]:
    group = "changed by somebody else"
    left: tuple[End, ...] = ("foreign",)
    changed = f"^rolled-back {FILE} was changed by somebody else after it was"
    locked = r"refused the host is locked: .*\brun \S+"
    return [
        Fault("between plan and apply", group, left, f"^refused .*{FILE}", between=plays.foreign),
        Fault("between stage and replace", group, left, f"{changed} backed up", moment=Moment("judge"),
              strike=plays.foreign),
        Fault("after the replace, and then the service fails", group, left,
              f"^rolled-back {UNIT}.*; foreign change left alone: {FILE}", moment=Moment("health"),
              strike=plays.foreign_and_killed),
        Fault("after the replace, all well", group, left, f"{changed} written", moment=Moment("health"),
              strike=plays.foreign),
        Fault("at once", "two gpuwizards", _DONE, rf"^(?=.*\bconfirmed\b)(?=.*{locked})", play=plays.two_at_once),
        Fault("roll the same run back", "two gpuwizards", _BACK,
              rf"^(?=.*\bconfirmed\b)(?=.*(?:{locked}|put back already))", play=plays.two_rollbacks),
        *(Fault(f"{pause:g} s after the confirmation began", "the timer fires while it is disarmed", _EITHER,
                says(CONFIRMED, IN_TIME), moment=Moment("confirm"), strike=plays.disarm_race(pause))
          for pause in (0, 0.05, 0.1, 0.2, 0.4)),
    ]  # fmt: skip


def _paths() -> list[Fault]:
    group, well = "unusual paths", says(CONFIRMED)
    return [
        Fault("the configuration is a symlink", group, _DONE, well,
              before="mkdir /etc/containerd.real && mv /etc/containerd/config.toml /etc/containerd.real/ && "
                     "ln -s ../containerd.real/config.toml /etc/containerd/config.toml"),
        Fault("its folder is a symlink", group, _DONE, well,
              before="mv /etc/containerd /etc/containerd.real && ln -s containerd.real /etc/containerd"),
        Fault("its folder is a mount", group, _DONE, well,
              before="cp -a /etc/containerd /root/real && mount --bind /root/real /etc/containerd"),
        Fault("the file is a mount", group, _EITHER,
              says(CONFIRMED, "refused /etc/containerd/config.toml is a mount point and cannot be replaced"),
              before="cp -a /etc/containerd/config.toml /root/c.toml && "
                     "mount --bind /root/c.toml /etc/containerd/config.toml"),
        Fault("the folder is not there", group, _DONE, well,
              before="rm -r /etc/containerd && systemctl restart containerd && sleep 1"),
        Fault("the state folder is a symlink", group, _BACK,
              says("refused there can be no run lock: /var/lib/gpuwizard is a symlink"),
              before="ln -s /tmp /var/lib/gpuwizard"),
    ]  # fmt: skip


def _sudo() -> list[Fault]:
    revoke = plays.inside("rm /etc/sudoers.d/with-password")
    without = r"unconfirmed the host could not be asked again: .*(?:sudo|root).*; unless confirmed it reverts by itself"
    return [
        Fault("wrong password", "sudo", _BACK, says("unreachable sudo refused the password of ops"),
              play=plays.wrong_password),
        # Root's shell is open from the lock to the end: what is taken away meanwhile is missed only by a new login.
        *(Fault(f"revoked {name}", "sudo", _DONE, says(CONFIRMED), moment=_MOMENTS[name], strike=revoke, user="ops")
          for name in ("before the backup", "before the revert is armed", "before the files are replaced",
                       "before the restart", "during the health checks", "before it is confirmed")),
        *(Fault(f"revoked, and SSH cut, {name}", "sudo", ends, says(without, IN_TIME, *also), moment=_MOMENTS[name],
                strike=plays.together(revoke, plays.cut), user="ops")
          for name in ("before the files are replaced", "during the health checks", "before it is confirmed")
          for ends, also in (((_EITHER, (CONFIRMED,)),) if "confirmed" in name else ((_BACK, ()),))),
        Fault("sudo-rs with a password", "sudo", _DONE, says(CONFIRMED), host={"sudo": "sudo-rs"}, user="ops",
              suites=("trixie",)),
        Fault("sudo-rs, SSH cut during the health checks", "sudo", _EITHER, says(CONFIRMED, LOST, IN_TIME),
              host={"sudo": "sudo-rs"}, user="ops", suites=("trixie",), moment=_MOMENTS["during the health checks"],
              strike=plays.cut),
        Fault("sshd and containerd run without it", "no systemd", _BACK, says("refused the host runs without systemd"),
              host={"init": "none"}, play=plays.refused_by_plan),
        Fault("systemd-run is not there", "no systemd", _BACK,
              says("refused without systemd the automatic revert cannot be armed"),
              before="mv /usr/bin/systemd-run /root/", simulated="systemd itself is there"),
    ]  # fmt: skip


def _apis() -> list[Fault]:
    forbidden = "rolled-back node node1 did not settle: the API server refuses: .* is forbidden: .*kubectl auth can-i"
    return [
        Fault(name, "API server, while the node is watched", ends, says(how), moment=Moment("node"), strike=strike,
              play=plays.with_api, suites=("trixie",), simulated="the API server is the fleet's stand-in")
        for name, ends, how, strike in (
            ("away for 5 s", _DONE, CONFIRMED, plays.api_away),
            ("restarts: away, then 401, then 403, 3 s each", _DONE, CONFIRMED, plays.api_starts),
            ("403 for good", _BACK, forbidden, plays.api_forbids),
        )
    ]  # fmt: skip


def _clocks() -> list[Fault]:
    if not _FAKETIME.exists():
        return []
    library = {"/usr/local/lib/faketime/libfaketime.so.1": _FAKETIME.read_bytes()}
    return [
        Fault(f"an hour {way} {name}", "clock jumps (libfaketime)", _EITHER, says(CONFIRMED, IN_TIME),
              before=plays.FAKE_CLOCK, host={"files": library}, moment=_MOMENTS[name],
              strike=plays.inside(f"echo {seconds} >/etc/faketimerc"))
        for way, seconds in (("ahead", "+3600"), ("back", "-3600"))
        for name in ("before the backup", "before the revert is armed", "before the files are replaced",
                     "before the restart", "during the health checks", "before it is confirmed")
    ]  # fmt: skip


FAULTS = [
    *_links(),
    *_laptops(),
    *_hosts(),
    *_services(),
    *_disks(),
    *_untouchable(),
    *_others(),
    *_paths(),
    *_sudo(),
    *_apis(),
    *_clocks(),
]


def cells() -> list[Cell]:
    """Every fault on every flavour; the slow ones first, so that they run beside the others."""
    made = [Cell(fault, suite) for fault in FAULTS for suite in fault.suites]
    return sorted(made, key=lambda cell: cell.fault.group not in ("laptop killed (SIGKILL)", "slow link", "sudo"))


def _one_each() -> list[Cell]:
    """One cell of each group, the flavours in turn."""
    chosen: dict[str, Fault] = {}
    for fault in FAULTS:
        if fault.group not in chosen or "health" in fault.name:
            chosen.setdefault(fault.group, fault)
            if "during the health checks" in fault.name:
                chosen[fault.group] = fault
    return [Cell(f, f.suites[n % len(f.suites)]) for n, f in enumerate(chosen.values())]


CI = _one_each()
