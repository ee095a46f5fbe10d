"""The command line: flags to front end, errors to exit codes (`cli.md`). Everything heavy is imported when needed."""

import argparse
import asyncio
import codecs
import contextlib
import math
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, NoReturn

from gpuwizard import __version__
from gpuwizard.clean import clean, clean_line
from gpuwizard.errors import GpuwizardError, InterruptedRunError, RefusedError, UnreachableError, UsageError
from gpuwizard.secret import SUDO_PASSWORD_VARIABLE, inherited_secret

__all__ = ["main"]

COMMANDS = {
    "check": "look at hosts and say what is right and wrong with them",
    "plan": "show every change as a diff; change nothing",
    "apply": "apply a saved plan; refused per host when it is stale",
    "validate": "prove with pods that GPUs work",
    "monitor": "watch GPUs and pods of all hosts",
    "rollback": "put back what a run changed, on some of its hosts or all; without a run: list the runs",
    "uninstall": "a plan back to before gpuwizard, shown, asked about and run",
    "resume": "go on with a run that was cut; without a run: the newest one",
    "effective": "what a containerd of some version makes of a configuration file; offline",
    "answers": "schema | check FILE | example",
    "demo": "the wizard on a simulated fleet; nothing real is touched",
}
TAKES_ONE = {"resume": "one run", "demo": "one fleet", "effective": "one file"}
ONLY_LOOKS = ("check", "plan", "monitor", "answers", "effective")
RUN_AGAIN = "run it again: nothing was changed"
CANNOT_REHEARSE = ("validate", "rollback", "resume")
_REMEDIES = {
    UsageError.exit_code: "gpuwizard --help",
    RefusedError.exit_code: "mend what is named, then plan again",
    UnreachableError.exit_code: "gpuwizard check -v says more",
    InterruptedRunError.exit_code: "gpuwizard rollback lists the runs, gpuwizard check looks at the hosts",
}
_PLAIN = {"✗": "x", "✓": "+", "·": "-", "→": "->", "–": "-", "…": "...", "×": "x", "‹": "<", "›": ">"}
LATER = ("diagnose", "bundle")
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
    run.add_argument("--dry-run", action="store_true", help="with --answers, apply, uninstall: stop after the plan")
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
        parser.add_argument("--severity", choices=("error", "warning", "info", "ok"), help="only findings this bad")
        parser.add_argument("--only", metavar="ID", action="append", help="only this finding; several with commas")
        parser.add_argument("--facts", action="store_true", help="also every fact of every host")
        parser.add_argument(
            "--reach", action="store_true", help="the hosts also try their image registries and package sources"
        )
    if command == "plan":
        parser.add_argument("--out", metavar="FILE", help="save the plan for `gpuwizard apply FILE`")
    if command == "monitor":
        parser.add_argument("--interval", type=_interval, default=2.0, metavar="S", help="seconds between samples (2)")
    if command == "effective":
        parser.add_argument("--containerd", metavar="VERSION", help="the version, as 1.7.24~ds1 or v2.1")
        parser.add_argument("--root", metavar="DIR", help="FILE and all imports are paths inside DIR")
    words = {
        "effective": "FILE",
        "apply": "PLAN",
        "rollback": "RUN HOST",
        "resume": "RUN",
        "answers": "WORD",
        "demo": "FLEET",
    }.get(command or "", "HOST")
    parser.add_argument("words", nargs="*", metavar=words, help=argparse.SUPPRESS)
    return parser


def _interval(text: str) -> float:
    """Seconds between two samples; more than ten a second would only measure gpuwizard."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"must be a number from 0.1 to 3600, not {text}")
    return seconds


def _parse(argv: Sequence[str]) -> tuple[str | None, argparse.Namespace]:
    """Find the command (the first word that is no option's value) and parse with its parser."""
    finder = _Parser(add_help=False, parents=[_common()])
    finder.add_argument("words", nargs="*")
    for option in ("--containerd", "--root"):
        finder.add_argument(option)
    words = finder.parse_known_intermixed_args(list(argv))[0].words
    command = words[0] if words and words[0] in COMMANDS else None
    if words and words[0] in LATER:
        raise UsageError(
            f"`gpuwizard {words[0]}` is not part of version {__version__}", remedy="gpuwizard --help lists what is"
        )
    arguments = _parser(command).parse_intermixed_args(list(argv))
    if command:
        arguments.words.remove(command)
    _check_arguments(command, arguments)
    return command, arguments


def _check_arguments(command: str | None, arguments: argparse.Namespace) -> None:
    """Refuse what would be ignored in silence: an empty value, a word too many, a rehearsal that is none."""
    for name, value in vars(arguments).items():
        if value == "":
            raise UsageError(f"--{name.replace('_', '-')} has an empty value", remedy="give it a value or leave it out")
    if command in TAKES_ONE and len(arguments.words) > 1:
        raise UsageError(
            f"{command} takes {TAKES_ONE[command]}, not {' '.join(arguments.words)}",
            remedy=f"gpuwizard {command} --help",
        )
    if arguments.dry_run and (command in CANNOT_REHEARSE or (command in (None, "demo") and not arguments.answers)):
        raise UsageError(
            "--dry-run is for `gpuwizard --answers FILE`, `gpuwizard apply PLAN` and `gpuwizard uninstall`",
            remedy="gpuwizard plan shows every change and makes none",
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. `argv` defaults to the process's arguments."""
    _prepare_streams()
    command: str | None = None
    arguments: argparse.Namespace | None = None
    password = inherited_secret(SUDO_PASSWORD_VARIABLE)
    try:
        command, arguments = _parse(sys.argv[1:] if argv is None else argv)
        arguments.inherited_sudo_password = password
        if arguments.no_color:
            os.environ["NO_COLOR"] = "1"
        _log_to(arguments.log_file)
        code = _dispatch(command, arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return report(InterruptedRunError("interrupted", remedy=RUN_AGAIN if command in ONLY_LOOKS else ""))
    except Exception as error:
        return _failed(error, verbose=arguments is not None and arguments.verbose)
    return code


def _prepare_streams() -> None:
    """Let output never fail for want of a stream or of a character in the terminal's encoding."""
    codecs.register_error("gpuwizard", _plain)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - for good
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="gpuwizard")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(c, "?") for c in error.object[error.start : error.end]), error.end


def _failed(error: Exception, *, verbose: bool) -> int:
    """Report what went wrong, with its traceback when more was asked for; returns the exit code."""
    first = error
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, OSError):
        _let_go_of_stdout()
    if isinstance(first, BrokenPipeError):
        return GpuwizardError.exit_code
    if verbose:
        import traceback

        from gpuwizard.redact import without_secrets

        text = clean(without_secrets("".join(traceback.format_exception(error))))
        print(text, file=sys.stderr)  # noqa: T201 - a front end
    match first:
        case GpuwizardError():
            return report(first)
        case OSError():
            return report(GpuwizardError(first.strerror or str(first), where=str(first.filename or "")))
        case _:
            from gpuwizard.redact import without_secrets

            said = without_secrets(f"{type(first).__name__}: {first}")
            return report(GpuwizardError(f"an error in gpuwizard itself: {said}"))


def _let_go_of_stdout() -> None:
    """Drop what cannot be written, so that the interpreter does not trip over it when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def report(error: GpuwizardError) -> int:
    """Print an error as `cli.md` wants it, two lines; returns its exit code."""
    from gpuwizard.redact import without_passwords

    remedy = error.remedy or _REMEDIES.get(error.exit_code, "-v shows where it happened")
    what = clean_line(without_passwords(str(error)), 2000)
    print(f"gpuwizard: {what}", file=sys.stderr)  # noqa: T201 - a front end
    print(f"  try: {clean_line(remedy, 2000)}", file=sys.stderr)  # noqa: T201 - a front end
    return error.exit_code


def _log_to(path: str | None) -> None:
    """Send what libraries log to a file; nothing may write to the terminal under the screens."""
    import logging

    if path is None:
        logging.getLogger().addHandler(logging.NullHandler())
        return
    from gpuwizard.redact import without_secrets

    class Redacted(logging.Formatter):
        """What libraries say, tracebacks too, without secrets and control characters."""

        def format(self, record: logging.LogRecord) -> str:
            return clean(without_secrets(super().format(record)))

    try:
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(Redacted("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    except OSError as error:
        raise UsageError(
            f"the log file cannot be written: {error.strerror}", where=path, remedy="choose another path"
        ) from error


def _dispatch(command: str | None, arguments: argparse.Namespace) -> int:
    """Run one command. The wizard and the monitor draw; everything else is lines."""
    if command == "answers":
        from gpuwizard.commands import answers_command

        return answers_command(arguments)
    if command == "effective":
        from gpuwizard.offline import effective_command

        return effective_command(arguments)
    if command == "check":
        from gpuwizard import checking

        if arguments.explain:
            return checking.explain_command(arguments.explain, as_json=arguments.json)
        return _run(checking.check_command(arguments))
    if command == "demo":
        arguments.simulate = arguments.words[0] if arguments.words else arguments.simulate or "mixed"
        arguments.words = []
    if command in (None, "demo") and not arguments.answers:
        return _wizard(arguments)
    if command == "monitor" and not arguments.json:
        return _wizard(arguments, monitor=True)
    if command in ("rollback", "resume"):
        from gpuwizard import runs

        return _run(getattr(runs, f"{command}_command")(arguments))
    if command == "uninstall":
        from gpuwizard.uninstall import uninstall_command

        return _run(uninstall_command(arguments))
    from gpuwizard import commands, unattended

    if command in (None, "demo"):
        return _run(unattended.run_unattended(arguments))
    return _run(getattr(commands, f"{command}_command")(arguments))


def _run(task: Coroutine[Any, Any, int]) -> int:
    return asyncio.run(_until_told_to_stop(task))


async def _until_told_to_stop(task: Coroutine[Any, Any, int]) -> int:
    """Run to the end; a hang-up or a request to terminate stops it as in order as Ctrl-C does."""
    running = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if running is not None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup has it ignored
                with contextlib.suppress(RuntimeError):  # not the main thread
                    loop.add_signal_handler(number, running.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _wizard(arguments: argparse.Namespace, *, monitor: bool = False) -> int:
    """Start the Textual application, unless there is no terminal to draw on."""
    from screens.terminal import can_run

    reason = can_run()
    if reason is not None:
        raise UsageError(
            reason.replace("the wizard", "the monitor") if monitor else reason,
            remedy="gpuwizard monitor --json HOST… streams without a terminal"
            if monitor
            else _meant(arguments) or "gpuwizard --answers FILE runs without a terminal",
        )
    from screens.start import start_monitor, start_wizard

    return start_monitor(arguments) if monitor else start_wizard(arguments)


def _meant(arguments: argparse.Namespace) -> str:
    """The command that was misspelt, perhaps: what is no command is taken for a host."""
    import difflib

    near = difflib.get_close_matches(arguments.words[0], COMMANDS, 1, 0.75) if arguments.words else []
    return f"did you mean `gpuwizard {near[0]}`?" if near else ""


if __name__ == "__main__":
    sys.exit(main())
