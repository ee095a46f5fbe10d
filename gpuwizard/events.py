"""What the engine says while it works (`Emit`) and what it asks (`Asker`). Nothing else crosses the border."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias

from gpuwizard.secret import Secret

__all__ = [
    "Asker",
    "Choice",
    "Emit",
    "Event",
    "HostOutcome",
    "HostProgress",
    "LogLine",
    "Note",
    "Outcome",
    "PodProgress",
    "Rung",
    "SecretPrompt",
    "Stage",
    "StageChanged",
    "Waiting",
]

Stage = Literal["hosts", "probe", "findings", "answers", "plan", "apply", "validate", "monitor", "rollback"]
Outcome = Literal[
    "confirmed", "unchanged", "rolled-back", "reverting", "refused", "failed", "unreachable", "unconfirmed"
]


@dataclass(frozen=True, slots=True)
class StageChanged:
    """A stage began or ended for the whole run."""

    stage: Stage
    state: Literal["started", "finished"]
    message: str = ""
    host: str | None = None


@dataclass(frozen=True, slots=True)
class HostProgress:
    """One host went on: `step` of `steps`, in words. `state` is a short word fit for a table cell."""

    host: str
    stage: Stage
    state: str
    message: str = ""
    step: int | None = None
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a host, pod or tool printed; already cleaned and redacted."""

    host: str | None
    stage: Stage
    text: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A wait that explains itself: the condition, the last value seen, elapsed and limit in seconds (0: it has none),
    and the next likely cause: why it still waits, or what it waits to rule out (`work/likely.py`)."""

    host: str | None
    stage: Stage
    condition: str
    last_seen: str
    elapsed: float
    limit: float
    likely: str = ""


@dataclass(frozen=True, slots=True)
class PodProgress:
    """A pod of the run changed: phase, the kubelet's reason, its message."""

    host: str | None
    namespace: str
    pod: str
    phase: str
    reason: str = ""
    message: str = ""
    stage: Stage = "validate"


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung of the validation ladder on one host."""

    host: str
    name: str
    state: Literal["running", "passed", "failed", "skipped"]
    reason: str = ""
    seconds: float = 0.0
    stage: Stage = "validate"


@dataclass(frozen=True, slots=True)
class HostOutcome:
    """How a host ended; said once per host at the end of apply or rollback. `begun` is false where the run ended
    before its turn."""

    host: str
    outcome: Outcome
    reason: str = ""
    stage: Stage = "apply"
    reverts_at: datetime | None = None
    begun: bool = True


@dataclass(frozen=True, slots=True)
class Note:
    """Anything else worth a line: a remark or a warning about the run."""

    stage: Stage
    message: str
    level: Literal["info", "warning", "error"] = "info"
    host: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


Event: TypeAlias = StageChanged | HostProgress | LogLine | Waiting | PodProgress | Rung | HostOutcome | Note
Emit: TypeAlias = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Choice:
    """A question with fixed answers. `options` are (value, label); `default` is a value that is safe."""

    id: str
    title: str
    body: str
    options: tuple[tuple[str, str], ...]
    default: str
    host: str | None = None


@dataclass(frozen=True, slots=True)
class SecretPrompt:
    """A question whose answer must not be seen: password, passphrase, one-time code, sudo password.

    `echo` is true when the server allows the typed text to be shown (some one-time codes).
    """

    id: Literal["password", "passphrase", "challenge", "sudo"]
    title: str
    body: str
    host: str
    echo: bool = False


class Asker(Protocol):
    """The operator, or whoever stands in. Unattended runs answer every choice with its default and no secret."""

    async def choose(self, question: Choice) -> str:
        """Return the value of one option."""
        ...

    async def secret(self, question: SecretPrompt) -> Secret | None:
        """Return the secret, or None when the operator gives none."""
        ...
