"""Rows that are the same: by a hash of their canonical bytes, then by these bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from handmill.data.keyed_random import make_key, words
from handmill.ir.op import Array
from handmill.strategy.inputs import BLOCK, Inputs, text_codes


def duplicate_groups(splits: Sequence[Inputs]) -> Array:
    """Numbers rows by what they hold: two rows have the same number if they hold the same.

    -0 is 0, every NaN is the same NaN. Bytes are compared, not hashes alone.

    Args:
        splits: inputs with the same columns.

    Returns:
        A number (int64) for each row, the rows of one split after those of the other. A group has
        the place of its first row as its number.
    """
    tables = _canonical(splits)
    rows = sum(split.rows for split in splits)
    hashes = np.zeros(rows, np.uint64)
    for number, table in enumerate(tables):
        hashes += _hashes(table, number)
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    same = ordered[1:] == ordered[:-1]
    groups = np.arange(rows, dtype=np.int64)
    if not same.any():
        return groups
    # Runs of equal hashes, each compared with its first row; what differs (never seen) stays alone.
    start = np.arange(rows)
    start[1:][same] = 0
    start = np.maximum.accumulate(start)
    members = np.flatnonzero(start != np.arange(rows))
    first, second = order[start[members]], order[members]
    for begin in range(0, len(members), 4096):
        a, b = first[begin : begin + 4096], second[begin : begin + 4096]
        equal = np.ones(len(a), bool)
        for table in tables:
            equal &= (_rows(table, a) == _rows(table, b)).all(axis=1)
        groups[b[equal]] = a[equal]
    return groups


def _canonical(splits: Sequence[Inputs]) -> list[list[Array]]:
    """For each part of the inputs, its rows in each split, in one dtype for all splits."""
    tables = []
    for parts in zip(*(split.parts for split in splits), strict=True):
        if parts[0].is_text:
            columns, _ = text_codes([part.values for part in parts])
            tables.append([column[:, None] for column in columns])
            continue
        dtype = np.result_type(*(part.values.dtype for part in parts))
        tables.append([part.flat().astype(dtype, copy=False) for part in parts])
    return tables


def _words(rows: Array) -> Array:
    """The canonical bytes of rows as 64-bit words, shape ``(rows, words)``."""
    if rows.dtype.kind == "f":
        rows = rows + rows.dtype.type(0)  # a copy, in which -0 is 0
        rows[np.isnan(rows)] = np.nan
    rows = np.ascontiguousarray(rows)
    width = rows.shape[1] * rows.dtype.itemsize
    if width % 8 == 0 and width:
        return rows.view(np.uint64)
    padded = np.zeros((len(rows), -(-width // 8) * 8), np.uint8)
    padded[:, :width] = rows.view(np.uint8).reshape(len(rows), width)
    return padded.view(np.uint64)


def _rows(table: Sequence[Array], numbers: Array) -> Array:
    """The words of some rows, counted through the splits."""
    taken = np.empty((len(numbers), _words(table[0][:1]).shape[1]), np.uint64)
    begin = 0
    for rows in table:
        here = (numbers >= begin) & (numbers < begin + len(rows))
        taken[here] = _words(rows[numbers[here] - begin])
        begin += len(rows)
    return taken


def _hashes(table: Sequence[Array], number: int) -> Array:
    """A sum of keyed words of each row, itself mixed: equal for equal bytes."""
    found = []
    for rows in table:
        step = max(1, BLOCK // max(1, rows.shape[1]))
        for begin in range(0, len(rows), step):
            block = _words(rows[begin : begin + step])
            keys = words(make_key(number), np.arange(block.shape[1])) | np.uint64(1)
            mixed = block ^ (block >> np.uint64(32))
            found.append((mixed * keys).sum(axis=1, dtype=np.uint64))
    return words(make_key(number, 1), np.concatenate(found))
