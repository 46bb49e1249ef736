"""Sentences as bags of words: an embedding, averaged over the words that are there."""

import keras
import numpy as np
from keras import layers, ops
from seeded import seed_weights

GOOD = ["good", "great", "fine", "lovely", "clear", "warm", "bright"]
BAD = ["bad", "poor", "awful", "dull", "cold", "broken", "slow"]
PLAIN = ["the", "a", "film", "room", "phone", "was", "is", "very", "and", "it", "we", "saw"]

rng = np.random.default_rng(2)
texts, labels = [], []
for _ in range(600):
    label = int(rng.integers(2))
    words = [*rng.choice(PLAIN, rng.integers(4, 9)), *rng.choice(GOOD if label else BAD, 2)]
    if rng.random() < 0.3:
        words.append(rng.choice(BAD if label else GOOD))
    rng.shuffle(words)
    texts.append(" ".join(words))
    labels.append(label)

vocabulary = {word: i + 1 for i, word in enumerate(sorted({w for t in texts for w in t.split()}))}
longest = max(len(t.split()) for t in texts)
x = np.zeros((len(texts), longest), "int32")
for row, text in zip(x, texts, strict=True):
    numbers = [vocabulary[w] for w in text.split()]
    row[: len(numbers)] = numbers
y = np.array(labels, "float32")


class MaskedAverage(layers.Layer):
    """The mean over the words; padding does not count."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        weight = ops.expand_dims(ops.cast(mask, inputs.dtype), -1)
        return ops.sum(inputs * weight, axis=1) / ops.sum(weight, axis=1)

    def compute_mask(self, inputs, mask=None):
        return None


model = keras.Sequential(
    [
        keras.Input((None,), dtype="int32"),
        layers.Embedding(len(vocabulary) + 1, 8, mask_zero=True),
        MaskedAverage(),
        layers.Dense(8, activation="tanh"),
        layers.Dense(1, activation="sigmoid"),
    ]
)
seed_weights(model)
model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
model.optimizer.learning_rate = 0.01
history = model.fit(x[:500], y[:500], batch_size=25, epochs=8, shuffle=False, verbose=0)
print(f"{len(vocabulary)} words, at most {longest} in a text")
print("loss", " ".join(f"{v:.4f}" for v in history.history["loss"]))
print("test loss {:.4f}, accuracy {:.4f}".format(*model.evaluate(x[500:], y[500:], verbose=0)))
short = np.array([[vocabulary["good"], vocabulary["film"]]], "int32")
print(f"good film: {model.predict(short, verbose=0)[0, 0]:.4f}")
padded = np.pad(short, ((0, 0), (0, 6)))
print(f"the same, padded: {model.predict(padded, verbose=0)[0, 0]:.4f}")
