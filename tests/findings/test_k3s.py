"""Rules about K3s and RKE2 on the text of whole probes: each once where it holds and once where it does not."""

import pytest

from gpuwizard.facts.model import Probe
from tests.captured import ids, only
from tests.kube_hosts import NOW, host, unit

ETC = "/var/lib/rancher/k3s/agent/etc/containerd"
RENDERED = f"{ETC}/config.toml"
V2 = 'plugins."io.containerd.grpc.v1.cri"'
V3 = "plugins.'io.containerd.cri.v1.runtime'"
RUNC = f"version = 3\n[{V3}.containerd.runtimes.runc]\n  runtime_type = 'io.containerd.runc.v2'\n"
NVIDIA = f"[{V3}.containerd.runtimes.'nvidia']\n  runtime_type = 'io.containerd.runc.v2'\n"
BASE = '{{ template "base" . }}\n'
COPY = f"version = 2\n[{V2}.containerd.runtimes.runc]\n  runtime_type = 'io.containerd.runc.v2'\n"
BLOG = '[plugins.cri.containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n'


def k3s(
    template: str | tuple[str, int] | None = None,
    *,
    name: str = "config-v3.toml.tmpl",
    version: str = "v1.34.1+k3s1",
    rendered: str = RUNC + NVIDIA,
    config: str | None = None,
    files: dict[str, str | tuple[str, int]] | None = None,
    role: str = "agent",
    active: str = "active",
    toolkit: str | None = "/usr/bin/nvidia-container-runtime",
    installed: int = NOW - 1000,
    path: str = "/usr/local/bin:/usr/bin",
    started: int = NOW,
    **sections: str,
) -> Probe:
    """A K3s node that was started at NOW with what is given here."""
    service = "k3s.service" if role == "server" else "k3s-agent.service"
    all_files: dict[str, str | tuple[str, int]] = {RENDERED: (rendered, started), **(files or {})}
    if template is not None:
        all_files[f"{ETC}/{name}"] = template
    if config is not None:
        all_files["/etc/rancher/k3s/config.yaml"] = config
    marks = sections.pop("marks", "")
    return host(
        unit(service, f"/usr/local/bin/k3s {role}", active=active, sub="running" if active == "active" else "dead"),
        files=all_files,
        marks=tuple(marks.split()),
        toolkit=toolkit,
        installed=installed,
        k3s_version=f"k3s version {version} (0a1b2c3d)",
        service_path=path,
        containerd__901=f"config={RENDERED}\nsocket=/run/k3s/containerd/containerd.sock\nbinary=\n",
        containerd_version__901="containerd github.com/k3s-io/containerd v2.1.4-k3s1 x",
        containerd_plugins__901="TYPE ID PLATFORMS STATUS\nio.containerd.grpc.v1 cri - ok\n",
        **sections,
    )


def rke2(version: str, *, role: str = "server", rendered: str = RUNC + NVIDIA, **sections: str) -> Probe:
    config = "/var/lib/rancher/rke2/agent/etc/containerd/config.toml"
    return host(
        unit(f"rke2-{role}.service", f"/usr/local/bin/rke2 {role}"),
        files={config: rendered},
        rke2_runtime=f"/var/lib/rancher/rke2/data/{version}-0a1b2c3d4e5f/bin/",
        service_path="/usr/local/bin:/usr/bin",
        containerd__901=f"config={config}\nsocket=/run/k3s/containerd/containerd.sock\nbinary=\n",
        **sections,
    )


LATE = {"rendered": RUNC, "installed": NOW + 60}


def rules(probe: Probe) -> set[str]:
    return {rule for rule in ids(probe) if rule.startswith(("GW-K3S", "GW-KUBE", "GW-RUNTIME"))}


def test_a_node_that_is_ready() -> None:
    assert rules(k3s()) == set()
    assert rules(k3s(BASE, role="server")) == set()


# finding the toolkit


def test_the_toolkit_came_after_the_start() -> None:
    finding = only(k3s(**LATE), "GW-K3S-003")  # type: ignore[arg-type]
    assert (finding.severity, finding.fixable) == ("error", True)
    assert "gpuwizard's plan restarts k3s-agent.service" in finding.remedy
    assert any(line.startswith("toolkit put in place 2026-09-21 ") for line in finding.evidence)
    assert "GW-K3S-003" not in rules(k3s(installed=NOW + 60))  # it has the handler: an upgrade of the toolkit
    assert "GW-K3S-003" not in rules(k3s(rendered=RUNC))  # the toolkit was there at the start
    assert "GW-K3S-003" not in rules(k3s(rendered=RUNC, toolkit=None))
    assert "GW-K3S-003" not in rules(k3s(COPY, name="config.toml.tmpl", rendered=RUNC, installed=NOW + 60))


def test_where_the_plan_does_not_restart_it() -> None:
    changed = {"/etc/rancher/k3s/config.yaml.d/10-x.yaml": ("a: b\n", NOW + 100)}
    finding = only(k3s(rendered=RUNC, installed=NOW + 60, files=changed), "GW-K3S-003")
    assert not finding.fixable
    assert "systemctl restart k3s-agent.service" in finding.remedy
    rke = rke2("v1.34.1-rke2r1", rendered=RUNC)
    assert "GW-K3S-003" not in rules(rke)  # the toolkit is older than the start
    assert only(rke2("v1.33.1-rke2r1", rendered=RUNC).__class__(**_late(rke)), "GW-K3S-003").fixable is False


def _late(probe: Probe) -> dict[str, object]:
    from dataclasses import replace

    kubernetes = replace(probe.facts.kubernetes, toolkit_changed=NOW + 60)
    return {"facts": replace(probe.facts, kubernetes=kubernetes), "files": probe.files, "readable": True}


def test_the_toolkit_lies_where_k3s_does_not_look() -> None:
    opt = {"toolkit": "/opt/nvidia/toolkit/nvidia-container-runtime", "rendered": RUNC}
    finding = only(k3s(**opt), "GW-K3S-004")  # type: ignore[arg-type]
    assert "K3s looks in /usr/local/nvidia/toolkit, /usr/local/bin, /usr/bin" in finding.evidence
    assert "ln -s /opt/nvidia/toolkit/nvidia-container-runtime /usr/local/bin/" in finding.remedy
    assert "/etc/default/k3s-agent" in finding.remedy
    old = only(
        k3s(version="v1.25.9+k3s1", toolkit="/usr/local/bin/nvidia-container-runtime", rendered=RUNC), "GW-K3S-004"
    )
    assert "/usr/bin/" in old.remedy
    assert "/etc/default" not in old.remedy
    assert "GW-K3S-004" not in rules(k3s(**opt, path="/usr/bin:/opt/nvidia/toolkit"))  # type: ignore[arg-type]
    assert "GW-K3S-004" not in rules(k3s())


def test_a_release_that_does_not_look() -> None:
    assert only(k3s(version="v1.21.14+k3s1", rendered=RUNC), "GW-K3S-005").evidence[0] == "K3s 1.21.14+k3s1"
    assert "GW-K3S-005" not in rules(k3s(version="v1.22.2+k3s2"))


DEFAULT = "default-runtime: nvidia\n"


def test_the_default_runtime_is_gone() -> None:
    finding = only(k3s(config=DEFAULT, toolkit=None), "GW-K3S-006")
    assert finding.severity == "error"
    assert finding.evidence[0] == "default-runtime: nvidia"
    assert "no nvidia-container-runtime in /usr/local/nvidia/toolkit, /usr/local/bin, /usr/bin" in finding.evidence
    assert "GW-K3S-006" not in rules(k3s(config=DEFAULT))
    assert "GW-K3S-006" not in rules(k3s(toolkit=None))
    elsewhere = k3s(config=DEFAULT, toolkit=None, path="/usr/bin:/opt/of/the/operator")  # nobody looked there
    assert "GW-K3S-006" not in rules(elsewhere)
    outside = k3s(config=DEFAULT, toolkit="/opt/bin/nvidia-container-runtime")
    assert "GW-K3S-006" in rules(outside)
    assert "GW-K3S-006" not in rules(k3s(config=DEFAULT, toolkit=None, version="v1.26.11+k3s1"))  # no such option


@pytest.mark.parametrize("name", ["runc", "mygpu"])
def test_a_default_runtime_that_is_never_found(name: str) -> None:
    finding = only(k3s(config=f"default-runtime: {name}\n"), "GW-K3S-006")
    assert "Remove the option" in finding.remedy
    assert "GW-K3S-006" not in rules(k3s(config="default-runtime: crun\n"))


# templates


def test_a_full_copy() -> None:
    finding = only(k3s(COPY, name="config.toml.tmpl", rendered=RUNC), "GW-K3S-001")
    assert finding.severity == "error"  # it hides the handler although the toolkit is there
    assert f"{ETC}/config.toml.tmpl: does not name nvidia" in finding.evidence
    assert only(k3s(COPY, name="config.toml.tmpl"), "GW-K3S-001").severity == "warning"
    assert "GW-K3S-001" not in rules(k3s(BASE))


def test_nvidia_twice() -> None:
    late = only(k3s((BASE + NVIDIA, NOW + 9)), "GW-K3S-002")
    assert (late.severity, late.evidence[0].split(": ")[0]) == ("error", f"{ETC}/config-v3.toml.tmpl:2")
    bomb = only(k3s(BASE + NVIDIA, toolkit=None), "GW-K3S-002")  # it runs with it, as long as there is no toolkit
    assert (bomb.severity, bomb.title) == ("warning", "K3s will not start any more once it finds the toolkit")
    assert only(k3s(BASE + NVIDIA, installed=NOW + 5), "GW-K3S-002").severity == "error"
    assert "GW-K3S-002" not in rules(k3s(BASE + NVIDIA.replace("'nvidia'", "mygpu")))


CHANGED = NOW + 50  # after the last start, so that nothing proves that it works


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        ("GW-K3S-007", BASE + f"[{V3}]\nenable_cdi = true\n", BASE + f"[{V3}.containerd]\nx = 1\n"),
        ("GW-K3S-008", BASE + "# {{ .SELinuxEnabled }}\n", BASE + "# {{ .SystemdCgroup }}\n"),
        (
            "GW-K3S-011",
            RUNC,
            f"root = '/x'\nstate = '/y'\n{RUNC}[grpc]\naddress = '/run/k3s/containerd/containerd.sock'\n",
        ),
        ("GW-K3S-025", BASE + "[debug]\nlevel: x\n", BASE + "[debug]\nlevel = 'x'\n"),
    ],
)
def test_templates_that_are_deadly(rule: str, bad: str, good: str) -> None:
    finding = only(k3s((bad, CHANGED)), rule)
    assert finding.severity == "error"
    assert f"{ETC}/config-v3.toml.tmpl" in finding.evidence[0]
    assert rule not in rules(k3s((good, CHANGED)))
    assert rule not in rules(k3s(bad))  # K3s has started with it


def test_a_template_for_another_release() -> None:
    finding = only(k3s((BASE, CHANGED), name="config.toml.tmpl", version="v1.26.7+k3s1"), "GW-K3S-008")
    assert 'no template "base"' in finding.evidence[0]


def test_tables_of_version_1() -> None:
    text = BASE + "[plugins.cri.containerd.runtimes.nvidia]\n"
    assert only(k3s(text, name="config.toml.tmpl"), "GW-K3S-009").severity == "warning"
    assert only(k3s((text, CHANGED), name="config.toml.tmpl", version="v1.30.4+k3s1"), "GW-K3S-009").severity == "error"
    assert "GW-K3S-009" not in rules(k3s(BASE))


def test_no_version() -> None:
    finding = only(k3s(BLOG, name="config.toml.tmpl"), "GW-K3S-010")
    assert (finding.severity, "plugins.cri" in finding.evidence[0]) == ("error", True)
    assert "GW-K3S-010" not in rules(k3s(BLOG, name="config.toml.tmpl", version="v1.30.4+k3s1"))


def test_the_version_of_the_other_file() -> None:
    finding = only(k3s(RUNC, name="config.toml.tmpl"), "GW-K3S-012")
    assert finding.severity == "warning"
    assert finding.evidence[0] == f"{ETC}/config.toml.tmpl:1: version = 3 in config.toml.tmpl"
    assert "GW-K3S-001" not in rules(k3s(RUNC, name="config.toml.tmpl"))
    assert "GW-K3S-012" not in rules(k3s(COPY, name="config.toml.tmpl"))


def test_imports_below_the_base() -> None:
    assert "imports" in only(k3s(BASE + 'imports = ["/x/*.toml"]\n'), "GW-K3S-013").evidence[0]
    assert "GW-K3S-013" not in rules(k3s(BASE))


def test_two_templates() -> None:
    both: dict[str, str | tuple[str, int]] = {f"{ETC}/config.toml.tmpl": BASE}
    assert "config.toml.tmpl" in only(k3s(BASE, files=both), "GW-K3S-014").evidence[0]
    assert "GW-K3S-014" not in rules(k3s(files=both))


def test_names_of_another_version() -> None:
    text = BASE + f"[{V2}.containerd.runtimes.mygpu]\nruntime_type = 'x'\n"
    assert only(k3s(text), "GW-K3S-015").severity == "warning"
    text = BASE + f"[{V3}.containerd.runtimes.mygpu]\nruntime_type = 'x'\n"
    assert only(k3s(text, name="config.toml.tmpl"), "GW-K3S-015").severity == "error"
    assert "GW-K3S-015" not in rules(k3s(text))


def test_a_template_of_the_operator() -> None:
    text = (
        COPY
        + f'[{V2}.containerd.runtimes.x.options]\nBinaryName = "/usr/local/nvidia/toolkit/nvidia-container-runtime"\n'
    )
    found = rules(k3s(text, name="config.toml.tmpl"))
    assert "GW-K3S-018" in found
    assert "GW-K3S-001" not in found
    assert "GW-K3S-018" not in rules(k3s(COPY, name="config.toml.tmpl"))


# drop-ins and the rendered file

DROP_IN = f"{ETC}/config-v3.toml.d/10-gpu.toml"
IMPORTS = f'imports = ["{ETC}/config-v3.toml.d/*.toml"]\n'


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        ("GW-K3S-017", f"version = 2\n[{V2}.containerd.runtimes.x]\n", f"version = 3\n[{V3}.containerd.runtimes.x]\n"),
        ("GW-K3S-027", "version = [\n", "version = 3\n"),
    ],
)
def test_drop_ins(rule: str, bad: str, good: str) -> None:
    def node(text: str) -> Probe:
        return k3s(version="v1.34.6+k3s1", rendered=IMPORTS + RUNC + NVIDIA, files={DROP_IN: text})

    assert DROP_IN in only(node(bad), rule).evidence[0]
    assert rule not in rules(node(good))


def test_a_drop_in_that_nothing_imports() -> None:
    drop_in: dict[str, str | tuple[str, int]] = {DROP_IN: "version = 3\n"}
    finding = only(k3s(files=drop_in), "GW-K3S-016")
    assert finding.evidence == (f"{DROP_IN}: config.toml does not import config-v3.toml.d",)
    assert "GW-K3S-016" not in rules(k3s(rendered=IMPORTS + RUNC + NVIDIA, files=drop_in))


def test_the_rendered_file_was_edited() -> None:
    from dataclasses import replace

    from tests.captured import changed

    probe = k3s()
    (runtime, *_) = probe.facts.runtimes
    newer = replace(runtime, config_newer_than_process=True, config_files=(RENDERED,))
    assert "written 2026-09-21" in only(changed(probe, runtimes=(newer,)), "GW-K3S-026").evidence[0]
    assert "GW-K3S-026" not in rules(probe)
    both = k3s(rendered=IMPORTS + RUNC + NVIDIA, files={DROP_IN: ("version = 3\n", NOW + 9)})
    drop_in = replace(both.facts.runtimes[0], config_newer_than_process=True, config_files=(RENDERED, DROP_IN))
    assert "GW-K3S-026" not in rules(changed(both, runtimes=(drop_in,)))  # the drop-in is what is new


# the rest


def test_docker_instead_of_its_own_containerd() -> None:
    assert "cri-dockerd" in only(k3s(config="docker: true\n"), "GW-K3S-023").evidence[0]
    assert "GW-K3S-023" not in rules(k3s())


def test_the_operator_restarts_it() -> None:
    from dataclasses import replace

    from gpuwizard.facts.model import OperatorFacts
    from tests.captured import changed

    placed = changed(k3s(), operator=OperatorFacts(toolkit=True))
    assert only(placed, "GW-K3S-019").severity == "info"
    assert "GW-K3S-019" not in ids(replace(k3s()))


def test_classes_that_are_not_shipped() -> None:
    cdi = RUNC + NVIDIA + NVIDIA.replace("'nvidia'", "'nvidia-cdi'")
    assert only(k3s(rendered=cdi, role="server"), "GW-K3S-021").severity == "info"
    assert "GW-K3S-021" not in rules(k3s(rendered=cdi))  # an agent ships nothing
    assert "GW-K3S-021" not in rules(k3s(role="server"))
    assert only(k3s(version="v1.26.11+k3s1", role="server"), "GW-K3S-022")
    assert "RKE2" in only(rke2("v1.31.4-rke2r1"), "GW-K3S-022").evidence[0]
    assert "GW-K3S-022" not in rules(rke2("v1.31.5-rke2r1"))
    assert "GW-K3S-022" not in rules(k3s(role="server"))


def test_a_member_of_etcd() -> None:
    etcd = k3s(role="server", marks="/var/lib/rancher/k3s/server/db/etcd")
    assert only(etcd, "GW-K3S-024").severity == "info"
    assert "GW-K3S-024" not in rules(k3s(role="server"))


def test_without_root_nothing_is_claimed() -> None:
    probe = host(
        unit("k3s-agent.service", "/usr/local/bin/k3s agent"), root=False, k3s_version="k3s version v1.34.1+k3s1",
        unseen="/etc/rancher/k3s/config.yaml|it is there but cannot be read\n",
    )  # fmt: skip
    assert not {rule for rule in rules(probe) if rule.startswith("GW-K3S")}
    assert probe.facts.kubernetes.node_name is None
