"""Whether embeddings still differ, or have become all the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill import ops
from handmill.callbacks.callback import Callback
from handmill.errors import TrainingWarning, warn_caller
from handmill.ir.op import Array
from handmill.primitives.operands import shape_of
from handmill.selfsup.embeddings import unit

COLLAPSED = 0.1
"""Embeddings whose spread is less have collapsed."""
FEW_DIRECTIONS = 1.5
"""So do those whose effective rank is less: one direction with a sign."""


@dataclass(frozen=True)
class Collapse:
    """How much embeddings differ.

    Attributes:
        std: the standard deviation of the unit vectors over the rows, a mean over dimensions.
        isotropic: what it is where all directions are alike, ``1 / sqrt(D)``.
        effective_rank: exp of the entropy of the singular values (of rows less their mean) as
            shares: how many directions the rows use, from 1 to D.
        dimensions: D.
    """

    std: float
    isotropic: float
    effective_rank: float
    dimensions: int

    @property
    def spread(self) -> float:
        """``std / isotropic``: 0 where all rows are the same, 1 where no direction is preferred."""
        return self.std / self.isotropic

    @property
    def is_collapsed(self) -> bool:
        """Whether all rows are nearly the same, or lie on a line."""
        few = self.dimensions > 2 and self.effective_rank < FEW_DIRECTIONS
        return self.spread < COLLAPSED or few

    def __str__(self) -> str:
        return (
            f"std {self.std:.2g} of {self.isotropic:.2g}, {self.effective_rank:.1f} of "
            f"{self.dimensions} directions used"
        )


def collapse(z: Any) -> Collapse:
    """Says whether embeddings have collapsed: all rows the same, or on one line.

    A loss near its least value says nothing of the kind: that of SimSiam is -1 both when all views
    agree and when all rows are one.

    Args:
        z: embeddings (N, D) of some rows, N >= 2.

    Returns:
        A :class:`Collapse`; printed it is a line.

    Raises:
        ValueError: for another shape, a single row, or numbers that are not finite.

    Example:
        >>> import numpy as np
        >>> from handmill import selfsup
        >>> z = np.random.default_rng(0).normal(size=(500, 4))
        >>> found = selfsup.collapse(z)
        >>> print(f"{found.spread:.2f} {found.effective_rank:.1f} {found.is_collapsed}")
        1.00 4.0 False
        >>> selfsup.collapse(np.ones((500, 4)) + 1e-4 * z).is_collapsed
        True
    """
    rows = np.asarray(z, np.float64)
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(
            f"collapse: embeddings (rows, dimensions) of two rows or more were expected. Received "
            f"shape {rows.shape}"
        )
    if not np.isfinite(rows).all():
        row = int(np.argmin(np.isfinite(rows).all(axis=1)))
        raise ValueError(f"collapse: row {row} of the embeddings is not finite")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return Collapse(
        std=float(units.std(axis=0).mean()),
        isotropic=1 / float(np.sqrt(rows.shape[1])),
        effective_rank=_effective_rank(units - units.mean(axis=0)),
        dimensions=rows.shape[1],
    )


def _effective_rank(centred: Array) -> float:
    # Singular values are roots of the eigenvalues of the small product of the rows with themselves.
    wide = centred.shape[0] < centred.shape[1]
    gram = centred @ centred.T if wide else centred.T @ centred
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))
    total = values.sum()
    if total <= 0:
        return 1.0
    shares = values[values > 0] / total
    return float(np.exp(-np.sum(shares * np.log(shares))))


def spread_of(z: Any) -> Any:
    """:attr:`Collapse.spread` of a batch, as part of a program."""
    units = unit(z)
    deviations = ops.std(units, axis=0)
    return ops.multiply(ops.mean(deviations), float(shape_of(z)[-1]) ** 0.5)


class CollapseWatch(Callback):
    """Warns after the first epoch if the embeddings of some rows have collapsed.

    Args:
        rows: the rows, nested like the inputs of the model.
    """

    def __init__(self, rows: Any) -> None:
        super().__init__()
        self._rows = rows
        self._looked = False

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Looks once."""
        if self._looked:
            return
        self._looked = True
        z = self.model.project(self._rows)
        if not np.isfinite(z).all():
            return  # which the loss says
        found = collapse(z)
        if found.is_collapsed:
            warn_caller(
                f"model {self.model.name!r}: embeddings collapsed: {found}. All rows look alike to "
                "the loss, whatever it says. Usual cures: a smaller learning rate, stronger "
                "augmentation, BatchNormalization in the head, a predictor (SimSiam, BYOL) or "
                "more negatives.",
                TrainingWarning,
            )
