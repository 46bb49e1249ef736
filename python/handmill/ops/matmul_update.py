"""An optimizer's update together with the matmul that computes the gradient.

Of a dense layer, dW = x^T dy is needed for nothing but the update of W: computed in registers, a
tile at a time, it need not be written and read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.errors import shape_error
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
from handmill.ops.matmul import MATMUL, PRODUCT_BOUND, product_shape
from handmill.ops.optimizer import UPDATES
from handmill.ops.samples import both, uniform

_FLAGS = ("transpose_a", "transpose_b")
_PERTURBATIONS = (-1.0, -0.5, 0.5, 1.0)

# (M, K, N) of a gradient (M, N): edges of the register tiles, K of several chunks.
_CASES = ((1, 3, 5), (17, 33, 10), (33, 32, 65), (64, 128, 100), (40, 700, 48))


def _split(attrs: Attrs) -> tuple[Attrs, Attrs]:
    flags = {name: attrs[name] for name in _FLAGS}
    return flags, {name: value for name, value in attrs.items() if name not in _FLAGS}


@dataclass(frozen=True)
class Propagated:
    """The bound of an update whose gradient has the error of a product.

    Attributes:
        update: the update.
        position: of the gradient among its operands.
        index: of the result.
        own: the bound of that result for an exact gradient.
    """

    update: Op
    position: int
    index: int
    own: Tolerance

    def tolerance(self, want: Array, inputs: Sequence[Array], attrs: Attrs) -> Array:
        """Returns the largest absolute error allowed for each element."""
        flags, rest = _split(attrs)
        factors, others = inputs[:2], inputs[2:]
        gradient = MATMUL.reference(*factors, **flags)
        error = PRODUCT_BOUND.tolerance(gradient, factors, flags)

        def operands(g: Array) -> tuple[Array, ...]:
            return (*others[: self.position], g, *others[self.position :])

        spread = np.zeros(np.shape(want))
        for times in _PERTURBATIONS:
            results = self.update.reference(*operands(gradient + times * error), **rest)
            moved = results[self.index] if isinstance(results, tuple) else results
            spread = np.maximum(spread, np.abs(moved - want))
        return np.asarray(spread + self.own.tolerance(want, operands(gradient), rest))


def _fused(update: Op, position: int) -> Op:
    name = f"matmul_{update.name}"

    def infer(a: Spec, b: Spec, *rest: Spec, **attrs: Any) -> Any:
        flags, of_update = _split(attrs)
        gradient = Spec(product_shape(name, a, b, **flags), a.dtype)
        if a.rank != 2 or b.rank != 2:
            raise shape_error(name, "a and b must be matrices", {"a": a, "b": b})
        return update.infer(*rest[:position], gradient, *rest[position:], **of_update)

    def composed(product: Callable[..., Any], step: Callable[..., Any]) -> Callable[..., Any]:
        def run(a: Any, b: Any, *rest: Any, **attrs: Any) -> Any:
            flags, of_update = _split(attrs)
            gradient = product(a, b, **flags)
            return step(*rest[:position], gradient, *rest[position:], **of_update)

        return run

    def samples() -> Iterable[Sample]:
        for draws in UPDATES[update.name]:
            for m, k, n in _CASES:
                for transpose_a, transpose_b in ((True, False), (False, False), (False, True)):
                    a, b = (k, m) if transpose_a else (m, k), (n, k) if transpose_b else (k, n)
                    make = both(uniform(a, b), draws.arrays((m, n)), draws.numbers())
                    letters = "nt"[transpose_a] + "nt"[transpose_b]
                    label = "_".join(filter(None, (f"{letters}_{m}x{k}x{n}", draws.label)))
                    attrs = {"transpose_a": transpose_a, "transpose_b": transpose_b, **draws.attrs}
                    yield Sample(label, make, attrs, smooth=False)
        draws = UPDATES[update.name][0]
        make = both(uniform((128, 784), (128, 512)), draws.arrays((784, 512)), draws.numbers())
        attrs = {"transpose_a": True, "transpose_b": False, **draws.attrs}
        yield Sample("bench", make, attrs, smooth=False, bench=True)

    def flops(inputs: Sequence[Spec], outputs: Sequence[Spec], attrs: Attrs) -> int:
        flags, of_update = _split(attrs)
        gradient = [outputs[0]]
        return MATMUL.flops(inputs[:2], gradient, flags) + update.flops(
            inputs[2:], outputs, of_update
        )

    bounds = update.bound if isinstance(update.bound, tuple) else (update.bound,)
    propagated = tuple(Propagated(update, position, i, own) for i, own in enumerate(bounds))
    return register(
        Op(
            name,
            infer=infer,
            reference=composed(MATMUL.reference, update.reference),
            samples=samples,
            bound=propagated if len(propagated) > 1 else propagated[0],
            kernel="matmul_update",
            kernel_attrs=update.kernel_attrs,
            alias=tuple((i, i + 2) for i in range(len(bounds))),
            flops=flops,
            composite=composed(
                lambda a, b, **flags: apply(MATMUL, a, b, **flags),
                lambda *operands, **attrs: apply(update, *operands, **attrs),
            ),
        )
    )


for _name in UPDATES:
    _update = REGISTRY[_name]
    _position = len(_update.bound) if isinstance(_update.bound, tuple) else 1
    register_fusion(Fusion(_update, _position, MATMUL, _fused(_update, _position)))
