"""Tables of which a step updates only the rows that it used."""

from __future__ import annotations

import numpy as np
import pytest

import handmill
from handmill import config, layers, models, ops, optimizers
from handmill.ir import passes
from levels import levels

pytestmark = pytest.mark.filterwarnings("ignore::handmill.TrainingWarning")
needs_kernels = pytest.mark.skipif(not config.has_kernels(), reason="a build without kernels")

ROWS, WIDTH, LENGTH = 23, 5, 4
OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.5),
    "momentum": lambda: optimizers.SGD(0.5, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.5, momentum=0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(0.05),
    "adamw": lambda: optimizers.AdamW(0.05, weight_decay=0.1),
    "rmsprop": lambda: optimizers.RMSprop(0.05),
    "adagrad": lambda: optimizers.Adagrad(0.5),
}
SAME_AS_DENSE = ("sgd", "adagrad")  # what has no gradient stays as it is


@pytest.fixture(autouse=True)
def _level_and_threads_as_before():
    if not config.has_kernels():
        yield
        return
    level, threads = config.isa(), config.num_threads()
    yield
    config.set_isa(level)
    config.set_num_threads(threads)


def model_of(optimizer, sparse=True, rows=ROWS, width=WIDTH):
    handmill.utils.set_random_seed(3)
    table = layers.Embedding(rows, width, sparse_rows=sparse)
    model = models.Sequential([layers.Input((LENGTH,), dtype="int32"), table])
    model.compile(optimizer, "mse")
    return model


def data_of(batch, steps=3, rows=ROWS, width=WIDTH):
    """Numbers of which many come twice, and many only in one of the batches."""
    rng = np.random.default_rng(0)
    x = np.minimum(rng.integers(0, rows, (steps * batch, LENGTH)), rng.integers(0, rows)).astype(
        "i"
    )
    return x, rng.normal(size=(steps * batch, LENGTH, width)).astype("float32")


def trained(optimizer, sparse=True, batch=7, **sizes):
    model = model_of(optimizer, sparse, **sizes)
    x, y = data_of(batch, **sizes)
    model.fit(x, y, batch_size=batch, epochs=2, shuffle=False, verbose=0)
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@needs_kernels
@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("name", SAME_AS_DENSE)
def test_the_same_bits_as_with_the_whole_table(name, level):
    config.set_isa(level)
    for batch, rows, width in ((1, 3, 1), (7, ROWS, WIDTH), (40, 5000, 33)):
        sizes = {"batch": batch, "rows": rows, "width": width}
        assert_same(
            trained(OPTIMIZERS[name](), True, **sizes), trained(OPTIMIZERS[name](), False, **sizes)
        )


@pytest.mark.slow
@needs_kernels
@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_whole_table_needs_no_gradient_in_memory(monkeypatch, name, level):
    """Joined with its update, the gradient of a table gives the bits that it gave apart."""
    config.set_isa(level)
    sizes = {"batch": 40, "rows": 15_000, "width": 40}
    together = trained(OPTIMIZERS[name](), False, **sizes)
    for rows, kernel in ((ROWS, "scatter_add"), (15_000, "update_table")):
        steps = steps_of(model_of(OPTIMIZERS[name](), False, rows, 40), 32, rows, 40)
        assert {s["kernel"] for s in steps} & {"scatter_add", "update_table"} == {kernel}
    monkeypatch.setattr(
        passes, "PASSES", tuple(p for p in passes.PASSES if p is not passes.fuse_updates)
    )
    assert_same(together, trained(OPTIMIZERS[name](), False, **sizes))


def lazy(name, table, x, y, batch):
    """The rule in NumPy and float64: rows of a batch are updated, others wait with their slots."""
    p, m, v = table.astype("float64"), np.zeros(table.shape), np.zeros(table.shape)
    if name == "adagrad":
        v += 0.1
    starts = [*range(0, len(x), batch)] * 2
    for t, start in enumerate(starts, 1):
        ids, wanted = x[start : start + batch], y[start : start + batch]
        g = np.zeros(table.shape)
        np.add.at(g, ids, 2 * (p[ids] - wanted) / wanted.size)
        r = np.unique(ids)
        if name == "sgd":
            p[r] -= 0.5 * g[r]
        elif name in ("momentum", "nesterov"):
            m[r] = 0.9 * m[r] - 0.5 * g[r]
            p[r] += m[r] if name == "momentum" else 0.9 * m[r] - 0.5 * g[r]
        elif name == "rmsprop":
            v[r] = 0.9 * v[r] + 0.1 * g[r] ** 2
            p[r] -= 0.05 * g[r] / np.sqrt(v[r] + 1e-7)
        elif name == "adagrad":
            v[r] += g[r] ** 2
            p[r] -= 0.5 * g[r] / np.sqrt(v[r] + 1e-7)
        else:
            if name == "adamw":
                p[r] -= p[r] * 0.05 * 0.1
            m[r] += (g[r] - m[r]) * 0.1
            v[r] += (g[r] ** 2 - v[r]) * 0.001
            alpha = 0.05 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            p[r] -= m[r] * alpha / (np.sqrt(v[r]) + 1e-7)
    return p


@pytest.mark.parametrize("backend", ("kernels", "numpy"))
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rows_that_are_not_used_wait_with_their_slots(name, backend):
    if backend == "kernels" and not config.has_kernels():
        pytest.skip("a build without kernels")
    x, y = data_of(7)
    with handmill.use_backend("numpy" if backend == "numpy" else config.backend()):
        model = model_of(OPTIMIZERS[name]())
        start = model.layers[0].embeddings.numpy()
        model.fit(x, y, batch_size=7, epochs=2, shuffle=False, verbose=0)
        found = model.layers[0].embeddings.numpy()
    np.testing.assert_allclose(found, lazy(name, start, x, y, 7), rtol=2e-4, atol=2e-5)
    unused = np.setdiff1d(np.arange(ROWS), x)
    assert 0 < len(unused) < ROWS
    np.testing.assert_array_equal(found[unused], start[unused])


@needs_kernels
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_numbers_agree_with_the_references(name):
    model = model_of(OPTIMIZERS[name]())
    x, y = data_of(7, steps=1)
    model.fit(x, y, verbose=0)
    handmill.compare(model, x, y).raise_if_failed()


@needs_kernels
@pytest.mark.parametrize("level", levels())
def test_the_same_bits_for_any_number_of_threads(level):
    config.set_isa(level)
    sizes = {"batch": 600, "rows": 700, "width": 40}
    config.set_num_threads(1)
    alone = trained(OPTIMIZERS["adam"](), **sizes)
    for threads in (2, 3):
        config.set_num_threads(threads)
        assert_same(trained(OPTIMIZERS["adam"](), **sizes), alone)


def steps_of(model, batch=32, rows=ROWS, width=WIDTH):
    x, y = data_of(batch, 1, rows, width)
    function, arrays = model.step_to_compare(x, y)
    return function.plan(*arrays).summary()


@needs_kernels
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_moves_as_many_bytes_whatever_the_size_of_the_table(name):
    def moved(rows):
        steps = steps_of(model_of(OPTIMIZERS[name](), rows=rows))
        (update,) = [s for s in steps if s["kernel"] == "update_rows"]
        assert update["bytes_in_place"] == update["bytes_written"] > 0
        assert not any(s["host"] or s["kernel"] in ("copy", "scatter_add") for s in steps)
        return sum(s["bytes"] for s in steps)

    assert moved(1_000) == moved(100_000)


@needs_kernels
@pytest.mark.parametrize("sparse", (True, False))
def test_updates_stay_in_place_beside_what_runs_on_the_host(sparse):
    """A step that sorts (in NumPy) copied each table and slot instead, before or behind it."""
    model = model_of(OPTIMIZERS["adam"](), sparse)
    model.compile(
        OPTIMIZERS["adam"](),
        "mse",
        metrics=[lambda y, p: ops.cast(ops.argsort(p)[0, 0], "float32")],
    )
    steps = steps_of(model)
    assert any(s["host"] for s in steps)
    assert not any(s["kernel"] == "copy" for s in steps)
    (update,) = [s for s in steps if s["kernel"] in ("update_rows", "adam_update")]
    assert update["bytes_in_place"] == update["bytes_written"]


@needs_kernels
def test_models_that_differ_in_nothing_else_have_programs_of_their_own():
    kernels = [
        [s["kernel"] for s in steps_of(model_of(OPTIMIZERS["adam"](), sparse))]
        for sparse in (False, True, False)
    ]
    assert kernels[0] == kernels[2]
    assert ["update_rows" in k for k in kernels] == [False, True, False]


CLIPPED = {
    "value": {"clipvalue": 1e-3},
    "norm": {"clipnorm": 1e-2},
    "global": {"global_clipnorm": 1e-2},
    "scaled": {"loss_scale_factor": 1024.0},
}


@pytest.mark.parametrize("name", CLIPPED)
def test_gradients_are_clipped_as_those_of_the_whole_table(name):
    ours, theirs = (
        trained(optimizers.SGD(0.5, **CLIPPED[name]), sparse) for sparse in (True, False)
    )
    plain = trained(optimizers.SGD(0.5), True)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert (np.abs(ours[0] - plain[0]).max() > 1e-3) == (name != "scaled")


def shared(sparse, join, optimizer):
    """A table that two inputs look into, by two calls or by one."""
    handmill.utils.set_random_seed(3)
    table = layers.Embedding(ROWS, WIDTH, sparse_rows=sparse)
    one, two = (layers.Input((LENGTH,), dtype="int32") for _ in range(2))
    if join:
        found = table(ops.concatenate([one, two], axis=1))
    else:
        found = layers.Concatenate(axis=1)([table(one), table(two)])
    model = models.Model([one, two], found)
    model.compile(optimizer, "mse")
    rng = np.random.default_rng(1)
    xs = [rng.integers(0, ROWS // 2, (9, LENGTH)).astype("i") for _ in range(2)]
    y = rng.normal(size=(9, 2 * LENGTH, WIDTH)).astype("float32")
    model.fit(xs, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]


@pytest.mark.parametrize("name", SAME_AS_DENSE)
def test_two_calls_add_up_as_whole_tables_do(name):
    assert_same(shared(True, False, OPTIMIZERS[name]()), shared(False, False, OPTIMIZERS[name]()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_two_calls_make_one_update(name):
    ours, theirs = (shared(True, join, OPTIMIZERS[name]()) for join in (False, True))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_number_outside_changes_nothing():
    model = model_of(OPTIMIZERS["adam"]())
    x, y = data_of(7, steps=1)
    model.fit(x, y, verbose=0)
    before = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    for wrong in (-1, ROWS):
        x[5, 2] = wrong
        with pytest.raises(ValueError, match=rf"embedding index {wrong} .*row 5"):
            model.train_on_batch(x, y)
    assert_same([v.numpy() for v in (*model.variables, *model.optimizer.variables)], before)


class Lookup(layers.Layer):
    """Looks up as ``take`` does, where negative numbers count from the end."""

    def build(self, shape):
        self.table = self.add_weight((ROWS, WIDTH), "ones", name="table")
        self.table.sparse_rows = True

    def call(self, x):
        return ops.take(self.table, x, axis=0)


def test_a_variable_of_a_layer_of_ones_own_and_numbers_from_the_end():
    model = models.Sequential([layers.Input((LENGTH,), dtype="int32"), Lookup()])
    model.compile(optimizers.SGD(1.0), "mse")
    x = np.array([[-1, 0, ROWS - 1, 2]], "i")
    model.train_on_batch(x, np.zeros((1, LENGTH, WIDTH), "f"))
    step = np.float32(2 / (LENGTH * WIDTH))
    table = model.layers[0].table.numpy()[:, 0]
    assert table[[-1, 0, 1, 2]] == pytest.approx([1 - 2 * step, 1 - step, 1, 1 - step])


def test_a_batch_without_numbers_changes_no_row():
    model = models.Sequential([layers.Input((None,), dtype="int32"), Lookup(), layers.Dense(1)])
    model.compile(optimizers.SGD(1.0, momentum=0.9), lambda y, p: ops.sum(p - y))
    model.train_on_batch(np.zeros((2, 3), "i"), np.zeros((2, 3, 1), "f"))
    before = model.layers[0].table.numpy()
    assert np.abs(before[0] - 1).max() > 0
    model.train_on_batch(np.zeros((2, 0), "i"), np.zeros((2, 0, 1), "f"))
    np.testing.assert_array_equal(model.layers[0].table.numpy(), before)


class Stepping(models.Sequential):
    """A step of the model's own."""

    def train_step(self, data):
        x, y = data
        with handmill.GradientTape() as tape:
            loss = ops.mean(ops.square(self(x, training=True) - y))
        self.optimizer.apply(
            tape.gradient(loss, self.trainable_variables), self.trainable_variables
        )
        return {"loss": loss}


def test_a_step_of_ones_own_and_one_optimizer_of_several():
    x, y = data_of(7)
    found = []
    inner = OPTIMIZERS["adam"]()
    for kind, optimizer in (
        (models.Sequential, OPTIMIZERS["adam"]()),
        (Stepping, OPTIMIZERS["adam"]()),
        (models.Sequential, optimizers.MultiOptimizer(lambda variable: inner)),
    ):
        handmill.utils.set_random_seed(3)
        table = layers.Embedding(ROWS, WIDTH, sparse_rows=True)
        model = kind([layers.Input((LENGTH,), dtype="int32"), table])
        model.compile(optimizer, "mse")
        model.fit(x, y, batch_size=7, shuffle=False, verbose=0)
        found.append(table.embeddings.numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[2], found[0])


class Doubled(optimizers.Adam):
    """An update of ones own."""

    def update_step(self, gradient, variable, learning_rate):
        self.assign_sub(variable, 2.0 * gradient)


REFUSED = {
    "use_ema": lambda: optimizers.SGD(use_ema=True),
    "gradient_accumulation_steps": lambda: optimizers.SGD(gradient_accumulation_steps=2),
    "weight decay of SGD": lambda: optimizers.SGD(weight_decay=0.1),
    "without amsgrad": lambda: optimizers.Adam(amsgrad=True),
    "not centered": lambda: optimizers.RMSprop(centered=True),
    "RMSprop without momentum": lambda: optimizers.RMSprop(momentum=0.9),
    "Nadam with these": optimizers.Nadam,
    "Muon with these": lambda: optimizers.Muon(weight_decay=None, adam_weight_decay=None),
    "Doubled with these": Doubled,
    "LossScaleOptimizer looks": lambda: optimizers.LossScaleOptimizer(optimizers.SGD()),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_needs_the_whole_table_is_refused(words):
    model = model_of(REFUSED[words]())
    x, y = data_of(7, steps=1)
    before = model.layers[0].embeddings.numpy()
    for _ in range(2):
        with pytest.raises(ValueError, match=f"sparse_rows=True.*{words}.*sparse_rows=False"):
            model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(model.layers[0].embeddings.numpy(), before)


def test_an_excluded_table_does_not_decay():
    optimizer = optimizers.SGD(0.5, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["embeddings"])
    assert_same(trained(optimizer), trained(OPTIMIZERS["sgd"]()))


@pytest.mark.parametrize("what", ("regularizer", "constraint"))
def test_conditions_on_the_whole_table_are_refused(what):
    given = {f"embeddings_{what}": "l2" if what == "regularizer" else "max_norm"}
    with pytest.raises(ValueError, match=f"`sparse_rows=True`.*embeddings_{what}"):
        layers.Embedding(ROWS, WIDTH, sparse_rows=True, **given)


def test_a_loss_with_the_table_in_it_is_refused():
    model = model_of(OPTIMIZERS["sgd"]())
    table = model.layers[0].embeddings
    model.compile(
        OPTIMIZERS["sgd"](), lambda y, p: ops.mean(ops.square(p - y)) + ops.sum(ops.square(table))
    )
    with pytest.raises(ValueError, match="in another way"):
        model.fit(*data_of(7, steps=1), verbose=0)


def test_arrays_of_gradients_are_refused():
    model = model_of(OPTIMIZERS["sgd"]())
    model.compile(OPTIMIZERS["sgd"](), "mse", run_eagerly=True)
    with pytest.raises(ValueError, match="run_eagerly=True"):
        model.fit(*data_of(7, steps=1), verbose=0)


def test_tables_of_other_types_are_refused():
    table = layers.Embedding(ROWS, WIDTH, sparse_rows=True, dtype="float64")
    model = models.Sequential([layers.Input((LENGTH,), dtype="int32"), table])
    model.compile(OPTIMIZERS["sgd"](), "mse")
    with pytest.raises(ValueError, match="it is float64"):
        model.fit(*data_of(7, steps=1), verbose=0)


def test_half_precision_keeps_a_table_in_float32():
    handmill.utils.set_random_seed(3)
    table = layers.Embedding(ROWS, WIDTH, sparse_rows=True, dtype="mixed_bfloat16")
    model = models.Sequential([layers.Input((LENGTH,), dtype="int32"), table])
    model.compile(OPTIMIZERS["sgd"](), "mse")
    x, y = data_of(7, steps=1)
    start = table.embeddings.numpy()
    model.fit(x, y, verbose=0)
    want = lazy("sgd", start, x, y, len(x))
    once = start + (want - start) / 2  # the reference makes two steps
    np.testing.assert_allclose(table.embeddings.numpy(), once, rtol=0.05, atol=0.05)
    assert np.abs(table.embeddings.numpy() - start).max() > 0.01


def test_the_word_is_saved_where_it_is_used(tmp_path):
    assert "sparse_rows" not in layers.Embedding(ROWS, WIDTH).get_config()
    model = model_of(OPTIMIZERS["adam"]())
    x, y = data_of(7)
    model.fit(x, y, batch_size=7, shuffle=False, verbose=0)
    model.save(tmp_path / "model.hmill")
    loaded = models.load_model(tmp_path / "model.hmill")
    assert loaded.layers[0].sparse_rows
    assert models.clone_model(model).layers[0].embeddings.sparse_rows
    for each in (model, loaded):
        each.fit(x, y, batch_size=7, shuffle=False, verbose=0)
    assert_same(
        *([v.numpy() for v in (*m.variables, *m.optimizer.variables)] for m in (model, loaded))
    )
