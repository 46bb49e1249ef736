"""Says what is on a small image: "a seven above a two", word by word.

    python examples/image_captions.py [--epochs 12] [--seeds 1] [--data FOLDER]

Images of 40x40 with two of MNIST's digits, above one another or side by side. Convolutions make 25
places of 64 numbers of an image; a decoder of two blocks looks at the words so far and at those
places, and tells the next word. Tested on digits that training has not seen, by whole captions.

Seed 0: 97.9 % of 2,000 captions are right from the first word to the last, after 239 s of processor
time on one core (AMD EPYC, Zen 3).
"""

from __future__ import annotations

import numpy as np
from recipes import frame

import handmill as keras
from handmill import hub, layers, optimizers

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
WORDS = ["<pad>", "<start>", "<end>", "a", "above", "beside", *DIGITS]
LENGTH = 7  # <start> a seven above a two <end>
SIZE, WIDTH = 40, 64


def captioned(images, labels, count, seed):
    """Images (N, 40, 40, 1) and the numbers of their words (N, 7)."""
    draws = np.random.default_rng(seed)
    pictures = np.zeros((count, SIZE, SIZE, 1), "float32")
    captions = np.zeros((count, LENGTH), "int32")
    for picture, caption in zip(pictures, captions, strict=True):
        pair = draws.integers(len(images), size=2)
        first, second = (images[i][4:24, 4:24] / np.float32(255) for i in pair)
        above = draws.random() < 0.5
        x, y = draws.integers(0, SIZE - 20, 2)
        place = [(0, x), (20, y)] if above else [(x, 0), (y, 20)]
        for small, (row, column) in zip((first, second), place, strict=True):
            picture[row : row + 20, column : column + 20, 0] = small
        one, other = (DIGITS[labels[i]] for i in pair)
        said = ["<start>", "a", one, "above" if above else "beside", "a", other, "<end>"]
        caption[:] = [WORDS.index(word) for word in said]
    return pictures, captions


def load(options):
    (images, labels), (others, other_labels) = frame.mnist(options)
    counts = (1000, 200) if options.quick else (30_000, 2_000)
    return (
        captioned(images, labels, counts[0], 0),
        captioned(others, other_labels, counts[1], 1),
    )


def network(seed):
    """Images and the words so far to logits of the word after each."""
    image, words = keras.Input((SIZE, SIZE, 1)), keras.Input((LENGTH - 1,), dtype="int32")
    x = image
    for filters in (16, 32, WIDTH):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.MaxPooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))
    places = hub.layers.PositionEmbedding(25)(layers.Reshape((25, WIDTH))(x))
    seen = layers.Add()([layers.Reshape((25, WIDTH))(x), places])
    said = hub.layers.TokenAndPositionEmbedding(len(WORDS), LENGTH - 1, WIDTH)(words)
    for i in range(2):
        said = hub.layers.TransformerDecoder(
            2 * WIDTH, 4, dropout=0.1, normalize_first=True, name=f"decoder_{i}"
        )(said, seen)
    logits = layers.Dense(len(WORDS))(layers.LayerNormalization()(said))
    return keras.Model([image, words], logits)


def learn(data, seed, options):
    (pictures, captions), _ = data
    keras.utils.set_random_seed(seed)
    model = network(seed)
    epochs = 1 if options.quick else options.epochs
    steps = epochs * -(-len(pictures) // 64)
    model.compile(
        optimizers.AdamW(optimizers.schedules.OneCycle(2e-3, steps), weight_decay=0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(
        [pictures, captions[:, :-1]], captions[:, 1:], batch_size=64, epochs=epochs, verbose=0
    )
    return model


def describe(model, pictures):
    """The likeliest word, one after the other; (N, 7) numbers of words."""
    said = np.zeros((len(pictures), LENGTH), "int32")
    said[:, 0] = WORDS.index("<start>")
    for place in range(LENGTH - 1):
        logits = model.predict([pictures, said[:, :-1]], batch_size=256, verbose=0)
        said[:, place + 1] = logits[:, place].argmax(-1)
    return said


def test(model, data, options):
    _, (pictures, captions) = data
    said = describe(model, pictures)
    for found, right in zip(said[:3], captions[:3], strict=True):
        texts = (" ".join(WORDS[i] for i in row[1:-1]) for row in (found, right))
        print("said: {}; right: {}".format(*texts))
    return {
        "whole captions right": float((said == captions).all(1).mean()),
        "words right": float((said == captions)[:, 1:].mean()),
    }


if __name__ == "__main__":
    parser = frame.arguments(__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    frame.run("image_captions", parser.parse_args(), load, learn, test)
