"""Plain containerd (kubeadm and others): 1.x is edited in place, 2.x gets a drop-in (`runtimes.md §1.5`, `§10`)."""

import tomllib

from gpuwizard.actions import Activation, Check, FileChange, HostChange, HostPlanned, Refusal
from gpuwizard.answers.model import Answers
from gpuwizard.containerd import Effective, Release, compare, effective
from gpuwizard.containerd.model import CRI_V2, RUNTIME_V3
from gpuwizard.errors import RefusedError
from gpuwizard.facts.model import HostFacts, Probe, RuntimeFacts
from gpuwizard.flavours.containerd_files import DROP_IN, Situation, drop_in, in_place
from gpuwizard.flavours.handler import NAME, wanted_handler
from gpuwizard.flavours.option import StrategyOption, announced_changes, outcome_refusals, refused
from gpuwizard.secret import SecretBytes

__all__ = ["DROP_IN", "chosen_runtime", "offer", "plan"]

_DEFAULT_MAIN = "/etc/containerd/config.toml"


def chosen_runtime(facts: HostFacts) -> RuntimeFacts | None:
    """The runtime that the kubelet uses; on a host without a kubelet its only containerd."""
    if facts.kubelet_runtime is not None:
        return facts.kubelet_runtime
    candidates = [r for r in facts.runtimes if r.kind == "containerd" and r.used_by_kubelet is not False]
    candidates = candidates or [r for r in facts.runtimes if r.kind == "containerd"]
    return candidates[0] if len(candidates) == 1 and facts.kubernetes.flavour in ("none", "kubeadm") else None


def offer(probe: Probe) -> tuple[StrategyOption, ...]:
    """The strategies drop-in and in-place."""
    runtime = chosen_runtime(probe.facts)
    if runtime is None or runtime.version is None or runtime.kind != "containerd":
        reason = "no containerd of a known version that a kubelet could use"
    else:
        release = Release.parse(runtime.version)
        if release.replaces_plugin_tables:
            return (
                StrategyOption(
                    "drop-in", False, f"containerd {release} replaces the whole CRI table by that of a drop-in"
                ),
                StrategyOption("in-place", True, f"containerd {release} has to find it in its own file", True),
            )
        return (
            StrategyOption("drop-in", True, f"containerd {release} merges a small file into its own", True),
            StrategyOption("in-place", True, "its own file is edited instead of adding one"),
        )
    return StrategyOption("drop-in", False, reason), StrategyOption("in-place", False, reason)


def plan(name: str, probe: Probe, answers: Answers, chosen: StrategyOption) -> HostPlanned:
    """Make handler nvidia known to this host's containerd, and the default where the answers want it."""
    runtime = chosen_runtime(probe.facts)
    assert runtime is not None
    start = _situation(probe, runtime, answers.default_runtime_for(name))
    blocked = _blocked(start)
    if blocked is not None:
        return refused(chosen.value, blocked)
    if not start.needs_handler and not start.needs_default:
        return HostPlanned(chosen.value, "handler nvidia is there and right")
    try:
        new = drop_in(start) if chosen.value == "drop-in" else in_place(start)
    except RefusedError as error:
        return refused(chosen.value, Refusal("not-editable", f"{start.main}: {error.what}", error.remedy))
    return _outcome(start, new, runtime, chosen)


def _situation(probe: Probe, runtime: RuntimeFacts, default: str) -> Situation:
    files = {p: f.content.raw for p, f in probe.files.items() if f.content is not None}
    main = runtime.config_path or _DEFAULT_MAIN
    release = Release.parse(runtime.version or "")
    # Without a file the daemon runs on its defaults, which is what an empty file amounts to.
    before = effective(files if main in files else {**files, main: b""}, main, str(release))
    runtime_path = probe.facts.toolkit.runtime_path or "nvidia-container-runtime"
    return Situation(
        files,
        main,
        release,
        before,
        wanted_handler(before, runtime_path),
        NAME if default == "nvidia" else None,
        _plugin(files.get(main, b"").decode("utf-8", "replace"), before, release),
    )


def _plugin(text: str, before: Effective, release: Release) -> str:
    """The plugin table in which the root file's dialect keeps handlers (`runtimes.md §1.1`).

    On 1.x a file without a version line that names plugins has to stay version 1: its names would be fatal in 2.
    """
    if release.major >= 2:
        return CRI_V2 if before.root_version == 2 else RUNTIME_V3
    if before.root_version >= 2 or not before.starts:
        return CRI_V2
    data = tomllib.loads(text.removeprefix("\ufeff"))
    names = [*data.get("plugins", {}), *data.get("disabled_plugins", []), *data.get("required_plugins", [])]
    return "cri" if names or before.root_version == 1 else CRI_V2


def _blocked(start: Situation) -> Refusal | None:
    """Why the files are not touched as they are, before any edit is thought of."""
    before = start.before
    if not before.starts:
        return Refusal(
            "broken-now",
            f"containerd would not start on the files as they are: {before.error}",
            "repair them first: any restart of containerd would activate this mistake",
        )
    if before.cri == "disabled":
        return Refusal(
            "cri-disabled",
            f"{start.main} disables the CRI plugin, as Docker's package ships it: no kubelet can use this containerd",
            "replace the file by the output of `containerd config default`, set SystemdCgroup of runc to the "
            "kubelet's driver, restart containerd, and plan again",
        )
    if before.cri == "error":
        return Refusal("broken-now", f"the CRI plugin is in error: {before.error}", "repair the configuration first")
    if start.release.major >= 2 and before.root_version < 2 and _has_plugins(start):
        return Refusal(
            "unversioned-root",
            f"{start.main} has no version line, so containerd {start.release} "
            + ("ignores its CRI part" if not start.release.migrates_each_file else "takes it for version 1"),
            "convert it with `containerd config migrate`, compare the result, put it in place, and plan again",
        )
    return None


def _has_plugins(start: Situation) -> bool:
    return bool(tomllib.loads(start.text(start.main)).get("plugins"))


def _outcome(start: Situation, new: dict[str, bytes], runtime: RuntimeFacts, chosen: StrategyOption) -> HostPlanned:
    after = effective({**start.files, **new}, start.main, str(start.release))
    changes = compare(start.before, after)
    announced = announced_changes(changes, start.default)
    found = outcome_refusals(start.before, after, str(start.wanted.options["BinaryName"]), start.default, announced)
    if found:
        return HostPlanned(chosen.value, found[0].why, refusals=found)
    unit = runtime.unit or "containerd.service"
    files = tuple(
        FileChange(p, SecretBytes(start.files[p]) if p in start.files else None, SecretBytes(raw))
        for p, raw in new.items()
    )
    check = Check(
        unit=unit,
        handlers=tuple(after.runtimes),
        default_handler=after.default_runtime_name,
        cri_socket=runtime.socket,
        binary=runtime.binary,
        config_path=start.main,
    )
    return HostPlanned(chosen.value, chosen.reason, HostChange(files, Activation(unit), check, changes))
