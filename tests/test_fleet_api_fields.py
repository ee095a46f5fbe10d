"""Server-side apply of the simulated server: who owns which field, what merges, what conflicts."""

from typing import Any

import pytest

from gpuwizard.fleet.api_fields import apply, owned_after_update
from gpuwizard.fleet.api_status import Refused

NOW = "2026-11-21T01:13:00Z"


def config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}, "data": data}


def pod(*containers: dict[str, Any]) -> dict[str, Any]:
    spec = {"containers": list(containers)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"}, "spec": spec}


def applied(live: dict[str, Any] | None, wanted: dict[str, Any], manager: str, *, force: bool = False) -> Any:
    return apply(live, wanted, manager, force=force, now=NOW)


def test_a_first_apply_owns_exactly_its_fields() -> None:
    obj = applied(None, config_map(a="1"), "one")
    (entry,) = obj["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("one", "Apply")
    assert entry["fieldsV1"] == {"f:data": {"f:a": {}}}


def test_two_managers_own_side_by_side() -> None:
    obj = applied(applied(None, config_map(a="1"), "one"), config_map(b="2"), "two")
    assert obj["data"] == {"a": "1", "b": "2"}


def test_another_value_for_an_owned_field_is_a_conflict() -> None:
    live = applied(None, config_map(a="1", b="1"), "one")
    with pytest.raises(Refused) as caught:
        applied(live, config_map(a="2"), "two")
    assert caught.value.message == 'Apply failed with 1 conflict: conflict with "one": .data.a'
    with pytest.raises(Refused) as caught:
        applied(live, config_map(a="2", b="2"), "two")
    assert caught.value.message == 'Apply failed with 2 conflicts: conflicts with "one":\n- .data.a\n- .data.b'


def test_an_owner_by_update_is_shown_with_its_version() -> None:
    live = owned_after_update(None, config_map(a="1"), "kubectl", now=NOW)
    with pytest.raises(Refused) as caught:
        applied(live, config_map(a="2"), "two")
    assert caught.value.message == 'Apply failed with 1 conflict: conflict with "kubectl" using v1: .data.a'


def test_a_dropped_field_goes_unless_another_manager_wants_it() -> None:
    live = applied(None, config_map(a="1", b="1"), "one")
    live = applied(live, config_map(b="1"), "two")
    live = applied(live, config_map(c="1"), "one")
    assert live["data"] == {"b": "1", "c": "1"}


def test_force_takes_the_field_over() -> None:
    live = applied(applied(None, config_map(a="1"), "one"), config_map(a="2"), "two", force=True)
    assert live["data"] == {"a": "2"}
    assert [m["manager"] for m in live["metadata"]["managedFields"]] == ["two"]


def test_containers_merge_by_name_and_their_environment_by_name() -> None:
    first = pod({"name": "c", "image": "i:1", "env": [{"name": "A", "value": "1"}]})
    live = applied(None, first, "one")
    live = applied(live, pod({"name": "c", "env": [{"name": "B", "value": "2"}]}), "two")
    (container,) = live["spec"]["containers"]
    assert container["image"] == "i:1"
    assert [e["name"] for e in container["env"]] == ["A", "B"]
    live = applied(live, pod({"name": "c", "image": "i:1"}), "one")
    assert [e["name"] for e in live["spec"]["containers"][0]["env"]] == ["B"]


def test_a_container_that_is_no_longer_applied_is_removed() -> None:
    live = applied(None, pod({"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1"}), "one")
    live = applied(live, pod({"name": "a", "image": "i:1"}), "one")
    assert [c["name"] for c in live["spec"]["containers"]] == ["a"]


def test_a_plain_list_is_one_value() -> None:
    live = applied(None, pod({"name": "c", "command": ["a", "b"]}), "one")
    with pytest.raises(Refused) as caught:
        applied(live, pod({"name": "c", "command": ["a"]}), "two")
    assert caught.value.message.endswith('conflict with "one": .spec.containers[name="c"].command')


def test_an_update_takes_over_what_it_changes() -> None:
    live = applied(None, config_map(a="1", b="1"), "one")
    changed = {**live, "data": {"a": "2", "b": "1"}}
    live = owned_after_update(live, changed, "editor", now=NOW)
    fields = {m["manager"]: m["fieldsV1"] for m in live["metadata"]["managedFields"]}
    assert fields == {"one": {"f:data": {"f:b": {}}}, "editor": {"f:data": {"f:a": {}}}}


def test_the_same_again_changes_nothing() -> None:
    live = applied(None, config_map(a="1"), "one")
    assert apply(live, config_map(a="1"), "one", force=False, now="2027-01-01T00:00:00Z") == live
