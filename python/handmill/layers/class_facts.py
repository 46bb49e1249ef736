"""What a class of layers says with its methods, found once: when the class is made."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from handmill.layers.arguments import positional


def note_methods(kind: Any) -> None:
    """Notes which arguments ``call`` takes, and lets ``build`` mark layers as built.

    Args:
        kind: a new class of layers; methods that it inherits are known.
    """
    if "build" in kind.__dict__:
        kind.build = _marking_built(kind.build)
    if "call" in kind.__dict__:
        parameters = inspect.signature(kind.call).parameters
        kind._call_parameters = tuple(parameters)[1:]
        kind._first_parameter = next(iter(positional(kind.call)), "")
        kind._call_takes_training = "training" in parameters
        kind._call_takes_masks = any(p == "mask" or p.endswith("_mask") for p in parameters)
        default = parameters["training"].default if kind._call_takes_training else None
        kind._training_default = bool(default) if isinstance(default, bool) else False


def _marking_built(build: Any) -> Any:
    @functools.wraps(build)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        self._place()
        before, self._is_built_again = self._is_built_again, self._has_been_built
        try:
            with self._name_scope():
                build(self, *args, **kwargs)
        finally:
            self._is_built_again = before
        self.built = self._has_been_built = True
        if self._build_shapes is None and args:
            self._build_shapes = args[0]

    return wrapped


def check_may_grow(layer: Any) -> None:
    """Raises ValueError where the ``build`` of a layer that is built makes weights again."""
    if layer._is_built_again:
        raise ValueError(
            f"Layer {layer.name!r} is already built: build() would add weights to those it has. "
            "Let a layer that calls build() of another one look at its `built` first."
        )
