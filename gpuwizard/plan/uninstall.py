"""The plan back to before us: a pure function of what the hosts' run folders and the cluster say."""

import json
from collections.abc import Iterator, Mapping
from typing import Literal, cast

from gpuwizard.actions import Activation, Check, HostAction, LabelNode, Refusal, Restart, WriteFile
from gpuwizard.answers.model import Answers
from gpuwizard.clean import clean_line
from gpuwizard.containerd import Effective, compare, effective
from gpuwizard.facts.cluster import ClusterView, NodeView
from gpuwizard.facts.history import ABSENT, HostHistory
from gpuwizard.facts.model import Probe
from gpuwizard.facts.owned import Owned
from gpuwizard.plan.blast import blast_of, pods_by_node
from gpuwizard.plan.build import boot_of, node_of
from gpuwizard.plan.digest import fingerprint, plan_hash
from gpuwizard.plan.model import UNINSTALL, ClusterPlan, HostPlan, Plan, TakeBack
from gpuwizard.plan.removal import removal
from gpuwizard.plan.unwind import Unwound, unwind
from gpuwizard.redact import redact_text
from gpuwizard.steps.identity import GPU_LABEL
from gpuwizard.steps.runtime import activation_words

__all__ = ["build_uninstall"]

_LISTED = 3


def build_uninstall(
    histories: Mapping[str, HostHistory | Refusal],
    probes: Mapping[str, Probe],
    answers: Answers,
    cluster: ClusterView | None,
    owned: Owned,
    unreachable: Mapping[str, str],
) -> Plan:
    """What takes gpuwizard's changes back on these hosts, and out of the cluster when no other node needs them.

    `cluster` is None when the answers do not manage it. `unreachable` maps hosts that could not be looked at to why.
    """
    view = cluster if answers.kubernetes.manage else None
    nodes = {} if view is None else {node.name: node for node in view.nodes}
    hosts = [_host(name, histories[name], probes[name], view, nodes) for name in sorted(histories)]
    for name, why in unreachable.items():
        refusal = Refusal(
            "unreachable", f"not reached: {redact_text(clean_line(why))}", "see that it can be logged in to"
        )
        hosts.append(HostPlan(name, UNINSTALL, refusal.why, refusals=(refusal,)))
    hosts.sort(key=lambda host: host.name)
    objects = _cluster(view, owned, hosts)
    return Plan(tuple(hosts), objects, plan_hash(hosts, objects), fingerprint(hosts, None, ()))


def _cluster(view: ClusterView | None, owned: Owned, hosts: list[HostPlan]) -> ClusterPlan:
    if view is None:
        return ClusterPlan()
    if view.error is not None:
        refusal = Refusal("cluster", f"the cluster was not looked at: {redact_text(clean_line(view.error))}")
        return ClusterPlan(refusals=(refusal,), server=view.server)
    return removal(owned, view, [h.node_name for h in hosts if h.node_name and not h.refusals])


def _host(
    name: str,
    history: HostHistory | Refusal,
    probe: Probe,
    view: ClusterView | None,
    nodes: Mapping[str, NodeView],
) -> HostPlan:
    node = node_of(probe, nodes)
    server = probe.facts.kubernetes.role in ("server", "control-plane")
    ways = history if isinstance(history, Refusal) else _ways(history)
    if isinstance(ways, Refusal):
        return HostPlan(name, UNINSTALL, ways.why, refusals=(ways,), node_name=node.name if node else None)
    actions: list[HostAction] = []
    if node is not None and (value := node.labels.get(GPU_LABEL)) is not None:
        words = f"remove label {GPU_LABEL} of node {node.name}"
        actions.append(LabelNode(f"{name}:label:{GPU_LABEL}", node.name, GPU_LABEL, value, None, words))
    back = []
    for way in ways:
        activation = _activation(way, probe)
        back.append(TakeBack(tuple(r.id for r in way.runs), _aims(way), activation))
        actions += _actions(name, way, activation, _seen(way, probe, first=not back[:-1]))
    restarts = node is not None and any(isinstance(action, Restart) for action in actions)
    pods = pods_by_node(view)
    assert not isinstance(history, Refusal)
    return HostPlan(
        name=name,
        strategy=UNINSTALL,
        reason=_reason(history, actions),
        actions=tuple(actions),
        boot_id=boot_of(probe),
        node_name=node.name if node is not None else probe.facts.kubernetes.node_name,
        control_plane=server,
        blast=blast_of(node, pods, control_plane=server) if restarts and node is not None else None,
        takes_back=tuple(back),
    )


def _ways(history: HostHistory) -> tuple[Unwound, ...] | Refusal:
    for run in history.open:
        return Refusal(
            "busy",
            f"run {run.id} is not over on this host ({run.state})",
            f"wait {max(run.seconds, 0)} s until it has reverted by itself, or go on: gpuwizard resume {run.id}",
        )
    return unwind(history)


def _aims(way: Unwound) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (
            file.before.sha256 if file.before is not None else ABSENT,
            file.after.sha256 if file.after is not None else ABSENT,
            file.path,
        )
        for file in way.files
    )


def _seen(way: Unwound, probe: Probe, *, first: bool) -> tuple[Effective, Effective] | None:
    """What containerd makes of its files now and afterwards; None where something else renders or reads them, and for
    all but the first change, which find other files than the probe did."""
    path = way.params.get("config")
    plain = way.params.get("kind", "containerd") == "containerd" and "rendered" not in way.params
    version = next((r.version for r in probe.facts.runtimes if r.config_path == path and r.version), None)
    if not first or not plain or path is None or version is None or way.params.get("verb", "restart") != "restart":
        return None
    files = {name: file.content.raw for name, file in probe.files.items() if file.content is not None}
    after = dict(files)
    for change in way.files:
        after.pop(change.path, None)
        if change.after is not None:
            after[change.path] = change.after.raw
    return effective(files, path, version), effective(after, path, version)


def _actions(
    name: str, way: Unwound, activation: Activation | None, seen: tuple[Effective, Effective] | None
) -> Iterator[HostAction]:
    changes = compare(*seen) if seen is not None else ()
    for number, file in enumerate(way.files, start=1):
        words = f"remove {file.path}" if file.after is None else f"put back {file.path}"
        told = changes if number == len(way.files) else ()
        yield WriteFile(f"{name}:file:{file.path}", file, words, told, told=seen is not None)
    if activation is None:
        return
    kind = way.params.get("kind", "containerd")
    check = Check(
        unit=activation.unit,
        handlers=tuple(sorted(seen[1].runtimes)) if seen is not None else (),
        default_handler=seen[1].default_runtime_name if seen is not None else None,
        cri_socket=way.params.get("socket"),
        binary=way.params.get("binary"),
        config_path=way.params.get("config"),
        rendered=way.params.get("rendered"),
        kind=cast(Literal["containerd", "docker", "crio"], kind),
    )
    yield Restart(f"{name}:restart:{activation.unit}", activation, check, activation_words(activation))


def _activation(way: Unwound, probe: Probe) -> Activation | None:
    unit = way.params.get("unit")
    if unit is None:
        return None
    verb = cast(Literal["restart", "snap-restart", "watched"], way.params.get("verb", "restart"))
    stops = way.params.get("kind") == "docker" and not _survives(probe, way.params.get("config", ""))
    return Activation(unit, verb, way.params.get("snap"), stops_containers=stops)


def _survives(probe: Probe, path: str) -> bool:
    """Whether Docker's containers live through its restart, as far as its file says (`runtimes.md §8`)."""
    file = probe.files.get(path)
    if file is None or file.content is None:
        return False
    try:
        document = json.loads(file.content.text())
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("live-restore") is True


def _reason(history: HostHistory, actions: list[HostAction]) -> str:
    """What is taken back here, or why there is nothing."""
    if not history.runs:
        return "no run of gpuwizard stands here" if actions else "nothing of gpuwizard is here"
    ids = [run.id for run in history.runs]
    more = f" and {len(ids) - _LISTED} more" if len(ids) > _LISTED else ""
    runs = f"{'run' if len(ids) == 1 else 'runs'} {', '.join(ids[:_LISTED])}{more}"
    if any(isinstance(action, WriteFile) for action in actions):
        return f"back to before {runs}"
    return f"{runs} left no file here: what the runtime finds by itself, it goes on finding"
