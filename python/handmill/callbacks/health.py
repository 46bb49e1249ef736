"""Watches the health of a training from inside of its steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.callbacks.callback import Callback
from handmill.errors import TrainingWarning, warn_caller

VANISHES, EXPLODES = 1e-3, 1e3
_LIMITS = {"dead": 0.5, "saturated": 0.5, "update": 0.1}
_TEXTS = {
    "dead": (
        "{value:.0%} of the ReLU units of layer {layer!r} gave 0 for each row of a batch. Scale "
        "the inputs, or take a smaller learning rate or LeakyReLU."
    ),
    "saturated": (
        "{value:.0%} of the outputs of layer {layer!r} are at the ends of its activation. Scale "
        "the inputs, or normalize before it."
    ),
    "update": (
        "a step moves the kernel of layer {layer!r} by {value:.2g} of its norm. Take a smaller "
        "learning rate."
    ),
}


class HealthMonitor(Callback):
    """Reads dead units, saturation, sizes of gradients and of updates while a model is trained.

    The numbers are part of the step: at one of ``every`` steps the batch goes through the model in
    inference mode and back, before its update, and some sums of what is seen are kept; no array
    leaves the program, and the training has the bits that it has without. That costs some
    three steps in ``every``, and a copy of weights and slots at the beginning of each epoch.

    After each epoch in which a step was due, ``readings`` has an entry more: ``{"epoch": ...,
    "mean": [...], "largest": [...]}`` with kind, layer and value of each number. What is outside of
    its normal range is told once, as a :class:`handmill.TrainingWarning`: more than half of the
    units of a layer dead or saturated; gradients of the first layer a thousand times smaller or
    larger than those of the last; a step that moves a kernel by more than a tenth of its norm,
    after the first epoch. Where the loss of arrays becomes NaN or infinite, the epoch is gone
    through again up to that step, and the warning names operator, layer and row.

    Args:
        every: steps from one reading to the next.

    Raises:
        ValueError: when ``fit`` begins, for a model that Python runs (``run_eagerly=True``).

    Example:
        >>> import numpy as np, handmill
        >>> model = handmill.Sequential([
        ...     handmill.Input((4,)), handmill.layers.Dense(8, "tanh"), handmill.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> monitor = handmill.callbacks.HealthMonitor(every=10)
        >>> x = np.ones((320, 4), "float32")
        >>> history = model.fit(x, x[:, :1], epochs=2, verbose=0, callbacks=[monitor])
        >>> sorted({reading.kind for reading in monitor.readings[0]["mean"]})
        ['kernel', 'kernel_gradient', 'output', 'output_gradient', 'saturated', 'update']
    """

    def __init__(self, every: int = 500) -> None:
        super().__init__()
        self.every = whole_number("`every`", every, 3)
        self._raw: list[tuple[int, Any, Any]] = []
        self._told: set[str] = set()
        self._limits: Any = None
        self._flow: tuple[int, int] | None = None
        self._monitor: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Lets the training step compute the numbers."""
        from handmill.inspection.health_monitor import Monitor

        if self.model.run_eagerly:
            raise ValueError(
                "HealthMonitor is part of the program of a training step; this model was compiled "
                "with run_eagerly=True. Compile it without, or leave the callback out"
            )
        if not self.model.built:
            raise ValueError(
                "HealthMonitor needs a model whose layers are built, to know what it will read: "
                "begin the model with an Input, or call model.build(input_shape)"
            )
        if self.model.optimizer is not None and not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)  # to keep all of its state
        self._raw = []
        self._told = set()
        if self._monitor is None or self._monitor.model is not self.model:
            self._monitor = Monitor(self.model, self.every)
        self._monitor.restart()
        self.model._health_monitor = self._monitor

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts new means."""
        self._monitor.begin()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Takes the readings of the epoch, and warns once of what is not normal."""
        found = self._monitor.read()
        if found is None:
            return
        means, largest = found
        self._raw.append((epoch, means, largest))
        entries = self._monitor.entries
        if self._limits is None or len(self._limits) != len(entries):
            self._limits = np.array([_LIMITS.get(kind, np.inf) for kind, _, _ in entries])
            flow = [i for i, (kind, _, _) in enumerate(entries) if kind == "output_gradient"]
            self._flow = (flow[0], flow[-1]) if len(flow) > 1 else None
        for i in np.flatnonzero(means > self._limits):
            if entries[i][0] != "update" or len(self._raw) > 1:  # first steps may be large
                self._tell(int(i), means[i])
        if self._flow is not None:
            self._look_at_flow(means)

    @property
    def readings(self) -> list[dict[str, Any]]:
        """For each epoch with readings its number, the means and the largest."""
        from handmill.inspection.health import readings

        if not self._raw:
            return []
        model, entries = self._monitor.model, self._monitor.entries
        return [
            {
                "epoch": epoch,
                "mean": readings(model, entries, means),
                "largest": readings(model, entries, largest),
            }
            for epoch, means, largest in self._raw
        ]

    def _tell(self, number: int, value: float) -> None:
        from handmill.inspection.health import readings

        entry = self._monitor.entries[number : number + 1]
        layer = readings(self._monitor.model, entry, np.array([value]))[0].layer
        text = _TEXTS[entry[0][0]].format(layer=layer, value=value)
        self._warn(f"{entry[0][0]} {layer}", text)

    def _look_at_flow(self, means: Any) -> None:
        first, last = (float(means[i]) for i in self._flow or ())
        if first > 0 and last > 0 and not VANISHES <= first / last <= EXPLODES:
            word = "vanishes" if first < last else "explodes"
            self._warn(
                "flow",
                f"the gradient by the outputs of the first layer is {first / last:.1g} of that by "
                f"those of the last: it {word} on the way. Residual connections, normalization or "
                "other initial weights help.",
            )

    def _warn(self, key: str, text: str) -> None:
        if key not in self._told:
            self._told.add(key)
            warn_caller(f"model {self.model.name!r}: {text}", TrainingWarning)
