"""Bodies of requests as arrays for a model, and its outputs as bodies of answers."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from handmill.ir.op import Array

JSON = "application/json"
NPY = "application/x-npy"

_HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[<>|=]?(?:b1|[iu][1248]|f[248]|c8|c16))', "
    rb"'fortran_order': (?P<order>True|False), "
    rb"'shape': \((?P<shape>[0-9, ]{0,200})\), \} *\n"
)
_MOST_OF_HEADER = 1024
_MOST_AXES = 32

_AS_JSON = (JSON, "application/x-www-form-urlencoded", "")
"""The second is what curl says of ``-d '{"instances": ...}'``, as guides of other servers do it."""


class RequestError(Exception):
    """What is wrong with a request.

    Args:
        status: of HTTP.
        text: what happened, what was expected, what was received.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Wanted(NamedTuple):
    """An input of the model.

    Attributes:
        name: by which JSON may name it.
        shape: of a row; None where any length is right.
        dtype: what it becomes.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


def arrays_of(body: bytes, kind: str, inputs: Sequence[Wanted]) -> tuple[list[Array], bool]:
    """Returns an array with rows for each input, and whether they were given by columns.

    Args:
        body: what came.
        kind: its content type.
        inputs: what the model takes.

    Raises:
        RequestError: 400 for what cannot be read, 415 for another content type, 422 for arrays
            that do not fit the model.
    """
    if kind == NPY:
        found, by_columns = [_npy(body)], False
        if len(inputs) > 1:
            raise RequestError(
                422,
                f"a body of {NPY} holds one array, but the model takes {len(inputs)}: "
                f"{[w.name for w in inputs]}; send {JSON}",
            )
    elif kind in _AS_JSON:
        found, by_columns = _from_json(body, inputs)
    else:
        raise RequestError(415, f"expected a body of {JSON} or {NPY}, received {kind!r}")
    arrays = [_fitting(x, w) for x, w in zip(found, inputs, strict=True)]
    rows = {len(a) for a in arrays}
    if len(rows) > 1:
        raise RequestError(422, f"the inputs have different numbers of rows: {sorted(rows)}")
    if rows == {0}:
        raise RequestError(422, "there is no row in the request")
    return arrays, by_columns


def _npy(body: bytes) -> Array:
    """An array in NumPy's format, of numbers only.

    NumPy's own reader hands the header to Python's parser, which strangers need not reach.
    """
    start = {b"\x01": 10, b"\x02": 12}.get(body[6:7], 0)
    if not body.startswith(b"\x93NUMPY") or not start or len(body) < start:
        raise RequestError(400, "the body is no array in NumPy's format, version 1 or 2")
    end = start + int.from_bytes(body[8:start], "little")
    header = _HEADER.fullmatch(body[start:end]) if end <= start + _MOST_OF_HEADER else None
    if header is None or len(body) < end:
        raise RequestError(
            400, "the body is no array in NumPy's format: its header is not that of numbers"
        )
    dtype = np.dtype(header["dtype"].decode())
    shape = tuple(int(n) for n in header["shape"].replace(b",", b" ").split())
    size = math.prod(shape) * dtype.itemsize
    is_odd = len(shape) > _MOST_AXES or any(n >= 1 << 31 for n in shape)
    if size != len(body) - end or is_odd:
        raise RequestError(
            400,
            f"the body is no array in NumPy's format: shape {shape} of {dtype} takes {size} bytes, "
            f"but {len(body) - end} follow the header",
        )
    order: Literal["F", "C"] = "F" if header["order"] == b"True" else "C"
    return np.frombuffer(body, dtype, offset=end).reshape(shape, order=order)


def _not_a_number(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _from_json(body: bytes, inputs: Sequence[Wanted]) -> tuple[list[Any], bool]:
    try:
        data = json.loads(body, parse_constant=_not_a_number)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is not JSON: {error}") from error
    given = [key for key in ("instances", "inputs") if isinstance(data, dict) and key in data]
    if len(given) != 1 or len(data) - len(given) - ("signature_name" in data):
        raise RequestError(
            422,
            'expected {"instances": [row, ...]} or {"inputs": array or {name: array}}, received '
            + (f"the keys {sorted(data)[:8]}" if isinstance(data, dict) else type(data).__name__),
        )
    by_columns = given == ["inputs"]
    value = data[given[0]]
    if not by_columns and (not isinstance(value, list) or not value):
        raise RequestError(422, '"instances" must be a list with at least one row')
    if by_columns and isinstance(value, dict):
        return _by_name(value, inputs), True
    if not by_columns and isinstance(value[0], dict):
        if not all(isinstance(row, dict) and row.keys() == value[0].keys() for row in value):
            raise RequestError(422, 'the rows of "instances" do not all name the same inputs')
        return _by_name({name: [row[name] for row in value] for name in value[0]}, inputs), False
    if len(inputs) > 1:
        raise RequestError(
            422, f"the model takes {len(inputs)} inputs; name them: {[w.name for w in inputs]}"
        )
    return [value], by_columns


def _by_name(given: dict[str, Any], inputs: Sequence[Wanted]) -> list[Any]:
    names = [w.name for w in inputs]
    if len(names) == 1 and len(given) == 1 and set(given) != set(names):
        other = next(iter(given))
        raise RequestError(422, f"the model's input is {names[0]!r}, received {other!r}")
    if set(given) != set(names):
        raise RequestError(422, f"expected the inputs {names}, received {sorted(given)}")
    return [given[name] for name in names]


def _fitting(x: Any, wanted: Wanted) -> Array:
    shape = ", ".join("any" if d is None else str(d) for d in wanted.shape)
    expected = f"input {wanted.name!r} expects rows of shape ({shape}) and dtype {wanted.dtype}"
    try:
        array = np.asarray(x)
    except (ValueError, OverflowError) as error:
        raise RequestError(422, f"{expected}; the rows received are not equally long") from error
    if wanted.dtype == "string":
        if array.dtype.kind != "U":
            raise RequestError(422, f"{expected}; received {array.dtype}")
    elif array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise RequestError(422, f"{expected}; received {_kind(array)}")
    fits = array.ndim == len(wanted.shape) + 1 and all(
        w is None or w == d for w, d in zip(wanted.shape, array.shape[1:], strict=True)
    )
    if not fits:
        raise RequestError(422, f"{expected}; received an array of shape {array.shape}")
    if wanted.dtype == "string":
        return array
    if np.dtype(wanted.dtype).kind in "iu":
        if array.dtype.kind == "f" and not (array == np.floor(array)).all():
            raise RequestError(422, f"{expected}; received numbers that are not whole")
        limits = np.iinfo(wanted.dtype)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise RequestError(422, f"{expected}; received {array.min()} to {array.max()}")
    with np.errstate(over="ignore"):
        made = np.ascontiguousarray(array, wanted.dtype)
    if made.dtype.kind == "f" and (np.isinf(made) & np.isfinite(array)).any():
        raise RequestError(422, f"{expected}; received numbers that it cannot hold")
    return made


def _kind(array: Array) -> str:
    if array.dtype.kind == "O":
        return "rows that are not equally long, or hold null"
    return "text" if array.dtype.kind == "U" else str(array.dtype)


def body_of(outputs: Any, kind: str, by_columns: bool) -> bytes:
    """Returns the body of an answer.

    Numbers that are not finite, which JSON lacks, become null.

    Args:
        outputs: one array, or arrays by name.
        kind: the content type of the request.
        by_columns: whether a client named ``"inputs"`` and wants ``"outputs"``.
    """
    if kind == NPY:
        target = io.BytesIO()
        np.lib.format.write_array(target, outputs, allow_pickle=False)
        return target.getvalue()
    if isinstance(outputs, dict):
        found: Any = {name: a.tolist() for name, a in outputs.items()}
        if not by_columns:
            rows = zip(*found.values(), strict=True)
            found = [dict(zip(found, row, strict=True)) for row in rows]
    else:
        found = outputs.tolist()
    answer = {"outputs" if by_columns else "predictions": found}
    try:
        text = json.dumps(answer, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(answer), separators=(",", ":"))
    return text.encode()


def _finite(x: Any) -> Any:
    if isinstance(x, dict):
        return {name: _finite(item) for name, item in x.items()}
    if isinstance(x, list):
        return [_finite(item) for item in x]
    return x if not isinstance(x, float) or math.isfinite(x) else None
