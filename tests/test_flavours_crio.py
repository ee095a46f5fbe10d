"""CRI-O: a file in crio.conf.d that holds, and the reasons for which it would not."""

import posixpath
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwizard.actions import HostPlanned
from gpuwizard.answers.model import Answers, Runtime
from gpuwizard.containerd.edit import literal
from gpuwizard.facts.model import (
    ConfigWarning,
    KubernetesFacts,
    OperatorFacts,
    Probe,
    RuntimeFacts,
    ToolkitFacts,
)
from gpuwizard.flavours import plan_host, strategies
from tests.plan_probes import RUNTIME_PATH, applied, probe

MAIN = "/etc/crio/crio.conf"
FOLDER = "/etc/crio/crio.conf.d"
OURS = f"{FOLDER}/99-gpuwizard-nvidia.toml"
TOOLKIT = "/etc/nvidia-container-runtime/config.toml"
LEAVE = Answers()
NVIDIA = Answers(runtime=Runtime(default_runtime="nvidia"))
FORMERLY = Answers(runtime=Runtime(default_runtime="former"))
PACKAGED = """[crio.image]
signature_policy = "/etc/crio/policy.json"

[crio.runtime]
default_runtime = "crun"

[crio.runtime.runtimes.crun]
runtime_path = "/usr/libexec/crio/crun"
runtime_root = "/run/crun"
monitor_path = "/usr/libexec/crio/conmon"
allowed_annotations = [
    "io.containers.trace-syscall",
]

[crio.runtime.runtimes.runc]
runtime_path = "/usr/libexec/crio/runc"
runtime_root = "/run/runc"
monitor_path = "/usr/libexec/crio/conmon"
"""
BY_CTK = f"""[crio.runtime.runtimes.nvidia]
runtime_path = "{RUNTIME_PATH}"
runtime_type = "oci"
"""


def crio_host(files: Mapping[str, str | None], *, version: str = "1.33.2", **changes: Any) -> Probe:
    """A kubeadm worker on CRI-O; `changes` are of the runtime, or of the facts."""
    facts = {k: changes.pop(k) for k in ("operator", "toolkit", "kubernetes") if k in changes}
    there = {p for p, text in files.items() if text is not None and p != TOOLKIT}
    runtime = RuntimeFacts(
        kind="crio",
        version=version,
        socket="/run/crio/crio.sock",
        config_path=MAIN,
        used_by_kubelet=True,
        unit="crio.service",
        binary="/usr/bin/crio",
        running=True,
        cdi=True,
        config_files=tuple(sorted(there, key=lambda p: (p != MAIN, p.split("/")))),
    )
    kubernetes = facts.pop(
        "kubernetes", KubernetesFacts("kubeadm", "v1.33.1", "worker", "kubelet.service", None, "n1", active=True)
    )
    return probe(files, replace(runtime, **changes), kubernetes, **facts)


def texts(before: Probe, planned: HostPlanned) -> dict[str, str | None]:
    changes = {c.path: c.after.raw if c.after else None for c in planned.change.files}
    return {p: c.decode() if isinstance(c, bytes) else c for p, c in applied(before, changes).items()}


def test_the_file_for_a_packaged_crio() -> None:
    host = crio_host({f"{FOLDER}/10-crio.conf": PACKAGED})
    planned = plan_host("n1", host, LEAVE)
    assert planned.refusals == ()
    assert planned.strategy == "drop-in"
    assert texts(host, planned)[OURS] == (
        "# Written by gpuwizard: tells CRI-O about the NVIDIA container runtime.\n"
        "\n"
        "[crio.runtime.runtimes.nvidia]\n"
        f'  runtime_path = "{RUNTIME_PATH}"\n'
        '  runtime_type = "oci"\n'
        '  runtime_root = "/run/crun"\n'
        '  monitor_path = "/usr/libexec/crio/conmon"\n'
        '  allowed_annotations = ["io.containers.trace-syscall"]\n'
    )
    assert [c.path for c in planned.change.files] == [OURS]
    changed = {c.key: (c.before, c.after) for c in planned.change.effective}
    assert changed["handler nvidia"] == (None, "oci")
    assert changed["handler nvidia.monitor_path"] == (None, "/usr/libexec/crio/conmon")
    assert all(key.startswith("handler nvidia") for key in changed)
    check = planned.change.check
    assert check is not None
    assert (check.kind, set(check.handlers), check.default_handler) == ("crio", {"crun", "runc", "nvidia"}, "crun")
    assert plan_host("n1", crio_host(texts(host, planned)), LEAVE).change.empty


@pytest.mark.parametrize(("version", "default"), [("1.24.6", "runc"), ("1.30.4", "runc"), ("1.31.0", "crun")])
@pytest.mark.parametrize("main", [None, "", '[crio]\nlog_dir = "/var/log/x"\n', '[crio.runtime]\nlog_level = "info"\n'])
def test_every_release_and_starting_file(version: str, default: str, main: str | None) -> None:
    host = crio_host({MAIN: main}, version=version)
    planned = plan_host("n1", host, LEAVE)
    assert planned.refusals == ()
    assert planned.change.check is not None
    assert planned.change.check.default_handler == default
    assert set(planned.change.check.handlers) == {default, "nvidia"}
    files = texts(host, planned)
    assert files[MAIN] == main
    assert plan_host("n1", crio_host(files, version=version), LEAVE).change.empty


def test_the_default_on_and_off_again() -> None:
    host = crio_host({f"{FOLDER}/10-crio.conf": PACKAGED})
    only_handler = texts(host, plan_host("n1", host, LEAVE))
    host = crio_host(only_handler)
    on = plan_host("n1", host, NVIDIA)
    assert ("default handler", "crun", "nvidia") in [(c.key, c.before, c.after) for c in on.change.effective]
    with_default = texts(host, on)
    own = with_default[OURS]
    assert own is not None
    assert tomllib.loads(own)["crio"]["runtime"]["default_runtime"] == "nvidia"
    for answers in (NVIDIA, LEAVE):
        assert plan_host("n1", crio_host(with_default), answers).change.empty
    off = plan_host("n1", crio_host(with_default), FORMERLY)
    assert off.refusals == ()
    assert texts(crio_host(with_default), off) == only_handler
    assert off.change.check is not None
    assert off.change.check.default_handler == "crun"
    assert plan_host("n1", crio_host(only_handler), FORMERLY).change.empty


def test_a_default_that_another_file_sets_stays() -> None:
    own = '[crio.runtime]\ndefault_runtime = "nvidia"\n' + BY_CTK
    planned = plan_host("n1", crio_host({f"{FOLDER}/20-x.conf": own}), FORMERLY)
    assert [r.id for r in planned.refusals] == ["former-unknown"]
    assert planned.change.empty


def test_a_file_of_nvidia_ctk_that_is_right_is_left_alone() -> None:
    planned = plan_host("n1", crio_host({f"{FOLDER}/99-nvidia.toml": BY_CTK}), LEAVE)
    assert planned.change.empty
    assert planned.refusals == ()


def test_a_later_file_that_overrides_ours_is_named() -> None:
    """§11 traps 18 and 19: the operator's file comes after ours, and its program is gone with it."""
    path = "/usr/local/nvidia/toolkit/nvidia-container-runtime"
    theirs = f'[crio.runtime.runtimes.nvidia]\nruntime_path = "{path}"\nruntime_type = "oci"\n'
    host = crio_host({f"{FOLDER}/99-nvidia.toml": theirs}, missing_binaries={"nvidia": path})
    planned = plan_host("n1", host, LEAVE)
    assert [r.id for r in planned.refusals] == ["drop-in-unread"]
    assert f"{FOLDER}/99-nvidia.toml is read after 99-gpuwizard-nvidia.toml" in planned.reason
    earlier = crio_host({f"{FOLDER}/50-nvidia.toml": theirs}, missing_binaries={"nvidia": path})
    assert [c.path for c in plan_host("n1", earlier, LEAVE).change.files] == [OURS]


def test_a_later_file_that_sets_the_default_is_named() -> None:
    host = crio_host({f"{FOLDER}/zz.conf": '[crio.runtime]\ndefault_runtime = "crun"\n'})
    planned = plan_host("n1", host, NVIDIA)
    assert [r.id for r in planned.refusals] == ["drop-in-unread"]
    assert "default_runtime" in planned.reason
    assert plan_host("n1", host, LEAVE).refusals == ()


def test_a_backup_in_the_folder_is_a_configuration() -> None:
    """§11 trap 15."""
    path = f"{FOLDER}/99-nvidia.toml.bak"
    host = crio_host({path: BY_CTK.replace("oci", "vm")}, warnings=(ConfigWarning(path, "a copy", None, "backup"),))
    planned = plan_host("n1", host, LEAVE)
    assert planned.refusals[0].id == "crio-backup"
    assert path in planned.reason
    assert not any(posixpath.basename(c.path).endswith(".bak") for c in planned.change.files)


def test_the_folder_that_guides_name_is_said_to_be_unread() -> None:
    path = "/etc/crio/conf.d/99-nvidia.toml"
    host = crio_host({}, warnings=(ConfigWarning(path, "unread", None, "unread"),))
    planned = plan_host("n1", host, LEAVE)
    assert [c.path for c in planned.change.files] == [OURS]
    assert f"{path} lies in a folder that CRI-O does not read" in planned.reason


PRIVATE = ToolkitFacts(
    version="1.18.0",
    runtime_path=RUNTIME_PATH,
    runtimes=("runc", "crun"),
    low_level={"runc": None, "crun": None},
    private_runtimes=("/usr/libexec/crio/crun", "/usr/libexec/crio/runc"),
    config_path=TOOLKIT,
)
CONFIG = """#accept-nvidia-visible-devices-as-volume-mounts = false
[nvidia-container-runtime]
#debug = "/var/log/nvidia-container-runtime.log"
log-level = "info"
runtimes = ["runc", "crun"] # in PATH

[nvidia-container-runtime.modes.cdi]
default-kind = "nvidia.com/gpu"
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CONFIG, CONFIG.replace('"crun"]', '"crun", "/usr/libexec/crio/crun", "/usr/libexec/crio/runc"]')),
        (
            None,
            '[nvidia-container-runtime]\n  runtimes = ["runc", "crun", "/usr/libexec/crio/crun", '
            '"/usr/libexec/crio/runc"]\n',
        ),
    ],
)
def test_the_toolkit_learns_where_crio_keeps_its_runtimes(text: str | None, expected: str) -> None:
    host = crio_host({f"{FOLDER}/10-crio.conf": PACKAGED, TOOLKIT: text}, toolkit=PRIVATE)
    planned = plan_host("n1", host, LEAVE)
    assert planned.refusals == ()
    assert [c.path for c in planned.change.files] == [TOOLKIT, OURS]
    assert texts(host, planned)[TOOLKIT] == expected
    assert "not in PATH" in planned.reason
    known = replace(
        PRIVATE,
        runtimes=(*PRIVATE.runtimes, *PRIVATE.private_runtimes),
        low_level={**PRIVATE.low_level, "/usr/libexec/crio/crun": "/usr/libexec/crio/crun"},
    )
    assert plan_host("n1", crio_host(texts(host, planned), toolkit=known), LEAVE).change.empty


@pytest.mark.parametrize(
    "toolkit",
    [replace(PRIVATE, low_level={"runc": "/usr/bin/runc", "crun": None}), replace(PRIVATE, private_runtimes=())],
)
def test_the_toolkit_is_left_alone_where_it_finds_a_runtime(toolkit: ToolkitFacts) -> None:
    planned = plan_host("n1", crio_host({TOOLKIT: CONFIG}, toolkit=toolkit), LEAVE)
    assert [c.path for c in planned.change.files] == [OURS]


REFUSALS = [
    ("broken-now", crio_host({MAIN: "[crio\n"})),
    ("broken-now", crio_host({MAIN: "", "/etc/crio/crio.conf.d/50-x": "a = 1\na = 2\n"})),
    ("broken-now", crio_host({MAIN: "[crio.runtime]\ndefault_runtime = 5\n"})),
    ("broken-now", crio_host({MAIN: "", "/etc/crio/crio.conf.d/10-x": '[crio.runtime]\nruntimes = "x"\n'})),
    ("broken-now", crio_host({MAIN: "", OURS: "[crio.runtime.runtimes.nvidia]\nruntime_path = 7\n"})),
    ("broken-now", crio_host({MAIN: '[crio.runtime]\ndefault_runtime = "kata"\n'})),
    ("not-editable", crio_host({TOOLKIT: CONFIG}, toolkit=replace(PRIVATE, config_path="/opt/config.toml"))),
    ("not-editable", crio_host({TOOLKIT: "[x\n"}, toolkit=PRIVATE)),
    ("latent-change", crio_host({MAIN: ""}, config_newer_than_process=True, changed_files=(MAIN,))),
    ("operator-manages", crio_host({}, operator=OperatorFacts(toolkit_pod="running"))),
    ("not-running", crio_host({}, running=False)),
]


@pytest.mark.parametrize(("reason", "host"), REFUSALS, ids=[f"{i}-{r}" for i, (r, _) in enumerate(REFUSALS)])
def test_refused_with_a_reason_and_a_remedy(reason: str, host: Probe) -> None:
    planned = plan_host("n1", host, LEAVE)
    assert [r.id for r in planned.refusals] == [reason]
    assert planned.change.empty
    assert planned.refusals[0].remedy


def test_crio_is_configured_by_a_file_of_its_own_alone() -> None:
    offered = {o.value: o for o in strategies(crio_host({}))}
    assert (offered["drop-in"].recommended, offered["in-place"].enabled) == (True, False)


TABLES = st.fixed_dictionaries(
    {},
    optional={
        "log_level": st.sampled_from(["info", "debug"]),
        "cgroup_manager": st.sampled_from(["systemd", "cgroupfs"]),
        "pids_limit": st.sampled_from([4096, -1]),
        "hooks_dir": st.sampled_from([["/a", "/b"], []]),
        "default_ulimits": st.just(["nofile=1:2"]),
        "a_key_of_a_later_release": st.sampled_from([7, True, "x"]),
    },
)
HANDLERS = st.dictionaries(
    st.sampled_from(["runc", "crun", "kata", "youki"]),
    st.fixed_dictionaries(
        {"runtime_path": st.sampled_from(["/usr/bin/a", "/opt/b"])},
        optional={"monitor_path": st.just("/usr/bin/conmon"), "runtime_type": st.sampled_from(["oci", "vm"])},
    ),
    max_size=3,
)


def crio_text(table: Mapping[str, Any], handlers: Mapping[str, Any]) -> str:
    lines = ["[crio.runtime]", *(f"{k} = {literal(v)}" for k, v in table.items())]
    for name, entry in handlers.items():
        lines += [f"[crio.runtime.runtimes.{name}]", *(f"{k} = {literal(v)}" for k, v in entry.items())]
    return "\n".join([*lines, ""])


@given(st.lists(st.tuples(TABLES, HANDLERS), min_size=1, max_size=3), st.sampled_from(["1.28.0", "1.34.1"]))
@settings(max_examples=100, deadline=None)
def test_nothing_else_changes_whatever_the_files_say(
    contents: list[tuple[dict[str, Any], dict[str, Any]]], version: str
) -> None:
    files = {f"{FOLDER}/{number}0-x.conf": crio_text(*content) for number, content in enumerate(contents)}
    host = crio_host(files, version=version)
    planned = plan_host("n1", host, NVIDIA)
    assert planned.refusals == ()
    keys = {c.key.partition(".")[0] for c in planned.change.effective}
    assert keys == {"handler nvidia", "default handler"}
    after = texts(host, planned)
    assert {p: after[p] for p in files} == files
    assert plan_host("n1", crio_host(after, version=version), NVIDIA).change.empty
    off = plan_host("n1", crio_host(after, version=version), FORMERLY)
    assert off.refusals == ()
    assert off.change.check is not None
    assert off.change.check.default_handler == ("crun" if version == "1.34.1" else "runc")
