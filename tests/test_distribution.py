"""Training by several processes: the same bits, and what happens when one is lost."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations_with_replacement, pairwise
from pathlib import Path

import numpy as np
import pytest

import handmill as keras
from handmill import distribution
from handmill.cli import launch_command, main
from handmill.distribution.buffers import Packing
from handmill.distribution.shards import fold, nodes_of_ranks, rows_of_shard
from handmill.distribution.sharing import cut_evenly
from ranks import needs_mpi, of_rank, on_ranks, said

L = keras.layers


@pytest.fixture(autouse=True)
def _one_process() -> Iterator[None]:
    yield
    distribution.set_distribution(None)


def data(rows: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((rows, 6), dtype=np.float32), rng.integers(0, 3, rows)


def network(*extra: object, loss: str = "sparse_categorical_crossentropy") -> keras.Sequential:
    keras.utils.set_random_seed(1)
    layers = [keras.Input((6,)), L.Dense(16, "relu"), *extra, L.Dense(3, "softmax")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


def test_shards_cover_a_batch_and_the_first_has_a_row() -> None:
    for rows in (1, 2, 15, 16, 17, 100, 1000):
        ends = [rows_of_shard(s, 16, rows) for s in range(16)]
        assert [a for a, _ in ends[1:]] == [b for _, b in ends[:-1]]
        assert ends[0][0] == 0
        assert ends[-1][1] == rows
        assert ends[0][1] > 0
        sizes = [b - a for a, b in ends]
        assert max(sizes) - min(sizes) <= 1


def test_ranks_have_nodes_of_one_tree() -> None:
    whole = fold((0, 16), {(s, s + 1) for s in range(16)}, str, "({0}+{1})".format)
    for ranks in range(1, 17):
        nodes = nodes_of_ranks(16, ranks)
        assert [a for a, _ in nodes] == [0, *(b for _, b in nodes[:-1])]
        held = {
            node: fold(node, {(s, s + 1) for s in range(*node)}, str, "({0}+{1})".format)
            for node in nodes
        }
        assert fold((0, 16), held, held.__getitem__, "({0}+{1})".format) == whole


def test_empty_nodes_are_left_out_of_sums() -> None:
    held = {(0, 1): None, (1, 2): 3, (2, 3): None, (3, 4): None}
    assert fold((0, 4), held, held.__getitem__, int.__add__) == 3
    assert fold((2, 4), held, held.__getitem__, int.__add__) is None


def test_packing_keeps_every_dtype_exactly() -> None:
    packing = Packing([((2, 3), "float32"), ((2,), "int64"), ((), "float64"), ((3,), "int32")])
    sums = packing.new()
    for i, array in enumerate(packing.targets(sums)):
        array[...] = i + 1
    packing.put(sums)
    assert [v.dtype.name for v in packing.views(sums)] == ["float32"] + ["float64"] * 3
    assert [float(v.sum()) for v in packing.views(sums.add(sums))] == [12, 8, 6, 24]


def test_the_largest_part_is_as_small_as_can_be() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        sizes = rng.integers(1, 20, rng.integers(1, 7)).tolist()
        parts = int(rng.integers(1, 5))
        places = cut_evenly(sizes, parts)
        assert len(places) == parts + 1
        assert places[0] == 0
        assert places[-1] == len(sizes)
        largest = max(sum(sizes[a:b]) for a, b in pairwise(places))
        inner = combinations_with_replacement(range(len(sizes) + 1), parts - 1)
        ways = [[0, *cuts, len(sizes)] for cuts in inner]
        assert largest == min(max(sum(sizes[a:b]) for a, b in pairwise(w)) for w in ways)


@pytest.mark.parametrize("rows", (90, 5))
def test_one_process_trains_as_it_does_without_shards(rows: int) -> None:
    x, y = data(rows)
    weight = np.linspace(0.5, 2, rows, dtype=np.float32)
    plain, shared = network(), network()
    fit = {"shuffle": False, "batch_size": 32, "epochs": 3, "verbose": 0, "validation_data": (x, y)}
    wanted = plain.fit(x, y, sample_weight=weight, **fit).history
    with distribution.DataParallel().scope():
        found = shared.fit(x, y, sample_weight=weight, **fit).history
        measured = shared.evaluate(x, y, verbose=0)
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-5, err_msg=name)
    for a, b in zip(plain.weights, shared.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(measured, plain.evaluate(x, y, verbose=0), rtol=2e-5)


def test_moving_statistics_are_means_over_shards() -> None:
    x, y = data(64)
    model = network(L.BatchNormalization(momentum=0.5))
    inner = model.layers[0](x)
    with distribution.DataParallel(shards=4).scope():
        model.train_on_batch(x, y)
    moving = model.layers[1]
    np.testing.assert_allclose(moving.moving_mean.numpy(), 0.5 * inner.mean(0), rtol=1e-5)
    variance = np.mean([inner[i : i + 16].var(0) for i in range(0, 64, 16)], axis=0)
    np.testing.assert_allclose(moving.moving_variance.numpy(), 0.5 + 0.5 * variance, rtol=1e-5)


def test_shards_draw_different_masks_and_the_counter_goes_on_once() -> None:
    x = np.ones((64, 8), np.float32)
    drop = L.Dropout(0.5, seed=5)
    model = keras.Sequential([keras.Input((8,)), drop])

    class Seen(keras.losses.Loss):
        def call(self, y_true, y_pred):  # type: ignore[no-untyped-def]
            return keras.ops.sum(y_pred * y_true, axis=-1)

    model.compile("sgd", Seen())
    powers = (2.0 ** -np.arange(8, dtype=np.float32))[None].repeat(64, 0)
    with distribution.DataParallel(shards=4).scope():
        losses = [float(model.test_on_batch(x, powers))]
        losses += [float(model.train_on_batch(x, powers)) for _ in range(3)]
    assert len(set(losses)) == 4
    assert drop.seed_generator.state.numpy().tolist() == [5, 3]


def test_global_clipping_and_frozen_layers_and_several_outputs() -> None:
    x, y = data(48)
    a = keras.Input((6,))
    hidden = L.Dense(8, "relu", trainable=False)(a)
    outputs = {"p": L.Dense(3, "softmax", name="p")(hidden), "q": L.Dense(1, name="q")(hidden)}

    def made() -> keras.Model:
        model = keras.Model(a, outputs)
        model.compile(
            keras.optimizers.SGD(0.1, momentum=0.9, global_clipnorm=0.1),
            {"p": "sparse_categorical_crossentropy", "q": "mse"},
        )
        return model

    start = [v.numpy() for v in made().weights]
    targets = {"p": y, "q": x[:, :1]}
    plain = made()
    plain.fit(x, targets, epochs=2, shuffle=False, verbose=0)
    wanted = [v.numpy() for v in plain.weights]
    shared = made()
    shared.set_weights(start)
    with distribution.DataParallel().scope():
        history = shared.fit(x, targets, epochs=2, shuffle=False, verbose=0)
    assert set(history.history) == {"loss", "p_loss", "q_loss"}
    for one, other in zip(wanted, shared.weights, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-4, atol=1e-6)


def test_generators_and_image_layers_train_too() -> None:
    x, y = data(40)
    model = network()
    batches = [(x[i : i + 10], y[i : i + 10]) for i in range(0, 40, 10)]
    with distribution.DataParallel().scope():
        history = model.fit(iter(batches), steps_per_epoch=4, verbose=0)
    assert np.isfinite(history.history["loss"][0])


def test_a_refused_batch_changes_nothing() -> None:
    x, y = data(64)
    model = network(L.Dropout(0.2))
    with distribution.DataParallel().scope():
        model.train_on_batch(x, y)
        before = [v.numpy().tobytes() for v in (*model.variables, *model.optimizer.variables)]
        y[60] = 7
        with pytest.raises(ValueError, match=r"label 7 .*row 60"):
            model.train_on_batch(x, y)
    after = [v.numpy().tobytes() for v in (*model.variables, *model.optimizer.variables)]
    assert before == after


def test_what_has_no_meaning_by_shards_is_refused_by_name() -> None:
    x, y = data(32)

    class Own(keras.Sequential):
        def train_step(self, data):  # type: ignore[no-untyped-def]
            return super().train_step(data)

    own = Own([keras.Input((6,)), L.Dense(3, "softmax")])
    own.compile("sgd", "sparse_categorical_crossentropy")
    eager = network()
    eager.run_eagerly = True
    summed = network()
    summed.compile("sgd", keras.losses.SparseCategoricalCrossentropy(reduction="sum"))
    with distribution.DataParallel().scope():
        for model, text in (
            (own, r"train_step\(\) of Own .* its own"),
            (eager, "run_eagerly=True"),
            (summed, "reduction='sum'"),
        ):
            with pytest.raises(ValueError, match=text):
                model.fit(x, y, verbose=0)
        with pytest.raises(ValueError, match="HealthMonitor"):
            network().fit(x, y, verbose=0, callbacks=[keras.callbacks.HealthMonitor()])


def test_arguments_that_do_not_fit() -> None:
    mesh = distribution.DeviceMesh((1, 1), ("a", "b"))
    for arguments, text in (
        ({"device_mesh": mesh}, "expected one axis"),
        ({"devices": ["cpu:1"]}, r"processes of this training are \['cpu:0'\]"),
        ({"auto_shard_dataset": False}, "mmap_mode"),
        ({"shards": 12}, "power of two"),
        ({"deadline": 0}, "greater than 0"),
    ):
        with pytest.raises(ValueError, match=text):
            distribution.DataParallel(**arguments)
    with pytest.raises(TypeError, match="expected a DataParallel"):
        distribution.set_distribution("cpu")
    with pytest.raises(ValueError, match="mpiexec is told"):
        distribution.initialize(job_addresses="10.0.0.1")
    with pytest.raises(ValueError, match=r"num_processes=3, .* it is 1"):
        distribution.initialize(num_processes=3)
    with pytest.raises(ValueError, match="'cpu' alone"):
        distribution.list_devices("gpu")
    with pytest.raises(ValueError, match="Shape does not match"):
        distribution.DeviceMesh((2,), ("batch",))
    with pytest.raises(ValueError, match="Invalid axis names"):
        distribution.TensorLayout(("rows",), distribution.DeviceMesh((1,), ("batch",)))


@pytest.mark.slow
def test_mpiexec_without_a_distribution_is_said_once() -> None:
    code = (
        "import numpy as np, handmill as keras, warnings\n"
        "m = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])\n"
        "m.compile('sgd', 'mse')\n"
        "x = np.ones((8, 2), 'float32')\n"
        "with warnings.catch_warnings(record=True) as found:\n"
        "    warnings.simplefilter('always')\n"
        "    m.fit(x, x[:, :1], verbose=0); m.fit(x, x[:, :1], verbose=0)\n"
        "print([str(w.message)[:40] for w in found])\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", code),
        env={**of_rank(), "PMI_SIZE": "4"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "['fit() runs in each of 4 processes of mpi']", done.stderr


def test_the_cost_of_a_step_falls_until_messages_weigh_more() -> None:
    given = {"batch_size": 1024, "parameters": 2_000_000, "flops_per_row": 700e6}
    found = {r: distribution.step_cost(r, **given) for r in (1, 2, 8, 64, 1000)}
    assert found[1].exchange == 0
    assert found[1].total == pytest.approx(1024 * 700e6 / 150e9)
    assert found[2].exchange == pytest.approx(3 * 20e-6 + 2 * 8e6 / 2 / 1.25e9)
    assert found[1000].compute == pytest.approx(2 * 700e6 / 150e9)  # two shards of a row
    assert found[1000].exchange > found[1000].compute
    assert [round(found[1].total / (r * c.total), 1) for r, c in found.items()] == [
        1.0, 1.0, 1.0, 0.8, 0.1,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="step_cost\\(\\) got latency=0"):
        distribution.step_cost(2, latency=0, **given)


TRAINING = """
keras.utils.set_random_seed(3)
keras.config.set_num_threads(int(os.environ["HANDMILL_NUM_THREADS"]))
rng = np.random.default_rng(0)
x, y = rng.random((210, 20), dtype=np.float32), rng.integers(0, 10, 210)
model = keras.Sequential([
    keras.Input((20,)), L.Dense(64, "relu"), L.BatchNormalization(), L.Dropout(0.3),
    L.Dense(300, "tanh", kernel_regularizer="l2"), L.Dense(10, "softmax"),
])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
distribution.set_distribution(distribution.DataParallel(deadline=20))
"""

BY_MESSAGES = "handmill.distribution.ranks.ranks().local_size = 1  # as between machines\n"

EARLY = """
from handmill.distribution.overlap import Early
early, add = [], Early.add
def noted(self, group, arrays):
    early.append(group)
    add(self, group, arrays)
Early.add = noted
"""


@needs_mpi
@pytest.mark.alone
def test_same_bits_for_any_ranks_and_threads(tmp_path: Path) -> None:
    body = (
        EARLY
        + TRAINING
        + (
            "found = model.fit(x, y, batch_size=50, epochs=2, verbose=0, validation_split=0.1)\n"
            "for rows in (3, 1, 3, 20, 3):\n"  # some ranks have none
            "    model.train_on_batch(x[:rows], y[:rows])\n"
            "say(weights=digest(model), history=found.history,"
            " measured=model.evaluate(x, y, verbose=0),"
            " predicted=hashlib.sha256(model.predict(x, batch_size=32, verbose=0)).hexdigest(),"
            " few=hashlib.sha256(model.predict(x[:40], verbose=0)).hexdigest(),"
            " devices=distribution.list_devices(), early=early)\n"
        )
    )
    results = []
    by_messages = BY_MESSAGES
    for ranks, threads in ((1, 1), (2, 2), (3, 2), (4, 1)):
        folder = tmp_path / f"{ranks}-{threads}"
        folder.mkdir()
        way = by_messages if ranks == 3 else ""  # as between machines
        done = on_ranks(ranks, way + body, folder, threads=threads)
        assert done.returncode == 0, done.stderr
        for one in said(folder, ranks):
            assert len(one.pop("devices")) == ranks
            groups = one.pop("early")
            if way:  # 2 epochs of 4 steps, and the batch of 20; of others some shards are empty
                assert len(groups) > 9
                assert groups == sorted(set(groups), reverse=True) * 9
            else:
                assert groups == []
            results.append(one)
    assert len(results) == 10
    assert all(one == results[0] for one in results)


@needs_mpi
@pytest.mark.alone
def test_each_rank_holds_its_share_of_the_optimizer(tmp_path: Path) -> None:
    body = TRAINING + (
        "slots = lambda: [v for v in model.optimizer.variables if v.shape]\n"
        "held = lambda: sum(not hasattr(v.state, 'owner') for v in slots())\n"
        "counts, files, text = [], [], ''\n"
        "class Look(keras.callbacks.Callback):\n"
        "    def on_epoch_end(self, epoch, logs=None):\n"
        "        global text\n"
        "        counts.append(held())\n"
        "        try:\n            [v.numpy() for v in slots()]\n"
        "        except RuntimeError as error:\n            text = str(error)\n"
        "        with distribution.distribution().whole(model) as writes:\n"
        "            counts.append(held())\n"
        "            if writes:\n                model.save(f'{sys.argv[1]}/{epoch}.hmill')\n"
        "checkpoint = keras.callbacks.ModelCheckpoint(f'{sys.argv[1]}/best.hmill')\n"
        "model.fit(x, y, batch_size=50, epochs=2, verbose=0, callbacks=[Look(), checkpoint])\n"
        "counts.append(held())\n"
        "found = digest(model)\n"
        "if distribution.rank() == 0:\n"
        "    files = [digest(keras.models.load_model(f'{sys.argv[1]}/{name}.hmill'))"
        " for name in ('1', 'best')]\n"
        "model.fit(x, y, batch_size=50, epochs=1, verbose=0)\n"
        "say(counts=counts, text=text, found=found, files=files, last=digest(model))\n"
    )
    done = on_ranks(2, body, tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = said(tmp_path, 2)
    # 8 variables with two slots each. Of 1280 + 3 * 64 + 19200 + 300 + 3000 + 10 numbers ...
    assert first["counts"] == [10, 16, 10, 16, 16]  # ... the first four and the largest
    assert second["counts"] == [6, 6, 6, 6, 16]
    assert "rank 1 (process " in first["text"]
    assert "shard_optimizer=False" in second["text"]
    assert first["files"] == [first["found"]] * 2
    assert first["found"] == second["found"]
    assert first["last"] == second["last"]
    whole = body.replace("DataParallel(", "DataParallel(shard_optimizer=False, ")
    assert on_ranks(2, whole, tmp_path).returncode == 0
    for one in said(tmp_path, 2):
        assert set(one["counts"]) == {16}
        assert (one["found"], one["last"]) == (first["found"], first["last"])


@needs_mpi
@pytest.mark.alone
@pytest.mark.slow
def test_a_fit_after_one_that_failed_collects_the_optimizer(tmp_path: Path) -> None:
    body = (
        TRAINING
        + """
class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise OSError("no space")
text, alone = "", ""
try:
    model.fit(x, y, batch_size=50, epochs=3, verbose=0, callbacks=[Stop()])
except OSError:
    pass
try:
    model.save(f"{sys.argv[1]}/model-{distribution.rank()}.hmill")
except RuntimeError as error:
    text = str(error)
with_ranks = distribution.distribution()
distribution.set_distribution(None)
try:
    model.fit(x, y, batch_size=50, verbose=0)
except (RuntimeError, TypeError) as error:
    alone = str(error)
distribution.set_distribution(with_ranks)
model.train_on_batch(x[:40], y[:40])
model.fit(x, y, batch_size=50, epochs=1, verbose=0, shuffle=False)
say(text=text, alone=alone, after=digest(model))
"""
    )
    results = []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        text = (
            body
            if ranks == 2
            else body.replace("model.fit(x, y, batch_size=50, verbose=0)", "pass")
        )
        done = on_ranks(ranks, text, folder)
        assert done.returncode == 0, done.stderr
        results += said(folder, ranks)
    assert {one["after"] for one in results} == {results[0]["after"]}
    assert [one["text"][:18] for one in results] == ["", *["while fit() trains"] * 2]
    assert [one["alone"][:18] for one in results] == ["", *["while fit() trains"] * 2]


OPTIMIZERS = (
    "SGD(0.1, momentum=0.9, nesterov=True)",
    "AdamW(weight_decay=0.01, clipnorm=0.5)",
    "Adam(amsgrad=True, gradient_accumulation_steps=2)",
    "Adam(global_clipnorm=0.1)",
    "Adam(use_ema=True)",
    "Nadam()",
    "Adafactor(0.01)",
    "Lamb()",
    "Muon()",
    "ScheduleFreeAdamW()",
    "LossScaleOptimizer(keras.optimizers.SGD(0.1))",
    "MultiOptimizer(keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1)))",
)


@needs_mpi
@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("policy", ("float32", "bfloat16"))
def test_optimizers_have_the_same_bits_on_any_ranks(policy: str, tmp_path: Path) -> None:
    head, _ = TRAINING.split("model = keras")
    body = (
        f"keras.config.set_dtype_policy({policy!r})\n"
        + head
        + "distribution.set_distribution(distribution.DataParallel(deadline=20))\n"
        + "found = {}\n"
        + f"for name in {OPTIMIZERS!r}:\n"
        + "    keras.utils.set_random_seed(3)\n"
        + "    model = keras.Sequential([keras.Input((20,)), L.Dense(64, 'relu'),"
        " L.BatchNormalization(), L.Dense(300, 'tanh'), L.Dense(10, 'softmax')])\n"
        + "    model.compile(eval('keras.optimizers.' + name), 'sparse_categorical_crossentropy')\n"
        + "    model.fit(x, y, batch_size=50, epochs=2, verbose=0)\n"
        + "    found[name] = digest(model)\n"
        + "say(found=found)\n"
    )
    wanted = None
    for ranks in (1, 2, 9):  # more than there are variables
        folder = tmp_path / str(ranks)
        folder.mkdir()
        done = on_ranks(ranks, body, folder)
        assert done.returncode == 0, done.stderr
        results = said(folder, ranks)
        wanted = wanted or results[0]
        assert all(one == wanted for one in results), ranks


@needs_mpi
@pytest.mark.alone
@pytest.mark.parametrize(
    ("change", "text"),
    (
        ("x = x * 2", "data. rank 0 .* has .*; rank 1"),
        ("model.layers[0].trainable = False; model.compile('adam', model.loss)", "variables"),
        ("x, y = x[:200], y[:200]", "(batches|shapes of the data)"),
        ("model.optimizer.beta_1 = 0.5", "optimizer"),
    ),
)
def test_ranks_that_disagree_are_told_what(change: str, text: str, tmp_path: Path) -> None:
    body = TRAINING + (
        f"if distribution.rank() == 1:\n    {change}\n"
        "before = [v.numpy().tobytes() for v in model.weights]\n"
        "try:\n    model.fit(x, y, batch_size=50, epochs=2, verbose=0)\n"
        "except distribution.DisagreementError as error:\n"
        "    same = before == [v.numpy().tobytes() for v in model.weights]\n"
        "    say(text=str(error), same=same)\n"
    )
    done = on_ranks(2, body, tmp_path)
    assert done.returncode == 0, done.stderr
    for one in said(tmp_path, 2):
        assert re.search("differ in: " + text, one["text"]), one["text"]
        assert one["same"]


HOOK = (
    TRAINING
    + """
mark = Path(sys.argv[1], "mark")
class Hook(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2 and distribution.rank() == 1 and not mark.exists():
            mark.touch()
            {action}
model.fit(x, y, batch_size=50, epochs=4, verbose=0, callbacks=[Hook()], resume="run.hmill")
say(weights=digest(model), ranks=distribution.get_device_count())
"""
)


@needs_mpi
@pytest.mark.alone
def test_a_killed_rank_is_named_and_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    done = on_ranks(1, HOOK.format(action="pass"), whole)
    assert done.returncode == 0, done.stderr
    body = HOOK.format(action="os.kill(os.getpid(), 9)")
    done = on_ranks(2, body, killed, "--restarts", "1", launch=True)
    assert done.returncode == 0, done.stderr
    assert "handmill launch: rank 1 (process " in done.stderr
    assert "has died at whole() of epoch 3" in done.stderr
    assert "starting again on 1 of 2 ranks" in done.stderr
    wanted = said(whole, 1)[0]
    assert said(killed, 1)[0] == wanted


def test_the_status_of_a_lost_rank_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever signal it was, and whatever an mpiexec makes of it; errors keep their own."""
    script = tmp_path / "train.py"
    script.write_text("")
    found: list[tuple[int, str | None]] = [(9, "rank 1 has died"), (137, "rank 0 has died")]
    monkeypatch.setattr(launch_command, "_mpiexec", lambda: "mpiexec")
    monkeypatch.setattr(launch_command, "_start", lambda *_: found.pop(0))
    command = ["launch", "-n", "2", "--restarts", "1", str(script)]
    assert main(command) == 75
    assert "starting again on 1 of 2 ranks" in capsys.readouterr().err
    found += [(3, None)]
    assert main(command) == 3


@needs_mpi
@pytest.mark.alone
def test_a_batch_that_one_rank_refuses_changes_nothing_on_any(tmp_path: Path) -> None:
    body = (
        BY_MESSAGES
        + TRAINING
        + """
model.train_on_batch(x[:64], y[:64])
before, texts = digest(model), []
for row in (60, 3, 60):
    bad = y[:64].copy()
    bad[row] = 10
    try:
        model.train_on_batch(x[:64], bad)
    except ValueError as error:
        texts.append(str(error))
same = digest(model) == before
for _ in range(3):
    model.train_on_batch(x[:64], y[:64])
say(same=same, texts=texts, after=digest(model))
"""
    )
    results = []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        done = on_ranks(ranks, body, folder)
        assert done.returncode == 0, done.stderr
        results += said(folder, ranks)
    assert {one["after"] for one in results} == {results[0]["after"]}
    for one in results:
        assert one["same"]
        assert len(one["texts"]) == 3
        for row, text in zip((60, 3, 60), one["texts"], strict=True):
            assert f"row {row}" in text


@needs_mpi
@pytest.mark.alone
@pytest.mark.slow
def test_restarts_on_fewer_ranks_end_with_the_same_bits(tmp_path: Path) -> None:
    body = (
        TRAINING
        + """
size = distribution.get_device_count()
class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
    def on_train_batch_begin(self, batch, logs=None):
        place = size, distribution.rank(), self.epoch, batch
        if {kills} and place in ((4, 3, 1, 3), (3, 0, 2, 2)):
            os.kill(os.getpid(), 9)
backup = keras.callbacks.BackupAndRestore("backup", save_freq=2)
model.fit(x, y, batch_size=25, epochs=4, verbose=0, callbacks=[Kill(), backup])
say(weights=digest(model), ranks=size)
"""
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    done = on_ranks(1, body.format(kills=False), whole)
    assert done.returncode == 0, done.stderr
    done = on_ranks(4, body.format(kills=True), killed, "--restarts", "2", launch=True)
    assert done.returncode == 0, done.stderr
    assert "starting again on 3 of 4 ranks" in done.stderr
    assert "starting again on 2 of" in done.stderr
    wanted = said(whole, 1)[0]["weights"]
    assert said(killed, 2) == [{"weights": wanted, "ranks": 2}] * 2


@needs_mpi
@pytest.mark.alone
def test_a_rank_that_hangs_is_named_within_the_deadline(tmp_path: Path) -> None:
    body = HOOK.format(action="time.sleep(60)").replace("deadline=20", "deadline=4.0")
    done = on_ranks(2, body, tmp_path)
    assert done.returncode == 75
    text = done.stderr
    assert "RankLostError: rank 1 (process " in text
    assert "has not arrived: last heard of at whole() of epoch 3" in text
    assert "at train step 1 of epoch 3. The deadline is 4 s" in text


@needs_mpi
@pytest.mark.alone
def test_a_slow_rank_is_named_once(tmp_path: Path) -> None:
    body = (
        """
import warnings
import handmill.distribution.exchange
from handmill.distribution.step import ShardedStep
handmill.distribution.exchange._STEPS_TO_JUDGE = 10
fold = ShardedStep._fold
def slow(self, *given):
    time.sleep(0.2 if distribution.rank() == 2 else 0.0)
    return fold(self, *given)
ShardedStep._fold = slow
"""
        + TRAINING
        + """
with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    model.fit(x, y, batch_size=16, epochs=1, verbose=0)
say(said=[str(w.message) for w in found if "shard" in str(w.message)])
"""
    )
    done = on_ranks(3, body, tmp_path)
    assert done.returncode == 0, done.stderr
    first, second, third = (one["said"] for one in said(tmp_path, 3))
    assert second == third == []
    assert len(first) == 1
    assert first[0].startswith("rank 2 (process ")


@needs_mpi
@pytest.mark.alone
def test_an_error_on_one_rank_ends_all_and_says_where(tmp_path: Path) -> None:
    done = on_ranks(2, HOOK.format(action="raise OSError('no space')"), tmp_path)
    assert done.returncode == 1
    assert "rank 1 on " in done.stderr
    assert "OSError: no space" in done.stderr


@needs_mpi
@pytest.mark.alone
def test_ranks_that_do_different_things_are_told(tmp_path: Path) -> None:
    done = on_ranks(2, HOOK.format(action="model.evaluate(x, y, verbose=0)"), tmp_path)
    assert done.returncode == 1
    assert "rank 0 is at train step 1 of epoch 3; rank 1 is at test step 1" in done.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    (
        (["-n", "0", "x.py"], "expected at least 1"),
        (["-n", "2", "no-such.py"], "no file 'no-such.py'"),
        (["-n", "2", "--restarts", "-1", "x.py"], "--restarts got -1"),
    ),
)
def test_launch_refuses(options: list[str], text: str, capfd: pytest.CaptureFixture[str]) -> None:
    from handmill.cli import main

    assert main(["launch", *options]) == 2
    assert text in capfd.readouterr().err


@needs_mpi
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_fifty_kills_at_random_moments(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    assert on_ranks(1, HOOK.format(action="pass"), whole).returncode == 0
    wanted = said(whole, 1)[0]["weights"]
    rng = np.random.default_rng(0)
    for number in range(50):
        folder = tmp_path / str(number)
        folder.mkdir()
        seconds = rng.uniform(0, 0.4)
        kill = (
            "import threading\nkilled = Path(sys.argv[1], 'killed')\n"
            f"if distribution.rank() == {number % 2} and not killed.exists():\n"
            "    killed.touch()\n"
            f"    threading.Timer({seconds}, os.kill, (os.getpid(), 9)).start()\n"
        )
        body = HOOK.format(action="pass").replace("model.fit(", kill + "model.fit(")
        done = on_ranks(2, body, folder, "--restarts", "1", launch=True)
        assert done.returncode == 0, done.stderr
        assert said(folder, 1)[0]["weights"] == wanted, number
