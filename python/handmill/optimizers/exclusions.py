"""What configs say of variables that are exempt from weight decay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

EXCLUDED = "excluded_from_weight_decay"
"""Key of a config, there only where something is excluded: Keras has no such key and forgets."""


def checked_exclusions(excluded: Any) -> tuple[list[Any], list[str]]:
    """What a config says of exclusions from weight decay.

    Raises:
        ValueError: for anything but positions, paths, and names without quantifiers (a pattern
            from a file must not be able to take for ever).
    """
    parts = excluded if isinstance(excluded, Mapping) else {}
    variables, names = parts.get("variables"), parts.get("names")
    if (
        not isinstance(variables, list)
        or not isinstance(names, list)
        or not all(type(v) in (int, str) for v in variables)
        or not all(isinstance(n, str) and re.fullmatch(r"[\w./|^$-]+", n) for n in names)
    ):
        raise ValueError(
            f"`{EXCLUDED}` should hold positions or paths in `variables`, and plain names in "
            f"`names`. Received: {excluded!r}"
        )
    return list(variables), list(names)
