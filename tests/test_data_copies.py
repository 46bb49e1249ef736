"""Copies of data sets and iterators, by copy and pickle, at any moment of a pass."""

from __future__ import annotations

import copy
import pickle
import wave
from typing import Any

import numpy as np
import pytest

from handmill.data import CropAndFlip, Dataset
from handmill.preprocessing.image import ImageDataGenerator
from handmill.utils import (
    audio_dataset_from_directory,
    image_dataset_from_directory,
    text_dataset_from_directory,
    timeseries_dataset_from_array,
)

_IMAGES = np.random.default_rng(0).integers(0, 256, (7, 6, 5, 3), dtype=np.uint8)


def _through_pickle(x: Any) -> Any:
    return pickle.loads(pickle.dumps(x))


def _more(x: Any) -> Any:
    return x + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pillow = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("data")
    for name in ("cat", "dog"):
        (root / name).mkdir()
        for number in range(3):
            pillow.fromarray(_IMAGES[number]).save(root / name / f"{number}.png")
            (root / name / f"{number}.txt").write_text(f"{name} {number}")
            with wave.open(str(root / name / f"{number}.wav"), "wb") as file:
                file.setparams((1, 2, 8000, 0, "NONE", ""))
                file.writeframes(bytes([number]) * 20)
    return root


def _chains(folder):
    rows = Dataset.from_tensor_slices(_IMAGES).shuffle(7, seed=1).batch(2)
    read = {"image_size": (4, 4), "batch_size": 2, "seed": 3, "verbose": False}
    plain = {"batch_size": 2, "seed": 3, "verbose": False}
    return {
        "rows": rows,
        "map": rows.map(_more, 2).prefetch(2),
        "map_rows": rows.map_rows(CropAndFlip(2, "alternating", seed=3)),
        "cache": rows.map(_more).cache(),
        "windows": timeseries_dataset_from_array(np.arange(9.0), np.arange(9.0), 3, batch_size=2),
        "images": image_dataset_from_directory(folder, **read),
        "kept images": image_dataset_from_directory(folder, cache_bytes=10**6, **read),
        "single images": image_dataset_from_directory(
            folder, **{**read, "batch_size": None}, skip_corrupt=True
        ),
        "texts": text_dataset_from_directory(folder, **plain),
        "recordings": audio_dataset_from_directory(folder, output_sequence_length=8, **plain),
    }


def _assert_equal(one, other):
    if isinstance(one, tuple):
        for a, b in zip(one, other, strict=True):
            _assert_equal(a, b)
    else:
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("copied", (copy.deepcopy, _through_pickle))
@pytest.mark.parametrize("taken", (0, 1, None))
def test_a_copied_data_set_stands_where_the_first_stands(folder, taken, copied):
    for name, data in _chains(folder).items():
        passing = iter(data) if taken != 0 else None
        if taken is None:
            list(passing)
        elif passing is not None:
            next(passing)
        other = copied(data)
        assert other.get_state() == data.get_state(), name
        again = copied(data)
        again.set_state(data.get_state())
        if passing is not None:
            _assert_equal(tuple(passing), tuple(again))  # the rest of the pass
        _assert_equal(tuple(data), tuple(other))  # the next one


@pytest.mark.parametrize("copied", (copy.deepcopy, _through_pickle))
@pytest.mark.parametrize("taken", (0, 2))
def test_a_copied_flow_goes_on_with_the_same_batches(folder, taken, copied, tmp_path):
    made = copied(ImageDataGenerator(rotation_range=20))
    y = np.arange(7)
    saved = {"save_to_dir": tmp_path}
    flows = [
        made.flow(_IMAGES, y, batch_size=2, seed=1),
        made.flow(_IMAGES, y, batch_size=2, seed=1, **saved),
        made.flow_from_directory(folder, target_size=(4, 4), batch_size=2, seed=1),
    ]
    for flow in flows:
        for _ in range(taken):
            next(flow)
        other = copied(flow)
        _assert_equal(next(flow), next(other))
        _assert_equal(flow[1], other[1])


@pytest.mark.parametrize("given", (-1, 1.5, "1", True, None))
def test_bytes_that_are_no_number_are_refused_before_anything_is_read(folder, given):
    with pytest.raises(ValueError, match=r"`cache_bytes` must be a whole number of 0 or more"):
        image_dataset_from_directory(folder, cache_bytes=given, verbose=False)


@pytest.mark.parametrize("mode", ("reflect", "constant", "edge"))
def test_crops_are_those_of_numpy_in_any_memory_order(mode):
    rows = np.arange(7)
    crop = CropAndFlip(2, None, mode, seed=4)
    found = crop(0, rows, _IMAGES)
    padded = np.pad(_IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)), mode=mode)
    for image, around in zip(found, padded, strict=True):
        windows = [around[i : i + 6, j : j + 5] for i in range(5) for j in range(5)]
        assert any(np.array_equal(image, window) for window in windows)
    for layout in (np.asfortranarray(_IMAGES), _IMAGES[::-1][::-1], _IMAGES.tolist()):
        np.testing.assert_array_equal(crop(0, rows.tolist(), layout), found)


def test_crops_say_what_they_are_for_where_rows_are_missing():
    with pytest.raises(ValueError, match=r"for each of 7 images.*shape \(3,\).*map_rows"):
        CropAndFlip(1)(0, np.arange(3), _IMAGES)
    with pytest.raises(ValueError, match=r"CropAndFlip: `seed` must be a whole number"):
        CropAndFlip(1, seed="x")
