"""``handmill.random``: distributions, seeds, and draws inside programs."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import handmill
from handmill import config, layers, ops, random
from handmill.errors import NotDifferentiableError

LOGITS = np.log(np.array([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]], np.float32))
DRAWS = {
    "beta": lambda seed: random.beta((50, 3), 2.0, [0.5, 1.0, 3.0], seed=seed),
    "binomial": lambda seed: random.binomial((50, 3), [1.0, 30.0, 500.0], 0.3, seed=seed),
    "categorical": lambda seed: random.categorical(LOGITS, 40, seed=seed),
    "dropout": lambda seed: random.dropout(np.ones((30, 4), np.float32), 0.3, seed=seed),
    "dropout_rows": lambda seed: random.dropout(
        np.ones((30, 4), np.float32), 0.3, noise_shape=(None, 1), seed=seed
    ),
    "gamma": lambda seed: random.gamma((50, 2), [0.2, 5.0], seed=seed),
    "normal": lambda seed: random.normal((60,), 1.0, 2.0, seed=seed),
    "randint": lambda seed: random.randint((60,), -5, 1000, seed=seed),
    "shuffle": lambda seed: random.shuffle(np.arange(60, dtype=np.float32), seed=seed),
    "truncated_normal": lambda seed: random.truncated_normal((60,), 1.0, 2.0, seed=seed),
    "uniform": lambda seed: random.uniform((60,), -1.0, 2.0, seed=seed),
}


ROUNDED = ("normal", "truncated_normal", "uniform")
"""Scaled in float64 on the host, in float32 in a program."""


class Draws(layers.Layer):
    """Draws in its call."""

    def __init__(self, draw, seed):
        super().__init__()
        self.draw, self.seed = draw, seed

    def call(self, x):
        return self.draw(self.seed)


@pytest.mark.parametrize("name", DRAWS)
def test_an_integer_gives_the_same_and_a_generator_new_numbers(name):
    draw = DRAWS[name]
    first = draw(3)
    np.testing.assert_array_equal(draw(3), first)
    assert not np.array_equal(draw(4), first)
    seeds = random.SeedGenerator(3)
    np.testing.assert_array_equal(draw(seeds), first)
    assert not np.array_equal(draw(seeds), first)
    assert not np.array_equal(draw(None), draw(None))
    np.testing.assert_array_equal(draw(random.SeedGenerator(3).next()), first)


@pytest.mark.parametrize("name", DRAWS)
def test_a_program_draws_anew_each_time_with_the_bits_of_any_number_of_threads(name):
    x = np.zeros((2, 1), np.float32)
    alone = random.SeedGenerator(3)
    wanted = [DRAWS[name](alone) for _ in range(2)]
    before, found = config.num_threads(), []
    try:
        for threads in (1, 2, 5):
            config.set_num_threads(threads)
            layer = Draws(DRAWS[name], random.SeedGenerator(3))
            found.append([layer(x).tobytes() for _ in range(2)])
    finally:
        config.set_num_threads(before)
    assert found[1:] == found[:-1]
    assert found[0][0] != found[0][1]
    with handmill.use_backend("numpy"):
        layer = Draws(DRAWS[name], random.SeedGenerator(3))
        by_reference = [layer(x) for _ in range(2)]
    close = {"rtol": 2e-6, "atol": 2e-6} if name in ROUNDED else {"rtol": 3e-7}
    for drawn, got, want in zip(found[0], by_reference, wanted, strict=True):
        np.testing.assert_allclose(got, want, **close)
        np.testing.assert_allclose(np.frombuffer(drawn, got.dtype).reshape(got.shape), got, **close)


@pytest.mark.parametrize("name", DRAWS)
def test_a_program_repeats_the_numbers_of_an_integer(name):
    layer = Draws(DRAWS[name], 3)
    x = np.zeros((2, 1), np.float32)
    np.testing.assert_array_equal(layer(x), layer(x))


@pytest.mark.slow
def test_moments_are_those_of_the_distributions():
    n = 20_000

    def check(numbers, mean, variance):
        deviation = np.sqrt(variance / n)
        assert abs(numbers.mean() - mean) < 5 * deviation
        assert abs(numbers.var() - variance) < 0.12 * variance

    for alpha in (0.3, 1.0, 7.5):
        check(random.gamma((n,), alpha, seed=1), alpha, alpha)
    a, b = 0.4, 2.5
    variance = a * b / ((a + b) ** 2 * (a + b + 1))
    check(random.beta((n,), a, b, seed=1), a / (a + b), variance)
    for count, p in ((7, 0.4), (1000, 0.02), (100_000, 0.7)):
        numbers = random.binomial((n,), count, p, seed=1)
        check(numbers, count * p, count * p * (1 - p))
        assert numbers.min() >= 0
        assert numbers.max() <= count
        np.testing.assert_array_equal(numbers, np.round(numbers))
    check(random.randint((n,), 0, 6, seed=1).astype(float), 2.5, 35 / 12)
    shares = [np.bincount(row, minlength=3) / n for row in random.categorical(LOGITS, n, seed=1)]
    np.testing.assert_allclose(shares, np.exp(LOGITS), atol=0.02)


def test_the_ends_of_distributions():
    assert set(random.binomial((9,), 5, [0.0, 1.0, 0.0] * 3, seed=1)) == {0.0, 5.0}
    small = random.beta((2000,), 1e-3, 1e-3, seed=1)
    assert np.isfinite(small).all()
    assert 0.4 < small.mean() < 0.6
    assert np.isnan(random.gamma((2,), [-1.0, 1.0], seed=1)).tolist() == [True, False]
    assert random.randint((3,), 4, 5, seed=1).tolist() == [4, 4, 4]
    assert set(random.randint((500,), 250, 256, "uint8", seed=1)) == set(range(250, 256))
    x = np.ones((3, 2), np.float32)
    assert random.dropout(x, 0.0) is x or np.array_equal(random.dropout(x, 0.0), x)
    assert not random.dropout(x, 1.0).any()
    assert random.uniform((2,), dtype="float64").dtype == np.float64


def test_shuffle_gives_each_vector_its_own_order():
    x = np.arange(40).reshape(20, 2)
    shuffled = random.shuffle(x, seed=1)
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), x)
    assert not np.array_equal(shuffled[:, 1], shuffled[:, 0] + 1)
    np.testing.assert_array_equal(np.sort(random.shuffle(x, axis=1, seed=1), axis=1), x)


def test_dropout_shares_decisions_and_gives_them_gradients():
    x = np.ones((200, 4), np.float32)
    y = random.dropout(x, 0.25, noise_shape=(None, 1), seed=1)
    assert set(map(tuple, y)) == {(0,) * 4, (np.float32(4 / 3),) * 4}
    slope = handmill.grad(lambda x: ops.sum(random.dropout(x, 0.25, (None, 1), seed=1)))(x)
    np.testing.assert_array_equal(slope, y)


class Sampling(layers.Layer):
    """Of a variational autoencoder: a normal number with a mean and a log-variance."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = random.SeedGenerator(1337)

    def call(self, inputs):
        mean, log_var = inputs
        epsilon = random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_var) * epsilon


def test_the_sampling_of_a_vae_trains():
    x = np.random.default_rng(0).random((256, 8), np.float32)
    inputs = layers.Input((8,))
    hidden = layers.Dense(16, "relu")(inputs)
    mean, log_var = layers.Dense(2)(hidden), layers.Dense(2)(hidden)
    code = Sampling()([mean, log_var])
    model = handmill.Model(inputs, layers.Dense(8, "sigmoid")(code))
    model.compile("adam", "mse")
    losses = model.fit(x, x, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.95 * losses[0]
    assert not np.array_equal(model.predict(x[:4], verbose=0), model.predict(x[:4], verbose=0))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    (
        (lambda: random.uniform((2,), dtype="int32"), ValueError, "floating point `dtype`"),
        (lambda: random.randint((2,), 0, 9, dtype="float32"), ValueError, "an integer `dtype`"),
        (lambda: random.categorical(np.ones(3), 2), ValueError, "should be a 2-D tensor"),
        (lambda: random.dropout(np.ones(3), 1.5), ValueError, "from 0 to 1"),
        (lambda: random.dropout(np.ones((3, 2)), 0.5, (2,)), ValueError, "entry for each axis"),
        (lambda: random.gamma((2,), [1.0, 2.0, 3.0]), ValueError, "do not broadcast to `shape`"),
        (lambda: random.normal((2,), seed="one"), ValueError, "must be either an integer or an"),
        (lambda: random.SeedGenerator("one"), ValueError, "`seed` must be an integer"),
        (lambda: random.SeedGenerator(1, backend=None), ValueError, "Unrecognized keyword"),
        (lambda: random.dropout(layers.Input((3,)), 0.5), TypeError, "in the `call` of a layer"),
        (lambda: random.shuffle(layers.Input((3,))), TypeError, "in the `call` of a layer"),
        (
            lambda: handmill.grad(lambda a: ops.sum(random.gamma((3,), a, seed=1)))(np.float32(2)),
            NotDifferentiableError,
            "random_gamma",
        ),
    ),
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_generator_travels_as_its_arguments():
    seeds = random.SeedGenerator(7, name="mine")
    assert seeds.get_config() == {"seed": 7, "name": "mine"}
    again = random.SeedGenerator.from_config(seeds.get_config())
    np.testing.assert_array_equal(random.normal((3,), seed=seeds), random.normal((3,), seed=again))
    assert random.SeedGenerator().get_config()["seed"] is None


@pytest.mark.parametrize("draw", (random.normal, random.truncated_normal, random.uniform))
def test_drawing_takes_the_memory_of_two_such_arrays(draw):
    """Seven times the numbers were needed once: a model of half the memory ended its process."""
    draw((4,), seed=1)
    tracemalloc.start()
    try:
        found = draw((1024, 1024), seed=1)
        assert tracemalloc.get_traced_memory()[1] < 2.5 * found.nbytes + 2**22
    finally:
        tracemalloc.stop()
