"""Base trees: debootstrap once per suite, a prepared layer over it, both cached until the recipe changes."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.harness.recipe import IMAGE, RECIPES, Recipe, prepared_hash, tree_hash
from tests.lab.harness.shell import LabError, call, filesystem_of

__all__ = ["Base", "build_bases", "lab_directory", "mirror", "proxy_environment"]

_VERSION = re.compile(r"\bv?(\d+\.\d+\.\d+\S*)")


@dataclass(frozen=True, slots=True)
class Base:
    """A suite ready to boot: overlay layers, uppermost first, and the versions that expectations are keyed by."""

    suite: str
    layers: tuple[Path, ...]
    containerd: str
    systemd: str
    openssh: str


def lab_directory() -> Path:
    """Where trees and running hosts lie: GPUWIZARD_LAB_DIR, else /var/cache/gpuwizard-lab."""
    return Path(os.environ.get("GPUWIZARD_LAB_DIR") or "/var/cache/gpuwizard-lab").resolve()


def mirror() -> str | None:
    """The Debian mirror of this machine's own apt sources; None leaves the choice to debootstrap."""
    if own := os.environ.get("GPUWIZARD_LAB_MIRROR"):
        return own
    listing = call("apt-get", "indextargets", "--format", "$(CREATED_BY)|$(REPO_URI)|$(COMPONENT)|$(LABEL)")
    rows = [line.split("|") for line in listing.splitlines()]
    known = [uri for kind, uri, component, label in rows if (kind, component, label) == ("Packages", "main", "Debian")]
    plain = [uri for kind, uri, *_ in rows if kind == "Packages" and uri.rstrip("/").endswith("/debian")]
    found = (known or plain)[:1]
    return found[0] if found and found[0].startswith(("http", "file:")) else None


def build_bases(suites: Sequence[str], directory: Path, say: Callable[[str], None]) -> dict[str, Base]:
    """Return the bases of `suites`, building in parallel what is missing. Raises LabError."""
    directory.mkdir(parents=True, exist_ok=True)
    if filesystem_of(directory) == "overlay":
        # an overlay cannot lie on an overlay; memory can hold the trees until the machine goes down
        call("mount", "-t", "tmpfs", "-o", "mode=755", "gpuwizard-lab", directory)
    with _locked(directory / "build.lock"):
        missing = [s for s in suites if not _metadata(directory, RECIPES[s]).exists()]
        if missing:
            started = time.monotonic()
            say(f"lab: building the base trees {', '.join(missing)} in {directory} (about four minutes)")
            with ThreadPoolExecutor(len(missing)) as pool:
                for suite, seconds in pool.map(lambda s: _build(directory, RECIPES[s]), missing):
                    say(f"lab: {suite} is ready after {seconds:.0f} s")
            say(f"lab: base trees built in {time.monotonic() - started:.0f} s")
        _drop_outdated(directory)
        return {s: _load(directory, RECIPES[s]) for s in suites}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _tree(directory: Path, recipe: Recipe) -> Path:
    return directory / "base" / f"{recipe.suite}-{tree_hash(recipe)}"


def _layer(directory: Path, recipe: Recipe) -> Path:
    return directory / "prepared" / f"{recipe.suite}-{prepared_hash(recipe)}"


def _metadata(directory: Path, recipe: Recipe) -> Path:
    return directory / "prepared" / f"{recipe.suite}-{prepared_hash(recipe)}.json"


def _load(directory: Path, recipe: Recipe) -> Base:
    versions = json.loads(_metadata(directory, recipe).read_text())
    return Base(recipe.suite, (_layer(directory, recipe), _tree(directory, recipe)), **versions)


def _drop_outdated(directory: Path) -> None:
    """Remove trees of recipes that are no more; a tree that is mounted somewhere stays."""
    current = {p.name for r in RECIPES.values() for p in (_tree(directory, r), _layer(directory, r))}
    mounted = Path("/proc/self/mounts").read_text()
    for path in [*directory.glob("base/*"), *directory.glob("prepared/*")]:
        if path.name.removesuffix(".json") not in current and str(path) not in mounted:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _build(directory: Path, recipe: Recipe) -> tuple[str, float]:
    started = time.monotonic()
    tree = _tree(directory, recipe)
    if not tree.exists():
        try:
            _debootstrap(directory, recipe, tree)
        except LabError:
            if recipe.suite != "sid":
                raise
            _sid_on_trixie(directory, recipe, tree)
    _prepare(directory, recipe, tree)
    return recipe.suite, time.monotonic() - started


def proxy_environment() -> dict[str, str]:
    """The environment for programs that fetch packages: apt's own proxy, when it has one."""
    environment = dict(os.environ, LC_ALL="C", DEBIAN_FRONTEND="noninteractive")
    line = call("apt-config", "dump", "--format", "%v%n", "Acquire::http::Proxy").strip()
    if line and line != "DIRECT" and "http_proxy" not in environment:
        environment["http_proxy"] = line
    return environment


def _debootstrap(directory: Path, recipe: Recipe, tree: Path) -> None:
    """Unpack `recipe` into `tree`; what happened is in log/SUITE."""
    debs, fresh, log = directory / "debs" / tree.name, tree.with_suffix(".new"), directory / "log" / tree.name
    for folder in (debs, tree.parent, log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(fresh, ignore_errors=True)
    where = mirror()
    argv = ["debootstrap", "--variant=minbase", f"--include={','.join(recipe.packages)}", f"--cache-dir={debs}"]
    argv += [recipe.suite, str(fresh), *([where] if where else [])]
    with log.open("w") as out:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=proxy_environment(), check=False
        )
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise LabError(f"debootstrap {recipe.suite} failed with status {done.returncode} (log: {log}):\n{tail}")
    fresh.rename(tree)
    shutil.rmtree(debs)


def _sid_on_trixie(directory: Path, recipe: Recipe, tree: Path) -> None:
    """sid moves and at times does not bootstrap: then sid's containerd and runc are unpacked over a trixie tree."""
    trixie, fresh = _tree(directory, RECIPES["trixie"]), tree.with_suffix(".new")
    if not trixie.exists():
        _debootstrap(directory, RECIPES["trixie"], fresh)
    else:
        shutil.rmtree(fresh, ignore_errors=True)
        call("cp", "-a", trixie, fresh, timeout=300)
    where = mirror()
    if where is None:
        raise LabError("this machine's apt sources name no mirror that sid could come from")
    (fresh / "etc/apt/sources.list").write_text(f"deb {where} sid main\n")
    shutil.copy("/etc/resolv.conf", fresh / "etc/resolv.conf")
    # a mirror may be a frozen one
    apt = "apt-get -q -o Acquire::Check-Valid-Until=false"
    script = f"cd /tmp; {apt} update; {apt} download containerd runc; for d in *.deb; do dpkg -x $d /; rm $d; done"
    call("chroot", fresh, "/bin/sh", "-ec", script, env=proxy_environment(), timeout=300)
    fresh.rename(tree)


def _prepare(directory: Path, recipe: Recipe, tree: Path) -> None:
    """Run the preparation script over `tree`; only what it changes becomes the layer."""
    layer = _layer(directory, recipe)
    work = directory / "prepared" / f"{recipe.suite}.work"
    if (work / "root").is_mount():
        call("umount", "-R", work / "root")
    for folder in (layer, work):
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("upper", "work", "root"):
        (work / name).mkdir(parents=True)
    root = work / "root"
    options = f"lowerdir={tree},upperdir={work / 'upper'},workdir={work / 'work'}"
    call("mount", "-t", "overlay", "gpuwizard-lab", "-o", options, root)
    try:
        call("chroot", root, "/bin/sh", "-s", stdin=(IMAGE / "prepare.sh").read_text())
        versions = {
            "containerd": _version(call("chroot", root, "containerd", "--version")),
            "systemd": call("chroot", root, "systemctl", "--version").split()[1],
            "openssh": call("chroot", root, "sh", "-c", "sshd -V 2>&1 | grep -o OpenSSH_[0-9a-z.]*").strip(),
        }
    finally:
        call("umount", root)
    (work / "upper").rename(layer)
    shutil.rmtree(work)
    _metadata(directory, recipe).write_text(json.dumps(versions))


def _version(text: str) -> str:
    """The version in ``containerd --version``: its third word, as Debian writes it."""
    match = _VERSION.search(text.split(" ", 2)[2])
    if match is None:
        raise LabError(f"no version in {text!r}")
    return match.group(1)
