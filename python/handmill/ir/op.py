"""The record of an operator: everything that the rest of the system knows about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from handmill.errors import shape_error
from handmill.ir.shapes import Spec

if TYPE_CHECKING:
    from handmill.ir.graph import Value

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Attrs: TypeAlias = "dict[str, Any]"

EPS32 = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, slots=True)
class Sample:
    """Inputs on which an operator is tested, benchmarked and self-tested.

    Attributes:
        name: short and unique within the operator, such as ``"127x33"``.
        make: gives the inputs, drawn from the generator that it receives.
        attrs: the operator's attributes.
        smooth: whether the operator is differentiable around these inputs (no kinks).
        bench: whether the benchmarks time this sample.
    """

    name: str
    make: Callable[[np.random.Generator], tuple[Array, ...]]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    smooth: bool = True
    bench: bool = False


@dataclass(frozen=True, slots=True)
class Exact:
    """The result equals the reference's, bit for bit (NaN equals NaN)."""

    def tolerance(self, want: Array, inputs: Sequence[Array], attrs: Attrs) -> Array:
        """Returns the largest absolute error allowed for each element."""
        return np.zeros(np.shape(want))


@dataclass(frozen=True, slots=True)
class Ulp:
    """Each element is within ``count`` units in the last place of the float32 result.

    Attributes:
        count: the number of units.
        of: optional; the magnitude whose unit is meant (inputs64, attrs) -> array, for
            results that cancel. Default: the result itself.
    """

    count: float
    of: Callable[[Sequence[Array], Attrs], Array] | None = None

    def tolerance(self, want: Array, inputs: Sequence[Array], attrs: Attrs) -> Array:
        """Returns the largest absolute error allowed for each element."""
        size = (
            np.abs(want)
            if self.of is None
            else np.maximum(np.abs(want), np.abs(self.of(inputs, attrs)))
        )
        finite = np.where(np.isfinite(size), size, 0.0).astype(np.float32)
        return self.count * np.spacing(finite).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Accumulate:
    """A sum of ``terms`` products: ``2 * eps * (terms + extra) * sum(|a| * |b|)`` an element.

    Attributes:
        terms: (inputs64, attrs) -> the number of terms of each sum.
        magnitude: (inputs64, attrs) -> sum of the absolute values of the terms, an element each.
        extra: roundings beside the sum itself.
    """

    terms: Callable[[Sequence[Array], Attrs], int]
    magnitude: Callable[[Sequence[Array], Attrs], Array]
    extra: int = 1

    def tolerance(self, want: Array, inputs: Sequence[Array], attrs: Attrs) -> Array:
        """Returns the largest absolute error allowed for each element."""
        count = self.terms(inputs, attrs) + self.extra
        tiny = float(np.finfo(np.float32).smallest_subnormal)
        return 2 * EPS32 * count * np.abs(self.magnitude(inputs, attrs)) + tiny


class Tolerance(Protocol):
    """How far a result may be from the reference's in float64."""

    def tolerance(self, want: Array, inputs: Sequence[Array], attrs: Attrs) -> Array:
        """Returns the largest absolute error allowed for each element."""
        ...


Bound: TypeAlias = "Tolerance | tuple[Tolerance, ...]"


def _always(specs: Sequence[Spec], attrs: Attrs) -> bool:
    return all(spec.dtype == "float32" for spec in specs)


def never_native(specs: Sequence[Spec], attrs: Attrs) -> bool:
    """The rule of operators that have no kernel: they run on the host."""
    return False


def _cost_of_bytes(inputs: Sequence[Spec], outputs: Sequence[Spec], attrs: Attrs) -> int:
    sizes = [int(np.prod(spec.shape)) for spec in outputs]  # type: ignore[arg-type]
    return sum(sizes)


@dataclass(frozen=True, eq=False)
class Op:
    """One operator. Nothing outside its family file asks for it by name.

    Attributes:
        name: snake_case; also the name in error messages and plan summaries.
        infer: ``infer(*specs, **attrs) -> Spec | tuple[Spec, ...]``; raises ShapeError.
        reference: ``reference(*arrays, **attrs)``; plain NumPy, runs in float64 too.
        samples: inputs for tests, benchmarks and ``handmill selftest``.
        bound: the error allowed against the reference in float64; a tuple for several outputs.
        vjp: ``vjp(inputs, outputs, dys, **attrs) -> one Value or None an input``; all three are
            tuples, also for one output (dys holds None for unused outputs); emits ops.
            None: not differentiable; asking for its gradient is a named error.
        kernel: name of the C++ lowering rule; None for operators that only run on the host.
        kernel_attrs: what the lowering rule gets beside the node's own attributes, as items
            (one rule serves several operators).
        native: (specs, attrs) -> whether that rule covers these dtypes and attributes.
        tile: opcode in csrc/kernels/elementwise/tile_ops.def, or "convert" for a change of dtype;
            such operators are elementwise (NumPy broadcasting, one output) and fuse into tile
            programs.
        tile_imm: attrs -> the immediate operands of the opcode.
        tile_sum: (specs, attrs) -> whether this is the sum of each column, which a tile program
            that has the operand can add up as it goes.
        alias: pairs (output, input): the output may be written over the input's memory.
        flops: (input specs, output specs, attrs) -> floating-point operations.
        guard: checks its input and can refuse the batch; runs before any write of the step.
        random: reads a seed state; never merged with an equal node.
        composite: the same meaning in simpler operators, for fused ops.
        grad_none: positions of inputs that never receive a gradient (labels, indices, seeds).
        vjp_attrs: names of attributes that only the vjp reads.
        epilogue: what the operator is when it follows a matmul: ("scale", ""), ("bias", ""),
            ("activation", "relu"), ("act_grad", "relu") for relu_grad(dy, y), where operand 0 is
            the matmul.
        absorb: ``absorb(inputs, attrs, kind, name, operand) -> (op, inputs, attrs) | None``: this
            operator with the epilogue (kind, name) and its second operand (None for activations)
            built in; None if it cannot take it.
        absorb_operand: ``absorb_operand(inputs, attrs) -> (inputs, attrs) | None``: the same result
            from what one of the operands is computed from; None if it cannot.
        also: triples (output, operator name, input positions): that output equals the named
            operator applied to those inputs with ``also_attrs(input specs)``; cse reuses it.
        transparent: the first operands are the outputs; of meaning to gradients only, a pass
            drops the node.
        view: the output is the input's memory under another shape; nothing is computed.
        steps: ``steps(run, operands, **attrs)``: the reference of a loop or choice, which calls
            ``run(body, operands, step)`` for each of its bodies.
        flow: how a loop or choice, whose attributes hold bodies, is described to C++
            (:mod:`handmill.ir.flows`).
        rules: other backward rules by name, each with the arguments of ``vjp``; explanations ask
            for them (``"guided"``, ``"deconvolution"``). Without one ``vjp`` holds.
        attribution: how what is explained is shared among operands that differ between two runs:
            ``"midpoint"``: ``vjp`` at the mean of both runs (exact for what is at most quadratic in
            its operands); ``"quotient"``: elementwise, by quotients of differences; ``"max"`` and
            ``"min"``: by ``vjp`` to the operands that won; or ``(inputs, others, outputs,
            other_outputs, dys, varying, **attrs) -> one Value or None an input``; ``"composite"``:
            by those of the composite, although there is a gradient. None: tile operators of which
            one operand differs by quotients, others by their composite, or along the path between
            the runs.
        link: of operators that make probabilities of scores, which are operand 0: ``"softmax"`` or
            ``"sigmoid"``.
        channels: ``channels(units, operands, inputs, outputs, **attrs)`` -> the units of each axis
            of the results: what can be removed only together (:mod:`handmill.ir.units`).
            Without a rule elementwise operators follow broadcasting, all others let nothing go.
        loop: attrs -> how many operands are the carry of a loop, and how many it goes over row by
            row; those after them are the same in each step. Results beyond the carry are stacked.
    """

    name: str
    infer: Callable[..., Any]
    reference: Callable[..., Any]
    samples: Callable[[], Iterable[Sample]]
    bound: Bound
    vjp: Callable[..., Sequence[Value | None]] | None = None
    kernel: str | None = None
    kernel_attrs: tuple[tuple[str, Any], ...] = ()
    native: Callable[[Sequence[Spec], Attrs], bool] = _always
    tile: str | None = None
    tile_imm: Callable[[Attrs], tuple[float, ...]] | None = None
    tile_sum: Callable[[Sequence[Spec], Attrs], bool] | None = None
    alias: tuple[tuple[int, int], ...] = ()
    flops: Callable[[Sequence[Spec], Sequence[Spec], Attrs], int] = _cost_of_bytes
    guard: bool = False
    random: bool = False
    composite: Callable[..., Any] | None = None
    grad_none: tuple[int, ...] = ()
    vjp_attrs: tuple[str, ...] = ()
    epilogue: tuple[str, str] | None = None
    absorb: Callable[..., tuple[Op, tuple[Value, ...], Attrs] | None] | None = None
    absorb_operand: Callable[..., tuple[tuple[Value, ...], Attrs] | None] | None = None
    also: tuple[tuple[int, str, tuple[int, ...]], ...] = ()
    also_attrs: Callable[[Sequence[Spec]], Attrs] | None = None
    transparent: bool = False
    view: bool = False
    steps: Callable[..., tuple[Array, ...]] | None = None
    flow: Callable[[Any, Any], None] | None = None
    rules: Mapping[str, Callable[..., Sequence[Value | None]]] = field(default_factory=dict)
    attribution: str | Callable[..., Sequence[Value | None]] | None = None
    link: str | None = None
    channels: Callable[..., Sequence[Any]] | None = None
    loop: Callable[[Attrs], tuple[int, int]] | None = None

    def __repr__(self) -> str:
        return f"Op({self.name})"

    def specs(self, inputs: Sequence[Spec], attrs: Attrs) -> Any:
        """Returns what ``infer`` gives: a Spec, or a tuple of Specs.

        Raises:
            ShapeError: if a dimension would be negative.
        """
        found = self.infer(*inputs, **attrs)
        for spec in found if isinstance(found, tuple) else (found,):
            for dim in spec.shape:
                if type(dim) is int and dim < 0:
                    given = {f"x{i}": x for i, x in enumerate(inputs)} | attrs
                    raise shape_error(self.name, f"a size is negative: {spec.shape}", given)
        return found

    def runs_on_host(self, inputs: Sequence[Spec], attrs: Attrs) -> bool:
        """Whether no lowering rule covers these dtypes and attributes: its reference runs."""
        has_rule = self.kernel is not None or self.elementwise
        return self.flow is None and not (has_rule and self.native(inputs, attrs))

    @property
    def elementwise(self) -> bool:
        """Whether the operator works element by element under NumPy's broadcasting."""
        return self.tile is not None


REGISTRY: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Adds ``op`` to the registry from which tests, benchmarks and docs are generated."""
    if op.name in REGISTRY:
        raise ValueError(f"an operator named {op.name!r} is registered already")
    REGISTRY[op.name] = op
    return op


def _always_pays(specs: Sequence[Spec], attrs: Attrs) -> bool:
    return True


@dataclass(frozen=True)
class Fusion:
    """A consumer that one operator computes together with one of its operands.

    Attributes:
        position: of the operand, which ``producer`` computes for this consumer alone.
        op: its operands are the producer's, then the consumer's others; its attributes are those
            of both; its results are the consumer's.
        pays: (specs of the producer's operands, its attributes) -> whether that is faster.
    """

    consumer: Op
    position: int
    producer: Op
    op: Op
    pays: Callable[[Sequence[Spec], Attrs], bool] = _always_pays


FUSIONS: dict[tuple[str, str], Fusion] = {}
"""By the names of consumer and producer."""


def register_fusion(fusion: Fusion) -> None:
    """Declares a fusion, beside the operator that it makes use of."""
    FUSIONS[fusion.consumer.name, fusion.producer.name] = fusion
