"""The next likely cause of every wait, from what was seen last: why it still waits, or what it waits to rule out.

Pure words to words. What a host, a pod or the API server said decides; where nothing is wrong so far, the cause says
what the wait is for. The order of each table is from the particular to the general.
"""

import re
from collections.abc import Sequence

from gpuwizard.clean import clean_line
from gpuwizard.errors import GpuwizardError, LoginError, RefusedError
from gpuwizard.facts.cluster import NodeView
from gpuwizard.redact import redact_text
from gpuwizard.work.pods import cause_of

__all__ = [
    "likely_of_api",
    "likely_of_link",
    "likely_of_lock",
    "likely_of_node",
    "likely_of_pod",
    "likely_of_unit",
    "said_by_api",
]

_Table = Sequence[tuple[str, str]]

_LINKS: _Table = (
    (r"refuses connections", "sshd is not up: the host is starting or shutting down, or sshd was stopped"),
    (r"connected, but no SSH answer", "the host is overloaded or shutting down, or the link stalls"),
    (r"no answer within", "the host is down or starting, or the link or a firewall drops everything"),
    (r"no way to this host", "the route, the VPN or the host itself is down"),
    (r"closed during login", "sshd is starting, shutting down or busy, or a firewall resets the connection"),
    (r"jump host .* cannot reach", "the jump host is up, the host behind it is not"),
    (r"cannot be resolved", "the laptop has lost its DNS, often together with its network or VPN"),
    (r"host key", "another machine answers at this address, or the host was installed anew"),
    (r"sudo", "the host is up, but sudo no longer makes us root"),
    (r"was not let in|too many keys|password", "the host is up, but the login is no longer accepted"),
    (r"runs no script", "the host is up, but its login shell ends: /etc/nologin, or no home yet"),
    (r"opens no further channel", "too many sessions are open on this host (MaxSessions)"),
    (r"(?i)time.?out|reset|broken pipe", "the network between dropped the connection, or the host was restarted"),
)
_LINK = "the network between is gone, or the host was restarted"

_DEAF = "its socket does not answer yet: it is still loading its plugins and snapshots"
_UNITS: _Table = (
    (r"still process \d+ of before", "the old process is still stopping: systemd kills it after TimeoutStopSec"),
    (r"no space left", "a file system of the host is full"),
    (r"address already in use", "another process holds its socket or port: a former one has not ended yet"),
    (
        r"(?i)failed to load TOML|toml:|expected .*newline|unable to configure|invalid .*config|unmarshal",
        "the runtime cannot read its configuration",
    ),
    (r"ExecMainStatus=203|executable file not found", "its program is missing or cannot be run"),
    (r"permission denied", "the unit may not read or write something: mode, owner, SELinux or AppArmor"),
    (r"(?i)etcd|learner|raft", "etcd has no quorum, or its other members are not up"),
    (r"(?i)failed to (get|retrieve|validate).*(token|CA)|cacerts|/v1-(k3s|rke2)", "the agent cannot reach its server"),
    (r"(?i)Result=(oom-kill|timeout|watchdog)", "systemd killed it: out of memory, or no answer in time"),
    (r"Result=start-limit-hit", "systemd starts it no more: it failed too often"),
    (r"(?i)connection refused|sock.*no such file|deadline exceeded|daemon running\?", _DEAF),
    (r"Result=(exit-code|signal|core-dump)", "its process ended by itself and is started again"),
)
_STATES: _Table = (
    (r"^activating \(auto-restart\)", "it has just died, and systemd starts it again in a moment"),
    (r"^activating", "it is still starting; K3s and RKE2 call themselves up only when etcd and the API server are"),
    (r"^deactivating", "it is still stopping: systemd kills it after TimeoutStopSec"),
    (r"^reloading", "it is still reading its configuration again"),
    (r"^inactive", "the restart is queued behind another job of systemd, or the unit was stopped by somebody"),
    (r"CRI unreachable", _DEAF),
)
_HOLDS: _Table = (
    (r" stays up$", "nothing is wrong: a runtime that dies late, or a CRI plugin that fails late, would show now"),
    (r" takes the files up$", "nothing is wrong: k0s waits for further changes before it restarts its containerd"),
    (r"^the revert begins$", "systemd has not started it yet, or a step of the change is ending first"),
    (r"^the state of the run is free$", "a step of this run is at work; it lets go by itself"),
)

_NODES: _Table = (
    (
        r"(?i)cni plugin not initialized|cni config uninitialized|network plugin .*not ready|NetworkReady=false",
        "CNI: the runtime finds no network configuration where it looks, or the network's pod is not up yet",
    ),
    (r"(?i)unknown service runtime", "the CRI plugin of containerd is in error"),
    (
        r"(?i)container runtime is down|container runtime not ready|RuntimeReady=false|rpc error.*(sock|Unavailable)",
        "the runtime does not answer the kubelet: it is starting, or its CRI plugin is in error",
    ),
    (r"(?i)PLEG", "the runtime answers the kubelet too slowly"),
    (r"(?i)NodeStatusUnknown|stopped posting", "the kubelet is not running, or cannot reach the API server"),
    (r"(?i)shutting down", "the host is shutting down"),
    (r"(?i)CSINode|failed to initialize CSI", "the kubelet has just started and is still registering"),
)

_PODS: _Table = (
    (r"no node was seen yet", "the API server has not listed its nodes yet"),
    (r"the cluster has no node", "its kubelet has not registered: it is not running, or goes by another name"),
    (r"but no handler", "the kubelet tells its runtime's handlers some seconds after both have started"),
    (r"(?i)Unschedulable|nodes are available", "the scheduler finds no place; its words say what each node lacks"),
    (r"CrashLoopBackOff", "its container ends at once and is started again, later each time"),
    (r"CreateContainerConfigError", "something that the pod names is missing: a ConfigMap or a Secret"),
    (r"FailedCreate|forbidden", "the API server admits no such pod: quota, policy or a service account"),
    (r"FailedCreatePodSandBox", "the runtime could not make the pod's sandbox"),
    (r"FailedMount", "a volume of the pod is not there"),
    (r"ContainerCreating|PodInitializing", "the node is still getting the image or making the container"),
    (r"no device plugin pod", "the DaemonSet has not made a pod there yet, or the node does not have its label"),
    (r"the pod is Running", "nothing is wrong: it has started and is at work"),
    (r"device plugin pod .*: Running", "the plugin has just started, or finds no GPU: its log says which"),
    (r"the pod was created|the pod is Pending|: Pending", "the scheduler or the kubelet has not come to it yet"),
)

_SELF = "the API server restarts together with its node"


def likely_of_link(error: GpuwizardError) -> str:
    """Why a host does not answer over SSH, by the error of the last attempt."""
    return _first(_LINKS, error.what) or _LINK


def likely_of_lock() -> str:
    """Why the run lock of a host is not free yet, although its holder is of the same run."""
    return "the host has not noticed yet that the former link of this run is gone"


def likely_of_unit(condition: str, last: str, evidence: str) -> str:
    """Why a unit is not up, or what it is watched for. `evidence` is what its host showed: the result of its process,
    its last complaint in the journal, or what its CRI socket answered."""
    held = _first(_HOLDS, condition)
    if held:
        return held
    told = clean_line(redact_text(evidence.strip()), 200)
    cause = _first(_UNITS, f"{last} {evidence}") or _first(_STATES, last)
    return "; it says: ".join(part for part in (cause, told) if part) or "it has not begun yet"


def likely_of_node(node: NodeView | None, *, beating: bool = True) -> str:
    """Why a node is not Ready for long enough, by the kubelet's own words."""
    if node is None:
        return "its kubelet has not registered: it is not running, or goes by another name"
    if node.ready:
        if not beating:
            return "the kubelet has not renewed its lease since the restart; it does so every 10 s"
        return "nothing is wrong: a broken CRI makes a node NotReady only 24 to 28 s after the restart"
    said = f"{node.ready_reason} {node.ready_message}"
    unknown = "the kubelet is not running, or cannot reach the API server"
    return _first(_NODES, said) or (unknown if node.ready is None else "the kubelet has just started")


def likely_of_api(error: GpuwizardError, *, control_plane: bool) -> str:
    """Why the API server is away or refuses; `control_plane`: the node whose runtime is restarted is one of its own.

    A server that has just started refuses what it allows a moment later: its roles, keys and kinds come one after the
    other (seen: 403 of a single K3s server).
    """
    if isinstance(error, LoginError | RefusedError):
        return "a server that is only just starting answers so until its roles and keys are loaded; later it means it"
    if control_plane:
        return f"{_SELF}: K3s and RKE2 run it inside their server, and with a single server it is the only one"
    if "refused" in error.what:
        return "the API server is restarting, or was stopped"
    if "resolved" in error.what:
        return "the laptop has lost its DNS, often together with its network or VPN"
    if "could not answer" in error.what:
        return "the API server waits for etcd, or is overloaded"
    return "the network between, a VPN or a proxy; or the host of the API server is down"


def said_by_api(error: GpuwizardError) -> str:
    """What was seen last where the API server gave no answer that helps."""
    refuses = isinstance(error, LoginError | RefusedError)
    return f"the API server {'refuses' if refuses else 'cannot be reached'}: {error.what}"


def likely_of_pod(said: str) -> str:
    """Why a pod, its node, or what that node announces, is not further on the ladder of validation."""
    return cause_of(said) or _first((*_PODS, *_NODES), said) or "the cluster has not come to it yet"


def _first(table: _Table, text: str) -> str:
    return next((cause for pattern, cause in table if re.search(pattern, text)), "")
