"""A laptop as a process, that changes hosts or takes it back, and is killed at a step: ``python laptop.py FILE``."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from gpuwizard import flow
from gpuwizard.answers.model import Answers
from gpuwizard.clock import FastClock
from gpuwizard.describe import describe
from gpuwizard.events import Event
from gpuwizard.journal import find_run
from gpuwizard.kube.cluster import open_cluster
from gpuwizard.remote.options import ConnectOptions, Endpoint
from gpuwizard.session import Session
from gpuwizard.unattended import Unattended
from gpuwizard.uninstalling import plan_uninstall, run_uninstall


async def main(given: dict[str, Any]) -> None:
    session = Session(answers=Answers.model_validate(given["answers"]), state_dir=Path(given["state_dir"]))
    session.clock = FastClock(given["speed"])
    session.set_hosts(given["hosts"])
    session.login = ConnectOptions(
        isolated=True, use_agent=False, endpoints={n: Endpoint(**e) for n, e in given["endpoints"].items()}
    )
    session.cluster = await open_cluster(config=given["kubeconfig"])

    def emit(event: Event) -> None:
        if given["dies_at"] in (describe(event) or ""):
            os.kill(os.getpid(), signal.SIGKILL)

    await flow.probe(session, emit, Unattended())
    if given["uninstalls"]:
        await plan_uninstall(session, emit)
        await run_uninstall(session, emit, Unattended())
    elif given["rolls_back"]:
        await flow.roll_back(session, find_run(session.state_dir, given["rolls_back"]), emit, Unattended())
    else:
        await flow.make_plan(session, emit)
        await flow.run_plan(session, emit, Unattended())
    await flow.close(session)


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
