"""k0s: a drop-in in the dialect of the release, and every way in which one of them stops k0s."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwizard.actions import Activation, HostPlanned
from gpuwizard.answers.model import Answers, Runtime
from gpuwizard.containerd.edit import literal
from gpuwizard.facts.model import KubernetesFacts, OperatorFacts, Probe, RuntimeFacts
from gpuwizard.flavours import plan_host, strategies
from gpuwizard.flavours.k0s_files import CRI_FILE, FOLDER, MAIN, K0sRelease, model, rejected
from tests.plan_probes import RUNTIME_PATH, applied, probe

OURS = f"{FOLDER}/99-gpuwizard-nvidia.toml"
LEAVE = Answers()
NVIDIA = Answers(runtime=Runtime(default_runtime="nvidia"))
FORMERLY = Answers(runtime=Runtime(default_runtime="former"))
MAGIC = "# k0s_managed=true\n# made by k0s\n"
OLD_ROOT = MAGIC + f'version = 2\nimports = ["{CRI_FILE}"]\n'
CRI = (
    'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "quay.io/k0sproject/pause:3.10"\n'
    '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'
)
NEW_ROOT = MAGIC + (
    f'version = 3\nimports = ["{FOLDER}/*.toml"]\n'
    "[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = 'quay.io/k0sproject/pause:3.10'\n"
    "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\nRoot = '/run/k0s/containerd/runc'\n"
)
V2 = f"""# Written by gpuwizard: tells the containerd of k0s about the NVIDIA container runtime.
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  enable_cdi = true

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
    BinaryName = "{RUNTIME_PATH}"
    SystemdCgroup = false
"""
V3 = f"""# Written by gpuwizard: tells the containerd of k0s about the NVIDIA container runtime.
version = 3

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia.options]
    BinaryName = "{RUNTIME_PATH}"
    Root = "/run/k0s/containerd/runc"
    SystemdCgroup = false
"""
RELEASES = [
    ("v1.27.1+k0s.0", "1.7.0"),
    ("v1.33.4+k0s.0", "1.7.27"),
    ("v1.35.2+k0s.0", "1.7.29"),
    ("v1.36.0+k0s.0", "2.3.1"),
]


def k0s_host(version: str, containerd: str, files: dict[str, str | None] | None = None, **changes: Any) -> Probe:
    """A k0s worker; without files it has what its release writes."""
    old = K0sRelease.parse(version).merges_itself
    written: dict[str, str | None] = {MAIN: OLD_ROOT, CRI_FILE: CRI} if old else {MAIN: NEW_ROOT}
    facts = {k: changes.pop(k) for k in ("operator", "toolkit", "runtimes") if k in changes}
    runtime = RuntimeFacts(
        kind="containerd",
        version=containerd,
        socket="/run/k0s/containerd.sock",
        config_path=MAIN,
        used_by_kubelet=True,
        owner="k0s",
        unit="k0sworker.service",
        binary="/var/lib/k0s/bin/containerd",
        running=True,
    )
    kubernetes = KubernetesFacts("k0s", version, "worker", "k0sworker.service", "/var/lib/k0s", "k1", active=True)
    return probe({**written, **(files or {})}, replace(runtime, **changes), kubernetes, **facts)


def texts(host: Probe, planned: HostPlanned) -> dict[str, str | None]:
    changes = {c.path: c.after.raw if c.after else None for c in planned.change.files}
    return {p: c.decode() if isinstance(c, bytes) else c for p, c in applied(host, changes).items()}


@pytest.mark.parametrize(("version", "containerd"), RELEASES)
def test_the_drop_in_speaks_the_dialect_of_the_release(version: str, containerd: str) -> None:
    host = k0s_host(version, containerd)
    planned = plan_host("k1", host, LEAVE)
    old = K0sRelease.parse(version).merges_itself
    assert planned.refusals == ()
    assert (planned.strategy, [c.path for c in planned.change.files]) == ("drop-in", [OURS])
    assert texts(host, planned)[OURS] == (V2 if old else V3)
    assert planned.change.activation == Activation("k0sworker.service", "watched")
    check = planned.change.check
    assert check is not None
    assert (check.rendered, check.binary) == ((CRI_FILE, None) if old else (None, "/var/lib/k0s/bin/containerd"))
    assert set(check.handlers) == {"runc", "nvidia"}
    keys = {c.key.partition(".")[0] for c in planned.change.effective}
    assert keys == ({"handler nvidia", "CDI"} if old else {"handler nvidia"})
    assert ("1.36 does not start with a file of version 2" in planned.reason) is old
    again = plan_host("k1", k0s_host(version, containerd, texts(host, planned)), LEAVE)
    assert (again.change.empty, again.refusals) == (True, ())


@pytest.mark.parametrize(("version", "containerd"), RELEASES)
def test_the_default_on_and_off_again(version: str, containerd: str) -> None:
    host = k0s_host(version, containerd)
    handler = texts(host, plan_host("k1", host, LEAVE))
    host = k0s_host(version, containerd, handler)
    on = plan_host("k1", host, NVIDIA)
    assert ("default handler", "runc", "nvidia") in [(c.key, c.before, c.after) for c in on.change.effective]
    both = texts(host, on)
    for answers in (NVIDIA, LEAVE):
        assert plan_host("k1", k0s_host(version, containerd, both), answers).change.empty
    off = plan_host("k1", k0s_host(version, containerd, both), FORMERLY)
    assert off.refusals == ()
    assert texts(k0s_host(version, containerd, both), off) == handler
    assert plan_host("k1", k0s_host(version, containerd, handler), FORMERLY).change.empty


def test_the_merge_of_k0s_keeps_what_a_partial_file_of_containerd_1x_would_lose() -> None:
    files = {
        MAIN: OLD_ROOT.encode(),
        CRI_FILE: CRI.encode(),
        f"{FOLDER}/10-certs.toml": b'[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/etc/certs.d"\n',
        f"{FOLDER}/20-metrics.toml": b'version = 2\n[metrics]\naddress = "127.0.0.1:1338"\n',
        OURS: V2.encode(),
    }
    state = model(files, K0sRelease.parse("v1.33.4+k0s.0"), "1.7.27")
    assert state.usable
    assert set(state.runtimes) == {"runc", "nvidia"}
    assert state.sandbox_image == "quay.io/k0sproject/pause:3.10"
    assert state.registry_config_path == "/etc/certs.d"
    assert f"{FOLDER}/20-metrics.toml" in state.files


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("version = 2\n", "version = 2"),
        ("version = 4\n", "version = 4"),
        ('version = "3"\n', "version"),
        ('version = 3\n[plugins."io.containerd.grpc.v1.cri".containerd]\ndefault_runtime_name = "x"\n', "grpc.v1.cri"),
        ("version = \n", "not valid TOML"),
        ("[metrics]\naddress = ''\n", None),
        ("version = 3\n", None),
    ],
)
def test_1_36_names_the_drop_ins_with_which_it_would_exit(text: str, why: str | None) -> None:
    path = f"{FOLDER}/50-admin.toml"
    found = rejected({path: text.encode()}, K0sRelease.parse("v1.36.1+k0s.0"))
    assert (path in found) is (why is not None)
    host = k0s_host("v1.36.1+k0s.0", "2.3.1", {path: text})
    planned = plan_host("k1", host, LEAVE)
    assert [r.id for r in planned.refusals] == ([] if why is None else ["k0s-drop-in"])
    assert why is None or (path in planned.reason and why in planned.reason)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n', "go past k0s' merge"),
        ("version = 3\n", "version = 3"),
    ],
)
def test_1_35_names_the_drop_ins_that_do_something_else_than_they_say(text: str, why: str) -> None:
    """The operator's snippet of k0s' own documentation with a toolkit of 1.18 or later."""
    path = f"{FOLDER}/nvidia.toml"
    planned = plan_host("k1", k0s_host("v1.33.4+k0s.0", "1.7.27", {path: text}), LEAVE)
    assert [r.id for r in planned.refusals] == ["k0s-drop-in"]
    assert path in planned.reason
    assert why in planned.reason


@pytest.mark.parametrize("default", [False, True])
def test_after_the_upgrade_to_1_36_our_own_file_becomes_version_3(default: bool) -> None:
    """§11 trap 17: k0s exits with our file of version 2, so that its containerd is gone as well."""
    v2 = V2
    if default:
        v2 = V2.replace(
            '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]',
            '[plugins."io.containerd.grpc.v1.cri".containerd]\n  default_runtime_name = "nvidia"\n\n'
            '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]',
            1,
        )
    host = k0s_host("v1.36.0+k0s.0", "", {MAIN: OLD_ROOT, OURS: v2}, runtimes=())
    planned = plan_host("k1", host, LEAVE)
    assert planned.refusals == ()
    assert [(c.path, c.before is not None) for c in planned.change.files] == [(OURS, True)]
    new = texts(host, planned)[OURS] or ""
    assert "version = 3" in new
    assert "grpc.v1.cri" not in new
    assert ('default_runtime_name = "nvidia"' in new) is default
    assert planned.change.activation == Activation("k0sworker.service", "restart"), "it is down: nobody watches"
    assert planned.change.check is not None
    assert planned.change.check.binary is None, "the containerd on the disk is still the old one"
    assert rejected({OURS: new.encode()}, K0sRelease.parse("v1.36.0+k0s.0")) == {}


def test_an_upgrade_that_waits_for_its_restart_is_not_finished_in_passing() -> None:
    planned = plan_host("k1", k0s_host("v1.36.0+k0s.0", "1.7.29", {MAIN: OLD_ROOT}), LEAVE)
    assert [r.id for r in planned.refusals] == ["upgrade-pending"]
    assert "stop k0sworker.service" in planned.refusals[0].remedy


def test_back_on_1_35_our_file_becomes_version_2_again() -> None:
    host = k0s_host("v1.35.2+k0s.0", "1.7.29", {OURS: V3})
    planned = plan_host("k1", host, LEAVE)
    assert planned.refusals == ()
    assert texts(host, planned)[OURS] == V2


@pytest.mark.parametrize("first", ["", "#k0s_managed=true\n", " # k0s_managed=true\n", "# k0s_managed=true \n"])
def test_k0s_own_file_without_its_first_line_is_refused(first: str) -> None:
    """§11 trap 11: nvidia-ctk takes the comment away, and k0s stops managing the file."""
    host = k0s_host("v1.33.4+k0s.0", "1.7.27", {MAIN: first + OLD_ROOT.removeprefix(MAGIC)})
    planned = plan_host("k1", host, LEAVE)
    assert [r.id for r in planned.refusals] == ["k0s-unmanaged"]
    assert "# k0s_managed=true" in planned.refusals[0].remedy


OWN_OLD = CRI.replace('sandbox_image = "quay.io/k0sproject/pause:3.10"\n', "")


@pytest.mark.parametrize(
    ("version", "containerd", "text", "paths"),
    [
        ("v1.33.4+k0s.0", "1.7.27", OWN_OLD, [MAIN]),
        ("v1.36.0+k0s.0", "2.3.1", "version = 3\n", ["/etc/k0s/conf.d/99-gpuwizard-nvidia.toml", MAIN]),
    ],
)
def test_an_administrators_own_file_is_edited_as_any_containerds(
    version: str, containerd: str, text: str, paths: list[str]
) -> None:
    host = k0s_host(version, containerd, {MAIN: text})
    planned = plan_host("k1", host, LEAVE)
    assert planned.refusals == ()
    assert [c.path for c in planned.change.files] == paths
    assert "k0s does not read /etc/k0s/containerd.d" in planned.reason
    assert planned.change.activation == Activation("k0sworker.service")


@pytest.mark.parametrize(("version", "containerd"), RELEASES)
def test_the_managed_file_itself_is_never_edited(version: str, containerd: str) -> None:
    for answers in (LEAVE, NVIDIA):
        planned = plan_host("k1", k0s_host(version, containerd), answers)
        assert MAIN not in [c.path for c in planned.change.files]
    offered = {o.value: o for o in strategies(k0s_host(version, containerd))}
    assert (offered["drop-in"].recommended, offered["in-place"].enabled) == (True, False)


REFUSALS = [
    ("k0s-too-old", k0s_host("v1.27.0+k0s.0", "1.7.0")),
    ("k0s-drop-in", k0s_host("v1.33.4+k0s.0", "1.7.27", {f"{FOLDER}/x.toml": "[x\n"})),
    # §11 trap 16: another containerd than k0s'
    ("wrong-runtime", k0s_host("v1.33.4+k0s.0", "1.7.27", config_path="/etc/containerd/config.toml")),
    ("operator-manages", k0s_host("v1.33.4+k0s.0", "1.7.27", operator=OperatorFacts(toolkit_pod="running"))),
    ("not-running", k0s_host("v1.33.4+k0s.0", "1.7.27", running=False)),
    (
        "drop-in-unread",
        k0s_host(
            "v1.36.0+k0s.0",
            "2.3.1",
            {
                f"{FOLDER}/99-z.toml": "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]\n"
                "runtime_type = 'io.other.v1'\n"
            },
        ),
    ),
]


@pytest.mark.parametrize(("reason", "host"), REFUSALS, ids=[f"{i}-{r}" for i, (r, _) in enumerate(REFUSALS)])
def test_refused_with_a_reason_and_a_remedy(reason: str, host: Probe) -> None:
    planned = plan_host("k1", host, LEAVE)
    assert [r.id for r in planned.refusals] == [reason]
    assert planned.change.empty
    assert planned.refusals[0].remedy


def test_a_program_that_vanished_with_the_operator_is_replaced() -> None:
    """§11 trap 18."""
    gone = "/usr/local/nvidia/toolkit/nvidia-container-runtime"
    host = k0s_host(
        "v1.33.4+k0s.0",
        "1.7.27",
        {f"{FOLDER}/10-nvidia.toml": V2.replace(RUNTIME_PATH, gone).replace("# Written by gpuwizard", "# Written")},
        missing_binaries={"nvidia": gone},
    )
    planned = plan_host("k1", host, LEAVE)
    assert planned.refusals == ()
    changed = {c.key: (c.before, c.after) for c in planned.change.effective}
    assert changed["handler nvidia.BinaryName"] == (gone, RUNTIME_PATH)


KEYS = st.sampled_from(["max_concurrent_downloads", "max_container_log_line_size"])
TABLES = st.dictionaries(KEYS, st.integers(1, 99), max_size=2)
KINDS = st.sampled_from(["io.containerd.runc.v2", "io.k.v2"])
HANDLERS = st.fixed_dictionaries({}, optional={"runc": st.just("io.containerd.runc.v2"), "kata": KINDS, "crun": KINDS})


@given(st.lists(st.tuples(TABLES, HANDLERS), max_size=3), st.sampled_from(RELEASES))
@settings(max_examples=80, deadline=None)
def test_nothing_else_changes_whatever_the_drop_ins_say(
    contents: list[tuple[dict[str, int], dict[str, str]]], release: tuple[str, str]
) -> None:
    old = K0sRelease.parse(release[0]).merges_itself
    plugin = "io.containerd.grpc.v1.cri" if old else "io.containerd.cri.v1.runtime"
    files: dict[str, str | None] = {}
    for number, (table, handlers) in enumerate(contents):
        lines = [f"version = {2 if old else 3}", f'[plugins."{plugin}"]', *(f"{k} = {v}" for k, v in table.items())]
        for name, kind in handlers.items():
            lines += [f'[plugins."{plugin}".containerd.runtimes.{name}]', f"runtime_type = {literal(kind)}"]
        files[f"{FOLDER}/{number}0-x.toml"] = "\n".join([*lines, ""])
    host = k0s_host(*release, files)
    planned = plan_host("k1", host, NVIDIA)
    assert planned.refusals == ()
    assert {c.key.partition(".")[0] for c in planned.change.effective} - {"CDI"} == {
        "handler nvidia",
        "default handler",
    }
    after = texts(host, planned)
    assert {p: after[p] for p in files} == files
    assert plan_host("k1", k0s_host(*release, after), NVIDIA).change.empty
