"""What the records claim against what there is: kernels, opcodes, gradients, documents."""

from __future__ import annotations

import doctest
import importlib
import inspect
import operator
import pkgutil

import numpy as np
import pytest

from handmill import ops, primitives
from handmill.ir import bfloat16
from handmill.ir.op import REGISTRY
from handmill.ir.shapes import Spec
from handmill.ir.tile import CONVERT

try:
    from handmill import _core
except ImportError:  # a build without kernels
    _core = None

needs_core = pytest.mark.skipif(_core is None, reason="a build without kernels")
OPS = sorted(REGISTRY.values(), key=lambda op: op.name)
PUBLIC = [*ops.__all__, *(f"image.{name}" for name in ops.image.__all__)]

PLAIN_SAMPLES = {"4x5x3x2_2x3x2", "4x3x5x2_2x2x2", "columns_5x3"} | {
    *("window_12", "window_7", "window_1"),
}
"""Of operators with a kernel, which these do without: three spatial axes, orders of columns,
Fourier transforms of other lengths than powers of two."""

# Operators that run on the host: networks rarely need them.
WITHOUT_KERNEL = {"argsort", "hash_bin", "cross_bin", "ctc_decode"} | {
    *("floor_divide", "mod", "bitwise_and", "bitwise_or", "bitwise_xor", "fmod", "gcd", "lcm"),
    *("left_shift", "right_shift", "bitcast", "searchsorted", "isin", "cumprod"),
    *("bessel_i", "signbit", "cbrt", "nextafter", "ldexp"),
    *("segment_max", "segment_min", "segment_prod", "erfc", "erfinv", "fft"),
    *("cholesky", "solve", "solve_triangular", "inv", "det", "slogdet", "pinv"),
    *("eig", "eigh", "qr", "svd", "lu_factor"),
    *("random_truncated_normal", "random_integers"),
    *("random_gamma", "random_beta", "random_binomial"),
    "max_pool_gather",
}
# Float results without a gradient: derivatives and updates come after the last gradient, as do the
# sums of rows that updates need; products with epilogues are built by a pass that runs later still.
WITHOUT_GRADIENT = {"linear", "conv_linear", "conv_input_linear", "sum_rows"} | {
    *("eig", "lu_factor", "ctc_decode"),
    *("random_gamma", "random_beta", "random_binomial"),
}
WITHOUT_GRADIENT |= {n for n in REGISTRY if n.endswith(("_grad", "_update"))}
# Instructions that passes and the core use by themselves.
WITHOUT_OPERATOR = {"truth"} | {
    *("to_float32", "to_float64", "to_int32", "to_int64"),
    *("wrap_int8", "wrap_uint8", "clamp_int8", "clamp_uint8"),
}
# In Keras these are activations only.
BEYOND_KERAS = {"mish"}


def modules():
    places = (ops, primitives)
    return [m.name for p in places for m in pkgutil.walk_packages(p.__path__, f"{p.__name__}.")]


def first_specs(op):
    inputs = next(iter(op.samples())).make(np.random.default_rng(0))
    return [Spec(a.shape, a.dtype.name) for a in inputs]


def outputs_of(op):
    sample = next(iter(op.samples()))
    specs = op.infer(*first_specs(op), **sample.attrs)
    return specs if isinstance(specs, tuple) else (specs,)


NOT_DIFFERENTIABLE = {
    "argmax argmin argsort increment one_hot size_along check_labels": "integers",
    "hash_bin cross_bin": "integers",
    "isfinite isnan isinf logical_not": "booleans",
    "searchsorted isin bitcast": "places, membership, bytes",
    "random_uniform random_normal row_seeds advance_seed": "drawn from a seed, not from floats",
    "random_truncated_normal random_integers random_order": "drawn from a seed, not from floats",
    "random_gamma random_beta random_binomial": "accepted or rejected, which has no slope",
    "ctc_decode": "a search for labels",
    "choose_token": "a draw among tokens",
    "unpack_int4 int8_conv int8_depthwise to_bytes": "integers",
    "eig lu_factor": "for matrices that are not symmetric; exchanges of rows",
    "sparse_match dense_match accumulate_mean": "counts of metrics",
    "sgd_update momentum_update adam_update rmsprop_update adagrad_update": "updates in place",
    "rows_sgd_update rows_momentum_update rows_adam_update rows_rmsprop_update "
    "rows_adagrad_update sum_rows": "updates in place, and what they need of a gradient",
}


def test_every_operator_that_can_has_a_gradient():
    """Twice differentiable means that a vjp emits operators that have one themselves."""
    named = {name for names in NOT_DIFFERENTIABLE for name in names.split()}
    assert {op.name for op in OPS if op.vjp is None and op.composite is None} == named


@needs_core
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_kernel_exists(op):
    assert op.kernel is None or op.tile in (None, CONVERT)
    if op.tile == CONVERT:
        assert "to_int32" in _core.tile_opcodes()
        assert op.kernel in _core.lowering_rules()
    elif op.tile is not None:
        assert op.tile in _core.tile_opcodes()
    elif op.kernel is not None:
        assert op.kernel in _core.lowering_rules()
    else:
        assert op.transparent or op.flow is not None or op.name in WITHOUT_KERNEL


@needs_core
def test_every_instruction_has_an_operator():
    used = {op.tile for op in OPS}
    assert set(_core.tile_opcodes()) - used == WITHOUT_OPERATOR


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_record_is_consistent(op):
    samples = list(op.samples())
    if not samples and "bf" in op.name and not bfloat16.is_available():
        pytest.skip("needs ml_dtypes")
    assert samples, "no samples"
    assert len({s.name for s in samples}) == len(samples), "two samples of one name"
    inputs, outputs = first_specs(op), outputs_of(op)
    if isinstance(op.bound, tuple):
        assert len(op.bound) == len(outputs)
    assert all(i < len(outputs) and j < len(inputs) for i, j in op.alias)
    draws = np.random.default_rng(0)
    most = max((len(s.make(draws)) for s in samples if op.grad_none and not s.bench), default=0)
    assert all(i < most for i in op.grad_none)
    for _, name, positions in op.also:
        assert name in REGISTRY
        assert all(i < len(inputs) for i in positions)
    if op.tile_imm is not None:
        assert len(op.tile_imm(dict(samples[0].attrs))) <= 2
    assert hash(tuple(samples[0].attrs.items())) is not None


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_gradient_is_declared(op):
    if op.vjp is not None or op.name in WITHOUT_GRADIENT:
        return
    floats = [i for i, s in enumerate(first_specs(op)) if s.is_float]
    makes_float = any(s.is_float for s in outputs_of(op))
    assert not makes_float or set(floats) <= set(op.grad_none)


@pytest.mark.parametrize("op", [op for op in OPS if op.epilogue], ids=lambda op: op.name)
def test_epilogues_name_operators(op):
    kind, name = op.epilogue
    expected = {
        "scale": op.name,
        "bias": op.name,
        "bytes": "to_bytes",
        "activation": name,
        "act_grad": f"{name}_grad",
    }
    assert op.name == expected[kind]


@needs_core
@pytest.mark.parametrize("kind", ("activation", "act_grad"))
def test_every_epilogue_of_the_kernels_is_an_operator(kind):
    declared = {op.epilogue[1] for op in OPS if op.epilogue and op.epilogue[0] == kind}
    assert set(_core.epilogues()[kind]) == declared


@pytest.mark.parametrize("name", PUBLIC)
def test_public_function_is_documented(name):
    function = operator.attrgetter(name)(ops)
    text = inspect.getdoc(function)
    assert text, "no docstring"
    assert "Example:" in text
    assert ">>>" in text
    documented = text.partition("Args:")[2]
    parameters = inspect.signature(function).parameters
    if documented:
        assert all(f"{parameter}:" in documented for parameter in parameters)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(modules()))
def test_examples(name):
    module = importlib.import_module(name)
    flags = doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(module, optionflags=flags).failed == 0


@pytest.mark.peers
@pytest.mark.parametrize("name", sorted(set(PUBLIC) - BEYOND_KERAS))
def test_signature_is_that_of_keras(name):
    """Parameters have the names and defaults of keras.ops."""
    keras_ops = pytest.importorskip("keras.ops", reason="keras is not installed")
    theirs = dict(inspect.signature(operator.attrgetter(name)(keras_ops)).parameters)
    theirs.pop("kwargs", None)
    ours = inspect.signature(operator.attrgetter(name)(ops)).parameters
    assert list(ours) == list(theirs)
    for parameter in ours.values():
        default = theirs[parameter.name].default
        if parameter.default is not inspect.Parameter.empty and default is not None:
            assert parameter.default == default
