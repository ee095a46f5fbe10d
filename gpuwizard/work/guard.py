"""One guarded change on one host, driven from here: the host does the work alone, this watches, judges and confirms.

Owns the promise that a host is reported only from its own state (`safety.md`). Whatever is lost on the way, the
driver asks the host's state file and goes on from what it says.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Literal

from gpuwizard.clean import clean_line
from gpuwizard.clock import Clock
from gpuwizard.errors import GpuwizardError, UnreachableError
from gpuwizard.events import Emit, HostOutcome, Outcome, Waiting
from gpuwizard.redact import redact_text
from gpuwizard.remote.transport import Transport
from gpuwizard.work.guard_hooks import Dumps, Hooks, dumps_in
from gpuwizard.work.guard_lines import event_of, progress
from gpuwizard.work.guard_scripts import GuardedChange, HostState, host_state, prepare_payloads, prepare_words
from gpuwizard.work.guard_words import tail_of, text_of, whole, word_for
from gpuwizard.work.host_line import Answer
from gpuwizard.work.host_lock import HostLock
from gpuwizard.work.likely import likely_of_link
from gpuwizard.work.refused import refusal_of

__all__ = ["Dumps", "Guard", "Hooks"]

_SHORT = 120.0  # limit of a call that only looks or writes a few files, in real seconds
_GRACE = 60.0  # after T the revert of a host needs some time before its state says so
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 15.0
_TROUBLES, _UNDOS = 3, 5
_KILLED = 128  # and the number of the signal
_OVER = ("confirmed", "reverted", "revert-failed", "abandoned", "none")

GuardStage = Literal["apply", "rollback"]


class Guard:
    """One host's guarded change. `outcome` is set when it is over, also when it was cancelled."""

    def __init__(
        self,
        transport: Transport,
        change: GuardedChange,
        hooks: Hooks,
        *,
        emit: Emit,
        clock: Clock,
        stage: GuardStage = "apply",
    ) -> None:
        self._transport = transport
        self._change = change
        self._hooks = hooks
        self._emit = emit
        self._clock = clock
        self._stage: GuardStage = stage
        self._lock = HostLock(transport, change.run_id, change.by, clock, emit, stage)
        self._armed_at: float | None = None
        self._was_armed = False
        self._line = 1
        self._troubles = self._undos = 0
        self._giving_up = ""
        self._lost = ""
        self.outcome: HostOutcome | None = None

    @property
    def changed(self) -> bool:
        """True once files of the host may have been touched."""
        return self._was_armed

    async def run(self) -> HostOutcome:
        """Do it and say how it ended. A first cancellation has the change put back and is then raised again; a
        second one leaves at once. Never raises GpuwizardError."""
        return await self._guarded(self._run())

    async def go_on(self) -> HostOutcome | None:
        """Go on with a change that an earlier process of the same run began here, from what the host itself says.

        None when it never came so far that anything could change: it may be begun, and nothing of it is left. Only a
        cancellation is raised, as by `run`.
        """
        try:
            if not self._transport.alive:
                await self._transport.reconnect()
            state = await self._call("status")
            if state.word in ("none", "prepared"):
                return await self._forget(state)
            if state.word == "confirmed":  # the mark of the revert may still be there
                state = await self._call("confirm")
        except GpuwizardError as error:
            why = f"the host could not be asked how it stands: {text_of(error)}"
            return HostOutcome(self._transport.name, "unconfirmed", why, self._stage)
        self._armed_at = self._clock.monotonic() + (state.deadline or 0) - self._change.timeout
        return await self._guarded(self._take_over(state))

    async def _forget(self, state: HostState) -> HostOutcome | None:
        """Clear away what was prepared, and perhaps half armed, before anything was changed."""
        if state.word == "none":
            return None
        try:
            await self._lock.take()
            state = await self._call("undo", "it was cut before anything was changed")
        finally:
            await self._lock.release()
        return None if state.word == "none" else await self.go_on()

    async def _take_over(self, state: HostState) -> HostOutcome:
        self._was_armed = True
        if state.word in _OVER:
            return self._outcome(state)
        try:
            await self._lock.take()
        except GpuwizardError as error:
            return self._unknown(text_of(error))
        needed = self._change.limit + self._change.hold
        if state.word == "armed" and self._left(state) < needed:
            self._giving_up = f"the run was cut, and less than {needed} s were left to change this host"
        return self._outcome(await self._drive(state))

    async def put_back(self, why: str) -> HostOutcome:
        """Have a change that was begun earlier and never confirmed put back, which restarts its unit; ends as `run`."""
        self._giving_up = why
        return await self._guarded(self._put_back_only())

    async def _guarded(self, work: Coroutine[None, None, HostOutcome]) -> HostOutcome:
        try:
            self.outcome = await work
        except asyncio.CancelledError:
            self.outcome = self._unknown("interrupted")
            with contextlib.suppress(GpuwizardError):
                self.outcome = await self._wind_down()
            raise
        finally:
            await self._lock.release()
        return self.outcome

    async def _run(self) -> HostOutcome:
        try:
            self._say("lock")
            if not self._transport.alive:
                await self._transport.reconnect()
            await self._lock.take(prepare_payloads(self._change))
            self._say("check")
            await self._hooks.check()
            nothing = await self._prepare()
        except GpuwizardError as error:
            word, why = word_for(error), text_of(error)
            return self._ended(word, f"{why}; nothing was changed" if word == "failed" else why)
        if nothing:
            return self._ended("unchanged", nothing)
        try:
            await self._hooks.clear()
        except GpuwizardError as error:
            with contextlib.suppress(UnreachableError):
                await self._call("undo", "refused")
            return self._ended(word_for(error), text_of(error))
        return self._outcome(await self._drive(HostState("prepared")))

    async def _put_back_only(self) -> HostOutcome:
        self._armed_at = self._clock.monotonic()
        try:
            if not self._transport.alive:
                await self._transport.reconnect()
            await self._lock.take()
            await self._hooks.check()
        except GpuwizardError as error:
            return self._ended(word_for(error), text_of(error))
        state = await self._drive(HostState("applying"))
        if state is not None and state.word in ("none", "abandoned") and not self._was_armed:
            return self._ended("unchanged", "it was cut before anything was changed")
        return self._outcome(state)

    async def _prepare(self) -> str:
        """Everything up to the armed revert. Returns why there is nothing to do, mostly empty. Raises RefusedError and
        others."""
        if not self._lock.held:  # a laptop that slept for a moment loses it
            await self._lock.take(prepare_payloads(self._change))
        done = await self._lock.guard(*prepare_words(self._change), timeout=_SHORT, on_line=self._heard)
        self._raise_for(done)
        nothing = next((line for line in done.lines if line.startswith("@nothing ")), "")
        if nothing:
            return clean_line(nothing.removeprefix("@nothing "))
        try:
            self._hooks.accept(dumps_in(done.lines))
        except GpuwizardError:
            await self._call("undo", "refused")
            raise
        return ""

    async def _drive(self, state: HostState | None) -> HostState | None:
        """Go on from `state` until the host's own state says that it is over; None when contact is lost for good."""
        while state is not None and state.word not in _OVER:
            try:
                state = await self._next(state)
            except UnreachableError as error:
                state = await self._back(error)
            except GpuwizardError as error:
                state = await self._put_back(error)
        return state

    async def _next(self, state: HostState) -> HostState:
        """The one action that follows from a state."""
        if state.rebooted and state.word in ("armed", "applying", "healthy"):
            return await self._undo("the host was restarted before the change was confirmed")
        if state.stopped and state.word in ("armed", "applying"):
            return await self._undo("the change stopped half-way on the host")
        if state.stopped and state.word == "reverting":
            return await self._undo(self._giving_up or state.reason)
        if self._giving_up and state.word in ("armed", "applying", "healthy"):
            return await self._undo(self._giving_up)
        match state.word:
            case "prepared":
                if not self._lock.held:
                    await self._lock.take()
                self._armed_at = self._clock.monotonic()
                return await self._watch("arm-and-watch")
            case "armed":
                return await self._watch("begin-and-watch")
            case "healthy":
                await self._hooks.settle(self._left(state))
                self._say("confirm")
                return await self._call("confirm")
            case _:
                return await self._watch()

    async def _put_back(self, error: GpuwizardError) -> HostState | None:
        """Something failed on our side or the host refused a step: from now on the only way is back. After some
        tries it is left to the timer."""
        self._troubles += 1
        self._giving_up = self._giving_up or text_of(error)
        if self._troubles > _TROUBLES:
            return None
        await self._clock.sleep(_FIRST_PAUSE)
        try:
            return await self._call("status")
        except UnreachableError as lost:
            return await self._back(lost)
        except GpuwizardError:
            return HostState("applying")

    async def _undo(self, why: str) -> HostState:
        self._giving_up = why
        self._undos += 1
        if self._undos > _UNDOS:
            raise GpuwizardError("the revert begins again and again, and does not end", where=self._transport.name)
        return await self._call("undo", clean_line(redact_text(why), 300))

    async def _wind_down(self) -> HostOutcome:
        """After a cancellation: give up what has not begun, put back what has, and wait for the host to say so."""
        why = "interrupted by the operator"
        if self._armed_at is None:
            with contextlib.suppress(UnreachableError):
                await self._call("undo", why)
            return self._ended("unchanged", f"{why} before anything was changed")
        self._emit(progress(self._transport.name, self._stage, "revert", why))
        self._giving_up = why
        state = await self._drive(HostState("applying"))
        if state is not None and state.word == "none" and not self._was_armed:
            return self._ended("unchanged", f"{why} before anything was changed")
        return self._outcome(state)

    async def _watch(self, role: str = "watch") -> HostState:
        return await self._call(role, str(self._line), timeout=self._change.timeout + 600.0)

    async def _back(self, error: UnreachableError) -> HostState | None:
        """The link is lost: try again until the host must have reverted by itself, then give up."""
        began, pause = self._clock.monotonic(), _FIRST_PAUSE
        last: GpuwizardError = error
        limit = (self._armed_at or began) + self._change.timeout + _GRACE
        while (now := self._clock.monotonic()) < limit:
            self._emit(
                Waiting(
                    self._transport.name,
                    self._stage,
                    "the host answers again",
                    text_of(last),
                    now - began,
                    limit - began,
                    likely_of_link(last),
                )
            )
            await self._clock.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            try:
                await self._transport.reconnect()
                state = await self._call("status")
            except GpuwizardError as again:
                last, self._lost = again, f": {text_of(again)}"
                continue
            with contextlib.suppress(GpuwizardError):
                await self._lock.take()
            return state
        return None

    async def _call(self, role: str, *arguments: str, timeout: float = _SHORT) -> HostState:
        """Call the guard on the host. Raises GpuwizardError with its own words when it fails."""
        done = await self._lock.guard(role, *arguments, timeout=timeout, on_line=self._heard)
        if host_state(done.lines) is None or any(line.startswith(("@refused ", "@error ")) for line in done.lines):
            self._raise_for(done)
        if done.status >= _KILLED and role != "status":  # what it said on its way is not the last word
            return await self._call("status")
        return self._state_in(done)

    def _heard(self, line: str) -> None:
        if line.startswith("@dump-"):  # most lines by far
            return
        if line.startswith("@log "):
            self._line += 1
        event = event_of(line, self._transport.name, self._stage)
        if event is not None:
            self._emit(event)

    def _state_in(self, done: Answer) -> HostState:
        state = host_state(done.lines)
        if state is None:
            raise GpuwizardError(f"the host did not say how it stands: {tail_of(done)}", where=self._transport.name)
        self._was_armed = self._was_armed or state.word not in ("none", "prepared", "abandoned")
        return state

    def _raise_for(self, done: Answer) -> None:
        """Raise what the script refused or complained of; nothing when it ended well."""
        where = self._transport.name
        for line in done.lines:
            if line.startswith("@refused "):
                raise refusal_of(line.removeprefix("@refused "), self._change.by, where)
        for line in done.lines:
            if line.startswith("@error "):
                raise GpuwizardError(redact_text(clean_line(line.removeprefix("@error "))), where=where)
        if not done.ok:
            raise GpuwizardError(f"the script ended with {done.status}: {tail_of(done)}", where=where)

    def _left(self, state: HostState) -> float:
        """Seconds until the host reverts by itself."""
        if state.deadline is not None:
            return float(state.deadline)
        return (self._armed_at or 0.0) + self._change.timeout - self._clock.monotonic()

    def _say(self, step: str) -> None:
        self._emit(progress(self._transport.name, self._stage, step))

    def _outcome(self, state: HostState | None) -> HostOutcome:
        """How it ended, from the host's own state."""
        if state is None:
            return self._unknown(f"the host could not be asked again{self._lost}")
        reason = redact_text(clean_line(state.failure or self._giving_up)) or whole(state.reason)
        match state.word:
            case "confirmed":
                return self._ended("confirmed")
            case "reverted":
                _, mark, foreign = state.reason.partition("; foreign change")
                return self._ended("rolled-back", reason if mark in reason else f"{reason}{mark}{foreign}")
            case "revert-failed":
                return self._ended("failed", f"{reason}; putting it back failed: {whole(state.reason)}")
            case "none" if self._was_armed:
                return self._unknown("the host's record of the run is gone")
            case "abandoned" | "none":
                return self._ended("refused", state.reason or reason or "nothing was changed")
            case _:
                return replace(self._unknown(reason), outcome="reverting")

    def _ended(self, outcome: Outcome, reason: str = "") -> HostOutcome:
        return HostOutcome(self._transport.name, outcome, reason, self._stage)

    def _unknown(self, why: str) -> HostOutcome:
        """Nothing is known from the host itself: what will happen there, and when."""
        if self._armed_at is None:
            return self._ended("unchanged", f"{why} before anything was changed")
        left = self._armed_at + self._change.timeout - self._clock.monotonic()
        when = self._clock.now() + timedelta(seconds=max(left, 0.0))
        return HostOutcome(
            self._transport.name, "unconfirmed", f"{why}; unless confirmed it reverts by itself", self._stage, when
        )
