"""Prompts continued by a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.errors import warn_caller
from handmill.hub.generation.session import Session, session_for
from handmill.hub.samplers.beam_sampler import BeamSampler, BeamSearch
from handmill.hub.samplers.names import get
from handmill.hub.samplers.sampler import Sampler, first_states, refuse_missing, seed_of
from handmill.ir.op import Array


def continue_prompts(
    model: Any,
    prompts: Sequence[Any],
    max_length: int,
    stop_token_ids: Sequence[int] = (),
    sampler: Any = "greedy",
    seed: int | None = None,
    callback: Callable[[int, Array], Any] | None = None,
    truncate: str | None = None,
    strip_prompt: bool = False,
) -> list[Array]:
    """Continues prompts token by token.

    Each row has the tokens that it has alone: neither other rows, nor their lengths, nor the number
    of threads change a bit. Prompts that are equal draw different tokens.

    Args:
        model: a ``CausalLM``.
        prompts: the tokens of each row, at least one.
        max_length: how long a row becomes at most, its prompt included.
        stop_token_ids: tokens that end a row, when they are generated.
        sampler: a sampler or its name.
        seed: of what is drawn; default: that of the sampler.
        callback: called with a row and its new tokens, as soon as they are there: of a search, when
            it has ended, for it may change every token until then.
        truncate: "left" or "right": which side of a prompt is cut off that leaves no room.
            Default: it is refused.
        strip_prompt: whether rows begin with what was generated.

    Returns:
        The tokens of each row: prompt, as far as it was not cut off, then what was generated, with
        the stop token.

    Raises:
        ValueError: for an empty prompt, a token that the model does not have, a prompt that does
            not fit, a stop token or seed that is none, logits from which no token can be chosen,
            and a sampler that returns all beams.
    """
    sampler = get(sampler)
    if isinstance(sampler, BeamSampler) and sampler.return_all_beams:
        raise ValueError(
            "generation gives the likeliest beam alone: of BeamSampler(return_all_beams=True), "
            "which gives all of them, call the sampler itself"
        )
    max_length = whole_number("max_length", max_length, 1)
    most = model.max_sequence_length
    if most is not None and max_length > most:
        raise ValueError(
            f"max_length={max_length} is more than the {most} places that the model has"
        )
    rows = [_checked(prompt, i, model, max_length, truncate) for i, prompt in enumerate(prompts)]
    seed = seed_of(seed)
    stops = sorted({whole_number("a stop token", stop) for stop in stop_token_ids})
    if stops and not 0 <= stops[0] <= stops[-1] < model.vocabulary_size:
        raise ValueError(
            f"stop tokens are tokens of the model, which knows 0 to {model.vocabulary_size - 1}. "
            f"Received: {stops}"
        )
    if not rows:
        return []
    if all(len(row) >= max_length for row in rows):
        warn_caller(
            f"nothing was generated: the shortest prompt has {min(map(len, rows))} tokens, and "
            f"max_length is {max_length}"
        )
        found = rows
    elif isinstance(sampler, BeamSampler):
        found = _searched(model, rows, max_length, stops, sampler, callback)
    else:
        seed = sampler.run_seed() if seed is None else seed
        found = _drawn(model, rows, max_length, stops, sampler, seed, callback)
    if strip_prompt:
        return [row[len(prompt) :] for row, prompt in zip(found, rows, strict=True)]
    return found


def _drawn(
    model: Any,
    rows: list[Array],
    max_length: int,
    stops: list[int],
    sampler: Sampler,
    seed: int,
    callback: Callable[[int, Array], Any] | None,
) -> list[Array]:
    custom = sampler if sampler.is_custom else None
    settings = (1.0, 1.0, 1.0) if sampler.is_custom else sampler.settings()
    lengths = [len(row) for row in rows]
    told = list(lengths)
    steps = max_length - min(lengths)
    with session_for(model, len(rows), max_length, custom) as session:
        session.begin(rows, max_length, first_states(seed, _keys(rows)), settings, stops)
        while steps > 0 and not session.done.read().all():
            steps -= session.go_on(steps)
            if callback is not None:
                _tell(session, told, callback)
        failed, ends = session.failed.numpy(), session.position.numpy() + 1
        tokens = session.tokens.numpy()
    if failed.any():
        row = int(np.flatnonzero(failed)[0])
        refuse_missing(np.where(failed, -1, 0), int(ends[row]))
    return [
        row if len(row) >= max_length else tokens[i, : ends[i]].copy() for i, row in enumerate(rows)
    ]


def _tell(session: Session, told: list[int], callback: Callable[[int, Array], Any]) -> None:
    ends, tokens = session.position.numpy() + 1, session.tokens.numpy()
    for row, end in enumerate(ends.tolist()):
        if end > told[row]:
            callback(row, tokens[row, told[row] : end])
            told[row] = end


def _keys(rows: list[Array]) -> Array:
    """How many equal prompts stand before each: draws do not depend on the place in a batch."""
    seen: dict[bytes, int] = {}
    keys = []
    for row in rows:
        known = row.tobytes()
        keys.append(seen.get(known, 0))
        seen[known] = keys[-1] + 1
    return np.array(keys)


def _searched(
    model: Any,
    rows: list[Array],
    max_length: int,
    stops: list[int],
    sampler: BeamSampler,
    callback: Callable[[int, Array], Any] | None,
) -> list[Array]:
    """Beams of each row, one row after the other: their lengths differ."""
    found = list(rows)
    with session_for(model, sampler.num_beams, max_length, None, is_search=True) as session:
        for i, prompt in enumerate(rows):
            if len(prompt) < max_length:
                found[i] = _likeliest(session, prompt, max_length, stops, sampler)
                if callback is not None:
                    callback(i, found[i][len(prompt) :])
    return found


def _likeliest(
    session: Session, prompt: Array, max_length: int, stops: list[int], sampler: BeamSampler
) -> Array:
    beams = sampler.num_beams
    text = np.zeros((1, max_length), np.int32)
    text[0, : len(prompt)] = prompt
    search = BeamSearch(text, beams, sampler.temperature, stops)
    session.begin([prompt], max_length, first_states(0, beams), (1.0, 1.0, 1.0), ())
    index = len(prompt)
    while index < max_length and not search.is_done:
        if index > len(prompt):
            session.tokens.assign(_wide(search.tokens, session.places))
            session.position.assign(np.full(beams, index - 1, np.int32))
        parents = search.extend(session.step_logits(), index, np.zeros(1, bool))
        if not np.array_equal(parents, np.arange(beams)):
            session.take_rows(parents, index)
        index += 1
    best: Array = search.result(False)[0]
    ends = np.flatnonzero(np.isin(best[len(prompt) : index], stops))
    return best[: len(prompt) + int(ends[0]) + 1 if ends.size else index]


def _wide(tokens: Array, places: int) -> Array:
    return np.pad(tokens, ((0, 0), (0, places - tokens.shape[1]))).astype(np.int32)


def _checked(prompt: Any, row: int, model: Any, max_length: int, truncate: str | None) -> Array:
    tokens = np.asarray(prompt)
    if tokens.ndim != 1 or tokens.size == 0:
        raise ValueError(
            f"prompt {row} has no tokens: a model needs one to begin with, such as the start "
            "token; or it is no flat list of them"
        )
    if tokens.dtype.kind not in "iu":
        raise ValueError(f"prompt {row} must be whole numbers. Received: dtype {tokens.dtype}")
    wrong = np.flatnonzero((tokens < 0) | (tokens >= model.vocabulary_size))
    if wrong.size:
        raise ValueError(
            f"prompt {row} has the token {int(tokens[wrong[0]])} at position {int(wrong[0])}, but "
            f"the model knows 0 to {model.vocabulary_size - 1}"
        )
    most = model.max_sequence_length
    if truncate not in (None, "left", "right"):
        raise ValueError(f"`truncate` must be 'left', 'right' or None. Received: {truncate!r}")
    if most is not None and len(tokens) >= most and truncate is None:
        raise ValueError(
            f"prompt {row} has {len(tokens)} tokens, and the model has {most} places, of which "
            "what is generated needs one or more. Cut the prompt, or pass truncate='left' (keeps "
            "its end) or truncate='right' (keeps its beginning)"
        )
    if truncate is not None and len(tokens) >= max_length > 1:
        room = max_length - 1
        tokens = tokens[-room:] if truncate == "left" else tokens[:room]
    return tokens.astype(np.int32)
