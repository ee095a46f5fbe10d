"""The predicted dump against the real one: what the facts read from the one they read from the other."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuwizard.containerd.dump import predicted_dump
from gpuwizard.containerd.release import Release
from gpuwizard.facts.model import Handler
from gpuwizard.facts.runtimes.config_files import root_version, table
from gpuwizard.facts.runtimes.cri_config import CRI_V2, IMAGES_V3, RUNTIME_V3, CriConfig, read_cri, settings_of
from tests.containerd_configs import MAIN
from tests.containerd_judge import dump, named_binaries, release_of

CASES = json.loads(Path("tests/data/containerd_merge.json").read_text(encoding="utf-8"))
BINARIES = named_binaries()


def settings(document: Any) -> dict[str, object]:
    names = (RUNTIME_V3, IMAGES_V3) if root_version(document) > 2 else (CRI_V2,)
    found = settings_of(table(document, "plugins"), *names)
    if found.get("cni.bin_dir") in (("/opt/cni/bin",), ("/usr/lib/cni",), ("/usr/lib/cni", "/opt/cni/bin")):
        del found["cni.bin_dir"]  # Debian's packages build in another folder than upstream
    return found


def told(document: Any, release: Release) -> CriConfig:
    """What the facts say; options that are empty or zero are the defaults, which a real dump prints as well."""
    config = read_cri(document, release)
    handlers = {
        name: Handler(h.runtime_type, {k: v for k, v in h.options.items() if v not in ("", 0, False)})
        for name, h in config.handlers.items()
    }
    return replace(config, handlers=handlers)


@pytest.mark.skipif(not BINARIES, reason="no containerd is named in GPUWIZARD_CONTAINERDS")
@pytest.mark.parametrize("binary", BINARIES)
def test_prediction(binary: str) -> None:
    version = release_of(binary)
    release = Release.parse(version)
    seen = 0
    for case in CASES["cases"]:
        files = {path: text.encode() for path, text in case["files"].items()}
        real, mine = dump(binary, files, MAIN), predicted_dump(files, MAIN, version)
        assert isinstance(mine, str) == (real.table is None), (case, mine, real.words)
        if real.table is None or isinstance(mine, str):
            continue
        seen += 1
        assert told(mine, release) == told(real.table, release), case
        known = settings(real.table)
        assert {key: known.get(key) for key in settings(mine)} == settings(mine), case
    assert seen > 20
