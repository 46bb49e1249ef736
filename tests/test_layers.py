"""Layers: building, calling on arrays and on symbolic tensors, weights, losses, configs."""

import numpy as np
import pytest

import handmill
from handmill import layers, ops

X = np.arange(12, dtype="float32").reshape(4, 3)


@pytest.fixture(autouse=True)
def _fresh_names():
    handmill.utils.set_random_seed(0)
    handmill.utils.clear_session()


def test_names_are_numbered_as_in_keras():
    names = [layers.Dense(1).name, layers.Dense(1).name, layers.ReLU().name, layers.ELU().name]
    assert names == ["dense", "dense_1", "re_lu", "elu"]
    assert layers.BatchNormalization().name == "batch_normalization"


def test_dense_on_arrays():
    layer = layers.Dense(2, kernel_initializer="ones", bias_initializer="ones")
    got = layer(X)
    np.testing.assert_allclose(got, X.sum(1, keepdims=True).repeat(2, 1) + 1)
    assert [v.path for v in layer.weights] == ["dense/kernel", "dense/bias"]
    assert layer.count_params() == 8
    assert layer(X[:1].astype("float64")).dtype == np.float32


def test_dense_on_more_dimensions():
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    layer = layers.Dense(4)
    kernel = layer(x).shape, layer.kernel.numpy()
    assert kernel[0] == (2, 5, 4)
    np.testing.assert_allclose(layer(x), x @ kernel[1], rtol=1e-5, atol=1e-6)


def test_dense_without_bias_has_one_weight():
    layer = layers.Dense(2, use_bias=False)
    layer.build((None, 3))
    assert len(layer.weights) == 1
    assert layer.bias is None


def test_both_executors_agree():
    layer = layers.Dense(4, activation="gelu")
    native = layer(X)
    with handmill.use_backend("numpy"):
        np.testing.assert_allclose(layer(X), native, rtol=1e-5, atol=1e-6)


def test_flatten_reshape_rescaling():
    x = np.arange(24, dtype="uint8").reshape(2, 3, 4)
    assert layers.Flatten()(x).shape == (2, 12)
    assert layers.Reshape((4, -1))(x).shape == (2, 4, 3)
    np.testing.assert_allclose(layers.Rescaling(0.5, offset=1.0)(x), x * 0.5 + 1)
    first = layers.Flatten(data_format="channels_first")(x)
    np.testing.assert_array_equal(first, x.transpose(0, 2, 1).reshape(2, -1))


def test_dropout_only_while_training():
    layer = layers.Dropout(0.5, seed=3)
    x = np.ones((100, 100), "float32")
    np.testing.assert_array_equal(layer(x), x)
    dropped = layer(x, training=True)
    assert set(np.unique(dropped)) == {0.0, 2.0}
    assert abs((dropped == 0).mean() - 0.5) < 0.03
    assert (layer(x, training=True) != dropped).any()
    again = layers.Dropout(0.5, seed=3)
    np.testing.assert_array_equal(again(x, training=True), dropped)
    with handmill.use_backend("numpy"):
        same = layers.Dropout(0.5, seed=3)(x, training=True)
    np.testing.assert_array_equal(same, dropped)


def test_dropout_rates_at_the_ends():
    np.testing.assert_array_equal(layers.Dropout(0)(X, training=True), X)
    np.testing.assert_array_equal(layers.Dropout(1.0)(X, training=True), 0 * X)


def test_batch_normalization_modes():
    x = np.random.default_rng(1).normal(3, 2, (64, 5)).astype("float32")
    layer = layers.BatchNormalization(momentum=0.5)
    out = layer(x, training=True)
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(0), 1, atol=1e-3)
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.5 * x.mean(0), rtol=1e-5)
    before = layer.moving_mean.numpy()
    layer.trainable = False
    frozen = layer(x, training=True)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), before)
    np.testing.assert_array_equal(frozen, layer(x, training=False))


def test_merge_layers_need_several_inputs():
    with pytest.raises(ValueError, match="should be called on a list of inputs"):
        layers.Add()(X)
    with pytest.raises(ValueError, match="exactly 2 inputs"):
        layers.Subtract()([X, X, X])
    with pytest.raises(ValueError, match="matching shapes except"):
        layers.Concatenate(axis=1)([X, X[:, :, None]])
    np.testing.assert_array_equal(layers.add([X, X]), 2 * X)
    np.testing.assert_array_equal(layers.concatenate([X, X]), np.concatenate([X, X], 1))


def test_symbolic_calls_give_shapes():
    x = handmill.Input((3,), name="x")
    y = layers.Dense(5)(x)
    assert x.shape == (None, 3)
    assert y.shape == (None, 5)
    assert (y * 2.0 + 1.0).shape == (None, 5)
    assert ops.mean(y, axis=0).shape == (5,)
    assert y[:, :2].shape == (None, 2)
    assert y._keras_history.operation.name == "dense"


def test_symbolic_tensors_have_no_content():
    x = handmill.Input((3,))
    with pytest.raises(ValueError, match="has no content"):
        np.exp(x)
    with pytest.raises(TypeError, match="boolean"):
        bool(x)


def test_custom_layer_with_state_and_losses():
    class Count(layers.Layer):
        def build(self, input_shape):
            self.calls = self.add_weight((), initializer="zeros", trainable=False, name="calls")

        def call(self, inputs, training=False):
            if training:
                self.calls.assign_add(1.0)
            self.add_loss(ops.sum(inputs))
            return inputs

    layer = Count()
    layer(X)
    layer(X, training=True)
    layer(X, training=True)
    assert layer.calls.numpy() == 2
    np.testing.assert_allclose(layer.losses, [X.sum()])
    assert layer.trainable_weights == []


def test_weights_of_inner_layers_and_lists():
    class Block(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.first = layers.Dense(2)
            self.rest = [layers.Dense(2), {"x": layers.Dense(2)}]

        def call(self, inputs):
            y = self.first(inputs)
            return self.rest[1]["x"](self.rest[0](y))

    block = Block()
    assert block(X).shape == (4, 2)
    assert len(block.weights) == 6
    block.trainable = False
    assert block.trainable_weights == []
    assert not block.first.trainable
    assert len(block.non_trainable_weights) == 6


def test_training_argument_reaches_inner_layers():
    class Wrap(layers.Layer):
        def __init__(self):
            super().__init__()
            self.drop = layers.Dropout(0.9, seed=0)

        def call(self, inputs):
            return self.drop(inputs)

    x = np.ones((10, 10), "float32")
    wrap = Wrap()
    np.testing.assert_array_equal(wrap(x), x)
    assert (wrap(x, training=True) == 0).any()


def test_regularizers_show_in_losses():
    layer = layers.Dense(2, kernel_initializer="ones", kernel_regularizer="l2")
    layer(X)
    np.testing.assert_allclose(layer.losses, [0.06], rtol=1e-6)


def test_get_and_set_weights():
    layer = layers.Dense(2)
    layer.build((None, 3))
    new = [np.full((3, 2), 0.5, "float32"), np.ones(2, "float32")]
    layer.set_weights(new)
    for got, want in zip(layer.get_weights(), new, strict=True):
        np.testing.assert_array_equal(got, want)
    with pytest.raises(ValueError, match="weight list of length 1"):
        layer.set_weights(new[:1])
    with pytest.raises(ValueError, match="not compatible"):
        layer.set_weights([new[0], np.ones(3)])
    np.testing.assert_array_equal(layer.kernel.numpy(), new[0])


def test_weights_are_handed_out_as_copies_or_read_only():
    layer = layers.Dense(2)
    layer.build((None, 3))
    with pytest.raises(ValueError, match="read-only"):
        layer.kernel.value[0, 0] = 1.0
    layer.get_weights()[0][:] = 7.0
    assert (layer.kernel.numpy() != 7.0).all()


def test_custom_layer_config_is_taken_from_its_arguments():
    class Power(layers.Layer):
        def __init__(self, exponent, scale=1.0, **kwargs):
            super().__init__(**kwargs)
            self.exponent, self.scale = exponent, scale

        def call(self, inputs):
            return inputs**self.exponent * self.scale

    layer = Power(2.0, scale=3.0, name="p")
    config = layer.get_config()
    assert config["exponent"] == 2.0
    assert config["scale"] == 3.0
    np.testing.assert_allclose(Power.from_config(config)(X), 3 * X**2)


def test_serialize_round_trip():
    layer = layers.Dense(3, activation="tanh", kernel_initializer="he_normal")
    again = layers.deserialize(layers.serialize(layer))
    assert again.get_config() == layer.get_config()


def test_unknown_layer_names():
    with pytest.raises(ImportError, match=r"no layers\.TFSMLayer yet \(Keras has\)"):
        from handmill.layers import TFSMLayer  # noqa: F401
    assert not hasattr(layers, "TFSMLayer")
    with pytest.raises(AttributeError, match="Did you mean 'Dense'"):
        layers.Densse  # noqa: B018


def test_input_arguments():
    assert handmill.Input((2, 3), batch_size=4).shape == (4, 2, 3)
    assert handmill.Input(batch_shape=(None, 3)).shape == (None, 3)
    assert handmill.Input((3,), dtype="uint8").dtype == "uint8"
    with pytest.raises(ValueError, match="must pass a `shape`"):
        handmill.Input()
    with pytest.raises(ValueError, match="both `shape` and `batch_shape`"):
        handmill.Input((2,), batch_shape=(None, 2))
    with pytest.raises(ValueError, match="both `batch_size` and `batch_shape`"):
        handmill.Input(batch_size=2, batch_shape=(None, 2))
    with pytest.raises(ValueError, match="a tuple"):
        handmill.Input(3)
    with pytest.warns(UserWarning, match="`input_shape` is deprecated"):
        layer = layers.InputLayer(input_shape=(3,))
    assert layer.batch_shape == (None, 3)
    assert layers.InputLayer(batch_input_shape=(2, 3)).batch_shape == (2, 3)
    tensor = layer.output
    flags = [layer.sparse, layer.ragged, layer.optional, tensor.sparse, tensor.ragged]
    assert flags == [False] * 5


def test_a_policy_set_by_its_name():
    layer = layers.Dense(2)
    layer.dtype_policy = "mixed_bfloat16"
    assert layer.dtype_policy == handmill.dtype_policies.DTypePolicy("mixed_bfloat16")
    assert str(layer(X).dtype) == "bfloat16"
    assert layer.kernel.dtype == "float32"
    with pytest.raises(ValueError, match="float99"):
        layer.dtype_policy = "float99"
    assert layer.compute_dtype == "bfloat16"


def test_losses_are_those_of_the_last_call():
    class Sum(layers.Layer):
        def call(self, x):
            self.add_loss(ops.sum(x))
            return x

    inner = Sum()
    inner(np.ones(2, "float32"))
    for outer in (
        handmill.Sequential([inner]),
        handmill.Sequential([handmill.Sequential([inner])]),
    ):
        outer(np.ones((1, 3), "float32"))
        assert [float(loss) for loss in outer.losses] == [3.0]


def test_state_of_metrics_in_layers():
    class Watching(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(1)
            self.metric = handmill.metrics.Mean()

    layer = Watching()
    assert layer.metrics_variables == layer.metric.variables
    outer = handmill.Sequential([layers.Input((3,)), layer.inner])
    outer.compile("sgd", "mse", metrics=["mae", handmill.metrics.AUC(num_thresholds=3)])
    assert [v.path for v in outer.metrics_variables] == ["loss/total", "loss/count"]  # so far
    outer.fit(X, X[:, :1] > 3, verbose=0)
    names = ["total", "count"] * 2 + [f"{a}_{b}" for b in ("positives", "negatives") for a in TF]
    assert [v.name for v in outer.metrics_variables] == names


TF = ("true", "false")


@pytest.fixture
def channels_first():
    handmill.config.set_image_data_format("channels_first")
    yield
    handmill.config.set_image_data_format("channels_last")


@pytest.mark.usefixtures("channels_first")
def test_rescaling_by_channels_that_come_first():
    x = np.arange(24, dtype="float32").reshape(1, 3, 2, 4)
    factors, offsets = np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0, 3.0])
    want = x * factors[:, None, None] + offsets[:, None, None]
    layer = layers.Rescaling(factors.tolist(), offset=offsets.tolist())
    np.testing.assert_allclose(layer(x), want)
    model = handmill.Sequential([layers.Input(x.shape[1:]), layer])
    np.testing.assert_allclose(model.predict(x, verbose=0), want)
    np.testing.assert_allclose(layers.Rescaling(2.0)(x), 2 * x)


def test_a_name_in_the_place_of_a_shape():
    for given in ({"initializer": "ones"}, {"shape": (3,)}):
        with pytest.raises(ValueError, match=r"add_weight\(shape=\.\.\., name='scale'\)"):
            layers.Layer().add_weight("scale", **given)
    with pytest.raises(ValueError, match="`shape` was passed both positionally and as a keyword"):
        layers.Layer().add_weight((3,), shape=(3,))
    with pytest.raises(TypeError, match="at most 3 positional arguments"):
        layers.Layer().add_weight((3,), "ones", "float32", True)


def test_a_weight_is_not_made_in_a_call():
    class Late(layers.Layer):
        def call(self, x):
            self.w = self.add_weight((), "zeros", name="late")
            return x + self.w

    class Around(layers.Layer):  # what it calls may be built there
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(2)

        def call(self, x):
            return self.inner(x)

    with pytest.raises(ValueError, match=r"cannot add new elements of state.*'late'"):
        Late()(X)
    assert len(Around()(X)) == len(X)


def test_what_is_trainable_reaches_the_variables():
    class Block(layers.Layer):
        def build(self, shape):
            self.fixed = self.add_weight((), "ones", trainable=False, name="fixed")
            self.moved = self.add_weight((), "ones", name="moved")
            self.inner = layers.Dense(2)
            self.inner.build(shape)

    block = Block()
    block.build((None, 3))
    names = ["moved", "fixed", "kernel", "bias"]
    flags = [[True, False, True, True], [False] * 4, [True, False, True, True]]
    for trainable, want in zip((True, False, True), flags, strict=True):
        block.trainable = trainable
        assert [w.name for w in block.weights] == names  # the order of files, too
        assert [w.trainable for w in block.weights] == want
    block.moved.trainable = False
    assert [w.name for w in block.weights] == names
    assert [w.name for w in block.trainable_weights] == ["kernel", "bias"]
    block.trainable = True  # as in Keras: of all that were made trainable
    assert [w.name for w in block.trainable_weights] == ["moved", "kernel", "bias"]
    frozen = layers.Dense(2, trainable=False)
    frozen.build((None, 3))
    assert not frozen.kernel.trainable


def test_variables_in_a_call_have_the_dtype_in_which_they_are_read():
    found = {}

    class Looks(layers.Layer):
        def build(self, shape):
            self.cast = self.add_weight((), "ones", name="cast")
            self.kept = self.add_weight((), "ones", autocast=False, name="kept")
            self.count = self.add_weight((), "zeros", "int32", name="count")

        def call(self, x):
            found.update({v.name: v.dtype for v in (self.cast, self.kept, self.count)})
            return x * self.cast

    layer = Looks(dtype="mixed_bfloat16")
    assert handmill.ops.dtype(layer(X)) == "bfloat16"
    assert found == {"cast": "bfloat16", "kept": "float32", "count": "int32"}
    assert layer.cast.dtype == "float32"


def test_a_config_gives_constructors_the_name_of_the_dtype():
    given = []

    class Named(layers.Dense):
        def __init__(self, *args, dtype=None, **kwargs):
            given.append(dtype)
            super().__init__(*args, dtype=dtype, **kwargs)

    Named.from_config(Named(2, dtype="mixed_bfloat16").get_config())
    assert given == ["mixed_bfloat16", "mixed_bfloat16"]


def test_forgotten_super_init():
    class Broken(layers.Layer):
        def __init__(self):
            self.x = 1

    with pytest.raises((RuntimeError, AttributeError)):
        Broken()(X)


def test_leaky_relu_takes_its_older_argument():
    with pytest.warns(DeprecationWarning, match="negative_slope"):
        layer = layers.LeakyReLU(alpha=0.1)
    np.testing.assert_allclose(layer(-X), -0.1 * X, rtol=1e-6)


def test_calls_with_keywords_and_several_arrays():
    class Affine(layers.Layer):
        def call(self, x, scale=None, shift=0.0):
            return x * scale + shift

    got = Affine()(X, scale=2 * np.ones_like(X), shift=1.0)
    np.testing.assert_allclose(got, 2 * X + 1)
    np.testing.assert_allclose(Affine()(X, scale=X), X * X)


@pytest.mark.peers
def test_layers_without_weights_are_built_when_they_are_made(keras):
    makes = (
        lambda k: k.Activation("relu"),
        lambda k: k.ReLU(),
        lambda k: k.Softmax(),
        lambda k: k.Dropout(0.5),
        lambda k: k.SpatialDropout1D(0.5),
        lambda k: k.GaussianNoise(0.5),
        lambda k: k.UnitNormalization(),
        lambda k: k.Masking(),
        lambda k: k.Identity(),
        lambda k: k.Reshape((2, 3)),
        lambda k: k.Dense(2),
        lambda k: k.LayerNormalization(),
        lambda k: k.Add(),
    )
    for make in makes:
        ours, theirs = make(layers), make(keras.layers)
        assert ours.built == theirs.built, ours
        if ours.built:
            assert ours.count_params() == 0

    class Scaled(layers.Dropout):
        def build(self, input_shape):
            self.factor = self.add_weight((input_shape[-1],), initializer="ones")

        def call(self, inputs, training=False):
            return super().call(inputs, training) * self.factor

    layer = Scaled(0.5)
    assert not layer.built
    assert layer(np.ones((2, 3), "float32")).shape == (2, 3)
    assert layer.count_params() == 3


@pytest.mark.parametrize(
    ("spec", "shape", "problem"),
    (
        ({"dtype": "int32"}, (2, 3), "expected dtype=int32, found dtype=float32"),
        ({"shape": (None, 4)}, (2, 3), r"expected shape=\(None, 4\), found shape="),
        ({"shape": (None, 3)}, (2, 3, 1), "expected ndim=2, found ndim=3"),
        ({"shape": (None, 3), "allow_last_axis_squeeze": True}, (2, 3, 1), ""),
        ({"shape": (None, 3, 1), "allow_last_axis_squeeze": True}, (2, 3), ""),
        ({"shape": (None, 3), "allow_last_axis_squeeze": True}, (2, 4, 1), "expected shape="),
        ({"min_ndim": 3}, (2, 3), "expected min_ndim=3"),
        ({"max_ndim": 1}, (2, 3), "expected max_ndim=1"),
        ({"axes": {-1: 4}}, (2, 3), "axis -1 of input shape to have value 4"),
    ),
)
def test_input_specs(spec, shape, problem):
    class Asking(layers.Layer):
        def __init__(self):
            super().__init__()
            self.input_spec = layers.InputSpec(**spec)

        def call(self, x):
            return x

    x = np.ones(shape, "float32")
    if not problem:
        assert Asking()(x).shape == shape
        return
    for call in (lambda: Asking()(x), lambda: Asking()(handmill.Input(shape[1:]))):
        with pytest.raises(ValueError, match=problem):
            call()


def test_input_specs_by_name():
    class Two(layers.Layer):
        def __init__(self):
            super().__init__()
            self.input_spec = [
                layers.InputSpec(ndim=2, name="b"), layers.InputSpec(ndim=3, name="a")
            ]  # fmt: skip

        def call(self, x):
            return x["b"]

    a, b = np.ones((2, 3, 1), "float32"), np.ones((2, 3), "float32")
    assert Two()({"a": a, "b": b}).shape == (2, 3)
    with pytest.raises(ValueError, match=r'\("b"\).*expected ndim=2, found ndim=3'):
        Two()({"a": a, "b": a})
    with pytest.raises(ValueError, match='Missing data for input "a"'):
        Two()({"b": b, "c": a})
    spec = layers.InputSpec(dtype="float32", ndim=3, axes={"1": 4}, optional=True)
    assert spec.get_config() == {
        "dtype": "float32", "shape": None, "ndim": 3, "max_ndim": None, "min_ndim": None,
        "axes": {1: 4}, "optional": True,
    }  # fmt: skip
    assert layers.InputSpec.from_config(spec.get_config()).optional
    assert repr(spec) == "InputSpec(dtype=float32, ndim=3, axes={1: 4})"
    with pytest.raises(ValueError, match="Axis 3 is greater than the maximum allowed value: 2"):
        layers.InputSpec(ndim=3, axes={3: 1})
    with pytest.raises(TypeError, match="integer keys"):
        layers.InputSpec(axes={"a": 1})


def test_older_name_of_add_weight():
    layer = layers.Dense(2)
    made = layer.add_variable((3,), "ones", trainable=False, name="steps")
    assert made is layer.non_trainable_weights[0]
    np.testing.assert_array_equal(made.numpy(), np.ones(3))


def test_arguments_of_variables():
    variable = handmill.Variable(1.0, autocast=False, aggregation="mean")
    assert (variable.name, variable.autocast, variable.aggregation, variable.synchronization) == (
        "variable", False, "mean", "auto"
    )  # fmt: skip
    for given, problem in (
        ({"aggregation": "middle"}, "`aggregation`"),
        ({"synchronization": "never"}, "`synchronization`"),
        ({"layout": ("data", None)}, "`layout`"),
    ):
        with pytest.raises(ValueError, match=problem):
            handmill.Variable(1.0, **given)


def test_shapes_by_name_for_build():
    class Swapped(layers.Layer):
        def build(self, right_shape, left_shape):
            self.shapes = left_shape, right_shape

        def call(self, left, right):
            return ops.add(left, right)

    class Optional(layers.Layer):
        def build(self, x_shape, other_shape=None):
            self.shapes = x_shape, other_shape

        def call(self, x, other=None, training=None):
            return x if other is None else ops.add(x, other)

    left, right = np.ones((2, 3), "float32"), np.ones((2, 1), "float32")
    for layer, args, kwargs, shapes in (
        (Swapped(), (left, right), {}, ((None, 3), (None, 1))),
        (Swapped(), (left,), {"right": right}, ((None, 3), (None, 1))),
        (Optional(), (left,), {"other": right}, ((None, 3), (None, 1))),
        (Optional(), (left,), {"training": True}, ((None, 3), None)),
    ):
        layer(*args, **kwargs)
        assert layer.shapes == shapes
    one, two = (handmill.KerasTensor((None, n)) for n in (3, 1))
    layer = Swapped()
    layer(one, two)
    assert layer.shapes == ((None, 3), (None, 1))


@pytest.mark.parametrize(
    "make",
    (
        lambda: layers.Dense(2, activation="relu"),
        lambda: layers.EinsumDense("ab,bc->ac", 2, activation="relu"),
        lambda: layers.Activation("relu"),
    ),
    ids=("dense", "einsum_dense", "activation"),
)
def test_an_activation_taken_away(make):
    layer, x = make(), -X
    layer(x)
    layer.activation = None
    assert (layer(x) < 0).any()
    assert layer.get_config()["activation"] == "linear"


@pytest.mark.parametrize("kind", (TypeError, ValueError))
def test_a_config_that_a_constructor_refuses(kind):
    with pytest.raises(kind, match=r"Error when making Embedding.*`input_dim` must be a positive"):
        layers.Embedding.from_config({"input_dim": 3.7, "output_dim": 8})
