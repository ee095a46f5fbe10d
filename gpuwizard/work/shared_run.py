"""What all hosts of one run share, whether it applies a plan or takes one back."""

import getpass
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuwizard.answers.model import Answers
from gpuwizard.clock import Clock
from gpuwizard.events import Emit, HostOutcome
from gpuwizard.journal import Journal
from gpuwizard.kube.cluster import Cluster
from gpuwizard.remote.transport import Transport

__all__ = ["SharedRun", "owner_text"]


@dataclass(slots=True)
class SharedRun:
    """The ways to the hosts and the cluster, who is told, and how it ended so far. `outcomes` goes by host."""

    hosts: Mapping[str, Transport]
    cluster: Cluster | None
    answers: Answers
    run_id: str
    emit: Emit
    clock: Clock
    journal: Journal
    outcomes: dict[str, HostOutcome] = field(default_factory=dict)
    cluster_error: str | None = None


def owner_text(run_id: str, clock: Clock) -> str:
    """Who holds the lock of a host, from where and since when: what another operator is shown."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "somebody"
    return f"{user} on {socket.gethostname()}, run {run_id}, since {clock.now():%Y-%m-%d %H:%M:%S} UTC"
