"""Which containerd it is, and the few behaviours in which releases differ (`runtimes.md §1.1`, `§1.3`)."""

import re
from dataclasses import dataclass

from gpuwizard.errors import UsageError

__all__ = ["Release"]

_NUMBERS = re.compile(r"(?<![\w.])v?(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True, order=True)
class Release:
    """A containerd version; everything after the three numbers (Debian's ``~ds1``, K3s' ``-k3s1``) is dropped."""

    major: int
    minor: int
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> "Release":
        """Read a version as people and packages write it: ``1.7.24~ds1``, ``v2.1``, ``containerd://2.0.5-k3s1``.

        Raises UsageError when there is no version number in `text`.
        """
        found = _NUMBERS.search(text.rpartition("://")[2])
        if found is None:
            raise UsageError(f"not a containerd version: {text!r}", remedy="write it like 1.7.24 or v2.1")
        major, minor, patch = found.groups()
        return cls(int(major), int(minor), int(patch or 0))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def line(self) -> tuple[int, int]:
        """Major and minor number."""
        return (self.major, self.minor)

    @property
    def replaces_plugin_tables(self) -> bool:
        """An imported file replaces a plugin's whole table (1.3 to 1.7); from 2.0.0 tables are merged."""
        return self.major < 2

    @property
    def migrates_each_file(self) -> bool:
        """Each file is brought to the newest version before the files are merged (2.3)."""
        return self.line >= (2, 3)

    @property
    def refuses_newer_drop_in(self) -> bool:
        """A drop-in of a higher version than the root file is fatal (2.3.0 to 2.3.4, taken back in 2.4)."""
        return self.line == (2, 3)

    @property
    def refuses_version_3(self) -> bool:
        """1.x says ``unsupported config version`` from 1.6.32 and 1.7.17; before it reads the file as version 2."""
        return self.major < 2 and self >= (Release(1, 7, 17) if self.minor >= 7 else Release(1, 6, 32))

    @property
    def migration_replaces_runtime_table(self) -> bool:
        """2.0.0 and 2.0.1: the migrated version-2 table replaces a version-3 one; later existing keys win."""
        return Release(2, 0, 0) <= self < Release(2, 0, 2)

    @property
    def has_cni_bin_dirs(self) -> bool:
        """``cni.bin_dirs`` (a list) took the place of ``bin_dir`` in 2.1.0."""
        return self.line >= (2, 1)

    @property
    def registry_folder(self) -> str:
        """The built-in registry ``config_path``: empty, but for 2.2.0 and 2.2.1."""
        return "/etc/containerd/certs.d:/etc/docker/certs.d" if Release(2, 2, 0) <= self < Release(2, 2, 2) else ""

    @property
    def config_version(self) -> int:
        """The newest configuration version it knows; ``config default`` and ``config dump`` print it."""
        if self.major < 2:
            return 2
        return 3 if self.line < (2, 3) else 4

    @property
    def relative_globs_from_cwd(self) -> bool:
        """Relative globs start at the daemon's working directory up to 1.6.28 and 1.7.15."""
        return self.major < 2 and self < (Release(1, 7, 16) if self.minor >= 7 else Release(1, 6, 29))
