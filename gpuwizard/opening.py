"""From command-line arguments to a session: answers file, flags laid over it, passwords, simulated fleet."""

import argparse
import asyncio
import getpass
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import ValidationError

from gpuwizard import flow
from gpuwizard.answers.model import Answers
from gpuwizard.errors import UsageError
from gpuwizard.remote.target import parse_targets
from gpuwizard.secret import SUDO_PASSWORD_VARIABLE, Secret
from gpuwizard.session import Session

__all__ = ["answers_from", "check_choices", "open_session", "state_directory", "take_hosts"]

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
    from gpuwizard.answers.toml import read_answers, reason

    answers = base or (read_answers(Path(arguments.answers)) if arguments.answers is not None else Answers())
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
    except ValidationError as error:
        problem = error.errors()[0]
        raise UsageError(
            f"--{str(problem['loc'][-1]).replace('_', '-')} has a value that is not allowed: {reason(problem)}",
            remedy="gpuwizard --help",
        ) from error


@asynccontextmanager
async def open_session(arguments: argparse.Namespace, hosts: tuple[str, ...] = ()) -> AsyncIterator[Session]:
    """A session for these arguments; closed, with its fleet, at the end.

    `hosts` are the hosts of the command line: they replace those of the answers file.
    """
    session = Session(answers=answers_from(arguments), state_dir=state_directory())
    session.answers_path = Path(arguments.answers) if arguments.answers else None
    listed = session.answers.hosts
    if not arguments.simulate:
        await asyncio.to_thread(_passwords, session, arguments)
        take_hosts(session, hosts or listed)
        check_choices(session, listed)
        try:
            yield session
        finally:
            await flow.close(session)
        return
    from gpuwizard.fleet import open_fleet

    _make(state_directory())
    async with open_fleet(arguments.simulate, state_dir=state_directory() / "fleets", fresh=arguments.fresh) as fleet:
        session.fleet, session.clock, session.state_dir = fleet, fleet.clock, fleet.state_dir
        session.simulate = arguments.simulate
        take_hosts(session, hosts or listed or fleet.targets)
        check_choices(session, listed or fleet.targets)
        try:
            yield session
        finally:
            await flow.close(session)


def _make(state: Path) -> None:
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the folder for gpuwizard's state cannot be made: {error.strerror}",
            where=str(state),
            remedy="let GPUWIZARD_STATE_DIR name another one",
        ) from error


def take_hosts(session: Session, specs: Sequence[str]) -> None:
    """Take `specs` as the session's hosts. Raises UsageError for what is no host, or none of the simulated fleet."""
    names = [target.name for target in parse_targets(specs)]
    if session.fleet is None:
        session.set_hosts(specs)
        return
    there = session.fleet.targets
    if missing := [name for name in names if name not in there]:
        raise UsageError(
            f"the simulated fleet has no host {', '.join(missing)}",
            where=session.fleet.name,
            remedy=f"its hosts are {', '.join(there)}",
        )
    session.set_hosts(specs)


def check_choices(session: Session, listed: Sequence[str]) -> None:
    """Refuse choices for a host that nobody named: neither the answers file (`listed`) nor the command line.

    A run over some of the file's hosts leaves the choices for its others alone. Raises UsageError.
    """
    known = {target.name for target in parse_targets(listed)} | set(session.hosts)
    unknown = sorted(set(session.answers.host) - known)
    if unknown and known:
        raise UsageError(
            f"there are choices for a host that is not listed: {unknown[0]}",
            where=f"host.{unknown[0]}",
            remedy=f"name it among the hosts, or one of {', '.join(sorted(known))} instead",
        )


def _passwords(session: Session, arguments: argparse.Namespace) -> None:
    """Fill in the passwords that were announced by a flag, the environment (`cli.main` took it out) or the answers."""
    variable: Secret | None = getattr(arguments, "inherited_sudo_password", None)
    command = session.answers.connection.sudo_password_command
    if arguments.ask_pass:
        session.password = _ask("login password: ")
    if arguments.ask_sudo_pass:
        session.sudo_password = _ask("sudo password: ")
    elif variable:
        session.sudo_password = variable
    elif command:
        session.sudo_password = _from_command(command)


def _ask(prompt: str) -> Secret:
    if not sys.stdin.isatty():
        raise UsageError(
            "a password is to be asked for, but there is no terminal",
            remedy=f"set {SUDO_PASSWORD_VARIABLE}, or connection.sudo_password_command in the answers file",
        )
    return Secret(getpass.getpass(prompt))


def _why(error: OSError | ValueError | subprocess.TimeoutExpired) -> str:
    """Why the command could not be run, without a word of it: somebody may have put the password there."""
    match error:
        case subprocess.TimeoutExpired():
            return "it took more than 60 s"
        case OSError():
            return error.strerror or type(error).__name__
        case ValueError():
            return "its quotes do not match"


def _from_command(command: str) -> Secret:
    """The first line that the command prints. Its error text is shown, its output never."""
    try:
        done: subprocess.CompletedProcess[Any] = subprocess.run(
            shlex.split(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise UsageError(
            "sudo_password_command cannot be run",
            where=_why(error),
            remedy="it is a command, such as `pass show sudo`, and never the password itself",
        ) from None
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines or not lines[0]:
        raise UsageError(
            f"sudo_password_command ended with {done.returncode} and printed {'nothing' if not lines else 'something'}",
            where=done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "",
            remedy="run it by hand; its first line must be the password",
        )
    return Secret(lines[0])
