"""Copies of a model to try things on; the model itself, seeds and names stay as they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from handmill import optimizers, random, regularizers
from handmill.errors import keep_warnings
from handmill.layers import Dropout, Identity
from handmill.layers.layer import all_layers
from handmill.models.cloning import clone_model
from handmill.models.sequential import Sequential
from handmill.naming import kept_names
from handmill.optimizers.schedules import LearningRateSchedule
from handmill.runtime.variable import Variable

_PENALTIES = ("kernel_regularizer", "bias_regularizer", "activity_regularizer")
_WIDTHS = ("units", "filters")
_RANDOM = ("Dropout", "SpatialDropout", "AlphaDropout", "Gaussian", "Random")


@contextmanager
def untouched() -> Iterator[None]:
    """Leaves the seeds of handmill and the numbering of names as they were, however it ends.

    Warnings of copies that are trained inside are not given.
    """
    seeds = random.state()
    with kept_names(), keep_warnings():
        try:
            yield
        finally:
            random.restore_state(seeds)


@dataclass(frozen=True)
class Change:
    """How a copy differs from its model; by default not at all.

    Attributes:
        width: factor of the units and filters of hidden layers.
        dropout: rate of a Dropout before the last layer with weights; None: as it is.
        l2: L2 penalty of kernels; None: as it is.
        rate: factor of the learning rate.
        plain: whether dropout, noise, random changes of inputs and penalties are left out.
        optimizer: the optimizer, as data; None: as it is.
    """

    width: float = 1.0
    dropout: float | None = None
    l2: float | None = None
    rate: float = 1.0
    plain: bool = False
    optimizer: Mapping[str, Any] | None = field(default=None, hash=False)


class NoCopyError(ValueError):
    """A model that cannot be made anew from its configuration."""


def copy_of(model: Any) -> Any:
    """A model with the same weights and state of the optimizer, sharing nothing.

    Raises:
        NoCopyError: if its configuration does not make it again.
    """
    made = fresh(model, 0)
    _assign(model.weights, made.weights)
    if model.optimizer is not None and model.optimizer.built:
        if not made.optimizer.built:
            made.optimizer.build(made.trainable_variables)
        _assign(model.optimizer.variables, made.optimizer.variables)
    return made


def _assign(given: Any, made: Any) -> None:
    for old, new in zip(given, made, strict=True):
        new.assign(old.numpy())


def fresh(model: Any, seed: int, change: Change | None = None) -> Any:
    """The model made anew, with first weights, masks and orders of rows drawn from ``seed``.

    What the model does not learn (frozen layers, adapted preprocessing) has its weights from the
    start. Seeds of handmill move; call it under :func:`untouched`.

    Raises:
        NoCopyError: if its configuration does not make it again.
    """
    random.seed_all(seed)
    return made_anew(model, change)


def made_anew(model: Any, change: Change | None = None) -> Any:
    """As :func:`fresh`, with the next seeds that there are."""
    change = change or Change()
    make = _Making(model, change)
    try:
        with keep_warnings() as told:
            made = clone_model(model, clone_function=make, recursive=_has_graph(model))
            if not made.built:
                made.build(model.input_shape)
        for old, new in make.pairs:
            if hasattr(old, "adapt") or not old.trainable:
                _assign(old.weights, new.weights)
    except (TypeError, ValueError, NotImplementedError, AttributeError) as error:
        raise NoCopyError(f"{type(error).__name__}: {error}") from error
    if not made.compiled:
        raise NoCopyError("; ".join(text for text, _ in told) or "the copy is not compiled")
    _set_rate(made, change)
    return made


def maker(who: str, model: Any, notes: list[str]) -> Callable[[int], Any]:
    """What gives a compiled model with new weights for a seed.

    Args:
        who: the function that asks, for errors.
        model: a model, or a function without arguments that builds one.
        notes: takes what is noticed, in words.

    Raises:
        TypeError: for something else.
        ValueError: for a model that is not compiled.
    """
    if hasattr(model, "fit"):
        if not getattr(model, "compiled", False):
            raise ValueError(
                f"{who}() needs a compiled model, for example model.compile('adam', 'mse')"
            )
        return lambda seed: fresh(model, seed)
    if not callable(model):
        raise TypeError(
            f"{who}: expected a model or a function that builds one, received "
            f"{type(model).__name__}"
        )
    seen: list[Any] = []

    def build(seed: int) -> Any:
        random.seed_all(seed)
        root = random.state()["root"]
        made = model()
        if random.state()["root"] != root and not notes:
            notes.append(
                "build() sets a seed of its own, so that seeds have no effect. Leave "
                "set_random_seed() out of it"
            )
        if not getattr(made, "compiled", False):
            raise ValueError("build() must return a compiled model: call model.compile() in it")
        if any(made is other for other in seen):
            raise ValueError(
                "build() returned a model that it had returned before: make a new one inside of it"
            )
        seen.append(made)
        return made

    return build


def _has_graph(model: Any) -> bool:
    return isinstance(model, Sequential) or model._graph is not None


def _set_rate(made: Any, change: Change) -> None:
    """Takes another optimizer, or moves the rate of the one that is there."""
    if change.optimizer is not None:
        made.optimizer = optimizers.deserialize(json.loads(json.dumps(dict(change.optimizer))))
    if change.rate == 1.0:
        return
    rate = getattr(made.optimizer, "_learning_rate", None)
    if isinstance(rate, LearningRateSchedule):
        made.optimizer.learning_rate = _Scaled(rate, change.rate)
    elif isinstance(rate, Variable):
        made.optimizer.learning_rate = float(rate.read()) * change.rate
    else:
        raise NoCopyError(f"{type(made.optimizer).__name__} has no single learning rate")


class _Scaled(LearningRateSchedule):
    """A schedule times a factor."""

    def __init__(self, schedule: LearningRateSchedule, factor: float) -> None:
        self.schedule = schedule
        self.factor = factor

    def __call__(self, step: Any) -> Any:
        return self.schedule(step) * self.factor


class _Making:
    """Makes the layers of a copy from those of a model, with a change.

    Attributes:
        pairs: layers of the model, and what they became.
    """

    def __init__(self, model: Any, change: Change) -> None:
        self.change = change
        self.pairs: list[tuple[Any, Any]] = []
        inside = [layer for layer in all_layers(model) if not list(layer._flatten_layers())]
        self.last: Any = next((layer for layer in reversed(inside) if layer.weights), None)

    def __call__(self, layer: Any) -> Any:
        made = self._made(layer)
        self.pairs.append((layer, made))
        if layer is self.last and self.change.dropout:
            name = f"{layer.name}_dropped"
            return Sequential([Dropout(self.change.dropout), made], name=name)
        return made

    def _made(self, layer: Any) -> Any:
        change = self.change
        config = json.loads(json.dumps(layer.get_config()))
        if change.plain and type(layer).__name__.startswith(_RANDOM):
            return Identity(name=layer.name)
        if layer.trainable:
            self._changed(layer, config)
        made = type(layer).from_config(config)
        if hasattr(layer, "get_vocabulary"):  # what was learned from data is no weight
            made.build_from_config(json.loads(json.dumps(layer.get_build_config())) or {})
        return made

    def _changed(self, layer: Any, config: dict[str, Any]) -> None:
        change = self.change
        if layer is not self.last:
            for name in _WIDTHS:
                if isinstance(config.get(name), int):
                    config[name] = max(1, round(config[name] * change.width))
        if change.plain:
            config.update({name: None for name in _PENALTIES if name in config})
        if change.l2 is not None and "kernel_regularizer" in config:
            config["kernel_regularizer"] = regularizers.serialize(regularizers.L2(change.l2))
