"""State that outlives a step: weights, optimizer slots, statistics, counters."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from handmill.errors import TracedValueError
from handmill.ir.arrays import array_of
from handmill.ir.graph import ElementwiseEquality, LogicalOperators, current_graph, outside_graph
from handmill.ir.numpy_calls import user_function
from handmill.ir.op import Array
from handmill.ir.shapes import DTYPES, FLOATS, Spec, name_of_dtype, numpy_dtype
from handmill.ir.trace import as_value, dtype_read, read, recorder, recorders
from handmill.naming import auto_name, path_of
from handmill.primitives.operands import array_of_numbers, converted
from handmill.runtime.memory import COUNTING, FEW_BYTES, Account, check_room, in_gigabytes
from handmill.runtime.watch import TRAINABLE, Watched, notice


class ArrayState:
    """The content of a variable in an installation without kernels; the twin of _core.State."""

    def __init__(self, shape: tuple[int, ...], dtype: int) -> None:
        self._array = np.zeros(shape, numpy_dtype(DTYPES[dtype]))
        self.nbytes = self._array.nbytes
        self.version = 0

    @classmethod
    def like(cls, states: Sequence[ArrayState]) -> list[ArrayState]:
        """States of zeros, each of the shape and dtype of one of these."""
        return [
            cls(state._array.shape, _CODES[name_of_dtype(state._array.dtype)]) for state in states
        ]

    def view(self) -> Array:
        """The content, read-only."""
        view: Array = self._array.view()
        view.flags.writeable = False
        return view

    def copy(self) -> Array:
        """A copy of the content."""
        copy: Array = self._array.copy()
        return copy

    def item(self) -> Any:
        """The number of a content of shape ()."""
        return self._array.item()

    def write(self, array: Array) -> None:
        """Replaces the content and raises the version."""
        np.copyto(self._array, array, casting="unsafe")
        self.version += 1

    def zero(self) -> None:
        """Sets the content to zero and raises the version."""
        self._array.fill(0)
        self.version += 1


def _new_state(shape: tuple[int, ...], dtype: str) -> Any:
    return _kind_of_states()(shape, _CODES[dtype])


@functools.cache
def _kind_of_states() -> Any:
    from handmill import config

    if config.has_kernels():
        from handmill import _core

        return _core.State
    return ArrayState


_CODES = {name: code for code, name in enumerate(DTYPES)}


def zeros(shape: Sequence[int], dtype: str) -> Array:
    """An initializer that needs no array: the content of a variable is that at first."""
    return np.zeros(tuple(shape), numpy_dtype(dtype))


zeros.gives_zeros = True  # type: ignore[attr-defined]


_budget: ContextVar[list[float] | None] = ContextVar("_budget", default=None)


@contextmanager
def limited_bytes(limit: int) -> Iterator[None]:
    """Lets the variables made in the ``with`` block have so many bytes together, and no more.

    Loaders use it: what a file describes may not need more memory than the file has bytes.
    """
    token = _budget.set([limit])
    try:
        yield
    finally:
        _budget.reset(token)


_undrawn: ContextVar[list[tuple[Variable, Callable[[], Array]]] | None] = ContextVar(
    "_undrawn", default=None
)


@contextmanager
def stored_values() -> Iterator[list[tuple[Variable, Callable[[], Array]]]]:
    """Lets variables made in the ``with`` block start at 0 instead of at random.

    For loaders, which assign a stored value to each of them: drawing 100 million numbers first
    takes seconds. Gives the variables, with what draws their initial values for those that turn out
    not to be stored.
    """
    undrawn: list[tuple[Variable, Callable[[], Array]]] = []
    token = _undrawn.set(undrawn)
    try:
        with Account("the weights that will be read", "Free memory, or read a smaller model"):
            yield undrawn
    finally:
        _undrawn.reset(token)


_noted: ContextVar[list[tuple[Variable, Any]] | None] = ContextVar("_noted", default=None)


@contextmanager
def noted_draws() -> Iterator[list[tuple[Variable, Any]]]:
    """Gives the variables made in the ``with`` block that start at random, and their initializers.

    With another seed, an initializer gives what the variable of another model starts with.
    """
    noted: list[tuple[Variable, Any]] = []
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


def _check_bytes(name: str, shape: tuple[int, ...], dtype: str, drawn: bool) -> None:
    """Refuses what cannot be allocated, before an initializer tries.

    Args:
        name: of the variable.
        shape: its shape.
        dtype: its dtype.
        drawn: whether an array of its first values is made beside it.

    Raises:
        ValueError: if a loader's budget is exceeded.
        MemoryError: if this process cannot have so much memory.
    """
    size = math.prod(shape) * _BYTES.get(dtype, 1)
    left = _budget.get()
    if left is not None:
        left[0] -= size
        if left[0] < 0:
            raise ValueError(
                f"variable {name!r} of shape {shape} needs {size} bytes, more than are stored"
            )
    counted = COUNTING.get()
    if counted is not None:
        counted.add(size, name)
    _unseen[0] += size * (1 + drawn)
    if _unseen[0] <= FEW_BYTES:
        return
    also = ", and as much while its first values are made" if drawn else ""
    check_room(
        size * (1 + drawn),
        f"variable {name!r} of shape {shape} needs {in_gigabytes(size)}{also}",
        "Make it, or what was made before it, smaller (fewer or narrower layers, fewer inputs)",
    )
    _unseen[0] = 0


_unseen = [0]
"""Bytes of the variables that were made since the last look at what there is."""
_BYTES = {name: 2 if name == "bfloat16" else np.dtype(name).itemsize for name in DTYPES}


_spec = functools.lru_cache(maxsize=1024)(Spec)  # most variables have the shape of another


class Variable(ElementwiseEquality, LogicalOperators, Watched):
    """A named tensor that programs read and write.

    Used as an operand while a model is traced it is read by the program; ``assign`` then
    becomes part of the program. Outside it holds an array: ``value`` is a read-only view,
    ``numpy()`` a copy, and every write goes through ``assign``.

    Args:
        initializer: an array, a number, a callable ``(shape, dtype=...) -> array``, or the name
            of an initializer.
        shape: needed with a callable or name; otherwise checked against the array.
        dtype: default: ``"float32"`` for callables, the array's own for arrays; numbers are
            float32, int32 or bool.
        trainable: whether optimizers update it.
        autocast: whether layers see it in the dtype in which they compute.
        aggregation: how replicas would be joined; there are none, so that it decides nothing.
        synchronization: when replicas would be joined; it decides nothing either.
        name: for summaries and files; default: ``variable``, numbered.
        layout: not supported; must be None.
        regularizer: added to the loss by models: callable ``Value -> scalar Value``.
        constraint: applied after each update: callable ``Value -> Value``.

    Attributes:
        made_trainable: what ``trainable`` was at first; lists and files keep that order.
        sparse_rows: whether optimizers update only the rows that a step has looked up.
        stored_check: raises ValueError for contents of files that it cannot hold; None for none.

    Example:
        >>> import handmill
        >>> v = handmill.Variable([1.0, 2.0], name="v")
        >>> v.assign([3.0, 4.0])
        array([3., 4.], dtype=float32)
        >>> v.numpy()
        array([3., 4.], dtype=float32)
    """

    def __init__(
        self,
        initializer: Any,
        shape: Sequence[int] | None = None,
        dtype: str | None = None,
        trainable: bool = True,
        autocast: bool = True,
        aggregation: str | None = "none",
        synchronization: str = "auto",
        name: str | None = None,
        layout: None = None,
        *,
        regularizer: Callable[[Any], Any] | None = None,
        constraint: Callable[[Any], Any] | None = None,
    ) -> None:
        name = name or auto_name("Variable")
        if not isinstance(name, str) or "/" in name:
            raise ValueError(
                "Argument `name` must be a string and cannot contain character `/`. "
                f"Received: name={name}"
            )
        for argument, value, known in (
            ("aggregation", aggregation, (None, "none", "mean", "sum", "only_first_replica")),
            ("synchronization", synchronization, (None, "none", "on_read", "on_write", "auto")),
        ):
            if value not in known:
                raise ValueError(
                    f"Invalid value for argument `{argument}`. Expected one of {known}. "
                    f"Received: {argument}={value}"
                )
        if layout is not None:
            raise ValueError(
                f"variable {name!r}: `layout` places a variable on several devices; handmill has "
                f"one. Received: layout={layout!r}"
            )
        for argument, function in (("regularizer", regularizer), ("constraint", constraint)):
            _check_callable(argument, function)
        if isinstance(initializer, str):
            from handmill import initializers

            initializer = initializers.get(initializer)
        if callable(initializer):
            if shape is None:
                raise ValueError(
                    "When creating a Variable from an initializer, the `shape` argument should be "
                    f"specified. Received: initializer={initializer} and shape={shape}, "
                    f"name={name!r}"
                )
            dtype = dtype or "float32"
            content = self._drawn(initializer, name, tuple(shape), dtype)
        else:
            if type(initializer) is np.ndarray:
                content = initializer
            else:
                with outside_graph():
                    content = array_of(initializer)
            if dtype is None:
                if not isinstance(initializer, np.generic) and not hasattr(
                    initializer, "__array__"
                ):
                    content = array_of_numbers(content, initializer)
                dtype = name_of_dtype(content.dtype)
        if dtype not in DTYPES:
            raise ValueError(
                f"variable {name!r}: expected a dtype of {', '.join(DTYPES)}, got {dtype!r}"
            )
        if shape is not None and content is not None and content.shape != tuple(shape):
            raise ValueError(
                f"variable {name!r}: expected initial values of shape {tuple(shape)}, "
                f"got {content.shape}"
            )
        found = tuple([int(d) for d in shape or ()]) if content is None else content.shape
        self.__dict__.update(  # nobody depends on a variable that is being made
            name=name,
            path=path_of(name),
            _trainable=trainable,
            made_trainable=bool(trainable),
            autocast=autocast,
            aggregation=aggregation or "none",
            synchronization=synchronization or "none",
            regularizer=regularizer,
            constraint=constraint,
            spec=_spec(found, dtype),
            state=_new_state(found, dtype),
        )
        if content is not None:
            self.state.write(content)

    @classmethod
    def of_zeros(
        cls, shape: tuple[int, ...], dtype: str, name: str, path: str, autocast: bool = True
    ) -> Variable:
        """A variable of zeros that no optimizer updates.

        What ``Variable(zeros, ...)`` makes, without its checks: the first step of a model makes
        several for each weight.

        Args:
            shape: its shape, of integers.
            dtype: its dtype, a known one.
            name: its name.
            path: its path.
            autocast: whether layers see it in the dtype in which they compute.
        """
        _check_bytes(name, shape, dtype, drawn=False)
        made = cls.__new__(cls)
        state = _new_state(shape, dtype)
        made.__dict__.update(name=name, path=path, spec=_spec(shape, dtype), state=state)
        if not autocast:
            made.__dict__["autocast"] = False
        return made

    @classmethod
    def zeros_like(cls, variables: Sequence[Variable], named: Sequence[tuple[str, str]]) -> Any:
        """Variables of zeros of the shapes and dtypes of others, as :meth:`of_zeros` makes them.

        Args:
            variables: the others.
            named: a name and a path for each.
        """
        size = sum([v.state.nbytes for v in variables])
        if size > FEW_BYTES or _budget.get() is not None or COUNTING.get() is not None:
            for variable, (name, _) in zip(variables, named, strict=True):
                _check_bytes(name, variable.shape, variable.spec.dtype, drawn=False)
        found = []
        states = _kind_of_states().like([v.state for v in variables])
        for variable, (name, path), state in zip(variables, named, states, strict=True):
            made = cls.__new__(cls)
            own = made.__dict__  # nobody depends on a variable that is being made
            own["name"], own["path"], own["spec"], own["state"] = name, path, variable.spec, state
            found.append(made)
        return found

    def _drawn(
        self, initializer: Callable[..., Any], name: str, shape: tuple[int, ...], dtype: str
    ) -> Array | None:
        """The first content; None for zeros, which a state holds at first."""
        gives_zeros = getattr(initializer, "gives_zeros", False) and dtype in DTYPES
        can_wait = getattr(initializer, "draws_numbers", False) and dtype in FLOATS
        undrawn = _undrawn.get() if can_wait else None
        _check_bytes(name, shape, dtype, drawn=not gives_zeros and undrawn is None)
        if gives_zeros:
            return None
        draw = functools.partial(initializer, shape, dtype=dtype)
        noted = _noted.get()
        if can_wait and noted is not None:
            noted.append((self, initializer))
        if undrawn is None:
            with outside_graph():  # a program would not have drawn it yet
                return np.asarray(draw())
        undrawn.append((self, draw))
        return None

    name: str
    path: str
    spec: Spec
    state: Any
    # What is not said otherwise; the names are also those of arguments.
    autocast: bool = True
    aggregation: str = "none"
    synchronization: str = "auto"
    regularizer: Any = None
    constraint: Any = None
    _trainable: bool = False
    made_trainable: bool = False
    sparse_rows: bool = False
    stored_check: Callable[[Array], None] | None = None

    _unwatched = frozenset({"name", "path", "state", "spec", "_trainable", "trainable"})

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("regularizer", "constraint"):
            _check_callable(name, value)
        super().__setattr__(name, value)

    @property
    def trainable(self) -> bool:
        """Whether optimizers update it."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = value
        notice(TRAINABLE)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return self.spec.shape  # type: ignore[return-value]

    @property
    def dtype(self) -> str:
        """The dtype's name; in ``call`` of a layer, the one in which the layer reads it."""
        return self.spec.dtype if current_graph() is None else dtype_read(self)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.spec.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape))

    @property
    def version(self) -> int:
        """A number that grows with every write."""
        return int(self.state.version)

    def read(self) -> Array:
        """The content as a read-only view that follows later writes."""
        return self.state.view()  # type: ignore[no-any-return]

    @property
    def value(self) -> Any:
        """The content: a read-only view, or a symbolic value while a program is traced."""
        graph = current_graph()
        if graph is not None:
            return read(graph, self)
        recording = recorder() if recorders else None
        found = self if recording is None else recording.enter(self)
        return self.read() if found is self else found

    def numpy(self) -> Array:
        """A copy of the content.

        Raises:
            TracedValueError: while a program is traced: its later runs would see the same numbers.
        """
        _refuse_in_trace(self)
        return self.state.copy()  # type: ignore[no-any-return]

    def assign(self, value: Any) -> Any:
        """Replaces the content; while a program is traced, becomes part of the program.

        Args:
            value: an array of the same shape, or a Value.

        Returns:
            The new content, which later writes leave as it is.

        Raises:
            ValueError: if the shape differs; the content stays as it was.
        """
        graph = current_graph()
        if graph is not None:
            dtype = self.spec.dtype
            found = as_value(graph, value, dtype)
            if found.dtype != dtype and {found.dtype, dtype} <= FLOATS:
                found = converted(found, dtype)
            graph.assign(self, found)
            return found
        if isinstance(value, Variable):
            value = value.state.copy()
        array = array_of(value)
        if array.shape != self.shape:
            raise ValueError(
                f"variable {self.name!r} has shape {self.shape}, cannot be assigned an array "
                f"of shape {array.shape}"
            )
        if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
            raise ValueError(
                f"variable {self.name!r} holds {self.spec.dtype}, cannot be assigned {array.dtype}"
            )
        array = np.asarray(array, numpy_dtype(self.spec.dtype), order="C")
        self.state.write(array)
        return array

    def assign_add(self, value: Any) -> Any:
        """Adds ``value`` to the content, and returns the new one."""
        return self.assign(self.value + value)

    def assign_sub(self, value: Any) -> Any:
        """Subtracts ``value`` from the content, and returns the new one."""
        return self.assign(self.value - value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        _refuse_in_trace(self)
        array = self.read()
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: the content as an array."""
        return {**vars(self), "state": self.state.copy()}

    def __setstate__(self, found: dict[str, Any]) -> None:
        content = found["state"]
        vars(self).update(found)
        self.state = _new_state(content.shape, self.spec.dtype)
        self.state.write(content)

    def __float__(self) -> float:
        return float(self._number())

    def __int__(self) -> int:
        return int(self._number())

    def _number(self) -> Any:
        _refuse_in_trace(self)
        if self.shape:
            raise TypeError(
                "Only scalar arrays can be converted to Python scalars. Variable "
                f"{self.path!r} has shape {self.shape}"
            )
        return self.read()

    def __bool__(self) -> bool:
        raise TypeError(
            "A Keras Variable cannot be used as a boolean. Compare it, or ask for its numbers "
            f"with `numpy()` (variable {self.path!r})"
        )

    def __repr__(self) -> str:
        content = "" if current_graph() is not None else f", value={self.read()}"
        return f"<Variable path={self.path}, shape={self.shape}, dtype={self.spec.dtype}{content}>"

    __array_priority__ = 1000  # NumPy's arrays and numbers leave their operators to this class

    def __len__(self) -> int:
        return self.shape[0]

    def __pos__(self) -> Any:
        return self.value

    def __getitem__(self, key: Any) -> Any:
        return self.value[key]


def _check_callable(argument: str, value: Any) -> None:
    if value is not None and not callable(value):
        raise ValueError(
            f"Invalid value for attribute `{argument}`. Expected a callable or None. "
            f"Received: {argument}={value!r}"
        )


def _refuse_in_trace(variable: Variable) -> None:
    if current_graph() is not None:
        raise TracedValueError(
            f"{user_function()} asked for the numbers of variable {variable.name!r} while a model "
            "is traced; use the variable itself as an operand of functions of handmill.ops"
        )
