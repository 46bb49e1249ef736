"""A variational autoencoder: sampling inside a layer, the KL divergence through add_loss."""

import keras
import numpy as np
from keras import layers, ops
from seeded import seed_weights

rng = np.random.default_rng(4)
corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], "float32")
hidden = corners[rng.integers(0, 4, 1000)] + rng.normal(0, 0.2, (1000, 2))
x = np.tanh(hidden @ rng.normal(size=(2, 12))).astype("float32")


class Sampling(layers.Layer):
    """A draw from the normal distribution that the encoder describes."""

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs):
        mean, log_variance = inputs
        noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        divergence = 1 + log_variance - ops.square(mean) - ops.exp(log_variance)
        self.add_loss(-0.5 * 0.02 * ops.mean(ops.sum(divergence, axis=-1)))
        return mean + ops.exp(0.5 * log_variance) * noise


inputs = keras.Input((12,))
hidden = layers.Dense(32, activation="relu")(inputs)
mean = layers.Dense(2, name="mean")(hidden)
log_variance = layers.Dense(2, name="log_variance")(hidden)
z = Sampling(seed=7)([mean, log_variance])
encoder = keras.Model(inputs, [mean, log_variance, z], name="encoder")

latent = keras.Input((2,))
hidden = layers.Dense(32, activation="relu")(latent)
decoder = keras.Model(latent, layers.Dense(12, activation="tanh")(hidden), name="decoder")

vae = keras.Model(inputs, decoder(encoder(inputs)[2]), name="vae")
seed_weights(vae)
vae.compile(keras.optimizers.Adam(0.01), loss="mse")
history = vae.fit(x, x, batch_size=50, epochs=30, shuffle=False, verbose=0)
print(f"loss {history.history['loss'][0]:.3f} -> {history.history['loss'][-1]:.3f}")
means, log_variances, samples = encoder.predict(x, verbose=0)
print(
    f"spread of the codes {means.std():.2f}, of samples around them {(samples - means).std():.2f}"
)
drawn = decoder.predict(rng.normal(size=(500, 2)).astype("float32"), verbose=0)
print(f"drawn from nothing: mean {np.abs(drawn).mean():.2f}, of the data {np.abs(x).mean():.2f}")
