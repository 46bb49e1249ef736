"""handmill learns a task: python run_handmill.py TASK SEED."""

import json
import sys
import time
import warnings

from tasks import TASKS


def learn(name: str, seed: int) -> dict:
    import handmill as keras
    from handmill import layers

    task = TASKS[name]
    (x, y), (x_test, y_test) = task.load()
    rows = len(x)
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            layers.Rescaling(1 / task.scale),
            layers.Flatten(),
            layers.Dense(task.hidden, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        task.steps(rows) - task.warmup(rows),
        warmup_target=task.rate,
        warmup_steps=task.warmup(rows),
    )
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", ["accuracy"])
    start = time.perf_counter()
    model.fit(x, y, batch_size=task.batch, epochs=task.epochs, verbose=0)
    seconds = time.perf_counter() - start
    accuracy = model.evaluate(x_test, y_test, batch_size=512, verbose=0)[1]
    return {"accuracy": accuracy, "training_seconds": seconds}


def table(_: int) -> dict:
    """The 25 networks of ``handmill demo`` in a loop; imports do not count, as torch's do not."""
    from handmill import TrainingWarning, _core, utils  # noqa: F401
    from handmill.cli.demo_command import ACTIVATIONS, OPTIMIZERS, build, digits
    from handmill.layers import Dense  # noqa: F401

    (x, y), (x_test, y_test) = digits()
    warnings.simplefilter("ignore", TrainingWarning)  # some pairs learn slowly
    by_name = {}
    start = time.perf_counter()
    for activation in ACTIVATIONS:
        for optimizer in OPTIMIZERS:
            utils.set_random_seed(1)
            model = build(activation, optimizer)
            model.fit(x, y, batch_size=32, epochs=10, verbose=0)
            by_name[f"{activation} {optimizer}"] = model.evaluate(x_test, y_test, verbose=0)[1]
    seconds = time.perf_counter() - start
    return {"training_seconds": seconds, "models": len(by_name), "table": by_name}


if __name__ == "__main__":
    name, seed = sys.argv[1], int(sys.argv[2])
    print(json.dumps(table(seed) if name == "table" else learn(name, seed)))
