"""What a release of K3s or RKE2 can do: the table of `runtimes.md §2.2` and `§3`."""

import re
from dataclasses import dataclass

__all__ = ["KubeRelease"]

_VERSION = re.compile(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?")
_OPERATOR_FOLDER = "/usr/local/nvidia/toolkit"
_FIXED_PATH = ("/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin")


@dataclass(frozen=True, slots=True, order=True)
class KubeRelease:
    """A Kubernetes version; the suffix of K3s and RKE2 (``+k3s1``) is dropped."""

    major: int
    minor: int
    patch: int = 0

    @classmethod
    def parse(cls, text: str | None) -> "KubeRelease | None":
        """The numbers at the beginning of `text`; None when there are none."""
        found = _VERSION.match(text or "")
        if found is None:
            return None
        return cls(int(found[1]), int(found[2]), int(found[3] or 0))

    def _since(self, *first: tuple[int, int]) -> bool:
        """From the given (minor, patch) of each line on; lines between two that are named have it only when the
        lower one has it from .0 on; lines after the last one have it."""
        gates = dict(first)
        return self.major > 1 or self.minor > max(gates) or self.patch >= gates.get(self.minor, 10**7)

    @property
    def detects_nvidia(self) -> bool:
        """nvidia-container-runtime is looked for at every start."""
        return self >= KubeRelease(1, 22, 2)

    @property
    def has_base(self) -> bool:
        """A template can include the built-in one by ``{{ template "base" . }}``."""
        return self._since((24, 17), (25, 13), (26, 8), (27, 5), (28, 1))

    @property
    def has_default_runtime(self) -> bool:
        """The option ``default-runtime`` exists, and K3s ships RuntimeClass objects."""
        return self._since((26, 12), (27, 9), (28, 5), (29, 0))

    @property
    def looks_in_fixed_path(self) -> bool:
        """More folders than /usr/bin are looked at."""
        return self._since((26, 14), (27, 11), (28, 7), (29, 2), (30, 0))

    @property
    def looks_in_own_path(self) -> bool:
        """The PATH of the service counts."""
        return self._since((28, 15), (29, 10), (30, 6), (31, 2), (32, 0))

    @property
    def has_v3_template(self) -> bool:
        """``config-v3.toml.tmpl`` is read; containerd is 2.0 or newer."""
        return self._since((31, 6), (32, 2), (33, 0))

    @property
    def has_imports(self) -> bool:
        """The built-in templates import drop-in folders."""
        return self._since((33, 10), (34, 6), (35, 3), (36, 0))

    @property
    def containerd_2_3(self) -> bool:
        """containerd is 2.3 or newer: files are migrated one by one, unversioned ones work again."""
        return self._since((36, 2))

    @property
    def rke2_has_runtime_classes(self) -> bool:
        """RKE2 ships RuntimeClass objects."""
        return self._since((29, 13), (30, 9), (31, 5), (32, 1), (33, 0))

    @property
    def asks_runtime_for_cgroup_driver(self) -> bool:
        """A kubelet without the setting asks the runtime; an older one uses cgroupfs."""
        return self >= KubeRelease(1, 31)

    @property
    def has_dockershim(self) -> bool:
        """The kubelet can use Docker without a helper, and does where nothing else is asked for."""
        return self < KubeRelease(1, 24)

    def search_path(self, own: tuple[str, ...]) -> tuple[str, ...]:
        """The folders in which it looks for NVIDIA's runtimes; `own` is the PATH of its service."""
        if self.looks_in_own_path:
            return tuple(dict.fromkeys((_OPERATOR_FOLDER, *own)))
        return (_OPERATOR_FOLDER, *(_FIXED_PATH if self.looks_in_fixed_path else ("/usr/bin",)))
