"""Tokens hidden at random, for a model that finds them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill import random
from handmill.arguments import real_number, whole_number
from handmill.hub.preprocessing.rows import rows_of
from handmill.ir.op import Array


class MaskedLMMaskGenerator:
    """Chooses tokens that a model has to find, and hides most of them.

    A chosen token becomes the mask token, or, at `random_token_rate`, any token, or stays.

    Args:
        vocabulary_size: from which random tokens are drawn.
        mask_selection_rate: the share of tokens that are chosen, rounded up.
        mask_token_id: the mask token.
        mask_selection_length: the most tokens chosen in a row, and the length of what is returned
            of them. Default: as many as there are in the longest row.
        unselectable_token_ids: tokens that are never chosen.
        mask_token_rate: the share of chosen tokens that become the mask token.
        random_token_rate: the share that become any token.
        seed: an integer; each call draws anew, and equal generators draw the same. Default: the
            next one after ``utils.set_random_seed``.
        name: accepted as in KerasHub.

    Example:
        >>> from handmill import hub
        >>> generator = hub.layers.MaskedLMMaskGenerator(
        ...     vocabulary_size=10, mask_selection_rate=0.5, mask_token_id=9, seed=1)
        >>> found = generator([[1, 2, 3, 4]])
        >>> found["mask_ids"].shape, found["mask_weights"]
        ((1, 2), array([[1., 1.]], dtype=float32))

    Source: the class of the same name in KerasHub; Devlin et al., "BERT", 2018, section 3.1.
    """

    def __init__(
        self,
        vocabulary_size: int,
        mask_selection_rate: float,
        mask_token_id: int,
        mask_selection_length: int | None = None,
        unselectable_token_ids: Sequence[int] = (0,),
        mask_token_rate: float = 0.8,
        random_token_rate: float = 0.1,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        self.vocabulary_size = whole_number("vocabulary_size", vocabulary_size, 1)
        self.mask_token_id = whole_number("mask_token_id", mask_token_id, 0)
        self.mask_selection_rate = _share("mask_selection_rate", mask_selection_rate)
        self.mask_token_rate = _share("mask_token_rate", mask_token_rate)
        self.random_token_rate = _share("random_token_rate", random_token_rate)
        if self.mask_token_rate + self.random_token_rate > 1:
            raise ValueError(
                "`mask_token_rate` + `random_token_rate` must be at most 1. Received: "
                f"{mask_token_rate} and {random_token_rate}"
            )
        if self.mask_token_id >= self.vocabulary_size:
            raise ValueError(
                f"`mask_token_id` must be below `vocabulary_size`. Received: {mask_token_id} and "
                f"{vocabulary_size}"
            )
        if mask_selection_length is not None:
            mask_selection_length = whole_number("mask_selection_length", mask_selection_length, 1)
        self.mask_selection_length = mask_selection_length
        self.unselectable_token_ids = list(unselectable_token_ids or ())
        self.seed = random.next_host_seed() if seed is None else whole_number("seed", seed)
        self.name = name
        self._calls = 0

    def __call__(self, inputs: Any) -> dict[str, Array]:
        """Masks tokens.

        Args:
            inputs: tokens (T,), or rows of them, of one length or not.

        Returns:
            "token_ids", with tokens hidden, in the shape given (filled up with 0); and of the
            chosen ones "mask_positions", "mask_ids" and "mask_weights" (1 where there is one).
        """
        rows, single = rows_of(inputs, "MaskedLMMaskGenerator")
        width = max(map(len, rows), default=0)
        tokens = np.zeros((len(rows), width), np.int32)
        is_real = np.zeros((len(rows), width), bool)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = row
            is_real[i, : len(row)] = True
        u = random.unit((3, *tokens.shape), self.seed, self._calls)
        self._calls += 1
        selectable = is_real & ~np.isin(tokens, self.unselectable_token_ids)
        counts = np.ceil(selectable.sum(axis=1) * self.mask_selection_rate).astype(int)
        if self.mask_selection_length is not None:
            counts = np.minimum(counts, self.mask_selection_length)
        length = self.mask_selection_length or int(counts.max(initial=0))
        order = np.argsort(np.where(selectable, u[0], 2.0), axis=1, kind="stable")
        positions = np.zeros((len(rows), length), np.int32)
        weights = np.zeros((len(rows), length), np.float32)
        hidden = tokens.copy()
        for i, count in enumerate(counts.tolist()):
            chosen = np.sort(order[i, :count])
            positions[i, :count] = chosen
            weights[i, :count] = 1.0
            fate = u[1, i, chosen]
            anything = (u[2, i, chosen] * self.vocabulary_size).astype(np.int32)
            drawn = fate < self.mask_token_rate + self.random_token_rate
            kept = np.where(drawn, anything, tokens[i, chosen])
            hidden[i, chosen] = np.where(fate < self.mask_token_rate, self.mask_token_id, kept)
        ids = np.where(weights > 0, np.take_along_axis(tokens, positions, 1), 0).astype(np.int32)
        found = {
            "token_ids": hidden,
            "mask_positions": positions,
            "mask_ids": ids,
            "mask_weights": weights,
        }
        return {name: x[0] for name, x in found.items()} if single else found

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal generator, as plain data."""
        return {
            "vocabulary_size": self.vocabulary_size,
            "mask_selection_rate": self.mask_selection_rate,
            "mask_token_id": self.mask_token_id,
            "mask_selection_length": self.mask_selection_length,
            "unselectable_token_ids": self.unselectable_token_ids,
            "mask_token_rate": self.mask_token_rate,
            "random_token_rate": self.random_token_rate,
            "seed": self.seed,
            "name": self.name,
        }


def _share(name: str, value: float) -> float:
    number = real_number(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"`{name}` must be from 0 to 1. Received: {value!r}")
    return number
