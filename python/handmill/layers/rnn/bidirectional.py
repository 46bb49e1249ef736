"""Two recurrent layers, one from each end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from handmill import ops
from handmill.layers.layer import Layer
from handmill.layers.rnn.rnn import RNN, aligned_outputs
from handmill.runtime.watch import is_ours
from handmill.saving.objects import (
    deserialize_keras_object,
    serialize_keras_object,
    shared_objects,
)

_MODES = ("sum", "mul", "ave", "concat", None)
_COMMON = ("stateful", "return_sequences", "return_state")


class Bidirectional(Layer):
    """Goes along sequences in both directions, with a layer for each.

    Args:
        layer: a recurrent layer, such as ``LSTM(8)``. It is not used itself: both directions get
            new layers made from its config.
        merge_mode: what becomes of both outputs: "concat", "sum", "mul", "ave"; None: a tuple.
        weights: those of both layers to begin with, first those of the forward layer.
        backward_layer: the other direction; default: one like ``layer``, from the other end.
        **kwargs: ``name`` and the like.

    Call arguments:
        sequences: (batch, time, ...).
        initial_state: a list, half of it for each direction.
        mask: bool, (batch, time).
        training: whether there is dropout.

    Raises:
        ValueError: if the layers go the same way, or differ in what they return.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import LSTM, Bidirectional
        >>> Bidirectional(LSTM(4))(np.ones((2, 5, 3), "float32")).shape
        (2, 8)
    """

    def __init__(
        self,
        layer: Layer,
        merge_mode: str | None = "concat",
        weights: Sequence[Any] | None = None,
        backward_layer: Layer | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(layer, Layer):
            raise ValueError(
                "Please initialize `Bidirectional` layer with a `handmill.layers.Layer` instance. "
                f"Received: {layer}"
            )
        if backward_layer is not None and not isinstance(backward_layer, Layer):
            raise ValueError(
                "`backward_layer` need to be a `handmill.layers.Layer` instance. Received: "
                f"{backward_layer}"
            )
        for argument, given in (("layer", layer), ("backward_layer", backward_layer)):
            if given is not None and not hasattr(given, "go_backwards"):
                raise ValueError(
                    f"`{argument}` must go over sequences in both directions, as recurrent layers "
                    f"do: it needs a `go_backwards`. Received: {given}"
                )
        if merge_mode not in _MODES:
            raise ValueError(
                f"Invalid merge mode. Received: {merge_mode}. Merge mode should be one of "
                '{"sum", "mul", "ave", "concat", None}'
            )
        super().__init__(**kwargs)
        self.forward_layer: Any = _copy(layer, "forward_")
        self.backward_layer: Any = (
            _copy(layer, "backward_", go_backwards=True)
            if backward_layer is None
            else backward_layer
        )
        self._check_layers()
        both: list[Any] = [self.forward_layer, self.backward_layer]
        for inner in both:
            if hasattr(layer, "use_cudnn"):  # which no config holds
                inner.use_cudnn = layer.use_cudnn
            if getattr(inner, "zero_output_for_mask", None) is not None:
                inner.zero_output_for_mask = inner.return_sequences
        self.merge_mode = merge_mode
        self._first_weights = None if not weights else list(weights)
        self.stateful = self.forward_layer.stateful
        self.return_sequences = self.forward_layer.return_sequences
        self.return_state = self.forward_layer.return_state
        self.supports_masking = True
        self.input_spec = layer.input_spec

    def _check_layers(self) -> None:
        ways = [inner.go_backwards for inner in (self.forward_layer, self.backward_layer)]
        if ways[0] == ways[1]:
            raise ValueError(
                "Forward layer and backward layer should have different `go_backwards` value. "
                f"Received: forward_layer.go_backwards={ways[0]}, "
                f"backward_layer.go_backwards={ways[1]}"
            )
        for name in _COMMON:
            values = [getattr(inner, name) for inner in (self.forward_layer, self.backward_layer)]
            if values[0] != values[1]:
                raise ValueError(
                    "Forward layer and backward layer are expected to have the same value for "
                    f'attribute "{name}", got "{values[0]}" for forward layer and "{values[1]}" '
                    "for backward layer"
                )

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        """Builds both layers."""
        for inner in (self.forward_layer, self.backward_layer):
            if not inner.built:
                inner.build(sequences_shape)
                inner.built = True
        if self._first_weights is not None:
            self.set_weights(self._first_weights)
            self._first_weights = None

    @property
    def states(self) -> Any:
        """The states of both layers; None unless they are stateful and built."""
        both = self.forward_layer.states, self.backward_layer.states
        return (*both[0], *both[1]) if both[0] and both[1] else None

    def reset_state(self) -> None:
        """Sets the states of stateful layers to zeros.

        Raises:
            AttributeError: if they are not stateful.
        """
        if not self.stateful:
            raise AttributeError("Layer must be stateful.")
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    def reset_states(self) -> None:
        """Sets the states of stateful layers to zeros: :meth:`reset_state`."""
        self.reset_state()

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """The mask of the sequences where outputs are sequences; states have none."""
        mask = previous_mask[0] if isinstance(previous_mask, list | tuple) else previous_mask
        mask = mask if self.return_sequences else None
        masks = [mask, mask] if self.merge_mode is None else [mask]
        if self.return_state:
            masks += [None] * 2 * len(self.forward_layer.state_size)
        return masks if len(masks) > 1 else mask

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = None
    ) -> Any:
        """Computes the output."""
        halves: list[Any] = [None, None]
        if initial_state is not None:
            half = len(initial_state) // 2
            halves = [initial_state[:half], initial_state[half:]]
        y, of_y = self._run(self.forward_layer, sequences, halves[0], mask, training)
        inner = self.backward_layer
        if isinstance(inner, RNN) and is_ours(type(inner)) and inner.go_backwards:
            with aligned_outputs():
                z, of_z = self._run(inner, sequences, halves[1], mask, training)
        else:
            z, of_z = self._run(inner, sequences, halves[1], mask, training)
            z = ops.flip(z, axis=1) if self.return_sequences else z
        y, z = ops.cast(y, self.compute_dtype), ops.cast(z, self.compute_dtype)
        states = [*of_y, *of_z]
        merged = (y, z) if self.merge_mode is None else _merged(self.merge_mode, y, z)
        if not states:
            return merged
        return (*merged, *states) if self.merge_mode is None else (merged, *states)

    def _run(
        self, inner: Any, sequences: Any, states: Any, mask: Any, training: Any
    ) -> tuple[Any, list[Any]]:
        """The outputs of one direction, and its last states where they are returned."""
        kwargs: dict[str, Any] = {}
        if inner._call_takes_training:
            kwargs["training"] = training
        if "mask" in inner._call_parameters:
            kwargs["mask"] = mask
        if states is not None:
            kwargs["initial_state"] = states
        outputs = inner(sequences, **kwargs)
        return (outputs[0], list(outputs[1:])) if self.return_state else (outputs, [])

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "merge_mode": self.merge_mode,
            "layer": serialize_keras_object(self.forward_layer),
            "backward_layer": serialize_keras_object(self.backward_layer),
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Any:
        """Makes both layers from the config.

        Args:
            config: what :meth:`get_config` returned.
            custom_objects: name -> class of the user's.
        """
        made = dict(config)
        for name in ("layer", "backward_layer"):
            if made.get(name) is not None:
                made[name] = deserialize_keras_object(made[name], custom_objects)
        return super().from_config(made)


def _copy(layer: Layer, prefix: str, **changes: Any) -> Any:
    """A layer of the same config, with weights of its own."""
    name = prefix + layer.name.removeprefix(prefix)
    with shared_objects():  # whose numbers are not those of a file that is read at the moment
        described = serialize_keras_object(layer)
        described = {**described, "config": {**described["config"], **changes, "name": name}}
        described.pop("build_config", None)
        return deserialize_keras_object(described)


def _merged(mode: str, y: Any, z: Any) -> Any:
    if mode == "concat":
        return ops.concatenate([y, z], axis=-1)
    if mode == "mul":
        return ops.multiply(y, z)
    total = ops.add(y, z)
    return ops.divide(total, 2) if mode == "ave" else total
