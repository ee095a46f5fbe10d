"""What K3s will render at its next start: which template applies and which handlers come out (`runtimes.md §2`)."""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gpuwizard.containerd.edit import add_table, set_value
from gpuwizard.containerd.model import CRI_V2, RUNTIME_V3
from gpuwizard.errors import UsageError

__all__ = ["K3sRelease", "Template", "applying_template", "predicted_render", "search_path"]

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")
_BASE = re.compile(r"\{\{-?\s*template\s+\"base\"\s+\.\s*-?\}\}")
_NVIDIA = re.compile(r"^[ \t]*\[[^\n]*runtimes\.[\"']?nvidia[\"']?[\].]", re.MULTILINE)
_SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_OPERATOR_PATH = "/usr/local/nvidia/toolkit"


@dataclass(frozen=True, slots=True, order=True)
class K3sRelease:
    """A K3s version, ``v1.33.5+k3s1``. First releases of features come from `runtimes.md §2.2`."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> "K3sRelease":
        """Read the three numbers. Raises UsageError when there are none."""
        found = _VERSION.search(text)
        if found is None:
            raise UsageError(f"not a K3s version: {text!r}")
        return cls(*(int(n) for n in found.groups()))

    def _since(self, *first: tuple[int, int]) -> bool:
        """True from the given (minor, patch) of each 1.x line on; lines after the last one have it."""
        gates = dict(first)
        return self.major > 1 or self.minor > max(gates) or self.patch >= gates.get(self.minor, 10**6)

    @property
    def detects_nvidia(self) -> bool:
        """nvidia-container-runtime is looked for at every start."""
        return self >= K3sRelease(1, 22, 2)

    @property
    def knows_v3_template(self) -> bool:
        """``config-v3.toml.tmpl`` is read."""
        return self._since((31, 6), (32, 2), (33, 0))

    @property
    def has_default_runtime(self) -> bool:
        """The option ``default-runtime`` exists."""
        return self._since((26, 12), (27, 9), (28, 5), (29, 0))

    @property
    def looks_in_path(self) -> bool:
        """Runtimes are looked for in PATH; before only in /usr/bin and the operator's folder."""
        return self._since((26, 14), (27, 11), (28, 7), (29, 2), (30, 0))


@dataclass(frozen=True, slots=True)
class Template:
    """A template that K3s would render. `kind`: ``base`` includes K3s' own and adds to it; ``full`` renders detected
    runtimes by itself; ``stale`` is a copy of a rendered file, frozen at the K3s that wrote it (`§2.6`)."""

    path: str
    kind: Literal["base", "full", "stale"]
    names_nvidia: bool


def applying_template(files: Mapping[str, bytes], folder: str, release: K3sRelease) -> Template | None:
    """The template in `folder` that K3s renders: ``config-v3.toml.tmpl`` wins where it is known."""
    names = ("config-v3.toml.tmpl", "config.toml.tmpl") if release.knows_v3_template else ("config.toml.tmpl",)
    for name in names:
        path = posixpath.join(folder, name)
        if path in files:
            text = files[path].decode("utf-8", "replace")
            code = "\n".join(line.split("#", 1)[0] for line in text.splitlines())
            kind: Literal["base", "full", "stale"] = "stale"
            if _BASE.search(code):
                kind = "base"
            elif ".ExtraRuntimes" in code:
                kind = "full"
            return Template(path, kind, _NVIDIA.search(code) is not None)
    return None


def search_path(release: K3sRelease) -> tuple[str, ...]:
    """The folders in which K3s looks for runtimes when its service has systemd's usual PATH (`§2.4`)."""
    return (_OPERATOR_PATH, *(_SYSTEM_PATH if release.looks_in_path else ("/usr/bin",)))


def predicted_render(rendered: str, version: int, options: Mapping[str, Any] | None, default: str | None = None) -> str:
    """The rendered file after the next start: handler nvidia with `options` at its end (None: it is there already),
    and the default handler where one is asked for. Everything else stays as it was rendered last.

    Raises RefusedError when the rendered file cannot take it.
    """
    plugin = RUNTIME_V3 if version >= 3 else CRI_V2
    table = ("plugins", plugin, "containerd")
    text = rendered
    if options is not None:
        content = {"runtime_type": "io.containerd.runc.v2", "options": dict(options)}
        text = add_table(text, (*table, "runtimes", "nvidia"), content)
    return set_value(text, (*table, "default_runtime_name"), default) if default else text
