"""Sentences of movie reviews, good or bad: a bag of words, a BiLSTM, a small transformer.

    python examples/movie_reviews.py [--seeds 3] [--only bag,bilstm,transformer] [--data FOLDER]

10,662 sentences of Pang and Lee (2005); a fifth is the test, another fifth of the rest chooses the
pass whose weights are kept. Texts are cleaned of markup, words without a vector from elsewhere: all
that the networks know they have learned from 6,800 sentences.

Seeds 0 to 2: bag 75.8 +- 0.5 %, BiLSTM 75.1 +- 0.4 %, transformer 75.1 +- 0.8 %, each with an
interval of some +- 1.8 points for 2,132 sentences: none is better than another (McNemar's test).
50 s of processor time a seed for all three on one core (AMD EPYC, Zen 3).
"""

from __future__ import annotations

import itertools

import numpy as np
from recipes import frame

import handmill as keras
from handmill import hub, layers, optimizers
from handmill.strategy import mcnemar_test, wilson_interval

WORDS, LENGTH, WIDTH = 12000, 40, 64
EPOCHS = {"bag": 12, "bilstm": 6, "transformer": 10}


def load(options):
    """(texts, labels) to learn from, to choose by and to test on: three, two of ten thousand."""
    texts, labels = [], []
    for label, name in enumerate(("neg", "pos")):
        file = options.data / f"movie_reviews_{name}.txt"
        lines = file.read_text("utf-8").split("\n")
        lines = [line.strip() for line in lines if line.strip()]
        texts += lines
        labels += [label] * len(lines)
    order = np.random.default_rng(0).permutation(len(texts))
    texts, labels = np.array(texts, object)[order], np.array(labels, "int32")[order]
    if options.quick:
        texts, labels = texts[:400], labels[:400]
    test = len(texts) // 5
    choose = test + (len(texts) - test) // 5
    cuts = slice(choose, None), slice(test, choose), slice(0, test)
    return [(texts[cut], labels[cut]) for cut in cuts]


def bag(texts, seed):
    """Words and pairs of words that occur, weighed by how rare they are."""
    words = layers.TextVectorization(20000, ngrams=2, output_mode="tf_idf")
    words.adapt(texts)
    return words, keras.Sequential(
        [
            keras.Input((words.vocabulary_size(),)),
            layers.UnitNormalization(),
            layers.Dropout(0.3, seed=seed),
            layers.Dense(1),
        ]
    )


def numbers(texts):
    words = layers.TextVectorization(WORDS, output_sequence_length=LENGTH)
    words.adapt(texts)
    return words


def bilstm(texts, seed):
    return numbers(texts), keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            layers.Embedding(WORDS, WIDTH, mask_zero=True),
            layers.Dropout(0.5, seed=seed),
            layers.Bidirectional(layers.LSTM(WIDTH, return_sequences=True)),
            layers.GlobalAveragePooling1D(),
            layers.Dropout(0.5, seed=seed + 1),
            layers.Dense(1),
        ]
    )


def transformer(texts, seed):
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = hub.layers.TokenAndPositionEmbedding(WORDS, LENGTH, WIDTH, mask_zero=True)(inputs)
    x = layers.Dropout(0.5, seed=seed)(x)
    x = hub.layers.TransformerEncoder(2 * WIDTH, 4, dropout=0.3, normalize_first=True)(x)
    x = layers.Dropout(0.5, seed=seed + 1)(layers.GlobalAveragePooling1D()(x))
    return numbers(texts), keras.Model(inputs, layers.Dense(1)(x))


NETWORKS = {"bag": bag, "bilstm": bilstm, "transformer": transformer}


def learn(data, seed, options):
    (texts, labels), (others, other_labels), _ = data
    found = {}
    for name in options.only.split(","):
        keras.utils.set_random_seed(seed)
        words, model = NETWORKS[name](texts, seed)
        model.compile(
            optimizers.AdamW(1e-2 if name == "bag" else 2e-3, weight_decay=0.01),
            keras.losses.BinaryCrossentropy(from_logits=True),
            metrics=[keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")],
        )
        model.fit(
            words(texts),
            labels[:, None],
            batch_size=64,
            epochs=1 if options.quick else EPOCHS[name],
            validation_data=(words(others), other_labels[:, None]),
            callbacks=[
                keras.callbacks.EarlyStopping(
                    "val_accuracy", mode="max", patience=99, restore_best_weights=True
                )
            ],
            verbose=0,
        )
        found[name] = words, model
    return found


def test(models, data, options):
    texts, labels = data[2]
    right = {
        name: (model.predict(words(texts), verbose=0)[:, 0] > 0) == labels
        for name, (words, model) in models.items()
    }
    names = list(right)
    for name in names:
        low, high = wilson_interval(int(right[name].sum()), len(labels))[:2]
        print(f"{name}: {right[name].mean():.3f}, 95 % interval {low:.3f} to {high:.3f}")
    for first, second in itertools.pairwise(names):
        p = mcnemar_test(right[first], right[second])
        print(f"{first} and {second}: p {p:.3f} (McNemar, these networks, this test)")
    return {name: float(hits.mean()) for name, hits in right.items()}


if __name__ == "__main__":
    parser = frame.arguments(__doc__)
    parser.add_argument("--only", default="bag,bilstm,transformer")
    frame.run("movie_reviews", parser.parse_args(), load, learn, test)
