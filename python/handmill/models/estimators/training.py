"""The epochs of a fit: order of the rows, learning rate, when to stop. As scikit-learn has them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from handmill.ir.op import Array
from handmill.models.estimators.network import REMEMBERED, Network
from handmill.runtime.feed import Feed

SPARSE_BYTES = 1 << 25
"""Rows of a sparse matrix are made dense so many bytes at a time."""


CALLER_OF_FIT = 7
"""Stack level: a function that _run calls, _run, _train, _fit, fit, its decorator, the caller."""


class Rows:
    """Training data of which each pass takes the rows in an order.

    Args:
        x: features: a contiguous float32 array, or a CSR matrix.
        others: targets, and sample weights where there are some.
        batch_size: rows of a step.
    """

    def __init__(self, x: Any, others: list[Array], batch_size: int) -> None:
        self.count = x.shape[0]
        self.batch_size = batch_size
        self._x = x
        self._others = others
        self._feed: Any = Feed([x, *others]) if isinstance(x, np.ndarray) else None

    @property
    def are_one_batch(self) -> bool:
        """Whether one step takes all rows, from memory."""
        return self._feed is not None and self.batch_size == self.count

    def feed_of(self, orders: list[Array]) -> Feed:
        """Returns the feed with a batch of all rows in each of the orders: ``are_one_batch``."""
        self._feed.set_order(np.concatenate(orders))
        feed: Feed = self._feed
        return feed

    def feeds(self, order: Array | None) -> Iterator[Feed]:
        """Yields feeds that together have all rows, whole batches in all but the last."""
        if self._feed is not None:
            if order is not None:
                self._feed.set_order(order)
            yield self._feed
            return
        order = np.arange(self.count) if order is None else order
        batches = max(1, SPARSE_BYTES // (4 * self._x.shape[1] * self.batch_size))
        size = batches * self.batch_size
        for start in range(0, self.count, size):
            part = order[start : start + size]
            yield Feed([self._x[part].toarray(), *(a[part] for a in self._others)])


@dataclass
class Progress:
    """What a fit knows of its past; stays with the estimator for ``warm_start``.

    Attributes:
        loss_curve: the loss of each epoch.
        best_loss: the least of them.
        scores: the score after each epoch with early stopping.
        best_score: the best of them.
        stale_epochs: epochs since the last improvement.
        rows_seen: rows trained on.
    """

    loss_curve: list[float] = field(default_factory=list)
    best_loss: float = math.inf
    scores: list[float] = field(default_factory=list)
    best_score: float = -math.inf
    stale_epochs: int = 0
    rows_seen: int = 0


class Training:
    """One call of ``fit`` or ``partial_fit``.

    Args:
        parameters: the estimator, for its parameters.
        network: holds weights and optimizer; trained in place.
        progress: what happened before; continued in place.
        learning_rate: to start with.
        random_state: gives the order of the rows.

    Attributes:
        epochs: how many were made.
        best_weights: with a validation score: the weights at the best one.
    """

    def __init__(
        self,
        parameters: Any,
        network: Network,
        progress: Progress,
        learning_rate: float,
        random_state: np.random.RandomState,
    ) -> None:
        self.parameters = parameters
        self.network = network
        self.progress = progress
        self.learning_rate = learning_rate
        self.random_state = random_state
        self.epochs = 0
        self.best_weights: list[Array] | None = None
        self._order: Array = np.empty(0, np.int64)

    def run(self, rows: Rows, epochs: int, score: Callable[[], float] | None) -> bool:
        """Makes epochs until one of them stops the training; says whether one did.

        Args:
            rows: the data.
            epochs: at most so many.
            score: measures the network on held-out data; None to look at the loss.

        Raises:
            ValueError: if the loss is not finite any more.
        """
        self._say_rate()
        self._order = np.arange(rows.count)
        if score is not None:
            self.best_weights = self.network.get_weights()
        try:
            while epochs > 0:
                count = self._certain_epochs(rows, epochs, score is not None)
                epochs -= count
                for loss in self._losses_of(rows, count):
                    self._note(loss, rows.count)
                    self._count_stale(score)
                self._end_epoch()
                if self._stops(score is not None):
                    return True
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=CALLER_OF_FIT)
            return True
        return False

    def warn_of_limit(self) -> None:
        """Warns that the last epoch allowed was made."""
        warnings.warn(
            f"Stochastic Optimizer: Maximum iterations ({self.parameters.max_iter}) reached and "
            "the optimization hasn't converged yet.",
            ConvergenceWarning,
            stacklevel=CALLER_OF_FIT,
        )

    def _certain_epochs(self, rows: Rows, limit: int, has_score: bool) -> int:
        """Epochs that nothing can stop, which one call may make; more than 1 for small data."""
        p = self.parameters
        changes_rate = p.solver == "sgd" and p.learning_rate == "invscaling"
        if has_score or p.verbose or changes_rate or not rows.are_one_batch:
            return 1
        before_stop = p.n_iter_no_change - self.progress.stale_epochs + 1
        return int(max(1, min(limit, REMEMBERED, before_stop)))

    def _losses_of(self, rows: Rows, epochs: int) -> list[float]:
        """Makes epochs; returns the mean loss of each."""
        if rows.are_one_batch:
            orders = [self._next_order() for _ in range(epochs)]
            return self.network.train_steps(rows.feed_of(orders), rows.count, epochs)
        order = self._next_order() if self.parameters.shuffle else None
        total = sum(self.network.train_pass(f, rows.batch_size) for f in rows.feeds(order))
        return [total / rows.count]

    def _next_order(self) -> Array:
        if self.parameters.shuffle:
            # The draws of sklearn.utils.shuffle: the same seed gives the same batches.
            picks = np.arange(len(self._order))
            self.random_state.shuffle(picks)
            self._order = self._order[picks]
        return self._order

    def _note(self, loss: float, rows: int) -> None:
        if not math.isfinite(loss):
            raise ValueError(
                "Solver produced non-finite parameter weights: the loss of epoch "
                f"{self.epochs + 1} is {loss}. The input data may contain large values and need "
                "to be preprocessed (sklearn.preprocessing.StandardScaler), or learning_rate_init "
                "is too large."
            )
        self.epochs += 1
        self.progress.rows_seen += rows
        self.progress.loss_curve.append(loss)
        if self.parameters.verbose:
            print(f"Iteration {self.epochs}, loss = {loss:.8f}")

    def _count_stale(self, score: Callable[[], float] | None) -> None:
        progress, tol = self.progress, self.parameters.tol
        if score is None:
            loss = progress.loss_curve[-1]
            is_stale = loss > progress.best_loss - tol
            progress.best_loss = min(loss, progress.best_loss)
        else:
            found = score()
            progress.scores.append(found)
            if self.parameters.verbose:
                print(f"Validation score: {found:f}")
            is_stale = found < progress.best_score + tol
            if found > progress.best_score:
                progress.best_score = found
                self.best_weights = self.network.get_weights()
        progress.stale_epochs = progress.stale_epochs + 1 if is_stale else 0

    def _end_epoch(self) -> None:
        p = self.parameters
        if p.solver == "sgd" and p.learning_rate == "invscaling":
            self.learning_rate = p.learning_rate_init / (self.progress.rows_seen + 1) ** p.power_t
            self._say_rate()

    def _stops(self, has_score: bool) -> bool:
        p = self.parameters
        if self.progress.stale_epochs <= p.n_iter_no_change:
            return False
        what = "Validation score" if has_score else "Training loss"
        text = (
            f"{what} did not improve more than tol={p.tol:f} for {p.n_iter_no_change} "
            "consecutive epochs."
        )
        is_adaptive = p.solver == "sgd" and p.learning_rate == "adaptive"
        if is_adaptive and self.learning_rate > 1e-6:
            self.learning_rate /= 5.0
            self._say_rate()
            self.progress.stale_epochs = 0
            end = f" Setting learning rate to {self.learning_rate:f}"
        else:
            end = " Learning rate too small. Stopping." if is_adaptive else " Stopping."
        if p.verbose:
            print(text + end)
        return end.endswith("Stopping.")

    def _say_rate(self) -> None:
        self.network.optimizer.learning_rate = self.learning_rate
