"""What must hold of every plan for containerd, whatever the configuration was before: the six of nvidia-ctk's own
end-to-end test, with the real containerd's words or with ours."""

from dataclasses import dataclass
from typing import Any

from gpuwizard.containerd import Effective
from tests.plan_probes import RUNTIME_PATH

RUNC = "io.containerd.runc.v2"


@dataclass(frozen=True)
class Seen:
    """A configuration reduced to what can be seen of both: `rest` is everything that is not of the other fields."""

    runtimes: dict[str, tuple[str | None, dict[str, Any]]]
    default: str | None
    cdi: bool | None
    imports: tuple[str, ...]
    rest: dict[str, Any]


def seen(state: Effective) -> Seen:
    settings = {
        path: value
        for path, value in state.settings.items()
        if ".runtimes." not in path and not path.endswith(("default_runtime_name", "enable_cdi"))
    }
    rest: dict[str, Any] = {
        "settings": settings,
        "sandbox": state.sandbox_image,
        "snapshotter": state.snapshotter,
        "registry": state.registry_config_path,
        "cdi folders": state.cdi_spec_dirs,
        "cni": dict(state.cni),
        "disabled": state.disabled_plugins,
    }
    runtimes = {name: (h.runtime_type, dict(h.options)) for name, h in state.runtimes.items()}
    return Seen(runtimes, state.default_runtime_name, state.enable_cdi, state.imports, rest)


def assert_invariants(before: Seen, after: Seen, *, default: str = "leave", has_cdi: bool = True) -> None:
    """Nothing but handler nvidia, the default where asked for, CDI, and one import more."""
    others = {name: handler for name, handler in before.runtimes.items() if name != "nvidia"}
    assert {name: handler for name, handler in after.runtimes.items() if name != "nvidia"} == others

    kind, options = after.runtimes["nvidia"]
    model_type, model = before.runtimes.get("runc", (None, {}))
    assert kind == RUNC
    assert options["BinaryName"] == RUNTIME_PATH
    if model_type == RUNC:
        assert options.get("SystemdCgroup", False) == model.get("SystemdCgroup", False)

    assert after.default == ("nvidia" if default == "nvidia" else before.default)
    assert after.default in after.runtimes

    assert after.cdi == (True if has_cdi else None)

    added = list(after.imports)  # what imported files import stands behind all of the root file's
    for path in before.imports:
        added.remove(path)
    assert [path for path in after.imports if path not in added or path in before.imports] == list(before.imports)
    assert all("gpuwizard" in path or path.endswith("/conf.d/*.toml") for path in added)

    assert after.rest == before.rest
