"""What arguments of layers mean: names, dtypes, shapes; and where a call came from."""

from __future__ import annotations

import inspect
import math
import sys
import types
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from handmill import tree
from handmill.errors import ShapeError, warn_caller
from handmill.ir.arrays import array_of
from handmill.layers.context import CONTEXT
from handmill.layers.symbolic import KerasTensor, shape_of_spec
from handmill.runtime.watch import is_ours


def bound_arguments(cls: type, layer: Any, args: Any, kwargs: Any) -> dict[str, Any] | None:
    """The arguments of a constructor by name, for layers without a get_config() of their own.

    Those that were left out have their defaults. None where names cannot say what was passed:
    arguments that are positional only, or collected by ``*args``.
    """
    signature = inspect.signature(cls.__init__)  # type: ignore[misc]
    try:
        bound = signature.bind(layer, *args, **kwargs)
    except TypeError:
        return {}
    bound.apply_defaults()
    arguments: dict[str, Any] = {}
    for name, value in list(bound.arguments.items())[1:]:
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(value)
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            if value:
                return None
        elif kind is inspect.Parameter.POSITIONAL_ONLY:
            return None
        else:
            arguments[name] = value
    return arguments


def weight_arguments(
    positional: tuple[Any, ...], named: tuple[Any, ...], name: str, layer: Any
) -> tuple[tuple[int, ...], Any, Any]:
    """Returns shape, initializer and dtype given to ``add_weight``, by position or by name.

    Raises:
        TypeError: for more than three of them by position.
        ValueError: for a name in the first place, as Keras 2 had it; for one that is given twice;
            for a weight that no memory can hold; inside the layer's ``call``.
    """
    if CONTEXT.calling is layer:
        raise ValueError(
            f"{layer.describe()}: call() cannot add new elements of state: it would make the "
            f"weight {name!r} anew at each call. Make it in build(input_shape) or in __init__."
        )
    if len(positional) > 3:
        raise TypeError(
            "add_weight() takes at most 3 positional arguments (shape, initializer, dtype), but "
            f"{len(positional)} were given to that of {layer.describe()}"
        )
    found = dict(zip(_BY_POSITION, named, strict=True))
    for argument, value in zip(_BY_POSITION, positional, strict=False):
        if argument == "shape" and isinstance(value, str):
            raise ValueError(
                f"add_weight() of {layer.describe()}: the first argument is `shape`, `name` must "
                f"be passed as a keyword argument: add_weight(shape=..., name={value!r}). "
                f"Received: add_weight({value!r}, ...)"
            )
        if found[argument] is not None:
            raise ValueError(
                f"add_weight() of {layer.describe()}: `{argument}` was passed both positionally "
                "and as a keyword argument."
            )
        found[argument] = value
    shape = found["shape"]
    shape = (shape,) if isinstance(shape, int) else tuple(shape or ())
    if math.prod(shape) * 4 > _ADDRESSABLE:
        raise ValueError(
            f"{layer.describe()}: its weight {name!r} of shape {shape} would need "
            f"{math.prod(shape) * 4:.3g} bytes"
        )
    return shape, found["initializer"], found["dtype"]


_BY_POSITION = ("shape", "initializer", "dtype")

_ADDRESSABLE = 1 << 47
"""Bytes of address space that a process has on today's machines."""


def warn_of_unbuilt(layer: Any) -> None:
    """Warns if a layer without a ``build`` of its own has layers inside that are not built."""
    if any(not inner.built for inner in layer._flatten_layers()):
        warn_caller(
            f"build() was called on {layer.describe()}, which has none of its own, while layers "
            "inside of it are not built: it now counts as built, and they have no weights. Give it "
            "a build(input_shape) that builds them, or call it on data.",
            UserWarning,
        )


def takes_name(cls: type) -> bool:
    """Whether the constructor of a class has an argument ``name``, or takes any."""
    parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    return any(p.name == "name" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def positional(function: Any) -> list[str]:
    """Returns the names of the positional parameters of a method, without self."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind in kinds][1:]


_names_of_build: weakref.WeakKeyDictionary[Any, list[str]] = weakref.WeakKeyDictionary()
"""What :func:`positional` says of methods ``build``: each layer that is built asks, 40 us."""


def build_arguments(
    layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The shapes that ``build`` asks for by the names of the arguments of ``call``.

    Args:
        layer: the layer.
        args: what it was called on.
        kwargs: the same, by name.

    Returns:
        Shapes by name; None where ``build`` takes one argument, which is the first shape.

    Raises:
        ValueError: if an argument of ``build`` is not called after one of ``call``.
        TypeError: if an argument is missing that ``call`` cannot do without.
    """
    build = type(layer).build
    is_function = type(build) is types.FunctionType  # else it may be neither hashed nor weak
    names = _names_of_build.get(build) if is_function else None
    if names is None:
        names = positional(build)
        if is_function:
            _names_of_build[build] = names
    if len(names) < 2:
        return None
    known = inspect.signature(type(layer).call).parameters
    given = {**dict(zip(layer._call_parameters, args, strict=False)), **kwargs}
    found = {}
    for name in names:
        wanted = name.removesuffix("_shape")
        problem = None
        if wanted == name:
            problem = f"`build()` argument `{name}`, which does not end in `_shape`"
        elif wanted not in known:
            problem = f"`build()` argument `{name}`, but `call()` does not have argument `{wanted}`"
        if problem is not None:
            raise ValueError(
                f"{layer.describe()}: where `build()` takes several arguments, each is called "
                "after an argument of `call()` and ends in `_shape`, such as `build(self, "
                f"query_shape, value_shape)`. Received: {problem}"
            )
        if wanted not in given and known[wanted].default is inspect.Parameter.empty:
            raise TypeError(
                f"{layer.describe()}: missing a required argument of `call()`: {wanted!r}. "
                f"Received: {', '.join(_arrays_named(layer, args, kwargs))}"
            )
        if given.get(wanted) is not None:
            found[name] = _shapes_in(given[wanted])
    return found


def _arrays_named(layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[str]:
    """The arguments of ``call`` that hold arrays."""
    given = {**dict(zip(layer._call_parameters, args, strict=False)), **kwargs}
    return [name for name, value in given.items() if hasattr(value, "shape")]


def _shapes_in(value: Any) -> Any:
    return tree.map_structure(shape_of_leaf, value)


def defines_shape(kind: type) -> bool:
    """Whether a class of users says the shape of its output itself."""
    return not is_ours(next(c for c in kind.__mro__ if "compute_output_shape" in vars(c)))


def tensors_of(shape: Any, dtype: str) -> Any:
    """KerasTensors of nested shapes."""
    if is_shape(shape):
        return KerasTensor(shape, dtype)
    if isinstance(shape, dict):
        return {key: tensors_of(part, dtype) for key, part in shape.items()}
    return type(shape)(tensors_of(part, dtype) for part in shape)


def alone(tensors: list[KerasTensor]) -> Any:
    """The only one of several tensors, or all of them."""
    return tensors[0] if len(tensors) == 1 else list(tensors)


def check_positional(layer: Any, args: tuple[Any, ...]) -> None:
    """Refuses settings among the positional arguments of a call, where tensors are expected.

    Raises:
        ValueError: naming the value.
    """
    for value in args:
        if isinstance(value, bool | str):
            raise ValueError(
                "Only input tensors may be passed as positional arguments. The following argument "
                f"value should be passed as a keyword argument: {value!r} (of type {type(value)}), "
                f"in a call of {layer.describe()}"
            )


def leaves_of(value: Any, outside: tuple[Any, ...] = ()) -> Iterator[Any]:
    """Yields what lists, tuples, dicts and sets hold, however deep; one in itself is not entered.

    Args:
        value: a container.
        outside: the containers that it lies in.
    """
    outside = (*outside, value)
    for item in value.values() if isinstance(value, dict) else value:
        if not isinstance(item, list | tuple | dict | set):
            yield item
        elif not any(item is container for container in outside):
            yield from leaves_of(item, outside)


def unique(items: Sequence[Any]) -> list[Any]:
    """Returns the items without repetitions, by identity."""
    return list({id(item): item for item in items}.values())


def shape_of_leaf(x: Any) -> Any:
    """Returns the shape of an array or symbolic value as users see it."""
    spec = getattr(x, "spec", None)
    if spec is not None:
        return shape_of_spec(spec)
    return None if x is None else tuple(np.shape(x))


def is_shape(shape: Any) -> bool:
    """Whether ``shape`` is one shape, not a nesting of shapes."""
    return isinstance(shape, list | tuple) and all(
        d is None or isinstance(d, int | np.integer) for d in shape
    )


def as_lists(shape: Any) -> Any:
    """Returns shapes as lists, for JSON."""
    if isinstance(shape, list | tuple):
        return [as_lists(s) for s in shape]
    if isinstance(shape, dict):
        return {key: as_lists(s) for key, s in shape.items()}
    return shape


def as_tuples(shape: Any) -> Any:
    """Returns shapes that came from JSON as tuples."""
    if is_shape(shape):
        return tuple(shape)
    if isinstance(shape, dict):
        return {key: as_tuples(s) for key, s in shape.items()}
    return [as_tuples(s) for s in shape]


def checked_name(name: Any) -> str:
    """Returns a name that a layer may have."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"Argument `name` must be a string and cannot be empty. Received: {name}")
    if "/" in name or name in (".", ".."):
        raise ValueError(
            f"Argument `name` must be a string and cannot contain character `/`. Received: {name}"
        )
    return name


def checked_bool(name: str, value: Any) -> bool:
    """Returns an argument that means yes or no."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"Expected argument `{name}` to be a boolean. Received: {value!r}")
    return bool(value)


def positive_integer(name: str, value: Any) -> int:
    """Returns an argument that is a size."""
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_integer or value <= 0:
        raise ValueError(
            f"Received an invalid value for `{name}`, expected a positive integer. "
            f"Received: {name}={value!r}"
        )
    return int(value)


def checked_numbers(name: str, value: Any) -> np.ndarray[Any, Any]:
    """Returns an argument that is a number, or an array of numbers, as float64."""
    array = array_of(value, name=name)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"`{name}` must be a number or an array of numbers. Received: {value!r}")
    return array.astype(np.float64)


def checked_fraction(name: str, value: Any) -> float:
    """Returns an argument from 0 to 1."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(
            f"Invalid value received for argument `{name}`. Expected a float value between 0 and "
            f"1. Received: {name}={value}"
        )
    return value


def refuse_unsupported(**arguments: Any) -> None:
    """Raises ValueError for arguments of Keras that are not supported and not None."""
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(f"`{name}` is not supported yet. Received: {name}={value!r}")


def input_shape_argument(kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    """Takes Keras's older ways to name the input's shape out of ``kwargs``."""
    batch = kwargs.pop("batch_size", None)
    if "batch_input_shape" in kwargs:
        return tuple(kwargs.pop("batch_input_shape"))
    if "batch_shape" in kwargs:
        return tuple(kwargs.pop("batch_shape"))
    if "input_dim" in kwargs:
        return batch, kwargs.pop("input_dim")
    if "input_shape" in kwargs:
        shape = kwargs.pop("input_shape")
        return batch, *((shape,) if isinstance(shape, int) else tuple(shape))
    return None


def call_site() -> str:
    """Returns file and line of the nearest caller outside handmill, such as ``train.py:41``."""
    frame = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] != "handmill":
            return f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def located(error: ShapeError, layer: Any, args: Any) -> ShapeError:
    """Returns an error that names the layer, the shape of its input and the caller too."""
    text = str(error)
    if "\n  in layer " in text:
        return error
    received = tree.map_structure(shape_of_leaf, args)
    where = f"\n  in {layer.describe()}, called on an input of shape {received[0]}"
    if site := call_site():
        where += f" at {site}"
    problem, mark, hint = text.partition("\n  hint:")
    return ShapeError(problem + where + mark + hint)
