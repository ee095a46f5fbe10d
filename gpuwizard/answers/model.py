"""The operator's choices, typed: what the answers file holds. Never a secret.

The field descriptions become the JSON Schema, the comments of the example file and the help in the wizard.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Answers",
    "Cluster",
    "Connection",
    "HostOverride",
    "Install",
    "Rollout",
    "Runtime",
    "Sharing",
    "Validation",
]

Strategy = Literal["auto", "k3s-native", "k3s-template", "drop-in", "in-place", "none"]
DefaultRuntime = Literal["leave", "nvidia", "former"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Connection(_Section):
    """How to log in. Passwords are prompted for, taken from GPUWIZARD_SUDO_PASSWORD, or from a command."""

    user: str | None = Field(default=None, description="login name where a host does not name one")
    identity: str | None = Field(default=None, description="private key file")
    jump: str | None = Field(default=None, description="jump host, [user@]name[:port]")
    ssh_config: str | None = Field(default=None, description="SSH client configuration; default ~/.ssh/config")
    known_hosts: str | None = Field(default=None, description="known_hosts file; default ~/.ssh/known_hosts")
    host_keys: Literal["strict", "ask", "accept-new"] | None = Field(
        default=None, description="unknown host keys: refuse, ask, or accept; a changed key is always refused"
    )
    sudo_password_command: str | None = Field(
        default=None, description="command that prints the sudo password, run on this machine"
    )
    parallel: int = Field(default=30, ge=1, le=500, description="hosts worked on at the same time")
    connect_timeout: float = Field(default=10.0, gt=0, le=600, description="seconds to wait for a connection")


class Cluster(_Section):
    """The Kubernetes side."""

    manage: bool = Field(default=True, description="apply the Kubernetes objects; false: only the hosts are changed")
    kubeconfig: str | None = Field(default=None, description="kubeconfig file; default KUBECONFIG or ~/.kube/config")
    context: str | None = Field(default=None, description="context of the kubeconfig; default its current one")
    namespace: str = Field(
        default="gpuwizard",
        max_length=63,
        pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        description="namespace of what gpuwizard runs in the cluster",
    )


class Runtime(_Section):
    """What the container runtime of each host is told."""

    strategy: Strategy = Field(
        default="auto", description="how the runtime learns the nvidia handler; auto: the right one"
    )
    default_runtime: DefaultRuntime = Field(
        default="leave",
        description="nvidia: every pod runs under the nvidia handler; leave: as it is, pods name a runtime class; "
        "former: what was the default before gpuwizard made nvidia the default",
    )
    cdi: Literal["enable", "leave"] = Field(
        default="enable", description="enable: switch CDI on where the runtime has it and leaves it off"
    )
    convert: bool = Field(
        default=False,
        description="consent to replace a configuration that the runtime cannot use as it is: Docker's stub without "
        "CRI, a file of version 1, a stale K3s template",
    )
    take_latent: bool = Field(
        default=False,
        description="consent to activate with our restart what was changed on a host since its runtime started; false: "
        "such a host is refused (latent-change)",
    )


class Sharing(_Section):
    """How several pods share one GPU."""

    mode: Literal["none", "time-slicing"] = Field(default="none", description="how pods share a GPU")
    replicas: int = Field(default=2, ge=2, le=256, description="pods per GPU with time-slicing")


class Install(_Section):
    """What gpuwizard puts into the cluster."""

    runtime_class: bool = Field(default=True, description="RuntimeClass nvidia")
    device_plugin: bool = Field(default=True, description="device plugin DaemonSet, which announces nvidia.com/gpu")
    device_plugin_image: str = Field(
        default="nvcr.io/nvidia/k8s-device-plugin:v0.20.0", min_length=1, description="image of the device plugin"
    )


class Rollout(_Section):
    """How changes go over the hosts, and what must hold before a host is confirmed."""

    canary: bool = Field(default=True, description="change one host first and go on only when it is confirmed")
    max_unavailable: int = Field(default=3, ge=1, le=100, description="hosts changed at the same time after the canary")
    confirm_timeout: float = Field(
        default=300.0,
        ge=30,
        le=3600,
        description="seconds after which a host that is not confirmed reverts by itself",
    )
    unit_hold: float = Field(default=30.0, ge=0, le=600, description="seconds the unit must stay up without a restart")
    node_hold: float = Field(
        default=45.0, ge=0, le=600, description="seconds the node must stay Ready after the restart"
    )
    drain: Literal["no", "cordon", "drain"] = Field(
        default="no",
        description="before the restart: cordon keeps new pods off the node, drain also evicts those that run there "
        "and honours disruption budgets; lifted when the host is done",
    )
    drain_timeout: float = Field(
        default=300.0, ge=10, le=86400, description="seconds a drain may take; a host that is not drained is refused"
    )
    drain_delete_emptydir: bool = Field(
        default=False, description="consent to evict pods with an emptyDir, whose data goes with them"
    )
    drain_force: bool = Field(
        default=False, description="consent to evict pods without a controller, which nothing brings back"
    )


class Validation(_Section):
    """The pods that prove it."""

    enabled: bool = Field(default=True, description="run a pod with nvidia-smi on every GPU host after apply")
    image: str = Field(
        default="ubuntu:24.04", min_length=1, description="image of the validation pod; it needs only a shell"
    )
    timeout: float = Field(default=300.0, gt=0, le=3600, description="seconds a validation pod may take")


class HostOverride(_Section):
    """Choices for one host that differ from the rest."""

    strategy: Strategy | None = Field(default=None, description="as runtime.strategy, for this host")
    default_runtime: DefaultRuntime | None = Field(
        default=None, description="as runtime.default_runtime, for this host"
    )
    convert: bool | None = Field(default=None, description="as runtime.convert, for this host")
    take_latent: bool | None = Field(default=None, description="as runtime.take_latent, for this host")
    skip: bool = Field(default=False, description="look at this host but change nothing on it")


class Answers(_Section):
    """The whole answers file."""

    version: Literal[1] = Field(default=1, description="version of this file's format")
    hosts: tuple[str, ...] = Field(
        default=(), description="[user@]name[:port], names of the SSH config, @FILE, or local"
    )
    connection: Connection = Connection()
    kubernetes: Cluster = Cluster()
    runtime: Runtime = Runtime()
    sharing: Sharing = Sharing()
    install: Install = Install()
    rollout: Rollout = Rollout()
    validation: Validation = Validation()
    host: dict[str, HostOverride] = Field(default_factory=dict, description="choices for single hosts, by name")
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def strategy_for(self, host: str) -> Strategy:
        """The strategy asked for on `host`."""
        override = self.host.get(host)
        return (override.strategy if override else None) or self.runtime.strategy

    def default_runtime_for(self, host: str) -> DefaultRuntime:
        """The default runtime asked for on `host`."""
        override = self.host.get(host)
        return (override.default_runtime if override else None) or self.runtime.default_runtime

    def converts(self, host: str) -> bool:
        """True when the operator consents to the conversion of a file on `host`."""
        override = self.host.get(host)
        asked = override.convert if override else None
        return self.runtime.convert if asked is None else asked

    def takes_latent(self, host: str) -> bool:
        """True when the operator takes what waits for a restart of the runtime on `host` into the plan."""
        override = self.host.get(host)
        asked = override.take_latent if override else None
        return self.runtime.take_latent if asked is None else asked
