"""Small programs of a simulated host that ask the fleet: chmod, package queries, versions."""

import fnmatch
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from gpuwizard.fleet.questions import Answer, Question

if TYPE_CHECKING:
    from gpuwizard.fleet.host import SimulatedHost

__all__ = ["chmod", "detect_virt", "dpkg_query", "getent", "kubelet", "mokutil", "now", "rpm", "stat"]

_OWN = ("/tmp/", "/var/tmp/", "/home/")  # noqa: S108 - where a simulated user's files are


async def chmod(host: "SimulatedHost", question: Question) -> Answer:
    """Set modes: octal, or symbolic in the usual simple forms."""
    words = [w for w in question.arguments if w not in ("--", "-R", "-f", "-v", "-c")]
    if len(words) < 2:
        return Answer(err="chmod: missing operand\n", status=1)
    errors = []
    for word in words[1:]:
        path = host.tree.own_path(word if word.startswith("/") else f"{question.folder}/{word}")
        found = host.tree.stat(path)
        mode = None if found is None else _mode(words[0], found.st_mode & 0o7777)
        if found is None:
            errors.append(f"chmod: cannot access '{word}': No such file or directory")
        elif mode is None:
            errors.append(f"chmod: invalid mode: '{words[0]}'")
        elif not (question.root or path.startswith(_OWN)) or not host.tree.chmod(path, mode):
            errors.append(f"chmod: changing permissions of '{word}': Operation not permitted")
    return Answer(err="".join(f"{line}\n" for line in errors), status=1 if errors else 0)


def _mode(text: str, old: int) -> int | None:
    if re.fullmatch(r"[0-7]{1,4}", text):
        return int(text, 8)
    mode = old
    for clause in text.split(","):
        parsed = re.fullmatch(r"([ugoa]*)([-+=])([rwxXst]*)", clause)
        if parsed is None:
            return None
        who = parsed[1] or "a"
        bits = sum(value for letter, value in (("r", 4), ("w", 2), ("x", 1)) if letter in parsed[3])
        if "X" in parsed[3] and old & 0o111:
            bits |= 1
        mask = sum(7 << shift for letter, shift in (("u", 6), ("g", 3), ("o", 0)) if letter in who or "a" in who)
        value = (bits * 0o111) & mask
        match parsed[2]:
            case "+":
                mode |= value
            case "-":
                mode &= ~value
            case _:
                mode = (mode & ~mask) | value
    return mode


def _packages(host: "SimulatedHost") -> dict[str, str]:
    spec = host.spec
    found = {"coreutils": "9.4-3", "systemd": "255.4-1"}
    if spec.toolkit is not None:
        for name in ("nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container1"):
            found[name] = f"{spec.toolkit}-1"
    if spec.driver is not None and spec.driver.userspace:
        branch = spec.driver.userspace.partition(".")[0]
        found[f"nvidia-driver-{branch}-open"] = f"{spec.driver.userspace}-1"
    if spec.kubernetes.flavour == "kubeadm":
        version = spec.kubernetes.version.removeprefix("v")
        found |= {"kubelet": f"{version}-1.1", "kubeadm": f"{version}-1.1"}
    if spec.containerd is not None:
        debian = spec.distro.startswith("debian")
        found["containerd" if debian else "containerd.io"] = f"{spec.containerd}{'~ds1' if debian else ''}-1"
    return found


async def dpkg_query(host: "SimulatedHost", question: Question) -> Answer:
    """``-W [-f FORMAT] [PATTERN…]``."""
    pattern_words: list[str] = []
    form = "${Package}\\t${Version}\\n"
    words = list(question.arguments)
    while words:
        word = words.pop(0)
        if word in ("-f", "--showformat"):
            form = words.pop(0) if words else form
        elif word.startswith(("-f=", "-f")) and word != "-f":
            form = word[2:].removeprefix("=")
        elif word.startswith("--showformat="):
            form = word.partition("=")[2]
        elif not word.startswith("-"):
            pattern_words.append(word)
    packages = _packages(host)
    shown, missing = [], []
    for pattern in pattern_words or ["*"]:
        names = fnmatch.filter(packages, pattern)
        if not names:
            missing.append(f"dpkg-query: no packages found matching {pattern}\n")
        for name in names:
            values = {
                "Package": name,
                "Version": packages[name],
                "Architecture": "amd64",
                "Status": "install ok installed",
            }
            values |= {"db:Status-Abbrev": "ii ", "db:Status-Status": "installed", "db:Status-Want": "install"}
            shown.append(_formatted(form, values))
    return Answer("".join(shown), "".join(missing), 1 if missing else 0)


def _formatted(form: str, values: Mapping[str, str]) -> str:
    text = re.sub(r"\$\{([^};]+)(;[^}]*)?\}", lambda match: values.get(match[1], ""), form)
    return text.replace("\\n", "\n").replace("\\t", "\t")


async def rpm(host: "SimulatedHost", question: Question) -> Answer:
    """``-q [--qf FORMAT] NAME…``."""
    packages = _packages(host)
    form, names = "%{NAME}-%{VERSION}.x86_64\\n", []
    words = list(question.arguments)
    while words:
        word = words.pop(0)
        if word in ("--qf", "--queryformat"):
            form = words.pop(0) if words else form
        elif not word.startswith("-"):
            names.append(word)
    out, bad = "", 0
    for name in names:
        if name in packages:
            version, _, release = packages[name].partition("-")
            form_of_it = form.replace("%{NAME}", name).replace("%{VERSION}", version).replace("%{RELEASE}", release)
            out += form_of_it.replace("\\n", "\n")
        else:
            out, bad = f"{out}package {name} is not installed\n", bad + 1
    return Answer(out, status=bad)


async def getent(host: "SimulatedHost", question: Question) -> Answer:
    """``passwd NAME`` from the tree's own file."""
    if len(question.arguments) != 2 or question.arguments[0] != "passwd":
        return Answer(status=1)
    lines = host.tree.text("/etc/passwd").splitlines()
    found = [line for line in lines if question.arguments[1] in line.split(":")[:3:2]]
    return Answer("".join(f"{line}\n" for line in found), status=0 if found else 2)


async def kubelet(host: "SimulatedHost", question: Question) -> Answer:
    """``--version``."""
    if question.arguments == ("--version",):
        return Answer(f"Kubernetes {host.spec.kubernetes.version}\n")
    return Answer(err="kubelet: a simulated host starts it by its unit only\n", status=1)


async def mokutil(host: "SimulatedHost", question: Question) -> Answer:
    """``--sb-state``."""
    del host
    if question.arguments == ("--sb-state",):
        return Answer("SecureBoot disabled\n")
    return Answer(err="mokutil: this is not simulated\n", status=1)


async def detect_virt(host: "SimulatedHost", question: Question) -> Answer:
    """Simulated hosts are bare metal."""
    del host, question
    return Answer("none\n", status=1)


async def now(host: "SimulatedHost", question: Question) -> Answer:
    """Seconds since the epoch in the fleet's time, for the stand-in of date where there is no /proc."""
    del question
    epoch, _, _ = host.tree.text("/.fleet/clock").split()
    passed = host.clock.monotonic() - host.opened_at
    return Answer(f"{int(epoch) + int(passed)}\n")


async def stat(host: "SimulatedHost", question: Question) -> Answer:
    """``[-L] -c FORMAT FILE…`` in GNU's form, for machines whose own stat has another."""
    words = list(question.arguments)
    form, names = "%n", []
    while words:
        word = words.pop(0)
        if word in ("-c", "--format"):
            form = words.pop(0) if words else form
        elif word.startswith("--format="):
            form = word.partition("=")[2]
        elif not word.startswith("-"):
            names.append(word)
    out, err = "", ""
    for name in names:
        found = host.tree.stat(host.tree.own_path(name if name.startswith("/") else f"{question.folder}/{name}"))
        if found is None:
            err += f"stat: cannot statx '{name}': No such file or directory\n"
            continue
        values = {"a": f"{found.st_mode & 0o7777:o}", "u": "0", "g": "0", "U": "root", "G": "root", "C": "?", "n": name}
        values |= {"s": str(found.st_size), "h": str(found.st_nlink), "Y": str(int(found.st_mtime))}
        values["y"] = datetime.fromtimestamp(found.st_mtime, UTC).isoformat(sep=" ")
        out += re.sub(r"%([a-zA-Z])", partial(_field, values), form) + "\n"
    return Answer(out, err, 1 if err else 0)


def _field(values: Mapping[str, str], match: "re.Match[str]") -> str:
    return values.get(match[1], "?")
