"""Runs on disk: written before they happen, private, and read back."""

import base64
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuwizard.actions import ApplyObject, WriteFile
from gpuwizard.answers.model import Answers
from gpuwizard.clock import SystemClock
from gpuwizard.errors import UsageError
from gpuwizard.events import HostOutcome, Note
from gpuwizard.facts.cluster import ObjectKey
from gpuwizard.journal import Journal, find_run, list_runs, new_run_id
from gpuwizard.plan.model import ClusterPlan, HostPlan, Plan
from gpuwizard.run_record import RunHost
from gpuwizard.show.runs import run_line
from tests.guard_tree import MAIN, edit

KEY = ObjectKey("node.k8s.io/v1", "RuntimeClass", "", "nvidia")


class StoppedClock(SystemClock):
    def __init__(self, text: str) -> None:
        self._now = datetime.fromisoformat(text).replace(tzinfo=UTC)

    def now(self) -> datetime:
        return self._now


def plan() -> Plan:
    secret = WriteFile("a:file", edit(MAIN, b"password = 'hunter2'\n", b"x"), "change")
    hosts = (
        HostPlan("a", "in-place", "", (secret,), node_name="node-a", control_plane=True),
        HostPlan("b", "none", ""),
    )
    created = ApplyObject("cluster:x", KEY, {}, "", "kind: RuntimeClass\n", "create")
    return Plan(hosts, ClusterPlan((created,), server="https://k"), "the-hash", "f")


def test_a_run_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    answers = Answers.model_validate({"hosts": ["a", "b"], "rollout": {"max_unavailable": 7}})
    with Journal.open(tmp_path, "run-1", clock=StoppedClock("2026-11-21T01:02:03")) as journal:
        journal.begin(plan(), answers)
        journal.object_applied(KEY)
        journal.label_set("node-a", "gpuwizard.dev/gpu", None, "true")
        assert journal.is_labelled("node-a", "gpuwizard.dev/gpu")
        running = find_run(tmp_path, "run-1")
        assert running.finished is None
        assert "(is running)" in run_line(running)
        assert not running.cut
        journal.finish([HostOutcome("a", "confirmed"), HostOutcome("b", "unchanged", "no GPU")], None)
    run = find_run(tmp_path, "run-1")
    assert run.answers == answers
    assert run.plan_hash == "the-hash"
    assert [(h.name, h.node, h.control_plane, h.outcome, h.reason) for h in run.hosts] == [
        ("a", "node-a", True, "confirmed", ""),
        ("b", None, False, "unchanged", "no GPU"),
    ]
    assert run.hosts[0].files[0][0] == MAIN
    assert run.labels[0].before is None
    assert run.objects[0].key == KEY
    assert run.objects[0].after == "kind: RuntimeClass\n"
    who = f"{run.user}@{run.laptop}"
    assert run_line(run) == (
        f"run-1  2026-11-21T01:02:03Z  {who}  apply: 1 confirmed, 1 unchanged  "
        "a (confirmed): change; b (unchanged): nothing; cluster: RuntimeClass nvidia"
    )
    assert run.to_json()["hosts"][1] == {
        "name": "b",
        "outcome": "unchanged",
        "reason": "no GPU",
        "changes": [],
    }


def test_events_are_lines_of_json(tmp_path: Path) -> None:
    with Journal.open(tmp_path, "run-1") as journal:
        journal.emit(Note("apply", "first"))
        journal.emit(Note("apply", "second — naïve", host="a"))
    lines = (tmp_path / "runs/run-1/events.jsonl").read_text().splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["first", "second — naïve"]
    assert json.loads(lines[1])["schema"] == "gpuwizard.event/1"


def test_only_its_owner_may_read_it_and_file_content_lies_in_the_plan_alone_until_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "runs/run-1"
    secret = base64.b64encode(b"password = 'hunter2'\n").decode()
    with Journal.open(tmp_path, "run-1", plan()) as journal:
        journal.begin(plan(), Answers())
        journal.emit(Note("apply", "x"))
        assert folder.stat().st_mode & 0o777 == 0o700
        for file in folder.iterdir():
            assert file.stat().st_mode & 0o777 == 0o600, file
            assert "hunter2" not in file.read_text()
            assert (secret in file.read_text()) == (file.name == "run.plan"), file
        journal.finish([HostOutcome("a", "unconfirmed")], None)
        assert (folder / "run.plan").exists()
        journal.finish([HostOutcome("a", "confirmed")], None)
        assert not (folder / "run.plan").exists()


def test_runs_are_listed_newest_first_and_a_damaged_one_hides_no_other(tmp_path: Path) -> None:
    for day in ("01", "03", "02"):
        Journal.open(tmp_path, f"run-{day}", clock=StoppedClock(f"2026-11-{day}T00:00:00")).close()
    (tmp_path / "runs/run-02/run.json").write_text("{")
    assert [r.id for r in list_runs(tmp_path)] == ["run-03", "run-01"]
    assert list_runs(tmp_path / "nowhere") == ()


def test_a_run_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    for run_id in ("20261121-0101-aaaaaa", "20261121-0102-bbbbbb"):
        Journal.open(tmp_path, run_id).close()
    assert find_run(tmp_path, "20261121-0102").id == "20261121-0102-bbbbbb"
    for unclear in ("20261121", "2027"):
        with pytest.raises(UsageError):
            find_run(tmp_path, unclear)


def test_ids_sort_by_time_and_fit_a_unit_name() -> None:
    first = new_run_id(StoppedClock("2026-11-21T01:02:03"))
    second = new_run_id(StoppedClock("2026-11-21T01:03:03"))
    assert first < second
    assert first.replace("-", "").isalnum()
    assert first != new_run_id(StoppedClock("2026-11-21T01:02:03"))


def test_a_rollback_names_the_run_it_puts_back(tmp_path: Path) -> None:
    with Journal.open(tmp_path, "run-2", rolls_back="run-1") as journal:
        journal.begin_rollback([RunHost("a")], Answers())
        journal.host(HostOutcome("a", "confirmed", "", "rollback"))
    run = find_run(tmp_path, "run-2")
    assert run.rolls_back == "run-1"
    assert "rollback of run-1: 1 confirmed" in run_line(replace(run, finished="x"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_state_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="state directory"):
        Journal.open(tmp_path, "run-1")


def test_every_action_is_a_line_with_its_hashes_before_it_is_done(tmp_path: Path) -> None:
    with Journal.open(tmp_path, "run-1", clock=StoppedClock("2026-11-21T01:02:03")) as journal:
        journal.begin(plan(), Answers())
        lines = [json.loads(line) for line in (journal.folder / "events.jsonl").read_text().splitlines()]
    (line,) = lines
    change = edit(MAIN, b"password = 'hunter2'\n", b"x")
    assert change.before is not None
    assert change.after is not None
    assert line["schema"] == "gpuwizard.event/1"
    assert (line["host"], line["message"]) == ("a", "to do: change")
    assert line["data"]["data"] == {
        "action": "a:file",
        "path": MAIN,
        "before": change.before.sha256,
        "after": change.after.sha256,
    }
    assert "hunter2" not in json.dumps(line)
