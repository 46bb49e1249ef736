"""How a model was compiled, from plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def revived_compile_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What ``get_compile_config`` made plain data of: arguments of ``compile``."""
    from handmill import optimizers
    from handmill.losses.registry import TABLE as LOSSES
    from handmill.metrics.registry import TABLE as METRICS
    from handmill.saving.objects import deserialize_keras_object

    def revive(value: Any, table: Mapping[str, Any]) -> Any:
        if isinstance(value, dict) and "class_name" in value:
            return deserialize_keras_object(value, module_objects=table)
        if isinstance(value, dict):
            return {key: revive(item, table) for key, item in value.items()}
        return [revive(v, table) for v in value] if isinstance(value, list) else value

    return {
        "optimizer": optimizers.get(config["optimizer"]),
        "loss": revive(config.get("loss"), LOSSES),
        "loss_weights": config.get("loss_weights"),
        "metrics": revive(config.get("metrics"), METRICS),
        "weighted_metrics": revive(config.get("weighted_metrics"), METRICS),
        "run_eagerly": config.get("run_eagerly", False),
        "steps_per_execution": config.get("steps_per_execution", 1),
    }
