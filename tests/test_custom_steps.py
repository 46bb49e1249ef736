"""Overridden steps and hooks of models: what Keras calls customising fit()."""

import numpy as np
import pytest

import handmill as keras
from handmill import layers, ops
from handmill.runtime.function import TracedFunction

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


def made(cls=keras.Model, **compile_arguments):
    keras.utils.set_random_seed(0)
    i = keras.Input((4,))
    hidden = layers.Dense(8, activation="tanh")(i)
    model = cls(i, layers.Dense(1)(hidden))
    arguments = {"optimizer": keras.optimizers.Adam(0.05), "loss": "mse", "metrics": ["mae"]}
    model.compile(**{**arguments, **compile_arguments})
    return model


class ByHand(keras.Model):
    """The standard step, written as Keras's guides write it."""

    def train_step(self, data):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        with keras.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=weight)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=ops.shape(x)[0])
            else:
                metric.update_state(y, y_pred, sample_weight=weight)
        return {m.name: m.result() for m in self.metrics}

    def test_step(self, data):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self(x, training=False)
        loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=weight)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=ops.shape(x)[0])
            else:
                metric.update_state(y, y_pred, sample_weight=weight)
        return {m.name: m.result() for m in self.metrics}


def same_history(a, b, exactly=True):
    assert set(a) == set(b)
    for name, values in a.items():
        if exactly:
            assert values == b[name], name
        else:
            np.testing.assert_allclose(values, b[name], rtol=1e-5, err_msg=name)


def fitted(model, **arguments):
    found = model.fit(X, Y, batch_size=10, epochs=3, verbose=0, validation_split=0.25, **arguments)
    return found.history, model.get_weights()


def same_weights(a, b, exactly=True):
    for left, right in zip(a, b, strict=True):
        if exactly:
            np.testing.assert_array_equal(left, right)
        else:
            np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", ("native", "numpy"))
def test_the_standard_step_written_by_hand_gives_the_same_numbers(backend):
    with keras.use_backend(backend):
        standard, weights = fitted(made())
        by_hand, found = fitted(made(ByHand))
    same_history(standard, by_hand)
    same_weights(weights, found)


def test_a_step_of_operators_is_one_program_without_host_nodes():
    model = made(ByHand)
    model.fit(X, Y, verbose=0)
    program, _ = model.step_to_compare(X, Y)
    assert not any(step["host"] for step in program.plan(X[:8], Y[:8]).summary())


def test_sample_weights_reach_a_step_written_by_hand():
    weight = RNG.uniform(size=48).astype("float32")
    runs = [
        made(cls).fit(X, Y, sample_weight=weight, shuffle=False, verbose=0).history
        for cls in (keras.Model, ByHand)
    ]
    same_history(*runs)


def test_a_step_may_build_on_the_standard_one():
    class Counting(keras.Model):
        def train_step(self, data):
            logs = super().train_step(data)
            self.steps.assign(self.steps + 1.0)
            return {**logs, "steps": self.steps, "twice": 2.0 * logs["loss"], "half": 0.5}

    model = made(Counting)
    model.steps = keras.Variable(0.0, trainable=False)
    history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0).history
    assert history["steps"] == [6.0, 12.0]
    assert history["half"] == [0.5, 0.5]
    np.testing.assert_allclose(history["twice"], 2 * np.array(history["loss"]), rtol=1e-6)
    same_history(
        {k: history[k] for k in ("loss", "mae")},
        made().fit(X, Y, batch_size=8, epochs=2, verbose=0).history,
    )


def test_updates_after_the_optimizer_are_part_of_the_step():
    """A moving-average target network, as in DQN, BYOL or mean teachers."""

    class WithTarget(keras.Model):
        def train_step(self, data):
            logs = super().train_step(data)
            for target, own in zip(self.target.weights, self.trainable_weights, strict=True):
                target.assign(0.9 * target + 0.1 * own)
            return logs

    model = made(WithTarget, optimizer=keras.optimizers.SGD(0.1))
    target = keras.models.clone_model(made())
    target.set_weights(model.get_weights())
    target.trainable = False
    model.target = target
    want = target.get_weights()
    twin = made(optimizer=keras.optimizers.SGD(0.1))
    for start in range(0, 48, 8):
        model.train_on_batch(X[start : start + 8], Y[start : start + 8])
        twin.train_on_batch(X[start : start + 8], Y[start : start + 8])
        want = [0.9 * w + 0.1 * own for w, own in zip(want, twin.get_weights(), strict=True)]
    same_weights(want, target.get_weights(), exactly=False)


def test_gradients_may_be_clipped_by_hand_and_taken_of_several_parts():
    class Clipped(keras.Model):
        def train_step(self, data):
            x, y = data
            first, last = self.layers[1].trainable_weights, self.layers[2].trainable_weights
            with keras.GradientTape(persistent=True) as tape:
                loss = ops.mean(ops.square(self(x, training=True) - y))
            for optimizer, weights in ((self.optimizer, first), (self.other, last)):
                grads = tape.gradient(loss, weights)
                optimizer.apply([ops.clip(g, -0.01, 0.01) for g in grads], weights)
            return {"loss": loss}

    model = made(Clipped, optimizer=keras.optimizers.SGD(1.0), metrics=None)
    model.other = keras.optimizers.SGD(10.0)
    before = model.get_weights()
    model.train_on_batch(X, Y)
    moved = [np.abs(a - b).max() for a, b in zip(before, model.get_weights(), strict=True)]
    assert 0.009 < max(moved[:2]) <= 0.0101
    assert 0.09 < max(moved[2:]) <= 0.1001


class GAN(keras.Model):
    """Two optimizers and two tapes in one step, as Keras's example writes it."""

    def __init__(self, label_noise=0.05):
        super().__init__()
        self.label_noise = label_noise
        self.generator = keras.Sequential(
            [keras.Input((3,)), layers.Dense(8, activation="relu"), layers.Dense(2)]
        )
        self.discriminator = keras.Sequential(
            [keras.Input((2,)), layers.Dense(8, activation="tanh"), layers.Dense(1)]
        )
        self.seed_generator = keras.random.SeedGenerator(7)
        self.d_loss_metric = keras.metrics.Mean(name="d_loss")
        self.g_loss_metric = keras.metrics.Mean(name="g_loss")

    def compile(self, d_optimizer, g_optimizer, loss_fn, **kwargs):
        super().compile(**kwargs)
        self.d_optimizer = d_optimizer
        self.g_optimizer = g_optimizer
        self.loss_fn = loss_fn

    @property
    def metrics(self):
        return [self.d_loss_metric, self.g_loss_metric]

    def train_step(self, real):
        if isinstance(real, tuple):
            real = real[0]
        batch = ops.shape(real)[0]
        noise = keras.random.normal(shape=(batch, 3), seed=self.seed_generator)
        both = ops.concatenate([self.generator(noise), real], axis=0)
        labels = ops.concatenate([ops.ones((batch, 1)), ops.zeros((batch, 1))], axis=0)
        labels += self.label_noise * keras.random.uniform(ops.shape(labels))
        with keras.GradientTape() as tape:
            d_loss = self.loss_fn(labels, self.discriminator(both))
        weights = self.discriminator.trainable_weights
        self.d_optimizer.apply_gradients(zip(tape.gradient(d_loss, weights), weights, strict=True))

        noise = keras.random.normal(shape=(batch, 3), seed=self.seed_generator)
        with keras.GradientTape() as tape:
            made = self.discriminator(self.generator(noise))
            g_loss = self.loss_fn(ops.zeros((batch, 1)), made)
        weights = self.generator.trainable_weights
        self.g_optimizer.apply_gradients(zip(tape.gradient(g_loss, weights), weights, strict=True))
        self.d_loss_metric.update_state(d_loss)
        self.g_loss_metric.update_state(g_loss)
        return {"d_loss": self.d_loss_metric.result(), "g_loss": self.g_loss_metric.result()}


def gan(make_optimizer, label_noise=0.05, **kwargs):
    keras.utils.set_random_seed(1)
    model = GAN(label_noise)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(make_optimizer(), make_optimizer(), loss, **kwargs)
    return model


def real_points():
    return (np.random.default_rng(2).normal(size=(64, 2)) * 0.1 + [1.0, -1.0]).astype("float32")


@pytest.mark.parametrize("backend", ("native", "numpy"))
def test_a_gan_in_one_step(backend):
    """The generator learns from the discriminator as the same step has updated it."""
    rate, points = 0.1, real_points()
    with keras.use_backend(backend):
        model = gan(lambda: keras.optimizers.SGD(rate), label_noise=0.0)
        generator, discriminator = model.generator, model.discriminator
        seeds = keras.random.SeedGenerator(7)
        noise = [keras.random.normal((64, 3), seed=seeds) for _ in range(2)]

        def moved(part, loss_of, *arrays):
            def gradients(*values):
                with keras.GradientTape() as tape:
                    loss = loss_of(*values)
                return tuple(tape.gradient(loss, part.trainable_weights))

            found = TracedFunction(gradients)(*arrays)
            return [w.numpy() - rate * g for w, g in zip(part.weights, found, strict=True)]

        def d_loss(z, real):
            both = ops.concatenate([generator(z), real], axis=0)
            labels = ops.concatenate([ops.ones_like(real[:, :1]), ops.zeros_like(real[:, :1])], 0)
            return model.loss_fn(labels, discriminator(both))

        def g_loss(z):
            found = discriminator(generator(z))
            return model.loss_fn(ops.zeros_like(found), found)

        twin = gan(lambda: keras.optimizers.SGD(rate), label_noise=0.0)
        twin.train_on_batch(points)
        discriminator.set_weights(moved(discriminator, d_loss, noise[0], points))
        generator.set_weights(moved(generator, g_loss, noise[1]))
        same_weights(discriminator.get_weights(), twin.discriminator.get_weights(), exactly=False)
        same_weights(generator.get_weights(), twin.generator.get_weights(), exactly=False)


def test_a_gan_fits():
    model = gan(lambda: keras.optimizers.Adam(0.01))
    before = model.get_weights()
    history = model.fit(real_points(), epochs=3, verbose=0).history
    assert list(history) == ["d_loss", "g_loss"]
    assert all(0 < v < 5 for values in history.values() for v in values)
    assert all((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


def test_a_gan_draws_new_noise_in_every_step():
    class Noise(keras.Model):
        def train_step(self, data):
            noise = keras.random.normal((1,), seed=self.seeds)
            other = keras.random.uniform((1,), minval=2.0, maxval=3.0)
            return {"noise": ops.sum(noise), "other": ops.sum(other)}

    i = keras.Input((2,))
    model = Noise(i, layers.Dense(1)(i))
    model.seeds = keras.random.SeedGenerator(5)
    model.compile("sgd")
    seen = []

    class Note(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append((logs["noise"], logs["other"]))

    model.fit(np.ones((8, 2), "float32"), batch_size=2, verbose=0, callbacks=[Note()])
    assert len({n for n, _ in seen}) == len({o for _, o in seen}) == 4
    assert all(2 <= o < 3 for _, o in seen)
    same = keras.random.SeedGenerator(5)
    want = [float(keras.random.normal((1,), seed=same)[0]) for _ in range(4)]
    np.testing.assert_allclose([n for n, _ in seen], want, rtol=1e-5)


def test_each_hook_of_evaluate_and_predict_may_be_overridden():
    class Hooked(keras.Model):
        def test_step(self, data):
            logs = super().test_step(data)
            return {"loss": logs["loss"], "sum": ops.sum(data[1])}

        def predict_step(self, data):
            return {"once": super().predict_step(data), "twice": 2 * self(data)}

    model = made(Hooked)
    found = model.evaluate(X, Y, batch_size=48, verbose=0, return_dict=True)
    assert list(found) == ["loss", "sum"]
    np.testing.assert_allclose(found["sum"], Y.sum(), rtol=1e-5)
    for outputs in (
        model.predict(X, verbose=0),
        model.predict(X, batch_size=5, verbose=0),
        model.predict_on_batch(X),
    ):
        np.testing.assert_allclose(outputs["twice"], 2 * outputs["once"], rtol=1e-6)
        np.testing.assert_allclose(outputs["once"], model(X), rtol=1e-5, atol=1e-6)


def test_compute_loss_and_metrics_may_be_overridden():
    class Own(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return 3.0 * super().compute_loss(x, y, y_pred, sample_weight)

        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            found = super().compute_metrics(x, y, y_pred, sample_weight)
            found["largest"] = ops.max(y_pred)
            return found

        def get_metrics_result(self):
            return {f"my_{k}": v for k, v in super().get_metrics_result().items()}

    plain = made(optimizer=keras.optimizers.SGD(0.0)).fit(X, Y, batch_size=48, verbose=0).history
    own = made(Own, optimizer=keras.optimizers.SGD(0.0)).fit(X, Y, batch_size=48, verbose=0).history
    assert set(own) == {"my_loss", "my_mae", "largest"}
    np.testing.assert_allclose(own["my_loss"][0], 3 * plain["loss"][0], rtol=1e-6)
    np.testing.assert_allclose(own["largest"][0], made()(X).max(), rtol=1e-5)


def test_metrics_property_says_what_is_reset_and_reported():
    class Own(keras.Model):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.tracker = keras.metrics.Mean(name="own")

        @property
        def metrics(self):
            return [self.tracker]

        def train_step(self, data):
            self.tracker.update_state(ops.mean(data[1]))
            return {"own": self.tracker.result()}

    model = made(Own)
    history = model.fit(X, Y, batch_size=16, shuffle=False, epochs=2, verbose=0).history
    np.testing.assert_allclose(history["own"], [Y.mean()] * 2, rtol=1e-5)


def test_own_train_function_is_called_for_every_step():
    calls = []

    class Own(keras.Model):
        def make_train_function(self, force=False):
            inner = super().make_train_function(force)
            if self.wrapped is None or force:

                def function(iterator):
                    batch = next(iterator)
                    calls.append(len(batch[0]))
                    return {**inner(iter([batch])), "calls": len(calls)}

                self.wrapped = self.train_function = function
            return self.wrapped

    Own.wrapped = None
    model = made(Own)
    history = model.fit(X, Y, batch_size=20, epochs=2, verbose=0).history
    assert calls == [20, 20, 8] * 2
    assert history["calls"] == [3, 6]
    assert history["loss"][1] < history["loss"][0]
    assert model.train_on_batch(X, Y, return_dict=True)["calls"] == 7


def test_errors_of_a_step_come_through():
    class Broken(keras.Model):
        def train_step(self, data):
            raise KeyError("mine")

    model = made(Broken)
    before = model.get_weights()
    for call in (lambda: model.fit(X, Y, verbose=0), lambda: model.train_on_batch(X, Y)):
        with pytest.raises(KeyError, match="mine"):
            call()
    same_weights(before, model.get_weights())


@pytest.mark.parametrize(
    "use",
    (
        lambda loss: np.sqrt(loss) + 1,
        lambda loss: float(loss) + 1,
        lambda loss: loss.numpy(),
        lambda loss: 1.0 if loss > 1 else 2.0,
    ),
    ids=("numpy", "float", "content", "if"),
)
def test_a_step_that_needs_numbers_is_refused_with_its_place(use):
    class Numbers(keras.Model):
        def train_step(self, data):
            x, y = data
            loss = self.compute_loss(x, y, self(x))
            return {"loss": use(loss)}

    model = made(Numbers)
    with pytest.raises(TypeError, match=r"(?s)train_step\(\) of .*run_eagerly=True") as caught:
        model.fit(X, Y, verbose=0)
    assert "test_custom_steps.py:" in str(caught.value)
    assert "lambda loss" in str(caught.value)


def test_libraries_that_are_given_symbolic_values_are_named_with_the_place():
    def of_a_library(value):  # as torch and scikit-learn word it
        raise TypeError(f"argument 'input' must be Tensor, not {type(value).__name__}")

    def mean_of_library(y_true, y_pred):
        return of_a_library(y_pred)

    class Calls(keras.Model):
        def call(self, x):
            return of_a_library(x) if x.shape[-1] == 2 else x

    model = made(keras.Model)
    model.compile("sgd", "mse", metrics=[mean_of_library])
    before = model.get_weights()
    words = r"(?s)library was given a symbolic .* test_custom_steps.py:.* run_eagerly=True"
    with pytest.raises(TypeError, match=words):
        model.fit(X, Y, verbose=0)
    with pytest.raises(TypeError, match=words):
        Calls().predict(X[:, :2], verbose=0)
    same_weights(before, model.get_weights())
    model.compile("sgd", "mse", metrics=[lambda y_true, y_pred: 1 / 0])
    with pytest.raises(ZeroDivisionError):  # all else comes as it is
        model.fit(X, Y, verbose=0)


def test_reading_a_variable_as_numbers_inside_a_step_is_refused():
    class Frozen(keras.Model):
        def train_step(self, data):
            return {"weight": float(self.weights[0].numpy().sum())}

    with pytest.raises(TypeError, match="run_eagerly=True"):
        made(Frozen).fit(X, Y, verbose=0)


@pytest.mark.parametrize(
    ("returned", "message"),
    (
        (lambda loss, x: loss, "must return a dict"),
        (lambda loss, x: {"x": x}, "depend on the batch"),
    ),
)
def test_what_a_step_returns_is_checked(returned, message):
    class Odd(keras.Model):
        def train_step(self, data):
            x, y = data
            return returned(self.compute_loss(x, y, self(x)), x)

    with pytest.raises((TypeError, ValueError), match=message):
        made(Odd).fit(X, Y, verbose=0)


def test_the_form_of_the_jax_backend_is_named():
    class Jax(keras.Model):
        def train_step(self, state, data):
            return {}, state

    with pytest.raises(TypeError, match=r"\(self, data\)"):
        made(Jax).fit(X, Y, verbose=0)


def test_batches_of_a_data_set_reach_the_step_too():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return X[index * 16 : index * 16 + 16], Y[index * 16 : index * 16 + 16]

    runs = [
        made(cls).fit(Batches(), shuffle=False, verbose=0).history for cls in (ByHand, keras.Model)
    ]
    same_history(*runs)


def test_a_step_may_update_the_same_weights_several_times():
    """As in WGAN-GP, where the critic learns five times a step: each tape sees the last update."""

    class Twice(keras.Model):
        def train_step(self, data):
            x, y = data
            for _ in range(2):
                with keras.GradientTape() as tape:
                    loss = self.compute_loss(x, y, self(x, training=True))
                weights = self.trainable_weights
                self.optimizer.apply(tape.gradient(loss, weights), weights)
            return {"loss": loss}

    twice, once = (made(cls, optimizer=keras.optimizers.Adam(0.1)) for cls in (Twice, keras.Model))
    twice.train_on_batch(X, Y)
    once.train_on_batch(X, Y)
    once.train_on_batch(X, Y)
    same_weights(once.get_weights(), twice.get_weights(), exactly=False)
    assert int(twice.optimizer.iterations.numpy()) == 2


@pytest.mark.parametrize("source", ("arrays", "generator"))
def test_callbacks_see_every_nth_batch(source):
    seen = []

    class Note(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(("begin", batch))

        def on_train_batch_end(self, batch, logs=None):
            seen.append(("end", batch, set(logs)))

    def batches():
        for start in range(0, 40, 8):
            yield X[start : start + 8], Y[start : start + 8]

    model = made(steps_per_execution=2)
    if source == "arrays":
        model.fit(X[:40], Y[:40], batch_size=8, verbose=0, callbacks=[Note()])
    else:
        model.fit(batches(), steps_per_epoch=5, verbose=0, callbacks=[Note()])
    names = {"loss", "mae"}
    assert seen == [
        ("begin", 0), ("end", 1, names), ("begin", 2), ("end", 3, names), ("begin", 4),
        ("end", 5, names),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="steps_per_execution"):
        made(steps_per_execution=0)


def test_an_error_in_a_step_is_raised_once():
    """It is not taken for a guard that refused a batch, which would look for the row."""
    calls = []

    class Failing(keras.Model):
        def call(self, x):
            calls.append(1)
            raise ValueError("mine")

    model = Failing()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="mine") as caught:
        model.fit(np.ones((8, 2), np.float32), np.ones((8, 1), np.float32), verbose=0)
    assert len(calls) == 1
    assert caught.value.__context__ is None
