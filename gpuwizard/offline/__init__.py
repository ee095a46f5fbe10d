"""`gpuwizard effective`: what a containerd of some version makes of configuration files, without any host."""

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.containerd import Effective, effective
from gpuwizard.errors import GpuwizardError, UsageError
from gpuwizard.offline.files import Tree
from gpuwizard.redact import redact_text, redacted_secret
from gpuwizard.show.effective import effective_lines, is_secret
from gpuwizard.unattended import say, say_json

__all__ = ["effective_command", "effective_json"]

_EXAMPLE = "gpuwizard effective /etc/containerd/config.toml --containerd 2.1"


def effective_command(arguments: argparse.Namespace) -> int:
    """Print it; returns 1 when that containerd would not start or its CRI plugin would fail.

    Raises UsageError for a version that is none, and for a FILE that cannot be read.
    """
    if len(arguments.words) != 1:
        raise UsageError("effective takes one file", remedy=_EXAMPLE)
    if not arguments.containerd:
        raise UsageError("effective needs the version of the containerd", remedy=_EXAMPLE)
    tree = Tree(arguments.root)
    main = tree.root_file(arguments.words[0])
    state = effective(tree.load(main, arguments.containerd), main, arguments.containerd, tree.read)
    if arguments.json:
        say_json(effective_json(state), indent=2)
    else:
        for line in effective_lines(state, main):
            say(redact_text(line))
    return 0 if state.starts and state.cri != "error" else GpuwizardError.exit_code


def effective_json(state: Effective) -> dict[str, Any]:
    """`state` as the document `gpuwizard.effective/1` of `cli.md`, cleaned and without secrets."""
    document = {
        "schema": "gpuwizard.effective/1",
        "containerd": state.release,
        "starts": state.starts,
        "cri": state.cri,
        "error": state.error,
        "config_version": state.config_version,
        "root_version": state.root_version,
        "default_runtime_name": state.default_runtime_name,
        "runtimes": {
            name: {"runtime_type": handler.runtime_type, "options": dict(handler.options)}
            for name, handler in state.runtimes.items()
        },
        "cgroup_driver": state.cgroup_driver,
        "sandbox_image": state.sandbox_image,
        "snapshotter": state.snapshotter,
        "registry_config_path": state.registry_config_path,
        "enable_cdi": state.enable_cdi,
        "cdi_spec_dirs": state.cdi_spec_dirs,
        "cni": dict(state.cni),
        "imports": state.imports,
        "disabled_plugins": state.disabled_plugins,
        "required_plugins": state.required_plugins,
        "warnings": state.warnings,
        "files": state.files,
        "settings": dict(state.settings),
        "origins": {path: dataclasses.asdict(origin) for path, origin in state.origins.items()},
    }
    return {key: _safe(value) for key, value in document.items()}


def _safe(value: Any, key: str = "") -> Any:
    """`value` with text from files made safe to show; a value whose key names a secret becomes a mark."""
    match value:
        case Mapping():
            return {clean_line(str(name)): _safe(inner, str(name)) for name, inner in value.items()}
        case list() | tuple():
            return [_safe(inner, key) for inner in value]
        case str():
            if value and is_secret(key):
                return redacted_secret(value)
            return redact_text(clean_line(value, 4000))
        case None | bool() | int():
            return value
        case float():
            return value if value - value == 0 else None
        case _:
            return clean_line(str(value))
