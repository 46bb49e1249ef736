"""A search for good settings that does not try all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from handmill.arguments import finite_number, whole_number
from handmill.errors import clean_traceback
from handmill.ir.op import Array
from handmill.strategy.comparison import Comparison
from handmill.strategy.deadline import within
from handmill.strategy.journal import Journal, advance_with_journal, open_journal
from handmill.strategy.lane_arguments import Material
from handmill.strategy.lanes import Lanes
from handmill.strategy.runs import Divergence, Lane, Runs
from handmill.strategy.space import checked_space, drawn

BRACKET = 256
"""Configurations whose models are in memory at a time: a search of any length holds no more."""

FOR_FINALISTS = 0.4
"""The part of a budget that is kept for the seeds of the finalists."""


@dataclass(frozen=True)
class Trial:
    """One configuration of a search.

    Attributes:
        configuration: its settings.
        epochs: how far it was trained.
        score: what it reached there; NaN if it diverged.
        failure: why it ended early; None if it did not diverge.
    """

    configuration: dict[str, Any]
    epochs: int
    score: float
    failure: Divergence | None


class Search:
    """What :func:`tune` found; printed, the table of the finalists.

    Args:
        trials: all configurations that were trained.
        runs: the finalists under their seeds; None if the time did not suffice.
        metric: what was searched for.
        epochs: of those that were trained to the end.
        complete: whether the search ended by itself.
        seconds: what it took.

    Attributes:
        trials: as given; also ``runs``, ``metric``, ``epochs``, ``complete``, ``seconds``.
    """

    def __init__(
        self,
        trials: list[Trial],
        runs: Runs | None,
        metric: str,
        epochs: int,
        complete: bool,
        seconds: float,
    ) -> None:
        self.trials, self.runs, self.metric, self.epochs = trials, runs, metric, epochs
        self.complete, self.seconds = complete, seconds

    @property
    def best(self) -> dict[str, Any]:
        """The settings of the finalist with the best mean over its seeds.

        Raises:
            ValueError: if the budget ended before one was known.
        """
        return self._finished().configurations[self.comparison().best]

    def comparison(self) -> Comparison:
        """The finalists held against the best of them, over the seeds that all of them had."""
        runs = self._finished()
        scores = runs.scores(self.metric)
        whole = self._whole(runs)
        table = runs.comparison(self.metric)
        return Comparison(
            scores[:, whole],
            runs.configurations,
            metric=self.metric,
            higher_is_better=table.higher_is_better,
            rows=table.rows,
            split_rows=table.split_rows,
            test_uses=runs.test_uses,
        )

    def model(self, seed: int | None = None) -> Any:
        """The model of the best settings as it was after its training, built anew.

        Args:
            seed: one of ``runs.seeds``; default: the first.
        """
        return self._finished().model(self.comparison().best, seed)

    def test(self, x: Any, y: Any, batch_size: int | None = None) -> dict[str, Array]:
        """Measures the best settings on data that nothing was chosen by; counts how often.

        Args:
            x: inputs.
            y: targets.
            batch_size: rows of a batch; default 32.
        """
        return self._finished().test(x, y, self.comparison().best, batch_size)

    def _whole(self, runs: Runs) -> Array:
        """Under which seeds all finalists were trained to the end, or diverged: bools."""
        ended = [lane.epochs == self.epochs or lane.failure is not None for lane in runs.lanes]
        return np.asarray(np.array(ended).reshape(-1, len(runs.seeds)).all(axis=0))

    def _finished(self) -> Runs:
        lost = [trial.failure for trial in self.trials if trial.failure is not None]
        if self.complete and self.runs is None and lost:
            raise ValueError(
                f"all of {len(self.trials)} configurations diverged, the first as "
                f"{lost[0].reason}: there is none to compare. Search smaller learning rates, or "
                "scale the inputs"
            )
        if self.runs is None or not self._whole(self.runs).any():
            raise ValueError(
                f"the budget ended after {self.seconds:.2f} s, before any settings were trained "
                f"under a seed to the end ({len(self.trials)} trials began): cannot tell. Pass a "
                "longer budget, fewer epochs or fewer finalists"
            )
        return self.runs

    def __repr__(self) -> str:
        done = "complete" if self.complete else "ended by its budget"
        return f"<Search: {len(self.trials)} trials, {done}>"

    def __str__(self) -> str:
        epochs = sum(trial.epochs for trial in self.trials)
        lost = sum(trial.failure is not None for trial in self.trials)
        lines = [
            f"{len(self.trials)} configurations tried, {epochs} epochs together"
            + (f", {lost} diverged" if lost else "")
            + ("" if self.complete else f". NOT COMPLETE: the budget ended ({self.seconds:.1f} s)")
        ]
        try:
            lines += [
                "Finalists, trained anew under seeds that they were not chosen by:",
                str(self.comparison()),
            ]
        except ValueError as error:
            lines[1:] = [str(error)]
        return "\n".join(lines)


@clean_traceback
def tune(
    build: Callable[..., Any],
    space: Mapping[str, Any],
    x: Any,
    y: Any = None,
    *,
    trials: int = 64,
    epochs: int = 9,
    seeds: int = 8,
    finalists: int = 5,
    eta: int = 3,
    prune: bool = True,
    sampler: Any = None,
    metric: str | None = None,
    batch_size: int | None = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    sample_weight: Any = None,
    class_weight: Mapping[Any, float] | None = None,
    shuffle: Any = True,
    keep_weights: bool = False,
    budget: float | None = None,
    journal: str | Path | None = None,
    seed: int = 0,
) -> Search:
    """Searches a space of settings, and compares the best that it found over seeds.

    Configurations are spread evenly over the space (scrambled Sobol points). Each is trained for
    few epochs; the best third goes on three times as long, and so on (successive halving), until
    few are left. These finalists are then trained from their beginnings under ``seeds`` seeds
    that the search has not seen, and those numbers, not the lucky ones by which they were found,
    are the table that is printed. Nothing looks at a test set. The result depends on the
    arguments alone: not on threads, nor on what a journal already held.

    K. Jamieson and A. Talwalkar (2016), Non-stochastic best arm identification.

    Args:
        build: gives a new compiled model, called with one value of each setting by name.
        space: for each argument of ``build`` a list of values,
            :class:`~handmill.strategy.Float` or :class:`~handmill.strategy.Int`.
        x: inputs, shape (rows, ...): an array, or a list or dict of arrays.
        y: targets, equally many rows.
        trials: configurations to try.
        epochs: of those that are trained to the end.
        seeds: trainings of each finalist; six are the fewest that can tell two apart.
        finalists: how many configurations are compared in the end.
        eta: of how many one goes on, and how much longer.
        prune: whether those that are behind end early.
        sampler: a sampler of optuna, which then proposes the configurations, 16 at a time
            (``pip install handmill[tune]``).
        metric: what to search for; default: the first metric of the validation.
        batch_size: rows of a batch; default 32.
        validation_split: fraction of the rows, taken from the end, to validate on; without it and
            ``validation_data`` a fifth is drawn, as in :func:`~handmill.try_all`.
        validation_data: ``(x, y)`` or ``(x, y, sample_weight)``.
        sample_weight: a factor for each row.
        class_weight: factors of the rows' weights by class number.
        shuffle: whether each epoch has an order of its own.
        keep_weights: whether the finalists' weights are kept; without, ``model`` trains again,
            to the same bits.
        budget: seconds; what was not reached is said. Kept within a step of training, or within
            an epoch of models that only `fit` can train.
        journal: a file that remembers what is finished, or a folder that several processes share;
            see :func:`~handmill.train_many`.
        seed: of the points, and of the trainings of the search.

    Raises:
        ValueError: for a setting that ``build`` does not have, or numbers that do not fit.
        TypeError: for a space that is none.

    Example:
        >>> import handmill
        >>> from handmill import layers
        >>> from handmill.strategy import Float, Int
        >>> def build(units, rate):
        ...     model = handmill.Sequential([
        ...         handmill.Input((64,)), layers.Dense(units, "relu"),
        ...         layers.Dense(10, "softmax")])
        ...     model.compile(handmill.optimizers.Adam(rate), "sparse_categorical_crossentropy",
        ...                   metrics=["accuracy"])
        ...     return model
        >>> (x, y), _ = handmill.datasets.digits.load_data()
        >>> found = handmill.tune(
        ...     build, {"units": Int(4, 64, log=True), "rate": Float(1e-4, 0.1, log=True)},
        ...     x.reshape(-1, 64) / 16, y, trials=12, epochs=3, seeds=3, finalists=2)
        >>> len(found.trials), sorted(found.best)
        (12, ['rate', 'units'])
    """
    begun = time.monotonic()
    trials, epochs = whole_number("trials", trials, 1), whole_number("epochs", epochs, 1)
    finalists, eta = whole_number("finalists", finalists, 1), whole_number("eta", eta, 2)
    seeds, seed = whole_number("seeds", seeds, 1), whole_number("seed", seed, 0)
    if budget is not None and finite_number("budget", budget) <= 0:
        raise ValueError(f"budget must be seconds, more than 0. Received: {budget}")
    checked = checked_space(space)
    proposals = _optuna(checked, sampler, trials) if sampler is not None else None
    material = Material(
        x,
        y,
        sample_weight,
        validation_data,
        validation_split,
        None,
        batch_size,
        class_weight=class_weight,
        shuffle=shuffle,
    ).validated()
    book = None
    if journal is not None:
        book = open_journal(journal, material.settings, material.data, build)

    def lanes_of(configurations: list[dict[str, Any]], chosen: Sequence[int], keep: bool) -> Lanes:
        return Lanes(build, configurations, material, seeds=chosen, keep_weights=keep)

    search = _Halving(lanes_of, epochs, eta if prune else 0, finalists, metric, book, seed)
    finals: list[Lanes] = []

    def look() -> None:
        if proposals is not None:
            proposals.run(search)
            return
        points = drawn(checked, trials, seed)
        # By the clock in small brackets, so that each has gone all the way when the time is up.
        at_once = BRACKET if budget is None else min(BRACKET, eta**3)
        while configurations := list(islice(points, at_once)):
            search.bracket(configurations)

    def compare() -> None:
        fresh = [seed + 1 + i for i in range(seeds)]
        lanes = lanes_of(search.best(finalists), fresh, keep_weights)
        finals.append(lanes)
        by_seed = sorted(lanes.lanes, key=lambda lane: lane.seed)
        at_once = len(by_seed) if budget is None else len(lanes.configurations)
        for start in range(0, len(by_seed), at_once):
            advance(lanes, epochs, by_seed[start : start + at_once], book)

    try:
        ended = within(None if budget is None else budget * (1 - FOR_FINALISTS), look)
        if search.best(1):
            left = None if budget is None else budget - (time.monotonic() - begun)
            ended = within(left, compare) or ended
    finally:
        if book is not None:
            book.close()
    runs = finals[0].runs() if finals else None
    seconds = time.monotonic() - begun
    return Search(search.trials, runs, search.metric or "", epochs, not ended, seconds)


class _Halving:
    """Successive halving over lanes of one seed.

    Args:
        lanes_of: makes lanes of configurations and seeds.
        epochs: of those that are trained to the end.
        eta: of how many one goes on; 0: all.
        finalists: so many go on in any case.
        metric: what to rank by; None: what the first trainings say.
        book: the journal, if there is one.
        seed: of the trainings.

    Attributes:
        trials: all that were trained so far.
        metric: what is ranked by.
    """

    def __init__(
        self,
        lanes_of: Callable[[list[dict[str, Any]], Sequence[int], bool], Lanes],
        epochs: int,
        eta: int,
        finalists: int,
        metric: str | None,
        book: Journal | None,
        seed: int,
    ) -> None:
        self.trials: list[Trial] = []
        self.metric = metric
        self._lanes_of, self._epochs, self._eta = lanes_of, epochs, eta
        self._finalists, self._book, self._seed = finalists, book, seed
        self._sign = 0.0

    def bracket(self, configurations: list[dict[str, Any]]) -> list[Trial]:
        """Trains some configurations, the better ones further; returns their trials.

        Args:
            configurations: different ones.
        """
        lanes = self._lanes_of(configurations, [self._seed], False)
        left = list(lanes.lanes)
        try:
            for rung in self._rungs(len(left)):
                advance(lanes, rung, left, self._book)
                scores = {id(lane): self._score(lanes, lane) for lane in left}
                ranked = sorted(left, key=lambda lane: -scores[id(lane)])
                kept = max(math.ceil(len(left) / self._eta), self._finalists) if self._eta else None
                left = [lane for lane in ranked[:kept] if lane.failure is None]
                lanes.finish(ranked[kept:] if kept is not None else [])
        finally:  # what was trained when the time was up, too
            found = [self._trial(lanes, lane) for lane in lanes.lanes if lane.epochs]
            self.trials += found
        return found

    def best(self, count: int) -> list[dict[str, Any]]:
        """The configurations that came furthest with the best scores, best first."""
        ranked = sorted(
            (trial for trial in self.trials if trial.failure is None),
            key=lambda trial: (-trial.epochs, -self.turned(trial)),
        )
        return [trial.configuration for trial in ranked[:count]]

    def turned(self, trial: Trial) -> float:
        """A score, turned so that larger is better; what diverged is behind everything."""
        bad = trial.failure is not None or math.isnan(trial.score)
        return -math.inf if bad else self._sign * trial.score

    def _rungs(self, count: int) -> list[int]:
        found = [self._epochs]
        while self._eta and count > self._finalists and found[0] >= self._eta:
            found.insert(0, max(1, round(self._epochs / self._eta ** len(found))))
            count = math.ceil(count / self._eta)
        return sorted(set(found))

    def _trial(self, lanes: Lanes, lane: Lane) -> Trial:
        history = lane.history.get(self._named(lanes), [])
        score = float(history[-1]) if history else math.nan
        return Trial(lanes.configurations[lane.configuration], lane.epochs, score, lane.failure)

    def _score(self, lanes: Lanes, lane: Lane) -> float:
        return self.turned(self._trial(lanes, lane))

    def _named(self, lanes: Lanes) -> str:
        if not self._sign:
            seen = Runs(lanes.configurations, lanes.seeds, lanes.lanes, lanes.directions, [], _none)
            self.metric = self.metric or seen.metric
            self._sign = 1.0 if seen.rises(self.metric) else -1.0
        return self.metric or ""


def _none(lane: Lane) -> None:
    """No model is made of lanes that are only looked at."""


def advance(lanes: Lanes, epochs: int, chosen: list[Lane], book: Journal | None) -> None:
    """Takes lanes on to an epoch, by a journal if there is one."""
    if book is None:
        lanes.advance(epochs, chosen)
    else:
        advance_with_journal(lanes, epochs, book, chosen)


def _optuna(space: Mapping[str, Any], sampler: Any, trials: int) -> Any:
    from handmill.strategy.optuna_bridge import Proposals

    return Proposals(space, sampler, trials)
