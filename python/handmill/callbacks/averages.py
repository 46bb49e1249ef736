"""Moving averages of the weights in place of the weights."""

from __future__ import annotations

from typing import Any

from handmill.callbacks.callback import Callback
from handmill.ir.op import Array
from handmill.runtime.variable import Variable


class SwapEMAWeights(Callback):
    """Puts the moving averages of the weights into the model while it is measured.

    For optimizers made with ``use_ema=True``. The weights that are trained come back afterwards.

    Args:
        swap_on_epoch: whether the averages are also there between the end of an epoch and the
            begin of the next, so that callbacks after this one, such as ModelCheckpoint, see them.

    Raises:
        ValueError: when it is used, if no optimizer keeps averages.

    Example:
        >>> import numpy as np, handmill
        >>> x = np.ones((8, 2), "float32")
        >>> model = handmill.Sequential([handmill.Input((2,)), handmill.layers.Dense(1)])
        >>> model.compile(handmill.optimizers.SGD(0.1, use_ema=True), "mse")
        >>> averages = handmill.callbacks.SwapEMAWeights()
        >>> sorted(model.fit(x, x[:, :1], validation_data=(x, x[:, :1]), verbose=0,
        ...                  callbacks=[averages]).history)
        ['loss', 'val_loss']
    """

    def __init__(self, swap_on_epoch: bool = False) -> None:
        super().__init__()
        self.swap_on_epoch = swap_on_epoch
        self._own: list[tuple[Variable, Array]] | None = None

    def _optimizers(self) -> list[Any]:
        """The optimizers that keep averages."""
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        several = getattr(optimizer, "optimizers", [optimizer])
        kept = [o for o in several if getattr(o, "use_ema", False)]
        if not kept:
            raise ValueError(
                "SwapEMAWeights must be used when `use_ema=True` is set on the optimizer. "
                f"Received: {type(self.model.optimizer).__name__} with use_ema=False"
            )
        return kept

    def _pairs(self) -> list[tuple[Variable, Variable]]:
        """The trained variables and their averages."""
        kept = self._optimizers()
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        return [
            pair
            for one in kept
            for pair in zip(
                one._trainable_variables, one._model_variables_moving_average, strict=True
            )
        ]

    def _show_averages(self) -> None:
        if self._own is None:
            pairs = self._pairs()
            self._own = [(variable, variable.numpy()) for variable, _ in pairs]
            for variable, average in pairs:
                variable.assign(average.numpy())

    def _show_own(self) -> None:
        if self._own is not None:
            for variable, array in self._own:
                variable.assign(array)
            self._own = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Refuses optimizers without averages before anything is trained."""
        self._own = None
        self._optimizers()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Puts the trained weights back."""
        self._show_own()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Puts the averages in, if callbacks are to see them."""
        if self.swap_on_epoch:
            self._show_averages()

    def on_train_end(self, logs: Any = None) -> None:
        """Leaves the averages, which ``fit`` has put into the model."""
        self._own = None

    def on_test_begin(self, logs: Any = None) -> None:
        """Puts the averages in."""
        self._show_averages()

    def on_test_end(self, logs: Any = None) -> None:
        """Puts the trained weights back."""
        self._show_own()

    def on_predict_begin(self, logs: Any = None) -> None:
        """Puts the averages in."""
        self._show_averages()

    def on_predict_end(self, logs: Any = None) -> None:
        """Puts the trained weights back."""
        self._show_own()
