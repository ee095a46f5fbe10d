"""The edits of a K3s or RKE2 host: its options, its template, or a drop-in that its rendered file imports (`§2.7`)."""

import posixpath
from dataclasses import dataclass, field

from gpuwizard.containerd.edit import add_table
from gpuwizard.containerd.k3s_base import CRI_OF
from gpuwizard.containerd.k3s_legacy import legacy_handler, legacy_template
from gpuwizard.containerd.k3s_release import V2_TEMPLATE, V3_TEMPLATE
from gpuwizard.containerd.k3s_render import PredictionError, own_document
from gpuwizard.containerd.k3s_template import BASE, converted, handlers_of, with_handler, without_handlers
from gpuwizard.errors import RefusedError
from gpuwizard.flavours.containerd_files import DROP_IN
from gpuwizard.flavours.handler import NAME
from gpuwizard.flavours.k3s_state import MARK, Situation

__all__ = ["Edit", "Files", "NoEditError", "drop_in_edit", "not_found", "option_edit", "template_edit"]

Files = dict[str, bytes | None]


class NoEditError(RefusedError):
    """There is no edit that could be made without a person; `id` is that of the refusal."""

    def __init__(self, id: str, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy=remedy)
        self.id = id


@dataclass(frozen=True, slots=True)
class Edit:
    """New contents of files (None removes) in the order in which they are written, and why. `renews`: the rendered
    file was a stale copy's, so that the next one has today's values."""

    files: Files = field(default_factory=dict)
    reason: str = ""
    renews: bool = False


def option_edit(start: Situation, default: str, *, again: bool = False) -> Files:
    """Our file with ``default-runtime``: written for ``nvidia``, taken back for ``former``. `again`: what makes nvidia
    the default now is going to be removed.

    Raises RefusedError where this release has no such option, would not start with it, or another file wins.
    """
    path = start.config_drop_in
    if default == "former":
        return _without_option(start, path)
    if default != NAME or (start.before.default_runtime_name == NAME and not again):
        return {}
    if not start.release.has_default_runtime:
        raise NoEditError(
            "k3s-default-runtime",
            f"this {start.name} has no option default-runtime (v1.26.12, v1.27.9, v1.28.5 and v1.29.0 brought it)",
            f"leave the default runtime as it is, or upgrade {start.name}",
        )
    if not start.finds_nvidia:
        raise NoEditError(
            "k3s-default-runtime",
            f"{start.name} does not find nvidia-container-runtime, and would not start with it as default-runtime",
            f"put a symbolic link to it into /usr/bin; {start.name} looks in {', '.join(start.search)}",
        )
    if start.option not in (None, NAME) and (later := _later(start, path)) is not None:
        raise NoEditError(
            "k3s-default-runtime", f"{later} sets default-runtime and is read after ours", f"change it in {later}"
        )
    text = f"# {MARK}: the runtime of pods that name no runtime class.\ndefault-runtime: {NAME}\n"
    return {} if start.files.get(path) == text.encode() else {path: text.encode()}


def _later(start: Situation, path: str) -> str | None:
    folder = posixpath.dirname(path)
    others = sorted(p for p, raw in start.files.items() if posixpath.dirname(p) == folder and p > path and raw)
    return next((p for p in others if b"default-runtime" in start.files[p]), None)


def _without_option(start: Situation, path: str) -> Files:
    raw = start.files.get(path)
    if raw is None or start.own_option is None:
        return {}
    lines = raw.decode("utf-8", "surrogateescape").splitlines(keepends=True)
    left = [
        line
        for line in lines
        if line.partition(":")[0].strip().strip("\"'") != "default-runtime" and not line.startswith(f"# {MARK}")
    ]
    text = "".join(left)
    return {path: text.encode("utf-8", "surrogateescape") if text.strip() else None}


def template_edit(start: Situation, state: str, default: str, *, consent: bool) -> Edit:
    """The template that is right on this host.

    Raises RefusedError where there is none that could be written without a person.
    """
    applying = start.applying
    if not start.release.detects_nvidia:
        return _legacy(start, state, default)
    match state:
        case "nvidia":
            return _cleaned(start)
        case "stale" if not consent:
            raise NoEditError(
                "k3s-stale-template",
                f"{applying.path} is a copy of a rendered file: {start.name} uses it as it is, so that detected "
                "runtimes, new pause images, CNI paths and the cgroup driver never get into the configuration",
                "set runtime.convert = true: it is then replaced by the built-in template and what is its own",
            )
        case "stale":
            assert applying.path is not None
            if not start.release.has_base:
                raise NoEditError(
                    "k3s-stale-template", f'this {start.name} has no template "base"', f"upgrade {start.name}"
                )
            try:
                files = converted(start.next_start(fresh=True), applying.path, applying.text)
            except PredictionError:
                raise
            except RefusedError as error:
                raise NoEditError("k3s-stale-template", error.what, error.remedy) from error
            return Edit(files, f"the stale copy {applying.path} gives way to the built-in template", renews=True)
        case "reverted":
            assert applying.path is not None
            return Edit({applying.path: None}, "the copy that took back an earlier restart is removed")
        case "none" | "base" if not start.finds_nvidia:
            return _outside(start, default)
    return Edit()


def _cleaned(start: Situation) -> Edit:
    applying = start.applying
    assert applying.path is not None
    twice = handlers_of(own_document(start.next_start(), applying)) & set(start.detected)
    text = without_handlers(applying.text, twice)
    names = ", ".join(sorted(twice))
    reason = f"{start.name} adds handler {names} by itself: the same tables in {applying.path} would be fatal"
    return Edit({applying.path: text.encode("utf-8", "surrogateescape")}, reason)


def _outside(start: Situation, default: str) -> Edit:
    """A handler for a runtime that lies where it is not looked for."""
    applying = start.applying
    if not start.release.has_base:
        raise not_found(start)
    dialect = applying.dialect
    path = applying.path or posixpath.join(start.folder, V3_TEMPLATE if dialect == 3 else V2_TEMPLATE)
    wanted = NAME if default == NAME else None
    if wanted and dialect != 3:
        raise NoEditError(
            "k3s-default-runtime",
            "with version 2 the built-in template has the table of the default runtime, so that a second one is fatal",
            f"put a symbolic link to {start.runtime_path} into /usr/bin, where {start.name} finds it"
            + (
                f", or its folder into PATH in /etc/default/{start.unit_name}"
                if start.release.looks_in_own_path
                else ""
            ),
        )
    text = applying.text if applying.path is not None else BASE
    block = {d: with_handler("", dialect, NAME, start.runtime_path, d) for d in (None, NAME)}
    for one in block.values():
        text = text.replace(one, "")
    had_default = block[NAME] in applying.text
    if default == "leave" and had_default:
        wanted = NAME
    new = with_handler(text, dialect, NAME, start.runtime_path, wanted)
    reason = f"{start.name} does not look in {posixpath.dirname(start.runtime_path)}: its template names the runtime"
    return Edit({} if new == applying.text else {path: new.encode("utf-8", "surrogateescape")}, reason)


def not_found(start: Situation) -> NoEditError:
    """The runtime lies where this release does not look, and there is no file that could name it."""
    return NoEditError(
        "k3s-path",
        f"{start.name} does not look in {posixpath.dirname(start.runtime_path)}, where nvidia-container-runtime lies",
        f"put a symbolic link to it into /usr/bin; {start.name} looks in {', '.join(start.search)}",
    )


def _legacy(start: Situation, state: str, default: str) -> Edit:
    """A K3s that detects nothing: a whole template of version 1, or the handler behind the one that is there."""
    applying, node = start.applying, start.node()
    path = posixpath.join(start.folder, V2_TEMPLATE)
    reason = f"this {start.name} does not look for the NVIDIA runtime (v1.22.2 and newer do): upgrade it when you can"
    if node is None or node.dialect != 1 or applying.dialect != 1:
        raise NoEditError(
            "k3s-too-old",
            f"{start.rendered} is not of version 1, and this {start.name} does not look for the NVIDIA runtime",
            f"upgrade {start.name}: v1.22.2 and newer find it",
        )
    ours = applying.path is None or applying.text.startswith(f"# {MARK}")
    if default == NAME:
        wanted: str | None = NAME
    else:
        wanted = None if default == "former" else node.values.get("default_runtime")
    if ours:
        if applying.path is None or default != "leave":
            values = {k: v for k, v in node.values.items() if k != "default_runtime"}
            text = legacy_template(node.with_values(values), start.release, start.runtime_path, wanted)
        else:
            text = applying.text
        return Edit({} if text == applying.text else {path: text.encode("utf-8", "surrogateescape")}, reason)
    if default == NAME:
        raise NoEditError(
            "k3s-default-runtime", f"{path} is your own: the default runtime is set there", f"edit {path} yourself"
        )
    end = "" if applying.text.endswith("\n") else "\n"
    text = applying.text + end + legacy_handler(start.runtime_path)
    return Edit({path: text.encode("utf-8", "surrogateescape")}, reason)


def drop_in_edit(start: Situation, default: str) -> Edit:
    """A file that the rendered one imports, in its dialect and version: it is merged over what K3s writes."""
    dialect = start.applying.dialect
    folder = "config-v3.toml.d" if dialect == 3 else "config.toml.d"
    path = posixpath.join(start.folder, folder, DROP_IN)
    former = start.files.get(path, b"").decode("utf-8", "replace")
    table = ("plugins", CRI_OF[dialect], "containerd")
    text = (
        f"# {MARK}: {start.name} does not look where this runtime lies.\n"
        f"# In the version of {start.rendered}; keep them equal.\nversion = {int(dialect)}\n"
    )
    keeps = default == "leave" and f'default_runtime_name = "{NAME}"' in former
    if default == NAME or keeps:
        text = add_table(text, table, {"default_runtime_name": NAME})
    runc = start.before.runtimes.get("runc")
    cgroup = bool(runc.options.get("SystemdCgroup")) if runc is not None else False
    options = {"BinaryName": start.runtime_path, "SystemdCgroup": cgroup}
    content = {"runtime_type": "io.containerd.runc.v2", "options": options}
    text = add_table(text, (*table, "runtimes", NAME), content)
    reason = (
        f"{start.name} does not look in {posixpath.dirname(start.runtime_path)}; its rendered file imports {folder}"
    )
    return Edit({} if text == former else {path: text.encode()}, reason)
