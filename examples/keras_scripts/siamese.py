"""A siamese network: one encoder for both inputs, a distance, a contrastive loss."""

import keras
import numpy as np
from keras import layers, ops
from seeded import seed_weights

rng = np.random.default_rng(11)
centers = rng.normal(0, 1.5, (6, 10))
labels = rng.integers(0, 6, (800, 2))
same = rng.random(800) < 0.5
labels[same, 1] = labels[same, 0]
left = (centers[labels[:, 0]] + rng.normal(0, 0.7, (800, 10))).astype("float32")
right = (centers[labels[:, 1]] + rng.normal(0, 0.7, (800, 10))).astype("float32")
y = (labels[:, 0] == labels[:, 1]).astype("float32")[:, None]


def distance(vectors):
    a, b = vectors
    return ops.sqrt(ops.maximum(ops.sum(ops.square(a - b), axis=1, keepdims=True), 1e-7))


def contrastive(margin=1.0):
    def contrastive_loss(y_true, y_pred):
        near = ops.square(y_pred)
        far = ops.square(ops.maximum(margin - y_pred, 0.0))
        return ops.mean(y_true * near + (1.0 - y_true) * far)

    return contrastive_loss


encoder = keras.Sequential(
    [keras.Input((10,)), layers.Dense(24, activation="relu"), layers.Dense(4)], name="encoder"
)
first, second = keras.Input((10,), name="first"), keras.Input((10,), name="second")
output = layers.Lambda(distance, output_shape=(1,))([encoder(first), encoder(second)])
model = keras.Model([first, second], output, name="siamese")
seed_weights(model)


def accuracy(y_true, y_pred):
    return ops.mean(ops.cast(ops.equal(y_true, ops.cast(y_pred < 0.5, y_true.dtype)), "float32"))


model.compile(keras.optimizers.Adam(0.005), loss=contrastive(1.0), metrics=[accuracy])
history = model.fit(
    [left[:600], right[:600]], y[:600], batch_size=60, epochs=15, shuffle=False, verbose=0
)
print("weights", len(model.weights), "parameters", model.count_params())
print(f"loss {history.history['loss'][0]:.4f} -> {history.history['loss'][-1]:.4f}")
found = model.evaluate([left[600:], right[600:]], y[600:], verbose=0)
print("test loss {:.4f}, accuracy {:.4f}".format(*found))
codes = encoder.predict(centers.astype("float32"), verbose=0)
apart = np.linalg.norm(codes[:, None] - codes[None], axis=-1)
print(f"the nearest two centers are {apart[np.triu_indices(6, 1)].min():.3f} apart")
