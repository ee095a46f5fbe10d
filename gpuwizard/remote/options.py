"""How to log in, as data, and what the logins of one run share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from gpuwizard.remote.shared import Shared
from gpuwizard.secret import Secret

__all__ = ["ConnectOptions", "Endpoint", "HostKeyPolicy"]

HostKeyPolicy: TypeAlias = Literal["strict", "ask", "accept-new"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host whose way in is known completely, such as one of a simulated fleet.

    `client_key` is a private key in OpenSSH's text form, `host_key` the public key as one line.
    """

    address: str
    port: int
    username: str
    client_key: str = field(repr=False)
    host_key: str


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """How to log in to any host. Times in seconds.

    A name in `endpoints` is reached by that alone: nothing of ~/.ssh, the agent, known hosts or proxies is read for
    it. `isolated` forbids every other name. `shared` holds what the hosts of one run have in common (parsed keys,
    jump connections, the sudo password once it is known): keep the same one for the whole sitting.
    """

    user: str | None = None
    identity: Path | None = None
    jump: str | None = None
    ssh_config: Path | None = None
    known_hosts: Path | None = None
    host_keys: HostKeyPolicy = "strict"
    connect_timeout: float = 10.0
    password: Secret | None = None
    sudo_password: Secret | None = None
    use_agent: bool = True
    isolated: bool = False
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    shared: Shared = field(default_factory=Shared, compare=False, repr=False)
