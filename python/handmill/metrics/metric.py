"""The base class of metrics."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from handmill import config, dtype_policies, tree
from handmill.ir.graph import current_graph
from handmill.ir.shapes import DTYPES, standardize_dtype
from handmill.naming import auto_name
from handmill.runtime.stateless import check_counts, contents, lent_values
from handmill.runtime.variable import Variable, zeros
from handmill.runtime.watch import Watched, collect, sum_of_marks


class _Noted(threading.local):
    results: list[tuple[Any, Metric, Any]] | None = None


_NOTED = _Noted()


@contextmanager
def noted_results() -> Iterator[list[tuple[Any, Metric, Any]]]:
    """Notes the results that metrics give while a program is traced.

    Each with its metric and the values that the program has given its variables until then: if
    these are the last ones, the result can be read from the metric after the program has run.
    """
    before, _NOTED.results = _NOTED.results, []
    try:
        yield _NOTED.results
    finally:
        _NOTED.results = before


def _noting(result: Any) -> Any:
    @functools.wraps(result)
    def noting(self: Metric, *args: Any, **kwargs: Any) -> Any:
        notes = _NOTED.results
        if notes is None:
            return result(self, *args, **kwargs)
        found = result(self, *args, **kwargs)
        if (graph := current_graph()) is not None:
            notes.append((found, self, [(v, graph.updates.get(v)) for v in self.variables]))
        return found

    return noting


_OWN = frozenset({"_variables", "_parts_found"})


class Metric(Watched):
    """Base class: state, ``update_state``, ``result``, ``reset_state``.

    ``update_state`` is written with functions of ``handmill.ops``; inside ``fit`` it becomes
    part of the training step.

    Args:
        dtype: a dtype, its name or a policy. Default: ``"float32"``.
        name: default: the class name in snake case.
    """

    _unwatched = frozenset({"name", "_parts_found"})

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        self._start(
            name=name or auto_name(type(self).__name__),
            _dtype=config.floatx() if dtype is None else dtype_policies.get(dtype).compute_dtype,
            _variables=[],
            _parts_found=(-1, [], 0, []),
        )

    name: str
    _dtype: str
    _variables: list[Variable]
    _parts_found: tuple[int, list[Any], int, list[Metric | Variable]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "result" in vars(cls):
            cls.result = _noting(cls.result)  # type: ignore[method-assign]

    def add_variable(
        self,
        shape: tuple[int, ...],
        initializer: Any = "zeros",
        dtype: str | None = None,
        aggregation: str = "sum",
        name: str | None = None,
    ) -> Variable:
        """Makes a variable that ``reset_state`` sets to zero."""
        name, dtype = name or auto_name("Variable"), dtype or self._dtype
        path = f"{self.name}/{name}"
        # Not cast: also inside layers that compute in another dtype.
        gives_zeros = isinstance(initializer, str) and initializer == "zeros"
        if gives_zeros and shape == () and dtype in DTYPES:
            variable = Variable.of_zeros((), dtype, name, path, autocast=False)
        else:
            made: Any = zeros if gives_zeros else initializer
            if not gives_zeros and not hasattr(made, "__array__"):
                from handmill import initializers

                made = initializers.get(initializer)
            dtype = standardize_dtype(dtype)
            variable = Variable(made, shape, dtype, False, autocast=False, name=name)
            variable.path = path
        self._variables.append(variable)
        return variable

    def add_weight(
        self,
        shape: tuple[int, ...] = (),
        initializer: Any = "zeros",
        dtype: str | None = None,
        name: str | None = None,
    ) -> Variable:
        """Makes a variable; the older name of :meth:`add_variable`."""
        return self.add_variable(shape, initializer or "zeros", dtype, name=name)

    @property
    def variables(self) -> list[Variable]:
        """The state, that of metrics among the attributes included."""
        found = self._own_variables()
        for part in self._parts():
            if isinstance(part, Metric):
                found += part.variables
        return found

    def _own_variables(self) -> list[Variable]:
        """The variables that were added, then the others among the attributes."""
        parts = self._parts()
        if not parts:
            return list(self._variables)
        return [*self._variables, *[v for v in parts if isinstance(v, Variable)]]

    def _parts(self) -> list[Metric | Variable]:
        """Metrics and variables among the attributes, and in lists and dicts there.

        Each once, without variables that were added; looked for after changes.
        """
        changed, containers, marks, parts = self._parts_found
        if changed != self._changed or marks != sum_of_marks(containers):
            containers, found = [], []
            for name, value in vars(self).items():
                if isinstance(value, Metric | Variable):
                    found.append(value)
                elif isinstance(value, list | tuple | dict | set) and name not in _OWN:
                    collect(value, containers)
                    found += [v for v in tree.flatten(value) if isinstance(v, Metric | Variable)]
            added = {id(v) for v in self._variables}
            parts = list({id(v): v for v in found if id(v) not in added}.values())
            self._parts_found = self._changed, containers, sum_of_marks(containers), parts
        return parts

    @property
    def dtype(self) -> str:
        """The dtype of the result."""
        return self._dtype

    def build_for(self, y_true_shape: tuple[Any, ...], y_pred_shape: tuple[Any, ...]) -> None:
        """Makes variables whose shapes follow those of the data; most metrics have none.

        A compiled model calls it before it looks for a trace to share: what a metric holds is
        part of the description of a step.

        Args:
            y_true_shape: the shape of the targets.
            y_pred_shape: the shape of the predictions.
        """

    def update_state(self, *args: Any, **kwargs: Any) -> Any:
        """Takes a batch into account."""
        raise NotImplementedError(f"{type(self).__name__} must define update_state()")

    def result(self) -> Any:
        """Returns the current number."""
        raise NotImplementedError(f"{type(self).__name__} must define result()")

    def reset_state(self) -> None:
        """Starts again."""
        for variable in self._variables:
            variable.state.zero()
        for part in self._parts():
            if isinstance(part, Variable):
                part.state.zero()
            else:
                part.reset_state()

    def stateless_update_state(
        self, metric_variables: Sequence[Any], *args: Any, **kwargs: Any
    ) -> list[Any]:
        """Returns what :meth:`update_state` makes of values; the state stays as it is.

        Args:
            metric_variables: a value for each of :attr:`variables`.
            *args: arguments of ``update_state``.
            **kwargs: arguments of ``update_state``.

        Raises:
            ValueError: if the number of values differs.
        """
        variables = self._checked_variables(metric_variables)
        with lent_values(variables, metric_variables):
            self.update_state(*args, **kwargs)
            return contents(variables)

    def stateless_result(self, metric_variables: Sequence[Any]) -> Any:
        """Returns the number that :meth:`result` makes of values; the state stays as it is.

        Args:
            metric_variables: a value for each of :attr:`variables`.

        Raises:
            ValueError: if the number of values differs.
        """
        with lent_values(self._checked_variables(metric_variables), metric_variables):
            return self.result()

    def stateless_reset_state(self) -> list[Any]:
        """Returns what the variables hold after :meth:`reset_state`; they stay as they are."""
        variables = self._checked_variables()
        with lent_values(variables, contents(variables)):
            self.reset_state()
            return contents(variables)

    def _checked_variables(self, values: Sequence[Any] | None = None) -> list[Variable]:
        variables = self.variables
        if values is not None:
            check_counts(f"metric {self.name!r}", metric_variables=(values, variables))
        return variables

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Updates, then returns the result."""
        self.update_state(*args, **kwargs)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"name": self.name, "dtype": self._dtype}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a metric from its config."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"
