"""What callbacks note while a model is trained, as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.callbacks.callback import Callback
from handmill.errors import FileFormatError

_MARK = "$"  # the key that tells what stands for another kind from a dict
_NOT_STATE = frozenset({"_model", "params"})


class Noted:
    """The attributes of a callback that training has changed.

    Those that still are what they were when training began need no file: an equal run begins with
    the same. Attributes that are not data, such as functions and open files, are left alone.

    Args:
        callback: the callback, after ``on_train_begin``.
    """

    def __init__(self, callback: Callback) -> None:
        self.callback = callback
        self.name = type(callback).__name__
        self._first = self._all()

    def _all(self) -> dict[str, tuple[Any, list[Any]]]:
        found = {}
        for name, value in vars(self.callback).items():
            if name in _NOT_STATE:
                continue
            arrays: list[Any] = []
            try:
                found[name] = self.encoded(value, arrays), [a.copy() for a in arrays]
            except TypeError:
                continue
        return found

    def changes(self, arrays: list[Any]) -> dict[str, Any]:
        """Returns the attributes as data; ``arrays`` gets the arrays among them."""
        found = {}
        for name, (data, own) in self._all().items():
            before = self._first.get(name)
            if before is None or before[0] != data or not _equal(before[1], own):
                found[name] = self.encoded(getattr(self.callback, name), arrays)
        return found

    def restore(self, state: dict[str, Any], arrays: Sequence[Any]) -> None:
        """Sets what :meth:`changes` returned."""
        for name, data in state.items():
            if name in vars(self.callback) and name not in _NOT_STATE:
                setattr(self.callback, name, self.decoded(data, arrays))

    @staticmethod
    def encoded(value: Any, arrays: list[Any]) -> Any:
        """Returns a value as JSON has it.

        Args:
            value: numbers, texts, arrays, and lists, tuples and dicts of them.
            arrays: gets the arrays, which the data name by their places.

        Raises:
            TypeError: for anything else.
        """
        encoded = Noted.encoded
        if value is None or isinstance(value, bool | int | str):
            return value if not isinstance(value, int) or abs(value) < 1 << 63 else _no(value)
        if isinstance(value, float) and not isinstance(value, np.generic):
            return value if math.isfinite(value) else {_MARK: "float", "value": repr(value)}
        if isinstance(value, np.ndarray | np.generic):
            if value.dtype.kind not in "fiub":
                _no(value)
            arrays.append(np.asarray(value))
            kind = "array" if isinstance(value, np.ndarray) else "number"
            return {_MARK: kind, "value": len(arrays) - 1}
        if isinstance(value, list):
            return [encoded(item, arrays) for item in value]
        if isinstance(value, tuple) and type(value) is tuple:
            return {_MARK: "tuple", "value": [encoded(item, arrays) for item in value]}
        if isinstance(value, dict):
            if all(isinstance(key, str) and key != _MARK for key in value):
                return {key: encoded(item, arrays) for key, item in value.items()}
            items = [[encoded(k, arrays), encoded(v, arrays)] for k, v in value.items()]
            return {_MARK: "dict", "value": items}
        return _no(value)

    @staticmethod
    def decoded(data: Any, arrays: Sequence[Any]) -> Any:
        """Returns what :meth:`encoded` was given.

        Raises:
            FileFormatError: for data that it does not return.
        """
        decoded = Noted.decoded
        if isinstance(data, list):
            return [decoded(item, arrays) for item in data]
        if not isinstance(data, dict):
            return data
        kind, value = data.get(_MARK), data.get("value")
        try:
            if kind is None:
                return {key: decoded(item, arrays) for key, item in data.items()}
            if kind == "float":
                return float(value)  # type: ignore[arg-type]
            if kind == "array":
                return arrays[value].copy()  # type: ignore[index]
            if kind == "number":
                return arrays[value][()]  # type: ignore[index]
            if kind == "tuple":
                return tuple(decoded(value, arrays))
            if kind == "dict":
                return {decoded(k, arrays): decoded(v, arrays) for k, v in value}  # type: ignore[union-attr]
        except (TypeError, ValueError, LookupError):
            pass
        raise FileFormatError(f"what a callback had noted is damaged: {str(data)[:80]}")


def _no(value: Any) -> Any:
    raise TypeError(f"{value!r:.80} is not data")


def _equal(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        for x, y in zip(a, b, strict=True)
    )
