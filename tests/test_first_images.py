"""What goes wrong in the first hour with images is said with its remedy."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import applications, layers, models
from handmill.errors import TrainingWarning


def net(shape: tuple[Any, ...] = (6, 7, 3)) -> Any:
    model = models.Sequential([layers.Input(shape), layers.GlobalMaxPooling2D(), layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("given", "words"),
    (
        ("cat.JPG", r"img_to_array\(utils\.load_img\(x, target_size=\(H, W\)\)\)\[None\]"),
        (b"cat.png", "read the image"),
        ("cats.csv", r"numpy\.load or pandas"),
        (np.zeros((2, 5, 5, 3)), r"hint: resize the images: layers\.Resizing\(6, 7\)"),
        (np.zeros((2, 6, 7, 1)), "hint: read files with color_mode='rgb'"),
        (np.zeros((2, 4, 7, 4)), r"Resizing\(6, 7\).*color_mode='rgb'"),
        ([np.zeros((6, 7, 3))] * 3, r"received 3 inputs.*np\.stack\(x\) joins samples"),
        ([np.zeros((6, 7, 3)), np.zeros((5, 7, 3))], r"ambiguous.*np\.stack\(x\) joins samples"),
    ),
    ids=("path", "bytes", "table", "size", "channels", "both", "list", "ragged"),
)
def test_wrong_images_are_named_with_their_remedy(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){words}"):
        net().predict(given, verbose=0)


def test_open_sizes_are_no_wrong_sizes() -> None:
    with pytest.raises(ValueError, match="color_mode='grayscale'") as caught:
        net((None, None, 1)).predict(np.zeros((2, 5, 5, 3)), verbose=0)
    assert "resize" not in str(caught.value)


def test_an_image_of_pillow() -> None:
    image = pytest.importorskip("PIL.Image").new("RGB", (7, 6))
    with pytest.raises(ValueError, match=r"utils\.img_to_array\(x\)\[None\]"):
        net().predict(image, verbose=0)
    assert net().predict(handmill.utils.img_to_array(image)[None], verbose=0).shape == (1, 1)


def test_images_beside_the_folders_of_classes(tmp_path: Any) -> None:
    for name in ("a.jpg", "b.PNG", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"2 lie in the directory itself.*one for each class"):
        handmill.utils.image_dataset_from_directory(tmp_path, verbose=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="No images found") as caught:
        handmill.utils.image_dataset_from_directory(tmp_path / "empty", verbose=False)
    assert "hint" not in str(caught.value)


def test_classes_whose_files_have_another_format(tmp_path: Any) -> None:
    for name in ("cats/0.png", "dogs/0.webp"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"no images \(\.bmp.*in the class folder\(s\) 'dogs'"):
        data = handmill.utils.image_dataset_from_directory(tmp_path, verbose=False)
    assert data.class_names == ["cats", "dogs"]


def test_grayscale_images_for_weights_of_coloured_ones() -> None:
    """Which is said before a file of weights is looked for."""
    with pytest.raises(ValueError, match=r"(?s)3 channels.*color_mode='rgb'"):
        applications.MobileNetV2((96, 96, 1), include_top=False)


def frozen_base() -> Any:
    base = layers.Conv2D(2, 3)
    base.trainable = False
    parts = [layers.Input((6, 7, 3)), base, layers.GlobalMaxPooling2D(), layers.Dense(1)]
    model = models.Sequential(parts)
    model.compile("sgd", "mse")
    return model


def test_a_data_set_of_files_is_not_cached(tmp_path: Any) -> None:
    pytest.importorskip("PIL")
    for name in "ab":
        (tmp_path / name).mkdir()
        handmill.utils.save_img(tmp_path / name / "0.png", np.zeros((6, 7, 3)))
    data = handmill.utils.image_dataset_from_directory(tmp_path, image_size=(6, 7), verbose=False)
    with pytest.raises(ValueError, match=r"this Dataset makes batches of its own.*zip\(\*data\)"):
        frozen_base().fit(data, verbose=0, cache_frozen=True)
    x, y = (np.concatenate(part) for part in zip(*data, strict=True))  # the remedy
    assert x.shape == (2, 6, 7, 3)
    assert sorted(y) == [0, 1]


def test_trainable_that_changes_after_compile_is_warned_of() -> None:
    base = layers.Dense(3)
    base.trainable = False
    model = models.Sequential([layers.Input((4,)), base, layers.Dense(1)])
    x, y = np.ones((8, 4), np.float32), np.ones(8)
    model.compile("sgd", "mse")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(x, y, verbose=0)
        model.fit(x, y, verbose=0)
    before = base.get_weights()
    base.trainable = True
    with pytest.warns(TrainingWarning, match=r"2 thawed since compile\(\)"):
        model.fit(x, y, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, base.get_weights(), strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.compile("sgd", "mse")
        model.fit(x, y, verbose=0)
        assert not np.array_equal(before[0], base.get_weights()[0])
        model.compile("sgd", "mse", run_eagerly=True)  # where a change counts at once
        model.fit(x, y, verbose=0)
        model.layers[1].trainable = False
        model.fit(x, y, verbose=0)
