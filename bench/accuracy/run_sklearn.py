"""scikit-learn fills what it can of the demo's table: python run_sklearn.py table SEED."""

import json
import sys
import time
import warnings

import numpy as np
from sklearn.neural_network import MLPClassifier
from tasks import TABLE_BATCH, TABLE_EPOCHS, TABLE_UNITS, load_digits

ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic", "linear": "identity"}
OPTIMIZERS = {
    "sgd": {"solver": "sgd", "learning_rate_init": 0.1, "momentum": 0.0},
    "momentum": {"solver": "sgd", "learning_rate_init": 0.1, "nesterovs_momentum": False},
    "adam": {"solver": "adam", "learning_rate_init": 0.01},
}


def table(seed: int) -> dict:
    (x, y), (x_test, y_test) = (
        ((images.reshape(-1, 64) / 16).astype(np.float32), labels)
        for images, labels in load_digits()
    )
    warnings.simplefilter("ignore")  # it would go on until it converges
    found = {}
    start = time.perf_counter()
    for name, activation in ACTIVATIONS.items():
        for optimizer, options in OPTIMIZERS.items():
            model = MLPClassifier(
                (TABLE_UNITS,), activation=activation, batch_size=TABLE_BATCH, alpha=0.0,
                max_iter=TABLE_EPOCHS, random_state=seed, **options,
            )  # fmt: skip
            found[f"{name} {optimizer}"] = model.fit(x, y).score(x_test, y_test)
    seconds = time.perf_counter() - start
    return {"training_seconds": seconds, "models": len(found), "table": found}


if __name__ == "__main__":
    print(json.dumps(table(int(sys.argv[2]))))
