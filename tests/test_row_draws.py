"""What image layers draw in ``fit`` follows from seed, epoch, row and view."""

from __future__ import annotations

import numpy as np
import pytest

import handmill as hm
from handmill import data, layers, ops
from handmill.primitives.random import random_normal, random_uniform, row_seeds

ROWS, SIDE = 96, 4
IMAGES = np.random.default_rng(0).uniform(0, 255, (ROWS, SIDE, SIDE, 3)).astype("float32")
NUMBERS = np.arange(ROWS)


def augmentation():
    return [
        layers.RandomFlip("horizontal", seed=1),
        layers.RandomRotation(0.3, seed=2),
        layers.RandomContrast(0.5, seed=3),
        layers.RandomColorJitter(brightness_factor=(-0.2, 0.2), seed=4),
        layers.RandomErasing(seed=5),
    ]


class Recorder(hm.Model):
    """Keeps two views of each row that it has been trained on."""

    def __init__(self, chain=None):
        super().__init__()
        self.chain = augmentation() if chain is None else chain
        self.seen = self.add_weight((2, ROWS, IMAGES[0].size), "zeros", trainable=False)

    def call(self, x, training=False):
        return self.varied(x, training)

    def varied(self, x, training=True):
        for layer in self.chain:
            x = layer(x, training=training)
        return ops.reshape(x, (-1, IMAGES[0].size))

    def train_step(self, batch):
        x, numbers = batch
        places = ops.transpose(ops.one_hot(numbers, ROWS))
        views = [ops.matmul(places, self.varied(x)) for _ in range(2)]
        self.seen.assign(ops.add(self.seen, ops.stack(views)))
        return {"rows": ops.sum(places)}

    test_step = train_step


def recorder(**settings):
    model = Recorder()
    model.compile("sgd", **settings)
    return model


def seen(model, *given, epochs=1, **arguments):
    """The two views of all rows in the last of some epochs."""
    x = given if given else (IMAGES, NUMBERS)
    forget = hm.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: clear(model))
    model.fit(*x, epochs=epochs, verbose=0, callbacks=[forget], **arguments)
    return model.seen.numpy().copy()


def clear(model):
    model.seen.assign(np.zeros(model.seen.shape, "float32"))


@pytest.fixture(scope="module")
def expected():
    return seen(recorder(), batch_size=16, shuffle=False)


@pytest.mark.parametrize("threads", (1, 2, 3))
@pytest.mark.parametrize("shuffle", (True, False, "batch"))
@pytest.mark.parametrize("batch_size", (16, 48, 7))
def test_a_row_gets_the_same_in_every_batch(expected, batch_size, shuffle, threads):
    before = hm.config.num_threads()
    hm.config.set_num_threads(threads)
    try:
        found = seen(recorder(), batch_size=batch_size, shuffle=shuffle)
    finally:
        hm.config.set_num_threads(before)
    np.testing.assert_array_equal(found, expected)


def test_views_rows_and_epochs_differ(expected):
    images = IMAGES.reshape(ROWS, -1)
    first, second = expected
    for one, other in ((first, second), (first, images), (second, images)):
        assert (abs(one - other).max(axis=1) > 1).all()
    same_image = np.broadcast_to(IMAGES[:1], IMAGES.shape)
    found = seen(recorder(), same_image, NUMBERS, batch_size=48)[0]
    assert len(np.unique(found, axis=0)) == ROWS
    later = seen(recorder(), batch_size=16, epochs=2)
    assert (abs(later - expected).max(axis=2) > 1).all()


def test_epochs_go_on_over_calls_of_fit():
    together, apart = recorder(), recorder()
    wanted = seen(together, epochs=3)
    for _ in range(2):
        seen(apart, batch_size=48)
    np.testing.assert_array_equal(seen(apart, batch_size=20), wanted)


def test_numpy_draws_the_same(expected):
    with hm.use_backend("numpy"):
        found = seen(recorder(), batch_size=48)
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_steps_that_python_runs_draw_the_same(expected):
    found = seen(recorder(run_eagerly=True), batch_size=48)
    np.testing.assert_allclose(found, expected, atol=1e-2)


def sources():
    rows = data.Dataset.from_tensor_slices((IMAGES, NUMBERS))
    yield "arrays", lambda: rows.batch(16)
    yield "shuffled", lambda: rows.shuffle(ROWS, seed=3).batch(24)
    yield "mapped", lambda: rows.batch(12).map(lambda x, n: (x, n))
    yield "one_by_one", lambda: ((IMAGES[i : i + 5], NUMBERS[i : i + 5]) for i in range(0, ROWS, 5))


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in sources()])
def test_sources_of_batches_number_their_rows(expected, make):
    np.testing.assert_array_equal(seen(recorder(), make()), expected)


def test_rows_that_come_twice_in_an_epoch_differ():
    class Counter(Recorder):
        def train_step(self, batch):
            x, _ = batch
            first = self.varied(x)[:1]
            is_first = ops.cast(ops.equal(ops.sum(self.seen[0, 0]), 0.0), "float32")
            row = ops.concatenate([first * is_first, first * (1.0 - is_first)])
            self.seen.assign(
                ops.add(self.seen, ops.pad(row[None], ((0, 1), (0, ROWS - 2), (0, 0))))
            )
            return {"rows": ops.sum(first)}

    model = Counter()
    model.compile("sgd")
    batch = data.Dataset.from_tensor_slices((IMAGES[:8], NUMBERS[:8])).batch(8).repeat(2)
    first, second = seen(model, batch)[0][:2]
    assert abs(first - second).max() > 1


@pytest.mark.slow
def test_a_run_that_was_cut_goes_on_with_the_same(tmp_path):
    class Cut(Exception):
        pass

    def cut(epoch, at):
        def end(batch, logs):
            if model.passes == epoch and batch == at:
                raise Cut

        return hm.callbacks.LambdaCallback(
            on_train_batch_end=end,
            on_epoch_begin=lambda epoch, logs: setattr(model, "passes", epoch),
        )

    for given in (lambda: (IMAGES, NUMBERS), lambda: (dict(sources())["mapped"](),)):
        whole = recorder()
        whole.fit(*given(), epochs=3, verbose=0)
        model = recorder()
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        backup = hm.callbacks.BackupAndRestore(folder, save_freq=1)
        with pytest.raises(Cut):
            model.fit(*given(), epochs=3, verbose=0, callbacks=[backup, cut(1, 1)])
        model = recorder()
        model(IMAGES[:1])  # with data of unknown shape a model must be built
        backup = hm.callbacks.BackupAndRestore(folder, save_freq=1)
        model.fit(*given(), epochs=3, verbose=0, callbacks=[backup])
        np.testing.assert_array_equal(np.asarray(model.seen), np.asarray(whole.seen))


def test_single_batches_and_validation_count_calls():
    model = recorder()
    taken = []
    for _ in range(2):
        clear(model)
        model.train_on_batch(IMAGES, NUMBERS)
        taken += list(model.seen.numpy().copy())
    for i, one in enumerate(taken):
        for other in taken[:i]:
            assert (abs(one - other).max(axis=1) > 1).all()

    model = hm.Sequential([hm.Input(IMAGES.shape[1:]), *augmentation(), layers.Flatten()])
    model.compile("sgd", "mse")
    states = [layer.generator.state.numpy() for layer in model.layers[:-1]]
    numbers = model.evaluate(IMAGES, IMAGES.reshape(ROWS, -1), verbose=0)
    assert numbers == model.evaluate(IMAGES, IMAGES.reshape(ROWS, -1), batch_size=7, verbose=0) == 0
    assert all(
        (a == b.generator.state.numpy()).all()
        for a, b in zip(states, model.layers[:-1], strict=True)
    )


def test_a_layer_in_a_loop_draws_in_each_turn():
    inner = layers.RandomFlip("horizontal", seed=1)
    wide = np.broadcast_to(IMAGES[:, None], (ROWS, 6, *IMAGES.shape[1:]))

    class Steps(Recorder):
        def varied(self, x):
            _, found = ops.scan(
                lambda c, image: (c, inner(image, training=True)), 0.0, ops.moveaxis(x, 1, 0)
            )
            return ops.reshape(
                ops.sum(found * (ops.arange(6.0)[:, None, None, None, None]), 0),
                (-1, IMAGES[0].size),
            )

    model = Steps([inner])
    model.compile("sgd")
    found = seen(model, np.ascontiguousarray(wide), NUMBERS)[0].reshape(IMAGES.shape)
    same = [
        [np.allclose(x, 15 * y, rtol=1e-3) for x, y in zip(found, images, strict=True)]
        for images in (IMAGES, IMAGES[:, :, ::-1])
    ]
    assert np.any(same, axis=0).mean() < 0.2


def test_what_a_batch_shares_follows_from_its_first_row():
    def blurred(batch_size):
        model = Recorder([layers.RandomGaussianBlur(seed=1)])
        model.compile("sgd")
        return seen(model, batch_size=batch_size, shuffle=False)[0]

    one, two = blurred(ROWS), blurred(ROWS // 2)
    np.testing.assert_array_equal(one[: ROWS // 2], two[: ROWS // 2])
    assert abs(one - two)[ROWS // 2 :].max() > 1


def test_numbers_of_a_row_do_not_depend_on_the_others():
    state = np.array([123456789012345, 6])
    rows = np.array([5, 0, 1 << 40, 7])
    states = row_seeds(rows, state, view=3)
    assert len(np.unique(states[:, 0])) == 4
    assert (states[:, 0] >= 0).all()
    np.testing.assert_array_equal(row_seeds(rows[2:3], state, view=3), states[2:3])
    assert not np.isin(row_seeds(rows, state, view=2), states[:, 0]).any()
    for draw in (random_uniform, random_normal):
        for shape in ((), (3,), (5,), (130,), (5000,)):
            together = draw(states, (4, *shape))
            for row, one in zip(states, together, strict=True):
                np.testing.assert_array_equal(draw(row, shape), one)


def test_uniform_numbers_of_rows_are_spread_evenly():
    states = row_seeds(np.arange(20000), np.array([1, 2]), view=0)
    drawn = random_uniform(states, (20000, 2))
    counts = np.histogram2d(drawn[:, 0], drawn[:, 1], bins=10, range=[[0, 1], [0, 1]])[0]
    assert ((counts - 200) ** 2 / 200).sum() < 160  # chi squared, 99 degrees: p < 1e-4


def test_models_without_such_layers_take_no_numbers():
    model = hm.Sequential([hm.Input((3,)), layers.Dropout(0.5), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 3), "float32"), np.ones((4, 1), "float32"), verbose=0)
    assert [step.layout.numbered for step in model._steps.values()] == [False]
