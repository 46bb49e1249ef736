"""Maps of layers by their formulas, layers by their paths, and what units answer to most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import explanation, layers
from handmill.explanation.picture import resized

RNG = np.random.default_rng(0)
X = RNG.random((3, 10, 10, 3)).astype(np.float32)
CAMS = ("grad_cam", "grad_cam_pp", "layer_cam", "hires_cam", "score_cam")


def convnet(pooled: bool = False, **options: Any) -> Any:
    model = handmill.Sequential(
        [
            handmill.Input(X.shape[1:]),
            layers.Conv2D(6, 3, strides=2, activation="tanh", name="first"),
            layers.Conv2D(5, 2, activation="relu", name="second", **options),
            layers.GlobalAveragePooling2D() if pooled else layers.Flatten(),
            layers.Dense(4, "softmax"),
        ]
    )
    draw = np.random.default_rng(5)
    model.set_weights([draw.normal(0, 0.5, w.shape) for w in model.get_weights()])
    return model


def by_formula(name: str, a: Any, g: Any) -> Any:
    """The map of one row from the layer's maps (height, width, channels) and the gradient."""
    if name == "grad_cam":
        return np.maximum((a * g.mean((0, 1))).sum(-1), 0)
    if name == "layer_cam":
        return np.maximum((a * np.maximum(g, 0)).sum(-1), 0)
    if name == "hires_cam":
        return (a * g).sum(-1)
    below = 2 * g**2 + a.sum((0, 1)) * g**3
    share = np.divide(g**2, below, out=np.zeros_like(g), where=below != 0)
    return np.maximum((a * (share * np.maximum(g, 0)).sum((0, 1))).sum(-1), 0)


@pytest.mark.parametrize("name", CAMS[:4])
def test_maps_by_formula(name: str) -> None:
    model = convnet()
    a = explanation.activations(model, X, "second").values.astype(np.float64)
    w, bias = (v.astype(np.float64) for v in model.get_weights()[-2:])
    for target in range(4):
        found = getattr(explanation, name)(model, X, target)
        g = w[:, target].reshape(a.shape[1:])
        want = [by_formula(name, row, g) for row in a]
        np.testing.assert_allclose(found.values, want, rtol=2e-4, atol=2e-5)
        if name == "hires_cam":  # complete where a single Dense follows
            np.testing.assert_allclose(
                found.values.sum((1, 2)), found.scores - bias[target], rtol=1e-4, atol=1e-5
            )
    assert found.details == {"layer": "second"}


def test_cam_is_grad_cam_times_places() -> None:
    model = convnet(pooled=True)
    a = explanation.activations(model, X, "second").values
    w = model.get_weights()[-2]
    cam = explanation.class_activation_map(model, X, 2)
    np.testing.assert_allclose(cam.values, a @ w[:, 2], rtol=1e-4, atol=1e-6)
    grad = explanation.grad_cam(model, X, 2, relu=False)
    np.testing.assert_allclose(cam.values, grad.values * 9, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"needs a global average pooling .* use grad_cam"):
        explanation.class_activation_map(convnet(), X)


def test_score_cam_by_passes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model = convnet()
    plain = handmill.models.clone_model(model)
    plain.set_weights(model.get_weights())
    plain.layers[-1].activation = handmill.activations.linear
    a = explanation.activations(model, X, "first").values
    wants = []
    for row in range(3):
        scores = []
        for channel in range(a.shape[-1]):
            mask = a[row, :, :, channel]
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            seen = X[row] * resized(mask, (10, 10))[..., None]
            scores.append(plain.predict(seen[None].astype(np.float32), verbose=0)[0, 1])
        weights = np.exp(scores - np.max(scores))
        wants.append(np.maximum(a[row] @ (weights / weights.sum()), 0))
    found = explanation.score_cam(model, X, 1, layer="first")
    np.testing.assert_allclose(found.values, wants, rtol=1e-3, atol=1e-5)
    monkeypatch.setattr(explanation.cams, "_CHANNELS", 4)
    again = explanation.score_cam(model, X, 1, layer="first")
    np.testing.assert_allclose(again.values, found.values, rtol=1e-4, atol=1e-6)


def test_layers_by_path_in_nested_shared_and_loaded_models(tmp_path: Path) -> None:
    inner = convnet()
    encoder = handmill.Sequential([handmill.Input(X.shape[1:]), *inner.layers[:2]], name="encoder")
    a, b = handmill.Input(X.shape[1:], name="a"), handmill.Input(X.shape[1:], name="b")
    both = layers.Concatenate()([layers.Flatten()(encoder(a)), layers.Flatten()(encoder(b))])
    model = handmill.Model({"a": a, "b": b}, layers.Dense(2)(both))
    x = {"a": X, "b": X[::-1].copy()}
    with pytest.raises(
        ValueError,
        match=r"called 2 times: say which call, 'encoder/second:1' to 'encoder/second:2'",
    ):
        explanation.grad_cam(model, x, layer="encoder/second")
    w = model.get_weights()[-2].astype(np.float64)
    half = len(w) // 2
    for number in (1, 2):
        found = explanation.hires_cam(model, x, 1, layer=f"second:{number}")
        values = explanation.activations(model, x, f"encoder/second:{number}").values
        name = "encoder/second" if number == 1 else "encoder/second:2"
        np.testing.assert_array_equal(handmill.inspect(model, x)[name].value, values)
        of_a = np.abs(encoder.predict(X, verbose=0) - values).max() < 1e-6
        g = (w[:half] if of_a else w[half:])[:, 1].reshape(values.shape[1:])
        np.testing.assert_allclose(found.values, (values * g).sum(-1), rtol=1e-3, atol=1e-5)
    assert "<image" in str(found.picture(shape=None))
    model.save(tmp_path / "m.hmill")
    loaded = handmill.models.load_model(tmp_path / "m.hmill")
    again = explanation.hires_cam(loaded, x, 1, layer="second:2")
    assert again.values.tobytes() == found.values.tobytes()
    assert explanation.grad_cam(model, x).details == {"layer": "encoder/second"}


def test_layer_that_is_not_there() -> None:
    model = convnet()
    with pytest.raises(ValueError, match=r"no layer 'secund'; there are \['second'"):
        explanation.grad_cam(model, X, layer="secund")
    with pytest.raises(ValueError, match=r"layer 'dense.*without places"):
        explanation.grad_cam(model, X, layer=model.layers[-1])
    with pytest.raises(ValueError, match=r"is not called by the model"):
        explanation.grad_cam(model, X, layer=layers.Conv2D(2, 2, name="other"))
    by_object = explanation.grad_cam(model, X, layer=model.layers[0])
    by_name = explanation.grad_cam(model, X, layer="first")
    np.testing.assert_array_equal(by_object.values, by_name.values)
    with pytest.raises(ValueError, match=r"layer 'second' is called 1 times, there is no 3"):
        explanation.grad_cam(model, X, layer="second:3")
    flat = handmill.Sequential([handmill.Input((4,)), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"no layer whose output has places"):
        explanation.grad_cam(flat, np.zeros((1, 4)))
    behind = handmill.Sequential(
        [
            handmill.Input(X.shape[1:]),
            layers.Lambda(lambda v: v * 2.0),
            layers.Conv2D(2, 3, name="conv"),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    assert explanation.grad_cam(behind, X, layer="conv").values.shape == (3, 8, 8)


@pytest.mark.parametrize("name", CAMS)
def test_map_without_evidence_is_zero_and_told(name: str) -> None:
    model = convnet()
    weights = [0 * w for w in model.get_weights()]
    weights[3] -= 1.0  # the bias of the last convolution: all its units give 0
    model.set_weights(weights)
    found = getattr(explanation, name)(model, X, 1)
    assert not found.values.any()
    assert found.notes == ("3 rows, first row 0: no positive evidence for the target in layer "
                           "'second'",)  # fmt: skip
    assert "no positive evidence" in str(found.picture())
    one = getattr(explanation, name)(model, X[:1], 1)
    assert one.notes[0].startswith("no positive evidence")


def test_channels_first() -> None:
    last = convnet()
    shown = handmill.Input((3, 10, 10))
    h = layers.Conv2D(6, 3, strides=2, activation="tanh", data_format="channels_first")(shown)
    h = layers.Conv2D(5, 2, activation="relu", data_format="channels_first", name="second")(h)
    h = layers.GlobalAveragePooling2D(data_format="channels_first")(h)
    first = handmill.Model(shown, layers.Dense(4, "softmax")(h))
    first.set_weights([*last.get_weights()[:-2], np.ones((5, 4)), np.zeros(4)])
    model = convnet(pooled=True)
    model.set_weights(first.get_weights())
    turned = np.moveaxis(X, -1, 1).copy()
    for name in CAMS:
        a = getattr(explanation, name)(model, X, 1)
        b = getattr(explanation, name)(first, turned, 1)
        np.testing.assert_allclose(a.values, b.values, rtol=1e-4, atol=1e-6)


def test_model_is_left_as_it_was() -> None:
    model = convnet()
    model.compile("adam", "sparse_categorical_crossentropy")
    before = [np.asarray(v).tobytes() for v in (*model.variables, *model.optimizer.variables)]
    for name in CAMS:
        found = getattr(explanation, name)(model, X)
        assert [check.name for check in found.check()] == ["sanity"]
    explanation.maximize(model, 1, "second", steps=3)
    explanation.activations(model, X, "first")
    after = [np.asarray(v).tobytes() for v in (*model.variables, *model.optimizer.variables)]
    assert after == before


@pytest.mark.parametrize("name", CAMS)
def test_no_rows(name: str) -> None:
    found = getattr(explanation, name)(convnet(), X[:0])
    assert len(found) == 0
    assert "no rows" in str(found)


def test_planted_patch_is_pointed_at() -> None:
    draw = np.random.default_rng(1)
    x = draw.random((300, 12, 12, 1), np.float32) * 0.5
    y = draw.integers(0, 2, 300)
    places = draw.integers(1, 8, (300, 2))
    for image, label, (row, column) in zip(x, y, places, strict=True):
        if label:
            image[row : row + 4, column : column + 4] += 0.6
    model = handmill.Sequential(
        [
            handmill.Input((12, 12, 1)),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="last"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(1, "sigmoid"),
        ]
    )
    model.compile(handmill.optimizers.Adam(0.01), "binary_crossentropy")
    model.fit(x, y, epochs=12, verbose=0)
    shown, at = x[y == 1][:100], places[y == 1][:100]
    found = explanation.layer_cam(model, shown, 1)
    row, column = np.unravel_index(found.values.reshape(len(shown), -1).argmax(1), (12, 12))
    inside = (row >= at[:, 0]) & (row < at[:, 0] + 4)
    inside &= (column >= at[:, 1]) & (column < at[:, 1] + 4)
    assert inside.mean() >= 0.99


def test_unit_is_climbed() -> None:
    w = RNG.normal(size=(6, 3)).astype(np.float32)
    model = handmill.Sequential([handmill.Input((6,)), layers.Dense(3, name="d")])
    model.set_weights([w, np.zeros(3)])
    for unit in range(3):
        found = explanation.maximize(model, unit, norm=2.0, rate=0.05)
        want = 2 * w[:, unit] / np.linalg.norm(w[:, unit])
        np.testing.assert_allclose(found.values[0], want, atol=1e-2)
    boxed = explanation.maximize(model, 1, bounds=(0, 1), steps=300)
    np.testing.assert_allclose(boxed.values[0], (w[:, 1] > 0).astype(float), atol=1e-6)
    curved = convnet()
    climbed = explanation.maximize(curved, 2, "second", start=X[:2], rate=0.01, steps=30)
    assert (np.diff(climbed.details["path"], axis=0) > -1e-6).all()
    assert (climbed.scores > climbed.details["path"][0]).all()
    smooth = explanation.maximize(curved, 2, start=X[:1], total_variation=1.0, steps=30)
    rough = explanation.maximize(curved, 2, start=X[:1], steps=30)
    assert (
        np.abs(np.diff(smooth.values, axis=1)).sum() < np.abs(np.diff(rough.values, axis=1)).sum()
    )
    first = explanation.maximize(curved, 1, "first", bounds=(-1, 1), steps=60)
    assert first.values.shape == (1, 10, 10, 3)


def test_bad_climbs() -> None:
    model = handmill.Sequential([handmill.Input((6,)), layers.Dense(3, "relu", name="d")])
    model.set_weights([np.ones((6, 3)), np.full(3, -100.0)])
    with pytest.raises(ValueError, match=r"unit 3, but there are 3"):
        explanation.maximize(model, 3)
    with pytest.raises(ValueError, match=r"`bounds` must be \(low, high\)"):
        explanation.maximize(model, 0, bounds=(1, 0))
    with pytest.raises(ValueError, match=r"`norm` must be positive"):
        explanation.maximize(model, 0, norm=0)
    unknown = handmill.Sequential([layers.Dense(3)])
    with pytest.raises(ValueError, match=r"does not say which shape its input has"):
        explanation.maximize(unknown)
    assert "without a gradient" in explanation.maximize(model, 0).notes[0]
