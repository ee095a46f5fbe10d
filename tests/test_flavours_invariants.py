"""The six invariants over every configuration of the samples that starts, on all four releases."""

import json
from pathlib import Path
from typing import Any

import pytest

from gpuwizard.actions import HostPlanned
from gpuwizard.answers.model import Answers, Runtime
from gpuwizard.containerd import Effective, effective
from gpuwizard.facts.model import Probe
from gpuwizard.flavours import plan_host
from tests.invariants import assert_invariants, seen
from tests.plan_probes import MAIN, applied, containerd_host

CASES = json.loads((Path(__file__).parent / "data" / "containerd_merge.json").read_text())["cases"]
STARTING = [(case, version) for case in CASES for version, real in case["containerd"].items() if real["starts"]]
USABLE = [(case, version) for case, version in STARTING if case["containerd"][version]["cri"] == "ok"]
UNUSABLE = [(case, version) for case, version in STARTING if case["containerd"][version]["cri"] != "ok"]
OLD = {"M", "BO", "CI"}  # files of version 1 with CRI settings, which 2.0 to 2.2 ignore


def named(pairs: list[tuple[dict[str, Any], str]]) -> list[str]:
    return [f"{case['id']}-{version}" for case, version in pairs]


def host(case: dict[str, Any], version: str) -> Probe:
    return containerd_host(version, case["files"])


def after(probe: Probe, planned: HostPlanned) -> dict[str, bytes]:
    changes = {c.path: c.after.raw if c.after else None for c in planned.change.files}
    files = applied(probe, changes)
    return {p: c.encode() if isinstance(c, str) else c for p, c in files.items() if c is not None}


def state(files: dict[str, bytes], version: str) -> Effective:
    return effective(files, MAIN, version)


def files_of(probe: Probe) -> dict[str, bytes]:
    return {p: f.content.raw for p, f in probe.files.items() if f.content is not None}


@pytest.mark.parametrize("default", ["leave", "nvidia"])
@pytest.mark.parametrize("strategy", ["auto", "in-place"])
@pytest.mark.parametrize(("case", "version"), USABLE, ids=named(USABLE))
def test_six_invariants(case: dict[str, Any], version: str, strategy: Any, default: Any) -> None:
    probe = host(case, version)
    answers = Answers(runtime=Runtime(strategy=strategy, default_runtime=default))
    planned = plan_host("n1", probe, answers)
    if case["id"] in OLD and version == "2.1.9":
        assert [r.id for r in planned.refusals] == ["unversioned-root"]
        return
    if case["id"] == "BY" and default == "nvidia" and version < "2":
        assert [r.id for r in planned.refusals] == ["deprecated-default"]
        return
    assert planned.refusals == ()
    new = after(probe, planned)
    before = state(files_of(probe), version)
    assert_invariants(seen(before), seen(state(new, version)), default=default, has_cdi=version != "1.6.20")
    again = plan_host("n1", containerd_host(version, new), answers)
    assert (again.change.empty, again.refusals) == (True, ())


@pytest.mark.parametrize("strategy", ["auto", "in-place"])
@pytest.mark.parametrize(("case", "version"), USABLE, ids=named(USABLE))
def test_the_default_on_and_off_again_leaves_the_same_bytes(case: dict[str, Any], version: str, strategy: Any) -> None:
    def planned_with(files: dict[str, bytes], default: Any) -> dict[str, bytes]:
        probe = containerd_host(version, files)
        planned = plan_host("n1", probe, Answers(runtime=Runtime(strategy=strategy, default_runtime=default)))
        assert planned.refusals == (), default
        return after(probe, planned)

    if (case["id"] in OLD and version == "2.1.9") or (case["id"] == "BY" and version < "2"):
        pytest.skip("refused, see above")
    first = planned_with(files_of(host(case, version)), "leave")
    default = state(first, version).default_runtime_name
    during = planned_with(first, "nvidia")
    assert state(during, version).default_runtime_name == "nvidia"
    if default == "nvidia":
        assert during == first
        return
    back = planned_with(during, "former")
    assert back == first
    assert state(back, version).default_runtime_name == default
    assert planned_with(back, "former") == first


@pytest.mark.parametrize(("case", "version"), UNUSABLE, ids=named(UNUSABLE))
def test_what_no_kubelet_can_use_is_refused_or_converted(case: dict[str, Any], version: str) -> None:
    probe = host(case, version)
    planned = plan_host("n1", probe, Answers())
    assert len(planned.refusals) == 1
    assert planned.refusals[0].remedy
    agreed = plan_host("n1", probe, Answers(runtime=Runtime(convert=True)))
    if case["containerd"][version]["cri"] == "error":
        assert [r.id for r in (*planned.refusals, *agreed.refusals)] == ["broken-now", "broken-now"]
        return
    assert planned.refusals[0].id == "cri-disabled"
    assert "runtime.convert = true" in planned.refusals[0].remedy
    assert agreed.refusals == ()
    result = state(after(probe, agreed), version)
    assert result.usable
    assert {"runc", "nvidia"} <= set(result.runtimes)
    assert result.runtimes["runc"].options == {"SystemdCgroup": True}


@pytest.mark.parametrize(("case", "version"), USABLE, ids=named(USABLE))
def test_a_conversion_loses_nothing_that_counts(case: dict[str, Any], version: str) -> None:
    """Where the file of version 1 counts, version 2 says the same; where it was ignored, it comes alive as a whole."""
    probe = host(case, version)
    planned = plan_host("n1", probe, Answers(runtime=Runtime(convert=True)))
    if case["id"] not in OLD or (case["id"], version) == ("M", "2.3.4"):  # there all is right already
        without = plan_host("n1", probe, Answers())
        assert planned.change.files == without.change.files
        return
    assert planned.refusals == ()
    new = after(probe, planned)
    assert b"version = 2" in new[MAIN]
    model = seen(state(files_of(probe), "2.3.4" if version == "2.1.9" else version))
    result = seen(state(new, version))
    assert {n: h for n, h in result.runtimes.items() if n != "nvidia"} == {
        n: h for n, h in model.runtimes.items() if n != "nvidia"
    }
    assert (result.default, result.rest["sandbox"], result.rest["snapshotter"]) == (
        model.default,
        model.rest["sandbox"],
        model.rest["snapshotter"],
    )
    again = plan_host("n1", containerd_host(version, new), Answers(runtime=Runtime(convert=True)))
    assert (again.change.empty, again.refusals) == (True, ())
