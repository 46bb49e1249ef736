"""Callbacks: the order of hooks, stopping, checkpoints, learning rates, progress lines."""

import io

import numpy as np
import pytest

import handmill
from handmill import callbacks, layers
from handmill.callbacks.progbar import Progbar

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def regression(rate=0.05):
    handmill.utils.set_random_seed(0)
    model = handmill.Sequential([handmill.Input((3,)), layers.Dense(1)])
    model.compile(handmill.optimizers.SGD(rate), "mse", metrics=["mae"])
    return model


class Note(callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __getattribute__(self, name):
        if name.startswith("on_") and "progress" not in name:
            return lambda *args, **kwargs: self.calls.append(name)
        return super().__getattribute__(name)


def test_order_of_hooks():
    note = Note()
    regression().fit(X, Y, batch_size=20, verbose=0, validation_data=(X, Y), callbacks=[note])
    hooks = [name for name in note.calls if "batch" not in name]
    assert hooks == [
        "on_train_begin", "on_epoch_begin", "on_test_begin", "on_test_end", "on_epoch_end",
        "on_train_end",
    ]  # fmt: skip


def test_batch_hooks_are_called_after_every_step():
    seen = []

    class Batches(callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(("begin", batch))

        def on_train_batch_end(self, batch, logs=None):
            seen.append(("end", batch, sorted(logs)))

        def on_test_batch_end(self, batch, logs=None):
            seen.append(("test", batch))

        def on_predict_batch_end(self, batch, logs=None):
            seen.append(("predict", logs["outputs"].shape))

    model = regression()
    model.fit(X, Y, batch_size=20, verbose=0, callbacks=Batches())
    assert seen == [
        ("begin", 0), ("end", 0, ["loss", "mae"]), ("begin", 1), ("end", 1, ["loss", "mae"]),
    ]  # fmt: skip
    seen.clear()
    model.evaluate(X, Y, batch_size=20, verbose=0, callbacks=[Batches()])
    model.predict(X, batch_size=20, verbose=0, callbacks=[Batches()])
    assert seen == [("test", 0), ("test", 1), ("predict", (20, 1)), ("predict", (20, 1))]


def test_older_batch_hook():
    seen = []

    class Old(callbacks.Callback):
        def on_batch_end(self, batch, logs=None):
            seen.append(batch)

    regression().fit(X, Y, batch_size=20, verbose=0, callbacks=[Old()])
    assert seen == [0, 1]


def test_lambda_callback():
    seen = []
    made = callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((epoch, logs["loss"])),
        on_train_batch_end=lambda batch, logs: seen.append(batch),
    )
    regression().fit(X, Y, batch_size=20, verbose=0, callbacks=[made])
    assert seen[:2] == [0, 1]
    assert seen[2][0] == 0


def test_early_stopping_and_best_weights():
    model = regression(rate=0.2)
    best = {}

    class Best(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                self.model.optimizer.learning_rate = 30.0
                best["weights"] = self.model.get_weights()

    stop = callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    history = model.fit(X, Y, epochs=20, verbose=0, callbacks=[Best(), stop])
    assert 4 <= len(history.epoch) < 20
    for a, b in zip(best["weights"], model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert stop.stopped_epoch == history.epoch[-1]


@pytest.mark.parametrize(("mode", "epochs"), (("min", 10), ("max", 3)))
def test_early_stopping_modes(mode, epochs):
    stop = callbacks.EarlyStopping("loss", patience=2, mode=mode)
    history = regression().fit(X, Y, epochs=10, verbose=0, callbacks=[stop])
    assert len(history.epoch) == epochs


def test_monitoring_what_is_not_there():
    with pytest.warns(UserWarning, match="not available"):
        regression().fit(X, Y, verbose=0, callbacks=[callbacks.EarlyStopping("val_loss")])


def test_terminate_on_nan():
    x = X.copy()
    x[15] = np.nan
    model = regression()
    nan = pytest.warns(handmill.TrainingWarning, match="became NaN at step 2")
    with nan, pytest.warns(UserWarning, match="invalid loss"):
        model.fit(
            x, Y, batch_size=10, epochs=3, shuffle=False, verbose=0,
            callbacks=[callbacks.TerminateOnNaN()],
        )  # fmt: skip
    assert int(model.optimizer.iterations.numpy()) == 2


def test_model_checkpoint(tmp_path):
    every = callbacks.ModelCheckpoint(tmp_path / "{epoch:02d}-{loss:.2f}.hmill")
    best = callbacks.ModelCheckpoint(
        tmp_path / "best.weights.hmill", "loss", save_best_only=True, save_weights_only=True
    )
    often = callbacks.ModelCheckpoint(tmp_path / "batch-{batch}.hmill", save_freq=3)
    model = regression()
    model.fit(X, Y, epochs=2, batch_size=10, verbose=0, callbacks=[every, best, often])
    names = sorted(p.name for p in tmp_path.iterdir())
    assert len([n for n in names if n[0].isdigit()]) == 2
    assert "best.weights.hmill" in names
    assert {"batch-3.hmill", "batch-2.hmill"} <= set(names)
    other = regression()
    other.load_weights(tmp_path / "best.weights.hmill")
    np.testing.assert_array_equal(other(X), model(X))


def test_model_checkpoint_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"must end in `\.hmill`"):
        callbacks.ModelCheckpoint(tmp_path / "m.pkl")
    with pytest.raises(ValueError, match=r"must end in `\.weights\.hmill`"):
        callbacks.ModelCheckpoint(tmp_path / "m.hmill", save_weights_only=True)
    with pytest.raises(ValueError, match="save_freq"):
        callbacks.ModelCheckpoint(tmp_path / "m.hmill", save_freq="batch")
    bad = callbacks.ModelCheckpoint(tmp_path / "{nothing}.hmill")
    with pytest.raises(KeyError, match="Failed to format"):
        regression().fit(X, Y, verbose=0, callbacks=[bad])


def test_learning_rate_scheduler():
    scheduler = callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
    history = regression(0.08).fit(X, Y, epochs=3, verbose=0, callbacks=[scheduler])
    np.testing.assert_allclose(history.history["learning_rate"], [0.04, 0.02, 0.01], rtol=1e-6)
    with pytest.raises(ValueError, match="should be a float"):
        regression().fit(
            X, Y, verbose=0, callbacks=[callbacks.LearningRateScheduler(lambda e, r: None)]
        )


def test_reduce_lr_on_plateau():
    reducer = callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=1, min_delta=10.0)
    history = regression(0.08).fit(X, Y, epochs=4, verbose=0, callbacks=[reducer])
    np.testing.assert_allclose(
        history.history["learning_rate"], [0.08, 0.08, 0.008, 0.0008], rtol=1e-5
    )
    with pytest.raises(ValueError, match=r"factor >= 1\.0"):
        callbacks.ReduceLROnPlateau(factor=1.0)


def test_several_learning_rates(capsys):
    """Those of a MultiOptimizer change together, each from where it is."""
    o = handmill.optimizers
    for make, wanted in (
        (
            lambda: callbacks.LearningRateScheduler(lambda epoch, r: r * 0.5, verbose=1),
            [0.5, 0.25],
        ),
        (
            lambda: callbacks.ReduceLROnPlateau("loss", 0.1, 1, verbose=1, min_delta=10.0),
            [1.0, 1.0, 0.1],
        ),
    ):
        optimizer = o.MultiOptimizer(
            o.OptimizerMap(o.SGD(0.08, name="slow"), {".*/bias": o.SGD(0.2, name="fast")})
        )
        model = regression()
        model.compile(optimizer, "mse")
        history = model.fit(X, Y, epochs=len(wanted), verbose=0, callbacks=[make()]).history
        for name, rate in (("slow", 0.08), ("fast", 0.2)):
            np.testing.assert_allclose(
                history[f"learning_rate_{name}"], np.multiply(wanted, rate), rtol=1e-5
            )
        assert "learning_rate" not in history
        assert "fast learning rate to" in capsys.readouterr().out


def test_csv_logger(tmp_path):
    path = tmp_path / "log.csv"
    model = regression()
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[callbacks.CSVLogger(path)])
    model.fit(X, Y, epochs=1, verbose=0, callbacks=[callbacks.CSVLogger(path, append=True)])
    lines = path.read_text().splitlines()
    assert lines[0] == "epoch,loss,mae"
    assert [line.split(",")[0] for line in lines[1:]] == ["0", "1", "0"]


def test_not_a_callback():
    with pytest.raises(ValueError, match="`callbacks` must be"):
        regression().fit(X, Y, verbose=0, callbacks=["EarlyStopping"])


def test_plain_lines_when_not_a_terminal(capsys):
    regression().fit(X, Y, epochs=2, batch_size=10, validation_split=0.25)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Epoch 1/2"
    assert lines[1].startswith("3/3 - ")
    for part in ("s/step", "loss: ", "mae: ", "val_loss: "):
        assert part in lines[1]
    regression().evaluate(X, Y, verbose=2)
    assert "/step - loss: " in capsys.readouterr().out
    regression().predict(X, verbose=0)
    assert capsys.readouterr().out == ""


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_the_line_of_predict_shows_no_outputs(monkeypatch):
    model = regression()

    class Watcher(callbacks.Callback):
        def on_predict_batch_end(self, batch, logs=None):
            assert len(logs["outputs"])

    monkeypatch.setattr("sys.stdout", stream := Terminal())
    model.predict(X, batch_size=2, callbacks=[Watcher()])
    assert "/step" in stream.getvalue()
    assert "outputs" not in stream.getvalue()


def test_bar_on_a_terminal():
    stream = Terminal()
    bar = Progbar(10, stream=stream, interval=0)
    for step in range(1, 11):
        bar.update(step, [("loss", 1.0 / step)])
    text = stream.getvalue()
    assert "3/10" in text
    assert "10/10" in text
    assert "━" in text
    assert "/step - loss: 0.1000" in text  # of the last step, as in Keras
    assert text.count("\n") == 1


class Cell(io.StringIO):
    """The output of a notebook's cell, as the kernel gives it to the process."""

    encoding = "UTF-8"

    def isatty(self):
        return False


Cell.__module__ = "ipykernel.iostream"


def test_the_line_in_a_notebook_is_written_over(monkeypatch):
    cell = Cell()
    monkeypatch.setattr("sys.stdout", cell)
    regression().fit(X, Y, epochs=2, batch_size=4)
    text = cell.getvalue()
    lines = [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]
    assert lines[0] == "Epoch 1/2"
    assert lines[2] == "Epoch 2/2"
    assert all("━━" in lines[i] and "loss: " in lines[i] for i in (1, 3))
    assert lines[4:] == [""]
    assert "\r" in text
    assert text.count("\r") < 30  # by time, not by step

    monkeypatch.setattr("sys.stdout", redirected := io.StringIO())
    regression().fit(X, Y, batch_size=4)
    assert "\r" not in redirected.getvalue()


def test_bar_in_a_file_shows_each_update_but_no_step_of_fit(monkeypatch):
    bar = Progbar(3, stateful_metrics=["value"], interval=0)
    monkeypatch.setattr("sys.stdout", output := io.StringIO())
    bar.update(1, [("value", 0.0), ("mean", 0.0)])
    bar.update(2, [("value", 2.0), ("mean", 2.0)])
    lines = output.getvalue().splitlines()
    assert lines[0].startswith("1/3 ")
    assert "value: 2.0000 - mean: 1.0000" in lines[1]
    output.seek(0), output.truncate()
    regression().fit(X, Y, batch_size=4)
    assert len(output.getvalue().splitlines()) == 1


def test_what_better_means_is_known_as_an_operator():
    stops = [callbacks.EarlyStopping("loss", mode=mode) for mode in ("auto", "max")]
    assert [stop.monitor_op for stop in stops] == [None, handmill.ops.greater]
    regression().fit(X, Y, verbose=0, callbacks=stops)
    assert [stop.monitor_op for stop in stops] == [handmill.ops.less, handmill.ops.greater]


def test_a_number_that_nobody_knows_is_an_error_unless_its_direction_is_given(tmp_path):
    for make in (
        callbacks.EarlyStopping,
        callbacks.ReduceLROnPlateau,
        lambda name: callbacks.ModelCheckpoint(tmp_path / "m.hmill", name, save_best_only=True),
    ):
        with pytest.raises(ValueError, match="monitor=unknown, but nothing tells"):
            regression().fit(X, Y, verbose=0, callbacks=[make("unknown")])
    with pytest.warns(UserWarning, match="`unknown` which is not available"):
        regression().fit(
            X, Y, verbose=0, callbacks=[callbacks.EarlyStopping("unknown", mode="min")]
        )


def test_one_number_in_an_array_is_compared():
    stop = callbacks.EarlyStopping("f", mode="max", patience=0)
    assert stop.is_better(np.array([0.5]), np.array([0.25]))
    assert not stop.is_better(np.array([0.25]), 0.5)


def test_a_rate_that_follows_a_schedule_is_not_reduced():
    model = regression()
    schedule = handmill.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    model.compile(handmill.optimizers.SGD(schedule), "mse")
    reducer = callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=100.0)
    with pytest.raises(TypeError, match="not settable"):
        model.fit(X, Y, epochs=3, verbose=0, callbacks=[reducer])


def test_checkpoints_say_what_they_do_where_messages_go(tmp_path, caplog, capsys):
    path = tmp_path / "m.weights.hmill"
    keeper = callbacks.ModelCheckpoint(path, "loss", 1, True, True)
    handmill.utils.disable_interactive_logging()
    try:
        with caplog.at_level("INFO", "handmill"):
            regression().fit(X, Y, verbose=0, callbacks=[keeper])
    finally:
        handmill.utils.enable_interactive_logging()
    assert "saving model to" in caplog.text
    assert capsys.readouterr().out == ""


def test_bar_of_unknown_length():
    stream = Terminal()
    bar = Progbar(None, stream=stream, interval=0)
    bar.update(3, [("loss", 1.0)])
    bar.update(4, [("loss", 1.0)], finalize=True)
    assert "4/Unknown" in stream.getvalue()


def test_callback_that_raises_leaves_a_usable_model():
    class Raise(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError("from the callback")

    model = regression()
    with pytest.raises(RuntimeError, match="from the callback"):
        model.fit(X, Y, verbose=0, callbacks=[Raise()])
    model.fit(X, Y, verbose=0)


def test_fit_inside_fit_is_refused():
    class Again(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.fit(X, Y, verbose=0)

    with pytest.raises(RuntimeError, match="while fit"):
        regression().fit(X, Y, verbose=0, callbacks=[Again()])


def test_evaluate_inside_fit():
    losses = []

    class Look(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            losses.append(self.model.evaluate(X, Y, verbose=0)[0])

    history = regression().fit(X, Y, epochs=3, verbose=0, callbacks=[Look()])
    assert losses == sorted(losses, reverse=True)
    assert len(history.history["loss"]) == 3


def watch(callback, monitor, numbers, metrics):
    """Trains with a callback that finds ``numbers`` in the logs, one an epoch."""

    class Script(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs[monitor] = numbers[epoch]

    model = handmill.Sequential([handmill.Input((3,)), layers.Dense(1, activation="sigmoid")])
    model.compile(handmill.optimizers.SGD(1e-3), "mse", metrics=metrics)
    arguments = {"epochs": len(numbers), "verbose": 0, "validation_data": (X, Y)}
    return model.fit(X, Y, callbacks=[Script(), callback], **arguments)


@pytest.mark.parametrize(
    ("metric", "best"),
    (
        (handmill.metrics.BinaryAccuracy(name="hits"), 1),
        (handmill.metrics.MeanSquaredError(name="accelerations"), 2),
        (handmill.metrics.RootMeanSquaredError(name="auc_like"), 2),
        (handmill.metrics.MeanMetricWrapper(handmill.losses.huber, name="recall"), 2),
    ),
)
def test_the_metric_knows_its_direction_not_its_name(metric, best):
    monitor = f"val_{metric.name}"
    stop = callbacks.EarlyStopping(monitor, patience=9)
    watch(stop, monitor, [0.5, 0.9, 0.1], [metric])
    assert stop.best_epoch == best


@pytest.mark.parametrize(
    "make",
    (
        callbacks.EarlyStopping,
        callbacks.ReduceLROnPlateau,
        lambda name: callbacks.ModelCheckpoint("x.hmill", monitor=name, save_best_only=True),
    ),
    ids=["stop", "plateau", "checkpoint"],
)
def test_a_number_of_unknown_direction_is_refused(make, tmp_path, monkeypatch):
    def accuracy_of_mine(y_true, y_pred):
        return y_pred

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"monitor=val_accuracy_of_mine.*mode='max'"):
        watch(make("val_accuracy_of_mine"), "val_accuracy_of_mine", [1.0], [accuracy_of_mine])
    assert list(tmp_path.iterdir()) == []


def test_plateau_takes_the_size_of_min_delta():
    plateau = callbacks.ReduceLROnPlateau("n", mode="min", patience=1, min_delta=-1.0)
    rates = watch(plateau, "n", [5.0] * 3, []).history["learning_rate"]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4])


def test_nan_is_not_the_best():
    stop = callbacks.EarlyStopping("n", mode="min", patience=9)
    watch(stop, "n", [float("nan"), 2.0, 3.0], [])
    assert (stop.best, stop.best_epoch) == (2.0, 1)


def test_checkpoint_makes_its_folder_and_names_the_file(tmp_path, capsys):
    path = tmp_path / "new" / "deep" / "{epoch}.hmill"
    checkpoint = callbacks.ModelCheckpoint(
        path, "loss", verbose=1, save_best_only=True, initial_value_threshold=1e9
    )
    regression().fit(X, Y, verbose=0, callbacks=[checkpoint])
    assert (tmp_path / "new" / "deep" / "1.hmill").is_file()
    printed = capsys.readouterr().out
    assert "loss improved from 1000000000.00000 to " in printed
    assert f"saving model to {tmp_path / 'new' / 'deep' / '1.hmill'}" in printed


def test_csv_logger_has_a_column_for_numbers_that_come_later(tmp_path):
    path = tmp_path / "log.csv"
    for append in (False, True):
        regression().fit(
            X, Y, epochs=2, verbose=0, validation_data=(X, Y), validation_freq=2,
            callbacks=[callbacks.CSVLogger(path, append=append)],
        )  # fmt: skip
    lines = [line.split(",") for line in path.read_text().splitlines()]
    assert lines[0] == ["epoch", "loss", "mae", "val_loss", "val_mae"]
    assert [line[0] for line in lines[1:]] == ["0", "1", "0", "1"]
    assert [line[3] == "NA" for line in lines[1:]] == [True, False, True, False]


def test_what_is_averaged_on_the_bar():
    """As in Keras: means over steps until the last update, which is shown as it is."""

    def last(**given):
        stream = Terminal()
        bar = Progbar(4, stream=stream, interval=0, unit_name="row", width=5, **given)
        bar.update(1, [("a", 1.0), ("b", 1.0)])
        bar.add(2, [("a", 4.0), ("b", 4.0)])
        return stream.getvalue().rpartition("3/4")[2]

    assert "/row - a: 3.0000 - b: 3.0000" in last()
    assert "a: 4.0000 - b: 3.0000" in last(stateful_metrics=["a"])
    stream = Terminal()
    Progbar(2, stream=stream).update(2, [("a", [1.0, 4.0]), ("b", np.float32(2.0))])
    assert "a: 2.5000 - b: 2.0000" in stream.getvalue()
    assert "a: 3.0000 - b: 4.0000" in last(stateless_metrics=["a"])
    with pytest.raises(ValueError, match="Only one of"):
        Progbar(4, stateful_metrics=["a"], stateless_metrics=["b"])
