"""What recipes of training need: schedules, initial kernels, crops, slow weights, views."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import callbacks, initializers, layers, losses, ops, optimizers
from handmill.data import CropAndFlip, Dataset, mirrored, shifted
from handmill.errors import ShapeError
from handmill.models import predict_views
from handmill.optimizers import schedules


def values(schedule: Any, steps: Any) -> list[float]:
    return [float(schedule(step)) for step in steps]


def test_piecewise_linear_is_interpolation() -> None:
    points, rates = [0, 3, 4, 20], [0.2, 1.0, 0.5, 0.0]
    steps = [0, 1, 2, 3, 3.5, 4, 5, 19, 20, 50]
    schedule = schedules.PiecewiseLinear(points, rates)
    assert np.allclose(values(schedule, steps), np.interp(steps, points, rates), atol=1e-7)
    again = schedules.deserialize(schedules.serialize(schedule))
    assert values(again, steps) == values(schedule, steps)


@pytest.mark.parametrize(
    ("steps", "rates"),
    (
        ([0, 1], [1.0]),
        ([], []),
        ([0, 0], [1.0, 2.0]),
        ([0, math.nan], [1.0, 2.0]),
        ([0, 1], [1.0, math.inf]),
        ([0, 1], [1.0, "2"]),
        (3, [1.0]),
    ),
)
def test_piecewise_linear_refuses(steps: Any, rates: Any) -> None:
    with pytest.raises(ValueError, match="PiecewiseLinear"):
        schedules.PiecewiseLinear(steps, rates)


@pytest.mark.parametrize("strategy", ("cos", "linear"))
@pytest.mark.parametrize("start", (0.3, 0.1, 0.9))
def test_one_cycle_is_that_of_torch(strategy: str, start: float) -> None:
    torch = pytest.importorskip("torch", reason="no torch")
    total = 50
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        0.4,
        total_steps=total,
        pct_start=start,
        anneal_strategy=strategy,
        cycle_momentum=False,
    )
    want = []
    for _ in range(total):
        want.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(want) < total:
            theirs.step()
    ours = schedules.OneCycle(0.4, total, start, anneal_strategy=strategy)
    assert np.allclose(values(ours, range(total)), want, rtol=1e-5, atol=1e-7)


def test_one_cycle_by_its_formula() -> None:
    schedule = schedules.OneCycle(1.0, 101, pct_start=0.5, div_factor=10, final_div_factor=10)
    turn = 0.5 * 101 - 1
    want = 0.1 + 0.9 * (1 - math.cos(math.pi * 10 / turn)) / 2
    assert values(schedule, [0, 10, 100, 500]) == pytest.approx([0.1, want, 0.01, 0.01], rel=1e-5)
    only_down = schedules.OneCycle(1.0, 11, pct_start=0, anneal_strategy="linear")
    assert values(only_down, [0, 10]) == pytest.approx([1.0 - 0.0909, 0.0], abs=1e-4)
    assert schedules.OneCycle.from_config(schedule.get_config())(7) == schedule(7)
    only_up = schedules.OneCycle(1.0, 11, pct_start=1, anneal_strategy="linear", div_factor=2)
    assert values(only_up, [0, 5, 10, 20]) == pytest.approx([0.5, 0.75, 1.0, 1.0])


@pytest.mark.parametrize(
    "arguments",
    (
        {"total_steps": 1},
        {"total_steps": 2.5},
        {"max_learning_rate": math.nan},
        {"div_factor": "2"},
        {"pct_start": 1.5},
        {"div_factor": 0},
        {"anneal_strategy": "cosine"},
    ),
)
def test_one_cycle_refuses(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="OneCycle"):
        schedules.OneCycle(**{"max_learning_rate": 1.0, "total_steps": 10, **arguments})


def test_schedules_take_arrays_of_numbers() -> None:
    schedule = schedules.PiecewiseLinear(np.array([0, 10]), np.array([0.0, 1.0]))
    assert values(schedule, [5]) == [0.5]
    assert json.loads(json.dumps(schedule.get_config())) == schedule.get_config()


@pytest.mark.parametrize("shape", ((3, 2, 3), (3, 3, 4, 4), (5, 3, 2, 6), (1, 3, 3, 2, 2)))
def test_dirac_hands_channels_on(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(2, *(6,) * (len(shape) - 2), shape[-2]))
    x = x.astype("float32")
    found = np.asarray(ops.conv(x, initializers.Dirac()(shape), 1, "same"))
    both = min(shape[-2:])
    assert np.array_equal(found[..., :both], x[..., :both])
    assert not found[..., both:].any()


def test_dirac_of_groups_and_other_channels() -> None:
    kernel = initializers.Dirac(2, others="ones")((3, 3, 2, 6))
    x = np.arange(8, dtype="float32").reshape(1, 2, 1, 4)
    layer = layers.Conv2D(6, 3, padding="same", groups=2, use_bias=False)
    layer.build((None, None, None, 4))
    layer.kernel.assign(kernel)
    found = np.asarray(layer(x))
    assert np.array_equal(found[..., [0, 1, 3, 4]], x)
    assert (kernel[..., [2, 5]] == 1).all()
    made = initializers.get(initializers.serialize(initializers.Dirac(2, others="ones")))
    assert np.array_equal(made((3, 3, 2, 6)), kernel)


@pytest.mark.parametrize("shape", ((3, 4), (3, 3, 2, 5)))
def test_dirac_refuses(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Dirac makes kernels"):
        initializers.Dirac(2)(shape)


@pytest.mark.parametrize("from_logits", (True, False))
@pytest.mark.parametrize("ignore", (None, 1))
def test_smoothed_class_numbers_are_smoothed_rows(from_logits: bool, ignore: int | None) -> None:
    rng = np.random.default_rng(0)
    y, scores = np.array([0, 3, 1, 2]), rng.normal(size=(4, 4)).astype("float32")
    if not from_logits:
        scores = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    loss = losses.SparseCategoricalCrossentropy(from_logits, ignore, label_smoothing=0.2)
    rows = losses.CategoricalCrossentropy(from_logits, 0.2)
    kept = y != ignore
    want = rows(np.eye(4, dtype="float32")[y[kept]], scores[kept])
    assert float(loss(y, scores)) == pytest.approx(float(want), rel=1e-5)
    again = losses.deserialize(losses.serialize(loss))
    assert float(again(y, scores)) == float(loss(y, scores))


def test_smoothing_leaves_configs_and_checks_as_they_were() -> None:
    assert "label_smoothing" not in losses.SparseCategoricalCrossentropy().get_config()
    with pytest.raises(ValueError, match="label_smoothing"):
        losses.SparseCategoricalCrossentropy(label_smoothing=1.5)
    with pytest.raises(ValueError, match=r"label_smoothing.*must be a number"):
        losses.SparseCategoricalCrossentropy(label_smoothing="0.1")
    with pytest.raises(ValueError, match=r"label_smoothing.*from 0 to 1"):
        losses.sparse_categorical_crossentropy([0], [[0.5, 0.5]], label_smoothing=-0.1)
    with pytest.raises(ValueError, match="label"):
        losses.SparseCategoricalCrossentropy(label_smoothing=0.1)([4], [[0.5, 0.5]])


def two_layers(optimizer: Any) -> handmill.Sequential:
    model = handmill.Sequential(
        [
            handmill.Input((3,)),
            layers.Dense(2, name="first", kernel_initializer="ones"),
            layers.Dense(1, name="last", kernel_initializer="ones"),
        ]
    )
    model.compile(optimizer, "mse")
    return model


X, Y = np.eye(3, dtype="float32"), np.zeros((3, 1), "float32")


def test_optimizers_by_patterns() -> None:
    apart = two_layers({".*first/.*": optimizers.SGD(0.5), ".*": optimizers.SGD(0.0)})
    whole = two_layers(optimizers.SGD(0.5))
    before = [w.copy() for w in apart.get_weights()]
    for model in (apart, whole):
        model.fit(X, Y, 3, 1, verbose=0)
    for i, (found, old, want) in enumerate(
        zip(apart.get_weights(), before, whole.get_weights(), strict=True)
    ):
        assert np.array_equal(found, want if i < 2 else old)


def test_optimizers_by_patterns_want_one_for_the_rest() -> None:
    with pytest.raises(ValueError, match=r"add the key '\.\*'"):
        two_layers({"first/.*": "sgd"})


def test_patterns_that_fit_nothing_are_named() -> None:
    model = two_layers({"first/.*": optimizers.SGD(0.5), ".*last/.*": "sgd", ".*": "sgd"})
    with pytest.warns(UserWarning, match=r"path that fits 'first/\.\*', as a whole.*sequential"):
        model.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match="regular expression for paths: missing"):
        optimizers.OptimizerMap(optimizers.SGD(), {"(first": optimizers.SGD()})


def test_trainable_in_mid_run(tmp_path: Any) -> None:
    """What is frozen between two calls of `fit` stays; the others go on with their slots."""
    rate = optimizers.SGD(0.1, momentum=0.9)
    model = two_layers({".*last/.*": rate, ".*": optimizers.SGD(0.1, momentum=0.9)})
    model.fit(X, Y, 3, 2, verbose=0)
    first = model.get_layer("first")
    first.trainable = False
    model.compile(model.optimizer, "mse")
    kept, momenta = first.get_weights(), [m.numpy() for m in rate.momentums]
    last = model.get_layer("last").get_weights()
    model.fit(X, Y, 3, 1, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), kept, strict=True))
    # p' = p + m', m' = 0.9 m - 0.1 g
    hidden = X @ kept[0] + kept[1]
    gradient = 2 * hidden.T @ (hidden @ last[0] + last[1] - Y) / 3
    want = last[0] + 0.9 * momenta[0] - 0.1 * gradient
    assert np.allclose(model.get_layer("last").get_weights()[0], want, atol=1e-6)


IMAGES = np.arange(5 * 4 * 4 * 2, dtype="uint8").reshape(5, 4, 4, 2)


def crop_one_by_one(image: np.ndarray, down: int, right: int, pad: int, mode: str) -> np.ndarray:
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode=mode)
    return padded[down : down + image.shape[0], right : right + image.shape[1]]


@pytest.mark.parametrize("mode", ("reflect", "constant", "edge"))
def test_crops_are_windows_of_the_padded_image(mode: str) -> None:
    crop = CropAndFlip(2, flip=None, mode=mode, seed=3)
    rows = np.arange(5)
    found = crop(0, rows, IMAGES)
    assert found.dtype == np.uint8
    places = set()
    for image, one in zip(IMAGES, found, strict=True):
        fitting = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if np.array_equal(one, crop_one_by_one(image, down, right, 2, mode))
        ]
        assert len(fitting) == 1
        places.update(fitting)
    assert len(places) > 2


def test_crops_depend_on_seed_pass_and_row_alone() -> None:
    crop = CropAndFlip(1, "random", seed=3)
    rows = np.array([4, 0, 2])
    whole = crop(7, np.arange(5), IMAGES)
    assert np.array_equal(crop(7, rows, IMAGES[rows]), whole[rows])
    assert not np.array_equal(crop(8, np.arange(5), IMAGES), whole)
    assert np.array_equal(crop(np.int64(7), np.arange(5), IMAGES), whole)
    assert not np.array_equal(CropAndFlip(1, seed=4)(7, np.arange(5), IMAGES), whole)
    many = np.broadcast_to(IMAGES[:1], (2000, 4, 4, 2))
    shifts = np.unique(CropAndFlip(1, None, "constant", 0)(0, np.arange(2000), many), axis=0)
    assert len(shifts) == 9
    flips = CropAndFlip(0, seed=0)(0, np.arange(2000), many)
    assert 900 < sum(np.array_equal(one, IMAGES[0]) for one in flips) < 1100


def test_alternating_flips() -> None:
    flip = CropAndFlip(0, "alternating", seed=1)
    many = np.broadcast_to(IMAGES[:1], (200, 4, 4, 2))
    passes = [flip(n, np.arange(200), many) for n in range(4)]
    assert np.array_equal(passes[0], passes[2])
    assert np.array_equal(passes[1], passes[3])
    assert np.array_equal(passes[0], mirrored(passes[1]))
    assert 70 < sum(np.array_equal(one, IMAGES[0]) for one in passes[0]) < 130
    assert np.array_equal(many[7], IMAGES[0])


def test_crops_refuse() -> None:
    with pytest.raises(ValueError, match="flip"):
        CropAndFlip(1, flip="sometimes")
    with pytest.raises(ValueError, match="mode"):
        CropAndFlip(1, mode="wrap")
    with pytest.raises(ValueError, match="padding"):
        CropAndFlip(-1)
    with pytest.raises(ShapeError, match="larger images"):
        CropAndFlip(4)(0, np.arange(5), IMAGES)
    with pytest.raises(ShapeError, match="expected images"):
        CropAndFlip(1)(0, np.arange(5), IMAGES[0])
    with pytest.raises(ShapeError, match=r"a dict with the keys \['image'\]"):
        CropAndFlip(1)(0, np.arange(5), {"image": IMAGES})


def rows_of_passes(data: Dataset, count: int) -> list[list[Any]]:
    return [[tuple(np.asarray(p).tolist() for p in e) for e in data] for _ in range(count)]


def test_map_rows_tells_pass_and_rows() -> None:
    values_ = np.arange(10, 17)
    data = Dataset.from_tensor_slices((values_, values_ % 2)).shuffle(7, seed=5).batch(3)
    told = data.map_rows(lambda pass_, rows, x, y: (rows + 0 * pass_, x, y, pass_ + 0 * x))
    first, second = rows_of_passes(told, 2)
    for number, batches in enumerate((first, second)):
        flat = [row for rows, *_ in batches for row in rows]
        assert sorted(flat) == list(range(7))
        for rows, x, y, passes in batches:
            assert x == [10 + row for row in rows]
            assert y == [value % 2 for value in x]
            assert set(passes) == {number}
    assert [rows for rows, *_ in first] != [rows for rows, *_ in second]
    assert len(told) == 3
    assert told.element_spec[0].shape == (None,)


def test_map_rows_counts_its_own_passes_and_goes_on() -> None:
    base = Dataset.from_tensor_slices(np.arange(4))

    def make() -> Dataset:
        return base.shuffle(4, seed=1).batch(2).map_rows(lambda p, r, x: (x, x * 0 + p), 2)

    data = make()
    list(base)  # somebody else's pass
    whole = rows_of_passes(data, 3)
    assert [p for batches in whole for _, p in batches] == [[n, n] for n in (0, 0, 1, 1, 2, 2)]
    again = make()
    again.set_state({"pass": 1, "element": 1})
    assert rows_of_passes(again, 2) == [whole[1][1:], whole[2]]


def test_alternating_flips_alternate_when_repeated() -> None:
    data = Dataset.from_tensor_slices(IMAGES).batch(5)
    data = data.map_rows(CropAndFlip(0, "alternating", seed=1)).repeat(6)
    passes = list(data)
    for one, next_ in itertools.pairwise(passes):
        assert np.array_equal(one, mirrored(next_))


def test_map_rows_refuses() -> None:
    data = Dataset.from_tensor_slices(np.arange(4))
    for wrong in (data, data.map(lambda x: x).batch(2), data.batch(2).map(lambda x: x)):
        with pytest.raises(ValueError, match="rows are known"):
            wrong.map_rows(lambda p, r, x: x)
    for wrong in (data.repeat(2).batch(2), data.batch(2).repeat(2).take(3)):
        with pytest.raises(ValueError, match=r"repeat\(\) after"):
            wrong.map_rows(lambda p, r, x: x)
    with pytest.raises(TypeError, match="map_rows: <lambda>"):
        next(iter(data.batch(2).map_rows(lambda p, r, x: None)))
    with pytest.raises(TypeError, match="expected a function"):
        data.batch(2).map_rows(3)


def test_fit_on_mapped_rows_is_fit_on_what_they_are() -> None:
    """Two epochs of an alternating flip are two epochs of the arrays that it makes."""
    x = np.random.default_rng(0).normal(size=(6, 2, 3, 1)).astype("float32")
    y = np.arange(6, dtype="float32")[:, None]
    flip = CropAndFlip(1, "alternating", seed=2)

    def model() -> handmill.Sequential:
        made = handmill.Sequential(
            [
                handmill.Input((2, 3, 1)),
                layers.Flatten(),
                layers.Dense(1, kernel_initializer="ones"),
            ]
        )
        made.compile("sgd", "mse")
        return made

    one, other = model(), model()
    one.fit(Dataset.from_tensor_slices((x, y)).batch(2).map_rows(flip), epochs=2, verbose=0)
    for epoch in range(2):
        seen = flip(epoch, np.arange(6), x)
        other.fit(seen, y, 2, 1, shuffle=False, verbose=0)
    assert np.allclose(one.get_weights()[0], other.get_weights()[0], atol=1e-6)


class Recorded(callbacks.Callback):
    """The weights after each step, before other callbacks."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[list[np.ndarray]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.weights.append(self.model.get_weights())


def normalized() -> handmill.Sequential:
    handmill.utils.set_random_seed(0)
    model = handmill.Sequential(
        [handmill.Input((3,)), layers.Dense(2), layers.BatchNormalization(), layers.Dense(1)]
    )
    model.compile(optimizers.SGD(0.1), "mse")
    return model


def test_lookahead_by_its_formula() -> None:
    """Every weight takes part, the running statistics too; the weights end as the slow ones."""
    data = Dataset.from_tensor_slices((X, Y)).batch(1)
    model, seen, after = normalized(), Recorded(), Recorded()
    slow = [w.copy() for w in model.get_weights()]
    lookahead = callbacks.Lookahead(2, momentum=0.8, power=3)
    model.fit(data, epochs=3, verbose=0, callbacks=[seen, lookahead, after])
    for step, (fast, kept) in enumerate(zip(seen.weights, after.weights, strict=True), 1):
        want = fast
        if step % 2 == 0:
            d = 0.8 * (step / 9) ** 3
            slow = [d * s + (1 - d) * f for s, f in zip(slow, fast, strict=True)]
            want = slow
        assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(kept, want, strict=True))
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(model.get_weights(), slow, strict=True))


def test_lookahead_over_two_fits_ends_when_all_steps_are_done() -> None:
    model = normalized()
    lookahead = callbacks.Lookahead(4, momentum=1.0, power=0, total_steps=6)
    model.fit(X, Y, 1, 1, verbose=0, callbacks=[lookahead])
    middle = model.get_weights()
    model.fit(X, Y, 1, 1, verbose=0, callbacks=[lookahead])
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), middle, strict=True))


def test_lookahead_counts_updates_where_gradients_are_accumulated() -> None:
    model = normalized()
    model.compile(optimizers.SGD(0.1, gradient_accumulation_steps=2), "mse")
    slow = [w.copy() for w in model.get_weights()]
    # 3 updates in 6 steps; at the last of them all weights go back to the slow ones, d = 1.
    lookahead = callbacks.Lookahead(3, momentum=1.0)
    model.fit(X, Y, 1, 2, verbose=0, callbacks=[lookahead])
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), slow, strict=True))
    late = callbacks.Lookahead(50, momentum=0.5)
    accumulated = optimizers.SGD(0.1, gradient_accumulation_steps=2)
    model.compile(optimizers.LossScaleOptimizer(accumulated), "mse")
    model.fit(X, Y, 1, 2, verbose=0, callbacks=[late])  # no meeting but the one at the end
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), slow, strict=True))


def test_lookahead_is_resumed(tmp_path: Any) -> None:
    def train(epochs: int, **arguments: Any) -> list[np.ndarray]:
        model = normalized()
        slow = callbacks.Lookahead(2, 0.5, total_steps=12)
        backup = callbacks.BackupAndRestore(str(tmp_path / "state"), delete_checkpoint=False)
        data = Dataset.from_tensor_slices((X, Y)).shuffle(3, seed=1).batch(1)
        model.fit(data, epochs=epochs, verbose=0, callbacks=[slow, backup][: 1 + (epochs < 5)])
        return model.get_weights()

    whole = train(5)
    train(2)
    model = normalized()
    data = Dataset.from_tensor_slices((X, Y)).shuffle(3, seed=1).batch(1)
    slow = callbacks.Lookahead(2, 0.5, total_steps=12)
    backup = callbacks.BackupAndRestore(str(tmp_path / "state"))
    model.fit(data, epochs=5, verbose=0, callbacks=[slow, backup])
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), whole, strict=True))


def test_lookahead_refuses() -> None:
    with pytest.raises(ValueError, match="every"):
        callbacks.Lookahead(0)
    with pytest.raises(ValueError, match="momentum"):
        callbacks.Lookahead(momentum=1.5)
    endless = Dataset.from_tensor_slices((X, Y)).batch(1).filter(lambda x, y: True)
    with pytest.raises(ValueError, match="total_steps"):
        normalized().fit(endless, epochs=1, verbose=0, callbacks=[callbacks.Lookahead()])
    together = normalized()
    together.compile("sgd", "mse", steps_per_execution=2)
    for every, batch_size in ((3, 1), (2, 1)):  # 3 steps are no multiple of 2
        with pytest.raises(ValueError, match="steps_per_execution=2 are run together"):
            together.fit(X, Y, batch_size, 1, verbose=0, callbacks=[callbacks.Lookahead(every)])


def test_views_are_averaged() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 4, 1)).astype("float32")
    model = handmill.Sequential(
        [handmill.Input((4, 4, 1)), layers.Flatten(), layers.Dense(2, "softmax")]
    )
    seen = {
        (down, flip): model.predict(shifted(x[:, :, ::-1] if flip else x, down, down), verbose=0)
        for down in (0, 1, -1)
        for flip in (False, True)
    }
    want = (seen[0, False] + seen[0, True]) / 2
    assert np.allclose(predict_views(model, x), want, atol=1e-6)
    moved = mirrored(shifted(x, 1, 1)), mirrored(shifted(x, -1, -1))
    others = sum(model.predict(m, verbose=0) for m in moved) + seen[1, False] + seen[-1, False]
    assert np.allclose(
        predict_views(model, x, "mirror_and_shift"), want / 2 + others / 8, atol=1e-6
    )
    weighted = predict_views(model, x, [lambda x: x, mirrored], [3, 1])
    assert np.allclose(weighted, (3 * seen[0, False] + seen[0, True]) / 4, atol=1e-6)


def test_views_of_several_outputs() -> None:
    inputs = handmill.Input((2,))
    model = handmill.Model(inputs, {"a": inputs * 2.0, "b": inputs + 1.0})
    found = predict_views(model, np.ones((1, 2), "float32"), [lambda x: x, lambda x: 3 * x])
    assert {k: v.tolist() for k, v in found.items()} == {"a": [[4.0, 4.0]], "b": [[3.0, 3.0]]}


def test_views_refuse() -> None:
    model, x = two_layers("sgd"), X
    with pytest.raises(ValueError, match="Unknown views"):
        predict_views(model, x, "mirrors")
    with pytest.raises(ValueError, match="one weight for each"):
        predict_views(model, x, [lambda x: x], [0.5, 0.5])
    with pytest.raises(ValueError, match="as many rows"):
        predict_views(model, x, [lambda x: x[:2]])
    with pytest.raises(ValueError, match="finite number"):
        predict_views(model, x, [lambda x: x], [math.inf])
    for views in (lambda x: x, ["mirror"]):
        with pytest.raises(ValueError, match="or a list of functions"):
            predict_views(model, x, views)
    for data in ({"x": x}, iter([x]), Dataset.from_tensor_slices(x).batch(1)):
        with pytest.raises(ValueError, match="inputs as one array"):
            predict_views(model, data)


def test_channels_may_come_first() -> None:
    first = np.moveaxis(IMAGES, -1, 1)
    rows = np.arange(5)
    pairs = [
        (mirrored(first, "channels_first"), mirrored(IMAGES)),
        (shifted(first, 1, -1, "edge", "channels_first"), shifted(IMAGES, 1, -1, "edge")),
        (
            CropAndFlip(1, seed=3, data_format="channels_first")(7, rows, first),
            CropAndFlip(1, seed=3)(7, rows, IMAGES),
        ),
    ]
    for found, want in pairs:
        assert np.array_equal(np.moveaxis(found, 1, -1), want)
        assert found.flags.c_contiguous

    def means(x: np.ndarray, **options: Any) -> np.ndarray:
        image = handmill.Input(x.shape[1:])
        flat = layers.Flatten(**options)(image)  # channels last, whatever comes in
        model = handmill.Model(image, flat)
        return predict_views(model, x.astype("float32"), "mirror_and_shift", **options)

    assert np.allclose(means(first, data_format="channels_first"), means(IMAGES), atol=1e-4)
    before = handmill.config.image_data_format()
    handmill.config.set_image_data_format("channels_first")
    try:
        assert np.array_equal(mirrored(first), pairs[0][0])
    finally:
        handmill.config.set_image_data_format(before)


def test_shifts_are_those_of_numpy() -> None:
    x = np.arange(12).reshape(1, 3, 4, 1)
    assert shifted(x, 1, -2, "constant")[0, :, :, 0].tolist() == [
        [0, 0, 0, 0],
        [2, 3, 0, 0],
        [6, 7, 0, 0],
    ]
    assert shifted(x, -1, 0)[0, :, 0, 0].tolist() == [4, 8, 4]
    with pytest.raises(ShapeError, match="too small"):
        shifted(x, 3, 0)
