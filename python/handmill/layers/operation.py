"""Operators as layers: what a function of ``handmill.ops`` becomes in a functional model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from handmill.ir.dims import BATCH, FloorDiv, SymbolicDim, attrs_with, exact_quotient, symbol
from handmill.ir.trace import apply
from handmill.layers.layer import Layer
from handmill.layers.symbolic import sizes_of_run


class _OperationType(type):
    """Makes every layer an operation, as in Keras, where layers are built on them."""

    def __instancecheck__(cls, instance: Any) -> bool:
        known = Layer if cls is Operation else None
        return isinstance(instance, known) if known else type.__instancecheck__(cls, instance)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, Layer) if cls is Operation else type.__subclasscheck__(cls, other)


class Operation(Layer, metaclass=_OperationType):
    """A computation without weights. Called on arrays it computes; on symbolic tensors it records.

    Subclasses define ``call``, and where its result has a shape of its own
    ``compute_output_spec``.

    Args:
        name: default: the class name in snake case, numbered.

    Example:
        >>> import numpy as np, handmill
        >>> class Double(handmill.Operation):
        ...     def call(self, x):
        ...         return x * 2
        >>> Double()(np.ones(2, "float32"))
        array([2., 2.], dtype=float32)
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name, autocast=False)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data. Operations with arguments of their own add them."""
        config = super().get_config()
        return {k: v for k, v in config.items() if k not in ("trainable", "dtype")}

    get_config.collects_arguments = True  # type: ignore[attr-defined]


class OpLayer(Layer):
    """Applies one operator of the registry.

    Args:
        op: the operator's name.
        attrs: its attributes.
        name: default: the operator's name, numbered.
    """

    # An array of as many rows as a batch must have is a tensor of the model like any other.
    _fixes_batch = True

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
        self._attrs = {key: attr_of_data(value) for key, value in (attrs or {}).items()}

    def call(self, *operands: Any) -> Any:
        """Applies the operator."""
        return apply(self._op, *operands, **attrs_with(self._attrs, sizes_of_run()))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "name": self.name,
            "op": self._op.name,
            "attrs": {key: attr_as_data(value) for key, value in self._attrs.items()},
        }


class FunctionLayer(Layer):
    """Calls a function: what a loop or choice over symbolic tensors becomes in a model.

    Args:
        function: takes and returns tensors.
        name: the layer's name.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        super().__init__(name=name, autocast=False)
        self._function = function

    def call(self, *operands: Any) -> Any:
        """Calls the function."""
        return self._function(*operands)

    def get_config(self) -> dict[str, Any]:
        """Raises an error: functions are code and not data."""
        raise TypeError(
            f"{self.describe()} holds the functions of a loop or branch, which files and copies "
            "of a model have no form for; write the loop in the call of a layer of your own"
        )


def attr_as_data(value: Any) -> Any:
    """An attribute as plain data."""
    if isinstance(value, SymbolicDim):
        return _dim_as_data(value)
    if isinstance(value, tuple):
        return [attr_as_data(item) for item in value]
    return value


def attr_of_data(value: Any) -> Any:
    """The attribute that plain data stand for, hashable."""
    if isinstance(value, dict) and set(value) == {"batch"}:
        return BATCH * int(value["batch"])
    if isinstance(value, dict) and set(value) == {"dim"}:
        return _dim_of_data(value["dim"])
    if isinstance(value, list | tuple):
        return tuple(attr_of_data(item) for item in value)
    return value


def _dim_as_data(dim: SymbolicDim) -> Any:
    """A dimension as plain data: multiples of the batch size, or terms ``[count, atoms]``."""
    times = exact_quotient(dim, BATCH)
    return {"batch": times} if isinstance(times, int) else {"dim": _terms_as_data(dim)}


def _terms_as_data(dim: Any) -> Any:
    return [[count, [_atom_as_data(a) for a in atoms]] for atoms, count in dim.terms]


def _atom_as_data(atom: Any) -> Any:
    if isinstance(atom, FloorDiv):
        return {"of": _terms_as_data(atom.of), "by": atom.by}
    return atom.name


def _dim_of_data(terms: Any) -> Any:
    total: Any = 0
    for count, atoms in terms:
        product: Any = int(count)
        for atom in atoms:
            if isinstance(atom, dict):
                product = product * (_dim_of_data(atom["of"]) // int(atom["by"]))
            else:
                product = product * symbol(str(atom))
        total = total + product
    return total
