"""What types CRI-O takes for the keys of its files: one of another type stops it like a mistake in the syntax.

By the structs of cri-o/cri-o pkg/config/config.go and internal/config/nri/nri.go, 1.18 to 1.36, which the decoder fills
strictly. Keys that are not
listed here are not judged: releases add some, and what no release knows is ignored.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from gpuwizard.clean import clean_line

__all__ = ["wrong_type"]

_TEXTS = {
    (): "root runroot imagestore storage_driver log_dir version_file version_file_persist clean_shutdown_file",
    ("api",): "listen stream_address stream_port stream_tls_cert stream_tls_key stream_tls_ca stream_idle_timeout",
    ("runtime",): "default_runtime default_mounts_file decryption_keys_path conmon conmon_cgroup seccomp_profile "
    "apparmor_profile cgroup_manager log_level log_filter namespaces_dir pinns_path infra_ctr_cpuset "
    "container_exits_dir container_attach_socket_dir bind_mount_prefix uid_mappings gid_mappings timezone",
    ("image",): "default_transport global_auth_file pause_image pause_image_auth_file pause_command signature_policy "
    "image_volumes",
    ("network",): "cni_default_network network_dir",
    ("nri",): "nri_listen nri_plugin_dir nri_plugin_config_dir",
    ("runtime", "runtimes", "*"): "runtime_path runtime_type runtime_root runtime_config_path monitor_path "
    "monitor_cgroup monitor_exec_cgroup container_min_memory seccomp_profile",
}
_SWITCHES = {
    (): "internal_wipe internal_repair",
    ("api",): "stream_enable_tls",
    ("runtime",): "selinux log_to_journald drop_infra_ctr read_only add_inheritable_capabilities "
    "device_ownership_from_security_context enable_criu_support hostnetwork_disable_selinux "
    "disable_hostport_mapping enable_pod_events",
    ("metrics",): "enable_metrics",
    ("nri",): "enable_nri",
    ("runtime", "runtimes", "*"): "privileged_without_host_devices inherit_default_runtime no_sync_log",
}
_NUMBERS = {
    ("api",): "grpc_max_send_msg_size grpc_max_recv_msg_size",
    ("runtime",): "pids_limit log_size_max ctr_stop_timeout minimum_mappable_uid minimum_mappable_gid",
    ("metrics",): "metrics_port",
}
_LISTS = {
    (): "storage_option",
    ("runtime",): "hooks_dir default_capabilities default_sysctls default_env allowed_devices additional_devices "
    "cdi_spec_dirs default_ulimits conmon_env absent_mount_sources_to_reject",
    ("image",): "insecure_registries pinned_images",
    ("network",): "plugin_dirs",
    ("runtime", "runtimes", "*"): "allowed_annotations monitor_env",
}
_TABLES = {
    (): "api runtime image network metrics tracing nri stats",
    ("runtime",): "runtimes workloads",
    ("runtime", "runtimes", "*"): "platform_runtime_paths default_annotations",
}
_Place: TypeAlias = tuple[str, ...]
_WANTED: dict[_Place, dict[str, str]] = {}
"""The kind of value for each key, by the table that it stands in; ``*`` is the name of a handler."""


def _learn(kind: str, keys: Mapping[Any, str]) -> None:
    for place, names in keys.items():
        _WANTED.setdefault(place, {}).update(dict.fromkeys(names.split(), kind))


_learn("a text", _TEXTS)
_learn("true or false", _SWITCHES)
_learn("a whole number", _NUMBERS)
_learn("a list of texts", _LISTS)
_learn("a table", _TABLES)


def wrong_type(document: Mapping[str, Any]) -> str | None:
    """The first key of one of CRI-O's files with a value that it cannot take, and why; None where there is none."""
    if "crio" not in document:
        return None
    crio = document["crio"]
    return _first(crio, ()) if isinstance(crio, dict) else _said(("crio",), "a table", crio)


def _first(table: Mapping[str, Any], place: _Place) -> str | None:
    wanted = _WANTED.get(place, {})
    for key, entry in table.items():
        kind = "a table" if place == ("runtime", "runtimes") else wanted.get(key)
        if kind is not None and not _is(kind, entry):
            return _said(("crio", *place, key), kind, entry)
        inner = (*place, "*" if place == ("runtime", "runtimes") else key)
        if kind == "a table" and (found := _first(entry, inner)) is not None:
            return found.replace(".*.", f".{clean_line(key)}.", 1)
    return None


def _is(kind: str, entry: Any) -> bool:
    match kind:
        case "a text":
            return isinstance(entry, str)
        case "true or false":
            return isinstance(entry, bool)
        case "a whole number":
            return isinstance(entry, int) and not isinstance(entry, bool)
        case "a list of texts":
            return isinstance(entry, list) and all(isinstance(item, str) for item in entry)
        case _:
            return isinstance(entry, dict)


def _said(path: _Place, kind: str, entry: Any) -> str:
    return f"{clean_line('.'.join(path))} is {_word(entry)}, and CRI-O takes {kind} there"


def _word(entry: Any) -> str:
    match entry:
        case bool():
            return "true or false"
        case str():
            return "a text"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or a time"
