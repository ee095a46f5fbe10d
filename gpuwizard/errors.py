"""The exception tree: each error knows its exit code (`cli.md`) and what the operator can do next.

GpuwizardError            1   it ran and the answer is bad
├── UsageError           64   wrong flags, host syntax, answers file
├── RefusedError          3   stale plan, locked host, unsafe change
├── UnreachableError      4   a host or the cluster could not be reached
│   └── LoginError        4   it was reached but would not let us in
└── InterruptedRunError 130   the operator stopped it
"""

__all__ = [
    "GpuwizardError",
    "InterruptedRunError",
    "LoginError",
    "RefusedError",
    "UnreachableError",
    "UsageError",
]


class GpuwizardError(Exception):
    """What happened, where, and what to do next; shown as two lines, never as a traceback."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what} ({self.where})" if self.where else self.what


class UsageError(GpuwizardError):
    """Wrong flags, unknown host syntax or an invalid answers file."""

    exit_code = 64


class RefusedError(GpuwizardError):
    """Nothing was changed because it would not have been safe: stale plan, busy host, unsafe change."""

    exit_code = 3


class UnreachableError(GpuwizardError):
    """A host or the cluster could not be reached."""

    exit_code = 4


class LoginError(UnreachableError):
    """The host answered but did not let us in (key, password, host key, sudo)."""


class InterruptedRunError(GpuwizardError):
    """The operator stopped the run."""

    exit_code = 130
