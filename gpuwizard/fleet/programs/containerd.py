"""containerd, ctr, crictl and k3s of a simulated host: they speak for its `Runtime`."""

import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gpuwizard.containerd.defaults import default_images, default_runtime
from gpuwizard.containerd.merge import deep_merge, load
from gpuwizard.containerd.model import CRI_V2, IMAGES_V3, RUNTIME_V3, Effective
from gpuwizard.containerd.release import Release
from gpuwizard.fleet.questions import Answer, Question
from gpuwizard.fleet.toml_text import toml_text

if TYPE_CHECKING:
    from gpuwizard.fleet.host import SimulatedHost

__all__ = ["containerd", "crictl", "ctr", "k3s"]

_PLAIN_PLUGINS = (
    ("io.containerd.content.v1", "content", "-"),
    ("io.containerd.snapshotter.v1", "native", "linux/amd64"),
    ("io.containerd.snapshotter.v1", "overlayfs", "linux/amd64"),
    ("io.containerd.metadata.v1", "bolt", "-"),
    ("io.containerd.runtime.v2", "task", "linux/amd64"),
    ("io.containerd.service.v1", "tasks-service", "-"),
    ("io.containerd.grpc.v1", "healthcheck", "-"),
)


async def containerd(host: "SimulatedHost", question: Question) -> Answer:
    """``--version`` and ``[--config FILE] config dump | default``."""
    words = list(question.arguments)
    main = host.runtime.main_file if not host.runtime.k3s else "/etc/containerd/config.toml"
    if words[:1] in (["--version"], ["-v"]):
        return Answer(_version(host))
    asked = False
    while words and words[0].startswith("-"):
        key, equals, value = words.pop(0).partition("=")
        if key in ("--config", "-c", "--log-level", "-l", "--address", "-a", "--root", "--state") and not equals:
            value = words.pop(0) if words else ""
        if key in ("--config", "-c"):
            main, asked = posixpath.normpath(host.tree.own_path(value)), True
    if words == ["config", "default"]:
        return Answer(_dump({"/default": b""}, "/default", host.runtime.version, host.runtime.socket))
    if words != ["config", "dump"]:
        return Answer(err="containerd: a simulated host starts it by its unit only\n", status=1)
    if not question.root and host.tree.read(main) is None:
        return Answer(err=f"containerd: open {main}: permission denied\n", status=1)
    return _config_dump(host, _mounted(host, _config_files(host, main), question.mounts), main, asked)


def _config_files(host: "SimulatedHost", main: str) -> dict[str, bytes]:
    folders = {posixpath.dirname(main), "/etc/containerd"}
    files: dict[str, bytes] = {}
    for folder in folders:
        files |= host.tree.files(folder)
    return files


def _mounted(host: "SimulatedHost", files: dict[str, bytes], mounts: str) -> dict[str, bytes]:
    """The files as a private mount namespace shows them: `mounts` is the list that the stand-in of mount keeps."""
    for line in host.tree.text(host.tree.own_path(mounts)).splitlines() if mounts else ():
        source, _, rest = line.partition("\t")
        shadow = host.tree.own_path(source)
        target = host.tree.own_path(rest.rstrip("\t"))
        files = {path: data for path, data in files.items() if path != target and not path.startswith(f"{target}/")}
        data = host.tree.read(shadow)
        if data is not None:
            files[target] = data
        files |= {target + path[len(shadow) :]: data for path, data in host.tree.files(shadow).items()}
    return files


def _config_dump(host: "SimulatedHost", files: dict[str, bytes], main: str, asked: bool) -> Answer:
    version = host.runtime.version
    if main not in files and not asked:
        files[main] = b""
    verdict = host.runtime.judge(files, main)
    release = Release.parse(version)
    missing = main not in files or (not verdict.starts and load(files, main, release).missing is not None)
    if not verdict.starts and not (missing and release.major >= 2):
        return Answer(err=f"containerd: failed to load TOML: {verdict.error}\n", status=1)
    return Answer(_dump(files, main, version, host.runtime.socket))


def _dump(files: Mapping[str, bytes], main: str, version: str, socket: str) -> str:
    """The merged configuration over the defaults, in the words of this release (`runtimes.md §1.2`)."""
    release = Release.parse(version)
    merged = load(files, main, release)
    plugins: dict[str, Any] = dict(merged.plugins)
    if release.major >= 2:
        plugins[RUNTIME_V3] = deep_merge(default_runtime(release), plugins.get(RUNTIME_V3, {}))
        plugins[IMAGES_V3] = deep_merge(default_images(release), plugins.get(IMAGES_V3, {}))
    else:
        name = "cri" if merged.version == 1 and "cri" in plugins else CRI_V2
        plugins[name] = _one_table(release, plugins.get(name, {}))
    table = {
        "version": merged.version if release.major < 2 else release.config_version,
        "root": "/var/lib/containerd",
        "state": "/run/containerd",
        "imports": merged.imports,
        "disabled_plugins": merged.disabled,
        "grpc": {"address": socket, "uid": 0, "gid": 0},
        **{k: v for k, v in merged.other.items() if k not in ("version", "imports", "disabled_plugins")},
        "plugins": plugins,
    }
    return toml_text(table, "'" if release.major >= 2 else '"')


def _one_table(release: Release, own: Mapping[str, Any]) -> dict[str, Any]:
    """containerd 1.x keeps runtimes and images in one table; a `runtimes` table of the files replaces the default's."""
    images = default_images(release)
    defaults = default_runtime(release)
    defaults["sandbox_image"] = images["pinned_images"]["sandbox"]
    defaults["containerd"]["snapshotter"] = images["snapshotter"]
    defaults["registry"] = images["registry"]
    table = deep_merge(defaults, own)
    runtimes = own.get("containerd", {}).get("runtimes")
    if isinstance(runtimes, dict):
        table["containerd"]["runtimes"] = runtimes
    return table


def _version(host: "SimulatedHost") -> str:
    version = host.runtime.version
    if host.runtime.k3s:
        return f"containerd github.com/k3s-io/containerd v{version}-k3s1 \n"
    if host.spec.distro.startswith("debian"):
        return f"containerd github.com/containerd/containerd {version}~ds1 {version}~ds1-1\n"
    return f"containerd containerd.io v{version} 0000000000000000000000000000000000000000\n"


async def ctr(host: "SimulatedHost", question: Question) -> Answer:
    """``[-a SOCKET] plugins ls`` and ``version``; only root may, and only while the daemon is up."""
    words = list(question.arguments)
    socket = "/run/containerd/containerd.sock" if question.program != "k3s" else host.runtime.socket
    while words and words[0].startswith("-"):
        key, equals, value = words.pop(0).partition("=")
        if key in ("-a", "--address", "-n", "--namespace") and not equals:
            value = words.pop(0) if words else ""
        if key in ("-a", "--address"):
            socket = host.tree.own_path(value)
    if not question.root:
        return Answer(err=f'ctr: failed to dial "{socket}": connect: permission denied\n', status=1)
    verdict = host.runtime.verdict
    if socket != host.runtime.socket or verdict is None:
        why = "connect: no such file or directory" if socket != host.runtime.socket else "connection refused"
        return Answer(
            err=f'ctr: failed to dial "{socket}": context deadline exceeded: dial unix {socket}: {why}\n', status=1
        )
    match words[:2]:
        case ["plugins" | "plugin", "ls" | "list"] if words[2:3] in (["-d"], ["--detailed"]):
            return Answer(_plugin_details(verdict, Release.parse(host.runtime.version)))
        case ["plugins" | "plugin", "ls" | "list"]:
            return Answer(_plugins(verdict, Release.parse(host.runtime.version)))
        case ["version"]:
            return Answer(
                f"Client:\n  Version:  {host.runtime.version}\n\nServer:\n  Version:  {host.runtime.version}\n"
            )
    return Answer(err="ctr: this is not simulated\n", status=1)


def _plugin_details(verdict: Effective, release: Release) -> str:
    """One paragraph for each plugin; what it failed with is behind ``Message:``."""
    told = []
    for kind, name, where, state in _plugin_rows(verdict, release):
        lines = [f"Type:          {kind}", f"ID:            {name}", f"Platforms:     {where}"]
        if state == "error":
            lines += ["Error:", "               Code:        Unknown", f"               Message:     {verdict.error}"]
        told.append("\n".join(lines) + "\n")
    return "\n".join(told)


def _plugins(verdict: Effective, release: Release) -> str:
    rows = _plugin_rows(verdict, release)
    head = f"{'TYPE':<38} {'ID':<24} {'PLATFORMS':<14} STATUS    \n"
    return head + "".join(f"{kind:<38} {name:<24} {where:<14} {state:<10}\n" for kind, name, where, state in rows)


def _plugin_rows(verdict: Effective, release: Release) -> list[tuple[str, str, str, str]]:
    rows = [(*plugin, "ok") for plugin in _PLAIN_PLUGINS]
    state = verdict.cri
    if state != "disabled" and state is not None:
        if release.major >= 2:
            rows += [("io.containerd.cri.v1", "images", "-", "ok")]
            rows += [("io.containerd.cri.v1", "runtime", "linux/amd64", state)]
        rows += [("io.containerd.grpc.v1", "cri", "linux/amd64" if release.major < 2 else "-", state)]
    return rows


async def crictl(host: "SimulatedHost", question: Question) -> Answer:
    """``info``: the state of the runtime and the handlers it knows."""
    verdict = host.runtime.verdict
    if not question.root:
        return Answer(err="crictl: connect: permission denied\n", status=1)
    if verdict is None or verdict.cri != "ok":
        return Answer(err="crictl: validate CRI v1 runtime API: rpc error: code = Unimplemented\n", status=1)
    if question.arguments[-1:] != ("info",):
        return Answer(err="crictl: this is not simulated\n", status=1)
    runtimes = {n: {"runtimeType": h.runtime_type, "options": dict(h.options)} for n, h in verdict.runtimes.items()}
    conditions = [
        {"type": kind, "status": True, "reason": "", "message": ""} for kind in ("RuntimeReady", "NetworkReady")
    ]
    config = {"containerd": {"defaultRuntimeName": verdict.default_runtime_name, "runtimes": runtimes}}
    return Answer(json.dumps({"status": {"conditions": conditions}, "config": config}, indent=2) + "\n")


async def k3s(host: "SimulatedHost", question: Question) -> Answer:
    """``--version``, and the applets ``ctr`` and ``crictl``."""
    words: Sequence[str] = question.arguments
    match words[:1]:
        case ("--version",) | ("-v",):
            return Answer(f"k3s version {host.spec.kubernetes.version} (5136781c)\ngo version go1.24.6\n")
        case ("ctr",):
            return await ctr(host, Question("k3s", question.user, question.folder, question.mounts, tuple(words[1:])))
        case ("crictl",):
            return await crictl(
                host, Question("k3s", question.user, question.folder, question.mounts, tuple(words[1:]))
            )
    return Answer(err="k3s: a simulated host starts it by its unit only\n", status=1)
