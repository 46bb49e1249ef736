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
from handmill.runtime.variable import Variable
from levels import levels

try:
    from handmill import _core
except ImportError:  # a build without kernels
    _core = None

pytestmark = [
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
        results = [Variable(filled(spec), name="result") for spec in specs]
        marks = [Variable(np.full(16, 7.5, np.float32), name="mark") for _ in range(len(specs) + 1)]
        line = [v for pair in zip(marks, results, strict=False) for v in pair] + [marks[-1]]
        _core.pack_states([v.state for v in line])

        def run(*values, op=op, sample=sample, results=results):
            found = apply(op, *values, **sample.attrs)
            for result, value in zip(results, as_tuple(found), strict=True):
                result.assign(value)
            return ()

        TracedFunction(run, op.name, batched=False)(*inputs)
        for result, value in zip(results, want, strict=True):
            np.testing.assert_array_equal(result.numpy(), value, err_msg=sample.name)
        for mark in marks:
            assert (mark.numpy() == 7.5).all(), sample.name


def filled(spec: Spec) -> np.ndarray:
    if spec.dtype in ("float32", "float64"):
        return np.full(spec.shape, np.nan, spec.dtype)
    return np.full(spec.shape, True if spec.dtype == "bool" else 99, spec.dtype)


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)
