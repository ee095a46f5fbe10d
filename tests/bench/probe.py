"""How long a look at N hosts takes: ``python tests/bench/probe.py [--lab [--varied]] [N …]``; default N is 1, 10, 50.

Logs in to N hosts and probes them, as `gpuwizard check` does, and prints wall and CPU seconds of this process.
Simulated hosts live in this very process, so that their servers' CPU counts as well; with ``--lab`` (root on Debian,
see tests/lab/README.md) the hosts are real and the CPU is the client's alone. Start-up (imports) is timed apart.
"""

import argparse
import asyncio
import importlib
import json
import resource
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

HOST = """
[hosts.node-{number:03d}]
summary = "one of many"
distro = "debian-12"
gpus = ["H100", "H100"]
driver = "580.95.05"
toolkit = "1.18.0"
containerd = "2.1.4"
kubernetes = {{ flavour = "kubeadm", role = "worker", version = "v1.34.1" }}
"""


def cpu() -> float:
    """CPU seconds of this process so far, its children apart."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(session: "object", names: tuple[str, ...]) -> dict[str, float]:
    """Probe `names` cold (login and probe), then again over the open connections."""
    from gpuwizard import flow
    from gpuwizard.session import Session
    from gpuwizard.unattended import Unattended

    assert isinstance(session, Session)
    session.set_hosts(names)
    figures = {}
    for kind in ("cold", "warm"):
        wall, used = time.perf_counter(), cpu()
        await flow.probe(session, lambda _: None, Unattended())
        figures[f"{kind} wall s"] = time.perf_counter() - wall
        figures[f"{kind} cpu ms/host"] = (cpu() - used) * 1000 / len(names)
        if session.unreachable:
            raise SystemExit(f"hosts did not answer: {session.unreachable}")
    await flow.close(session)
    return figures


async def simulated(count: int) -> dict[str, float]:
    """`count` simulated hosts of a fleet that is made for this."""
    from gpuwizard.fleet import open_fleet
    from gpuwizard.session import Session

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        description = Path(folder) / "many.toml"
        description.write_text('summary = "many"\n' + "".join(HOST.format(number=n) for n in range(count)))
        async with AsyncExitStack() as stack:
            fleet = await stack.enter_async_context(open_fleet(str(description), state_dir=Path(folder) / "state"))
            session = Session(fleet=fleet, clock=fleet.clock)
            return await measure(session, fleet.targets)


def in_lab(counts: list[int], *, varied: bool) -> list[dict[str, float]]:
    """Real hosts: as many as the largest count, booted once."""
    from gpuwizard.session import Session
    from tests.bench.lab_hosts import lab_fleet

    with lab_fleet(max(counts), varied=varied) as fleet:
        figures = []
        for count in counts:
            session = Session()
            session.login = fleet.lab.options()
            figures.append(asyncio.run(measure(session, fleet.names[:count])))
        return figures


def main() -> None:
    """Print one line of JSON per N."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hosts", type=int, nargs="*", default=[1, 10, 50])
    parser.add_argument("--lab", action="store_true", help="real hosts instead of simulated ones")
    parser.add_argument("--varied", action="store_true", help="let every real host have other contents in its files")
    arguments = parser.parse_args()
    used = cpu()
    for module in ("asyncssh", "gpuwizard.flow", "gpuwizard.remote.pool", "gpuwizard.work.probe"):
        importlib.import_module(module)
    print(json.dumps({"start-up cpu s": round(cpu() - used, 2)}), flush=True)
    if arguments.lab:
        results = in_lab(arguments.hosts, varied=arguments.varied)
    else:
        results = [asyncio.run(simulated(count)) for count in arguments.hosts]
    for count, figures in zip(arguments.hosts, results, strict=True):
        print(json.dumps({"hosts": count} | {key: round(value, 2) for key, value in figures.items()}), flush=True)


if __name__ == "__main__":
    main()
