"""Configurations that a sampler of optuna proposes; needs the extra ``[tune]``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from handmill.strategy.space import Float, Int

AT_ONCE = 16
"""Proposals that are trained together; the sampler learns from them before it goes on."""


class Proposals:
    """Asks a sampler for configurations, and tells it what became of them.

    Args:
        space: as ``checked_space`` returns it.
        sampler: an ``optuna.samplers.BaseSampler``.
        trials: how many to ask for.

    Raises:
        ImportError: without optuna.
        TypeError: for another sampler.
    """

    def __init__(self, space: Mapping[str, Any], sampler: Any, trials: int) -> None:
        try:
            import optuna
        except ImportError as error:
            raise ImportError(
                "sampler= is for samplers of optuna: pip install handmill[tune]; without, tune "
                "spreads its trials by itself"
            ) from error
        if not isinstance(sampler, optuna.samplers.BaseSampler):
            raise TypeError(
                "sampler must be one of optuna.samplers, such as TPESampler(seed=0). Received: "
                f"{type(sampler).__name__}"
            )
        self._optuna, self._space, self._trials = optuna, space, trials
        with _quiet(optuna):
            self._study = optuna.create_study(direction="maximize", sampler=sampler)

    def run(self, search: Any) -> None:
        """Has configurations trained, some at a time.

        Args:
            search: what trains them, a ``_Halving`` of :mod:`handmill.strategy.tuning`.
        """
        state = self._optuna.trial.TrialState
        known: dict[str, Any] = {}
        left = self._trials
        while left:
            asked = [self._study.ask(self._distributions()) for _ in range(min(left, AT_ONCE))]
            left -= len(asked)
            made = {json.dumps(t.params, sort_keys=True): self._settings(t.params) for t in asked}
            new = {key: settings for key, settings in made.items() if key not in known}
            if new:  # what was proposed before is not trained again
                known.update(zip(new, search.bracket(list(new.values())), strict=True))
            for trial in asked:
                result = known[json.dumps(trial.params, sort_keys=True)]
                value = search.turned(result)
                if math.isfinite(value):
                    trial.report(value, result.epochs)
                    self._study.tell(trial, value)
                else:
                    self._study.tell(trial, state=state.FAIL)

    def _distributions(self) -> dict[str, Any]:
        kinds = self._optuna.distributions
        return {
            name: kinds.FloatDistribution(v.low, v.high, log=v.log)
            if isinstance(v, Float)
            else kinds.IntDistribution(v.low, v.high, log=v.log)
            if isinstance(v, Int)
            else kinds.CategoricalDistribution(range(len(v)))
            for name, v in self._space.items()
        }

    def _settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: params[name] if isinstance(v, Float | Int) else v[params[name]]
            for name, v in self._space.items()
        }


class _quiet:
    """A block in which optuna writes no log lines."""

    def __init__(self, optuna: Any) -> None:
        self._logging = optuna.logging

    def __enter__(self) -> None:
        self._before = self._logging.get_verbosity()
        self._logging.set_verbosity(self._logging.WARNING)

    def __exit__(self, *error: object) -> None:
        self._logging.set_verbosity(self._before)
