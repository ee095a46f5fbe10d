"""Configurations of containerd for hypothesis: root and drop-ins of any version, each table in any dialect, in any
order, with duplicates, lists, unknown keys and wrong types, with every kind of import."""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from gpuwizard.containerd.edit import literal
from gpuwizard.containerd.model import CRI_V2, IMAGES_V3, RUNTIME_V3

__all__ = ["MAIN", "Files", "configurations"]

Files = dict[str, bytes]
Tables = dict[str, Any]
MAIN = "/etc/containerd/config.toml"
_FOLDER = "/etc/containerd/conf.d"


def some(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Tables]:
    """A table with any of these keys in any order."""
    return st.permutations(sorted(keys)).flatmap(
        lambda order: st.fixed_dictionaries({}, optional={key: keys[key] for key in order})
    )


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


OPTIONS = some(
    SystemdCgroup=st.booleans(),
    BinaryName=one_of("", "/usr/bin/nvidia-container-runtime"),
    Root=st.just("/run/x"),
    NoSuchOption=st.just("x"),
)
HANDLER = some(
    runtime_type=one_of(
        "io.containerd.runc.v2", "io.containerd.runc.v2", "io.containerd.kata.v2", "io.containerd.runc.v1"
    ),
    options=OPTIONS,
    pod_annotations=st.lists(one_of("a", "b"), max_size=2),
    runtime_engine=one_of("", "", "/x"),
    privileged_without_host_devices=st.booleans(),
    privileged_without_host_devices_all_devices_allowed=one_of(False, False, True),
    snapshotter=one_of("", "native"),
    sandbox_mode=one_of("", "podsandbox"),
    runtime_typo=st.just("x"),
)
RUNTIMES = st.dictionaries(one_of("runc", "nvidia", "kata", "a.b"), HANDLER, max_size=3)
CONTAINERD = some(
    default_runtime_name=one_of("runc", "runc", "runc", "nvidia", "kata", ""), runtimes=RUNTIMES, unknown=st.just(1)
)
SNAPSHOTTER = one_of("native", "overlayfs", "overlayfs", "nix", "devmapper")
SHARED = {
    "cdi_spec_dirs": st.lists(one_of("/etc/cdi", "/x"), max_size=2),
    "enable_cdi": st.booleans(),
    "enable_selinux": st.just(False),
    "drain_exec_sync_io_timeout": one_of("0s", "10s", "soon"),
    "misspelt": one_of(True, ["x"], {"y": 1}),
}
REGISTRY = some(
    config_path=one_of("", "/certs"),
    mirrors=st.dictionaries(one_of("docker.io", "*"), some(endpoint=st.just(["https://x"])), max_size=1),
    configs=st.dictionaries(
        st.just("reg.test"),
        some(auth=some(username=st.just("u"), password=st.just("p")), tls=some(insecure_skip_verify=st.booleans())),
        max_size=1,
    ),
)
CNI = some(
    bin_dir=one_of("/cni"), bin_dirs=st.just(["/cni2"]), conf_dir=st.just("/run/net.d"), max_conf_num=one_of(0, 1)
)
V2 = some(
    **SHARED,
    sandbox_image=one_of("example.test/pause:1", "example.test/pause:2"),
    containerd=st.builds(lambda a, b: {**a, **b}, CONTAINERD, some(snapshotter=SNAPSHOTTER, no_pivot=st.just(False))),
    registry=REGISTRY,
    cni=CNI,
    systemd_cgroup=one_of(False, False, False, True),
    stream_server_port=st.just("0"),
    stream_idle_timeout=one_of("4h0m0s", "later"),
    max_concurrent_downloads=st.integers(1, 9),
)
RUNTIME = some(**SHARED, containerd=CONTAINERD, cni=CNI)
IMAGES = some(
    snapshotter=SNAPSHOTTER,
    pinned_images=some(sandbox=st.just("example.test/pause:3"), other=st.just("x")),
    registry=REGISTRY,
    sandbox_image=st.just("wrong place"),
)
OPT = some(path=st.just("/run/opt"), unknown=st.just(1))


def plugin_tables(dialect: str) -> st.SearchStrategy[Tables]:
    """The plugins of one file. Never both names of one table: which of them wins is a matter of chance in
    containerd itself."""
    match dialect:
        case "v1":
            return some(cri=V2, opt=OPT)
        case "v2":
            return some(**{CRI_V2: V2, "io.containerd.internal.v1.opt": OPT, "io.containerd.no.v1.such": OPT})
        case "v3":
            return some(**{RUNTIME_V3: RUNTIME, IMAGES_V3: IMAGES, "io.containerd.internal.v1.opt": OPT})
        case _:
            return some(**{CRI_V2: V2, RUNTIME_V3: RUNTIME, IMAGES_V3: IMAGES})


DISABLED = st.lists(
    one_of("io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.zfs", "opt", RUNTIME_V3), max_size=2
)
TOP = some(
    disabled_plugins=DISABLED,
    required_plugins=one_of([], [], [], [CRI_V2], ["io.containerd.snapshotter.v1.native"], ["cri"]),
    oom_score=one_of(0, -5),
    no_such_key=st.just("x"),
    timeouts=some(**{"io.containerd.timeout.shim.load": one_of("5s", "5s", "5s", "5")}),
    proxy_plugins=some(nix=some(type=one_of("snapshot", "snapshot", "content"), address=st.just("/run/nix.sock"))),
    debug=some(level=one_of("info", "warn"), colour=st.just("red")),
)
SPOILS = one_of("type", "handler", "twice", "syntax", "late", "table twice", "version type", "no table")
# What a configuration is made for; what comes of it is for the judges to say.
AIMS = one_of("works", "works", "works", "disabled", "disabled", "broken", "broken", "spoilt", "any", "any")


@st.composite
def one_file(draw: st.DrawFn, dialect: str, version: int | None, imports: list[str] | None, aim: str) -> str:
    """One file: top-level keys, then the plugins' tables, perhaps spoilt."""
    top, plugins = draw(TOP), draw(plugin_tables(dialect))
    spoil = draw(SPOILS) if aim == "spoilt" or (aim == "any" and draw(one_of(False, False, True))) else None
    if aim in ("works", "disabled", "broken"):
        for key in ("required_plugins", "timeouts", "disabled_plugins"):
            top.pop(key, None)
    if aim == "disabled":
        top["disabled_plugins"] = ["cri" if dialect == "v1" else CRI_V2]
    if aim == "broken":
        _break_cri(plugins, dialect, draw(one_of("default", "default", "snapshotter", "registry", "time")))
    if spoil == "type":
        _wrong_type(plugins)
    if spoil == "handler":
        _wrong_handler(plugins)
    lines = [] if version is None else [f"version = {version}"]
    if spoil == "version type":
        lines = [draw(one_of('version = "2"', "version = 2.0", "version = true"))]
    if imports is not None:
        lines.append(f"imports = {literal(imports)}")
    lines = draw(st.permutations([*lines, *(f"{k} = {literal(v)}" for k, v in top.items() if not isinstance(v, dict))]))
    tables = [block for key, value in top.items() if isinstance(value, dict) for block in table_blocks((key,), value)]
    tables += [block for name, table in plugins.items() for block in table_blocks(("plugins", name), table)]
    tables = draw(st.permutations(tables)) if draw(st.booleans()) else tables
    text = [*lines, *tables]
    match spoil:
        case "twice":
            text = [*lines, "oom_score = 1", "oom_score = 1", *tables]
        case "syntax":
            text.append(draw(one_of("[plugins", "x = ", '{{ template "base" . }}', 'x = "\\q"', "= 1")))
        case "late":
            text += ["[grpc]", 'imports = ["/etc/containerd/conf.d/*.toml"]']
        case "table twice":
            text += tables[-1:]
        case "no table":
            text.insert(len(lines), draw(one_of("plugins = 1", "grpc = 1", "timeouts = 5")))
    newline = draw(one_of("\n", "\n", "\n", "\r\n"))
    return newline.join(text) + newline


def _break_cri(plugins: Tables, dialect: str, how: str) -> None:
    """Something that every release decodes and then refuses."""
    runtime = plugins.setdefault({"v1": "cri", "v3": RUNTIME_V3}.get(dialect, CRI_V2), {})
    images = plugins.setdefault(IMAGES_V3, {}) if dialect == "v3" else runtime
    match how:
        case "default":
            runtime["containerd"] = {**runtime.get("containerd", {}), "default_runtime_name": "absent"}
        case "snapshotter":
            place = images if dialect == "v3" else runtime.setdefault("containerd", {"runtimes": {"runc": {}}})
            place["snapshotter"] = "absent"
        case "registry":
            images["registry"] = {"config_path": "/certs", "mirrors": {"docker.io": {"endpoint": ["https://x"]}}}
        case _:
            images["image_pull_progress_timeout"] = "soon"
            runtime["drain_exec_sync_io_timeout"] = "soon"
            plugins.setdefault(CRI_V2 if dialect != "v1" else "cri", {})["stream_idle_timeout"] = "soon"


def _wrong_type(plugins: Tables) -> None:
    """Every first value of a plugin's table becomes something else."""
    for table in plugins.values():
        for key in list(table)[:1]:
            table[key] = {"x": 1} if not isinstance(table[key], dict) else 5


def _wrong_handler(plugins: Tables) -> None:
    for table in plugins.values():
        table["containerd"] = {"runtimes": {"runc": {"runtime_type": 5}}}


def table_blocks(path: tuple[str, ...], table: Mapping[str, Any]) -> list[str]:
    """Each table as one block of text: its header and the keys that are no tables."""
    keys = [f"{json.dumps(k)} = {literal(v)}" for k, v in table.items() if not isinstance(v, dict)]
    blocks = ["\n".join([f"[{'.'.join(json.dumps(p) for p in path)}]", *keys])]
    for key, value in table.items():
        if isinstance(value, dict):
            blocks += table_blocks((*path, key), value)
    return blocks


IMPORTS = one_of(
    None,
    *([[f"{_FOLDER}/*.toml"]] * 8),
    [f"{_FOLDER}/0.toml", f"{_FOLDER}/*.toml"],
    [f"{_FOLDER}/1.toml", f"{_FOLDER}/0.toml"],
    ["conf.d/0.toml"],
    [f"{_FOLDER}/../conf.d/*.toml", MAIN],
    [f"{_FOLDER}/missing.toml"],
    [f"{_FOLDER}/none*.toml"],
    ["/etc/containerd/conf.d"],
    ["/etc/containerd/*"],
    [],
)
NESTED = one_of(*([None] * 8), ["0.toml"], [f"{_FOLDER}/*.toml"], [MAIN], ["missing.toml"], [f"{_FOLDER}/sub/*.toml"])


@st.composite
def configurations(draw: st.DrawFn, major: int) -> Files:
    """A root file and up to two drop-ins: mostly of one dialect that fits, as on real hosts, else each on its own."""
    versions = {"v1": [None, None, 1], "v2": [2], "v3": [3] if major >= 2 else [2], "mixed": [None, 1, 2, 3]}
    fitting = ("v2", "v2", "v2", "v1") if major < 2 else ("v2", "v3", "v3", "v1")
    aim = draw(AIMS)
    free = aim == "any"
    dialect = draw(one_of(*fitting, "v3", "mixed") if free else one_of(*fitting))
    imports = draw(IMPORTS if free else one_of(None, [f"{_FOLDER}/*.toml"], [f"{_FOLDER}/*.toml"]))
    files: Files = {MAIN: draw(one_file(dialect, draw(one_of(*versions[dialect])), imports, aim)).encode()}
    rest = "any" if free else "works"
    for number in range(draw(st.integers(0, 2))):
        own = draw(one_of("v1", "v2", "v3", "mixed")) if free and draw(one_of(False, True)) else dialect
        version = (
            draw(one_of(*versions[own], None)) if draw(one_of(True, True, not free)) else draw(one_of(None, 1, 2, 3))
        )
        files[f"{_FOLDER}/{number}.toml"] = draw(one_file(own, version, draw(NESTED) if free else None, rest)).encode()
    if draw(one_of(False, False, False, True)):
        files[f"{_FOLDER}/sub/z.toml"] = draw(one_file(dialect, draw(one_of(*versions[dialect])), None, rest)).encode()
    if draw(one_of(False, False, False, False, True)):
        files[f"{_FOLDER}/empty.toml"] = draw(one_of(b"", b"# nothing\n"))
    return files
