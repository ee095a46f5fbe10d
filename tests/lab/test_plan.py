"""Probe, then plan, for configurations as hosts have them; the host's own containerd judges what was planned."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest

from gpuwizard.actions import Restart, WriteFile
from gpuwizard.answers.model import Answers, Cluster, DefaultRuntime, Runtime, Strategy
from gpuwizard.containerd import effective
from gpuwizard.facts.model import Probe
from gpuwizard.plan.build import build_plan
from gpuwizard.plan.model import HostPlan, Plan
from gpuwizard.remote.transport import Transport
from gpuwizard.work.probe import probe_host
from tests.lab.harness import judge
from tests.lab.harness.host import LabHost
from tests.lab.test_containerd import MAIN, handlers_dumped, handlers_predicted

Login = Callable[..., Awaitable[Transport]]
FreshHost = Callable[..., LabHost]

TOOLKIT = "/usr/bin/nvidia-container-runtime"
ADDED = ".containerd.runtimes.nvidia."
DEFAULT = ".containerd.default_runtime_name"

CNI_ONLY = b"""version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
"""
KATA = b"""# kept by hand since 2021; ask the storage team before you touch this
version = 2
imports = ["/etc/containerd/mirrors.toml"]   # the mirrors

[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"
snapshotter = "native"  # overlayfs is broken on this disk

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
options = { SystemdCgroup = true, BinaryName = "/usr/sbin/runc" }

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]
runtime_type = "io.containerd.kata.v2"
privileged_without_host_devices = true
"""
MIRRORS = b"""version = 2
[debug]
  level = "info"
"""
STALE_NVIDIA = b"""version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    SystemdCgroup = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
    BinaryName = "/opt/old/nvidia-container-runtime"
"""
V3_IMPORTS = b"""version = 3
imports = ['/etc/containerd/conf.d/*.toml']

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
    SystemdCgroup = true
"""
V3_REGISTRY = b"""version = 3
[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = '/etc/containerd/certs.d'
"""

Files = Mapping[str, bytes | None]
EVERYWHERE: dict[str, Files] = {
    "as kubeadm hosts have it": {},
    "no file at all": {MAIN: None},
    "only cni": {MAIN: CNI_ONLY},
    "kata and comments": {MAIN: KATA, "/etc/containerd/mirrors.toml": MIRRORS},
    "no newline at the end": {MAIN: CNI_ONLY.rstrip(b"\n")},
    "stale nvidia": {MAIN: STALE_NVIDIA},
}
ONLY_2X: dict[str, Files] = {
    "version 3 with imports": {MAIN: V3_IMPORTS, "/etc/containerd/conf.d/10-registry.toml": V3_REGISTRY},
    "version 2 of kubeadm days": {MAIN: CNI_ONLY.replace(b"version = 2", b"version = 2\nimports = []")},
}
CASES = [
    pytest.param(suite, files, id=f"{suite}: {name}")
    for suite in ("bookworm", "trixie", "sid")
    for name, files in (EVERYWHERE | (ONLY_2X if suite == "sid" else {})).items()
]


def wanted(strategy: Strategy = "auto", default: DefaultRuntime = "leave") -> Answers:
    return Answers(runtime=Runtime(strategy=strategy, default_runtime=default), kubernetes=Cluster(manage=False))


async def look(login: Login, host: LabHost) -> Probe:
    return await probe_host(await login(host, user="admin"), sudo_password_known=False)


def planned(host: LabHost, probe: Probe, answers: Answers) -> tuple[Plan, HostPlan]:
    plan = build_plan({host.name: probe}, answers, None)
    (host_plan,) = plan.hosts
    return plan, host_plan


def writes(host_plan: HostPlan) -> list[WriteFile]:
    return [action for action in host_plan.actions if isinstance(action, WriteFile)]


def staged(host: LabHost, host_plan: HostPlan) -> dict[str, bytes]:
    """The files of the host as they will be."""
    files = judge.installed(host)
    for action in writes(host_plan):
        before, after = action.change.before, action.change.after
        assert files.get(action.change.path) == (None if before is None else before.raw)
        files.pop(action.change.path, None)
        if after is not None:
            files[action.change.path] = after.raw
    return files


def leaves(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}.{key}")
        else:
            yield f"{path}.{key}", value


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """Dotted paths of values that differ between two dumps. An empty value is the same as none: 1.x spells out the
    defaults of a handler that is built in and not those of one that a file names (podsandbox is one of them)."""
    old, new = (
        {path: None if value in ("", "podsandbox") else value or None for path, value in leaves(table)}
        for table in (before, after)
    )
    return {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}


@pytest.mark.parametrize(("suite", "files"), CASES)
async def test_the_planned_files_do_what_was_said_and_nothing_else(
    login: Login, fresh_host: FreshHost, suite: str, files: Files
) -> None:
    host = fresh_host(suite, files=files)
    probe, again = await look(login, host), await look(login, host)
    # without a file the daemon runs on its defaults, but the `config dump` of 1.x wants one
    before = judge.dump(host, {MAIN: b""} | judge.installed(host))
    assert before is not None
    default: DefaultRuntime
    for default in ("leave", "nvidia"):
        plan, host_plan = planned(host, probe, wanted(default=default))
        assert host_plan.refusals == ()
        assert any(isinstance(action, Restart) for action in host_plan.actions)
        # a second look at the untouched host gives the very same plan
        assert planned(host, again, wanted(default=default))[0].hash == plan.hash
        judge_plan(host, before, staged(host, host_plan), default)

    # what was planned for `nvidia` is done for real: nothing is left to do
    for action in writes(host_plan):
        assert action.change.after is not None
        host.write(action.change.path, action.change.after.raw, action.change.mode)
    host.run("systemctl restart containerd")
    probe = await look(login, host)
    (runtime,) = probe.facts.runtimes
    assert (runtime.cri, runtime.default_handler) == ("ok", "nvidia")
    plan, host_plan = planned(host, probe, wanted(default="nvidia"))
    assert plan.empty
    assert host_plan.refusals == ()


def judge_plan(host: LabHost, before: dict[str, Any], files: dict[str, bytes], default: DefaultRuntime) -> None:
    """The host's containerd sees the handler, and the default when it was asked for, and no other difference."""
    after = judge.dump(host, files)
    assert after is not None
    changed = {path for path in differences(before, after) if path != ".imports"}
    others = {path for path in changed if ADDED not in path and not (path.endswith(DEFAULT) and default == "nvidia")}
    if host.containerd_minor == (1, 7):  # it knows CDI and leaves it off
        others -= {path for path in others if path.endswith(".enable_cdi")}
    if not host.exists(MAIN):  # runc's control groups are then the kubelet's
        others -= {path for path in others if path.endswith(".runc.options.SystemdCgroup")}
    assert others == set()
    default_handler, handlers = handlers_dumped(after)
    assert handlers["nvidia"][0] == "io.containerd.runc.v2"
    assert handlers["nvidia"][1] == {**handlers["runc"][1], "BinaryName": TOOLKIT}
    assert default_handler == ("nvidia" if default == "nvidia" else "runc")
    assert (default_handler, handlers) == handlers_predicted(effective(files, MAIN, host.containerd))
    assert judge.start(host, files).cri == "ok"


async def test_comments_survive_an_edit_in_place(login: Login, fresh_host: FreshHost) -> None:
    host = fresh_host("trixie", files={MAIN: KATA, "/etc/containerd/mirrors.toml": MIRRORS})
    _, host_plan = planned(host, await look(login, host), wanted())
    (write,) = writes(host_plan)
    assert host_plan.strategy == "in-place"
    assert write.change.after is not None
    rest = iter(write.change.after.raw.splitlines())
    assert all(line in rest for line in KATA.splitlines()), "every line is there, in its order"


async def test_a_2x_host_gets_a_drop_in(login: Login, sid: LabHost) -> None:
    _, host_plan = planned(sid, await look(login, sid), wanted())
    assert host_plan.strategy == "drop-in"
    paths = {action.change.path for action in writes(host_plan)}
    assert "/etc/containerd/conf.d/99-gpuwizard-nvidia.toml" in paths
    in_place = planned(sid, await look(login, sid), wanted("in-place"))[1]
    assert {action.change.path for action in writes(in_place)} == {MAIN}
    dumped = judge.dump(sid, staged(sid, in_place))
    assert dumped is not None
    assert "nvidia" in handlers_dumped(dumped)[1]


async def test_a_drop_in_on_1x_is_refused_with_the_reason(login: Login, trixie: LabHost) -> None:
    plan, host_plan = planned(trixie, await look(login, trixie), wanted("drop-in"))
    assert plan.empty
    assert [refusal.id for refusal in host_plan.refusals] == ["strategy"]
    assert "replaces" in host_plan.refusals[0].why


async def test_a_configuration_that_containerd_refuses_is_not_planned_over(login: Login, fresh_host: FreshHost) -> None:
    """The daemon still runs on what it read at its start; a restart would end it."""
    host = fresh_host("sid")
    host.write(MAIN, b"version = 3\n[plugins\n")
    _, host_plan = planned(host, await look(login, host), wanted())
    assert host_plan.actions == ()
    assert host_plan.refusals
    assert judge.dump(host, judge.installed(host)) is None


async def test_without_root_nothing_is_planned(login: Login, trixie: LabHost) -> None:
    probe = await probe_host(await login(trixie, user="guest"), sudo_password_known=False)
    plan, host_plan = planned(trixie, probe, wanted())
    assert plan.empty
    assert host_plan.refusals
