"""Names of objects, made the way Keras makes them."""

from __future__ import annotations

import functools
import re
from typing import Any

_counts: dict[str, int] = {}


@functools.lru_cache(1024)
def to_snake_case(name: str) -> str:
    """Returns ``name`` as Keras writes it in object names.

    Example:
        >>> to_snake_case("BatchNormalization"), to_snake_case("ReLU")
        ('batch_normalization', 're_lu')
    """
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def auto_name(class_name: str) -> str:
    """Returns the next free name of a class: ``dense``, ``dense_1``, ``dense_2``."""
    prefix = to_snake_case(class_name)
    return uniquify(prefix)


def uniquify(prefix: str) -> str:
    """Returns ``prefix``, with a number from its second use on."""
    count = _counts.get(prefix, 0)
    _counts[prefix] = count + 1
    return prefix if count == 0 else f"{prefix}_{count}"


def reset_names() -> None:
    """Starts the numbering again, as ``clear_session`` does."""
    _counts.clear()


def object_name(obj: Any) -> str:
    """Returns the name of an object or function, or makes one from its class."""
    name = getattr(obj, "name", None)
    if isinstance(name, str):
        return name
    name = getattr(obj, "__name__", None)
    return to_snake_case(name if isinstance(name, str) else type(obj).__name__)


def known_names(kind: str, received: object, known: Any) -> str:
    """Words the error of an unknown string, listing what is known.

    Args:
        kind: what was looked up, such as ``"optimizer"``.
        received: what the caller gave.
        known: the known names.
    """
    import difflib

    names = sorted(set(known))
    text = f"Unknown {kind}: {received!r}. Known: {', '.join(names)}."
    if (of_keras := _name_in_keras(kind, received)) is not None:
        return f"{text} Keras has {of_keras}; handmill has not yet (docs/supported.md)."
    near = difflib.get_close_matches(str(received), names, n=1)
    return f"{text} Did you mean {near[0]!r}?" if near else text


_MODULES = {
    "activation function": "activations",
    "constraint": "constraints",
    "initializer": "initializers",
    "loss": "losses",
    "metric": "metrics",
    "optimizer": "optimizers",
    "regularizer": "regularizers",
}


def _name_in_keras(kind: str, received: object) -> str | None:
    """The name in Keras that a string such as ``"auc"`` means."""
    from handmill.keras_names import KERAS_NAMES

    def plain(name: str) -> str:
        return name.replace("_", "").lower()

    module = _MODULES.get(kind, "")
    text = str(received)
    names = [n for n in KERAS_NAMES.get(module, "").split() if plain(n) == plain(text)]
    return f"{module}.{text if text in names else names[0]}" if names else None
