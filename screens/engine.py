"""The engine's stages as workers of the application: they outlive every screen and never raise into it."""

import asyncio
import gc
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpuwizard.errors import GpuwizardError

if TYPE_CHECKING:
    from screens.app import GpuwizardApp

__all__ = ["apply", "draft", "leaf", "plan", "probe", "watch"]

_REMOTE = ("gpuwizard.flow", "gpuwizard.remote.pool", "gpuwizard.work.probe")
_CLUSTER = ("gpuwizard.flow", "gpuwizard.kube.cluster")
_WORK = ("gpuwizard.flow", "gpuwizard.work.apply", "gpuwizard.work.validate", "gpuwizard.journal")
_MONITOR = ("gpuwizard.flow", "gpuwizard.monitor.collect", "gpuwizard.work.pods")


async def _load(names: Sequence[str]) -> None:
    """Import in a thread: asyncssh and its like take up to a second, which the UI must not wait for."""
    for name in names:
        await asyncio.to_thread(importlib.import_module, name)
    gc.freeze()  # what is imported stays: walking it again would stop the UI for 0.1 s now and then


async def probe(app: "GpuwizardApp", only: Sequence[str] | None = None) -> None:
    """Log in and look at the hosts, all or `only` those."""
    with app.working("probe"):
        await _load(_REMOTE)
        from gpuwizard import flow

        await flow.probe(app.session, app.emit, app, only)


async def plan(app: "GpuwizardApp", *, look_again: bool = False) -> None:
    """Build the plan; `look_again` probes before, for what a run has changed."""
    if look_again:
        await probe(app)
    with app.working("plan"):
        await _load(_CLUSTER)
        from gpuwizard import flow

        await flow.make_plan(app.session, app.emit)


async def apply(app: "GpuwizardApp") -> None:
    """Run the plan that was reviewed, then prove it with pods."""
    from gpuwizard import flow

    session = app.session
    with app.working("apply"):
        await _load(_WORK)
        assert session.plan is not None
        app.applied = session.plan
        if not session.plan.empty:
            await flow.run_plan(session, app.emit, app)
    if app.failure is not None:
        return
    with app.working("validate"):
        await flow.run_validation(session, app.emit)


async def watch(app: "GpuwizardApp") -> None:
    """Feed the monitor until the application ends; hosts and links that come and go are the flow's business."""
    await _load(_MONITOR)
    from gpuwizard import flow

    session = app.session
    try:
        if session.cluster is None:
            await flow.connect_cluster(session, app.emit)
        await flow.monitor(session, app.samples.take, app.samples.take_pods, on_trouble=app.samples.take_trouble)
    except* GpuwizardError as group:
        app.samples.trouble = str(leaf(group))


def leaf(group: BaseExceptionGroup[GpuwizardError]) -> GpuwizardError:
    """The first error of a group, however deep."""
    found = group.exceptions[0]
    return leaf(found) if isinstance(found, BaseExceptionGroup) else found


async def draft(app: "GpuwizardApp") -> None:
    """Keep the answers in the state directory, so that a closed terminal costs nothing."""
    from gpuwizard.answers.toml import write_answers

    session = app.session
    path: Path = session.state_dir / "draft.toml"
    try:
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(write_answers, session.answers, path)
    except (OSError, GpuwizardError) as error:
        app.log.warning(f"the draft was not saved: {error}")
