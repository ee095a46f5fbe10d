"""The host's distribution, kernel, rights and state out of one probe."""

from dataclasses import dataclass

from gpuwizard.facts.look import Look
from gpuwizard.facts.model import HostState, KernelFacts, OsFacts, PrivilegeFacts
from gpuwizard.facts.system.os_release import kernel_facts, os_facts, secure_boot
from gpuwizard.facts.system.privilege import privilege_facts
from gpuwizard.facts.text import number, value

__all__ = ["System", "read_system"]


@dataclass(frozen=True, slots=True)
class System:
    """All that is known of the machine below its GPUs and runtimes. `memory_bytes` is its main memory."""

    os: OsFacts
    kernel: KernelFacts
    hostname: str | None
    boot_id: str | None
    memory_bytes: int | None
    privilege: PrivilegeFacts
    state: HostState


def read_system(look: Look) -> System:
    """The system facts of one probe."""
    frames = look.frames
    boot = frames.get("secure-boot")
    hostname, kernel = kernel_facts(frames.text("uname"), None if boot is None else secure_boot(boot.text, boot.status))
    memory = number((frames.text("memory") or "").partition(" ")[0])
    return System(
        os=os_facts(
            frames.text("os-release"),
            dgx_text=frames.text("dgx-release"),
            tegra_text=frames.text("tegra-release"),
            marks=look.marks,
            kernel_release=kernel.release,
        ),
        kernel=kernel,
        hostname=hostname,
        boot_id=value(frames.text("boot-id")),
        memory_bytes=memory * 1024 if memory is not None else None,
        privilege=privilege_facts(frames.text("privilege")),
        state=HostState(),
    )
