"""containerd without a dump, Docker and CRI-O out of files, arguments, packages and times (`runtimes.md §8-§10`)."""

from dataclasses import replace
from typing import Any

import pytest

from gpuwizard.facts.files import FileTimes
from gpuwizard.facts.frames import read_frames
from gpuwizard.facts.look import look_at
from gpuwizard.facts.model import Handler, HostFile, KubernetesFacts, RuntimeFacts
from gpuwizard.facts.runtimes.inputs import started_at, upstream_version, used_by_kubelet, written_since
from gpuwizard.facts.runtimes.read import read_runtimes
from gpuwizard.facts.runtimes.runtimes import ContainerdLook, RuntimeInputs, runtime_facts
from gpuwizard.facts.units import Process, Unit
from gpuwizard.secret import SecretBytes

MAIN = "/etc/containerd/config.toml"
CRI = 'plugins."io.containerd.grpc.v1.cri"'
BARE = RuntimeInputs((), (), {}, {}, KubernetesFacts("kubeadm"), "/run/containerd/containerd.sock")


def files(contents: dict[str, str | None]) -> dict[str, HostFile]:
    return {p: HostFile(p, SecretBytes(t.encode()) if t is not None else None) for p, t in contents.items()}


def process(*arguments: str, **more: Any) -> Process:
    return Process(9, arguments[0], 0, more.pop("exe", None), more.pop("unit", None), False, arguments, **more)


def containerd(contents: dict[str, str | None], version: str | None = "2.1.9", **more: Any) -> RuntimeFacts:
    text = None if version is None else f"containerd containerd.io v{version} abc"
    look = ContainerdLook(9, MAIN, version_text=text, **more.pop("look", {}))
    inputs = replace(BARE, containerds=(look,), files=files(contents), **more)
    return next(r for r in runtime_facts(inputs) if r.kind == "containerd")


def docker(text: str | None = None, *arguments: str, version: str = "28.2.2", **more: Any) -> RuntimeFacts:
    running = process("/usr/bin/dockerd", *arguments, **more.pop("process", {}))
    contents = {"/etc/docker/daemon.json": text}
    inputs = replace(
        BARE, processes=(running,), files=files(contents), docker_version=f"Docker version {version}, build 1", **more
    )
    return runtime_facts(inputs)[0]


def crio(contents: dict[str, str | None], *arguments: str, version: str = "1.33.2", **more: Any) -> RuntimeFacts:
    inputs = replace(
        BARE,
        processes=(process("/usr/bin/crio", *arguments),),
        files=files(contents),
        crio_version=f"crio version {version}",
        **more,
    )
    return runtime_facts(inputs)[0]


RUNC = f'[{CRI}.containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'
NVIDIA = f'[{CRI}.containerd.runtimes.nvidia]\nruntime_type = "io.containerd.runc.v2"\n'
IMPORTS = 'imports = ["/etc/containerd/conf.d/*.toml"]\n'
DROP = "/etc/containerd/conf.d/99-nvidia.toml"


def test_without_a_dump_the_files_are_merged_as_the_release_does() -> None:
    both: dict[str, str | None] = {MAIN: f"version = 2\n{IMPORTS}{RUNC}", DROP: f"version = 2\n{NVIDIA}"}
    assert set(containerd(both, "2.1.9").handlers) == {"runc", "nvidia"}
    assert set(containerd(both, "1.7.24").handlers) == {"nvidia"}  # the drop-in's table takes the place of the root's
    assert containerd(both, None).handlers == {}  # which of the two it is cannot be known
    assert containerd(both, "2.1.9").config_files == (MAIN, DROP)
    mixed = {**both, DROP: both[DROP].replace("version = 2", "version = 3")}  # type: ignore[union-attr]
    assert containerd(mixed, "2.1.9").handlers == {}
    assert set(containerd({MAIN: f"version = 2\n{NVIDIA}"}, "2.0.6").handlers) == {"runc", "nvidia"}
    assert set(containerd({MAIN: "version = 2\n"}, "1.7.24").handlers) == {"runc"}


def test_a_file_that_was_not_seen_makes_the_handlers_unknown() -> None:
    root = {MAIN: f'version = 2\nimports = ["/etc/other.toml"]\n{RUNC}'}
    assert containerd(dict(root)).handlers == {}
    assert containerd({**root, "/etc/other.toml": None}).handlers == {"runc": Handler("io.containerd.runc.v2")}


@pytest.mark.parametrize(
    ("version", "line", "cdi", "dirs"),
    [
        ("1.6.20", "enable_cdi = true", False, ()),
        ("1.7.24", "", False, ("/etc/cdi", "/var/run/cdi")),
        ("1.7.24", "enable_cdi = true\ncdi_spec_dirs = []", True, ()),
        ("2.1.9", "", True, ("/etc/cdi", "/var/run/cdi")),
        ("2.1.9", "enable_cdi = false", False, ("/etc/cdi", "/var/run/cdi")),
        (None, "", None, ()),
    ],
)
def test_cdi_by_release(version: str | None, line: str, cdi: bool | None, dirs: tuple[str, ...]) -> None:
    runtime = containerd({MAIN: f"version = 2\n[{CRI}]\n{line}\n{RUNC}"}, version)
    assert (runtime.cdi, runtime.cdi_spec_dirs) == (cdi, dirs)


def test_cgroup_driver_of_the_default_handler() -> None:
    options = f"[{CRI}.containerd.runtimes.runc.options]\nSystemdCgroup = true\n"
    default = f'[{CRI}.containerd]\ndefault_runtime_name = "NAME"\n'
    text = f"version = 2\n{default}{RUNC}{options}{NVIDIA}"
    assert containerd({MAIN: text.replace("NAME", "runc")}).systemd_cgroup is True
    assert containerd({MAIN: text.replace("NAME", "nvidia")}).systemd_cgroup is False
    assert containerd({MAIN: text.replace("NAME", "kata")}).systemd_cgroup is None
    kata = text.replace("NAME", "nvidia").replace(NVIDIA, NVIDIA.replace("runc.v2", "kata.v2"))
    assert containerd({MAIN: kata}).systemd_cgroup is None


def test_the_package_and_who_installed_it() -> None:
    unit = Unit("containerd.service", True, "active", 9, "/lib/systemd/system/containerd.service", ())
    packages = {"containerd.io": "1.7.27-1"}

    def owner(exe: str, **more: Any) -> tuple[str | None, str | None, bool | None]:
        runtime = containerd(
            {MAIN: "version = 2\n"}, look={"exe": exe}, units={unit.name: unit}, packages=packages,
            path_programs={"containerd": "/usr/bin/containerd"}, **more,
        )  # fmt: skip
        return runtime.owner, runtime.package, runtime.in_path

    assert owner("/usr/bin/containerd") == ("package", "containerd.io 1.7.27-1", True)
    assert owner("/bin/containerd") == ("package", "containerd.io 1.7.27-1", True)  # /bin is /usr/bin
    assert owner("/usr/local/bin/containerd") == ("local", None, False)
    assert owner("/snap/k8s/123/bin/containerd") == ("snap", None, False)
    linked = containerd(
        {MAIN: ""}, look={"exe": "/opt/c/containerd"},
        path_programs={"containerd": "/usr/local/bin/containerd", "containerd-file": "/opt/c/containerd"},
    )  # fmt: skip
    assert linked.in_path is True


def test_the_version_by_package_and_that_of_the_process() -> None:
    packages = {"containerd.io": "1.7.27-1", "docker-ce": "5:28.2.2-1~ubuntu.24.04~noble"}
    runtime = containerd({MAIN: ""}, None, look={"package": "containerd.io"}, packages=packages)
    assert (runtime.version, runtime.running_version) == ("1.7.27", None)
    replaced = containerd({MAIN: ""}, "2.1.9", look={"running_text": "containerd x v1.7.20 y"})
    assert (replaced.version, replaced.running_version) == ("2.1.9", "1.7.20")
    inputs = replace(BARE, processes=(process("dockerd"),), docker_package="docker-ce", packages=packages)
    assert runtime_facts(inputs)[0].version == "28.2.2"


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("5:28.2.2-1~ubuntu.24.04~noble", "28.2.2"),
        ("1.7.24~ds1-6+deb13u1", "1.7.24~ds1"),
        ("26.1.5+dfsg1-9+b9", "26.1.5+dfsg1"),
        ("1.33.2", "1.33.2"),
    ],
)
def test_upstream_versions(package: str, version: str) -> None:
    assert upstream_version(package) == version


def test_the_kubelets_runtime_is_not_known_without_its_socket() -> None:
    assert used_by_kubelet("/run/x", BARE) is False
    assert used_by_kubelet(None, BARE) is None
    assert used_by_kubelet(None, replace(BARE, endpoint="")) is False
    assert used_by_kubelet("/run/x", replace(BARE, endpoint=None)) is None


def test_when_a_process_began_and_what_was_written_since() -> None:
    times = {"/proc/self": FileTimes(10_000), "/a": FileTimes(9_000, 9_000), "/b": FileTimes(9_950, 9_950)}
    inputs = replace(BARE, times=times, uptime=500.0, files=files({"/a": "", "/b": "", "/gone": None}))
    began = started_at(process("containerd", ticks=40_000), inputs)  # 100 s ago
    assert began == 9_900
    assert started_at(process("containerd", ticks=60_000), inputs) is None  # begun after the boot that is shown
    assert started_at(process("containerd"), inputs) is None
    assert written_since(["/a"], began, inputs)[0] is False
    assert written_since(["/a", "/b"], began, inputs) == (True, ("/b",))
    assert written_since(["/a", "/not-asked"], began, inputs)[0] is None
    assert written_since(["/a"], None, inputs)[0] is None
    assert written_since([], began, inputs)[0] is None
    moved = replace(inputs, times={**times, "/a": FileTimes(9_000, 9_950)})
    assert written_since(["/a"], began, moved)[0] is None  # only its owner, its name or its times changed
    folder = replace(inputs, times={**times, "/etc/conf.d": FileTimes(9_950, 9_950)})
    assert written_since(["/a", "/etc/conf.d"], began, folder)[0] is None  # something came or went
    old = replace(inputs, times={**times, "/a": FileTimes(9_000)})
    assert written_since(["/a"], began, old)[0] is None  # an older probe did not tell


def test_docker_without_a_file() -> None:
    runtime = docker(None)
    assert (runtime.config_path, runtime.default_handler, runtime.effective_error) == (None, None, None)
    assert (runtime.cdi, runtime.cdi_spec_dirs) == (True, ("/etc/cdi", "/var/run/cdi"))
    assert docker("  \n").effective_error is None  # dockerd takes an empty file for an empty configuration
    assert docker('\ufeff{"debug": true}').effective_error is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{\n "runtimes": {},\n}\n', 3),
        ('{"a": NaN}', None),
        ("[]", None),
        ('{"a": 1} // x', 1),
        ("{\n'a': 1}", 2),
    ],
)
def test_daemon_json_that_is_none(text: str, line: int | None) -> None:
    runtime = docker(text)
    assert runtime.effective_error
    (warning,) = runtime.warnings
    assert (warning.kind, warning.line) == ("syntax", line)
    assert runtime.systemd_cgroup is None


@pytest.mark.parametrize(
    ("version", "text", "cdi"),
    [
        ("24.0.7", '{"features": {"cdi": true}}', False),
        ("25.0.0", "{}", False),
        ("28.1.1", '{"features": {"cdi": true}}', True),
        ("28.2.0", "{}", True),
        ("29.0.0", '{"features": {"cdi": false, "buildkit": true}}', False),
    ],
)
def test_cdi_of_docker(version: str, text: str, cdi: bool) -> None:
    assert docker(text, version=version).cdi is cdi


def test_docker_flags_and_file() -> None:
    text = '{"hosts": ["fd://"], "runtimes": {"a": {"path": "/a"}}, "exec-opts": [], "data-root": "/d"}'
    flags = ("-H", "fd://", "--add-runtime", "nvidia=/usr/bin/nvidia-container-runtime", "--data-root=/d")
    runtime = docker(text, *flags)
    assert [(w.kind, w.text.split('"')[1]) for w in runtime.warnings] == [
        ("flag-and-file", "hosts"),
        ("flag-and-file", "data-root"),
    ]
    assert set(runtime.handlers) == {"a", "nvidia"}
    assert docker("{}", *flags).warnings == ()
    (misspelt,) = docker('{"default_runtime": "nvidia", "log-level": "x", "tls": true}').warnings
    assert (misspelt.kind, '"default-runtime" is' in misspelt.text) == ("unknown-key", True)


def test_the_cgroup_driver_of_docker() -> None:
    assert docker('{"exec-opts": ["native.cgroupdriver=systemd"]}').systemd_cgroup is True
    assert docker("{}", "--exec-opt", "native.cgroupdriver=cgroupfs", cgroup2=True).systemd_cgroup is False
    assert [docker("{}", cgroup2=it).systemd_cgroup for it in (True, False, None)] == [True, False, None]


def test_docker_and_the_hook() -> None:
    hook = "/usr/bin/nvidia-container-runtime-hook"

    def newer(changed: int) -> bool | None:
        times = {"/proc/self": FileTimes(10_000), hook: FileTimes(1, changed)}
        return docker("{}", process={"ticks": 40_000}, times=times, uptime=500.0).toolkit_newer_than_process

    assert (newer(9_950), newer(9_000)) == (True, False)
    assert docker("{}").toolkit_newer_than_process is None


def test_cri_dockerd() -> None:
    runtime = docker("{}", endpoint="/run/cri-dockerd.sock", path_programs={"cri-dockerd": "/usr/bin/cri-dockerd"})
    assert (runtime.used_by_kubelet, runtime.bridge) == (True, "cri-dockerd")
    assert docker("{}").used_by_kubelet is False
    assert docker("{}").bridge is None


def test_two_dockers() -> None:
    snap = process(
        "/snap/docker/1/bin/dockerd",
        "--config-file=/var/snap/docker/1/config/daemon.json",
        exe="/snap/docker/1/bin/dockerd",
    )
    snap = replace(snap, pid=8)
    paths = {"/etc/docker/daemon.json": "{}", "/var/snap/docker/1/config/daemon.json": '{"default-runtime": "x"}'}
    inputs = replace(BARE, processes=(process("/usr/bin/dockerd"), snap), files=files(dict(paths)))
    found = {r.pid: r for r in runtime_facts(inputs)}
    assert (found[8].owner, found[8].default_handler, found[9].default_handler) == ("snap", "x", None)


def test_crio_lays_files_over_one_another() -> None:
    folder = "/etc/crio/crio.conf.d"
    runtime = crio(
        {
            "/etc/crio/crio.conf": '[crio.runtime]\ncdi_spec_dirs = ["/etc/cdi"]\n[crio.image]\npause_image = "p:1"\n',
            f"{folder}/10-a": '[crio.runtime.runtimes.nvidia]\nruntime_path = "/a"\nmonitor_path = "/m"\n',
            f"{folder}/20/b": '[crio.runtime.runtimes.nvidia]\nruntime_path = "/b"\n'
            '[crio.api]\nlisten = "/run/x.sock"\n',
            f"{folder}/20-c": None,
        }
    )
    assert runtime.imports == ("/etc/crio/crio.conf", f"{folder}/10-a", f"{folder}/20/b")
    assert runtime.handlers == {"nvidia": Handler("oci", {"path": "/b"}), "crun": Handler("oci")}
    assert (runtime.default_handler, runtime.sandbox_image, runtime.socket) == ("crun", "p:1", "/run/x.sock")
    assert (runtime.cdi_spec_dirs, runtime.systemd_cgroup) == (("/etc/cdi",), True)


def test_crio_defaults_by_release() -> None:
    assert crio({}, version="1.30.9").default_handler == "runc"
    assert crio({}, version="1.31.0").default_handler == "crun"
    assert crio({}, "--default-runtime", "kata", "--cgroup-manager=cgroupfs").default_handler == "kata"
    assert crio({}, "--cgroup-manager=cgroupfs").systemd_cgroup is False
    assert (crio({}, version="1.23.5").cdi, crio({}, version="1.24.0").cdi) == (False, True)
    assert crio({}, version="unknown").default_handler is None


def test_crio_with_a_broken_file() -> None:
    runtime = crio({"/etc/crio/crio.conf.d/99-x": "[crio\n"})
    assert (runtime.handlers, runtime.default_handler, runtime.systemd_cgroup) == ({}, None, None)
    assert [(w.kind, w.line) for w in runtime.warnings] == [("syntax", 1)]


RIGHT = """
[crio]
root = "/var/lib/containers"
internal_wipe = true
[crio.api]
listen = "/run/crio/crio.sock"
stream_port = "0"
grpc_max_send_msg_size = 83886080
[crio.runtime]
default_runtime = "crun"
cdi_spec_dirs = ["/etc/cdi"]
pids_limit = -1
selinux = false
a_key_of_another_release = 7
[crio.runtime.runtimes.crun]
runtime_path = "/usr/libexec/crio/crun"
allowed_annotations = []
no_sync_log = false
platform_runtime_paths = {"linux/arm64" = "/x"}
[crio.runtime.workloads.management]
resources = {cpushares = 5}
[crio.image]
pinned_images = ["a", "b"]
[crio.stats]
stats_collection_period = 0
[other]
x = 1979-05-27
"""
HANDLER = "crio.runtime.runtimes.nvidia"


@pytest.mark.parametrize(
    ("text", "said", "line"),
    [
        ("[crio.runtime]\ndefault_runtime = 5\n", "crio.runtime.default_runtime is a number", 2),
        ('[crio.runtime]\nruntimes = "x"\n', "crio.runtime.runtimes is a text", 2),
        ("[[crio.runtime.runtimes]]\nx = 1\n", "crio.runtime.runtimes is a list", 1),
        ('[crio.runtime.runtimes]\nnvidia = "/n"\n', "crio.runtime.runtimes.nvidia is a text", 2),
        (f"[{HANDLER}]\nruntime_path = ['/n']\n", "crio.runtime.runtimes.nvidia.runtime_path is a list", 2),
        (f'[{HANDLER}]\nno_sync_log = "no"\n', "crio.runtime.runtimes.nvidia.no_sync_log is a text", 2),
        (f"[{HANDLER}]\nallowed_annotations = [1]\n", "crio.runtime.runtimes.nvidia.allowed_annotations is a list", 2),
        ("crio = 3\n", "crio is a number", 1),
        ("[crio]\nruntime = true\n", "crio.runtime is true or false", 2),
        ('[crio.runtime]\n\npids_limit = "9"\n', "crio.runtime.pids_limit is a text", 3),
        ("[crio.runtime]\npids_limit = true\n", "crio.runtime.pids_limit is true or false", 2),
        ("[crio.runtime]\nselinux = 1\n", "crio.runtime.selinux is a number", 2),
        ("[crio.image]\npause_image = 1979-05-27\n", "crio.image.pause_image is a date or a time", 2),
        (
            '[crio.runtime.runtimes."a\\u001bb"]\nruntime_path = 1\n',
            "crio.runtime.runtimes.a.runtime_path",
            2,
        ),
    ],
)
def test_crio_with_a_value_of_another_type(text: str, said: str, line: int) -> None:
    runtime = crio({"/etc/crio/crio.conf": RIGHT, "/etc/crio/crio.conf.d/99-x": text})
    assert (runtime.effective_error or "").startswith(f"{said}")
    assert (runtime.handlers, runtime.default_handler) == ({}, None)
    assert [(w.kind, w.path, w.line) for w in runtime.warnings] == [("syntax", "/etc/crio/crio.conf.d/99-x", line)]


def test_crio_with_values_that_it_takes() -> None:
    runtime = crio({"/etc/crio/crio.conf": RIGHT, "/etc/crio/crio.conf.d/99-x": ""})
    assert (runtime.effective_error, runtime.default_handler, runtime.warnings) == (None, "crun", ())


def test_crio_programs() -> None:
    table = '[crio.runtime.runtimes.nvidia]\nruntime_path = "/n"\n[crio.runtime.runtimes.kata]\n'
    inherits = "[crio.runtime.runtimes.high]\ninherit_default_runtime = true\n"
    runtime = crio({"/etc/crio/crio.conf": table + inherits}, programs={"/n": "", "crun": "/usr/bin/crun", "high": ""})
    assert dict(runtime.missing_binaries) == {"nvidia": "/n"}


@pytest.mark.parametrize("text", ["", "\x00\xff", "@@ containerd:7 0 9\nconfig=\n\n", "@@ programs 0 9999\n==\n"])
def test_hostile_sections(text: str) -> None:
    raw = text.encode("latin-1") + b"\n@@ containerd:x 0 12\nconfig=/c\x1b[2J\n\n@@ uptime 0 3\nnan\n@@ cgroup 0 1\nx\n"
    look = look_at(raw)
    for runtime in read_runtimes(look, KubernetesFacts("kubeadm"), None):
        assert "\x1b" not in repr(runtime)
    assert read_frames(raw)
