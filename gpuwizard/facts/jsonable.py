"""Facts in the JSON shape of the command line contract (`gpuwizard.facts/1`); unknown is null."""

import math
from collections.abc import Mapping
from typing import Any

from gpuwizard.facts.model import Gpu, HostFacts, RuntimeFacts

__all__ = ["facts_json"]


def facts_json(facts: HostFacts) -> dict[str, Any]:
    """`facts` as plain JSON values. Sizes in bytes."""
    system, kernel, driver, toolkit = facts.os, facts.kernel, facts.driver, facts.toolkit
    kubernetes, privilege = facts.kubernetes, facts.privilege
    return {
        "schema": "gpuwizard.facts/1",
        "os": {
            "id": system.id,
            "id_like": list(system.id_like),
            "version_id": system.version_id,
            "pretty_name": system.pretty_name,
            "family": system.family,
            "immutable": system.immutable,
            "dgx": system.dgx,
            "kind": system.kind,
        },
        "kernel": {"release": kernel.release, "arch": kernel.arch, "secure_boot": kernel.secure_boot},
        "gpus": [_gpu(gpu) for gpu in facts.gpus],
        "driver": {
            "loaded": driver.loaded,
            "on_disk": driver.on_disk,
            "userspace": driver.userspace,
            "next_kernel": driver.next_kernel,
            "flavour": driver.flavour,
            "problem": driver.problem,
            "problem_code": driver.problem_code,
            "newest_kernel": driver.newest_kernel,
            "kernels_without_module": list(driver.kernels_without_module),
        },
        "toolkit": {
            "version": toolkit.version,
            "runtime_path": toolkit.runtime_path,
            "mode": toolkit.mode,
            "cdi_specs": list(toolkit.cdi_specs),
        },
        "runtimes": [_runtime(runtime) for runtime in facts.runtimes],
        "kubernetes": {
            "flavour": kubernetes.flavour,
            "version": kubernetes.version,
            "role": kubernetes.role,
            "service": kubernetes.service,
            "data_dir": kubernetes.data_dir,
            "node_name": kubernetes.node_name,
            "templates": list(kubernetes.templates),
            "active": kubernetes.active,
        },
        "components": list(facts.components),
        "privilege": {"sudo": privilege.sudo, "user": privilege.user, "reason": privilege.reason},
        "unseen": [{"what": unseen.what, "why": unseen.why} for unseen in facts.unseen],
        "hostname": facts.hostname,
        "boot_id": facts.boot_id,
        "memory_bytes": facts.memory_bytes,
        "nvswitches": facts.nvswitches,
    }


def _gpu(gpu: Gpu) -> dict[str, Any]:
    return {
        "pci": gpu.pci,
        "pci_id": gpu.pci_id,
        "name": gpu.name,
        "uuid": gpu.uuid,
        "index": gpu.index,
        "memory_bytes": gpu.memory_bytes,
        "unified_memory": gpu.unified_memory,
        "compute_capability": gpu.compute_capability,
        "mig": gpu.mig,
        "mig_devices": list(gpu.mig_devices),
        "bound_driver": gpu.bound_driver,
        "seen_by": list(gpu.seen_by),
    }


def _runtime(runtime: RuntimeFacts) -> dict[str, Any]:
    return {
        "kind": runtime.kind,
        "version": runtime.version,
        "socket": runtime.socket,
        "config_path": runtime.config_path,
        "config_version": runtime.config_version,
        "imports": list(runtime.imports),
        "handlers": {
            name: {"runtime_type": handler.runtime_type, "options": _options(handler.options)}
            for name, handler in runtime.handlers.items()
        },
        "default_handler": runtime.default_handler,
        "used_by_kubelet": runtime.used_by_kubelet,
        "owner": runtime.owner,
        "unit": runtime.unit,
        "binary": runtime.binary,
        "cri": runtime.cri,
        "running": runtime.running,
        "effective_error": runtime.effective_error,
    }


def _options(options: Mapping[str, object]) -> dict[str, Any]:
    """TOML has dates, which JSON has not: anything that is no plain value is written out."""
    return {key: _plain(entry) for key, entry in options.items()}


def _plain(entry: object) -> Any:
    if isinstance(entry, Mapping):
        return {str(key): _plain(inner) for key, inner in entry.items()}
    if isinstance(entry, list | tuple):
        return [_plain(inner) for inner in entry]
    if isinstance(entry, float) and not math.isfinite(entry):  # TOML has these, JSON has not
        return str(entry)
    return entry if entry is None or isinstance(entry, bool | int | float | str) else str(entry)
