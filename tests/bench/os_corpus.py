"""Judge the classification of distributions by a public corpus: ``python tests/bench/os_corpus.py PATH…``.

PATH is a git directory or a folder: collections of os-release files such as those of chef/os_release, python-distro's
test resources and ansible's fixtures, read where they lie. Prints what each file is taken for and ends with 1 when one
of them is unknown or is taken for something else than its distribution is. What a file belongs to is told by its name
in the corpus, through a table of our own; a distribution that is not in the table is an error of this judge, too.
"""

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from gpuwizard.facts.system.os_release import os_facts

FAMILIES = {
    "debian": "debian debiantesting debian-stretch-sid ubuntu ubuntubudgie ubuntumate ubuntuunity kubuntu lubuntu "
    "xubuntu linuxmint linux-mint pop pop-os elementary kde-neon zorin kali parrot raspbian xbian armbian bttcb devuan "
    "deepin mxlinux osmc pardus cumulus",
    "rhel": "redhat rhel fedora centos centosstream centos-stream rocky rockylinux alma almalinux oracle amazon "
    "scientific eurolinux miracle virtuozzo cloudlinux clearos xcp-ng xenserver kvmibm tencentos nobara mageia",
    "suse": "sles sled sles-sap opensuse opensuseleap opensusetumbleweed opensuse-leap suse-microos sl-micro "
    "alp-dolomite",
    "arch": "arch archarm archlinux manjaro manjaro-arm antergos arcolinux endeavouros cachyos steamos",
    "nixos": "nixos",
    "flatcar": "flatcar",
    "azurelinux": "azurelinux cbl-mariner",
    "other": "alpine gentoo slackware exherbo altlinux guix wolfi photon cos coreos core-os openeuler hce kylin uos "
    "clearlinux buildroot openwrt openelec ubios rancheros wrlinux nexus ios-xr truenas usrlibosreleaseonly",
}
"""What a distribution is. Mageia comes from Mandriva and names Fedora as its like: RPM and dnf."""
IMMUTABLE = {
    *("flatcar", "nixos", "guix", "cos", "coreos", "core-os", "rancheros", "openelec", "steamos"),
    *("suse-microos", "sl-micro", "alp-dolomite"),
}
MISLABELLED = {
    "gardenlinux": ("other", False, "the file is that of Huawei Cloud EulerOS (ID=hce)"),
    "bottlerocket": ("rhel", False, "the file is that of its admin container: Amazon Linux 2"),
    "steamos-2.0": ("debian", False, "up to version 2 SteamOS was a Debian that could be changed"),
}
"""Names under which the text is of something else, or of a time when the distribution was something else."""
FAMILY_OF = {name: family for family, names in FAMILIES.items() for name in names.split()}
MARKED = re.compile(r"(?m)^\s*ID=")


def main() -> int:
    """Print the verdicts; 0 when all are right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", nargs="+", metavar="PATH", type=Path)
    counts: Counter[str] = Counter()
    for corpus in parser.parse_args().corpora:
        for name, text in sorted(releases(corpus)):
            verdict = judged(name, text)
            counts[verdict.partition(":")[0]] += 1
            facts = os_facts(text)
            taken = f"{facts.id or '-'} {facts.version_id or '-'}: {facts.family}, immutable={facts.immutable}"
            print(f"{verdict:<8} {name}: {taken}")
    print(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())) or "no os-release file")
    return 0 if counts and set(counts) <= {"right", "empty"} else 1


def judged(name: str, text: str) -> str:
    """``right``, ``empty``, ``unlisted``, or what is wrong."""
    if not text.strip():
        return "empty"
    short = label(name)
    if short in MISLABELLED:
        family, immutable, _ = MISLABELLED[short]
    else:
        listed = next((n for n in (short, re.split(r"-?\d", short)[0]) if n in FAMILY_OF), None)
        if listed is None:
            return "unlisted"
        family, immutable = FAMILY_OF[listed], listed in IMMUTABLE
    facts = os_facts(text)
    if facts.family != family:
        return f"WRONG: {family} is right"
    return "right" if facts.immutable is immutable else f"WRONG: immutable={immutable} is right"


def label(name: str) -> str:
    """The distribution as the corpus names it: the file, or the folder above etc or usr."""
    parts = name.split("/")
    base = parts[-1]
    if base == "os-release":
        above = [part for part in parts[:-1] if part not in ("etc", "usr", "lib")]
        base = above[-1] if above else base
    return re.sub(r"(-(linux|rolling|na|no|tumbleweed)\b.*)?(\.json)?$", "", base.lower().replace("_", "-"))


def releases(corpus: Path) -> Iterator[tuple[str, str]]:
    """Name and text of every os-release in the corpus; of fixtures that hold several files, that one."""
    for name, raw in files(corpus):
        text = raw.decode("utf-8", "replace")
        if name.endswith(".json"):
            given = json.loads(text).get("input", {})
            for path in ("/etc/os-release", "/usr/lib/os-release"):
                if path in given:
                    yield name, given[path] or ""
                    break
        elif name.endswith("/os-release") or MARKED.search(text):
            yield name, text


def files(corpus: Path) -> Iterator[tuple[str, bytes]]:
    """The candidates: files of that name, fixtures of distributions, and a corpus' own top level."""
    wanted = re.compile(r"(.*/)?os-release|.*/distribution/fixtures/[^/]+\.json|[^./][^/.]*(_\d[^/]*)?")
    if (corpus / "HEAD").is_file() or (corpus / ".git").exists():
        listing = git(corpus, "ls-tree", "-r", "-z", "HEAD").split(b"\0")
        for entry in filter(None, listing):
            head, _, name = entry.partition(b"\t")
            mode, _, blob = head.decode().split()
            if mode != "120000" and wanted.fullmatch(path := name.decode("utf-8", "replace")):
                yield path, git(corpus, "cat-file", "blob", blob)
        return
    for found in corpus.rglob("*"):
        path = found.relative_to(corpus).as_posix()
        if found.is_file() and not found.is_symlink() and wanted.fullmatch(path):
            yield path, found.read_bytes()


def git(corpus: Path, *words: str) -> bytes:
    """What git prints."""
    return subprocess.run(["git", "-C", str(corpus), *words], capture_output=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
