"""Any token, by its probability."""

from __future__ import annotations

from typing import Any

from handmill.hub.samplers.sampler import Sampler, seed_of


class RandomSampler(Sampler):
    """Draws from all tokens, each with its probability.

    Args:
        seed: an integer, under which each run draws the same; default: the next one after
            ``utils.set_random_seed``.
        temperature: see :class:`Sampler`.

    Example:
        >>> import numpy as np
        >>> from handmill import hub
        >>> sampler = hub.samplers.RandomSampler(seed=3)
        >>> sampler.get_next_token(np.array([[0.0, 1.0, 0.0]], "float32"))
        array([1], dtype=int32)

    Source: the class of the same name in KerasHub.
    """

    def __init__(self, seed: int | None = None, temperature: float = 1.0) -> None:
        super().__init__(temperature)
        self.seed = seed_of(seed)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal sampler, as plain data."""
        return {"seed": self.seed, **super().get_config()}
