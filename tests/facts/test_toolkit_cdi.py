"""CDI specifications as the real probe filters them, in every shell, against what a parser of the whole text says."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwizard.facts.model import CdiSpec, HostFile, Probe
from gpuwizard.facts.parse import parse_probe
from gpuwizard.facts.toolkit.cdi import cdi_paths, read_specs
from gpuwizard.remote.script import render
from gpuwizard.secret import SecretBytes
from gpuwizard.work.probe import probe_script
from tests.cdi_specs import LIBRARIES, block_yaml, one_line_json, sorted_yaml, specification
from tests.probe_tree import SHELLS, Tree

UUID = "GPU-11111111-2222-3333-4444-555555555555"
MIG = "MIG-aaaaaaaa-1111-2222-3333-444444444444"
FORMS = {"new.yaml": block_yaml, "old.yaml": sorted_yaml, "one.json": one_line_json}


@pytest.fixture(params=SHELLS)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path / "host", request.param)


def probed(tree: Tree) -> Probe:
    return parse_probe(tree.run(probe_script()))


def specs(tree: Tree) -> dict[str, CdiSpec]:
    return {spec.path.rpartition("/")[2]: spec for spec in probed(tree).facts.toolkit.specs}


def test_every_form_tells_the_same(tree: Tree) -> None:
    spec = specification("0", UUID, MIG, "0:1", "all")
    for name, form in FORMS.items():
        assert yaml.safe_load(form(spec)) == spec
        tree.file(f"/var/run/cdi/{name}", form(spec))
    for path in ("/dev/nvidia0", "/dev/nvidiactl", "/usr/bin/nvidia-cdi-hook", f"{LIBRARIES}/libcuda.so.580.159.04"):
        tree.file(path, "")
    probe = probed(tree)
    found = {one.path.rpartition("/")[2]: one for one in probe.facts.toolkit.specs}
    assert set(found) == set(FORMS)
    assert not any("/cdi/" in path for path in probe.files)  # none had to be sent whole
    for one in found.values():
        assert (one.kind, one.cdi_version, one.error, one.understood) == ("nvidia.com/gpu", "0.5.0", None, True)
        assert one.devices == ("0", UUID, MIG, "0:1", "all")
        assert one.uuids == (UUID, MIG)
        assert one.driver_version == "580.159.04"
        assert set(one.missing) == {"/dev/nvidia-uvm", f"{LIBRARIES}/libnvidia-ml.so.580.159.04"}
    assert found["new.yaml"].mtime == int((tree.root / "var/run/cdi/new.yaml").stat().st_mtime)


def test_host_paths_below_a_driver_container(tree: Tree) -> None:
    spec = specification("all", kind="management.nvidia.com/gpu", root="/run/nvidia/driver", driver="595.91.07")
    for name, form in FORMS.items():
        tree.file(f"/var/run/cdi/{name}", form(spec))
    tree.file("/run/nvidia/driver/dev/nvidia0", "")
    for one in specs(tree).values():
        assert one.driver_version == "595.91.07"
        assert "/run/nvidia/driver/dev/nvidiactl" in one.missing
        assert "/dev/nvidiactl" not in one.missing  # the container's path
        assert "/run/nvidia/driver/dev/nvidia0" not in one.missing


def test_folders_are_looked_at_once_and_claims_not_at_all(tree: Tree) -> None:
    spec = block_yaml(specification("all"))
    tree.file("/run/cdi/nvidia.yaml", spec)
    tree.link("/var/run", "../run")
    tree.file("/run/cdi/k8s.gpu.nvidia.com-claim_0a1b.yaml", spec)
    tree.file("/run/cdi/notes.txt", spec)
    tree.file("/etc/cdi/old.yml", spec)  # no runtime reads it
    facts = probed(tree).facts.toolkit
    assert facts.cdi_specs == ("/var/run/cdi/nvidia.yaml",)
    assert [one.path for one in facts.specs] == ["/var/run/cdi/nvidia.yaml"]


BROKEN = {
    "empty.yaml": ("", "it is empty"),
    "comment.yaml": ("# nothing\n", "it has no cdiVersion"),
    "kind.yaml": ("cdiVersion: 0.5.0\nkind: gpu\ndevices:\n- name: x\n", "kind 'gpu' is not VENDOR/CLASS"),
    "none.yaml": ("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices: []\n", "it has no devices"),
    "tab.yaml": (
        "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n\t- name: x\n",
        "line 4: found character that cannot start any token",
    ),
    "quote.yaml": ('cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: "x\n', "line"),
    "indent.yaml": ("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: x\n   containerEdits:\n", "line 5"),
    "list.yaml": ("- a\n- b\n", "it is not a table of keys and values"),
    "text.json": ("not a specification", "it is not a table of keys and values"),
    "cut.json": (one_line_json(specification("0")).rpartition("]")[0], "it ends in the middle"),
    "string.json": ('{"cdiVersion": "0.5.0,\n "kind": "nvidia.com/gpu"}', "line 2: "),
    "more.json": (
        '{"cdiVersion":"0.5.0","kind":"nvidia.com/gpu","devices":[{"name":"x"}]}}',
        "line 1: ",
    ),
    "twice.json": (one_line_json(specification("0")).replace('"name":"0"', '"name":"all"', 1), None),
    "same.yaml": (block_yaml(specification("0", "1")).replace('name: "1"', 'name: "0"'), "it names the device 0 twice"),
    "binary.yaml": ("\x00\x01\ufffd\x1b[31m\n" * 9, "it is not text"),
}


def test_broken_specifications(tree: Tree) -> None:
    for name, (text, _) in BROKEN.items():
        tree.file(f"/etc/cdi/{name}", text)
    found = specs(tree)
    for name, (_, error) in BROKEN.items():
        if error is None:
            assert found[name].error is None
        else:
            assert error in (found[name].error or ""), (name, found[name])
        assert "\x1b" not in repr(found[name])


FLOW = """\
cdiVersion: "0.6.0"
kind: nvidia.com/gpu
devices: [{name: "0", containerEdits: {deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/other}]}}, {name: all,
  containerEdits: {}}]
containerEdits:
  mounts:
  - {hostPath: /usr/lib/x, containerPath: /usr/lib/x}
"""


def test_an_unusual_form_is_sent_whole(tree: Tree) -> None:
    tree.file("/etc/cdi/flow.yaml", FLOW)
    tree.file("/etc/cdi/long.yaml", FLOW + "# x\n" * 10000)
    probe = probed(tree)
    by_name = {spec.path.rpartition("/")[2]: spec for spec in probe.facts.toolkit.specs}
    flow = by_name["flow.yaml"]
    assert (flow.kind, flow.cdi_version, flow.devices, flow.error) == ("nvidia.com/gpu", "0.6.0", ("0", "all"), None)
    assert flow.understood
    assert not by_name["long.yaml"].understood
    assert any(u.what == "/etc/cdi/long.yaml" for u in probe.facts.unseen)


ODD_BUT_GOOD = {
    "bom.yaml": "\ufeffcdiVersion: 0.5.0\r\nkind: nvidia.com/gpu # ours\r\ndevices:\r\n- name: 0\r\n",
    "keys.yaml": '---\n"cdiVersion": \'0.5.0\'\n"kind": "nvidia.com/gpu"\ndevices:\n  -\n    name: "0"\n',
    "dashes.yaml": "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n-   name: 0\n    containerEdits: {}\n...\n",
    "yaml.json": "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: 0\n",
    "slash.json": one_line_json(specification("0")).replace("/", "\\/"),
    "pretty.json": '\n{\n "cdiVersion" : "0.5.0",\n "kind":\t"nvidia.com/gpu",\n "devices": [\n{"name": "0"}\n]\n}\n',
    "anchor.yaml": "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- &a\n  name: 0\n",
    "braces.yaml": '{cdiVersion: "0.5.0", kind: nvidia.com/gpu, devices: [{name: "0"}]} # all in one\n',
    "two.yaml": "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: 0\n---\n",
    "folded.yaml": "cdiVersion: 0.5.0\nkind: >-\n  nvidia.com/gpu\ndevices:\n- name: 0\n",
}


def test_good_specifications_of_other_hands(tree: Tree) -> None:
    for name, text in ODD_BUT_GOOD.items():
        tree.file(f"/etc/cdi/{name}", text)
    found = specs(tree)
    for name in ODD_BUT_GOOD:
        one = found[name]
        assert (one.cdi_version, one.kind, one.devices, one.error) == ("0.5.0", "nvidia.com/gpu", ("0",), None), one


def test_many_and_large_ones_are_named_as_unseen(tree: Tree) -> None:
    for number in range(18):
        tree.file(f"/etc/cdi/{number:02}.yaml", "cdiVersion: 0.5.0\n")
    tree.file("/etc/cdi/00.yaml", "#" * 1_000_001)
    unseen = {u.what: u.why for u in probed(tree).facts.unseen}
    assert unseen["/etc/cdi/00.yaml"] == "it is larger than a megabyte"
    assert unseen["/etc/cdi/17.yaml"] == "there are more than 16 CDI specifications"


def test_without_awk_it_says_so(tree: Tree) -> None:
    tree.bin.joinpath("awk").unlink()
    tree.file("/etc/cdi/nvidia.yaml", block_yaml(specification("0")))
    probe = probed(tree)
    assert probe.facts.toolkit.cdi_specs == ("/etc/cdi/nvidia.yaml",)
    assert probe.facts.toolkit.specs == ()
    assert any("awk" in u.why for u in probe.facts.unseen)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_what_another_user_cannot_see_is_not_missing(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "host")
    tree.login(1000, "ops")
    spec = specification("0")
    tree.file("/etc/cdi/a.yaml", block_yaml(spec))
    tree.file("/etc/cdi/b.yaml", block_yaml(spec), 0o600)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    tree.folder(LIBRARIES)
    (tree.root / LIBRARIES.lstrip("/")).chmod(0o700)
    done = subprocess.run(
        [str(shutil.which("setpriv")), "--reuid=65534", "--regid=65534", "--clear-groups", *tree.command()],
        input=render(probe_script(), "TOKEN123"),
        env=tree.environment(),
        capture_output=True,
        check=True,
    )
    facts = parse_probe(done.stdout).facts
    (one,) = facts.toolkit.specs
    assert one.path == "/etc/cdi/a.yaml"
    assert not any(path.startswith(LIBRARIES) for path in one.missing)
    assert "/dev/nvidia0" in one.missing
    assert any(u.what == "/etc/cdi/b.yaml" for u in facts.unseen)


def test_a_section_that_was_cut_is_not_trusted() -> None:
    text = (
        "s 1 9 /etc/cdi/a.yaml\ns 1 9 /etc/cdi/b.yaml\nf /etc/cdi/a.yaml\nv 0.5.0\nk a.b/c\nd 0\nf /etc/cdi/b.yaml\nv 0"
    )
    whole, cut = read_specs(text, {}, cut=True)
    assert (whole.error, whole.understood) == (None, True)
    assert (cut.error, cut.understood) == (None, False)


def test_two_driver_versions_are_none() -> None:
    (spec,) = read_specs("s 1 9 /x\nf /x\nl 580.1.2\nl 570.1.2\nv 0.5.0\nk a.b/c\nd 0\n", {})
    assert spec.driver_version is None


def test_a_missing_path_that_the_whole_text_does_not_name_does_not_count() -> None:
    text = "s 1 9 /etc/cdi/x\nf /etc/cdi/x\nm /usr/lib/x\nm /never\no 3\n"
    (spec,) = read_specs(text, {"/etc/cdi/x": HostFile("/etc/cdi/x", SecretBytes(FLOW.encode()))})
    assert spec.missing == ("/usr/lib/x",)


def test_paths() -> None:
    assert cdi_paths(["/etc/cdi/a.yaml", "/var/run/cdi/b.yaml", "/run/cdi/b.yaml"]) == (
        "/etc/cdi/a.yaml",
        "/var/run/cdi/b.yaml",
    )


@given(st.text(max_size=300), st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_any_text_is_no_exception(text: str, raw: bytes) -> None:
    told = f"s 1 9 /etc/cdi/x\nf /etc/cdi/x\no 1\n{text}"
    for spec in read_specs(told, {"/etc/cdi/x": HostFile("/etc/cdi/x", SecretBytes(raw))}):
        assert spec.error is None or "\n" not in spec.error
