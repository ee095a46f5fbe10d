"""The options of K3s and RKE2: flags, then ``config.yaml.d/*``, then ``config.yaml``, then the environment.

`runtimes.md §2.1`: the files are read in lexical order, later ones win, and ``key+:`` adds to a list.
"""

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from gpuwizard.facts.model import HostFile
from gpuwizard.facts.text import value
from gpuwizard.facts.units import flag

__all__ = ["RancherSettings", "environment_of", "k3s_settings", "rancher_settings"]

_WANTED = frozenset(
    (
        "container-runtime-endpoint",
        "data-dir",
        "default-runtime",
        "disable",
        "disable-agent",
        "docker",
        "flannel-backend",
        "kubelet-arg",
        "node-name",
        "rootless",
        "with-node-id",
        "write-kubeconfig",
    )
)
_LISTS = ("kubelet-arg", "disable")
_SWITCHES = ("docker", "disable-agent", "rootless", "with-node-id")
_LIMIT = 256 * 1024
_TRUE = ("1", "t", "true")
_VARIABLES = {"data-dir": "DATA_DIR", "node-name": "NODE_NAME", "write-kubeconfig": "KUBECONFIG_OUTPUT"}


@dataclass(frozen=True, slots=True)
class RancherSettings:
    """What is set, as far as it matters here. `options` holds every value as a list of texts. `complete` is false
    where a file could not be read: what is not in `options` may then be set all the same."""

    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    complete: bool = True

    def text(self, name: str) -> str | None:
        """The last value of the option."""
        found = self.options.get(name, ())
        return found[-1] if found else None

    def switch(self, name: str) -> bool:
        """Whether the switch is on."""
        return (self.text(name) or "").lower() in _TRUE


def rancher_settings(
    files: Mapping[str, HostFile],
    folder: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    unread: Collection[str] = (),
) -> RancherSettings:
    """The options of the service whose configuration lies in `folder`. `unread` are files that are there and could not
    be read."""
    usual = f"{folder}/config.yaml"
    main = flag(arguments, "--config", "-c") or environment.get("CONFIG_FILE") or usual
    options: dict[str, tuple[str, ...]] = {
        name: (text,) for name, key in _VARIABLES.items() if (text := value(environment.get(key)))
    }
    read = k3s_settings(files, folder, main)
    options |= read
    for name, found in _flags(arguments).items():
        options[name] = (*options.get(name, ()), *found) if name in _LISTS else found
    complete = (main in files or main == usual) and not any(path.startswith(main) for path in unread)
    return RancherSettings(options, complete)


def _flags(arguments: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The values of the wanted flags on a command line; a bare switch is ``true``."""
    found: dict[str, tuple[str, ...]] = {}
    for argument, following in zip(arguments, (*arguments[1:], ""), strict=False):
        key, equals, rest = argument.partition("=")
        name = "data-dir" if key == "-d" else key.removeprefix("--")
        if name not in _WANTED or not key.startswith("-"):
            continue
        shown = value(rest if equals else "true" if name in _SWITCHES else following)
        if shown is not None:
            found[name] = (*found.get(name, ()), shown)
    return found


def k3s_settings(files: Mapping[str, HostFile], folder: str, main: str | None = None) -> dict[str, tuple[str, ...]]:
    """``config.yaml`` and ``config.yaml.d/*``, each option as a list of texts. What does not parse is left out."""
    main = main or f"{folder}/config.yaml"
    drop_in = re.compile(rf"{re.escape(main)}\.d/[^/]+\.ya?ml")
    merged: dict[str, tuple[str, ...]] = {}
    for path in (main, *sorted(path for path in files if drop_in.fullmatch(path))):
        file = files.get(path)
        if file is None or file.content is None or len(file.content.raw) > _LIMIT:
            continue
        for key, texts in _read(file.content.raw):
            name = key.removesuffix("+")
            if texts:
                merged[name] = (*merged.get(name, ()), *texts) if key.endswith("+") else texts
    return merged


@functools.lru_cache(maxsize=256)
def _read(raw: bytes) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The wanted options of one file, in order; nothing for what is no YAML mapping."""
    if not any(name.encode() in raw for name in _WANTED):
        return ()
    import yaml

    try:
        document = yaml.load(raw, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a safe one
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return ()
    if not isinstance(document, dict):
        return ()
    return tuple(
        (key, tuple(shown for one in (entry if isinstance(entry, list) else [entry]) if (shown := _text(one))))
        for key, entry in document.items()
        if isinstance(key, str) and key.removesuffix("+") in _WANTED
    )


def _text(entry: object) -> str | None:
    if isinstance(entry, bool):
        return "true" if entry else "false"
    if isinstance(entry, int | float):
        return f"{entry:.0f}" if abs(entry) < 2**53 else None
    return value(entry) if isinstance(entry, str) else None


def environment_of(sections: Sequence[tuple[str, str]], service: str | None) -> dict[str, str]:
    """The variables that matter, without the prefix of the program, out of the environment files of `service`.

    `sections` are path and lines of each file; ``/etc/default/k3s`` and ``/etc/sysconfig/k3s`` come before the unit's
    own file, and later ones win. PATH keeps its name.
    """
    name = (service or "").removesuffix(".service")
    found: dict[str, str] = {}
    for path, text in sorted(sections, key=lambda section: _rank(section[0])):
        base = path.rpartition("/")[2].removesuffix(".env").removesuffix(".service")
        if name and base != name:
            continue
        for line in text.splitlines():
            key, equals, rest = line.strip().removeprefix("export ").partition("=")
            shown = value(rest.strip().strip("\"'"))
            if equals and shown:
                found[re.sub(r"^(?:K3S|RKE2)_", "", key.strip())] = shown
    return found


def _rank(path: str) -> int:
    return 0 if path.startswith("/etc/default/") else 1 if path.startswith("/etc/sysconfig/") else 2
