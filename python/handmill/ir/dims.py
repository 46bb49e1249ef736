"""Dimensions: integers, and polynomials in sizes that a call decides.

The size of an axis of an input that a trace does not fix is a :class:`Symbol`: ``B`` for the batch,
others named after input and axis. What shape rules compute from symbols is a :class:`SymbolicDim`,
an integer polynomial in canonical form; quotients that are not exact stand in it as atoms
:class:`FloorDiv`. So equal dimensions are equal objects, ``(B, T)`` reshaped to ``(B*T,)`` and back
is ``(B, T)`` again, and a difference that is a number is known.

Whether two different polynomials are equal depends on the call. A trace that needs them to be
writes the assumption down (:class:`Assumptions`): where it can be solved for a symbol, the symbol
is replaced from then on; all of them are checked when a call binds its sizes.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from handmill.errors import TracedValueError
from handmill.ir.numpy_calls import NumpyOperand


@dataclass(frozen=True, slots=True)
class Symbol:
    """A size that a call decides, not negative. Symbols of one name are one symbol."""

    name: str

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class FloorDiv:
    """The integer part of ``of / by``."""

    of: SymbolicDim
    by: int

    def __repr__(self) -> str:
        return f"floor(({self.of}) / {self.by})"


Atom: TypeAlias = "Symbol | FloorDiv"
Monomial: TypeAlias = "tuple[Atom, ...]"
Dim: TypeAlias = "int | SymbolicDim"
Shape: TypeAlias = "tuple[int | SymbolicDim, ...]"

_arithmetic: Callable[..., Any] | None = None


class SymbolicDim(NumpyOperand):
    """A polynomial in symbols; immutable, hashable, equal to equal polynomials.

    Sums, differences and products with integers and each other, ``//`` and ``%`` by positive
    integers, exact quotients. Comparisons answer where every call gives the same answer;
    ``==`` means "known to be equal".

    Attributes:
        terms: ``(monomial, coefficient)``, sorted; a monomial is a sorted tuple of atoms.
    """

    __slots__ = ("_hash", "terms")
    _numpy_subject = "a size that differs from call to call"

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms
        self._hash = hash(terms)

    def __reduce__(self) -> Any:
        return SymbolicDim, (self.terms,)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SymbolicDim) and self.terms == other.terms

    def __repr__(self) -> str:
        text = ""
        for monomial, count in reversed(self.terms):
            factors = "*".join(map(repr, monomial))
            size = str(abs(count)) if abs(count) != 1 or not monomial else ""
            sign = ("-" if count < 0 else "") if not text else (" - " if count < 0 else " + ")
            text += sign + "*".join(filter(None, (size, factors)))
        return text

    def __add__(self, other: Any) -> Any:
        if not _is_dim(other):
            return self._mixed("add", self, other)
        terms = dict(self.terms)
        for monomial, count in terms_of(other):
            terms[monomial] = terms.get(monomial, 0) + count
        return _made(terms)

    def __radd__(self, other: Any) -> Any:
        return self + other if _is_dim(other) else self._mixed("add", other, self)

    def __neg__(self) -> Any:
        return _made({monomial: -count for monomial, count in self.terms})

    def __pos__(self) -> SymbolicDim:
        return self

    def __sub__(self, other: Any) -> Any:
        return self + -other if _is_dim(other) else self._mixed("subtract", self, other)

    def __rsub__(self, other: Any) -> Any:
        return -self + other if _is_dim(other) else self._mixed("subtract", other, self)

    def __mul__(self, other: Any) -> Any:
        if not _is_dim(other):
            return self._mixed("multiply", self, other)
        terms: dict[Monomial, int] = {}
        for first, a in self.terms:
            for second, b in terms_of(other):
                monomial = tuple(sorted(first + second, key=repr))
                terms[monomial] = terms.get(monomial, 0) + a * b
        return _made(terms)

    def __rmul__(self, other: Any) -> Any:
        return self * other if _is_dim(other) else self._mixed("multiply", other, self)

    def __pow__(self, exponent: Any) -> Any:
        if not isinstance(exponent, int | np.integer) or exponent < 0:
            return NotImplemented
        result: Dim = 1
        for _ in range(int(exponent)):
            result = self * result
        return result

    def __floordiv__(self, other: Any) -> Any:
        if not _is_dim(other):
            return NotImplemented
        exact = exact_quotient(self, other)
        if exact is not None:
            return exact
        if isinstance(other, SymbolicDim) or other <= 0:
            raise TypeError(
                f"{self} // {other}: sizes are divided by positive integers, or exactly; "
                "convert them with ops.cast for other quotients"
            )
        whole: Dim = 0
        rest: Dim = 0
        for monomial, count in self.terms:
            quotient, remainder = divmod(count, int(other))
            term = _made({monomial: 1})
            whole, rest = whole + term * quotient, rest + term * remainder
        if isinstance(rest, int):
            return whole
        return whole + SymbolicDim((((FloorDiv(rest, int(other)),), 1),))

    def __rfloordiv__(self, other: Any) -> Any:
        return other // self if isinstance(other, SymbolicDim) else self._refuse(f"{other} //")

    def __mod__(self, other: Any) -> Any:
        return self - self // other * other if _is_dim(other) else NotImplemented

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __truediv__(self, other: Any) -> Any:
        return self._mixed("divide", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._mixed("divide", other, self)

    def __lt__(self, other: Any) -> bool:
        return not self._at_least(other, "<")

    def __ge__(self, other: Any) -> bool:
        return self._at_least(other, ">=")

    def __gt__(self, other: Any) -> bool:
        return self._at_least(other + 1, ">") if _is_dim(other) else NotImplemented

    def __le__(self, other: Any) -> bool:
        return not self._at_least(other + 1, "<=") if _is_dim(other) else NotImplemented

    def __bool__(self) -> bool:
        if lower_bound(self) > 0:
            return True
        raise self._unknown("whether it is zero")

    def __index__(self) -> int:
        raise self._unknown("it")

    __int__ = __index__
    __float__ = __index__

    def _at_least(self, other: Any, sign: str) -> bool:
        if not _is_dim(other):
            raise TypeError(f"{self} {sign} {other!r}: sizes are compared with integers")
        difference = self - other
        if lower_bound(difference) >= 0:
            return True
        if lower_bound(-difference) > 0:
            return False
        raise self._unknown(f"whether {self} {sign} {other}")

    def _unknown(self, what: str) -> TracedValueError:
        return TracedValueError(
            f"the size {self} differs from call to call, {what} is not known while a model is "
            "traced; use ops.where instead of if, ops.arange instead of range, ops.cast to compute "
            "with it, or fix the size in the model's Input"
        )

    def _refuse(self, what: str) -> Any:
        raise self._unknown(what)

    def value_in(self, graph: Any) -> Any:
        """The size as an int32 of the program that is traced: what a layer or function returns."""
        return self._mixed("add", self, 0)

    def _mixed(self, name: str, *operands: Any) -> Any:
        """The arithmetic that leaves the integers: on values of the program."""
        numbers = int | float | np.number | np.ndarray | SymbolicDim
        if _arithmetic is None or not all(isinstance(x, numbers) for x in operands):
            return NotImplemented
        return _arithmetic(name, *operands)


def set_arithmetic(function: Callable[..., Any]) -> None:
    """Says how sizes become values; called once, by the floor that owns the operators.

    Args:
        function: ``function(name, *operands)`` applies the operator ``name`` to numbers and sizes.
    """
    global _arithmetic
    _arithmetic = function


def symbol(name: str) -> SymbolicDim:
    """Returns the size that is called ``name``."""
    return SymbolicDim((((Symbol(name),), 1),))


BATCH = symbol("B")
"""The batch size: dimension 0 of what is fed."""

_BATCH_SYMBOL = Symbol("B")


def is_symbolic_dim(dim: object) -> bool:
    """Whether ``dim`` is a size that a call decides."""
    return isinstance(dim, SymbolicDim)


def is_fixed(shape: Any) -> bool:
    """Whether no dimension of ``shape`` is left to the call."""
    return not any(isinstance(d, SymbolicDim) for d in shape)


def as_none(shape: Any) -> tuple[Any, ...]:
    """Returns ``shape`` as users see it, with None for what a call decides."""
    return tuple(None if isinstance(d, SymbolicDim) else int(d) for d in shape)


def terms_of(dim: Any) -> tuple[tuple[Monomial, int], ...]:
    """Returns monomials and coefficients of an integer or polynomial."""
    return dim.terms if isinstance(dim, SymbolicDim) else (((), int(dim)),)


def _is_dim(x: object) -> bool:
    return isinstance(x, SymbolicDim | int | np.integer) and not isinstance(x, bool)


def _made(terms: Mapping[Monomial, int]) -> Dim:
    kept = {monomial: count for monomial, count in terms.items() if count}
    if not kept:
        return 0
    if kept.keys() == {()}:
        return kept[()]
    return SymbolicDim(tuple(sorted(kept.items(), key=_order)))


def _order(term: tuple[Monomial, int]) -> tuple[int, tuple[str, ...]]:
    # An order that products keep, as exact division needs it.
    return len(term[0]), tuple(map(repr, term[0]))


def atoms_of(dim: Dim) -> Iterator[Atom]:
    """Yields the atoms of ``dim``, those inside of quotients too."""
    for monomial, _ in terms_of(dim):
        for atom in monomial:
            yield atom
            if isinstance(atom, FloorDiv):
                yield from atoms_of(atom.of)


def symbols_of(dim: Dim) -> set[Symbol]:
    """Returns the symbols of ``dim``."""
    return {atom for atom in atoms_of(dim) if isinstance(atom, Symbol)}


def exact_quotient(total: Dim, by: Dim) -> Dim | None:
    """Returns the polynomial that gives ``total`` multiplied by ``by``, None if there is none."""
    if not isinstance(by, SymbolicDim):
        if by == 0 or any(count % by for _, count in terms_of(total)):
            return None
        return _made({monomial: count // int(by) for monomial, count in terms_of(total)})
    quotient: Dim = 0
    lead, lead_count = by.terms[-1]
    for _ in range(64):  # steps of the division; no real shape needs more than a few
        if not isinstance(total, SymbolicDim):
            return quotient if total == 0 else None
        monomial, count = total.terms[-1]
        rest = list(monomial)
        for atom in lead:
            if atom not in rest:
                return None
            rest.remove(atom)
        if count % lead_count:
            return None
        term = _made({tuple(rest): count // lead_count})
        quotient, total = quotient + term, total - by * term
    return None


def lower_bound(dim: Dim) -> float:
    """Returns a number that ``dim`` is never below; minus infinity if none is known."""
    bound = _plain_bound(dim)
    found = current_assumptions()
    if found is not None:
        bound = max([bound, *(_plain_bound(dim - a.dim) for a in found.at_least)])
    return bound


def _plain_bound(dim: Dim) -> float:
    bound = 0.0
    for monomial, count in terms_of(dim):
        if not monomial:
            bound += count
        elif count < 0 or any(_may_be_negative(atom) for atom in monomial):
            return -math.inf
    return bound


def _may_be_negative(atom: Atom) -> bool:
    return isinstance(atom, FloorDiv) and _plain_bound(atom.of) < 0


def substituted(dim: Any, values: Mapping[Atom, Any]) -> Any:
    """Returns ``dim`` with atoms replaced; an int if all its symbols have got integers.

    Args:
        dim: a dimension, or anything else, which is returned as it is.
        values: integers or dimensions.
    """
    if not isinstance(dim, SymbolicDim):
        return dim
    result: Any = 0
    for monomial, count in dim.terms:
        term: Any = count
        for atom in monomial:
            if atom in values:
                factor = values[atom]
            elif isinstance(atom, FloorDiv):
                factor = substituted(atom.of, values) // atom.by
            else:
                factor = _made({(atom,): 1})
            term = term * factor
        result = result + term
    return result


class Dimensioned:
    """An attribute that may hold dimensions inside of it."""

    __slots__ = ()

    def holds_dims(self) -> bool:
        """Whether it holds one that a call decides."""
        raise NotImplementedError

    def with_dims(self, values: Mapping[Atom, Any]) -> Any:
        """Returns the same with every dimension in it :func:`substituted`."""
        raise NotImplementedError


def attrs_with(attrs: Mapping[str, Any], values: Mapping[Atom, Any]) -> dict[str, Any]:
    """Returns ``attrs`` with every dimension in it, also inside tuples, :func:`substituted`."""

    def resolve(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(resolve, value))
        if isinstance(value, Dimensioned):
            return value.with_dims(values)
        return substituted(value, values)

    return {name: resolve(value) for name, value in attrs.items()}


def holds_dims(attr: Any) -> bool:
    """Whether an attribute is a size that a call decides, or a tuple that holds one."""
    if isinstance(attr, tuple):
        return any(map(holds_dims, attr))
    if isinstance(attr, Dimensioned):
        return attr.holds_dims()
    return isinstance(attr, SymbolicDim)


@dataclass(frozen=True, slots=True)
class Assumption:
    """What a trace assumed of a dimension: that it is zero, or not below zero.

    Attributes:
        dim: the dimension.
        text: the assumption in words, as it was met.
    """

    dim: Dim
    text: str


@dataclass(eq=False)
class Assumptions:
    """What the trace of a graph assumed of its symbols.

    Attributes:
        solved: what stands for a symbol or quotient that was equated with something else.
        zero: must be zero in every call.
        at_least: must not be below zero in any call.
        graphs: what must be rewritten when a symbol is solved; each has ``substitute(values)``.
        scope: says where the trace is, for texts.
        fixes_batch: whether the batch size may be assumed to be a certain number.
    """

    solved: dict[Atom, Dim] = field(default_factory=dict)
    zero: list[Assumption] = field(default_factory=list)
    at_least: list[Assumption] = field(default_factory=list)
    graphs: list[Any] = field(default_factory=list)
    scope: Callable[[], str] = lambda: ""
    fixes_batch: bool = False

    def resolve(self, dim: Any) -> Any:
        """Returns ``dim`` with solved symbols replaced."""
        return substituted(dim, self.solved) if self.solved else dim

    def resolve_attrs(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Returns attributes with solved symbols replaced."""
        return attrs_with(attrs, self.solved) if self.solved else attrs

    def equate(self, a: Dim, b: Dim) -> None:
        """Assumes that two dimensions that may be equal are."""
        difference = _reduced(a - b)
        assert isinstance(difference, SymbolicDim)  # noqa: S101  (may_be_equal has said so)
        text = self._text(f"{a} = {b}")
        atom = _solvable(difference)
        if atom is None or isinstance(atom, FloorDiv):
            self.zero.append(Assumption(difference, text))
        if atom is None:
            return
        count = dict(difference.terms)[(atom,)]
        value = (difference - _made({(atom,): count})) * -count
        self.solved = {k: substituted(v, {atom: value}) for k, v in self.solved.items()}
        self.solved[atom] = value
        if isinstance(atom, Symbol):
            self.zero = _kept(self.zero, {atom: value})
            self.at_least = _kept(self.at_least, {atom: value})
            if isinstance(value, SymbolicDim) and lower_bound(value) < 0:
                self.at_least.append(Assumption(value, text))
        for graph in self.graphs:
            graph.substitute({atom: value})

    def assume_at_least(self, dim: Dim, least: Dim) -> None:
        """Assumes that ``dim >= least``."""
        difference = dim - least
        if lower_bound(difference) < 0:
            self.at_least.append(Assumption(difference, self._text(f"{dim} >= {least}")))

    def violated(self, values: Mapping[Atom, int]) -> str:
        """Returns the first assumption that does not hold for these sizes; "" if all do."""
        for assumption in self.zero:
            if substituted(assumption.dim, values) != 0:
                return assumption.text
        for assumption in self.at_least:
            if substituted(assumption.dim, values) < 0:
                return assumption.text
        return ""

    def _text(self, assumption: str) -> str:
        scope = self.scope()
        return f"{assumption} (in {scope})" if scope else assumption


def _kept(assumptions: list[Assumption], values: Mapping[Atom, Dim]) -> list[Assumption]:
    """Drops what holds by now; what no call can fulfil stays, as a number."""
    found = [(substituted(a.dim, values), a.text) for a in assumptions]
    return [Assumption(dim, text) for dim, text in found if dim != 0]


def _reduced(difference: Dim) -> Dim:
    """Divides by what all terms have in common; it is zero where ``difference`` is."""
    if not isinstance(difference, SymbolicDim):
        return difference
    common = list(difference.terms[0][0])
    for monomial, _ in difference.terms[1:]:
        common = [atom for atom in common if atom in monomial]
    unique = dict.fromkeys(common)
    divisor = math.gcd(*(count for _, count in difference.terms))
    terms: dict[Monomial, int] = {}
    for monomial, count in difference.terms:
        rest = list(monomial)
        for atom in unique:
            rest.remove(atom)
        terms[tuple(rest)] = count // divisor
    return _made(terms)


def _solvable(difference: SymbolicDim) -> Atom | None:
    """The atom for which ``difference == 0`` can be solved: not the batch size."""
    candidates = []
    for monomial, count in difference.terms:
        if len(monomial) == 1 and count in (1, -1) and monomial[0] != _BATCH_SYMBOL:
            atom = monomial[0]
            rest = difference - _made({monomial: count})
            if atom not in set(atoms_of(rest)):
                candidates.append(atom)
    candidates.sort(key=lambda atom: (isinstance(atom, Symbol), repr(atom)))
    return candidates[-1] if candidates else None


_LOCAL = threading.local()


def current_assumptions() -> Assumptions | None:
    """Where this thread writes down what it assumes; None: nowhere."""
    stack = getattr(_LOCAL, "stack", None)
    return stack[-1] if stack else None


def push_assumptions(assumptions: Assumptions | None) -> None:
    """Makes ``assumptions`` the place, until :func:`pop_assumptions`."""
    if not hasattr(_LOCAL, "stack"):
        _LOCAL.stack = []
    _LOCAL.stack.append(assumptions)


def pop_assumptions() -> None:
    """Goes back to the place before."""
    _LOCAL.stack.pop()


def same(a: Dim, b: Dim) -> bool:
    """Whether two dimensions are equal; where the call decides it, they are assumed to be.

    A trace does not assume the batch size to be a certain number, for it says nothing of a model,
    unless :attr:`Assumptions.fixes_batch` allows it. Where nothing is traced, nothing is written
    down: operators that are told the shapes will look again.
    """
    if a is b or a == b:
        return True
    if not isinstance(a, SymbolicDim) and not isinstance(b, SymbolicDim):
        return False
    found = current_assumptions()
    if found is not None:
        a, b = found.resolve(a), found.resolve(b)
    difference = _reduced(a - b)
    if not isinstance(difference, SymbolicDim):
        return difference == 0
    if _plain_bound(difference) > 0 or _plain_bound(-difference) > 0:
        return False
    fixes_batch = found is None or found.fixes_batch
    if not fixes_batch and len(difference.terms) <= 2 and symbols_of(difference) == {_BATCH_SYMBOL}:
        monomials = {monomial for monomial, _ in difference.terms}
        if monomials <= {(), (_BATCH_SYMBOL,)}:
            return False
    if found is not None:
        found.equate(a, b)
    return True


def same_shape(a: Shape, b: Shape) -> bool:
    """Whether two shapes are equal, dimension by dimension; see :func:`same`."""
    return len(a) == len(b) and (a == b or all(same(x, y) for x, y in zip(a, b, strict=True)))


def at_least(dim: Dim, least: Dim) -> bool:
    """Whether ``dim >= least``; where the call decides it, it is assumed to be."""
    difference = dim - least
    if lower_bound(difference) >= 0:
        return True
    if lower_bound(-difference) > 0:
        return False
    found = current_assumptions()
    if found is not None:
        found.assume_at_least(dim, least)
    return True
