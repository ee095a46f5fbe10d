"""What the SSH configuration and the options together say about one host."""

import asyncio
import contextlib
import functools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from gpuwizard.errors import RefusedError, UsageError
from gpuwizard.remote.options import ConnectOptions, Endpoint
from gpuwizard.remote.ssh.blocks import is_plain, lines_for, readable_path, without_address

__all__ = ["HostSettings", "configuration", "fixed_options", "look_up", "settings_for"]

_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
_KEX = "^curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256"
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com"
_KEEPALIVE = 5.0
_KEEPALIVE_COUNT = 2
"""A dead link is noticed after 5 s × (2 + 1)."""


@dataclass(frozen=True, slots=True)
class HostSettings:
    """How one host is reached. `name` is what was written, `host` and `port` where the connection goes.

    `key_name` and `key_port` are how its host key is known. `jump` is ProxyJump's text. `key_files` that need not
    exist have `optional_keys`. `read` is what asyncssh read in the SSH configuration, `arguments` go to it beside that.
    """

    name: str
    host: str
    port: int
    user: str
    key_name: str
    key_port: int
    jump: str | None
    user_known_hosts: tuple[Path, ...]
    system_known_hosts: tuple[Path, ...]
    key_files: tuple[Path, ...]
    certificates: tuple[Path, ...]
    optional_keys: bool
    identities_only: bool
    agent: str | None
    endpoint: Endpoint | None = None
    read: asyncssh.SSHClientConnectionOptions | None = field(default=None, repr=False)
    arguments: dict[str, Any] = field(default_factory=dict, repr=False)


@functools.cache
def fixed_options() -> asyncssh.SSHClientConnectionOptions:
    """The options that every connection has; made once, so that each connection only adds what is its own."""
    return asyncssh.SSHClientConnectionOptions(
        config=None,
        gss_host=None,
        gss_kex=False,
        gss_auth=False,
        host_based_auth=False,
        x509_trusted_certs=None,
        x509_trusted_cert_paths=[],
        client_keys=None,
        agent_path=None,
        agent_forwarding=False,
        login_timeout=0,
        connect_timeout=None,
        keepalive_interval=_KEEPALIVE,
        keepalive_count_max=_KEEPALIVE_COUNT,
        compression_algs=["none", "zlib@openssh.com", "zlib"],
        utf8_decode_errors="replace",
    )


def configuration(options: ConnectOptions) -> Path | None:
    """The SSH configuration file in use, or None. Raises UsageError when one was named that is not there."""
    if options.ssh_config is not None:
        if not os.access(options.ssh_config, os.R_OK):
            raise UsageError(
                "the SSH configuration cannot be read",
                where=str(options.ssh_config),
                remedy="name another with --ssh-config, or /dev/null for none",
            )
        return options.ssh_config
    default = Path("~/.ssh/config").expanduser()
    return default if os.access(default, os.R_OK) else None


async def look_up(
    name: str, user: str | None, port: int | None, options: ConnectOptions, *, as_hop: bool = False
) -> HostSettings:
    """`settings_for`, in a thread where reading the configuration may take its time. Raises what it raises."""
    path = None if name in options.endpoints or options.isolated else configuration(options)
    if path is None or is_plain(path):
        return settings_for(name, user, port, options, as_hop=as_hop)
    return await asyncio.to_thread(settings_for, name, user, port, options, as_hop=as_hop)


def settings_for(
    name: str, user: str | None, port: int | None, options: ConnectOptions, *, as_hop: bool = False
) -> HostSettings:
    """Look `name` up. Blocks: the configuration may run commands (``Match exec``). To a jump host (`as_hop`) the
    identity of the options is offered besides its own keys.

    Raises UsageError for a configuration that cannot be read, RefusedError for a name outside an isolated run.
    """
    endpoint = options.endpoints.get(name)
    if endpoint is not None:
        return _endpoint_settings(name, endpoint)
    if options.isolated:
        raise RefusedError(
            f"{name} is no host of the simulated fleet",
            remedy="a simulated run reaches nothing real; leave out --simulate for real hosts",
        )
    path = configuration(options)
    user = user or options.user
    config, host = _read(path, name, user, port, options)
    found = config.config
    known = tuple(Path(p).expanduser() for p in _texts(found.get("UserKnownHostsFile")))
    system = tuple(Path(p).expanduser() for p in _texts(found.get("GlobalKnownHostsFile")))
    files = tuple(Path(p).expanduser() for p in _texts(found.get("IdentityFile")))
    files = files or tuple(Path("~/.ssh").expanduser() / key for key in _DEFAULT_KEYS)
    only_identity = options.identity is not None and not as_hop
    if options.identity is not None:
        files = (options.identity.expanduser(), *(files if as_hop else ()))
    return HostSettings(
        name=name,
        host=host,
        port=config.port,
        user=config.username,
        key_name=config.host_key_alias or host,
        key_port=22 if config.host_key_alias else config.port,
        jump=options.jump or _text(found.get("ProxyJump")),
        user_known_hosts=_known_hosts(options, known),
        system_known_hosts=() if options.known_hosts else system or (Path("/etc/ssh/ssh_known_hosts"),),
        key_files=files,
        certificates=tuple(Path(p).expanduser() for p in _texts(found.get("CertificateFile"))),
        optional_keys=not only_identity,
        identities_only=only_identity or bool(found.get("IdentitiesOnly")),
        agent=_agent(options, found),
        read=config,
        arguments={
            # read once is enough, unless what it says depends on the name that DNS makes of the host's
            "config": [str(path)] if path and (found.has_match_final() or config.canonicalize_hostname) else None,
            "kex_algs": () if found.get("KexAlgorithms") else _KEX,
            "encryption_algs": () if found.get("Ciphers") else _CIPHERS,
            "own_host_key_algorithms": bool(found.get("HostKeyAlgorithms")),
            "env": None,
            "send_env": None,
            "command": None,
            **({"proxy_command": None} if options.jump else {}),
        },
    )


def _endpoint_settings(name: str, endpoint: Endpoint) -> HostSettings:
    """Everything from the endpoint, nothing from this machine."""
    return HostSettings(
        name=name,
        host=endpoint.address,
        port=endpoint.port,
        user=endpoint.username,
        key_name=endpoint.address,
        key_port=endpoint.port,
        jump=None,
        user_known_hosts=(),
        system_known_hosts=(),
        key_files=(),
        certificates=(),
        optional_keys=False,
        identities_only=True,
        agent=None,
        endpoint=endpoint,
        arguments={"config": None, "kex_algs": _KEX, "encryption_algs": _CIPHERS, "proxy_command": None},
    )


def _read(
    path: Path | None, name: str, user: str | None, port: int | None, options: ConnectOptions
) -> tuple[asyncssh.SSHClientConnectionOptions, str]:
    """What the configuration says, and the address of the host. Read once for all hosts of which it says the same."""
    read = functools.partial(asyncssh.SSHClientConnectionOptions, fixed_options(), port=port or (), username=user or ())
    lines = lines_for(path, name) if path else ""
    if lines is not None:
        host, common = without_address(lines, name) or (None, lines)
        key = (common, user, port)
        if host is not None and key in options.shared.read:
            return options.shared.read[key], host
        with contextlib.suppress(ValueError, OSError), readable_path(common) as short:
            if short is not None:  # what goes wrong is said of the whole file below, by its name
                config = read(host=name, config=[short] if common else None)
                if host is not None:
                    options.shared.read[key] = config
                return config, host or config.host
    try:
        config = read(host=name, config=[str(path)] if path else None)
    except (asyncssh.ConfigParseError, ValueError, OSError) as error:
        raise UsageError(
            f"the SSH configuration cannot be used: {error}",
            where=str(path) if path else name,
            remedy="correct that line, or name another file with --ssh-config (/dev/null: none)",
        ) from error
    return config, config.host


def _known_hosts(options: ConnectOptions, configured: tuple[Path, ...]) -> tuple[Path, ...]:
    if options.known_hosts is not None:
        return (options.known_hosts.expanduser(),)
    home = Path("~/.ssh").expanduser()
    return configured or (home / "known_hosts", home / "known_hosts2")


def _agent(options: ConnectOptions, config: Any) -> str | None:
    """The agent's socket: IdentityAgent of the configuration, else SSH_AUTH_SOCK."""
    if not options.use_agent:
        return None
    environment = os.environ.get("SSH_AUTH_SOCK")
    chosen = config.get("IdentityAgent", ())
    if chosen is None:
        return None
    if not chosen or chosen == "SSH_AUTH_SOCK":
        return environment
    return str(Path(str(chosen)).expanduser())


def _texts(value: object) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
