"""The faults, as data: what they are, how they are provoked, and how a host may end under each."""

from pathlib import Path

from tests.lab.faults import plays
from tests.lab.faults.model import Cell, End, Fault, Moment

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
_FAIL_UNIT = (
    "mkdir -p /etc/systemd/system/containerd.service.d && printf '[Service]\\nExecStartPre=/bin/sh -c \"! "
    f"{_NVIDIA}\"\\n' >/etc/systemd/system/containerd.service.d/fail.conf && systemctl daemon-reload"
)
_FLAP = f"for i in 1 2 3 4 5 6; do {_NVIDIA} || exit 0; systemctl kill -s KILL containerd; sleep 1; done; true"
_FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


def _links() -> list[Fault]:
    faults = [Fault(name, "SSH cut", _EITHER, moment=moment, strike=plays.cut) for name, moment in _MOMENTS.items()]
    faults += [
        Fault(name, "link stalls for 4 s", _DONE, moment=moment, strike=plays.stall)
        for name, moment in _MOMENTS.items()
        if name in ("before the lock", "before the revert is armed", *_CHANGING)
    ]
    slow = {"unit_hold": 1, "confirm_timeout": 120}
    faults.append(Fault("2,000 ms there and back", "slow link", _DONE, play=plays.relayed(delay=1.0), rollout=slow))
    faults += [
        Fault(f"stalls every third second and drops after {lives}, {2 * lives} … s", "slow link", _EITHER,
              play=plays.relayed(delay=0.05, stall=0.6, lives=lives), rollout={"unit_hold": 4, "confirm_timeout": 60})
        for lives in (2, 5)
    ]  # fmt: skip
    return faults


def _laptops() -> list[Fault]:
    steps = {k: m for k, m in _BEFORE.items() if m.step != "lock"} | {
        "during the restart": _DURING["during the restart"],
        "during the health checks": _DURING["during the health checks"],
        "during the confirmation": _DURING["during the confirmation"],
    }
    killed = [Fault(name, "laptop killed (SIGKILL)", _EITHER, moment=m, play=plays.killed_laptop)
              for name, m in steps.items()]  # fmt: skip
    stopped = [
        Fault(
            f"at {step}", "Ctrl-C", _EITHER if step == "confirm" else _BACK, moment=Moment(step), play=plays.interrupted
        )
        for step in ("lock", "check", "backup", "judge", "arm", "restart", "health", "confirm")
    ]
    return killed + stopped


def _hosts() -> list[Fault]:
    faults = [
        Fault(name, "power lost", _EITHER if "confirm" in name else _BACK, moment=moment, strike=plays.power_loss)
        for name, moment in _MOMENTS.items()
        if name in ("before the judgement", "while the revert is being armed", "before the health checks",
                    "after it is confirmed, before the laptop hears of it", *_CHANGING)
    ]  # fmt: skip
    faults += [
        Fault(
            name, "host rebooted", _EITHER if "confirm" in name else _BACK, moment=_MOMENTS[name], strike=plays.reboot
        )
        for name in ("during the health checks", "before it is confirmed")
    ]
    faults += [
        Fault(name, "the host's own script killed", _BACK, moment=_MOMENTS[name],
              strike=plays.inside("systemctl kill -s KILL 'gpuwizard-go-*'"))
        for name in ("during the restart", "during the health checks")
    ]  # fmt: skip
    return faults


def _services() -> list[Fault]:
    return [
        Fault("does not come back", "service", _BACK, before=_FAIL_UNIT),
        Fault("flaps", "service", _BACK, moment=Moment("health", pause=1.0), strike=plays.inside(_FLAP, check=False),
              rollout={"unit_hold": 4}),
        Fault("CRI in error while the unit is active", "service", _BACK, before=plays.BREAK_CRI),
    ]  # fmt: skip


def _disks() -> list[Fault]:
    state, config = _FILL % "/var/lib/gpuwizard", _FILL % "/etc/containerd"
    return [
        Fault("before the backup", "disk full", _BACK, before=_STATE_DISK, moment=Moment("check"),
              strike=plays.inside(state)),
        Fault("during the backup and the staging", "disk full", _BACK, before=_STATE_DISK,
              moment=Moment("check", until=f"ls {_RUN}/guard.sh"), strike=plays.inside(state)),
        Fault("before the revert is armed", "disk full", _BACK, before=_STATE_DISK, moment=Moment("judge"),
              strike=plays.inside(state)),
        Fault("before the files are replaced", "disk full", _BACK, before=_CONFIG_DISK, moment=Moment("judge"),
              strike=plays.inside(config)),
        Fault("of the run folder, after the revert was armed", "disk full", _BACK, before=_STATE_DISK,
              moment=Moment("arm"), strike=plays.inside(state)),
        Fault("of the run folder, during the health checks", "disk full", _BACK, before=_STATE_DISK,
              moment=Moment("health"), strike=plays.inside(state)),
        Fault("before the plan", "read-only file system", _BACK,
              before="mount --bind /etc/containerd /etc/containerd && mount -o remount,ro,bind /etc/containerd"),
        Fault("between stage and replace", "read-only file system", _BACK,
              before="mount --bind /etc/containerd /etc/containerd", moment=Moment("judge"),
              strike=plays.inside("mount -o remount,ro,bind /etc/containerd")),
        Fault("between plan and apply", "immutable (chattr +i)", _BACK,
              between=plays.immutable),
        Fault("between stage and replace", "immutable (chattr +i)", _BACK, moment=Moment("judge"),
              strike=plays.immutable),
    ]  # fmt: skip


def _others() -> list[Fault]:
    left: tuple[End, ...] = ("foreign",)
    return [
        Fault("between plan and apply", "changed by somebody else", left, between=plays.foreign),
        Fault("between stage and replace", "changed by somebody else", left, moment=Moment("judge"),
              strike=plays.foreign),
        Fault("after the replace, and then the service fails", "changed by somebody else", left,
              moment=Moment("health"), strike=plays.foreign_and_killed),
        Fault("after the replace, all well", "changed by somebody else", left, moment=Moment("health"),
              strike=plays.foreign),
        Fault("at once", "two gpuwizards", _DONE, play=plays.two_at_once),
        *(Fault(f"{pause:g} s after the confirmation began", "the timer fires while it is disarmed", _EITHER,
                moment=Moment("confirm"), strike=plays.disarm_race(pause)) for pause in (0, 0.05, 0.1, 0.2, 0.4)),
    ]  # fmt: skip


def _paths() -> list[Fault]:
    return [
        Fault("the configuration is a symlink", "unusual paths", _DONE,
              before="mkdir /etc/containerd.real && mv /etc/containerd/config.toml /etc/containerd.real/ && "
                     "ln -s ../containerd.real/config.toml /etc/containerd/config.toml"),
        Fault("its folder is a symlink", "unusual paths", _DONE,
              before="mv /etc/containerd /etc/containerd.real && ln -s containerd.real /etc/containerd"),
        Fault("its folder is a mount", "unusual paths", _DONE,
              before="cp -a /etc/containerd /root/real && mount --bind /root/real /etc/containerd"),
        Fault("the file is a mount", "unusual paths", _EITHER,
              before="cp -a /etc/containerd/config.toml /root/c.toml && "
                     "mount --bind /root/c.toml /etc/containerd/config.toml"),
        Fault("the folder is not there", "unusual paths", _DONE,
              before="rm -r /etc/containerd && systemctl restart containerd && sleep 1"),
        Fault("the state folder is a symlink", "unusual paths", _BACK, before="ln -s /tmp /var/lib/gpuwizard"),
    ]  # fmt: skip


def _sudo() -> list[Fault]:
    revoke = plays.inside("rm /etc/sudoers.d/with-password")
    return [
        Fault("wrong password", "sudo", _BACK, play=plays.wrong_password),
        *(Fault(f"revoked {name}", "sudo", _EITHER if "confirmed" in name else _BACK, moment=_MOMENTS[name],
                strike=revoke, user="ops")
          for name in ("before the revert is armed", "before the restart", "before it is confirmed")),
        Fault("sudo-rs with a password", "sudo", _DONE, host={"sudo": "sudo-rs"}, user="ops", suites=("trixie",)),
        Fault("sudo-rs, SSH cut during the health checks", "sudo", _EITHER, host={"sudo": "sudo-rs"}, user="ops",
              suites=("trixie",), moment=_MOMENTS["during the health checks"], strike=plays.cut),
        Fault("systemd-run is not there", "no systemd", _BACK, before="mv /usr/bin/systemd-run /root/",
              simulated="hosts of the lab are booted by systemd"),
    ]  # fmt: skip


def _clocks() -> list[Fault]:
    if not _FAKETIME.exists():
        return []
    faults = []
    for seconds in (3600, -3600):
        way = "ahead" if seconds > 0 else "back"
        for name in ("before the revert is armed", "before the files are replaced", "during the health checks"):
            faults.append(
                Fault(f"an hour {way} {name}", "clock jumps (libfaketime)", _EITHER, before=plays.FAKE_CLOCK,
                      host={"files": {"/usr/local/lib/faketime/libfaketime.so.1": _FAKETIME.read_bytes()}},
                      moment=_MOMENTS[name], strike=plays.inside(f"echo {seconds:+d} >/etc/faketimerc"))
            )  # fmt: skip
    return faults


FAULTS = [*_links(), *_laptops(), *_hosts(), *_services(), *_disks(), *_others(), *_paths(), *_sudo(), *_clocks()]


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
