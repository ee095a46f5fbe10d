"""Rules about errors in a GPU's memory and the repairs that wait for a reset."""

from gpuwizard.facts.model import Gpu, Probe
from gpuwizard.findings.gpu.words import each
from gpuwizard.findings.rule import Rule, Verdict

__all__ = ["RULES"]


def _uncorrected(probe: Probe) -> Verdict | None:
    def said(gpu: Gpu) -> str | None:
        count = gpu.ecc_uncorrected
        return f"ecc.errors.uncorrected.volatile.total = {count}" if count is not None and count > 0 else None

    return each(probe, said)


def _failed(probe: Probe) -> Verdict | None:
    return each(probe, lambda gpu: "remapped_rows.failure = Yes" if gpu.remap_failed else None)


def _pending(probe: Probe) -> Verdict | None:
    def said(gpu: Gpu) -> str | None:
        waits = [
            f"{column} = Yes"
            for column, flag in (
                ("remapped_rows.pending", gpu.remap_pending),
                ("retired_pages.pending", gpu.retired_pending),
            )
            if flag
        ]
        return ", ".join(waits) or None

    return each(probe, said)


RULES = (
    Rule(
        "GW-GPU-009",
        "warning",
        "a GPU had memory errors that could not be corrected",
        "Since the driver was loaded the GPU's memory returned wrong data that ECC could see and not mend.",
        "Restart what was running on the GPU. Reset it at the next drain, so that the bad rows are replaced; when the "
        "count grows again afterwards, have the card replaced.",
        _uncorrected,
        ("hosts.md §4.4",),
        effect="The process that used the memory was killed, or computed with wrong data. More of it is likely.",
        detected="nvidia-smi's count ecc.errors.uncorrected.volatile.total is above zero.",
        messages=("CUDA error: uncorrectable ECC error encountered", "Xid 48", "Xid 95"),
        sources=("docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt",),
        instead_of=("GW-DRIVER-064",),
    ),
    Rule(
        "GW-GPU-010",
        "error",
        "a GPU's memory cannot be repaired any more",
        "Replacing a bad row failed: no spare row is left for that part of the memory.",
        "Take the node out of service, run NVIDIA's field diagnostic, and have the card replaced.",
        _failed,
        ("hosts.md §4.4",),
        effect="Memory errors will come back, and each of them kills what runs on the GPU.",
        detected="nvidia-smi's column remapped_rows.failure is Yes.",
        messages=("Remapping Failure Occurred : Yes", "Xid 64"),
        sources=("docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt",),
        instead_of=("GW-GPU-009", "GW-GPU-011", "GW-GPU-012", "GW-DRIVER-064"),
    ),
    Rule(
        "GW-GPU-011",
        "warning",
        "a repair of GPU memory waits for a reset",
        "Bad memory was found. It is replaced (Ampere and later) or retired (before) when the GPU is reset.",
        "At the next drain run `nvidia-smi --gpu-reset -i N` as root, or reboot. What runs now may go on.",
        _pending,
        ("hosts.md §4.4",),
        effect="Until then the bad memory stays in use by what holds it.",
        detected="nvidia-smi's column remapped_rows.pending or retired_pages.pending is Yes.",
        messages=("Remapped Rows", "Pending Page Blacklist : Yes", "Xid 63"),
        sources=("docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt", "docs.nvidia.com/deploy/dynamic-page-retirement"),
        instead_of=("GW-GPU-009", "GW-GPU-012", "GW-DRIVER-064"),
    ),
)
