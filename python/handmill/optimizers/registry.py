"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handmill.naming import known_names
from handmill.optimizers.adadelta import Adadelta
from handmill.optimizers.adafactor import Adafactor
from handmill.optimizers.adamax import Adamax
from handmill.optimizers.algorithms import SGD, Adagrad, Adam, AdamW, RMSprop
from handmill.optimizers.base import Optimizer
from handmill.optimizers.ftrl import Ftrl
from handmill.optimizers.lamb import Lamb
from handmill.optimizers.lion import Lion
from handmill.optimizers.loss_scale import LossScaleOptimizer
from handmill.optimizers.multi import MultiOptimizer, OptimizerMap
from handmill.optimizers.muon import Muon
from handmill.optimizers.nadam import Nadam
from handmill.optimizers.schedule_free import ScheduleFreeAdamW
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object

_CLASSES: tuple[type[Optimizer], ...] = (
    SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, Adafactor, Adamax, Ftrl, Lamb, Lion, Muon, Nadam,
    ScheduleFreeAdamW, LossScaleOptimizer, MultiOptimizer,
)  # fmt: skip
_TABLE = {cls.__name__.lower(): cls for cls in _CLASSES}
_ALL = ".*"


def get(identifier: Any) -> Optimizer | None:
    """Returns the optimizer that ``identifier`` means.

    Args:
        identifier: a name, an optimizer, a config dictionary, or None, which stays None. Or
            optimizers (or names) by patterns of the paths of variables, as an ``OptimizerMap`` has
            them, with ``".*"`` for all variables that no other pattern fits: a ``MultiOptimizer``.

    Raises:
        ValueError: for an unknown name; the message lists the known ones. For patterns without
            ``".*"``.

    Example:
        >>> type(get("adam")).__name__
        'Adam'
        >>> several = get({".*/bias": "sgd", ".*": "adam"})
        >>> [type(one).__name__ for one in several.optimizers]
        ['SGD', 'Adam']
    """
    if identifier is None or isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, dict) and "class_name" not in identifier:
        return _by_patterns(identifier)
    if isinstance(identifier, dict | str):
        return deserialize(identifier)
    if isinstance(identifier, type) and issubclass(identifier, Optimizer):
        return identifier()  # type: ignore[call-arg]
    raise ValueError(
        f"Could not interpret optimizer identifier: {identifier!r}. Expected a name, an "
        f"optimizer or a config dictionary. Known names: {', '.join(sorted(_TABLE))}."
    )


def _by_patterns(optimizers: Mapping[str, Any]) -> MultiOptimizer:
    if _ALL not in optimizers:
        raise ValueError(
            "optimizers by patterns of the paths of variables need one for all variables that no "
            f"other pattern fits: add the key {_ALL!r}. Received the keys: "
            f"{', '.join(map(repr, optimizers)) or 'none'}"
        )
    made = {pattern: get(one) for pattern, one in optimizers.items()}
    default = made.pop(_ALL)
    return MultiOptimizer(OptimizerMap(default, made))


def serialize(optimizer: Optimizer) -> Any:
    """Returns an optimizer as a config dictionary, without its state."""
    return serialize_keras_object(optimizer)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Optimizer:
    """Makes an optimizer from its name or config dictionary."""
    if isinstance(config, str):
        config = {"class_name": config, "config": {}}
    name = config.get("class_name")
    if isinstance(name, str) and name.lower() in _TABLE:
        config = {**config, "class_name": name.lower()}
    elif not config["config"] and isinstance(name, str):
        from handmill.saving.objects import get_registered_object

        if get_registered_object(name, custom_objects) is None:
            raise ValueError(known_names("optimizer", name, _TABLE))
    made = deserialize_keras_object(config, custom_objects, module_objects=_TABLE, kind="optimizer")
    if not isinstance(made, Optimizer):
        raise TypeError(f"{config!r} describes a {type(made).__name__}, not an optimizer")
    return made
