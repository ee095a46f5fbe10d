"""Whatever a host says of its Kubernetes: facts and rules come out, and no text of it is more than text."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpuwizard.facts.jsonable import facts_json
from gpuwizard.facts.model import Probe
from gpuwizard.facts.parse import parse_probe
from gpuwizard.findings import find
from tests.kube_hosts import NOW, frame, host, unit

ETC = "/var/lib/rancher/k3s/agent/etc/containerd"
SECTIONS = (
    "units", "process:7", "kubernetes-marks", "kubernetes-programs", "k3s-version", "k0s-version", "kubelet-version",
    "rke2-runtime", "snap:k8s", "snap:microk8s", "kubelet-flags:/var/snap/k8s/common/args/containerd",
    "kubelet-flags:/var/snap/k8s/common/args/kubelet", "kubelet-flags:/etc/default/kubelet",
    "kubelet-config:/var/lib/kubelet/config.yaml", "service-environment:/etc/default/k3s", "service-path", "node-id",
    "nested-nodes", "k8s-base-dir", "microshift-version", "microshift-config", "kind-version", "file-stats", "unseen",
    "containerd:9", "os-release",
)  # fmt: skip
FILES = (
    f"{ETC}/config.toml", f"{ETC}/config.toml.tmpl", f"{ETC}/config-v3.toml.tmpl", f"{ETC}/config-v3.toml.d/1.toml",
    "/etc/rancher/k3s/config.yaml", "/etc/rancher/k3s/config.yaml.d/1.yaml", "/etc/k0s/containerd.toml",
    "/etc/k0s/containerd.d/x.toml", "/var/snap/microk8s/current/args/containerd-template.toml",
    "/var/snap/microk8s/current/args/containerd.toml", "/etc/containerd/config.toml",
    "/etc/containerd/conf.d/9.toml",
)  # fmt: skip
UNITS = tuple(
    unit(name, argv, state, sub)
    for name, argv in (
        ("k3s.service", "/usr/local/bin/k3s server --data-dir"),
        ("rke2-agent.service", "rke2 agent -d /x"),
        ("k0sworker.service", "k0s worker --cri-socket=remote:"),
        ("snap.k8s.kubelet.service", ""),
        ("snap.microk8s.daemon-kubelite.service", ""),
        ("kubelet.service", "/usr/bin/kubelet --config"),
        ("microshift.service", ""),
    )
    for state, sub in (("active", "running"), ("activating", "auto-restart"), ("inactive", "dead"))
)
MARKS = "/etc/rancher/k3s\n/snap/k8s\n/snap/microk8s\n/etc/k0s\n/kind/version\n/etc/machine-config-daemon\n"
TEXTS = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        [
            *UNITS, MARKS, "v1.36.1+k3s1", "1.35.0", "default-runtime: [1, {}]\n", "\x1b[31m\x00\u202e", "x" * 5000,
            'version = 3\nimports = ["/a/*.toml", 3]\n', '{{ template "base" . }}\n[plugins]\n',
            "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\ncontainerd = 3\n",
            "K3S_DATA_DIR='\nPATH=::/x:\n", "config=/x/agent/etc/containerd/config.toml\n",
            "comm=kubelet\narg=/usr/bin/kubelet\narg=--config=/x\narg=--hostname-override=\x1b[1mA\n", "[" * 300,
        ]
    ),
)  # fmt: skip


def holds(probe: Probe) -> None:
    text = json.dumps(facts_json(probe.facts), allow_nan=False)
    assert "\\u001b" not in text
    for finding in find(probe):
        assert finding.evidence
        assert not any("\x1b" in line or "\n" in line for line in (finding.title, *finding.evidence))


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(SECTIONS), TEXTS), max_size=10),
    st.lists(st.tuples(st.sampled_from(FILES), TEXTS, st.integers(0, 10**15)), max_size=6),
    st.booleans(),
)
@example([("kubernetes-marks", MARKS), ("units", "\n".join(UNITS))], [], True)
def test_any_text(sections: list[tuple[str, str]], files: list[tuple[str, str, int]], root: bool) -> None:
    import base64

    raw = frame("begin", "gpuwizard-probe/1") + frame("privilege", "root|root|", int(root))
    stats = "".join(
        f"644 0 0 {time} {time} {len(text.encode('utf-8', 'replace'))} {path}\n" for path, text, time in files
    )
    for path, text, _ in files:
        raw += frame(f"file:{path}", base64.b64encode(text.encode("utf-8", "replace")).decode())
    raw += frame("file-stats", stats) + frame("pci", "0000:00:06.0 0x2335 0x030200 0\n")
    for name, text in sections:
        raw += frame(name, text.encode("utf-8", "replace").decode())
    holds(parse_probe(raw + frame("kubernetes-marks", "") + frame("end", "")))


@pytest.mark.parametrize("names", [("k3s.service", "/usr/local/bin/k3s server"), ("k0sworker.service", "k0s worker")])
def test_binary_and_large_files(names: tuple[str, str]) -> None:
    for text in ("\x00\x01\ufffd" * 1000, "x" * 1_000_000, "=" * 100_000, "[[" * 50_000, "a: b\n" * 20_000):
        holds(host(unit(*names), files=dict.fromkeys(FILES, (text, NOW))))
