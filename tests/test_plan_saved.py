"""Plans on disk: whole, private, and with a clear word where they are cut, edited or of another version."""

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gpuwizard import __version__
from gpuwizard.answers.model import Answers
from gpuwizard.errors import GpuwizardError, RefusedError, UsageError
from gpuwizard.facts.cluster import ClusterView
from gpuwizard.journal import RunRecord, plan_of
from gpuwizard.plan import store
from gpuwizard.plan.build import build_plan
from tests.plan_probes import MAIN, containerd_host

Json = dict[str, Any]


def saved(folder: Path) -> Path:
    """A plan that changes a file and restarts a unit, on disk."""
    path = folder / "site.plan"
    made = build_plan({"n1": containerd_host("1.7.24", {})}, Answers(hosts=("n1",)), None)
    assert len(made.hosts[0].actions) > 1
    store.save_plan(made, Answers(hosts=("n1",)), path)
    return path


def edited(folder: Path, edit: Callable[[Json], object], *, sealed: bool = True) -> Path:
    """That plan with `edit` made in its document; `sealed`: as another version would have written it."""
    path = saved(folder)
    document = json.loads(path.read_bytes())
    edit(document)
    if sealed:
        text = json.dumps(document["content"], sort_keys=True)
        document["content_sha256"] = sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(document))
    return path


def refused(path: Path, kind: type[GpuwizardError]) -> GpuwizardError:
    with pytest.raises(GpuwizardError) as caught:
        store.load_plan(path)
    assert type(caught.value) is kind
    assert caught.value.where == str(path)
    assert "gpuwizard plan --out" in caught.value.remedy
    assert "\n" not in caught.value.what
    return caught.value


def test_a_saved_plan_comes_back_equal_and_private(tmp_path: Path) -> None:
    raw = b'version = 2\n# \xff\n[plugins."io.containerd.grpc.v1.cri".registry.configs.r.auth]\npassword = "x"\n'
    answers = Answers(hosts=("n1",))
    made = build_plan({"n1": containerd_host("1.7.24", {MAIN: raw})}, answers, ClusterView(error="down"))
    assert made.hosts[0].actions
    path = tmp_path / "plan.json"
    store.save_plan(made, answers, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert store.load_plan(path) == (made, answers)
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be saved"):
        store.save_plan(build_plan({}, Answers(), None), Answers(), tmp_path / "no" / "plan.json")


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d["content"]["plan"]["hosts"][0]["actions"][0]["change"].update(path="/etc/passwd"),
        lambda d: d["content"]["plan"]["hosts"][0].update(boot_id="another"),  # part of no hash of what is done
        lambda d: d["content"]["plan"]["hosts"][0].update(reads={}),
        lambda d: d["content"]["plan"]["hosts"][0]["actions"][0].update(summary="nothing at all"),
        lambda d: d["content"]["answers"]["rollout"].update(unit_hold=0.0),
        lambda d: d["content"].clear(),
        lambda d: d.update(content=5),
        lambda d: d.pop("content"),
        lambda d: d.pop("content_sha256"),
        lambda d: d.update(content_sha256=None),
    ],
)
def test_a_plan_changed_by_hand_is_refused(tmp_path: Path, edit: Callable[[Json], object]) -> None:
    assert "changed by hand" in refused(edited(tmp_path, edit, sealed=False), RefusedError).what


def test_a_hash_that_is_not_the_plans_is_refused(tmp_path: Path) -> None:
    def edit(document: Json) -> None:
        document["content"]["plan"]["hosts"][0]["actions"][0]["change"]["path"] = "/etc/passwd"

    assert "changed by hand" in refused(edited(tmp_path, edit), RefusedError).what


@pytest.mark.parametrize("text", ["[]", "{}", "7", "null", '"x"', '{"schema": "x"}', '{"schema": []}', "nothing", "\0"])
def test_what_is_no_plan(tmp_path: Path, text: str) -> None:
    path = tmp_path / "site.plan"
    path.write_text(text)
    assert refused(path, UsageError).what == "not a saved plan"


def test_a_plan_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "absent", UsageError).what
    assert "cannot be read" in refused(tmp_path, UsageError).what


@pytest.mark.parametrize("share", [0, 0.2, 0.5, 0.9, 0.999])
def test_a_plan_cut_short(tmp_path: Path, share: float) -> None:
    path = saved(tmp_path)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    assert refused(path, UsageError).what == "the saved plan is cut short or garbled"


def test_a_plan_with_bytes_in_it_that_are_no_text(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"plan"', b'"pl\xff\xfen"'))
    assert refused(path, UsageError).what == "the saved plan is cut short or garbled"


def test_a_plan_that_nests_without_end(tmp_path: Path) -> None:
    path = tmp_path / "site.plan"
    path.write_text('{"schema": "gpuwizard.saved-plan/2", "content": ' + "[" * 200_000)
    assert refused(path, UsageError).what == "the saved plan is cut short or garbled"


@pytest.mark.parametrize("number", ["1", "3", "2.1", "\x1b[31m9"])
def test_another_format(tmp_path: Path, number: str) -> None:
    path = edited(tmp_path, lambda d: d.update(schema=f"gpuwizard.saved-plan/{number}", written_by="7.0"))
    what = refused(path, UsageError).what
    assert f"this is gpuwizard {__version__}, which reads format 2" in what
    assert f"in format {number[-3:].removeprefix('1m')}, written by gpuwizard 7.0" in what
    assert "\x1b" not in what


def test_the_first_format_named_no_author(tmp_path: Path) -> None:
    path = tmp_path / "site.plan"
    path.write_text('{"schema": "gpuwizard.saved-plan/1", "answers": {}, "plan": {}}')
    assert "format 1, written by an older gpuwizard" in refused(path, UsageError).what


def host(document: Json) -> Json:
    return dict.__getitem__(document["content"]["plan"], "hosts")[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("edit", "misfit"),
    [
        (lambda d: host(d).update(weather="fine"), "plan.hosts[0]: it has weather"),
        (lambda d: host(d).pop("control_plane"), "plan.hosts[0]: it lacks control_plane"),
        (lambda d: host(d).update(control_plane="yes"), "plan.hosts[0].control_plane: a str where a bool belongs"),
        (lambda d: host(d).update(reads={"/f": 5}), "plan.hosts[0].reads./f: a int where a str belongs"),
        (lambda d: host(d).update(reads=[]), "plan.hosts[0].reads: a list where a dict belongs"),
        (lambda d: host(d).update(actions="file"), "plan.hosts[0].actions: a str where a list belongs"),
        (lambda d: host(d)["actions"][0].update(kind="firmware"), "plan.hosts[0].actions[0]: its kind is 'firmware'"),
        (lambda d: host(d)["actions"].append(None), "a NoneType where a dict belongs"),
        (lambda d: host(d)["actions"][0]["change"].update(after="?"), "actions[0].change.after: no base64"),
        (lambda d: host(d)["actions"][-1].update(activation=7), "activation: a int where a dict belongs"),
        (lambda d: host(d)["actions"][-1]["activation"].update(verb="kick"), "verb: not one of restart"),
        (lambda d: host(d).update(takes_back=[{"runs": [], "aims": [["a"]], "activation": None}]), "1 values where 3"),
        (lambda d: d["content"].pop("plan"), "plan: a NoneType where a dict belongs"),
        (lambda d: d["content"]["answers"].update(colour=1), "answers.colour: Extra inputs"),
        (lambda d: d["content"]["answers"]["rollout"].pop("unit_hold"), "answers.rollout.unit_hold: it is missing"),
        (lambda d: d["content"].update(answers=[]), "answers: Input should be"),
    ],
)
def test_a_plan_with_fields_of_another_version(tmp_path: Path, edit: Callable[[Json], object], misfit: str) -> None:
    def of_later(document: Json) -> None:
        document["written_by"] = "0.9.3"
        edit(document)

    what = refused(edited(tmp_path, of_later), UsageError).what
    assert "a saved plan of another version: written by gpuwizard 0.9.3" in what
    assert f"this is gpuwizard {__version__}" in what
    assert misfit in what


def test_a_plan_of_a_version_that_knows_the_same_is_taken(tmp_path: Path) -> None:
    path = saved(tmp_path)
    made = store.load_plan(path)
    assert store.load_plan(edited(tmp_path, lambda d: d.update(written_by="0.0.9"))) == made


@pytest.mark.parametrize(("uninstalls", "remedy"), [(False, "gpuwizard rollback r1"), (True, "gpuwizard uninstall")])
def test_the_plan_of_a_cut_run_of_another_version(tmp_path: Path, uninstalls: bool, remedy: str) -> None:
    folder = tmp_path / "runs" / "r1"
    folder.mkdir(parents=True)
    (folder / "run.plan").write_text('{"schema": "gpuwizard.saved-plan/9", "written_by": "9.0"}')
    with pytest.raises(UsageError, match=r"format 9, written by gpuwizard 9\.0") as caught:
        plan_of(tmp_path, RunRecord("r1", "2026", uninstalls=uninstalls))
    assert caught.value.remedy.startswith("go on with the version of gpuwizard that began the run")
    assert caught.value.remedy.endswith(remedy)


@pytest.mark.parametrize("raw", [b"", b"[" * 100_000, b'{"schema": "gpuwizard.saved-plan/9"}', b"\xff\xfe"])
def test_the_command_says_it_in_two_lines(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "site.plan"
    path.write_bytes(raw)
    done = subprocess.run(
        [sys.executable, "-m", "gpuwizard", "apply", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == UsageError.exit_code
    assert done.stderr.startswith("gpuwizard: ")
    assert done.stderr.splitlines()[1].startswith("  try: plan again with this version")
    assert "Traceback" not in done.stderr
