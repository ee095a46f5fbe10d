"""The device plugin, which announces nvidia.com/gpu on every node with our label (`kubernetes.md §2`)."""

from hashlib import sha256
from typing import Any

import yaml

from gpuwizard.answers.model import Answers
from gpuwizard.steps.identity import (
    CONFIG_ANNOTATION,
    GPU_LABEL,
    PLUGIN_NAME,
    RUNTIME_CLASS,
    owned_labels,
)

__all__ = ["config_text", "manifests"]

_SOCKETS = "/var/lib/kubelet/device-plugins"
_CONFIG_FILE = "config.yaml"


def manifests(answers: Answers) -> tuple[dict[str, Any], ...]:
    """Namespace, configuration and DaemonSet, in the order in which they are applied."""
    namespace = answers.kubernetes.namespace
    config = config_text(answers)
    return (_namespace(namespace), _config_map(namespace, config), _daemon_set(namespace, config, answers))


def config_text(answers: Answers) -> str:
    """The plugin's configuration, schema v1 (`kubernetes.md §2.4`): one GPU a pod, or time-slicing."""
    config: dict[str, Any] = {"version": "v1", "flags": {"migStrategy": "none"}}
    if answers.sharing.mode == "time-slicing":
        config["sharing"] = {
            "timeSlicing": {
                "renameByDefault": False,
                "failRequestsGreaterThanOne": True,
                "resources": [{"name": "nvidia.com/gpu", "replicas": answers.sharing.replicas}],
            }
        }
    return yaml.safe_dump(config, sort_keys=False)


def _namespace(name: str) -> dict[str, Any]:
    """The plugin mounts a host folder, which only the level `privileged` of Pod Security lets it do."""
    level = {f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "audit", "warn")}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {**owned_labels("gpuwizard"), **level}},
    }


def _config_map(namespace: str, config: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": PLUGIN_NAME, "namespace": namespace, "labels": owned_labels(PLUGIN_NAME)},
        "data": {_CONFIG_FILE: config},
    }


def _daemon_set(namespace: str, config: str, answers: Answers) -> dict[str, Any]:
    """A changed configuration changes the pod template's annotation: the plugin reads its file only at start."""
    select = {"app.kubernetes.io/name": PLUGIN_NAME}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": PLUGIN_NAME, "namespace": namespace, "labels": owned_labels(PLUGIN_NAME)},
        "spec": {
            "selector": {"matchLabels": select},
            "updateStrategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {
                    "labels": owned_labels(PLUGIN_NAME),
                    "annotations": {CONFIG_ANNOTATION: sha256(config.encode()).hexdigest()[:16]},
                },
                "spec": _pod_spec(answers.install.device_plugin_image),
            },
        },
    }


def _pod_spec(image: str) -> dict[str, Any]:
    return {
        "runtimeClassName": RUNTIME_CLASS,
        "priorityClassName": "system-node-critical",
        "nodeSelector": {GPU_LABEL: "true"},
        "tolerations": [{"operator": "Exists"}],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 5,
        "containers": [
            {
                "name": "device-plugin",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "env": [
                    {"name": "CONFIG_FILE", "value": f"/config/{_CONFIG_FILE}"},
                    {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"},
                    {"name": "NVIDIA_DRIVER_CAPABILITIES", "value": "compute,utility"},
                ],
                "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [
                    {"name": "device-plugins", "mountPath": _SOCKETS},
                    {"name": "config", "mountPath": "/config", "readOnly": True},
                ],
            }
        ],
        "volumes": [
            {"name": "device-plugins", "hostPath": {"path": _SOCKETS, "type": "Directory"}},
            {"name": "config", "configMap": {"name": PLUGIN_NAME}},
        ],
    }
