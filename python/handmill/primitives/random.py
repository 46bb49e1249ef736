"""Random operators. They read a seed state and never change it: ``advance_seed`` does.

A seed state is int64 ``(seed, call)``. The same state gives the same numbers on every machine,
for every number of threads and for both executors. Where each row of a batch has a state of its own
(``row_seeds``), what is drawn for a row does not depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.dims import Shape, same
from handmill.ir.op import Array, Attrs, Exact, Op, Sample, Ulp, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives.operands import Tensor, promote_float, tensor
from handmill.primitives.philox import philox_block, philox_rows, philox_words
from handmill.primitives.samples import BENCH, both, given, name_of, uniform

_STATE = np.array([1234567890123, 7], dtype=np.int64)


def _native(specs: Sequence[Spec], attrs: Attrs) -> bool:
    return all(s.dtype == "float32" for s in specs[:-1]) and specs[-1].dtype == "int64"


def check_state(op: str, seed_state: Spec) -> None:
    """Refuses what is not a seed state."""
    if seed_state != Spec((2,), "int64"):
        raise shape_error(op, "a seed state int64[2] was expected", {"seed_state": seed_state})


def _words(seed_state: Array, shape: Sequence[int]) -> Array:
    count = int(np.prod(shape, dtype=np.int64))
    return philox_words(int(seed_state[0]), int(seed_state[1]), count).reshape(tuple(shape))


def _infer(name: str) -> Any:
    def infer(seed_state: Spec, *, shape: Shape) -> Spec:
        if len(seed_state.shape) != 2:
            check_state(name, seed_state)
        else:
            check_state(name, Spec(seed_state.shape[1:], seed_state.dtype))
            if not shape or not same(seed_state.shape[0], shape[0]):
                problem = f"a seed state for each row of {shape} was expected"
                raise shape_error(name, problem, {"seed_state": seed_state})
        return Spec(shape, "float32")

    return infer


def _states(rows: int) -> Array:
    return np.array([(1234567890123 + 98765432109 * i, i) for i in range(rows)], np.int64)


def _samples() -> Iterable[Sample]:
    for size in ((0,), (1,), (15,), (16,), (17,), (127, 33)):
        yield Sample(name_of(size), given(_STATE), {"shape": size}, smooth=False)
    of_rows: tuple[tuple[int, ...], ...]
    of_rows = ((5,), (5, 1, 1), (5, 3), (1, 7), (3, 4097), (1100, 2), (5, 0))
    for shape in of_rows:
        make = given(_states(shape[0]))
        yield Sample(f"rows_{name_of(shape)}", make, {"shape": shape}, smooth=False)
    yield Sample("bench", given(_STATE), {"shape": BENCH}, smooth=False, bench=True)


def _words_by_row(seed_state: Array, shape: Sequence[int], multiple: int) -> tuple[Array, int]:
    """Words of shape (states, n), n a multiple of a number, and how many of them are wanted."""
    states = seed_state.reshape(-1, 2)
    count = int(np.prod(shape, dtype=np.int64)) // max(len(states), 1)
    return philox_rows(states, -(-count // multiple) * multiple), count


def _uniform_reference(seed_state: Array, *, shape: tuple[int, ...]) -> Array:
    # 24 bits fill the significand exactly: in [0, 1), never rounded up to 1.
    words, _ = _words_by_row(seed_state, shape, 1)
    bits = (words >> np.uint32(8)).reshape(tuple(shape))
    return np.asarray(bits * np.float64(2.0**-24), np.float32)


RANDOM_UNIFORM = register(
    Op(
        "random_uniform",
        infer=_infer("random_uniform"),
        reference=_uniform_reference,
        samples=_samples,
        bound=Exact(),
        kernel="random_uniform",
        native=_native,
        random=True,
        grad_none=(0,),
    )
)


def _box_muller(seed_state: Array, shape: Sequence[int]) -> tuple[Array, Array, int]:
    """Radius and angle of each pair of elements of a row, and how many elements it has."""
    words, count = _words_by_row(seed_state, shape, 2)
    bits = (words >> np.uint32(8)).astype(np.float64).reshape(len(words), -1, 2)
    u1, u2 = (bits[..., 0] + 1) * 2.0**-24, bits[..., 1] * 2.0**-24  # u1 is not 0: log is finite
    return np.sqrt(-2 * np.log(u1)), 2 * np.pi * u2, count


def _normal64(seed_state: Array, shape: Sequence[int]) -> Array:
    radius, angle, count = _box_muller(seed_state, shape)
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return pairs.reshape(len(pairs), 2 * pairs.shape[1])[:, :count].reshape(tuple(shape))


def _normal_reference(seed_state: Array, *, shape: tuple[int, ...]) -> Array:
    return _normal64(seed_state, shape).astype(np.float32)


def _normal_radius(inputs: Sequence[Array], attrs: Attrs) -> Array:
    radius, _, count = _box_muller(inputs[0], attrs["shape"])
    return np.repeat(radius, 2, axis=1)[:, :count].reshape(tuple(attrs["shape"]))


# The angle up to 2 pi rounds twice (2 pi itself, the product), which moves a point of the circle
# by up to 2 pi eps; the radius adds 2 units, sine and cosine 2 more. Units of the radius count
# up to twice.
RANDOM_NORMAL = register(
    Op(
        "random_normal",
        infer=_infer("random_normal"),
        reference=_normal_reference,
        samples=_samples,
        bound=Ulp(20, of=_normal_radius),
        kernel="random_normal",
        native=_native,
        random=True,
        grad_none=(0,),
    )
)


def _dropout_infer(x: Spec, seed_state: Spec, *, rate: float) -> Spec:
    check_state("dropout", seed_state)
    if not 0 <= rate < 1:
        raise shape_error("dropout", f"`rate` must be in [0, 1), got rate={rate}", {"x": x})
    return x


def _dropout_reference(x: Array, seed_state: Array, *, rate: float) -> Array:
    keep = _words(seed_state, x.shape) >= np.uint32(int(rate * 2**32))
    scale = np.asarray(1 / (1 - rate), dtype=np.float32).astype(x.dtype)
    return np.where(keep, x * scale, np.zeros((), x.dtype))


def _dropout_samples() -> Iterable[Sample]:
    for shape in ((0,), (1,), (15,), (16,), (17,), (127, 33)):
        make = both(uniform(shape), given(_STATE))
        yield Sample(name_of(shape), make, {"rate": 0.3}, smooth=0 not in shape)
    yield Sample("rate_0", both(uniform((9,)), given(_STATE)), {"rate": 0.0})
    make = both(uniform(BENCH), given(_STATE))
    yield Sample("bench", make, {"rate": 0.5}, smooth=False, bench=True)


# y = x * mask / (1 - rate), and so is dx in dy: the same state gives the same mask.
DROPOUT: Op = register(
    Op(
        "dropout",
        infer=_dropout_infer,
        reference=_dropout_reference,
        samples=_dropout_samples,
        bound=Ulp(0.5),
        vjp=lambda inputs, outputs, dys, *, rate: (
            apply(DROPOUT, dys[0], inputs[1], rate=rate),
            None,
        ),
        kernel="dropout",
        native=_native,
        alias=((0, 0),),
        random=True,
        grad_none=(1,),
    )
)


def _advance_infer(seed_state: Spec) -> Spec:
    check_state("advance_seed", seed_state)
    return seed_state


ADVANCE_SEED = register(
    Op(
        "advance_seed",
        infer=_advance_infer,
        reference=lambda seed_state: seed_state + np.array([0, 1], dtype=np.int64),
        samples=lambda: [Sample("state", given(_STATE), smooth=False)],
        bound=Exact(),
        kernel="advance_seed",
        native=_native,
        alias=((0, 0),),
        grad_none=(0,),
    )
)


_NO_CALL = 1 << 31
"""Set in the last word of a counter that no draw has: draws count their calls from 0."""


def _row_seeds_infer(rows: Spec, seed_state: Spec, *, view: int) -> Spec:
    check_state("row_seeds", seed_state)
    if len(rows.shape) != 1 or rows.dtype != "int64":
        raise shape_error("row_seeds", "numbers of rows int64[n] were expected", {"rows": rows})
    if not 0 <= view < _NO_CALL:
        raise shape_error("row_seeds", f"`view` must be in [0, 2**31), got {view}", {"rows": rows})
    return Spec((rows.shape[0], 2), "int64")


def _row_seeds_reference(rows: Array, seed_state: Array, *, view: int) -> Array:
    seed, call = (int(x) for x in seed_state)
    low, high = (rows & 0xFFFFFFFF, rows >> 32 & 0xFFFFFFFF)
    counter = (low, high, np.asarray(call & 0xFFFFFFFF), np.asarray(view | _NO_CALL))
    words = philox_block(counter, (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))
    first, second = (word.astype(np.int64) for word in words[:2])
    return np.stack([(second & 0x7FFFFFFF) << 32 | first, np.zeros_like(first)], axis=-1)


def _row_seeds_samples() -> Iterable[Sample]:
    for count in (0, 1, 5, 131):
        rows = np.arange(count, dtype=np.int64) * 1234567891011
        yield Sample(f"{count}", given(rows, _STATE), {"view": 0}, smooth=False)
    rows = np.array([3, 3, 0], np.int64)
    yield Sample("view_2", given(rows, _STATE), {"view": 2}, smooth=False)
    rows = np.arange(4096, dtype=np.int64)
    yield Sample("bench", given(rows, _STATE), {"view": 0}, smooth=False, bench=True)


ROW_SEEDS = register(
    Op(
        "row_seeds",
        infer=_row_seeds_infer,
        reference=_row_seeds_reference,
        samples=_row_seeds_samples,
        bound=Exact(),
        kernel="row_seeds",
        native=lambda specs, attrs: all(s.dtype == "int64" for s in specs),
        grad_none=(0, 1),
    )
)


def row_seeds(rows: Tensor, seed_state: Tensor, view: int) -> Any:
    """Returns a seed state for each row, of its number, the state and the view alone.

    Args:
        rows: the numbers of the rows (int64).
        seed_state: int64 ``(seed, call)``.
        view: tells draws for the same row apart.

    Returns:
        Seed states (int64) of shape ``(rows, 2)``; the call of each is 0.

    Example:
        >>> import numpy as np
        >>> from handmill.primitives import random
        >>> states = random.row_seeds(np.array([7, 8]), np.array([0, 0]), view=0)
        >>> bool((random.row_seeds(np.array([8]), np.array([0, 0]), view=0) == states[1]).all())
        True
    """
    return apply(ROW_SEEDS, tensor(rows), tensor(seed_state), view=view)


def random_uniform(seed_state: Tensor, shape: Sequence[Any]) -> Any:
    """Returns float32 numbers spread evenly over [0, 1).

    Args:
        seed_state: int64 ``(seed, call)``, or one for each row of the result.
        shape: the shape of the result.

    Example:
        >>> import numpy as np
        >>> from handmill.primitives import random
        >>> random.random_uniform(np.array([0, 0]), (2,))
        array([0.39904642, 0.88052016], dtype=float32)
    """
    return apply(RANDOM_UNIFORM, tensor(seed_state), shape=tuple(shape))


def random_normal(seed_state: Tensor, shape: Sequence[Any]) -> Any:
    """Returns float32 numbers of mean 0 and standard deviation 1, normally distributed.

    Args:
        seed_state: int64 ``(seed, call)``, or one for each row of the result.
        shape: the shape of the result.

    Example:
        >>> import numpy as np
        >>> from handmill.primitives import random
        >>> random.random_normal(np.array([0, 0]), (2, 3)).shape
        (2, 3)
    """
    return apply(RANDOM_NORMAL, tensor(seed_state), shape=tuple(shape))


def dropout(x: Tensor, seed_state: Tensor, rate: float) -> Any:
    """Sets a share of the elements to 0 and divides the others by ``1 - rate``.

    Args:
        x: the input.
        seed_state: int64 ``(seed, call)``.
        rate: the probability of 0, in [0, 1).

    Example:
        >>> import numpy as np
        >>> from handmill.primitives import random
        >>> random.dropout([1.0, 1.0, 1.0, 1.0], np.array([0, 0]), rate=0.5)
        array([0., 2., 2., 2.], dtype=float32)
    """
    return apply(DROPOUT, *promote_float(x), tensor(seed_state), rate=float(rate))


def advance_seed(seed_state: Tensor) -> Any:
    """Returns the state for the next call.

    Example:
        >>> import numpy as np
        >>> from handmill.primitives import random
        >>> random.advance_seed(np.array([5, 0]))
        array([5, 1])
    """
    return apply(ADVANCE_SEED, tensor(seed_state))
