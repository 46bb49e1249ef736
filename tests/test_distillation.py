"""Distillation: Keras's formulas in NumPy and in Keras, and what goes beyond them; bad input."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import handmill
from handmill import distillation, layers, losses
from handmill.distillation import Distiller, FeatureDistillation, LogitsDistillation

X = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")
Y = np.random.default_rng(1).integers(0, 4, 40).astype("int32")
CROSS = losses.SparseCategoricalCrossentropy(from_logits=True)


def net(units, seed, end=None, classes=4, **dense):
    handmill.utils.set_random_seed(seed)
    return handmill.Sequential(
        [
            handmill.Input((6,)),
            layers.Dense(units, "tanh", name="hidden", **dense),
            layers.Dense(classes, activation=end, name="out"),
        ]
    )


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def kl(t, s, temperature, weight=None):
    p, q = softmax(t / temperature), softmax(s / temperature)
    each = (p * np.log(p / q)).sum(axis=-1)
    return temperature**2 * np.mean(each if weight is None else each * weight)


def total_loss(distiller, **kwargs):
    distiller.compile("sgd", CROSS)
    found = distiller.evaluate(X, Y, batch_size=len(X), verbose=0, return_dict=True, **kwargs)
    return found["total_loss"], found


@pytest.mark.parametrize("temperature", (1.0, 3.0, 10))
def test_the_loss_is_the_formula(temperature):
    teacher, student = net(16, 0), net(5, 1)
    t, s = teacher.predict(X, verbose=0), student.predict(X, verbose=0)
    loss, found = total_loss(
        Distiller(teacher, student, LogitsDistillation(temperature), student_loss_weight=0.3)
    )
    hard = -np.mean(np.log(softmax(s))[np.arange(40), Y])
    assert found["student_loss"] == pytest.approx(hard, rel=1e-5)
    assert found["distillation_loss"] == pytest.approx(kl(t, s, temperature), rel=1e-4)
    assert loss == pytest.approx(0.3 * hard + 0.7 * kl(t, s, temperature), rel=1e-4)


def test_a_softmax_is_taken_off_and_weights_count():
    weight = np.linspace(0.0, 2.0, 40).astype("float32")
    soft = [net(16, 0, "softmax"), net(5, 1, "softmax")]
    plain = [net(16, 0), net(5, 1)]
    want = kl(*(m.predict(X, verbose=0).astype("float64") for m in plain), 2.0, weight)
    for models in (plain, soft):
        distiller = Distiller(*models, LogitsDistillation(2.0), student_loss_weight=0.0)
        assert total_loss(distiller, sample_weight=weight)[0] == pytest.approx(want, rel=1e-4)
    # Of arrays that a softmax made, the logarithm stands for the logits.
    teacher, student = (m.predict(X, verbose=0) for m in soft)
    distiller = Distiller(*soft, LogitsDistillation(2.0), student_loss_weight=0.0)
    distiller.compile("sgd", CROSS)
    found = distiller.compute_loss(X, Y, student, weight)
    assert float(found) == pytest.approx(want, rel=1e-4)
    assert teacher.sum() == pytest.approx(40, rel=1e-5)


def binary_kl(t, s, temperature, weight=None):
    p, q = (1 / (1 + np.exp(-x.astype("float64") / temperature)) for x in (t, s))
    each = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(axis=-1)
    return temperature**2 * np.mean(each if weight is None else each * weight)


class Own(handmill.Model):
    """A model with a call() of its own, which ends with operators and not with a layer."""

    def __init__(self, inner, end):
        super().__init__()
        self.inner, self.end = inner, end

    def call(self, x):
        return self.end(self.inner(x))


ONE = pytest.mark.filterwarnings("error:.*outputs of one number")


@ONE
@pytest.mark.slow
@pytest.mark.parametrize("classes", (1, 4))
def test_a_sigmoid_is_taken_off(classes):
    weight = np.linspace(0.0, 2.0, 40).astype("float32")
    plain = [net(16, 0, classes=classes), net(5, 1, classes=classes)]
    t, s = (m.predict(X, verbose=0) for m in plain)
    want = binary_kl(t, s, 2.0, weight)
    y = (X[:, :classes] > 0).astype("float32")

    def own(seed, units):
        return Own(net(units, seed, classes=classes), handmill.ops.sigmoid)

    def ended(seed, units):
        return net(units, seed, "sigmoid", classes=classes)

    def with_layer(seed, units):
        inner = net(units, seed, classes=classes)
        x = handmill.layers.Reshape((classes,))(layers.Activation("sigmoid")(inner.output))
        return handmill.Model(inner.input, x)

    pairs = [(ended, ended), (with_layer, with_layer), (own, own)]
    if classes == 1:  # logits count as what the other model ends with
        pairs += [(ended, lambda seed, units: net(units, seed, classes=1)), (own, ended)]
    for teacher, student in pairs:
        for cache in (False, True):
            models = teacher(0, 16), student(1, 5)
            for model in models:
                model(X[:2])
            distiller = Distiller(
                *models, LogitsDistillation(2.0), student_loss_weight=0.0, cache_teacher=cache
            )
            distiller.compile(handmill.optimizers.SGD(0.0), "binary_crossentropy")
            found = distiller.fit(X, y, sample_weight=weight, batch_size=40, verbose=0).history
            assert found["distillation_loss"][0] == pytest.approx(want, rel=1e-3), (teacher, cache)
    # Of arrays the odds stand for the logits; of other losses than a divergence, too.
    models = ended(0, 16), ended(1, 5)
    distiller = Distiller(*models, LogitsDistillation(2.0, "mse"), student_loss_weight=0.0)
    distiller.compile("sgd", "binary_crossentropy")
    found = distiller.compute_loss(X, y, models[1].predict(X, verbose=0))
    assert float(found) == pytest.approx(np.mean((t - s) ** 2) / 4, rel=1e-3)


@ONE
def test_a_student_of_yes_or_no_learns_from_its_teacher():
    """What its outputs say, not only that they agree: with the softmax of one number, nothing."""
    teacher, student = net(16, 0, "sigmoid", classes=1), net(5, 1, "sigmoid", classes=1)
    teacher.set_weights([3 * w for w in teacher.get_weights()])
    distiller = Distiller(teacher, student, LogitsDistillation(2.0), student_loss_weight=0.0)
    distiller.compile(handmill.optimizers.Adam(0.03), "binary_crossentropy")
    before = np.abs(teacher.predict(X, verbose=0) - student.predict(X, verbose=0)).mean()
    distiller.fit(X, Y[:, None], epochs=60, verbose=0)
    after = np.abs(teacher.predict(X, verbose=0) - student.predict(X, verbose=0)).mean()
    assert after < 0.2 * before


def test_softmax_and_sigmoid_do_not_go_together():
    soft, sure = net(16, 0, "softmax"), net(5, 1, "sigmoid")
    for teacher, student, said in ((soft, sure, "softmax.*sigmoid"), (sure, soft, "sigmoid.*soft")):
        with pytest.raises(ValueError, match=f"teacher ends with {said}.*Let both end"):
            Distiller(teacher, student, LogitsDistillation())
    own = [Own(net(16, 0), handmill.ops.softmax), Own(net(5, 1), handmill.ops.sigmoid)]
    for model in own:
        model(X[:2])
    distiller = Distiller(*own, LogitsDistillation())
    distiller.compile("sgd", CROSS)
    before = own[1].get_weights()
    with pytest.raises(ValueError, match=r"teacher ends with softmax, the student with sigmoid"):
        distiller.fit(X, Y, verbose=0)
    assert all(map(np.array_equal, before, own[1].get_weights()))
    # Features, and outputs that are left out, may be of any kind.
    Distiller(soft, sure, FeatureDistillation("mse", "hidden", "hidden", projection="auto"))
    i = handmill.Input((6,))

    def two(first):
        return handmill.Model(i, [layers.Dense(4, first)(i), layers.Dense(4, "softmax")(i)])

    both = two("softmax"), two("sigmoid")
    distiller = Distiller(*both, LogitsDistillation(2.0, [None, "kl_divergence"]))
    distiller.compile("sgd", [CROSS, CROSS])
    distiller.fit(X, [Y, Y], verbose=0)


def test_the_gradient_has_the_factor_of_the_temperature():
    # For high temperatures T^2 KL tends to half of the mean squared difference of the centred
    # logits, divided by the number of classes: its gradient does not depend on T.
    steps = []
    for temperature in (20.0, 60.0):
        teacher, student = net(16, 0), net(5, 1)
        distiller = Distiller(
            teacher, student, LogitsDistillation(temperature), student_loss_weight=0.0
        )
        distiller.compile(handmill.optimizers.SGD(0.1), CROSS)
        before = student.get_weights()
        distiller.fit(X, Y, batch_size=40, verbose=0)
        steps.append(
            np.concatenate(
                [(a - b).ravel() for a, b in zip(student.get_weights(), before, strict=True)]
            )
        )
    assert np.linalg.norm(steps[0]) > 1e-3
    assert np.linalg.norm(steps[0] - steps[1]) < 0.02 * np.linalg.norm(steps[1])


def test_penalties_of_the_student_count():
    student = net(5, 1, kernel_regularizer="l2")
    teacher = net(16, 0)
    distiller = Distiller(teacher, student, LogitsDistillation(), student_loss_weight=1.0)
    loss, found = total_loss(distiller)
    penalty = 0.01 * np.square(student.layers[0].kernel.numpy()).sum()
    assert loss == pytest.approx(found["student_loss"] + penalty, rel=1e-5)


def test_features_and_projections():
    teacher, student = net(16, 0), net(5, 1)
    feature = FeatureDistillation("mse", "hidden", "hidden", projection="auto")
    distiller = Distiller(teacher, student, [feature], student_loss_weight=0.5)
    matrix = distiller.projections[0].kernel.numpy()
    hidden = [np.tanh(X @ m.layers[0].kernel.numpy()) for m in (teacher, student)]
    want = np.mean((hidden[0] - hidden[1] @ matrix) ** 2)
    assert total_loss(distiller)[1]["distillation_loss"] == pytest.approx(want, rel=1e-4)
    shapes = [w.shape for w in student.weights]
    frozen = teacher.get_weights()
    distiller.fit(X, Y, epochs=2, verbose=0)
    assert [w.shape for w in student.weights] == shapes  # the matrix is none of the student's
    assert not np.array_equal(distiller.projections[0].kernel.numpy(), matrix)
    assert all(map(np.array_equal, frozen, teacher.get_weights()))
    same = Distiller(net(5, 0), net(5, 1), FeatureDistillation(projection="auto"))
    assert same.projections == [None]


def test_a_cached_teacher_teaches_the_same_and_is_asked_once():
    found, asked = [], []
    for cache in (False, True):
        teacher, student = net(16, 0), net(5, 1)
        distiller = Distiller(
            teacher,
            student,
            [LogitsDistillation(2.0), FeatureDistillation("mae", "hidden", "hidden", "auto")],
            cache_teacher=cache,
        )
        distiller.compile("adam", CROSS, metrics=["accuracy"])
        history = distiller.fit(
            X, Y, batch_size=16, epochs=3, validation_data=(X, Y), verbose=0
        ).history
        found.append(np.concatenate([w.ravel() for w in student.get_weights()]))
        asked.append(history["total_loss"])
        assert "accuracy" in history
        assert "val_total_loss" in history
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(asked[0], asked[1], rtol=1e-4)
    with pytest.raises(TypeError, match="cache_teacher=True"):
        distiller.fit(handmill.data.Dataset.from_tensor_slices((X, Y)).batch(8), verbose=0)


def test_a_student_is_saved_alone_and_a_distiller_whole(tmp_path):
    distiller = Distiller(
        net(16, 0), net(5, 1), [LogitsDistillation(2.0, "mse")], [0.5], cache_teacher=True
    )
    distiller.compile("adam", "sparse_categorical_crossentropy")
    distiller.fit(X, Y, verbose=0)
    distiller.student.save(tmp_path / "student.hmill")
    alone = handmill.models.load_model(tmp_path / "student.hmill")
    np.testing.assert_array_equal(alone.predict(X, verbose=0), distiller.predict(X, verbose=0))
    distiller.save(tmp_path / "all.hmill")
    again = handmill.models.load_model(tmp_path / "all.hmill")
    assert again.cache_teacher
    assert again.distillation_loss_weights == [0.5]
    assert (
        again.distillation_losses[0].get_config() == distiller.distillation_losses[0].get_config()
    )
    again.fit(X, Y, verbose=0)


def test_a_copy_learns_from_its_model():
    teacher = net(16, 0)
    teacher.compile(handmill.optimizers.Adam(0.02), CROSS)
    target = X[:, :4].argmax(axis=1)
    teacher.fit(X, target, epochs=40, verbose=0)
    student = handmill.models.clone_model(teacher)
    distiller = Distiller(teacher, student, LogitsDistillation(4.0), student_loss_weight=0.0)
    distiller.compile(handmill.optimizers.Adam(0.02), CROSS)
    losses_ = distiller.fit(X, target, epochs=60, verbose=0).history["distillation_loss"]
    assert losses_[-1] < 0.1 * losses_[0]
    agree = [m.predict(X, verbose=0).argmax(1) for m in (teacher, student)]
    assert np.mean(agree[0] == agree[1]) > 0.9


def test_a_pruned_student_stays_pruned():
    student = net(5, 1)
    student.compile("adam", CROSS)
    handmill.compress.prune(student, 0.5, scope="layer")
    features = FeatureDistillation("mse", "hidden", "hidden", projection="auto")
    distiller = Distiller(net(16, 0), student, [LogitsDistillation(), features])
    distiller.compile("adam", CROSS)
    distiller.fit(X, Y, epochs=3, verbose=0)
    assert [int((w == 0).sum()) for w in student.get_weights()[::2]] == [15, 10]


def test_a_student_is_pruned_while_it_is_taught():
    student = net(5, 1)
    distiller = Distiller(net(16, 0), student, LogitsDistillation(), cache_teacher=True)
    distiller.compile("adam", CROSS)
    decay = handmill.compress.PolynomialDecay(0.0, 0.5, 0, 4, frequency=1)
    prune = handmill.callbacks.Prune(decay, scope="layer")
    distiller.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[prune])
    assert [int((w == 0).sum()) for w in student.get_weights()[::2]] == [15, 10]
    assert all((w != 0).all() for w in distiller.teacher.get_weights()[::2])


def test_one_number_teaches_nothing_by_its_softmax():
    teacher, student = net(16, 0, classes=1), net(5, 1, classes=1)
    with pytest.warns(UserWarning, match="outputs of one number"):
        Distiller(teacher, student, LogitsDistillation())
    Distiller(teacher, student, LogitsDistillation(loss="mse"))  # which warns of nothing


def test_bad_input():
    shared = layers.Dense(4, name="shared")
    both = [handmill.Sequential([handmill.Input((6,)), layers.Dense(4), shared]) for _ in range(2)]
    with pytest.raises(ValueError, match=r"share weights that the student would train.*shared"):
        Distiller(*both, LogitsDistillation())
    shared.trainable = False
    Distiller(*both, LogitsDistillation())
    teacher, student = net(8, 0), net(5, 1)
    with pytest.raises(ValueError, match=r"one model.*clone_model"):
        Distiller(teacher, teacher, LogitsDistillation())
    with pytest.raises(ValueError, match=r"Teacher: \(None, 4\), Student: \(None, 3\)"):
        Distiller(teacher, net(5, 1, classes=3), LogitsDistillation())
    for bad in (0, -1.0, "hot", float("nan"), float("inf"), True):
        with pytest.raises(ValueError, match="temperature"):
            LogitsDistillation(bad)
    for bad in (-0.1, 1.1, "half", None):
        with pytest.raises(ValueError, match="student_loss_weight"):
            Distiller(teacher, student, LogitsDistillation(), student_loss_weight=bad)
    for bad in (None, [], "kl", [LogitsDistillation, 1]):
        with pytest.raises(ValueError, match="distillation"):
            Distiller(teacher, student, bad)
    with pytest.raises(ValueError, match=r"weights \(1\) must match"):
        Distiller(teacher, student, [LogitsDistillation(), LogitsDistillation()], [1.0])
    with pytest.raises(ValueError, match="In student model"):
        Distiller(teacher, student, FeatureDistillation("mse", "hidden", "hiden"))
    with pytest.raises(ValueError, match="non-`None`"):
        LogitsDistillation(loss=[None, None])
    with pytest.raises(ValueError, match="projection"):
        FeatureDistillation(projection="dense")
    with pytest.raises(ValueError, match=r"must be a keras\.Model"):
        Distiller(teacher, layers.Dense(3), LogitsDistillation())
    with pytest.raises(ValueError, match="'loss' cannot be `None`"):
        Distiller(teacher, student, LogitsDistillation()).compile("adam")

    class Rows(distillation.DistillationLoss):
        def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
            return handmill.ops.sum(teacher_outputs - student_outputs, axis=-1)

    distiller = Distiller(teacher, student, Rows())
    distiller.compile("sgd", CROSS)
    with pytest.raises(ValueError, match="non-scalar"):
        distiller.fit(X, Y, verbose=0)


KERAS = """
import sys, numpy as np, keras
from keras import layers, distillation
data = np.load(sys.argv[1])
def net(units, arrays):
    m = keras.Sequential([keras.Input((6,)), layers.Dense(units, "tanh", name="hidden"),
                          layers.Dense(4, name="out")])
    m.set_weights(arrays)
    return m
teacher = net(16, [data[f"t{i}"] for i in range(4)])
student = net(16, [data[f"s{i}"] for i in range(4)])
losses = [distillation.LogitsDistillation(3.0, keras.losses.KLDivergence()),
          distillation.LogitsDistillation(2.0, "mse"),
          distillation.FeatureDistillation("mse", "hidden", "hidden")]
d = distillation.Distiller(teacher, student, losses, [1.0, 0.5, 2.0], student_loss_weight=0.4)
d.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
h = d.fit(data["x"], data["y"], batch_size=8, epochs=3, shuffle=False, verbose=0).history
np.savez(sys.argv[2], *student.get_weights(), **{k: h[k] for k in ("total_loss", "student_loss")})
"""


@pytest.mark.slow
def test_training_beside_keras(tmp_path):
    pytest.importorskip("keras")
    pytest.importorskip("jax")
    teacher, student = net(16, 0), net(16, 1)
    np.savez(
        tmp_path / "in.npz",
        x=X,
        y=Y,
        **{f"t{i}": w for i, w in enumerate(teacher.get_weights())},
        **{f"s{i}": w for i, w in enumerate(student.get_weights())},
    )
    kinds = [LogitsDistillation(3.0), LogitsDistillation(2.0, "mse")]
    kinds.append(FeatureDistillation("mse", "hidden", "hidden"))
    distiller = Distiller(teacher, student, kinds, [1.0, 0.5, 2.0], student_loss_weight=0.4)
    distiller.compile(handmill.optimizers.Adam(0.01), CROSS)
    history = distiller.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0).history
    (tmp_path / "run.py").write_text(KERAS)
    subprocess.run(
        [
            sys.executable,
            str(tmp_path / "run.py"),
            str(tmp_path / "in.npz"),
            str(tmp_path / "out.npz"),
        ],
        check=True,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    found = np.load(tmp_path / "out.npz")
    for name in ("total_loss", "student_loss"):
        np.testing.assert_allclose(history[name], found[name], rtol=1e-4)
    for i, weight in enumerate(student.get_weights()):
        np.testing.assert_allclose(weight, found[f"arr_{i}"], rtol=1e-3, atol=1e-5)


def test_distillers_are_quantized_as_they_are_compiled():
    """Their ``compile`` takes other arguments than that of ordinary models."""
    x = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
    models = [
        handmill.Sequential([handmill.Input((8,)), layers.Dense(16, "relu"), layers.Dense(3)])
        for _ in range(2)
    ]
    distiller = distillation.Distiller(
        *models, distillation_losses=distillation.LogitsDistillation()
    )
    distiller.compile("adam", "mse")
    distiller.fit(x, x[:, :3], verbose=0)
    assert len(distiller.quantize("int8").quantized) == 4
    distiller.fit(x, x[:, :3], verbose=0)  # biases
    assert np.array_equal(distiller.predict(x, verbose=0), models[1].predict(x, verbose=0))


def test_features_of_other_widths_name_the_projection():
    def made(units):
        hidden = layers.Dense(units, "relu", name="hidden")
        return handmill.Sequential([handmill.Input((8,)), hidden, layers.Dense(3)])

    distiller = Distiller(made(16), made(4), FeatureDistillation("mse", "hidden", "hidden"))
    distiller.compile("adam", "mse")
    x = np.zeros((8, 8), "float32")
    with pytest.raises(ValueError, match=r"projection='auto'"):
        distiller.fit(x, x[:, :3], verbose=0)


@pytest.mark.parametrize("factor", (float("nan"), float("inf"), "much"))
def test_factors_of_losses_are_finite_numbers(factor):
    models = [handmill.Sequential([layers.Input((3,)), layers.Dense(2)]) for _ in range(2)]
    with pytest.raises(ValueError, match="distillation_loss_weights"):
        Distiller(*models, LogitsDistillation(), factor)
    with pytest.raises(ValueError, match="distillation_loss_weights"):
        Distiller(*models, [LogitsDistillation()] * 2, [1.0, factor])
