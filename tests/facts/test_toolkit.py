"""The container toolkit as the real probe finds it: programs, version, config.toml, package sources."""

from pathlib import Path

import pytest

from gpuwizard.facts.model import Probe, ToolkitFacts
from gpuwizard.facts.parse import parse_probe
from gpuwizard.facts.toolkit.config import config_refused, read_config
from gpuwizard.facts.toolkit.sources import source_conflicts
from gpuwizard.facts.toolkit.toolkit import ToolkitInputs, ctk_version, package_release, release, toolkit_facts
from gpuwizard.work.probe import probe_script
from tests.captured import edit
from tests.probe_tree import SHELLS, Tree

CONFIG = """\
#accept-nvidia-visible-devices-as-volume-mounts = false
disable-require = false
[nvidia-container-cli]
environment = []
load-kmods = true
ldconfig = "@/sbin/ldconfig.real"
#no-cgroups = false
#root = "/run/nvidia/driver"
[nvidia-container-runtime]
#debug = "/var/log/nvidia-container-runtime.log"
log-level = "info"
mode = "auto"
runtimes = ["runc", "crun"]
[nvidia-container-runtime.modes.cdi]
annotation-prefixes = ["cdi.k8s.io/"]
default-kind = "nvidia.com/gpu"
spec-dirs = ["/etc/cdi", "/var/run/cdi"]
[nvidia-container-runtime.modes.csv]
mount-spec-path = "/etc/nvidia-container-runtime/host-files-for-container.d"
"""


@pytest.fixture(params=SHELLS)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path / "host", request.param)


def probed(tree: Tree) -> Probe:
    return parse_probe(tree.run(probe_script()))


def toolkit(tree: Tree) -> ToolkitFacts:
    return probed(tree).facts.toolkit


def installed(tree: Tree, folder: str = "/usr/bin") -> None:
    for name in ("nvidia-container-runtime", "nvidia-container-runtime-hook", "nvidia-ctk", "nvidia-cdi-hook"):
        tree.file(f"{folder}/{name}", "", 0o755)


def test_a_toolkit_of_packages(tree: Tree) -> None:
    installed(tree)
    tree.file("/usr/bin/nvidia-container-cli", "", 0o755)
    tree.file("/usr/bin/runc", "", 0o755)
    tree.file("/etc/nvidia-container-runtime/config.toml", CONFIG)
    tree.tool("nvidia-ctk", "echo 'NVIDIA Container Toolkit CLI version 1.20.0'; echo 'commit: abc'")
    facts = toolkit(tree)
    assert (facts.version, facts.runtime_path, facts.operator_placed) == (
        "1.20.0",
        "/usr/bin/nvidia-container-runtime",
        False,
    )
    assert facts.binaries["nvidia-container-cli"] == "/usr/bin/nvidia-container-cli"
    assert facts.binaries["nvidia-container-runtime-hook"] == "/usr/bin/nvidia-container-runtime-hook"
    assert "nvidia-container-runtime.cdi" not in facts.binaries
    assert facts.config_path == "/etc/nvidia-container-runtime/config.toml"
    assert (facts.mode, facts.resolved_mode, facts.config_error) == ("auto", "jit-cdi", None)
    assert (facts.runtimes, facts.low_level["runc"], facts.low_level["crun"]) == (
        ("runc", "crun"),
        "/usr/bin/runc",
        None,
    )
    assert (facts.default_kind, facts.no_cgroups, facts.debug, facts.driver_root) == ("nvidia.com/gpu", False, (), None)
    assert facts.spec_dirs == ("/etc/cdi", "/var/run/cdi")
    assert facts.dev_char is False


def test_what_cannot_be_run_is_not_there(tree: Tree) -> None:
    tree.link("/usr/bin/nvidia-container-runtime", "/opt/gone/nvidia-container-runtime")
    tree.file("/usr/local/bin/nvidia-container-runtime", "")  # mode 644
    tree.folder("/opt/bin/nvidia-container-runtime")
    facts = toolkit(tree)
    assert (facts.runtime_path, facts.binaries, facts.version, facts.mode) == (None, {}, None, None)
    tree.file("/run/current-system/sw/bin/nvidia-container-runtime", "", 0o755)
    assert toolkit(tree).runtime_path == "/run/current-system/sw/bin/nvidia-container-runtime"


def test_nvidia_ctk_is_not_run_where_a_package_tells(tree: Tree) -> None:
    installed(tree)
    tree.file("/var/lib/dpkg/status", "Package: x\n")
    tree.tool("nvidia-ctk", f"echo run >>{tree.root}/data-ran; echo 'NVIDIA Container Toolkit CLI version 9.9.9'")
    tree.tool(
        "dpkg-query",
        "echo 'install installed nvidia-container-toolkit 1.18.2-1'\n"
        "echo 'install installed nvidia-container-toolkit-base 1.18.2-1'\n"
        "echo 'install installed libnvidia-container1 1.17.9-1'",
    )
    facts = toolkit(tree)
    assert facts.version == "1.18.2"
    assert facts.packages == {
        "nvidia-container-toolkit": "1.18.2-1",
        "nvidia-container-toolkit-base": "1.18.2-1",
        "libnvidia-container1": "1.17.9-1",
    }
    assert not (tree.root / "data-ran").exists()


def test_without_a_config_the_defaults_hold(tree: Tree) -> None:
    installed(tree)
    facts = toolkit(tree)
    assert (facts.mode, facts.config_path, facts.config_error) == ("auto", None, None)
    assert (facts.runtimes, facts.resolved_mode) == (("runc", "crun"), None)  # which release it is nobody said


def test_crios_private_runtimes(tree: Tree) -> None:
    installed(tree)
    tree.file("/usr/libexec/crio/crun", "", 0o755)
    tree.file(
        "/etc/nvidia-container-runtime/config.toml",
        '[nvidia-container-runtime]\n# runtimes = ["no"]\nruntimes = [\n  "/usr/libexec/crio/crun", # x\n  "kata"\n]\n',
    )
    facts = toolkit(tree)
    assert facts.runtimes == ("/usr/libexec/crio/crun", "kata")
    assert facts.low_level["/usr/libexec/crio/crun"] == "/usr/libexec/crio/crun"
    assert facts.low_level["kata"] is None
    assert facts.private_runtimes == ("/usr/libexec/crio/crun",)


def test_hooks_and_device_links(tree: Tree) -> None:
    tree.file("/run/containers/oci/hooks.d/oci-nvidia-hook.json", "{}")
    tree.file("/dev/char/195:0", "")
    facts = toolkit(tree)
    assert (facts.legacy_hook, facts.dev_char) == ("/run/containers/oci/hooks.d/oci-nvidia-hook.json", True)


def test_package_sources(tree: Tree) -> None:
    place = "https://nvidia.github.io/libnvidia-container/stable/deb"
    tree.file("/etc/apt/sources.list.d/old.list", f"deb {place}/$(ARCH) /\n# deb {place}/x /\n")
    tree.file(
        "/etc/apt/sources.list.d/toolkit.list",
        f"deb [arch=amd64 signed-by=/usr/share/keyrings/nvidia-container-toolkit-keyring.gpg] {place}/amd64 /\n"
        "deb https://user:secret@mirror.example/ubuntu noble main\n",
    )
    tree.file("/etc/apt/sources.list.d/ubuntu.sources", "Types: deb\nURIs: http://archive.ubuntu.com/ubuntu\n")
    tree.file(
        "/etc/yum.repos.d/nvidia.repo", "[x]\nbaseurl=https://nvidia.github.io/libnvidia-container/stable/rpm/x\n"
    )
    raw = tree.run(probe_script())
    facts = parse_probe(raw).facts.toolkit
    assert facts.sources == (
        "/etc/apt/sources.list.d/old.list",
        "/etc/apt/sources.list.d/toolkit.list",
        "/etc/yum.repos.d/nvidia.repo",
    )
    assert len(facts.source_conflicts) == 2
    assert facts.source_conflicts[0] == f"/etc/apt/sources.list.d/old.list: deb {place}/$(ARCH) /"
    assert b"secret" not in raw


def test_an_environment_that_names_another_config(tree: Tree) -> None:
    installed(tree)
    tree.file("/etc/nvidia-container-runtime/config.toml", CONFIG)
    tree.units({"containerd.service": "ActiveState=active\nEnvironment=NVIDIA_CTK_CONFIG_FILE_PATH=/srv/ctk.toml A=b"})
    probe = probed(tree)
    facts = probe.facts.toolkit
    assert (facts.config_path, facts.mode, facts.resolved_mode) == ("/srv/ctk.toml", None, None)
    assert any(unseen.what == "/srv/ctk.toml" for unseen in probe.facts.unseen)


@pytest.mark.parametrize(
    ("version", "mode", "integrated", "resolved"),
    [
        ("1.20.0", "auto", False, "jit-cdi"),
        ("1.18.0~rc.1", "auto", False, "jit-cdi"),
        ("1.17.9", "auto", False, "legacy"),
        ("1.17.9", "cdi", False, "cdi"),
        ("1.20.0", "legacy", False, "legacy"),
        ("1.20.0", "auto", True, "csv"),
        (None, "auto", True, "csv"),
        ("1.20.0", "auto", None, None),
        (None, "auto", False, None),
        ("1.20.0", "turbo", False, None),
    ],
)
def test_what_containers_get(version: str | None, mode: str, integrated: bool | None, resolved: str | None) -> None:
    facts = toolkit_facts(
        ToolkitInputs(
            runtime_path="/usr/bin/nvidia-container-runtime",
            version_text=version and f"NVIDIA Container Toolkit CLI version {version}",
            config=(0, f'[nvidia-container-runtime]\nmode = "{mode}"\n'),
            integrated=integrated,
        )
    )
    assert (facts.mode, facts.resolved_mode) == (mode, resolved)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[nvidia-container-runtime\nmode = 1\n", "line 1"),
        ("a = 1\nmode = 'x\n", "begun in line 2"),
        ("[nvidia-container-runtime]\nmode = 3\n", "mode is not a string"),
        ('[nvidia-container-runtime]\nruntimes = "runc"\n', "runtimes is not a list of strings"),
        ("nvidia-container-cli = 1\n", "nvidia-container-cli is not a table"),
        ('[nvidia-container-cli]\nno-cgroups = "yes"\n', "no-cgroups is neither true nor false"),
        ("a = 1\nb = [1,\n2\n", "begun in line 2"),
        ("x = " + "[" * 3000, "nested too deeply"),
    ],
)
def test_a_config_that_the_runtime_refuses(text: str, says: str) -> None:
    config = read_config(text)
    assert says in (config.error or "")
    assert (config.mode, config.runtimes) == (None, ())
    assert config_refused(config, None) == config.error


def test_a_config_with_a_mark_in_front_and_unknown_keys_is_taken() -> None:
    config = read_config('\ufeffnew-key = 1\n[nvidia-container-runtime]\r\nmode = "cdi"\r\n')
    assert (config.error, config.mode, config.default_kind) == (None, "cdi", "nvidia.com/gpu")


def test_ldconfig_of_the_container_is_refused_since_1_17_3() -> None:
    config = read_config('[nvidia-container-cli]\nldconfig = "/sbin/ldconfig"\n')
    assert config.error is None
    assert "does not start with '@'" in (config_refused(config, (1, 17, 3)) or "")
    assert config_refused(config, (1, 16, 2)) is None
    assert config_refused(config, None) is None
    allowed = '[nvidia-container-cli]\nldconfig = "/sbin/ldconfig"\n[features]\nallow-ldconfig-from-container = true\n'
    assert config_refused(read_config(allowed), (1, 20, 0)) is None


def test_settings_that_matter() -> None:
    config = read_config(
        '[nvidia-container-cli]\nno-cgroups = true\nroot = "/run/nvidia/driver"\ndebug = "/var/log/cli.log"\n'
        '[nvidia-container-runtime]\ndebug = "/dev/null"\nlog-level = "debug"\n'
    )
    assert (config.no_cgroups, config.driver_root) == (True, "/run/nvidia/driver")
    assert (config.debug, config.log_level) == (("/var/log/cli.log",), "debug")


STABLE = "https://nvidia.github.io/libnvidia-container/stable/deb/$(ARCH)"
SOURCES = {
    "/etc/apt/sources.list.d/a.list": f"deb [signed-by=/k.gpg] {STABLE} /\n#deb {STABLE} /\n",
    "/etc/apt/sources.list.d/b.sources": "Types: deb\nURIs: https://nvidia.github.io/libnvidia-container/stable/deb/arm64/\n"
    "Suites: /\nSigned-By: /k.gpg\n",
}


def test_sources_that_agree() -> None:
    assert source_conflicts(SOURCES) == ()
    assert source_conflicts({**SOURCES, "/etc/yum.repos.d/x.repo": f"deb {STABLE} /"}) == ()
    other = "deb https://nvidia.github.io/libnvidia-container/stable/ubuntu20.04/$(ARCH) /\n"
    assert source_conflicts({**SOURCES, "/etc/apt/sources.list.d/c.list": other}) == ()


def test_sources_that_disagree() -> None:
    with_key = SOURCES["/etc/apt/sources.list.d/b.sources"]
    two = with_key.replace("/k.gpg", "/other.gpg") + "Enabled: no\n" + with_key.replace("Signed-By: /k.gpg\n", "")
    conflicts = source_conflicts(
        {"/etc/apt/sources.list.d/b.sources": two, **{k: v for k, v in SOURCES.items() if "a.list" in k}}
    )
    assert len(conflicts) == 2  # the stanza that is switched off does not count
    assert any("Signed-By: none" in line for line in conflicts)
    assert source_conflicts({"/etc/apt/sources.list": f"deb {STABLE} /\n", **SOURCES})


def test_versions() -> None:
    assert ctk_version("level=warning msg=10.2 s\nNVIDIA Container Toolkit CLI version 1.20.0\ncommit: 1.2") == "1.20.0"
    assert ctk_version("") is None
    assert package_release("1:1.20.0-1") == "1.20.0"
    assert package_release("1.18.0~rc.1-1") == "1.18.0~rc.1"
    assert release("1.18.0~rc.1") == (1, 18, 0)
    assert release("1.20") == (1, 20, 0)
    assert release("v1") is None
    assert release(None) is None


@pytest.mark.parametrize("hostile", ["\x00\x1b[31m", "{" * 5000, "mode = " + "x" * 1_000_000, "\ufffd\n[[[["])
def test_hostile_text_is_no_exception(hostile: str) -> None:
    raw = b""
    for section in ("toolkit-config", "toolkit-state", "toolkit-binaries", "operator", "cdi-scan", "toolkit-version"):
        raw = edit(section, hostile, probe=raw or edit("x", ""))
    facts = parse_probe(edit("toolkit-source:/etc/apt/sources.list", hostile, probe=raw)).facts
    assert facts.toolkit.resolved_mode is None
    assert "\x1b" not in repr(facts)
