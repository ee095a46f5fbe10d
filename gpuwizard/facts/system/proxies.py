"""Proxies: those of the runtimes' units, and those that the rest of the host uses. Logins never come out of here."""

import json
import re
from collections.abc import Iterator, Mapping

from gpuwizard.facts.look import Look
from gpuwizard.facts.text import value

__all__ = ["hide_login", "host_proxies", "proxy_variables", "unit_proxies"]

_LONGEST = 8192
"""Characters of a line; a longer one is no setting."""
_NAME = r"(?:CONTAINERD_)?(?:HTTPS?|FTP|ALL|NO)_PROXY"
_VARIABLE = re.compile(
    rf"""(?P<around>["'])(?P<a>{_NAME})=(?P<x>.*?)(?P=around)"""
    rf"""|(?<![\w])(?P<b>{_NAME})=(?P<inner>["'])(?P<y>.*?)(?P=inner)"""
    rf"""|(?<![\w])(?P<c>{_NAME})=(?P<z>[^\s"']*)""",
    re.IGNORECASE,
)
_APT = re.compile(r"(?P<what>https?|ftp)?(?:::|\s|\{)*Proxy\s+\"(?P<value>[^\"]*)\"", re.IGNORECASE)
_DNF = re.compile(r"\s*proxy\s*=\s*(?P<value>\S+)")
_LOGIN = re.compile(r"(?P<head>^|://|[\s,])[^/\s,@]*(?:@[^/\s,@]*)*@")
_DROP_IN = re.compile(r"/systemd/system/([^/]+\.service)\.d/[^/]+\.conf")
_ENV_FILE = re.compile(
    r".*/systemd/system/((?:k3s|rke2)[^/]*?)(?:\.service)?\.env"
    r"|/etc/(?:default|sysconfig)/((?:k3s|rke2)[A-Za-z0-9@._-]*|kubelet)"
)
"""Files that the units of K3s, RKE2 and kubeadm name; those of other units are only known from systemd's answer."""
_READ = re.compile(
    r"/etc/(?:default|sysconfig)/(?:(?:k3s|rke2)[^/]*|docker|containerd|kubelet|crio)"
    r"|/etc/systemd/system/(?:k3s[^/]*\.service|rke2[^/]*)\.env|/usr/(?:local/)?lib/systemd/system/rke2[^/]*\.env"
)
"""The environment files that the probe looks into; another one may set anything."""
_RUNTIME = re.compile(r"(?:containerd|docker|crio|k3s[^/]*|rke2-[^/]*)\.service")
_SNAP = {"/var/snap/microk8s/current/args/containerd-env": "snap.microk8s.daemon-containerd.service"}
_OF_THE_HOST = ("/etc/environment", "/etc/sysconfig/proxy", "/etc/apt/", "/etc/dnf/", "/etc/yum.conf")


def hide_login(text: str) -> str:
    """`text` with ``hidden`` in place of the user and password of every address in it."""
    return _LOGIN.sub(r"\g<head>hidden@", text) if "@" in text else text


def proxy_variables(text: str) -> dict[str, str]:
    """The proxy variables in lines of a unit, an environment file or a profile; empty ones are left out."""
    found: dict[str, str] = {}
    for line in text.split("\n"):
        if line.lstrip().startswith(("#", ";")) or len(line) > _LONGEST:
            continue
        for match in _VARIABLE.finditer(line):
            name = match["a"] or match["b"] or match["c"]
            content = value(hide_login((match["x"] or match["y"] or match["z"] or "").replace("%%", "%")))
            if content:
                found[name] = content
            else:
                found.pop(name, None)
    return found


def unit_proxies(look: Look) -> dict[str, Mapping[str, str]]:
    """Per unit: what systemd gives every unit, then the unit's files, then what systemd says of it, and Docker's own
    setting. A unit of a container runtime that certainly has none is there with an empty mapping."""
    base: dict[str, str] = {}
    found: dict[str, dict[str, str]] = {}
    for section in look.frames.all("proxy"):
        if section.key.startswith("/etc/systemd/system.conf"):
            base.update(proxy_variables(section.text))
            continue
        readers = [name for name, unit in look.units.items() if section.key in unit.environment_files]
        if not readers and (by_name := _unit_of(section.key)) is not None:
            readers = [by_name]
        for unit_name in readers:
            found.setdefault(unit_name, {}).update(proxy_variables(section.text))
    for name, state in look.units.items():
        if state.environment and (own := proxy_variables("\n".join(_assignments(state.environment)))):
            found.setdefault(name, {}).update(own)
    if docker := dict(_docker(look)):
        found.setdefault("docker.service", {}).update(docker)
    for name, state in look.units.items():
        if state.loaded and _RUNTIME.match(name) and look.root and all(map(_READ.fullmatch, state.environment_files)):
            found.setdefault(name, {})
    return {name: base | proxies for name, proxies in found.items() if proxies or base or name in look.units}


def host_proxies(look: Look) -> dict[str, Mapping[str, str]]:
    """Per file: what logins (``/etc/environment``), SUSE's tools and the package managers are given."""
    found: dict[str, Mapping[str, str]] = {}
    for section in look.frames.all("proxy"):
        if section.key.startswith(_OF_THE_HOST) and (proxies := _of_host(section.key, section.text)):
            found[value(section.key) or section.key] = proxies
    return found


def _assignments(environment: Mapping[str, str]) -> Iterator[str]:
    return (f'{name}="{content}"' for name, content in environment.items() if name.upper().endswith("_PROXY"))


def _unit_of(path: str) -> str | None:
    """The unit that gets the variables of that file; None for a file of the host."""
    if path in _SNAP:
        return _SNAP[path]
    if (match := _DROP_IN.search(path)) is not None:
        return value(match[1])
    match = _ENV_FILE.fullmatch(path)
    return f"{match[1] or match[2]}.service" if match is not None else None


def _of_host(path: str, text: str) -> dict[str, str]:
    if path.startswith("/etc/apt/"):
        return {f"{match['what'] or 'proxy'}": shown for match in _APT.finditer(text) if (shown := _shown(match))}
    if path.startswith(("/etc/dnf/", "/etc/yum.conf")):
        last = [shown for match in map(_DNF.match, text.split("\n")) if match and (shown := _shown(match))][-1:]
        return {"proxy": last[0]} if last and last[0] != "_none_" else {}
    if re.search(r"(?m)^\s*PROXY_ENABLED=[\"']?no", text):
        return {}
    return proxy_variables(text)


def _shown(match: re.Match[str]) -> str | None:
    return value(hide_login(match["value"]))


def _docker(look: Look) -> Iterator[tuple[str, str]]:
    """``proxies`` of daemon.json, which Docker knows since version 23."""
    file = look.files.get("/etc/docker/daemon.json")
    raw = b"" if file is None or file.content is None else file.content.raw
    if b'"proxies"' not in raw or len(raw) > 256 * 1024:
        return
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return
    proxies = document.get("proxies") if isinstance(document, dict) else None
    for key, content in proxies.items() if isinstance(proxies, dict) else ():
        if isinstance(content, str) and key in ("http-proxy", "https-proxy", "no-proxy") and (shown := value(content)):
            yield key.upper().replace("-", "_"), hide_login(shown)
