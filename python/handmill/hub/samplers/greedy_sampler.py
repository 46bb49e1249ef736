"""The likeliest token."""

from __future__ import annotations

from typing import Any

from handmill.hub.samplers.sampler import Sampler, Settings


class GreedySampler(Sampler):
    """Takes the likeliest token; of equally likely ones the lower.

    Args:
        temperature: changes nothing.

    Example:
        >>> import numpy as np
        >>> from handmill import hub
        >>> sampler = hub.samplers.GreedySampler()
        >>> sampler.get_next_token(np.array([[0.2, 0.5, 0.3]], "float32"))
        array([1], dtype=int32)

    Source: the class of the same name in KerasHub.
    """

    def settings(self) -> Settings:
        """Returns the numbers by which tokens are chosen."""
        return Settings(1.0, 1.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal sampler, as plain data."""
        return super().get_config()
