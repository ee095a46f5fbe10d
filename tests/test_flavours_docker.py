"""Docker: daemon.json is merged, everything else in it stays, and what would stop dockerd is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwizard.actions import HostPlanned
from gpuwizard.answers.model import Answers, Runtime
from gpuwizard.errors import RefusedError
from gpuwizard.facts.model import (
    ConfigWarning,
    Handler,
    KubernetesFacts,
    OperatorFacts,
    Probe,
    RuntimeFacts,
    ToolkitFacts,
)
from gpuwizard.flavours import plan_host, strategies
from gpuwizard.flavours.docker import FORMER
from gpuwizard.flavours.docker_json import parsed, remove_member, set_member
from tests.plan_probes import RUNTIME_PATH, applied, probe

FILE = "/etc/docker/daemon.json"
LEAVE = Answers(runtime=Runtime(default_runtime="leave"))
NVIDIA = Answers(runtime=Runtime(default_runtime="nvidia"))
FORMERLY = Answers(runtime=Runtime(default_runtime="former"))
NO_CDI = Answers(runtime=Runtime(cdi="leave"))
CTK = json.loads((Path(__file__).parent / "data" / "nvidia_ctk_docker.json").read_text())["cases"]
FOUR = """{
    "log-driver": "json-file",
    "log-opts": {"max-size": "10m"},
    "x-unknown": [1, {"a": null}],
    "features": {
        "buildkit": true
    },
    "live-restore": true
}
"""


def docker_host(text: str | None, *, version: str = "28.0.4", memory: str | None = None, **changes: Any) -> Probe:
    """A host with Docker and no Kubernetes; `changes` are of the runtime, or of the facts."""
    try:
        document = parsed(text or "")
    except RefusedError:
        document = {}
    features: Any = document.get("features") if isinstance(document.get("features"), dict) else {}
    release = tuple(int(p) for p in version.split(".")[:2])
    runtimes = document.get("runtimes") or {}
    runtime = RuntimeFacts(
        kind="docker",
        version=version,
        socket="/run/docker.sock",
        config_path=FILE if text is not None else None,
        handlers={
            n: Handler("runc", {"path": e["path"]})
            for n, e in (runtimes if isinstance(runtimes, dict) else {}).items()
            if isinstance(e, dict) and "path" in e
        },
        default_handler=document.get("default-runtime"),
        unit="docker.service",
        binary="/usr/bin/dockerd",
        running=True,
        owner="package",
        cdi=release >= (25, 0) and bool(features.get("cdi", release >= (28, 2))),
    )
    facts = {k: changes.pop(k) for k in ("kubernetes", "operator", "toolkit") if k in changes}
    runtime = replace(runtime, **changes)
    kubernetes = facts.pop("kubernetes", KubernetesFacts("none"))
    return probe({FILE: text, FORMER: memory}, runtime, kubernetes, **facts)


def texts(before: Probe, planned: HostPlanned) -> dict[str, str]:
    """The host's files after the plan."""
    changes = {c.path: c.after.raw if c.after else None for c in planned.change.files}
    files = applied(before, changes)
    return {p: c.decode() if isinstance(c, bytes) else c for p, c in files.items() if c is not None}


def again(before: Probe, planned: HostPlanned, **changes: Any) -> Probe:
    files = texts(before, planned)
    return docker_host(files.get(FILE), memory=files.get(FORMER), **changes)


def words(planned: HostPlanned) -> dict[str, tuple[str | None, str | None]]:
    return {c.key: (c.before, c.after) for c in planned.change.effective}


def test_a_member_is_added_in_the_files_own_layout() -> None:
    planned = plan_host("n1", docker_host(FOUR), LEAVE)
    assert planned.refusals == ()
    assert texts(docker_host(FOUR), planned)[FILE] == FOUR.replace(
        '        "buildkit": true\n', '        "buildkit": true,\n        "cdi": true\n'
    ).replace(
        '    "live-restore": true\n',
        '    "live-restore": true,\n    "runtimes": {\n        "nvidia": {\n            "path": '
        f'"{RUNTIME_PATH}",\n            "args": []\n        }}\n    }}\n',
    )
    assert words(planned) == {
        "handler nvidia": (None, "runc"),
        "handler nvidia.path": (None, RUNTIME_PATH),
        "CDI": ("false", "true"),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, '{\n  "runtimes": {\n    "nvidia": {\n      "path": "PATH",\n      "args": []\n    }\n  }\n}\n'),
        ("", '{\n  "runtimes": {\n    "nvidia": {\n      "path": "PATH",\n      "args": []\n    }\n  }\n}\n'),
        ("{}", '{\n  "runtimes": {\n    "nvidia": {\n      "path": "PATH",\n      "args": []\n    }\n  }\n}'),
        ('{"runtimes": null}', '{"runtimes": {"nvidia": {"path": "PATH", "args": []}}}'),
        ('{"features": null}', '{"features": null, "runtimes": {"nvidia": {"path": "PATH", "args": []}}}'),
        ('{"a":1}', '{"a":1, "runtimes": {"nvidia": {"path": "PATH", "args": []}}}'),
        (
            '{"runtimes":{"runsc":{"path":"/r"}}}',
            '{"runtimes":{"runsc":{"path":"/r"}, "nvidia": {"path": "PATH", "args": []}}}',
        ),
        (
            '{\n\t"runtimes": {},\n\t"debug": true\n}\n',
            '{\n\t"runtimes": {\n\t\t"nvidia": {\n\t\t\t"path": "PATH",\n\t\t\t"args": []\n'
            '\t\t}\n\t},\n\t"debug": true\n}\n',
        ),
        (
            '{\r\n  "debug": true\r\n}\r\n',
            '{\r\n  "debug": true,\r\n  "runtimes": {\r\n    "nvidia": {\r\n      "path": "PATH",\r\n'
            '      "args": []\r\n    }\r\n  }\r\n}\r\n',
        ),
    ],
)
def test_every_layout_of_the_file(text: str | None, expected: str) -> None:
    host = docker_host(text)
    planned = plan_host("n1", host, NO_CDI)
    assert texts(host, planned)[FILE] == expected.replace("PATH", RUNTIME_PATH)
    assert plan_host("n1", again(host, planned), NO_CDI).change.empty


@pytest.mark.parametrize("case", CTK, ids=[f"{c['input']}-{c['flags']}" for c in CTK])
def test_what_nvidia_ctk_means_comes_out_without_what_it_loses(case: dict[str, Any]) -> None:
    """The reference's meaning: every member that was there stays, its features included; nvidia is added."""
    answers = {
        "plain": NO_CDI,
        "default": Answers(runtime=Runtime(default_runtime="nvidia", cdi="leave")),
        "cdi": LEAVE,
    }[case["flags"]]
    host = docker_host(case["before"])
    planned = plan_host("n1", host, answers)
    try:
        before = parsed(case["before"] or "")
    except RefusedError:
        assert planned.refusals
        assert case["rc"] != 0
        return
    after = json.loads(texts(host, planned)[FILE])
    if case["rc"]:  # it takes no empty file, dockerd does
        assert list(after["runtimes"]) == ["nvidia"]
        return
    wanted = json.loads(case["after"])
    assert set(wanted["runtimes"]) == set(after["runtimes"])
    assert after.get("default-runtime") == wanted.get("default-runtime", before.get("default-runtime"))
    assert after.get("features", {}) == {**before.get("features", {}), **wanted.get("features", {})}
    rest = {k: v for k, v in before.items() if k not in ("runtimes", "default-runtime", "features")}
    assert {k: after[k] for k in rest} == rest


@pytest.mark.parametrize(
    ("version", "features", "expected"),
    [
        ("24.0.9", None, None),
        ("25.0.0", None, {"cdi": True}),
        ("28.1.1", {"buildkit": True}, {"buildkit": True, "cdi": True}),
        ("28.1.1", {"cdi": True}, {"cdi": True}),
        ("28.2.0", None, None),
        ("28.2.2", {"cdi": False}, {"cdi": True}),
        ("29.2.0", {"containerd-snapshotter": True}, {"containerd-snapshotter": True}),
    ],
)
def test_cdi_is_switched_on_where_the_release_needs_it(
    version: str, features: dict[str, bool] | None, expected: dict[str, bool] | None
) -> None:
    text = json.dumps({"features": features} if features is not None else {"debug": True})
    host = docker_host(text, version=version)
    planned = plan_host("n1", host, LEAVE)
    assert json.loads(texts(host, planned)[FILE]).get("features") == expected
    left = plan_host("n1", host, NO_CDI)
    assert json.loads(texts(host, left)[FILE]).get("features") == features


def test_null_is_as_good_as_no_features() -> None:
    host = docker_host('{\n  "features": null,\n  "runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}\n}\n')
    assert texts(host, plan_host("n1", host, LEAVE))[FILE] == (
        '{\n  "features": {\n    "cdi": true\n  },\n  "runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}\n}\n'
    )


@pytest.mark.parametrize("former", [None, "null", '"runc"', '"r\\u0075nsc"', '"io.containerd.kata.v2"'])
def test_the_former_default_comes_back_to_the_byte(former: str | None) -> None:
    line = "" if former is None else f'  "default-runtime" :  {former},\n'
    text = f'{{\n{line}  "runtimes": {{ "runsc": {{"path": "/r"}} }}\n}}\n'
    host = docker_host(text)
    with_handler = texts(host, plan_host("n1", host, LEAVE))[FILE]
    on = plan_host("n1", docker_host(with_handler), NVIDIA)
    assert [c.path for c in on.change.files] == [FORMER, FILE], "remembered before it goes"
    host = docker_host(with_handler)
    files = texts(host, on)
    assert json.loads(files[FILE])["default-runtime"] == "nvidia"
    assert plan_host("n1", again(host, on), NVIDIA).change.empty
    assert plan_host("n1", again(host, on), LEAVE).change.empty
    off = plan_host("n1", again(host, on), FORMERLY)
    assert off.refusals == ()
    back = texts(again(host, on), off)
    assert back[FILE] == with_handler
    assert FORMER not in back
    assert plan_host("n1", again(again(host, on), off), FORMERLY).change.empty


def test_a_default_that_is_not_ours_stays() -> None:
    text = json.dumps({"default-runtime": "nvidia", "runtimes": {"nvidia": {"path": RUNTIME_PATH}}})
    planned = plan_host("n1", docker_host(text, version="28.3.0"), FORMERLY)
    assert [r.id for r in planned.refusals] == ["former-unknown"]
    assert planned.change.empty


def test_a_former_default_that_is_gone_is_refused() -> None:
    text = json.dumps({"default-runtime": "nvidia", "runtimes": {"nvidia": {"path": RUNTIME_PATH}}})
    planned = plan_host("n1", docker_host(text, memory='# x\n"kata"\n'), FORMERLY)
    assert [r.id for r in planned.refusals] == ["default-undefined"]
    assert "kata" in planned.reason


@pytest.mark.parametrize(
    ("path", "missing", "edited"),
    [
        (RUNTIME_PATH, {}, False),
        ("nvidia-container-runtime", {}, False),
        ("/usr/local/nvidia/toolkit/nvidia-container-runtime", {}, False),
        # §11 trap 18: the operator is gone and so is its program
        (
            "/usr/local/nvidia/toolkit/nvidia-container-runtime",
            {"nvidia": "/usr/local/nvidia/toolkit/nvidia-container-runtime"},
            True,
        ),
        ("/opt/nvidia-container-runtime-1.3", {}, True),
    ],
)
def test_only_the_path_of_a_runtime_that_is_wrong_is_changed(path: str, missing: dict[str, str], edited: bool) -> None:
    text = json.dumps({"runtimes": {"nvidia": {"path": path, "args": ["--x"]}}})
    host = docker_host(text, version="28.3.0", missing_binaries=missing)
    planned = plan_host("n1", host, LEAVE)
    assert planned.refusals == ()
    assert texts(host, planned)[FILE] == (text.replace(path, RUNTIME_PATH) if edited else text)


REFUSALS = [
    ("broken-now", docker_host("{")),
    ("broken-now", docker_host('{"debug": true, "debug": false}')),
    ("broken-now", docker_host('{"features": []}')),
    ("broken-now", docker_host("[]")),
    ("broken-now", docker_host("{}", warnings=(ConfigWarning(FILE, '"hosts" stands twice', 1, "flag-and-file"),))),
    ("broken-now", docker_host("{}", warnings=(ConfigWarning(FILE, '"runtime" is none', 1, "unknown-key"),))),
    ("not-editable", docker_host('{"runtimes": {"nvidia": {"runtimeType": "io.containerd.runc.v2"}}}')),
    ("not-editable", docker_host("{}", handlers={"nvidia": Handler("runc", {"path": "/opt/x"})})),
    ("docker-snap", docker_host("{}", owner="snap")),
    ("docker-flag", docker_host("{}", default_handler="runc")),
    ("latent-change", docker_host("{}", config_newer_than_process=True, changed_files=(FILE,))),
    ("operator-manages", docker_host("{}", operator=OperatorFacts(toolkit_pod="running"))),
    ("not-running", docker_host("{}", running=False)),
]


@pytest.mark.parametrize(("reason", "host"), REFUSALS, ids=[f"{i}-{r}" for i, (r, _) in enumerate(REFUSALS)])
def test_refused_with_a_reason_and_a_remedy(reason: str, host: Probe) -> None:
    planned = plan_host("n1", host, NVIDIA)
    assert reason in [r.id for r in planned.refusals]
    assert planned.change.empty
    assert planned.refusals[0].remedy


def test_a_docker_of_unknown_version_is_refused() -> None:
    host = docker_host("{}")
    runtime = replace(host.facts.runtimes[0], version=None)
    host = replace(host, facts=replace(host.facts, runtimes=(runtime,)))
    assert [r.id for r in plan_host("n1", host, LEAVE).refusals] == ["unknown-version"]


def test_cdi_by_flag_is_left_to_the_flag() -> None:
    host = docker_host('{"debug": true}', version="28.0.4", cdi=True)
    planned = plan_host("n1", host, LEAVE)
    assert planned.refusals == ()
    assert "features" not in json.loads(texts(host, planned)[FILE])


@pytest.mark.parametrize(("live", "stops"), [(True, False), (False, True), (None, True)])
def test_what_the_restart_does_to_containers_is_said(live: bool | None, stops: bool) -> None:
    text = json.dumps({} if live is None else {"live-restore": live})
    planned = plan_host("n1", docker_host(text), LEAVE)
    assert ("stops every container" in planned.reason) is stops
    assert planned.change.activation is not None
    assert (planned.change.activation.unit, planned.change.activation.stops_containers) == ("docker.service", stops)
    assert planned.change.check is not None
    assert (planned.change.check.kind, planned.change.check.config_path) == ("docker", FILE)


def test_a_toolkit_that_came_after_docker_needs_a_restart_and_nothing_else() -> None:
    text = json.dumps({"runtimes": {"nvidia": {"path": RUNTIME_PATH}}})
    host = docker_host(text, version="29.2.0", toolkit_newer_than_process=True)
    planned = plan_host("n1", host, LEAVE)
    assert planned.change.files == ()
    assert planned.change.activation is not None
    assert "--gpus looks for its hook only at the start" in planned.reason
    assert "run nvidia-ctk cdi generate" in planned.reason
    spec = ToolkitFacts(version="1.18.0", runtime_path=RUNTIME_PATH, cdi_specs=("/var/run/cdi/nvidia.yaml",))
    assert "cdi generate" not in plan_host(
        "n1", docker_host(text, version="29.2.0", toolkit_newer_than_process=True, toolkit=spec), LEAVE
    ).reason  # fmt: skip


def test_docker_behind_cri_dockerd_is_the_kubelets_runtime_also_under_k3s() -> None:
    for flavour in ("kubeadm", "k3s"):
        kubernetes = KubernetesFacts(flavour, "v1.33.1", "worker", "kubelet.service", active=True)
        host = docker_host("{}", kubernetes=kubernetes, used_by_kubelet=True, bridge="cri-dockerd")
        planned = plan_host("n1", host, LEAVE)
        assert planned.refusals == ()
        assert [c.path for c in planned.change.files] == [FILE]
        assert "pods get a GPU only when nvidia is the default" in planned.reason
        assert [(o.value, o.enabled) for o in strategies(host) if o.enabled] == [("in-place", True), ("none", True)]


def test_without_kubernetes_docker_comes_before_the_containerd_that_serves_it() -> None:
    host = docker_host("{}")
    servant = RuntimeFacts("containerd", "1.7.24", config_path="/etc/containerd/config.toml", running=True)
    host = replace(host, facts=replace(host.facts, runtimes=(servant, *host.facts.runtimes)))
    assert [c.path for c in plan_host("n1", host, LEAVE).change.files] == [FILE]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["debug", "log-opts", "ü", "a b", '"', "exec-opts"]) | st.text(max_size=6)
DOCUMENTS = st.dictionaries(KEYS, JSON, max_size=5)
LAYOUTS = st.sampled_from([None, 0, 1, 2, 4, "\t"])


@given(DOCUMENTS, LAYOUTS, st.booleans(), st.sampled_from(["24.0.1", "28.0.4", "29.2.0"]))
@settings(max_examples=150, deadline=None)
def test_every_other_member_of_any_document_stays(
    document: dict[str, Any], layout: int | str | None, sort: bool, version: str
) -> None:
    for reserved in ("runtimes", "features", "default-runtime", "live-restore"):
        document.pop(reserved, None)
    text = json.dumps(document, indent=layout, sort_keys=sort, ensure_ascii=sort)
    host = docker_host(text, version=version)
    first = plan_host("n1", host, LEAVE)
    assert first.refusals == ()
    after = json.loads(texts(host, first)[FILE])
    added = {k: after.pop(k) for k in ("runtimes", "features") if k in after}
    assert json.dumps(after) == json.dumps(json.loads(text)), "same members, same order"
    assert added["runtimes"] == {"nvidia": {"path": RUNTIME_PATH, "args": []}}
    assert ("features" in added) is (version == "28.0.4")
    middle = again(host, first, version=version)
    assert plan_host("n1", middle, LEAVE).change.empty
    on = plan_host("n1", middle, NVIDIA)
    off = plan_host("n1", again(middle, on, version=version), FORMERLY)
    assert texts(again(middle, on, version=version), off)[FILE] == texts(host, first)[FILE]


@given(DOCUMENTS, LAYOUTS, st.lists(KEYS, min_size=1, max_size=3), JSON)
@settings(max_examples=150, deadline=None)
def test_a_member_that_is_set_and_removed_again_leaves_the_text_as_it_was(
    document: dict[str, Any], layout: int | str | None, path: list[str], value: Any
) -> None:
    text = json.dumps({"first": 1, **document}, indent=layout)
    if path[0] in parsed(text):
        return
    new = set_member(text, tuple(path), value)
    assert remove_member(new, (path[0],)) == text
