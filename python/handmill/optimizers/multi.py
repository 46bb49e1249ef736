"""MultiOptimizer: an optimizer for each variable."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from handmill.errors import warn_caller
from handmill.ir.trace import apply
from handmill.optimizers.base import Optimizer
from handmill.optimizers.loss_scale import LossScaleOptimizer
from handmill.optimizers.patterns import check_pattern
from handmill.primitives.cast import INCREMENT
from handmill.runtime.variable import Variable
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object

FIRST = "first_places"
"""Key of a config, there only where an optimizer stands in several places: for the default and for
each pattern, the first place of the same one. Keras has no such key and makes several."""


class OptimizerMap(MutableMapping[str, Any]):
    """Optimizers by the paths of variables, or by patterns of them.

    Args:
        default_optimizer: of variables that nothing else fits.
        optimizer_map: a dict: path, or regular expression that matches the whole path ->
            optimizer.

    Raises:
        TypeError: for anything but an optimizer and a dict.

    Example:
        >>> from handmill import optimizers
        >>> chosen = optimizers.OptimizerMap(optimizers.SGD())
        >>> chosen["encoder/.*"] = optimizers.Adam()
        >>> type(chosen["encoder/dense/kernel"]).__name__, type(chosen["head/kernel"]).__name__
        ('Adam', 'SGD')
    """

    def __init__(
        self, default_optimizer: Any, optimizer_map: Mapping[str, Any] | None = None
    ) -> None:
        if not isinstance(default_optimizer, Optimizer):
            raise TypeError(
                f"default_optimizer must be an optimizer. Received: {default_optimizer!r}"
            )
        if optimizer_map is not None and not isinstance(optimizer_map, dict):
            raise TypeError(f"optimizer_map must be a dictionary. Received: {optimizer_map!r}")
        self._default_optimizer = default_optimizer
        self._optimizer_map: dict[str, Any] = {}
        for key, optimizer in (optimizer_map or {}).items():
            self[key] = optimizer

    @property
    def default_optimizer(self) -> Any:
        """The optimizer of variables that nothing else fits."""
        return self._default_optimizer

    def __getitem__(self, key: str) -> Any:
        if key in self._optimizer_map:
            return self._optimizer_map[key]
        fitting = [pattern for pattern in self._optimizer_map if re.fullmatch(pattern, key)]
        if len(fitting) > 1:
            raise ValueError(
                f"Multiple optimizers assigned to variable {key}: {fitting} all match its path"
            )
        return self._optimizer_map[fitting[0]] if fitting else self._default_optimizer

    def __setitem__(self, key: str, optimizer: Any) -> None:
        if not isinstance(key, str):
            raise ValueError(f"key must be a string. Received: {key!r}")
        if key in self._optimizer_map:
            raise ValueError(
                f"{key!r} already exists in the OptimizerMap with value "
                f"{self._optimizer_map[key]}: delete it first"
            )
        if not isinstance(optimizer, Optimizer):
            raise ValueError(f"optimizer must be an optimizer. Received: {optimizer!r}")
        _refuse_wrappers(optimizer)
        try:
            re.compile(key)
        except re.error as error:
            raise ValueError(
                f"key must be the path of a variable or a regular expression for paths: {error}. "
                f"Received: {key!r}"
            ) from None
        self._optimizer_map[key] = optimizer

    def __delitem__(self, key: str) -> None:
        del self._optimizer_map[key]

    def __len__(self) -> int:
        return len(self._optimizer_map)

    def __iter__(self) -> Iterator[str]:
        return iter(self._optimizer_map)

    def __call__(self, variable: Variable) -> Any:
        """Returns the optimizer of ``variable``."""
        return self[variable.path]

    def unused(self, paths: Sequence[str]) -> list[str]:
        """Returns the keys that fit none of some paths."""
        known = set(paths)
        return [
            key
            for key in self._optimizer_map
            if key not in known and not any(re.fullmatch(key, path) for path in paths)
        ]

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data.

        Raises:
            ValueError: for patterns that no file can hold.
        """
        for pattern in self._optimizer_map:
            check_pattern(pattern)
        config = {
            "default_optimizer": serialize_keras_object(self._default_optimizer),
            "optimizer_map": serialize_keras_object(self._optimizer_map),
        }
        all_of_them = [self._default_optimizer, *self._optimizer_map.values()]
        first = [next(i for i, o in enumerate(all_of_them) if o is one) for one in all_of_them]
        return config if first == list(range(len(first))) else {**config, FIRST: first}

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Any:
        """Makes a map from its config."""
        from handmill.optimizers.registry import deserialize

        given = config["optimizer_map"]
        if not isinstance(given, Mapping):
            raise TypeError(f"optimizer_map must be a dictionary. Received: {given!r}")
        patterns = [check_pattern(pattern) for pattern in given]
        configs = [config["default_optimizer"], *given.values()]
        made: list[Any] = []
        for place, first in enumerate(_checked_places(config.get(FIRST), len(configs))):
            made.append(
                made[first] if first < place else deserialize(configs[place], custom_objects)
            )
        return cls(made[0], dict(zip(patterns, made[1:], strict=True)))


class MultiOptimizer(Optimizer):
    """Updates each variable by an optimizer of its own choice.

    Args:
        optimizer_map: an :class:`OptimizerMap`, or a function ``variable -> optimizer``.
        loss_scale_factor: factor of the loss before gradients are taken; replaces that of each
            optimizer.
        name: default: the class name in snake case.

    Example:
        >>> from handmill import optimizers
        >>> chosen = optimizers.OptimizerMap(optimizers.SGD(), {".*/bias": optimizers.Adam()})
        >>> [type(o).__name__ for o in optimizers.MultiOptimizer(chosen).optimizers]
        ['Adam', 'SGD']
    """

    def __init__(
        self, optimizer_map: Any, loss_scale_factor: float | None = None, name: str | None = None
    ) -> None:
        if not callable(optimizer_map):
            raise TypeError(
                "`optimizer_map` must be an OptimizerMap or a function that takes a variable and "
                f"returns its optimizer. Received: {optimizer_map!r}"
            )
        super().__init__(0.0, loss_scale_factor=loss_scale_factor, name=name)
        self._optimizer_map = optimizer_map
        self._inner_optimizers: list[Optimizer] = []
        self._choices: list[int] = []
        for optimizer in [
            *(optimizer_map.values() if hasattr(optimizer_map, "values") else ()),
            getattr(optimizer_map, "default_optimizer", None),
        ]:
            if optimizer is not None:
                self._place_of(optimizer)

    _undescribed = frozenset({"_optimizer_map"})  # what it says stands in _choices

    @property
    def loss_scale_factor(self) -> float | None:
        """Factor of the loss before gradients are taken; the same for each optimizer."""
        found: float | None = self.__dict__["loss_scale_factor"]
        return found

    @loss_scale_factor.setter
    def loss_scale_factor(self, value: float | None) -> None:
        self.__dict__["loss_scale_factor"] = value
        for optimizer in self.__dict__.get("_inner_optimizers", ()):
            optimizer.loss_scale_factor = value

    def _place_of(self, optimizer: Optimizer) -> int:
        for place, known in enumerate(self._inner_optimizers):
            if known is optimizer:
                return place
        optimizer.loss_scale_factor = self.loss_scale_factor
        self._inner_optimizers.append(optimizer)
        return len(self._inner_optimizers) - 1

    def build_slots(self, variables: list[Variable]) -> None:
        """Asks for the optimizer of each variable, and lets them make their slots."""
        chosen = [self._optimizer_map(variable) for variable in variables]
        if isinstance(self._optimizer_map, OptimizerMap):
            paths = [variable.path for variable in variables]
            if unused := self._optimizer_map.unused(paths):
                warn_caller(
                    f"{self.name}: none of the variables to be trained has a path that fits "
                    f"{', '.join(map(repr, unused))}, as a whole; what stands there has no effect. "
                    f"Their paths: {', '.join(paths[:6])}{', ...' if len(paths) > 6 else ''}"
                )
        for variable, optimizer in zip(variables, chosen, strict=True):
            if not isinstance(optimizer, Optimizer):
                raise ValueError(
                    f"Optimizer for variable {variable.path} is not an Optimizer instance. "
                    f"Received: {optimizer!r}"
                )
            _refuse_wrappers(optimizer)
        self._choices = [self._place_of(optimizer) for optimizer in chosen]
        for place, optimizer in enumerate(self._inner_optimizers):
            own = [v for v, choice in zip(variables, self._choices, strict=True) if choice == place]
            if own and not optimizer.built:
                optimizer.build(own)

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers, in the order in which they were first named."""
        return self._inner_optimizers

    @property
    def variables(self) -> list[Variable]:
        """All state: its own, then that of each optimizer."""
        return [*self._variables, *(v for o in self._inner_optimizers for v in o.variables)]

    @property
    def iterations(self) -> Any:
        """The number of steps made."""
        return self._iterations

    @property
    def learning_rate(self) -> Any:
        """There is none: each optimizer has its own."""
        raise AttributeError(
            "Learning rate cannot be accessed on a MultiOptimizer. Access the learning rate of "
            "the individual optimizers: optimizer.optimizers[0].learning_rate"
        )

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        raise AttributeError(
            "Learning rate cannot be set on a MultiOptimizer. Set the learning rate of the "
            "individual optimizers: optimizer.optimizers[0].learning_rate = ..."
        )

    def exclude_from_weight_decay(
        self, var_list: Sequence[Variable] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Exempts variables from the weight decay of every optimizer known so far."""
        if not self._inner_optimizers:
            raise ValueError(
                "the optimizers of this MultiOptimizer are not known before it is built: call "
                "exclude_from_weight_decay() on those that its function returns"
            )
        for optimizer in self._inner_optimizers:
            optimizer.exclude_from_weight_decay(var_list, var_names)

    def _shared_out(self, things: Sequence[Any], variables: Sequence[Variable]) -> list[list[Any]]:
        """``things``, one for each variable, by the optimizers of the variables."""
        found: list[list[Any]] = [[] for _ in self._inner_optimizers]
        for thing, variable in zip(things, variables, strict=True):
            found[self._choices[self._get_variable_index(variable)]].append(thing)
        return found

    def _apply_to_values(self, grads: list[Any], variables: list[Variable]) -> None:
        # Some of the variables are enough, as for any optimizer: layers may have been frozen since.
        by_optimizer = zip(
            self._inner_optimizers,
            self._shared_out(grads, variables),
            self._shared_out(variables, variables),
            strict=True,
        )
        for optimizer, own_grads, own in by_optimizer:
            if own:
                optimizer._apply_to_values(own_grads, own)
        self._iterations.assign(apply(INCREMENT, self._iterations.value))

    @property
    def finalizes(self) -> bool:
        """Whether one of the optimizers has running means."""
        return any(optimizer.finalizes for optimizer in self._inner_optimizers)

    def finalize_variable_values(self, var_list: Sequence[Variable]) -> None:
        """Sets variables to the running means of their optimizers, where there are any."""
        if self.built:
            known = [v for v in var_list if id(v) in self._index]
            own = self._shared_out(known, known)
            for optimizer, variables in zip(self._inner_optimizers, own, strict=True):
                optimizer.finalize_variable_values(variables)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "optimizer_map": serialize_keras_object(self._optimizer_map),
            "loss_scale_factor": self.loss_scale_factor,
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Any:
        """Makes an optimizer from its config."""
        arguments = dict(config)
        chosen = deserialize_keras_object(
            arguments.pop("optimizer_map"), custom_objects, kind="map of optimizers"
        )
        return cls(chosen, **arguments)


def _checked_places(places: Any, count: int) -> list[int]:
    """Where each of ``count`` optimizers stands first, as a config says.

    Raises:
        ValueError: for anything but earlier places.
    """
    found = list(range(count)) if places is None else places
    if (
        not isinstance(found, list)
        or len(found) != count
        or not all(type(f) is int and 0 <= f <= i for i, f in enumerate(found))
    ):
        raise ValueError(f"`{FIRST}` should hold {count} earlier places. Received: {places!r:.200}")
    return found


def _refuse_wrappers(optimizer: Optimizer) -> None:
    for kind in (LossScaleOptimizer, MultiOptimizer):
        if isinstance(optimizer, kind):
            raise ValueError(
                f"optimizer cannot be {kind.__name__}. {kind.__name__} cannot be used inside an "
                f"MultiOptimizer. Received: {optimizer!r}"
            )
