"""The toolkit's config.toml where CRI-O keeps runc and crun to itself (`runtimes.md §9`)."""

import tomllib

from gpuwizard.actions import FileChange
from gpuwizard.containerd.edit import set_value
from gpuwizard.errors import RefusedError
from gpuwizard.facts.model import Probe
from gpuwizard.secret import SecretBytes

__all__ = ["TOOLKIT_CONFIG", "low_level_change"]

TOOLKIT_CONFIG = "/etc/nvidia-container-runtime/config.toml"
_LIST = ("nvidia-container-runtime", "runtimes")


def low_level_change(probe: Probe) -> FileChange | None:
    """The list of low-level runtimes with CRI-O's own ones behind it, when nothing else would be found.

    nvidia-container-runtime looks for `runc`, then `crun`, in PATH; without either every pod of handler nvidia fails.
    Raises RefusedError when the file cannot be edited.
    """
    toolkit = probe.facts.toolkit
    if not toolkit.private_runtimes or not toolkit.low_level or any(toolkit.low_level.values()):
        return None
    if toolkit.config_path not in (None, TOOLKIT_CONFIG) or toolkit.operator_placed:
        raise RefusedError(
            f"nvidia-container-runtime finds no runc and no crun, and reads {toolkit.config_path}",
            remedy=f"add {', '.join(toolkit.private_runtimes)} to nvidia-container-runtime.runtimes there",
        )
    file = probe.files.get(TOOLKIT_CONFIG)
    if file is None:
        raise RefusedError(f"{TOOLKIT_CONFIG} was not read", remedy="probe again as root")
    text = file.content.raw.decode("utf-8", "surrogateescape") if file.content is not None else ""
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RefusedError(f"{TOOLKIT_CONFIG} is not valid TOML", remedy="repair it first") from error
    listed = [*toolkit.runtimes, *(p for p in toolkit.private_runtimes if p not in toolkit.runtimes)]
    new = set_value(text, _LIST, listed)
    return (
        None
        if new == text
        else FileChange(TOOLKIT_CONFIG, file.content, SecretBytes(new.encode("utf-8", "surrogateescape")))
    )
