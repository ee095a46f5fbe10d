"""Why a login failed, in words, with what to do next."""

import errno
import os
import re
import socket

import asyncssh

from gpuwizard.clean import clean_line
from gpuwizard.errors import GpuwizardError, LoginError, UnreachableError, UsageError
from gpuwizard.remote.ssh.login import Login
from gpuwizard.remote.ssh.settings import HostSettings

__all__ = ["login_problem", "timed_out", "was_dropped"]

_UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.EADDRNOTAVAIL}


def login_problem(error: Exception, settings: HostSettings, login: Login, *, through: str) -> GpuwizardError:
    """The error for what asyncssh raised. `through` names the jump host, or is empty."""
    where = _where(settings)
    if login.failure is not None:
        return login.failure
    match error:
        case asyncssh.PermissionDenied():
            return _denied(settings, login)
        case asyncssh.ChannelOpenError():
            return UnreachableError(
                f"the jump host {through} cannot reach it: {clean_line(error.reason, 200)}",
                where=where,
                remedy=f"try `ssh -W {settings.host}:{settings.port} {through}`; AllowTcpForwarding may be off there",
            )
        case asyncssh.HostKeyNotVerifiable():
            return LoginError(
                clean_line(error.reason, 300), where=where, remedy="check its line in known_hosts; it may be @revoked"
            )
        case asyncssh.KeyExchangeFailed():
            return UnreachableError(
                f"no common algorithm: {clean_line(error.reason, 300)}",
                where=where,
                remedy="its sshd is very old or very strict; name algorithms in the SSH configuration",
            )
        case asyncssh.DisconnectError():
            return _closed(error, settings, login)
        case OSError() if login.connected and error.errno in (errno.ECONNRESET, errno.EPIPE):
            return _cut(os.strerror(error.errno), where)
        case OSError():
            return _network(error, settings)
        case _:
            return UsageError(
                f"the SSH settings cannot be used: {clean_line(str(error), 300)}",
                where=where,
                remedy="check the SSH configuration, or name another with --ssh-config",
            )


def was_dropped(error: Exception, login: Login) -> bool:
    """True when the other side closed the connection before it had said what it is."""
    broken = isinstance(error, OSError) and error.errno in (errno.ECONNRESET, errno.EPIPE)
    return login.connected and not login.greeted and (broken or isinstance(error, asyncssh.ConnectionLost))


def timed_out(settings: HostSettings, login: Login, seconds: float) -> UnreachableError:
    """The error for no answer within the connect timeout."""
    where = _where(settings)
    if login.connected:
        return UnreachableError(
            f"connected, but no SSH answer within {seconds:g} s",
            where=where,
            remedy="is it an SSH server, and is the host overloaded? --connect-timeout waits longer",
        )
    return UnreachableError(
        f"no answer within {seconds:g} s",
        where=where,
        remedy="is the host up, and does a firewall drop the connection? --connect-timeout waits longer",
    )


def _where(settings: HostSettings) -> str:
    address = f"[{settings.host}]" if ":" in settings.host else settings.host
    plain = settings.host == settings.name and settings.port == 22
    return settings.name if plain else f"{settings.name}, {address}:{settings.port}"


def _denied(settings: HostSettings, login: Login) -> LoginError:
    tried = ", ".join(login.tried) or "nothing that the host would take"
    if login.expired:
        return LoginError(
            f"the password of {settings.user} has expired",
            where=_where(settings),
            remedy="log in by hand once and change it",
        )
    remedies = []
    if "key" not in login.tried:
        remedies.append("--identity FILE names a key")
    if not {"password", "keyboard-interactive"} & set(login.tried):
        remedies.append("-k asks for the password")
    remedies.append("--user names another login")
    return LoginError(
        f"{settings.user} was not let in (tried: {tried})", where=_where(settings), remedy=", ".join(remedies)
    )


def _closed(error: asyncssh.DisconnectError, settings: HostSettings, login: Login) -> UnreachableError:
    reason = clean_line(error.reason, 200)
    where = _where(settings)
    if re.search(r"too many authentication failures", reason, re.IGNORECASE):
        return LoginError(
            "the host gave up after too many keys",
            where=where,
            remedy="--identity FILE offers one key only; or IdentitiesOnly in the SSH configuration",
        )
    if isinstance(error, asyncssh.ProtocolError | asyncssh.ProtocolNotSupported):
        return UnreachableError(
            f"it does not speak SSH as we know it: {reason}", where=where, remedy="is this the port of an SSH server?"
        )
    return _cut(reason, where)


def _cut(reason: str, where: str) -> LoginError:
    return LoginError(
        f"the connection was closed during login: {reason}",
        where=where,
        remedy="sshd may be busy (MaxStartups) or punish failed logins (PerSourcePenalties): wait a minute",
    )


def _network(error: OSError, settings: HostSettings) -> UnreachableError:
    where = _where(settings)
    text = str(error)
    codes = {error.errno} | {int(n) for n in re.findall(r"Errno (\d+)\]", text)}
    if isinstance(error, socket.gaierror):
        return UnreachableError(
            "the name cannot be resolved",
            where=where,
            remedy=f"check the spelling, DNS, or a `Host {settings.name}` in the SSH configuration",
        )
    if errno.ECONNREFUSED in codes:
        return UnreachableError(
            f"port {settings.port} refuses connections",
            where=where,
            remedy="is sshd running there, and on this port? [user@]name:port names another",
        )
    if codes & _UNREACHABLE:
        return UnreachableError(
            "there is no way to this host", where=where, remedy="is it up? does it need a jump host (--jump) or a VPN?"
        )
    return UnreachableError(
        f"the connection failed: {clean_line(error.strerror or text, 200)}",
        where=where,
        remedy="check the host and the network between",
    )
