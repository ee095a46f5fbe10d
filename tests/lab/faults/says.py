"""Regular expressions of what a report says: an end state, and why."""

__all__ = [
    "CONFIRMED", "FILE", "FULL_RUN", "IN_TIME", "LOST", "REBOOTED", "SCRIPT", "STOPPED", "UNIT", "UNWRITTEN", "says",
]  # fmt: skip

CONFIRMED = "confirmed$"
LOST = "unreachable the link was lost"
IN_TIME = r"(?:rolled-back|reverted) it was not confirmed within \d+ s"
REBOOTED = "rolled-back the host was restarted before the change was confirmed"
STOPPED = "rolled-back the change stopped half-way on the host"
SCRIPT = r"the script ended with \d+"
UNIT = (
    r"containerd\.service (?:starts and dies again and again|failed to start|is not up after|did not stay up"
    r"|was restarted)"
)
FULL_RUN = r"the run folder cannot be written any more: no space is left \(df -h /var/lib/gpuwizard/runs/\S+\)"
FILE = r"/etc/containerd/\S+"
UNWRITTEN = f"rolled-back {FILE} could not be written: "


def says(*reports: str) -> str:
    """A report that begins as one of these."""
    return "^(?:" + "|".join(reports) + ")"
