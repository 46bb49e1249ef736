"""Wrong labels in the data: label smoothing, top-k accuracy, a focal loss, compared."""

import keras
import numpy as np
from keras import layers
from seeded import seed_weights

rng = np.random.default_rng(13)
x = rng.normal(size=(1000, 8)).astype("float32")
truth = np.argmax(x @ rng.normal(size=(8, 5)), axis=1)
seen = np.where(rng.random(1000) < 0.15, rng.integers(0, 5, 1000), truth)
one_hot = keras.utils.to_categorical(seen, 5)

losses = {
    "plain": keras.losses.CategoricalCrossentropy(from_logits=True),
    "smoothed": keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
    "focal": keras.losses.CategoricalFocalCrossentropy(from_logits=True, gamma=2.0),
}
for name, loss in losses.items():
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(48, activation="gelu"), layers.Dense(5)]
    )
    seed_weights(model)
    model.compile(
        optimizer=keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        loss=loss,
        metrics=["accuracy", keras.metrics.TopKCategoricalAccuracy(k=2, name="top2")],
    )
    model.fit(x[:800], one_hot[:800], batch_size=40, epochs=10, shuffle=False, verbose=0)
    right = keras.utils.to_categorical(truth[800:], 5)
    found = model.evaluate(x[800:], right, verbose=0, return_dict=True)
    logits = model.predict(x[800:], verbose=0)
    sure = keras.activations.softmax(logits)
    sure = np.asarray(sure).max(1).mean()
    print(
        name, " ".join(f"{k} {float(v):.4f}" for k, v in sorted(found.items())), f"sure {sure:.3f}"
    )
