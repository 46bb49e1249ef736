"""Functions of ``keras.ops`` give the numbers, shapes and dtypes of Keras (JAX backend)."""

from __future__ import annotations

import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="Keras is the oracle")
pytest.importorskip("jax", reason="Keras's JAX backend is the oracle")

import handmill  # noqa: E402
from handmill.runtime.function import TracedFunction  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4, 4)).astype(np.float32)
PD = (X @ X.transpose(0, 2, 1) + np.eye(4, dtype=np.float32)).astype(np.float32)
V = RNG.normal(size=(6, 8)).astype(np.float32)
IMAGES = RNG.normal(size=(2, 8, 4, 6)).astype(np.float32)
PAIR = (V, V[::-1].copy())
WHOLE = RNG.integers(-9, 9, (5, 3)).astype(np.int32)
IDS = np.array([0, 2, 1, 2, 0, 2], np.int32)
SIX = RNG.normal(size=6).astype(np.float32)
POSITIONS = np.array([[0, 1], [2, -1], [9, 9]], np.int32)

CALLS = {
    "slice": ((V, np.array([4, -3]), (3, 2)), {}),
    "slice_update": ((V, np.array([5, 7]), V[:2, :3]), {}),
    "scatter": ((POSITIONS, SIX[:3], (4, 5)), {}),
    "scatter_update": ((V, POSITIONS, SIX[:3]), {}),
    "scatter_update max": ((V, POSITIONS, SIX[:3], "max"), {}),
    "scatter_update mul": ((WHOLE, POSITIONS, np.array([2, 3, 4], np.int32), "mul"), {}),
    "saturate_cast": ((np.array([-300.5, 2.5, 3e9], np.float32), "int32"), {}),
    "unstack": ((V,), {"axis": -1}),
    "segment_sum": ((V, IDS), {"num_segments": 4}),
    "segment_max": ((V, IDS), {"num_segments": 4}),
    "segment_max integers": ((WHOLE, IDS[:5]), {"num_segments": 4}),
    "in_top_k": ((np.array([1, 0]), np.array([[0.1, np.nan, 0.5], [0.3, 0.2, 0.5]])), {"k": 2}),
    "erfc": ((V,), {}),
    "erfc integers": ((WHOLE,), {}),
    "erfinv": ((np.linspace(-1, 1, 9).astype(np.float32),), {}),
    "logdet": ((PD,), {}),
    "cdist": ((V, V[:3]), {}),
    "extract_sequences": ((V, 3, 2), {}),
    "fft": ((PAIR,), {}),
    "fft2": ((PAIR,), {}),
    "ifft2": ((PAIR,), {}),
    "rfft": ((V, 11), {}),
    "irfft": ((PAIR, 9), {}),
    "stft": ((V, 4, 2, 6, "hamming"), {}),
    "istft": ((PAIR, 8, 4, 14), {"length": 20}),
    "istft no window": ((PAIR, 8, 4, 14), {"window": None, "center": False}),
    "cholesky": ((PD,), {"upper": True}),
    "det": ((PD,), {}),
    "inv": ((PD,), {}),
    "eigh values": ((PD,), {}),
    "lu_factor": ((X[0],), {}),
    "lstsq": ((V, SIX), {}),
    "norm": ((V, "nuc"), {}),
    "norm of integers": ((WHOLE, -2), {"keepdims": True}),
    "pinv": ((V,), {}),
    "matrix_rank": ((PD,), {}),
    "solve": ((PD, X), {}),
    "solve_triangular": ((PD, X), {"lower": True}),
    "svd": ((X,), {"compute_uv": False}),
    "batch_normalization": ((V, SIX, SIX**2, 0, SIX, None), {}),
    "sparse_plus": ((V,), {}),
    "sparse_sigmoid": ((V,), {}),
    "psnr": ((V, V[::-1].copy(), 2.0), {}),
    "depth_to_space": ((IMAGES, 2, "channels_first"), {}),
    "space_to_depth": ((IMAGES, 2), {}),
    "unfold": ((IMAGES, 2, 1, 1, 2), {}),
    "fold": ((RNG.normal(size=(2, 12, 9)).astype(np.float32), 4, 2), {}),
    "rearrange": ((IMAGES, "a b c (d e) -> (d a) e (c b)"), {"e": 2}),
    "multi_hot": ((np.array([[0, 2], [1, 1]]), 3), {}),
    "normalize": ((V, -1, 3), {}),
}


@pytest.mark.parametrize("case", CALLS)
def test_numbers_shapes_and_dtypes(case):
    name = case.partition(" ")[0]
    args, kwargs = CALLS[case]
    given = keras.tree.map_structure(
        lambda a: keras.ops.convert_to_tensor(a) if isinstance(a, np.ndarray) else a, args
    )
    wanted = getattr(keras.ops, name)(*given, **kwargs)
    function = getattr(handmill.ops, name)
    arrays = [a for a in keras.tree.flatten(list(args)) if isinstance(a, np.ndarray)]

    def call(*values):
        left = iter(values)
        filled = handmill.tree.map_structure(
            lambda a: next(left) if isinstance(a, np.ndarray) else a, list(args)
        )
        found = function(*filled, **kwargs)
        return tuple(found) if isinstance(found, list) else found

    traced = None if name == "slice" else TracedFunction(call, batched=False)(*arrays)
    if name == "eigh":
        wanted = wanted[0]
    for found in (function(*args, **kwargs), traced):
        if found is None:
            continue
        flat = handmill.tree.flatten(found[0] if name == "eigh" else found)
        for mine, other in zip(flat, keras.tree.flatten(wanted), strict=True):
            other = np.asarray(other)
            assert (mine.shape, mine.dtype) == (other.shape, other.dtype)
            np.testing.assert_allclose(mine, other, rtol=2e-4, atol=2e-5)
