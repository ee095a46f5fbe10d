"""MicroK8s' containerd-template.toml: what its placeholders stand for, and what a start makes of it."""

import re
from dataclasses import dataclass

from gpuwizard.errors import RefusedError

__all__ = ["ARGS", "RENDERED", "TEMPLATE", "Masked", "placeholder_values", "rendered"]

ARGS = "/var/snap/microk8s/current/args"
TEMPLATE = f"{ARGS}/containerd-template.toml"
RENDERED = f"{ARGS}/containerd.toml"
_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
_BARE = re.compile(r"(?m)(^[ \t]*[^#\n\"'=\[]+=[ \t]*)\$\{(\w+)\}")
_FIRST_NUMBER = 904_000_000
_USUAL = {
    "SNAP": "/snap/microk8s/current",
    "SNAP_DATA": "/var/snap/microk8s/current",
    "SNAPSHOTTER": "overlayfs",
    "RUNTIME": "runc",
    "RUNTIME_TYPE": "io.containerd.runc.v2",
}
"""What MicroK8s puts in where no rendered file says it."""


def placeholder_values(template: str, written: str | None) -> dict[str, str]:
    """What each placeholder of the template stood for when the file `written` was made of it; where that cannot be
    seen, what it stands for usually."""
    values: dict[str, str] = {}
    lines = (written or "").splitlines()
    for line in template.splitlines():
        names = _PLACEHOLDER.findall(line)
        if not names or line.lstrip().startswith("#"):
            continue
        pattern = re.compile(_as_pattern(line))
        found = next((m for text in lines if (m := pattern.fullmatch(text)) is not None), None)
        for number, name in enumerate(names):
            if found is not None:
                values.setdefault(name, found[f"p{number}"])
    return _USUAL | values


def _as_pattern(line: str) -> str:
    parts = _PLACEHOLDER.split(line)
    literals = [re.escape(part) for part in parts[::2]]
    slots = [f"(?P<p{number}>[^\"'\\n]*?)" for number in range(len(literals) - 1)]
    return "".join(text for pair in zip(literals, [*slots, ""], strict=True) for text in pair)


def rendered(template: str, values: dict[str, str]) -> str:
    """What the next start writes. Raises RefusedError for a placeholder that nobody knows."""
    unknown = sorted({name for name in _PLACEHOLDER.findall(_without_comments(template)) if name not in values})
    if unknown:
        raise RefusedError(f"${{{unknown[0]}}} is no placeholder of MicroK8s", remedy="write its value there")
    return _PLACEHOLDER.sub(lambda m: values.get(m[1], m[0]), template)


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


@dataclass(frozen=True, slots=True)
class Masked:
    """A template as TOML: placeholders that stand outside of strings are numbers here, and come back afterwards."""

    text: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, template: str) -> "Masked":
        """The template with harmless values of the right kind."""
        names: list[str] = []

        def number(match: re.Match[str]) -> str:
            names.append(match[2])
            return f"{match[1]}{_FIRST_NUMBER + len(names)}"

        return cls(_BARE.sub(number, template), tuple(names))

    def unmasked(self, text: str) -> str:
        """An edited text with the placeholders as they were."""
        for number, name in enumerate(self.names, start=1):
            text = text.replace(str(_FIRST_NUMBER + number), f"${{{name}}}")
        return text
