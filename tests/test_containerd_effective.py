"""The effective configuration against what four real containerd releases made of 53 configurations."""

import json
from pathlib import Path
from typing import Any

import pytest

from gpuwizard.containerd import Effective, effective

CASES = json.loads((Path(__file__).parent / "data" / "containerd_merge.json").read_text())["cases"]
MAIN = "/etc/containerd/config.toml"
RELEASES = ("1.6.20", "1.7.24", "2.1.9", "2.3.4")
PAIRS = [(case, version) for case in CASES for version in RELEASES]


def test_every_case_has_all_four_releases() -> None:
    assert len(CASES) == 53
    assert len(PAIRS) == 53 * 4
    assert all(sorted(case["containerd"]) == sorted(RELEASES) for case in CASES)


def observed(case: dict[str, Any], version: str) -> Effective:
    return effective({path: text.encode() for path, text in case["files"].items()}, MAIN, version)


def shown(state: Effective) -> dict[str, Any]:
    """The fields that the samples hold, in their shape."""
    return {
        "config_version": state.config_version,
        "disabled_plugins": list(state.disabled_plugins),
        "default_runtime_name": state.default_runtime_name,
        "runtimes": {
            name: {"runtime_type": h.runtime_type, "options": dict(h.options)} for name, h in state.runtimes.items()
        },
        "sandbox_image": state.sandbox_image,
        "snapshotter": state.snapshotter,
        "registry_config_path": state.registry_config_path or "",
        "enable_cdi": state.enable_cdi,
        "cdi_spec_dirs": None if state.cdi_spec_dirs is None else list(state.cdi_spec_dirs),
    }


@pytest.mark.parametrize(("case", "version"), PAIRS, ids=[f"{c['id']}-{v}" for c, v in PAIRS])
def test_as_the_real_release(case: dict[str, Any], version: str) -> None:
    real = case["containerd"][version]
    state = observed(case, version)
    assert state.starts == real["starts"], state.error
    assert state.dumps == real["dump_ok"], state.error
    if real["starts"]:
        assert state.cri == real["cri"].replace("absent", "disabled"), state.error
    if real.get("effective"):
        assert shown(state) == real["effective"]
