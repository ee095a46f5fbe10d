"""Every rule on text that provokes it, and on a host where all is well."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpuwizard.facts.kubernetes.release import KubeRelease
from gpuwizard.facts.kubernetes.templates import Rendering, judge
from gpuwizard.facts.model import (
    Gpu,
    Handler,
    HostFacts,
    HostFile,
    KubernetesFacts,
    OsFacts,
    PrivilegeFacts,
    Probe,
    RuntimeFacts,
    Unseen,
)
from gpuwizard.facts.parse import parse_probe
from gpuwizard.findings import RULES, explain, find
from gpuwizard.secret import SecretBytes
from tests.captured import CAPTURE, changed, edit, ids, only, ready, without
from tests.driver_hosts import bare

COPIED_TEMPLATE = """\
[plugins.opt]
  path = "{{ .NodeConfig.Containerd.Opt }}"
[plugins.cri]
  stream_server_address = "127.0.0.1"
[plugins.cri.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"""
NVIDIA_TWICE = """\
{{ template "base" . }}
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes."nvidia"]
  runtime_type = "io.containerd.runc.v2"
"""


def test_all_is_well() -> None:
    finding = only(ready(), "GW-OK-001")
    assert finding.severity == "ok"
    assert ids(ready()) == ["GW-OK-001"]
    assert any("NVIDIA H200" in line for line in finding.evidence)


def test_no_handler_is_what_the_plan_mends() -> None:
    finding = only(CAPTURE, "GW-RUNTIME-001")
    assert (finding.severity, finding.fixable) == ("error", True)
    assert "handlers: runc, site" in finding.evidence
    assert "GW-OK-001" not in ids(CAPTURE)


def test_no_gpu() -> None:
    raw = without("pci", "pci-drivers", "smi-core", "smi-more", "smi-started")
    finding = only(edit("pci", "", probe=edit("smi-missing", "", probe=raw)), "GW-GPU-001")
    assert finding.severity == "info"
    assert ids(edit("unseen", "PCI devices|there is no /sys", probe=raw)) == []


def test_a_gpu_is_lost() -> None:
    raw = edit("pci", "0000:00:06.0 0x2335 0x030200 0\n0000:5f:00.0 0x2335 0x030200 0\n")
    finding = only(raw, "GW-GPU-002")
    assert finding.evidence[0] == "PCI shows 2 GPUs, nvidia-smi 1"
    assert finding.evidence[1].startswith("0000:5f:00.0")


def test_gb10() -> None:
    raw = edit("smi-core", "0, GPU-b, NVIDIA GB10, 0000000F:01:00.0, 0x2E1210DE, 580.95.05, [N/A], [N/A], Enabled")
    finding = only(edit("pci", "000f:01:00.0 0x2e12 0x030000 0\n", probe=raw), "GW-GPU-003")
    assert "shared with the CPU" in finding.evidence[0]


def test_toolkit_missing() -> None:
    finding = only(without("toolkit-runtime", "toolkit-version"), "GW-TOOLKIT-001")
    assert "nvidia-ctk is not there either" in finding.evidence
    assert not only(without("toolkit-runtime"), "GW-RUNTIME-001").fixable


def runtime(**changes: Any) -> Probe:
    probe = ready()
    return changed(probe, runtimes=(replace(probe.facts.runtimes[0], **changes),))


def test_default_handler_is_not_defined() -> None:
    finding = only(runtime(default_handler="kata"), "GW-RUNTIME-002")
    assert "default_runtime_name = 'kata'" in finding.evidence
    unread = replace(runtime(handlers={}, default_handler="runc"), readable=False)
    assert "GW-RUNTIME-002" not in ids(unread)  # the built-in runc is in no file


def test_cri_is_down() -> None:
    finding = only(runtime(cri="error", effective_error="io.containerd.grpc.v1 cri error"), "GW-RUNTIME-003")
    assert "CRI plugin: error" in finding.evidence
    assert only(runtime(cri="disabled"), "GW-RUNTIME-003")


def test_configuration_cannot_be_evaluated() -> None:
    raw = edit("containerd-dump:700", "= no TOML")
    assert "config dump: Invalid statement" in only(raw, "GW-RUNTIME-004").evidence[1]
    assert "GW-RUNTIME-004" not in ids(CAPTURE)


def test_the_kubelets_runtime_is_unknown() -> None:
    assert "socket" in only(runtime(used_by_kubelet=None), "GW-RUNTIME-005").evidence[0]


def test_the_kubelets_runtime_is_down() -> None:
    assert only(runtime(running=False), "GW-RUNTIME-006")


def k3s(template: str, *, handlers: tuple[str, ...] = ("runc",)) -> Probe:
    path = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml.tmpl"
    probe = changed(
        ready(),
        kubernetes=KubernetesFacts(
            "k3s",
            service="k3s.service",
            templates=(path,),
            active=True,
            template_states=(judge(path, template, Rendering(KubeRelease(1, 30, 4)), other_wins=False),),
        ),
        runtimes=(
            RuntimeFacts(
                "containerd",
                config_path="/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
                handlers={name: Handler("io.containerd.runc.v2") for name in handlers},
                default_handler="runc",
                used_by_kubelet=True,
                running=True,
            ),
        ),
    )
    return replace(probe, files={path: HostFile(path, SecretBytes(template.encode()))})


def test_a_copied_template() -> None:
    finding = only(k3s(COPIED_TEMPLATE), "GW-K3S-009")
    assert finding.severity == "error"  # it hides the handler although the toolkit is there
    assert any("does not include the built-in template" in line for line in finding.evidence)
    assert "handlers: runc" in finding.evidence
    assert not finding.fixable
    assert only(k3s(COPIED_TEMPLATE, handlers=("runc", "nvidia")), "GW-K3S-009").severity == "warning"
    assert {"GW-K3S-001", "GW-RUNTIME-001"}.isdisjoint(ids(k3s(COPIED_TEMPLATE)))
    newer = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n  runtime_type = "x"\n'
    copied = only(k3s(newer), "GW-K3S-001")
    assert copied.severity == "error"  # it hides the handler although the toolkit is there
    assert "handlers: runc" in copied.evidence
    assert only(k3s(newer, handlers=("runc", "nvidia")), "GW-K3S-001").severity == "warning"


def test_a_template_with_the_base_is_fine() -> None:
    assert "GW-K3S-001" not in ids(k3s('{{- template "base" . -}}\n', handlers=("runc", "nvidia")))


def test_nvidia_twice() -> None:
    assert "nvidia" in only(k3s(NVIDIA_TWICE), "GW-K3S-002").evidence[0]
    assert "GW-K3S-001" not in ids(k3s(NVIDIA_TWICE))


def test_k3s_detects_at_its_start() -> None:
    probe = replace(k3s("x"), files={})
    probe = changed(probe, kubernetes=replace(probe.facts.kubernetes, templates=(), template_states=()))
    finding = only(probe, "GW-RUNTIME-001")
    assert finding.fixable
    assert "when it starts" in finding.cause


def test_kubernetes_is_stopped_or_absent() -> None:
    assert only(changed(ready(), kubernetes=KubernetesFacts("k3s", active=False)), "GW-KUBE-001")
    assert only(changed(ready(), kubernetes=KubernetesFacts("none")), "GW-KUBE-002").severity == "info"


def test_unknown_distribution() -> None:
    finding = only(edit("os-release", 'ID=photon\nPRETTY_NAME="VMware Photon OS/Linux"\n'), "GW-HOST-001")
    assert finding.evidence[:2] == ("ID=photon, ID_LIKE=none", "VMware Photon OS/Linux")
    assert only(without("os-release"), "GW-HOST-001")


def test_no_sudo() -> None:
    finding = only(edit("privilege", "refused|ops|ops is not in the sudoers file."), "GW-HOST-002")
    assert (finding.severity, finding.evidence[0]) == ("error", "logged in as ops")
    assert only(edit("privilege", "refused|ops|what?"), "GW-HOST-002").severity == "warning"
    password = edit("privilege", "refused|ops|sudo: a password is required")
    assert only(password, "GW-HOST-003").severity == "info"
    assert "GW-HOST-002" not in ids(password)


def test_immutable_container_and_vendor_systems() -> None:
    assert only(edit("os-release", "ID=flatcar\n"), "GW-HOST-004")
    assert only(changed(ready(), os=OsFacts("debian", family="debian", kind="container")), "GW-HOST-005")
    assert "DGX OS 7.5.0" in only(edit("dgx-release", 'DGX_OTA_VERSION="7.5.0"'), "GW-HOST-006").evidence
    assert "WSL2" in only(changed(ready(), os=OsFacts("ubuntu", family="debian", kind="wsl2")), "GW-HOST-006").title


def test_a_probe_that_was_cut() -> None:
    assert only(CAPTURE[:-20], "GW-HOST-007").severity == "error"
    assert ids(b"") == ["GW-HOST-007"]  # and nothing is said to be missing


def test_nvswitches_without_fabric_manager() -> None:
    assert only(changed(ready(), nvswitches=4), "GW-HOST-008")
    assert ids(changed(ready(), nvswitches=4, components=("nvidia-fabricmanager",))) == ["GW-OK-001"]


def test_nothing_is_claimed_of_a_host_that_was_not_seen() -> None:
    blank = Probe(HostFacts(unseen=(Unseen("everything", "x"),), privilege=PrivilegeFacts()), readable=False)
    assert ids(blank) == ["GW-HOST-007"]
    assert ids(changed(blank, gpus=(Gpu("0000:01:00.0", seen_by=("pci",)),))) == ["GW-HOST-007"]


def test_order_and_explanations() -> None:
    found = find(parse_probe(bare()))
    order = ["error", "warning", "info", "ok"]
    assert [order.index(f.severity) for f in found] == sorted(order.index(f.severity) for f in found)
    assert len({rule.id for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert re.fullmatch(r"GW-[A-Z0-9]+-\d{3}", rule.id)
        assert explain(rule.id.lower()) is rule
    assert explain("GW-NONE-001") is None


def test_every_rule_has_a_test() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert [rule.id for rule in RULES if f'"{rule.id}"' not in text] == []


def test_no_handler_is_not_promised_to_be_mended_while_the_toolkit_is_missing() -> None:
    from gpuwizard.facts.model import Gpu, Handler, HostFacts, KubernetesFacts, Probe, RuntimeFacts

    facts = HostFacts(
        gpus=(Gpu(pci="0000:17:00.0", pci_id="10de:26b9", bound_driver="nvidia", seen_by=("pci",)),),
        runtimes=(RuntimeFacts("containerd", "2.1.4", used_by_kubelet=True, handlers={"runc": Handler()}),),
        kubernetes=KubernetesFacts("kubeadm", role="worker"),
    )
    found = next(f for f in find(Probe(facts)) if f.id == "GW-RUNTIME-001")
    assert not found.fixable
    assert "Install the toolkit first" in found.remedy
