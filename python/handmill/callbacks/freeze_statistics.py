"""Normalizations whose statistics stay, from some step of the training on."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.callbacks.callback import Callback


class FreezeStatistics(Callback):
    """Lets batch normalizations use their running statistics from some step on, and keep them.

    Factors and offsets are trained on. In training that simulates quantization
    (:func:`handmill.compress.quantize_aware`) statistics that still move let the numbers that are
    rounded wander; Krishnamoorthi (2018, arXiv:1806.08342, section 3.2.2) freezes them for the last
    part, so that training computes what inference will.

    Args:
        after: steps of the optimizer, of earlier trainings too; 0: from the start.

    Raises:
        ValueError: for a negative number, and when training begins if the model has no batch
            normalization that is trained.

    Example:
        >>> import numpy as np, handmill
        >>> norm = handmill.layers.BatchNormalization()
        >>> model = handmill.Sequential([handmill.Input((4,)), norm])
        >>> model.compile("adam", "mse")
        >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
        >>> freeze = handmill.callbacks.FreezeStatistics(after=0)
        >>> history = model.fit(x, x, verbose=0, callbacks=[freeze])
        >>> norm.moving_mean.numpy()
        array([0., 0., 0., 0.], dtype=float32)
    """

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = whole_number("FreezeStatistics: `after`", after, 0)
        self._layers: list[Any] = []

    def _freeze_if_due(self) -> None:
        if int(np.asarray(self.model.optimizer.iterations)) >= self.after:
            for layer in self._layers:
                layer.statistics_frozen = True

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds the normalizations."""
        from handmill.layers import BatchNormalization
        from handmill.layers.layer import all_layers

        every = dict.fromkeys(all_layers(self.model))
        self._layers = [v for v in every if isinstance(v, BatchNormalization) and v.trainable]
        if not self._layers:
            raise ValueError(
                f"FreezeStatistics: model {self.model.name!r} has no batch normalization that is "
                "trained, so that there is nothing to freeze: leave the callback out"
            )
        self._freeze_if_due()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Freezes them after the step that was said."""
        if not self._layers[0].statistics_frozen:
            self._freeze_if_due()

    def on_train_end(self, logs: Any = None) -> None:
        """Lets them move again in a training without this callback."""
        for layer in self._layers:
            layer.statistics_frozen = False
