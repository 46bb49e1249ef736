"""Learning without labels as Keras's own examples write it: a ``train_step`` with a tape."""

from __future__ import annotations

import numpy as np
import pytest

import handmill as keras
from handmill import layers, ops

RNG = np.random.default_rng(0)
X = RNG.uniform(0, 1, size=(60, 6, 6, 1)).astype("float32")
Y = RNG.integers(0, 3, 60)


class Contrastive(keras.Model):
    """SimCLR with a probe that learns beside it; two optimizers, batches of two sizes."""

    def __init__(self):
        super().__init__()
        self.augmenter = keras.Sequential([layers.RandomFlip("horizontal", seed=1)])
        self.encoder = keras.Sequential([layers.Flatten(), layers.Dense(8, activation="relu")])
        self.head = keras.Sequential([keras.Input((8,)), layers.Dense(4)])
        self.probe = keras.Sequential([keras.Input((8,)), layers.Dense(3)])

    def compile(self, contrastive_optimizer, probe_optimizer, **kwargs):
        super().compile(**kwargs)
        self.contrastive_optimizer = contrastive_optimizer
        self.probe_optimizer = probe_optimizer
        self.probe_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.c_loss = keras.metrics.Mean(name="c_loss")
        self.c_acc = keras.metrics.SparseCategoricalAccuracy(name="c_acc")
        self.p_acc = keras.metrics.SparseCategoricalAccuracy(name="p_acc")

    @property
    def metrics(self):
        return [self.c_loss, self.c_acc, self.p_acc]

    def contrastive_loss(self, first, second):
        first, second = ops.normalize(first, axis=1), ops.normalize(second, axis=1)
        similarities = ops.matmul(first, ops.transpose(second)) / 0.1
        labels = ops.arange(ops.shape(first)[0])
        self.c_acc.update_state(labels, similarities)
        self.c_acc.update_state(labels, ops.transpose(similarities))
        both = [
            keras.losses.sparse_categorical_crossentropy(labels, s, from_logits=True)
            for s in (similarities, ops.transpose(similarities))
        ]
        return (both[0] + both[1]) / 2

    def train_step(self, data):
        (unlabeled, _), (labeled, labels) = data
        images = ops.concatenate((unlabeled, labeled), axis=0)
        views = [self.augmenter(images, training=True) for _ in range(2)]
        with keras.GradientTape() as tape:
            first, second = (self.head(self.encoder(v, training=True)) for v in views)
            loss = self.contrastive_loss(first, second)
        weights = self.encoder.trainable_weights + self.head.trainable_weights
        gradients = tape.gradient(loss, weights)
        self.contrastive_optimizer.apply_gradients(zip(gradients, weights, strict=True))
        self.c_loss.update_state(loss)
        with keras.GradientTape() as tape:
            logits = self.probe(self.encoder(labeled, training=False), training=True)
            loss = self.probe_loss(labels, logits)
        weights = self.probe.trainable_weights
        gradients = tape.gradient(loss, weights)
        self.probe_optimizer.apply_gradients(zip(gradients, weights, strict=True))
        self.p_acc.update_state(labels, logits)
        return {m.name: m.result() for m in self.metrics}


def contrastive(**arguments):
    keras.utils.set_random_seed(2)
    model = Contrastive()
    model.compile(keras.optimizers.Adam(0.01), keras.optimizers.Adam(0.01), **arguments)
    from_rows = keras.data.Dataset.from_tensor_slices
    parts = from_rows((X[:48], Y[:48])).batch(16), from_rows((X[48:], Y[48:])).batch(4)
    return model.fit(keras.data.Dataset.zip(parts), epochs=3, verbose=0).history


@pytest.mark.slow
def test_simclr():
    history = contrastive()
    assert list(history) == ["c_acc", "c_loss", "p_acc"]
    assert history["c_loss"][-1] < history["c_loss"][0]
    for name, values in contrastive(run_eagerly=True).items():
        np.testing.assert_allclose(values, history[name], rtol=1e-4, atol=1e-5)


def test_rows_that_differ_are_an_error_of_other_steps():
    model = keras.Sequential([layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"cardinality is ambiguous.*'x' sizes: 9; 'y' sizes: 8"):
        model.fit(keras.data.Dataset.from_generator(lambda: iter([(X[:9], Y[:8])])), verbose=0)


class SimSiam(keras.Model):
    def __init__(self, encoder, predictor):
        super().__init__()
        self.encoder = encoder
        self.predictor = predictor
        self.tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.tracker]

    def train_step(self, data):
        first, second = data

        def loss_of(p, z):
            z = ops.normalize(ops.stop_gradient(z), axis=1)
            return -ops.mean(ops.sum(ops.normalize(p, axis=1) * z, axis=1))

        with keras.GradientTape() as tape:
            z1, z2 = self.encoder(first), self.encoder(second)
            p1, p2 = self.predictor(z1), self.predictor(z2)
            loss = loss_of(p1, z2) / 2 + loss_of(p2, z1) / 2
        weights = self.encoder.trainable_variables + self.predictor.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


def test_simsiam():
    histories = []
    for eagerly in (False, True):
        keras.utils.set_random_seed(2)
        encoder = keras.Sequential(
            [keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(8), layers.BatchNormalization()]
        )
        predictor = keras.Sequential([keras.Input((8,)), layers.Dense(2), layers.Dense(8)])
        model = SimSiam(encoder, predictor)
        rate = keras.optimizers.schedules.CosineDecay(0.03, 100)
        model.compile(keras.optimizers.SGD(rate, momentum=0.6), run_eagerly=eagerly)
        fit = {"batch_size": 16, "epochs": 3, "shuffle": False, "verbose": 0}
        histories.append(model.fit(X, X + 0.1, **fit).history["loss"])
    assert histories[0][-1] < histories[0][0]
    np.testing.assert_allclose(*histories, rtol=1e-4)


class Sampling(layers.Layer):
    """Draws codes, with a generator of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        mean, log_variance = inputs
        batch, width = ops.shape(mean)[0], ops.shape(mean)[1]
        noise = keras.random.normal(shape=(batch, width), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_variance) * noise


def coder(width):
    inputs = keras.Input((6, 6, 1))
    x = layers.Conv2D(4, 3, activation="relu", strides=2, padding="same")(inputs)
    x = layers.Dense(8, activation="relu")(layers.Flatten()(x))
    mean, log_variance = (layers.Dense(width, name=n)(x) for n in ("z_mean", "z_log_var"))
    codes = Sampling()([mean, log_variance])
    return keras.Model(inputs, [mean, log_variance, codes], name="encoder")


def decoder(width):
    inputs = keras.Input((width,))
    x = layers.Reshape((3, 3, 4))(layers.Dense(3 * 3 * 4, activation="relu")(inputs))
    x = layers.Conv2DTranspose(4, 3, activation="relu", strides=2, padding="same")(x)
    outputs = layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(x)
    return keras.Model(inputs, outputs, name="decoder")


class Variational(keras.Model):
    """Two models and three sums, the loss put together in the step."""

    def __init__(self, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        names = ("loss", "reconstruction_loss", "kl_loss")
        self.trackers = [keras.metrics.Mean(name=name) for name in names]

    @property
    def metrics(self):
        return self.trackers

    def train_step(self, data):
        with keras.GradientTape() as tape:
            mean, log_variance, codes = self.encoder(data)
            made = self.decoder(codes)
            each = keras.losses.binary_crossentropy(data, made)
            reconstruction = ops.mean(ops.sum(each, axis=(1, 2)))
            kl = -0.5 * (1 + log_variance - ops.square(mean) - ops.exp(log_variance))
            kl = ops.mean(ops.sum(kl, axis=1))
            total = reconstruction + kl
        gradients = tape.gradient(total, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        for tracker, value in zip(self.trackers, (total, reconstruction, kl), strict=True):
            tracker.update_state(value)
        return {tracker.name: tracker.result() for tracker in self.trackers}


@pytest.mark.slow
def test_a_variational_autoencoder():
    histories = []
    for eagerly in (False, True):
        keras.utils.set_random_seed(2)
        model = Variational(coder(2), decoder(2))
        model.compile(keras.optimizers.Adam(0.01), run_eagerly=eagerly)
        fit = {"batch_size": 16, "epochs": 4, "verbose": 0}  # a last batch of 12
        histories.append(model.fit(X, **fit).history)
    found, eager = histories
    assert list(found) == ["kl_loss", "loss", "reconstruction_loss"]
    assert found["loss"][-1] < found["loss"][0]
    np.testing.assert_allclose(
        found["loss"], np.add(found["kl_loss"], found["reconstruction_loss"]), rtol=1e-5
    )
    for name, values in eager.items():
        np.testing.assert_allclose(values, found[name], rtol=1e-3, atol=1e-5)
    assert model.decoder.predict(np.zeros((3, 2)), verbose=0).shape == (3, 6, 6, 1)


def test_a_variational_autoencoder_whose_layer_adds_its_loss():
    class Divergence(layers.Layer):
        def call(self, inputs):
            mean, log_variance = inputs
            terms = 1 + log_variance - ops.square(mean) - ops.exp(log_variance)
            self.add_loss(-0.5 * ops.mean(ops.sum(terms, axis=1)))
            return inputs

    keras.utils.set_random_seed(2)
    encoder, made = coder(2), decoder(2)
    inputs = keras.Input((6, 6, 1))
    mean, log_variance, _ = encoder(inputs)
    moments = Divergence()([mean, log_variance])
    model = keras.Model(inputs, made(Sampling()(moments)))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    loss = model.fit(X, X, batch_size=60, verbose=0).history["loss"][0]
    mean, log_variance, _ = encoder.predict(X, batch_size=60, verbose=0)
    kl = -0.5 * np.mean(np.sum(1 + log_variance - mean**2 - np.exp(log_variance), axis=1))
    squares = model.evaluate(X, X, batch_size=60, verbose=0) - kl
    assert 0 < squares < 1
    assert loss == pytest.approx(squares + kl, rel=0.02)  # other codes, by their own seed


def test_a_denoising_autoencoder_of_convolutions():
    keras.utils.set_random_seed(2)
    noisy = np.clip(X + 0.4 * RNG.normal(size=X.shape), 0, 1).astype("float32")
    inputs = keras.Input((6, 6, 1))
    x = layers.Conv2D(8, (3, 3), activation="relu", padding="same")(inputs)
    x = layers.MaxPooling2D((2, 2), padding="same")(x)
    x = layers.Conv2DTranspose(8, (3, 3), strides=2, activation="relu", padding="same")(x)
    outputs = layers.Conv2D(1, (3, 3), activation="sigmoid", padding="same")(x)
    model = keras.Model(inputs, outputs)
    model.compile(optimizer="adam", loss="binary_crossentropy")
    fit = {"epochs": 5, "batch_size": 16, "shuffle": True, "verbose": 0}
    history = model.fit(x=X, y=X, validation_data=(X, X), **fit).history
    history = model.fit(x=noisy, y=X, validation_data=(noisy, X), **fit).history
    made = model.predict(noisy, verbose=0).astype(np.float64)
    want = -np.mean(X * np.log(made) + (1 - X) * np.log(1 - made))
    assert history["val_loss"][-1] == pytest.approx(want, rel=1e-4)
    assert history["val_loss"][-1] < history["val_loss"][0]


def test_a_loss_of_all_pairs_under_keras_names():
    """``keras.utils.normalize`` inside a loss, as in the example of supervised contrast."""

    class NPairs(keras.losses.Loss):
        def __call__(self, labels, features, sample_weight=None):
            rows = keras.utils.normalize(features, axis=1, order=2)
            logits = ops.matmul(rows, ops.transpose(rows)) / 0.05
            same = ops.cast(ops.equal(labels, ops.transpose(labels)), "float32")
            same /= ops.sum(same, 1, keepdims=True)
            return ops.mean(ops.categorical_crossentropy(same, logits, from_logits=True))

    model = keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(8)])
    model.compile(keras.optimizers.SGD(0.0), NPairs())
    loss = model.fit(X, Y[:, None], batch_size=60, verbose=0).history["loss"][0]
    z = model.predict(X, verbose=0).astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    s = z @ z.T / 0.05
    same = (Y[:, None] == Y) / (Y[:, None] == Y).sum(1, keepdims=True)
    want = np.mean(np.log(np.exp(s).sum(1)) - np.sum(same * s, axis=1))
    assert loss == pytest.approx(want, rel=1e-4)
    np.testing.assert_array_equal(keras.utils.normalize([[3.0, 4.0]]), [[0.6, 0.8]])


def test_sizes_as_shifts_counts_and_classes():
    class Sizes(layers.Layer):
        def call(self, x):
            count = ops.shape(x)[0]
            places = ops.arange(2 * count)
            rolled = ops.roll(places, count)
            back = ops.roll(places, -count)
            repeated = ops.repeat(ops.arange(2), count)
            tiled = ops.tile(ops.arange(2), count)
            hot = ops.sum(ops.one_hot(rolled, 2 * count), axis=0)
            parts = (rolled, back, repeated, tiled, hot)
            return ops.stack([ops.cast(p, "float32") for p in parts])

    layer = Sizes()
    for rows in (3, 5):
        places = np.arange(2 * rows)
        want = [np.roll(places, rows), np.roll(places, -rows), np.repeat([0, 1], rows)]
        want += [np.tile([0, 1], rows), np.ones(2 * rows)]
        np.testing.assert_array_equal(layer(np.zeros((rows, 1), "float32")), want)
