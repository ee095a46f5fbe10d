"""Names that tie gpuwizard's Kubernetes objects together: labels, annotations, object names."""

__all__ = [
    "CONFIG_ANNOTATION",
    "CORDONED_BY",
    "GPU_LABEL",
    "MANAGED_BY",
    "OWNER",
    "PLUGIN_NAME",
    "RUNTIME_CLASS",
    "owned_labels",
]

MANAGED_BY = "app.kubernetes.io/managed-by"
OWNER = "gpuwizard"
GPU_LABEL = "gpuwizard.dev/gpu"
CONFIG_ANNOTATION = "gpuwizard.dev/config"
CORDONED_BY = "gpuwizard.dev/cordoned-by"
"""On a node that a run has cordoned: the run's id."""
RUNTIME_CLASS = "nvidia"
PLUGIN_NAME = "nvidia-device-plugin"


def owned_labels(name: str) -> dict[str, str]:
    """The labels of an object that gpuwizard owns."""
    return {MANAGED_BY: OWNER, "app.kubernetes.io/name": name}
