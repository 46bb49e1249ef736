"""What many trainings gave: a lane for each configuration and seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from handmill.ir.op import Array
from handmill.naming import known_names
from handmill.strategy.comparison import Comparison


class Divergence(NamedTuple):
    """Where a lane ended because its numbers were not finite.

    Attributes:
        epoch: the epoch, from 0.
        step: the step of the whole training, from 1, whose loss was not finite.
        reason: in words.
    """

    epoch: int
    step: int
    reason: str


@dataclass
class Lane:
    """One training: a configuration and a seed.

    Attributes:
        configuration: the position of the configuration.
        seed: the seed.
        history: the numbers of each epoch by name, as ``fit`` gives them.
        failure: why it ended early; None if it did not.
        weights: what it learnt, as ``get_weights`` gives it; None if that was not kept.
    """

    configuration: int
    seed: int
    history: dict[str, list[Any]] = field(default_factory=dict)
    failure: Divergence | None = None
    weights: list[Array] | None = None

    @property
    def epochs(self) -> int:
        """How many epochs it has been trained."""
        return max(map(len, self.history.values()), default=0)


class Runs:
    """The trainings of some configurations under some seeds.

    All configurations have the same seeds, so that they are compared pair by pair.

    Args:
        configurations: what ``build`` was called with, without duplicates.
        seeds: the seeds of each configuration.
        lanes: by configuration, then seed.
        directions: ``"up"`` or ``"down"`` for each number whose metric knows it.
        notes: what was noticed, in words.
        rebuild: gives the model of a lane as it was after its training.
        rows: for each seed, the rows that it trained on and those that it was validated on.
        has_splits: whether each seed has rows of its own.

    Attributes:
        test_uses: how often :meth:`test` looked at test data. What is chosen by looking at them
            is no estimate any more.
    """

    def __init__(
        self,
        configurations: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        lanes: Sequence[Lane],
        directions: Mapping[str, str],
        notes: Sequence[str],
        rebuild: Callable[[Lane], Any],
        rows: Sequence[tuple[int, ...]] = (),
        has_splits: bool = False,
    ) -> None:
        self.configurations = [dict(c) for c in configurations]
        self.seeds = list(seeds)
        self.lanes = list(lanes)
        self.notes = list(notes)
        self.test_uses = 0
        self._directions = dict(directions)
        self._rebuild = rebuild
        self._rows = list(rows)
        self._has_splits = has_splits

    def __repr__(self) -> str:
        failed = int(np.count_nonzero(~self.feasible))
        text = f"{len(self.configurations)} configurations, {len(self.seeds)} seeds"
        return f"<Runs: {text}{f', {failed} lanes diverged' if failed else ''}>"

    def __str__(self) -> str:
        if not self.names:
            return repr(self)
        if not np.isfinite(self.scores()).all(axis=1).any():
            lost = [lane.failure.reason for lane in self.lanes if lane.failure is not None]
            why = f" ({lost[0]})" if lost else ""
            return f"{self!r}: none has {self.metric} for each seed{why}; nothing can be compared"
        table = str(self.comparison())
        if self.metric.startswith("val_"):
            return table
        return f"{table}\nMeasured on rows that were learned from: it says nothing of other rows."

    def comparison(self, metric: str | None = None, epoch: int = -1) -> Comparison:
        """The configurations held against the best of them, as a table that says how sure it is.

        Args:
            metric: the number to compare; default: :attr:`metric`.
            epoch: the epoch, from 0; negative: from the end.

        Raises:
            ValueError: for a name that is not there, or one of which nothing tells whether it
                should rise.
        """
        name = self._named(metric)
        train, test = self._rows[0][:2] if self._rows else (0, 0)
        is_rate = name.startswith("val_") and "acc" in name and not self._has_splits
        return Comparison(
            self.scores(name, epoch),
            self.configurations,
            metric=name,
            higher_is_better=self.rises(name),
            rows=test if is_rate and test else None,
            split_rows=(train, test) if self._has_splits and test else None,
            test_uses=self.test_uses,
        )

    def lane(self, configuration: int, seed: int) -> Lane:
        """The lane of a configuration, by its position, and a seed."""
        if seed not in self.seeds:
            raise ValueError(f"seed {seed!r} was not run; the seeds are {self.seeds}")
        position = range(len(self.configurations))[configuration]
        return self.lanes[position * len(self.seeds) + self.seeds.index(seed)]

    @property
    def feasible(self) -> Array:
        """Which lanes stayed finite: bools of shape (configurations, seeds)."""
        found = np.array([lane.failure is None for lane in self.lanes], bool)
        return found.reshape(len(self.configurations), len(self.seeds))

    @property
    def names(self) -> list[str]:
        """The names of the numbers of an epoch."""
        return list(dict.fromkeys(name for lane in self.lanes for name in lane.history))

    @property
    def metric(self) -> str:
        """The number that is meant where none is named.

        The first metric of the validation whose direction is known, else the loss of the
        validation; without validation, those of the training.
        """
        names = self.names
        measured = [n for n in names if n.startswith("val_")] or names
        for name in measured:
            if name in self._directions and not name.endswith("loss"):
                return name
        return next((n for n in measured if n.endswith("loss")), measured[0] if measured else "")

    def rises(self, metric: str | None = None) -> bool:
        """Whether a higher number is a better one.

        Raises:
            ValueError: if nothing tells it, or nothing has that name.
        """
        name = self._named(metric)
        if name not in self._directions:
            raise ValueError(
                f"nothing tells whether {name!r} should rise or fall: no metric of that name knows "
                f"its direction. Those that do: {', '.join(sorted(self._directions))}"
            )
        return self._directions[name] == "up"

    def scores(self, metric: str | None = None, epoch: int = -1) -> Array:
        """The numbers of one epoch, float64 of shape (configurations, seeds).

        Args:
            metric: the name; default: :attr:`metric`.
            epoch: the epoch, from 0; negative: from the end. The last one is chosen before the
                numbers are seen, the best one is not.

        Returns:
            The numbers; NaN for lanes that diverged, or were ended before that epoch.

        Raises:
            ValueError: for a name that is not there, or an epoch that no lane has reached.
        """
        table = self.table(metric)
        epochs = table.shape[2]
        if not -epochs <= epoch < epochs:
            raise ValueError(f"there are {epochs} epochs, from 0: epoch {epoch} is not one of them")
        found: Array = np.where(self.feasible, table[:, :, epoch], np.nan)
        return found

    def table(self, metric: str | None = None) -> Array:
        """The numbers of all epochs, float64 of shape (configurations, seeds, epochs).

        NaN where a lane was not trained any more.
        """
        name = self._named(metric)
        epochs = max(lane.epochs for lane in self.lanes)
        found = np.full((len(self.lanes), epochs), np.nan)
        for row, lane in zip(found, self.lanes, strict=True):
            numbers = lane.history.get(name, [])
            if numbers and np.ndim(numbers[0]):
                raise ValueError(
                    f"{name!r} is an array of shape {np.shape(numbers[0])}, not a number; its "
                    "values are in the history of each lane"
                )
            row[: len(numbers)] = numbers
        return found.reshape(len(self.configurations), len(self.seeds), epochs)

    @property
    def best_index(self) -> int:
        """The position of the configuration with the best mean of :attr:`metric` over the seeds.

        One with a lane that diverged is behind those without.

        Raises:
            ValueError: if every configuration diverged under some seed.
        """
        means = self.scores().mean(axis=1)
        if np.isnan(means).all():
            raise ValueError(
                f"every configuration diverged under some seed: {self.lanes[0].failure}"
                "\n  hint: a smaller learning rate, or inputs of a smaller scale"
            )
        return int(np.nanargmax(means) if self.rises() else np.nanargmin(means))

    @property
    def best(self) -> dict[str, Any]:
        """The configuration with the best mean of :attr:`metric` over the seeds.

        It is the best *seen*: the more configurations were tried, the more of its lead is luck.
        """
        return self.configurations[self.best_index]

    def model(self, configuration: int | None = None, seed: int | None = None) -> Any:
        """The model of a lane as it was after its training, built anew.

        Args:
            configuration: the position of the configuration; default: the best.
            seed: the seed; default: the first.
        """
        configuration = self.best_index if configuration is None else configuration
        return self._rebuild(self.lane(configuration, self.seeds[0] if seed is None else seed))

    def test(
        self, x: Any, y: Any, configuration: int | None = None, batch_size: int | None = None
    ) -> dict[str, Array]:
        """Measures one configuration on data that nothing was chosen by; counts how often.

        Args:
            x: inputs.
            y: targets.
            configuration: the position of the configuration; default: the best.
            batch_size: rows of a batch; default 32.

        Returns:
            For each name the numbers of the seeds, of shape (seeds,); NaN where a lane diverged.
        """
        configuration = self.best_index if configuration is None else configuration
        found = []
        for seed in self.seeds:
            lane = self.lane(configuration, seed)
            model = self._rebuild(lane)
            logs = model.evaluate(x, y, batch_size=batch_size, verbose=0, return_dict=True)
            failed = lane.failure is not None
            found.append({k: np.full_like(v, np.nan) if failed else v for k, v in logs.items()})
        self.test_uses += 1
        return {name: np.array([logs[name] for logs in found]) for name in found[0]}

    def _named(self, metric: str | None) -> str:
        name = self.metric if metric is None else metric
        if name not in self.names:
            raise ValueError(known_names("number", name, self.names))
        return name
