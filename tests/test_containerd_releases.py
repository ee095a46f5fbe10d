"""What differs between releases that nobody has at hand: from their sources, and from what 1.6.20, 1.7.24 and 2.1.9
made of the rows in ``data/containerd_rows.json``."""

import json
from pathlib import Path
from typing import Any

import pytest

from gpuwizard.containerd import Effective, effective

MAIN = "/etc/containerd/config.toml"
DROP_IN = "/etc/containerd/conf.d/99.toml"
CRI = '[plugins."io.containerd.grpc.v1.cri"'
RUNTIME = "[plugins.'io.containerd.cri.v1.runtime'"
IMAGES = "[plugins.'io.containerd.cri.v1.images'"
IMPORTS = 'imports = ["/etc/containerd/conf.d/*.toml"]\n'
ROWS = json.loads((Path(__file__).parent / "data" / "containerd_rows.json").read_text())


def seen(version: str, root: str, drop_in: str | None = None) -> Effective:
    files = {MAIN: root.encode()}
    if drop_in is not None:
        files[DROP_IN] = drop_in.encode()
    return effective(files, MAIN, version, files.get)


@pytest.mark.parametrize(
    ("row", "version"),
    [(row, version) for row in ROWS for version in row["real"]],
    ids=[f"{row['name']}-{version}" for row in ROWS for version in row["real"]],
)
def test_as_the_real_release_judged(row: dict[str, Any], version: str) -> None:
    files = {path: text.encode() for path, text in row["files"].items()}
    state = effective(files, MAIN, version, files.get)
    outcome = state.cri if state.starts else "does not start"
    assert ["dump" if state.dumps else "-", outcome] == row["real"][version], state.error


@pytest.mark.parametrize(
    ("version", "starts"), [("2.2.3", True), ("2.3.0", False), ("2.3.4", False), ("2.4.0-beta.0", True)]
)
def test_a_drop_in_of_a_later_version(version: str, starts: bool) -> None:
    state = seen(version, f"version = 2\n{IMPORTS}", f"version = 3\n{RUNTIME}]\nenable_selinux = false\n")
    assert state.starts == starts
    if not starts:
        assert state.error == "drop-in config version 3 higher than root config version 2"


@pytest.mark.parametrize(
    ("version", "starts"), [("1.6.31", True), ("1.6.32", False), ("1.7.16", True), ("1.7.17", False)]
)
def test_version_3_on_1_x(version: str, starts: bool) -> None:
    assert seen(version, "version = 3\n").starts == starts


@pytest.mark.parametrize(
    ("version", "read"), [("1.6.28", False), ("1.6.29", True), ("1.7.15", False), ("1.7.16", True), ("2.0.0", True)]
)
def test_a_relative_pattern(version: str, read: bool) -> None:
    state = seen(version, 'version = 2\nimports = ["conf.d/*.toml"]\n', "version = 2\n")
    assert (DROP_IN in state.files) == read
    assert any("never read" in warning for warning in state.warnings) != read


@pytest.mark.parametrize(
    ("version", "cri", "folder"),
    [
        ("2.1.9", "ok", ""),
        ("2.2.0", "error", "/etc/containerd/certs.d:/etc/docker/certs.d"),
        ("2.2.1", "error", "/etc/containerd/certs.d:/etc/docker/certs.d"),
        ("2.2.2", "ok", ""),
    ],
)
def test_mirrors_beside_the_built_in_registry_folder(version: str, cri: str, folder: str) -> None:
    state = seen(version, f'version = 3\n{IMAGES}.registry.mirrors."docker.io"]\nendpoint = ["https://m.test"]\n')
    assert (state.cri, state.registry_config_path) == (cri, folder)


def test_2_0_0_takes_the_migrated_table_and_2_0_2_the_one_that_is_there() -> None:
    root = f"version = 2\n{CRI}]\nenable_cdi = false\n{RUNTIME}]\nenable_cdi = true\n"
    assert [seen(version, root).enable_cdi for version in ("2.0.0", "2.0.1", "2.0.2", "2.1.9")] == [
        False,
        False,
        True,
        True,
    ]


def test_2_3_moves_the_daemons_own_settings() -> None:
    state = seen("2.3.4", 'version = 3\n[grpc]\naddress = "/run/x.sock"\nuid = 7\n')
    assert state.settings["io.containerd.server.v1.grpc.address"] == "/run/x.sock"
    assert state.settings["io.containerd.server.v1.grpc.uid"] == 7
    assert state.settings["io.containerd.server.v1.ttrpc.address"] == "/run/x.sock.ttrpc"
    assert (state.origins["io.containerd.server.v1.grpc.address"].line, state.warnings) == (3, ())
    late = seen("2.3.4", 'version = 4\n[grpc]\naddress = "/run/x.sock"\n')
    assert late.warnings == (
        f"{MAIN}:2: grpc: ignored: version 4 has these settings in io.containerd.server.v1 tables",
    )
    own = seen("2.3.4", "version = 4\n[plugins.'io.containerd.server.v1.grpc']\naddress = '/run/y.sock'\n")
    assert (own.starts, own.warnings) == (True, ())
    before = seen("2.2.4", "version = 3\n[plugins.'io.containerd.server.v1.grpc']\naddress = '/run/y.sock'\n")
    assert before.warnings[0].endswith("ignored: containerd 2.2.4 has no plugin of this name")


def test_version_4_needs_2_3() -> None:
    assert not seen("2.2.4", "version = 4\n").starts
    assert seen("2.3.0", "version = 4\n").starts
    assert not seen("2.3.0", "version = 5\n").starts


NO_KEY = "does not know this key"
CRI_2 = "plugins.io.containerd.grpc.v1.cri"
RT_3 = "plugins.io.containerd.cri.v1.runtime"
RUNC = "containerd.runtimes.runc"
IGNORED: list[tuple[str, str, int, str]] = [
    (
        "1.7.24",
        f"version = 2\n{CRI}]\nno_such = 1\n",
        3,
        f"{CRI_2}.no_such: ignored: containerd 1.7.24 {NO_KEY}",
    ),
    (
        "1.6.20",
        f"version = 2\n{CRI}]\nenable_cdi = true\n",
        3,
        f"{CRI_2}.enable_cdi: ignored: containerd 1.6.20 {NO_KEY}; later releases do (1.7)",
    ),
    (
        "2.1.9",
        f"version = 2\n{CRI}]\nsystemd_cgroup = false\n",
        3,
        f"{CRI_2}.systemd_cgroup: ignored: containerd 2.1.9 {NO_KEY} any more; 1.7 did",
    ),
    (
        "2.1.9",
        f"version = 3\n{RUNTIME}.cni]\nbin_dirz = []\n",
        3,
        f"{RT_3}.cni.bin_dirz: ignored: containerd 2.1.9 {NO_KEY}",
    ),
    (
        "2.1.9",
        f"version = 3\n{RUNTIME}]\nsandbox_image = 'x'\n",
        3,
        f"{RT_3}.sandbox_image: ignored: version 3 has this as pinned_images.sandbox of io.containerd.cri.v1.images",
    ),
    (
        "2.1.9",
        f"version = 3\n{RUNTIME}]\nsnapshotter = 'x'\n",
        3,
        f"{RT_3}.snapshotter: ignored: this belongs to the table io.containerd.cri.v1.images",
    ),
    (
        "2.1.9",
        f"version = 3\n{CRI}.containerd]\ndefault_runtime_name = 'x'\n",
        3,
        f"{CRI_2}.containerd: ignored: this belongs to the table io.containerd.cri.v1.runtime",
    ),
    (
        "2.1.9",
        "[plugins.cri]\nsandbox_image = 'x'\n",
        2,
        "plugins.cri.sandbox_image: ignored: "
        "a table of version 2 does nothing at this configuration version: its place is io.containerd.cri.v1",
    ),
    (
        "1.7.10",
        f"version = 3\n{RUNTIME}]\nenable_cdi = true\n",
        3,
        f"{RT_3}: ignored: a table of version 3, which containerd 1.7.10 does not know",
    ),
    (
        "2.1.9",
        "version = 3\n[plugins.cri]\nsandbox_image = 'x'\n",
        3,
        "plugins.cri: ignored: a version-1 table does nothing in files of a later version",
    ),
    (
        "1.7.24",
        f"{CRI}]\nsandbox_image = 'x'\n",
        2,
        f"{CRI_2}: ignored: a version-2 table does nothing in files without a version: write version = 2",
    ),
    (
        "1.7.24",
        "version = 2\n[plugins.'io.containerd.x.v1.y']\na = 1\n",
        3,
        "plugins.io.containerd.x.v1.y: ignored: containerd 1.7.24 has no plugin of this name",
    ),
    (
        "1.7.24",
        "version = 2\n[debug]\ncolour = 'red'\n",
        3,
        f"debug.colour: ignored: containerd 1.7.24 {NO_KEY}",
    ),
    (
        "2.1.9",
        "version = 3\nplugin_dir = '/x'\n",
        2,
        f"plugin_dir: ignored: containerd 2.1.9 {NO_KEY} any more; 2.0 did",
    ),
    (
        "1.7.24",
        "version = 2\n[grpc]\nimports = ['/x*']\n",
        3,
        "grpc.imports: ignored: "
        "imports stands behind a table header and so belongs to that table: move it above the first [table]",
    ),
    (
        "1.7.24",
        "version = 2\n"
        f"{CRI}.{RUNC}]\n"
        "runtime_type = 'io.containerd.runc.v2'\n"
        f"{CRI}.{RUNC}.options]\n"
        "SystemdCGroup = true\n",
        5,
        "handler runc: option SystemdCGroup: runc's shim has no such option, it has SystemdCgroup",
    ),
    (
        "1.7.24",
        "version = 2\n"
        f"{CRI}.{RUNC}]\n"
        "runtime_type = 'io.containerd.runc.v2'\n"
        f"{CRI}.{RUNC}.options]\n"
        "SystemdCgroup = 'true'\n",
        5,
        "handler runc: option SystemdCgroup: must be true or false: pods with this handler do not start",
    ),
    (
        "2.1.9",
        f"version = 3\n{RUNTIME}.{RUNC}]\nruntime_type = 'io.containerd.runc.v1'\n",
        3,
        "handler runc: containerd 2 has no io.containerd.runc.v1, pods with it do not start",
    ),
    (
        "1.7.24",
        "version = 2\ndisabled_plugins = ['io.containerd.x.v1.y']\n",
        2,
        "disabled_plugins: io.containerd.x.v1.y is no plugin of containerd 1.7.24",
    ),
    (
        "1.7.24",
        "disabled_plugins = ['io.containerd.grpc.v1.cri']\n",
        1,
        "disabled_plugins: io.containerd.grpc.v1.cri is no plugin of containerd 1.7.24 "
        "(without a version plugins go by their short names)",
    ),
]


@pytest.mark.parametrize(("version", "text", "line", "warning"), IGNORED)
def test_what_is_ignored_is_named(version: str, text: str, line: int, warning: str) -> None:
    assert seen(version, text).warnings == (f"{MAIN}:{line}: {warning}",)


def test_a_drop_in_on_1_x_costs_the_whole_table() -> None:
    root = f"version = 2\n{IMPORTS}{CRI}]\nsandbox_image = 'x'\n{CRI}.cni]\nbin_dir = '/y'\n"
    state = seen("1.7.24", root, f"version = 2\n{CRI}]\nenable_cdi = true\n")
    assert state.warnings == (
        f"{MAIN}:4: plugins.io.containerd.grpc.v1.cri: lost: {DROP_IN} replaces the whole table of this plugin "
        "(sandbox_image, cni.bin_dir)",
    )
    assert seen("2.1.9", root, f"version = 2\n{CRI}]\nenable_cdi = true\n").warnings == ()


def test_a_version_2_table_beside_a_version_3_table() -> None:
    handlers = f"{CRI}.containerd.runtimes.nvidia]\nruntime_type = 'io.containerd.runc.v2'\n"
    handlers += f"{RUNTIME}.containerd.runtimes.kata]\nruntime_type = 'io.containerd.kata.v2'\n"
    state = seen("2.1.9", f"version = 2\n{handlers}")
    assert sorted(state.runtimes) == ["kata", "runc"]
    assert state.warnings == (
        f"{MAIN}:3: plugins.io.containerd.grpc.v1.cri.containerd.runtimes.nvidia.runtime_type: lost: the tables of "
        "version 3 are there already and win",
    )


def test_origins_name_the_file_that_won() -> None:
    root = f"version = 2\n{IMPORTS}\n{CRI}]\nsandbox_image = 'x'\n{CRI}.cni]\nbin_dir = '/a'\nconf_dir = '/b'\n"
    state = seen("2.1.9", root, f"version = 2\n\n\n{CRI}.cni]\nconf_dir = '/c'\n")
    places = {path: (origin.file, origin.line) for path, origin in state.origins.items()}
    assert places == {
        "cni.bin_dirs": (MAIN, 7),
        "cni.conf_dir": (DROP_IN, 5),
        "imports": (MAIN, 2),
        "io.containerd.cri.v1.images.pinned_images.sandbox": (MAIN, 5),
        "io.containerd.cri.v1.runtime.cni.bin_dirs": (MAIN, 7),
        "io.containerd.cri.v1.runtime.cni.conf_dir": (DROP_IN, 5),
        "sandbox_image": (MAIN, 5),
        "version": (DROP_IN, 1),
    }
