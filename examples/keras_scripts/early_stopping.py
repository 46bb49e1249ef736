"""Early stopping with the best weights restored, on a set that is easy to overfit."""

import keras
import numpy as np
from keras import layers, regularizers
from seeded import seed_weights

rng = np.random.default_rng(16)
x = rng.normal(size=(300, 20)).astype("float32")
y = ((x[:, 0] + x[:, 1] * x[:, 2] + 0.8 * rng.normal(size=300)) > 0).astype("float32")


def build(penalty):
    model = keras.Sequential(
        [
            keras.Input((20,)),
            layers.Dense(64, activation="relu", kernel_regularizer=penalty),
            layers.Dense(64, activation="relu", kernel_regularizer=penalty),
            layers.Dense(1),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.003),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")],
    )
    return seed_weights(model)


for name, penalty in (("without", None), ("with l1_l2", regularizers.L1L2(1e-4, 1e-3))):
    model = build(penalty)
    stop = keras.callbacks.EarlyStopping(
        monitor="val_loss", patience=5, restore_best_weights=True, min_delta=1e-3
    )
    history = model.fit(
        x[:200],
        y[:200],
        validation_data=(x[200:], y[200:]),
        batch_size=20,
        epochs=60,
        shuffle=False,
        callbacks=[stop],
        verbose=0,
    )
    losses = history.history["val_loss"]
    found = model.evaluate(x[200:], y[200:], verbose=0)
    print(f"{name}: stopped after {len(losses)} epochs, the best was {stop.best_epoch}")
    print(f"   best {min(losses):.4f}, last {losses[-1]:.4f}")
    print(f"   restored {found[0]:.4f} {found[1]:.4f}")
