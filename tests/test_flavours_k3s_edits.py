"""K3s and RKE2 end to end: versions × template × toolkit × default runtime, and that the second run changes nothing."""

import posixpath
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwizard.actions import HostPlanned
from gpuwizard.answers.model import Answers, HostOverride, Runtime, Strategy
from gpuwizard.containerd.k3s_render import predict
from gpuwizard.facts.model import Probe, ToolkitFacts
from gpuwizard.flavours import plan_host, strategies
from gpuwizard.flavours.containerd import chosen_runtime
from gpuwizard.flavours.k3s_state import situation
from gpuwizard.plan.build import build_plan
from tests.plan_probes import RUNTIME_PATH, host_files, k3s_host
from tests.rancher_files import FOLDER, RELEASES, V2_TEMPLATE, V3_TEMPLATE, rendered

ELSEWHERE = ToolkitFacts("1.18.0", "/opt/x/nvidia-container-runtime")
BASE = '{{ template "base" . }}\n'
KATA = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata]\n  runtime_type = \"io.containerd.kata.v2\"\n"
BLOCK = """[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia.options]
    BinaryName = "/usr/bin/nvidia-container-runtime"
    SystemdCgroup = {{ .SystemdCgroup }}
"""
HYBRID = """
[plugins.cri.containerd.runtimes.nvidia]
  privileged_without_host_devices = false
  runtime_engine = ""
  runtime_root = ""
  runtime_type = "io.containerd.runc.v2"
  [plugins.cri.containerd.runtimes.nvidia.options]
    BinaryName = "/usr/bin/nvidia-container-runtime"
"""
"""What the old guide appends to a copy of the rendered file."""
OPTION = "/etc/rancher/k3s/config.yaml.d/50-gpuwizard.yaml"
V3_DROP_IN = f"{FOLDER}/config-v3.toml.d/99-gpuwizard-nvidia.toml"


def node(version: str, files: Mapping[str, str] | None = None, text: str | None = None, **more: Any) -> Probe:
    """A K3s node of that release, rendered without the toolkit unless `text` says otherwise."""
    text = rendered(version) if text is None else text
    return k3s_host(text, version=version, containerd=RELEASES[version], files=files, **more)


def rke2(probe: Probe, unit: str = "rke2-server.service") -> Probe:
    """The same node as RKE2 keeps it."""

    def moved(text: str) -> str:
        return text.replace("/rancher/k3s", "/rancher/rke2")

    kubernetes = replace(probe.facts.kubernetes, flavour="rke2", service=unit, data_dir="/var/lib/rancher/rke2")
    runtimes = tuple(replace(r, config_path=moved(r.config_path or ""), unit=unit) for r in probe.facts.runtimes)
    files = host_files(
        {moved(p): moved(f.content.text()) if f.content is not None else None for p, f in probe.files.items()}
    )
    return replace(probe, facts=replace(probe.facts, kubernetes=kubernetes, runtimes=runtimes), files=files)


def answers(default: str = "leave", *, convert: bool = False, strategy: Strategy = "auto") -> Answers:
    return Answers(runtime=Runtime(default_runtime=default, convert=convert, strategy=strategy))  # type: ignore[arg-type]


def contents(planned: HostPlanned) -> dict[str, str | None]:
    return {f.path: f.after.text() if f.after is not None else None for f in planned.change.files}


def effects(planned: HostPlanned) -> dict[str, str | None]:
    return {c.key: c.after for c in planned.change.effective}


def after_restart(probe: Probe, planned: HostPlanned, *, renews: bool = False) -> Probe:
    """The host once the plan was carried out and K3s has started again."""
    runtime = chosen_runtime(probe.facts)
    assert runtime is not None
    start = situation(probe, runtime)
    changes = {f.path: f.after.raw if f.after is not None else None for f in planned.change.files}
    coming = start.next_start(changes, fresh=renews)
    files: dict[str, str | bytes | None] = dict.fromkeys(probe.files)
    files |= coming.files
    files[start.rendered] = predict(coming).text
    return replace(probe, files=host_files(files))


# No template, or one that includes the base: K3s finds the toolkit by itself

NATIVE = [v for v in RELEASES if v not in ("v1.17.17+k3s1", "v1.22.17+k3s1", "v1.25.16+k3s4", "v1.26.3+k3s1")]


@pytest.mark.parametrize("version", NATIVE)
@pytest.mark.parametrize("template", [None, BASE, BASE + "# mine\n"])
@pytest.mark.parametrize("default", ["leave", "nvidia"])
@pytest.mark.parametrize("make", [lambda p: p, rke2])
def test_native(version: str, template: str | None, default: str, make: Any) -> None:
    name = V3_TEMPLATE if RELEASES[version].startswith("2") else V2_TEMPLATE
    probe = make(node(version, {name: template} if template else {}))
    planned = plan_host("k1", probe, answers(default))
    assert (planned.strategy, planned.refusals) == ("k3s-native", ())
    change = planned.change
    assert change.activation is not None
    assert change.activation.unit == probe.facts.kubernetes.service
    program = probe.facts.kubernetes.flavour
    option = f"/etc/rancher/{program}/config.yaml.d/50-gpuwizard.yaml"
    assert list(contents(planned)) == ([option] if default == "nvidia" else [])
    wanted = {"handler nvidia": "io.containerd.runc.v2", "handler nvidia.BinaryName": RUNTIME_PATH}
    wanted |= {"handler nvidia.SystemdCgroup": "true"} | ({"default handler": "nvidia"} if default == "nvidia" else {})
    assert effects(planned) == wanted
    assert change.check is not None
    assert change.check.rendered == f"/var/lib/rancher/{program}/agent/etc/containerd/config.toml"
    assert change.check.default_handler == ("nvidia" if default == "nvidia" else "runc")
    assert change.prediction is not None
    assert ("RKE2" if program == "rke2" else "K3s") in change.prediction
    again = plan_host("k1", after_restart(probe, planned), answers(default))
    assert (again.change.empty, again.refusals) == (True, ())


@pytest.mark.parametrize("version", NATIVE)
def test_former_takes_our_option_back(version: str) -> None:
    probe = node(version)
    wanted = plan_host("k1", probe, answers("nvidia"))
    default = after_restart(probe, wanted)
    assert plan_host("k1", default, answers("leave")).change.empty, "leave is no change"
    back = plan_host("k1", default, answers("former"))
    assert (back.refusals, contents(back)) == ((), {OPTION: None})
    assert effects(back) == {"default handler": "runc"}
    assert plan_host("k1", after_restart(default, back), answers("former")).change.empty


def test_former_gives_the_users_own_default_back() -> None:
    own = {"/etc/rancher/k3s/config.yaml": "default-runtime: crun\n", OPTION: "tls-san: [a]\ndefault-runtime: nvidia\n"}
    table = "[plugins.'io.containerd.cri.v1.runtime'.containerd"
    crun = f"{table}.runtimes.'crun']\n  runtime_type = 'io.containerd.runc.v2'\n"
    default = f"{table}]\n  default_runtime_name = 'nvidia'\n"
    probe = node("v1.33.5+k3s1", own, rendered("v1.33.5+k3s1", nvidia=True) + crun + default)
    back = plan_host("k1", probe, answers("former"))
    assert (back.refusals, contents(back)) == ((), {OPTION: "tls-san: [a]\n"})
    assert effects(back)["default handler"] == "crun"


def test_a_restart_is_taken_back_by_the_file_that_was_rendered() -> None:
    probe = node("v1.33.5+k3s1")
    planned = plan_host("k1", probe, Answers())
    (undo,) = planned.change.undo
    assert (undo.path, undo.before, undo.mode) == (V3_TEMPLATE, None, 0o600)
    assert undo.after is not None
    reverted = node("v1.33.5+k3s1", {V3_TEMPLATE: undo.after.text()}, undo.after.text())
    again = plan_host("k1", reverted, Answers())
    assert (again.refusals, contents(again)) == ((), {V3_TEMPLATE: None})
    assert effects(again)["handler nvidia"] == "io.containerd.runc.v2"
    assert plan_host("k1", after_restart(reverted, again), Answers()).change.empty


# Templates


def test_the_nvidia_block_goes_and_the_rest_stays() -> None:
    template = f"{{{{- /* ours */ -}}}}\n{BASE}\n{BLOCK}\n# kata\n{KATA}"
    text = rendered("v1.33.5+k3s1") + KATA
    probe = node("v1.33.5+k3s1", {V3_TEMPLATE: template}, text)
    planned = plan_host("k1", probe, Answers())
    assert (planned.strategy, planned.refusals) == ("k3s-template", ())
    assert contents(planned) == {V3_TEMPLATE: template.replace(f"\n{BLOCK}", "")}
    assert {"handler nvidia", "handler kata"} & set(effects(planned)) == {"handler nvidia"}
    again = plan_host("k1", after_restart(probe, planned), Answers())
    assert (again.change.empty, again.refusals) == (True, ())


def test_a_block_that_waits_to_be_fatal_is_found_while_all_is_well() -> None:
    """The handler is there by the template alone; the next start would find the toolkit as well."""
    block = BLOCK.replace("{{ .SystemdCgroup }}", "true")
    probe = node("v1.33.5+k3s1", {V3_TEMPLATE: BASE + block}, rendered("v1.33.5+k3s1") + block)
    planned = plan_host("k1", probe, Answers())
    assert contents(planned) == {V3_TEMPLATE: BASE}
    assert effects(planned) == {}


STALE = [
    # version, template, its text, what takes its place
    ("v1.33.5+k3s1", V3_TEMPLATE, rendered("v1.33.5+k3s1"), {V3_TEMPLATE: None}),
    ("v1.33.5+k3s1", V3_TEMPLATE, rendered("v1.33.5+k3s1") + KATA, {V3_TEMPLATE: BASE + KATA}),
    ("v1.33.5+k3s1", V2_TEMPLATE, rendered("v1.28.5+k3s1") + HYBRID, {V2_TEMPLATE: None}),
    ("v1.33.5+k3s1", V2_TEMPLATE, rendered("v1.17.17+k3s1") + HYBRID, {V2_TEMPLATE: None}),
    ("v1.33.5+k3s1", V2_TEMPLATE, rendered("v1.33.5+k3s1"), {V2_TEMPLATE: None}),
    ("v1.33.5+k3s1", V2_TEMPLATE, rendered("v1.33.5+k3s1") + KATA, {V3_TEMPLATE: BASE + KATA, V2_TEMPLATE: None}),
    ("v1.28.5+k3s1", V2_TEMPLATE, rendered("v1.28.5+k3s1"), {V2_TEMPLATE: None}),
    ("v1.28.5+k3s1", V2_TEMPLATE, rendered("v1.17.17+k3s1") + HYBRID, {V2_TEMPLATE: None}),
    ("v1.34.6+k3s1", V3_TEMPLATE, rendered("v1.31.6+k3s1"), {V3_TEMPLATE: None}),
]


@pytest.mark.parametrize(("version", "path", "text", "new"), STALE)
def test_a_stale_copy_is_replaced_with_consent_only(
    version: str, path: str, text: str, new: dict[str, str | None]
) -> None:
    probe = node(version, {path: text}, text)
    left = plan_host("k1", probe, Answers())
    assert left.change.empty
    if left.refusals:  # else the copy does what is asked for, as long as it lasts
        assert (left.refusals[0].id, path in left.refusals[0].why) == ("k3s-stale-template", True)
    assert "runtime.convert = true" in (left.refusals[0].remedy if left.refusals else left.reason)
    planned = plan_host("k1", probe, answers(convert=True))
    assert (planned.strategy, planned.refusals) == ("k3s-template", ())
    assert contents(planned) == new
    assert effects(planned).get("handler nvidia", "io.containerd.runc.v2") == "io.containerd.runc.v2"
    assert planned.change.check is not None
    assert {"nvidia", "runc"} <= set(planned.change.check.handlers) <= {"nvidia", "runc", "kata"}
    again = plan_host("k1", after_restart(probe, planned, renews=True), answers(convert=True))
    assert (again.change.empty, again.refusals) == (True, ())


def test_a_template_that_the_operator_wrote() -> None:
    """nvidia and nvidia-cdi are K3s' to find; a handler that it does not know stays."""
    cri = 'plugins."io.containerd.grpc.v1.cri".containerd.runtimes'
    text = rendered("v1.28.5+k3s1") + "".join(
        f'[{cri}.{name}]\n  runtime_type = "io.containerd.runc.v2"\n[{cri}.{name}.options]\n'
        f'  BinaryName = "/usr/local/nvidia/toolkit/nvidia-container-runtime{suffix}"\n  SystemdCgroup = true\n'
        for name, suffix in (("nvidia", ""), ("nvidia-cdi", ".cdi"), ("nvidia-legacy", ".legacy"))
    )
    probe = node("v1.28.5+k3s1", {V2_TEMPLATE: text}, text)
    planned = plan_host("k1", probe, answers(convert=True))
    assert planned.refusals == ()
    new = contents(planned)[V2_TEMPLATE] or ""
    assert new.startswith(BASE)
    assert "nvidia-legacy" in new
    assert "nvidia-cdi" not in new
    assert effects(planned)["handler nvidia.BinaryName"] == RUNTIME_PATH


def test_keys_in_tables_of_the_base_go_into_a_drop_in() -> None:
    mine = "max_concurrent_downloads = 7\n"
    head, table, tail = rendered("v1.34.6+k3s1").partition("[plugins.'io.containerd.cri.v1.images']\n")
    text = head + table + mine + tail + KATA
    probe = node("v1.34.6+k3s1", {V3_TEMPLATE: text}, text)
    planned = plan_host("k1", probe, answers(convert=True))
    assert planned.refusals == ()
    kept = f"{FOLDER}/config-v3.toml.d/90-gpuwizard-kept.toml"
    assert list(contents(planned)) == [kept, V3_TEMPLATE]
    assert contents(planned)[V3_TEMPLATE] is None
    assert mine in (contents(planned)[kept] or "")
    assert "kata" in (contents(planned)[kept] or "")
    assert set(effects(planned)) == {"handler nvidia", "handler nvidia.BinaryName", "handler nvidia.SystemdCgroup"}
    again = plan_host("k1", after_restart(probe, planned, renews=True), answers(convert=True))
    assert (again.change.empty, again.refusals) == (True, ())


def test_consent_for_one_host() -> None:
    text = rendered("v1.33.5+k3s1")
    probe = node("v1.33.5+k3s1", {V3_TEMPLATE: text}, text)
    asked = Answers(host={"k1": HostOverride(convert=True)})
    assert plan_host("k1", probe, asked).refusals == ()
    assert plan_host("k2", probe, asked).refusals[0].id == "k3s-stale-template"


def test_a_stale_copy_that_works_is_left_alone_and_named() -> None:
    text = rendered("v1.33.5+k3s1", nvidia=True)
    planned = plan_host("k1", node("v1.33.5+k3s1", {V3_TEMPLATE: text}, text), Answers())
    assert (planned.change.empty, planned.refusals) == (True, ())
    assert "runtime.convert = true" in planned.reason


def test_the_default_of_a_stale_copy_is_kept_by_the_option() -> None:
    default = "[plugins.'io.containerd.cri.v1.runtime'.containerd]\n  default_runtime_name = \"nvidia\"\n"
    text = rendered("v1.33.5+k3s1", nvidia=True) + default
    planned = plan_host("k1", node("v1.33.5+k3s1", {V3_TEMPLATE: text}, text), answers(convert=True))
    assert planned.refusals == ()
    assert contents(planned)[V3_TEMPLATE] is None
    assert (contents(planned)[OPTION] or "").endswith("default-runtime: nvidia\n")
    assert "default handler" not in effects(planned)


def test_what_a_stale_copy_froze_is_announced() -> None:
    text = rendered("v1.17.17+k3s1")
    planned = plan_host("k1", node("v1.28.5+k3s1", {V2_TEMPLATE: text}, text), answers(convert=True))
    found = effects(planned)
    assert found["sandbox image"] == "rancher/mirrored-pause:3.6"
    assert found["cgroup driver"] == "systemd"
    assert found["CNI bin_dir"] == "/var/lib/rancher/k3s/data/current/bin"


def test_a_snapshotter_of_ones_own_survives_the_conversion() -> None:
    text = rendered("v1.33.5+k3s1").replace('"overlayfs"', '"zfs"')
    planned = plan_host("k1", node("v1.33.5+k3s1", {V3_TEMPLATE: text}, text), answers(convert=True))
    assert planned.refusals == ()
    assert "snapshotter" not in effects(planned)


CRI_TABLE = '[plugins."io.containerd.grpc.v1.cri"'
REFUSED = [
    ("k3s-would-not-start", "v1.33.5+k3s1", V3_TEMPLATE, BASE + "{{ .SELinuxEnabled }}\n"),
    ("k3s-would-not-start", "v1.33.5+k3s1", V3_TEMPLATE, BASE + "{{ if }}\n"),
    ("k3s-would-not-start", "v1.33.5+k3s1", V3_TEMPLATE, "version = 3\n" + KATA),
    ("not-predictable", "v1.33.5+k3s1", V3_TEMPLATE, BASE + "{{ .NodeConfig.AgentConfig.NodeIP }}\n"),
    (
        "would-not-start",
        "v1.28.5+k3s1",
        V2_TEMPLATE,
        BASE + '[plugins."io.containerd.grpc.v1.cri".containerd]\n  x = 1\n',
    ),
    (
        "would-not-start",
        "v1.28.5+k3s1",
        V2_TEMPLATE,
        BASE + '[plugins."io.containerd.grpc.v1.cri"]\n  enable_cdi = true\n',
    ),
    ("would-not-start", "v1.33.5+k3s1", V3_TEMPLATE, BASE + "[plugins.'io.containerd.cri.v1.runtime']\n  x = 1\n"),
]


@pytest.mark.parametrize(("reason", "version", "path", "template"), REFUSED)
def test_templates_that_refuse_the_plan(reason: str, version: str, path: str, template: str) -> None:
    probe = node(version, {path: template})
    planned = plan_host("k1", probe, Answers())
    assert [r.id for r in planned.refusals] == [reason]
    assert planned.change.empty
    assert build_plan({"k1": probe}, Answers(), None).empty


def test_a_v3_template_is_ignored_by_an_older_release() -> None:
    probe = node("v1.28.5+k3s1", {V3_TEMPLATE: "{{ .Nonsense }}"})
    assert plan_host("k1", probe, Answers()).strategy == "k3s-native"
    both = node("v1.33.5+k3s1", {V3_TEMPLATE: BASE, V2_TEMPLATE: "{{ .Nonsense }}"})
    assert plan_host("k1", both, Answers()).strategy == "k3s-native"


def test_a_handler_that_stands_in_the_rendered_file_alone_is_not_restarted_away() -> None:
    text = rendered("v1.33.5+k3s1") + KATA
    (refusal,) = plan_host("k1", node("v1.33.5+k3s1", text=text), Answers()).refusals
    assert refusal.id == "handler-vanishes"
    assert f"handler kata stands in {FOLDER}/config.toml and in no template" in refusal.why
    assert "any restart takes it away" in refusal.why
    assert "a template or a drop-in" in refusal.remedy
    planned = plan_host("k1", node("v1.33.5+k3s1", {V3_TEMPLATE: BASE + KATA}, text), Answers())
    assert (planned.refusals, planned.strategy) == ((), "k3s-native")
    taken = Answers(runtime=Runtime(take_latent=True))
    assert plan_host("k1", node("v1.33.5+k3s1", text=text), taken).refusals == (refusal,)


# The default runtime and what K3s detects


def test_a_default_that_is_not_detected_would_brick_the_node() -> None:
    for name in ("kata", "runc"):
        probe = node("v1.33.5+k3s1", {"/etc/rancher/k3s/config.yaml": f"default-runtime: {name}\n"})
        (refusal,) = plan_host("k1", probe, Answers()).refusals
        assert refusal.id == "k3s-would-not-start"
        assert f"default runtime {name} was not found" in refusal.why


def test_releases_whose_detected_runtimes_have_no_cgroup_driver() -> None:
    for version in ("v1.22.17+k3s1", "v1.25.16+k3s4", "v1.26.3+k3s1"):
        (refusal,) = plan_host("k1", node(version), Answers()).refusals
        assert (refusal.id, "v1.26.10" in refusal.remedy) == ("k3s-cgroup", True)
        there = node(version, text=rendered(version, nvidia=True))
        assert plan_host("k1", there, Answers()).change.empty


# A runtime that lies where K3s does not look

OUTSIDE = [
    ("v1.34.6+k3s1", "drop-in", V3_DROP_IN, "nvidia"),
    ("v1.36.2+k3s1", "drop-in", V3_DROP_IN, "nvidia"),
    ("v1.33.5+k3s1", "k3s-template", V3_TEMPLATE, "nvidia"),
    ("v1.31.6+k3s1", "k3s-template", V3_TEMPLATE, "nvidia"),
    ("v1.28.5+k3s1", "k3s-template", V2_TEMPLATE, "leave"),
]


@pytest.mark.parametrize(("version", "strategy", "path", "default"), OUTSIDE)
def test_a_runtime_outside_of_the_path(version: str, strategy: str, path: str, default: str) -> None:
    probe = node(version, toolkit=ELSEWHERE)
    planned = plan_host("k1", probe, answers(default))
    assert (planned.strategy, planned.refusals, list(contents(planned))) == (strategy, (), [path])
    found = effects(planned)
    assert found["handler nvidia.BinaryName"] == ELSEWHERE.runtime_path
    assert found["handler nvidia.SystemdCgroup"] == "true"
    assert found.get("default handler") == ("nvidia" if default == "nvidia" else None)
    set_up = after_restart(probe, planned)
    again = plan_host("k1", set_up, answers(default))
    assert (again.change.empty, again.refusals) == (True, ())
    if default == "nvidia":
        back = plan_host("k1", set_up, answers("former"))
        assert (back.refusals, effects(back)) == ((), {"default handler": "runc"})
        assert plan_host("k1", after_restart(set_up, back), answers("former")).change.empty


def test_no_file_could_name_it() -> None:
    old = node("v1.22.17+k3s1", toolkit=ELSEWHERE)
    (refusal,) = plan_host("k1", old, Answers()).refusals
    assert (refusal.id, "symbolic link" in refusal.remedy) == ("k3s-path", True)
    v2 = node("v1.28.5+k3s1", toolkit=ELSEWHERE)
    assert plan_host("k1", v2, answers("nvidia")).refusals[0].id == "k3s-default-runtime"
    later = k3s_host(rendered("v1.28.5+k3s1"), version="v1.30.8+k3s1", containerd="1.7.23-k3s2", toolkit=ELSEWHERE)
    assert "/etc/default/k3s-agent" in plan_host("k1", later, answers("nvidia")).refusals[0].remedy


def test_the_operators_folder_comes_first() -> None:
    operator = "/usr/local/nvidia/toolkit/nvidia-container-runtime"
    probe = node("v1.33.5+k3s1", toolkit=ToolkitFacts("1.18.0", operator))
    assert effects(plan_host("k1", probe, Answers()))["handler nvidia.BinaryName"] == operator


def test_cdi_runtime_is_predicted_where_it_is_looked_for() -> None:
    both = ToolkitFacts("1.18.0", RUNTIME_PATH, binaries={"nvidia-container-runtime.cdi": f"{RUNTIME_PATH}.cdi"})
    new = plan_host("k1", node("v1.33.5+k3s1", toolkit=both), Answers())
    assert effects(new)["handler nvidia-cdi.BinaryName"] == f"{RUNTIME_PATH}.cdi"
    old = plan_host("k1", node("v1.28.5+k3s1", toolkit=both), Answers())
    assert "handler nvidia-cdi" not in effects(old)


# K3s before v1.22.2


def test_the_oldest_releases_get_a_whole_template() -> None:
    probe = node("v1.17.17+k3s1")
    for default in ("leave", "nvidia"):
        planned = plan_host("k1", probe, answers(default))
        assert (planned.strategy, planned.refusals) == ("k3s-template", ())
        assert "upgrade" in planned.reason
        text = contents(planned)[V2_TEMPLATE] or ""
        assert 'sandbox_image = "{{ .NodeConfig.AgentConfig.PauseImage }}"' in text
        assert "hunter2" not in text, "credentials stay in registries.yaml"
        wanted = {"handler nvidia": "io.containerd.runc.v2", "handler nvidia.BinaryName": RUNTIME_PATH}
        assert effects(planned) == wanted | ({"default handler": "nvidia"} if default == "nvidia" else {})
        set_up = after_restart(probe, planned)
        assert plan_host("k1", set_up, answers(default)).change.empty
    back = plan_host("k1", set_up, answers("former"))
    assert effects(back) == {"default handler": "runc"}


# Strategies


@pytest.mark.parametrize(
    ("probe", "enabled", "recommended"),
    [
        (node("v1.33.5+k3s1"), {"k3s-native"}, "k3s-native"),
        (rke2(node("v1.34.6+k3s1")), {"k3s-native"}, "k3s-native"),
        (node("v1.34.6+k3s1", toolkit=ELSEWHERE), {"k3s-template", "drop-in"}, "drop-in"),
        (node("v1.28.5+k3s1", toolkit=ELSEWHERE), {"k3s-template"}, "k3s-template"),
        (node("v1.22.17+k3s1", toolkit=ELSEWHERE), {"k3s-native"}, "k3s-native"),
        (node("v1.33.5+k3s1", {V3_TEMPLATE: BASE + BLOCK}), {"k3s-template"}, "k3s-template"),
        (node("v1.33.5+k3s1", {V3_TEMPLATE: rendered("v1.33.5+k3s1")}), {"k3s-template"}, "k3s-template"),
        (node("v1.17.17+k3s1"), {"k3s-template"}, "k3s-template"),
    ],
)
def test_strategies_and_their_reasons(probe: Probe, enabled: set[str], recommended: str) -> None:
    offered = {o.value: o for o in strategies(probe) if o.value != "none"}
    assert {o.value for o in offered.values() if o.enabled} == enabled
    assert [o.value for o in offered.values() if o.recommended] == [recommended]
    assert all(o.reason for o in offered.values())
    assert "anew at every start" in offered["in-place"].reason


def test_an_edit_of_the_rendered_file_is_refused_with_the_right_place() -> None:
    for version, place in (("v1.34.6+k3s1", "config-v3.toml.d/"), ("v1.33.5+k3s1", "config-v3.toml.tmpl"),
                           ("v1.28.5+k3s1", "config.toml.tmpl")):  # fmt: skip
        (refusal,) = plan_host("k1", node(version), answers(strategy="in-place")).refusals
        assert (refusal.id, place in refusal.why) == ("strategy", True)


def test_another_containerd_than_its_own_is_not_k3s() -> None:
    """--container-runtime-endpoint: the host's containerd is configured as anywhere."""
    probe = node("v1.33.5+k3s1")
    main = "/etc/containerd/config.toml"
    runtimes = (replace(probe.facts.runtimes[0], config_path=main, unit="containerd.service", version="2.1.4"),)
    other = replace(probe, facts=replace(probe.facts, runtimes=runtimes), files=host_files({main: "version = 3\n"}))
    planned = plan_host("k1", other, Answers())
    assert planned.strategy == "drop-in"
    assert posixpath.dirname(next(iter(contents(planned)))) == "/etc/containerd/conf.d"


def test_secrets_stay_out_of_words() -> None:
    for version in ("v1.28.5+k3s1", "v1.17.17+k3s1"):
        planned = plan_host("k1", node(version), Answers())
        assert "hunter2" not in repr(planned.refusals) + planned.reason + (planned.change.prediction or "")
        assert "hunter2" not in str(effects(planned))


_ODD = """version = 2
imports = [1]
plugins = 3
{{ if .SystemdCgroup }}
{{ end }}
{{ range .ExtraRuntimes }}
x = 2020-01-01
[[plugins]]
runtimes = {}
default_runtime_name = 'nvidia'
snapshotter = {a = 1}
"""
_LINES = st.sampled_from((rendered("v1.33.5+k3s1") + BLOCK + BASE + KATA + HYBRID + _ODD).splitlines())
_TEXT = st.one_of(
    st.just(rendered("v1.33.5+k3s1")),
    st.lists(_LINES, max_size=25).map("\n".join),
    st.text(st.characters(codec="utf-8"), max_size=40),
)


@given(
    st.sampled_from(sorted(RELEASES)),
    _TEXT,
    st.dictionaries(st.sampled_from([V2_TEMPLATE, V3_TEMPLATE, OPTION, V3_DROP_IN]), _TEXT, max_size=2),
    st.sampled_from(["leave", "nvidia", "former"]),
    st.booleans(),
)
def test_any_files_give_a_plan_that_works_or_a_refusal(
    version: str, text: str, files: dict[str, str], default: str, convert: bool
) -> None:
    probe = node(version, files, text)
    offered = strategies(probe)
    assert sum(o.recommended for o in offered) == 1
    planned = plan_host("k1", probe, answers(default, convert=convert))
    assert all(r.id and r.why for r in planned.refusals)
    if not planned.change.empty:
        assert not planned.refusals
        assert planned.change.check is not None
        assert "nvidia" in planned.change.check.handlers
