"""Rules about the state of a machine: clock, disks, cgroups, swap, SELinux, systemd, packages, pending reboot."""

import re

from gpuwizard.facts.model import MountSpace, Probe
from gpuwizard.findings.rule import KUBELET, Rule, Verdict

__all__ = ["RULES"]

_CLOCK_WARNING, _CLOCK_ERROR = 30.0, 300.0
"""Seconds. Both clocks may be wrong; a few seconds are lost in comparing them."""
_CGROUP_V2_ONLY = (1, 35)
"""The Kubernetes release from which the kubelet refuses cgroup v1 unless it is told otherwise."""
_PLAIN = ("host", "jetson")


def _clock(probe: Probe) -> Verdict | None:
    offset = probe.facts.state.clock_offset_seconds
    if offset is None or abs(offset) <= _CLOCK_WARNING:
        return None
    side = "ahead of" if offset > 0 else "behind"
    far = abs(offset) > _CLOCK_ERROR
    return Verdict(
        (f"the host's clock is {abs(offset):.0f} s {side} this machine's",), severity="error" if far else None
    )


def _release(probe: Probe) -> tuple[int, int] | None:
    match = re.match(r"v?(\d{1,3})\.(\d{1,3})", probe.facts.kubernetes.version or "")
    return (int(match[1]), int(match[2])) if match else None


def _cgroups(probe: Probe) -> tuple[str, ...] | None:
    """The evidence of cgroup v1 on a host with a kubelet."""
    state, kubernetes = probe.facts.state, probe.facts.kubernetes
    if state.cgroup_version != 1 or probe.facts.os.kind == "container" or kubernetes.flavour in ("none", "unknown"):
        return None
    layout = "/sys/fs/cgroup is the hybrid layout" if state.cgroup_layout == "hybrid" else "/sys/fs/cgroup is version 1"
    return (
        f"{layout}: the controllers are those of version 1",
        f"{kubernetes.flavour} {kubernetes.version or ''}".strip(),
    )


def _cgroup_ends(probe: Probe) -> Verdict | None:
    evidence, release = _cgroups(probe), _release(probe)
    if evidence is None or (release is not None and release >= _CGROUP_V2_ONLY):
        return None
    return Verdict(evidence)


def _cgroup_refused(probe: Probe) -> Verdict | None:
    evidence, release = _cgroups(probe), _release(probe)
    if evidence is None or release is None or release < _CGROUP_V2_ONLY:
        return None
    if probe.facts.state.kubelet_refuses_cgroup_v1 is False:
        return Verdict(
            (*evidence, "failCgroupV1: false"), severity="info", title="the kubelet is told to bear cgroup v1"
        )
    if probe.facts.kubernetes.active:
        return Verdict(evidence, severity="warning", title="the kubelet runs on cgroup v1, which it refuses by default")
    return Verdict(evidence, about=frozenset((KUBELET,)))


def _reboot(probe: Probe) -> Verdict | None:
    state = probe.facts.state
    return Verdict(state.reboot_why[:8] or ("a reboot is asked for",)) if state.reboot_needed else None


def _selinux(probe: Probe) -> Verdict | None:
    return Verdict(("/sys/fs/selinux/enforce: 1",)) if probe.facts.state.selinux == "enforcing" else None


def _no_systemd(probe: Probe) -> Verdict | None:
    if probe.facts.state.systemd is not False or probe.facts.os.kind not in _PLAIN:
        return None
    return Verdict(("/run/systemd/system is not there",))


def _swap(probe: Probe) -> Verdict | None:
    state, kubernetes = probe.facts.state, probe.facts.kubernetes
    if not state.swap_bytes or not state.kubelet_refuses_swap or kubernetes.flavour != "kubeadm":
        return None
    size = f"/proc/swaps: {state.swap_bytes / 2**30:.1f} GiB of swap are on"
    about = frozenset((KUBELET,) if probe.facts.kubernetes.active is not True else ())
    return Verdict((size, "failSwapOn is not false in the kubelet's configuration"), about=about)


def _interrupted(probe: Probe) -> Verdict | None:
    broken = probe.facts.state.broken_packages
    return Verdict(broken[:8], about=frozenset(line.split()[0] for line in broken if line)) if broken else None


def _read_only(probe: Probe) -> Verdict | None:
    system = probe.facts.os
    if system.immutable is not False or system.kind == "container":
        return None
    wanted = [mount for mount in probe.facts.state.space if mount.read_only and _written(mount)]
    if not wanted:
        return None
    return Verdict(tuple(f"{m.path} is mounted read-only and holds {', '.join(_written(m)[:6])}" for m in wanted))


def _written(mount: MountSpace) -> list[str]:
    """What is written to in normal work."""
    return [path for path in mount.holds if path not in ("/boot", "/usr")]


RULES = (
    Rule(
        "GW-HOST-018",
        "warning",
        "the host's clock differs from this machine's",
        "One of the two clocks is wrong. Where all hosts differ by the same, it is this machine's.",
        "`timedatectl status` and `chronyc tracking` (or `timedatectl timesync-status`) on the host; start chrony or "
        "systemd-timesyncd: `timedatectl set-ntp true`.",
        _clock,
        ("hosts.md §0",),
        effect="Certificates and tokens are taken for expired or not yet valid: image pulls, the API server and "
        "NVIDIA's "
        "repositories fail; logs of several nodes cannot be compared.",
        detected="The host's `date +%s` against this machine's clock when the answer arrived; more than 30 s is a "
        "warning, more than 5 minutes an error.",
        messages=("x509: certificate has expired or is not yet valid", "Release file is not valid yet"),
        sources=("chronyc(1)", "timedatectl(1)"),
    ),
    Rule(
        "GW-HOST-021",
        "error",
        "a file system that must be written to is mounted read-only",
        "The kernel remounts a file system read-only after an error on its disk; or it was mounted so on purpose.",
        "`dmesg | grep -iE 'I/O error|EXT4-fs error|XFS'`. Repair the disk and reboot, or remount it: "
        "`mount -o remount,rw PATH`.",
        _read_only,
        ("hosts.md §1.2", "hosts.md §9.1"),
        effect="Neither packages nor configuration nor containers can be written there.",
        detected="The options in /proc/self/mounts of the file systems below /, /etc, /run, /tmp, /var and the "
        "runtimes' folders.",
        messages=("Read-only file system",),
        sources=("mount(8)", "ext4(5) errors=remount-ro"),
    ),
    Rule(
        "GW-HOST-022",
        "info",
        "cgroup v1: the last Kubernetes that takes it without being asked is 1.34",
        "The host was booted with version 1 of the control groups. Kubernetes has had them in maintenance since 1.31, "
        "and from 1.35 on the kubelet refuses them by default. containerd 2 has no runc.v1 shim for them.",
        "Before the update to 1.35 boot with `systemd.unified_cgroup_hierarchy=1` (grubby or /etc/default/grub) and "
        "set "
        "the systemd cgroup driver in runtime and kubelet; drain the node first.",
        _cgroup_ends,
        ("hosts.md §7.2", "kubernetes.md App. E"),
        effect="After the update to Kubernetes 1.35 the kubelet of this node does not start.",
        detected="/sys/fs/cgroup/cgroup.controllers is missing.",
        messages=("kubelet is configured to not run on a host using cgroup v1",),
        sources=("kubernetes/enhancements#5573", "kubernetes/kubernetes#134298", "NVIDIA/OpenShell#360"),
    ),
    Rule(
        "GW-HOST-023",
        "warning",
        "a reboot is pending",
        "Updates were installed that count only after a reboot: a kernel, a library of the system or a new image.",
        "Check first that the next kernel has an NVIDIA module (GW-DRIVER findings), drain the node and reboot it.",
        _reboot,
        ("hosts.md §3.2", "hosts.md §3.2 #10"),
        effect="The next boot, planned or not, brings another kernel; without a module for it the GPUs are gone.",
        detected="/run/reboot-required and its packages (Debian, Ubuntu), /run/reboot-needed (SUSE), "
        "/run/ostree/staged-deployment.",
        messages=("*** System restart required ***",),
        sources=("Debian policy 9.12", "zypp-boot-plugin(8)", "ostree-admin-deploy(1)"),
    ),
    Rule(
        "GW-HOST-024",
        "info",
        "SELinux is enforcing",
        "Programs and containers may do only what the policy allows, whoever they run as.",
        "Keep it on. K3s and RKE2 need k3s-selinux or rke2-selinux; look for denials with `ausearch -m avc -ts "
        "recent`.",
        _selinux,
        ("kubernetes.md §1.14 #48", "hosts.md §9.1"),
        effect="GPU Feature Discovery cannot write below /etc/kubernetes/node-feature-discovery/features.d, and files "
        "with a wrong label are not read; gpuwizard restores the label of what it writes.",
        detected="/sys/fs/selinux/enforce.",
        messages=("avc:  denied",),
        sources=("selinux(8)", "k3s-io/k3s-selinux"),
    ),
    Rule(
        "GW-HOST-025",
        "warning",
        "systemd does not run here",
        "Services are started by something else (OpenRC, runit, SysV), whose state gpuwizard does not read.",
        "Look at the services by hand (`rc-status`, `sv status`), and restart them by hand after a change.",
        _no_systemd,
        ("hosts.md §9.2", "hosts.md §7.1"),
        effect="Services show as unknown, and the timer that takes a change back by itself is weaker.",
        detected="/run/systemd/system is missing.",
        messages=("System has not been booted with systemd as init system",),
        sources=("sd_booted(3)",),
    ),
    Rule(
        "GW-HOST-026",
        "warning",
        "swap is on and the kubelet refuses it",
        "The kubelet does not start with swap on unless failSwapOn is false. A kubelet that runs was started before.",
        "`swapoff -a` and take swap out of /etc/fstab (and zram-generator); or set `failSwapOn: false` in "
        "/var/lib/kubelet/config.yaml and restart the kubelet.",
        _swap,
        ("hosts.md §7.1",),
        effect="After the next restart of the kubelet or of the host the node is NotReady.",
        detected="/proc/swaps, and failSwapOn in the kubelet's flags and configuration.",
        messages=("running with swap on is not supported, please disable swap",),
        sources=("kubernetes.io docs: kubelet-config.v1beta1 failSwapOn",),
        instead_of=("GW-KUBE-005",),
    ),
    Rule(
        "GW-HOST-027",
        "warning",
        "a package is only half installed",
        "dpkg was interrupted, or a package's script failed: with NVIDIA's packages mostly the build of the module.",
        "`dpkg --configure -a` and read what it says; then `apt-get -f install`.",
        _interrupted,
        ("hosts.md §5.2", "hosts.md §3.2 #2"),
        effect="apt refuses further installations, and the package's programs or modules may be missing.",
        detected="The states in dpkg's database.",
        messages=(
            "dpkg was interrupted, you must manually run 'dpkg --configure -a'",
            "Sub-process /usr/bin/dpkg returned",
        ),
        sources=("dpkg(1)",),
    ),
    Rule(
        "GW-HOST-032",
        "error",
        "the kubelet does not start on cgroup v1",
        "From Kubernetes 1.35 on the kubelet refuses a host with version 1 of the control groups.",
        "Boot with `systemd.unified_cgroup_hierarchy=1`; until then set `failCgroupV1: false` in the kubelet's "
        "configuration (K3s: `kubelet-arg: fail-cgroupv1=false`).",
        _cgroup_refused,
        ("hosts.md §7.2", "kubernetes.md App. E"),
        effect="The node stays NotReady; a kubelet that still runs does not come back after its next restart.",
        detected="/sys/fs/cgroup/cgroup.controllers is missing and Kubernetes is 1.35 or later.",
        messages=("kubelet is configured to not run on a host using cgroup v1",),
        sources=("kubernetes/enhancements#5573", "kubernetes/kubernetes#134298", "NVIDIA/OpenShell#360"),
        instead_of=("GW-KUBE-001", "GW-KUBE-005"),
    ),
)
