"""Random numbers that do not depend on threads, executor or NumPy's global generator.

Everything is drawn from Philox4x32-10, a counter-based generator: word ``i`` of call ``c``
under seed ``s`` is a function of (s, c, i) alone. (Salmon et al., "Parallel random numbers:
as easy as 1, 2, 3", SC 2011.)
"""

from __future__ import annotations

import math
import threading
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from handmill import config
from handmill.arguments import whole_number
from handmill.ir.dims import SymbolicDim
from handmill.ir.op import Array, Op
from handmill.ir.shapes import FLOATS, numpy_dtype
from handmill.ir.trace import apply
from handmill.lazy import plain_module
from handmill.naming import auto_name
from handmill.primitives.draws import normal_pieces, scaled, truncated_pieces
from handmill.primitives.operands import check_dtype
from handmill.runtime.variable import Variable
from handmill.runtime.watch import Watched

_LOCK = threading.Lock()
_root: int | None = None
_drawn = 0


def seed_all(seed: int) -> None:
    """Starts every draw of handmill that has no seed of its own from ``seed``."""
    global _root, _drawn
    with _LOCK:
        _root, _drawn = _checked_seed(seed), 0
    if _of_programs is not None:
        _of_programs.state.assign(np.array([_seed_of_programs(), 0], np.int64))


def next_host_seed() -> int:
    """A fresh seed below 2**62; the sequence follows from :func:`seed_all`."""
    global _drawn
    with _LOCK:
        root, call = _root_now(), _drawn
        _drawn += 1
    return host_seed(root, call)


def _root_now() -> int:
    """The seed of everything; drawn by the system if nobody has set it. Called under the lock."""
    global _root
    if _root is None:
        import secrets

        _root = secrets.randbits(62)
    return _root


def host_seed(root: int, call: int) -> int:
    """What :func:`next_host_seed` gives at a call, from 0, after ``seed_all(root)``."""
    low, high = (int(w) for w in words(root, call, 2))
    return (high << 32 | low) & (1 << 62) - 1


_CALL_OF_PROGRAMS = 1 << 62
"""Beyond all calls: the same seed whether or not a program has drawn without one before."""


def _seed_of_programs() -> int:
    with _LOCK:
        root = _root_now()
    return host_seed(root, _CALL_OF_PROGRAMS)


def state() -> dict[str, Any]:
    """What all draws to come without a seed of their own depend on, as plain data."""
    programs = None if _of_programs is None else [int(n) for n in _of_programs.state.read()]
    with _LOCK:
        return {"root": _root, "drawn": _drawn, "programs": programs}


def is_state(data: Any) -> bool:
    """Whether ``data`` is what :func:`state` returns."""
    if not isinstance(data, dict) or set(data) != {"root", "drawn", "programs"}:
        return False
    programs = data["programs"]
    if programs is not None and not (isinstance(programs, list) and len(programs) == 2):
        return False
    numbers = [data["drawn"], *(programs or ()), *([] if data["root"] is None else [data["root"]])]
    return all(type(n) is int and 0 <= n < 1 << 63 for n in numbers)


def restore_state(data: Mapping[str, Any]) -> None:
    """Lets draws go on from what :func:`state` returned."""
    global _root, _drawn, _of_programs
    programs = data["programs"]
    if programs is not None:
        if _of_programs is None:
            _of_programs = SeedGenerator(0)
        _of_programs.state.assign(np.array(programs, np.int64))
    with _LOCK:
        _root, _drawn = data["root"], data["drawn"]
    if programs is None and _of_programs is not None and _root is not None:
        _of_programs.state.assign(np.array([_seed_of_programs(), 0], np.int64))


def _checked_seed(seed: int) -> int:
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool):
        raise ValueError(
            "Argument `seed` must be either an integer or an instance of `SeedGenerator`. "
            f"Received: seed={seed!r}"
        )
    return int(seed) & (1 << 63) - 1


def words(seed: int, counter: int, n: int) -> Array:
    """The first ``n`` random words (uint32) of call ``counter`` under ``seed``."""
    if config.backend() == "native":
        from handmill import _core

        return np.asarray(_core.philox(seed, counter, n))
    from handmill.primitives.philox import philox_words

    return philox_words(seed, counter, n)


def permutation(seed: int, counter: int, n: int) -> Array:
    """A random order of ``n`` rows (int64): indices sorted by random words, ties by index."""
    if config.backend() == "native":
        from handmill import _core

        return np.asarray(_core.permutation(seed, counter, n))
    return np.argsort(words(seed, counter, n), kind="stable").astype(np.int64)


def unit(shape: Sequence[int], seed: int, counter: int = 0) -> Array:
    """Uniform float32 numbers in [0, 1), multiples of 2**-24."""
    whole = words(seed, counter, _count(shape))
    whole >>= 8
    numbers: Array = whole.astype(np.float32)
    numbers *= np.float32(2**-24)
    return numbers.reshape(shape)


def uniform(
    shape: Sequence[int],
    minval: float = 0.0,
    maxval: float = 1.0,
    dtype: str | None = None,
    seed: int | SeedGenerator | None = None,
) -> Any:
    """Draws uniform numbers in [minval, maxval). Inside a program, anew each time that it runs.

    Args:
        shape: the shape of the result.
        minval: the lower end.
        maxval: the upper end.
        dtype: a float dtype; default ``config.floatx()``.
        seed: an integer, for the same numbers each time; a :class:`SeedGenerator`, for new
            numbers each time; default: the next seed after ``utils.set_random_seed``.

    Example:
        >>> from handmill import random
        >>> random.uniform((3,), 5.0, 6.0, seed=1).round(2)
        array([5.89, 5.89, 5.59], dtype=float32)
    """
    dtype = _float_dtype("uniform", dtype)
    state = _state_in_program(seed)
    if state is not None:
        from handmill import ops
        from handmill.primitives.random import random_uniform

        drawn = ops.multiply(random_uniform(state, _sizes(shape)), np.float32(maxval - minval))
        return ops.cast(ops.add(drawn, np.float32(minval)), dtype)
    numbers = unit(shape, *_draw(seed))
    numbers *= np.float32(maxval - minval)
    numbers += np.float32(minval)
    return numbers.astype(numpy_dtype(dtype), copy=False)


def normal(
    shape: Sequence[int],
    mean: float = 0.0,
    stddev: float = 1.0,
    dtype: str | None = None,
    seed: int | SeedGenerator | None = None,
) -> Any:
    """Draws normal numbers (Box and Muller, 1958). Inside a program, anew each time that it runs.

    Args:
        shape: the shape of the result.
        mean: their mean.
        stddev: their standard deviation.
        dtype: a float dtype; default ``config.floatx()``.
        seed: see :func:`uniform`.

    Example:
        >>> from handmill import random
        >>> random.normal((3,), seed=1).round(2)
        array([ 0.38, -0.3 , -0.25], dtype=float32)
    """
    dtype = _float_dtype("normal", dtype)
    state = _state_in_program(seed)
    if state is not None:
        from handmill import ops
        from handmill.primitives.random import random_normal

        drawn = ops.multiply(random_normal(state, _sizes(shape)), np.float32(stddev))
        return ops.cast(ops.add(drawn, np.float32(mean)), dtype)
    count = _count(shape)
    numbers = scaled(normal_pieces(words, *_draw(seed), count), count, stddev, mean)
    return numbers.astype(numpy_dtype(dtype), copy=False).reshape(shape)


def truncated_normal(
    shape: Sequence[int],
    mean: float = 0.0,
    stddev: float = 1.0,
    dtype: str | None = None,
    seed: int | SeedGenerator | None = None,
) -> Any:
    """Draws normal numbers; those beyond two standard deviations are drawn again.

    Args:
        shape: the shape of the result.
        mean: the mean before the ends are cut off.
        stddev: the standard deviation before the ends are cut off.
        dtype: a float dtype; default ``config.floatx()``.
        seed: see :func:`uniform`.

    Example:
        >>> from handmill import random
        >>> bool(abs(random.truncated_normal((1000,), seed=1)).max() <= 2)
        True
    """
    dtype = _float_dtype("truncated_normal", dtype)
    state = _state_in_program(seed)
    if state is not None:
        from handmill import ops
        from handmill.primitives.draws import RANDOM_TRUNCATED_NORMAL

        drawn = apply(RANDOM_TRUNCATED_NORMAL, state, shape=_sizes(shape))
        moved = ops.add(ops.multiply(drawn, np.float32(stddev)), np.float32(mean))
        return ops.cast(moved, dtype)
    count = _count(shape)
    numbers = scaled(truncated_pieces(words, *_draw(seed), count), count, stddev, mean)
    return numbers.astype(numpy_dtype(dtype), copy=False).reshape(shape)


def randint(
    shape: Sequence[int],
    minval: Any,
    maxval: Any,
    dtype: str = "int32",
    seed: int | SeedGenerator | None = None,
) -> Any:
    """Draws integers from ``minval`` to ``maxval - 1``, each with the same chance.

    Args:
        shape: the shape of the result.
        minval: the least, a number or a tensor that broadcasts to ``shape``.
        maxval: one more than the largest, a number or a tensor that broadcasts to ``shape``.
        dtype: an integer dtype.
        seed: see :func:`uniform`.

    Example:
        >>> from handmill import random
        >>> random.randint((4,), 0, 10, seed=1)
        array([8, 8, 5, 7], dtype=int32)
    """
    from handmill import ops
    from handmill.primitives.draws import RANDOM_INTEGERS

    dtype = _integer_dtype("randint", dtype)
    ends = [ops.cast(end, "int64") for end in (minval, maxval)]
    drawn = apply(RANDOM_INTEGERS, draw_state(seed), *ends, shape=_sizes(shape))
    return ops.cast(drawn, dtype)


def categorical(
    logits: Any,
    num_samples: int,
    dtype: str = "int32",
    seed: int | SeedGenerator | None = None,
) -> Any:
    """Draws classes, each with the probability that softmax makes of its logit.

    Args:
        logits: of shape ``(batch, classes)``.
        num_samples: how many classes to draw for each row.
        dtype: an integer dtype.
        seed: see :func:`uniform`.

    Returns:
        Integers of shape ``(batch, num_samples)``.

    Example:
        >>> from handmill import random
        >>> random.categorical([[0.0, 100.0], [100.0, 0.0]], 3, seed=1)
        array([[1, 1, 1],
               [0, 0, 0]], dtype=int32)
    """
    from handmill import ops
    from handmill.primitives.operands import promote_float, shape_of
    from handmill.primitives.random import random_uniform

    dtype = _integer_dtype("categorical", dtype)
    _refuse_functional("categorical", logits)
    (logits,) = promote_float(logits)
    if len(shape_of(logits)) != 2:
        raise ValueError(
            "`logits` should be a 2-D tensor with shape [batch_size, num_classes]. "
            f"Received: logits.shape={shape_of(logits)}"
        )
    batch, classes = shape_of(logits)
    # The largest of the logits, each plus a Gumbel number -log(-log u), is that of a class with
    # its probability.
    u = ops.maximum(random_uniform(draw_state(seed), (batch, int(num_samples), classes)), 2.0**-25)
    noise = ops.negative(ops.log(ops.negative(ops.log(u))))
    return ops.cast(ops.argmax(ops.add(ops.expand_dims(logits, 1), noise), axis=-1), dtype)


def dropout(
    inputs: Any,
    rate: float,
    noise_shape: Sequence[int | None] | None = None,
    seed: int | SeedGenerator | None = None,
) -> Any:
    """Sets a share of the elements to 0 and divides the others by ``1 - rate``.

    Args:
        inputs: the input.
        rate: the probability of 0, from 0 to 1.
        noise_shape: the shape of the decisions: 1 for axes along which they are shared, None for
            the size of the input. Default: a decision for each element.
        seed: see :func:`uniform`.

    Example:
        >>> from handmill import ops, random
        >>> random.dropout(ops.ones(4), rate=0.5, seed=0)
        array([0., 2., 2., 2.], dtype=float32)
    """
    from handmill import ops
    from handmill.primitives.operands import dtype_of, promote_float, shape_of
    from handmill.primitives.random import dropout as masked

    _refuse_functional("dropout", inputs)
    (inputs,) = promote_float(inputs)
    if not 0 <= rate <= 1:
        raise ValueError(f"`rate` must be from 0 to 1. Received: rate={rate}")
    if rate == 0:
        return inputs
    if rate == 1:
        return ops.multiply(inputs, 0.0)
    if noise_shape is None:
        return masked(inputs, draw_state(seed), rate)
    own = shape_of(inputs)
    if len(noise_shape) != len(own):
        raise ValueError(
            f"`noise_shape` needs an entry for each axis of the inputs. Received: "
            f"noise_shape={tuple(noise_shape)} for inputs of rank {len(own)}"
        )
    shape = [mine if size is None else size for size, mine in zip(noise_shape, own, strict=True)]
    # 0 or 1 / (1 - rate), once for all elements that share a decision.
    factor = masked(ops.ones(_sizes(shape)), draw_state(seed), rate)
    scaled = ops.multiply(inputs, ops.cast(factor, dtype_of(inputs)))
    return ops.where(ops.greater(factor, 0.0), scaled, ops.zeros_like(inputs))


def shuffle(x: Any, axis: int = 0, seed: int | SeedGenerator | None = None) -> Any:
    """Shuffles along an axis. As with Keras on JAX and NumPy, each vector gets its own order.

    To shuffle the rows of a matrix as wholes, take them in the order of a shuffled ``arange``.

    Args:
        x: the input.
        axis: the axis.
        seed: see :func:`uniform`.

    Example:
        >>> from handmill import random
        >>> random.shuffle([1, 2, 3, 4, 5], seed=1)
        array([3, 5, 4, 1, 2], dtype=int32)
    """
    from handmill import ops
    from handmill.primitives.draws import RANDOM_ORDER
    from handmill.primitives.operands import normal_axis, shape_of, tensor

    _refuse_functional("shuffle", x)
    x = tensor(x)
    axis = normal_axis("shuffle", axis, len(shape_of(x)))
    order = apply(RANDOM_ORDER, draw_state(seed), shape=shape_of(x), axis=axis)
    return ops.take_along_axis(x, order, axis=axis)


def gamma(
    shape: Sequence[int],
    alpha: Any,
    dtype: str | None = None,
    seed: int | SeedGenerator | None = None,
) -> Any:
    """Draws gamma numbers of scale 1. No gradient flows to ``alpha``: asking for one is an error.

    Args:
        shape: the shape of the result.
        alpha: the shape parameter, a positive number or a tensor that broadcasts to ``shape``.
        dtype: a float dtype; default ``config.floatx()``.
        seed: see :func:`uniform`.

    Example:
        >>> from handmill import random
        >>> float(random.gamma((10000,), 3.0, seed=1).mean().round(1))
        3.0
    """
    from handmill.primitives.draws import RANDOM_GAMMA

    return _parametric("gamma", RANDOM_GAMMA, shape, (alpha,), dtype, seed)


def binomial(
    shape: Sequence[int],
    counts: Any,
    probabilities: Any,
    dtype: str | None = None,
    seed: int | SeedGenerator | None = None,
) -> Any:
    """Draws numbers of successes in ``counts`` independent trials.

    Args:
        shape: the shape of the result.
        counts: the number of trials, a number or a tensor that broadcasts to ``shape``.
        probabilities: the chance of each, a number or a tensor that broadcasts to ``shape``.
        dtype: a float dtype; default ``config.floatx()``.
        seed: see :func:`uniform`.

    Example:
        >>> from handmill import random
        >>> float((random.binomial((10000,), 10, 0.3, seed=1)).mean().round(1))
        3.0
    """
    from handmill.primitives.draws import RANDOM_BINOMIAL

    return _parametric("binomial", RANDOM_BINOMIAL, shape, (counts, probabilities), dtype, seed)


def beta(
    shape: Sequence[int],
    alpha: Any,
    beta: Any,
    dtype: str | None = None,
    seed: int | SeedGenerator | None = None,
) -> Any:
    """Draws beta numbers, from 0 to 1. No gradient flows to the parameters.

    Args:
        shape: the shape of the result.
        alpha: the first parameter, a positive number or a tensor that broadcasts to ``shape``.
        beta: the second parameter, a positive number or a tensor that broadcasts to ``shape``.
        dtype: a float dtype; default ``config.floatx()``.
        seed: see :func:`uniform`.

    Example:
        >>> from handmill import random
        >>> float(random.beta((10000,), 3.0, 1.0, seed=1).mean().round(2))
        0.75
    """
    from handmill.primitives.draws import RANDOM_BETA

    return _parametric("beta", RANDOM_BETA, shape, (alpha, beta), dtype, seed)


def _parametric(
    name: str, op: Op, shape: Sequence[int], parameters: tuple[Any, ...], dtype: Any, seed: Any
) -> Any:
    """A draw whose parameters are tensors; it computes in float32."""
    from handmill import ops

    dtype = _float_dtype(name, dtype)
    for parameter in parameters:
        _refuse_functional(name, parameter)
    given = [ops.cast(parameter, "float32") for parameter in parameters]
    return ops.cast(apply(op, draw_state(seed), *given, shape=_sizes(shape)), dtype)


def _float_dtype(name: str, dtype: Any) -> str:
    found = check_dtype(dtype or config.floatx())
    if found not in FLOATS:
        raise ValueError(
            f"`keras.random.{name}` requires a floating point `dtype`. Received: dtype={dtype}"
        )
    return found


def _integer_dtype(name: str, dtype: Any) -> str:
    if "int" not in str(dtype):
        raise ValueError(
            f"`keras.random.{name}` requires an integer `dtype`. Received: dtype={dtype}"
        )
    return check_dtype(dtype)


def _refuse_functional(name: str, x: Any) -> None:
    """Draws that would be made once, when a model is put together, are refused."""
    if hasattr(type(x), "apply_symbolically") and not hasattr(type(x), "value_in"):
        raise TypeError(
            f"random.{name} was called on a symbolic tensor of the functional API, which would "
            "draw once, when the model is put together. Call it in the `call` of a layer."
        )


def _sizes(shape: Any) -> tuple[Any, ...]:
    if isinstance(shape, int):
        return (shape,)
    listed = isinstance(shape, list | tuple) or (isinstance(shape, np.ndarray) and shape.ndim == 1)
    if not listed:
        raise ValueError(f"`shape` must be a tuple of sizes, got shape={shape!r:.80}")
    return tuple(
        d if isinstance(d, int | SymbolicDim) or d is None else whole_number("a size of `shape`", d)
        for d in shape
    )


def _count(shape: Sequence[int]) -> int:
    sizes = _sizes(shape)
    if any(d < 0 for d in sizes):
        raise ValueError(f"`shape` cannot have negative sizes, got shape={sizes}")
    return math.prod(sizes)


_of_programs: SeedGenerator | None = None
"""Seeds the draws of programs that name no seed, as Keras's global generator does."""


def programs_draw_from(states: Container[int]) -> bool:
    """Whether the generator of draws without a seed is among states, given by their ids."""
    return _of_programs is not None and id(_of_programs.state.state) in states


def _state_in_program(seed: int | SeedGenerator | None) -> Any:
    """The state for one draw of the program that is being traced, None outside a trace."""
    from handmill.ir.graph import current_graph

    global _of_programs
    if current_graph() is None:
        return None
    if isinstance(seed, SeedGenerator):
        return seed.next()
    if _is_state(seed):
        return seed
    if seed is not None:
        return np.array([_checked_seed(seed), 0], np.int64)
    if _of_programs is None:
        _of_programs = SeedGenerator(_seed_of_programs())
    return _of_programs.next()


def _draw(seed: int | SeedGenerator | None) -> tuple[int, int]:
    """The seed and the counter of one draw on the host."""
    if isinstance(seed, SeedGenerator):
        key, counter = (int(v) for v in seed.state.numpy())
        seed.state.assign(np.array([key, counter + 1], np.int64))
        return key, counter
    if _is_state(seed):
        key, counter = (int(v) for v in np.asarray(seed))
        return key, counter
    return (next_host_seed() if seed is None else _checked_seed(seed)), 0


def _is_state(seed: Any) -> bool:
    """Whether this is what ``SeedGenerator.next`` gives."""
    return getattr(seed, "shape", None) == (2,)


def draw_state(seed: int | SeedGenerator | None) -> Any:
    """The state for one draw, in a program or on the host."""
    state = _state_in_program(seed)
    return np.array(_draw(seed), np.int64) if state is None else state


class SeedGenerator(Watched):
    """The seed and call counter of a layer that draws random numbers inside programs.

    Args:
        seed: an integer; default: the next seed after ``utils.set_random_seed``.
        name: for files; default: made from the class.
        **kwargs: none; there for the error.

    Attributes:
        state: a Variable of two int64: seed, and number of draws so far.

    Raises:
        ValueError: if ``seed`` is not an integer, or an argument is unknown.
    """

    _unwatched = frozenset({"seed", "name"})

    def __init__(self, seed: int | None = None, name: str | None = None, **kwargs: Any) -> None:
        if kwargs:
            raise ValueError(f"Unrecognized keyword arguments: {kwargs}")
        if not (seed is None or isinstance(seed, int | np.integer)) or isinstance(seed, bool):
            raise ValueError(f"Argument `seed` must be an integer. Received: seed={seed!r}")
        self._given_seed = None if seed is None else int(seed)
        self.seed = next_host_seed() if seed is None else _checked_seed(seed)
        self.name = auto_name(type(self).__name__) if name is None else name
        self.state = Variable(
            np.array([self.seed, 0], np.int64), trainable=False, name="seed_generator_state"
        )

    def next(self, ordered: bool = True) -> Any:
        """The state for one draw; the counter then goes on, in the program if one is traced.

        Args:
            ordered: makes no difference here: each draw has numbers of its own.
        """
        from handmill.ir.graph import current_graph
        from handmill.primitives.random import advance_seed

        state = self.state.numpy() if current_graph() is None else self.state.value
        self.state.assign(advance_seed(state))
        return state

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data; how many numbers were drawn is state."""
        return {"seed": self._given_seed, "name": self.name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SeedGenerator:
        """Makes a generator from its config."""
        return cls(**config)


if not TYPE_CHECKING:  # a __getattr__ would hide typing errors from mypy
    __getattr__ = plain_module(__name__)
