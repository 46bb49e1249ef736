"""The discrete Fourier transform of pairs of real arrays. It runs in NumPy: no kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from handmill.errors import shape_error
from handmill.ir.op import Array, Op, Sample, Ulp, never_native, register
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.primitives.samples import uniform


def _infer(real: Spec, imag: Spec, *, axes: tuple[int, ...], inverse: bool) -> tuple[Spec, Spec]:
    operands = {"real": real, "imag": imag}
    if not real.same(imag) or not real.is_float:
        raise shape_error("fft", "two float tensors of one shape were expected", operands)
    if not all(0 <= a < real.rank for a in axes):
        raise shape_error("fft", f"axes {axes} do not exist", operands)
    return real, imag


def _reference(
    real: Array, imag: Array, *, axes: tuple[int, ...], inverse: bool
) -> tuple[Array, Array]:
    # Neither direction divides by the number of elements.
    if not real.size:
        return real, imag
    z = real.astype(np.float64) + 1j * imag.astype(np.float64)
    y = np.fft.ifftn(z, axes=axes, norm="forward") if inverse else np.fft.fftn(z, axes=axes)
    return y.real.astype(real.dtype), y.imag.astype(imag.dtype)


def _vjp(inputs: Any, outputs: Any, dys: Any, *, axes: tuple[int, ...], inverse: bool) -> Any:
    # The adjoint of the transform is the one the other way.
    parts = [outputs[i] * 0 if dy is None else dy for i, dy in enumerate(dys)]
    return apply(FFT, *parts, axes=axes, inverse=not inverse)


def _samples() -> Iterable[Sample]:
    yield Sample("17", uniform((17,), (17,)), {"axes": (0,), "inverse": False})
    yield Sample("3x4x5", uniform((3, 4, 5), (3, 4, 5)), {"axes": (1, 2), "inverse": True})
    none = {"axes": (1,), "inverse": False}
    yield Sample("none", uniform((0, 4), (0, 4)), none, smooth=False)


FFT: Op = register(
    Op(
        "fft",
        infer=_infer,
        reference=_reference,
        samples=_samples,
        # Computed in float64 and rounded once, by reference and kernel alike.
        bound=(Ulp(0.5), Ulp(0.5)),
        vjp=_vjp,
        native=never_native,
    )
)
