"""The plan: a pure function of probes, answers and the cluster as it was seen."""

from collections.abc import Mapping
from typing import Any

from gpuwizard.actions import ApplyObject, HostAction, HostPlanned, Refusal, Restart
from gpuwizard.answers.model import Answers
from gpuwizard.clean import clean_line
from gpuwizard.facts.cluster import ClusterView, NodePod, NodeView, ObjectState, key_of
from gpuwizard.facts.model import Probe
from gpuwizard.flavours.latent import not_live, taken_in
from gpuwizard.flavours.refusals import live_refusal
from gpuwizard.plan.alike import AlikeHosts
from gpuwizard.plan.blast import blast_of, pods_by_node
from gpuwizard.plan.digest import fingerprint, plan_hash
from gpuwizard.plan.drain import drain_refusal, terms_of
from gpuwizard.plan.model import ClusterPlan, HostPlan, Plan
from gpuwizard.plan.shown import cleaned, shown_yaml
from gpuwizard.redact import hide_secrets, redact_text, secrets_in
from gpuwizard.steps import desired_objects, labels, runtime, runtime_class

__all__ = ["boot_of", "build_plan", "node_of", "reads_of", "versions_of"]


def build_plan(
    probes: Mapping[str, Probe],
    answers: Answers,
    cluster: ClusterView | None,
    unreachable: Mapping[str, str] | None = None,
) -> Plan:
    """What will be done to make the answers true. The same inputs give the same plan, whatever their order.

    `cluster` is None when the answers do not manage it. `unreachable` maps hosts that could not be probed to why;
    they are in the plan, refused.
    """
    view = cluster if answers.kubernetes.manage else None
    nodes = {} if view is None else {node.name: node for node in reversed(view.nodes)}
    alike = AlikeHosts(answers)
    pods = pods_by_node(view)
    hosts = [
        _host(name, probes[name], alike.planned(name, probes[name]), answers, view, nodes, pods)
        for name in sorted(probes)
    ]
    for name, why in sorted((unreachable or {}).items()):
        refusal = Refusal(
            "unreachable", f"not reached: {redact_text(clean_line(why))}", "see that it can be logged in to"
        )
        hosts.append(HostPlan(name, "none", refusal.why, refusals=(refusal,)))
    hosts.sort(key=lambda h: h.name)
    wanted = desired_objects(answers, probes)
    objects = _cluster(wanted, view)
    return Plan(tuple(hosts), objects, plan_hash(hosts, objects), fingerprint(hosts, view, [key_of(m) for m in wanted]))


def reads_of(probe: Probe) -> dict[str, str]:
    """Every file that the probe looked at: path to sha256 or ``absent``. Apply compares this with a new probe's."""
    return {path: probe.files[path].sha256 for path in sorted(probe.files)}


def versions_of(probe: Probe) -> dict[str, str]:
    """The versions that a plan relies on; what is not known is left out."""
    facts = probe.facts
    known = {f"{r.kind} {r.config_path or r.socket or ''}".strip(): r.version for r in facts.runtimes}
    known |= {
        "kubernetes": facts.kubernetes.version,
        "nvidia-driver": facts.driver.loaded,
        "nvidia-container-toolkit": facts.toolkit.version,
        "nvidia-container-runtime": facts.toolkit.runtime_path,
    }
    return {name: version for name, version in sorted(known.items()) if version is not None}


def boot_of(probe: Probe) -> str | None:
    """The boot in which the host was seen."""
    return probe.facts.boot_id


def _host(
    name: str,
    probe: Probe,
    planned: HostPlanned,
    answers: Answers,
    view: ClusterView | None,
    nodes: Mapping[str, NodeView],
    pods: Mapping[str, tuple[NodePod, ...]] | None,
) -> HostPlan:
    facts = probe.facts
    node = node_of(probe, nodes)
    live = live_refusal(node.runtime_handlers, planned) if node is not None else None
    if not planned.refusals and live is None and planned.change.activation is not None and node is not None:
        planned = taken_in(name, answers, planned, planned.change.activation.unit, not_live(node, probe))
    refusals = tuple(_safe(refusal, probe) for refusal in planned.refusals)
    if not refusals and _takes_part(planned, probe) and view is not None and view.error is None and node is None:
        refusals = (_unknown_node(probe, view),)
    if not refusals and live is not None:
        refusals = (live,)
    if not refusals and planned.change.activation is not None:
        undrained = drain_refusal(answers.rollout, view, node, member=facts.kubernetes.node_name is not None)
        refusals = (undrained,) if undrained is not None else ()
    actions: list[HostAction] = []
    if not refusals:
        actions += runtime.actions(name, planned.change)
        if _takes_part(planned, probe):
            actions += labels.actions(name, node, answers)
    server = facts.kubernetes.role in ("server", "control-plane")
    restarts = node is not None and any(isinstance(action, Restart) for action in actions)
    return HostPlan(
        name=name,
        strategy=planned.strategy,
        reason=refusals[0].why if refusals else redact_text(planned.reason),
        actions=tuple(actions),
        refusals=refusals,
        reads=reads_of(probe),
        versions=versions_of(probe),
        boot_id=boot_of(probe),
        node_name=node.name if node is not None else facts.kubernetes.node_name,
        control_plane=server,
        blast=blast_of(node, pods, control_plane=server, drain=terms_of(answers.rollout))
        if restarts and node is not None
        else None,
    )


def _safe(refusal: Refusal, probe: Probe) -> Refusal:
    """Without secrets: what is wrong with a file is often told with the very line that is wrong."""
    known = frozenset[str]().union(
        *(secrets_in(file.content.text(), path) for path, file in probe.files.items() if file.content is not None)
    )
    return Refusal(refusal.id, hide_secrets(refusal.why, known), hide_secrets(refusal.remedy, known))


def _takes_part(planned: HostPlanned, probe: Probe) -> bool:
    """Only a node whose runtime knows the handler may get the device plugin."""
    return planned.strategy != "none" and bool(probe.facts.gpus)


def node_of(probe: Probe, nodes: Mapping[str, NodeView]) -> NodeView | None:
    """The node that this host is: by the name it registers as, else by its host name."""
    names = [probe.facts.kubernetes.node_name, probe.facts.hostname, (probe.facts.hostname or "").lower()]
    return next((nodes[name] for name in names if name and name in nodes), None)


def _unknown_node(probe: Probe, view: ClusterView) -> Refusal:
    name = probe.facts.kubernetes.node_name or probe.facts.hostname or "of that name"
    return Refusal(
        "unknown-node",
        f"the cluster {view.server or ''} has no node {name}".replace("  ", " "),
        "take the kubeconfig and context of this host's cluster, or set kubernetes.manage = false",
    )


def _cluster(wanted: tuple[dict[str, Any], ...], view: ClusterView | None) -> ClusterPlan:
    if view is None:
        return ClusterPlan()
    if view.error is not None:
        refusal = Refusal("cluster", f"the cluster was not looked at: {redact_text(clean_line(view.error))}")
        return ClusterPlan(refusals=(refusal,), server=view.server)
    actions: list[ApplyObject] = []
    refusals: list[Refusal] = []
    for manifest in wanted:
        key = key_of(manifest)
        state = view.objects.get(key) or ObjectState(None, None, unchecked="it was not looked at")
        if manifest["kind"] == "RuntimeClass":
            verdict = runtime_class.verdict(state.live)
            if isinstance(verdict, Refusal):
                refusals.append(verdict)
            if verdict is not True:
                continue
        if state.error is not None:
            refusals.append(
                Refusal(
                    "object",
                    f"{key}: {redact_text(clean_line(state.error))}",
                    "nothing is forced: settle who owns it, or allow it to this user, and plan again",
                )
            )
            continue
        action = _object(manifest, state)
        if action is not None:
            actions.append(action)
    return ClusterPlan(tuple(actions), tuple(refusals), view.server)


def _object(manifest: dict[str, Any], state: ObjectState) -> ApplyObject | None:
    """Apply `manifest` unless the server's dry run says that it would change nothing."""
    key = key_of(manifest)
    result = state.dry_run if state.dry_run is not None else manifest
    if state.live is not None and state.dry_run is not None and cleaned(state.live) == cleaned(state.dry_run):
        return None
    return ApplyObject(
        id=f"cluster:{key}",
        key=key,
        manifest=manifest,
        before=shown_yaml(state.live) if state.live is not None else "",
        after=shown_yaml(result),
        summary=f"{'change' if state.live is not None else 'create'} {key}",
        unchecked=state.unchecked,
    )
