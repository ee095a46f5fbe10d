"""Predict the file that K3s or RKE2 renders at its next start, from the one that it rendered last (`runtimes.md §2`).

K3s' values are those of the node (pause image, folders, cgroup driver …): the rendered file tells them. What is new at
the next start is the template, the detected runtimes and the option ``default-runtime``.
"""

import functools
import posixpath
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gpuwizard.clean import clean_line
from gpuwizard.containerd.edit import literal
from gpuwizard.containerd.go_template import BadTemplateError, Filled, TemplateProblemError, fill
from gpuwizard.containerd.k3s_base import (
    DETECTABLE,
    Detected,
    NodeState,
    base_document,
    dialect_of,
    read_document,
    without_foreign,
)
from gpuwizard.containerd.k3s_node import node_config
from gpuwizard.containerd.k3s_release import (
    NEWEST,
    V2_TEMPLATE,
    V3_TEMPLATE,
    Applying,
    Dialect,
    applying_template,
    doubtful_functions,
    functions,
    passes_state,
)
from gpuwizard.containerd.statements import flat_path
from gpuwizard.errors import RefusedError
from gpuwizard.facts.kubernetes.release import KubeRelease

__all__ = [
    "NextStart",
    "Prediction",
    "PredictionError",
    "filled_text",
    "filled_with",
    "own_document",
    "predict",
    "rendered_state",
    "toml_text",
]


class PredictionError(RefusedError):
    """What K3s will render cannot be had: it would not start (``crash-loop``), or it cannot be told."""

    def __init__(self, kind: Literal["crash-loop", "unpredictable"], what: str, remedy: str = "") -> None:
        super().__init__(what, remedy=remedy)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class NextStart:
    """A K3s or RKE2 before its next start. `files` are those of the host, `folder` the one of the rendered file;
    `detected` the runtimes that it will find, `default_runtime` its option of that name. `fresh` are values of the
    node that hold where the rendered file is not the built-in template's (`k3s_base`)."""

    release: KubeRelease
    program: str
    folder: str
    files: Mapping[str, bytes]
    detected: Mapping[str, Detected]
    default_runtime: str | None = None
    fresh: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rendered(self) -> str:
        """The path of the rendered file."""
        return posixpath.join(self.folder, "config.toml")


@dataclass(frozen=True, slots=True)
class Prediction:
    """The rendered file after the next start. `base` says whether its template includes the built-in one, `renders`
    whether detected runtimes get into it, and `own` what it adds itself."""

    text: str
    applying: Applying
    base: bool
    renders: bool
    own: Mapping[str, Any]


def predict(start: NextStart) -> Prediction:
    """The content of the rendered file after the next start.

    Raises PredictionError, which says why K3s would not start, or what of its template cannot be told.
    """
    names = (start.rendered, *(posixpath.join(start.folder, name) for name in (V2_TEMPLATE, V3_TEMPLATE)))
    return _predicted(
        start.release,
        start.program,
        start.folder,
        tuple((name, start.files[name]) for name in names if name in start.files),
        tuple(sorted(start.detected.items())),
        start.default_runtime,
        tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in sorted(start.fresh.items())),
    )


@functools.lru_cache(maxsize=256)
def _predicted(
    release: KubeRelease,
    program: str,
    folder: str,
    files: tuple[tuple[str, bytes], ...],
    detected: tuple[tuple[str, Detected], ...],
    default_runtime: str | None,
    fresh: tuple[tuple[str, Any], ...],
) -> Prediction:
    """Hosts that are alike are predicted once: everything that decides is an argument."""
    start = NextStart(release, program, folder, dict(files), dict(detected), default_runtime, dict(fresh))
    default = start.default_runtime if start.release.has_default_runtime else None
    if default is not None and default not in start.detected:
        raise PredictionError(
            "crash-loop",
            f"default-runtime {clean_line(default)} is not among the runtimes that {start.program} detects "
            f"({', '.join(sorted(start.detected)) or 'none'}), so that it would not start: "
            f'"default runtime {clean_line(default)} was not found"',
            "install that runtime where it is looked for, or take the option out of the configuration",
        )
    document = _rendered_document(start)
    applying = applying_template(start.files, start.folder, start.release, _dialect(document))
    own = own_document(start, applying, document)
    node = _node(start, applying, document, own)
    node = NodeState(node.dialect, {**node.values, "default_runtime": default}, node.detected, node.rest)
    base = base_document(node, start.release, applying.dialect, start.detected, start.folder)
    texts = {"base": toml_text(base, start.program)} if start.release.has_base or applying.path is None else {}
    filled = filled_with(start, applying, node, texts)
    included = "base" in filled.included
    _check_state(start, applying, filled.text)
    return Prediction(filled.text, applying, included, included or ".ExtraRuntimes" in applying.text, own)


def own_document(start: NextStart, applying: Applying, document: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a template with "base" adds by itself; nothing where it includes no base, or is no TOML on its own.

    Raises PredictionError as `predict` does.
    """
    if applying.path is None:
        return {}
    node = read_document((_rendered_document(start) if document is None else document) or {})
    node = node.with_values({**node.values, **start.fresh})
    filled = filled_with(start, applying, node, {"base": ""} if start.release.has_base else {})
    if "base" not in filled.included:
        return {}
    try:
        return tomllib.loads(filled.text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}


def rendered_state(start: NextStart) -> NodeState | None:
    """What the file that was rendered last tells of its node; None where it is not there or broken."""
    raw = start.files.get(start.rendered)
    return None if raw is None else _state(raw)


def filled_text(start: NextStart, applying: Applying) -> str:
    """What a template without "base" gives. Raises PredictionError as `predict` does."""
    document = _rendered_document(start) or {}
    return filled_with(start, applying, read_document(document), {}).text


def toml_text(document: Mapping[str, Any], program: str) -> str:
    """A document as K3s writes it: every table with its whole name."""
    quote = "'" if document.get("version", 0) >= 3 else '"'
    lines = [f"# File generated by {program}. DO NOT EDIT. Use a template instead."]
    lines += [f"{flat_path((k,))} = {literal(v)}" for k, v in document.items() if not isinstance(v, Mapping)]
    for key, value in document.items():
        if isinstance(value, Mapping):
            lines += _table((key,), value, quote)
    return "\n".join(lines) + "\n"


def _table(path: tuple[str, ...], table: Mapping[str, Any], quote: str) -> list[str]:
    own = [(key, value) for key, value in table.items() if not isinstance(value, Mapping)]
    lines = ["", f"[{_header(path, quote)}]"] if own or not table else []
    lines += [f"  {flat_path((key,))} = {literal(value)}" for key, value in own]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _table((*path, key), value, quote)
    return lines


def _check_state(start: NextStart, applying: Applying, text: str) -> None:
    """A file of version 3 has to say where containerd keeps its state: K3s passes nothing but the file (`§2.3`)."""
    if applying.path is None or passes_state(start.release, applying.dialect):
        return
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return  # containerd refuses it anyway
    grpc = document.get("grpc")
    missing = [name for name in ("root", "state") if not document.get(name)]
    if not (isinstance(grpc, Mapping) and grpc.get("address")) and not _has_server_address(document):
        missing.append("[grpc] address")
    if missing:
        raise PredictionError(
            "crash-loop",
            f"{applying.path} does not set {', '.join(missing)} at its top: containerd would use its own folders and "
            f"socket, and {start.program} would wait for it for ever",
            'begin the template with {{ template "base" . }}',
        )


def _has_server_address(document: Mapping[str, Any]) -> bool:
    """Version 4 keeps the address in a plugin."""
    plugins = document.get("plugins")
    server = plugins.get("io.containerd.server.v1.grpc") if isinstance(plugins, Mapping) else None
    return isinstance(server, Mapping) and bool(server.get("address"))


def _header(path: tuple[str, ...], quote: str) -> str:
    """The name of a table; K3s puts that of a detected runtime into quotes always."""
    parts = [flat_path((part,), quote) for part in path]
    for position in range(3, len(path)):
        if path[position - 1] == "runtimes" and path[position] in DETECTABLE:
            parts[position] = f"{quote}{path[position]}{quote}"
    return ".".join(parts)


def _dialect(document: Mapping[str, Any] | None) -> Dialect | None:
    return None if document is None else dialect_of(document)


def _rendered_document(start: NextStart) -> Mapping[str, Any] | None:
    """The file that was rendered last."""
    raw = start.files.get(start.rendered)
    return None if raw is None else _document(raw)


@functools.lru_cache(maxsize=256)
def _document(raw: bytes) -> Mapping[str, Any] | None:
    """A TOML document, which nobody may change; a broken one says nothing."""
    try:
        return tomllib.loads(raw.decode("utf-8", "replace"))
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


@functools.lru_cache(maxsize=256)
def _state(raw: bytes) -> NodeState | None:
    document = _document(raw)
    return None if document is None else read_document(document)


def _node(
    start: NextStart, applying: Applying, document: Mapping[str, Any] | None, own: Mapping[str, Any]
) -> NodeState:
    """The values of this node: as the built-in template wrote them last, else with `fresh` ones laid over. A handler
    that neither it nor a detection nor the template of today explains is in no file that is written anew."""
    if document is None:
        if not start.fresh:
            raise PredictionError(
                "unpredictable",
                f"{start.rendered} is not there or broken, so that the values of this node are not known",
                f"start {start.program} and see that the node is Ready first",
            )
        return NodeState(applying.dialect, dict(start.fresh))
    node = read_document(_without(document, own))
    node = node.with_values({**_usual_state(start), **node.values})
    if start.fresh:
        return NodeState(node.dialect, {**node.values, **start.fresh}, node.detected, {})
    return node if start.release > NEWEST else without_foreign(node)  # what a later one detects is not known


def _usual_state(start: NextStart) -> dict[str, str]:
    """Where containerd keeps its state, which K3s chooses itself: for a rendered file that does not say it (`§2.1`)."""
    root = f"{start.folder.removesuffix('/etc/containerd')}/containerd"
    return {"root": root, "state": "/run/k3s/containerd", "address": "/run/k3s/containerd/containerd.sock"}


def _without(document: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The document less the keys that the template itself adds."""
    left: dict[str, Any] = {}
    for key, value in document.items():
        other = own.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            inner = _without(value, other)
            if inner:
                left[key] = inner
        elif key not in own or other != value:
            left[key] = value
    return left


def filled_with(start: NextStart, applying: Applying, node: NodeState, texts: Mapping[str, str]) -> Filled:
    """What the template gives on this node; `texts` are the templates that it can include (``base``).

    Raises PredictionError as `predict` does.
    """
    release = start.release
    try:
        return fill(
            applying.text,
            node_config(release, start.program, start.rendered, start.detected, node),
            functions(release),
            texts,
            doubtful_functions(release, applying.text),
        )
    except TemplateProblemError as problem:
        name = applying.path or "the built-in template"
        if isinstance(problem, BadTemplateError):
            raise PredictionError(
                "crash-loop",
                f"{name}, line {problem.line}: {clean_line(problem.what)}; {start.program} would end with this at "
                "every start",
                "repair the template",
            ) from problem
        raise PredictionError(
            "unpredictable",
            f"{name}, line {problem.line}: {clean_line(problem.what)}; what {start.program} will render cannot be told",
            'write the template as {{ template "base" . }} and plain tables behind it',
        ) from problem
