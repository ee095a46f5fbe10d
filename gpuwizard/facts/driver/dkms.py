"""DKMS: what ``dkms status`` would say, out of its tree below /var/lib/dkms (`hosts.md §3.1`)."""

import re
from functools import lru_cache

from gpuwizard.facts.frames import Frames
from gpuwizard.facts.model.driver import DkmsState
from gpuwizard.facts.text import value

__all__ = ["dkms_failures", "parse_dkms"]

_LINK = re.compile(r"/var/lib/dkms/([^/\s]+)/kernel-(\S+) -> (\S+)")
_STATES = ("added", "built", "broken")


@lru_cache(maxsize=256)
def parse_dkms(text: str, links: str) -> tuple[DkmsState, ...]:
    """States of ``name version kernel arch state`` lines (``-`` for none) and of ``ls -ld`` lines of the links
    ``kernel-KERNEL-ARCH``: a link to a build is what DKMS calls installed. As in ``dkms status``, a version that is
    built for some kernel has no line of its own."""
    installed = set()
    for line in links.splitlines():
        match = _LINK.search(line[:2000])
        parts = match[3].rstrip("/").split("/")[-3:] if match else []
        if match and len(parts) == 3 and match[2] == f"{parts[1]}-{parts[2]}":
            installed.add((match[1], *parts))
    added: list[DkmsState] = []
    built: list[DkmsState] = []
    for line in text.splitlines():
        words = [value(word) for word in line.split()]
        if len(words) != 5 or words[4] not in _STATES:
            continue
        name, version, kernel, arch, state = (word or "" for word in words)
        if kernel == "-":
            added.append(DkmsState(version, None, state, name, None))
        else:
            state = "installed" if (name, version, kernel, arch) in installed else state
            built.append(DkmsState(version, kernel, state, name, arch))
    seen = {(state.name, state.version) for state in built}
    return tuple(built) + tuple(s for s in added if s.state == "broken" or (s.name, s.version) not in seen)


def dkms_failures(frames: Frames) -> tuple[str, ...]:
    """The telling lines of builds that did not come to their end: the log's first line, then those with errors.

    A log that has no such line may be that of a build under way, and says nothing.
    """
    found: list[str] = []
    for section in frames.all("dkms-log"):
        lines = [shown for line in section.lines[:9] if (shown := value(line))]
        errors = [line for line in lines[1:] if re.search(r"error|\*\*\*|FATAL", line, re.IGNORECASE)]
        if errors:
            found += [lines[0], *errors[:5]]
    return tuple(found)
