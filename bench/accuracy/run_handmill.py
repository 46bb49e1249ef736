"""handmill learns a task: python run_handmill.py TASK SEED."""

import json
import sys
import time

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
    """The table of ``handmill demo``; its imports are not part of the loop, as torch's are not."""
    from handmill import Sequential, _core  # noqa: F401
    from handmill.cli.demo_command import ACTIVATIONS, OPTIMIZERS, all_combinations, digits
    from handmill.layers import Dense  # noqa: F401
    from handmill.optimizers import SGD  # noqa: F401

    (x, y), (x_test, y_test) = digits()
    seconds, found = all_combinations(x, y, x_test, y_test)
    by_name = {
        f"{activation} {optimizer}": float(found[i, j])
        for i, activation in enumerate(ACTIVATIONS)
        for j, optimizer in enumerate(OPTIMIZERS)
    }
    return {"training_seconds": seconds, "models": len(by_name), "table": by_name}


if __name__ == "__main__":
    name, seed = sys.argv[1], int(sys.argv[2])
    print(json.dumps(table(seed) if name == "table" else learn(name, seed)))
