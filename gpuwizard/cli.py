"""The command line: flags to front end, errors to exit codes (`cli.md`). Everything heavy is imported when needed."""

import argparse
import asyncio
import os
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, NoReturn

from gpuwizard import __version__
from gpuwizard.errors import GpuwizardError, InterruptedRunError, UsageError

__all__ = ["main"]

COMMANDS = {
    "check": "look at hosts and say what is right and wrong with them",
    "plan": "show every change as a diff; change nothing",
    "apply": "apply a saved plan; refused per host when it is stale",
    "validate": "prove with pods that GPUs work",
    "monitor": "watch GPUs and pods of all hosts",
    "rollback": "put back what a run changed; without a run: list the runs",
    "answers": "schema | check FILE | example",
    "demo": "the wizard on a simulated fleet; nothing real is touched",
}
LATER = ("diagnose", "resume", "uninstall", "effective", "bundle")
_EPILOG = """\
HOST is [user@]name[:port], a Host of the SSH configuration, @FILE (one host a line), or local (this machine).

exit codes: 0 done, 1 the answer is bad, 2 changes are pending (plan), 3 refused, 4 unreachable,
            64 wrong usage, 130 interrupted
try it without a GPU: gpuwizard demo"""


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are ours, so that they end with 64 and a remedy."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, remedy="gpuwizard --help")


def _common() -> argparse.ArgumentParser:
    """The options that every command takes."""
    parser = argparse.ArgumentParser(add_help=False)
    run = parser.add_argument_group("what to do")
    run.add_argument("--answers", metavar="FILE", help="answers file; without a command: run it without questions")
    run.add_argument("--simulate", metavar="FLEET", help="a simulated fleet: built-in name, folder or file")
    run.add_argument("--fresh", action="store_true", help="start the simulated fleet anew")
    run.add_argument("--dry-run", action="store_true", help="with --answers: stop after the plan")
    run.add_argument("--yes", action="store_true", help="do not ask before changes are made")
    login = parser.add_argument_group("how to log in")
    login.add_argument("--user", help="login name where a host names none")
    login.add_argument("--identity", metavar="FILE", help="private key")
    login.add_argument("--jump", metavar="HOST", help="jump host, several with commas")
    login.add_argument("--ssh-config", metavar="FILE", help="default ~/.ssh/config")
    login.add_argument("--known-hosts", metavar="FILE", help="default ~/.ssh/known_hosts")
    login.add_argument("--host-keys", choices=("strict", "ask", "accept-new"), help="what to do with unknown host keys")
    login.add_argument("-k", "--ask-pass", action="store_true", help="ask for the login password")
    login.add_argument("-K", "--ask-sudo-pass", action="store_true", help="ask for the sudo password")
    login.add_argument("--parallel", type=int, metavar="N", help="hosts at the same time (30)")
    login.add_argument("--connect-timeout", type=float, metavar="S", help="seconds (10)")
    cluster = parser.add_argument_group("the cluster")
    cluster.add_argument("--kubeconfig", metavar="FILE", help="default KUBECONFIG or ~/.kube/config")
    cluster.add_argument("--context", help="context of the kubeconfig")
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="one JSON document, or one object a line for streams")
    output.add_argument("--no-color", action="store_true", help="no colours (NO_COLOR is honoured too)")
    output.add_argument("--log-file", metavar="FILE", help="write a log of what the libraries say")
    output.add_argument("-v", "--verbose", action="store_true", help="say more; show tracebacks of errors")
    return parser


def _parser(command: str | None) -> _Parser:
    """The parser for one command, or for the wizard."""
    listing = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
    parser = _Parser(
        prog=f"gpuwizard {command}" if command else "gpuwizard",
        parents=[_common()],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=COMMANDS[command]
        if command
        else "Make NVIDIA GPUs usable in Kubernetes pods: look, show the diff, apply safely, prove it, watch it.\n\n"
        "commands (none: the wizard):\n" + listing,
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"gpuwizard {__version__}")
    if command == "check":
        parser.add_argument("--explain", metavar="ID", help="the whole story of one finding")
    if command == "plan":
        parser.add_argument("--out", metavar="FILE", help="save the plan for `gpuwizard apply FILE`")
    if command == "monitor":
        parser.add_argument("--interval", type=float, default=2.0, metavar="S", help="seconds between samples (2)")
    words = {
        "apply": "PLAN",
        "rollback": "RUN",
        "answers": "WORD",
        "demo": "FLEET",
    }.get(command or "", "HOST")
    parser.add_argument("words", nargs="*", metavar=words, help=argparse.SUPPRESS)
    return parser


def _parse(argv: Sequence[str]) -> tuple[str | None, argparse.Namespace]:
    """Find the command (the first word that is no option's value) and parse with its parser."""
    finder = _Parser(add_help=False, parents=[_common()])
    finder.add_argument("words", nargs="*")
    words = finder.parse_known_intermixed_args(list(argv))[0].words
    command = words[0] if words and words[0] in COMMANDS else None
    if words and words[0] in LATER:
        raise UsageError(
            f"`gpuwizard {words[0]}` is not part of version {__version__}", remedy="gpuwizard --help lists what is"
        )
    arguments = _parser(command).parse_intermixed_args(list(argv))
    if command:
        arguments.words.remove(command)
    return command, arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. `argv` defaults to the process's arguments."""
    arguments: argparse.Namespace | None = None
    try:
        command, arguments = _parse(sys.argv[1:] if argv is None else argv)
        if arguments.no_color:
            os.environ["NO_COLOR"] = "1"
        _log_to(arguments.log_file)
        return _dispatch(command, arguments)
    except GpuwizardError as error:
        if arguments is not None and arguments.verbose:
            raise
        return report(error)
    except KeyboardInterrupt:
        return report(InterruptedRunError("interrupted"))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def report(error: GpuwizardError) -> int:
    """Print an error as `cli.md` wants it; returns its exit code."""
    print(f"gpuwizard: {error}", file=sys.stderr)  # noqa: T201 - a front end
    if error.remedy:
        print(f"  try: {error.remedy}", file=sys.stderr)  # noqa: T201 - a front end
    return error.exit_code


def _log_to(path: str | None) -> None:
    """Send what libraries log to a file; nothing may write to the terminal under the screens."""
    import logging

    if path is None:
        logging.getLogger().addHandler(logging.NullHandler())
        return
    try:
        logging.basicConfig(
            filename=path, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
        )
    except OSError as error:
        raise UsageError(f"the log file cannot be written: {error}", where=path) from error


def _dispatch(command: str | None, arguments: argparse.Namespace) -> int:
    """Run one command. The wizard and the monitor draw; everything else is lines."""
    if command == "answers":
        from gpuwizard.commands import answers_command

        return answers_command(arguments)
    if command == "check" and arguments.explain:
        from gpuwizard.commands import explain_command

        return explain_command(arguments.explain)
    if command == "demo":
        arguments.simulate = arguments.words[0] if arguments.words else arguments.simulate or "mixed"
        arguments.words = []
    if command in (None, "demo") and not arguments.answers:
        return _wizard(arguments)
    if command == "monitor" and not arguments.json:
        return _wizard(arguments, monitor=True)
    from gpuwizard import commands, unattended

    if command in (None, "demo"):
        return _run(unattended.run_unattended(arguments))
    return _run(getattr(commands, f"{command}_command")(arguments))


def _run(task: Coroutine[Any, Any, int]) -> int:
    return asyncio.run(task)


def _wizard(arguments: argparse.Namespace, *, monitor: bool = False) -> int:
    """Start the Textual application, unless there is no terminal to draw on."""
    from screens.terminal import can_run

    reason = can_run()
    if reason is not None:
        raise UsageError(
            reason,
            remedy="gpuwizard monitor --json HOST… streams without a terminal"
            if monitor
            else "gpuwizard --answers FILE runs without a terminal",
        )
    from screens.start import start_monitor, start_wizard

    return start_monitor(arguments) if monitor else start_wizard(arguments)


if __name__ == "__main__":
    sys.exit(main())
