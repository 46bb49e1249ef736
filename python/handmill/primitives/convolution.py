"""Convolution, and its two gradients: each of the three is differentiated by the other two.

Channels are last: ``x (N, *S, C)``, ``w (*K, C / groups, O)``, ``y (N, *T, O)``. As in all
libraries of the field, kernels are not flipped. ``conv_input_grad`` is the transposed convolution.
What lies beyond ``x``, or beyond ``dy``, is zero, and is multiplied like any other element: an
infinite weight gives NaN at the borders, as in JAX (in torch with one group alone).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from handmill.errors import shape_error
from handmill.ir.dims import Dim, Shape, exact_quotient, same, same_shape
from handmill.ir.op import Accumulate, Array, Attrs, Op, Sample, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives import channels, winograd
from handmill.primitives.epilogue import (
    NO_EPILOGUE,
    absorb_epilogue,
    check_operands,
    emit_epilogue,
    finished,
    finished_magnitude,
    operand_shapes,
)
from handmill.primitives.samples import elements, uniform
from handmill.primitives.windows import Pairs, padded, parts, reach, unpadded, window_counts

_COLUMN_ELEMENTS = 1 << 22
"""How many elements of columns the references hold at a time: they fit into the last cache."""

# --- shapes --------------------------------------------------------------------------------------


def _counts(op: str, sizes: Shape, kernel: Shape, attrs: Attrs, operands: dict[str, Any]) -> Any:
    strides, padding, dilation = (attrs[name] for name in ("strides", "padding", "dilation"))
    return window_counts(op, sizes, kernel, strides, padding, dilation, operands)


def _check(op: str, operands: dict[str, Spec], groups: int) -> None:
    first, second = operands.values()
    if first.dtype != second.dtype or first.dtype == "bool":
        problem = f"numbers of one dtype were expected, got {first.dtype} and {second.dtype}"
        raise shape_error(op, problem, operands, "use ops.cast")
    if first.rank != second.rank or first.rank < 3:
        raise shape_error(op, "operands of one rank of at least 3 were expected", operands)
    if groups < 1:
        raise shape_error(op, f"groups must be at least 1, got {groups}", operands)


def _in_groups(op: str, what: str, channels: Dim, groups: int, operands: dict[str, Spec]) -> Dim:
    found = exact_quotient(channels, groups)
    if found is None:
        problem = f"{channels} {what} cannot be divided into {groups} groups of equal size"
        raise shape_error(op, problem, operands)
    return found


def _conv_infer(x: Spec, w: Spec, *, groups: int, **attrs: Any) -> Spec:
    operands = {"x": x, "w": w}
    _check("conv", operands, groups)
    if not same(x.shape[-1], w.shape[-2] * groups):
        problem = (
            f"the kernel takes {w.shape[-2]} channels in each of {groups} groups, x has "
            f"{x.shape[-1]} channels"
        )
        raise shape_error("conv", problem, operands)
    _in_groups("conv", "filters", w.shape[-1], groups, operands)
    counts = _counts("conv", x.shape[1:-1], w.shape[:-2], attrs, operands)
    return Spec((x.shape[0], *counts, w.shape[-1]), x.dtype)


def _input_infer(dy: Spec, w: Spec, *, sizes: Shape, groups: int, **attrs: Any) -> Spec:
    op, operands = "conv_input_grad", {"dy": dy, "w": w}
    _check(op, operands, groups)
    if not same(dy.shape[-1], w.shape[-1]):
        problem = f"the kernel has {w.shape[-1]} filters, dy has {dy.shape[-1]} channels"
        raise shape_error(op, problem, operands)
    _in_groups(op, "filters", w.shape[-1], groups, operands)
    counts = _counts(op, sizes, w.shape[:-2], attrs, operands)
    if not same_shape(counts, dy.shape[1:-1]):
        raise shape_error(op, f"inputs of sizes {sizes} give outputs of {counts}", operands)
    return Spec((dy.shape[0], *sizes, w.shape[-2] * groups), dy.dtype)


def _kernel_infer(x: Spec, dy: Spec, *, kernel_size: Shape, groups: int, **attrs: Any) -> Spec:
    op, operands = "conv_kernel_grad", {"x": x, "dy": dy}
    _check(op, operands, groups)
    channels = _in_groups(op, "channels", x.shape[-1], groups, operands)
    _in_groups(op, "filters", dy.shape[-1], groups, operands)
    counts = _counts(op, x.shape[1:-1], kernel_size, attrs, operands)
    if not same_shape((x.shape[0], *counts), dy.shape[:-1]):
        problem = f"x and a kernel of {kernel_size} give an output of {(x.shape[0], *counts)}"
        raise shape_error(op, problem, operands)
    return Spec((*kernel_size, channels, dy.shape[-1]), x.dtype)


# --- references: products with columns, some samples at a time -----------------------------------


def _pieces(samples: int, counts: Any, channels: int, kernel: Any) -> Iterator[slice]:
    """Samples whose columns may be held at the same time."""
    each = math.prod(counts) * channels * math.prod(kernel)
    step = max(1, _COLUMN_ELEMENTS // max(each, 1))
    return (slice(i, i + step) for i in range(0, max(samples, 1), step))


def _columns(x: Array, kernel: Shape, groups: int, strides: Any, dilation: Any) -> Array:
    """What each window of a padded input holds: (groups, N * T, K * C / groups)."""
    axes = tuple(range(1, x.ndim - 1))
    spans = tuple(map(reach, kernel, dilation))
    view = sliding_window_view(x, spans, axes)  # (N, *positions, C, *spans)
    wanted = [slice(None, None, n) for n in (1, *strides, 1, *dilation)]
    view = np.moveaxis(view[tuple(wanted)], x.ndim - 1, -1)
    windows = math.prod(view.shape[: x.ndim - 1])
    return _grouped(view.reshape(windows, math.prod(kernel), x.shape[-1]), groups)


def _grouped(x: Array, groups: int) -> Array:
    """(M, P, C) -> (groups, M, P * C / groups)."""
    rows, places, channels = x.shape
    each = channels // groups
    x = x.reshape(rows, places, groups, each)
    return np.moveaxis(x, 2, 0).reshape(groups, rows, places * each)


def _matrices(w: Array, groups: int) -> Array:
    """(*K, C / groups, O) -> (groups, K * C / groups, O / groups)."""
    rows = math.prod(w.shape[:-1])
    return np.moveaxis(w.reshape(rows, groups, w.shape[-1] // groups), 1, 0)


def _outputs(dy: Array, groups: int) -> Array:
    """(N, *T, O) -> (groups, N * T, O / groups)."""
    return _grouped(dy.reshape(math.prod(dy.shape[:-1]), 1, dy.shape[-1]), groups)


def _conv_reference(
    x: Array, w: Array, *, strides: Any, padding: Any, dilation: Any, groups: int
) -> Array:
    kernel = w.shape[:-2]
    counts = window_counts("conv", x.shape[1:-1], kernel, strides, padding, dilation, {})
    wide, matrices = padded(x, padding), _matrices(w, groups)
    y = np.empty((x.shape[0], *counts, w.shape[-1]), x.dtype)
    for piece in _pieces(x.shape[0], counts, x.shape[-1], kernel):
        found = np.matmul(_columns(wide[piece], kernel, groups, strides, dilation), matrices)
        y[piece] = np.moveaxis(found, 0, 1).reshape(y[piece].shape)
    return y


def _kernel_reference(
    x: Array,
    dy: Array,
    *,
    kernel_size: Any,
    strides: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Array:
    wide = padded(x, padding)
    each, filters = x.shape[-1] // groups, dy.shape[-1]
    total = np.zeros((groups, math.prod(kernel_size) * each, filters // groups), x.dtype)
    for piece in _pieces(x.shape[0], dy.shape[1:-1], x.shape[-1], kernel_size):
        columns = _columns(wide[piece], kernel_size, groups, strides, dilation)
        total += np.matmul(np.swapaxes(columns, 1, 2), _outputs(dy[piece], groups))
    return np.moveaxis(total, 0, 1).reshape(*kernel_size, each, filters)


def _input_reference(
    dy: Array, w: Array, *, sizes: Any, strides: Any, padding: Any, dilation: Any, groups: int
) -> Array:
    kernel, channels = w.shape[:-2], w.shape[-2] * groups
    if not np.isfinite(w).all():  # zeros beyond dy matter
        spans = [reach(*place) for place in zip(kernel, dilation, strict=True)]
        beyond = [-(-span // step) for span, step in zip(spans, strides, strict=True)]
        dy = padded(dy, [(n, n) for n in beyond])
        padding = [
            (low + n * step, high + n * step + span)
            for (low, high), n, step, span in zip(padding, beyond, strides, spans, strict=True)
        ]
    counts = dy.shape[1:-1]
    matrices = np.swapaxes(_matrices(w, groups), 1, 2)
    wide = tuple(n + low + high for n, (low, high) in zip(sizes, padding, strict=True))
    dx = np.zeros((dy.shape[0], *wide, channels), dy.dtype)
    for piece in _pieces(dy.shape[0], counts, channels, kernel):
        columns = np.matmul(_outputs(dy[piece], groups), matrices)
        columns = columns.reshape(*columns.shape[:2], math.prod(kernel), w.shape[-2])
        target = dx[piece]
        for number, where in enumerate(parts(counts, kernel, strides, dilation)):
            found = np.moveaxis(columns[:, :, number], 0, 1)
            target[where] += found.reshape(target[where].shape)
    return unpadded(dx, padding)


# --- gradients -----------------------------------------------------------------------------------


def _conv_vjp(inputs: Any, outputs: Any, dys: Any, **attrs: Any) -> Any:
    x, w = inputs
    return (
        apply(CONV_INPUT_GRAD, dys[0], w, sizes=x.shape[1:-1], **attrs),
        apply(CONV_KERNEL_GRAD, x, dys[0], kernel_size=w.shape[:-2], **attrs),
    )


def _input_vjp(inputs: Any, outputs: Any, dys: Any, *, sizes: Shape, **attrs: Any) -> Any:
    dy, w = inputs
    return (
        apply(CONV, dys[0], w, **attrs),
        apply(CONV_KERNEL_GRAD, dys[0], dy, kernel_size=w.shape[:-2], **attrs),
    )


def _kernel_vjp(inputs: Any, outputs: Any, dys: Any, *, kernel_size: Shape, **attrs: Any) -> Any:
    x, dy = inputs
    return (
        apply(CONV_INPUT_GRAD, dy, dys[0], sizes=x.shape[1:-1], **attrs),
        apply(CONV, x, dys[0], **attrs),
    )


# --- bounds --------------------------------------------------------------------------------------
# Each output is a sum of products, as in a matrix product: over the window and the channels of
# its group; over the places of the kernel that meet an input and the filters of its group; over
# all windows of all samples. Kernels of 3x3 taps may sum up neighbours together.


def _size(shape: Sequence[Any]) -> int:
    return int(math.prod(shape))


def _conv_counts(inputs: Sequence[Array], attrs: Attrs) -> Any:
    x, w = inputs[:2]
    return _counts("conv", x.shape[1:-1], w.shape[:-2], attrs, {})


def _conv_filtered(inputs: Sequence[Array], attrs: Attrs) -> bool:
    w = inputs[1]
    counts = _conv_counts(inputs, attrs)
    return winograd.is_filtered(w.shape[:-2], w.shape[-2], w.shape[-1], counts, attrs)


def _conv_terms(inputs: Sequence[Array], attrs: Attrs) -> int:
    w = inputs[1]
    if _conv_filtered(inputs, attrs):
        return int(w.shape[-2]) + winograd.ROUNDINGS
    return _size(w.shape[:-1])


def _conv_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    x, w = np.abs(inputs[0]), np.abs(inputs[1])
    plain = _conv_reference(x, w, **attrs)
    if not _conv_filtered(inputs, attrs):
        return plain
    return _where_finite(winograd.conv_sizes(x, w, attrs["padding"]), plain)


def _where_finite(size: Array, plain: Array) -> Array:
    return np.where(np.isfinite(size), size, plain)


def _input_filtered(inputs: Sequence[Array], attrs: Attrs) -> bool:
    w = inputs[1]
    return winograd.is_filtered(w.shape[:-2], w.shape[-2], w.shape[-1], attrs["sizes"], attrs)


def _input_terms(inputs: Sequence[Array], attrs: Attrs) -> int:
    w = inputs[1]
    if _input_filtered(inputs, attrs):
        return int(w.shape[-1]) + winograd.ROUNDINGS
    return _size((*w.shape[:-2], w.shape[-1])) // int(attrs["groups"])


def _input_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    dy, w = np.abs(inputs[0]), np.abs(inputs[1])
    plain = _input_reference(dy, w, **attrs)
    if not _input_filtered(inputs, attrs):
        return plain
    return _where_finite(winograd.input_sizes(dy, w, attrs["sizes"], attrs["padding"]), plain)


def _kernel_filtered(inputs: Sequence[Array], attrs: Attrs) -> bool:
    x, dy = inputs
    kernel, counts = attrs["kernel_size"], dy.shape[1:-1]
    return winograd.is_filtered(kernel, x.shape[-1], dy.shape[-1], counts, attrs)


def _kernel_terms(inputs: Sequence[Array], attrs: Attrs) -> int:
    dy = inputs[1]
    if not _kernel_filtered(inputs, attrs):
        return _size(dy.shape[:-1])
    tiles = (-(-count // 2) for count in dy.shape[1:-1])
    return _size((dy.shape[0], *tiles)) + winograd.ROUNDINGS


def _kernel_magnitude(inputs: Sequence[Array], attrs: Attrs) -> Array:
    x, dy = np.abs(inputs[0]), np.abs(inputs[1])
    plain = _kernel_reference(x, dy, **attrs)
    if not _kernel_filtered(inputs, attrs):
        return plain
    return _where_finite(winograd.kernel_sizes(x, dy, attrs["padding"]), plain)


def _flops(dy: Spec, w: Spec) -> int:
    """Two for each product: every output meets the kernel of its filter."""
    return 2 * elements(dy) * _size(w.shape[:-1])


# --- samples -------------------------------------------------------------------------------------


def _case(
    name: str,
    x: tuple[int, ...],
    kernel: tuple[int, ...],
    filters: int,
    strides: int = 1,
    padding: Pairs | None = None,
    dilation: int = 1,
    groups: int = 1,
) -> tuple[str, tuple[int, ...], tuple[int, ...], Attrs]:
    count = len(kernel)
    attrs = {
        "strides": (strides,) * count,
        "padding": padding or ((0, 0),) * count,
        "dilation": (dilation,) * count,
        "groups": groups,
    }
    return name, x, (*kernel, x[-1] // groups, filters), attrs


_ONES: Pairs = ((1, 1), (1, 1))
_CASES = (
    _case("7x5x3_3x3", (2, 7, 5, 3), (3, 3), 4, padding=_ONES),
    _case("9x6x17_3x2_stride2", (1, 9, 6, 17), (3, 2), 3, strides=2, padding=((0, 1), (1, 0))),
    _case("10x7x2_2x3_stride3", (2, 10, 7, 2), (2, 3), 5, strides=3),
    _case("9x8x2_3x2_dilation2", (2, 9, 8, 2), (3, 2), 3, padding=((2, 2), (1, 0)), dilation=2),
    _case("5x6x6_3x3_groups3", (2, 5, 6, 6), (3, 3), 9, padding=_ONES, groups=3),
    _case("6x5x5_3x3_depthwise", (2, 6, 5, 5), (3, 3), 10, strides=2, padding=_ONES, groups=5),
    _case("8x9x33_3x3_depthwise", (2, 8, 9, 33), (3, 3), 33, padding=_ONES, groups=33),
    _case("9x7x18_2x5_depthwise", (1, 9, 7, 18), (2, 5), 18, 2, ((1, 0), (2, 1)), 1, 18),
    _case("9x8x4_3x2_depthwise", (2, 9, 8, 4), (3, 2), 4, 1, ((2, 2), (1, 0)), 2, 4),
    _case("3x4x17_1x1", (2, 3, 4, 17), (1, 1), 6),
    _case("5x5x4_1x1_stride2", (1, 5, 5, 4), (1, 1), 3, strides=2),
    _case("4x3x1_4x3", (3, 4, 3, 1), (4, 3), 2),
    _case("11x1_5", (2, 11, 1), (5,), 17, padding=((4, 0),)),
    _case("4x5x3x2_2x3x2", (2, 4, 5, 3, 2), (2, 3, 2), 3, padding=((1, 0), (1, 1), (0, 0))),
    _case("8x1x3_3x3_stride2", (2, 8, 1, 3), (3, 3), 4, strides=2, padding=((0, 1), (1, 1))),
    _case("2x1x18_9x5_depthwise", (2, 2, 1, 18), (9, 5), 18, 1, ((4, 4), (2, 2)), 1, 18),
    _case("4x3x2_2x2_beside", (2, 4, 3, 2), (2, 2), 3, strides=12, padding=((0, 0), (9, 0))),
    _case("1x3_2_behind", (2, 1, 3), (2,), 2, strides=5, padding=((15, 0),), dilation=9),
    _case("6x5x40_3x3_parts", (1, 6, 5, 40), (3, 3), 72, padding=_ONES),
    _case("6x6x24_3x3_filtered", (2, 6, 6, 24), (3, 3), 32, padding=_ONES),
    _case("9x8x16_3x3_filtered", (1, 9, 8, 16), (3, 3), 16, padding=_ONES),
    _case("7x5x26_3x3_filtered", (4, 7, 5, 26), (3, 3), 25, padding=((2, 1), (0, 3))),
    _case("none", (0, 4, 4, 2), (3, 3), 2),
)
_BENCH = _case("bench", (16, 28, 28, 32), (3, 3), 64, padding=_ONES)


def _samples(kind: str) -> Iterable[Sample]:
    for name, x, w, attrs in (*_CASES, _BENCH):
        counts = window_counts(
            kind, x[1:-1], w[:-2], attrs["strides"], attrs["padding"], attrs["dilation"], {}
        )
        dy: Any = (x[0], *counts, w[-1])
        shapes, more = {
            "conv": ((x, w), {}),
            "conv_input_grad": ((dy, w), {"sizes": x[1:-1]}),
            "conv_kernel_grad": ((x, dy), {"kernel_size": w[:-2]}),
        }[kind]
        bench = name == "bench"
        smooth = not bench and x[0] > 0
        yield Sample(name, uniform(*shapes), attrs | more, smooth=smooth, bench=bench)


def _native(specs: Sequence[Spec], attrs: Attrs) -> bool:
    return all(spec.dtype == "float32" for spec in specs) and len(attrs["strides"]) <= 2


def _absorb_into_conv(inputs: Any, attrs: Attrs, kind: str, name: str, operand: Any) -> Any:
    return _absorb(CONV_LINEAR, _conv_infer, inputs, attrs, kind, name, operand)


def _absorb_into_input_grad(inputs: Any, attrs: Attrs, kind: str, name: str, operand: Any) -> Any:
    return _absorb(CONV_INPUT_LINEAR, _input_infer, inputs, attrs, kind, name, operand)


def _absorb(
    op: Op, infer: Any, inputs: Any, attrs: Attrs, kind: str, name: str, operand: Any
) -> Any:
    specs = [v.spec for v in inputs[:2]]
    if not _native(specs, attrs):
        return None
    shape = infer(*specs, **_plain(attrs)).shape
    return absorb_epilogue(op, inputs, attrs, kind, name, operand, shape)


def _plain(attrs: Attrs) -> Attrs:
    """The attributes without those of the epilogue."""
    return {name: value for name, value in attrs.items() if name not in NO_EPILOGUE}


CONV = register(
    Op(
        "conv",
        infer=_conv_infer,
        reference=_conv_reference,
        samples=lambda: _samples("conv"),
        bound=Accumulate(_conv_terms, _conv_magnitude),
        vjp=_conv_vjp,
        attribution="midpoint",
        channels=channels.convolution,
        kernel="conv",
        native=_native,
        absorb=_absorb_into_conv,
        flops=lambda inputs, outputs, attrs: _flops(outputs[0], inputs[1]),
    )
)

# sizes: of the spatial axes of x, which strides leave open.
CONV_INPUT_GRAD = register(
    Op(
        "conv_input_grad",
        infer=_input_infer,
        reference=_input_reference,
        samples=lambda: _samples("conv_input_grad"),
        bound=Accumulate(_input_terms, _input_magnitude),
        vjp=_input_vjp,
        attribution="midpoint",
        channels=channels.convolution_turned,
        kernel="conv_input_grad",
        native=_native,
        absorb=_absorb_into_input_grad,
        flops=lambda inputs, outputs, attrs: _flops(inputs[0], inputs[1]),
    )
)

CONV_KERNEL_GRAD = register(
    Op(
        "conv_kernel_grad",
        infer=_kernel_infer,
        reference=_kernel_reference,
        samples=lambda: _samples("conv_kernel_grad"),
        bound=Accumulate(_kernel_terms, _kernel_magnitude),
        vjp=_kernel_vjp,
        attribution="midpoint",
        kernel="conv_kernel_grad",
        native=_native,
        flops=lambda inputs, outputs, attrs: _flops(inputs[1], outputs[0]),
    )
)


# --- with an epilogue ----------------------------------------------------------------------------


def _with_epilogue(name: str, plain: Op, absorb: Any, first: str, magnitude: Any) -> Op:
    """The operator ``plain`` with what may follow it, in the same kernel."""

    def infer(a: Spec, w: Spec, *rest: Spec, **attrs: Any) -> Spec:
        spec: Spec = plain.infer(a, w, **_plain(attrs))
        check_operands(name, spec.shape, {first: a, "w": w}, rest, attrs)
        return spec

    def reference(a: Array, w: Array, *rest: Array, **attrs: Any) -> Array:
        return finished(plain.reference(a, w, **_plain(attrs)), rest, attrs)

    def composite(a: Any, w: Any, *rest: Any, **attrs: Any) -> Any:
        return emit_epilogue(apply(plain, a, w, **_plain(attrs)), rest, attrs)

    def size_of_terms(inputs: Sequence[Array], attrs: Attrs) -> Array:
        total = magnitude(inputs[:2], _plain(attrs))
        return finished_magnitude(total, inputs[2:], attrs)

    terms: Any = plain.bound.terms  # type: ignore[union-attr]
    return register(
        Op(
            name,
            infer=infer,
            reference=reference,
            samples=lambda: _samples_with_epilogues(plain),
            bound=Accumulate(terms, size_of_terms, extra=6),
            kernel=plain.kernel,
            native=_native,
            flops=plain.flops,
            absorb=absorb,
            composite=composite,
        )
    )


def _samples_with_epilogues(plain: Op) -> Iterable[Sample]:
    cases: list[Attrs] = [
        {"has_bias": True},
        {"has_bias": True, "activation": "relu"},
        {"has_bias": True, "residual": True, "activation": "tanh"},
        {"has_scale": True},
        {"has_scale": True, "has_bias": True, "activation": "relu6"},
        {"has_scale": True, "has_bias": True, "residual": True, "activation": "relu"},
        {"act_grad": "relu"},
        {"residual": True, "act_grad": "sigmoid"},
    ]
    wanted = ["7x5x3_3x3", "9x6x17_3x2_stride2", "5x6x6_3x3_groups3", "5x5x4_1x1_stride2"]
    wanted += ["9x7x18_2x5_depthwise", "7x5x26_3x3_filtered"]
    for sample in plain.samples():
        if sample.name not in wanted:
            continue
        first, w = sample.make(np.random.default_rng(0))
        spec: Any = plain.infer(
            Spec(first.shape, "float32"), Spec(w.shape, "float32"), **sample.attrs
        )
        for case in cases:
            attrs = {**NO_EPILOGUE, **case}
            make = uniform(first.shape, w.shape, *operand_shapes(spec.shape, attrs))
            words = "_".join(str(key if value is True else value) for key, value in case.items())
            yield Sample(f"{sample.name}_{words}", make, {**sample.attrs, **attrs}, smooth=False)


CONV_LINEAR = _with_epilogue("conv_linear", CONV, _absorb_into_conv, "x", _conv_magnitude)
CONV_INPUT_LINEAR = _with_epilogue(
    "conv_input_linear", CONV_INPUT_GRAD, _absorb_into_input_grad, "dy", _input_magnitude
)
