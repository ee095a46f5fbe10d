"""The probe's raw output made into facts: pure, and never an exception, whatever the bytes are."""

from gpuwizard.clean import clean
from gpuwizard.facts.driver.read import read_driver
from gpuwizard.facts.gpu.read import read_gpus
from gpuwizard.facts.kubernetes.read import read_kubernetes
from gpuwizard.facts.look import Look, look_at
from gpuwizard.facts.model import HostFacts, Probe, Unseen
from gpuwizard.facts.runtimes.inputs import Predict
from gpuwizard.facts.runtimes.read import read_runtimes
from gpuwizard.facts.system.read import read_system
from gpuwizard.facts.text import value
from gpuwizard.facts.toolkit.read import components, read_operator, read_toolkit, toolkit_unseen

__all__ = ["parse_probe"]


def parse_probe(
    raw: bytes, *, seconds: float = 0.0, received: float | None = None, predict: Predict | None = None
) -> Probe:
    """Facts and files from what probe.sh printed. Never raises: what is missing or garbled is None and named in
    `unseen`. `seconds` is how long the probe took, `received` when its answer was there (seconds since the epoch).
    `predict` tells what a containerd makes of its files where the host itself was not asked."""
    look = look_at(raw, seconds=seconds, received=received)
    system = read_system(look)
    gpus = read_gpus(look)
    driver = read_driver(look, system.kernel, gpus, immutable=system.os.immutable)
    kubernetes, endpoint = read_kubernetes(look, system.hostname)
    facts = HostFacts(
        os=system.os,
        kernel=system.kernel,
        gpus=gpus.gpus,
        driver=driver,
        toolkit=read_toolkit(look, gpus.gpus, driver),
        runtimes=read_runtimes(look, kubernetes, endpoint, predict),
        kubernetes=kubernetes,
        components=components(look),
        privilege=system.privilege,
        unseen=(*_unseen(look), *gpus.unseen, *toolkit_unseen(look)),
        hostname=system.hostname,
        boot_id=system.boot_id,
        memory_bytes=system.memory_bytes,
        nvswitches=sum(device.kind == "nvswitch" for device in gpus.others),
        state=system.state,
        other_devices=gpus.others,
        operator=read_operator(look),
    )
    return Probe(facts, look.files, readable=look.root, seconds=seconds)


def _unseen(look: Look) -> tuple[Unseen, ...]:
    frames, found = look.frames, []
    for line in clean(frames.text("unseen") or "").splitlines():
        what, bar, why = line.partition("|")
        if bar:
            found.append(Unseen(value(what) or "?", value(why) or "?"))
    found += [Unseen(value(path) or "?", "its content did not arrive whole") for path in look.broken]
    if frames.get("begin") is None:
        found.append(Unseen("everything", "the probe printed nothing that could be read"))
    elif not frames.complete:
        last = next((s.name for s in reversed(frames.sections) if s.name != "step"), "begin")
        found.append(Unseen("the rest of the host", f"the probe was cut off after its section {last}"))
    return tuple(found)
