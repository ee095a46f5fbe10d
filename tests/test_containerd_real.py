"""The effective configuration against real containerds, on generated configurations.

``config dump`` and a daemon of its own judge each of them (`containerd_judge`); the daemon needs root. It runs with
every containerd named in GPUWIZARD_CONTAINERDS (paths with colons between), else with the one in PATH, on as many
configurations as GPUWIZARD_EXAMPLES says, of which GPUWIZARD_DAEMONS are started. All of it, as the bar wants it:

    GPUWIZARD_CONTAINERDS=$(python -m tests.lab.harness containerds) GPUWIZARD_EXAMPLES=500 GPUWIZARD_DAEMONS=500 \
        python -m pytest -s tests/test_containerd_real.py
"""

import os
import re
import shutil
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from gpuwizard.containerd import Effective, effective
from gpuwizard.containerd.model import CRI_V2, IMAGES_V3, RUNTIME_V3
from gpuwizard.containerd.release import Release
from tests.containerd_configs import MAIN, Files, configurations
from tests.containerd_judge import dump, named_binaries, release_of, start

BINARIES = named_binaries() or [path for path in [shutil.which("containerd")] if path]
EXAMPLES = int(os.environ.get("GPUWIZARD_EXAMPLES", "60"))
DAEMONS = int(os.environ.get("GPUWIZARD_DAEMONS", "25")) if os.geteuid() == 0 else 0

pytestmark = [
    pytest.mark.skipif(not BINARIES, reason="no containerd in PATH and none named in GPUWIZARD_CONTAINERDS"),
    pytest.mark.timeout(3600),
]
_UNKNOWN_TOP = re.compile(r'Ignoring unknown key in TOML".* file=(\S+) key=(?:"[^"]*"|\S+) row=(\d+)')
_UNKNOWN_KEY = re.compile(r'Ignoring unknown key in TOML for plugin".* key=("[^"]*"|\S+) plugin=')
# Debian's packages change the built-in program folders of CNI.
_BIN_DIRS = ("/opt/cni/bin", "/usr/lib/cni", ["/opt/cni/bin"], ["/usr/lib/cni", "/opt/cni/bin"])


def cni(table: dict[str, Any]) -> dict[str, Any]:
    return {k: table.get(k) or None for k in ("conf_dir", "bin_dir", "bin_dirs") if table.get(k) not in _BIN_DIRS}


def dumped(table: dict[str, Any], release: Release) -> dict[str, Any]:
    """What the real one says, in our words. Of a disabled plugin it prints the table as the files have it, which no
    plugin reads: there is nothing effective in it."""
    plugins = {name: values for name, values in table["plugins"].items() if name not in table["disabled_plugins"]}
    parts = (RUNTIME_V3, IMAGES_V3) if release.major >= 2 else (CRI_V2, CRI_V2)
    runtime, images = (plugins.get(part, {}) for part in parts)
    containerd = runtime.get("containerd", {})
    old = release.major < 2
    return {
        "disabled": table["disabled_plugins"],
        "required": table["required_plugins"],
        "imports": sorted(table["imports"]) if old else table["imports"],
        "default": containerd.get("default_runtime_name"),
        "runtimes": {
            name: (
                handler["runtime_type"],
                {k: v for k, v in (handler.get("options") or {}).items() if v not in ("", 0)},
            )
            for name, handler in containerd.get("runtimes", {}).items()
        },
        "sandbox": images.get("sandbox_image") if old else images.get("pinned_images", {}).get("sandbox"),
        "snapshotter": (images.get("containerd", {}) if old else images).get("snapshotter"),
        "registry": images.get("registry", {}).get("config_path"),
        "cdi": (runtime.get("enable_cdi"), runtime.get("cdi_spec_dirs")),
        "cni": cni(runtime.get("cni", {})),
    }


def predicted(state: Effective, release: Release) -> dict[str, Any]:
    return {
        "disabled": list(state.disabled_plugins),
        "required": list(state.required_plugins),
        "imports": sorted(state.files) if release.major < 2 else list(state.imports),
        "default": state.default_runtime_name,
        "runtimes": {name: (h.runtime_type, dict(h.options)) for name, h in state.runtimes.items()},
        "sandbox": state.sandbox_image,
        "snapshotter": state.snapshotter,
        "registry": state.registry_config_path,
        "cdi": (state.enable_cdi, None if state.cdi_spec_dirs is None else list(state.cdi_spec_dirs)),
        "cni": cni(dict(state.cni)),
    }


def ignored_by(state: Effective, words: str) -> list[str]:
    """The keys that 2.x itself says it ignores and that no warning of ours names: by their line for those outside the
    plugins' tables, else by their last part or that of a table above."""
    places = {":".join(warning.split(":", 2)[:2]) for warning in state.warnings}
    names = {part for warning in state.warnings for part in warning.split(": ")[1].split(".")}
    unnamed = [f"{file}:{row}" for file, row in _UNKNOWN_TOP.findall(words) if f"{file}:{row}" not in places]
    return unnamed + [key for key in _UNKNOWN_KEY.findall(words) if not names & set(key.strip('"').split(" "))]


def shown(files: Files) -> str:
    return "\n".join(f"--- {path}\n{content.decode()}" for path, content in files.items())


@pytest.mark.parametrize("binary", BINARIES)
def test_real_containerd_agrees(binary: str) -> None:
    release = Release.parse(release_of(binary))
    outcomes: Counter[str] = Counter()
    started: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        print_blob=True,
    )
    @given(files=configurations(release.major))
    def judge(files: Files) -> None:
        state = effective(files, MAIN, str(release), files.get)
        said = dump(binary, files, MAIN)
        assert state.dumps == (said.table is not None), f"{state.error}\n{said.words[-1500:]}\n{shown(files)}"
        if said.table is not None and (state.starts or release.major < 2):
            assert predicted(state, release) == dumped(said.table, release), shown(files)
            assert ignored_by(state, said.words) == [], shown(files)
        outcome = str(state.cri) if state.starts else "does not start"
        outcomes[outcome] += 1
        if sum(started.values()) < DAEMONS:
            daemon = start(binary, files, MAIN)
            seen = (daemon.starts, daemon.cri)
            assert (state.starts, state.cri) == seen, f"{state.error}\n{daemon.words[-1500:]}\n{shown(files)}"
            started[outcome] += 1

    judge()
    total = sum(outcomes.values())
    print(
        f"\ncontainerd {release}: config dump judged {total} configurations, {dict(sorted(outcomes.items()))}; "
        f"the daemon {sum(started.values())}, {dict(sorted(started.items()))}"
    )
    assert total >= EXAMPLES
    assert set(outcomes) == {"ok", "error", "disabled", "does not start"}
    if total >= 100:
        assert min(outcomes.values()) >= 0.05 * total, outcomes
