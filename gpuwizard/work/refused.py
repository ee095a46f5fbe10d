"""What a host's own refusal means, as an error with a remedy."""

from gpuwizard.clean import clean_line
from gpuwizard.errors import RefusedError
from gpuwizard.redact import redact_text

__all__ = ["refusal_of"]

_REMEDIES = {
    "stale": "look again and make a new plan",
    "judge": "nothing was changed; the plan must be made differently",
    "busy": "see `gpuwizard rollback` for the runs, or wait until the host has reverted by itself",
    "no-room": "make room on that file system",
    "foreign": "compare the file with the backup in the run folder and decide by hand",
    "no-systemd": "change this host by hand",
}


def refusal_of(text: str, by: str, host: str) -> RefusedError:
    """The error for a line ``@refused KIND WHY`` of `host`, without its mark. `by` is whose run it is that was
    refused."""
    kind, _, why = text.partition(" ")
    if kind != "later":
        return RefusedError(redact_text(clean_line(why)), where=host, remedy=_REMEDIES.get(kind, ""))
    run, _, why = why.partition(" ")
    why = redact_text(clean_line(why))
    remedy = f"roll that one back first: gpuwizard rollback {clean_line(run)}"
    owner = by.partition(", run ")[0]
    if f"{run} ({owner}," not in why:  # its record is on the laptop that made it
        remedy += f" where it was made, or take back all of them: gpuwizard uninstall {host}"
    return RefusedError(why, where=host, remedy=remedy)
