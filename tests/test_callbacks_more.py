"""TensorBoard's event files, RemoteMonitor, SwapEMAWeights, TerminateOnNaN, what users override."""

from __future__ import annotations

import http.server
import json
import struct
import threading
import urllib.parse
import warnings
from pathlib import Path

import numpy as np
import pytest

import handmill
from handmill import callbacks, layers, optimizers
from handmill.callbacks import event_file

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
Y = X[:, :1].copy()


def compiled(optimizer="sgd"):
    handmill.utils.clear_session()
    handmill.utils.set_random_seed(0)
    model = handmill.Sequential([handmill.Input((3,)), layers.Dense(2), layers.Dense(1)], name="m")
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


def fields(data):
    """Field number -> values of a protocol buffer message."""
    found = {}
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            value = varint()
        else:
            size = {1: 8, 5: 4}.get(kind) or varint()
            value = data[at : at + size]
            at += size
        found.setdefault(number, []).append(value)
    return found


def events(folder):
    """(step, tag, value) of every value in the event files of a folder; checksums are compared."""
    found = []
    for path in sorted(Path(folder).glob("events.out.tfevents.*")):
        data = path.read_bytes()
        at, first = 0, True
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            content = data[at + 12 : at + 12 + length]
            assert event_file.record(content) == data[at : at + 16 + length]
            at += 16 + length
            event = fields(content)
            if first:
                assert event[3] == [b"brain.Event:2"]
                first = False
                continue
            for value in fields(event[5][0])[1]:
                inner = fields(value)
                found.append((event.get(2, [0])[0], inner[1][0].decode(), inner))
    return found


def numbers(folder):
    return {
        (tag, step): struct.unpack("<f", v[2][0])[0] for step, tag, v in events(folder) if 2 in v
    }


def test_checksums():
    """The check value of CRC-32C, and a record as TensorFlow writes it."""
    assert event_file.crc32c(b"123456789") == 0xE3069283
    assert event_file.crc32c(b"") == 0
    assert event_file.record(b"").hex() == "0000000000000000" + "29039807" + "d8ea82a2"


def test_numbers_of_epochs(tmp_path):
    board = callbacks.TensorBoard(tmp_path, write_steps_per_second=True)
    history = (
        compiled().fit(X, Y, epochs=2, validation_data=(X, Y), verbose=0, callbacks=[board]).history
    )
    train, validation = numbers(tmp_path / "train"), numbers(tmp_path / "validation")
    for i in range(2):
        for name in ("loss", "mae"):
            assert train[f"epoch_{name}", i] == pytest.approx(history[name][i], rel=1e-6)
            value = history[f"val_{name}"][i]
            assert validation[f"epoch_{name}", i] == pytest.approx(value, rel=1e-6)
        assert train["epoch_learning_rate", i] == pytest.approx(0.01)
        assert train["epoch_steps_per_second", i] > 0
    assert validation["evaluation_loss_vs_iterations", 1] == pytest.approx(
        history["val_loss"][0], rel=1e-6
    )
    structure = [v for _, tag, v in events(tmp_path / "train") if tag == "keras"]
    assert b"graph_keras_model" in structure[0][9][0]
    assert json.loads(fields(structure[0][8][0])[8][0])["class_name"] == "Sequential"


def test_numbers_of_batches(tmp_path):
    model = compiled()
    board = callbacks.TensorBoard(tmp_path, update_freq=2, write_graph=False)
    assert callbacks.CallbackList([board]).watches["train"]
    assert not callbacks.CallbackList([callbacks.TensorBoard(tmp_path)]).watches["train"]
    model.fit(X, Y, batch_size=3, epochs=2, verbose=0, callbacks=[board])
    found = numbers(tmp_path / "train")
    assert [step for tag, step in found if tag == "batch_loss"] == [2, 4, 6, 8]
    assert not (tmp_path / "validation").exists()


def test_histograms_and_images(tmp_path):
    model = compiled()
    board = callbacks.TensorBoard(tmp_path, histogram_freq=1, write_images=True)
    model.fit(X, Y, verbose=0, callbacks=[board])
    found = {tag: v for _, tag, v in events(tmp_path / "train")}
    kernel = model.layers[0].kernel.numpy().astype("float64")
    inner = fields(found["m/dense/kernel/histogram"][5][0])
    low, high, count, total, squares = (struct.unpack("<d", inner[i][0])[0] for i in range(1, 6))
    assert (low, high, count) == (kernel.min(), kernel.max(), 6)
    assert total == pytest.approx(kernel.sum())
    assert squares == pytest.approx((kernel**2).sum())
    limits, counts = (np.frombuffer(inner[i][0], "<f8") for i in (6, 7))
    assert limits[-1] == high
    assert counts.sum() == 6
    PIL = pytest.importorskip("PIL.Image")
    import io

    picture = fields(found["m/dense/kernel/image"][4][0])
    pixels = np.asarray(PIL.open(io.BytesIO(picture[4][0])))
    assert pixels.shape == (2, 3)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert pixels[:, :].argmax() == kernel.T.argmax()


def test_histograms_of_odd_arrays():
    for values, count in (([], 0), ([np.nan, np.inf], 0), ([2.0, 2.0], 2), ([1.0], 1)):
        inner = fields(fields(event_file.histogram("h", values))[5][0])
        assert struct.unpack("<d", inner[3][0])[0] == count
        assert np.frombuffer(inner[7][0], "<f8").sum() == count


def test_embeddings_for_the_projector(tmp_path):
    model = handmill.Sequential(
        [handmill.Input((2,), dtype="int32"), layers.Embedding(5, 3, name="words"),
         layers.Flatten(), layers.Dense(1)]
    )  # fmt: skip
    model.compile("sgd", "mse")
    board = callbacks.TensorBoard(
        tmp_path, embeddings_freq=1, embeddings_metadata={"words": "words.txt"}
    )
    model.fit(np.zeros((4, 2), "int32"), Y[:4], verbose=0, callbacks=[board])
    assert (tmp_path / "projector_config.pbtxt").read_text() == (
        'embeddings {\n  tensor_name: "words"\n  tensor_path: "words.tsv"\n'
        '  metadata_path: "words.txt"\n}\n'
    )
    rows = np.loadtxt(tmp_path / "words.tsv", delimiter="\t")
    np.testing.assert_allclose(rows, model.layers[0].embeddings.numpy(), rtol=1e-6)
    board = callbacks.TensorBoard(tmp_path, embeddings_freq=1, embeddings_metadata={"wrods": "w"})
    with pytest.raises(ValueError, match=r"\['wrods'\].*words"):
        model.fit(np.zeros((4, 2), "int32"), Y[:4], verbose=0, callbacks=[board])


def test_what_tensorboard_refuses():
    with pytest.raises(ValueError, match="must be 0"):
        callbacks.TensorBoard(profile_batch=2)
    for wrong in (0, -1, "epochs", 1.5):
        with pytest.raises(ValueError, match="update_freq"):
            callbacks.TensorBoard(update_freq=wrong)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    answer = 200


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.found.append((self.path, dict(self.headers), body))
        self.send_response(self.server.answer)
        self.end_headers()

    def log_message(self, *args):
        """Silent."""


@pytest.fixture
def server():
    made = Server(("127.0.0.1", 0), Handler)
    made.found = []
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def test_remote_monitor(server):
    root = f"http://127.0.0.1:{server.server_port}"
    both = [
        callbacks.RemoteMonitor(root, headers={"X-Key": "7"}),
        callbacks.RemoteMonitor(root, "/other", send_as_json=True),
    ]
    history = compiled().fit(X, Y, verbose=0, callbacks=both).history
    (path, headers, body), (other, _, text) = server.found
    assert (path, other) == ("/publish/epoch/end/", "/other")
    assert headers["X-Key"] == "7"
    expected = {"epoch": 0, **{k: v[0] for k, v in history.items()}}
    assert json.loads(urllib.parse.parse_qs(body)["data"][0]) == expected
    assert json.loads(text) == expected
    both[1].on_epoch_end(3, {"a": np.float32(1.5), "b": np.arange(2)})
    assert json.loads(server.found[-1][2]) == {"epoch": 3, "a": 1.5, "b": [0, 1]}


@pytest.mark.slow
def test_remote_monitor_without_a_server(server):
    server.answer = 500
    with pytest.warns(UserWarning, match="answered 500"):
        callbacks.RemoteMonitor(f"http://127.0.0.1:{server.server_port}").on_epoch_end(0, {})
    port = server.server_port
    server.shutdown()
    server.server_close()
    with pytest.warns(UserWarning, match="Could not reach RemoteMonitor root server"):
        callbacks.RemoteMonitor(f"http://127.0.0.1:{port}").on_epoch_end(0, {"loss": 1.0})
    with pytest.raises(ValueError, match="address of HTTP"):
        callbacks.RemoteMonitor("file:///etc")


class Seen(callbacks.Callback):
    """Notes the weights after each epoch and in each validation."""

    def __init__(self):
        super().__init__()
        self.epochs, self.tests = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(self.model.layers[0].kernel.numpy())

    def on_test_begin(self, logs=None):
        self.tests.append(self.model.layers[0].kernel.numpy())


@pytest.mark.parametrize("swap", (False, True))
@pytest.mark.parametrize("kind", ("plain", "scaled", "several"))
def test_averages_are_what_is_measured(swap, kind):
    def optimizer():
        made = optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
        if kind == "scaled":
            return optimizers.LossScaleOptimizer(made)
        if kind == "several":
            return optimizers.MultiOptimizer(optimizers.OptimizerMap(made))
        return made

    plain, swapped = compiled(optimizer()), compiled(optimizer())
    plain.fit(X, Y, epochs=3, batch_size=4, verbose=0, shuffle=False)
    seen, averages = Seen(), []

    class Averages(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            inner = swapped.optimizer
            inner = getattr(inner, "inner_optimizer", inner)
            inner = getattr(inner, "optimizers", [inner])[0]
            averages.append(inner._model_variables_moving_average[0].numpy())

    swapped.fit(
        X, Y, epochs=3, batch_size=4, verbose=0, shuffle=False, validation_data=(X, Y),
        callbacks=[callbacks.SwapEMAWeights(swap_on_epoch=swap), seen, Averages()],
    )  # fmt: skip
    # Training itself is not changed; what is measured, and saved if wanted, are the averages.
    np.testing.assert_array_equal(plain.get_weights()[0], swapped.get_weights()[0])
    np.testing.assert_array_equal(seen.tests, averages)
    assert all(np.array_equal(a, b) is swap for a, b in zip(seen.epochs, averages, strict=True))


def test_averages_when_training_stops_early():
    class Stop(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    model = compiled(optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5))
    swap = callbacks.SwapEMAWeights(swap_on_epoch=True)
    model.fit(X, Y, epochs=5, batch_size=4, verbose=0, callbacks=[swap, Stop()])
    average = model.optimizer._model_variables_moving_average[0]
    np.testing.assert_array_equal(model.layers[0].kernel.numpy(), average.numpy())


def test_averages_need_an_optimizer_that_keeps_them():
    model = compiled()
    before = model.get_weights()
    with pytest.raises(ValueError, match="use_ema=True"):
        model.fit(X, Y, verbose=0, callbacks=[callbacks.SwapEMAWeights()])
    np.testing.assert_array_equal(before[0], model.get_weights()[0])


@pytest.mark.parametrize("raise_error", (False, True))
def test_terminate_on_nan(raise_error):
    model = compiled()
    seen = []
    stop = callbacks.TerminateOnNaN(raise_error=raise_error)
    other = callbacks.LambdaCallback(on_train_end=seen.append)
    y = np.full_like(Y, np.inf)
    if raise_error:
        with pytest.raises(RuntimeError, match="NaN or Inf loss encountered at batch 0"):
            model.fit(X, y, batch_size=4, epochs=2, verbose=0, callbacks=[stop, other])
        assert seen == []
    else:
        with pytest.warns(handmill.TrainingWarning), pytest.warns(UserWarning, match="invalid"):
            history = model.fit(X, y, batch_size=4, epochs=2, verbose=0, callbacks=[stop, other])
        assert len(history.history["loss"]) == len(seen) == 1


def test_a_structure_that_tensorboard_cannot_be_given_is_named(tmp_path):
    model = handmill.Sequential(
        [handmill.Input((3,)), layers.Lambda(lambda x: 2 * x), layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    x = np.ones((4, 3), "float32")
    with pytest.warns(UserWarning, match="structure is not written"):
        model.fit(x, x[:, :1], verbose=0, callbacks=[handmill.callbacks.TensorBoard(tmp_path)])


def test_a_loop_of_ones_own_calls_the_hooks_of_a_list(capsys):
    seen = []
    hooks = [name for name in dir(callbacks.Callback) if name.startswith("on_")]
    phases = ("train", "test", "predict")

    class Watcher(callbacks.Callback):
        pass

    for name in hooks:
        setattr(Watcher, name, lambda self, *a, name=name, logs=None: seen.append((name, *a, logs)))
    model = compiled()
    both = callbacks.CallbackList(
        [Watcher()], add_history=True, add_progbar=True, model=model, epochs=2, steps=3, verbose=1
    )
    assert both.model is model
    for phase in phases:
        getattr(both, f"on_{phase}_begin")()
        getattr(both, f"on_{phase}_batch_begin")(0)
        getattr(both, f"on_{phase}_batch_end")(0, {"loss": 1.0})
        getattr(both, f"on_{phase}_end")({"loss": 2.0})
    both.on_epoch_begin(1)
    both.on_batch_end(2, {"loss": 3.0})
    both.on_epoch_end(1, {"loss": 4.0})
    for phase in phases:
        assert (f"on_{phase}_begin", {}) in seen or (f"on_{phase}_begin", {}, None) in seen
        assert (f"on_{phase}_batch_begin", 0, {}) in [s[:3] for s in seen]
        assert (f"on_{phase}_batch_end", 0, {"loss": 1.0}) in [s[:3] for s in seen]
        assert (f"on_{phase}_end", {"loss": 2.0}) in [s[:2] for s in seen]
    assert ("on_train_batch_end", 2, {"loss": 3.0}) in [s[:3] for s in seen]
    assert model.history.history == {"loss": [4.0]}
    shown = capsys.readouterr().out
    assert "Epoch 2/2" in shown
    assert "3/3" in shown
    assert "loss: 4.0000" in shown


def test_what_is_monitored_is_the_users_to_say():
    class Sum(callbacks.EarlyStopping):
        def get_monitor_value(self, logs):
            return logs["loss"] + logs["mae"]

    stop = Sum(mode="max", restore_best_weights=True)
    history = compiled().fit(X, Y, epochs=5, verbose=0, callbacks=stop).history
    assert stop.best == pytest.approx(history["loss"][0] + history["mae"][0])
    assert len(history["loss"]) == 2

    class Never(callbacks.ReduceLROnPlateau):
        def in_cooldown(self):
            return True

    plateau = Never("loss", mode="max", patience=0)
    rates = compiled().fit(X, Y, epochs=3, verbose=0, callbacks=plateau).history["learning_rate"]
    assert set(rates) == {np.float32(0.01)}


def test_a_lambda_callback_knows_the_hooks():
    with pytest.raises(TypeError, match=r"'on_epch_end'.* Did you mean 'on_epoch_end'"):
        callbacks.LambdaCallback(on_epch_end=print)
    with pytest.raises(TypeError, match="Unknown hook: 'model'"):
        callbacks.LambdaCallback(model=print)
    with pytest.raises(TypeError, match=r"'epoch_end'.* Did you mean 'on_epoch_end'"):
        callbacks.LambdaCallback(epoch_end=print)
    with pytest.raises(TypeError, match=r"`rate` must be a function\. Received: 3"):
        callbacks.LambdaCallback(rate=3)
    assert callbacks.LambdaCallback(rate=abs).rate(-3) == 3


def test_a_csv_file_with_another_separator_is_left_alone(tmp_path):
    path = tmp_path / "log.csv"
    compiled().fit(X, Y, verbose=0, callbacks=callbacks.CSVLogger(path))
    written = path.read_bytes()
    other = callbacks.CSVLogger(path, separator=";", append=True)
    with pytest.raises(ValueError, match="separators ';'"):
        compiled().fit(X, Y, verbose=0, callbacks=other)
    assert path.read_bytes() == written


def test_warnings_point_to_the_line_of_the_user():
    absent = callbacks.ModelCheckpoint("x.hmill", "val_mae", save_best_only=True)
    watched = {
        "invalid loss": callbacks.TerminateOnNaN(),
        "val_loss": callbacks.EarlyStopping("val_loss"),
        "val_mae": absent,
    }
    for text, callback in watched.items():
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            compiled(optimizers.SGD(1e30)).fit(X, Y, epochs=2, verbose=0, callbacks=callback)
        places = {warning.filename for warning in given if text in str(warning.message)}
        assert places == {__file__}
