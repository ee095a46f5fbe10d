"""What containerd's files hold that a release takes otherwise: by real releases, and one text each
(`runtimes.md §1.3`)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gpuwizard.facts.model import ConfigWarning, HostFile
from gpuwizard.facts.runtimes.config_files import read_files
from gpuwizard.facts.runtimes.cri_config import CRI_V2, IMAGES_V3, RUNTIME_V3, settings_of
from gpuwizard.facts.runtimes.dialect import Given, Settings
from gpuwizard.facts.runtimes.release import Release
from gpuwizard.facts.runtimes.traps import config_warnings
from gpuwizard.secret import SecretBytes

CASES = json.loads((Path(__file__).parent.parent / "data" / "containerd_merge.json").read_text())["cases"]
PAIRS = [(case, version) for case in CASES for version in case["containerd"]]
MAIN = "/etc/containerd/config.toml"
DROP = "/etc/containerd/conf.d/99-nvidia.toml"
CRI = 'plugins."io.containerd.grpc.v1.cri"'
NEW = "plugins.'io.containerd.cri.v1.runtime'"
IMPORT = 'imports = ["/etc/containerd/conf.d/*.toml"]\n'
FATAL = ("twice", "syntax", "stub-versioned", "missing-import")
LOSES = ("replaced", "unversioned", "older-drop-in", "newer-drop-in", "foreign-table", "new-table")


def handler(table: str, name: str = "nvidia", options: str = "SystemdCgroup = true") -> str:
    return (
        f'[{table}.containerd.runtimes.{name}]\nruntime_type = "io.containerd.runc.v2"\n'
        f"[{table}.containerd.runtimes.{name}.options]\n{options}\n"
    )


def warnings(
    texts: Mapping[str, str | bytes],
    version: str | None = "1.7.24",
    *,
    refused: bool | None = None,
    effective: Mapping[str, object] | None = None,
    works: bool = False,
    sleeping: tuple[str, ...] = (),
) -> tuple[ConfigWarning, ...]:
    release = Release.parse(version) if version is not None else None
    raw = {path: text.encode() if isinstance(text, str) else text for path, text in texts.items()}
    files = read_files(MAIN, {path: HostFile(path, SecretBytes(data)) for path, data in raw.items()}, release)
    given = Given(release, refused, Settings(effective) if effective is not None else None)
    return config_warnings(files.files, given, (tuple(files.missing.items()), sleeping, works))


def kinds(texts: Mapping[str, str | bytes], version: str | None = "1.7.24", **more: Any) -> list[str]:
    return [warning.kind for warning in warnings(texts, version, **more)]


def refusal(found: tuple[ConfigWarning, ...]) -> bool:
    return any(w.kind in FATAL or "does not start" in w.text for w in found)


@pytest.mark.parametrize(("case", "version"), PAIRS, ids=[f"{c['id']}-{v}" for c, v in PAIRS])
def test_no_refusal_is_made_up(case: dict[str, Any], version: str) -> None:
    """Where the real release started on these files nothing fatal is said, with its dump or without."""
    real = case["containerd"][version]
    if MAIN not in case["files"]:
        return
    plain = warnings(case["files"], version, works=real.get("cri") == "ok")
    if real["starts"]:
        told = warnings(case["files"], version, refused=False, works=real.get("cri") == "ok")
        assert not any(refusal(found) for found in (plain, told)), plain
    if real.get("cri") == "ok":
        assert {"mirrors", "cgroup-key"}.isdisjoint(w.kind for w in plain)


@pytest.mark.parametrize(("case", "version"), PAIRS, ids=[f"{c['id']}-{v}" for c, v in PAIRS])
def test_no_loss_is_made_up(case: dict[str, Any], version: str) -> None:
    """Where every handler of every file is in force as it is written, nothing is said to be lost."""
    real = case["containerd"][version].get("effective")
    if not real or MAIN not in case["files"]:
        return
    shown = {
        f"containerd.runtimes.{name}.{key}": entry
        for name, table in real["runtimes"].items()
        for key, entry in {
            "runtime_type": table["runtime_type"],
            **{f"options.{k}": v for k, v in table["options"].items()},
        }.items()
    }
    shown["containerd.default_runtime_name"] = real["default_runtime_name"]
    shown["sandbox_image"] = real["sandbox_image"]
    shown["containerd.snapshotter"] = real["snapshotter"]
    shown["registry.config_path"] = real["registry_config_path"]
    shown["enable_cdi"] = real["enable_cdi"]
    release = Release.parse(version)
    files = read_files(MAIN, {p: HostFile(p, SecretBytes(t.encode())) for p, t in case["files"].items()}, release)
    written: dict[str, object] = {}
    for file in files.files:
        written |= settings_of(file.plugins, "cri", CRI_V2, RUNTIME_V3, IMAGES_V3)
    if Given(release, False, Settings(shown)).in_force(written):
        found = kinds(case["files"], version, refused=False, effective=shown)
        assert set(LOSES).isdisjoint(found)


@pytest.mark.parametrize(
    ("version", "kind", "words"),
    [
        ("1.6.20", "newer-drop-in", "does nothing"),
        ("1.7.24", "newer-drop-in", "does not start"),
        ("2.1.9", "newer-drop-in", "drops the root file's sandbox_image"),
        ("2.3.4", "newer-drop-in", "does not start"),
        ("2.4.1", None, ""),
    ],
)
def test_version_3_below_version_2(version: str, kind: str | None, words: str) -> None:
    texts = {
        MAIN: f'version = 2\n{IMPORT}[{CRI}]\nsandbox_image = "x"\n{handler(CRI, "runc")}',
        DROP: f"version = 3\n{handler(NEW)}",
    }
    found = [w for w in warnings(texts, version) if w.kind == "newer-drop-in"]
    assert [w.kind for w in found] == ([kind] if kind else [])
    assert not found or (found[0].path, found[0].line, words in found[0].text) == (DROP, 1, True)


def test_version_2_below_version_3() -> None:
    texts = {MAIN: f"version = 3\n{IMPORT}{handler(NEW, 'runc')}", DROP: f"version = 2\n{handler(CRI)}"}
    assert kinds(texts, "2.1.9") == ["older-drop-in"]
    assert kinds(texts, "2.3.2") == []
    in_force = {"containerd.runtimes.nvidia.runtime_type": "io.containerd.runc.v2"}
    in_force |= {"containerd.runtimes.nvidia.options.SystemdCgroup": True}
    assert kinds(texts, "2.1.9", effective=in_force) == []  # the host's own dump knows better
    unversioned = {**texts, DROP: handler(CRI)}
    assert kinds(unversioned, "2.0.1") == ["older-drop-in"]
    assert kinds({**texts, DROP: handler(NEW)}, "2.0.1") == []


def test_a_partial_drop_in_on_1() -> None:
    main = f'version = 2\n{IMPORT}[{CRI}]\nsandbox_image = "x"\n{handler(CRI, "runc")}'
    (warning,) = warnings({MAIN: main, DROP: f"version = 2\n{handler(CRI)}"})
    assert (warning.kind, warning.path, warning.line) == ("replaced", DROP, 2)
    assert "sandbox_image, containerd.runtimes.runc.runtime_type" in warning.text
    assert kinds({MAIN: main, DROP: f"version = 2\n{handler(CRI)}"}, "2.0.0") == []
    complete = f'version = 2\n[{CRI}]\nsandbox_image = "x"\n{handler(CRI, "runc")}{handler(CRI)}'
    assert kinds({MAIN: main, DROP: complete}) == []
    two = {MAIN: f"version = 2\n{IMPORT}", DROP: f"version = 2\n{handler(CRI)}"}
    other = DROP.replace("99", "50")
    assert kinds({**two, other: f"version = 2\n{handler(CRI, 'kata')}"}) == ["replaced"]  # the last of two wins
    assert kinds(
        {MAIN: main, DROP: f'version = 2\n[{CRI}.x]\ny = 1\n[plugins."io.containerd.gc.v1.scheduler"]\nz = 1\n'}
    )


def test_tables_of_version_1() -> None:
    text = f"version = 2\n{handler(CRI, 'runc')}{handler('plugins.cri')}"
    for version in ("1.7.24", "2.1.9"):
        (warning,) = warnings({MAIN: text}, version)
        assert (warning.kind, warning.line) == ("old-table", 6)
    assert kinds({MAIN: text}, "1.7.24", refused=False) == []  # it was taken: something else is meant
    (warning,) = warnings({MAIN: 'version = 2\n[plugins.io.containerd.grpc.v1.cri]\nsandbox_image = "x"\n'}, "2.1.9")
    assert "must stand in quotes" in warning.text
    assert kinds({MAIN: handler("plugins.cri")}, "1.7.24") == []
    # names of version 1 in a drop-in without a version line are translated below a root file of version 2
    below = {MAIN: f"version = 2\n{IMPORT}", DROP: handler("plugins.cri")}
    assert kinds(below, "2.1.9") == []
    assert kinds(below, "1.7.24") == ["old-table"]


def test_mixed_dialects() -> None:
    mixed = f"version = 2\n{handler(CRI, 'runc')}{handler(NEW)}"
    assert kinds({MAIN: mixed}, "2.1.9") == ["new-table"]
    assert kinds({MAIN: mixed}, "1.7.24") == ["new-table"]
    assert kinds({MAIN: f"version = 2\n{handler(NEW)}"}, "2.1.9") == []  # alone they count
    assert kinds({MAIN: f"version = 2\n{handler(NEW)}"}, "1.7.24") == ["new-table"]
    assert kinds({MAIN: f"version = 3\n{handler(NEW, 'runc')}{handler(CRI)}"}, "2.1.9") == ["foreign-table"]
    server = f'version = 3\n{handler(NEW)}[{CRI}]\nstream_server_address = "127.0.0.1"\n'
    assert kinds({MAIN: server}, "2.1.9") == []  # these keys stay there


@pytest.mark.parametrize(
    ("text", "version", "expected"),
    [
        (handler("plugins.cri"), "1.7.24", []),
        (handler("plugins.cri"), "2.1.9", ["unversioned"]),
        (handler("plugins.cri"), "2.3.0", []),
        (f"version = 1\n{handler('plugins.cri')}", "2.2.0", ["unversioned"]),
        (handler(CRI), "1.7.24", ["unversioned"]),
        (handler(CRI), "2.0.6", ["unversioned"]),
        (handler(NEW), "2.1.9", []),
        ("[debug]\nlevel = 'info'\n", "2.1.9", []),
    ],
)
def test_no_version_line(text: str, version: str, expected: list[str]) -> None:
    assert kinds({MAIN: text}, version) == expected


def test_a_version_that_is_not_known() -> None:
    (warning,) = warnings({MAIN: "version = 4\n"}, "2.1.9")
    assert (warning.kind, "knows at most 3" in warning.text) == ("version", True)
    assert kinds({MAIN: "version = 4\n"}, "2.3.0") == []
    assert kinds({MAIN: "version = 3\n"}, "1.7.24") == ["version"]
    assert "takes it for 2" in warnings({MAIN: "version = 3\n"}, "1.7.13")[0].text
    assert kinds({MAIN: "version = 3\n"}, None) == []


def test_no_toml_and_twice() -> None:
    twice = f'version = 2\n{handler(CRI)}\n[{CRI}.containerd.runtimes."nvidia"]\n'
    (warning,) = warnings({MAIN: twice})
    assert (warning.kind, warning.line) == ("twice", 7)
    (warning,) = warnings({MAIN: "version = 2\nx = [\n"})
    assert warning.kind == "syntax"
    assert kinds({MAIN: twice}, refused=False) == []
    assert kinds({MAIN: b"\xef\xbb\xbfversion = 2\n"}, "2.1.9") == ["syntax"]
    assert kinds({MAIN: b"\xef\xbb\xbfversion = 2\n# \xff\n"}, "1.7.24") == []
    assert kinds({MAIN: "# " + "x" * 300_000}) == []  # too large for us is not wrong


def test_no_secret_is_shown() -> None:
    (warning,) = warnings({MAIN: f'version = 2\n[{CRI}]\npassword = "hunter2"\npassword = "hunter2"\n'})
    assert warning.kind == "twice"
    assert "hunter2" not in warning.text


def test_keys_behind_a_table() -> None:
    (warning,) = warnings({MAIN: f"version = 2\n{handler(CRI)}{IMPORT}"})
    assert (warning.kind, warning.line) == ("late-key", 6)
    assert warning.text.startswith("imports stands in table [plugins.io.containerd.grpc.v1.cri.containerd")
    assert "late-key" in kinds({MAIN: f"{handler(CRI)}version = 2\n"})
    assert kinds({MAIN: f"version = 2\n{IMPORT}{handler(CRI)}"}) == []


def test_imports_that_lead_nowhere() -> None:
    release = Release.parse("2.1.9")
    root = {MAIN: HostFile(MAIN, SecretBytes(b'imports = [\n"/x.toml",\n"/y*.toml", "/z.toml"]\n'))}
    files = read_files(MAIN, {**root, "/x.toml": HostFile("/x.toml", None)}, release)
    assert (dict(files.missing), files.unknown, files.folders) == ({"/x.toml": MAIN}, ("/z.toml",), ("/",))
    (warning,) = config_warnings(files.files, Given(release), (tuple(files.missing.items()), (), False))
    assert (warning.kind, warning.path, warning.line) == ("missing-import", MAIN, 2)


def test_sleeping_drop_ins() -> None:
    assert [w.path for w in warnings({MAIN: "version = 2\n"}, sleeping=(DROP,))] == [DROP]


def test_stubs() -> None:
    assert kinds({MAIN: 'disabled_plugins = ["cri"]\n'}) == ["stub"]
    assert kinds({MAIN: 'version = 2\ndisabled_plugins = ["cri"]\n'}) == ["stub-versioned"]
    assert kinds({MAIN: 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'}) == ["stub"]
    assert kinds({MAIN: 'version = 2\ndisabled_plugins = ["io.containerd.internal.v1.opt"]\n'}) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ('binary_name = "/x"', "is spelt BinaryName"),
        ("systemd_cgroup = true", "is spelt SystemdCgroup"),
        ('runtime_type = "io.containerd.runc.v2"', "belongs in its table"),
        ("systemdcgroup = true", None),  # spelling without regard to case is containerd's business
        ('ConfigPath = "/etc/kata.toml"', None),
    ],
)
def test_misspelt_options(options: str, words: str | None) -> None:
    found = warnings({MAIN: f"version = 2\n{handler(CRI, options=options)}"})
    assert [w.kind for w in found] == (["misplaced"] if words else [])
    assert not words or words in found[0].text


def test_keys_in_the_wrong_table() -> None:
    text = f'version = 2\n[{CRI}.containerd.runtimes.nvidia]\nBinaryName = "/x"\n[{CRI}.runtimes.x]\na = 1\n'
    assert [(w.kind, w.line) for w in warnings({MAIN: text})] == [("misplaced", 4), ("misplaced", 3)]


def test_a_key_that_the_dump_does_not_know() -> None:
    text = f'version = 2\n[{CRI}.containerd.runtimes.nvidia]\nruntime_type = "x"\nruntime_typo = "y"\n'
    keys = ("base_runtime_spec", "cni_conf_dir", "cni_max_conf_num", "runtime_type", "snapshotter")
    full: dict[str, object] = {f"containerd.runtimes.nvidia.{key}": "x" for key in keys}
    (warning,) = warnings({MAIN: text}, effective=full)
    assert (warning.kind, warning.line, "runtime_typo" in warning.text) == ("misplaced", 4, True)
    assert kinds({MAIN: text}, effective={**full, "containerd.runtimes.nvidia.runtime_typo": "y"}) == []
    assert kinds({MAIN: text}) == []  # without a dump it may be a key of a newer release


def test_removed_keys() -> None:
    old = f'version = 2\n[{CRI}.containerd.default_runtime]\nruntime_type = "x"\n'
    engine = f'[{CRI}.containerd.runtimes.x]\nruntime_type = "y"\nruntime_engine = "{{}}"\n'
    assert kinds({MAIN: old + engine.format("/usr/bin/x")}, "2.1.9") == ["removed", "removed"]
    assert kinds({MAIN: old}, "1.7.24") == []
    assert kinds({MAIN: "version = 2\n" + engine.format("")}, "2.1.9") == []  # nvidia-ctk writes it, empty
    cgroup = f"version = 2\n[{CRI}]\nsystemd_cgroup = true\n"
    assert kinds({MAIN: cgroup}, "1.7.24") == ["cgroup-key"]
    assert kinds({MAIN: cgroup}, "1.7.24", works=True) == []
    assert kinds({MAIN: cgroup}, "2.1.9", works=True) == ["cgroup-key"]


def test_copies_that_are_imported() -> None:
    main = {MAIN: f"version = 2\n{IMPORT}"}
    for name in ("99-nvidia.bak.toml", "nvidia-backup.toml", "10-site_old.toml", "x~.toml"):
        assert "backup" in kinds({**main, f"/etc/containerd/conf.d/{name}": f"version = 2\n{handler(CRI)}"}), name
    for name in ("99-nvidia.toml", "threshold.toml", "gold.toml"):
        assert kinds({**main, f"/etc/containerd/conf.d/{name}": f"version = 2\n{handler(CRI)}"}) == [], name
    assert kinds({**main, "/etc/containerd/conf.d/x.bak.toml": "# nothing\n"}) == []


def test_a_copied_table_overrides() -> None:
    main = f'version = 3\n{IMPORT}[{NEW}.cni]\nbin_dirs = ["/opt/cni/bin"]\n{handler(NEW, "runc")}'
    copy = f'version = 3\n[{NEW}.cni]\nbin_dirs = ["/usr/lib/cni"]\n{handler(NEW, "runc")}{handler(NEW)}'
    (warning,) = warnings({MAIN: main, DROP: copy}, "2.1.9")
    assert warning.text == "it overrides cni.bin_dir = /usr/lib/cni in place of /opt/cni/bin"
    assert kinds({MAIN: main, DROP: copy.replace("/usr/lib/cni", "/opt/cni/bin")}, "2.1.9") == []


def test_mirrors_beside_config_path() -> None:
    text = f'version = 2\n[{CRI}.registry]\nconfig_path = "/c"\n[{CRI}.registry.mirrors."docker.io"]\nendpoint = []\n'
    assert kinds({MAIN: text}) == ["mirrors"]
    assert kinds({MAIN: text}, works=True) == []
    assert kinds({MAIN: text.replace('"/c"', '""')}) == []


@pytest.mark.parametrize("version", [None, "1.7.24", "2.1.9"])
def test_hostile_texts(version: str | None) -> None:
    deep = ".".join(["a"] * 3000)
    for text in (
        f"[plugins.cri.{deep}]\nx = 1\n",
        f'version = 2\nimports = [1, "{"*a" * 60}"]\n[{CRI}]\ncontainerd = 3\n',
        f"version = 2\n[{CRI}.containerd]\nruntimes = []\n",
        "version = true\nplugins = 7\ndisabled_plugins = 1\n",
        "\x00" * 100,
        f"version = 99999999999999999\n[{CRI}.containerd.runtimes]\nx = 1\n",
    ):
        for warning in warnings({MAIN: text, DROP: text}, version):
            assert warning.text
            assert "\x00" not in warning.text
