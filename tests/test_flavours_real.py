"""The planned files judged by the real containerd: `config dump` shows the handler and loses nothing."""

import os
import shutil
import tempfile
import tomllib
from pathlib import Path

import pytest

from gpuwizard.answers.model import Answers, Runtime
from gpuwizard.flavours import plan_host
from tests.plan_probes import RUNTIME_PATH, containerd_host
from tests.test_containerd_real import dumped, release_of

_NAMED = os.environ.get("GPUWIZARD_CONTAINERDS", shutil.which("containerd") or "")
BINARIES = [path for path in _NAMED.split(":") if path]
DEFAULTS = Path(__file__).parent / "data" / "containerd_defaults"

pytestmark = pytest.mark.skipif(not BINARIES, reason="no containerd in PATH and none named in GPUWIZARD_CONTAINERDS")


@pytest.mark.parametrize("name", ["debian", "1.6.20", "1.7.24", "2.1.9", None])
@pytest.mark.parametrize("default", ["leave", "nvidia"])
@pytest.mark.parametrize("binary", BINARIES)
def test_the_real_one_agrees(binary: str, default: str, name: str | None) -> None:
    version = release_of(binary)
    with tempfile.TemporaryDirectory() as folder:
        main = f"{folder}/config.toml"
        text = (DEFAULTS / f"{name}.toml").read_text() if name else None
        if text is not None:
            Path(main).write_text(text)
            if dumped(binary, main) is None or tomllib.loads(text)["version"] > 2 > int(version[0]):
                pytest.skip(f"containerd {version} does not take the defaults of {name}")
        before = dumped(binary, main)
        probe = containerd_host(version, {main: text}, main=main)
        planned = plan_host("n1", probe, Answers(runtime=Runtime(default_runtime=default)))  # type: ignore[arg-type]
        assert planned.refusals == ()
        for change in planned.change.files:
            assert change.after is not None
            Path(change.path).parent.mkdir(exist_ok=True)
            Path(change.path).write_bytes(change.after.raw)
        after = dumped(binary, main)
        assert after is not None
        kind, options = after["runtimes"].pop("nvidia")
        assert (kind, options["BinaryName"]) == ("io.containerd.runc.v2", RUNTIME_PATH)
        assert after["default"] == ("nvidia" if default == "nvidia" else "runc")
        if before is not None:
            assert {**after, "default": None} == {**before, "default": None}
