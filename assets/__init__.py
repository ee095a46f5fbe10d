"""Files that gpuwizard ships: remote scripts, manifests, version tables, fleets, styles and documentation."""

from importlib.resources import files
from pathlib import Path

__all__ = ["asset"]


def asset(name: str) -> Path:
    """Return the path of the shipped file or folder `name`, e.g. ``asset("remote/probe.sh")``.

    Raises FileNotFoundError when the package was installed without it.
    """
    path = Path(str(files("assets"))) / name
    if not path.exists():
        raise FileNotFoundError(f"gpuwizard was installed without its file assets/{name}")
    return path
