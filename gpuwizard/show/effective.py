"""An effective containerd configuration as lines for people: each value with the place it comes from."""

from collections.abc import Iterator

from gpuwizard.clean import clean_line
from gpuwizard.containerd import Effective
from gpuwizard.redact import redacted_secret
from gpuwizard.redact.names import is_secret_path, split_key
from gpuwizard.show.words import count

__all__ = ["effective_lines", "is_secret"]

_CRI = {"ok": "works", "error": "fails: no pod can start, the node goes NotReady", "disabled": "is off"}


def effective_lines(state: Effective, main: str) -> Iterator[str]:
    """The whole answer: does it start, does CRI work and why not, every value with its origin, the warnings."""
    yield f"containerd {state.release} on {clean_line(main)}"
    yield f"starts     {'yes' if state.starts else 'no'}"
    if state.cri is not None:
        yield f"CRI        {_CRI[state.cri]}"
    if state.error:
        yield f"because    {clean_line(state.error, 2000)}"
    yield f"version    {state.root_version or 'none'} in the file, {state.config_version} in memory"
    if state.files:
        yield ""
        yield "files in the order they are read"
        yield from (f"  {clean_line(path)}" for path in state.files)
    if state.runtimes or state.sandbox_image:
        yield ""
        yield from _values(state)
    yield from _others(state)
    if state.warnings:
        yield ""
        yield f"{count(len(state.warnings), 'setting')} that {'does' if len(state.warnings) == 1 else 'do'} nothing"
        yield from (f"  {clean_line(warning, 2000)}" for warning in state.warnings)


def _values(state: Effective) -> Iterator[str]:
    """The named values in columns: what, value, origin."""
    rows: list[tuple[str, str, str]] = []
    if state.default_runtime_name is not None:
        rows.append(("default handler", state.default_runtime_name or "none", "default_runtime_name"))
    for name, handler in state.runtimes.items():
        rows.append((f"handler {name}", handler.runtime_type or "no type", f"runtimes.{name}.runtime_type"))
        for option, value in handler.options.items():
            rows.append((f"  {option}", _word(value), f"runtimes.{name}.options.{option}"))
    if state.cgroup_driver is not None:
        option = f"runtimes.{state.default_runtime_name}.options.SystemdCgroup"
        rows.append(("cgroup driver", state.cgroup_driver, option))
    rows += [
        ("sandbox image", state.sandbox_image or "none", "sandbox_image"),
        ("snapshotter", state.snapshotter or "none", "snapshotter"),
        ("registry folder", state.registry_config_path or "none", "registry_config_path"),
        ("CDI", "not in this release" if state.enable_cdi is None else _word(state.enable_cdi), "enable_cdi"),
    ]
    if state.cdi_spec_dirs is not None:
        rows.append(("CDI folders", _word(state.cdi_spec_dirs), "cdi_spec_dirs"))
    rows += [(f"CNI {key}", _word(value), f"cni.{key}") for key, value in state.cni.items() if value not in ("", None)]
    if state.disabled_plugins:
        rows.append(("disabled", _word(state.disabled_plugins), "disabled_plugins"))
    if state.required_plugins:
        rows.append(("required", _word(state.required_plugins), "required_plugins"))
    if state.imports:
        rows.append(("imports", _word(state.imports), "imports"))
    yield from _columns([(what, value, _origin(state, path)) for what, value, path in rows])


def _others(state: Effective) -> Iterator[str]:
    """What files set beside the values above, by its path."""
    said = {_place(state, path) for path in state.origins if path.split(".")[0] in _NAMED}
    rows = []
    for path, value in state.settings.items():
        if path in state.origins and _place(state, path) not in said:
            shown = redacted_secret(str(value)) if is_secret(path) else _quoted(value)
            rows.append(f"  {clean_line(path)} = {shown}  ({_origin(state, path)})")
    if rows:
        yield ""
        yield "other settings"
        yield from rows


_NAMED = (
    "default_runtime_name",
    "runtimes",
    "sandbox_image",
    "snapshotter",
    "registry_config_path",
    "enable_cdi",
    "cdi_spec_dirs",
    "cni",
)


def _place(state: Effective, path: str) -> tuple[str, int]:
    origin = state.origins[path]
    return origin.file, origin.line


def _origin(state: Effective, path: str) -> str:
    origin = state.origins.get(path)
    return f"{clean_line(origin.file)}:{origin.line}" if origin else "built in"


def _columns(rows: list[tuple[str, str, str]]) -> Iterator[str]:
    first = max((len(what) for what, _, _ in rows), default=0)
    second = min(max((len(value) for _, value, _ in rows), default=0), 48)
    for what, value, origin in rows:
        indent = "  " if what.startswith(" ") else ""
        yield f"{indent + clean_line(what):<{first}}  {value:<{second}}  {origin}"


def is_secret(path: str) -> bool:
    """True when the value at the dotted `path` is a secret: a registry's login, but for the name in it, or a header
    that is sent to it."""
    parts = split_key(path)
    return is_secret_path(parts) and parts[-1].lower() != "username"


def _quoted(value: object) -> str:
    """A value as TOML has it, so that the redactor knows a secret by its key."""
    return f'"{clean_line(value)}"' if isinstance(value, str) else _word(value)


def _word(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return ", ".join(_word(v) for v in value) or "none"
        case _:
            return clean_line(str(value)) or "empty"
