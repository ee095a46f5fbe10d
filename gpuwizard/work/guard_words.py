"""How the driver of a guarded change says what went wrong."""

from gpuwizard.clean import clean_line
from gpuwizard.errors import GpuwizardError, RefusedError, UnreachableError
from gpuwizard.events import Outcome
from gpuwizard.redact import redact_text
from gpuwizard.work.host_line import Answer

__all__ = ["tail_of", "text_of", "whole", "word_for"]


def word_for(error: GpuwizardError) -> Outcome:
    """Nothing was changed yet: which outcome an error amounts to."""
    match error:
        case RefusedError():
            return "refused"
        case UnreachableError():
            return "unreachable"
        case _:
            return "failed"


def text_of(error: GpuwizardError) -> str:
    """What an error says, with its remedy."""
    return f"{error.what} ({error.remedy})" if error.remedy else error.what


def whole(reason: str) -> str:
    """A reason of the host with what mends it and where it is said, which come last."""
    return redact_text(clean_line(reason, 1000))


def tail_of(done: Answer) -> str:
    """The last words of a call that did not end well."""
    text = done.complaint or "\n".join(done.lines).strip()
    return redact_text(clean_line(text[-400:])) or f"exit status {done.status}"
