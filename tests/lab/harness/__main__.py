"""The lab by hand: ``python -m tests.lab.harness build | clean | containerds | up HOST…`` (root)."""

import argparse
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.lab.harness.base import Base, build_bases, lab_directory
from tests.lab.harness.lab import STANDARD, Lab, clean_stale
from tests.lab.harness.recipe import SUITES


def main() -> None:
    """Build the trees, remove what a killed run left, name the containerd binaries, or boot hosts until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.harness", description=__doc__)
    parser.add_argument("verb", choices=("build", "clean", "containerds", "up"))
    parser.add_argument("host", nargs="*", help=", ".join(STANDARD))
    arguments = parser.parse_args()
    match arguments.verb:
        case "clean":
            print("cleaned:", *(f"10.{slot}" for slot in clean_stale()))
        case "build":
            build_bases(SUITES, lab_directory(), print)
        case "containerds":
            bases = build_bases(SUITES, lab_directory(), lambda _: None)
            print(":".join(str(next(containerds_of(base))) for base in bases.values()))
        case _:
            _up(arguments.host or list(SUITES))


def containerds_of(base: Base) -> Iterator[Path]:
    """Where a base tree's containerd lies: the uppermost layer that has it."""
    return (path for layer in base.layers if (path := layer / "usr/bin/containerd").exists())


def _up(names: list[str]) -> None:
    stop = {signal.SIGINT, signal.SIGTERM}
    lab = Lab(build_bases(SUITES, lab_directory(), print), lab_directory())
    try:
        for host in lab.start([STANDARD[name] for name in names]):
            print(f"{host.name:<10} containerd {host.containerd:<14} ssh -F {lab.ssh_config} admin@{host.name}")
        print("Ctrl-C ends them", flush=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, stop)
        signal.sigwait(stop)
    finally:
        lab.close()


main()
