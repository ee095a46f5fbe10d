"""K3s and RKE2 under the guard: what they rendered counts together with the drop-ins that it imports."""

import shutil
from dataclasses import replace

import pytest

from gpuwizard.work.guard_scripts import host_state
from tests.guard_tree import CHECK, NVIDIA, PLAIN, Tree, edit, missing_shells, started

pytestmark = pytest.mark.skipif(bool(missing_shells()), reason=f"shells not installed: {missing_shells()}")

DATA = "/var/lib/rancher/rke2"
FOLDER = f"{DATA}/agent/etc/containerd"
DROP_IN = f"{FOLDER}/config.toml.d/99-gpuwizard-nvidia.toml"
RENDERED = replace(CHECK, binary=None, config_path=f"{FOLDER}/config.toml", rendered=f"{FOLDER}/config.toml")
IMPORTS = f'version = 2\nimports = ["{FOLDER}/config.toml.d/*.toml"]\n'.encode()


def render(tree: Tree, text: bytes) -> None:
    path = tree.path(f"{FOLDER}/config.toml")
    path.parent.mkdir(parents=True)
    path.write_bytes(text)


@pytest.mark.parametrize(
    ("imports", "ends"), [(IMPORTS, "healthy"), (b"version = 2\n", "reverted")], ids=["imported", "not imported"]
)
def test_a_handler_of_an_imported_drop_in_is_there(one_shell: Tree, imports: bytes, ends: str) -> None:
    render(one_shell, PLAIN.replace(b"version = 2\n", imports))
    started(one_shell, edit(DROP_IN, None, NVIDIA), check=RENDERED)
    assert one_shell.wait_for("healthy", "reverted", "revert-failed") == ends
    status = host_state(one_shell.guard("status").stdout.splitlines())
    assert status is not None
    assert ("the handler nvidia is not there" in status.failure) == (ends == "reverted")
    assert one_shell.path(DROP_IN).exists() == (ends == "healthy")


def test_the_default_of_a_drop_in_counts(one_shell: Tree) -> None:
    render(one_shell, PLAIN.replace(b"version = 2\n", IMPORTS))
    table = b'[plugins."io.containerd.grpc.v1.cri".containerd]\n  default_runtime_name = "nvidia"\n'
    started(one_shell, edit(DROP_IN, None, table + NVIDIA), check=replace(RENDERED, default_handler="nvidia"))
    assert one_shell.wait_for("healthy", "reverted", "revert-failed") == "healthy"


def test_rke2_is_asked_by_its_own_ctr(one_shell: Tree) -> None:
    render(one_shell, PLAIN.replace(b"version = 2\n", IMPORTS))
    own = one_shell.path(f"{DATA}/bin/ctr")
    own.parent.mkdir(parents=True)
    shutil.move(one_shell.root / "bin/ctr", own)
    started(one_shell, edit(DROP_IN, None, NVIDIA), check=RENDERED)
    assert one_shell.wait_for("healthy", "reverted", "revert-failed") == "healthy"
