"""Methods of gradients: formulas, sums, structures of models, bad input; nothing is changed."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import config, explanation, layers, ops
from handmill.errors import NotDifferentiableError
from handmill.explanation import asked, gradients

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 6)).astype(np.float32)
METHODS: dict[str, dict[str, Any]] = {
    "saliency": {},
    "input_x_gradient": {},
    "integrated_gradients": {"baseline": 0},
    "expected_gradients": {"background": X[:3] * 0.5, "samples": 20},
    "smooth_grad": {"samples": 5},
    "guided_backpropagation": {},
    "deconvolution": {},
}


def dense(*units: int, activation: Any = "relu", width: int = 6, last: Any = "softmax") -> Any:
    inner = [layers.Dense(n, activation) for n in units[:-1]]
    model = handmill.Sequential([handmill.Input((width,)), *inner, layers.Dense(units[-1], last)])
    draw = np.random.default_rng(3)
    model.set_weights([draw.normal(0, 0.7, w.shape) for w in model.get_weights()])
    return model


def logits(model: Any, x: Any) -> Any:
    copy = handmill.models.clone_model(model)
    copy.set_weights(model.get_weights())
    copy.layers[-1].activation = handmill.activations.linear
    return copy.predict(x, verbose=0).astype(np.float64)


def test_saliency_is_the_gradient() -> None:
    model = dense(8, 3, activation="tanh")
    found = explanation.saliency(model, X, 2)
    step = 1e-2
    for feature in range(6):
        up, down = X.copy(), X.copy()
        up[:, feature] += step
        down[:, feature] -= step
        slope = (logits(model, up)[:, 2] - logits(model, down)[:, 2]) / (2 * step)
        np.testing.assert_allclose(found.values[:, feature], np.abs(slope), atol=2e-3)
    assert found.score == "logit"
    np.testing.assert_allclose(found.scores, logits(model, X)[:, 2], rtol=1e-5)


def test_saliency_of_a_linear_model_and_of_its_probability() -> None:
    model = dense(3)
    w = model.get_weights()[0]
    np.testing.assert_allclose(
        explanation.saliency(model, X, 1).values, np.abs(w[:, 1])[None] + 0 * X
    )
    p = model.predict(X, verbose=0).astype(np.float64)
    slope = p[:, 1:2] * (w[:, 1] - p @ w.T)
    found = explanation.input_x_gradient(model, X, 1, score="output")
    np.testing.assert_allclose(found.values, slope * X, rtol=1e-4, atol=1e-6)
    assert found.score == "output"
    np.testing.assert_allclose(found.scores, p[:, 1], rtol=1e-6)


def test_input_x_gradient_of_relus_without_biases_sums_to_the_score() -> None:
    model = dense(9, 8, 3)
    model.set_weights([w if w.ndim > 1 else 0 * w for w in model.get_weights()])
    found = explanation.input_x_gradient(model, X, [0, 1, 2, 0, 1])
    np.testing.assert_allclose(found.values.sum(1), found.scores, rtol=1e-5, atol=1e-6)


def test_integrated_gradients_sum_and_are_exact_where_they_ought_to_be() -> None:
    linear = dense(3)
    w = linear.get_weights()[0]
    base = RNG.normal(size=6).astype(np.float32)
    for steps in (1, 7):
        found = explanation.integrated_gradients(linear, X, 1, baseline=base, steps=steps)
        np.testing.assert_allclose(found.values, (X - base) * w[:, 1], rtol=1e-4, atol=1e-6)
    x = handmill.Input((6,))
    square = handmill.Model(x, layers.Dense(1)(layers.Multiply()([x, x])))
    found = explanation.integrated_gradients(square, X, baseline=base, steps=1)
    w = square.get_weights()[0][:, 0]
    np.testing.assert_allclose(found.values, (X**2 - base**2) * w, rtol=1e-4, atol=1e-5)
    deep = explanation.integrated_gradients(dense(16, 16, 3), X, baseline=0)
    assert deep.relative_gap() is not None
    assert np.max(deep.relative_gap()) < 0.02  # after 400 steps, of a difference of 0.5
    smooth = explanation.integrated_gradients(dense(16, 3, activation="tanh"), X, baseline=0)
    np.testing.assert_allclose(smooth.gap, 0, atol=1e-5)


def test_integrated_gradients_change_sign_with_the_ends() -> None:
    model = dense(16, 3)
    other = np.flip(X, 0).copy()
    there = explanation.integrated_gradients(model, X, 1, baseline=other, tolerance=1)
    back = explanation.integrated_gradients(model, other, 1, baseline=X, tolerance=1)
    np.testing.assert_allclose(there.values, -back.values, atol=1e-5)


def test_why_a_and_not_b_is_a_difference() -> None:
    model = dense(16, 3)
    both = explanation.integrated_gradients(model, X, (2, 0), baseline=0, tolerance=1)
    a, b = (
        explanation.integrated_gradients(model, X, c, baseline=0, tolerance=1).values
        for c in (2, 0)
    )
    np.testing.assert_allclose(both.values, a - b, atol=1e-5)
    assert both.targets[0] == "class 2 rather than class 0"


def test_path_is_cut_until_the_sum_holds() -> None:
    model = dense(64, 64, 1, last=None)
    model.set_weights([8 * w for w in model.get_weights()])
    coarse = explanation.integrated_gradients(model, X, baseline=0, steps=2, tolerance=1)
    fine = explanation.integrated_gradients(model, X, baseline=0, steps=2)
    assert coarse.details["steps"] == 2
    assert fine.details["steps"] > 2
    assert np.abs(fine.gap).sum() < np.abs(coarse.gap).sum()
    wild = explanation.integrated_gradients(model, X, baseline=0, steps=2, tolerance=1e-9)
    assert wild.details["steps"] == 256
    assert "after 256 steps the values of row" in wild.notes[0]
    assert not wild.check()[0].passed or wild.relative_gap().max() < 0.01  # type: ignore[union-attr]


def test_expected_gradients_sum_within_their_errors() -> None:
    model = dense(16, 3, activation="tanh")
    background = RNG.normal(size=(40, 6))
    found = explanation.expected_gradients(model, X, 1, background=background, samples=400)
    np.testing.assert_allclose(found.base_values, logits(model, background)[:, 1].mean(), rtol=1e-4)
    within = np.abs(found.gap) / found.details["error_of_sum"]
    assert (within < 3.5).all()
    assert found.check()[0].passed
    assert "within four standard errors" in found.check()[0].meaning
    assert (found.error > 0).all()
    more = explanation.expected_gradients(model, X, 1, background=background, samples=1600)
    assert more.error.mean() < 0.6 * found.error.mean()
    same = np.repeat(X[:1], 3, 0)
    zero = explanation.expected_gradients(model, X[:1], 1, background=same)
    assert not zero.values.any()
    assert abs(zero.gap[0]) < 1e-6  # type: ignore[index]


def test_smooth_grad() -> None:
    linear = dense(3)
    w = linear.get_weights()[0]
    np.testing.assert_allclose(
        explanation.smooth_grad(linear, X, 1).values, w[:, 1][None] + 0 * X, rtol=1e-5
    )
    squared = explanation.smooth_grad(linear, X, 1, kind="squared")
    np.testing.assert_allclose(squared.values, w[:, 1][None] ** 2 + 0 * X, rtol=1e-5)
    variance = explanation.smooth_grad(linear, X, 1, kind="variance")
    assert np.abs(variance.values).max() < 1e-10
    assert variance.method == "VarGrad"
    model = dense(16, 3)
    found = explanation.smooth_grad(model, X, samples=200)
    plain = explanation.smooth_grad(model, X, noise=0)
    absolute = explanation.saliency(model, X)
    np.testing.assert_allclose(np.abs(plain.values), absolute.values, rtol=1e-5)
    assert (found.error >= 0).all()
    other = explanation.smooth_grad(model, X, samples=200, seed=1)
    assert (found.values != other.values).any()


def test_guided_and_deconvolution_by_formula() -> None:
    model = dense(9, 8, 3)
    a, b, c, d, e, _ = (w.astype(np.float64) for w in model.get_weights())
    first = np.maximum(X @ a + b, 0)
    second = np.maximum(first @ c + d, 0)
    dy = np.repeat(e[:, 1][None], len(X), 0)
    for name, mask in (("guided_backpropagation", 1), ("deconvolution", 0)):
        d2 = np.maximum(dy, 0) * ((second > 0) | (mask == 0))
        d1 = np.maximum(d2 @ c.T, 0) * ((first > 0) | (mask == 0))
        found = getattr(explanation, name)(model, X, 1)
        np.testing.assert_allclose(found.values, d1 @ a.T, rtol=1e-4, atol=1e-5)
        assert "check()" in found.notes[0]
    model.set_weights([np.abs(w) for w in model.get_weights()])
    found = explanation.deconvolution(model, X, 1)
    assert np.ptp(found.values, axis=0).max() == 0


@pytest.mark.parametrize("name", METHODS)
def test_rows_do_not_depend_on_each_other_or_on_blocks(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = dense(16, 3)
    method, options = getattr(explanation, name), METHODS[name]
    whole = method(model, X, **options)
    monkeypatch.setattr(asked, "MOST_NUMBERS", 60)
    parts = method(model, X, **options)
    np.testing.assert_allclose(whole.values, parts.values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(whole.scores, parts.scores, rtol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_same_bits_for_any_number_of_threads(name: str) -> None:
    model = dense(16, 3)
    x = np.tile(X, (40, 1))
    before = config.num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            config.set_num_threads(threads)
            values = getattr(explanation, name)(model, x, **METHODS[name]).values
            found.append(values.tobytes())
    finally:
        config.set_num_threads(before)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", METHODS)
def test_numpy_computes_the_same(name: str) -> None:
    model = dense(8, 3, activation="tanh")
    method, options = getattr(explanation, name), METHODS[name]
    native = method(model, X, **options)
    with handmill.use_backend("numpy"):
        other = method(model, X, **options)
    np.testing.assert_allclose(native.values, other.values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", (*METHODS, "deep_lift", "deep_shap"))
def test_model_is_left_as_it_was(name: str) -> None:
    model = handmill.Sequential(
        [
            handmill.Input((6,)),
            layers.Dense(8, "relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5, seed=1),
            layers.GaussianNoise(0.5, seed=2),
            layers.Dense(3, "softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(X, np.array([0, 1, 2, 0, 1]), verbose=0)

    def state() -> bytes:
        variables = [*model.variables, *model.optimizer.variables]
        return b"".join(np.asarray(v).tobytes() for v in variables)

    before, trainable, losses = state(), model.trainable, len(model.losses)
    np.random.seed(5)  # noqa: NPY002
    draws = np.random.get_state()[1].tobytes()  # type: ignore  # noqa: NPY002
    method = getattr(explanation, name)
    more = {"deep_lift": {"baseline": 0}, "deep_shap": {"background": X * 0.5}}
    options = {**METHODS, **more}[name]
    found = method(model, X, **options)
    found.check()
    again = method(model, X, **options)
    assert state() == before
    assert np.random.get_state()[1].tobytes() == draws  # type: ignore  # noqa: NPY002
    assert (model.trainable, len(model.losses)) == (trainable, losses)
    assert found.values.tobytes() == again.values.tobytes()  # inference mode, nothing drawn
    np.testing.assert_allclose(found.scores, logits(model, X).max(1), rtol=1e-4)


def test_one_trace_for_all_classes_and_equal_models(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    real = gradients.run_model
    monkeypatch.setattr(gradients, "run_model", lambda *a, **k: runs.append(1) or real(*a, **k))
    model, twin = dense(11, 4), dense(11, 4)
    for target in (None, 0, 3, (1, 2), [0, 1, 2, 3, 0]):
        explanation.saliency(model, X, target)
    explanation.saliency(model, X[:2])
    explanation.saliency(twin, X)
    assert len(runs) == 1


def embedded(**options: Any) -> Any:
    model = handmill.Sequential(
        [
            layers.Embedding(20, 5, **options),
            layers.GlobalAveragePooling1D(),
            layers.Dense(6, "tanh"),
            layers.Dense(1, "sigmoid"),
        ]
    )
    model(np.zeros((1, 4), np.int32))
    draw = np.random.default_rng(3)
    model.set_weights([draw.normal(0, 0.7, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("name", ("saliency", "integrated_gradients", "smooth_grad"))
@pytest.mark.parametrize("mask_zero", (False, True))
def test_numbers_of_words_are_explained_at_their_vectors(name: str, mask_zero: bool) -> None:
    model = embedded(mask_zero=mask_zero)
    words = np.array([[3, 4, 0, 0], [5, 6, 7, 1]])
    found = getattr(explanation, name)(model, words, 1)
    assert found.values.shape == words.shape
    assert "the input is explained at what layer 'embedding" in found.notes[0]
    assert (found.values[0, 2:] == 0).all() == (mask_zero or name == "integrated_gradients")
    if name == "integrated_gradients":
        np.testing.assert_allclose(found.gap, 0, atol=1e-5)
        no = explanation.integrated_gradients(model, words, 0)
        np.testing.assert_allclose(found.values, -no.values, atol=1e-6)  # 1 - p: the other sign


def structures() -> dict[str, Any]:
    """Models that others cannot take apart: shared, nested, of several inputs."""
    a, b = handmill.Input((6,), name="a"), handmill.Input((3,), dtype="int32", name="b")
    inner = handmill.Sequential(
        [handmill.Input((6,)), layers.Dense(5, "relu"), layers.Dense(5, "relu")]
    )
    words = layers.Flatten()(layers.Embedding(9, 2)(b))
    joined = layers.Concatenate()([inner(a), words, inner(a * 2.0)])
    nested = handmill.Model({"a": a, "b": b}, layers.Dense(3)(joined))
    siamese = handmill.Model([a, b], layers.Dense(3)(ops.abs(inner(a) - inner(-a))))
    return {"nested": nested, "siamese": siamese}


def test_several_inputs_nested_and_shared_layers(tmp_path: Path) -> None:
    model = structures()["nested"]
    x = {"b": np.array([[1, 2, 3], [4, 5, 6]]), "a": X[:2]}
    found = explanation.integrated_gradients(model, x, 1, baseline=0)
    assert list(found.values) == ["b", "a"]
    np.testing.assert_allclose(found.gap, 0, atol=2e-4)
    assert {k: v.shape for k, v in found.values.items()} == {"a": (2, 6), "b": (2, 3)}
    model.save(tmp_path / "m.hmill")
    loaded = handmill.models.load_model(tmp_path / "m.hmill")
    again = explanation.integrated_gradients(loaded, x, 1, baseline=0)
    assert again.values["a"].tobytes() == found.values["a"].tobytes()
    assert found.part("b").names_of(0) is None
    assert all(check.name in ("completeness", "sanity") for check in found.check())
    with pytest.raises(ValueError, match=r"holds 1 arrays, but the model has 2 inputs"):
        explanation.integrated_gradients(model, x, 1, baseline=[np.zeros(6)])


def test_input_without_a_gradient_is_told() -> None:
    model = structures()["siamese"]
    found = explanation.saliency(model, [X[:2], np.zeros((2, 3), np.int32)], 0)
    assert isinstance(found.values, list)
    assert not found.values[1].any()
    assert found.notes == (
        "input 'b' reaches the score only through operators without a gradient: its values are 0",
    )
    hard = handmill.Sequential([handmill.Input((6,)), layers.Lambda(ops.argmax), layers.Lambda(
        lambda x: ops.cast(ops.reshape(x, (-1, 1)), "float32"))])  # fmt: skip
    with pytest.raises((NotDifferentiableError, ValueError)):
        explanation.saliency(hard, X)


def test_several_outputs() -> None:
    x = handmill.Input((6,))
    h = layers.Dense(4, "relu")(x)
    model = handmill.Model(x, {"kind": layers.Dense(3, name="k")(h), "size": layers.Dense(1)(h)})
    with pytest.raises(ValueError, match=r"say with `output=` which is explained"):
        explanation.saliency(model, X)
    by_name = explanation.saliency(model, X, 1, output="kind")
    by_number = explanation.saliency(model, X, 1, output=0)
    np.testing.assert_array_equal(by_name.values, by_number.values)
    by_function = explanation.saliency(model, X, lambda y: y["kind"][:, 1])
    np.testing.assert_array_equal(by_name.values, by_function.values)
    assert by_function.targets[0] == "<lambda>"
    with pytest.raises(ValueError, match=r"no output is called 'kinds'; there are .'kind'"):
        explanation.saliency(model, X, output="kinds")
    with pytest.raises(ValueError, match=r"output=7, but the model has 2 outputs"):
        explanation.saliency(model, X, output=7)
    with pytest.raises(ValueError, match=r"one score a row"):
        explanation.saliency(model, X, lambda y: y["kind"])


def test_unbuilt_subclassed_and_estimator() -> None:
    model = handmill.Sequential([layers.Dense(4, "relu"), layers.Dense(3, "softmax")])
    assert explanation.saliency(model, X).values.shape == X.shape

    class Own(handmill.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = layers.Dense(4, "relu"), layers.Dense(2)

        def call(self, x: Any) -> Any:
            return ops.softmax(self.last(self.first(x)))

    found = explanation.integrated_gradients(Own(), X, baseline=0)
    assert found.score == "logit"
    np.testing.assert_allclose(found.gap, 0, atol=1e-3)


def test_binary_unit_and_regression() -> None:
    model = dense(8, 1, last="sigmoid")
    yes, no = (explanation.input_x_gradient(model, X, t) for t in (1, 0))
    np.testing.assert_allclose(yes.values, -no.values)
    np.testing.assert_allclose(yes.scores, -no.scores)
    p = model.predict(X, verbose=0)[:, 0]
    out = explanation.input_x_gradient(model, X, 0, score="output")
    np.testing.assert_allclose(out.scores, 1 - p, rtol=1e-5)
    assert explanation.saliency(model, X).classes.tolist() == (p > 0.5).astype(int).tolist()
    plain = dense(8, 1, last=None)
    with pytest.raises(ValueError, match=r"regression.*must be None or 0. Received: 1"):
        explanation.saliency(plain, X, 1)
    plain.compile("sgd", handmill.losses.BinaryCrossentropy(from_logits=True))
    assert explanation.saliency(plain, X, 1).classes.tolist() == [1] * 5


def test_images_of_whole_numbers_and_baselines() -> None:
    model = handmill.Sequential(
        [
            handmill.Input((8, 8, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, "softmax"),
        ]
    )
    x = RNG.integers(0, 255, (2, 8, 8, 3), np.uint8)
    for baseline in (None, "black", "mean", "blur", 0, x[::-1], np.full((8, 8, 3), 7)):
        found = explanation.integrated_gradients(model, x, 1, baseline=baseline)
        assert found.data.dtype == np.uint8
        assert np.abs(found.gap).max() <= 0.01 * np.abs(found.scores).max()
    for bad, words in (
        ("blak", "an array, a number, or one of"),
        (np.zeros((4, 4)), r"shape \(4, 4\), expected \(8, 8, 3\)"),
        (np.array("a"), "must hold numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            explanation.integrated_gradients(model, x, baseline=bad)


@pytest.mark.parametrize("name", METHODS)
def test_no_rows_and_rows_equal_to_the_baseline(name: str) -> None:
    method, options = getattr(explanation, name), METHODS[name]
    empty = method(dense(4, 3), X[:0], **options)
    assert empty.values.shape == (0, 6)
    assert len(empty) == 0
    assert empty.check() == []
    constant = dense(4, 3)
    constant.set_weights([0 * w for w in constant.get_weights()])
    found = method(constant, X, **options)
    assert not found.values.any()
    assert found.gap is None or not found.gap.any()


def test_rows_equal_to_the_baseline() -> None:
    found = explanation.integrated_gradients(dense(8, 3), X, baseline=X)
    assert not found.values.any()
    np.testing.assert_allclose(found.gap, 0, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_not_a_number(name: str) -> None:
    method, options = getattr(explanation, name), METHODS[name]
    model = dense(8, 3)
    x = X.copy()
    x[1, 2] = np.nan
    found = method(model, x, 0, **options)
    assert np.isnan(found.values[1]).any()
    fine = [0, 2, 3, 4]
    want = method(model, X, 0, **options)
    np.testing.assert_allclose(found.values[fine], want.values[fine], rtol=1e-5, atol=1e-7)
    broken = dense(8, 3)
    broken.set_weights([np.full_like(w, np.nan) for w in broken.get_weights()])
    with pytest.raises(ValueError, match=r"the score of row 0 is nan, although its inputs"):
        method(broken, X, **options)


def test_bad_input() -> None:
    model = dense(8, 3)
    with pytest.raises(ValueError, match=r"received an array of shape \(6,\): .* x\[None\]"):
        explanation.saliency(model, X[0])
    with pytest.raises(TypeError, match=r"handmill model, received function: .* occlusion, lime"):
        explanation.saliency(test_bad_input, X)
    with pytest.raises(ValueError, match=r"`score` must be 'logit' or 'output'. Received: 'p'"):
        explanation.saliency(model, X, score="p")
    with pytest.raises(ValueError, match=r"a table needs a `baseline` to compare with"):
        explanation.integrated_gradients(model, X)
    with pytest.raises(ValueError, match=r"pass `background=`, rows of the training data"):
        explanation.expected_gradients(model, X)
    with pytest.raises(ValueError, match=r"`background` has no rows"):
        explanation.expected_gradients(model, X, background=X[:0])
    with pytest.raises(ValueError, match=r"rows of shape \(5,\), the inputs have \(6,\)"):
        explanation.expected_gradients(model, X, background=X[:, :5])
    with pytest.raises(ValueError, match=r"`kind` must be one of"):
        explanation.smooth_grad(model, X, kind="max")
    with pytest.raises(ValueError, match=r"`noise` must not be negative"):
        explanation.smooth_grad(model, X, noise=-1)
    with pytest.raises(ValueError, match=r"no method is called 'salience'; there are .'saliency'"):
        handmill.explain(model, X, method="salience")
    sequence = handmill.Sequential([handmill.Input((4, 6)), layers.Dense(3, "softmax")])
    with pytest.raises(ValueError, match=r"pass as `target` a function of the outputs"):
        explanation.saliency(sequence, np.zeros((2, 4, 6)))
    found = explanation.saliency(sequence, np.ones((2, 4, 6)), lambda y: y[:, 0, 1])
    assert not found.values[:, 1:].any()


@pytest.mark.parametrize(
    ("shape", "hint"),
    (
        ((4, 4), r"batch and the channel, x\[None, ..., None\]"),
        ((2, 4, 4), r"axis for the channel, x\[..., None\]"),
        ((4, 4, 1), r"axis for the batch, x\[None\]"),
    ),
)
def test_grey_images_without_axes_are_told_which(shape: tuple[int, ...], hint: str) -> None:
    first = [handmill.Input((4, 4, 1)), layers.Flatten()]
    model = handmill.Sequential([*first, layers.Dense(2, "softmax")])
    with pytest.raises(ValueError, match=hint):
        explanation.saliency(model, np.zeros(shape, "float32"), 0)


def test_estimator_and_sparse_rows() -> None:
    pytest.importorskip("sklearn", minversion="1.6", reason="no scikit-learn")
    from handmill.sklearn import HandmillClassifier

    y = np.array([0, 1, 2, 0, 1])
    estimator = HandmillClassifier(hidden_layer_sizes=(8,), max_iter=5, random_state=0)
    with pytest.warns(UserWarning, match=r"Maximum iterations"):
        estimator.fit(X, y)
    found = explanation.saliency(estimator, X)
    want = explanation.saliency(estimator.to_model(), X)
    np.testing.assert_array_equal(found.values, want.values)
    sparse = pytest.importorskip("scipy.sparse")
    rows = sparse.csr_matrix(X * (X > 0))
    found = explanation.input_x_gradient(estimator, rows)
    assert not found.values[X <= 0].any()


def test_models_are_not_kept_alive() -> None:
    def explained() -> Any:
        model = dense(5, 3)
        explanation.integrated_gradients(model, X, baseline=0)
        explanation.deep_shap(model, X, background=X)
        return weakref.ref(model)

    seen = explained()
    gc.collect()
    assert seen() is None


def test_model_that_is_being_trained_elsewhere_is_refused() -> None:
    model = dense(8, 3)
    model.compile("sgd", "sparse_categorical_crossentropy")
    seen: list[Any] = []

    def look() -> None:
        try:
            seen.append(explanation.saliency(model, X).values)
        except RuntimeError as error:
            seen.append(str(error))

    class Looking(handmill.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            look()  # the thread of fit itself may

    model.fit(X, np.array([0, 1, 2, 0, 1]), verbose=0, callbacks=[Looking()])
    assert "is being trained in another thread; wait for fit()" in seen[0]
    assert seen[1].shape == X.shape


def test_explain_chooses() -> None:
    model = dense(8, 3)
    assert handmill.explain(model, X, baseline=0).method == "integrated gradients"
    assert "Shapley" in handmill.explain(model, X, background=X).method
    assert "Shapley" in handmill.explain(lambda rows: rows[:, :2], X, background=X).method
    images = np.ones((1, 8, 8, 1))
    assert handmill.explain(lambda v: v.sum((1, 2)), images).method == "occlusion"
    named = handmill.explain(model, X, 1, method="saliency", class_names=["a", "b", "c"])
    assert named.targets[0] == "b"


def test_table_names_features() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=list("pqrstu"))
    found = explanation.saliency(dense(8, 3), table)
    assert found.feature_names == list("pqrstu")
    assert "  t  = " in str(found)


def test_planted_patch_is_pointed_at() -> None:
    """Class 1 is a bright square at a known place."""
    draw = np.random.default_rng(0)
    x = draw.random((400, 10, 10), np.float32) * 0.5
    y = draw.integers(0, 2, 400)
    x[y == 1, 2:5, 6:9] += 0.7
    model = handmill.Sequential(
        [
            handmill.Input((10, 10)),
            layers.Flatten(),
            layers.Dense(16, "tanh"),
            layers.Dense(1, "sigmoid"),
        ]
    )
    model.compile(handmill.optimizers.Adam(0.01), "binary_crossentropy")
    model.fit(x, y, epochs=30, verbose=0)
    shown = x[y == 1][:100]
    found = explanation.integrated_gradients(model, shown, 1)
    row, column = np.unravel_index(found.values.reshape(100, -1).argmax(1), (10, 10))
    inside = (row >= 2) & (row < 5) & (column >= 6) & (column < 9)
    assert inside.mean() >= 0.99


@pytest.mark.slow
def test_sanity_check_convicts_guided_backpropagation_alone() -> None:
    x, y = handmill.datasets.digits.load_data()[0]
    x = (np.asarray(x, np.float32) / np.max(x)).reshape(len(x), -1)
    model = handmill.Sequential(
        [handmill.Input((64,)), *[layers.Dense(n, "relu") for n in (64, 64, 32)],
         layers.Dense(10, "softmax")]
    )  # fmt: skip
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=15, verbose=0)
    rows = x[:32]
    verdicts = {
        name: explanation.sanity(getattr(explanation, name), model, rows, **options)
        for name, options in (
            ("saliency", {}),
            ("input_x_gradient", {}),
            ("integrated_gradients", {"baseline": 0}),
            ("guided_backpropagation", {}),
        )
    }
    failed = [name for name, check in verdicts.items() if not check.passed]
    assert failed == ["guided_backpropagation"], verdicts
