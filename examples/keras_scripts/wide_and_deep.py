"""Wide and deep: crossed categories beside embeddings, two inputs in a list."""

import keras
import numpy as np
from keras import layers
from seeded import seed_weights

rng = np.random.default_rng(10)
rows = 1200
user, item = rng.integers(0, 20, rows), rng.integers(0, 15, rows)
context = rng.normal(size=(rows, 3)).astype("float32")
taste, style = rng.normal(size=(20, 3)), rng.normal(size=(15, 3))
signal = (taste[user] * style[item]).sum(1) + context[:, 0]
clicked = (signal + rng.normal(0, 0.5, rows) > 0).astype("float32")
crossed = np.zeros((rows, 64), "float32")
crossed[np.arange(rows), (user * 15 + item) % 64] = 1.0
numbers = np.stack([user, item], axis=1).astype("int32")

wide_input = keras.Input((64,), name="crossed")
ids_input = keras.Input((2,), dtype="int32", name="ids")
context_input = keras.Input((3,), name="context")
users = layers.Embedding(20, 4, name="user")(ids_input[:, 0])
items = layers.Embedding(15, 4, name="item")(ids_input[:, 1])
deep = layers.Concatenate()([users, items, users * items, context_input])
deep = layers.Dense(32, activation="relu")(deep)
deep = layers.Dense(16, activation="relu")(deep)
both = layers.concatenate([wide_input, deep])
outputs = layers.Dense(1, activation="sigmoid")(both)
model = seed_weights(keras.Model([wide_input, ids_input, context_input], outputs))
model.compile(
    keras.optimizers.AdamW(0.005, weight_decay=0.01),
    loss="binary_crossentropy",
    metrics=["binary_accuracy", keras.metrics.AUC()],
)
x = [crossed, numbers, context]
history = model.fit(
    [a[:1000] for a in x], clicked[:1000], batch_size=50, epochs=10, shuffle=False, verbose=0
)
print(f"loss {history.history['loss'][0]:.4f} -> {history.history['loss'][-1]:.4f}")
found = model.evaluate([a[1000:] for a in x], clicked[1000:], verbose=0)
print("test loss {:.4f}, accuracy {:.4f}, auc {:.4f}".format(*found))
vectors = model.get_layer("item").get_weights()[0]
print("item vectors", vectors.shape, f"{np.linalg.norm(vectors):.3f}")
