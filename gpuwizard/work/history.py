"""Ask a host which runs of ours stand on it, and for the bytes of their files."""

from gpuwizard.clean import clean_line
from gpuwizard.errors import GpuwizardError, UnreachableError
from gpuwizard.facts.history import HostHistory, history_in
from gpuwizard.redact import redact_text
from gpuwizard.remote.transport import Transport
from gpuwizard.work.guard_scripts import history_script

__all__ = ["read_history"]

_LIMIT = 120.0


async def read_history(transport: Transport) -> HostHistory:
    """What the run folders of the host say. Raises GpuwizardError when they cannot be read, and as the transport."""
    done = await transport.run(history_script(), root=True, timeout=_LIMIT)
    if done.status is None:
        raise UnreachableError("the link was lost", where=transport.name)
    if not done.ok:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        raise GpuwizardError(
            f"the runs of the host cannot be read: {redact_text(clean_line(said[-400:]))}", where=transport.name
        )
    return history_in(done.stdout.decode("utf-8", "surrogateescape").splitlines())
