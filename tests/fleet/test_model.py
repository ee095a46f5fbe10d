"""A fleet's description: what can be said, and what is said of mistakes."""

from pathlib import Path

import pytest

from gpuwizard.errors import UsageError
from gpuwizard.fleet import list_fleets
from gpuwizard.fleet.model import load_fleet

NODE = '[hosts.node]\ncontainerd = "2.1.4"\nkubernetes = { flavour = "kubeadm", version = "v1.34.1" }\n'


def test_mixed_is_built_in_and_has_every_kind_of_host() -> None:
    assert "mixed" in list_fleets()
    hosts = {host.name: host for host in load_fleet("mixed").hosts}
    flavours = [(h.kubernetes.flavour, h.kubernetes.role) for h in hosts.values()]
    assert flavours.count(("k3s", "server")) == 1
    assert flavours.count(("k3s", "agent")) >= 2
    kubeadm = [(h.containerd or "")[:4] for h in hosts.values() if h.kubernetes.flavour == "kubeadm"]
    assert "1.7." in kubeadm
    assert "2.1." in kubeadm
    assert any(h.gpus and h.driver is None for h in hosts.values())
    assert any(h.gpus and h.gpus[0].name == "NVIDIA GB10" and h.distro.startswith("dgx") for h in hosts.values())
    assert any("refuses-login" in h.faults for h in hosts.values())


def test_a_fleet_is_a_file_or_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(NODE)
    assert load_fleet(str(file)).name == "mine"
    folder = tmp_path / "ours"
    folder.mkdir()
    (folder / "fleet.toml").write_text(NODE)
    overlay = folder / "hosts" / "node"
    overlay.mkdir(parents=True)
    spec = load_fleet(str(folder))
    assert spec.name == "ours"
    assert spec.hosts[0].files == overlay


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "hosts", "no host"),
        ("[hosts.node]\ngpu = 1\n", "hosts.node.gpu", "unknown key"),
        ('[hosts.node]\ngpus = ["H1000"]\n', "hosts.node.gpus", "unknown GPU 'H1000'"),
        ('[hosts.node]\ndistro = "windows"\n', "hosts.node.distro", "must be one of"),
        ("[hosts.node]\nmemory_gib = true\n", "hosts.node.memory_gib", "must be a number"),
        ("[hosts.Node]\n", "hosts.Node", "small letters"),
        ('[hosts.node]\nfaults = ["tired"]\n', "hosts.node.faults", "unknown fault"),
        ('[hosts.node]\nsudo = "password"\n', "hosts.node.sudo", "must be"),
        ('[hosts.node]\nsudo = { kind = "password" }\n', "hosts.node.sudo.password", "not be empty"),
        ('[hosts.node]\nlogin = "root"\n', "hosts.node.sudo", "goes with"),
        ('[hosts.node]\nkubernetes = { flavour = "k3s" }\n', "hosts.node.kubernetes.version", "missing"),
        (
            '[hosts.node]\nkubernetes = { flavour = "k3s", version = "v1", role = "worker" }\n',
            "hosts.node.kubernetes.role",
            "cannot be",
        ),
        (
            '[hosts.node]\nkubernetes = { flavour = "kubeadm", version = "v1" }\n',
            "hosts.node.containerd",
            "needs a containerd",
        ),
        (f"speed = 0\n{NODE}", "speed", "between"),
        ("[hosts.node\n", "", "cannot be read"),
    ],
)
def test_mistakes_are_named_with_file_and_key(tmp_path: Path, text: str, where: str, what: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_fleet(str(file))
    assert what in caught.value.what
    assert str(file) in caught.value.where
    assert caught.value.where.endswith(where)


def test_an_unknown_fleet_names_those_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        load_fleet("no-such-fleet")
    assert "mixed" in caught.value.remedy
