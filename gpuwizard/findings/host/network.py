"""Rules about proxies and about registries and package sources that do not answer."""

import ipaddress
import re
from collections.abc import Mapping

from gpuwizard.facts.model import Probe, RuntimeFacts
from gpuwizard.findings.rule import Rule, Verdict, looked_at

__all__ = ["RULES"]

_GENERAL = ("/etc/environment", "/etc/sysconfig/proxy")
_PROXY = re.compile(r"(CONTAINERD_)?HTTPS?_PROXY", re.IGNORECASE)
_NO_PROXY = re.compile(r"(CONTAINERD_)?NO_PROXY", re.IGNORECASE)
_ADDS_BY_ITSELF = ("k3s", "rke2")
"""Flavours that put the cluster's ranges and domain into NO_PROXY themselves."""


def _lines(proxies: Mapping[str, str], names: re.Pattern[str]) -> list[str]:
    return [f"{name}={content}" for name, content in proxies.items() if names.fullmatch(name)]


def _not_for_the_runtime(probe: Probe) -> Verdict | None:
    state = probe.facts.state
    general = [f"{path}: {line}" for path in _GENERAL for line in _lines(state.host_proxies.get(path, {}), _PROXY)]
    if not general or not looked_at(probe):
        return None
    bare = [r for r in _asked(probe) if r.unit is not None and r.unit in state.proxies and not state.proxies[r.unit]]
    if not bare:
        return None
    return Verdict((*general, *(f"{runtime.unit}: no HTTPS_PROXY" for runtime in bare)))


def _asked(probe: Probe) -> list[RuntimeFacts]:
    """The runtime that pulls the kubelet's images; where none is known, every one of the host's."""
    used = probe.facts.kubelet_runtime
    return [used] if used is not None else [r for r in probe.facts.runtimes if r.used_by_kubelet is None]


def _lacks_the_cluster(probe: Probe) -> Verdict | None:
    facts = probe.facts
    if facts.kubernetes.flavour in ("none", "unknown", *_ADDS_BY_ITSELF):
        return None
    units = {"kubelet.service", *(r.unit for r in facts.runtimes if r.used_by_kubelet and r.unit)}
    found: list[str] = []
    for unit in sorted(units):
        proxies = facts.state.proxies.get(unit, {})
        given = _lines(proxies, _PROXY)
        without = [content for name, content in proxies.items() if _NO_PROXY.fullmatch(name)]
        if given and not any(_covers_a_cluster(content) for content in without):
            found += [f"{unit}: {given[0]}", f"{unit}: NO_PROXY={without[0]}" if without else f"{unit}: no NO_PROXY"]
    return Verdict(tuple(found)) if found else None


def _covers_a_cluster(no_proxy: str) -> bool:
    """Whether the list has a private range, or the names of services."""
    for entry in re.split(r"[\s,]+", no_proxy):
        if entry == "*" or entry.endswith((".svc", "cluster.local")) or entry == "svc":
            return True
        try:
            network = ipaddress.ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            continue
        if network.num_addresses > 1 and not network.is_loopback and not network.is_link_local:
            return True
    return False


def _silent(probe: Probe, kind: str) -> Verdict | None:
    silent = [reach for reach in probe.facts.state.reach if reach.kind == kind and reach.reached is False]
    return Verdict(tuple(f"{reach.name}: {reach.reason or 'no answer'}" for reach in silent)) if silent else None


def _no_registry(probe: Probe) -> Verdict | None:
    return _silent(probe, "registry")


def _no_packages(probe: Probe) -> Verdict | None:
    return _silent(probe, "packages")


RULES = (
    Rule(
        "GW-HOST-028",
        "warning",
        "the host goes through a proxy, and its container runtime does not",
        "Logins get the proxy's variables from a file that services do not read.",
        "Give them to the runtime's unit and restart it: "
        "`/etc/systemd/system/UNIT.service.d/http-proxy.conf` with `[Service]` and "
        '`Environment="HTTPS_PROXY=…" "HTTP_PROXY=…" "NO_PROXY=…"`; for K3s and RKE2 /etc/default/k3s or '
        "/etc/default/rke2-server.",
        _not_for_the_runtime,
        ("hosts.md §6.6", "hosts.md §8.2", "kubernetes.md §1.14 #1"),
        effect="curl works by hand and image pulls fail, unless every image comes from a registry inside.",
        detected="/etc/environment and /etc/sysconfig/proxy against the unit's Environment, drop-ins and environment "
        "files, Docker's daemon.json and DefaultEnvironment; says nothing where the unit reads a file that was not "
        "seen.",
        messages=("dial tcp: i/o timeout", "failed to pull and unpack image"),
        sources=("systemd.exec(5)", "docs.k3s.io advanced: configuring an HTTP proxy"),
    ),
    Rule(
        "GW-HOST-029",
        "warning",
        "the proxy is used for the cluster's own addresses, too",
        "The unit has a proxy, and its NO_PROXY names neither a range of addresses nor the names of services.",
        "Add the node, pod and service ranges and `.svc,.cluster.local` to NO_PROXY of the unit and restart it.",
        _lacks_the_cluster,
        ("hosts.md §6.6", "kubernetes.md §1.14 #1"),
        effect="What the runtime starts (CNI plugins above all) and the kubelet talk to the API server through the "
        "proxy, "
        "which refuses or does not know it: pods stay ContainerCreating, the node NotReady.",
        detected="The proxy variables of the runtime's and the kubelet's unit.",
        messages=("Service Unavailable", "proxyconnect tcp", 'plugin type="calico" failed'),
        sources=("documentation.ubuntu.com canonical-kubernetes proxy.md", "docs.kubermatic.com kubeone proxy"),
    ),
    Rule(
        "GW-HOST-030",
        "warning",
        "an image registry does not answer",
        "The host cannot reach it: no route, a firewall, DNS, a proxy that is missing, or the registry is down.",
        "Try it on the host: `curl -v https://NAME/v2/` (401 is a good answer). Set a proxy for the runtime, open the "
        "firewall, or configure a mirror.",
        _no_registry,
        ("kubernetes.md §1.14 #1",),
        effect="Images from there cannot be pulled: operator, device plugin and validation pods stay in "
        "ImagePullBackOff.",
        detected="`gpuwizard check --reach`: the host asks nvcr.io, registry.k8s.io and the mirrors of containerd, "
        "K3s, "
        "RKE2 and Docker with curl or wget, through the runtime's proxy.",
        messages=("ImagePullBackOff", "ErrImagePull", "dial tcp: lookup nvcr.io: no such host"),
        sources=("distribution/distribution docs/spec/api.md", "docs.k3s.io private registry"),
    ),
    Rule(
        "GW-HOST-031",
        "warning",
        "a package source does not answer",
        "The host cannot reach it: no route, a firewall, DNS, a proxy that is missing, or the server is down.",
        "Try it on the host: `apt-get update` or `dnf makecache`. sudo drops https_proxy: set Acquire::https::Proxy or "
        "`proxy=` instead.",
        _no_packages,
        ("hosts.md §6.6", "kubernetes.md §1.14 #18"),
        effect="Drivers, headers and the toolkit can be neither installed nor updated.",
        detected="`gpuwizard check --reach`: the host asks the addresses in its apt, yum and zypper sources with "
        "curl or "
        "wget, through the package manager's proxy.",
        messages=("Could not resolve", "Cannot download repomd.xml", "Failed to fetch"),
        sources=("sources.list(5)", "dnf.conf(5)"),
    ),
)
