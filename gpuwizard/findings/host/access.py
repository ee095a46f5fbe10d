"""Rules about the rights on the host: how root is had, and why not (`hosts.md §8`)."""

import re

from gpuwizard.facts.model import Probe
from gpuwizard.findings.rule import Rule, Verdict, looked_at

__all__ = ["RULES"]

_NO_ROOT = ("GW-RUNTIME-005", "GW-DRIVER-034")
"""What is also said where only root could know better."""
_USER = frozenset(("the login user",))
_TTY = re.compile(r"must have a tty", re.IGNORECASE)
_ACCOUNT = re.compile(
    r"account (validation|management)|(account|password) (has|is) expired|account .*locked", re.IGNORECASE
)
_BROKEN = re.compile(
    r"sudo is not installed|sudo: (command )?not found|no new privileges|must be owned by uid 0|nosuid|"
    r"installed setuid|no valid sudoers sources|parse error in",
    re.IGNORECASE,
)


def _reason(probe: Probe) -> str:
    return probe.facts.privilege.reason or ""


def _refused(probe: Probe) -> bool:
    return not probe.readable and probe.facts.privilege.sudo != "password" and looked_at(probe)


def _login(probe: Probe) -> tuple[str, ...]:
    privilege = probe.facts.privilege
    return (f"logged in as {privilege.user or 'unknown'}", *((privilege.reason,) if privilege.reason else ()))


def _no_root(probe: Probe) -> Verdict | None:
    if not _refused(probe) or any(words.search(_reason(probe)) for words in (_TTY, _ACCOUNT, _BROKEN)):
        return None
    if probe.facts.privilege.sudo is None:
        return Verdict(_login(probe), about=_USER, severity="warning", title="whether sudo can be used is not known")
    return Verdict(_login(probe), about=_USER)


def _password(probe: Probe) -> Verdict | None:
    privilege = probe.facts.privilege
    if probe.readable or privilege.sudo != "password":
        return None
    return Verdict(
        (f"logged in as {privilege.user or 'unknown'}", privilege.reason or "sudo wants a password"), about=_USER
    )


def _terminal(probe: Probe) -> Verdict | None:
    return Verdict(_login(probe), about=_USER) if _refused(probe) and _TTY.search(_reason(probe)) else None


def _expired(probe: Probe) -> Verdict | None:
    return Verdict(_login(probe), about=_USER) if _refused(probe) and _ACCOUNT.search(_reason(probe)) else None


def _broken(probe: Probe) -> Verdict | None:
    return Verdict(_login(probe), about=_USER) if _refused(probe) and _BROKEN.search(_reason(probe)) else None


RULES = (
    Rule(
        "GW-HOST-002",
        "error",
        "no root rights",
        "The login user may not become root by sudo, so configuration files can be neither read nor written.",
        "Log in as root or as a user that sudo allows, e.g. `--user NAME`.",
        _no_root,
        ("hosts.md §8.2", "hosts.md §8.2 #4", "hosts.md §8.2 #8", "hosts.md §8.3"),
        effect="Runtime configuration, CRI state and Kubernetes files stay unseen, and nothing can be changed.",
        detected="What `sudo -n` said when the probe tried it.",
        messages=("is not in the sudoers file", "is not allowed to execute", "I'm afraid I can't do that"),
        sources=("sudo(8)", "trifectatechfoundation/sudo-rs"),
        instead_of=_NO_ROOT,
    ),
    Rule(
        "GW-HOST-003",
        "info",
        "sudo needs a password",
        "Without it the probe saw only what any user sees.",
        "Give it with -K, GPUWIZARD_SUDO_PASSWORD or when the wizard asks.",
        _password,
        ("hosts.md §8.2", "hosts.md §8.2 #1", "hosts.md §8.2 #2", "hosts.md §8.2 #7"),
        effect="Runtime configuration and Kubernetes files stay unseen, and nothing can be changed.",
        detected="What `sudo -n` said when the probe tried it; sudo-rs says the same in other words.",
        messages=(
            "sudo: a password is required",
            "sudo: a terminal is required to read the password",
            "sudo-rs: interactive authentication is required",
        ),
        sources=("sudo(8)", "trifectatechfoundation/sudo-rs#1461", "ansible/ansible#85837"),
        instead_of=_NO_ROOT,
    ),
    Rule(
        "GW-HOST-015",
        "error",
        "sudo demands a terminal",
        "sudoers has `requiretty`, which refuses sudo to programs that log in without one.",
        "As root, with `visudo -f /etc/sudoers.d/gpuwizard`: `Defaults:USER !requiretty`.",
        _terminal,
        ("hosts.md §8.2 #3",),
        effect="Runtime configuration and Kubernetes files stay unseen, and nothing can be changed.",
        detected="What `sudo -n` said when the probe tried it.",
        messages=("sudo: sorry, you must have a tty to run sudo",),
        sources=("sudoers(5) requiretty",),
        instead_of=_NO_ROOT,
    ),
    Rule(
        "GW-HOST-016",
        "error",
        "the account or its password has expired",
        "PAM refuses the account, so sudo refuses it as well, whatever sudoers says.",
        "Log in by hand and set a new password, or as root: `chage -l USER`, `chage -E -1 USER`.",
        _expired,
        ("hosts.md §8.2 #6",),
        effect="Runtime configuration and Kubernetes files stay unseen; soon the login itself may be refused.",
        detected="What `sudo -n` said when the probe tried it.",
        messages=("sudo: PAM account management error", "sudo: Account or password is expired"),
        sources=("sudo(8)", "pam_acct_mgmt(3)"),
        instead_of=_NO_ROOT,
    ),
    Rule(
        "GW-HOST-017",
        "error",
        "sudo is missing or does not work",
        "There is no sudo, or it cannot become root: its file lost the setuid bit, lies on a nosuid file system, the "
        "session forbids new privileges, or sudoers has an error.",
        "Log in as root (`--user root`), or repair it: `apt-get install --reinstall sudo`, `visudo -c`. doas is not "
        "used, because it takes no password without a terminal.",
        _broken,
        ("hosts.md §8.1", "hosts.md §8.2 #8"),
        effect="Runtime configuration and Kubernetes files stay unseen, and nothing can be changed.",
        detected="What `sudo -n` said when the probe tried it, or that there is no such program.",
        messages=(
            "sudo: /usr/bin/sudo must be owned by uid 0 and have the setuid bit set",
            'The "no new privileges" flag is set, which prevents sudo from running as root',
        ),
        sources=("sudo(8)", "doas(1)"),
        instead_of=_NO_ROOT,
    ),
)
