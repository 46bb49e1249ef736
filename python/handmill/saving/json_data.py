"""Plain data as JSON that can be read again."""

from __future__ import annotations

import json
import math
from typing import Any

from handmill.errors import FileFormatError
from handmill.saving.pieces import Content

MAX_JSON = 16 << 20
_MAX_DEPTH = 512  # about 160 models inside each other; building more exceeds Python's stack


def to_json(data: Any, name: str) -> bytes:
    """Returns data as JSON that :func:`from_json` reads.

    Args:
        data: plain data.
        name: what errors call it.

    Raises:
        TypeError: for what is not plain data.
        ValueError: for NaN and infinities, which JSON has not, and for what is nested too deeply
            or too long to be read again.
    """
    try:
        too_deep = _depth(data) > _MAX_DEPTH
        content = json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False).encode()
    except RecursionError:
        too_deep, content = True, b""
    if too_deep:
        raise ValueError(
            f"{name} would be nested more than {_MAX_DEPTH} levels deep, which cannot be read "
            "again; put fewer models inside each other"
        )
    if len(content) > MAX_JSON:
        raise ValueError(
            f"{name} would have {len(content) / 1e6:.3g} MB, and at most {MAX_JSON >> 20} MB can "
            "be read again; return large tables from get_config() as arrays, which are stored as "
            "tensors"
        )
    return content


def from_json(content: Content, name: str) -> Any:
    """Returns the data in JSON.

    Raises:
        FileFormatError: if it is not JSON, nested too deeply, has a key twice or a number that is
            NaN or infinite.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise FileFormatError(f"{name} has a key twice")
        return found

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise FileFormatError(f"{name} has the number {text}, which is not finite")
        return value

    try:
        data = json.loads(
            str(content, "utf-8"),
            object_pairs_hook=unique,
            parse_constant=number,
            parse_float=number,
        )
    except FileFormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{name} is not valid JSON: {error}") from None
    if _depth(data) > _MAX_DEPTH:
        raise FileFormatError(f"{name} is nested more than {_MAX_DEPTH} levels deep")
    return data


def _depth(data: Any) -> int:
    depth, level = 0, [data]
    while level and depth <= _MAX_DEPTH:
        depth += 1
        following: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                following.extend(item.values())
            elif isinstance(item, list | tuple):
                following.extend(item)
        level = following
    return depth
