"""From a host as written to an authenticated connection: jump hosts first, host key checked, one login."""

import asyncio
import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass

import asyncssh

from gpuwizard.errors import GpuwizardError, UsageError
from gpuwizard.events import Asker
from gpuwizard.remote import hostkeys
from gpuwizard.remote.hostkeys import HostKeys, KnownHosts
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.patience import Patience
from gpuwizard.remote.ssh.hops import Hold, Opened
from gpuwizard.remote.ssh.login import Login
from gpuwizard.remote.ssh.problems import login_problem, timed_out, was_dropped
from gpuwizard.remote.ssh.settings import HostSettings, fixed_options, look_up
from gpuwizard.remote.ssh.state import state_of
from gpuwizard.remote.target import HostTarget, parse_targets

__all__ = ["Link", "open_link"]

_HOST_KEY_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
    "ssh-rsa",
)


_PAUSES = (0.2, 0.5, 1.0)
"""Seconds before a connection that was dropped unheard is tried again, each give or take a half."""


@dataclass(frozen=True, slots=True)
class Link:
    """An authenticated connection. `login.lost` becomes true when it dies."""

    connection: asyncssh.SSHClientConnection
    login: Login
    settings: HostSettings
    through: Hold | None


async def open_link(target: HostTarget, options: ConnectOptions, ask: Asker) -> Link:
    """Log in to `target`, through its jump hosts.

    Raises UnreachableError, LoginError, UsageError (configuration, key file) or RefusedError (isolated run).
    """
    settings = await look_up(target.name, target.user, target.port, options)
    return await _open(settings, options, ask, ())


async def _open(settings: HostSettings, options: ConnectOptions, ask: Asker, behind: Sequence[str]) -> Link:
    """`behind` are the places that wait for this connection: a jump host among them would wait for itself."""
    place = f"{settings.host}:{settings.port}"
    chain = _chain(settings)
    through = await _jump(chain, options, ask, (*behind, place)) if chain else None
    try:
        async with options.shared.login_slot(through.key if through else place):
            connection, login = await _log_in(settings, options, ask, through)
    except BaseException:
        if through is not None:
            await through.release()
        raise
    return Link(connection, login, settings, through)


def _chain(settings: HostSettings) -> tuple[HostTarget, ...]:
    """The jump hosts before a host. A host that would jump through itself (``Host *``) is reached directly."""
    text = settings.jump or ""
    if text.lower() == "none" or not text.strip():
        return ()
    hops: list[HostTarget] = []
    for spec in text.split(","):
        hops.extend(parse_targets([spec.strip().removeprefix("ssh://").rstrip("/")]))
    last = hops[-1]
    if last.is_local:
        raise UsageError("local cannot be a jump host", where=settings.name, remedy="name a host that runs sshd")
    return () if last.name in (settings.name, settings.host) and last.port in (None, settings.port) else tuple(hops)


async def _jump(chain: Sequence[HostTarget], options: ConnectOptions, ask: Asker, behind: Sequence[str]) -> Hold:
    """The shared connection to the last host of `chain`, opened through those before it."""
    hop = chain[-1]
    before = ",".join(h.spec for h in chain[:-1])
    plain = dataclasses.replace(options, user=None, password=None, jump=before or None)
    settings = await look_up(hop.name, hop.user, hop.port, plain, as_hop=True)
    if f"{settings.host}:{settings.port}" in behind:
        raise UsageError(
            "jump hosts lead to each other in a circle", where=hop.name, remedy="check ProxyJump and --jump"
        )
    key = f"{settings.user}@{settings.host}:{settings.port}" + (f" via {settings.jump}" if settings.jump else "")

    async def opener() -> Opened:
        link = await _open(settings, plain, ask, behind)
        return Opened(link.connection, link.through)

    return await state_of(options).hops.acquire(key, opener)


async def _log_in(
    settings: HostSettings, options: ConnectOptions, ask: Asker, through: Hold | None
) -> tuple[asyncssh.SSHClientConnection, Login]:
    """Log in; when the operator accepts a host key, connect once more and accept exactly that one.

    A connection that sshd dropped before it said anything was no login attempt: a busy sshd drops at random
    (MaxStartups), so it is tried again.
    """
    known = await _known_hosts(settings, options)
    accepted: asyncssh.SSHKey | None = None
    take_unknown = save = options.host_keys == "accept-new" and not _recorded(known, settings)
    pauses = iter(_PAUSES)
    while True:
        patience = Patience(options.connect_timeout)
        login = Login(settings, options, ask, state_of(options).keys, patience, accepted)
        login.take_unknown = take_unknown
        try:
            async with patience:
                connection = await _connect(settings, login, known, through)
        except asyncssh.HostKeyNotVerifiable as error:
            if login.shown is None or accepted is not None:
                raise _problem(error, settings, login, through) from error
            accepted = login.shown
            save = await _decide(settings, options, ask, known, login.shown)
        except TimeoutError as error:
            if error.errno is not None:
                raise _problem(error, settings, login, through) from error
            raise timed_out(settings, login, options.connect_timeout) from None
        except (OSError, asyncssh.Error, ValueError) as error:
            if save and isinstance(error, asyncssh.PermissionDenied):
                await _save(settings, known, login)
            pause = next(pauses, None) if was_dropped(error, login) else None
            if pause is None:
                raise _problem(error, settings, login, through) from error
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        else:
            if save:
                await _save(settings, known, login)
            return connection, login
        finally:
            await login.finish()


async def _connect(
    settings: HostSettings, login: Login, known: KnownHosts, through: Hold | None
) -> asyncssh.SSHClientConnection:
    keys = known.keys(settings.key_name, settings.key_port)
    arguments = dict(settings.arguments)
    if not arguments.pop("own_host_key_algorithms", False):
        arguments["server_host_key_algs"] = _algorithms(keys)
    return await asyncssh.connect(
        settings.name if arguments["config"] else settings.host,  # a file that is read again looks for the name
        settings.port,
        options=settings.read or fixed_options(),
        username=settings.user,
        tunnel=through.connection if through else None,
        known_hosts=lambda host, address, port_or_none: keys,
        client_factory=lambda: login,
        **arguments,
    )


def _algorithms(keys: HostKeys) -> list[str]:
    """Host key algorithms: those of the keys that are known first, so that the host shows one of these."""
    trusted, authorities, _ = keys
    certified = [f"{algorithm}-cert-v01@openssh.com" for algorithm in _HOST_KEY_ALGORITHMS] if authorities else []
    first = [a.decode() for key in trusted for a in key.sig_algorithms if a.decode() in _HOST_KEY_ALGORITHMS]
    return list(dict.fromkeys([*certified, *first, *_HOST_KEY_ALGORITHMS]))


async def _known_hosts(settings: HostSettings, options: ConnectOptions) -> KnownHosts:
    if settings.endpoint is not None:
        name = settings.key_name if settings.key_port == 22 else f"[{settings.key_name}]:{settings.key_port}"
        return KnownHosts([f"{name} {settings.endpoint.host_key.strip()}"])
    return await state_of(options).known_hosts(settings.user_known_hosts + settings.system_known_hosts)


def _recorded(known: KnownHosts, settings: HostSettings) -> Sequence[asyncssh.SSHKey]:
    return known.recorded(settings.key_name, settings.key_port)


async def _decide(
    settings: HostSettings, options: ConnectOptions, ask: Asker, known: KnownHosts, key: asyncssh.SSHKey
) -> bool:
    """A key that is not known: changed is refused, unknown goes by the policy. Returns whether to remember it."""
    where = settings.key_name if settings.key_port == 22 else f"[{settings.key_name}]:{settings.key_port}"
    recorded = _recorded(known, settings)
    if recorded:
        raise hostkeys.changed_key(settings.name, where, key, recorded)
    if options.host_keys != "ask":
        raise hostkeys.unknown_key(settings.name, settings.name, key)
    savable = bool(settings.user_known_hosts)
    match await hostkeys.ask_about(settings.name, where, key, ask, savable=savable):
        case "accept":
            return False
        case "accept-and-save":
            return True
        case "refuse":
            raise hostkeys.unknown_key(settings.name, settings.name, key, refused=True)


async def _save(settings: HostSettings, known: KnownHosts, login: Login) -> None:
    """Remember the key that was taken, now that the host has proven that it holds it."""
    if login.shown is None or not settings.user_known_hosts:
        return
    path = settings.user_known_hosts[0]
    line = await asyncio.to_thread(hostkeys.append_host_key, path, settings.key_name, settings.key_port, login.shown)
    known.add(line)


def _problem(error: Exception, settings: HostSettings, login: Login, through: Hold | None) -> GpuwizardError:
    return login_problem(error, settings, login, through=through.key.partition(" ")[0] if through else "")
