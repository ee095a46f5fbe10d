"""Tables as TOML text in the form of ``containerd config dump``."""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["toml_text"]


def toml_text(table: Mapping[str, Any], quote: str = '"') -> str:
    """Render nested tables; keys that are not bare are put into `quote`."""
    lines: list[str] = []
    _write(table, (), lines, quote)
    return "\n".join(lines).strip("\n") + "\n"


def _write(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str], quote: str) -> None:
    indent = "  " * max(len(path) - 1, 0)
    if path and (not table or any(not isinstance(v, Mapping) for v in table.values()) or len(path) == 1):
        lines.append(f"\n{indent}[{'.'.join(_key(p, quote) for p in path)}]")
    for key, value in table.items():
        if not isinstance(value, Mapping):
            lines.append(f"{indent}{'  ' if path else ''}{_key(key, quote)} = {_value(value)}")
    for key, value in table.items():
        if isinstance(value, Mapping):
            _write(value, (*path, key), lines, quote)


def _key(key: str, quote: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else f"{quote}{key}{quote}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(k, chr(34))} = {_value(v)}' for k, v in value.items())} }}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
