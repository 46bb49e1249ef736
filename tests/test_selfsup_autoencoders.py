"""Autoencoders of handmill.selfsup, and the task of rotations."""

from __future__ import annotations

import numpy as np
import pytest

import handmill as hm
from handmill import layers, ops, selfsup
from handmill.errors import TrainingWarning

RNG = np.random.default_rng(7)
X = (RNG.uniform(size=(160, 2)) @ RNG.uniform(0.2, 0.5, size=(2, 6))).astype("float32")
IMAGES = RNG.uniform(0, 0.2, size=(96, 8, 8)).astype("float32")
IMAGES[:, :2] += 0.7


def loss_after(model, x=X, epochs=1, rate=0.01, optimizer=None, **fit):
    hm.utils.set_random_seed(1)
    model.compile(hm.optimizers.Adam(rate) if optimizer is None else optimizer)
    return model.fit(x, batch_size=32, epochs=epochs, verbose=0, **fit).history["loss"]


def still():
    return hm.optimizers.SGD(0.0)


def test_an_autoencoder_makes_rows_again():
    model = selfsup.Autoencoder(hm.Sequential([layers.Dense(2)]), layers.Dense(6))
    losses = loss_after(model, epochs=60, rate=0.02)
    assert losses[-1] < 0.01 * losses[0]
    want = np.mean((model.predict(X, verbose=0) - X) ** 2)
    assert model.evaluate(X, verbose=0) == pytest.approx(want, rel=1e-4)
    assert model.encoder.predict(X, verbose=0).shape == (160, 2)


def test_noise_is_seen_in_training_alone():
    same = layers.Dense(6, kernel_initializer="identity")
    model = selfsup.DenoisingAutoencoder(same, layers.Identity(), noise=0.5, masking=0.0)
    loss = loss_after(model, np.zeros((2000, 6), "float32"), optimizer=still())[0]
    assert loss == pytest.approx(0.25, rel=0.05)
    assert model.evaluate(X, verbose=0) == 0.0
    clipped = selfsup.DenoisingAutoencoder(
        layers.Dense(6), layers.Dense(6), noise=9.0, masking=0.3, clip=(0, 1)
    )
    seen, _ = clipped.spoil(np.ones((500, 6), "float32"))
    seen = np.asarray(seen)
    assert seen.min() == 0
    assert seen.max() == 1
    masked, _ = selfsup.DenoisingAutoencoder(
        layers.Dense(6), layers.Dense(6), noise=0.0, masking=0.3
    ).spoil(np.ones((2000, 6), "float32"))
    assert np.mean(np.asarray(masked) == 0) == pytest.approx(0.3, abs=0.02)


def test_a_sparse_code_costs_its_size():
    plain = selfsup.Autoencoder(hm.Sequential([layers.Dense(3)]), layers.Dense(6))
    sparse = selfsup.Autoencoder(plain.encoder, plain.decoder, sparsity=0.5)
    without = loss_after(plain, optimizer=still())[0]
    with_it = loss_after(sparse, optimizer=still())[0]
    code = plain.encoder.predict(X, verbose=0)
    assert with_it - without == pytest.approx(0.5 * np.abs(code).sum(axis=1).mean(), rel=1e-3)


@pytest.mark.parametrize("activation", ("sigmoid", "tanh", "relu", None))
def test_contraction_of_one_layer_is_exact(activation):
    dense = layers.Dense(3, activation=activation)
    plain = selfsup.Autoencoder(dense, layers.Dense(6))
    without = loss_after(plain, optimizer=still())[0]
    model = selfsup.Autoencoder(dense, plain.decoder, contraction=2.0)
    with_it = loss_after(model, optimizer=still())[0]
    step, kernel = 1e-3, dense.kernel.numpy()
    code = np.asarray(dense(X), np.float64)
    slopes = {
        "sigmoid": code * (1 - code),
        "tanh": 1 - code**2,
        "relu": (code > 0) * 1.0,
        None: np.ones_like(code),
    }[activation]
    want = 2.0 * np.mean(np.sum(slopes**2 * np.sum(kernel**2, axis=0), axis=1))
    assert with_it - without == pytest.approx(want, rel=1e-3)
    if activation == "sigmoid":  # against differences of the code
        total = 0.0
        for i in range(6):
            moved = X.copy()
            moved[:, i] += step
            total += np.mean(np.sum(((np.asarray(dense(moved)) - code) / step) ** 2, axis=1))
        assert want == pytest.approx(2 * total, rel=2e-2)


def test_contraction_of_any_encoder_is_estimated():
    deep = hm.Sequential([layers.Dense(8, activation="tanh"), layers.Dense(3)])
    plain = selfsup.Autoencoder(deep, layers.Dense(6))
    without = loss_after(plain, optimizer=still())[0]
    model = selfsup.Autoencoder(deep, plain.decoder, contraction=1.0)
    losses = loss_after(model, epochs=60, optimizer=still())
    first, second = (layer.kernel.numpy() for layer in deep.layers)
    hidden = np.tanh(X @ first + deep.layers[0].bias.numpy())
    want = np.mean([np.sum((first * (1 - h**2) @ second) ** 2) for h in hidden])
    assert np.mean(losses) - without == pytest.approx(want, rel=0.05)
    trained = selfsup.Autoencoder(deep, plain.decoder, contraction=1.0)
    losses = loss_after(trained, epochs=10)
    assert losses[-1] < losses[0]


def test_hidden_patches_alone_count():
    zeros = {"kernel_initializer": "zeros"}
    flat = hm.Sequential([layers.Flatten(), layers.Dense(3)])
    decoder = hm.Sequential([layers.Dense(64, **zeros), layers.Reshape((8, 8))])
    model = selfsup.MaskedAutoencoder(flat, decoder, patch=4, hidden=0.5)
    images = np.ones((64, 8, 8), "float32")
    assert loss_after(model, images, optimizer=still())[0] == pytest.approx(1.0, rel=1e-5)
    seen, mask = (np.asarray(v) for v in model.spoil(images))
    np.testing.assert_array_equal(seen, 1 - mask)
    patches = mask.reshape(64, 2, 4, 2, 4)
    assert np.ptp(patches, axis=(2, 4)).max() == 0  # whole patches
    assert mask.mean() == pytest.approx(0.5, abs=0.1)
    colours = selfsup.MaskedAutoencoder(flat, decoder, patch=2)
    _, mask = colours.spoil(np.ones((4, 8, 6, 3), "float32"))
    assert np.ptp(np.asarray(mask), axis=3).max() == 0
    rows = selfsup.MaskedAutoencoder(flat, decoder, patch=3).spoil(np.ones((4, 6), "float32"))
    assert np.asarray(rows[1]).shape == (4, 6)
    with pytest.raises(ValueError, match="patch=3 does not divide 8"):
        loss_after(selfsup.MaskedAutoencoder(flat, decoder, patch=3), images)


def vae(**arguments):
    return selfsup.VAE(
        layers.Dense(16, activation="relu"), layers.Dense(6), latent_dim=2, **arguments
    )


def test_the_loss_of_a_vae_is_the_bound():
    model = vae()
    model.compile("adam")
    logs = model.evaluate(X, batch_size=160, verbose=0, return_dict=True)
    mean, log_variance = (np.asarray(v, np.float64) for v in model.encode(X))
    kl = -0.5 * np.sum(1 + log_variance - mean**2 - np.exp(log_variance), axis=1).mean()
    assert logs["kl"] == pytest.approx(kl, rel=1e-4)
    # Of the reconstruction only what noise leaves: 6 numbers of at most log 2 and a little.
    assert 0 < logs["loss"] - logs["kl"] < 10
    gaussian = vae(likelihood="gaussian")
    assert float(gaussian.compare(X, X + 2)) == pytest.approx(6 * 2.0, rel=1e-5)
    logits = np.zeros((160, 6), "float32")
    assert float(model.compare(X, logits)) == pytest.approx(6 * np.log(2), rel=1e-5)


def test_a_vae_learns_and_makes_new_rows():
    model = vae(likelihood="gaussian", beta=0.1)
    losses = loss_after(model, 20 * X - 6, epochs=30)
    assert losses[-1] < losses[0]
    rows = model.sample(50)
    assert rows.shape == (50, 6)
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(rows, model.sample(50))
    assert model.predict(X, verbose=0).shape == X.shape
    assert 0 < vae().sample(3).min() <= vae().sample(3).max() < 1


@pytest.mark.filterwarnings("ignore:.*the code is not used")
def test_beta_warms_up_inside_the_step():
    model = vae(beta=4.0, warmup=10)
    assert loss_after(model, epochs=1, optimizer=still())[0] > 0
    assert float(model.code.steps.numpy()) == 5  # of 160 rows, 32 a step
    zeros = np.zeros((8, 2), "float32")

    class Divergence(hm.Model):
        def __init__(self, code):
            super().__init__()
            self.code = code
            self.unused = layers.Dense(1)

        def call(self, x, training=None):
            return self.unused(self.code([x, 0 * x], training=training))

    code = selfsup.GaussianCode(beta=4.0, warmup=8)
    outer = Divergence(code)
    outer.compile(still(), lambda y_true, y_pred: ops.mean(0 * y_pred))
    means = zeros + 1.0
    losses = [outer.train_on_batch(means, zeros[:, :1])[0] for _ in range(10)]
    np.testing.assert_allclose(losses, [4 * min(1, k / 8) for k in range(1, 11)], rtol=1e-5)
    assert outer.evaluate(means, zeros[:, :1], verbose=0)[0] == pytest.approx(1.0, rel=1e-5)


def test_huge_variances_are_cut():
    code = selfsup.GaussianCode()
    zeros = np.zeros((4, 2), "float32")
    with hm.GradientTape() as tape:
        variance = tape.watch(ops.convert_to_tensor(zeros + 200))
        z = code([zeros, variance])
        total = ops.sum(z) + code.losses[0]
    assert np.isfinite(np.asarray(z)).all()
    assert float(code.losses[0]) == pytest.approx(-0.5 * 2 * (1 + 10 - np.exp(10)), rel=1e-4)
    assert np.isfinite(np.asarray(tape.gradient(total, variance))).all()


def test_free_bits():
    code = selfsup.GaussianCode(free_bits=0.5)
    zeros = np.zeros((4, 3), "float32")
    code([zeros, zeros], training=True)
    assert float(code.losses[0]) == pytest.approx(1.5)
    code([zeros, zeros], training=False)
    assert float(code.losses[0]) == pytest.approx(0, abs=1e-6)


def test_a_code_that_is_not_used_is_named():
    noise = RNG.uniform(size=(160, 6)).astype("float32")
    with pytest.warns(TrainingWarning, match="the code is not used"):
        loss_after(vae(beta=20.0), noise, epochs=25)


def test_rotations_are_told_apart():
    encoder = hm.Sequential([layers.Flatten(), layers.Dense(16, activation="relu")])
    model = selfsup.RotationPrediction(encoder)
    model.compile(hm.optimizers.Adam(0.01))
    history = model.fit(IMAGES, batch_size=32, epochs=15, verbose=0).history
    assert history["accuracy"][-1] > 0.95
    assert set(history) == {"loss", "accuracy"}
    turned = np.asarray(model.turned(IMAGES[:2]))
    want = np.concatenate([np.rot90(IMAGES[:2], k, axes=(1, 2)) for k in range(4)])
    np.testing.assert_array_equal(turned, want)
    for shape in ((4, 8, 6), (4, 8)):
        with pytest.raises(ValueError, match="square images"):
            model.fit(np.ones(shape, "float32"), verbose=0)


def test_bad_arguments_are_named():
    flat = layers.Dense(3)
    for arguments, words in (
        ({"sparsity": -1}, "sparsity"),
        ({"contraction": np.nan}, "contraction"),
    ):
        with pytest.raises(ValueError, match=words):
            selfsup.Autoencoder(flat, flat, **arguments)
    with pytest.raises(ValueError, match="`decoder` must be a layer"):
        selfsup.Autoencoder(flat, None)
    with pytest.raises(ValueError, match="masking"):
        selfsup.DenoisingAutoencoder(flat, flat, masking=1.0)
    with pytest.raises(ValueError, match="hidden"):
        selfsup.MaskedAutoencoder(flat, flat, hidden=0)
    for arguments, words in (
        ({"likelihood": "poisson"}, "likelihood"),
        ({"latent_dim": 0}, "latent_dim"),
        ({"beta": -1}, "beta"),
        ({"warmup": -1}, "warmup"),
    ):
        with pytest.raises(ValueError, match=words):
            selfsup.VAE(flat, flat, **arguments)
    model = selfsup.Autoencoder(layers.Dense(2), layers.Dense(5))
    model.compile("adam")
    with pytest.raises(ValueError, match=r"makes rows of shape \(5,\), the data have \(6,\)"):
        model.fit(X, verbose=0)
    with pytest.raises(ValueError, match="without y"):
        model.fit(X, X, verbose=0)
    with pytest.raises(ValueError, match="takes no loss"):
        model.compile("adam", loss="mse")


@pytest.mark.parametrize("kind", ("Autoencoder", "VAE"))
def test_saved_and_loaded(kind, tmp_path):
    model = (
        vae(warmup=9) if kind == "VAE" else selfsup.Autoencoder(layers.Dense(2), layers.Dense(6))
    )
    loss_after(model)
    path = tmp_path / "model.hmill"
    model.save(path)
    again = hm.models.load_model(path)
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    assert again.evaluate(X, verbose=0) == pytest.approx(model.evaluate(X, verbose=0))
