"""Serve a model from a function that a cloud service calls for each event.

python examples/lambda_handler.py

The process loads the model once, at the first event; each event is one prediction. Put the model's
file beside this one, or name it in MODEL_FILE; the service calls ``handler``.
"""

import functools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

import handmill

MODEL_FILE = Path(__file__).with_name("model.hmill")


@functools.cache
def model() -> Any:
    return handmill.models.load_model(os.environ.get("MODEL_FILE", MODEL_FILE), compile=False)


def handler(event: dict[str, Any], context: Any = None) -> dict[str, Any]:
    """Answers ``{"body": '{"x": [...]}'}``: one sample as a list of numbers."""
    try:
        x = np.asarray(json.loads(event["body"])["x"], "float32")
        scores = model().predict(x[None], verbose=0)[0]
    except (KeyError, TypeError, ValueError) as error:
        return {"statusCode": 400, "body": json.dumps({"error": str(error)})}
    answer = {"class": int(scores.argmax()), "scores": scores.tolist()}
    return {"statusCode": 200, "body": json.dumps(answer)}


def main() -> None:
    """Trains a model on digits and handles two events, as the service would."""
    import tempfile  # not for the function: its first answer would take 3 ms longer

    (x, y), (x_test, y_test) = handmill.datasets.digits.load_data()
    layers = handmill.layers
    trained = handmill.Sequential(
        [
            handmill.Input((8, 8)),
            layers.Rescaling(1 / 16),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    trained.compile("adam", "sparse_categorical_crossentropy")
    trained.fit(x, y, epochs=20, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MODEL_FILE"] = str(Path(folder) / "model.hmill")
        trained.save(os.environ["MODEL_FILE"])
        answer = handler({"body": json.dumps({"x": x_test[0].tolist()})})
    found = json.loads(answer["body"])["class"]
    print(f"status {answer['statusCode']}: a digit {y_test[0]} was taken for a {found}")
    print(f"status {handler({'body': '{}'})['statusCode']} for an event without x")


if __name__ == "__main__":
    main()
