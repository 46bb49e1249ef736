"""Sums of products: matrix products, and products over named axes."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from handmill.errors import ShapeError, shape_error
from handmill.ir.dims import Shape, same_shape
from handmill.ir.graph import Value
from handmill.ir.shapes import size_of
from handmill.ops.numpy.elementwise import multiply
from handmill.ops.numpy.movement import expand_dims, reshape, squeeze, transpose
from handmill.ops.numpy.reductions import sum as reduce_sum
from handmill.ops.numpy.sorting import take
from handmill.primitives.matmul import _product
from handmill.primitives.operands import (
    Tensor,
    converted,
    dtype_of,
    normal_axis,
    promote,
    shape_of,
    tensor,
)
from handmill.primitives.places import dtype_of_places
from handmill.runtime.planned import planned, reads_turned


@planned
@reads_turned
def matmul(x1: Tensor, x2: Tensor) -> Any:
    """Multiplies matrices.

    Args:
        x1: a vector, a matrix, or a stack of matrices ``(..., M, K)``. Products of int8 by int8 are
            int32.
        x2: a vector, a matrix, or a stack of matrices ``(..., K, N)``; stacks are broadcast.

    Raises:
        ShapeError: if the inner dimensions differ.

    Example:
        >>> from handmill import ops
        >>> ops.matmul([[1.0, 2.0], [3.0, 4.0]], [1.0, 10.0])
        array([21., 43.], dtype=float32)
    """
    (a, b), dtype = _summands(x1, x2)
    vector_a, vector_b = len(shape_of(a)) == 1, len(shape_of(b)) == 1
    a = expand_dims(a, 0) if vector_a else a
    b = expand_dims(b, 1) if vector_b else b
    turned_a = turned_b = False
    if len(shape_of(a)) == len(shape_of(b)):
        (a, turned_a), (b, turned_b) = _as_it_lies(a), _as_it_lies(b)
    elif len(shape_of(b)) == 2:  # one matrix for a whole stack
        b, turned_b = _as_it_lies(b)
    y = converted(_product(a, b, turned_a, turned_b), dtype)
    if vector_b:
        y = squeeze(y, -1)
    return squeeze(y, -1 if vector_b else -2) if vector_a else y


def _as_it_lies(x: Any) -> tuple[Any, bool]:
    """What matrices are the transposes of, if they are, and whether: products read both ways."""
    node = x.node if isinstance(x, Value) else None
    if node is None or node.op.name != "transpose":
        return x, False
    rank = len(node.attrs["perm"])
    swaps = tuple(node.attrs["perm"]) == (*range(rank - 2), rank - 1, rank - 2)
    return (node.inputs[0], True) if swaps else (x, False)


def _summands(*operands: Tensor) -> tuple[list[Any], str]:
    """Operands of one dtype, and the dtype of the sums of their products.

    Sums of int8 are formed in int32, and stay there if no operand is bool, for they would leave it.
    """
    given = [tensor(x) for x in operands]
    found = promote(*given)
    dtype = str(dtype_of(found[0]))
    if dtype != "int8":
        return found, dtype
    is_narrow = any(dtype_of(x) == "bool" for x in given)
    return [converted(x, "int32") for x in found], "int8" if is_narrow else "int32"


def dot(x1: Tensor, x2: Tensor) -> Any:
    """Returns the product over the last axis of ``x1`` and the second to last of ``x2``.

    Example:
        >>> from handmill import ops
        >>> float(ops.dot([1.0, 2.0], [3.0, 4.0]))
        11.0
    """
    a, b = tensor(x1), tensor(x2)
    if not shape_of(a) or not shape_of(b):
        return multiply(x1, x2)
    if len(shape_of(b)) <= 2:
        return matmul(a, b)

    return tensordot(a, b, axes=([-1], [-2]))


def vdot(x1: Tensor, x2: Tensor) -> Any:
    """Returns the sum of the products of all elements.

    Example:
        >>> from handmill import ops
        >>> float(ops.vdot([1.0, 2.0], [3.0, 4.0]))
        11.0
    """
    return matmul(reshape(x1, (-1,)), reshape(x2, (-1,)))


def tensordot(x1: Tensor, x2: Tensor, axes: Any = 2) -> Any:
    """Sums products over pairs of axes.

    Args:
        x1: the first operand.
        x2: the second operand.
        axes: the axes of ``x1`` and those of ``x2``, or how many of the last of ``x1`` and
            first of ``x2``.

    Example:
        >>> from handmill import ops
        >>> ops.tensordot([[1.0, 2.0]], [[3.0], [4.0]], axes=1)
        array([[11.]], dtype=float32)
    """
    a, b = tensor(x1), tensor(x2)
    rank_a, rank_b = len(shape_of(a)), len(shape_of(b))
    if isinstance(axes, int):
        if not 0 <= axes <= min(rank_a, rank_b):
            raise shape_error(
                "tensordot",
                f"{axes} axes of each operand were to be summed over",
                {"x1": shape_of(a), "x2": shape_of(b)},
                "give fewer `axes`",
            )
        axes_a, axes_b = list(range(rank_a - axes, rank_a)), list(range(axes))
    else:
        first, second = ([x] if isinstance(x, int) else list(x) for x in axes)
        axes_a = [normal_axis("tensordot", x, rank_a) for x in first]
        axes_b = [normal_axis("tensordot", x, rank_b) for x in second]
    rest_a = [i for i in range(rank_a) if i not in axes_a]
    rest_b = [i for i in range(rank_b) if i not in axes_b]
    inner_a = tuple(shape_of(a)[i] for i in axes_a)
    inner_b = tuple(shape_of(b)[i] for i in axes_b)
    if not same_shape(inner_a, inner_b):
        raise ShapeError(f"tensordot: summed axes differ: {inner_a} and {inner_b}")
    outer = tuple(shape_of(a)[i] for i in rest_a) + tuple(shape_of(b)[i] for i in rest_b)
    size = size_of(inner_a)
    rows, columns = (size_of(outer[: len(rest_a)]), size_of(outer[len(rest_a) :]))
    a = reshape(transpose(a, rest_a + axes_a), (rows, size))
    b = reshape(transpose(b, axes_b + rest_b), (size, columns))
    return reshape(matmul(a, b), outer)


def einsum(subscripts: str, *operands: Tensor) -> Any:
    """Sums products of elements over the axes that the letters name.

    Letters of the operands that the result does not have are summed over. Products of several
    operands are formed from the left to the right.

    Args:
        subscripts: such as ``"bik,bkj->bij"``. Without an arrow the result has the letters
            that occur once, in alphabetical order. ``...`` stands for further axes, which are
            broadcast and come first; a letter that stands twice in one operand takes its diagonal.
        *operands: one tensor for each group of letters.

    Example:
        >>> from handmill import ops
        >>> ops.einsum("ij,j->i", [[1.0, 2.0], [3.0, 4.0]], [1.0, 10.0])
        array([21., 43.], dtype=float32)
    """
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ValueError(f"one group of letters an operand was expected, got {subscripts!r}")
    arrays, dtype = _summands(*operands)
    terms, further = _without_ellipses(terms, arrays, subscripts)
    if not arrow:
        letters = "".join(terms)
        once = {c for c in letters if letters.count(c) == 1} - set(further)
        right = further + "".join(sorted(once))
    else:
        if further and "..." not in right:
            raise ValueError(f"the result must have the axes of '...' too, got {subscripts!r}")
        right = right.replace("...", further)
    if not "".join([*terms, right]).isalpha() and "".join([*terms, right]):
        raise ValueError(f"letters and '...' were expected, got {subscripts!r}")
    if len(set(right)) != len(right):
        raise ValueError(f"a letter stands twice in the result: {subscripts!r}")
    for position, term in enumerate(terms):
        if len(term) != len(shape_of(arrays[position])):
            shape = shape_of(arrays[position])
            raise ShapeError(f"einsum: {term!r} does not name the axes of shape {shape}")
        terms[position], arrays[position] = _diagonals(term, arrays[position])
    letters, y = terms[0], arrays[0]
    for position in range(1, len(terms)):
        later = set(right).union(*terms[position + 1 :])
        letters, y = _contract(letters, y, terms[position], arrays[position], later)
    axes = tuple(i for i, c in enumerate(letters) if c not in right)
    if axes:
        y = reduce_sum(y, axis=axes)
    letters = "".join(c for c in letters if c in right)
    if sorted(letters) != sorted(right):
        raise ValueError(f"the result names letters that no operand has: {subscripts!r}")
    return converted(transpose(y, [letters.index(c) for c in right]), dtype)


def _without_ellipses(
    terms: list[str], arrays: list[Any], subscripts: str
) -> tuple[list[str], str]:
    """Gives the axes of ``...`` letters of their own; returns them too.

    An axis of size 1 is dropped where another operand has more: products repeat it.
    """
    pool = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in subscripts]
    ranks = [
        len(shape_of(x)) - len(t.replace("...", "")) for t, x in zip(terms, arrays, strict=True)
    ]
    most = builtins.max((r for t, r in zip(terms, ranks, strict=True) if "..." in t), default=0)
    if most > len(pool) or (
        builtins.min(ranks, default=0) < 0 and most == 0 and "..." in subscripts
    ):
        raise ShapeError(f"einsum: {subscripts!r} does not name the axes of its operands")
    names = "".join(pool[:most])
    sizes: dict[str, Any] = {}
    found = []
    for term, x, rank in zip(terms, arrays, ranks, strict=True):
        own = names[most - rank :] if "..." in term and rank > 0 else ""
        at = term.index("...") if "..." in term else 0
        for axis, c in enumerate(own):
            size = shape_of(x)[at + axis]
            sizes[c] = size if sizes.get(c, 1) == 1 else sizes[c]
        found.append(own)
    for position, own in enumerate(found):
        if "..." not in terms[position]:
            continue
        at = terms[position].index("...")
        shape = shape_of(arrays[position])
        alone = [c for i, c in enumerate(own) if shape[at + i] == 1 and sizes[c] != 1]
        drop = tuple(at + own.index(c) for c in alone)
        arrays[position] = squeeze(arrays[position], drop) if drop else arrays[position]
        kept = "".join(c for c in own if c not in alone)
        terms[position] = terms[position].replace("...", kept, 1)
    return terms, names


def _diagonals(term: str, x: Any) -> tuple[str, Any]:
    """Takes the diagonal of two axes of one letter, until every letter stands once."""
    for c in dict.fromkeys(term):
        while term.count(c) > 1:
            first, second = term.index(c), term.index(c, term.index(c) + 1)
            size = shape_of(x)[first]
            if not isinstance(size, int) or size != shape_of(x)[second]:
                raise ShapeError(
                    f"einsum: {term!r} takes the diagonal of axes of sizes {size} and "
                    f"{shape_of(x)[second]}; they must be equal and fixed"
                )
            others = [i for i in range(len(term)) if i not in (first, second)]
            x = transpose(x, [*others, first, second])
            rest = tuple(shape_of(x)[:-2])
            x = reshape(x, (*rest, size * size))
            steps = np.arange(size, dtype=dtype_of_places(size * size)) * (size + 1)
            x = take(x, steps, axis=len(rest))
            term = "".join(term[i] for i in others) + c
    return term, x


def _contract(s: str, x: Any, t: str, y: Any, needed: set[str]) -> tuple[str, Any]:
    """Multiplies two operands, summing over letters that they share and nobody else needs."""
    only_x = tuple(i for i, c in enumerate(s) if c not in t and c not in needed)
    only_y = tuple(i for i, c in enumerate(t) if c not in s and c not in needed)
    x = reduce_sum(x, axis=only_x) if only_x else x
    y = reduce_sum(y, axis=only_y) if only_y else y
    s = "".join(c for i, c in enumerate(s) if i not in only_x)
    t = "".join(c for i, c in enumerate(t) if i not in only_y)
    batch = [c for c in s if c in t and c in needed]
    inner = [c for c in s if c in t and c not in needed]
    rows = [c for c in s if c not in t]
    columns = [c for c in t if c not in s]
    dims = dict(zip(s, shape_of(x), strict=True)) | dict(zip(t, shape_of(y), strict=True))
    x = transpose(x, [s.index(c) for c in batch + rows + inner])
    y = transpose(y, [t.index(c) for c in batch + inner + columns])
    x = reshape(x, _grouped(batch, rows, inner, dims))
    y = reshape(y, _grouped(batch, inner, columns, dims))
    out = tuple(batch + rows + columns)
    product = matmul(x, y) if inner else multiply(x, y)
    return "".join(out), reshape(product, tuple(dims[c] for c in out))


def _grouped(batch: list[str], first: list[str], second: list[str], dims: dict[str, Any]) -> Shape:
    one, two = (size_of(tuple(dims[c] for c in group)) for group in (first, second))
    return (*(dims[c] for c in batch), one, two)


def outer(x1: Tensor, x2: Tensor) -> Any:
    """Returns all products of the elements of two vectors.

    Example:
        >>> from handmill import ops
        >>> ops.outer([1, 2], [3, 4])
        array([[3, 4],
               [6, 8]], dtype=int32)
    """
    return multiply(reshape(x1, (-1, 1)), reshape(x2, (1, -1)))


Value.operators.update(
    matmul=matmul,
)
