"""Training that was ended at any moment goes on to the same bits."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import handmill
from handmill import callbacks, layers, models
from handmill.preprocessing.image import ImageDataGenerator

pytestmark = pytest.mark.filterwarnings("ignore:.*what a Ends had noted:UserWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)).astype("float32")
Y = X[:, :1] * 2 + X[:, 1:2]


class Ended(Exception):
    """What ends a run from inside."""


class Ends(callbacks.Callback):
    """Raises before epoch ``epoch``, or after its batch ``batch``."""

    def __init__(self, epoch, batch=None):
        super().__init__()
        self.now = (epoch, batch)
        if batch is not None:
            self.on_train_batch_end = self._at_batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if (epoch, None) == self.now:
            raise Ended

    def _at_batch(self, batch, logs=None):
        if (self.epoch, batch) == self.now:
            raise Ended


class Remembers(callbacks.Callback):
    """Notes data of several kinds."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.sums = {"loss": 0.0}
        self.last = None
        self.both = (np.float32(1), {3: "three"})
        self.worst = float("-inf")

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(epoch)
        self.sums["loss"] += logs["loss"]
        self.last = self.model.get_weights()[0]
        self.both = (np.float32(logs["loss"]), {epoch: "epoch"})
        self.worst = float("inf") if epoch == 2 else self.worst


def network(built=True, optimizer=None):
    handmill.utils.set_random_seed(4)
    first = [handmill.Input((4,))] if built else []
    model = models.Sequential(
        [
            *first,
            layers.Dense(6, activation="relu"),
            layers.Dropout(0.3),
            layers.BatchNormalization(),
            layers.Dense(1),
        ]
    )
    model.compile(optimizer or handmill.optimizers.Adam(0.01, use_ema=True), "mse", ["mae"])
    return model


def watchers():
    return [
        callbacks.EarlyStopping(monitor="val_loss", patience=3, restore_best_weights=True),
        callbacks.ReduceLROnPlateau(monitor="loss", patience=1),
        callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
    ]


def fit(model, x=X, y=Y, extra=(), epochs=6, **more):
    given = {"batch_size": 8, "validation_split": 0.2} if y is not None else {}
    found = [*watchers(), *extra] if y is not None else list(extra)
    return model.fit(x, y, epochs=epochs, verbose=0, callbacks=found, **{**given, **more})


def bits_of(model):
    return [v.numpy().tobytes() for v in (*model.variables, *model.optimizer.variables)]


@pytest.mark.parametrize("built", (True, False))
@pytest.mark.parametrize("more", ({}, {"steps_per_epoch": 2}, {"shuffle": "batch"}))
def test_runs_go_on_to_the_same_bits(tmp_path, built, more):
    path = tmp_path / "run.hmill"
    whole, noted = network(built), Remembers()
    want = fit(whole, extra=[noted], **more).history
    for epoch in (1, 4):
        with pytest.raises(Ended):
            fit(network(built), extra=[Remembers(), Ends(epoch)], resume=path, **more)
    handmill.utils.set_random_seed(99)
    again, also = network(built), Remembers()
    assert fit(again, extra=[also], resume=path, **more).history == want
    assert bits_of(again) == bits_of(whole)
    assert (also.seen, also.sums, also.worst) == (noted.seen, noted.sums, noted.worst)
    assert also.both == noted.both
    assert type(also.both[0]) is np.float32
    np.testing.assert_array_equal(also.last, noted.last)
    # It has come to its end: once more, there is nothing to do.
    once_more = network(built)
    assert fit(once_more, extra=[Remembers()], resume=path, **more).history == want
    assert bits_of(once_more) == bits_of(whole)


@pytest.mark.slow
@pytest.mark.parametrize("freq", (1, 3))
def test_backups_between_batches(tmp_path, freq):
    folder = tmp_path / "backup"

    def backup():
        return callbacks.BackupAndRestore(folder, save_freq=freq)

    whole = network()
    want = fit(whole).history
    for place in ((1, 2), (3, 0), (3, 3)):
        with pytest.raises(Ended):
            fit(network(), extra=[backup(), Ends(*place)])
        assert [p.name for p in folder.iterdir()] == ["latest.hmill"]
    again = network()
    got = fit(again, extra=[backup()]).history
    assert {name: values[3:] for name, values in want.items()} == got
    assert bits_of(again) == bits_of(whole)
    assert not folder.exists()


class Batches(handmill.utils.PyDataset):
    """Counts what it is asked for; reorders itself after each epoch."""

    def __init__(self):
        super().__init__()
        self.asked = 0
        self.shift = 0

    def __len__(self):
        return 6

    def __getitem__(self, index):
        self.asked += 1
        start = (index * 8 + self.shift) % 24
        return X[start : start + 8], Y[start : start + 8]

    def on_epoch_end(self):
        self.shift += 8


def generator():
    rng = np.random.default_rng(1)
    while True:
        rows = rng.integers(0, 40, 8)
        yield X[rows], Y[rows]


class Twice:
    """Batches that can be gone through again and again, but not asked for by number."""

    def __iter__(self):
        yield X[:8], Y[:8]
        yield X[8:20], Y[8:20]
        yield X[20:30], Y[20:30]


def images():
    pictures = RNG.normal(size=(20, 8, 8, 1)).astype("float32")
    return lambda: ImageDataGenerator(rotation_range=20, horizontal_flip=True).flow(
        pictures, np.arange(20) % 3, batch_size=8, seed=5
    )


def picture_network():
    handmill.utils.set_random_seed(2)
    model = models.Sequential([handmill.Input((8, 8, 1)), layers.Flatten(), layers.Dense(3)])
    loss = handmill.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    return model


@pytest.mark.filterwarnings("ignore::handmill.errors.TrainingWarning")
@pytest.mark.parametrize(
    ("make", "source", "more"),
    (
        (network, Batches, {}),
        (network, Batches, {"steps_per_epoch": 3}),
        (network, generator, {"steps_per_epoch": 4}),
        (network, Twice, {}),
        (picture_network, images(), {}),
        (picture_network, images(), {"steps_per_epoch": 2}),
    ),
)
def test_places_in_other_data(tmp_path, make, source, more):
    whole = make()
    want = fit(whole, source(), None, epochs=4, **more).history
    path = tmp_path / "run.hmill"
    with pytest.raises(Ended):
        fit(make(), source(), None, extra=[Ends(2)], epochs=4, resume=path, **more)
    again, data = make(), source()
    assert fit(again, data, None, epochs=4, resume=path, **more).history == want
    assert bits_of(again) == bits_of(whole)
    if isinstance(data, Batches):
        assert data.asked <= 12
    backups = [callbacks.BackupAndRestore(tmp_path / "b", save_freq=1) for _ in range(2)]
    with pytest.raises(Ended):
        fit(make(), source(), None, extra=[backups[0], Ends(1, 1)], epochs=4, **more)
    again = make()
    fit(again, source(), None, extra=[backups[1]], epochs=4, **more)
    assert bits_of(again) == bits_of(whole)


def test_random_numbers_of_callbacks_go_on(tmp_path):
    def note(found):
        return callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: found.append(handmill.random.uniform(()).item())
        )

    want, before, after = [], [], []
    fit(network(), extra=[note(want)])
    path = tmp_path / "run.hmill"
    with pytest.raises(Ended):
        fit(network(), extra=[note(before), Ends(3)], resume=path)
    fit(network(), extra=[note(after)], resume=path)
    assert before + after == want


def test_files_of_other_models_are_refused(tmp_path):
    path = tmp_path / "run.hmill"
    fit(network(), resume=path)
    content = path.read_bytes()
    other = models.Sequential([handmill.Input((4,)), layers.Dense(1)])
    other.compile("adam", "mse")
    weights = other.get_weights()
    with pytest.raises(ValueError, match=r"holds arrays of the shapes .* is of another model"):
        fit(other, resume=path)
    for a, b in zip(weights, other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    other.save(path)
    with pytest.raises(ValueError, match="members that do not belong there"):
        fit(network(), resume=path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged"):
        fit(network(), resume=path)


def test_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"must end in `\.hmill`"):
        fit(network(), resume=tmp_path / "run.keras")
    backup = callbacks.BackupAndRestore(tmp_path / "b")
    with pytest.raises(ValueError, match="goes on from one file"):
        fit(network(), extra=[backup], resume=tmp_path / "run.hmill")
    with pytest.raises(ValueError, match="Empty `backup_dir`"):
        callbacks.BackupAndRestore("")
    for freq in ("batch", 0, True, 1.5):
        with pytest.raises(ValueError, match="save_freq"):
            callbacks.BackupAndRestore(tmp_path, save_freq=freq)
    slow = network()
    slow.run_eagerly = True
    with pytest.raises(ValueError, match="run_eagerly=True goes on at the start of an epoch"):
        fit(slow, extra=[callbacks.BackupAndRestore(tmp_path / "b", save_freq=1)])


def test_the_state_before_the_last_helps_after_damage(tmp_path):
    def backup():
        return callbacks.BackupAndRestore(tmp_path, double_checkpoint=True, delete_checkpoint=False)

    whole = network()
    fit(whole)
    for damage in (lambda p: p.write_bytes(b"PK"), Path.unlink):
        with pytest.raises(Ended):
            fit(network(), extra=[backup(), Ends(3)])
        assert sorted(p.name for p in tmp_path.iterdir()) == ["latest.hmill", "previous.hmill"]
        damage(tmp_path / "latest.hmill")
        again = network()
        fit(again, extra=[backup()])
        assert bits_of(again) == bits_of(whole)
        for path in tmp_path.iterdir():
            path.unlink()


def test_a_run_that_stopped_early_has_ended(tmp_path):
    path = tmp_path / "run.hmill"
    flat = [callbacks.EarlyStopping(monitor="loss", patience=1, min_delta=100.0)]
    first = network()
    want = fit(first, extra=flat, resume=path).history
    assert len(want["loss"]) == 2
    again = network()
    flat = [callbacks.EarlyStopping(monitor="loss", patience=1, min_delta=100.0)]
    assert fit(again, extra=flat, epochs=20, resume=path).history == want
    assert bits_of(again) == bits_of(first)


KILLED = """
import json, os, random, signal, sys, time
import numpy as np
import handmill
from handmill import callbacks, layers, models

how, folder, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
x = np.random.default_rng(0).normal(size=(96, 5)).astype("float32")
y = x[:, :1]

def run(folder):
    handmill.utils.set_random_seed(3)
    model = models.Sequential([handmill.Input((5,)), layers.Dense(8, activation="relu"),
                               layers.Dropout(0.2), layers.BatchNormalization(), layers.Dense(1)])
    model.compile(handmill.optimizers.Adam(0.01), "mse", metrics=["mae"])
    given = {}
    found = [callbacks.ReduceLROnPlateau(monitor="loss", patience=2),
             callbacks.EarlyStopping(patience=50, restore_best_weights=True)]
    if how == "epochs":
        given["resume"] = f"{folder}/run.hmill"
    else:
        found.append(callbacks.BackupAndRestore(f"{folder}/backup", save_freq=2))
    model.fit(x, y, batch_size=16, epochs=30, verbose=0, validation_split=0.25, callbacks=found,
              **given)
    arrays = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    with open(f"{folder}/end", "wb") as file:
        file.write(b"".join(a.tobytes() for a in arrays))

def child(folder):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run(folder)
            code = 0
        finally:
            os._exit(code)
    return pid

os.makedirs(f"{folder}/whole"), os.makedirs(f"{folder}/killed")
run(f"{folder}/whole")  # imports and traces, which children then share; on one thread
os.unlink(f"{folder}/whole/run.hmill") if how == "epochs" else None
start = time.monotonic()
run(f"{folder}/whole")
whole = time.monotonic() - start
rng, done, files = random.Random(1), 0, 0
while done < kills:
    pid = child(f"{folder}/killed")
    time.sleep(rng.uniform(0.05, 1.0) * whole)
    os.kill(pid, signal.SIGKILL)
    ended = os.waitpid(pid, 0)[1]
    done += ended == signal.SIGKILL
    assert ended in (0, signal.SIGKILL), ended
    files += os.path.exists(f"{folder}/killed/run.hmill") or os.path.exists(
        f"{folder}/killed/backup/latest.hmill")
    if ended == 0:
        assert open(f"{folder}/killed/end", "rb").read() == open(f"{folder}/whole/end", "rb").read()
        os.unlink(f"{folder}/killed/end")
        if how == "epochs":
            os.unlink(f"{folder}/killed/run.hmill")
assert os.waitpid(child(f"{folder}/killed"), 0)[1] == 0
same = open(f"{folder}/killed/end", "rb").read() == open(f"{folder}/whole/end", "rb").read()
print(json.dumps({"same": same, "kills": done, "files": files}))
"""


def killed(how, folder, kills):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, how, str(folder), str(kills)],
        capture_output=True,
        text=True,
        cwd=Path(handmill.__file__).parent.parent,
        env={**os.environ, "HANDMILL_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["same"]
    assert found["kills"] == kills
    assert found["files"] > 0
    shutil.rmtree(folder)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize("how", ("epochs", "batches"))
def test_killed_at_any_moment(tmp_path, how):
    killed(how, tmp_path / "runs", 5)


@needs_fork
@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("how", ("epochs", "batches"))
def test_killed_at_any_moment_again_and_again(tmp_path, how):
    killed(how, tmp_path / "runs", 100)
