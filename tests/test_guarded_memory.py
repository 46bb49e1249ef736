"""No kernel reads beside its operands, leaves a result unwritten, or writes beside it."""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np
import pytest

import handmill.ops  # noqa: F401  (registers the operators)
from handmill import config
from handmill.ir.op import REGISTRY, Op
from handmill.ir.shapes import Spec
from handmill.ir.trace import apply
from handmill.runtime.function import TracedFunction
from levels import levels

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not config.has_kernels(), reason="a build without kernels"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect"),
]
PAGE = mmap.PAGESIZE
PROT_NONE = 0
OPS = [name for name, op in sorted(REGISTRY.items()) if op.kernel or op.tile]
ISAS = config.available_isas()


@pytest.fixture(params=levels())
def isa(request):
    before = config.isa()
    config.set_isa(request.param)
    yield request.param
    config.set_isa(before)


def samples(op: Op):
    return [s for s in op.samples() if not s.bench]


class Guarded:
    """A copy of an array that lies directly before, or directly behind, a forbidden page."""

    def __init__(self, array: np.ndarray, before_guard: bool) -> None:
        room = -(-array.nbytes // PAGE) * PAGE or PAGE
        self.map = mmap.mmap(-1, room + 2 * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        libc = ctypes.CDLL(None, use_errno=True)
        for guard in (start, start + PAGE + room):
            assert libc.mprotect(ctypes.c_void_p(guard), PAGE, PROT_NONE) == 0
        offset = PAGE + room - array.nbytes if before_guard else PAGE
        self.array = np.frombuffer(self.map, np.uint8, array.nbytes, offset).view(array.dtype)
        self.array = self.array.reshape(array.shape)
        self.array[...] = array


@pytest.mark.parametrize("name", OPS)
def test_operands_beside_forbidden_pages(name, isa):
    op = REGISTRY[name]
    for sample in samples(op):
        inputs = sample.make(np.random.default_rng(0))
        want = apply(op, *inputs, **sample.attrs)
        for before_guard in (True, False):
            guarded = [Guarded(np.ascontiguousarray(x), before_guard) for x in inputs]
            got = apply(
                op,
                *(g.array.reshape(np.shape(x)) for g, x in zip(guarded, inputs, strict=True)),
                **sample.attrs,
            )
            for a, b in zip(as_tuple(want), as_tuple(got), strict=True):
                np.testing.assert_array_equal(a, b, err_msg=sample.name)


@pytest.mark.parametrize("name", OPS)
def test_results_over_nan_and_between_sentinels(name, isa):
    op = REGISTRY[name]
    for sample in samples(op):
        inputs = sample.make(np.random.default_rng(0))
        want = as_tuple(apply(op, *inputs, **sample.attrs))
        specs = as_tuple(op.infer(*(Spec(x.shape, x.dtype.name) for x in inputs), **sample.attrs))
        memory, is_mark, results = between_marks([filled(spec) for spec in specs])

        def run(*values, op=op, sample=sample):
            return apply(op, *values, **sample.attrs)

        function = TracedFunction(run, op.name, batched=False)
        arrays = [np.asarray(x) for x in inputs]
        bound = function.signature(function.specs_of(arrays))
        sizes, _ = bound.trace.fits(arrays)
        bound.plan(sizes, False).run_into(*arrays, outputs=results)
        for result, value in zip(results, want, strict=True):
            np.testing.assert_array_equal(result, value, err_msg=sample.name)
        assert (memory[is_mark] == MARK).all(), sample.name


MARK = 0x5A


def between_marks(arrays):
    """Copies of arrays in one memory: its bytes, which of them are marks, the copies."""
    starts, end = [], 64
    for array in arrays:
        starts.append(end)
        end = (end + array.nbytes + 127) // 64 * 64  # 64 bytes or more behind it
    memory = np.full(end + 64, MARK, np.uint8)
    memory = memory[-memory.ctypes.data % 64 :][:end]
    is_mark = np.ones(end, bool)
    copies = []
    for array, start in zip(arrays, starts, strict=True):
        piece = slice(start, start + array.nbytes)
        is_mark[piece] = False
        copies.append(memory[piece].view(array.dtype).reshape(array.shape))
        copies[-1][...] = array
    return memory, is_mark, copies


def filled(spec: Spec) -> np.ndarray:
    if spec.dtype in ("float32", "float64"):
        return np.full(spec.shape, np.nan, spec.dtype)
    return np.full(spec.shape, True if spec.dtype == "bool" else 99, spec.dtype)


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)
