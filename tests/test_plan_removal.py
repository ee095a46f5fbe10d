"""Which objects of the cluster an uninstall deletes: only what is ours alone, and only when nobody needs it."""

from typing import Any

import pytest

from gpuwizard.facts.cluster import ClusterView, NodeView
from gpuwizard.facts.owned import Owned
from gpuwizard.plan.removal import removal

VIEW = ClusterView("https://k", nodes=(NodeView("a", True, {"gpuwizard.dev/gpu": "true"}), NodeView("b", True)))


def obj(kind: str, name: str, *managers: str, namespace: str = "", status: str = "") -> dict[str, Any]:
    fields = [{"manager": manager, "operation": "Apply"} for manager in managers]
    fields += [{"manager": status, "operation": "Update", "subresource": "status"}] if status else []
    meta: dict[str, Any] = {"name": name, "managedFields": fields}
    if namespace:
        meta["namespace"] = namespace
    return {"apiVersion": "v1", "kind": kind, "metadata": meta}


def test_what_is_ours_is_deleted_the_device_plugin_first_and_shown_whole() -> None:
    owned = Owned(
        (
            obj("DaemonSet", "plugin", "gpuwizard", "kubectl-rollout", namespace="gpuwizard", status="kube-controller"),
            obj("Namespace", "gpuwizard", "gpuwizard"),
        ),
        {"gpuwizard": ()},
    )
    plan = removal(owned, VIEW, ["a"])
    assert [a.summary for a in plan.actions] == ["delete DaemonSet gpuwizard/plugin", "delete Namespace gpuwizard"]
    assert plan.actions[1].before == "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: gpuwizard\n"
    assert (plan.actions[1].after, plan.actions[1].manifest, plan.notes) == ("", {}, ())


def test_everything_stays_while_another_node_needs_it() -> None:
    plan = removal(Owned((obj("DaemonSet", "plugin", "gpuwizard", namespace="g"),)), VIEW, ["b"])
    assert plan.actions == ()
    assert plan.notes == ("the cluster's objects stay: a still has our label",)


@pytest.mark.parametrize(
    ("name", "managers", "others", "why"),
    [
        (
            "gpuwizard",
            ("gpuwizard",),
            ("Secret gpuwizard/pull",),
            "not all in it is gpuwizard's: Secret gpuwizard/pull",
        ),
        ("gpuwizard", ("gpuwizard",), None, "what else is in it is not known"),
        ("gpu", ("gpuwizard", "kubectl-create"), (), "it is also kubectl-create's"),
        ("kube-system", ("gpuwizard",), (), "it is the cluster's own"),
        ("gpuwizard", ("helm",), (), "it has gpuwizard's label, but gpuwizard did not make it"),
    ],
)
def test_a_namespace_that_is_not_ours_alone_stays(
    name: str, managers: tuple[str, ...], others: tuple[str, ...] | None, why: str
) -> None:
    plan = removal(Owned((obj("Namespace", name, *managers),), {name: others}), VIEW, ["a"])
    assert plan.actions == ()
    assert plan.notes == (f"Namespace {name} stays: {why}",)
