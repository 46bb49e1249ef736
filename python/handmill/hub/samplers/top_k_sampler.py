"""One of the k likeliest tokens."""

from __future__ import annotations

from typing import Any

from handmill.arguments import whole_number
from handmill.hub.samplers.sampler import Sampler, Settings, seed_of


class TopKSampler(Sampler):
    """Draws from the likeliest tokens, each with its probability among them.

    Args:
        k: how many; more than there are tokens means all. Of equally likely ones the lower count.
        seed: an integer, under which each run draws the same; default: the next one after
            ``utils.set_random_seed``.
        temperature: see :class:`Sampler`.

    Raises:
        ValueError: if `k` is no whole number of 1 or more.

    Example:
        >>> import numpy as np
        >>> from handmill import hub
        >>> sampler = hub.samplers.TopKSampler(k=2, seed=3)
        >>> draws = [int(sampler.get_next_token(np.array([[0.1, 0.5, 0.4]], "f"))[0])]
        >>> 0 in draws
        False

    Source: the class of the same name in KerasHub.
    """

    def __init__(self, k: int = 5, seed: int | None = None, temperature: float = 1.0) -> None:
        super().__init__(temperature)
        self.k = whole_number("k", k, 1)
        self.seed = seed_of(seed)

    def settings(self) -> Settings:
        """Returns the numbers by which tokens are chosen."""
        settings = super().settings()
        return settings._replace(k=min(settings.k, float(self.k)))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal sampler, as plain data."""
        return {"k": self.k, "seed": self.seed, **super().get_config()}
