"""Matrices of weights as integers of 8 or 4 bits, and the numbers that these stand for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from handmill import dtype_policies, ops, quantizers
from handmill.ir.op import Array


class Integers(NamedTuple):
    """A matrix as integers.

    Attributes:
        table: int8; of 4 bits two numbers a byte, along the last axis.
        scale: one for each output, the factor by which weights were multiplied; or, of groups, one
            for each group and output, a step.
        zero: of groups, the integer that stands for 0.
    """

    table: Array
    scale: Array
    zero: Array | None = None


class Sizes(NamedTuple):
    """Shapes of the variables that hold a matrix; see :class:`Integers`."""

    table: tuple[int, int]
    scale: tuple[int, ...]
    zero: tuple[int, int] | None


def integers_of(matrix: Array, config: Any, by_rows: bool = False) -> Integers:
    """The integers of a matrix.

    Args:
        matrix: float32, finite, (inputs, outputs), or turned.
        config: how, a :class:`handmill.quantizers.QuantizationConfig`.
        by_rows: whether outputs are rows.
    """
    given, axis = config.weight_quantizer, 1 if by_rows else 0
    if config.mode == "int8":
        q, scale = (given or quantizers.AbsMaxQuantizer())(matrix, axis=axis, to_numpy=True)
        return Integers(np.asarray(q), np.asarray(scale).reshape(-1))
    block = config.block_size
    if block is None or block <= 0:
        quantizer = given or quantizers.AbsMaxQuantizer(value_range=(-8, 7))
        q, step = quantizer(matrix, axis=axis, to_numpy=True)
        zero, step = None, np.asarray(step).reshape(-1)
    else:
        grouped = quantizers.abs_max_quantize_grouped_with_zero_point
        q, step, zero = grouped(matrix.T if by_rows else matrix, block_size=block)
        if by_rows:
            q, step, zero = q.T, step.T, zero.T
    return Integers(quantizers.pack_int4(np.asarray(q), axis=-1)[0], step, zero)


def sizes_of(inputs: int, outputs: int, mode: str, block: int, by_rows: bool = False) -> Sizes:
    """Shapes of what :func:`integers_of` gives; ``block``: inputs of a group, -1: all of them."""
    table = (outputs, inputs) if by_rows else (inputs, outputs)
    if mode == "int8":
        return Sizes(table, (outputs,), None)
    table = (table[0], (table[1] + 1) // 2)
    if block <= 0:
        return Sizes(table, (outputs,), None)
    groups = -(-inputs // block)
    scales = (outputs, groups) if by_rows else (groups, outputs)
    return Sizes(table, scales, scales)


def numbers_of(integers: Any, scale: Any, zero: Any, groups: Any, by_rows: bool = False) -> Any:
    """The numbers that integers stand for, float32.

    Args:
        integers: int8, one a byte, (inputs, outputs), or turned.
        scale: see :class:`Integers`.
        zero: likewise; None without groups.
        groups: the group of each input; not looked at without groups.
        by_rows: whether outputs are rows.
    """
    numbers, axis = ops.cast(integers, "float32"), 1 if by_rows else 0
    if zero is None:
        return ops.divide(numbers, ops.expand_dims(scale, axis))
    step = ops.take(scale, groups, axis=axis)
    zero = ops.take(ops.cast(zero, "float32"), groups, axis=axis)
    return ops.multiply(ops.subtract(numbers, zero), step)


def policy_name(config: Any, source: str) -> str:
    """The dtype policy of a layer that a configuration quantized; ``source``: the one before."""
    if config.mode != "int4":
        return f"{config.mode}_from_{source}"
    block = config.block_size
    return f"int4/{-1 if block is None else block}_from_{source}"


def block_of(policy: Any) -> int:
    """The inputs that share a scale in a table of 4 bits; -1: all of them."""
    return policy.block_size if isinstance(policy, dtype_policies.Int4DTypePolicy) else -1
