"""Operators as layers: what a function of ``handmill.ops`` becomes in a functional model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handmill.ir.shapes import Batch
from handmill.ir.trace import apply
from handmill.layers.layer import Layer


class OpLayer(Layer):
    """Applies one operator of the registry.

    Args:
        op: the operator's name.
        attrs: its attributes.
        name: default: the operator's name, numbered.
    """

    def __init__(
        self,
        op: str,
        attrs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        import handmill.ops  # noqa: F401  (fills the registry)
        from handmill.ir.op import REGISTRY
        from handmill.naming import known_names, uniquify

        if op not in REGISTRY:
            raise ValueError(known_names("operator", op, REGISTRY))
        super().__init__(name=name or uniquify(op), autocast=False, **kwargs)
        self._op = REGISTRY[op]
        self._attrs = {key: _hashable(value) for key, value in (attrs or {}).items()}

    def call(self, *operands: Any) -> Any:
        """Applies the operator."""
        return apply(self._op, *operands, **self._attrs)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "name": self.name,
            "op": self._op.name,
            "attrs": {key: _as_data(value) for key, value in self._attrs.items()},
        }


def _as_data(value: Any) -> Any:
    if isinstance(value, Batch):
        return {"batch": value.times}
    if isinstance(value, tuple):
        return [_as_data(item) for item in value]
    return value


def _hashable(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"batch"}:
        return Batch(int(value["batch"]))
    if isinstance(value, list | tuple):
        return tuple(_hashable(item) for item in value)
    return value
