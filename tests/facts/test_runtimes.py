"""Runtimes and Kubernetes flavours out of units, processes, dumps and files (`hosts.md §7`, `runtimes.md §1, §2`)."""

from pathlib import Path

import pytest

from gpuwizard.facts.model import HostFile, KubernetesFacts
from gpuwizard.facts.runtimes.cri_config import plugin_state, read_cri
from gpuwizard.facts.runtimes.runtimes import ContainerdLook, RuntimeInputs, runtime_facts, same_socket
from gpuwizard.facts.text import load_toml
from gpuwizard.facts.units import flag, parse_process, parse_units
from gpuwizard.secret import SecretBytes

DATA = Path(__file__).parent.parent / "data" / "facts"
V2 = (
    'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]\n'
    'runtime_type = "io.containerd.runc.v2"\n'
)
V3 = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = 'nvidia'\n"
UNITS = """\
Id=containerd.service
LoadState=loaded
ActiveState=active
SubState=running
MainPID=700
FragmentPath=/lib/systemd/system/containerd.service
ExecStart={ path=/usr/bin/containerd ; argv[]=/usr/bin/containerd --config /etc/c.toml ; ignore_errors=no ; pid=700 }

Id=k3s.service
LoadState=not-found
ActiveState=inactive
MainPID=0
"""


def files(**contents: str) -> dict[str, HostFile]:
    return {p: HostFile(p, SecretBytes(t.encode())) for p, t in contents.items()}


def inputs(
    *looks: ContainerdLook,
    host_files: dict[str, HostFile] | None = None,
    endpoint: str | None = "/run/containerd/containerd.sock",
    kubernetes: KubernetesFacts | None = None,
) -> RuntimeInputs:
    return RuntimeInputs(
        containerds=looks,
        processes=(),
        units=parse_units(UNITS),
        files=host_files or {},
        kubernetes=kubernetes or KubernetesFacts("kubeadm"),
        endpoint=endpoint,
    )


def test_units() -> None:
    units = parse_units(UNITS)
    assert units["containerd.service"].running
    assert units["containerd.service"].pid == 700
    assert units["containerd.service"].arguments == ("/usr/bin/containerd", "--config", "/etc/c.toml")
    assert not units["k3s.service"].loaded
    assert parse_units("System has not been booted with systemd as init system (PID 1).") == {}


@pytest.mark.parametrize(
    ("group", "unit", "contained"),
    [
        ("0::/system.slice/containerd.service", "containerd.service", False),
        ("1:name=systemd:/system.slice/k3s-agent.service", "k3s-agent.service", False),
        ("0::/payload/system.slice/containerd.service", "containerd.service", False),
        ("0::/system.slice/snap.k8s.containerd.service", "snap.k8s.containerd.service", False),
        ("0::/system.slice/docker-0123.scope", None, True),
        ("0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-1.scope", None, True),
        ("0::/", None, False),
    ],
)
def test_the_unit_of_a_process(group: str, unit: str | None, contained: bool) -> None:
    process = parse_process("7", f"comm=containerd\nuid=0\ncgroup={group}\narg=containerd\narg=-c=/x\n")
    assert process is not None
    assert (process.unit, process.in_container) == (unit, contained)
    assert flag(process.arguments, "--config", "-c") == "/x"


def test_a_deleted_binary() -> None:
    process = parse_process("7", "comm=containerd\nexe=/usr/bin/containerd (deleted)\n")
    assert process is not None
    assert (process.exe, process.uid) == ("/usr/bin/containerd", None)
    assert parse_process("x", "comm=a") is None


@pytest.mark.parametrize("release", ["1.6.20", "1.7.24", "2.1.9", "2.3.4"])
def test_defaults_of_four_releases(release: str) -> None:
    """Excerpts of `containerd config default`, the same shape as a dump."""
    document = load_toml((DATA / f"containerd_{release}.toml").read_bytes())
    assert isinstance(document, dict)
    cri = read_cri(document)
    assert (set(cri.handlers), cri.default_handler, cri.disabled) == ({"runc"}, "runc", False)
    assert cri.handlers["runc"].runtime_type == "io.containerd.runc.v2"
    assert cri.handlers["runc"].options["SystemdCgroup"] is False


def test_only_the_dialect_of_the_version_counts() -> None:
    wrong = load_toml(V2.replace("version = 2", "version = 3"))
    assert isinstance(wrong, dict)
    assert read_cri(wrong).handlers == {}
    unversioned = load_toml('disabled_plugins = ["cri"]\n[plugins.cri.containerd.runtimes.x]\nruntime_type = "y"\n')
    assert isinstance(unversioned, dict)
    assert (set(read_cri(unversioned).handlers), read_cri(unversioned).disabled) == ({"x"}, True)


HEAD = "TYPE                       ID        PLATFORMS   STATUS\nio.containerd.content.v1   content   -           ok\n"


@pytest.mark.parametrize(
    ("rows", "state"),
    [
        ("io.containerd.grpc.v1   cri   linux/amd64   ok\n", "ok"),
        ("io.containerd.grpc.v1   cri   linux/amd64   error\n", "error"),
        (
            "io.containerd.cri.v1 images - ok\nio.containerd.cri.v1 runtime linux/amd64 error\n"
            "io.containerd.grpc.v1 cri - error\n",
            "error",
        ),
        ("io.containerd.cri.v1 images - ok\nio.containerd.cri.v1 runtime linux/amd64 ok\n", "disabled"),
        ("", "disabled"),
    ],
)
def test_state_of_the_cri_plugin(rows: str, state: str) -> None:
    assert plugin_state(HEAD + rows)[0] == state


def test_no_plugin_table_says_nothing() -> None:
    assert plugin_state("ctr: failed to dial")[0] is None


def test_the_dump_counts_and_the_version_is_the_files() -> None:
    look = ContainerdLook(
        700, "/etc/containerd/config.toml", "/run/containerd/containerd.sock", "/usr/bin/containerd", dump=V3
    )
    (runtime,) = runtime_facts(inputs(look, host_files=files(**{"/etc/containerd/config.toml": V2})))
    assert (runtime.config_version, runtime.default_handler) == (2, "nvidia")
    assert (runtime.unit, runtime.owner, runtime.used_by_kubelet) == ("containerd.service", "package", True)


def test_early_2_0_dumps_are_not_trusted() -> None:
    """config dump of 2.0.0 to 2.0.5 shows the defaults in place of a version 2 file."""
    look = ContainerdLook(700, "/c.toml", version_text="containerd x v2.0.3 y", dump="version = 3\n")
    (runtime,) = runtime_facts(inputs(look, host_files=files(**{"/c.toml": V2})))
    assert set(runtime.handlers) == {"nvidia", "runc"}  # with the one that 2.x builds in
    assert "2.0.0 to 2.0.5" in (runtime.effective_error or "")


def test_broken_files_and_absent_files() -> None:
    look = ContainerdLook(None, "/c.toml")
    (broken,) = runtime_facts(inputs(look, host_files=files(**{"/c.toml": "a = [\n"})))
    assert broken.effective_error is not None
    assert (broken.config_version, broken.running) == (None, False)
    (absent,) = runtime_facts(inputs(look))
    assert (absent.effective_error, absent.config_version, absent.handlers) == (None, None, {})


def test_a_stopped_k3s_still_has_its_rendered_file() -> None:
    kubernetes = KubernetesFacts("k3s", service="k3s.service", data_dir="/data/k3s")
    path = "/data/k3s/agent/etc/containerd/config.toml"
    host_files = files(**{path: V3})
    found = runtime_facts(
        inputs(host_files=host_files, kubernetes=kubernetes, endpoint="/run/k3s/containerd/containerd.sock")
    )
    (runtime,) = found
    assert (runtime.owner, runtime.unit, runtime.running, runtime.used_by_kubelet) == (
        "k3s",
        "k3s.service",
        False,
        True,
    )


def test_sockets() -> None:
    assert same_socket("unix:///var/run/containerd/containerd.sock", "/run/containerd/containerd.sock")
    assert not same_socket(None, "/run/x")
    assert not same_socket("", "")
