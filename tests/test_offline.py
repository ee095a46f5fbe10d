"""`gpuwizard effective` as a person and a script see it."""

import json
import os
from pathlib import Path

import pytest

from gpuwizard.cli import main

CONFIG = """\
version = 2
imports = ["/etc/containerd/conf.d/*.toml", "../../real.toml"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "example.test/pause:1"
  enable_cdii = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = true
[plugins."io.containerd.grpc.v1.cri".registry.configs."reg.test".auth]
  username = "someone"
  password = "top secret"
"""
DROP_IN = """\
version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
  BinaryName = "/usr/bin/nvidia-container-runtime"
"""
FILE = "/etc/containerd/config.toml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "host/etc/containerd"
    (folder / "conf.d").mkdir(parents=True)
    (folder / "config.toml").write_text(CONFIG)
    (folder / "conf.d/99-nvidia.toml").write_text(DROP_IN)
    (tmp_path / "host/real.toml").write_text("version = 2\n")
    return tmp_path / "host"


def document(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object]]:
    code = main(["effective", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_2_merges_the_drop_in(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, state = document(capsys, FILE, "--containerd", "v2.1", "--root", str(root))
    assert code == 0
    assert next(iter(state)) == "schema"
    assert state["schema"] == "gpuwizard.effective/1"
    assert (state["containerd"], state["starts"], state["cri"], state["config_version"]) == ("2.1.0", True, "ok", 3)
    assert state["runtimes"] == {
        "nvidia": {
            "runtime_type": "io.containerd.runc.v2",
            "options": {"BinaryName": "/usr/bin/nvidia-container-runtime"},
        },
        "runc": {"runtime_type": "io.containerd.runc.v2", "options": {"SystemdCgroup": True}},
    }
    assert state["files"] == [FILE, "/etc/containerd/conf.d/99-nvidia.toml", "/real.toml"]
    origins = state["origins"]
    assert isinstance(origins, dict)
    assert origins["runtimes.nvidia.options.BinaryName"] == {"file": "/etc/containerd/conf.d/99-nvidia.toml", "line": 5}
    assert origins["io.containerd.cri.v1.images.pinned_images.sandbox"] == {"file": FILE, "line": 4}
    assert origins["sandbox_image"] == {"file": FILE, "line": 4}
    assert "snapshotter" not in origins
    assert state["warnings"] == [
        f"{FILE}:5: plugins.io.containerd.grpc.v1.cri.enable_cdii: ignored: containerd 2.1.0 does not know this key"
    ]


def test_1_loses_the_table_and_cri_fails(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["effective", FILE, "--containerd", "1.7.24~ds1", "--root", str(root)]) == 1
    out = capsys.readouterr().out
    assert "starts     yes\nCRI        fails" in out
    assert (
        'because    no corresponding runtime configured in `containerd.runtimes` for `default_runtime_name = "runc"`'
        in out
    )
    assert (
        f"  {FILE}:4: plugins.io.containerd.grpc.v1.cri: lost: /etc/containerd/conf.d/99-nvidia.toml replaces the "
        "whole table of this plugin (sandbox_image, enable_cdii, " in out
    )
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "BinaryName /usr/bin/nvidia-container-runtime /etc/containerd/conf.d/99-nvidia.toml:5" in lines
    assert "sandbox image registry.k8s.io/pause:3.8 built in" in lines


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_no_secret_shows(root: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    main(["effective", FILE, "--containerd", "2.1", "--root", str(root), *words])
    out = capsys.readouterr().out
    assert "top secret" not in out
    assert "‹redacted #" in out
    assert "someone" in out


@pytest.mark.parametrize("words", [(), ("--json",)])
@pytest.mark.parametrize("version", ["1.6.20", "1.7.24", "2.1.9", "2.3.4"])
@pytest.mark.parametrize(
    "text",
    [
        'headers]\n"X-Meta" = ["hunter2hunter2"]\n',
        'headers]\nCookie = ["session=hunter2hunter2"]\n',
        'headers]\n"X-Api-Key" = ["hunter2hunter2"]\n',
        'headers]\nAuthorization = ["Basic hunter2hunter2"]\n',
        'configs."r.test".auth]\nfuture_key = "hunter2hunter2"\n',
        'configs."r.test".auth]\nidentitytoken = """x\nhunter2hunter2"""\n',
        'configs."r.test".auth]\npassword = hunter2hunter2\n',
        'configs."r.test".auth]\npassword = 2hunter2hunter2\n',
        'mirrors."r.test"]\nendpoint = ["https://me:hunter2hunter2@r.test"]\n',
    ],
)
def test_no_credential_of_a_registry_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, version: str, words: tuple[str, ...]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry.{text}')
    main(["effective", str(config), "--containerd", version, *words])
    out = capsys.readouterr().out
    assert "containerd" in out
    assert "hunter2" not in out


def test_what_is_no_plain_file_is_read_once_and_with_a_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["effective", "/dev/null", "--containerd", "2.1"]) == 0
    assert "starts     yes\nCRI        works" in capsys.readouterr().out
    assert main(["effective", "/dev/zero", "--containerd", "2.1"]) == 64
    assert capsys.readouterr().err == (
        "gpuwizard: the file is too large for a configuration (/dev/zero)\n  try: name the right file\n"
    )
    reader, writer = os.pipe()
    os.write(writer, b'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "piped.test/pause:1"\n')
    os.close(writer)
    code, state = document(capsys, f"/dev/fd/{reader}", "--containerd", "1.7.24")
    os.close(reader)
    assert (code, state["sandbox_image"]) == (0, "piped.test/pause:1")


def test_what_files_say_cannot_drive_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.toml"
    config.write_text('version = 2\nroot = "/a\\u001b[31mb"\n"k\\u001b[0m" = 1\n')
    for words in ((), ("--json",)):
        main(["effective", str(config), "--containerd", "1.7.24", *words])
        assert "\x1b" not in capsys.readouterr().out


def test_links_stay_inside_the_root(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = root.parent / "outside.toml"
    outside.write_text("this is no TOML")
    folder = root / "etc/containerd/conf.d"
    (folder / "a.toml").symlink_to("/real.toml")
    code, state = document(capsys, FILE, "--containerd", "2.1", "--root", str(root))
    assert (code, state["starts"]) == (0, True)
    (folder / "b.toml").symlink_to("../../../../../../outside.toml")
    code, state = document(capsys, FILE, "--containerd", "2.1", "--root", str(root))
    assert (code, state["starts"]) == (1, False)
    assert state["error"] == "/etc/containerd/conf.d/b.toml: no such file or directory"


def test_a_pattern_that_matches_a_folder(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "etc/containerd/config.toml").write_text('version = 2\nimports = ["/etc/containerd/*"]\n')
    code, state = document(capsys, FILE, "--containerd", "2.1", "--root", str(root))
    assert (code, state["error"]) == (1, "/etc/containerd/conf.d: is a directory")


def test_drop_ins_that_nobody_imports_are_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "etc/containerd/config.toml").write_text("version = 2\n")
    _, state = document(capsys, FILE, "--containerd", "2.2", "--root", str(root))
    assert state["warnings"] == [
        "/etc/containerd/conf.d/99-nvidia.toml: never read: no file imports it; /etc/containerd/config.toml needs "
        'imports = ["/etc/containerd/conf.d/*.toml"]'
    ]


def test_a_base_spec_that_is_not_there(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = root / "etc/containerd/config.toml"
    handler = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n'
    config.write_text(f'version = 2\n{handler}base_runtime_spec = "/etc/containerd/spec.json"\n')
    code, state = document(capsys, FILE, "--containerd", "1.7.24", "--root", str(root))
    assert (code, state["cri"]) == (1, "error")
    assert state["error"] == "runtimes.runc: base_runtime_spec /etc/containerd/spec.json cannot be read"
    (root / "etc/containerd/spec.json").write_text('{"ociVersion": "1.0.2"}')
    assert document(capsys, FILE, "--containerd", "1.7.24", "--root", str(root))[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("/nope.toml", "--containerd", "2.1"), "gpuwizard: the configuration file does not exist (/nope.toml)"),
        (("/", "--containerd", "2.1"), "gpuwizard: this is a folder, not a configuration file (/)"),
        (("/dev/zero", "--containerd", "2.1"), "gpuwizard: the file is too large for a configuration (/dev/zero)"),
        ((FILE,), "gpuwizard: effective needs the version of the containerd"),
        ((), "gpuwizard: effective takes one file"),
        (("a", "b", "--containerd", "2.1"), "gpuwizard: effective takes one file, not a b"),
        ((FILE, "--containerd", "2.1", "--root", "/nope"), "gpuwizard: --root is no folder (/nope)"),
    ],
)
def test_wrong_usage(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["effective", *words]) == 64
    error = capsys.readouterr().err
    assert error.startswith(said)
    assert "\n  try: " in error


def test_a_version_that_is_none(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["effective", FILE, "--containerd", "new", "--root", str(root)]) == 64
    assert (
        capsys.readouterr().err == "gpuwizard: not a containerd version: 'new'\n  try: write it like 1.7.24 or v2.1\n"
    )


@pytest.mark.parametrize(
    "text", ["1.7.24~ds1", "v2.1", "containerd://2.0.5-k3s1", "2.4.0-beta.0", "1.6.20~ds1-1+deb12u3"]
)
def test_versions_as_people_write_them(root: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, state = document(capsys, FILE, "--containerd", text, "--root", str(root))
    assert str(state["containerd"]) in text.replace("v2.1", "2.1.0")
