"""Low rank, clusters, tickets, the advisor and its command: formulas, honesty, bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest

import handmill
from handmill import compress, layers
from handmill.cli import main
from handmill.compress import advisor
from handmill.compress.candidates import copied
from handmill.compress.clustering import clustered
from handmill.compress.measuring import BATCHES, Times, front, score_of
from handmill.strategy.statistics import (
    mcnemar_test,
    paired_rate_interval,
    ratio_interval,
    wilson_interval,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 64)).astype("float32")
Y = X[:, :3].argmax(axis=1)


def net(seed=0, width=64, **compile_):
    handmill.utils.set_random_seed(seed)
    model = handmill.Sequential(
        [handmill.Input((64,)), layers.Dense(width, "relu"), layers.Dense(3, activation="softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy", **compile_)
    return model


def test_factors_are_the_best_of_their_rank():
    model = net()
    kernel = model.weights[0].numpy().astype("float64")
    report = compress.factorize_report(model, rank=8)
    into, out_of = (w.numpy() for w in report.model.weights[:2])
    u, s, v = np.linalg.svd(kernel)
    np.testing.assert_allclose(into @ out_of, (u[:, :8] * s[:8]) @ v[:8], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(into, axis=0), np.sqrt(s[:8]), rtol=1e-4)
    assert report.parameters == (64 * 64 + 64 + 195, 64 * 16 + 64 + 195)
    assert report.rows[1][3].startswith("kept: no gain above rank 1")
    low = kernel.copy()
    low[:] = (u[:, :5] * s[:5]) @ v[:5]
    model.weights[0].assign(low.astype("float32"))
    report = compress.factorize_report(model, energy=1 - 1e-6)
    assert report.rows[0][1:3] == (64, 5)
    np.testing.assert_allclose(
        report.model.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-3
    )
    report.model.fit(X, Y, verbose=0)
    whole = compress.factorize_report(net(), energy=1.0)
    assert "kept" in whole.rows[0][3]  # all of a random kernel is of full rank


def test_what_does_not_decay_still_does_not():
    """Exemptions are kept by position in configs, and factors move positions."""
    model = net()
    optimizer = handmill.optimizers.AdamW(weight_decay=0.1)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    last = model.layers[-1]
    optimizer.exclude_from_weight_decay(var_list=[model.layers[0].kernel, last.bias])
    model.fit(X, Y, verbose=0)
    compress.prune(model, 0.5)
    made = compress.factorize(model, rank=2)
    made.fit(X, Y, verbose=0)
    free = [v.path for v in made.trainable_variables if made.optimizer.decay_of(v) is None]
    first = made.layers[0].name
    assert [p.split(first)[-1] for p in free[:2]] == ["/into/kernel", "/out_of/kernel"]
    assert [p.rpartition("/")[2] for p in free[2:]] == ["bias"]
    assert free[2].split("/")[-2] == (last.name if len(made.layers[-1].weights) == 2 else "out_of")
    assert "masked" not in made.optimizer.get_config()


def test_bad_ranks():
    for rank in (0, -1, 65, 2.5):
        with pytest.raises((ValueError, TypeError), match="rank"):
            compress.factorize(net(), rank=rank)
    for energy in (0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="energy"):
            compress.factorize(net(), energy=energy)
    with pytest.raises(ValueError, match="either `rank` or `energy`"):
        compress.factorize(net())


def test_clusters():
    values = RNG.normal(size=400).astype("float32")
    found = clustered(values, 7)
    centres = np.unique(found)
    assert len(centres) == 7
    for centre in centres:  # the means of what is nearest to them
        assert np.mean(values[found == centre], dtype="float64") == pytest.approx(centre, abs=1e-6)
    nearest = centres[np.abs(values[:, None] - centres).argmin(axis=1)]
    np.testing.assert_array_equal(found, nearest)
    few = np.array([1.0, 2.0, 1.0], "float32")
    np.testing.assert_array_equal(clustered(few, 16), few)
    model = net()
    compress.prune(model, 0.5)
    zero = model.weights[0].numpy() == 0
    report = compress.cluster(model, 8)
    np.testing.assert_array_equal(model.weights[0].numpy() == 0, zero)
    assert [row[2] for row in report.rows] == [8, 8]
    assert report.zipped[1] < 0.5 * report.zipped[0]
    for bad in (1, 0, 2.5):
        with pytest.raises((ValueError, TypeError), match="number_of_clusters"):
            compress.cluster(model, bad)


def test_a_ticket_is_trained_from_its_start():
    model = net()
    before = model.get_weights()
    state = handmill.random.state()
    ticket = compress.lottery_ticket(model, X, Y, rounds=2, epochs=3, rewind_epoch=0)
    assert all(map(np.array_equal, before, model.get_weights()))
    assert handmill.random.state() == state
    first = 64 * 64
    left = [round(round(first * 0.8) * 0.8), round(round(192 * 0.9) * 0.9)]
    assert [np.count_nonzero(w) for w in ticket.model.get_weights()[::2]] == left
    assert ticket.rows[0][0] == 1.0
    assert ticket.rows[2][0] == sum(left) / (first + 192)
    again = compress.lottery_ticket(model, X, Y, rounds=2, epochs=3, rewind_epoch=0)
    assert again.rows == ticket.rows
    with pytest.raises(ValueError, match="less than `epochs`"):
        compress.lottery_ticket(model, X, Y, epochs=3, rewind_epoch=3)
    with pytest.raises(ValueError, match="rate"):
        compress.lottery_ticket(model, X, Y, rate=1.0)


def test_scores():
    outputs = np.eye(3, dtype="float32")[[0, 1, 2, 2]]
    score = score_of(outputs, np.array([0, 1, 2, 0]))
    assert (score.kind, score.value) == ("accuracy", 0.75)
    assert score.interval == wilson_interval(3, 4)
    assert score_of(outputs, np.eye(3)[[0, 1, 2, 0]]).value == 0.75
    assert score_of(np.array([[0.2], [0.9]]), np.array([0, 1])).value == 1.0
    assert score_of(np.array([[-2.0], [3.0]]), np.array([0, 1])).value == 1.0
    error = score_of(np.array([[1.0], [3.0]]), np.array([0.0, 1.0]))
    assert (error.kind, error.value) == ("error", 2.5)
    worse = error.drop_to(score_of(np.array([[1.0], [4.0]]), np.array([0.0, 1.0])))
    assert worse.value == 1.0
    assert np.isnan(worse.p)
    low, high = ratio_interval(error.rows, [1.0, 9.0])
    assert worse.interval == (low - 1, high - 1)
    nothing = score_of(np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]]).astype("float32"))
    assert nothing.drop_to(error).value == np.inf
    with pytest.raises(ValueError, match="2 rows"):
        score_of(outputs, np.array([0, 1]))
    with pytest.raises(ValueError, match="NaN"):
        score_of(outputs * np.nan, np.array([0, 1, 2, 2]))
    assert front([(0.0, 2.0), (1.0, 1.0), (1.0, 2.0), (0.0, 2.0)]) == [True, True, False, True]


def faked(monkeypatch, speedup, low=None, high=None):
    """Times that are said instead of measured: tests cannot depend on a clock."""

    def times(first, second, x):
        ratios = speedup, low or speedup, high or speedup
        return Times(dict.fromkeys(BATCHES, 1e-5), *(dict.fromkeys(BATCHES, r) for r in ratios))

    monkeypatch.setattr(advisor, "times_beside", times)


def test_the_advice_follows_the_numbers(monkeypatch):
    model = net()
    model.fit(X, Y, epochs=30, verbose=0)
    before = model.get_weights()
    faked(monkeypatch, 2.0)
    found = compress.search(model, X, Y, 30, max_drop=1.0, only=["shrink 50 %", "low rank 99%"])
    assert found.best == "shrink 50 %"
    assert "It pays: 0.50 of the bytes, 2.00x as fast at batch 1 [2.00, 2.00], acc" in found.advice
    assert found.model.count_params() < model.count_params()
    assert [name for name, _ in found.left_out] == ["low rank 99%"]
    row = found.rows[1]
    right = [m.predict(X, verbose=0).argmax(1) == Y for m in (model, found.model)]
    assert row.score == right[1].mean()
    assert row.drop == right[0].mean() - right[1].mean()
    low, high = paired_rate_interval(*right)
    assert (row.drop_low, row.drop_high) == (-high, -low)
    assert row.p == mcnemar_test(*right)
    assert row.bytes == 4 * found.model.count_params()
    assert row.beside == "float"
    faked(monkeypatch, 3.0)
    strict = compress.search(model, X, RNG.integers(0, 3, 120), max_drop=0.0, only=["shrink 75 %"])
    assert strict.rows[1].verdict.startswith("loses") == (strict.rows[1].drop > 0)
    assert all(map(np.array_equal, before, model.get_weights()))
    assert "<svg" in found.picture()
    assert found.picture().count("<circle") == len(found.rows)


def test_a_quarter_of_the_bytes_is_a_gain(monkeypatch):
    """Time that cannot be told apart is no reason to keep four times the bytes."""
    model = net()
    model.fit(X, Y, epochs=30, verbose=0)
    faked(monkeypatch, 1.02, 0.95, 1.1)
    found = compress.search(
        model, X, Y, 30, max_drop=0.05, only=["int8", "bfloat16", "blocks 75 %"]
    )
    rows = {row.name: row for row in found.rows}
    assert found.best == "int8"
    assert rows["int8"].gains == ("bytes", "zipped")
    assert "pays: 0.28 of the bytes, time not distinguishable, accuracy" in rows["int8"].verdict
    assert "more than 5 points lost is not excluded" not in rows["int8"].verdict
    assert rows["bfloat16"].verdict.startswith("no gain: as many bytes, time not distinguishable")
    assert "zipped" in rows["blocks 75 %"].gains
    only = compress.search(model, X, Y, 30, max_drop=1.0, only=["bfloat16"])
    assert only.best == "float"
    assert only.model is model
    assert "Keep float" in str(only)
    faked(monkeypatch, 0.5, 0.4, 0.6)
    slow = compress.search(model, X, Y, 30, max_drop=1.0, only=["int8"])
    assert "0.28 of the bytes, 0.50x as fast at batch 1 [0.40, 0.60]" in slow.rows[1].verdict
    assert slow.rows[1].losses == ("time",)
    assert slow.best == "int8"
    # What is smaller only when it is zipped comes after what is smaller as it is.
    zipped = compress.search(model, X, Y, 30, max_drop=1.0, only=["blocks 75 %", "16 numbers"])
    assert zipped.best_by == {"zipped": zipped.best}


def test_what_training_brings_is_nobody_elses_gain(monkeypatch):
    """A model that was not at its best gains by training; a half of it gains no more."""
    faked(monkeypatch, 1.0)
    x = RNG.normal(size=(2000, 64)).astype("float32")
    y = x[:, :3].argmax(axis=1)
    model = net()
    model.fit(x[:400], y[:400], verbose=0)
    optimizer = [v.numpy() for v in model.optimizer.variables]
    found = compress.search(
        model, x[1000:], y[1000:], 60, train=(x[:1000], y[:1000]), epochs=4,
        only=["int8", "shrink 50 %", "blocks 75 %"],
    )  # fmt: skip
    rows = {row.name: row for row in found.rows}
    trained, half = rows["float, trained on"], rows["shrink 50 %"]
    assert trained.gains == ("accuracy",)
    assert trained.drop < -0.05
    assert not trained.pays
    assert half.score > rows["float"].score  # which a comparison with that would call a gain
    assert (half.beside, rows["int8"].beside) == ("float, trained on", "float")
    assert half.drop == trained.score - half.score
    assert "accuracy" not in half.gains
    assert "Training on alone: accuracy +" in found.advice
    assert "Compared with 'float, trained on'" in str(found)
    for old, new in zip(optimizer, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    # The copy went on where the model was, with the seeds that there were.
    state = handmill.random.state()
    again = copied(model)
    handmill.random.restore_state(state)
    again.fit(x[:1000], y[:1000], epochs=4, verbose=0)
    assert trained.score == np.mean(again.predict(x[1000:], verbose=0).argmax(1) == y[1000:])
    assert int(again.optimizer.iterations) == int(model.optimizer.iterations) + 4 * 32


def test_what_cannot_be_searched():
    i = handmill.Input((64,))
    two = handmill.Model(i, [layers.Dense(3)(i), layers.Dense(1)(i)])
    with pytest.raises(ValueError, match=r"measures one output.*2 outputs"):
        compress.search(two, X, [Y, Y], budget=1)
    for train in (3, X, (X,)):
        with pytest.raises(ValueError, match="`train` must be a pair"):
            compress.search(net(), X, Y, budget=1, train=train)


def test_training_on_and_errors(monkeypatch):
    faked(monkeypatch, 2.0)
    model = net()
    model.fit(X, Y, epochs=10, verbose=0)
    optimizer = [v.numpy() for v in model.optimizer.variables]
    state = handmill.random.state()
    found = compress.search(model, X, Y, train=(X, Y), epochs=3, only=["shrink 75 %"])
    assert [row.name for row in found.rows] == ["float", "float, trained on", "shrink 75 %"]
    assert found.rows[2].score > 0.5
    assert handmill.random.state() == state
    for old, new in zip(optimizer, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    numbers = handmill.Sequential([handmill.Input((64,)), layers.Dense(32), layers.Dense(1)])
    found = compress.search(numbers, X, X[:, 0], only=["shrink 50 %"])
    assert found.kind == "error"
    assert np.isnan(found.rows[1].p)
    json.loads(found.to_json())


def test_the_budget_ends_it_and_says_so(monkeypatch):
    faked(monkeypatch, 1.0)
    found = compress.search(net(), X, Y, budget=1e-6)
    assert len(found.rows) == 2
    assert all(why == "the budget is spent" for _, why in found.left_out)
    for bad in ({"budget": 0}, {"budget": float("nan")}, {"max_drop": -1}, {"only": ["magic"]}):
        with pytest.raises(ValueError, match=r"budget|max_drop|only"):
            compress.search(net(), X, Y, **bad)
    plain = handmill.Sequential([handmill.Input((64,)), layers.Dense(3)])
    with pytest.raises(ValueError, match="needs a compiled model"):
        compress.search(plain, X, Y, train=(X, Y))


def test_the_command(tmp_path, capsys, monkeypatch):
    faked(monkeypatch, 2.0)
    net().save(tmp_path / "m.hmill")
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    paths = [str(tmp_path / name) for name in ("m.hmill", "d.npz", "p.svg", "s.hmill")]
    status = main(
        ["shrink", *paths[:2], "--max-drop", "1", "--picture", paths[2], "--save", paths[3]]
    )
    text = capsys.readouterr().out
    assert status == 0
    assert "shrink 50 %" in text
    assert "Take " in text
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    assert handmill.models.load_model(paths[3]).count_params() < net().count_params()
    searched = []
    monkeypatch.setattr("handmill.compress.advisor.search", lambda *a: searched.append(a))
    for given, said in (
        (["--save", str(tmp_path / "m.txt")], "must end in"),
        (["--save", str(tmp_path / "none" / "m.hmill")], "does not exist"),
        (["--picture", str(tmp_path / "none" / "p.svg")], "does not exist"),
    ):  # before the time is spent
        assert main(["shrink", *paths[:2], *given]) == 2
        assert said in capsys.readouterr().err
    assert not searched
    assert main(["shrink", paths[0], paths[0]]) == 2
    assert main(["shrink", str(tmp_path / "none.hmill"), paths[1]]) == 2
    assert "handmill shrink:" in capsys.readouterr().err


def test_quantized_models_are_not_searched():
    model = net()
    model.quantize("int8")
    with pytest.raises(ValueError, match="are quantized: give the float model"):
        compress.search(model, X, Y, budget=1)
