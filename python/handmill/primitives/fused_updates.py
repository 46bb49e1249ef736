"""An optimizer's update together with the operator that computes the gradient.

Of a dense layer, dW = x^T dy is needed for nothing but the update of the kernel, and the sum of dy
over the batch for nothing but that of the bias: computed piece by piece, and used at once, they
need not be written and read again. Nor need a gradient that is only multiplied by a number first,
as clipping by a norm does, or one of a table that a batch looked up, which is zeros but for a few
rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.ir.dims import is_fixed
from handmill.ir.op import (
    REGISTRY,
    Array,
    Attrs,
    Fusion,
    Op,
    Sample,
    Tolerance,
    register,
    register_fusion,
)
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives.elementwise.arithmetic import MULTIPLY, ROUNDED
from handmill.primitives.gather import INDEX_DTYPES, SCATTER_ADD_ROWS, SCATTER_BOUND
from handmill.primitives.matmul import MATMUL, PRODUCT_BOUND
from handmill.primitives.optimizer import UPDATES, Maker, spread
from handmill.primitives.reduce import REDUCE_SUM, SUM_BOUND
from handmill.primitives.samples import BENCH, both, integers, name_of, uniform

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Producer:
    """What computes a gradient.

    Attributes:
        op: the operator.
        bound: its error bound.
        operands: their number.
        attributes: their names.
        kernel: the lowering rule of operator and update together.
        fits: (specs of the operands, attributes) -> whether that rule covers them.
        cases: names of samples, shapes of the operands and of the result, attributes.
        bench: one more, to be timed.
        draw: (shapes of the operands, attributes) -> a maker of them.
        indices: positions of operands that are not float32.
        pays: (specs of the operands, attributes) -> whether together is faster.
    """

    op: Op
    bound: Tolerance
    operands: int
    attributes: tuple[str, ...]
    kernel: str
    fits: Callable[[Sequence[Spec], Attrs], bool]
    cases: Callable[[], Iterable[tuple[str, tuple[Shape, ...], Shape, Attrs]]]
    bench: tuple[str, tuple[Shape, ...], Shape, Attrs]
    draw: Callable[[tuple[Shape, ...], Attrs], Maker] = lambda shapes, attrs: uniform(*shapes)
    indices: tuple[int, ...] = ()
    pays: Callable[[Sequence[Spec], Attrs], bool] = Fusion.pays

    def split(self, attrs: Attrs) -> tuple[Attrs, Attrs]:
        """Returns the attributes of the producer and those of the update."""
        own = {name: attrs[name] for name in self.attributes if name in attrs}
        return own, {name: value for name, value in attrs.items() if name not in own}


@dataclass(frozen=True)
class Propagated:
    """The bound of an update whose gradient has an error of its own.

    Attributes:
        producer: of the gradient.
        update: the update.
        position: of the gradient among its operands.
        index: of the result.
        own: the bound of that result for an exact gradient.
    """

    producer: Producer
    update: Op
    position: int
    index: int
    own: Tolerance

    def tolerance(self, want: Array, inputs: Sequence[Array], attrs: Attrs) -> Array:
        """Returns the largest absolute error allowed for each element."""
        flags, rest = self.producer.split(attrs)
        count = self.producer.operands
        factors, others = inputs[:count], inputs[count:]
        gradient = self.producer.op.reference(*factors, **flags)
        error = self.producer.bound.tolerance(gradient, factors, flags)

        before, after = others[: self.position], others[self.position :]

        def update(g: Array) -> Any:
            return self.update.reference(*before, g, *after, **rest)

        own = self.own.tolerance(want, (*before, gradient, *after), rest)
        return np.asarray(own + spread(update, self.index, gradient, error))


def _fused(producer: Producer, update: Op, position: int) -> Op:
    count = producer.operands

    def composed(produce: Callable[..., Any], step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*operands: Any, **attrs: Any) -> Any:
            of_producer, of_update = producer.split(attrs)
            gradient = produce(*operands[:count], **of_producer)
            rest = operands[count:]
            return step(*rest[:position], gradient, *rest[position:], **of_update)

        return run

    def samples() -> Iterable[Sample]:
        for draws in UPDATES[update.name]:
            for name, shapes, result, attrs in producer.cases():
                make = both(producer.draw(shapes, attrs), draws.arrays(result), draws.numbers())
                label = "_".join(filter(None, (name, draws.label)))
                yield Sample(label, make, {**attrs, **draws.attrs}, smooth=False)
        name, shapes, result, attrs = producer.bench
        draws = UPDATES[update.name][0]
        make = both(producer.draw(shapes, attrs), draws.arrays(result), draws.numbers())
        yield Sample(name, make, {**attrs, **draws.attrs}, smooth=False, bench=True)

    def native(specs: Sequence[Spec], attrs: Attrs) -> bool:
        others = (spec for i, spec in enumerate(specs) if i not in producer.indices)
        is_float = all(spec.dtype == "float32" for spec in others)
        return is_float and producer.fits(specs[:count], attrs)

    def flops(inputs: Sequence[Spec], outputs: Sequence[Spec], attrs: Attrs) -> int:
        of_producer, of_update = producer.split(attrs)
        produced = producer.op.flops(inputs[:count], outputs[:1], of_producer)
        return produced + update.flops(inputs[count:], outputs, of_update)

    bounds = update.bound if isinstance(update.bound, tuple) else (update.bound,)
    found = tuple(Propagated(producer, update, position, i, own) for i, own in enumerate(bounds))
    return register(
        Op(
            f"{producer.op.name}_{update.name}",
            infer=composed(producer.op.infer, update.infer),
            reference=composed(producer.op.reference, update.reference),
            samples=samples,
            bound=found if len(found) > 1 else found[0],
            kernel=producer.kernel,
            kernel_attrs=tuple(dict(producer.op.kernel_attrs + update.kernel_attrs).items()),
            native=native,
            alias=tuple((i, i + count) for i in range(len(bounds))),
            flops=flops,
            composite=composed(
                lambda *operands, **attrs: apply(producer.op, *operands, **attrs),
                lambda *operands, **attrs: apply(update, *operands, **attrs),
            ),
        )
    )


def _product_cases() -> Iterable[tuple[str, tuple[Shape, ...], Shape, Attrs]]:
    # (M, K, N): edges of the register tiles, and a K of several chunks
    for m, k, n in ((1, 3, 5), (17, 33, 10), (33, 32, 65), (64, 128, 100), (40, 700, 48)):
        for transpose_a, transpose_b in ((True, False), (False, False), (False, True)):
            a, b = (k, m) if transpose_a else (m, k), (n, k) if transpose_b else (k, n)
            letters = "nt"[transpose_a] + "nt"[transpose_b]
            attrs = {"transpose_a": transpose_a, "transpose_b": transpose_b}
            yield f"{letters}_{m}x{k}x{n}", (a, b), (m, n), attrs


def _sum_cases() -> Iterable[tuple[str, tuple[Shape, ...], Shape, Attrs]]:
    # one step, several blocks of columns, several slices of rows, rows side by side
    for m, n in ((1, 1), (5, 130), (256, 256), (9000, 70), (300, 10)):
        yield f"{m}x{n}", ((m, n),), (n,), {"axis": (0,), "keepdims": False}
    yield "3x7x9", ((3, 7, 9),), (9,), {"axis": (0, 1), "keepdims": False}


def _scale_cases() -> Iterable[tuple[str, tuple[Shape, ...], Shape, Attrs]]:
    for shape in ((1,), (15,), (127, 33)):
        yield f"scaled_{name_of(shape)}", (shape, ()), shape, {}


def _are_matrices(specs: Sequence[Spec], attrs: Attrs) -> bool:
    return all(spec.rank == 2 for spec in specs)


def _sums_columns(specs: Sequence[Spec], attrs: Attrs) -> bool:
    return attrs["axis"] == tuple(range(specs[0].rank - 1)) and not attrs["keepdims"]


def _multiplies_by_a_number(specs: Sequence[Spec], attrs: Attrs) -> bool:
    return specs[0].rank > 0 and specs[1].rank == 0


def _scatter_cases() -> Iterable[tuple[str, tuple[Shape, ...], Shape, Attrs]]:
    # several pieces and blocks of rows, rows of several axes
    yield "90_of_2500x7", ((90, 7), (90,)), (2500, 7), {"rows": 2500}
    yield "3x4_of_5x2x3", ((3, 4, 2, 3), (3, 4)), (5, 2, 3), {"rows": 5, "from_end": False}


def _draw_scatter(shapes: tuple[Shape, ...], attrs: Attrs) -> Maker:
    return both(uniform(shapes[0]), integers(shapes[1], low=-2, high=attrs["rows"] + 1))


def _are_indices(specs: Sequence[Spec], attrs: Attrs) -> bool:
    return specs[1].dtype in INDEX_DTYPES


_LARGE_TABLE = 1 << 19  # elements; below, its gradient stays in caches, and sorting costs more


def _is_large_table(specs: Sequence[Spec], attrs: Attrs) -> bool:
    row = specs[0].shape[specs[1].rank :]
    return is_fixed(row) and attrs["rows"] * math.prod(row) >= _LARGE_TABLE


PRODUCERS = (
    Producer(
        MATMUL,
        PRODUCT_BOUND,
        2,
        ("transpose_a", "transpose_b"),
        "matmul_update",
        _are_matrices,
        _product_cases,
        (
            "bench",
            ((128, 784), (128, 512)),
            (784, 512),
            {"transpose_a": True, "transpose_b": False},
        ),
    ),
    Producer(
        REDUCE_SUM,
        SUM_BOUND,
        1,
        ("axis", "keepdims"),
        "reduce_update",
        _sums_columns,
        _sum_cases,
        ("bench", ((256, 256),), (256,), {"axis": (0,), "keepdims": False}),
    ),
    Producer(
        MULTIPLY,
        ROUNDED,
        2,
        (),
        "scaled_update",
        _multiplies_by_a_number,
        _scale_cases,
        ("bench", (BENCH, ()), BENCH, {}),
    ),
    Producer(
        SCATTER_ADD_ROWS,
        SCATTER_BOUND,
        2,
        ("rows", "from_end"),
        "scatter_update",
        _are_indices,
        _scatter_cases,
        ("bench", ((2048, 32), (2048,)), (30000, 32), {"rows": 30000}),
        _draw_scatter,
        (1,),
        _is_large_table,
    ),
)

for _name in UPDATES:
    _update = REGISTRY[_name]
    _position = len(_update.bound) if isinstance(_update.bound, tuple) else 1
    for _producer in PRODUCERS:
        register_fusion(
            Fusion(
                _update,
                _position,
                _producer.op,
                _fused(_producer, _update, _position),
                _producer.pays,
            )
        )
