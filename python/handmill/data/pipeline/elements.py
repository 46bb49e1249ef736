"""Elements of data sets: nested tuples and dicts whose leaves are arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from handmill.data.tables import as_array, holds_numbers, is_table
from handmill.ir.arrays import check_readable, foreign_array
from handmill.ir.op import Array


class ElementSpec(NamedTuple):
    """What is known of an array of an element.

    Attributes:
        shape: the sizes, None where they differ from element to element.
        dtype: the name of the dtype, ``"str"`` for texts.

    Example:
        >>> ElementSpec((None, 3), "float32")
        ElementSpec(shape=(None, 3), dtype='float32')
    """

    shape: tuple[int | None, ...]
    dtype: str


_NESTED = (tuple, dict)


def as_element(value: Any) -> Any:
    """Returns nested tuples and dicts of arrays; a list is an array, as in tf.data.

    Raises:
        ValueError: for a ragged list, and for an array with masked entries.
    """
    if type(value) is tuple and all(map(_is_ready, value)):
        return value
    if isinstance(value, np.ndarray | np.generic):
        if isinstance(value, np.ndarray) and type(value) is not np.ndarray:
            check_readable(value)  # batches are plain arrays, which have no masks
        return value
    if isinstance(value, dict):
        return {key: as_element(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(as_element(item) for item in value)
    if isinstance(value, str | bytes) or hasattr(value, "element_spec"):  # a data set: a window
        return value
    if is_table(value):
        return as_array(value, "tensors") if holds_numbers(value) else _texts(value)
    if hasattr(value, "__dlpack__"):
        return foreign_array(value, "the data")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"a list became no array, because its entries have different shapes ({error}); "
            "use a tuple for parts that belong together, or pad the entries"
        ) from None
    return array.astype(np.float32) if _is_of_floats(value, array) else array


def _is_ready(value: Any) -> bool:
    return type(value) is np.ndarray or isinstance(value, np.generic)


def _texts(table: Any) -> Array:
    """A column of texts or other things; a frame of several dtypes is refused by name."""
    found = table.to_numpy()
    return as_array(table, "tensors") if np.ndim(found) > 1 else np.asarray(found)


def _is_of_floats(value: Any, array: Array) -> bool:
    """Python's own floats are float32, as in tf.data; arrays keep their dtype."""
    return array.dtype == np.float64 and isinstance(value, float | list)


def parts(element: Any) -> list[Any]:
    """Returns the leaves of an element, in the order of its own."""
    if isinstance(element, dict):
        return [leaf for key in sorted(element) for leaf in parts(element[key])]
    if isinstance(element, tuple):
        return [leaf for item in element for leaf in parts(item)]
    return [element]


def rebuilt(like: Any, leaves: Sequence[Any]) -> Any:
    """Returns ``leaves`` nested as ``like`` is."""
    if type(like) is tuple and not any([isinstance(item, _NESTED) for item in like]):
        return tuple(leaves)
    left = iter(leaves)

    def build(place: Any) -> Any:
        if isinstance(place, dict):
            made = {key: build(place[key]) for key in sorted(place)}
            return {key: made[key] for key in place}
        if isinstance(place, tuple):
            return tuple(build(item) for item in place)
        return next(left)

    return build(like)


def mapped(function: Callable[[Any], Any], element: Any) -> Any:
    """Returns the element with each leaf replaced by what ``function`` makes of it."""
    if isinstance(element, dict):
        return {key: mapped(function, item) for key, item in element.items()}
    if isinstance(element, tuple):
        return tuple(mapped(function, item) for item in element)
    return function(element)


def nesting(element: Any) -> Any:
    """Returns what two elements of one data set have in common."""
    return mapped(lambda _: None, element)


def spec_of(element: Any) -> Any:
    """Returns the specs of an element, nested as it is."""
    return mapped(_spec_of_array, element)


def _spec_of_array(value: Any) -> Any:
    if isinstance(value, str | bytes):
        return ElementSpec((), "str")
    if hasattr(value, "element_spec"):  # a window, whose elements are meant
        return value.element_spec
    shape = tuple(int(n) for n in value.shape)
    return ElementSpec(shape, "str" if value.dtype.kind in "USO" else value.dtype.name)


def stacked(elements: Sequence[Any]) -> Any:
    """Returns equally shaped elements as one with a new first axis.

    Raises:
        ValueError: if they are nested differently, or an array differs in shape.
    """
    first = elements[0]
    if isinstance(first, np.ndarray | np.generic):
        return _stack(elements)
    wanted = nesting(first)
    for i, element in enumerate(elements):
        if nesting(element) != wanted:
            raise _nested_otherwise(i, element, first)
    columns = zip(*(parts(element) for element in elements), strict=True)
    return rebuilt(first, [_stack(column) for column in columns])


def _nested_otherwise(i: int, element: Any, first: Any) -> ValueError:
    return ValueError(
        f"batch: element {i} of a batch is nested as {nesting(element)}, element 0 as "
        f"{nesting(first)}; the elements of a data set must be nested alike"
    )


def _stack(column: Sequence[Any]) -> Array:
    first = column[0]
    for i, value in enumerate(column):
        if isinstance(value, str | bytes) != isinstance(first, str | bytes):
            raise ValueError(
                f"batch: element {i} of a batch is a {type(value).__name__}, element 0 a "
                f"{type(first).__name__}; the elements of a data set must be of one kind"
            )
    if isinstance(first, str | bytes):
        texts = np.empty(len(column), object)
        texts[:] = column
        return texts
    if hasattr(first, "element_spec"):
        raise TypeError(
            "batch: the elements are data sets; flat_map(lambda window: window.batch(size)) makes "
            "arrays of windows"
        )
    shape, dtype = first.shape, first.dtype
    for i, value in enumerate(column):
        if getattr(value, "shape", None) != shape:
            if isinstance(value, tuple | dict):
                raise _nested_otherwise(i, value, first)
            raise ValueError(
                f"batch: element {i} of a batch has shape {value.shape}, element 0 has {shape}. "
                "Bring them to one shape with map(...), such as utils.pad_sequences for rows of "
                "different lengths, or use padded_batch or batch(1)."
            )
        if value.dtype != dtype:
            dtype = np.result_type(dtype, value.dtype)
    result: Array = np.empty((len(column), *shape), dtype)
    for i, value in enumerate(column):  # a third of the time of numpy.stack for small arrays
        result[i] = value
    return result


def padded(elements: Sequence[Any], shapes: Any = None, values: Any = None) -> list[Any]:
    """Returns elements whose arrays have been padded at the ends of their axes.

    Args:
        elements: the elements.
        shapes: the shape of each array, nested as an element, None for the longest among them.
        values: what is put there, nested as an element or one for all; None for zeros.

    Raises:
        ValueError: if an array is larger than its shape.
    """
    columns: list[Sequence[Any]] = list(zip(*(parts(one) for one in elements), strict=True))
    wanted = along(elements[0], shapes, "padded_shapes")
    nested = isinstance(values, dict | tuple | list)
    filled = along(elements[0], values, "padding_values") if nested else [values] * len(columns)
    for i, (column, shape, value) in enumerate(zip(columns, wanted, filled, strict=True)):
        columns[i] = _padded_column(column, shape, value)
    rows = zip(*columns, strict=True)
    return [rebuilt(element, row) for element, row in zip(elements, rows, strict=True)]


def _padded_column(column: Sequence[Any], shape: Any, value: Any) -> Sequence[Any]:
    found = {np.shape(array) for array in column}
    ranks = {len(one) for one in found}
    if len(ranks) > 1 or (len(found) == 1 and shape is None):
        return column
    target = np.max(list(found), axis=0)
    if shape is not None:
        free = padded_shape(shape, ranks.pop())
        target = [n if m is None else m for n, m in zip(target, free, strict=True)]
    made = []
    for array in column:
        missing = np.subtract(target, np.shape(array))
        if np.any(missing < 0):
            raise ValueError(
                f"padded_batch: an array of shape {np.shape(array)} does not fit into the padded "
                f"shape {tuple(shape)}"
            )
        fill = value
        if fill is None:
            fill = "" if np.asarray(array).dtype.kind in "USO" else 0
        widths = [(0, int(n)) for n in missing]
        made.append(np.pad(array, widths, constant_values=fill) if widths else array)
    return made


def padded_shape(shape: Any, rank: int) -> tuple[int | None, ...]:
    """Returns a padded shape, with None where the longest of a batch decides.

    Raises:
        ValueError: if it has not ``rank`` axes.
    """
    sizes = tuple(None if n in (None, -1) else int(n) for n in shape)
    if len(sizes) != rank:
        raise ValueError(
            f"padded_batch: the padded shape {tuple(shape)} has {len(sizes)} axes, the array {rank}"
        )
    return sizes


def padded_spec(spec: Any, shapes: Any) -> Any:
    """Returns the specs of padded elements; see :func:`padded`."""
    if isinstance(spec, ElementSpec):
        rank = len(spec.shape)
        return ElementSpec(padded_shape([None] * rank if shapes is None else shapes, rank), spec[1])
    if isinstance(spec, dict):
        given = along(dict.fromkeys(spec), shapes, "padded_shapes")
        by_key = dict(zip(sorted(spec), given, strict=True))
        return {key: padded_spec(item, by_key[key]) for key, item in spec.items()}
    given = along((None,) * len(spec), shapes, "padded_shapes")
    return tuple(padded_spec(item, one) for item, one in zip(spec, given, strict=True))


def along(element: Any, given: Any, name: str) -> list[Any]:
    """Returns what is given for each leaf, in the order of :func:`parts`.

    Raises:
        ValueError: if ``given`` is not nested as the element.
    """
    if given is None:
        return [None] * len(parts(element))
    if isinstance(element, dict) and isinstance(given, dict) and set(element) == set(given):
        found = [along(element[key], given[key], name) for key in sorted(element)]
    elif isinstance(element, tuple) and not isinstance(given, dict) and len(given) == len(element):
        found = [along(item, one, name) for item, one in zip(element, given, strict=True)]
    elif not isinstance(element, dict | tuple):
        found = [[given]]
    else:
        raise ValueError(
            f"`{name}` must be nested as the elements are, which are {nesting(element)}. "
            f"Received: {name}={given!r}"
        )
    return [leaf for leaves in found for leaf in leaves]


def rows_of(element: Any, place: str) -> int:
    """Returns how many rows the arrays of an element have.

    Raises:
        ValueError: if an array has no first axis, or they differ in it.
    """
    counts = []
    for leaf in parts(element):
        if np.ndim(leaf) == 0:
            raise ValueError(f"{place}: expected arrays with a first axis, got the scalar {leaf!r}")
        counts.append(len(leaf))
    if len(set(counts)) > 1:
        raise ValueError(f"{place}: the arrays differ in their numbers of rows: {counts}")
    if not counts:
        raise ValueError(f"{place}: there is no array in {element!r}")
    return counts[0]
