"""Rules about K3s and RKE2: finding the toolkit at their start, the default runtime, what they ship."""

from gpuwizard.facts.model import Probe
from gpuwizard.findings.kubernetes.words import (
    flavour_name,
    is_rancher,
    is_template,
    moment,
    plan_may_act,
    release_of,
    rendered_path,
)
from gpuwizard.findings.rule import KUBELET, NVIDIA_HANDLER, Rule, Verdict, installed_gpus, looked_at, missing_programs

__all__ = ["RULES"]

_NAME = "nvidia-container-runtime"
_LOOKED_IN = (
    "/usr/local/nvidia/toolkit",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/opt/bin",
)  # where the probe looks for the toolkit
_NVIDIA = ("nvidia", "nvidia-cdi", "nvidia-experimental")
_WASM = ("lunatic", "slight", "spin", "wws", "wasmedge", "wasmer", "wasmtime")
_DETECTED = frozenset((*_NVIDIA, "crun", *_WASM))
_MISSED = frozenset((NVIDIA_HANDLER,))
_RUNTIMES = "k3s-io/k3s pkg/agent/containerd/runtimes.go"
_LINUX = "k3s-io/k3s pkg/agent/containerd/config_linux.go"


def _lacks_handler(probe: Probe) -> bool:
    """The file that the service rendered was read, and has no nvidia handler."""
    runtime = probe.facts.kubelet_runtime
    return (
        is_rancher(probe)
        and runtime is not None
        and runtime.config_path == rendered_path(probe)
        and bool(runtime.handlers)
        and "nvidia" not in runtime.handlers
        and bool(installed_gpus(probe))
    )


def _found_at(probe: Probe) -> str | None:
    """The runtime where the service looks for it; None where there is none, or where that is not known."""
    path, search = probe.facts.toolkit.runtime_path, probe.facts.kubernetes.search_path
    if path is None or search is None:
        return None
    return path if path.rpartition("/")[0] in search else None


def _started_before(probe: Probe) -> Verdict | None:
    kubernetes, release = probe.facts.kubernetes, release_of(probe)
    path = _found_at(probe)
    if not _lacks_handler(probe) or path is None or release is None or not release.detects_nvidia:
        return None
    if any(is_template(t) and t.state in ("stale", "dangerous", "unread") for t in kubernetes.template_states):
        return None
    evidence = [f"{rendered_path(probe)}: no handler nvidia", f"installed: {path}"]
    rendered, changed = kubernetes.rendered_at, kubernetes.toolkit_changed
    if rendered is not None and changed is not None:
        if changed <= rendered:
            return None  # it was there at the start: something else is wrong
        evidence += [
            f"{flavour_name(probe)} last started {moment(rendered)}",
            f"toolkit put in place {moment(changed)}",
        ]
    ours = kubernetes.flavour == "k3s" and plan_may_act(probe)
    unit = kubernetes.service or kubernetes.flavour
    remedy = f"gpuwizard's plan restarts {unit}." if ours else f"Restart it: `systemctl restart {unit}`."
    return Verdict(
        tuple(evidence),
        title=f"the toolkit was installed after {flavour_name(probe)} was started",
        remedy=f"{remedy} Pods go on running; with several servers restart one at a time.",
        fixable=ours,
        about=_MISSED,
    )


def _outside_path(probe: Probe) -> Verdict | None:
    kubernetes, path, release = probe.facts.kubernetes, probe.facts.toolkit.runtime_path, release_of(probe)
    search = kubernetes.search_path
    if not _lacks_handler(probe) or path is None or search is None or release is None or not release.detects_nvidia:
        return None
    if path.rpartition("/")[0] in search or kubernetes.toolkit_changed is not None:
        return None
    unit = (kubernetes.service or kubernetes.flavour).removesuffix(".service")
    link = f"`ln -s {path} {'/usr/local/bin' if '/usr/local/bin' in search else '/usr/bin'}/`"
    own = f", or set PATH in /etc/default/{unit}" if release.looks_in_own_path else ""
    return Verdict(
        (f"installed: {path}", f"{flavour_name(probe)} looks in {', '.join(search)}"),
        remedy=f"{link}{own}, and restart {unit}.",
        about=_MISSED,
    )


def _too_old(probe: Probe) -> Verdict | None:
    release = release_of(probe)
    if not is_rancher(probe) or release is None or release.detects_nvidia or not installed_gpus(probe):
        return None
    return Verdict((f"{flavour_name(probe)} {probe.facts.kubernetes.version}",), about=_MISSED)


def _default_not_found(probe: Probe) -> Verdict | None:
    kubernetes, release = probe.facts.kubernetes, release_of(probe)
    name = kubernetes.default_runtime
    if not is_rancher(probe) or name is None or release is None or not release.has_default_runtime:
        return None
    option = f"default-runtime: {name}"
    if name not in _DETECTED:
        why = "it is always there" if name == "runc" else "it is no runtime that is looked for"
        return Verdict(
            (option, f"{flavour_name(probe)} accepts only runtimes that it finds by itself; {name}: {why}"),
            about=frozenset((KUBELET,)),
            remedy="Remove the option; a handler of your own becomes the default by default_runtime_name in a drop-in.",
        )
    if name != "nvidia" or not _toolkit_absent(probe):
        return None
    search = ", ".join(kubernetes.search_path or ())
    about = frozenset((KUBELET, NVIDIA_HANDLER, *missing_programs(probe)))
    return Verdict((option, f"no {_NAME} in {search}"), about=about)


def _toolkit_absent(probe: Probe) -> bool:
    """There is no runtime in any folder in which the service looks, and the probe looked in all of them."""
    kubernetes = probe.facts.kubernetes
    search, data = kubernetes.search_path, f"{kubernetes.data_dir}/"
    if search is None or not looked_at(probe) or kubernetes.toolkit_changed is not None or _found_at(probe):
        return False
    return probe.readable and all(folder in _LOOKED_IN or folder.startswith(data) for folder in search)


def _on_docker(probe: Probe) -> Verdict | None:
    kubernetes = probe.facts.kubernetes
    if not is_rancher(probe) or "cri-dockerd" not in (kubernetes.runtime_endpoint or "") or not installed_gpus(probe):
        return None
    return Verdict((f"{flavour_name(probe)} uses {kubernetes.runtime_endpoint}",))


def _restarts_by_operator(probe: Probe) -> Verdict | None:
    operator = probe.facts.operator
    if not is_rancher(probe) or operator.toolkit is not True or not installed_gpus(probe):
        return None
    return Verdict((f"{flavour_name(probe)}; /usr/local/nvidia/toolkit is there", *operator.drop_ins))


def _no_cdi_class(probe: Probe) -> Verdict | None:
    runtime, kubernetes = probe.facts.kubelet_runtime, probe.facts.kubernetes
    if not is_rancher(probe) or kubernetes.role != "server" or runtime is None or "nvidia-cdi" not in runtime.handlers:
        return None
    return Verdict((f"{runtime.config_path}: handler nvidia-cdi", f"{flavour_name(probe)} ships no class of that name"))


def _no_classes(probe: Probe) -> Verdict | None:
    kubernetes, release = probe.facts.kubernetes, release_of(probe)
    if not is_rancher(probe) or kubernetes.role != "server" or release is None or not installed_gpus(probe):
        return None
    ships = release.has_default_runtime if kubernetes.flavour == "k3s" else release.rke2_has_runtime_classes
    if ships or not release.detects_nvidia:
        return None
    return Verdict((f"{flavour_name(probe)} {kubernetes.version} ships no RuntimeClass objects",))


def _etcd(probe: Probe) -> Verdict | None:
    kubernetes = probe.facts.kubernetes
    if kubernetes.embedded_etcd is not True or not installed_gpus(probe):
        return None
    return Verdict((f"{kubernetes.data_dir}/server/db/etcd",))


_OWN = (
    Rule(
        "GW-K3S-003",
        "error",
        "the toolkit was installed after K3s was started",
        "K3s and RKE2 look for nvidia-container-runtime only when they start.",
        "Restart the service; pods go on running.",
        _started_before,
        ("runtimes.md §2.4", "kubernetes.md §1.14 #2", "runtimes.md §2.7"),
        effect="Pods with runtimeClassName nvidia cannot be started on this node.",
        detected="The rendered config.toml has no handler nvidia although the program lies where the service looks; "
        "the times of both are compared.",
        messages=('no runtime for "nvidia" is configured', "Found nvidia container runtime at"),
        sources=(_RUNTIMES, "NVIDIA/gpu-operator#432"),
        instead_of=("GW-RUNTIME-001",),
    ),
    Rule(
        "GW-K3S-004",
        "error",
        "the toolkit lies where K3s does not look",
        "Detection looks in /usr/local/nvidia/toolkit and, by release, in /usr/bin alone, in a fixed list of folders, "
        "or in the PATH of the service.",
        "Put a symbolic link to nvidia-container-runtime into /usr/local/bin and restart the service.",
        _outside_path,
        ("runtimes.md §2.4", "runtimes.md §2.2", "runtimes.md §2.7"),
        effect="The handler nvidia never appears, however often the service is restarted.",
        detected="The folder of the program is compared with the PATH of the running service and its release.",
        messages=('no runtime for "nvidia" is configured',),
        sources=(_RUNTIMES, _LINUX),
        instead_of=("GW-RUNTIME-001",),
    ),
    Rule(
        "GW-K3S-005",
        "error",
        "this release does not look for the toolkit",
        "K3s and RKE2 detect nvidia-container-runtime since v1.22.2.",
        "Upgrade; until then only a template that was written for exactly this release can add the handler.",
        _too_old,
        ("runtimes.md §2.2", "runtimes.md §2.7"),
        effect="Installing the toolkit changes nothing: the handler nvidia does not appear.",
        detected="By the version that the program prints.",
        messages=('no runtime for "nvidia" is configured',),
        sources=("k3s-io/k3s commit debb50864",),
        instead_of=("GW-RUNTIME-001",),
    ),
    Rule(
        "GW-K3S-006",
        "error",
        "the default runtime will not be found",
        "The option default-runtime must name a runtime that the service finds at its start; it refuses to start "
        "otherwise.",
        "Install the toolkit again, or remove default-runtime from config.yaml and config.yaml.d below /etc/rancher, "
        "before anything restarts the service.",
        _default_not_found,
        ("kubernetes.md §1.14 #9", "runtimes.md §11 #10", "runtimes.md §2.4"),
        effect="At its next start, also by a reboot, the service ends at once and restarts in a loop.",
        detected="The option is read from flags, config.yaml and config.yaml.d, and the program looked for in every "
        "folder in which the service would.",
        messages=("default runtime nvidia was not found",),
        sources=(_LINUX,),
        instead_of=("GW-KUBE-005", "GW-RUNTIME-001", "GW-TOOLKIT-001"),
    ),
    Rule(
        "GW-K3S-019",
        "info",
        "the GPU Operator restarts this service",
        "Its toolkit sends containerd SIGHUP; here containerd is a child of the service, which ends with it and is "
        "started again by systemd.",
        "Expect it, or set NO_RUNTIME_CONFIG=true in the toolkit's environment and restart node by node yourself.",
        _restarts_by_operator,
        ("kubernetes.md §1.14 #10", "kubernetes.md §1.6"),
        effect="At every installation, update or removal of the operator the service restarts; on a server the API is "
        "away for seconds.",
        detected="The operator's toolkit lies on a K3s or RKE2 host.",
        messages=("containerd exited",),
        sources=("rancher/rke2-docs docs/add-ons/gpu_operators.md",),
    ),
    Rule(
        "GW-K3S-021",
        "info",
        "there is no runtime class nvidia-cdi",
        "K3s and RKE2 detect the handler nvidia-cdi but ship classes only for nvidia and nvidia-experimental.",
        "Where pods should use it: `kubectl create` a RuntimeClass nvidia-cdi with that handler.",
        _no_cdi_class,
        ("runtimes.md §11 #20", "runtimes.md §2.4"),
        effect="Pods with runtimeClassName nvidia-cdi are rejected.",
        detected="The rendered config.toml of a server has the handler.",
        messages=('RuntimeClass "nvidia-cdi" not found',),
        sources=("k3s-io/k3s manifests/runtimes.yaml",),
    ),
    Rule(
        "GW-K3S-022",
        "info",
        "this release ships no runtime classes",
        "K3s brings a RuntimeClass nvidia since v1.26.12, v1.27.9, v1.28.5 and v1.29.0, RKE2 since v1.29.13, v1.30.9, "
        "v1.31.5 and v1.32.1.",
        "gpuwizard's plan creates RuntimeClass nvidia where it manages the cluster; else create it by hand.",
        _no_classes,
        ("runtimes.md §3", "runtimes.md §2.2"),
        effect="Pods with runtimeClassName nvidia are rejected until somebody creates it.",
        detected="By the version of a server.",
        messages=('RuntimeClass "nvidia" not found',),
        sources=("k3s-io/k3s commit 03532f7c0", "rancher/rke2-charts rke2-runtimeclasses"),
    ),
    Rule(
        "GW-K3S-023",
        "info",
        "the service uses Docker",
        "With --docker no containerd of its own runs, and nothing is detected.",
        "Add the runtime to Docker: `nvidia-ctk runtime configure --runtime=docker`, then restart docker.",
        _on_docker,
        ("runtimes.md §2.7", "runtimes.md §2.1"),
        effect="Templates, drop-ins and default-runtime have no effect; GPUs come through Docker's own runtimes.",
        detected="The option docker is set by flag or configuration.",
        sources=("k3s-io/k3s pkg/agent/run.go",),
    ),
    Rule(
        "GW-K3S-024",
        "info",
        "this server keeps etcd",
        "A restart of the service takes one member of etcd away for a moment.",
        "Restart one server at a time; gpuwizard does so by itself.",
        _etcd,
        ("runtimes.md §2.5",),
        effect="Two servers that restart at once can cost the cluster its quorum.",
        detected="The folder of etcd's data lies below the server's.",
        messages=("etcdserver: no leader",),
        sources=("k3s-io/docs docs/upgrades/killall.md",),
    ),
)

RULES: tuple[Rule, ...] = _OWN
