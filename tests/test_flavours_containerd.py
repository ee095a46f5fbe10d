"""Plain containerd: the right edit per release, and every reason not to touch a host."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwizard.actions import HostPlanned
from gpuwizard.answers.model import Answers, HostOverride, Runtime
from gpuwizard.containerd import Effective, effective
from gpuwizard.facts.model import DriverFacts, OsFacts, PrivilegeFacts, Probe, RuntimeFacts, ToolkitFacts
from gpuwizard.flavours import plan_host, strategies
from tests.plan_probes import DROP_IN, MAIN, RUNTIME_PATH, applied, containerd_host

DEFAULTS = Path(__file__).parent / "data" / "containerd_defaults"
DEBIAN = (DEFAULTS / "debian.toml").read_text()
NVIDIA_DEFAULT = Answers(runtime=Runtime(default_runtime="nvidia"))
HOSTS = [
    ("1.6.20", DEBIAN, "in-place"),
    ("1.7.24", DEBIAN, "in-place"),
    ("2.1.9", DEBIAN, "drop-in"),
    ("1.6.20", (DEFAULTS / "1.6.20.toml").read_text(), "in-place"),
    ("1.7.24", (DEFAULTS / "1.7.24.toml").read_text(), "in-place"),
    ("2.1.9", (DEFAULTS / "2.1.9.toml").read_text(), "drop-in"),
    ("2.3.4", (DEFAULTS / "2.3.4.toml").read_text(), "drop-in"),
    ("1.7.24", None, "in-place"),
    ("2.1.9", None, "drop-in"),
    ("1.7.24", "", "in-place"),
    ("2.1.9", "", "drop-in"),
    ("2.1.9", "version = 1\n", "drop-in"),
    ("1.7.24", 'root = "/data"\n', "in-place"),
    ("1.7.24", '[plugins.cri]\nsandbox_image = "x"\n', "in-place"),
    ("1.7.24", '[plugins.opt]\npath = "/x"\n', "in-place"),
    ("1.6.20", "version = 1\n", "in-place"),
]


def after(probe: Probe, planned: HostPlanned) -> dict[str, bytes]:
    """The host's files once the plan is carried out."""
    changes = {c.path: c.after.raw if c.after else None for c in planned.change.files}
    files = applied(probe, changes)
    return {p: c.encode() if isinstance(c, str) else c for p, c in files.items() if c is not None}


def state(probe: Probe, planned: HostPlanned) -> Effective:
    runtime = probe.facts.runtimes[0]
    return effective(after(probe, planned), runtime.config_path or MAIN, runtime.version or "")


@pytest.mark.parametrize("answers", [Answers(), NVIDIA_DEFAULT], ids=["leave", "nvidia"])
@pytest.mark.parametrize(("version", "text", "strategy"), HOSTS)
def test_the_handler_arrives_and_the_second_plan_is_empty(
    version: str, text: str | None, strategy: str, answers: Answers
) -> None:
    probe = containerd_host(version, {MAIN: text})
    planned = plan_host("n1", probe, answers)
    assert planned.refusals == ()
    assert planned.strategy == strategy
    seen = state(probe, planned)
    assert seen.usable
    assert seen.runtimes["nvidia"].options["BinaryName"] == RUNTIME_PATH
    assert "runc" in seen.runtimes
    assert seen.default_runtime_name == ("nvidia" if answers is NVIDIA_DEFAULT else "runc")
    assert planned.change.check is not None
    assert set(planned.change.check.handlers) == set(seen.runtimes)
    assert planned.change.activation is not None
    assert planned.change.activation.unit == "containerd.service"
    again = plan_host("n1", containerd_host(version, after(probe, planned)), answers)
    assert (again.change.empty, again.refusals, again.strategy) == (True, (), strategy)


@pytest.mark.parametrize("version", ["1.7.24", "2.1.9"])
def test_systemd_cgroup_and_other_options_of_runc_are_copied(version: str) -> None:
    text = DEBIAN + (
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n'
        'runtime_type = "io.containerd.runc.v2"\n'
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\n'
        'BinaryName = "/opt/runc"\nSystemdCgroup = true\nRoot = "/run/x"\n'
    )
    probe = containerd_host(version, {MAIN: text})
    seen = state(probe, plan_host("n1", probe, Answers()))
    assert seen.runtimes["nvidia"].options == {"BinaryName": RUNTIME_PATH, "Root": "/run/x", "SystemdCgroup": True}
    assert seen.runtimes["runc"].options["BinaryName"] == "/opt/runc"


def test_only_what_is_wrong_with_an_existing_handler_is_repaired() -> None:
    text = (
        "version = 2\n"
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n'
        'runtime_type = "io.containerd.runc.v2"\n'
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\n'
        "SystemdCgroup = true\n"
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]\n'
        'runtime_type = "io.containerd.runc.v2"\n'
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]\n'
        '  BinaryName = "/usr/bin/nvidia-container-runtime" # as packaged\n'
    )
    probe = containerd_host("1.7.24", {MAIN: text})
    planned = plan_host("n1", probe, Answers(runtime=Runtime(cdi="leave")))
    new = after(probe, planned)[MAIN].decode()
    assert new == text + "  SystemdCgroup = true\n"


def test_on_1x_the_file_whose_table_counts_is_edited() -> None:
    shadow = (
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n'
        'runtime_type = "io.containerd.runc.v2"\n'
    )
    root = 'version = 2\nimports = ["/etc/containerd/extra.toml"]\n' + DEBIAN.partition("\n")[2]
    probe = containerd_host("1.7.24", {MAIN: root, "/etc/containerd/extra.toml": shadow})
    planned = plan_host("n1", probe, Answers())
    assert [c.path for c in planned.change.files] == ["/etc/containerd/extra.toml"]
    assert "nvidia" in state(probe, planned).runtimes


def test_files_that_nobody_imports_yet_stay_asleep() -> None:
    sleeping = 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "old"\n'
    probe = containerd_host("2.1.9", {MAIN: DEBIAN, "/etc/containerd/conf.d/10-old.toml": sleeping})
    planned = plan_host("n1", probe, Answers())
    imports = tomllib.loads(after(probe, planned)[MAIN].decode())["imports"]
    assert imports == ["/etc/containerd/conf.d/99-gpuwizard-nvidia*.toml"]
    assert state(probe, planned).sandbox_image != "old"


def test_a_root_that_imports_the_folder_is_left_alone() -> None:
    root = 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n'
    planned = plan_host("n1", containerd_host("2.1.9", {MAIN: root}), Answers())
    assert [c.path for c in planned.change.files] == [DROP_IN]


def test_another_main_file() -> None:
    main = "/opt/containerd/etc/main.toml"
    probe = containerd_host("2.1.9", {main: "version = 3\n"}, main=main)
    planned = plan_host("n1", probe, Answers())
    assert [c.path for c in planned.change.files] == ["/opt/containerd/etc/conf.d/99-gpuwizard-nvidia.toml", main]
    assert "nvidia" in state(probe, planned).runtimes


def test_a_handler_made_by_nvidia_ctk_is_right() -> None:
    ctk = (
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]\n'
        'runtime_type = "io.containerd.runc.v2"\n'
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]\n'
        'BinaryName = "/usr/bin/nvidia-container-runtime"\n'
    )
    root = 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n'
    planned = plan_host(
        "n1", containerd_host("2.1.9", {MAIN: root, "/etc/containerd/conf.d/99-nvidia.toml": ctk}), Answers()
    )
    assert planned.change.empty
    assert planned.refusals == ()


REFUSALS = [
    ("cri-disabled", containerd_host("1.7.24", {MAIN: 'disabled_plugins = ["cri"]\n'})),
    ("cri-disabled", containerd_host("1.7.24", {MAIN: 'version = 2\ndisabled_plugins = ["cri"]\n'})),
    ("broken-now", containerd_host("1.7.24", {MAIN: "version = 3\n"})),
    (
        "broken-now",
        containerd_host(
            "2.1.9",
            {MAIN: 'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\ndefault_runtime_name = "x"\n'},
        ),
    ),
    ("unversioned-root", containerd_host("2.1.9", {MAIN: '[plugins.cri]\nsandbox_image = "x"\n'})),
    (
        "not-editable",
        containerd_host("1.7.24", {MAIN: 'version = 2\nplugins = {"io.containerd.grpc.v1.cri" = {containerd = {}}}\n'}),
    ),
    (
        "no-effect",
        containerd_host(
            "2.1.9",
            {
                MAIN: "version = 2\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata]\n"
                "runtime_type = 'io.containerd.kata.v2'\n",
            },
        ),
    ),
    ("no-driver", containerd_host("1.7.24", {MAIN: DEBIAN}, driver=DriverFacts())),
    ("no-driver", containerd_host("1.7.24", {MAIN: DEBIAN}, driver=DriverFacts(loaded="580", problem="mismatch"))),
    ("no-toolkit", containerd_host("1.7.24", {MAIN: DEBIAN}, toolkit=ToolkitFacts(version="1.18.0"))),
    ("no-root", containerd_host("1.7.24", {MAIN: DEBIAN}, readable=False, privilege=PrivilegeFacts(sudo="none"))),
    ("immutable-os", containerd_host("1.7.24", {MAIN: DEBIAN}, os=OsFacts(id="talos", family="talos"))),
    ("immutable-os", containerd_host("1.7.24", {MAIN: DEBIAN}, os=OsFacts(id="ubuntu", kind="wsl2"))),
]


@pytest.mark.parametrize(("reason", "probe"), REFUSALS, ids=[f"{i}-{r}" for i, (r, _) in enumerate(REFUSALS)])
def test_refused_with_a_reason_and_a_remedy(reason: str, probe: Probe) -> None:
    planned = plan_host("n1", probe, Answers())
    assert reason in [r.id for r in planned.refusals]
    assert planned.change.empty
    assert all(r.why for r in planned.refusals)
    if reason not in ("would-break",):
        assert planned.refusals[0].remedy


def with_runtime(**changes: object) -> Probe:
    probe = containerd_host("1.7.24", {MAIN: DEBIAN})
    runtime = replace(probe.facts.runtimes[0], **changes)  # type: ignore[arg-type]
    return replace(probe, facts=replace(probe.facts, runtimes=(runtime,)))


@pytest.mark.parametrize(
    ("reason", "probe"),
    [
        ("not-running", with_runtime(running=False)),
        ("unknown-version", with_runtime(version=None)),
        ("runtime-kind", with_runtime(kind="podman")),
        ("no-runtime", replace(with_runtime(), facts=replace(with_runtime().facts, runtimes=()))),
    ],
)
def test_runtimes_that_are_not_changed(reason: str, probe: Probe) -> None:
    assert plan_host("n1", probe, Answers()).refusals[0].id == reason


@pytest.mark.parametrize(("flavour", "reason"), [("unknown", "unknown-flavour"), ("openshift", "flavour")])
def test_flavours_that_are_not_changed(flavour: str, reason: str) -> None:
    probe = with_runtime()
    kubernetes = replace(probe.facts.kubernetes, flavour=flavour)  # type: ignore[arg-type]
    probe = replace(probe, facts=replace(probe.facts, kubernetes=kubernetes))
    assert plan_host("n1", probe, Answers()).refusals[0].id == reason
    assert not any(o.enabled for o in strategies(probe) if o.value != "none")


def test_of_two_containerds_the_kubelets_is_edited() -> None:
    docker = RuntimeFacts(
        kind="containerd", version="2.1.9", config_path="/etc/docker-containerd.toml", used_by_kubelet=False
    )
    probe = containerd_host("1.7.24", {MAIN: DEBIAN, "/etc/docker-containerd.toml": "version = 3\n"})
    probe = replace(probe, facts=replace(probe.facts, runtimes=(docker, *probe.facts.runtimes)))
    assert [c.path for c in plan_host("n1", probe, Answers()).change.files] == [MAIN]


def test_no_gpu_skip_and_none_do_nothing_and_refuse_nothing() -> None:
    probe = containerd_host("1.7.24", {MAIN: DEBIAN})
    bare = containerd_host("1.7.24", {MAIN: DEBIAN}, gpus=(), driver=DriverFacts())
    assert plan_host("n1", bare, Answers()) == HostPlanned("none", "no GPU")
    skipped = plan_host("n1", probe, Answers(host={"n1": HostOverride(skip=True)}))
    left = plan_host("n1", probe, Answers(host={"n1": HostOverride(strategy="none")}))
    assert (skipped.strategy, skipped.refusals, left.strategy, left.refusals) == ("none", (), "none", ())


def test_a_strategy_that_does_not_fit_is_refused_with_its_reason() -> None:
    probe = containerd_host("1.7.24", {MAIN: DEBIAN})
    planned = plan_host("n1", probe, Answers(runtime=Runtime(strategy="drop-in")))
    assert planned.refusals[0].id == "strategy"
    assert "replaces the whole CRI table" in planned.refusals[0].why
    offered = {o.value: o for o in strategies(probe)}
    assert (offered["in-place"].recommended, offered["drop-in"].enabled, offered["k3s-native"].enabled) == (
        True,
        False,
        False,
    )
    newer = {o.value: o for o in strategies(containerd_host("2.1.9", {MAIN: DEBIAN}))}
    assert (newer["drop-in"].recommended, newer["in-place"].enabled) == (True, True)


def test_in_place_on_2x_when_asked() -> None:
    probe = containerd_host("2.1.9", {MAIN: (DEFAULTS / "2.1.9.toml").read_text()})
    planned = plan_host("n1", probe, Answers(runtime=Runtime(strategy="in-place")))
    assert [c.path for c in planned.change.files] == [MAIN]
    assert state(probe, planned).usable


def test_a_version_that_is_none_refuses_this_host_alone() -> None:
    host = containerd_host("1.7.24", {MAIN: "version = 2\n"})
    runtime = replace(host.facts.runtimes[0], version="\x1b[31mgarbage")
    probe = replace(host, facts=replace(host.facts, runtimes=(runtime,)))
    planned = plan_host("n1", probe, Answers())
    assert [r.id for r in planned.refusals] == ["unknown-version"]
    assert "\x1b" not in planned.refusals[0].why
    assert not any(o.enabled for o in strategies(probe) if o.value != "none")
