"""Pruning in the course of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handmill.callbacks.callback import Callback
from handmill.errors import TrainingWarning, warn_caller


class Prune(Callback):
    """Removes more and more small weights while a model is trained.

    At the steps that the schedule names the smallest weights are chosen; between them, and
    afterwards, the masks are a part of the compiled update (:func:`handmill.compress.prune`).
    A run that is resumed, and a ``.hmill`` file, go on with the masks. Steps are those of the
    optimizer: where an earlier training has passed the schedule's first one, masks are chosen at
    once, as the schedule says of that step, with a warning if it has ended.

    Args:
        schedule: :class:`handmill.compress.PolynomialDecay`,
            :class:`handmill.compress.ConstantSparsity`, or a sparsity, which then holds from the
            first step on and is chosen anew every 100 steps.
        granularity: what becomes zero together, see :func:`handmill.compress.prune`.
        scope: ``"erk"`` (the default), ``"layer"`` or ``"global"``, see there.
        layers: the layers to prune; default: all with kernels.

    Attributes:
        report: what was pruned at last, a :class:`handmill.compress.Pruning`; None before that.

    Raises:
        ValueError: when training begins, for what cannot be pruned.

    Example:
        >>> import numpy as np, handmill
        >>> x = np.ones((64, 8), "float32")
        >>> model = handmill.Sequential([handmill.Input((8,)), handmill.layers.Dense(4)])
        >>> model.compile("adam", "mse")
        >>> decay = handmill.compress.PolynomialDecay(0.0, 0.75, 0, 6, frequency=2)
        >>> prune = handmill.callbacks.Prune(decay)
        >>> history = model.fit(x, x[:, :4], batch_size=8, verbose=0, callbacks=[prune])
        >>> prune.report.rows[0][1:]
        (32, 24)
    """

    def __init__(
        self,
        schedule: Any,
        granularity: str = "weight",
        scope: str | None = None,
        layers: Sequence[Any] | Callable[[Any], bool] | None = None,
    ) -> None:
        from handmill.compress.schedules import ConstantSparsity

        super().__init__()
        self.schedule = schedule if callable(schedule) else ConstantSparsity(schedule, 0)
        self.granularity = granularity
        self.scope = scope
        self.layers = layers
        self.report: Any = None
        self._late = False  # whether the schedule began in an earlier training

    def _step(self) -> int:
        return int(np.asarray(self.model.optimizer.iterations))

    def on_train_begin(self, logs: Any = None) -> None:
        """Makes the masks, so that the step is traced with them; nothing is pruned yet."""
        from handmill.compress import pruning
        from handmill.compress.choice import granularity_of

        granularity_of(self.granularity)
        kernels = pruning.kernels_of(self.model, self.layers)
        known = pruning.masks_in_force(self.model, kernels)
        new = [k for k, mask in zip(kernels, known, strict=True) if mask is None]
        pruning.apply_masks(self.model, new, [np.ones(k.shape, np.bool_) for k in new])
        step, begin = self._step(), getattr(self.schedule, "begin_step", None)
        self._late = bool(new) and begin is not None and step > begin
        end = getattr(self.schedule, "end_step", -1)
        if self._late and end not in (-1, None) and step > end:
            warn_caller(
                f"Prune: the schedule ended at step {end}, and the optimizer is at step {step} of "
                "an earlier training: all that it prunes in the end is pruned at once. For little "
                f"by little begin at {step} (begin_step={step}), or compile the model again",
                TrainingWarning,
            )

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Chooses masks, at the steps that the schedule names."""
        from handmill.compress.pruning import prune

        if self._late or self.schedule.is_due(self._step()):
            self._late = False
            self.report = prune(
                self.model, self.schedule, self.granularity, self.scope, self.layers
            )

    def on_train_end(self, logs: Any = None) -> None:
        """Tells if the schedule never began."""
        begin = getattr(self.schedule, "begin_step", 0)
        if self._step() <= begin:
            warn_caller(
                f"Prune: nothing was pruned: the schedule begins at step {begin}, the training "
                f"ended at step {self._step()}",
                TrainingWarning,
            )
