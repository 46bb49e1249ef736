"""One case in twenty: class_weight, the initial bias, and metrics that do not flatter."""

import keras
import numpy as np
from keras import layers
from seeded import seed_weights

rng = np.random.default_rng(8)
x = rng.normal(size=(2000, 8)).astype("float32")
risk = x[:, 0] + 0.5 * x[:, 1] * x[:, 2] + rng.normal(0, 0.3, 2000)
y = (risk > np.quantile(risk, 0.95)).astype("float32")
negative, positive = np.bincount(y.astype(int))
print("rows", len(y), "of which positive", positive)


def make_model(bias=None):
    if bias is not None:
        bias = keras.initializers.Constant(bias)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(24, activation="relu"),
            layers.Dense(1, activation="sigmoid", bias_initializer=bias or "zeros"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss=keras.losses.BinaryCrossentropy(),
        metrics=[
            keras.metrics.TruePositives(name="tp"),
            keras.metrics.FalsePositives(name="fp"),
            keras.metrics.Precision(name="precision"),
            keras.metrics.Recall(name="recall"),
            keras.metrics.AUC(name="auc"),
            keras.metrics.AUC(name="prc", curve="PR"),
        ],
    )
    return seed_weights(model)


weights = {0: len(y) / (2.0 * negative), 1: len(y) / (2.0 * positive)}
for name, bias, class_weight in (
    ("plain", None, None),
    ("with the right bias", np.log(positive / negative), None),
    ("with class weights", None, weights),
):
    model = make_model(bias)
    first = model.evaluate(x[:1500], y[:1500], verbose=0, return_dict=True)
    model.fit(
        x[:1500],
        y[:1500],
        batch_size=100,
        epochs=8,
        shuffle=False,
        class_weight=class_weight,
        verbose=0,
    )
    found = model.evaluate(x[1500:], y[1500:], verbose=0, return_dict=True)
    print(f"{name}: loss before {first['loss']:.4f}")
    print("   ", " ".join(f"{k} {float(v):.4f}" for k, v in sorted(found.items())))
