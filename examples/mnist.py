"""Learn MNIST from Keras's mnist.npz, in seconds.

    python examples/mnist.py [PATH_OF_MNIST_NPZ]

Without a path the file is looked for in the working directory, in the folder that HANDMILL_DATA
names, and in ~/.keras/datasets. handmill downloads nothing.
"""

import sys

import handmill as keras
from handmill import layers

path = sys.argv[1] if len(sys.argv) > 1 else "mnist.npz"
(x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data(path)

keras.utils.set_random_seed(1)
model = keras.Sequential(
    [
        keras.Input((28, 28)),
        # The images stay as they are, one byte a pixel: an eighth of what x / 255.0 would take.
        layers.Rescaling(1 / 255),
        layers.Flatten(),
        layers.Dense(256, activation="relu"),
        layers.Dropout(0.2),
        layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x_train, y_train, batch_size=128, epochs=5, verbose=2)
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"test accuracy {accuracy:.4f}")
