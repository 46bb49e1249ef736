"""The rows of lanes: what they are trained and measured on."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from handmill import config
from handmill.data.batches import unpack_x_y_sample_weight
from handmill.models.data_adapters import ArrayData, is_arrays, make_data
from handmill.models.first_look import in_validation
from handmill.models.one_hot import may_be_one_hot


class LaneRows:
    """The rows of some lanes.

    Args:
        training: ``(x, y, sample_weight)``.
        validation: ``(x, y)`` or ``(x, y, sample_weight)``, something that makes batches, or None.
        arguments: of ``fit``: ``batch_size``, ``validation_batch_size``, ``class_weight`` and
            ``shuffle``.

    Attributes:
        looked_at: the traces whose guards have seen all rows, by the ids of data and trace.
        may_be_one_hot: whether targets look like one-hot rows, which some models take for these.
    """

    def __init__(
        self, training: tuple[Any, Any, Any], validation: Any, arguments: Mapping[str, Any]
    ) -> None:
        self.training = training
        self.validation = validation
        self._arguments = arguments
        self.looked_at: weakref.WeakValueDictionary[tuple[int, int], Any]
        self.looked_at = weakref.WeakValueDictionary()
        self.may_be_one_hot = may_be_one_hot(training[1])
        self._data: tuple[ArrayData, ArrayData | None] | None = None
        self._is_known = False

    @property
    def data(self) -> tuple[ArrayData, ArrayData | None] | None:
        """Training and validation as arrays that C++ gathers from; None if they are none."""
        if not self._is_known:
            self._data = self._made()
            self._is_known = True
        return self._data

    def _made(self) -> tuple[ArrayData, ArrayData | None] | None:
        given = self._arguments
        if given["shuffle"] not in (True, False):
            return None
        limits = config.max_epochs(), config.max_steps_per_epoch()
        x, y, weight = self.training
        size = given["batch_size"]
        data = make_data(x, y, weight, size, None, False, given["class_weight"], None)
        if not isinstance(data, ArrayData) or limits != (None, None):
            return None
        if self.validation is None:
            return data, None
        with in_validation():
            x, y, weight = unpack_x_y_sample_weight(self.validation)
            if not is_arrays(x):
                return None
            self.may_be_one_hot = self.may_be_one_hot or may_be_one_hot(y)
            own_size = given["validation_batch_size"]
            size = size if own_size is None else own_size
            measured = make_data(x, y, weight, size, None, False, None, None)
        return (data, measured) if isinstance(measured, ArrayData) else None

    @property
    def is_shuffled(self) -> bool:
        """Whether each epoch has an order of its own."""
        data = self.data
        return bool(self._arguments["shuffle"]) and data is not None and data[0].rows > 1


def batch_counts(data: ArrayData) -> list[tuple[int, int]]:
    """The sizes of the batches of a pass, and how many of each there are, in order."""
    size, rows = data.batch_size, data.rows
    found = [(size, rows // size), (rows % size, 1 if rows % size else 0)]
    return [(size, count) for size, count in found if count]
