"""Masks of attention, made of what layers are handed."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.ir.shapes import FLOATS
from handmill.ir.trace import mask_of
from handmill.primitives.loss import check_labels
from handmill.primitives.operands import dtype_of, shape_of

_MEANING = (
    "padding_mask is True or 1 for what is no padding (what is added to scores is the `bias` of "
    "ops.dot_product_attention):"
)


def merged_mask(inputs: Any, padding_mask: Any, attention_mask: Any) -> Any:
    """Which keys may be looked at: bool (B, 1, S) or (B, T, S); None for all.

    Args:
        inputs: the sequence of the keys, whose mask counts where no other is given.
        padding_mask: which of its entries are real (B, S).
        attention_mask: which keys each query may look at (B, T, S).

    Raises:
        ValueError: for a mask of another rank, for an attention mask of floats, and for a padding
            mask of other floats than 0 and 1.
    """
    padding = mask_of(inputs) if padding_mask is None else padding_mask
    found = None
    if padding is not None:
        if len(shape_of(padding)) != 2:
            raise ValueError(
                "`padding_mask` must have the shape (batch, time): True for what is no padding. "
                f"Received: {shape_of(padding)}"
            )
        if dtype_of(padding) in FLOATS:  # zeros and ones, which only their values tell
            padding = check_labels(padding, 2, _MEANING)
        found = ops.expand_dims(ops.cast(padding, "bool"), 1)
    if attention_mask is None:
        return found
    if len(shape_of(attention_mask)) != 3:
        raise ValueError(
            "`attention_mask` must have the shape (batch, queries, keys); a mask (batch, time) of "
            f"padding is a `padding_mask`. Received: {shape_of(attention_mask)}"
        )
    if dtype_of(attention_mask) in FLOATS:
        raise ValueError(
            "`attention_mask` holds floats: what is added to scores is no mask. Pass "
            f"`attention_mask >= 0` or the like. Received: {dtype_of(attention_mask)}"
        )
    allowed = ops.cast(attention_mask, "bool")
    return allowed if found is None else ops.logical_and(found, allowed)
