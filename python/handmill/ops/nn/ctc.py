"""Labels of sequences of which nobody knows where each of them stands: CTC."""

from __future__ import annotations

from typing import Any

from handmill.arguments import whole_number
from handmill.errors import ShapeError
from handmill.ir.dims import as_none, is_fixed, same
from handmill.ir.trace import apply
from handmill.ops.core import cast
from handmill.ops.core.control import scan
from handmill.ops.math import logsumexp
from handmill.ops.nn.functions import log_softmax, one_hot
from handmill.ops.numpy.arrange import stack
from handmill.ops.numpy.create import arange, full, zeros
from handmill.ops.numpy.elementwise import add, logaddexp, multiply, negative, subtract
from handmill.ops.numpy.logic import equal, less, logical_or, not_equal, where
from handmill.ops.numpy.movement import concatenate, expand_dims, reshape, transpose
from handmill.ops.numpy.products import einsum
from handmill.primitives.ctc import CTC_DECODE
from handmill.primitives.loss import check_labels
from handmill.primitives.operands import Tensor, common_dtype, dtype_of, shape_of, tensor

_NEVER = -1e5
"""The logarithm of a probability of 0, at which derivatives are still finite: Keras's number."""


def ctc_loss(
    target: Tensor,
    output: Tensor,
    target_length: Tensor,
    output_length: Tensor,
    mask_index: int = 0,
) -> Any:
    """The negative logarithm of the probability that sequences of outputs spell their labels.

    At each step a sequence says one of the classes, or nothing (the blank). Labels are what is left
    when steps that repeat the one before are joined and blanks are left out; the probabilities of
    all ways to say them are added up.

    Args:
        target: labels, of shape ``(batch, labels)``; behind ``target_length`` anything may stand.
        output: logits of shape ``(batch, steps, classes)``.
        target_length: how many labels each sequence has, of shape ``(batch,)``.
        output_length: how many steps each sequence has, of shape ``(batch,)``.
        mask_index: the class that is the blank.

    Returns:
        A number for each sequence, of shape ``(batch,)``. One that has fewer steps than its labels
        need (one for each, and one between two that are equal) gets about 100,000 or more, as in
        Keras: no way of saying them has a probability.

    Raises:
        ShapeError: if shapes do not fit.
        ValueError: for labels and a blank that are no classes, and lengths that are no whole
            numbers, negative or beyond what is there.

    Example:
        >>> import numpy as np
        >>> from handmill import ops
        >>> ops.ctc_loss(np.array([[1]]), np.zeros((1, 2, 2)), np.array([1]), np.array([2]))
        array([0.28768207])
    """
    given = (target, output, target_length, output_length)
    for x in given:
        if hasattr(type(x), "record_function"):  # a KerasTensor: the loop reads what it closes over
            return type(x).record_function(
                "ctc_loss", lambda y, x, n, t: ctc_loss(y, x, n, t, mask_index), given
            )
    target, output = tensor(target), tensor(output)
    lengths = [tensor(n) for n in (target_length, output_length)]
    shapes = [as_none(shape_of(x)) for x in (target, output, *lengths)]
    fits = [len(s) for s in shapes] == [2, 3, 1, 1] and is_fixed(shape_of(output)[2:])
    if not fits or not _are_of_one_batch(target, output, *lengths):
        raise ShapeError(
            "ctc_loss: expected labels of shape (batch, labels), outputs of shape (batch, steps, "
            "classes), and lengths of shape (batch,). Received shapes: "
            f"target={shapes[0]}, output={shapes[1]}, target_length={shapes[2]}, "
            f"output_length={shapes[3]}"
        )
    output = cast(output, common_dtype((dtype_of(output), "float32")))
    dtype = dtype_of(output)
    batch, steps = shape_of(output)[:2]
    classes = int(shape_of(output)[2])  # fixed, as was checked
    blank = _blank("ctc_loss", mask_index, classes)
    count = shape_of(target)[1]
    limits = zip(lengths, ((count, "target_length"), (steps, "output_length")), strict=True)
    target_length, output_length = (
        expand_dims(_checked_length(n, most, name), 1) for n, (most, name) in limits
    )
    is_label = less(expand_dims(arange(count, dtype="int32"), 0), target_length)
    blanks = cast(blank, dtype_of(target))
    target = cast(check_labels(where(is_label, target, blanks), classes), "int32")

    # What may be said, in its order: a blank, the first label, a blank, the second, ..., a blank.
    blanks = full((batch, 1), blank, dtype="int32")
    pairs = stack([full((batch, count), blank, dtype="int32"), target], axis=-1)
    said = concatenate([reshape(pairs, (batch, 2 * count)), blanks], axis=1)
    places = 2 * count + 1
    chances = einsum("btk,bsk->tbs", log_softmax(output), one_hot(said, classes, dtype=dtype))

    # From one label to the next without a blank between, unless it is the same.
    before = concatenate([full((batch, 1), blank, dtype="int32"), target[:, :-1]], axis=1)
    is_other = reshape(
        stack([zeros((batch, count), dtype="bool"), not_equal(target, before)], axis=-1),
        (batch, 2 * count),
    )
    is_other = concatenate([is_other, zeros((batch, 1), dtype="bool")], axis=1)
    closed = multiply(subtract(1.0, cast(is_other, dtype)), _NEVER)
    edge = full((batch, 2), _NEVER, dtype=dtype)

    def step(known: Any, row: Any) -> tuple[Any, None]:
        chance, is_step = row
        shifted = concatenate([edge, known], axis=1)
        by_one, by_two = shifted[:, 1:-1], add(shifted[:, :-2], closed)
        following = add(logaddexp(logaddexp(known, by_one), by_two), chance)
        return where(expand_dims(is_step, 1), following, known), None

    start = concatenate(
        [zeros((batch, 1), dtype=dtype), full((batch, 2 * count), _NEVER, dtype=dtype)], axis=1
    )
    is_step = less(expand_dims(arange(steps, dtype="int32"), 0), output_length)
    known, _ = scan(step, start, (chances, transpose(is_step)))
    place = expand_dims(arange(places, dtype="int32"), 0)
    last = multiply(target_length, 2)
    is_last = logical_or(equal(place, last), equal(place, subtract(last, 1)))
    return negative(logsumexp(where(is_last, known, 10 * _NEVER), axis=-1))


def _blank(name: str, mask_index: int, classes: int) -> int:
    """The class of the blank, counted from 0."""
    if not -classes <= whole_number("mask_index", mask_index) < classes:
        raise ValueError(
            f"{name}: mask_index is one of the {classes} classes. Received: mask_index={mask_index}"
        )
    return mask_index % classes


def _are_of_one_batch(first: Any, *others: Any) -> bool:
    return all(same(shape_of(first)[0], shape_of(x)[0]) for x in others)


def _checked_length(length: Any, most: Any, name: str) -> Any:
    checked = check_labels(length, most + 1, name) if isinstance(most, int) else length
    return cast(checked, "int32")


def ctc_decode(
    inputs: Tensor,
    sequence_lengths: Tensor,
    strategy: str = "greedy",
    beam_width: int = 100,
    top_paths: int = 1,
    merge_repeated: bool = True,
    mask_index: int = 0,
) -> tuple[Any, Any]:
    """The labels that outputs spell, as :func:`ctc_loss` reads them. Runs in NumPy.

    Args:
        inputs: logits of shape ``(batch, steps, classes)``.
        sequence_lengths: how many steps each sequence has, of shape ``(batch,)``.
        strategy: ``"greedy"`` takes the best class of each step; ``"beam_search"`` looks for the
            most probable labels, adding up all ways to say them.
        beam_width: how many candidates a search keeps at each step.
        top_paths: how many of them it returns.
        merge_repeated: whether the greedy strategy joins steps that repeat the one before. A search
            always does.
        mask_index: the class that is the blank.

    Returns:
        Labels of shape ``(paths, batch, steps)``, with -1 behind them, and scores of shape
        ``(batch, paths)``: the logarithm of the probability of labels that were searched for, or
        the negative sum of the logits that the greedy strategy took, which has one path. Where a
        search has fewer candidates than ``top_paths``, the rest are empty, with a score of -inf.

    Raises:
        ShapeError: if shapes do not fit.
        ValueError: for another strategy, numbers of candidates that are not positive, a blank that
            is no class, and a length that is more than the steps.

    Example:
        >>> import numpy as np
        >>> from handmill import ops
        >>> x = np.eye(3)[[[1, 1, 0, 2]]]
        >>> ops.ctc_decode(x, [4])[0]
        array([[[ 1,  2, -1, -1]]], dtype=int32)
    """
    if strategy not in ("greedy", "beam_search"):
        raise ValueError(
            f'ctc_decode: strategy is "greedy" or "beam_search". Received: strategy={strategy!r}'
        )
    x = tensor(inputs)
    x = cast(x, common_dtype((dtype_of(x), "float32")))
    shape = as_none(shape_of(x))
    if len(shape) != 3 or shape[2] is None or shape[2] < 1:
        raise ShapeError(
            "ctc_decode: expected logits of shape (batch, steps, classes), with at least one "
            f"class. Received: inputs.shape={shape}"
        )
    blank = _blank("ctc_decode", mask_index, shape[2])
    attrs = {"width": 0, "paths": 1, "merge": bool(merge_repeated)}
    if strategy == "beam_search":
        attrs["width"] = whole_number("beam_width", beam_width, 1)
        attrs["paths"] = whole_number("top_paths", top_paths, 1)
    lengths = tensor(sequence_lengths)
    if len(shape_of(lengths)) != 1 or not _are_of_one_batch(x, lengths):
        raise ShapeError(
            "ctc_decode: expected lengths of shape (batch,), one for each of the sequences of "
            f"inputs.shape={shape}. Received: sequence_lengths.shape={as_none(shape_of(lengths))}"
        )
    lengths = _checked_length(lengths, shape_of(x)[1], "sequence_length")
    labels, scores = apply(CTC_DECODE, x, lengths, blank=blank, **attrs)
    return labels, scores
