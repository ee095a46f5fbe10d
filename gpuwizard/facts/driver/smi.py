"""nvidia-smi's failures by text and exit status (`hosts.md §3.3`).

The texts were compared with the real nvidia-smi 550 in front of a library that fails in every way.
"""

import re
from functools import lru_cache

from gpuwizard.facts.model.driver import SmiProblem

__all__ = ["problem_kind"]

_TEXTS: tuple[tuple[str, SmiProblem], ...] = (
    (r"couldn't find libnvidia-ml", "library-missing"),
    (r"couldn't communicate with the NVIDIA driver", "not-loaded"),
    (r"Driver/library version mismatch", "mismatch"),
    (r"initialize NVML: Insufficient Permissions", "permission"),
    (r"initialize NVML: Timeout", "timeout"),
    (r"initialize NVML: Interrupt Request Issue", "interrupt"),
    (r"initialize NVML: GPU is lost", "lost"),
    (r"initialize NVML: GPU requires reset", "reset"),
    (r"initialize NVML: GPU access blocked", "blocked"),
    (r"initialize NVML: No supported GPUs", "unsupported"),
    (r"initialize NVML: Insufficient External Power", "power"),
    (r"initialize NVML: Function Not Found", "function-missing"),
    (r"initialize NVML: Corrupted infoROM", "inforom"),
    (r"initialize NVML: Driver Not Loaded", "not-loaded"),
    (r"initialize NVML: NVML Shared Library Not Found", "library-missing"),
    (r"initialize NVML: Unknown Error", "unknown-error"),
    (r"Mismatch in versions between nvidia-smi and NVML", "other-nvidia-smi"),
    (r"/dev/nvidia\* files are readable by current user", "permission"),
    (r"No devices were found", "no-devices"),
    (r"is not a valid field to query", "field"),
    (r"Unable to determine the device handle", "device"),
    (r"infoROM is corrupted", "inforom"),
    (r"GPU \S+: (GPU is lost|GPU requires reset|Unknown Error|ERR!)", "device"),
)
"""In this order: the first that is found counts. A library that says why it failed may be followed by another line."""
_STATUSES: dict[int, SmiProblem] = {
    2: "field",
    4: "permission",
    6: "no-devices",
    8: "power",
    9: "not-loaded",
    10: "interrupt",
    11: "interrupt",
    12: "library-missing",
    13: "function-missing",
    14: "inforom",
    15: "lost",
    17: "blocked",
    18: "mismatch",
    124: "hangs",
    137: "hangs",
    143: "hangs",
}
_LIMIT = 4000  # characters of a text that are looked at


@lru_cache(maxsize=256)
def problem_kind(text: str | None, status: int | None) -> SmiProblem | None:
    """Which failure that is; None when nvidia-smi works. The text decides; its status where the text says nothing."""
    if text is None and not status:
        return None
    for pattern, kind in _TEXTS:
        if re.search(pattern, (text or "")[:_LIMIT], re.IGNORECASE):
            return kind
    return _STATUSES.get(status or 0, "other")
