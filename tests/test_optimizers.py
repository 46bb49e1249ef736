"""Optimizers outside models: updates, state, older names, errors."""

import numpy as np
import pytest

import handmill
from handmill import optimizers
from handmill.optimizers import schedules


def variable(value=(1.0, 2.0)):
    return handmill.Variable(np.array(value, "float32"), name="w")


def test_sgd_formula():
    w = variable()
    optimizers.SGD(0.1).apply([np.array([1.0, -1.0], "float32")], [w])
    np.testing.assert_allclose(w.numpy(), [0.9, 2.1], rtol=1e-6)


def test_adam_first_step_is_the_rate():
    w = variable()
    opt = optimizers.Adam(0.1)
    opt.apply([np.array([3.0, -0.001], "float32")], [w])
    np.testing.assert_allclose(w.numpy(), [0.9, 2.1], rtol=1e-3)
    assert opt.iterations.numpy() == 1
    assert [v.shape for v in opt.variables] == [(), (), (2,), (2,)]


def test_apply_gradients_and_unknown_variables():
    w, other = variable(), variable()
    opt = optimizers.SGD(1.0)
    opt.apply_gradients([(np.ones(2, "float32"), w)])
    np.testing.assert_allclose(w.numpy(), [0.0, 1.0])
    with pytest.raises(ValueError, match="Unknown variable"):
        opt.apply([np.ones(2, "float32")], [other])
    with pytest.raises(ValueError, match="Received a list of 2 gradients"):
        opt.apply([np.ones(2, "float32")] * 2)


def test_missing_gradients():
    w, other = variable(), variable()
    opt = optimizers.SGD(1.0)
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        opt.apply([np.ones(2, "float32"), None], [w, other])
    np.testing.assert_array_equal(other.numpy(), [1.0, 2.0])
    with pytest.raises(ValueError, match=r"No gradients provided.* each is None"):
        opt.apply([None, None], [w, other])


def test_learning_rate_can_be_set():
    opt = optimizers.SGD(0.5)
    w = variable()
    opt.apply([np.ones(2, "float32")], [w])
    opt.learning_rate = 0.25
    opt.apply([np.ones(2, "float32")], [w])
    np.testing.assert_allclose(w.numpy(), [0.25, 1.25])
    scheduled = optimizers.SGD(schedules.ExponentialDecay(0.1, 10, 0.5))
    with pytest.raises(TypeError, match="not settable"):
        scheduled.learning_rate = 0.1


def test_older_names():
    with pytest.warns(DeprecationWarning, match="`lr`"):
        opt = optimizers.Adam(lr=0.25)
    np.testing.assert_allclose(opt.learning_rate.numpy(), 0.25)
    with pytest.warns(DeprecationWarning, match="InverseTimeDecay"):
        opt = optimizers.SGD(0.1, decay=0.5)
    np.testing.assert_allclose(np.asarray(opt.learning_rate), 0.1)
    opt.iterations.assign(2)
    np.testing.assert_allclose(np.asarray(opt.learning_rate), 0.05, rtol=1e-6)


def test_strict_keras_refuses_the_older_name():
    handmill.config.set_strict_keras(True)
    try:
        with pytest.raises(ValueError, match="not recognized"):
            optimizers.Adam(lr=0.25)
    finally:
        handmill.config.set_strict_keras(False)


@pytest.mark.parametrize(
    ("make", "message"),
    (
        (lambda: optimizers.SGD("fast"), "`learning_rate` should be float"),
        (lambda: optimizers.SGD(0.1, momentum=2.0), "momentum"),
        (lambda: optimizers.SGD(0.1, clipnorm=1.0, clipvalue=1.0), "Only one of"),
        (lambda: optimizers.SGD(0.1, rate=3), "not recognized"),
        (lambda: optimizers.Adam(use_ema=True, ema_momentum=3.0), "ema_momentum"),
        (lambda: optimizers.Adam(gradient_accumulation_steps=1), "gradient_accumulation_steps"),
        (lambda: optimizers.AdamW(weight_decay=None), "weight_decay"),
        (lambda: optimizers.get("adm"), "Did you mean 'adam'"),
        (lambda: optimizers.get(3), "Could not interpret"),
        (lambda: schedules.ExponentialDecay(0.1, 0, 0.5), "decay_steps"),
        (lambda: schedules.CosineDecayRestarts(0.1, 0), "first_decay_steps"),
        (lambda: schedules.PiecewiseConstantDecay([1], [1.0]), "length of boundaries"),
    ),
)
def test_arguments_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_weight_decay_exclusions():
    w, b = variable(), handmill.Variable(np.ones(2, "float32"), name="bias")
    opt = optimizers.SGD(0.1, weight_decay=0.5)
    opt.exclude_from_weight_decay(var_names=["bias"])
    opt.apply([np.zeros(2, "float32")] * 2, [w, b])
    np.testing.assert_allclose(w.numpy(), [0.95, 1.9], rtol=1e-6)
    np.testing.assert_array_equal(b.numpy(), [1.0, 1.0])
    with pytest.raises(ValueError, match="before the optimizer is built"):
        opt.exclude_from_weight_decay(var_list=[w])


@pytest.mark.parametrize("name", ("sgd", "adam", "adamw", "rmsprop", "adagrad"))
def test_names_and_round_trip(name):
    opt = optimizers.get(name)
    again = optimizers.deserialize(optimizers.serialize(opt))
    assert again.get_config() == opt.get_config()


def test_schedule_survives_the_config():
    opt = optimizers.Adam(schedules.CosineDecay(0.1, 10, warmup_target=0.2, warmup_steps=3))
    again = optimizers.deserialize(optimizers.serialize(opt))
    assert again.get_config() == opt.get_config()


@pytest.mark.parametrize(
    ("schedule", "step", "want"),
    (
        (schedules.ExponentialDecay(0.1, 10, 0.5), 20, 0.025),
        (schedules.ExponentialDecay(0.1, 10, 0.5, staircase=True), 19, 0.05),
        (schedules.InverseTimeDecay(0.1, 1, 0.5), 2, 0.05),
        (schedules.PiecewiseConstantDecay([5, 10], [1.0, 0.5, 0.1]), 5, 1.0),
        (schedules.PiecewiseConstantDecay([5, 10], [1.0, 0.5, 0.1]), 6, 0.5),
        (schedules.PiecewiseConstantDecay([5, 10], [1.0, 0.5, 0.1]), 11, 0.1),
        (schedules.PolynomialDecay(1.0, 10, 0.0), 5, 0.5),
        (schedules.PolynomialDecay(1.0, 10, 0.0), 50, 0.0),
        (schedules.CosineDecay(1.0, 10), 10, 0.0),
        (schedules.CosineDecay(0.0, 10, warmup_target=1.0, warmup_steps=4), 2, 0.5),
    ),
)
def test_schedules(schedule, step, want):
    np.testing.assert_allclose(schedule(step), want, rtol=1e-5, atol=1e-7)


class Halved(schedules.LearningRateSchedule):
    """As the documentation of Keras shows a schedule of one's own."""

    def __init__(self, initial_learning_rate):
        self.initial_learning_rate = initial_learning_rate

    def __call__(self, step):
        return self.initial_learning_rate / (step + 1)

    def get_config(self):
        return {"initial_learning_rate": self.initial_learning_rate}


def test_a_schedule_of_ones_own():
    w = variable()
    opt = optimizers.SGD(Halved(0.5))
    for want in ([0.5, 1.5], [0.25, 1.25]):
        opt.apply([np.ones(2, "float32")], [w])
        np.testing.assert_allclose(w.numpy(), want, rtol=1e-6)
    again = optimizers.SGD.from_config(opt.get_config(), {"Halved": Halved})
    np.testing.assert_allclose(np.asarray(again.learning_rate), 0.5)


def constant_rate():
    return 0.25


def test_a_function_as_learning_rate():
    w = variable()
    opt = optimizers.SGD(constant_rate)
    opt.apply([np.ones(2, "float32")], [w])
    np.testing.assert_allclose(w.numpy(), [0.75, 1.75])
    assert [v.name for v in opt.variables] == ["iteration"]
    again = optimizers.SGD.from_config(opt.get_config(), {"constant_rate": constant_rate})
    assert again.learning_rate == 0.25
    with pytest.raises(TypeError, match="is a function"):
        opt.learning_rate = 0.5
    opt.learning_rate = lambda: 0.5
    opt.apply([np.ones(2, "float32")], [w])
    np.testing.assert_allclose(w.numpy(), [0.25, 1.25])


def test_no_optimizer(tmp_path):
    assert optimizers.get(None) is None
    model = handmill.Sequential([handmill.Input((2,)), handmill.layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[1.0], [2.0]])])
    model.compile(None, "mse")
    x, y = np.eye(2, dtype="float32"), np.array([[2.0], [4.0]])
    for method in (model.fit, model.train_on_batch):
        with pytest.raises(ValueError, match="needs an optimizer"):
            method(x, y)
    model.save(tmp_path / "a.hmill")
    again = handmill.models.load_model(tmp_path / "a.hmill")
    assert model.evaluate(x, y, verbose=0) == again.evaluate(x, y, verbose=0) == 2.5


class OwnOptimizer(handmill.Sequential):
    def train_step(self, data):
        x, y = data
        with handmill.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        self.own.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss}


def test_an_optimizer_of_the_models_own(tmp_path):
    model = OwnOptimizer([handmill.Input((1,)), handmill.layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[1.0]])])
    model.own = optimizers.SGD(0.25)
    model.compile(optimizer=None, loss="mse")
    x = np.ones((4, 1), "float32")
    history = model.fit(x, 3 * x, batch_size=4, epochs=2, verbose=0).history
    np.testing.assert_allclose(history["loss"], [4.0, 1.0])  # w: 1, 2
    with pytest.warns(UserWarning, match="model.own would begin anew"):
        model.fit(x, 3 * x, epochs=1, verbose=0, resume=tmp_path / "a.hmill")
    scheduler = handmill.callbacks.LearningRateScheduler(lambda epoch, rate: rate)
    with pytest.raises(ValueError, match="LearningRateScheduler changes the learning rate"):
        model.fit(x, 3 * x, verbose=0, callbacks=[scheduler])


@pytest.mark.parametrize(
    "make", (lambda: optimizers.SGD(0.5), lambda: optimizers.Adam(0.1), optimizers.Lion)
)
def test_double_precision(make):
    rng = np.random.default_rng(0)
    start, gradient = rng.normal(size=(2, 5))
    w = [handmill.Variable(start.astype(t), name="w") for t in ("float32", "float64")]
    for variable in w:
        opt = make()
        for _ in range(3):
            opt.apply([gradient], [variable])
    assert w[1].dtype == "float64"
    np.testing.assert_allclose(w[0].numpy(), w[1].numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", (lambda: optimizers.Adam(0.1), lambda: optimizers.Lion(0.1)))
def test_bfloat16_by_hand(make):
    w = handmill.Variable(np.ones(3), dtype="bfloat16", name="w")
    make().apply([np.array([1.0, -2.0, 3.0])], [w])
    np.testing.assert_allclose(w.numpy().astype("float32"), [0.9, 1.1, 0.9], rtol=0.01)


WRAPPED = {
    "adam": lambda: optimizers.Adam(0.1, weight_decay=0.1),
    "accumulation": lambda: optimizers.SGD(0.1, gradient_accumulation_steps=2, use_ema=True),
    "loss_scale": lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.1), 4.0),
    "multi": lambda: optimizers.MultiOptimizer(optimizers.OptimizerMap(optimizers.Nadam(0.1))),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_step_as_a_function(name):
    arrays = [np.array([1.0, 2.0], "float32"), np.array([[3.0], [4.0]], "float32")]
    gradients = [np.array([0.5, -1.0], "float32"), np.array([[2.0], [0.25]], "float32")]
    w = [handmill.Variable(a, name=f"w{i}") for i, a in enumerate(arrays)]
    opt = WRAPPED[name]()
    with pytest.raises(ValueError, match="must be built"):
        opt.stateless_apply([], gradients, arrays)
    opt.build(w)
    state = [v.numpy() for v in opt.variables]
    values = arrays
    for _ in range(3):
        values, state = opt.stateless_apply(state, gradients, values)
    for variable, array in zip(w, arrays, strict=True):
        np.testing.assert_array_equal(variable.numpy(), array)
    assert int(np.asarray(opt.iterations)) == 0
    for _ in range(3):
        opt.apply(gradients, w)
    for variable, value in zip((*w, *opt.variables), (*values, *state), strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    for given in ([], arrays), (state, []):
        with pytest.raises(ValueError, match="corresponding 1:1"):
            opt.stateless_apply(given[0], gradients, given[1])


def test_infinite_gradients_are_not_hidden_by_global_clipnorm():
    w = variable()
    optimizers.SGD(0.1, global_clipnorm=1.0).apply([np.array([np.inf, 1.0], "float32")], [w])
    assert np.isnan(w.numpy()).any()


def test_state_can_be_set():
    w = variable()
    opt = optimizers.Adam(0.1)
    opt.apply([np.ones(2, "float32")], [w])
    saved = [v.numpy() for v in opt.variables]
    opt.apply([np.ones(2, "float32")], [w])
    opt.set_weights(saved)
    assert opt.iterations.numpy() == 1
    with pytest.raises(ValueError, match="variables, got 1 arrays"):
        opt.set_weights(saved[:1])
    with pytest.raises(ValueError, match="has not yet been built"):
        optimizers.Adam(0.1).set_weights(saved)


@pytest.mark.parametrize("trained", (False, True))
@pytest.mark.parametrize("how", ("var_names", "var_list"))
def test_exclusions_from_weight_decay_are_saved(tmp_path, how, trained):
    """Keras forgets them when a model is loaded."""
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    model = handmill.Sequential(
        [handmill.Input((3,)), handmill.layers.Dense(1, bias_initializer="ones")]
    )
    optimizer = optimizers.AdamW(0.05, weight_decay=0.5)
    bias = model.layers[-1].bias
    optimizer.exclude_from_weight_decay(**{how: ["bias"] if how == "var_names" else [bias]})
    model.compile(optimizer, "mse")
    if trained:
        model.fit(x, x[:, :1], verbose=0, shuffle=False)
    model.save(tmp_path / "m.hmill")
    again = handmill.models.load_model(tmp_path / "m.hmill")
    for m in (model, again):
        m.fit(x, x[:, :1], epochs=3, verbose=0, shuffle=False)
    np.testing.assert_array_equal(model.get_weights()[1], again.get_weights()[1])


def test_exclusions_of_a_file_are_plain_names():
    config = optimizers.AdamW(0.05).get_config()
    assert "excluded_from_weight_decay" not in config
    evil = {"variables": [], "names": ["(a+)+$"]}
    with pytest.raises(ValueError, match="plain names"):
        optimizers.AdamW.from_config({**config, "excluded_from_weight_decay": evil})
