"""A table with numbers and categories: standardized, one-hot, classified; a confusion matrix."""

import keras
import numpy as np
from keras import layers
from seeded import seed_weights

rng = np.random.default_rng(1)
rows = 900
age = rng.uniform(18, 80, rows)
income = rng.lognormal(10, 0.5, rows)
city = rng.integers(0, 4, rows)
score = (age - 45) / 15 + np.log(income) - 10 + np.array([-1.0, 0.0, 0.5, 1.0])[city]
label = np.digitize(score + rng.normal(0, 0.3, rows), [-0.8, 0.8])

numbers = np.stack([age, np.log(income)], axis=1)
numbers = (numbers - numbers.mean(0)) / numbers.std(0)
x = np.concatenate([numbers, keras.utils.to_categorical(city, 4)], axis=1).astype("float32")
x_train, x_test, y_train, y_test = x[:700], x[700:], label[:700], label[700:]

inputs = keras.Input((x.shape[1],), name="table")
hidden = layers.Dense(32, activation="relu", kernel_regularizer="l2")(inputs)
hidden = layers.BatchNormalization()(hidden)
hidden = layers.Dense(16, activation="relu")(hidden)
outputs = layers.Dense(3, activation="softmax")(hidden)
model = seed_weights(keras.Model(inputs, outputs, name="table_classifier"))
model.compile(
    optimizer=keras.optimizers.Adam(learning_rate=0.005),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
)
history = model.fit(
    x_train,
    y_train,
    batch_size=50,
    epochs=12,
    validation_split=0.2,
    shuffle=False,
    verbose=0,
)
print(f"parameters {model.count_params()}")
print(f"loss {history.history['loss'][0]:.4f} -> {history.history['loss'][-1]:.4f}")
print(f"validation accuracy {history.history['val_accuracy'][-1]:.4f}")
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"test loss {loss:.4f}, accuracy {accuracy:.4f}")
found = np.argmax(model.predict(x_test, verbose=0), axis=1)
confusion = np.zeros((3, 3), int)
np.add.at(confusion, (y_test, found), 1)
print("confusion matrix\n", confusion)
