"""What arguments of layers mean: names, dtypes, shapes; and where a call came from."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from handmill import config, tree
from handmill.errors import ShapeError
from handmill.layers.symbolic import shape_of_spec


def bound_arguments(cls: type, layer: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments of a constructor by name, for layers without a get_config() of their own."""
    signature = inspect.signature(cls.__init__)  # type: ignore[misc]
    try:
        found = signature.bind(layer, *args, **kwargs).arguments
    except TypeError:
        return {}
    arguments: dict[str, Any] = {}
    for name, value in list(found.items())[1:]:
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(value)
        else:
            arguments[name] = value
    return arguments


def positional(function: Any) -> list[str]:
    """Returns the names of the positional parameters of a method, without self."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind in kinds][1:]


def leaves_of(value: Any) -> Iterator[Any]:
    """Yields what lists, tuples, dicts and sets hold, however deep."""
    if isinstance(value, dict):
        value = value.values()
    for item in value:
        if isinstance(item, list | tuple | dict | set):
            yield from leaves_of(item)
        else:
            yield item


def unique(items: Sequence[Any]) -> list[Any]:
    """Returns the items without repetitions, by identity."""
    return list({id(item): item for item in items}.values())


def shape_of_leaf(x: Any) -> Any:
    """Returns the shape of an array or symbolic value as users see it."""
    spec = getattr(x, "spec", None)
    if spec is not None:
        return shape_of_spec(spec)
    return None if x is None else tuple(np.shape(x))


NO_KEYWORDS: Mapping[str, Any] = {}


def shapes_for_build(
    layer: Any, first: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What ``build`` is called with: positional arguments, and keywords.

    A ``build`` of several parameters gets the shape of ``x`` as ``x_shape`` where its parameters
    are called so, else the shapes of the call's positional arguments in their order; a ``build``
    of one parameter gets the shape of the first argument.

    Args:
        layer: whose ``build``.
        first: the shape of the first argument of ``call``.
        args: positional arguments of ``call``.
        kwargs: its keyword arguments.
    """
    build = type(layer).build
    if len(names := positional(build)) < 2:
        return (first,), {}
    given = {**dict(zip(layer._call_parameters, args, strict=False)), **kwargs}
    shapes = {
        f"{name}_shape": tree.map_structure(shape_of_leaf, x)
        for name, x in given.items()
        if x is not None and f"{name}_shape" in names
    }
    parameters = inspect.signature(build).parameters
    if all(n in shapes or parameters[n].default is not inspect.Parameter.empty for n in names):
        return (), shapes
    return tuple(tree.map_structure(shape_of_leaf, args[: len(names)])) or (first,), {}


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
    if not isinstance(value, bool | np.bool_ | int):
        raise ValueError(f"Expected argument `{name}` to be a boolean. Received: {value!r}")
    return bool(value)


def check_weight_shape(shape: Any, name: str | None) -> None:
    """Refuses a name in the place of a weight's shape, where Keras 2 had it.

    Raises:
        ValueError: for a string.
    """
    if isinstance(shape, str):
        raise ValueError(
            "the first argument of add_weight() is `shape`: pass the `name` as a keyword argument. "
            f"Received: shape={shape!r}, name={name!r}; write add_weight(name={shape!r}, ...)"
        )


def positive_integer(name: str, value: Any) -> int:
    """Returns an argument that is a size."""
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_integer or value <= 0:
        raise ValueError(
            f"Received an invalid value for `{name}`, expected a positive integer. "
            f"Received: {name}={value!r}"
        )
    return int(value)


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


def data_format_argument(data_format: str | None) -> str:
    """Returns where channels lie: ``"channels_last"`` or ``"channels_first"``."""
    found = data_format or config.image_data_format()
    if found not in ("channels_last", "channels_first"):
        raise ValueError(
            "The `data_format` argument must be one of 'channels_first', 'channels_last'. "
            f"Received: data_format={data_format}"
        )
    return found


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
