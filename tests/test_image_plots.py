"""Pictures of images: grids, augmentation, filters, mistakes, activation maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from handmill import Input, Model, Sequential, layers, plot, utils
from handmill.preprocessing.image import ImageDataGenerator

RNG = np.random.default_rng(0)


def drawn(figure: Any) -> list[np.ndarray]:
    """The levels of each image."""
    return [np.asarray(axes.get_images()[0].get_array()) for axes in figure.axes]


def titles(figure: Any) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


@pytest.mark.parametrize(
    ("x", "levels"),
    (
        (np.array([[[0, 51]], [[102, 255]]], np.uint8), [[[0, 0.2]], [[0.4, 1]]]),
        (np.array([[[0, 51.0]], [[102, 255]]]), [[[0, 0.2]], [[0.4, 1]]]),
        (np.array([[[0.25, 1.0]], [[0, 0.5]]]), [[[0.25, 1]], [[0, 0.5]]]),
        (np.array([[[-1.0, 1.0]], [[0, 3.0]]]), [[[0, 0.5]], [[0.25, 1]]]),
        (np.array([[[True, False]]]), [[[1, 0]]]),
        (np.full((1, 1, 2), 7.0) - 9, [[[0, 0]]]),  # nothing to stretch
    ),
)
@pytest.mark.parametrize("channels", (None, 1, 3))
def test_levels(x: np.ndarray, levels: Any, channels: int | None) -> None:
    if channels is not None:
        x = np.repeat(x[..., None], channels, axis=-1)
    for got, wanted in zip(drawn(plot.images(x)), levels, strict=True):
        wanted = (
            np.asarray(wanted) if channels != 3 else np.repeat(np.array(wanted)[..., None], 3, -1)
        )
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_a_grid_goes_to_a_file(tmp_path: Any) -> None:
    figure = plot.images(
        np.zeros((5, 4, 4, 3)), titles=list("abcde"), columns=2, to_file=tmp_path / "grid.png"
    )
    assert (tmp_path / "grid.png").read_bytes()[:4] == b"\x89PNG"
    assert titles(figure) == list("abcde")
    places = [axes.get_subplotspec() for axes in figure.axes]
    assert [(place.rowspan.start, place.colspan.start) for place in places] == [
        (0, 0), (0, 1), (1, 0), (1, 1), (2, 0)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "text"),
    (
        (lambda: plot.images(np.zeros((4, 4))), r"1, 3 or 4 channels, got the shape \(4, 4\)"),
        (lambda: plot.images(np.zeros((1, 4, 4, 2))), r"\(1, 4, 4, 2\)"),
        (lambda: plot.images(np.zeros((0, 4, 4, 3))), "no image"),
        (lambda: plot.images(np.full((1, 2, 2), np.nan)), "NaN"),
        (lambda: plot.images(np.zeros((2, 2, 2)), titles=["a"]), "2 images, but 1 titles"),
        (lambda: plot.images(np.zeros((2, 2, 2)), columns=0), "of 1 or more"),
        (lambda: plot.augmentations(lambda x: x, np.zeros((1, 2, 2)), views=0), "of 1 or more"),
        (lambda: plot.filters(layers.Dense(2)), "a built layer with a kernel"),
        (lambda: plot.filters(np.zeros((3, 3))), "a built layer with a kernel"),
        (lambda: plot.filters(np.zeros((3, 3, 1, 4)), count=-1), "`count` must be.*of 1 or more"),
        (lambda: plot.filters(np.full((3, 3, 1, 4), np.nan)), "kernel holds NaN"),
    ),
)
def test_what_cannot_be_drawn(call: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call()


def test_augmentations_stand_beside_their_originals() -> None:
    x = RNG.random((2, 4, 6, 1))
    figure = plot.augmentations(lambda batch: batch / 2, x, views=3)
    found = drawn(figure)
    assert titles(figure)[0] == "original"
    for row in range(2):
        np.testing.assert_allclose(found[4 * row], x[row, ..., 0], rtol=1e-6)
        for view in range(1, 4):
            np.testing.assert_allclose(found[4 * row + view], x[row, ..., 0] / 2, rtol=1e-6)


def test_augmentation_by_layers_and_generators() -> None:
    x = RNG.random((2, 6, 6, 1), np.float32)
    noisy = drawn(plot.augmentations(layers.GaussianNoise(0.3, seed=1), x, views=2))
    assert not np.array_equal(noisy[1], noisy[2])  # in training every view is another
    flips = drawn(plot.augmentations(ImageDataGenerator(horizontal_flip=True), x, views=12))
    for view in flips[1:13]:
        same = np.allclose(view, x[0, ..., 0]), np.allclose(view, x[0, :, ::-1, 0])
        assert sum(same) == 1
    cropped = drawn(plot.augmentations(layers.Cropping2D(1), x, views=1))
    assert [image.shape for image in cropped] == [(6, 6), (4, 4)] * 2
    with pytest.raises(TypeError, match="a function of a batch of images, got int"):
        plot.augmentations(3, x)


def test_filters() -> None:
    colours = RNG.normal(size=(3, 3, 3, 5)).astype("float32")
    for got, wanted in zip(drawn(plot.filters(colours)), np.moveaxis(colours, -1, 0), strict=True):
        np.testing.assert_allclose(got, (wanted - wanted.min()) / np.ptp(wanted), atol=1e-6)
    conv = layers.Conv2D(4, 3)
    conv.build((None, 8, 8, 1))
    kernel = np.asarray(conv.kernel)
    figure = plot.filters(conv, count=3)
    assert titles(figure) == ["0", "1", "2"]
    for number, got in enumerate(drawn(figure)):
        one = kernel[:, :, 0, number]
        np.testing.assert_allclose(got, 0.5 + one / np.abs(one).max() / 2, atol=1e-6)
    back = layers.Conv2DTranspose(2, 3)
    back.build((None, 8, 8, 3))
    first = np.asarray(back.kernel)[:, :, 0]  # of 2 filters that give to 3 channels
    got = drawn(plot.filters(back))
    assert len(got) == 2
    np.testing.assert_allclose(got[0], (first - first.min()) / np.ptp(first), atol=1e-6)
    many = drawn(plot.filters(RNG.normal(size=(3, 3, 40, 2))))
    assert len(many) == 2 * 16


def test_misclassified_are_sorted_by_certainty() -> None:
    scores = np.log([[0.93, 0.06, 0.01], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4], [0.05, 0.05, 0.9]])
    x = np.arange(4, dtype="float32").reshape(4, 1, 1, 1) / 3

    class Fixed(Model):
        def predict(self, x: Any, **options: Any) -> Any:
            return scores

    figure = plot.misclassified(Fixed(), x, np.array([1, 1, 0, 0]), labels=["a", "b", "c"])
    assert titles(figure) == ["b → a, 93 %", "a → c, 90 %", "a → c, 40 %"]
    assert figure.get_suptitle() == "3 of 4 are wrong"
    np.testing.assert_allclose(np.ravel(drawn(figure)), [0, 1, 2 / 3], rtol=1e-6)
    one_hot = np.eye(3)[[1, 1, 0, 0]]
    assert titles(plot.misclassified(Fixed(), x, one_hot, count=1)) == ["1 → 0, 93 %"]
    right = plot.misclassified(Fixed(), x, np.array([0, 1, 2, 2]))
    assert right.get_suptitle() == "0 of 4 are wrong"
    assert right.axes == []
    for wrong, text in (
        (lambda: plot.misclassified(Fixed(), x, [0, 1]), "4 images, but classes"),
        (lambda: plot.misclassified(Fixed(), x, [0, 1, 2, 3]), "class 3 of y"),
        (lambda: plot.misclassified(Fixed(), x, [0, -1, 2, 2]), "class -1 of y"),
        (lambda: plot.misclassified(Fixed(), x, [0, 1, 2, 2], count=0), "of 1 or more"),
        (lambda: plot.misclassified(Fixed(), x, [0, 1, 2, 2], labels=["a"]), "3 classes, but 1"),
    ):
        with pytest.raises(ValueError, match=text):
            wrong()


@pytest.mark.parametrize("kind", ("probability", "logit"))
def test_misclassified_of_two_classes(kind: str) -> None:
    class Fixed(Model):
        def predict(self, x: Any, **options: Any) -> Any:
            p = np.array([[0.25], [0.8], [0.9]])
            return p if kind == "probability" else np.log(p / (1 - p))

    figure = plot.misclassified(Fixed(), np.zeros((3, 2, 2, 3)), np.array([1, 1, 0]))
    assert titles(figure) == ["0 → 1, 90 %", "1 → 0, 75 %"]


def test_activation_maps_are_those_of_the_layer() -> None:
    utils.set_random_seed(1)  # else a relu may leave nothing to see
    inner = Sequential([Input((6, 6, 2)), layers.Conv2D(3, 3, name="deep")], name="encoder")
    model = Sequential(
        [
            Input((8, 8, 1)),
            layers.Conv2D(2, 3, activation="relu", name="first"),
            inner,
            layers.Flatten(name="flat"),
        ]
    )
    x = RNG.random((8, 8, 1), np.float32)
    first = model.layers[0]
    wanted = np.asarray(first(x[None]))[0]
    figure = plot.activation_maps(model, x, "first")
    assert titles(figure) == ["image", "0", "1"]
    assert figure.get_suptitle() == "first"
    image, *maps = drawn(figure)
    np.testing.assert_array_equal(image, x[..., 0])
    span = wanted.max() - wanted.min()
    for channel, got in enumerate(maps):
        np.testing.assert_allclose(got, (wanted[..., channel] - wanted.min()) / span, atol=1e-6)
    assert len(plot.activation_maps(model, x[None], first, count=1).axes) == 2
    assert len(plot.activation_maps(model, x, "encoder/deep").axes) == 4
    with pytest.raises(ValueError, match="'flat' has outputs of shape"):
        plot.activation_maps(model, x, "flat")
    with pytest.raises(ValueError, match="expected one image"):
        plot.activation_maps(model, np.zeros((2, 8, 8, 1)), "first")
    with pytest.raises(KeyError, match="Did you mean 'first'"):
        plot.activation_maps(model, x, "frist")
    first.bias.assign([np.nan, 0.0])
    with pytest.raises(ValueError, match="outputs of layer 'first' hold NaN"):
        plot.activation_maps(model, x, "first")
