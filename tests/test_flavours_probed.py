"""From the real probe of a host in a folder to the plan of its runtime: nothing that a plan needs is left unread."""

import json
from pathlib import Path

import pytest

from gpuwizard.actions import HostPlanned
from gpuwizard.answers.model import Answers, Runtime
from gpuwizard.facts.model import Probe
from gpuwizard.facts.parse import parse_probe
from gpuwizard.flavours import plan_host
from gpuwizard.flavours.docker import FORMER
from gpuwizard.flavours.microk8s_template import RENDERED, TEMPLATE
from gpuwizard.work.probe import probe_script
from tests.probe_tree import Tree
from tests.test_flavours_k0s import CRI, CRI_FILE, MAIN, OLD_ROOT
from tests.test_flavours_microk8s import TEXT, filled

NVIDIA = Answers(runtime=Runtime(default_runtime="nvidia"))
FORMERLY = Answers(runtime=Runtime(default_runtime="former"))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A GPU host with driver and toolkit, and no runtime yet."""
    tree = Tree(tmp_path / "host")
    tree.h200()
    tree.file("/usr/bin/nvidia-container-runtime", "", 0o755)
    tree.tool("nvidia-container-runtime", "exit 0")
    return tree


def looked_at(tree: Tree) -> Probe:
    return parse_probe(tree.run(probe_script()))


def carried_out(tree: Tree, planned: HostPlanned) -> None:
    for change in planned.change.files:
        if change.after is None:
            (tree.root / change.path.lstrip("/")).unlink()
        else:
            tree.file(change.path, change.after.raw)


def test_docker_on_and_off_again(tree: Tree) -> None:
    tree.tool("dockerd", "echo 'Docker version 28.0.4, build x'")
    text = '{\n    "storage-driver": "overlay2",\n    "default-runtime": "runc"\n}\n'
    tree.file("/etc/docker/daemon.json", text)
    tree.process(50, "/usr/bin/dockerd", "-H", "fd://", unit="docker.service")
    probe = looked_at(tree)
    assert FORMER in probe.files, "an absent file is known to be absent"
    first = plan_host("n1", probe, Answers())
    assert first.refusals == ()
    carried_out(tree, first)
    plain = (tree.root / "etc/docker/daemon.json").read_text()
    on = plan_host("n1", looked_at(tree), NVIDIA)
    carried_out(tree, on)
    document = json.loads((tree.root / "etc/docker/daemon.json").read_text())
    assert (document["default-runtime"], document["features"]) == ("nvidia", {"cdi": True})
    assert plan_host("n1", looked_at(tree), NVIDIA).change.empty
    off = plan_host("n1", looked_at(tree), FORMERLY)
    assert off.refusals == ()
    carried_out(tree, off)
    assert (tree.root / "etc/docker/daemon.json").read_text() == plain
    assert not (tree.root / FORMER.lstrip("/")).exists()
    assert plan_host("n1", looked_at(tree), FORMERLY).change.empty


@pytest.mark.parametrize("config", [None, '[nvidia-container-runtime]\nruntimes = ["runc", "crun"]\n'])
def test_crio_with_runtimes_of_its_own(tree: Tree, config: str | None) -> None:
    tree.tool("crio", "echo 'crio version 1.33.2'")
    folder = "/etc/crio/crio.conf.d"
    tree.file(
        f"{folder}/10-crio.conf",
        '[crio.runtime]\ndefault_runtime = "crun"\n[crio.runtime.runtimes.crun]\n'
        'runtime_path = "/usr/libexec/crio/crun"\nmonitor_path = "/usr/libexec/crio/conmon"\n',
    )
    tree.file("/usr/libexec/crio/crun", "", 0o755)
    if config is not None:
        tree.file("/etc/nvidia-container-runtime/config.toml", config)
    tree.process(60, "/usr/bin/crio", unit="crio.service")
    planned = plan_host("n1", looked_at(tree), Answers())
    assert planned.refusals == ()
    assert [c.path for c in planned.change.files] == [
        "/etc/nvidia-container-runtime/config.toml",
        f"{folder}/99-gpuwizard-nvidia.toml",
    ]
    carried_out(tree, planned)
    again = plan_host("n1", looked_at(tree), Answers())
    assert (again.change.empty, again.refusals) == (True, ())


def test_microk8s(tree: Tree) -> None:
    tree.file("/snap/microk8s/current/meta/snap.yaml", "name: microk8s\nversion: v1.34.1\n")
    tree.file(TEMPLATE, TEXT)
    tree.file(RENDERED, filled(TEXT))
    tree.file(
        "/var/snap/microk8s/current/args/kubelet", "--container-runtime-endpoint=${SNAP_COMMON}/run/containerd.sock\n"
    )
    tree.file("/snap/microk8s/7394/bin/containerd", "", 0o755)
    tree.tool("containerd", "echo 'containerd github.com/containerd/containerd v1.7.28 abc'")
    tree.file("/var/snap/microk8s/7394/args/containerd.toml", filled(TEXT))
    unit = "snap.microk8s.daemon-containerd.service"
    tree.process(
        70, "/snap/microk8s/7394/bin/containerd", "--config", "/var/snap/microk8s/7394/args/containerd.toml",
        "--address", "/var/snap/microk8s/common/run/containerd.sock", unit=unit,
    )  # fmt: skip
    tree.process(80, "/snap/microk8s/7394/kubelite", unit="snap.microk8s.daemon-kubelite.service")
    probe = looked_at(tree)
    assert probe.facts.kubernetes.flavour == "microk8s"
    planned = plan_host("m1", probe, Answers())
    assert planned.refusals == ()
    assert [c.path for c in planned.change.files] == [TEMPLATE]
    carried_out(tree, planned)
    new = (tree.root / TEMPLATE.lstrip("/")).read_text()
    for path in (RENDERED, "/var/snap/microk8s/7394/args/containerd.toml"):
        tree.file(path, filled(new))
    assert plan_host("m1", looked_at(tree), Answers()).change.empty


def test_k0s(tree: Tree) -> None:
    tree.tool("k0s", "echo v1.33.4+k0s.0")
    tree.file(MAIN, OLD_ROOT)
    tree.file(CRI_FILE, CRI)
    tree.file("/var/lib/k0s/bin/containerd", "", 0o755)
    tree.tool("containerd", "echo 'containerd github.com/containerd/containerd v1.7.27 abc'")
    tree.process(40, "/usr/local/bin/k0s", "worker", unit="k0sworker.service")
    tree.process(
        70, "/var/lib/k0s/bin/containerd", "--root=/var/lib/k0s/containerd", "--state=/run/k0s/containerd",
        "--address=/run/k0s/containerd.sock", f"--config={MAIN}", unit="k0sworker.service",
    )  # fmt: skip
    tree.process(80, "/var/lib/k0s/bin/kubelet", "--container-runtime-endpoint=unix:///run/k0s/containerd.sock")
    probe = looked_at(tree)
    assert probe.facts.kubernetes.flavour == "k0s"
    planned = plan_host("k1", probe, Answers())
    assert planned.refusals == ()
    path = "/etc/k0s/containerd.d/99-gpuwizard-nvidia.toml"
    assert [c.path for c in planned.change.files] == [path]
    assert probe.files[path].content is None
    carried_out(tree, planned)
    assert plan_host("k1", looked_at(tree), Answers()).change.empty
