"""What one probe printed, with what several readers need of it: taken apart once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gpuwizard.clean import clean_line
from gpuwizard.facts.files import host_files
from gpuwizard.facts.frames import Frames, read_frames
from gpuwizard.facts.model import HostFile, ServiceState
from gpuwizard.facts.units import Process, Unit, parse_process, parse_units

__all__ = ["Look", "look_at"]


@dataclass(frozen=True, slots=True)
class Look:
    """The sections of one probe. `root` says whether it ran as root, so that an absent file is really absent.

    `marks` are the paths that are there; `packages` maps an installed package that was asked for to its version;
    `broken` are the files whose content did not arrive whole. `seconds` is how long the probe took and `received`
    when its answer was there (seconds since the epoch, on this machine's clock).
    """

    frames: Frames
    root: bool
    marks: frozenset[str]
    units: Mapping[str, Unit]
    processes: tuple[Process, ...]
    files: Mapping[str, HostFile]
    packages: Mapping[str, str]
    broken: tuple[str, ...]
    seconds: float
    received: float | None

    @property
    def packages_asked(self) -> bool:
        """True when the package database answered: what is not in `packages` is not installed."""
        return self.frames.get("packages") is not None

    def service(self, name: str) -> ServiceState | None:
        """The unit `name` as a fact; None when systemd was not asked."""
        unit = self.units.get(name)
        if unit is None:
            return None
        return ServiceState(name, unit.loaded, unit.active, unit.enabled, unit.sub, unit.result)


def look_at(raw: bytes, *, seconds: float = 0.0, received: float | None = None) -> Look:
    """Take the probe's output apart. Never raises, whatever the bytes are."""
    frames = read_frames(raw)
    files, broken = host_files(frames)
    privilege = frames.get("privilege")
    return Look(
        frames=frames,
        root=privilege is not None and privilege.status == 1,
        marks=frozenset(
            line.strip() for name in ("marks", "host-marks", "kubernetes-marks") for line in frames.lines(name)
        ),
        units=parse_units(frames.text("units")),
        processes=tuple(p for s in frames.all("process") if (p := parse_process(s.key, s.text)) is not None),
        files=files,
        packages=dict(_packages(frames)),
        broken=broken,
        seconds=seconds,
        received=received,
    )


def _packages(frames: Frames) -> Iterator[tuple[str, str]]:
    """``name version`` lines of the section ``packages``."""
    for line in frames.lines("packages"):
        name, _, version = line.strip().partition(" ")
        if name and version:
            yield clean_line(name), clean_line(version)
