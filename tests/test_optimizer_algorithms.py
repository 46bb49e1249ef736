"""Optimizers made of operators: the numbers of Keras step by step, their state, their files."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest

import handmill
from handmill import optimizers

pytestmark = pytest.mark.filterwarnings("ignore:Gradients do not exist")

STEPS = 32
RNG = np.random.default_rng(11)
X = RNG.normal(size=(STEPS, 16, 6)).astype("float32")
Y = RNG.integers(0, 3, (STEPS, 16))


def by_pattern(o):
    chosen = o.OptimizerMap(o.SGD(0.05, momentum=0.9))
    chosen[".*/bias"] = o.Adam(0.01)
    return chosen


CASES = {
    "adadelta": lambda o: o.Adadelta(0.5),
    "adafactor": lambda o: o.Adafactor(0.1),
    "adafactor_schedule": lambda o: o.Adafactor(o.schedules.ExponentialDecay(0.1, 5, 0.7)),
    "adamax": lambda o: o.Adamax(0.01),
    "ftrl": lambda o: o.Ftrl(0.05),
    "ftrl_fixed_rate": lambda o: o.Ftrl(0.1, learning_rate_power=0.0),
    "lamb": lambda o: o.Lamb(0.01),
    "lion": lambda o: o.Lion(0.002),
    "muon": lambda o: o.Muon(0.01),
    "nadam": lambda o: o.Nadam(0.01),
    "schedule_free": lambda o: o.ScheduleFreeAdamW(0.01),
    "loss_scale": lambda o: o.LossScaleOptimizer(o.Adam(0.01), 2.0**10, 5),
    "loss_scale_overflow": lambda o: o.LossScaleOptimizer(o.SGD(0.1, momentum=0.9), 1e37, 4),
    "loss_scale_options": lambda o: o.LossScaleOptimizer(
        o.Lion(0.002, gradient_accumulation_steps=2, use_ema=True, ema_overwrite_frequency=3),
        64.0,
        7,
    ),
    "multi": lambda o: o.MultiOptimizer(by_pattern(o)),
    "multi_scale": lambda o: o.MultiOptimizer(by_pattern(o), loss_scale_factor=16.0),
    "multi_function": lambda o: o.MultiOptimizer(
        lambda v: o.Lion(0.002) if "bias" in v.path else o.SGD(0.1)
    ),
    "rate_function": lambda o: o.Adam(lambda: 0.02),
}

ALGORITHMS = {
    "Adadelta": 0.5, "Adafactor": 0.1, "Adamax": 0.01, "Ftrl": 0.05, "Lamb": 0.01, "Lion": 0.002,
    "Muon": 0.01, "Nadam": 0.01, "ScheduleFreeAdamW": 0.01,
}  # fmt: skip

OPTIONS = {
    "Adadelta": {"rho": 0.8, "epsilon": 1e-5},
    "Adafactor": {
        "beta_2_decay": -0.5, "epsilon_2": 0.01, "clip_threshold": 0.5, "relative_step": False,
    },
    "Adamax": {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3},
    "Ftrl": {
        "learning_rate_power": -0.7, "initial_accumulator_value": 0.3, "beta": 0.5,
        "l1_regularization_strength": 0.001, "l2_regularization_strength": 0.01,
        "l2_shrinkage_regularization_strength": 0.02,
    },
    "Lamb": {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-4},
    "Lion": {"beta_1": 0.7, "beta_2": 0.9},
    "Muon": {
        "nesterov": False, "rms_rate": None, "ns_steps": 3, "momentum": 0.8, "adam_lr_ratio": 0.5,
        "adam_weight_decay": 0.1, "exclude_layers": ["la.t/"],
    },
    "Nadam": {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-4},
    "ScheduleFreeAdamW": {"beta_1": 0.8, "warmup_steps": 7},
}  # fmt: skip

EVERYTHING = {
    "weight_decay": 0.05,
    "clipnorm": 0.4,
    "use_ema": True,
    "ema_momentum": 0.8,
    "ema_overwrite_frequency": 3,
    "loss_scale_factor": 8.0,
    "gradient_accumulation_steps": 2,
}
"""What the base class has: averages move in each step, accumulating or not."""


def with_everything(name, o):
    made = getattr(o, name)(ALGORITHMS[name], **OPTIONS[name], **EVERYTHING)
    made.exclude_from_weight_decay(var_names=["bias"])
    return made


CASES.update({f"{n.lower()}_everything": functools.partial(with_everything, n) for n in OPTIONS})


def network(library):
    return library.Sequential(
        [
            library.Input((6,)),
            library.layers.Dense(8, activation="tanh", name="first"),
            library.layers.Dense(3, activation="softmax", name="last"),
        ]
    )


def made(name, library=handmill):
    model = network(library)
    model.compile(CASES[name](library.optimizers), "sparse_categorical_crossentropy")
    return model


@functools.cache
def keras_run(name, keras):
    """What Keras makes of a case: first weights, losses, last weights, state."""
    model = made(name, keras)
    rng = np.random.default_rng(1)  # the same in each run: the sign of Lion is not continuous
    first = [rng.normal(0.0, 0.4, np.shape(w)).astype("float32") for w in model.get_weights()]
    model.set_weights(first)
    losses = [float(model.train_on_batch(X[i], Y[i])) for i in range(STEPS)]
    state = [np.asarray(v) for v in model.optimizer.variables]
    return first, losses, [np.asarray(w) for w in model.get_weights()], state


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ("native", "numpy"))
@pytest.mark.parametrize("name", CASES)
def test_every_step_is_that_of_keras(keras, name, backend):
    first, losses, last, state = keras_run(name, keras)
    with handmill.use_backend(backend):
        model = made(name)
        model.set_weights(first)
        found = [model.train_on_batch(X[i], Y[i]) for i in range(STEPS)]
    np.testing.assert_allclose(found, losses, rtol=3e-5, atol=3e-6)
    for got, want in zip(model.get_weights(), last, strict=True):
        np.testing.assert_allclose(got, want, rtol=3e-4, atol=3e-5)
    assert [v.shape for v in model.optimizer.variables] == [v.shape for v in state]
    for variable, want in zip(model.optimizer.variables, state, strict=True):
        scale = max(float(np.abs(want).max()), 1e-12)
        np.testing.assert_allclose(
            variable.numpy() / scale, want / scale, rtol=0, atol=1e-4, err_msg=variable.name
        )


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ALGORITHMS)
def test_variables_of_any_rank_updated_by_hand(keras, name):
    """Outside a model; a gradient that is None leaves its variable alone."""
    rng = np.random.default_rng(5)
    arrays = [rng.normal(size=s).astype("float32") for s in ((), (5,), (4, 3), (2, 3, 4), (2,))]
    theirs = [keras.Variable(a, name=f"v{i}") for i, a in enumerate(arrays)]
    ours = [handmill.Variable(a, name=f"v{i}") for i, a in enumerate(arrays)]
    peers, own = (getattr(m.optimizers, name)(ALGORITHMS[name]) for m in (keras, handmill))
    peers.build(theirs)
    step = pytest.importorskip("jax").jit(peers.stateless_apply)
    state, values = [v.value for v in peers.variables], [v.value for v in theirs]
    for _ in range(6):
        grads = [rng.normal(size=a.shape).astype("float32") for a in arrays[:-1]]
        values, state = step(state, [*grads, None], values)
        own.apply([*grads, None], ours)
    for got, want in zip(ours, values, strict=True):
        np.testing.assert_allclose(got.numpy(), np.asarray(want), rtol=2e-4, atol=2e-5)
    np.testing.assert_array_equal(ours[-1].numpy(), arrays[-1])


@pytest.mark.parametrize("name", CASES)
def test_the_update_is_part_of_the_program(name):
    if not handmill.config.has_kernels():
        pytest.skip("no kernels")
    model = made(name)
    model.train_on_batch(X[0], Y[0])
    program, _ = model.step_to_compare(X[0], Y[0])
    steps = program.plan(X[0], Y[0].reshape(-1, 1)).summary()
    assert [s["kernel"] for s in steps if s["host"]] == []


@pytest.mark.slow
@pytest.mark.parametrize("policy", ("mixed_bfloat16", "bfloat16"))
@pytest.mark.parametrize("name", (*CASES, "clipped", "clipped_together"))
def test_bfloat16(name, policy):
    """The scale is float32, and so is what it divides; the update takes the variable's dtype."""
    handmill.utils.set_random_seed(3)
    handmill.config.set_dtype_policy(policy)
    try:
        model = network(handmill)
    finally:
        handmill.config.set_dtype_policy("float32")
    clipped = {
        "clipped": optimizers.Adam(0.01, clipnorm=1.0),
        "clipped_together": optimizers.SGD(0.01, global_clipnorm=1.0, momentum=0.5),
    }
    optimizer = clipped[name] if name in clipped else CASES[name](optimizers)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    losses = [model.train_on_batch(X[0], Y[0]) for _ in range(12)]
    assert np.isfinite(losses).all()
    assert min(losses) < losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in CASES if "function" not in n])
def test_training_goes_on_from_a_file(name, tmp_path):
    model = made(name)
    for i in range(5):
        model.train_on_batch(X[i], Y[i])
    model.save(tmp_path / "m.hmill")
    again = handmill.models.load_model(tmp_path / "m.hmill")
    assert again.optimizer.get_config() == model.optimizer.get_config()
    for i in range(5, 12):
        assert model.train_on_batch(X[i], Y[i]) == again.train_on_batch(X[i], Y[i])
    pairs = zip(model.optimizer.variables, again.optimizer.variables, strict=True)
    for one, other in (*pairs, *zip(model.weights, again.weights, strict=True)):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("name", CASES)
def test_fit(name):
    """Equal seeds, equal runs; a second model of equal structure takes the program of the first."""
    x, y = X.reshape(-1, 6), (X.reshape(-1, 6)[:, 0] > 0).astype("int64")
    runs = []
    for _ in range(2):
        handmill.utils.set_random_seed(3)
        model = made(name)
        runs.append(model.fit(x, y, epochs=4, batch_size=32, verbose=0).history["loss"])
    assert runs[0] == runs[1]
    assert runs[0][-1] < runs[0][0]


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ALGORITHMS)
def test_configs_are_those_of_keras(keras, name):
    ours, theirs = getattr(optimizers, name)(), getattr(keras.optimizers, name)()
    found, wanted = optimizers.serialize(ours), keras.optimizers.serialize(theirs)
    assert unnumbered(found) == unnumbered(wanted)
    assert re.sub(r"_\d+$", "", ours.name) == re.sub(r"_\d+$", "", theirs.name)
    again = optimizers.get(optimizers.serialize(ours))
    assert type(again) is type(ours)
    assert again.get_config() == ours.get_config()
    assert type(optimizers.get(name.lower())) is type(ours)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ("loss_scale_options", "multi", "multi_scale"))
def test_configs_of_wrappers_are_those_of_keras(keras, name):
    ours, theirs = CASES[name](optimizers), CASES[name](keras.optimizers)
    found, wanted = optimizers.serialize(ours), keras.optimizers.serialize(theirs)
    assert unnumbered(found) == unnumbered(wanted)
    assert unnumbered(optimizers.serialize(optimizers.deserialize(wanted))) == unnumbered(found)


def unnumbered(config):
    """A config without the names, which are numbered."""
    if isinstance(config, dict):
        return {k: unnumbered(v) for k, v in config.items() if k != "name"}
    return config


@pytest.mark.parametrize("name", ("adadelta", "nadam", "muon", "schedule_free", "loss_scale"))
def test_slots_follow_the_weights_into_a_shared_program(name):
    """Two models of one structure and different weights, one program: each has its own state."""
    models = [made(name) for _ in range(2)]
    for model in models:
        alone = handmill.models.clone_model(model)
        alone.set_weights(model.get_weights())
        alone.compile(CASES[name](optimizers), "sparse_categorical_crossentropy", run_eagerly=True)
        for i in range(3):
            model.train_on_batch(X[i], Y[i])
            alone.train_on_batch(X[i], Y[i])
        for got, want in zip(model.get_weights(), alone.get_weights(), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_paths_choose_even_where_a_program_is_shared():
    """Equal layers under other names: what Muon leaves to Adam differs, so the program does."""
    steps = []
    for name in ("plain", "embedding"):
        model = handmill.Sequential(
            [handmill.Input((6,)), handmill.layers.Dense(3, name=name, kernel_initializer="ones")]
        )
        model.compile(optimizers.Muon(0.1, weight_decay=None, adam_weight_decay=None), "mse")
        model.train_on_batch(X[0], X[0][:, :3])
        steps.append(model.get_weights()[0])
        assert (model.optimizer.adam_velocities[0] is None) == (name == "plain")
    assert np.abs(steps[0] - steps[1]).max() > 1e-3
    np.testing.assert_allclose(np.abs(steps[1] - 1.0), 0.1, rtol=1e-3)  # Adam's first step


def test_ema_of_variables_without_a_gradient():
    """Their running mean follows them too: fit ended with zeros in their place."""
    w, other = (handmill.Variable(np.ones(2, "float32"), name=n) for n in "ab")
    opt = optimizers.SGD(0.1, use_ema=True)
    opt.apply([np.ones(2, "float32"), None], [w, other])
    opt.finalize_variable_values([w, other])
    np.testing.assert_array_equal(other.numpy(), [1.0, 1.0])


@pytest.mark.parametrize("wrapped", ("", "loss_scale", "multi"))
def test_fit_ends_with_the_running_means(wrapped):
    inner = optimizers.Lion(0.01, use_ema=True)
    optimizer = {
        "": lambda: inner,
        "loss_scale": lambda: optimizers.LossScaleOptimizer(inner, 4.0),
        "multi": lambda: optimizers.MultiOptimizer(optimizers.OptimizerMap(inner)),
    }[wrapped]()
    model = network(handmill)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(X[0], Y[0], epochs=3, verbose=0)
    averages = inner._model_variables_moving_average
    for variable, average in zip(model.trainable_variables, averages, strict=True):
        np.testing.assert_array_equal(variable.numpy(), average.numpy())


class WithoutGuard(optimizers.Optimizer):
    """As the documentation of Keras shows an optimizer of one's own."""

    def __init__(self, learning_rate=0.1, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.momentums = []

    def build(self, variables):
        super().build(variables)
        for variable in variables:
            self.momentums.append(self.add_variable_from_reference(variable, name="momentum"))

    def update_step(self, gradient, variable, learning_rate):
        m = self.momentums[self._get_variable_index(variable)]
        ops = handmill.ops
        self.assign(m, ops.subtract(ops.multiply(m, 0.9), ops.multiply(gradient, learning_rate)))
        self.assign_add(variable, m)


def test_an_optimizer_of_ones_own():
    model, standard = network(handmill), network(handmill)
    standard.set_weights(model.get_weights())
    model.compile(WithoutGuard(), "sparse_categorical_crossentropy")
    standard.compile(optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    for i in range(4):
        for m in (model, standard):
            m.train_on_batch(X[i], Y[i])
    model.evaluate(X[0], Y[0], verbose=0)
    model.train_on_batch(X[5][:7], Y[5][:7])  # another plan
    standard.train_on_batch(X[5][:7], Y[5][:7])
    assert len(model.optimizer.variables) == len(standard.optimizer.variables) == 6
    for got, want in zip(model.get_weights(), standard.get_weights(), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    (
        (lambda: optimizers.Lion(beta_1=0.0), ValueError, "beta_1"),
        (lambda: optimizers.Ftrl(learning_rate_power=0.1), ValueError, "learning_rate_power"),
        (lambda: optimizers.Ftrl(initial_accumulator_value=-1.0), ValueError, "initial_acc"),
        (lambda: optimizers.Ftrl(l1_regularization_strength=-1.0), ValueError, "l1_reg"),
        (lambda: optimizers.Ftrl(l2_regularization_strength=-1.0), ValueError, "l2_reg"),
        (
            lambda: optimizers.Ftrl(l2_shrinkage_regularization_strength=-1.0),
            ValueError,
            "l2_shrinkage",
        ),
        (lambda: optimizers.Muon(ns_steps=-1), ValueError, "ns_steps"),
        (lambda: optimizers.Muon(ns_steps=10**9), ValueError, "ns_steps"),
        (lambda: optimizers.Nadam(speed=2), ValueError, "not recognized"),
        (lambda: optimizers.LossScaleOptimizer("sgd"), TypeError, "must be an optimizer"),
        (
            lambda: optimizers.LossScaleOptimizer(optimizers.SGD(), clipnorm=1.0),
            ValueError,
            "Set `clipnorm` on the `inner_optimizer`",
        ),
        (
            lambda: optimizers.LossScaleOptimizer(optimizers.SGD(), dynamic=False),
            ValueError,
            "loss_scale_factor",
        ),
        (
            lambda: optimizers.LossScaleOptimizer(optimizers.SGD(), speed=1),
            ValueError,
            "does not support arguments",
        ),
        (lambda: optimizers.OptimizerMap("sgd"), TypeError, "default_optimizer"),
        (lambda: optimizers.OptimizerMap(optimizers.SGD(), [1]), TypeError, "dictionary"),
        (
            lambda: optimizers.OptimizerMap(optimizers.SGD(), {3: optimizers.SGD()}),
            ValueError,
            "key must be a string",
        ),
        (
            lambda: optimizers.OptimizerMap(optimizers.SGD(), {"a": "sgd"}),
            ValueError,
            "optimizer must be",
        ),
        (lambda: optimizers.MultiOptimizer({"a": optimizers.SGD()}), TypeError, "OptimizerMap"),
    ),
)
def test_arguments_are_checked(make, error, message):
    with pytest.raises(error, match=message):
        make()


# LossScaleOptimizer.


def test_a_step_that_overflows_changes_nothing_but_the_scale():
    w = handmill.Variable(np.ones(2, "float32"), name="w")
    inner = optimizers.Adam(0.1, use_ema=True)
    opt = optimizers.LossScaleOptimizer(inner, initial_scale=4.0, dynamic_growth_steps=2)
    opt.apply([np.full(2, 4.0, "float32")], [w])
    before = [v.numpy() for v in (w, *inner.variables)]
    for bad in (np.inf, np.nan):
        opt.apply([np.array([1.0, bad], "float32")], [w])
    for variable, array in zip((w, *inner.variables), before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), array)
    assert opt.dynamic_scale.numpy() == 1.0
    assert opt.step_counter.numpy() == 0
    for _ in range(2):
        opt.apply([np.ones(2, "float32")], [w])
    assert opt.dynamic_scale.numpy() == 2.0
    assert opt.iterations.numpy() == 3


def test_the_first_loss_is_scaled_by_the_variable():
    """The loss is scaled before the first step has built anything."""
    model = made("loss_scale_overflow")
    optimizer = model.optimizer
    model.train_on_batch(X[0], Y[0])
    scale = optimizer.dynamic_scale.numpy()
    optimizer.dynamic_scale.assign(np.float32(np.inf))
    weights = model.get_weights()
    model.train_on_batch(X[1], Y[1])  # the same program: every gradient is infinite
    assert scale == np.float32(1e37)
    for got, want in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(got, want)


def test_what_belongs_to_the_inner_optimizer_reaches_it():
    inner = optimizers.SGD(0.1, weight_decay=0.5, loss_scale_factor=3.0, use_ema=True)
    opt = optimizers.LossScaleOptimizer(inner, initial_scale=1.0)
    assert inner.loss_scale_factor is None
    opt.learning_rate = 0.25
    np.testing.assert_allclose(inner.learning_rate.numpy(), 0.25)
    opt.exclude_from_weight_decay(var_names=["bias"])
    bias = handmill.Variable(np.ones(2, "float32"), name="bias")
    opt.apply([np.zeros(2, "float32")], [bias])
    np.testing.assert_array_equal(bias.numpy(), [1.0, 1.0])
    opt.finalize_variable_values([bias])
    again = optimizers.deserialize(optimizers.serialize(opt))
    assert again.get_config() == opt.get_config()
    state = [v.numpy() for v in opt.variables]
    opt.apply([np.ones(2, "float32")], [bias])
    opt.set_weights(state)
    assert int(opt.iterations.numpy()) == 1
    assert handmill.mixed_precision.LossScaleOptimizer is optimizers.LossScaleOptimizer


# MultiOptimizer.


def test_optimizers_by_pattern():
    adam, sgd, last = optimizers.Adam(), optimizers.SGD(), optimizers.RMSprop()
    chosen = optimizers.OptimizerMap(last)
    chosen["encoder/layer_0/dense"] = adam
    chosen["encoder/.*"] = sgd
    assert chosen["encoder/layer_0/dense"] is adam  # the exact key first
    assert chosen["encoder/layer_1"] is sgd
    assert chosen["decoder/encoder/x"] is last  # the whole path must match
    assert list(chosen) == ["encoder/layer_0/dense", "encoder/.*"]
    chosen[".*/layer_2"] = adam
    with pytest.raises(ValueError, match="Multiple optimizers"):
        chosen["encoder/layer_2"]
    with pytest.raises(ValueError, match="already exists"):
        chosen["encoder/.*"] = adam
    del chosen["encoder/.*"]
    assert chosen["encoder/layer_1"] is last
    assert len(chosen) == 2


def test_wrappers_inside_are_refused():
    inner = optimizers.LossScaleOptimizer(optimizers.SGD())
    with pytest.raises(ValueError, match="LossScaleOptimizer cannot be used inside"):
        optimizers.OptimizerMap(optimizers.SGD(), {"a": inner})
    w = handmill.Variable(np.ones(2, "float32"), name="w")
    for wrong in (inner, optimizers.MultiOptimizer(lambda v: None), "sgd"):
        opt = optimizers.MultiOptimizer(lambda v, wrong=wrong: wrong)
        with pytest.raises(ValueError, match=r"cannot be used inside|not an Optimizer"):
            opt.apply([np.ones(2, "float32")], [w])


@pytest.mark.filterwarnings("ignore:.*none of the variables to be trained has a path:UserWarning")
def test_there_is_no_one_learning_rate():
    opt = optimizers.MultiOptimizer(by_pattern(optimizers))
    with pytest.raises(AttributeError, match="cannot be accessed"):
        _ = opt.learning_rate
    with pytest.raises(AttributeError, match="cannot be set"):
        opt.learning_rate = 0.1
    opt.loss_scale_factor = 4.0
    assert [o.loss_scale_factor for o in opt.optimizers] == [4.0, 4.0]
    w, bias = (handmill.Variable(np.ones(2, "float32"), name=n) for n in ("w", "bias"))
    opt.optimizers[1].learning_rate = 0.25
    opt.apply([np.full(2, 4.0, "float32")] * 2, [w, bias])
    np.testing.assert_allclose(w.numpy(), 0.75)
    before = bias.numpy().copy()
    opt.apply([np.full(2, 4.0, "float32")], [w])  # which Keras refuses: nothing could be frozen
    np.testing.assert_allclose(w.numpy(), 0.275, rtol=1e-6)
    np.testing.assert_array_equal(bias.numpy(), before)
    assert int(opt.iterations.numpy()) == 2


def test_an_optimizer_in_several_places_is_one_after_loading(tmp_path):
    """Keras makes several of it, and then cannot load its state."""
    adam = optimizers.Adam(0.01)
    chosen = optimizers.OptimizerMap(
        optimizers.SGD(0.1),
        {".*/first/.*": adam, ".*/last/kernel": optimizers.Lion(), ".*/bias": adam},
    )
    del chosen[".*/bias"]
    chosen[".*/last/bias"] = adam
    model = network(handmill)
    model.compile(optimizers.MultiOptimizer(chosen), "sparse_categorical_crossentropy")
    model.train_on_batch(X[0], Y[0])
    model.save(tmp_path / "m.hmill")
    again = handmill.models.load_model(tmp_path / "m.hmill")
    assert [type(o).__name__ for o in again.optimizer.optimizers] == ["Adam", "Lion", "SGD"]
    for i in range(1, 4):
        assert model.train_on_batch(X[i], Y[i]) == again.train_on_batch(X[i], Y[i])
    config = chosen.get_config()
    for wrong in ([0, 1], [0, 1, 2, 4], "0123", [0, 1, True, 1], [0, -1, 2, 1]):
        with pytest.raises(ValueError, match="earlier places"):
            optimizers.OptimizerMap.from_config({**config, "first_places": wrong})


@pytest.mark.parametrize("pattern", ("encoder/.*", "(a|b)/dense_[0-9]+/kernel", r"\w+/x", "a{2}"))
def test_patterns_that_files_hold(pattern):
    chosen = optimizers.OptimizerMap(optimizers.SGD(), {pattern: optimizers.Lion()})
    again = optimizers.OptimizerMap.from_config(chosen.get_config())
    assert list(again) == [pattern]
    assert type(again[pattern]) is optimizers.Lion


@pytest.mark.parametrize(
    "pattern",
    (
        "(a+)+$",
        "(a|a)*b",
        "(a|b){30}",
        r"(.*)\1",
        "(?=a)b",
        ".*a.*b.*c",
        "(",
        "[",
        "a**",
        "x" * 2000,
    ),
)
def test_patterns_that_files_do_not_hold(pattern):
    """Some could take for ever on a path that a file names too."""
    for make in (
        lambda: optimizers.OptimizerMap.from_config(
            {"default_optimizer": "sgd", "optimizer_map": {pattern: "lion"}}
        ),
        lambda: optimizers.OptimizerMap(
            optimizers.SGD(), {pattern: optimizers.Lion()}
        ).get_config(),
        lambda: optimizers.Muon.from_config({"exclude_layers": [pattern]}),
        lambda: optimizers.Muon(exclude_layers=[pattern]).get_config(),
    ):
        with pytest.raises(ValueError, match=r"a file can hold|a regular expression for paths"):
            make()
