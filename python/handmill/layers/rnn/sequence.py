"""Steps along a sequence: what a recurrent layer does with its cell."""

from __future__ import annotations

from typing import Any

from handmill import ops, tree
from handmill.ir.trace import apply, autocast_scope, with_mask
from handmill.layers.layer import Layer
from handmill.layers.rnn.cell import DropoutMasks, RecurrentCell, masks_drawn
from handmill.layers.rnn.stacked_rnn_cells import StackedRNNCells
from handmill.primitives.int8_recurrent import INT8_RECURRENT, int8_recurrent
from handmill.primitives.recurrent import PLAIN, SAVED
from handmill.runtime.watch import is_ours


def run_sequence(
    cell: Any,
    sequences: Any,
    states: list[Any],
    mask: Any,
    training: Any,
    *,
    backwards: bool,
    zeros: bool,
    every: bool,
) -> tuple[Any, list[Any]]:
    """Goes along sequences with a cell.

    Args:
        cell: the cell.
        sequences: (batch, time, ...).
        states: those before the first step.
        mask: bool, (batch, time); None where all steps count.
        training: handed to the cell.
        backwards: whether to begin with the last step.
        zeros: whether outputs of masked steps are 0; else they are those before.
        every: whether the outputs of all steps are wanted.

    Returns:
        The outputs of all steps, at the places of the steps, or that of the last step; the states
        after the last one.
    """
    if mask is not None:
        # What lies in masked steps, be it NaN, reaches neither numbers nor gradients.
        seen = _expanded(mask, len(ops.shape(sequences)))
        sequences = ops.where(seen, with_mask(sequences, None), ops.zeros_like(sequences))
    cells, beginnings = [cell], [states]
    if isinstance(cell, StackedRNNCells) and all(_is_own(inner) for inner in cell.cells):
        # One after the other, each along the whole sequence: masked steps are those of all.
        cells, beginnings = list(cell.cells), list(states)
    endings = []
    for number, (inner, beginning) in enumerate(zip(cells, beginnings, strict=True)):
        last = number == len(cells) - 1
        nested = isinstance(beginning, list | tuple)
        sequences, after = _along(
            inner,
            sequences,
            list(beginning) if nested else [beginning],
            mask,
            training,
            backwards,
            zeros and last,
            every or not last,
        )
        endings.append(after if nested else after[0])
    return sequences, endings[0] if len(cells) == 1 and cells[0] is cell else endings


def _is_own(cell: Any) -> bool:
    return isinstance(cell, RecurrentCell) and is_ours(type(cell))


def _along(
    cell: Any,
    sequences: Any,
    states: list[Any],
    mask: Any,
    training: Any,
    backwards: bool,
    zeros: bool,
    every: bool,
) -> tuple[Any, list[Any]]:
    if _is_own(cell):
        with autocast_scope(cell._autocast_dtype()):
            return _along_own(cell, sequences, states, mask, training, backwards, zeros, every)
    takes_training = isinstance(cell, Layer) and cell._call_takes_training
    kwargs = {"training": training} if takes_training else {}

    def step(x: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        output, after = cell(x, states, **kwargs)
        return output, after if tree.is_nested(after) else [after]

    outputs, after = _scan(step, sequences, states, mask, backwards, zeros)
    if every:
        return ops.swapaxes(outputs, 0, 1), after
    return outputs[0 if backwards else -1], after


def _along_own(
    cell: RecurrentCell,
    sequences: Any,
    states: list[Any],
    mask: Any,
    training: Any,
    backwards: bool,
    zeros: bool,
    every: bool,
) -> tuple[Any, list[Any]]:
    """Cells of handmill, whose output is their first state: inputs of all steps are projected."""
    masks = masks_drawn(cell) or DropoutMasks(None, None)
    z = cell.project(ops.cast(sequences, cell.compute_dtype), masks)
    at_once = cell.fused is not None
    if at_once and cell.quantization_mode is not None:
        at_once = not masks.state and cell.fused in INT8_RECURRENT
    if at_once:
        found = _fused(cell, z, states, mask, masks, training, backwards)
        outputs, after = found[0], list(found[1 : 1 + len(states)])
    else:
        outputs, after = _scan(
            lambda x, now: cell.step(x, now, masks), z, states, mask, backwards, zeros=False
        )
        outputs = ops.swapaxes(outputs, 0, 1)
    if not every:
        outputs = after[0]
        mask = None if mask is None or not zeros else mask[:, 0 if backwards else -1]
    if zeros and mask is not None:
        seen = _expanded(mask, len(ops.shape(outputs)))
        outputs = ops.where(seen, outputs, ops.zeros_like(outputs))
    return outputs, after


def _fused(
    cell: Any,
    z: Any,
    states: list[Any],
    mask: Any,
    masks: DropoutMasks,
    training: Any,
    backwards: bool,
) -> Any:
    """All steps by one operator; while training the one that keeps what its gradient needs."""
    kind = cell.fused
    if cell.quantization_mode is not None:
        return _fused_integers(cell, kind, z, states, mask, backwards)
    operands = [z, ops.convert_to_tensor(cell.recurrent_kernel), *states, *cell.fused_operands()]
    if mask is not None:
        operands.append(mask)
    if masks.state is not None:
        operands.append(ops.concatenate(masks.state, axis=1))
    op = (SAVED if training else PLAIN)[kind]
    return apply(
        op,
        *operands,
        backwards=backwards,
        masked=mask is not None,
        dropout=masks.state is not None,
    )


def _fused_integers(
    cell: Any, kind: str, z: Any, states: list[Any], mask: Any, backwards: bool
) -> list[Any]:
    """All steps by the operator whose products with the state are of integers."""
    operands = [*states, *cell.fused_operands()]
    found = int8_recurrent(
        kind,
        ops.cast(z, "float32"),
        ops.convert_to_tensor(cell.recurrent_kernel),
        cell._factors("recurrent_kernel"),
        *(ops.cast(x, "float32") for x in operands),
        *(() if mask is None else (mask,)),
        backwards=backwards,
        masked=mask is not None,
    )
    return [ops.cast(x, cell.compute_dtype) for x in found]


def _scan(
    step: Any, rows: Any, states: list[Any], mask: Any, backwards: bool, zeros: bool
) -> tuple[Any, list[Any]]:
    """Steps one after the other; outputs (time, batch, ...)."""

    def masked(now: Any, row: Any) -> Any:
        x, counts = row
        output, after = step(x, now)
        after = tree.pack_sequence_as(now, tree.flatten(after))
        if counts is None:
            return after, output

        def choose(new: Any, old: Any) -> Any:
            return ops.where(_expanded(counts, len(ops.shape(new))), new, old)

        # Keras takes the first state for the output before, of stacked cells that of the last.
        before = now[-1][0] if tree.is_nested(now[0]) else now[0]
        output = choose(output, ops.zeros_like(output) if zeros else before)
        return tree.map_structure(choose, after, now), output

    turned = ops.swapaxes(rows, 0, 1)
    if mask is None:
        after, outputs = ops.scan(
            lambda now, x: masked(now, (x, None)), states, turned, reverse=backwards
        )
    else:
        after, outputs = ops.scan(
            masked, states, (turned, ops.swapaxes(mask, 0, 1)), reverse=backwards
        )
    return outputs, after


def _expanded(mask: Any, rank: int) -> Any:
    for _ in range(rank - len(ops.shape(mask))):
        mask = ops.expand_dims(mask, -1)
    return mask
