"""Losses and metrics of several outputs: of parts, of the whole, by name, by place, weighted."""

from typing import NamedTuple

import numpy as np
import pytest

import handmill
from handmill import layers, ops, tree

X = np.ones((8, 3), "float32")
ZERO, TWO = np.zeros((8, 1), "float32"), np.full((8, 1), 2.0, "float32")
FORMS = {
    "list": lambda a, b: [a, b],
    "tuple": lambda a, b: (a, b),
    "dict": lambda a, b: {"u": a, "v": b},
}


def of_all(y_true, y_pred):
    """The squared errors of all outputs, which must come nested as they are."""
    tree.assert_same_structure(y_true, y_pred)
    pairs = zip(tree.flatten(y_true), tree.flatten(y_pred), strict=True)
    return sum(ops.mean(ops.square(t - p)) for t, p in pairs)


class Two(handmill.Model):
    """Two outputs that are 3, nested in one of the forms."""

    def __init__(self, form):
        super().__init__()
        self.one = layers.Dense(1, kernel_initializer="ones")
        self.other = layers.Dense(1, kernel_initializer="ones")
        self.form = form

    def call(self, x):
        return FORMS[self.form](self.one(x), self.other(x))


def logs_of(form, loss, weights=None, metrics=None, y=None, eagerly=False):
    model = Two(form)
    model.compile("sgd", loss, metrics, weights, run_eagerly=eagerly)
    y = FORMS[form](ZERO, TWO) if y is None else y
    return model.evaluate(X, y, return_dict=True, verbose=0)


@pytest.mark.parametrize("eagerly", (False, True), ids=("program", "eager"))
@pytest.mark.parametrize(
    ("form", "loss", "expected"),
    (
        # 9 and 1 are the squared errors, 3 and 1 the absolute ones.
        ("tuple", [of_all, ["mse", "mae"]], {"of_all_loss": 10, "mse_loss": 9, "mae_loss": 1}),
        ("list", (of_all, ["mse", "mae"]), {"of_all_loss": 10, "mse_loss": 9, "mae_loss": 1}),
        ("dict", [of_all, {"u": "mae"}], {"u_v_loss": 10, "u_loss": 3}),
        ("list", ["mae", ["mse", "mape"]], {"mae_loss": 3, "mse_loss": 1, "mape_loss": 50}),
        ("dict", {"v": "mse", "u": "mae"}, {"u_loss": 3, "v_loss": 1}),
        ("list", ["mse", None], {}),
    ),
    ids=("whole and parts", "a tuple beside a list", "some by name", "two of one", "names", "none"),
)
def test_terms(form, loss, expected, eagerly):
    logs = logs_of(form, loss, eagerly=eagerly)
    total = sum(expected.values()) or 9
    assert logs == pytest.approx({"loss": total, **expected}, rel=1e-6)


def test_weights_of_terms():
    logs = logs_of("dict", [of_all, {"u": "mse", "v": "mae"}], [0.5, {"u": 2.0, "v": 3.0}])
    assert logs["loss"] == pytest.approx(0.5 * 10 + 2 * 9 + 3 * 1)
    assert logs["u_v_loss"] == pytest.approx(10)  # as they are without weights
    assert logs_of("list", "mse", [2.0, 3.0])["loss"] == pytest.approx(21)
    with pytest.raises(ValueError, match="must match the number of losses, got 3 losses and 1"):
        logs_of("dict", [of_all, {"u": "mse", "v": "mae"}], [1.0])


def test_a_whole_is_trained_and_weighed():
    rows = np.arange(8, dtype="float32")[:, None]
    weight = np.where(np.arange(8) < 4, 0.0, 2.0).astype("float32")
    model = Two("tuple")
    model.compile("sgd", [lambda t, p: ops.square(t[1] - p[0])[:, 0], ["mse", None]])
    found = model.evaluate(X, (ZERO, rows), sample_weight=weight, verbose=0)
    expected = np.mean(weight * (rows[:, 0] - 3) ** 2) + np.mean(weight * 9)
    assert found[0] == pytest.approx(expected)
    before = model.one.get_weights()[0].copy()
    with pytest.warns(UserWarning, match="Gradients do not exist"):  # of the other output
        model.fit(X, (ZERO, ZERO), verbose=0)
    assert (model.one.get_weights()[0] < before).all()
    np.testing.assert_array_equal(model.other.get_weights()[0], np.ones((3, 1)))


@pytest.mark.parametrize("form", ("list", "tuple"))
def test_targets_of_outputs_with_a_loss(form):
    assert logs_of(form, [None, "mse"], y=TWO)["loss"] == pytest.approx(1)
    x = handmill.Input((3,))
    outputs = [layers.Dense(1, kernel_initializer="ones")(x) for _ in range(3)]
    model = handmill.Model(x, outputs)
    model.compile("sgd", ["mse", None, "mae"])
    assert model.evaluate(X, [TWO, ZERO], verbose=0)[0] == pytest.approx(1 + 3)
    with pytest.raises(ValueError, match="has 1 arrays, but the model has 3 outputs"):
        model.evaluate(X, [TWO], verbose=0)


def test_names_of_deeply_nested_outputs():
    x = handmill.Input((3,))
    p, q, r = (layers.Dense(1, name=n, kernel_initializer="ones")(x) for n in "pqr")
    model = handmill.Model(x, {"a": p, "b": {"c": (q, r)}})
    metrics = {"a": "mae", "b": {"c": (["mse", "mae"], None)}}
    model.compile("sgd", {"a": "mse", "b": {"c": [of_all, (None, "mse")]}}, metrics)
    y = {"a": ZERO, "b": {"c": (ZERO, TWO)}}
    logs = model.evaluate(X, y, return_dict=True, verbose=0)
    assert logs == pytest.approx(
        {
            "loss": 20, "a_loss": 9, "b/c_loss": 10, "b/c/r_loss": 1,
            "p_mae": 3, "q_mse": 9, "q_mae": 3,
        }
    )  # fmt: skip


def test_outputs_without_names():
    """Losses and metrics are called by their own names."""
    logs = logs_of("list", ["mse", "mae"], metrics=[["mae"], ["mae"]])
    assert logs == pytest.approx({"loss": 10, "mse_loss": 9, "mae_loss": 1, "mae": 3, "mae_1": 1})


def test_a_loss_that_takes_one_output_apart():
    class Apart(handmill.Sequential):
        def compute_loss(self, x, y, y_pred, sample_weight=None, **kwargs):
            return super().compute_loss(x, y, [y_pred, y_pred], sample_weight, **kwargs)

    model = Apart([handmill.Input((3,)), layers.Dense(1, kernel_initializer="ones")])
    model.compile("sgd", ["mean_squared_error", "mean_absolute_error"])
    logs = model.evaluate(X, (ZERO, TWO), return_dict=True, verbose=0)
    names = {"loss", "mean_squared_error_loss", "mean_absolute_error_loss"}
    assert logs["loss"] == pytest.approx(10)
    assert set(logs) == names


@pytest.mark.parametrize(
    ("form", "loss", "error", "match"),
    (
        ("dict", {"u": "mse", "w": "mse"}, KeyError, r"\('w',\) in the `loss` argument.*'u', 'v'"),
        ("list", {"u": "mse"}, ValueError, r"\['u'\].*outputs have no names; give a list"),
        ("list", ["mse", "mae", "mse"], ValueError, "has 3 entries, but the model has 2 outputs"),
        ("list", ["mse", {"u": "mae"}], KeyError, r"\(1,\) in the `loss` argument"),
    ),
)  # fmt: skip
def test_losses_that_do_not_fit(form, loss, error, match):
    with pytest.raises(error, match=match):
        logs_of(form, loss)


class Pair(NamedTuple):
    """Outputs with names."""

    u: object
    v: object


def test_named_tuples():
    """A loss of the whole sees the tuple by its names; losses may be named, or in a tuple."""

    def of_names(y_true, y_pred):
        return ops.mean(y_pred.u - y_true.u) + 10 * ops.mean(y_pred.v - y_true.v)

    x = handmill.Input((3,))
    dense = [layers.Dense(1, kernel_initializer="ones", name=name)(x) for name in "uv"]
    model = handmill.Model(x, Pair(*dense))
    parts = {"loss": 23, "u_v_loss": 13, "u_loss": 9, "v_loss": 1}
    for losses in (Pair("mse", "mae"), ("mse", "mae")):
        model.compile("sgd", [of_names, losses])
        logs = model.evaluate(X, Pair(ZERO, TWO), return_dict=True, verbose=0)
        assert logs == pytest.approx(parts)
        model.compile("sgd", losses)
        logs = model.evaluate(X, Pair(ZERO, TWO), return_dict=True, verbose=0)
        assert logs == pytest.approx({"loss": 10, "u_loss": 9, "v_loss": 1})


@pytest.mark.parametrize("outputs", ("pq", "qp"))
@pytest.mark.parametrize(
    ("loss", "order"),
    (({"q": "mse", "p": "mae"}, "qp"), ({"p": "mae", "q": "mse"}, "pq"), ("mae", "pq")),
)
def test_losses_of_a_dict_are_told_in_its_order(outputs, loss, order):
    """As in Keras, where the outputs are a dict; those of a list keep theirs. Names are sorted."""
    x = handmill.Input((3,))
    made = {n: layers.Dense(1, name=n, kernel_initializer="ones")(x) for n in outputs}
    y = {"p": ZERO, "q": TWO}
    model = handmill.Model(x, made)
    model.compile("sgd", loss, {"p": "mse"})
    wanted = {"p_loss": 3.0, "q_loss": 1.0}
    listed = [4.0, *(wanted[f"{n}_loss"] for n in order), 9.0]
    assert model.evaluate(X, y, verbose=0) == pytest.approx(listed)
    assert model.test_on_batch(X, y) == pytest.approx(listed)
    names = ["loss", "p_loss", "p_mse", "q_loss"]
    assert list(model.evaluate(X, y, return_dict=True, verbose=0)) == names
    assert list(model.test_on_batch(X, y, return_dict=True)) == names
    history = model.fit(X, y, validation_data=(X, y), verbose=0).history
    assert list(history) == [*names, *(f"val_{name}" for name in names)]
    model = handmill.Model(x, [made[n] for n in outputs])
    model.compile("sgd", loss)
    found = model.evaluate(X, [y[n] for n in outputs], verbose=0)
    now = model.evaluate(X, [y[n] for n in outputs], return_dict=True, verbose=0)
    assert found == [now["loss"], *(now[f"{n}_loss"] for n in outputs)]


@pytest.mark.parametrize("shape", ((4,), (4, 1), (4, 2, 1), (4, 1, 1), (4, 3, 1, 1), (4, 2)))
@pytest.mark.parametrize("steps", ((), (2,)))
def test_ranks_of_sample_weights(shape, steps):
    """As in Keras: a last axis of 1 goes if it is one too many, and the rest broadcasts."""
    rng = np.random.default_rng(0)
    y, p = rng.normal(size=(2, 4, *steps, 3)).astype("float32")
    weights = rng.uniform(size=shape).astype("float32")
    each = np.square(y - p).mean(-1)
    w = weights[..., 0] if weights.ndim == each.ndim + 1 and shape[-1] == 1 else weights
    model = handmill.Sequential([handmill.Input((*steps, 3)), layers.Identity()])
    model.compile("sgd", "mse")
    try:
        want = np.mean(each * w)
    except ValueError:
        with pytest.raises(ValueError, match="sample weights of shape"):
            model.evaluate(p, y, sample_weight=weights, verbose=0)
    else:
        assert model.evaluate(p, y, sample_weight=weights, verbose=0) == pytest.approx(want)
