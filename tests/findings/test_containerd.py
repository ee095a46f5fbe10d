"""Rules about containerd's files and handlers: real texts on a kubeadm host, through the probe's own sections."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from gpuwizard.answers.model import Answers
from gpuwizard.facts.frames import read_frames
from gpuwizard.facts.model import Handler, KubernetesFacts, OperatorFacts, Probe, RuntimeFacts
from gpuwizard.facts.parse import parse_probe
from gpuwizard.findings import Finding, find
from gpuwizard.flavours import plan_host
from tests.captured import CAPTURE, changed, edit, ids, only, ready, without

MAIN = "/etc/containerd/config.toml"
FOLDER = "/etc/containerd/conf.d"
CRI = 'plugins."io.containerd.grpc.v1.cri"'
NEW = "plugins.'io.containerd.cri.v1.runtime'"
IMPORT = f'imports = ["{FOLDER}/*.toml"]\n'


def handler(table: str, name: str = "nvidia", options: str = "SystemdCgroup = true") -> str:
    return (
        f'[{table}.containerd.runtimes.{name}]\nruntime_type = "io.containerd.runc.v2"\n'
        f"[{table}.containerd.runtimes.{name}.options]\n{options}\n"
    )


def host(
    files: dict[str, str | None],
    version: str = "1.7.24",
    *,
    dump: str | None = None,
    error: str | None = None,
    plugins: str | None = None,
) -> bytes:
    """The captured host with these files in place of its own. Without `dump` it is that of the captured host."""
    raw = without("file-stats", *(f"file:{path}" for path in _captured_files()))
    contents = {MAIN: "version = 2\n", **files}
    for path, text in contents.items():
        if text is None:
            raw = edit("files-absent", f"{path}\n", probe=raw)
        else:
            raw = edit(f"file:{path}", base64.b64encode(text.encode()).decode(), probe=raw)
    raw = edit("containerd-version:700", f"containerd containerd.io v{version} abc", probe=raw)
    if dump is not None:
        raw = edit("containerd-dump:700", dump, probe=raw)
    if error is not None:
        raw = edit("containerd-error:700", f"containerd: {error}", 1, probe=without("containerd-dump:700", probe=raw))
    if plugins is not None:
        raw = edit("containerd-plugins:700", plugins, probe=raw)
    return raw


def _captured_files() -> list[str]:
    return [section.key for section in read_frames(CAPTURE).sections if section.name == "file"]


def dumped(version: int, *handlers: str, default: str = "runc") -> str:
    """What `config dump` prints of these handlers."""
    table = CRI if version == 2 else NEW
    return f'version = {version}\n[{table}.containerd]\ndefault_runtime_name = "{default}"\n' + "".join(handlers)


PLAIN = dumped(2, handler(CRI, "runc"), handler(CRI))
PLAIN_3 = dumped(3, handler(NEW, "runc"), handler(NEW))
FINE = {MAIN: f"version = 2\n{handler(CRI, 'runc')}{handler(CRI)}"}


def told(probe: bytes) -> list[str]:
    return [rule for rule in ids(probe) if rule.startswith("GW-CONTAINERD")]


def test_files_in_order() -> None:
    assert told(host(FINE, dump=PLAIN)) == []
    assert told(CAPTURE) == []


def test_refused_files() -> None:
    running = host({MAIN: "version = 2\nx = [\n"}, error="failed to load TOML: (2, 5): unexpected token")
    finding = only(running, "GW-CONTAINERD-001")
    assert finding.title == "containerd will not start again with its files"
    assert f"{MAIN}:2: Unclosed array: x = [" in finding.evidence or any(f"{MAIN}:" in e for e in finding.evidence)
    assert "containerd: failed to load TOML: (2, 5): unexpected token" in finding.evidence
    other = host(FINE, error="failed to load TOML: something new")
    assert only(other, "GW-CONTAINERD-001").evidence[1:] == ("containerd: failed to load TOML: something new",)
    assert "GW-CONTAINERD-001" not in told(host(FINE, dump=PLAIN))


def test_a_stopped_containerd_that_nobody_uses_is_a_warning() -> None:
    probe = parse_probe(host(FINE, error="bad"))
    runtime = replace(probe.facts.runtimes[0], running=False, pid=None, used_by_kubelet=False)
    finding = only(changed(probe, runtimes=(runtime,)), "GW-CONTAINERD-001")
    assert (finding.severity, finding.title) == ("warning", "containerd does not start with its files")


def test_a_partial_drop_in_on_1() -> None:
    files: dict[str, str | None] = {
        MAIN: f'version = 2\n{IMPORT}[{CRI}]\nsandbox_image = "x"\n{handler(CRI, "runc")}',
        f"{FOLDER}/99-nvidia.toml": f"version = 2\n{handler(CRI)}",
    }
    lost = dumped(2, handler(CRI))
    finding = only(host(files, dump=lost), "GW-CONTAINERD-002")
    assert finding.severity == "error"
    assert finding.evidence[1].startswith(f"{FOLDER}/99-nvidia.toml:2: containerd 1.7.24 takes this table")
    assert "default_runtime_name = 'runc'" in finding.evidence  # GW-RUNTIME-002 is told by it
    assert "GW-RUNTIME-002" not in ids(host(files, dump=lost))
    alone = {MAIN: f"version = 2\n{handler(CRI)}"}
    assert "handlers: nvidia" in only(host(alone, dump=lost), "GW-RUNTIME-002").evidence
    merged = dumped(3, handler(NEW, "runc"), handler(NEW))
    assert told(host(files, "2.1.9", dump=merged)) == []


def test_version_3_below_version_2() -> None:
    files: dict[str, str | None] = {
        MAIN: f"version = 2\n{IMPORT}{handler(CRI, 'runc')}",
        f"{FOLDER}/99-nvidia.toml": f"version = 3\n{handler(NEW)}",
    }
    dropped = dumped(3, handler(NEW, "runc", "SystemdCgroup = false"), handler(NEW))
    finding = only(host(files, "2.1.9", dump=dropped), "GW-CONTAINERD-003")
    assert "drops the root file's containerd.runtimes.runc.options.SystemdCgroup" in finding.evidence[1]
    refused = host(files, "2.3.2", error="drop-in config version 3 higher than root config version 2")
    assert only(refused, "GW-CONTAINERD-003")
    assert "GW-CONTAINERD-001" not in told(refused)  # told by its cause
    files[f"{FOLDER}/99-nvidia.toml"] = f"version = 2\n{handler(CRI)}"
    assert "GW-CONTAINERD-003" not in told(host(files, "2.1.9", dump=PLAIN_3))


def test_version_2_below_version_3() -> None:
    files: dict[str, str | None] = {
        MAIN: f"version = 3\n{IMPORT}{handler(NEW, 'runc')}",
        f"{FOLDER}/99-nvidia.toml": f"version = 2\n{handler(CRI)}",
    }
    ignored = host(files, "2.1.9", dump=dumped(3, handler(NEW, "runc")))
    assert only(ignored, "GW-CONTAINERD-004").severity == "error"  # it hides the nvidia handler
    assert "handlers: runc" in only(ignored, "GW-CONTAINERD-004").evidence
    assert "GW-RUNTIME-001" not in ids(ignored)
    assert "GW-CONTAINERD-004" not in told(host(files, "2.3.2", dump=PLAIN_3))


def test_tables_of_version_1() -> None:
    files: dict[str, str | None] = {MAIN: f"version = 2\n{handler(CRI, 'runc')}{handler('plugins.cri')}"}
    refused = host(files, "1.7.24", error='invalid plugin key URI "cri" expect io.containerd.x.vx')
    assert only(refused, "GW-CONTAINERD-005").evidence[1].startswith(f"{MAIN}:6: [plugins.cri…]")
    assert told(refused) == ["GW-CONTAINERD-005"]
    dead = host(files, "2.1.9", dump=dumped(3, handler(NEW, "runc")))
    assert only(dead, "GW-CONTAINERD-028").severity == "error"  # it is the nvidia handler that does nothing
    assert told(dead) == ["GW-CONTAINERD-028"]
    assert {"GW-CONTAINERD-005", "GW-CONTAINERD-028"}.isdisjoint(told(host(FINE, dump=PLAIN)))


def test_mixed_dialects() -> None:
    files: dict[str, str | None] = {MAIN: f"version = 2\n{handler(CRI, 'runc')}{handler(NEW)}"}
    lost = dumped(3, handler(NEW, "runc", "SystemdCgroup = false"), handler(NEW))
    assert only(host(files, "2.1.9", dump=lost), "GW-CONTAINERD-006").severity == "error"
    assert "GW-CONTAINERD-006" not in told(host(files, "2.1.9", dump=PLAIN_3))  # the dump shows both: all is in force
    old: dict[str, str | None] = {MAIN: f"version = 3\n{handler(NEW, 'runc')}{handler(CRI)}"}
    assert only(host(old, "2.1.9", dump=dumped(3, handler(NEW, "runc"))), "GW-CONTAINERD-007")
    assert "GW-CONTAINERD-007" not in told(host({MAIN: f"version = 3\n{handler(NEW)}"}, "2.1.9", dump=PLAIN_3))


def test_no_version_line() -> None:
    files: dict[str, str | None] = {MAIN: handler("plugins.cri", "runc") + handler("plugins.cri")}
    finding = only(host(files, "2.1.9", dump=dumped(3, handler(NEW, "runc", "x = 1"))), "GW-CONTAINERD-008")
    assert "no version line: containerd 2.1.9 ignores [plugins.cri…]" in finding.evidence[1]
    assert "GW-CONTAINERD-008" not in told(host(files, "2.3.0", dump=PLAIN_3))
    one = host(files, "1.7.24", dump="version = 1\n" + handler("plugins.cri", "runc") + handler("plugins.cri"))
    assert "GW-CONTAINERD-008" not in told(one)


def test_twice() -> None:
    files: dict[str, str | None] = {MAIN: f"{FINE[MAIN]}[{CRI}.containerd.runtimes.'nvidia']\n"}
    finding = only(host(files, error="failed to load TOML: duplicated tables"), "GW-CONTAINERD-009")
    assert finding.evidence[1].startswith(f"{MAIN}:10: ")
    assert told(host(files, error="failed to load TOML: duplicated tables")) == ["GW-CONTAINERD-009"]
    assert "GW-CONTAINERD-009" not in told(host(files, dump=PLAIN))  # its loader took it


def test_late_keys() -> None:
    late = host({MAIN: f"version = 2\n{handler(CRI, 'runc')}{IMPORT}"}, dump=dumped(2, handler(CRI, "runc")))
    assert only(late, "GW-CONTAINERD-010").evidence[1].startswith(f"{MAIN}:6: imports stands in table")
    assert "GW-CONTAINERD-010" not in told(host({MAIN: f"version = 2\n{IMPORT}"}, dump=PLAIN))


def test_imports_that_do_not_exist() -> None:
    files: dict[str, str | None] = {
        MAIN: 'version = 2\nimports = ["/etc/x.toml"]\n' + handler(CRI),
        "/etc/x.toml": None,
    }
    hidden = host(files, "2.1.9", dump=PLAIN_3)  # config dump of 2.x hides it
    assert only(hidden, "GW-CONTAINERD-011").evidence[1] == f"{MAIN}:2: imports /etc/x.toml, which does not exist"
    files["/etc/x.toml"] = "version = 2\n"
    assert told(host(files, "2.1.9", dump=PLAIN_3)) == []


STUB = 'disabled_plugins = ["cri"]\n#root = "/var/lib/containerd"\n'


def test_dockers_stub() -> None:
    raw = host(
        {MAIN: STUB}, dump=f"version = 1\n{STUB}", plugins="TYPE ID PLATFORMS STATUS\nio.containerd.x.v1 a - ok\n"
    )
    kubelets = only(raw, "GW-RUNTIME-003")
    assert f'{MAIN}:1: disabled_plugins = ["cri"]: the CRI plugin is off' in kubelets.evidence
    assert {"GW-CONTAINERD-012", "GW-RUNTIME-002"}.isdisjoint(ids(raw))
    probe = parse_probe(raw)
    alone = changed(
        probe,
        kubernetes=KubernetesFacts("none"),
        runtimes=(replace(probe.facts.runtimes[0], used_by_kubelet=False),),
    )
    assert only(alone, "GW-CONTAINERD-012").severity == "info"
    assert "GW-CONTAINERD-012" not in told(host(FINE, dump=PLAIN))


def test_dockers_stub_with_a_version() -> None:
    raw = host({MAIN: f"version = 2\n{STUB}"}, error='invalid disabled plugin URI "cri" expect io.containerd.x.vx')
    assert told(raw) == ["GW-CONTAINERD-013"]
    emptied = STUB.replace('"cri"', "")
    assert "GW-CONTAINERD-013" not in told(host({MAIN: f"version = 2\n{emptied}"}, dump=PLAIN))


def test_unlike_cgroup_drivers() -> None:
    unlike = dumped(2, handler(CRI, "runc"), handler(CRI, options='BinaryName = "/usr/bin/nvidia-container-runtime"'))
    finding = only(host(FINE, dump=unlike), "GW-CONTAINERD-014")
    assert finding.evidence[1:] == ("handler runc: SystemdCgroup = true", "handler nvidia: SystemdCgroup = false")
    assert finding.fixable
    assert "GW-CONTAINERD-014" not in told(host(FINE, dump=PLAIN))
    kata = dumped(2, handler(CRI, "runc"), handler(CRI, "kata", "x = 1").replace("runc.v2", "kata.v2"))
    assert "GW-CONTAINERD-014" not in told(host(FINE, dump=kata))


def test_what_is_called_fixable_is_in_the_plan() -> None:
    text = f"version = 2\n{handler(CRI, 'runc')}{handler(CRI, options='')}".replace(
        "options]\n\n", 'options]\nBinaryName = "/usr/bin/nvidia-container-runtime"\n'
    )
    probe = parse_probe(host({MAIN: text}, dump=text))
    assert only(probe, "GW-CONTAINERD-014").fixable
    planned = plan_host("gpu-a", probe, Answers())
    assert planned.change is not None, planned
    assert any(c.key == "handler nvidia.SystemdCgroup" for c in planned.change.effective)
    stub = parse_probe(host({MAIN: STUB}, dump=f"version = 1\n{STUB}"))
    assert plan_host("gpu-a", stub, Answers()).refusals
    assert not any(f.fixable for f in _runtime_findings(stub))
    unversioned = parse_probe(
        host({MAIN: handler("plugins.cri", "runc")}, "2.1.9", dump=dumped(3, handler(NEW, "runc")))
    )
    assert plan_host("gpu-a", unversioned, Answers()).refusals
    assert not any(f.fixable for f in _runtime_findings(unversioned))


def _runtime_findings(probe: Probe) -> list[Finding]:
    return [f for f in find(probe) if f.id.startswith(("GW-RUNTIME", "GW-CONTAINERD"))]


def runtime(**changes: Any) -> Probe:
    probe = ready()
    return changed(probe, runtimes=(replace(probe.facts.runtimes[0], **changes),))


@pytest.mark.parametrize("shim", ["io.containerd.runc.v1", "io.containerd.runtime.v1.linux"])
def test_removed_shims(shim: str) -> None:
    both = {"runc": Handler("io.containerd.runc.v2"), "old": Handler(shim)}
    assert only(runtime(version="2.1.9", handlers=both), "GW-CONTAINERD-015").severity == "warning"
    nvidia = {"runc": Handler("io.containerd.runc.v2"), "nvidia": Handler(shim)}
    assert only(runtime(version="2.1.9", handlers=nvidia), "GW-CONTAINERD-015").severity == "error"
    assert "GW-CONTAINERD-015" not in ids(runtime(version="1.7.24", handlers=both))
    assert "GW-CONTAINERD-015" not in ids(runtime(version=None, handlers=both))


def test_no_runtime_type() -> None:
    bare = {"runc": Handler("io.containerd.runc.v2"), "nvidia": Handler(None)}
    assert only(runtime(handlers=bare), "GW-CONTAINERD-023").evidence[1] == "handler nvidia: no runtime_type"
    assert "GW-CONTAINERD-023" not in ids(ready())


def test_cdi() -> None:
    def probe(
        version: str, cdi: bool | None, *, specs: bool = True, operator: bool = False, mode: str = "auto"
    ) -> Probe:
        given = runtime(version=version, cdi=cdi)
        toolkit = replace(given.facts.toolkit, cdi_specs=("/var/run/cdi/nvidia.yaml",) if specs else (), mode=mode)
        return changed(given, toolkit=toolkit, operator=OperatorFacts(toolkit=operator))

    assert only(probe("1.7.24", False), "GW-CONTAINERD-016").severity == "info"
    assert only(probe("1.7.24", False, operator=True), "GW-CONTAINERD-016").severity == "warning"
    assert only(probe("1.7.24", False, mode="cdi"), "GW-CONTAINERD-016").severity == "warning"
    for fine in (probe("1.7.24", True), probe("1.7.24", None), probe("1.7.24", False, specs=False)):
        assert "GW-CONTAINERD-016" not in ids(fine)
    assert only(probe("1.6.39", False), "GW-CONTAINERD-017").severity == "info"
    assert only(probe("1.6.39", False, operator=True), "GW-CONTAINERD-017").severity == "warning"
    assert "GW-CONTAINERD-017" not in ids(probe("1.6.39", False, specs=False))
    assert "GW-CONTAINERD-017" not in ids(probe("1.7.24", False))


def test_a_backup_that_is_imported() -> None:
    files = {
        MAIN: f"version = 2\n{IMPORT}{FINE[MAIN][12:]}",
        f"{FOLDER}/99-nvidia.bak.toml": f"version = 2\n{handler(CRI)}",
    }
    assert only(host(dict(files), "2.1.9", dump=PLAIN_3), "GW-CONTAINERD-018")
    files[f"{FOLDER}/50-site.toml"] = files.pop(f"{FOLDER}/99-nvidia.bak.toml")
    assert told(host(dict(files), "2.1.9", dump=PLAIN_3)) == []


def test_a_drop_in_that_nothing_imports() -> None:
    files: dict[str, str | None] = {**FINE, f"{FOLDER}/99-nvidia.toml": f"version = 2\n{handler(CRI)}"}
    finding = only(host(files, dump=dumped(2, handler(CRI, "runc"))), "GW-CONTAINERD-019")
    assert finding.evidence[:2] == (f"{MAIN}: imports nothing", f"{FOLDER}/99-nvidia.toml: nothing imports this file")
    assert finding.severity == "error"
    assert "handlers: runc" in finding.evidence
    assert "GW-CONTAINERD-019" not in told(host({**files, MAIN: f"version = 2\n{IMPORT}"}, "2.1.9", dump=PLAIN_3))
    absent: dict[str, str | None] = {**files, MAIN: None}
    assert only(host(absent, "2.1.9", dump=dumped(3, handler(NEW, "runc"))), "GW-CONTAINERD-019")


def test_two_writers() -> None:
    files: dict[str, str | None] = {
        MAIN: f"version = 2\n{IMPORT}{handler(CRI, 'runc')}",
        f"{FOLDER}/99-nvidia.toml": f'version = 2\n[{CRI}.containerd.runtimes."nvidia"]\nruntime_type = "x"\n',
        f"{FOLDER}/99-gpuwizard-nvidia.toml": f"version = 2\n{handler(CRI)}",
    }
    assert len(only(host(files, "2.1.9", dump=PLAIN_3), "GW-CONTAINERD-020").evidence) == 3
    files[f"{FOLDER}/99-nvidia.toml"] = "version = 2\n"
    assert "GW-CONTAINERD-020" not in told(host(files, "2.1.9", dump=PLAIN_3))


def test_a_copy_overrides_the_root_file() -> None:
    cni = f'[{NEW}.cni]\nbin_dirs = ["/opt/cni/bin"]\n'
    files: dict[str, str | None] = {
        MAIN: f"version = 3\n{IMPORT}{cni}{handler(NEW, 'runc')}",
        f"{FOLDER}/99-nvidia.toml": f"version = 3\n{cni.replace('/opt/cni', '/usr/lib/cni')}{handler(NEW)}",
    }
    finding = only(host(files, "2.1.9", dump=PLAIN_3), "GW-CONTAINERD-021")
    assert (finding.severity, "cni.bin_dir" in finding.evidence[1]) == ("info", True)
    files[f"{FOLDER}/99-nvidia.toml"] = f"version = 3\n{cni}{handler(NEW)}"
    assert told(host(files, "2.1.9", dump=PLAIN_3)) == []


def test_keys_at_the_wrong_place() -> None:
    text = f'version = 2\n{handler(CRI, "runc")}[{CRI}.containerd.runtimes.nvidia]\nBinaryName = "/x"\n'
    assert only(host({MAIN: text}, dump=PLAIN), "GW-CONTAINERD-022").evidence[1].startswith(f"{MAIN}:7: BinaryName")
    assert "GW-CONTAINERD-022" not in told(host(FINE, dump=PLAIN))


def test_removed_keys() -> None:
    text = f'{FINE[MAIN]}[{CRI}.containerd.default_runtime]\nruntime_type = "x"\n'
    assert only(host({MAIN: text}, "2.1.9", dump=PLAIN_3), "GW-CONTAINERD-024")
    assert "GW-CONTAINERD-024" not in told(host({MAIN: text}, "1.7.24", dump=PLAIN))


def test_systemd_cgroup_of_the_cri_table() -> None:
    text = f"version = 2\n[{CRI}]\nsystemd_cgroup = true\n{handler(CRI, 'runc')}"
    error = "TYPE ID PLATFORMS STATUS\nio.containerd.grpc.v1 cri linux/amd64 error\n"
    assert only(host({MAIN: text}, dump=PLAIN, plugins=error), "GW-CONTAINERD-025")
    assert told(host({MAIN: text}, dump=PLAIN, plugins=error.replace("error", "ok"))) == []
    assert "GW-CONTAINERD-024" in told(host({MAIN: text}, "2.1.9", dump=PLAIN_3))


def test_mirrors() -> None:
    registry = f'[{CRI}.registry]\nconfig_path = "/c"\n[{CRI}.registry.mirrors."x"]\nendpoint = []\n'
    error = "TYPE ID PLATFORMS STATUS\nio.containerd.grpc.v1 cri linux/amd64 error\n"
    raw = host({MAIN: f"{FINE[MAIN]}{registry}"}, dump=PLAIN, plugins=error)
    assert only(raw, "GW-CONTAINERD-026").severity == "error"
    assert "CRI plugin: error" in only(raw, "GW-CONTAINERD-026").evidence
    assert "GW-RUNTIME-003" not in ids(raw)
    assert told(host({MAIN: f"{FINE[MAIN]}{registry}"}, dump=PLAIN, plugins=error.replace("error", "ok"))) == []


def test_a_version_that_is_not_known() -> None:
    refused = host({MAIN: "version = 3\n"}, "1.7.24", error="unsupported config version `3`")
    assert told(refused) == ["GW-CONTAINERD-027"]
    assert "GW-CONTAINERD-027" not in told(host({MAIN: "version = 3\n"}, "2.1.9", dump=PLAIN_3))


def test_k3s_and_its_kin_have_rules_of_their_own() -> None:
    probe = parse_probe(
        host({MAIN: f"version = 2\n{handler(CRI, 'runc')}{handler('plugins.cri')}"}, "2.1.9", dump=PLAIN_3)
    )
    for owner in ("k3s", "rke2", "k0s"):
        theirs = changed(probe, runtimes=(replace(probe.facts.runtimes[0], owner=owner),))
        assert "GW-CONTAINERD-028" not in ids(theirs)


def test_two_containerds_each_by_its_own_files() -> None:
    broken = parse_probe(host(FINE, error="bad")).facts.runtimes[0]
    docker = replace(broken, used_by_kubelet=False, socket="/run/other.sock", config_path="/etc/other.toml")
    fine = parse_probe(host(FINE, dump=PLAIN))
    both = changed(fine, runtimes=(*fine.facts.runtimes, docker))
    finding = only(both, "GW-CONTAINERD-001")
    assert finding.severity == "error"  # it runs, and will not come back
    assert "/etc/other.toml" in finding.evidence[0]
    assert isinstance(docker, RuntimeFacts)
