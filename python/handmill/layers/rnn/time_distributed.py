"""One layer, for each step of a sequence."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.ir.dims import as_none, same
from handmill.layers.core.wrapper import Wrapper
from handmill.layers.layer import Layer, all_layers
from handmill.runtime.watch import is_ours


class TimeDistributed(Wrapper):
    """Applies a layer to each step of a sequence, with the same weights.

    Steps are taken as further samples where the layer cannot tell them apart, which costs what
    one larger batch does; a layer that keeps statistics, draws random numbers or is not handmill's
    own is called step by step.

    Args:
        layer: the layer.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, time, ...)``, at least three dimensions.

    Output shape:
        ``(batch, time, ...)``

    Raises:
        ValueError: if ``layer`` is no layer.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import Dense, TimeDistributed
        >>> TimeDistributed(Dense(3))(np.ones((2, 5, 4), "float32")).shape
        (2, 5, 3)
    """

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        if not isinstance(layer, Layer):
            raise ValueError(
                "Please initialize `TimeDistributed` layer with a `handmill.layers.Layer` "
                f"instance. Received: {layer}"
            )
        super().__init__(layer, **kwargs)
        self.supports_masking = True

    def build(self, input_shape: Any = None) -> None:
        """Builds the layer inside for one step."""
        if not isinstance(input_shape, tuple | list) or len(input_shape) < 3:
            raise ValueError(
                "`TimeDistributed` Layer should be passed an `input_shape` with at least 3 "
                f"dimensions, received: {input_shape}"
            )
        super().build((input_shape[0], *input_shape[2:]))

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Computes the output."""
        shape = ops.shape(inputs)
        if mask is not None:
            _check_mask(ops.shape(mask), shape)
        takes_mask = mask is not None and "mask" in self.layer._call_parameters
        if self._is_samplewise():
            batch, steps = shape[:2]
            kwargs = self._arguments(training)
            if takes_mask:
                kwargs["mask"] = ops.reshape(mask, (batch * steps, *ops.shape(mask)[2:]))
            found = self.layer(ops.reshape(inputs, (batch * steps, *shape[2:])), **kwargs)
            return ops.reshape(found, (batch, steps, *ops.shape(found)[1:]))

        def step(x: Any, m: Any) -> Any:
            kwargs = self._arguments(training)
            return self.layer(x, **kwargs, **({"mask": m} if takes_mask else {}))

        if isinstance(shape[1], int):
            found = [
                step(inputs[:, t], mask[:, t] if takes_mask else None) for t in range(shape[1])
            ]
            return ops.stack(found, axis=1)
        turned = ops.swapaxes(inputs, 0, 1)
        if not takes_mask:
            return ops.swapaxes(ops.map(lambda x: step(x, None), turned), 0, 1)
        rows = (turned, ops.swapaxes(mask, 0, 1))
        return ops.swapaxes(ops.map(lambda xs: step(*xs), rows), 0, 1)

    def _arguments(self, training: bool | None) -> dict[str, Any]:
        return {"training": training} if self.layer._call_takes_training else {}

    def _is_samplewise(self) -> bool:
        """Whether the layer computes each sample from that sample and the weights alone."""
        return all(
            is_ours(type(layer))
            and type(layer).__name__ not in _NOT_SAMPLEWISE
            and layer.activity_regularizer is None
            and not layer._seed_states()
            and not any(not v.made_trainable for v in layer._own_variables() if layer.trainable)
            and not (type(layer).__name__ == "Softmax" and _reaches_batch(layer))
            for layer in all_layers(self.layer)
        )


_NOT_SAMPLEWISE = frozenset(
    {"BatchNormalization", "Lambda", "OpFunction", "OpLayer", "SpectralNormalization"}
)


def _reaches_batch(layer: Any) -> bool:
    axis = layer.axis
    return any(a != -1 for a in (axis if isinstance(axis, list | tuple) else (axis,)))


def _check_mask(mask: tuple[Any, ...], shape: tuple[Any, ...]) -> None:
    if len(mask) < 2:
        raise ValueError(
            "The `mask` passed to the `TimeDistributed` layer must be at least 2D (e.g., "
            f"`(batch_size, timesteps)`), but it has {len(mask)} dimension(s) with shape {mask}."
        )
    if not all(same(m, s) for m, s in zip(mask[:2], shape[:2], strict=True)):
        raise ValueError(
            f"The `mask` passed to the `TimeDistributed` layer has a shape {as_none(mask)} that is "
            f"incompatible with the input shape {as_none(shape)}. The first two dimensions of the "
            "mask (batch size and timesteps) must match the input's first two dimensions. Expected "
            f"mask shape prefix: {as_none(shape[:2])}."
        )
