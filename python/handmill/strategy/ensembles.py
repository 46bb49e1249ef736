"""Several models that answer together."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.errors import clean_traceback
from handmill.ir.op import Array
from handmill.strategy.runs import Runs


class Ensemble:
    """Models whose outputs are averaged.

    Args:
        models: the models.
        shares: the part of each in the mean, shape (models,), together 1.
        members: configuration and seed of each.
        loss: of the ensemble, on the rows that it was chosen by.
        single: of the best model alone, on the same rows.

    Attributes:
        models: as given; also ``shares``, ``members``, ``loss``, ``single``.
    """

    def __init__(
        self,
        models: list[Any],
        shares: Array,
        members: list[tuple[int, int]],
        loss: float,
        single: float,
    ) -> None:
        self.models, self.shares, self.members = models, shares, members
        self.loss, self.single = loss, single

    def predict(self, x: Any, batch_size: int | None = None) -> Array:
        """Returns the mean of the models' outputs, shape (rows, ...).

        Args:
            x: inputs.
            batch_size: rows of a batch; default 32.
        """
        outputs = (m.predict(x, batch_size=batch_size, verbose=0) for m in self.models)
        return _mean(zip(self.shares, outputs, strict=True))

    def __repr__(self) -> str:
        return f"<Ensemble: {len(self.models)} models>"

    def __str__(self) -> str:
        configurations = len({configuration for configuration, _ in self.members})
        return (
            f"{len(self.models)} models of {configurations} configurations: loss {self.loss:.4f} "
            f"on the rows they were chosen by,\nwhere the best model alone has {self.single:.4f}; "
            "what either is worth, other rows tell"
        )


@clean_traceback
def ensemble(runs: Runs, x: Any, y: Any, *, size: int = 20, candidates: int = 50) -> Ensemble:
    """Chooses models that answer well together, from trainings that are there anyway.

    Greedy, with replacement: beginning with the best model, that one is added, again and again,
    which makes the mean output of all chosen so far best; of the ensembles on that way the best
    one is taken. Chosen by the models' own loss, not by hits, of which few rows have too few
    values.

    R. Caruana, A. Niculescu-Mizil, G. Crew and A. Ksikes (2004), Ensemble selection from libraries
    of models.

    Args:
        runs: trainings with kept weights (``keep_weights=True``).
        x: inputs of rows that no model has learned from, such as those validated on; no test set.
        y: their targets.
        size: models in the mean at most, repetitions counted.
        candidates: so many of the best models are considered.

    Raises:
        ValueError: if weights were not kept, no model is finite, or models have outputs of
            different shapes.

    Example:
        >>> import handmill
        >>> from handmill import layers, strategy
        >>> def build(units):
        ...     model = handmill.Sequential([
        ...         handmill.Input((64,)), layers.Dense(units, "relu"),
        ...         layers.Dense(10, "softmax")])
        ...     model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
        ...     return model
        >>> (x, y), _ = handmill.datasets.digits.load_data()
        >>> x = x.reshape(-1, 64) / 16
        >>> runs = handmill.train_many(build, [{"units": 8}, {"units": 16}], x[:1000], y[:1000],
        ...                            seeds=3, epochs=3, validation_data=(x[1000:], y[1000:]))
        >>> together = strategy.ensemble(runs, x[1000:], y[1000:])
        >>> together.loss < together.single
        True
        >>> together.predict(x[:5]).shape
        (5, 10)
    """
    if not isinstance(runs, Runs):
        raise TypeError(
            "`runs` must be what train_many, try_all or cross_validate gave, or a Search's runs. "
            f"Received: {type(runs).__name__}"
        )
    size, candidates = whole_number("size", size, 1), whole_number("candidates", candidates, 1)
    found: list[tuple[tuple[int, int], Any, Array]] = []
    for lane in runs.lanes:
        if lane.failure is None:
            if lane.weights is None:
                raise ValueError(
                    "these trainings kept no weights, so an ensemble would train them all again; "
                    "pass keep_weights=True to what made them"
                )
            model = runs.model(lane.configuration, lane.seed)
            outputs = model.predict(x, verbose=0)
            if found and outputs.shape != found[0][2].shape:
                raise ValueError(
                    "models with outputs of different shapes have no mean. Received: "
                    f"{outputs.shape} and {found[0][2].shape}"
                )
            found.append(((lane.configuration, lane.seed), model, outputs))
    loss = _loss_of(found[0][1], y) if found else None
    if loss is None or not np.isfinite(found[0][2]).all():
        raise ValueError("no training is finite, or the first one gives outputs that are not")
    alone = np.array([loss(outputs) for _, _, outputs in found])
    best_first = np.argsort(alone, kind="stable")[:candidates]
    chosen = [int(best_first[0])]
    total = found[chosen[0]][2].astype(np.float64)
    track = [float(alone[chosen[0]])]
    for count in range(2, size + 1):
        losses = [loss((total + found[k][2]) / count) for k in best_first]
        k = int(best_first[int(np.argmin(losses))])
        chosen.append(k)
        total += found[k][2]
        track.append(float(min(losses)))
    counts = Counter(chosen[: int(np.argmin(track)) + 1])
    return Ensemble(
        [found[k][1] for k in counts],
        np.array(list(counts.values())) / sum(counts.values()),
        [found[k][0] for k in counts],
        min(track),
        track[0],
    )


def _mean(weighted: Any) -> Array:
    total: Any = 0.0
    for share, outputs in weighted:
        total = total + share * np.asarray(outputs, np.float64)
    return np.asarray(total, np.float32)


def _loss_of(model: Any, y: Any) -> Any:
    """The mean loss of outputs, by the loss that a model was compiled with."""
    from handmill import losses

    given = model.loss
    if isinstance(given, list | tuple | dict):
        raise ValueError("an ensemble needs models with one output and one loss")
    compute = losses.get(given)
    targets = np.asarray(y)

    def loss(outputs: Array) -> float:
        return float(np.mean(np.asarray(compute(targets, outputs.astype(np.float32)))))

    return loss
