"""Learn real handwritten digits in half a second; nothing is downloaded.

python examples/digits.py
"""

import handmill as keras
from handmill import layers

(x_train, y_train), (x_test, y_test) = keras.datasets.digits.load_data()
x_train, x_test = x_train / 16.0, x_test / 16.0  # pixels are 0 to 16

keras.utils.set_random_seed(1)
model = keras.Sequential(
    [
        keras.Input((8, 8)),
        layers.Flatten(),
        layers.Dense(32, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(
    x_train,
    y_train,
    epochs=100,
    validation_split=0.1,
    # Stops when the images that were put aside have been judged no better for five epochs.
    callbacks=[keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True)],
    verbose=0,
)
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"{len(model.history.epoch)} epochs, test accuracy {accuracy:.3f}")

probabilities = model.predict(x_test[:5], verbose=0)
for p, digit in zip(probabilities, y_test[:5], strict=True):
    print(f"a {digit}, taken for a {p.argmax()} with probability {p.max():.2f}")
