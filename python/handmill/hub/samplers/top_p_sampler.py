"""One of the likeliest tokens that have a share of the probability."""

from __future__ import annotations

from typing import Any

from handmill.arguments import real_number, whole_number
from handmill.hub.samplers.sampler import Sampler, Settings, seed_of


class TopPSampler(Sampler):
    """Draws from the fewest likeliest tokens whose probability together exceeds `p`.

    Args:
        p: the share, above 0, at most 1. The token with which it is exceeded counts too.
        k: at most so many tokens. Default: any number.
        seed: an integer, under which each run draws the same; default: the next one after
            ``utils.set_random_seed``.
        temperature: see :class:`Sampler`.

    Raises:
        ValueError: if `p` is not in (0, 1], or `k` is no whole number of 1 or more.

    Example:
        >>> import numpy as np
        >>> from handmill import hub
        >>> sampler = hub.samplers.TopPSampler(p=0.4, seed=3)
        >>> sampler.get_next_token(np.array([[0.1, 0.5, 0.4]], "float32"))
        array([1], dtype=int32)

    Source: the class of the same name in KerasHub; Holtzman et al., "The curious case of neural
    text degeneration", ICLR 2020.
    """

    def __init__(
        self,
        p: float = 0.1,
        k: int | None = None,
        seed: int | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(temperature)
        self.p = real_number("p", p)
        if not 0 < self.p <= 1:
            raise ValueError(f"`p` must be above 0 and at most 1. Received: {p!r}")
        self.k = None if k is None else whole_number("k", k, 1)
        self.seed = seed_of(seed)

    def settings(self) -> Settings:
        """Returns the numbers by which tokens are chosen."""
        settings = super().settings()
        k = settings.k if self.k is None else min(settings.k, float(self.k))
        return settings._replace(k=k, p=self.p)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal sampler, as plain data."""
        return {"p": self.p, "k": self.k, "seed": self.seed, **super().get_config()}
