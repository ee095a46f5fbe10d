"""The toolkit's config.toml, as nvidia-container-runtime takes it (`hosts.md §6.4`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gpuwizard.facts.text import load_toml, value

__all__ = ["ToolkitConfig", "config_refused", "read_config"]

_RUNTIMES = ("runc", "crun")
_FROM_HOST_ONLY = (1, 17, 3)
"""From this release on a container's own ldconfig is refused (nvidia-container-toolkit: internal/config/cli.go)."""


@dataclass(frozen=True, slots=True)
class ToolkitConfig:
    """What the file sets, defaults included. `error` says why the runtime cannot take it; then nothing else holds.
    `ldconfig` is the value that newer releases refuse, None when it is a good one."""

    mode: str | None = "auto"
    runtimes: tuple[str, ...] = _RUNTIMES
    default_kind: str | None = "nvidia.com/gpu"
    spec_dirs: tuple[str, ...] | None = None
    no_cgroups: bool | None = False
    log_level: str | None = "info"
    debug: tuple[str, ...] = ()
    driver_root: str | None = None
    ldconfig: str | None = None
    error: str | None = None


@lru_cache(maxsize=64)
def read_config(text: str) -> ToolkitConfig:
    """Read the file's text. Never raises; an empty text is a file without settings, so the defaults hold."""
    text = text.removeprefix("\ufeff")
    document = load_toml(text)
    if isinstance(document, str):
        return _refused(document if "line " in document else f"{document}, begun in line {_begun(text)}")
    wrong: list[str] = []
    runtime = _table(document, "nvidia-container-runtime", wrong)
    cli = _table(document, "nvidia-container-cli", wrong)
    cdi = _table(_table(runtime, "modes", wrong), "cdi", wrong)
    allowed = _table(document, "features", wrong).get("allow-ldconfig-from-container") is True
    ldconfig = _text(cli, "ldconfig", wrong)
    logs = (_text(runtime, "debug", wrong), _text(cli, "debug", wrong))
    config = ToolkitConfig(
        mode=_text(runtime, "mode", wrong) if "mode" in runtime else "auto",
        runtimes=_texts(runtime, "runtimes", wrong) if "runtimes" in runtime else _RUNTIMES,
        default_kind=_text(cdi, "default-kind", wrong) if "default-kind" in cdi else "nvidia.com/gpu",
        spec_dirs=_texts(cdi, "spec-dirs", wrong) if "spec-dirs" in cdi else None,
        no_cgroups=_flag(cli, "no-cgroups", wrong),
        log_level=_text(runtime, "log-level", wrong) if "log-level" in runtime else "info",
        debug=tuple(log for log in logs if log not in (None, "/dev/null")),
        driver_root=_text(cli, "root", wrong),
        ldconfig=(ldconfig or "")
        if "ldconfig" in cli and not allowed and not (ldconfig or "").startswith("@")
        else None,
    )
    return _refused(wrong[0]) if wrong else config


def config_refused(config: ToolkitConfig, release: tuple[int, ...] | None) -> str | None:
    """Why a toolkit of that release does not start containers with it; None when it does, or nobody knows."""
    if config.error is not None or config.ldconfig is None or release is None or release < _FROM_HOST_ONLY:
        return config.error
    return f"nvidia-container-cli.ldconfig = {config.ldconfig!r} does not start with '@'"


def _begun(text: str) -> int:
    """The line behind the longest beginning of the text that is a document: there what has no end begins."""
    lines = text.splitlines()[:400]
    whole = (n for n in range(len(lines), 0, -1) if not isinstance(load_toml("\n".join(lines[:n])), str))
    return next(whole, 0) + 1


def _refused(why: str) -> ToolkitConfig:
    nothing: Mapping[str, Any] = dict.fromkeys(("mode", "default_kind", "no_cgroups", "log_level"))
    return ToolkitConfig(**nothing, runtimes=(), error=value(why) or "it cannot be read")


def _table(document: Mapping[str, Any], key: str, wrong: list[str]) -> Mapping[str, Any]:
    table = document.get(key, {})
    if isinstance(table, Mapping):
        return table
    wrong.append(f"{key} is not a table")
    return {}


def _text(table: Mapping[str, Any], key: str, wrong: list[str]) -> str | None:
    text = table.get(key, "")
    if not isinstance(text, str):
        wrong.append(f"{key} is not a string")
        return None
    return value(text)


def _texts(table: Mapping[str, Any], key: str, wrong: list[str]) -> tuple[str, ...]:
    texts = table.get(key)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        wrong.append(f"{key} is not a list of strings")
        return ()
    return tuple(shown for text in texts if (shown := value(text)))


def _flag(table: Mapping[str, Any], key: str, wrong: list[str]) -> bool | None:
    flag = table.get(key, False)
    if not isinstance(flag, bool):
        wrong.append(f"{key} is neither true nor false")
        return None
    return flag
