"""What ``CausalLM.generate`` takes and gives: texts, tokens, or what preprocessors make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handmill.hub.generation.continuation import continue_prompts
from handmill.hub.tokenizers.streaming import StreamingDetokenizer
from handmill.ir.op import Array


def generate(
    model: Any,
    inputs: Any,
    max_length: int | None = None,
    stop_token_ids: Any = "auto",
    strip_prompt: bool = False,
    seed: int | None = None,
    callback: Callable[[int, Any], Any] | None = None,
    truncate: str | None = None,
) -> Any:
    """Continues texts, or rows of tokens; see ``CausalLM.generate``."""
    preprocessor = model.preprocessor
    stops = _stops(stop_token_ids, preprocessor)
    sampler = getattr(model, "sampler", None)
    sampler = "top_k" if sampler is None else sampler
    of_texts = is_text(inputs)
    if of_texts:
        if preprocessor is None:
            raise ValueError(
                "generate was given texts, but the model has no preprocessor, which would make "
                "tokens of them: pass `preprocessor=` to the model, or tokens to generate"
            )
        single = not isinstance(inputs, list | tuple | np.ndarray) or np.ndim(inputs) == 0
        prompts = preprocessor.prompts([inputs] if single else list(inputs))
    else:
        prompts, single = _rows(inputs)
    length = _length(model, inputs, max_length)
    streams: dict[int, StreamingDetokenizer] = {}

    def tell(row: int, tokens: Array) -> None:
        if callback is None:
            return
        if not of_texts:
            callback(row, tokens)
            return
        stream = streams.setdefault(row, preprocessor.tokenizer.stream())
        text = "".join(stream.add(t) for t in tokens.tolist() if t not in stops)
        if text:
            callback(row, text)

    found = continue_prompts(
        model,
        prompts,
        length,
        stops,
        sampler,
        seed,
        tell if callback else None,
        truncate,
        strip_prompt,
    )
    for row, stream in sorted(streams.items()):
        rest = stream.finish()
        if rest and callback is not None:
            callback(row, rest)
    if of_texts:
        texts = [_text(row, preprocessor) for row in found]
        return texts[0] if single else texts
    if isinstance(inputs, dict):
        return _packed(found, max(length, 1), single)
    return found[0] if single else found


def is_text(inputs: Any) -> bool:
    """Whether these are texts: one, a list, or an array of them."""
    if isinstance(inputs, str | np.str_):
        return True
    if isinstance(inputs, np.ndarray):
        return inputs.dtype.kind in "US" or (
            inputs.dtype.kind == "O" and all(isinstance(x, str) for x in inputs.reshape(-1))
        )
    return isinstance(inputs, list | tuple) and bool(inputs) and isinstance(inputs[0], str)


def _rows(inputs: Any) -> tuple[list[Array], bool]:
    """Rows of tokens, without what fills them up, and whether there was one row only."""
    if isinstance(inputs, dict):
        if "token_ids" not in inputs:
            raise ValueError(f"generate needs 'token_ids'. Received: {sorted(inputs)}")
        tokens = np.asarray(inputs["token_ids"])
        mask = np.asarray(inputs.get("padding_mask", np.ones(tokens.shape))).astype(bool)
        if mask.shape != tokens.shape:
            raise ValueError(
                f"'padding_mask' must have the shape of 'token_ids', {tokens.shape}. Received: "
                f"{mask.shape}"
            )
        single = tokens.ndim == 1
        wide, kept = np.atleast_2d(tokens), np.atleast_2d(mask)
        for i, row in enumerate(kept):
            if not row[: int(row.sum())].all():
                raise ValueError(
                    f"'padding_mask' of row {i} must be true first, then false: prompts are filled "
                    "up on the right"
                )
        return [row[m] for row, m in zip(wide, kept, strict=True)], single
    if isinstance(inputs, np.ndarray):
        return list(np.atleast_2d(inputs)), inputs.ndim == 1
    if not isinstance(inputs, list | tuple):
        raise ValueError(
            f"generate takes texts, tokens, or a dict of them. Received: {type(inputs).__name__}"
        )
    single = bool(inputs) and np.ndim(inputs[0]) == 0
    rows = [inputs] if single else inputs
    return [np.asarray(row) for row in rows], single


def _length(model: Any, inputs: Any, max_length: int | None) -> int:
    if max_length is not None:
        return max_length
    if isinstance(inputs, dict):
        return int(np.shape(inputs["token_ids"])[-1])
    most = model.max_sequence_length
    length = getattr(model.preprocessor, "sequence_length", None)
    known = [n for n in (length, most) if n is not None]
    if not known:
        raise ValueError("generate needs `max_length`: neither model nor preprocessor has a length")
    return int(min(known))


def _stops(stop_token_ids: Any, preprocessor: Any) -> tuple[int, ...]:
    if isinstance(stop_token_ids, str):
        if stop_token_ids != "auto":
            raise ValueError(
                f"`stop_token_ids` must be tokens, None or 'auto'. Received: {stop_token_ids!r}"
            )
        end = getattr(preprocessor, "end_token_id", None)
        return () if end is None else (int(end),)
    if stop_token_ids is None:
        return ()
    return tuple(stop_token_ids) if isinstance(stop_token_ids, Sequence) else (stop_token_ids,)


def _text(row: Array, preprocessor: Any) -> str:
    text: str = preprocessor.generate_postprocess(
        {"token_ids": row, "padding_mask": np.ones(len(row), bool)}
    )
    return text


def _packed(rows: list[Array], length: int, single: bool) -> dict[str, Array]:
    tokens = np.zeros((len(rows), length), np.int32)
    mask = np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row[:length]
        mask[i, : len(row)] = True
    found = {"token_ids": tokens, "padding_mask": mask}
    return {name: x[0] for name, x in found.items()} if single else found
