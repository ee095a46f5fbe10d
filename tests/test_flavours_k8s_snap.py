"""Canonical Kubernetes: version 2 on every track, its own base folder, and the traps of the GPU Operator there."""

import tomllib
from dataclasses import replace
from typing import Any

import pytest

from gpuwizard.actions import Activation, HostPlanned
from gpuwizard.answers.model import Answers, Runtime
from gpuwizard.containerd import Effective, effective
from gpuwizard.facts.model import Probe
from gpuwizard.flavours import plan_host, strategies
from gpuwizard.flavours.containerd_files import table_at
from tests.invariants import assert_invariants, seen
from tests.plan_probes import applied
from tests.snap_hosts import BASE, snap_host, snap_root

CRI = ("plugins", "io.containerd.grpc.v1.cri")
TRACKS = {"1.32": "1.6.39", "1.33": "1.7.34", "1.34": "1.7.34", "1.35": "2.1.5", "1.36": "2.3.3"}


def after(probe: Probe, planned: HostPlanned) -> dict[str, bytes]:
    changes = {c.path: c.after.raw if c.after else None for c in planned.change.files}
    return {p: c.encode() if isinstance(c, str) else c for p, c in applied(probe, changes).items() if c is not None}


def state(probe: Probe, files: dict[str, bytes]) -> Effective:
    runtime = probe.facts.runtimes[0]
    return effective(files, runtime.config_path or "", runtime.version or "")


@pytest.mark.parametrize("base", ["", BASE])
@pytest.mark.parametrize("default", ["leave", "nvidia"])
@pytest.mark.parametrize("strategy", ["auto", "in-place", "drop-in"])
@pytest.mark.parametrize("track", TRACKS)
def test_every_track(track: str, strategy: Any, default: Any, base: str) -> None:
    containerd = TRACKS[track]
    probe = snap_host(containerd, base=base)
    answers = Answers(runtime=Runtime(strategy=strategy, default_runtime=default))
    planned = plan_host("s1", probe, answers)
    assert planned.refusals == ()
    assert planned.change.activation == Activation("snap.k8s.containerd.service", "snap-restart", "k8s.containerd")
    files = after(probe, planned)
    before = {p: f.content.raw for p, f in probe.files.items() if f.content is not None}
    assert_invariants(
        seen(state(probe, before)), seen(state(probe, files)), default=default, has_cdi=not containerd.startswith("1.6")
    )
    taken = {"auto": "in-place" if containerd < "2" else "drop-in"}.get(strategy, strategy)
    assert planned.strategy == taken
    drop_in = f"{base}/etc/containerd/conf.d/99-gpuwizard-nvidia.toml"
    assert [c.path for c in planned.change.files] == [
        drop_in if taken == "drop-in" else f"{base}/etc/containerd/config.toml"
    ]
    again = snap_host(containerd, files, base=base)
    assert plan_host("s1", again, answers).change.empty
    back = plan_host("s1", again, Answers(runtime=Runtime(strategy=strategy, default_runtime="former")))
    leave = plan_host("s1", probe, Answers(runtime=Runtime(strategy=strategy)))
    assert after(again, back) == after(probe, leave)


@pytest.mark.parametrize("track", ["1.32", "1.33", "1.34"])
def test_a_drop_in_for_containerd_1_holds_the_complete_table(track: str) -> None:
    planned = plan_host("s1", snap_host(TRACKS[track]), Answers(runtime=Runtime(strategy="drop-in")))
    (change,) = planned.change.files
    assert change.after is not None
    table = table_at(tomllib.loads(change.after.raw.decode()), CRI)
    root = table_at(tomllib.loads(snap_root()), CRI)
    assert table["sandbox_image"] == root["sandbox_image"]
    assert table["registry"] == root["registry"]
    assert table["cni"] == root["cni"]
    assert table["containerd"]["runtimes"]["runc"] == root["containerd"]["runtimes"]["runc"]
    assert table["containerd"]["runtimes"]["nvidia"]["options"]["SystemdCgroup"] is True
    assert "do nothing" in planned.reason


@pytest.mark.parametrize("track", ["1.35", "1.36"])
def test_a_drop_in_for_containerd_2_is_small_and_version_2(track: str) -> None:
    (change,) = plan_host("s1", snap_host(TRACKS[track]), Answers()).change.files
    assert change.after is not None
    assert tomllib.loads(change.after.raw.decode()) == {
        "version": 2,
        "plugins": {
            CRI[1]: {
                "containerd": {
                    "runtimes": {
                        "nvidia": {
                            "runtime_type": "io.containerd.runc.v2",
                            "options": {"BinaryName": "/usr/bin/nvidia-container-runtime", "SystemdCgroup": True},
                        }
                    }
                }
            }
        },
    }


def test_a_new_file_is_as_secret_as_the_root_file() -> None:
    probe = snap_host("2.1.5")
    main = "/etc/containerd/config.toml"
    for mode in (0o600, 0o640):
        secret = replace(probe, files={**probe.files, main: replace(probe.files[main], mode=mode)})
        assert [c.mode for c in plan_host("s1", secret, Answers()).change.files] == [mode]
    unknown = replace(probe, files={**probe.files, main: replace(probe.files[main], mode=None)})
    assert [c.mode for c in plan_host("s1", unknown, Answers()).change.files] == [0o600]


def test_both_strategies_are_offered_with_their_reasons() -> None:
    older = {o.value: o for o in strategies(snap_host("1.7.34"))}
    assert (older["in-place"].recommended, older["drop-in"].enabled) == (True, True)
    assert "later changes of config.toml do nothing" in older["drop-in"].reason
    newer = {o.value: o for o in strategies(snap_host("2.1.5"))}
    assert (newer["drop-in"].recommended, newer["in-place"].enabled) == (True, True)
    assert "version 2" in newer["drop-in"].reason
    assert not newer["k3s-native"].enabled
    assert "Canonical Kubernetes" in newer["k3s-native"].reason


def test_the_operators_folder_of_another_containerd_is_refused() -> None:
    """canonical/k8s-snap#1991: a partial file of /etc/containerd/conf.d takes a node with a base folder down."""
    main = f"{BASE}/etc/containerd/config.toml"
    root = snap_root(BASE, imports=', "/etc/containerd/conf.d/*.toml"')
    theirs = (
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]\n'
        'runtime_type = "io.containerd.runc.v2"\n'
    )
    probe = snap_host("1.7.34", {main: root, "/etc/containerd/conf.d/99-nvidia.toml": theirs}, base=BASE)
    (refusal,) = plan_host("s1", probe, Answers()).refusals
    assert refusal.id == "foreign-import"
    assert f"RUNTIME_DROP_IN_CONFIG={BASE}/etc/containerd/conf.d/99-nvidia.toml" in refusal.remedy
    asleep = snap_host("1.7.34", {main: root}, base=BASE)
    assert plan_host("s1", asleep, Answers()).refusals == ()


def test_the_root_file_is_found_by_the_base_folder() -> None:
    probe = snap_host("2.1.5", base=BASE, config_path=None)
    assert [c.path for c in plan_host("s1", probe, Answers()).change.files] == [
        f"{BASE}/etc/containerd/conf.d/99-gpuwizard-nvidia.toml"
    ]
    lost = replace(
        probe,
        facts=replace(probe.facts, kubernetes=replace(probe.facts.kubernetes, containerd_base_dir=None)),
    )
    assert [r.id for r in plan_host("s1", lost, Answers()).refusals] == ["unknown-base"]


def test_a_drop_in_of_version_3_beside_the_root_is_seen_for_what_it_does() -> None:
    """2.1.5 throws the root's settings away for it; 2.3.3 does not start."""
    theirs = (
        "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]\n"
        "runtime_type = 'io.containerd.runc.v2'\n"
    )
    probe = snap_host("2.3.3", {"/etc/containerd/conf.d/99-nvidia.toml": theirs})
    assert [r.id for r in plan_host("s1", probe, Answers()).refusals] == ["broken-now"]
