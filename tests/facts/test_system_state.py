"""The state of a machine: packages, cgroups, clock, disks, reboot, swap, SELinux, proxies, reachability."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwizard.cli import main
from gpuwizard.facts.look import look_at
from gpuwizard.facts.model import HostState, Probe
from gpuwizard.facts.parse import parse_probe
from gpuwizard.facts.system.proxies import hide_login, proxy_variables
from gpuwizard.facts.system.read import read_system
from gpuwizard.remote.local import LocalTransport
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.unattended import Unattended
from gpuwizard.work.probe import probe_host, probe_script
from tests.captured import CAPTURE, edit
from tests.probe_tree import SHELLS, Tree

DPKG = """\
install installed containerd.io 2.1.4-1
hold installed nvidia-driver-580-open 580.95.05-0ubuntu1
install half-configured nvidia-dkms-580-open 580.95.05-0ubuntu1
install triggers-pending libnvidia-compute-580 580.95.05-0ubuntu1
deinstall config-files nvidia-driver-550 550.163.01-0ubuntu1
unknown not-installed nvidia-driver-binary \

"""
DF = """\
/ /etc /run /var/lib /var/lib/containerd \n\
Filesystem     1024-blocks      Used Available Capacity Mounted on
/dev/nvme0n1p2   479151816 100000000 379151816      21% /
/dev/nvme0n1p2   479151816 100000000 379151816      21% /
tmpfs             13107200      2048  13105152       1% /run
/dev/nvme0n1p2   479151816 100000000 379151816      21% /
/dev/mapper/a b  999999999 999900000     99999     100% /data/my disk
"""


def state(section: str, text: str, **more: str) -> HostState:
    raw = edit(section, text)
    for name, content in more.items():
        raw = edit(name, content, probe=raw)
    return system_of(raw)


def system_of(raw: bytes, received: float | None = None) -> HostState:
    """The state alone: what the other readers make of the bytes is tested elsewhere."""
    return read_system(look_at(raw, received=received)).state


@pytest.fixture(params=SHELLS)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path / "host", request.param)


def test_packages_of_dpkg(tree: Tree) -> None:
    tree.file("/data/dpkg", DPKG)
    tree.tool("dpkg-query", f'[ "$1$2" = -W-f ] || exit 2; cat "{tree.root}/data/dpkg"; exit 1')
    look = look_at(tree.run(probe_script()))
    assert look.packages_asked
    assert look.packages == {
        "containerd.io": "2.1.4-1",
        "nvidia-driver-580-open": "580.95.05-0ubuntu1",
        "libnvidia-compute-580": "580.95.05-0ubuntu1",
    }
    found = parse_probe(tree.run(probe_script())).facts.state
    assert found.held_packages == ("nvidia-driver-580-open",)
    assert found.broken_packages == ("nvidia-dkms-580-open 580.95.05-0ubuntu1 half-configured",)


def test_packages_of_a_database_that_cannot_be_read(tree: Tree) -> None:
    tree.tool("dpkg-query", "echo 'dpkg-query: error: parsing file' >&2; exit 2")
    probe = parse_probe(tree.run(probe_script()))
    assert [(u.what, u.why) for u in probe.facts.unseen if u.what == "packages"] == [
        ("packages", "dpkg-query ended with status 2")
    ]
    assert not look_at(tree.run(probe_script())).packages_asked


def test_packages_of_rpm_where_dpkg_is_only_a_tool(tree: Tree) -> None:
    tree.tool("dpkg-query", "exit 1")
    tree.tool(
        "rpm",
        """
        [ "$1 $2" = "-q --qf" ] || exit 9
        for name; do
            case $name in
            containerd.io) echo '+containerd.io 2.1.4-1.el9' ;;
            kernel-devel-*) echo "+kernel-devel ${name#kernel-devel-}" ;;
            -* | +*) ;;
            *) echo "package $name is not installed" ;;
            esac
        done
        exit 70
        """,
    )
    look = look_at(tree.run(probe_script()))
    kernel = (look.frames.text("uname") or "").split()[1]
    assert look.packages == {"containerd.io": "2.1.4-1.el9", "kernel-devel": kernel}


def test_packages_of_pacman(tree: Tree) -> None:
    for folder in ("nvidia-open-dkms-580.95.05-3", "nvidia-utils-580.95.05-1", "containerd-2.1.4-1", "bash-5.3-1"):
        tree.folder(f"/var/lib/pacman/local/{folder}")
    look = look_at(tree.run(probe_script()))
    assert look.packages == {
        "nvidia-open-dkms": "580.95.05-3",
        "nvidia-utils": "580.95.05-1",
        "containerd": "2.1.4-1",
    }


def test_no_package_manager(tree: Tree) -> None:
    look = look_at(tree.run(probe_script()))
    assert not look.packages_asked
    assert look.packages == {}


def test_a_machine_in_a_folder(tree: Tree) -> None:
    tree.file("/sys/fs/cgroup/cgroup.controllers", "cpu memory\n")
    tree.file("/sys/fs/selinux/enforce", "1")
    tree.file(
        "/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sda3 partition 8388604 0 -2\n/z file 1024 0 -3\n"
    )
    tree.file("/run/reboot-required", "*** System restart required ***\n")
    tree.file("/run/reboot-required.pkgs", "linux-image-6.8.0-90-generic\nlibc6\nlinux-image-6.8.0-90-generic\n")
    tree.tool("df", f'shift 2; for path; do :; done; cat "{tree.root}/data/df"')
    tree.file("/data/df", "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda 1000 900 100 90% /\n")
    tree.tool("date", "echo 1795000000")
    found = parse_probe(tree.run(probe_script()), received=1794999990.0).facts.state
    assert (found.cgroup_version, found.cgroup_layout, found.selinux, found.systemd) == (
        2,
        "unified",
        "enforcing",
        True,
    )
    assert found.swap_bytes == (8388604 + 1024) * 1024
    assert found.reboot_needed is True
    assert found.reboot_why == ("/run/reboot-required", "linux-image-6.8.0-90-generic", "libc6")
    assert found.clock_offset_seconds == 10.5
    (mount,) = found.space
    assert (mount.path, mount.free_bytes, mount.total_bytes) == ("/", 102400, 1024000)
    assert {"/", "/etc", "/run", "/tmp"} <= set(mount.holds)


def test_the_hybrid_layout_is_version_1(tree: Tree) -> None:
    tree.file("/sys/fs/cgroup/unified/cgroup.controllers", "")
    tree.folder("/sys/fs/cgroup/memory")
    found = parse_probe(tree.run(probe_script())).facts.state
    assert (found.cgroup_version, found.cgroup_layout) == (1, "hybrid")


def test_reboot_marks() -> None:
    assert state("reboot", "").reboot_needed is None  # nothing here would leave a mark
    assert state("reboot", "watched:/etc/kernel/postinst.d/unattended-upgrades\n").reboot_needed is False
    suse = state("reboot", "needed:/run/reboot-needed: kexec\n")
    assert (suse.reboot_needed, suse.reboot_why) == (True, ("/run/reboot-needed: kexec",))
    assert parse_probe(CAPTURE).facts.state.reboot_needed is None


def test_room_on_disks() -> None:
    found = {mount.path: mount for mount in state("space", DF, mounts="/ ext4 rw\n/run tmpfs rw\n").space}
    assert list(found) == ["/", "/run", "/data/my disk"]
    assert found["/"].holds == ("/", "/etc", "/var/lib")
    assert found["/"].read_only is False
    assert found["/data/my disk"].holds == ("/var/lib/containerd",)
    assert found["/data/my disk"].free_bytes == 99999 * 1024
    assert found["/data/my disk"].read_only is None


def test_room_where_df_left_lines_out() -> None:
    lines = DF.splitlines(keepends=True)
    fewer = state("space", "".join([*lines[:3], lines[4]]))
    assert [(m.path, m.holds) for m in fewer.space] == [
        ("/", ("/", "/etc", "/var/lib", "/var/lib/containerd")),
        ("/run", ("/run",)),
    ]
    assert state("space", "/ /etc \n").space == ()
    assert state("space", "").space == ()


def test_clock() -> None:
    def offset(text: str, received: float | None) -> float | None:
        return system_of(edit("clock", text), received).clock_offset_seconds

    assert offset("1795000000", 1795000000.4) == 0.1
    assert offset("1795000000", 1795003600.0) == -3599.5
    assert offset("1795000000", None) is None
    assert offset("", 1795000000.0) is None
    assert offset("12", 1795000000.0) is None
    assert offset("99999999999999999", 1795000000.0) is None
    assert parse_probe(CAPTURE, received=1.0).facts.state.clock_offset_seconds is None


def test_swap_and_selinux() -> None:
    assert state("swaps", "Filename\tType\tSize\tUsed\tPriority\n").swap_bytes == 0
    assert state("swaps", "cat: /proc/swaps: Permission denied\n").swap_bytes is None
    assert state("swaps", "Filename Type Size Used Priority\n/dev/sda partition x 0 -2\n").swap_bytes is None
    assert state("selinux", "0").selinux == "permissive"
    assert state("selinux", "none").selinux == "disabled"
    assert state("selinux", "what").selinux is None
    assert parse_probe(CAPTURE).facts.state.selinux is None


def test_in_a_container_nothing_is_said_of_the_host() -> None:
    found = state(
        "marks", "/.dockerenv\n", swaps="Filename\n/dev/x partition 8 0 -2\n", selinux="1", reboot="needed:x\n"
    )
    assert (found.swap_bytes, found.selinux, found.reboot_needed) == (None, None, None)


def test_kubelet_settings() -> None:
    def refuses(text: str, key: str = "/var/lib/kubelet/config.yaml") -> tuple[bool | None, bool | None]:
        found = state(f"kubelet-config:{key}", text)
        return found.kubelet_refuses_swap, found.kubelet_refuses_cgroup_v1

    assert refuses("cgroupDriver: systemd\n") == (True, None)
    assert refuses("failSwapOn: false\nfailCgroupV1: false\n") == (False, False)
    assert refuses("failSwapOn: true\n") == (True, None)
    assert refuses("failSwapOn: false\n", "/var/lib/k0s/kubelet-config.yaml") == (None, None)
    assert parse_probe(CAPTURE).facts.state.kubelet_refuses_swap is None


# --- proxies ---

DROP_IN = """\
Environment="HTTP_PROXY=http://proxy.example:3128" "HTTPS_PROXY=http://user:s3cret@proxy.example:3128/"
Environment=NO_PROXY=localhost,10.0.0.0/8
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("HTTPS_PROXY=http://p:3128", {"HTTPS_PROXY": "http://p:3128"}),
        ('export https_proxy="http://p:3128"', {"https_proxy": "http://p:3128"}),
        ("CONTAINERD_NO_PROXY='a,b'", {"CONTAINERD_NO_PROXY": "a,b"}),
        ('Environment="NO_PROXY=a, b" "HTTP_PROXY=http://p"', {"NO_PROXY": "a, b", "HTTP_PROXY": "http://p"}),
        ("# HTTPS_PROXY=http://p", {}),
        ('HTTPS_PROXY=""', {}),
        ("MY_HTTPS_PROXY=http://p", {}),
        ("HTTPS_PROXY=http://a:b@c@p:1/", {"HTTPS_PROXY": "http://hidden@p:1/"}),
        ("HTTPS_PROXY=user:pw@p:1", {"HTTPS_PROXY": "hidden@p:1"}),
        ("HTTP_PROXY=http://p%%2F:1", {"HTTP_PROXY": "http://p%2F:1"}),
    ],
)
def test_proxy_variables(line: str, expected: dict[str, str]) -> None:
    assert proxy_variables(line) == expected


def test_a_login_is_hidden() -> None:
    assert hide_login("http://u:p@h:1/x, https://a@b") == "http://hidden@h:1/x, https://hidden@b"
    assert hide_login("http://h:1/x@y") == "http://h:1/x@y"  # no login: it stands in the path


def test_proxies_of_units_and_host(tree: Tree) -> None:
    tree.file("/etc/systemd/system/containerd.service.d/http-proxy.conf", f"[Service]\n{DROP_IN}")
    tree.file("/etc/systemd/system/other.service.d/http-proxy.conf", f"[Service]\n{DROP_IN}")
    tree.file("/etc/systemd/system/k3s.service.env", "K3S_TOKEN=K10secret\nHTTPS_PROXY=http://p:1\n", 0o600)
    tree.file("/etc/environment", 'PATH="/usr/bin"\nhttps_proxy="http://bob:hunter2@proxy.example:3128"\n')
    tree.file("/etc/apt/apt.conf.d/95proxies", 'Acquire::https::Proxy "http://eve:s3@apt.example:3142";\n')
    tree.file("/etc/dnf/dnf.conf", "[main]\nproxy=http://dnf.example:1\nproxy_username=ann\nproxy_password=pa55\n")
    tree.file("/etc/docker/daemon.json", '{"proxies": {"https-proxy": "http://x:y@docker.example:1", "no-proxy": 3}}')
    tree.units(
        {
            "containerd.service": "ActiveState=active\nEnvironment=FOO=1 NO_PROXY=10.0.0.0/8,.svc",
            "docker.service": "ActiveState=active",
            "crio.service": "ActiveState=active\nEnvironmentFiles=/etc/elsewhere (ignore_errors=yes)",
            "kubelet.service": "ActiveState=active",
        }
    )
    raw = tree.run(probe_script())
    for secret in (b"s3cret", b"K10secret", b"hunter2", b"eve:", b"pa55", b"=ann"):
        assert secret not in raw
    found = parse_probe(raw).facts.state
    assert found.proxies["containerd.service"] == {
        "HTTP_PROXY": "http://proxy.example:3128",
        "HTTPS_PROXY": "http://hidden@proxy.example:3128/",
        "NO_PROXY": "10.0.0.0/8,.svc",
    }
    assert found.proxies["k3s.service"] == {"HTTPS_PROXY": "http://p:1"}
    assert found.proxies["docker.service"] == {"HTTPS_PROXY": "http://hidden@docker.example:1"}
    assert "crio.service" not in found.proxies  # it reads a file that was not looked into
    assert "other.service" not in found.proxies
    assert found.host_proxies == {
        "/etc/environment": {"https_proxy": "http://hidden@proxy.example:3128"},
        "/etc/apt/apt.conf.d/95proxies": {"https": "http://hidden@apt.example:3142"},
        "/etc/dnf/dnf.conf": {"proxy": "http://dnf.example:1"},
    }


def test_a_unit_that_certainly_has_none(tree: Tree) -> None:
    tree.units({"containerd.service": "ActiveState=active"})
    assert parse_probe(tree.run(probe_script())).facts.state.proxies == {"containerd.service": {}}
    tree.file(
        "/etc/systemd/system.conf", "[Manager]\n#DefaultEnvironment=\nDefaultEnvironment=HTTPS_PROXY=http://p:1\n"
    )
    found = parse_probe(tree.run(probe_script())).facts.state
    assert found.proxies == {"containerd.service": {"HTTPS_PROXY": "http://p:1"}}


def test_suse_switches_its_proxy_off() -> None:
    off = 'PROXY_ENABLED="no"\nHTTPS_PROXY="http://p:1"\n'
    assert state("proxy:/etc/sysconfig/proxy", off).host_proxies == {}
    assert state("proxy:/etc/sysconfig/proxy", off.replace("no", "yes", 1)).host_proxies != {}


# --- reachability ---

CURL = """
for word; do last=$word; done
case $last in
https://nvcr.io/v2/) printf 'HTTP 401' ;;
https://registry.k8s.io/v2/) echo 'curl: (6) Could not resolve host: registry.k8s.io' >&2; printf 'HTTP 000'; exit 6 ;;
https://mirror.example:5000/v2/) printf "HTTP 200 by $https_proxy not $no_proxy" ;;
https://developer.download.nvidia.com/) printf "HTTP 200 by $https_proxy" ;;
http://deb.example/) echo 'curl: (56) CONNECT tunnel failed, response 407' >&2; printf 'HTTP 000'; exit 56 ;;
*) printf 'HTTP 404' ;;
esac
"""


def with_sources(tree: Tree) -> None:
    tree.file(
        "/etc/containerd/certs.d/docker.io/hosts.toml",
        'server = "https://registry-1.docker.io"\n\n[host."https://user:pw@mirror.example:5000/v2/x"]\n',
    )
    tree.file("/etc/apt/sources.list", "# deb http://old.example/ x\ndeb http://deb.example/debian trixie main\n")
    tree.file(
        "/etc/apt/sources.list.d/cuda.sources",
        "Types: deb\nURIs: https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/\n"
        "Signed-By: https://key.example/\n\nEnabled: no\nURIs: https://off.example/\n",
    )
    tree.file("/etc/systemd/system/containerd.service.d/p.conf", DROP_IN)
    tree.file("/etc/apt/apt.conf.d/proxy.conf", 'Acquire::http::Proxy "http://apt.example:3142";\n')


def test_reach_only_when_asked_for(tree: Tree) -> None:
    with_sources(tree)
    tree.tool("curl", "echo never; exit 1")
    assert parse_probe(tree.run(probe_script())).facts.state.reach == ()


def test_reach_by_curl(tree: Tree) -> None:
    with_sources(tree)
    tree.tool("curl", CURL)
    raw = tree.run(probe_script(reach=True))
    assert b"pw@" not in raw
    assert b"s3cret" not in raw
    found = {r.name: (r.kind, r.reached, r.reason) for r in parse_probe(raw).facts.state.reach}
    assert found == {
        "https://nvcr.io": ("registry", True, "HTTP 401"),
        "https://registry.k8s.io": (
            "registry",
            False,
            "curl: (6) Could not resolve host: registry.k8s.io",
        ),
        "https://registry-1.docker.io": ("registry", True, "HTTP 404"),
        "https://mirror.example:5000": (
            "registry",
            True,
            "HTTP 200 by http://hidden@proxy.example:3128/ not localhost,10.0.0.0/8",
        ),
        "https://developer.download.nvidia.com": ("packages", True, "HTTP 200 by http://apt.example:3142"),
        "http://deb.example": ("packages", False, "curl: (56) CONNECT tunnel failed, response 407"),
    }


def test_reach_by_wget_and_by_nothing(tree: Tree) -> None:
    nothing = parse_probe(tree.run(probe_script(reach=True))).facts
    assert "registries and package sources" in {u.what for u in nothing.unseen}
    assert nothing.state.reach == ()
    tree.tool("wget", "echo 'wget: server returned error: HTTP/1.1 401 Unauthorized' >&2; exit 1")
    assert {r.reached for r in parse_probe(tree.run(probe_script(reach=True))).facts.state.reach} == {True}
    tree.tool("wget", "echo \"wget: bad address 'nvcr.io'\" >&2; exit 1")
    assert {r.reached for r in parse_probe(tree.run(probe_script(reach=True))).facts.state.reach} == {False}


def test_reach_asks_eight_at_most(tree: Tree) -> None:
    tree.file("/etc/docker/daemon.json", '{"registry-mirrors": ["https://m1.example",\n "https://m2.example"], "x": 1}')
    tree.file(
        "/etc/yum.repos.d/x.repo",
        "".join(f"[r{n}]\nbaseurl=https://r{n}.example/$releasever/\nenabled={n % 2}\n" for n in range(20)),
    )
    tree.tool("curl", "printf 'HTTP 200'")
    facts = parse_probe(tree.run(probe_script(reach=True))).facts
    assert len(facts.state.reach) == 8
    assert {"https://m1.example", "https://m2.example"} <= {r.name for r in facts.state.reach}
    assert not any(r.name.startswith(("https://r0.", "https://r2.")) for r in facts.state.reach)
    assert ("further registries and package sources", "6 more are configured; 8 were asked") in {
        (u.what, u.why) for u in facts.unseen
    }


# --- whatever comes ---

SECTIONS = ("mounts", "space", "reboot", "swaps", "clock", "cgroup", "selinux", "packages", "packages-held", "reach")


@given(st.sampled_from(SECTIONS), st.text(max_size=400))
def test_any_text(section: str, text: str) -> None:
    found = system_of(edit(section, text), 1795000000.0)
    assert all(mount.free_bytes is None or mount.free_bytes >= 0 for mount in found.space)
    assert found.cgroup_version in (None, 1, 2)


@given(st.text(max_size=300))
def test_any_proxy_file(text: str) -> None:
    found = state("proxy:/etc/environment", f"HTTPS_PROXY=http://u:topsecret@h\n{text}").host_proxies
    assert "topsecret" not in str(found)


@given(st.integers(0, len(CAPTURE)))
def test_any_cut(length: int) -> None:
    found = system_of(CAPTURE[:length], 1795000000.0)
    assert found.swap_bytes is None
    assert found.clock_offset_seconds is None


def test_a_line_of_a_megabyte() -> None:
    long = "x" * 1_000_000
    assert state("space", f"/ \nFilesystem\n{long} 1 1 1 1% /").space
    assert state("mounts", long).space == ()
    assert state("proxy:/etc/environment", f"HTTPS_PROXY={long}\nHTTP_PROXY=http://p\n").host_proxies == {
        "/etc/environment": {"HTTP_PROXY": "http://p"}
    }
    assert read_system(look_at(edit("os-release", f"ID=debian\nNAME={long}\r{long}\n"))).os.id == "debian"


# --- through the engine ---


@pytest.mark.asyncio
async def test_the_clock_is_compared_with_this_machines() -> None:
    transport = LocalTransport(ConnectOptions(), Unattended())
    same = await probe_host(transport, sudo_password_known=False)
    offset = same.facts.state.clock_offset_seconds
    assert offset is not None  # it may well be exactly zero
    assert abs(offset) < 15
    behind = await probe_host(transport, sudo_password_known=False, now=lambda: time.time() + 3600)
    assert -3615 < (behind.facts.state.clock_offset_seconds or 0) < -3585
    other = await probe_host(transport, sudo_password_known=False, now=None)
    assert other.facts.state.clock_offset_seconds is None


def test_the_flag_reaches_the_host(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    async def look(transport: object, *, reach: bool = False, **_: object) -> Probe:
        asked.append(reach)
        return parse_probe(CAPTURE)

    monkeypatch.setattr("gpuwizard.work.probe.probe_host", look)
    for words in (["check", "local", "--reach", "--json"], ["check", "local", "--json"]):
        assert main(words) in (0, 1)
        capsys.readouterr()
    assert asked == [True, False]
