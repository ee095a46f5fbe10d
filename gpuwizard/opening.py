"""From command-line arguments to a session: answers file, flags laid over it, passwords, simulated fleet."""

import argparse
import asyncio
import getpass
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import platformdirs

from gpuwizard import flow
from gpuwizard.answers.model import Answers
from gpuwizard.answers.toml import read_answers
from gpuwizard.errors import UsageError
from gpuwizard.secret import Secret
from gpuwizard.session import Session

__all__ = ["SUDO_PASSWORD_VARIABLE", "answers_from", "open_session", "state_directory"]

SUDO_PASSWORD_VARIABLE = "GPUWIZARD_SUDO_PASSWORD"  # noqa: S105 - a name, not a password
_CONNECTION_FLAGS = (
    "user",
    "identity",
    "jump",
    "ssh_config",
    "known_hosts",
    "host_keys",
    "parallel",
    "connect_timeout",
)


def state_directory() -> Path:
    """Where runs, drafts and simulated fleets are kept: GPUWIZARD_STATE_DIR or the platform's place for state."""
    chosen = os.environ.get("GPUWIZARD_STATE_DIR")
    return Path(chosen).expanduser() if chosen else platformdirs.user_state_path("gpuwizard")


def answers_from(arguments: argparse.Namespace, base: Answers | None = None) -> Answers:
    """`base`, or else the answers file if there is one, with the flags laid over it. Raises UsageError."""
    answers = base or (read_answers(Path(arguments.answers)) if arguments.answers else Answers())
    data = answers.model_dump()
    for flag in _CONNECTION_FLAGS:
        value = getattr(arguments, flag, None)
        if value is not None:
            data["connection"][flag] = value
    for flag in ("kubeconfig", "context"):
        value = getattr(arguments, flag, None)
        if value is not None:
            data["kubernetes"][flag] = value
    try:
        return Answers.model_validate(data)
    except ValueError as error:
        raise UsageError(f"a flag has a value that is not allowed: {error}", remedy="gpuwizard --help") from error


@asynccontextmanager
async def open_session(arguments: argparse.Namespace, hosts: tuple[str, ...] = ()) -> AsyncIterator[Session]:
    """A session for these arguments; closed, with its fleet, at the end.

    `hosts` are the hosts of the command line: they replace those of the answers file.
    """
    session = Session(answers=answers_from(arguments), state_dir=state_directory())
    session.answers_path = Path(arguments.answers) if arguments.answers else None
    if not arguments.simulate:
        await asyncio.to_thread(_passwords, session, arguments)
        session.set_hosts(hosts or session.answers.hosts)
        try:
            yield session
        finally:
            await flow.close(session)
        return
    from gpuwizard.fleet import open_fleet

    async with open_fleet(arguments.simulate, state_dir=state_directory() / "fleets", fresh=arguments.fresh) as fleet:
        session.fleet, session.clock, session.state_dir = fleet, fleet.clock, fleet.state_dir
        session.set_hosts(_fleet_hosts(hosts or session.answers.hosts, fleet.targets, fleet.name))
        try:
            yield session
        finally:
            await flow.close(session)


def _fleet_hosts(asked: tuple[str, ...], there: tuple[str, ...], fleet: str) -> tuple[str, ...]:
    """The hosts of the fleet that were asked for; all of them when none was."""
    missing = [host for host in asked if host.rpartition("@")[2] not in there]
    if missing:
        raise UsageError(
            f"the simulated fleet has no host {', '.join(missing)}",
            where=fleet,
            remedy=f"its hosts are {', '.join(there)}",
        )
    return asked or there


def _passwords(session: Session, arguments: argparse.Namespace) -> None:
    """Fill in the passwords that were announced by a flag, the environment or the answers file."""
    variable = os.environ.pop(SUDO_PASSWORD_VARIABLE, None)
    command = session.answers.connection.sudo_password_command
    if arguments.ask_pass:
        session.password = _ask("login password: ")
    if arguments.ask_sudo_pass:
        session.sudo_password = _ask("sudo password: ")
    elif variable:
        session.sudo_password = Secret(variable)
    elif command:
        session.sudo_password = _from_command(command)


def _ask(prompt: str) -> Secret:
    if not sys.stdin.isatty():
        raise UsageError(
            "a password is to be asked for, but there is no terminal",
            remedy=f"set {SUDO_PASSWORD_VARIABLE}, or connection.sudo_password_command in the answers file",
        )
    return Secret(getpass.getpass(prompt))


def _from_command(command: str) -> Secret:
    """The first line that the command prints. Its error text is shown, its output never."""
    try:
        done: subprocess.CompletedProcess[Any] = subprocess.run(
            shlex.split(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        reason = "it took more than 60 s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        raise UsageError("sudo_password_command cannot be run", where=reason) from None
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines or not lines[0]:
        raise UsageError(
            f"sudo_password_command ended with {done.returncode} and printed {'nothing' if not lines else 'something'}",
            where=done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "",
            remedy="run it by hand; its first line must be the password",
        )
    return Secret(lines[0])
