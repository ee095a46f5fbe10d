"""The effective configuration against the real `containerd config dump`, on generated configurations.

It runs with every containerd named in GPUWIZARD_CONTAINERDS (paths with colons between), else with the one in PATH.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuwizard.containerd import Effective, effective
from gpuwizard.containerd.edit import literal
from gpuwizard.containerd.model import CRI_V2, IMAGES_V3, RUNTIME_V3

_NAMED = os.environ.get("GPUWIZARD_CONTAINERDS", shutil.which("containerd") or "")
BINARIES = [path for path in _NAMED.split(":") if path]

pytestmark = pytest.mark.skipif(not BINARIES, reason="no containerd in PATH and none named in GPUWIZARD_CONTAINERDS")

HANDLERS = st.fixed_dictionaries(
    {},
    optional={
        "runtime_type": st.sampled_from(["io.containerd.runc.v2", "io.containerd.kata.v2"]),
        "options": st.fixed_dictionaries(
            {}, optional={"SystemdCgroup": st.booleans(), "BinaryName": st.sampled_from(["", "/usr/bin/x"])}
        ),
    },
)
RUNTIMES = st.dictionaries(st.sampled_from(["runc", "nvidia", "kata"]), HANDLERS, max_size=3)
CONTAINERD = st.fixed_dictionaries(
    {}, optional={"default_runtime_name": st.sampled_from(["runc", "nvidia"]), "runtimes": RUNTIMES}
)
SHARED = {
    "cdi_spec_dirs": st.lists(st.sampled_from(["/etc/cdi", "/x"]), max_size=2),
    "enable_cdi": st.booleans(),
}
V2 = st.fixed_dictionaries(
    {},
    optional={
        **SHARED,
        "sandbox_image": st.sampled_from(["example.test/pause:1", "example.test/pause:2"]),
        "containerd": st.builds(
            lambda c, s: {**c, **s},
            CONTAINERD,
            st.fixed_dictionaries({}, optional={"snapshotter": st.sampled_from(["native", "overlayfs"])}),
        ),
        "registry": st.fixed_dictionaries({}, optional={"config_path": st.sampled_from(["", "/certs"])}),
        "cni": st.fixed_dictionaries({}, optional={"bin_dir": st.just("/cni"), "conf_dir": st.just("/net.d")}),
    },
)
RUNTIME = st.fixed_dictionaries({}, optional={**SHARED, "containerd": CONTAINERD})
IMAGES = st.fixed_dictionaries(
    {},
    optional={
        "snapshotter": st.sampled_from(["native", "overlayfs"]),
        "pinned_images": st.fixed_dictionaries({}, optional={"sandbox": st.just("example.test/pause:3")}),
        "registry": st.fixed_dictionaries({}, optional={"config_path": st.just("/certs3")}),
    },
)
FILES = st.fixed_dictionaries(
    {"version": st.sampled_from([None, None, 1, 2, 2, 2, 3, 3])},
    optional={
        "disabled": st.sampled_from([[], ["cri"], [CRI_V2], ["io.containerd.internal.v1.opt"]]),
        # Never both names of one table: which of them wins is a matter of chance in containerd itself.
        "plugins": st.one_of(
            *(
                st.fixed_dictionaries({}, optional={name: V2, RUNTIME_V3: RUNTIME, IMAGES_V3: IMAGES})
                for name in (CRI_V2, "cri")
            )
        ),
    },
)


def toml(file: dict[str, Any], imports: str | None) -> str:
    lines = [] if file["version"] is None else [f"version = {file['version']}"]
    if imports is not None:
        lines.append(f"imports = [{literal(imports)}]")
    if "disabled" in file:
        lines.append(f"disabled_plugins = {literal(file['disabled'])}")
    return "\n".join([*lines, *tables(("plugins",), file.get("plugins", {}))]) + "\n"


def tables(path: tuple[str, ...], table: dict[str, Any]) -> list[str]:
    lines = [f"[{'.'.join(json.dumps(p) for p in path)}]"]
    lines += [f"{k} = {literal(v)}" for k, v in table.items() if not isinstance(v, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += tables((*path, key), value)
    return lines


def release_of(binary: str) -> str:
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r" v?(\d+\.\d+\.\d+)", text)
    assert found, text
    return found[1]


def cni(table: dict[str, Any]) -> dict[str, Any]:
    """CNI without the built-in program folders, which Debian's packages change."""
    built_in = ("/opt/cni/bin", "/usr/lib/cni", ["/opt/cni/bin"], ["/usr/lib/cni", "/opt/cni/bin"])
    return {k: table.get(k) or None for k in ("conf_dir", "bin_dir", "bin_dirs") if table.get(k) not in built_in}


def dumped(binary: str, path: str) -> dict[str, Any] | None:
    """What the real one says, in the words of the samples; None: it refuses."""
    ran = subprocess.run([binary, "--config", path, "config", "dump"], capture_output=True, check=False)
    if ran.returncode:
        return None
    data = tomllib.loads(ran.stdout.decode())
    plugins = data["plugins"]
    runtime = plugins.get(RUNTIME_V3) or plugins.get(CRI_V2, {})
    images = plugins.get(IMAGES_V3) or runtime
    containerd = runtime.get("containerd", {})
    return {
        "disabled": data["disabled_plugins"],
        "default": containerd.get("default_runtime_name"),
        "runtimes": {
            name: (table["runtime_type"], {k: v for k, v in (table.get("options") or {}).items() if v not in ("", 0)})
            for name, table in containerd.get("runtimes", {}).items()
        },
        "sandbox": images.get("pinned_images", {}).get("sandbox") or runtime.get("sandbox_image"),
        "snapshotter": images.get("snapshotter") or containerd.get("snapshotter"),
        "registry": images.get("registry", {}).get("config_path", ""),
        "cdi": (runtime.get("enable_cdi"), runtime.get("cdi_spec_dirs")),
        "cni": cni(runtime.get("cni", {})),
    }


def predicted(state: Effective) -> dict[str, Any] | None:
    if not state.starts:
        return None
    return {
        "disabled": list(state.disabled_plugins),
        "default": state.default_runtime_name,
        "runtimes": {name: (h.runtime_type, dict(h.options)) for name, h in state.runtimes.items()},
        "sandbox": state.sandbox_image,
        "snapshotter": state.snapshotter,
        "registry": state.registry_config_path or "",
        "cdi": (state.enable_cdi, None if state.cdi_spec_dirs is None else list(state.cdi_spec_dirs)),
        "cni": cni(dict(state.cni)),
    }


@pytest.mark.parametrize("binary", BINARIES)
@given(root=FILES, drop_ins=st.lists(FILES, max_size=2))
@settings(
    max_examples=int(os.environ.get("GPUWIZARD_EXAMPLES", "60")), deadline=None, suppress_health_check=list(HealthCheck)
)
def test_dump_agrees(binary: str, root: dict[str, Any], drop_ins: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        main = f"{folder}/config.toml"
        files = {main: toml(root, f"{folder}/conf.d/*.toml")}
        for number, drop_in in enumerate(drop_ins):
            files[f"{folder}/conf.d/{number}.toml"] = toml(drop_in, None)
        Path(folder, "conf.d").mkdir()
        for path, text in files.items():
            Path(path).write_text(text)
        state = effective({p: t.encode() for p, t in files.items()}, main, release_of(binary))
        assert predicted(state) == dumped(binary, main), "\n---\n".join(files.values())
