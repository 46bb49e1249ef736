"""A generative adversarial network, trained in turns with train_on_batch; two optimizers."""

import keras
import numpy as np
from keras import layers
from seeded import seed_weights

rng = np.random.default_rng(5)

generator = keras.Sequential(
    [keras.Input((4,)), layers.Dense(24, activation="relu"), layers.Dense(2)], name="generator"
)
discriminator = keras.Sequential(
    [
        keras.Input((2,)),
        layers.Dense(24),
        layers.LeakyReLU(negative_slope=0.2),
        layers.Dense(1, activation="sigmoid"),
    ],
    name="discriminator",
)
seed_weights(generator, 1)
seed_weights(discriminator, 2)
discriminator.compile(keras.optimizers.Adam(0.004, beta_1=0.5), "binary_crossentropy")

# In the combined model only the generator learns; the discriminator alone was compiled before.
discriminator.trainable = False
noise = keras.Input((4,))
gan = keras.Model(noise, discriminator(generator(noise)), name="gan")
gan.compile(keras.optimizers.Adam(0.002, beta_1=0.5), "binary_crossentropy")
print("generator learns", len(gan.trainable_weights), "of", len(gan.weights), "weights")


def real(rows):
    angle = rng.uniform(0, 2 * np.pi, rows)
    return np.stack([np.cos(angle) + 2, np.sin(angle)], axis=1).astype("float32")


def draw(rows):
    return rng.normal(size=(rows, 4)).astype("float32")


for step in range(150):
    fake = generator.predict_on_batch(draw(32))
    x = np.concatenate([real(32), fake])
    y = np.concatenate([np.ones((32, 1)), np.zeros((32, 1))]).astype("float32")
    d_loss = discriminator.train_on_batch(x, y)
    g_loss = gan.train_on_batch(draw(32), np.ones((32, 1), "float32"))
    if step % 50 == 49:
        print(f"step {step + 1}: discriminator {float(d_loss):.3f}, generator {float(g_loss):.3f}")

fake = generator.predict(draw(500), verbose=0)
print("mean of what it makes", fake.mean(0).round(2), "of the data", real(500).mean(0).round(2))
