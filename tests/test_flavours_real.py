"""The planned files judged by the real containerd: its `config dump` before and after keeps the six invariants."""

import copy
import json
import os
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gpuwizard.answers.model import Answers, Runtime
from gpuwizard.containerd.model import CRI_V2, RUNTIME_V3
from gpuwizard.flavours import plan_host
from tests.invariants import Seen, assert_invariants
from tests.plan_probes import containerd_host
from tests.snap_hosts import snap_host, snap_root
from tests.test_containerd_real import release_of

_NAMED = os.environ.get("GPUWIZARD_CONTAINERDS", shutil.which("containerd") or "")
BINARIES = [path for path in _NAMED.split(":") if path]
DATA = Path(__file__).parent / "data"
DEFAULTS = {path.stem: path.read_text() for path in sorted((DATA / "containerd_defaults").glob("*.toml"))}
SAMPLES = {case["id"]: case["files"] for case in json.loads((DATA / "containerd_merge.json").read_text())["cases"]}
SAMPLES |= {f"default-{name}": {"/etc/containerd/config.toml": text} for name, text in DEFAULTS.items()}
SAMPLES |= {"none": {}}
REFUSED = {"broken-now", "cri-disabled", "unversioned-root", "deprecated-default"}

ONLY_THE_DAEMON = {"R"}  # a missing import: from 2.0 on only the daemon refuses it, `config dump` hides it

pytestmark = pytest.mark.skipif(not BINARIES, reason="no containerd in PATH and none named in GPUWIZARD_CONTAINERDS")


def dump(binary: str, main: str) -> Seen | None:
    """All of the merged configuration as the real one prints it; None: it refuses."""
    ran = subprocess.run([binary, "--config", main, "config", "dump"], capture_output=True, check=False)
    if ran.returncode:
        return None
    data = tomllib.loads(ran.stdout.decode())
    rest = copy.deepcopy(data)
    imports = tuple(rest.pop("imports", ()))
    rest.pop("version", None)  # 1.x prints the number of the last file, whatever it is
    table = rest["plugins"].get(RUNTIME_V3) or rest["plugins"].get(CRI_V2, {})
    cdi = table.pop("enable_cdi", None)
    containerd = table.get("containerd", {})
    default = containerd.pop("default_runtime_name", None)
    runtimes = {
        name: (
            handler["runtime_type"],
            {k: v for k, v in (handler.get("options") or {}).items() if v not in ("", 0)},
        )
        for name, handler in containerd.pop("runtimes", {}).items()
    }
    return Seen(runtimes, default, cdi, imports, rest)


@pytest.mark.parametrize("default", ["leave", "nvidia"])
@pytest.mark.parametrize("strategy", ["auto", "in-place"])
@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("binary", BINARIES)
def test_the_real_one_agrees(binary: str, name: str, strategy: Any, default: Any) -> None:
    version = release_of(binary)
    if strategy == "in-place" and version < "2":
        pytest.skip("what auto takes on 1.x anyway")
    with tempfile.TemporaryDirectory() as folder:
        main = f"{folder}/config.toml"
        files = {
            path.replace("/etc/containerd", folder): text.replace("/etc/containerd", folder)
            for path, text in SAMPLES[name].items()
        }
        for path, text in files.items():
            Path(path).parent.mkdir(exist_ok=True)
            Path(path).write_text(text)
        if main not in files:
            Path(main).touch()  # what a daemon without a file works with
        before = dump(binary, main)
        probe = containerd_host(version, files, main=main)
        answers = Answers(runtime=Runtime(strategy=strategy, default_runtime=default))
        planned = plan_host("n1", probe, answers)
        if planned.refusals:
            assert {r.id for r in planned.refusals} <= REFUSED
            works = before is not None and before.default in before.runtimes and name not in ONLY_THE_DAEMON
            assert not works or planned.refusals[0].id != "broken-now"
            return
        assert before is not None
        for change in planned.change.files:
            assert change.after is not None
            Path(change.path).parent.mkdir(exist_ok=True)
            Path(change.path).write_bytes(change.after.raw)
        after = dump(binary, main)
        assert after is not None
        assert_invariants(
            before,
            Seen(after.runtimes, after.default, after.cdi, _named(before, after), after.rest),
            default=default,
            has_cdi=version[:3] != "1.6",
        )


STUB = 'disabled_plugins = ["cri"] # Docker\n'
OLD = (
    'disabled_plugins = ["aufs"]\n[plugins.cri]\n  sandbox_image = "example.test/pause:3.1"\n'
    '[plugins.cri.containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n'
    "[plugins.cri.containerd.runtimes.runc.options]\n  SystemdCgroup = true\n"
    '[plugins.cri.containerd.runtimes.kata]\n  runtime_type = "io.containerd.kata.v2"\n[plugins.opt]\n  path = "/x"\n'
)


@pytest.mark.parametrize("text", [STUB, "version = 2\n" + STUB, OLD, "version = 1\n" + OLD])
@pytest.mark.parametrize("binary", BINARIES)
def test_the_real_one_takes_what_is_converted(binary: str, text: str) -> None:
    version = release_of(binary)
    with tempfile.TemporaryDirectory() as folder:
        main = f"{folder}/config.toml"
        planned = plan_host(
            "n1", containerd_host(version, {main: text}, main=main), Answers(runtime=Runtime(convert=True))
        )
        assert planned.refusals == ()
        for change in planned.change.files:
            assert change.after is not None
            Path(change.path).parent.mkdir(exist_ok=True)
            Path(change.path).write_bytes(change.after.raw)
        after = dump(binary, main)
        assert after is not None
        for handler in ("runc", "nvidia"):
            assert after.runtimes[handler][1]["SystemdCgroup"] is True
        assert not any("cri" in name for name in after.rest["disabled_plugins"])
        if OLD in text:
            assert after.runtimes["kata"] == ("io.containerd.kata.v2", {})
            assert "example.test/pause:3.1" in str(after.rest)
            assert after.rest["disabled_plugins"] == ["io.containerd.snapshotter.v1.aufs"]


@pytest.mark.parametrize("default", ["leave", "nvidia"])
@pytest.mark.parametrize("strategy", ["in-place", "drop-in"])
@pytest.mark.parametrize("binary", BINARIES)
def test_the_real_one_of_the_snap_agrees(binary: str, strategy: Any, default: Any) -> None:
    version = release_of(binary)
    with tempfile.TemporaryDirectory() as base:
        main = Path(base, "etc/containerd/config.toml")
        (main.parent / "conf.d").mkdir(parents=True)
        main.write_text(snap_root(base))
        before = dump(binary, str(main))
        answers = Answers(runtime=Runtime(strategy=strategy, default_runtime=default))
        planned = plan_host("s1", snap_host(version, base=base), answers)
        assert planned.refusals == ()
        for change in planned.change.files:
            assert change.after is not None
            Path(change.path).write_bytes(change.after.raw)
        after = dump(binary, str(main))
        assert before is not None
        assert after is not None
        named = Seen(after.runtimes, after.default, after.cdi, _named(before, after), after.rest)
        assert_invariants(before, named, default=default, has_cdi=version[:3] != "1.6")


def _named(before: Seen, after: Seen) -> tuple[str, ...]:
    """The imports of after with those of before first: the real one prints some of them as it found them."""
    assert set(before.imports) <= set(after.imports)
    return (*before.imports, *(i for i in after.imports if i not in before.imports))
