"""The rows of the review: hosts that read alike are one row, which opens into its hosts."""

from collections.abc import Iterable

from textual.content import Content

from gpuwizard.plan.groups import HostGroup, group_hosts
from gpuwizard.plan.model import Plan
from gpuwizard.plan.words import effects_of
from gpuwizard.show.plan_steps import group_title
from screens.plan_text import host_state
from screens.words import STYLES, counted, mark, plain

__all__ = ["PlanRows"]

_CLUSTER = "cluster:"
_GROUP = "group:"
_ORDER = {"running": 0, "error": 2, "ok": 3}


class PlanRows:
    """The rows of one plan by key: ``group:FIRST`` for hosts together, else the host's name, or ``cluster:``."""

    def __init__(self, plan: Plan | None = None, opened: Iterable[str] = ()) -> None:
        self._plan = plan
        self._groups: dict[str, HostGroup] = {}
        self._home: dict[str, str] = {}
        ranked: list[tuple[int, str]] = []
        for group in group_hosts(plan) if plan is not None else ():
            key = group.first.name if len(group.hosts) == 1 else f"{_GROUP}{group.first.name}"
            self._groups[key] = group
            ranked.append((_ORDER[host_state(group.first)[0]], key))
            if len(group.hosts) > 1:
                self._home |= dict.fromkeys(group.names, key) | {key: key}
                self._groups |= {host.name: HostGroup((host,)) for host in group.hosts}
        if plan is not None and (plan.cluster.actions or plan.cluster.refusals or plan.cluster.server):
            ranked.append((_ORDER[self._cluster_kind(plan)], _CLUSTER))
        self._top = [key for _, key in sorted(ranked, key=lambda item: item[0])]
        self._open = {key for key in opened if key in self._groups}

    @property
    def grouped(self) -> bool:
        """True when some hosts stand together."""
        return bool(self._home)

    def keys(self) -> tuple[str, ...]:
        """The rows from top to bottom; those of open groups with their hosts."""
        keys: list[str] = []
        for key in self._top:
            keys.append(key)
            if key in self._open:
                keys += self._groups[key].names
        return tuple(keys)

    def group(self, key: str) -> HostGroup | None:
        """The hosts that a row stands for; None for the cluster."""
        return self._groups.get(key)

    def group_key(self, key: str) -> str | None:
        """The row of the group that a row belongs to; None where a host is alone."""
        return self._home.get(key)

    def is_open(self, key: str) -> bool:
        """True when the hosts of this group have rows of their own."""
        return key in self._open

    def open(self, key: str, *, opened: bool) -> list[str]:
        """Open or close a group; the groups that are open now."""
        (self._open.add if opened else self._open.discard)(key)
        return sorted(self._open)

    def cells(self, key: str) -> tuple[Content, ...]:
        """Mark, place, number of steps and meaning of one row."""
        group = self._groups.get(key)
        if group is None:
            return self._cluster_cells()
        kind, words = host_state(group.first)
        many = len(group.hosts) > 1
        where = plain(group_title(group), limit=4000)
        if many:
            where = Content.assemble(("▾ " if self.is_open(key) else "▸ ", "$text-accent"), where)
            words = f"{counted(len(group.hosts), 'host')} · {words}"
        elif key in self._home:
            where = Content.assemble("    ", where)
        return mark(kind), where, Content.styled(words, STYLES[kind]), _meaning(group)

    def _cluster_cells(self) -> tuple[Content, ...]:
        assert self._plan is not None
        cluster, kind = self._plan.cluster, self._cluster_kind(self._plan)
        words = {"error": "refused", "ok": "no change"}.get(kind, counted(len(cluster.actions), "object"))
        meaning = plain(cluster.refusals[0].why if cluster.refusals else cluster.server or "", "$quiet")
        return mark(kind), Content.styled("Cluster", "bold"), Content.styled(words, STYLES[kind]), meaning

    @staticmethod
    def _cluster_kind(plan: Plan) -> str:
        return "error" if plan.cluster.refusals else "running" if plan.cluster.actions else "ok"


def _meaning(group: HostGroup) -> Content:
    """What changes for the runtime, or why nothing does."""
    if group.refusals:
        return plain(group.refusals[0].why, STYLES["error"])
    changed = [str(effect) for effect in effects_of(group.actions) if effect.kind != "unchanged"]
    return plain(" · ".join(changed)) if changed else plain(group.first.reason, "$quiet")
