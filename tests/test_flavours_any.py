"""Plans over generated configurations: whatever stands in the files, a plan is refused with a remedy or keeps the six
invariants, a second run changes nothing, and the default comes back to the byte."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuwizard.actions import HostPlanned
from gpuwizard.answers.model import Answers, Runtime
from gpuwizard.containerd import effective
from gpuwizard.facts.model import Probe
from gpuwizard.flavours import plan_host
from tests.containerd_configs import configurations
from tests.invariants import assert_invariants, seen
from tests.plan_probes import MAIN, applied, containerd_host
from tests.snap_hosts import snap_host

RELEASES = ["1.6.20", "1.6.36", "1.7.13", "1.7.24", "2.0.5", "2.1.9", "2.2.1", "2.3.4"]
HOSTS = st.sampled_from(RELEASES).flatmap(
    lambda version: st.tuples(st.just(version), configurations(int(version.partition(".")[0])))
)
BROKEN = {"broken-now", "cri-disabled", "unversioned-root", "not-editable"}
KNOWN = BROKEN | {
    "no-effect",
    "removed-shim",
    "deprecated-default",
    "former-unknown",
    "snapshotter-changes",
    "sandbox-image-changes",
    "registry-changes",
    "cni-changes",
    "cdi-changes",
    "handler-changes",
    "handler-vanishes",
    "cgroup-driver-changes",
    "default-changes",
    "would-lose",
    "cri-would-fail",
    "default-undefined",
    "would-not-start",
}


def test_an_import_that_matches_the_directory_of_a_first_drop_in_says_how_else() -> None:
    probe = containerd_host("2.0.5", {MAIN: 'version = 2\nimports = ["/etc/containerd/*"]\n'})
    refused = plan_host("n1", probe, Answers()).refusals
    assert [r.id for r in refused] == ["would-not-start"]
    assert "runtime.strategy in-place" in refused[0].remedy
    inside = plan_host("n1", probe, Answers(runtime=Runtime(strategy="in-place")))
    assert (inside.refusals, inside.change.empty) == ((), False)


def after(probe: Probe, planned: HostPlanned) -> dict[str, bytes]:
    changes = {c.path: c.after.raw if c.after else None for c in planned.change.files}
    return {p: c.encode() if isinstance(c, str) else c for p, c in applied(probe, changes).items() if c is not None}


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=300)
@given(
    host=HOSTS,
    default=st.sampled_from(["leave", "nvidia"]),
    strategy=st.sampled_from(["auto", "in-place"]),
    convert=st.booleans(),
    snap=st.booleans(),
)
def test_refused_or_right(
    host: tuple[str, dict[str, bytes]],
    default: Any,
    strategy: Any,
    convert: bool,
    snap: bool,
) -> None:
    version, raw = host
    files: dict[str, Any] = {path: content.decode() for path, content in raw.items()}
    make: Any = snap_host if snap else containerd_host
    probe = make(version, files)
    answers = Answers(runtime=Runtime(default_runtime=default, strategy=strategy, convert=convert))
    planned = plan_host("n1", probe, answers)
    before = effective({p: t.encode() for p, t in files.items()}, MAIN, version)
    if planned.refusals:
        assert {r.id for r in planned.refusals} <= KNOWN
        assert all(r.why and r.remedy for r in planned.refusals)
        assert planned.change.empty
        return
    new = after(probe, planned)
    state = effective(new, MAIN, version)
    assert state.usable
    assert {name for name in before.runtimes if name != "nvidia"} <= set(state.runtimes)
    if before.usable and not convert:
        assert_invariants(seen(before), seen(state), default=default, has_cdi=version > "1.7")
    again = plan_host("n1", make(version, new), answers)
    assert (again.change.empty, again.refusals) == (True, ())
    if default == "leave" and state.default_runtime_name != "nvidia":
        on = Answers(runtime=Runtime(default_runtime="nvidia", strategy=strategy))
        there = plan_host("n1", make(version, new), on)
        if not there.refusals:
            during = after(make(version, new), there)
            off = Answers(runtime=Runtime(default_runtime="former", strategy=strategy))
            back = plan_host("n1", make(version, during), off)
            assert back.refusals == ()
            assert after(make(version, during), back) == new
