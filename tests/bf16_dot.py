"""The sums of vdpbf16ps in NumPy, bit for bit: what kernels of every level must compute."""

import ml_dtypes
import numpy as np

SMALLEST_NORMAL = np.float32(2.0**-126)


def _flushed(x):
    return np.where(np.abs(x) < SMALLEST_NORMAL, np.copysign(np.float32(0), x), x)


def fma_flushed(a, b, c):
    """float32 a * b + c rounded once; small inputs and results are zero.

    The product of two bfloat16 is exact in float64. The sum is rounded to odd there, after
    which rounding to float32 gives what a single rounding would have given.
    """
    a, b, c = (_flushed(x).astype(np.float64) for x in (a, b, c))
    product = a * b
    total = product + c
    part = total - c
    error = (product - part) + (c - (total - part))
    inexact = np.isfinite(total) & (error != 0)
    bits = total.view(np.int64)
    step = np.where((error > 0) == (total > 0), 1, -1)
    bits = np.where(inexact & (bits & 1 == 0), bits + step, bits)
    total = bits.view(np.float64)
    small = np.abs(total) < 2.0**-126 - 2.0**-151  # after rounding to 24 bits, too
    return np.where(small, np.copysign(0.0, total), total).astype(np.float32)


def pair_products(a, b, slices=1):
    """The product of (M, K) and (K, N) as the kernels sum it, in float32.

    Args:
        a: of bfloat16, or float32 that is rounded first.
        b: the same.
        slices: runs of K that have a sum of their own.
    """
    with np.errstate(all="ignore"):
        a, b = (np.asarray(x).astype(ml_dtypes.bfloat16).astype(np.float32) for x in (a, b))
        odd = a.shape[1] % 2
        a, b = np.pad(a, ((0, 0), (0, odd))), np.pad(b, ((0, odd), (0, 0)))
        pairs = a.shape[1] // 2
        total = None
        for run in np.array_split(np.arange(pairs), slices):
            c = np.zeros((a.shape[0], b.shape[1]), np.float32)
            for j in run:
                for k in (2 * j + 1, 2 * j):
                    c = fma_flushed(a[:, k : k + 1], b[k : k + 1], c)
            total = c if total is None else total + c
    return total
