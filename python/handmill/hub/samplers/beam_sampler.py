"""The likeliest texts, several of them kept beside each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.hub.samplers.sampler import Sampler, refuse_missing
from handmill.ir.op import Array


class BeamSampler(Sampler):
    """Keeps the `num_beams` likeliest texts while they grow, and returns the likeliest of them.

    A text that has ended stays as it is, with its probability, beside those that go on (KerasHub
    lets it go on). There is no penalty for length.

    Args:
        num_beams: how many; there may be more than tokens, as for a search of all short texts.
        return_all_beams: whether all are returned, likeliest first, with their log-probabilities.
        temperature: see :class:`Sampler`; 0 counts as 1.

    Raises:
        ValueError: if `num_beams` is no whole number of 1 or more.

    Example:
        >>> import numpy as np
        >>> from handmill import hub
        >>> logits = np.log(np.array([[0.1, 0.6, 0.3]]))
        >>> step = lambda prompt, cache, index: (np.repeat(logits, len(prompt), 0), None, cache)
        >>> hub.samplers.BeamSampler(num_beams=2)(step, np.zeros((1, 3), "int32"), index=1)
        array([[0, 1, 1]], dtype=int32)

    Source: the class of the same name in KerasHub.
    """

    def __init__(
        self, num_beams: int = 5, return_all_beams: bool = False, temperature: float = 1.0
    ) -> None:
        super().__init__(temperature)
        self.num_beams = whole_number("num_beams", num_beams, 1)
        self.return_all_beams = bool(return_all_beams)

    def __call__(
        self,
        next: Callable[..., tuple[Any, Any, Any]],
        prompt: Any,
        cache: Any = None,
        index: int = 0,
        mask: Any = None,
        stop_token_ids: Sequence[int] | None = None,
        hidden_states: Any = None,
        model: Any = None,
    ) -> Any:
        """Fills up a prompt with the likeliest text found; see :class:`Sampler`.

        `next` is called with `num_beams` rows for each row of the prompt; a cache is handed to it
        with its rows in the order of the beams: arrays whose first axis are rows.

        Returns:
            The tokens (B, T). With `return_all_beams` those of all beams (B, num_beams, T) and
            their log-probabilities (B, num_beams): -inf for those that no text is left for, where
            there are more beams than texts.
        """
        tokens = np.array(prompt)
        kept = np.zeros(tokens.shape, bool) if mask is None else np.array(mask, bool)
        search = BeamSearch(tokens, self.num_beams, self.temperature, stop_token_ids)
        cache = _rows(cache, np.repeat(np.arange(len(tokens)), self.num_beams))
        while index < tokens.shape[1] and not search.is_done:
            logits, _, cache = next(search.tokens, cache, index)
            parents = search.extend(np.asarray(logits), index, kept[:, index])
            cache = _rows(cache, parents)
            index += 1
        return search.result(self.return_all_beams)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal sampler, as plain data."""
        return {
            "num_beams": self.num_beams,
            "return_all_beams": self.return_all_beams,
            **super().get_config(),
        }


class BeamSearch:
    """Beams under way: texts, their log-probabilities, and which of them have ended.

    Args:
        prompts: tokens (B, T).
        num_beams: how many beams a row has.
        temperature: by which logits are divided.
        stop_token_ids: tokens that end a beam.

    Attributes:
        tokens: (B * num_beams, T), the beams of a row one after the other.
    """

    def __init__(
        self,
        prompts: Array,
        num_beams: int,
        temperature: float,
        stop_token_ids: Sequence[int] | None,
    ) -> None:
        self.rows, self.beams = len(prompts), num_beams
        self.tokens = np.repeat(prompts, num_beams, axis=0)
        self.scores = np.full((self.rows, num_beams), -np.inf)
        self.scores[:, 0] = 0.0  # at first all beams of a row are the same: one counts
        self.done = np.zeros((self.rows, num_beams), bool)
        self._temperature = temperature or 1.0
        self._stops = np.asarray([] if stop_token_ids is None else stop_token_ids, np.int64)

    @property
    def is_done(self) -> bool:
        """Whether all beams have ended."""
        return bool(self.done.all())

    def extend(self, logits: Array, index: int, kept: Array) -> Array:
        """Makes the beams one token longer.

        Args:
            logits: (B * num_beams, V).
            index: where the token goes.
            kept: of each row, whether the token that stands there stays.

        Returns:
            Which beam each one was made of: numbers of rows of ``tokens``.
        """
        wide = logits.astype(np.float64).reshape(self.rows, self.beams, -1) / self._temperature
        best = wide.max(axis=-1, keepdims=True)
        refuse_missing(np.where(np.isfinite(best), 0, -1).reshape(-1), index)
        logarithms = wide - best - np.log(np.exp(wide - best).sum(axis=-1, keepdims=True))
        parents = np.arange(self.rows * self.beams)
        for row in range(self.rows):
            self._extend_row(row, logarithms[row], index, bool(kept[row]), parents)
        return parents

    def _extend_row(
        self, row: int, logarithms: Array, index: int, kept: bool, parents: Array
    ) -> None:
        first = row * self.beams
        own = self.tokens[first : first + self.beams]
        if kept:
            self.scores[row] += np.where(
                self.done[row], 0.0, logarithms[np.arange(self.beams), own[:, index]]
            )
            return
        total = self.scores[row][:, None] + logarithms
        # A beam that has ended goes on as itself: one candidate, of its own score.
        total[self.done[row]] = -np.inf
        total[self.done[row], 0] = self.scores[row][self.done[row]]
        order = np.argsort(-total.reshape(-1), kind="stable")[: self.beams]
        beam, token = np.divmod(order, total.shape[1])
        ended = self.done[row][beam]
        new = own[beam].copy()
        new[:, index] = np.where(ended, new[:, index], token)
        self.tokens[first : first + self.beams] = new
        self.scores[row] = total.reshape(-1)[order]
        self.done[row] = ended | np.isin(token, self._stops)
        parents[first : first + self.beams] = first + beam

    def result(self, all_beams: bool) -> Any:
        """Returns the likeliest beam of each row; or all, with their log-probabilities."""
        order = np.argsort(-self.scores, axis=1, kind="stable")
        tokens = self.tokens.reshape(self.rows, self.beams, -1)
        tokens = np.take_along_axis(tokens, order[:, :, None], axis=1)
        if not all_beams:
            return tokens[:, 0]
        return tokens, np.take_along_axis(self.scores, order, axis=1).astype(np.float32)


def _rows(cache: Any, order: Array) -> Any:
    from handmill import tree

    return tree.map_structure(lambda x: None if x is None else np.asarray(x)[order], cache)
