"""What all samplers share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from handmill import ops
from handmill.arguments import real_number
from handmill.ir.op import Array
from handmill.ir.trace import apply
from handmill.primitives.operands import shape_of, tensor
from handmill.primitives.random import random_uniform
from handmill.primitives.tokens import CHOOSE_TOKEN
from handmill.random import next_host_seed


class Settings(NamedTuple):
    """Numbers that say how a token is chosen.

    Attributes:
        temperature: by which logits are divided.
        k: how many of the likeliest tokens are kept; 1: the likeliest is the token.
        p: of these, those before which the others have at most this probability together.
    """

    temperature: float
    k: float
    p: float


ALL = float(1 << 31)
"""A `k` that keeps every token."""


def chosen(logits: Any, states: Any, settings: Any) -> Any:
    """Returns a token for each row.

    Args:
        logits: (B, V), float32.
        states: the seed state of each row, int64 (B, 2).
        settings: the numbers of :class:`Settings`, float32 (3,).

    Returns:
        int32 (B,); -1 where the logits of a row are NaN, or all -inf.
    """
    u = random_uniform(states, (shape_of(logits)[0], 2))
    return apply(CHOOSE_TOKEN, logits, u, settings)


class Sampler:
    """Base class of samplers.

    Logits are divided by the temperature, made probabilities in float32, cut down to those that may
    be chosen, and one is drawn. A sampler of your own overrides :meth:`get_next_token`, in
    operators of ``handmill.ops``; it then becomes a part of the program that generates.

    Args:
        temperature: above 1 for more surprise, below 1 for less. 0: the likeliest token.

    Raises:
        ValueError: for a temperature that is negative or no finite number.

    Source: the class of the same name in KerasHub.
    """

    seed: int | None = None

    def __init__(self, temperature: float = 1.0) -> None:
        number = real_number("temperature", temperature)
        if not (math.isfinite(number) and number >= 0):
            raise ValueError(
                f"`temperature` must be a finite number of 0 or more. Received: {temperature!r}"
            )
        self.temperature = number

    def settings(self) -> Settings:
        """Returns the numbers by which tokens are chosen."""
        if self.temperature == 0:
            return Settings(1.0, 1.0, 1.0)
        return Settings(self.temperature, ALL, 1.0)

    @property
    def is_custom(self) -> bool:
        """Whether a subclass chooses tokens in its own way."""
        own = type(self)
        return (
            own.get_next_token is not Sampler.get_next_token
            or own.compute_probabilities is not Sampler.compute_probabilities
        )

    def compute_probabilities(self, logits: Any) -> Any:
        """Returns the softmax, in float32, of logits divided by the temperature."""
        divisor = self.temperature if self.temperature > 0 else 1.0
        return ops.softmax(ops.divide(ops.cast(logits, "float32"), divisor))

    def get_next_token(self, probabilities: Any) -> Any:
        """Returns a token for each row of probabilities (B, V)."""
        logits = ops.log(ops.cast(probabilities, "float32"))
        rows: Any = shape_of(tensor(logits))[0]
        settings = self.settings()._replace(temperature=1.0)
        return chosen(logits, first_states(self.run_seed(), rows), np.array(settings, np.float32))

    def run_seed(self) -> int:
        """Returns the seed of one run: the sampler's own, or the next of ``set_random_seed``."""
        return next_host_seed() if self.seed is None else self.seed

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
    ) -> Array:
        """Fills up a prompt, token by token.

        Args:
            next: ``next(prompt, cache, index)`` returns logits (B, V) of the token at ``index``,
                hidden states, and the cache.
            prompt: tokens (B, T); what stands from ``index`` on is replaced, unless ``mask`` keeps
                it.
            cache: handed to ``next``.
            index: where the first token is chosen.
            mask: (B, T), true where a token stays.
            stop_token_ids: tokens that end a row.
            hidden_states: accepted as in KerasHub; nothing reads it.
            model: accepted as in KerasHub; nothing reads it.

        Returns:
            The tokens (B, T). ``GPT2CausalLM.generate`` does this as one program.
        """
        tokens = np.array(prompt)
        if tokens.ndim == 1:
            tokens = tokens[None]
        kept = np.zeros(tokens.shape, bool) if mask is None else np.array(mask, bool)
        kept = kept.reshape(tokens.shape)
        rows, length = tokens.shape
        states = first_states(self.run_seed(), rows)
        done = np.zeros(rows, bool)
        while index < length and not done.all():
            logits, _, cache = next(tokens.reshape(np.shape(prompt)), cache, index)
            logits = np.asarray(logits, np.float32).reshape(rows, -1)
            found = self.choose(logits, states + np.array([0, index]))
            refuse_missing(found, index)
            new = np.where(kept[:, index] | done, tokens[:, index], found)
            tokens[:, index] = new
            if stop_token_ids is not None:
                done |= np.isin(new, np.asarray(stop_token_ids)) & ~kept[:, index]
            index += 1
        filled: Array = tokens.reshape(np.shape(prompt))
        return filled

    def choose(self, logits: Any, states: Any) -> Any:
        """Returns a token for each row of logits (B, V), each by its seed state."""
        if self.is_custom:
            return ops.cast(self.get_next_token(self.compute_probabilities(logits)), "int32")
        return chosen(logits, states, np.array(self.settings(), np.float32))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal sampler, as plain data."""
        return {"temperature": self.temperature}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Sampler:
        """Returns the sampler of a configuration."""
        return cls(**config)


def first_states(seed: int, keys: int | Array) -> Array:
    """Returns the seed states of rows at position 0: int64 (B, 2).

    Args:
        seed: of the run.
        keys: the number of rows; or the key of each.
    """
    keys = np.arange(keys) if isinstance(keys, int) else np.asarray(keys)
    return np.stack([np.full(len(keys), seed, np.int64), keys.astype(np.int64) << 32], axis=1)


def refuse_missing(tokens: Array, index: int) -> None:
    """Refuses rows for which no token could be chosen.

    Raises:
        ValueError: naming row and position.
    """
    missing = np.flatnonzero(np.asarray(tokens) < 0)
    if missing.size:
        raise ValueError(
            f"no token can be chosen at position {index} of row {int(missing[0])}: its logits are "
            "NaN, infinite, or all -inf. Look at the weights of the model: handmill.inspect shows "
            "where NaN begins"
        )


def seed_of(seed: Any) -> int | None:
    """Returns a seed as a whole number, or None.

    Raises:
        ValueError: for anything else.
    """
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise ValueError(f"`seed` must be a whole number or None. Received: {seed!r}")
    return int(seed) & (1 << 63) - 1
