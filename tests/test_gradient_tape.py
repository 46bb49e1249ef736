"""GradientTape, inside a step that is traced and on arrays."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import ops
from handmill.ir import trace
from handmill.runtime.function import TracedFunction

X = np.linspace(-1.5, 1.5, 12, dtype=np.float32).reshape(4, 3)


def run(step, *arrays, batched=True):
    """What ``step`` gives as a traced program and eagerly, by both executors: the same."""
    got = TracedFunction(step, batched=batched)(*arrays)
    with handmill.use_backend("numpy"):
        others = [TracedFunction(step, batched=batched)(*arrays), step(*arrays)]
    others.append(step(*arrays))
    for other in others:
        for a, b in zip(np.atleast_1d(got), np.atleast_1d(other), strict=True):
            assert isinstance(np.asarray(b), np.ndarray)
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)
    return got


def test_variables_are_watched_when_they_are_read():
    w = handmill.Variable(np.ones((3, 2), np.float32), name="w")
    unused = handmill.Variable(np.ones(2, np.float32), name="unused")

    def step(x):
        with handmill.GradientTape() as tape:
            loss = ops.sum(ops.square(ops.matmul(x, w)))
        assert tape.watched_variables() == (w,)
        dw, none = tape.gradient(loss, [w, unused])
        assert none is None
        return dw

    np.testing.assert_allclose(run(step, X), 2 * X.T @ (X @ w.numpy()), rtol=1e-5)


def test_inputs_intermediate_values_and_seeds():
    seed = np.arange(12, dtype=np.float32).reshape(4, 3)

    def step(x, s):
        with handmill.GradientTape(persistent=True) as tape:
            x = tape.watch(x)
            hidden = ops.tanh(x)
            y = hidden * hidden
        found = tape.gradient(y, {"x": x, "h": hidden}, output_gradients=s)
        return found["x"], found["h"], tape.gradient(y, x)

    dx, dh, plain = run(step, X, seed)
    t = np.tanh(X)
    np.testing.assert_allclose(dh, 2 * t * seed, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx, 2 * t * (1 - t * t) * seed, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(plain, 2 * t * (1 - t * t), rtol=1e-5, atol=1e-6)


def test_several_targets_are_added():
    def step(x):
        with handmill.GradientTape() as tape:
            x = tape.watch(x)
            targets = [ops.sum(x * 3.0), ops.square(x)]
        return tape.gradient(targets, x, output_gradients=[None, ops.ones_like(x) * 0.5])

    np.testing.assert_allclose(run(step, X), 3 + X, rtol=1e-6)


def test_nested_tapes_give_second_derivatives():
    def step(x):
        with handmill.GradientTape() as outer:
            x = outer.watch(x)
            with handmill.GradientTape() as inner:
                x = inner.watch(x)
                y = x * x * x
            first = inner.gradient(y, x)
        return first, outer.gradient(first, x)

    first, second = run(step, X)
    np.testing.assert_allclose(first, 3 * X * X, rtol=1e-5)
    np.testing.assert_allclose(second, 6 * X, rtol=1e-5)


def test_what_is_computed_while_stopped_is_constant():
    def step(x):
        with handmill.GradientTape(persistent=True) as tape:
            x = tape.watch(x)
            with tape.stop_recording():
                factor = ops.square(x)
            y = factor * x
        return tape.gradient(y, x)

    np.testing.assert_allclose(run(step, X), X * X, rtol=1e-6)


def test_what_is_computed_outside_has_no_gradient():
    def step(x):
        with handmill.GradientTape(persistent=True) as tape:
            x = tape.watch(x)
            y = x * x
        outside = ops.square(y)
        assert tape.gradient(outside, x) is None
        return tape.gradient([outside, y * 1.0], x, unconnected_gradients="zero")

    np.testing.assert_array_equal(TracedFunction(step)(X), np.zeros_like(X))
    with pytest.raises(TypeError, match="does not depend on anything watched"):
        step(X)  # an array, whose history nobody knows


def test_variables_can_be_left_unwatched():
    a = handmill.Variable(2.0, name="a")
    b = handmill.Variable(3.0, name="b")
    fixed = handmill.Variable(5.0, trainable=False, name="fixed")

    def step():
        with handmill.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([a, fixed])
            y = a * b * fixed
        da, db, df = tape.gradient(y, (a, b, fixed))
        assert db is None
        assert tape.watched_variables() == (a, fixed)
        return da, df

    np.testing.assert_allclose(run(step), (15.0, 6.0))


def test_jacobians():
    w = np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2)

    def whole(x):
        with handmill.GradientTape() as tape:
            x = tape.watch(x)
            y = ops.tanh(ops.matmul(x, w))
        return tape.jacobian(y, x)

    def by_rows(x):
        with handmill.GradientTape() as tape:
            x = tape.watch(x)
            y = ops.tanh(ops.matmul(x, w))
        return tape.batch_jacobian(y, x)

    slope = 1 - np.tanh(X @ w) ** 2
    rows = np.einsum("bj,ij->bji", slope, w)
    np.testing.assert_allclose(run(by_rows, X), rows, rtol=1e-5, atol=1e-6)
    full = run(whole, X, batched=False)
    assert full.shape == (4, 2, 4, 3)
    np.testing.assert_allclose(full, np.einsum("bji,bc->bjci", rows, np.eye(4)), atol=1e-6)
    with pytest.raises(ValueError, match="batch_jacobian"):
        run(whole, X)


@pytest.mark.parametrize(
    ("error", "message", "misuse"),
    (
        (RuntimeError, "persistent", lambda tape, x, y, n: [tape.gradient(y, x) for _ in "12"]),
        (RuntimeError, "not recording", lambda tape, x, y, n: tape.stop_recording().__enter__()),
        (TypeError, "ndarray", lambda tape, x, y, n: tape.gradient(y, np.ones(3, np.float32))),
        (TypeError, "float", lambda tape, x, y, n: tape.gradient(1.0, x)),
        (ValueError, "int32", lambda tape, x, y, n: tape.gradient(n, x)),
        (
            ValueError,
            "'zero'",
            lambda tape, x, y, n: tape.gradient(y, x, unconnected_gradients="no"),
        ),
        (ValueError, "shape", lambda tape, x, y, n: tape.gradient(y, x, output_gradients=[1.0])),
        (ValueError, "int32", lambda tape, x, y, n: tape.watch(ops.cast(x, "int32"))),
    ),
)
def test_misuse_is_refused(error, message, misuse):
    def step(x):
        with handmill.GradientTape() as tape:
            x = tape.watch(x)
            y = ops.square(x)
            n = ops.cast(y, "int32")
        misuse(tape, x, y, n)
        return y

    with pytest.raises(error, match=message):
        TracedFunction(step)(X)
    with pytest.raises(error, match=message):
        step(X)
    assert not trace.recorders


def test_arrays_on_the_left_of_values():
    table = np.full((4, 3), 2, np.float32)
    function = TracedFunction(lambda x: table * x - table / (x + 4.0), batched=False)
    np.testing.assert_allclose(function(X), 2 * X - 2 / (X + 4), rtol=1e-6)
    with pytest.raises(TypeError, match=r"handmill\.ops"):
        TracedFunction(np.exp)(X)
    with handmill.GradientTape() as tape:
        x = tape.watch(X)
        y = np.exp(table * x) + np.sum(x)
        with pytest.raises(TypeError, match=r"numpy\.spacing .* no such function"):
            np.spacing(x)
    np.testing.assert_allclose(tape.gradient(y, x), 2 * np.exp(2 * X) + 12, rtol=1e-5)


@pytest.mark.slow
def test_recorded_tensors_are_used_like_arrays():
    with handmill.GradientTape() as tape:
        x = tape.watch(X)
        y = ops.sum(x * x)
        assert y > 1.0
        assert float(y) == pytest.approx(float(np.sum(X * X)))
        assert f"{y:.2f}" == f"{np.sum(X * X):.2f}"
        rows = [row for row in x]
        assert len(rows) == 4
        assert rows[1].shape == (3,)
        loss = y if y > 1.0 else y * 0.0
        loss = loss + rows[0][1]
    dx = tape.gradient(loss, x)
    assert type(dx) is np.ndarray
    want = 2 * X
    want[0, 1] += 1
    np.testing.assert_allclose(dx, want, rtol=1e-6)
    assert type(ops.sum(x)) is np.ndarray  # after the tape tensors are arrays
    np.testing.assert_allclose(np.mean(y), np.sum(X * X), rtol=1e-6)


def test_arrays_and_variables_may_change_after_they_were_read():
    x, v = X.copy(), handmill.Variable(3.0)
    with handmill.GradientTape() as tape:
        watched = tape.watch(x)
        y = ops.sum(ops.square(watched)) * v
        x[:] = 0.0
        v.assign(7.0)
        y = y + v
    dx, dv = tape.gradient(y, [watched, v])
    np.testing.assert_allclose(dx, 6 * X, rtol=1e-6)
    np.testing.assert_allclose(dv, np.sum(X * X) + 1, rtol=1e-6)


def test_watched_arrays_are_sources_themselves():
    with handmill.GradientTape() as tape:
        tape.watch(X)
        y = ops.sum(ops.exp(X))
    np.testing.assert_allclose(tape.gradient(y, X), np.exp(X), rtol=1e-6)


def test_equal_tapes_share_a_program():
    from handmill.runtime import recording

    def gradient(scale):
        with handmill.GradientTape() as tape:
            x = tape.watch(X)
            y = ops.sum(ops.tanh(x * scale))
        return tape.gradient(y, x)

    gradient(1.0)
    before = len(recording._PROGRAMS)
    for scale in (0.5, 2.0, 3.0):
        np.testing.assert_allclose(
            gradient(scale), scale * (1 - np.tanh(scale * X) ** 2), rtol=1e-4, atol=1e-6
        )
    assert len(recording._PROGRAMS) == before


def model_and_data():
    handmill.utils.set_random_seed(3)
    model = handmill.Sequential(
        [
            handmill.layers.Input((3,)),
            handmill.layers.Dense(8, activation="tanh"),
            handmill.layers.BatchNormalization(),
            handmill.layers.Dropout(0.3),
            handmill.layers.Dense(2),
        ]
    )
    y = np.array([0, 1, 1, 0])
    return model, X, y


def test_layers_under_a_tape():
    """The same gradients, statistics and draws as a traced step gives."""
    model, x, y = model_and_data()
    loss_of = handmill.losses.SparseCategoricalCrossentropy(from_logits=True)

    def step(x, y):
        with handmill.GradientTape() as tape:
            tape.watch(x)
            loss = loss_of(y, model(x, training=True))
        return (loss, *tape.gradient(loss, [x, *model.trainable_variables]))

    before = [v.numpy() for v in model.variables]
    want = TracedFunction(step)(x, y)
    moved = [v.numpy() for v in model.variables]
    assert sum(np.any(a != b) for a, b in zip(before, moved, strict=True)) == 3
    for variable, value in zip(model.variables, before, strict=True):
        variable.assign(value)
    got = step(x, y)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for variable, value in zip(model.variables, moved, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-6)


def test_gradient_by_the_output_of_a_layer():
    model, x, _ = model_and_data()
    inner = handmill.Model(model.inputs, [model.layers[0].output, model.outputs[0]])
    with handmill.GradientTape() as tape:
        hidden, y = inner(x)
        loss = ops.sum(y[:, 1])
    dh = tape.gradient(loss, hidden)
    norm, last = model.layers[1], model.layers[3]
    gamma, var = norm.gamma.numpy(), norm.moving_variance.numpy()
    want = np.broadcast_to(last.kernel.numpy()[:, 1] * gamma / np.sqrt(var + norm.epsilon), (4, 8))
    np.testing.assert_allclose(dh, want, rtol=1e-5)
    with handmill.GradientTape() as tape:
        np.testing.assert_array_equal(handmill.layers.ReLU()(X), np.maximum(X, 0))


def test_training_with_a_tape():
    model, x, y = model_and_data()
    optimizer = handmill.optimizers.Adam(0.02)
    loss_of = handmill.losses.SparseCategoricalCrossentropy(from_logits=True)
    losses = []
    for _ in range(60):
        with handmill.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    assert not trace.recorders


def test_guards_refuse_under_a_tape():
    model, x, _ = model_and_data()
    loss_of = handmill.losses.SparseCategoricalCrossentropy(from_logits=True)
    with handmill.GradientTape() as tape:
        loss = loss_of(ops.cast(tape.watch(np.float32([0, 1, 5, 0])), "int32"), model(x))
    with pytest.raises(ValueError, match="row 2"):
        float(loss)
    with pytest.raises(ValueError, match="row 2"):
        tape.gradient(loss, model.trainable_variables)
    with handmill.GradientTape(), pytest.raises(ValueError, match="row 2"):
        loss_of(np.array([0, 1, 5, 0]), model(x))
    assert not trace.recorders


def test_recorded_tensors_compare_element_by_element():
    with handmill.GradientTape() as tape:
        x = tape.watch(X)
        y = ops.relu(x)
        same, other = y == x, y != 0.0
        array = X.copy()
        from_left = array == y
        loss = ops.sum(ops.where(y == 0.0, x * 3.0, x))
        assert y not in ({}, None, "y")
        assert len({x, y, x}) == 2  # hashed, a tensor is itself
    for found, want in ((same, X >= 0), (other, X > 0), (from_left, X >= 0)):
        assert np.asarray(found).dtype == bool
        np.testing.assert_array_equal(found, want)
    np.testing.assert_array_equal(tape.gradient(loss, x), np.where(X > 0, 1.0, 3.0))
    np.testing.assert_array_equal(y == x, X >= 0)  # and when the tape is closed


def test_a_result_that_was_read_and_its_neighbour_that_was_not():
    """The derivative of the loss needs the probabilities that the same operator gave with it."""
    w, labels = handmill.Variable(X), np.array([0, 1, 2, 0])

    def slope(reads):
        with handmill.GradientTape() as tape:
            each = ops.sparse_categorical_crossentropy(labels, w, from_logits=True)
            if reads:
                assert np.isfinite(np.asarray(each)).all()
            loss = ops.sum(ops.square(each))
        return tape.gradient(loss, w)

    np.testing.assert_array_equal(slope(True), slope(False))
