"""What a step takes on some ranks, by arithmetic: for a plan before there are machines."""

from __future__ import annotations

from typing import NamedTuple


class StepCost(NamedTuple):
    """The seconds of one training step.

    Attributes:
        compute: of the rank with the most rows.
        exchange: of gradients.
    """

    compute: float
    exchange: float

    @property
    def total(self) -> float:
        """Both, one after the other."""
        return self.compute + self.exchange


def step_cost(
    ranks: int,
    *,
    batch_size: int,
    parameters: int,
    flops_per_row: float,
    flops: float = 150e9,
    latency: float = 20e-6,
    bytes_per_second: float = 1.25e9,
    shards: int | None = None,
) -> StepCost:
    """Estimates a data parallel step.

    Ranks compute their shards, show each other where they are, then each sends the others their
    parts of the gradients, adds up its own part and sends the sum back: two messages to each other
    rank, and ``2 n (R - 1) / R`` of n bytes out and in. The last parts of a batch that cannot be
    cut evenly count as whole.

    Args:
        ranks: how many, each on a machine of its own.
        batch_size: rows of the whole batch.
        parameters: numbers of the model that are trained.
        flops_per_row: of a training step, forward, backward and update: 6 for each parameter of
            dense layers, more where weights are used at several places.
        flops: a second that a rank computes.
        latency: seconds of a message; 20e-6 between machines on Ethernet, 1e-6 inside one.
        bytes_per_second: of the network, each way; 1.25e9 is 10 Gb Ethernet.
        shards: into how many a batch is cut; default: 16, or more where there are more ranks.

    Raises:
        ValueError: for numbers that are not greater than 0.

    Example:
        >>> from handmill import distribution
        >>> one, eight = (
        ...     distribution.step_cost(
        ...         r, batch_size=1024, parameters=1_970_000, flops_per_row=708e6)
        ...     for r in (1, 8)
        ... )
        >>> round(one.total, 2), round(eight.total, 2)
        (4.83, 0.62)
    """
    given = {
        "ranks": ranks,
        "batch_size": batch_size,
        "parameters": parameters,
        "flops_per_row": flops_per_row,
        "flops": flops,
        "latency": latency,
        "bytes_per_second": bytes_per_second,
    }
    for name, value in given.items():
        if not value > 0:
            raise ValueError(f"step_cost() got {name}={value!r}; expected more than 0")
    pieces = max(16, 1 << (ranks - 1).bit_length()) if shards is None else shards
    most = -(-pieces // ranks) * -(-batch_size // pieces)
    compute = min(most, batch_size) * flops_per_row / flops
    if ranks == 1:
        return StepCost(compute, 0.0)
    volume = 2 * 4 * parameters * (ranks - 1) / ranks
    return StepCost(compute, 3 * (ranks - 1) * latency + volume / bytes_per_second)
