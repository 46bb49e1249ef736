"""Numbers of rows: what layers that vary images draw for a row, whatever batch it comes in.

Such layers (``row_generator``) are told in ``fit`` which rows of the data a step is given
(:func:`handmill.layers.context.numbered_rows`). The numbers travel behind the arrays of a batch, as
one array more; models without such layers have none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.ir.op import Array
from handmill.layers.layer import all_layers
from handmill.models.layout import Layout
from handmill.runtime import watch


def row_generators(model: Any) -> list[Any]:
    """The generators of the layers of a model that draw for rows, each once."""
    known, now = model._row_generators, watch.now
    if known is not None and known[0] == now:
        return known[1]  # type: ignore[no-any-return]
    found = [getattr(layer, "row_generator", None) for layer in all_layers(model)]
    once = {id(generator): generator for generator in found if generator is not None}
    model._row_generators = now, list(once.values())
    return list(once.values())


def end_epoch(model: Any) -> None:
    """Lets the layers draw other numbers for the same rows from now on."""
    for generator in row_generators(model):
        generator.next()


def with_numbers(model: Any, layout: Layout, arrays: list[Array]) -> tuple[Layout, list[Array]]:
    """A batch as ``fit`` hands it to the training step of a model."""
    if not row_generators(model):
        return layout, arrays
    return layout.with_numbers(), [*arrays, numbers_of(len(arrays[0]))]


def numbers_of(count: int, first: int = 0) -> Array:
    """The numbers of rows that follow each other."""
    return np.arange(first, first + count, dtype=np.int64)
