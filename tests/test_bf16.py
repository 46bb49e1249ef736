"""bfloat16: the dot products bit for bit, dtype policies as in Keras, training, files."""

import itertools
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import handmill
from handmill import config, layers, ops
from handmill.datasets import digits
from handmill.inspection.comparison import compare_function
from handmill.ir.gradient import gradients
from handmill.ir.graph import Graph
from handmill.ir.op import REGISTRY
from handmill.ir.passes import dce
from handmill.ir.shapes import DTYPES, Spec, numpy_dtype
from handmill.ir.trace import apply
from handmill.runtime.function import TracedFunction
from levels import levels

pytest.importorskip("ml_dtypes")
from bf16_dot import pair_products

try:
    from handmill import _core
except ImportError:  # a build without kernels
    _core = None
needs_core = pytest.mark.skipif(_core is None, reason="a build without kernels")
BFLOAT16 = numpy_dtype("bfloat16")
LEVELS = config.available_isas()


@pytest.fixture(autouse=True)
def policy_of_before():
    before = config.dtype_policy()
    yield
    config.set_dtype_policy(before)


# The kernel against the instruction's definition.


def product(a, b, transpose_a=False, transpose_b=False, dtype="float32", isa=None):
    """A program of one product at one level, run once."""
    sizes = [a.shape[::-1] if transpose_a else a.shape, b.shape[::-1] if transpose_b else b.shape]
    shape = (sizes[0][0], sizes[1][1])
    attrs = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    specs = [(a.dtype.name, a.shape), (b.dtype.name, b.shape), (dtype, shape)]
    program = _core.Program(
        values=[(DTYPES.index(name), dims) for name, dims in specs],
        inputs=[0, 1], constants=[], variables=[], outputs=[2], updates=[], feeds=[],
        nodes=[("matmul_bf16", (0, 1), (2,), attrs, (), "", None)],
    )  # fmt: skip
    return program.specialize([], isa=isa or _core.isa()).bind()(a, b)


def slices_of(m, n, k):
    """The slices of K that core/lower/matmul/plan.cpp takes: of the shape alone."""
    flop = 2.0 * m * n * k
    wanted = math.ceil(flop / 0.6e6) if flop >= 0.6e6 else 1
    if flop >= 4.8e6:
        wanted = int(min(32.0, 8.0 * math.sqrt(flop / 4.8e6)))
    slices = 1
    if -(-m // 6) * -(-n // 64) < 4 * wanted:
        while slices * 2 <= min(wanted, k // 512):
            slices *= 2
    return slices


def assert_same_bits(got, want):
    kind = np.uint16 if got.dtype.itemsize == 2 else np.uint32
    nan = np.isnan(got.astype(np.float32)) & np.isnan(want.astype(np.float32))
    different = (got.view(kind) != want.view(kind)) & ~nan
    where = np.argwhere(different)[:3]
    assert not different.any(), (where, got[different][:3], want[different][:3])


SHAPES = [
    (1, 1, 1), (1, 2, 1), (3, 5, 7), (6, 64, 64), (7, 65, 65), (33, 130, 100), (13, 17, 129),
    (5, 1030, 10), (1, 600, 700), (1, 2050, 200), (300, 34, 20), (4, 0, 3),
    pytest.param((17, 4097, 70), marks=pytest.mark.slow, id="17x4097x70"),
]  # fmt: skip


@pytest.mark.slow
@needs_core
@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_sums_have_the_bits_of_the_instruction(shape, level):
    """All layouts and dtypes; small products also over the whole range of exponents."""
    m, k, n = shape
    rng = np.random.default_rng(m + k + n)
    for turned_a, turned_b in itertools.product((False, True), repeat=2):
        for dtypes in itertools.product((BFLOAT16, np.dtype(np.float32)), repeat=2):
            a = rng.standard_normal((k, m) if turned_a else (m, k)).astype(np.float32)
            b = rng.standard_normal((n, k) if turned_b else (k, n)).astype(np.float32)
            if m * k * n < 50_000:
                a, b = (np.ldexp(x, rng.integers(-90, 70, x.shape)) for x in (a, b))
            a, b = a.astype(dtypes[0]), b.astype(dtypes[1])
            plain = (a.T if turned_a else a, b.T if turned_b else b)
            want = pair_products(*plain, slices=slices_of(m, n, k))
            for dtype in ("float32", "bfloat16"):
                got = product(a, b, turned_a, turned_b, dtype, level)
                assert_same_bits(got, want.astype(numpy_dtype(dtype)))


@needs_core
@pytest.mark.parametrize("level", levels())
def test_small_large_and_special_numbers(level):
    """Around underflow and overflow, NaN, infinities, denormals, zeros of both signs."""
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 1 << 16, (2, 64, 62), dtype=np.uint16)
    exponents = np.concatenate([rng.integers(50, 80, 31), rng.integers(180, 196, 31)])
    near = (bits & 0x807F) | (exponents.astype(np.uint16) << 7)
    for a, b in ((bits[0], bits[1]), (near[0], near[1])):
        a, b = a.view(BFLOAT16), np.ascontiguousarray(b.T).view(BFLOAT16)
        assert_same_bits(product(a, b, isa=level), pair_products(a, b))


@needs_core
def test_bits_do_not_depend_on_threads_or_level():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((96, 2050)).astype(np.float32)
    b = rng.standard_normal((2050, 130)).astype(BFLOAT16)
    before, found = config.num_threads(), set()
    try:
        for threads, level in itertools.product((1, 2, 3, 7), LEVELS[1:]):
            config.set_num_threads(threads)
            found.add(product(a, b, isa=level).tobytes())
    finally:
        config.set_num_threads(before)
    assert len(found) == 1


@needs_core
@pytest.mark.parametrize("level", levels())
def test_the_floating_point_mode_stays(level):
    """Denormals count as zero inside a product only."""
    tiny = np.full((8, 8), 1e-20, np.float32)
    assert not product(tiny, tiny, isa=level).any()
    assert np.float32(1e-20) * np.float32(1e-20) > 0
    with use_level(level):
        assert ops.multiply(tiny, tiny).min() > 0


class use_level:
    def __init__(self, level):
        self.level = level

    def __enter__(self):
        self.before = config.isa()
        config.set_isa(self.level)

    def __exit__(self, *exc):
        config.set_isa(self.before)


@needs_core
@pytest.mark.parametrize(
    ("values", "attrs", "message"),
    (
        ([("int32", (2, 3)), ("float32", (3, 4)), ("float32", (2, 4))], {}, "float32 or bfloat16"),
        ([("bfloat16", (2, 3)), ("bfloat16", (4, 4)), ("float32", (2, 4))], {}, "do not fit"),
        ([("bfloat16", (2, 3)), ("bfloat16", (3, 4)), ("int32", (2, 4))], {}, "result must be"),
        ([("bfloat16", (2, 3)), ("bfloat16", (3, 4)), ("float32", (2, 4))], {"has_bias": True},
         "another number of operands"),
    ),
)  # fmt: skip
def test_lowering_refuses(values, attrs, message):
    program = _core.Program(
        values=[(DTYPES.index(name), dims) for name, dims in values],
        inputs=[0, 1], constants=[], variables=[], outputs=[2], updates=[], feeds=[],
        nodes=[("matmul_bf16", (0, 1), (2,), attrs, (), "", None)],
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        program.specialize([])


@needs_core
@pytest.mark.parametrize("level", levels())
def test_conversions_are_those_of_ml_dtypes(level):
    """All bfloat16 there and back; random float32 bits, ties and NaN among them."""
    halves = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(BFLOAT16)
    bits = np.random.default_rng(5).integers(0, 1 << 32, 200_000, dtype=np.uint32)
    bits[::3] = bits[::3] & 0xFFFF0000 | 0x8000
    floats = bits.view(np.float32)
    with use_level(level), np.errstate(all="ignore"):
        for make in (ops.cast, through_a_program):
            wide = make(halves, "float32")
            assert wide.dtype == np.float32
            assert_same_bits(wide, halves.astype(np.float32))
            assert_same_bits(make(wide, "bfloat16"), halves)
            assert_same_bits(make(floats, "bfloat16"), floats.astype(BFLOAT16))


def through_a_program(x, dtype):
    return TracedFunction(lambda value: ops.cast(value, dtype), "cast")(x)


# Every operator with operands of bfloat16.


def bfloat16_cases():
    for op in sorted(REGISTRY.values(), key=lambda op: op.name):
        usable = [s for s in op.samples() if not s.bench]
        for sample in usable[:1]:
            inputs = sample.make(np.random.default_rng(1))
            floats = [x for x in inputs if x.dtype == np.float32]
            if op.elementwise and floats and op.name != "float32_to_bfloat16":
                yield pytest.param(op, sample, id=op.name)


@needs_core
@pytest.mark.parametrize(("op", "sample"), list(bfloat16_cases()))
@pytest.mark.parametrize("level", levels())
def test_elementwise_operators_compute_in_float32_and_round(op, sample, level):
    inputs = [
        x.astype(BFLOAT16) if x.dtype == np.float32 else x
        for x in sample.make(np.random.default_rng(1))
    ]
    attrs = dict(sample.attrs)
    with use_level(level):
        function = TracedFunction(lambda *values: apply(op, *values, **attrs), op.name)
        spec = op.infer(*(Spec(x.shape, x.dtype.name) for x in inputs), **attrs)
        assert function(*inputs).dtype.name == spec.dtype
        compare_function(function, inputs).raise_if_failed()
        rows = function.plan(*inputs).summary()
    assert [row["kernel"] for row in rows if row["host"]] == []


@pytest.mark.parametrize("backend", (("native",) if _core else ()) + ("numpy",))
def test_functions_on_arrays(backend):
    x = np.linspace(-2, 2, 12).astype(BFLOAT16).reshape(3, 4)
    with config.use_backend(backend):
        wide = x.astype(np.float32)
        np.testing.assert_array_equal(ops.add(x, x), (wide + wide).astype(BFLOAT16))
        assert ops.add(x, 1.0).dtype == BFLOAT16
        assert ops.matmul(x, x.T).dtype == BFLOAT16
        np.testing.assert_array_equal(ops.matmul(x, x.T), (wide @ wide.T).astype(BFLOAT16))
        np.testing.assert_array_equal(ops.cast(x, "float32"), wide)
        assert ops.sum(x, axis=0).dtype == BFLOAT16
        assert ops.add(x, wide).dtype == np.float32
        np.testing.assert_array_equal(ops.transpose(x), x.T)
        np.testing.assert_array_equal(ops.reshape(x, (4, 3)), x.reshape(4, 3))
        np.testing.assert_array_equal(ops.argmax(x, axis=1), np.argmax(wide, axis=1))


# Policies.


def test_policies_have_keras_names_and_dtypes():
    policy = handmill.DTypePolicy("mixed_bfloat16")
    assert (policy.name, policy.compute_dtype, policy.variable_dtype) == (
        "mixed_bfloat16", "bfloat16", "float32",
    )  # fmt: skip
    assert repr(policy) == '<DTypePolicy "mixed_bfloat16">'
    assert policy == handmill.DTypePolicy("mixed_bfloat16") != handmill.DTypePolicy("bfloat16")
    assert handmill.mixed_precision.Policy is handmill.DTypePolicy
    handmill.mixed_precision.set_global_policy("mixed_bfloat16")
    assert config.dtype_policy() == policy
    assert handmill.dtype_policies.get(None) == policy
    assert handmill.dtype_policies.deserialize(handmill.dtype_policies.serialize(policy)) == policy
    assert layers.Dense(3).dtype_policy == policy
    assert layers.Dense(3, dtype="float32").compute_dtype == "float32"
    assert layers.Dense(3, dtype=handmill.DTypePolicy("bfloat16")).variable_dtype == "bfloat16"
    config.set_dtype_policy("float32")
    assert layers.Dense(3).dtype_policy.name == "float32"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    (
        (lambda: config.set_dtype_policy("mixed_float16"), ValueError, "mixed_bfloat16"),
        (lambda: config.set_dtype_policy("brain"), ValueError, "Cannot convert 'brain'"),
        (lambda: config.set_dtype_policy(16), ValueError, "Invalid `policy` argument"),
        (lambda: config.set_dtype_policy(None), ValueError, "Invalid `policy` argument"),
        (lambda: handmill.DTypePolicy(3), TypeError, "'name' must be a string"),
        (lambda: layers.Dense(3, dtype="bfloat17"), ValueError, "unknown `dtype`"),
        (lambda: layers.Dense(3, dtype={"config": 3}), ValueError, "not the config of"),
        (lambda: layers.Dense(3, dtype=[1]), ValueError, "Cannot interpret `dtype`"),
    ),
)
def test_policies_that_do_not_exist(call, error, message):
    with pytest.raises(error, match=message):
        call()
    assert config.dtype_policy().name == "float32"


def digits_model(policy, seed=0, width=64):
    """Logits in the policy's dtype, softmax in float32, as Keras advises."""
    handmill.utils.set_random_seed(seed)
    config.set_dtype_policy(policy)
    model = handmill.Sequential(
        [
            handmill.Input((64,)),
            layers.Dense(width, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.1),
            layers.Dense(10),
            layers.Activation("softmax", dtype="float32"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def digits_data():
    (x, y), (x_test, y_test) = digits.load_data()
    return x.reshape(len(x), -1) / 16.0, y, x_test.reshape(len(x_test), -1) / 16.0, y_test


def test_mixed_bfloat16_keeps_float32_weights_and_gives_bfloat16():
    model = digits_model("mixed_bfloat16")
    assert {v.dtype for v in model.weights} == {"float32"}
    assert [layer.output.dtype for layer in model.layers] == ["bfloat16"] * 4 + ["float32"]
    assert model.compute_dtype == "bfloat16"
    dense = model.layers[0]
    x = np.ones((2, 64), np.float32)
    assert dense(x).dtype == BFLOAT16
    assert model(x).dtype == np.float32
    assert model.predict(x, verbose=0).dtype == np.float32


def test_pure_bfloat16_trains():
    x, y, x_test, y_test = digits_data()
    model = digits_model("bfloat16")
    assert {v.dtype for v in model.weights} == {"bfloat16"}
    model.fit(x, y, batch_size=64, epochs=20, verbose=0)
    assert {v.dtype for v in model.weights} == {"bfloat16"}
    assert model.evaluate(x_test, y_test, verbose=0)[1] > 0.85


@pytest.mark.slow
@needs_core
def test_mixed_bfloat16_trains_as_well_as_float32_without_host_nodes():
    x, y, x_test, y_test = digits_data()
    accuracy = {}
    for policy in ("float32", "mixed_bfloat16"):
        found = []
        for seed in range(3):
            model = digits_model(policy, seed)
            model.fit(x, y, batch_size=64, epochs=20, verbose=0)
            found.append(model.evaluate(x_test, y_test, verbose=0)[1])
        accuracy[policy] = np.mean(found)
        function, arrays = model.step_to_compare(x[:64].astype(np.float32), y[:64])
        rows = function.plan(*arrays).summary()
        assert [row["kernel"] for row in rows if row["host"]] == []
        kernels = {row["kernel"] for row in rows}
        is_mixed = policy != "float32"
        assert ("matmul_bf16" in kernels, "matmul" in kernels) == (is_mixed, not is_mixed)
        lines = []
        model.summary(print_fn=lines.append)
        named = " Dtype policy: mixed_bfloat16, float32" in "\n".join(lines)
        assert named == is_mixed
    assert abs(accuracy["float32"] - accuracy["mixed_bfloat16"]) < 0.02


@needs_core
@pytest.mark.parametrize("level", levels())
def test_compare(level):
    x, y, _, _ = digits_data()
    with use_level(level):
        model = digits_model("mixed_bfloat16")
        handmill.compare(model, x[:50].astype(np.float32), y[:50]).raise_if_failed()


@needs_core
def test_training_is_the_same_on_any_number_of_threads():
    x, y, _, _ = digits_data()
    before, found = config.num_threads(), set()
    try:
        for threads in (1, 2, 3, 7):
            config.set_num_threads(threads)
            model = digits_model("mixed_bfloat16", width=192)
            model.fit(x, y, batch_size=96, epochs=2, verbose=0)
            found.add(b"".join(v.numpy().tobytes() for v in model.weights))
    finally:
        config.set_num_threads(before)
    assert len(found) == 1


@needs_core
def test_both_executors_train_alike():
    x, y, _, _ = digits_data()
    losses = {}
    for backend in ("native", "numpy"):
        with config.use_backend(backend):
            model = digits_model("mixed_bfloat16")
            history = model.fit(x[:512], y[:512], batch_size=64, epochs=2, verbose=0)
            losses[backend] = history.history["loss"]
    np.testing.assert_allclose(losses["native"], losses["numpy"], rtol=0.02)


def test_a_window_of_one_place_multiplies_by_the_weight_itself():
    """As Dense does: the weight is rounded while it is packed, its gradient is not rounded."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 4, 17)).astype(np.float32)
    found = {}
    for make in (layers.Dense, lambda n, **more: layers.Conv2D(n, 1, **more)):
        layer = make(6, dtype="mixed_bfloat16")
        layer.build(x.shape)
        shape = layer.kernel.shape
        layer.kernel.assign(np.random.default_rng(1).standard_normal((17, 6)).reshape(shape))
        with handmill.GradientTape() as tape:
            loss = ops.sum(ops.square(ops.cast(layer(x), "float32")))
        by_kernel = np.asarray(tape.gradient(loss, layer.kernel))
        found.setdefault("gradient", []).append(by_kernel.reshape(17, 6))
        found.setdefault("value", []).append(np.asarray(layer(x)).astype(np.float32))
    for dense, convolution in found.values():
        assert np.array_equal(dense, convolution)
    gradient = found["gradient"][0]
    assert not np.array_equal(gradient, gradient.astype(BFLOAT16).astype(np.float32))


@pytest.mark.parametrize("policy", ("mixed_bfloat16", "bfloat16"))
def test_files_and_configs_keep_the_policy(policy, tmp_path):
    x, y, _, _ = digits_data()
    model = digits_model(policy)
    model.fit(x[:128], y[:128], batch_size=64, verbose=0)
    model.save(tmp_path / "model.hmill")
    config.set_dtype_policy("float32")
    again = handmill.saving.load_model(tmp_path / "model.hmill")
    assert [layer.dtype_policy for layer in again.layers] == [
        layer.dtype_policy for layer in model.layers
    ]
    for a, b in zip(model.weights, again.weights, strict=True):
        assert a.dtype == b.dtype
        assert a.numpy().tobytes() == b.numpy().tobytes()
    assert model(x[:5]).tobytes() == again(x[:5]).tobytes()
    again.fit(x[:128], y[:128], batch_size=64, verbose=0)
    made = handmill.Sequential.from_config(model.get_config())
    assert [layer.dtype_policy.name for layer in made.layers][:4] == [policy] * 4


def test_integer_inputs_and_autocast():
    """Integers stay integers; autocast=False leaves inputs and weights as they are."""

    class Scale(layers.Layer):
        def build(self, input_shape):
            self.factor = self.add_weight((input_shape[-1],), initializer="ones")
            self.plain = self.add_weight((input_shape[-1],), initializer="ones", autocast=False)

        def call(self, x):
            self.seen = (x.dtype, ops.dtype(self.factor.value), ops.dtype(self.plain.value))
            return ops.multiply(x, self.factor)

    layer = Scale(dtype="mixed_bfloat16")
    assert layer(np.ones((2, 3), np.float32)).dtype == BFLOAT16
    assert layer.seen == ("bfloat16", "bfloat16", "float32")
    assert layer(np.ones((2, 3), np.int32)).dtype == BFLOAT16
    assert layer.seen[0] == "int32"
    kept = Scale(dtype="mixed_bfloat16", autocast=False)
    assert kept(np.ones((2, 3), np.float32)).dtype == np.float32
    assert kept.seen == ("float32", "float32", "float32")


def test_policies_behave_as_in_keras(keras):
    """Dtypes of layers, weights and outputs, and the numbers, beside Keras itself."""
    x = np.random.default_rng(0).normal(size=(16, 12)).astype(np.float32)
    found = {}
    for library in (keras, handmill):
        made = []
        for dtype in ("float32", "mixed_bfloat16", "bfloat16"):
            model = library.Sequential(
                [
                    library.Input((12,)),
                    library.layers.Dense(8, activation="relu", dtype=dtype),
                    library.layers.Dense(4, dtype=dtype),
                ]
            )
            rng = np.random.default_rng(1)
            model.set_weights([rng.normal(size=w.shape).astype(np.float32) for w in model.weights])
            y = np.asarray(model(x))
            about = [
                (layer.compute_dtype, layer.variable_dtype, layer.dtype, layer.dtype_policy.name)
                for layer in model.layers
            ]
            kinds = [str(w.dtype) for w in model.weights]
            config_dtype = model.get_config()["layers"][1]["config"]["dtype"]
            made.append((about, kinds, y.dtype.name, config_dtype, y.astype(np.float32)))
        found[library.__name__] = made
    for ours, theirs in zip(found["handmill"], found["keras"], strict=True):
        assert ours[:3] == theirs[:3]
        assert ours[3]["config"] == theirs[3]["config"]
        tolerance = 1e-5 if theirs[2] == "float32" else 2.0**-6
        np.testing.assert_allclose(ours[4], theirs[4], rtol=tolerance, atol=tolerance * 10)


@pytest.mark.parametrize(
    ("seeds", "epochs", "within"),
    (
        pytest.param(1, 2, 0.005, marks=pytest.mark.slow),
        pytest.param(5, 4, 0.001, marks=pytest.mark.long),
    ),
)
@needs_core
def test_mnist_accuracy_is_that_of_float32(seeds, epochs, within):
    """Within 0.1 % of float32, mean over five seeds; one alone says whether it learns."""
    folder = Path(os.environ.get("HANDMILL_DATA", Path(__file__).parents[2] / "shared/data"))
    if not (folder / "mnist.npz").exists():
        pytest.skip("no mnist.npz in HANDMILL_DATA")
    with np.load(folder / "mnist.npz") as data:
        x, y = data["x_train"].reshape(60000, 784), data["y_train"]
        x_test, y_test = data["x_test"].reshape(10000, 784), data["y_test"]
    x, x_test = (np.asarray(part / 255.0, np.float32) for part in (x, x_test))
    accuracy = {}
    for policy in ("float32", "mixed_bfloat16"):
        found = []
        for seed in range(seeds):
            handmill.utils.set_random_seed(seed)
            config.set_dtype_policy(policy)
            model = handmill.Sequential(
                [handmill.Input((784,)), layers.Dense(256, activation="relu"),
                 layers.Dense(128, activation="relu"), layers.Dense(10),
                 layers.Activation("softmax", dtype="float32")]
            )  # fmt: skip
            model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
            for rate in (1e-3, 2e-4):
                model.optimizer.learning_rate = rate
                model.fit(x, y, batch_size=128, epochs=epochs, verbose=0)
            found.append(model.evaluate(x_test, y_test, verbose=0)[1])
        accuracy[policy] = np.mean(found)
        print(policy, np.mean(found), found, file=sys.stderr)
    assert accuracy["mixed_bfloat16"] >= accuracy["float32"] - within


def test_a_change_of_shape_does_not_hide_what_was_rounded():
    """A product rounds while it packs, so weights that are kept packed are rounded once."""
    graph = Graph()
    with graph:
        x = graph.input(Spec((5, 4), "bfloat16"), "x")
        w = graph.input(Spec((2, 2, 3)), "w")
        y = ops.matmul(x, ops.reshape(ops.cast(w, "bfloat16"), (4, 3)))
        (dw,) = gradients(graph, ops.sum(ops.cast(y, "float32")), [w])
        graph.outputs = [y, dw]
    assert [v.dtype for v in y.node.inputs] == ["bfloat16", "float32"]
    assert dw.dtype == "float32"
    names = [node.op.name for node in dce(graph).nodes]
    assert names.count("float32_to_bfloat16") == 0
