"""A denoising autoencoder of two sub-models; the encoder is used alone afterwards."""

import keras
import numpy as np
from keras import layers
from seeded import seed_weights

rng = np.random.default_rng(3)
t = np.linspace(0, 2 * np.pi, 32)
phase, height = rng.uniform(0, 2 * np.pi, (800, 1)), rng.uniform(0.5, 1.5, (800, 1))
clean = (height * np.sin(t + phase)).astype("float32")
noisy = (clean + rng.normal(0, 0.3, clean.shape)).astype("float32")

encoder = keras.Sequential(
    [
        keras.Input((32,)),
        layers.Dense(24, activation="tanh"),
        layers.Dense(2, name="code"),
    ],
    name="encoder",
)
decoder = keras.Sequential(
    [
        keras.Input((2,)),
        layers.Dense(24, activation="tanh"),
        layers.Dense(32),
    ],
    name="decoder",
)
inputs = keras.Input((32,), name="signal")
autoencoder = keras.Model(inputs, decoder(encoder(inputs)), name="autoencoder")
seed_weights(autoencoder)
autoencoder.compile(keras.optimizers.Adam(0.01), loss="mse", metrics=["mae"])
history = autoencoder.fit(
    noisy[:700],
    clean[:700],
    batch_size=50,
    epochs=15,
    shuffle=False,
    validation_data=(noisy[700:], clean[700:]),
    verbose=0,
)
print("val_loss", " ".join(f"{v:.4f}" for v in history.history["val_loss"][::5]))
codes = encoder.predict(noisy[700:], verbose=0)
print("codes", codes.shape, f"spread {codes.std():.3f}")
restored = decoder.predict(codes, verbose=0)
same = autoencoder.predict(noisy[700:], verbose=0)
print(f"the same through both halves: {np.abs(restored - same).max() < 1e-5}")
before, after = np.mean((noisy - clean)[700:] ** 2), np.mean((same - clean[700:]) ** 2)
print(f"noise {before:.4f} -> {after:.4f}")
print([layer.name for layer in autoencoder.layers[1:]], autoencoder.count_params())
