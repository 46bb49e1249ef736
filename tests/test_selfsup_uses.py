"""What learning without labels refuses by name, gives a defined answer to, or can be asked."""

import numpy as np
import pytest

import handmill
from handmill import layers, selfsup

X = np.random.default_rng(0).uniform(size=(40, 6)).astype("float32")


def vae(**arguments):
    model = selfsup.VAE(layers.Dense(8, "relu"), layers.Dense(6), latent_dim=2, **arguments)
    model.compile("adam")
    return model


def test_rows_that_are_no_shares_are_refused_before_training():
    model = vae()
    with pytest.raises(ValueError, match=r"bernoulli' is for numbers from 0 to 1, .* 0 to 255"):
        model.fit(np.array([[0, 255, 1, 2, 3, 4]] * 8, "uint8"), verbose=0)
    assert not model.built
    with pytest.raises(ValueError, match=r"the rows hold -1 to 1"):
        model.fit(2 * (X > 0.5) - 1.0, verbose=0)
    far = vae(likelihood="gaussian")
    assert np.isfinite(far.fit(255 * X, verbose=0).history["loss"]).all()


def test_a_code_of_one_tensor_is_named():
    with pytest.raises(ValueError, match=r"call it on \[mean, log_variance\].* \(B, 2\)"):
        selfsup.GaussianCode()(np.zeros((2, 2), "float32"))


@pytest.mark.parametrize("kind", (selfsup.SimSiam, selfsup.BYOL))
def test_a_predictor_of_another_width_is_named(kind):
    encoder = handmill.Sequential([handmill.Input((6,)), layers.Dense(8)])
    model = kind(encoder, layers.GaussianNoise(0.1), selfsup.projection_head(4, hidden=8))
    model.compile("adam")
    with pytest.raises(ValueError, match=r"shape \(4,\), the predictor \(128,\).*head\(4\)"):
        model.fit(X, verbose=0)


def test_labels_that_are_missing_are_classes_of_their_own():
    z = X[:4]
    labels = np.array([0.0, 1.0, 0.0, np.nan])
    named = selfsup.sup_con(z, [0, 1, 0, 2])
    np.testing.assert_array_equal(selfsup.sup_con(z, labels), named)
    assert float(selfsup.sup_con(z, np.full(4, np.nan))) == 0


@pytest.mark.slow
def test_a_profile_is_of_the_training_step():
    encoder = handmill.Sequential([handmill.Input((6,)), layers.Dense(8)])
    model = selfsup.SimCLR(encoder, layers.GaussianNoise(0.1), selfsup.projection_head(4))
    assert model.profile(X, batch_size=20).kind == "inference"
    model.compile("adam")
    before = [w.copy() for w in model.get_weights()]
    found = model.profile(X, batch_size=20)
    assert found.kind == "training"
    assert "product_logsumexp" in {launch.kernel for launch in found.launches}
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert encoder.profile(X, batch_size=20).kind == "inference"
