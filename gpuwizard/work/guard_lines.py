"""What the guard's lines mean: one line of a host becomes one event."""

from gpuwizard.clean import clean_line
from gpuwizard.events import Event, HostProgress, LogLine, Stage, Waiting
from gpuwizard.redact import redact_text
from gpuwizard.work.likely import likely_of_unit

__all__ = ["STEPS", "event_of", "progress"]

STEPS = ("lock", "check", "backup", "judge", "arm", "replace", "restart", "health", "node", "confirm")
_WORDS = {
    "lock": "taking the run lock",
    "check": "looking whether the plan still holds",
    "health": "watching the runtime",
    "node": "watching the node",
    "confirm": "confirming",
}
_AFTERWARDS = {
    "revert": "putting back",
    "revert-restart": "restarting with the old configuration:",
}


def progress(host: str, stage: Stage, step: str, message: str = "") -> HostProgress:
    """The event of one step of the order on a host (`safety.md`)."""
    number = STEPS.index(step) + 1 if step in STEPS else None
    return HostProgress(host, stage, step, message or _WORDS.get(step, ""), number, len(STEPS) if number else None)


def event_of(line: str, host: str, stage: Stage) -> Event | None:
    """The event of a line of `prepare`, `arm` or `watch`; None for lines that are data."""
    kind, _, rest = line.partition(" ")
    match kind:
        case "@step":
            step, _, text = rest.partition(" ")
            return progress(host, stage, step, clean_line(text))
        case "@log":
            _, _, text = rest.partition(" ")
            return _logged(text, host, stage)
        case "@wait":
            return _waiting(clean_line(rest), host, stage)
        case "@info" | "@stale":
            return LogLine(host, stage, redact_text(clean_line(rest)))
        case _:
            if kind.startswith("@") or not line.strip():
                return None
            return LogLine(host, stage, redact_text(clean_line(line)))


def _logged(text: str, host: str, stage: Stage) -> Event | None:
    """One line of the log in the run folder."""
    kind, _, rest = text.partition(" ")
    rest = clean_line(rest)
    match kind:
        case "wait":
            return _waiting(rest, host, stage)
        case "step":
            step, _, what = rest.partition(" ")
            if step in _AFTERWARDS:
                return HostProgress(host, stage, "revert", f"{_AFTERWARDS[step]} {what}")
            return progress(host, stage, step, what)
        case "state":
            word, _, why = rest.partition(" ")
            return HostProgress(host, stage, word, redact_text(why)) if word in ("reverting", "revert-failed") else None
        case _:
            return LogLine(host, stage, redact_text(rest)) if rest else None


def _waiting(text: str, host: str, stage: Stage) -> Event | None:
    """``SECONDS LIMIT CONDITION | LAST VALUE | EVIDENCE`` (guard-health.sh, guard-why.sh)."""
    numbers, last, evidence, *_ = (*(part.strip() for part in text.split(" |", 2)), "", "")
    elapsed, _, rest = numbers.partition(" ")
    limit, _, condition = rest.partition(" ")
    if not elapsed.isdigit() or not limit.isdigit():
        return None
    last = redact_text(last)
    return Waiting(
        host, stage, condition, last, float(elapsed), float(limit), likely_of_unit(condition, last, evidence)
    )
