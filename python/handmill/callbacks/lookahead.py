"""Slow weights that follow the trained ones, and are where training goes on from."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.arguments import real_number, whole_number
from handmill.callbacks.callback import Callback
from handmill.ir.op import Array
from handmill.runtime.variable import Variable


class Lookahead(Callback):
    """Lets slow weights follow the trained ones, and sets these back to them every few updates.

    Every ``every`` updates ``slow = d * slow + (1 - d) * weights; weights = slow``, with
    ``d = momentum * (updates / total_steps) ** power`` (Zhang et al., "Lookahead Optimizer: k steps
    forward, 1 step back", 2019, has a constant d: ``power=0``). All floating-point weights take
    part, the running statistics of BatchNormalization among them; the optimizer's state does not.
    When all steps are done the model has the slow weights. A run that is resumed goes on with them.

    Args:
        every: updates between two meetings.
        momentum: the largest weight of the old slow weights, from 0 to 1.
        power: how that weight grows to ``momentum`` in the course of the run; 0: it is constant.
        total_steps: updates of the whole run; default: ``epochs`` times the steps of an epoch.
            Needed where the steps of an epoch are not known, and where one run is several ``fit``.

    Raises:
        ValueError: for arguments out of range; when training begins, if the number of steps is not
            known, or ``steps_per_execution`` of the model does not divide it and ``every``.

    Example:
        >>> import numpy as np, handmill
        >>> x = np.ones((8, 2), "float32")
        >>> model = handmill.Sequential([handmill.Input((2,)), handmill.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> lookahead = handmill.callbacks.Lookahead(every=2, momentum=0.5, power=0)
        >>> len(model.fit(x, x[:, :1], 2, 3, verbose=0, callbacks=[lookahead]).epoch)
        3
    """

    def __init__(
        self,
        every: int = 5,
        momentum: float = 0.5,
        power: float = 0.0,
        total_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.every = whole_number("Lookahead: `every`", every, 1)
        self.momentum = real_number("Lookahead: `momentum`", momentum)
        self.power = real_number("Lookahead: `power`", power)
        if not 0 <= self.momentum <= 1 or not self.power >= 0:
            raise ValueError(
                "Lookahead: `momentum` must be from 0 to 1, `power` not negative. Received: "
                f"momentum={momentum!r}, power={power!r}"
            )
        if total_steps is not None:
            total_steps = whole_number("Lookahead: `total_steps`", total_steps, 1)
        self.total_steps = total_steps
        self._last = 0
        self._done = 0
        self._slow: list[Array] = []

    def _updates(self) -> int:
        return int(np.asarray(self.model.optimizer.iterations))

    def _weights(self) -> list[Variable]:
        return [v for v in self.model.weights if v.dtype in ("float32", "float64", "bfloat16")]

    def on_train_begin(self, logs: Any = None) -> None:
        """Takes the weights as they are for slow ones."""
        total = self.total_steps
        if total is None:
            total = (self.params.get("steps") or 0) * (self.params.get("epochs") or 0)
            optimizer = self.model.optimizer
            optimizer = getattr(optimizer, "inner_optimizer", optimizer)
            total //= optimizer.gradient_accumulation_steps or 1
        if not total:
            raise ValueError(
                "Lookahead: the number of steps of an epoch is not known here: say how many there "
                "are in all, Lookahead(total_steps=...)"
            )
        together = self.model.steps_per_execution
        if self.every % together or (self.params.get("steps") or 0) % together:
            raise ValueError(
                f"Lookahead: the weights after every={self.every} updates are out of sight where "
                f"steps_per_execution={together} are run together: let it divide both `every` and "
                "the number of steps of an epoch, or leave it out"
            )
        self._last = total
        self._done = self._updates()
        self._slow = [v.numpy() for v in self._weights()]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Lets both meet when it is time."""
        before, self._done = self._done, self._updates()
        if self._done // self.every > before // self.every:
            done = min(self._done / self._last, 1.0)
            self._meet(self.momentum * done**self.power)

    def on_train_end(self, logs: Any = None) -> None:
        """Leaves the slow weights in the model, if all steps are done."""
        if self._done >= self._last:
            self._meet(1.0)

    def _meet(self, keep: float) -> None:
        for variable, slow in zip(self._weights(), self._slow, strict=True):
            step = variable.numpy() - slow
            slow += step * np.asarray(1.0 - keep, slow.dtype)
            variable.assign(slow)
