"""A host in words: its findings with proof and remedy, and every fact that was seen or could not be seen."""

from collections.abc import Iterator

from textual.content import Content

from gpuwizard.facts.model import Gpu, HostFacts, RuntimeFacts
from gpuwizard.findings.model import Finding
from gpuwizard.session import HostRecord
from screens.widgets.lines import Line, heading, text
from screens.words import MARKS, STYLES, amount, plain

__all__ = ["fact_lines", "finding_lines"]

_UNKNOWN = "not known"


def finding_lines(record: HostRecord) -> Iterator[Line]:
    """What is right and wrong with one host, trouble first."""
    if record.error is not None:
        yield heading(Content.assemble(("✗ ", "$text-error"), "could not be looked at"))
        yield text(plain(record.error.what), 2)
        if record.error.where:
            yield text(plain(record.error.where, "$quiet"), 2)
        if record.error.remedy:
            yield _labelled("do", record.error.remedy)
        return
    if record.probe is None:
        yield text(Content.styled("not looked at yet: F2 goes back to the hosts", "$quiet"))
        return
    if not record.findings:
        yield text("nothing to remark")
    for finding in record.findings:
        yield from _finding(finding)
    if record.probe.facts.unseen:
        yield heading("Could not be seen")
        for unseen in record.probe.facts.unseen:
            yield text(Content.assemble("· ", plain(unseen.what), (": ", ""), plain(unseen.why, "$quiet")), 0, 2)


def _finding(finding: Finding) -> Iterator[Line]:
    style = STYLES[finding.severity]
    title = Content.assemble((f"{MARKS[finding.severity]} ", style), plain(finding.title), " ")
    yield Line(title.stylize("bold") + plain(finding.id, "$quiet"), 2)
    for evidence in finding.evidence:
        yield Line(Content.assemble(("  │ ", "$quiet"), plain(evidence, "$quiet")), 4)
    if finding.severity != "ok":
        if finding.cause:
            yield _labelled("why", finding.cause)
        if finding.remedy:
            yield _labelled("do", finding.remedy)
        if finding.fixable:
            yield Line(Content.assemble(("  ✓ ", "$text-success"), "gpuwizard's plan mends this"), 4)
    yield text()


def _labelled(label: str, words: str) -> Line:
    return Line(Content.assemble((f"  {label:<4}", "$text-accent"), plain(words)), 6)


def fact_lines(record: HostRecord) -> Iterator[Line]:
    """Every fact of `cli.md`, in groups; what is not known says so and is never "no"."""
    if record.probe is None:
        yield from finding_lines(record)
        return
    facts = record.probe.facts
    yield from _group("System", _system(facts))
    yield from _group("Driver and toolkit", _driver(facts))
    for number, gpu in enumerate(facts.gpus):
        yield from _group(f"GPU {gpu.index if gpu.index is not None else number}", _gpu(gpu))
    for runtime in facts.runtimes:
        used = {True: ", used by the kubelet", False: ", not used by the kubelet"}.get(runtime.used_by_kubelet or False)
        yield from _group(f"Runtime {runtime.kind}{used if runtime.used_by_kubelet is not None else ''}", _run(runtime))
    yield from _group("Kubernetes", _kubernetes(facts))
    if facts.components:
        yield heading("GPU components in place")
        for component in facts.components:
            yield text(plain(component), 2)


def _group(title: str, pairs: Iterator[tuple[str, object]]) -> Iterator[Line]:
    yield heading(plain(title))
    for name, value in pairs:
        shown = plain(value) if value not in (None, "", ()) else Content.styled(_UNKNOWN, "$quiet")
        yield Line(Content.assemble((f"  {name:<18}", "$quiet"), shown), 20)
    yield text()


def _words(flag: bool | None) -> str | None:
    return None if flag is None else "yes" if flag else "no"


def _system(facts: HostFacts) -> Iterator[tuple[str, object]]:
    yield "distribution", facts.os.pretty_name or facts.os.id
    if facts.os.dgx:
        yield "DGX OS", facts.os.dgx
    yield "kernel", " ".join(part for part in (facts.kernel.release, facts.kernel.arch) if part)
    yield "Secure Boot", _words(facts.kernel.secure_boot)
    yield "host name", facts.hostname
    yield "memory", amount(facts.memory_bytes) if facts.memory_bytes is not None else None
    yield "login", facts.privilege.user
    root = {"root": "the login is root", "nopasswd": "sudo without a password", "password": "sudo with a password"}
    yield "root", root.get(facts.privilege.sudo or "", "no way to root" if facts.privilege.sudo else None)


def _driver(facts: HostFacts) -> Iterator[tuple[str, object]]:
    driver = facts.driver
    yield "loaded", driver.loaded
    yield "on disk", driver.on_disk
    yield "libraries", driver.userspace
    yield "next kernel", driver.next_kernel
    yield "kernel modules", driver.flavour
    if driver.problem:
        yield "nvidia-smi says", driver.problem
    yield "toolkit", facts.toolkit.version
    yield "its runtime", facts.toolkit.runtime_path
    yield "its mode", facts.toolkit.mode
    yield "CDI files", ", ".join(facts.toolkit.cdi_specs)


def _gpu(gpu: Gpu) -> Iterator[tuple[str, object]]:
    yield "model", gpu.name
    yield "PCI", " ".join(part for part in (gpu.pci, gpu.pci_id) if part)
    yield "UUID", gpu.uuid
    shared = "one memory with the CPU: N/A" if gpu.unified_memory else None
    yield "memory", shared or (amount(gpu.memory_bytes) if gpu.memory_bytes is not None else None)
    yield "capability", gpu.compute_capability
    yield "MIG", gpu.mig
    yield "kernel driver", gpu.bound_driver


def _run(runtime: RuntimeFacts) -> Iterator[tuple[str, object]]:
    yield "version", runtime.version
    yield "unit", runtime.unit
    yield "socket", runtime.socket
    version = f" (version {runtime.config_version})" if runtime.config_version is not None else ""
    yield "configuration", f"{runtime.config_path}{version}" if runtime.config_path else None
    yield "imports", ", ".join(runtime.imports)
    yield "handlers", ", ".join(runtime.handlers)
    yield "default handler", runtime.default_handler
    yield "CRI", runtime.cri
    if runtime.effective_error:
        yield "could not be read", runtime.effective_error


def _kubernetes(facts: HostFacts) -> Iterator[tuple[str, object]]:
    yield "flavour", facts.kubernetes.flavour
    yield "version", facts.kubernetes.version
    yield "role", facts.kubernetes.role
    yield "node name", facts.kubernetes.node_name
    yield "unit", facts.kubernetes.service
    if facts.kubernetes.templates:
        yield "templates", ", ".join(facts.kubernetes.templates)
