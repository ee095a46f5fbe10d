"""CDI specifications as the toolkit's releases and the device plugin write them, in our own words."""

import json
from typing import Any

__all__ = ["block_yaml", "one_line_json", "sorted_yaml", "specification"]

LIBRARIES = "/usr/lib/x86_64-linux-gnu"


def specification(
    *devices: str,
    driver: str = "580.159.04",
    kind: str = "nvidia.com/gpu",
    hook: str = "/usr/bin/nvidia-cdi-hook",
    root: str = "",
) -> dict[str, Any]:
    """A specification of `devices`; `root` is put before the host's paths, as with a driver container."""

    def mount(path: str) -> dict[str, Any]:
        return {"hostPath": root + path, "containerPath": path, "options": ["ro", "nosuid", "nodev", "rbind"]}

    def node(path: str) -> dict[str, Any]:
        return {"path": path, "hostPath": root + path} if root else {"path": path}

    def hooked(*arguments: str) -> dict[str, Any]:
        return {
            "hookName": "createContainer",
            "path": hook,
            "args": ["nvidia-cdi-hook", *arguments],
            "env": ["NVIDIA_CTK_DEBUG=false"],
        }

    return {
        "cdiVersion": "0.5.0",
        "kind": kind,
        "devices": [
            {
                "name": name,
                "containerEdits": {
                    "deviceNodes": [node("/dev/nvidia0")],
                    "hooks": [hooked("create-symlinks", "--link", "../card1::/dev/dri/by-path/pci-0000:00:06.0-card")],
                },
            }
            for name in devices
        ],
        "containerEdits": {
            "env": ["NVIDIA_VISIBLE_DEVICES=void"],
            "deviceNodes": [node("/dev/nvidiactl"), node("/dev/nvidia-uvm")],
            "hooks": [hooked("update-ldcache", "--folder", LIBRARIES)],
            "mounts": [mount(f"{LIBRARIES}/{name}.so.{driver}") for name in ("libcuda", "libnvidia-ml")],
        },
    }


def block_yaml(spec: dict[str, Any]) -> str:
    """As 1.18 and newer write it: keys in the order of the standard, four blanks deep."""
    return "---\n" + _block(spec, 0)


def sorted_yaml(spec: dict[str, Any]) -> str:
    """As releases before 1.17 wrote it: keys sorted, dashes in the column of their key."""
    return "---\n" + _block(spec, 0, ordered=True)


def one_line_json(spec: dict[str, Any]) -> str:
    """As the device plugin writes it."""
    return json.dumps(spec, separators=(",", ":"))


def _block(value: dict[str, Any], depth: int, *, ordered: bool = False) -> str:
    step, lines = (2 if ordered else 4), []
    for key in sorted(value) if ordered else value:
        lines.append(" " * depth + _entry(key, value[key], depth, step, ordered=ordered))
    return "".join(lines)


def _entry(key: str, value: Any, depth: int, step: int, *, ordered: bool) -> str:
    if isinstance(value, str):
        return f"{key}: {_scalar(value)}\n"
    if isinstance(value, dict):
        return f"{key}:\n" + _block(value, depth + step, ordered=ordered)
    dash = depth if ordered else depth + step
    lines = []
    for item in value:
        if isinstance(item, str):
            lines.append(" " * dash + f"- {_scalar(item)}\n")
        else:
            lines.append(" " * dash + "- " + _block(item, dash + 2, ordered=ordered).lstrip(" "))
    return f"{key}:\n" + "".join(lines)


def _scalar(text: str) -> str:
    return f'"{text}"' if text.isdigit() or text in ("true", "false") else text
