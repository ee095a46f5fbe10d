"""What our effective-configuration code says of a set of files, judged by the containerd that is installed."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gpuwizard.containerd import effective
from gpuwizard.containerd.model import Effective
from tests.lab.harness import judge
from tests.lab.harness.host import LabHost

MAIN = "/etc/containerd/config.toml"
CASES: dict[str, dict[str, bytes]] = {
    case["id"]: {path: text.encode() for path, text in case["files"].items()}
    for case in json.loads((Path(__file__).parents[1] / "data" / "containerd_merge.json").read_text())["cases"]
}


def set_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without containerd's defaults, which a dump spells out."""
    return {key: value for key, value in options.items() if value not in ("", 0, False, None)}


def handlers_dumped(dumped: dict[str, Any]) -> tuple[str | None, dict[str, tuple[str, dict[str, Any]]]]:
    """Default handler and handlers of a ``config dump``."""
    plugins = dumped["plugins"]
    cri = plugins.get("io.containerd.cri.v1.runtime") or plugins.get("io.containerd.grpc.v1.cri") or {}
    table = cri.get("containerd", {})
    handlers = {
        name: (handler.get("runtime_type", ""), set_options(handler.get("options") or {}))
        for name, handler in table.get("runtimes", {}).items()
    }
    return table.get("default_runtime_name"), handlers


def handlers_predicted(state: Effective) -> tuple[str | None, dict[str, tuple[str, dict[str, Any]]]]:
    """The same of our own prediction."""
    handlers = {name: (h.runtime_type or "", set_options(h.options)) for name, h in state.runtimes.items()}
    return state.default_runtime_name, handlers


def test_config_dump_agrees_on_every_known_case(each_containerd: LabHost) -> None:
    host = each_containerd
    wrong = {}
    with ThreadPoolExecutor(2) as pool:
        dumps = dict(zip(CASES, pool.map(lambda files: judge.dump(host, files), CASES.values()), strict=True))
    for name, files in CASES.items():
        state, dumped = effective(files, MAIN, host.containerd), dumps[name]
        if dumped is None or state.cri == "disabled":
            continue
        if handlers_predicted(state) != handlers_dumped(dumped):
            wrong[name] = (handlers_predicted(state), handlers_dumped(dumped))
    assert wrong == {}
    assert sum(dumped is not None for dumped in dumps.values()) > len(CASES) // 2


def test_the_daemon_agrees_whether_it_starts_and_cri_works(each_containerd: LabHost) -> None:
    host = each_containerd
    with ThreadPoolExecutor(3) as pool:
        verdicts = dict(zip(CASES, pool.map(lambda files: judge.start(host, files), CASES.values()), strict=True))
    wrong = {}
    for name, files in CASES.items():
        state, verdict = effective(files, MAIN, host.containerd), verdicts[name]
        if (state.starts, state.cri) != (verdict.starts, verdict.cri):
            wrong[name] = ((state.starts, state.cri, state.error), (verdict.starts, verdict.cri, verdict.words[-400:]))
    assert wrong == {}
    assert {v.cri for v in verdicts.values()} == {"ok", "error", "disabled", None}
