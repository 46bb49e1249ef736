"""Data sets of folders of files, of time series, and cut in two."""

from __future__ import annotations

import random
import wave
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from handmill import preprocessing, utils
from handmill.data import Dataset
from handmill.data.images.resizing import INTERPOLATIONS, resized
from handmill.data.sound.rates import resampled
from handmill.data.sound.wav import read_wav

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes with files in folders of folders, and files that do not count."""
    folder = tmp_path_factory.mktemp("texts")
    for name, files in {
        "b": ["2.txt", "1.TXT", "x/7.txt", "note.md"],
        "a": ["9.txt", "10.txt", "11.txt", "12.txt", "13.txt"],
        ".hidden": ["1.txt"],
    }.items():
        for file in files:
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name}/{file} ünï")
    return folder


def contents(data: Dataset) -> list[tuple[str, Any]]:
    """Each text with its label."""
    return [
        (text, np.asarray(label).tolist())
        for batch in data
        for text, label in zip(*batch, strict=True)
    ]


def test_files_come_in_the_order_of_their_names(texts: Path) -> None:
    data = utils.text_dataset_from_directory(texts, shuffle=False, batch_size=3, verbose=False)
    names = ["a/10.txt", "a/11.txt", "a/12.txt", "a/13.txt", "a/9.txt", "b/1.TXT", "b/2.txt"]
    names.append("b/x/7.txt")
    assert contents(data) == [(f"{name} ünï", int(name[0] == "b")) for name in names]
    assert data.class_names == ["a", "b"]
    assert data.file_paths == [str(texts / name) for name in names]
    assert len(data) == 3


def test_labels(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def make(**options: Any) -> Dataset:
        return utils.text_dataset_from_directory(texts, shuffle=False, **options)

    def labels(data: Dataset) -> Any:
        return np.concatenate([y for _, y in data])

    numbers = labels(make())
    assert capsys.readouterr().out == "Found 8 files belonging to 2 classes.\n"
    assert numbers.dtype == np.int32
    assert numbers.tolist() == [0] * 5 + [1] * 3
    binary = labels(make(label_mode="binary"))
    assert binary.dtype == np.float32
    assert binary.tolist() == [[0.0]] * 5 + [[1.0]] * 3
    rows = labels(make(label_mode="categorical", class_names=["b", "a"]))
    assert rows.dtype == np.float32
    assert rows.tolist() == [[1, 0]] * 3 + [[0, 1]] * 5
    given = labels(make(labels=[3, 1, 2, 3, 1, 1, 2, 2, 0]))
    assert given.tolist() == [3, 1, 2, 3, 1, 1, 2, 2, 0]  # hidden folders count where nobody infers
    for options in ({"labels": None}, {"label_mode": None}):
        data = make(**options, batch_size=None)
        assert len([text for text in data if text.endswith("ünï")]) == 9
    capsys.readouterr()
    assert [t for x, _ in make(max_length=3) for t in x] == ["a/1"] * 4 + ["a/9"] + [
        "b/1",
        "b/2",
        "b/x",
    ]


def test_splits_are_those_of_keras(texts: Path, keras: ModuleType) -> None:
    """The list of files and labels under a seed, and which files are for validation."""
    listing = pytest.importorskip("keras.src.utils.dataset_utils").index_directory(
        str(texts), "inferred", (".txt",), shuffle=True, seed=7, verbose=False
    )
    paths, numbers = listing[0], [int(n) for n in listing[1]]
    train, validation = utils.text_dataset_from_directory(
        texts, seed=7, validation_split=0.4, subset="both", verbose=False
    )
    assert train.file_paths == paths[:-3]
    assert validation.file_paths == paths[-3:]
    expected = {Path(p).read_text(): n for p, n in zip(paths, numbers, strict=True)}
    assert contents(validation) == [
        (Path(p).read_text(), expected[Path(p).read_text()]) for p in paths[-3:]
    ]
    assert dict(contents(train)) | dict(contents(validation)) == expected
    alone = utils.text_dataset_from_directory(
        texts, seed=7, validation_split=0.4, subset="validation", verbose=False
    )
    assert sorted(contents(alone)) == sorted(contents(validation))


@pytest.mark.parametrize(
    ("options", "text"),
    (
        ({"labels": "guessed"}, '`labels` argument should be "inferred"'),
        ({"labels": [1, 2]}, "we found 9 files"),
        ({"labels": [1], "class_names": ["a"]}, "only pass `class_names` if"),
        ({"label_mode": "one"}, "`label_mode` argument"),
        ({"label_mode": "binary", "class_names": ["a"]}, "exactly 2 class_names"),
        ({"class_names": ["c"]}, "did not match the names"),
        ({"labels": None, "class_names": ["a"]}, "cannot be specified"),
        ({"validation_split": 0.2}, "and inversely"),
        ({"validation_split": 2.0, "subset": "training"}, "between 0 and 1"),
        ({"validation_split": 0.2, "subset": "test"}, "`subset` must be either"),
        ({"validation_split": 0.2, "subset": "training"}, "provide a `seed`"),
        ({"validation_split": 0.01, "subset": "validation", "seed": 1}, "No validation text files"),
        ({"format": "csv"}, "`format` should be either"),
        ({"max_length": -1}, "`max_length`"),
    ),
)
def test_arguments_that_contradict(texts: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        utils.text_dataset_from_directory(texts, verbose=False, **options)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such directory"):
        utils.text_dataset_from_directory(tmp_path / "absent")
    for name in ("text.txt", "image.png", "sound.wav"):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / name).write_bytes(b"\xff\xfe\xfa")
    for make, error, name in (
        (utils.text_dataset_from_directory, ValueError, "text.txt"),
        (utils.image_dataset_from_directory, OSError, "image.png"),
        (utils.audio_dataset_from_directory, ValueError, "sound.wav"),
    ):
        with pytest.raises(error, match=f"cannot read .*{name}"):
            next(iter(make(tmp_path, verbose=False)))


# Images.


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("images")
    for name, files in {"cat": ["1.png", "2.bmp"], "dog": ["1.gif", "3.PNG", "4.txt"]}.items():
        (folder / name).mkdir()
        for i, file in enumerate(files):
            if file.endswith("txt"):
                (folder / name / file).write_text("no image")
                continue
            pixels = RNG.integers(0, 256, (9 + i, 7, 3)).astype("uint8")
            image.fromarray(pixels).save(folder / name / file)
    return folder


@pytest.mark.parametrize(
    ("interpolation", "fit"),
    (
        ("bilinear", "stretch"),
        ("bilinear", "crop"),
        ("nearest", "stretch"),
        ("bicubic", "stretch"),
        ("lanczos3", "stretch"),
        ("lanczos5", "crop"),
    ),
)
def test_resizing_is_that_of_keras(keras: ModuleType, interpolation: str, fit: str) -> None:
    size = (5, 16)
    image = RNG.integers(0, 256, (9, 7, 3)).astype("uint8")
    expected = np.asarray(
        keras.ops.image.resize(
            image.astype("float32"),
            size,
            interpolation=interpolation,
            crop_to_aspect_ratio=fit == "crop",
            data_format="channels_last",
        )
    )
    found = resized(image, size, interpolation, fit)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)  # of 255


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_resizing_keeps_what_is_flat_and_what_is_a_line(interpolation: str) -> None:
    flat = np.full((6, 8, 1), 77.0)
    np.testing.assert_allclose(resized(flat, (11, 3), interpolation, "stretch"), 77.0, rtol=1e-6)
    if interpolation != "nearest":
        line = np.repeat(np.arange(32.0)[:, None, None], 4, axis=1)
        half = resized(line, (16, 4), interpolation, "stretch")[:, :, 0]
        middle = np.arange(0.5, 32, 2)[:, None]
        assert abs(half - middle)[4:-4].max() < 1e-4


def test_area_is_the_mean_of_what_a_pixel_covers() -> None:
    image = RNG.normal(size=(6, 9, 2))
    found = resized(image, (3, 3), "area", "stretch")
    np.testing.assert_allclose(found, image.reshape(3, 2, 3, 3, 2).mean((1, 3)), rtol=1e-5)
    wide = resized(image[:3], (2, 9), "area", "stretch")
    expected = (image[0] + image[1] / 2) / 1.5
    np.testing.assert_allclose(wide[0], expected, rtol=1e-5, atol=1e-6)


def test_padding_puts_the_image_in_the_middle() -> None:
    image = np.ones((4, 2, 1))
    found = resized(image, (4, 4), "bilinear", "pad")[:, :, 0]
    assert found.tolist() == [[0, 1, 1, 0]] * 4


@pytest.mark.parametrize("color_mode", ("rgb", "rgba", "grayscale"))
@pytest.mark.parametrize("data_format", ("channels_last", "channels_first"))
def test_images(images: Path, color_mode: str, data_format: str) -> None:
    data = preprocessing.image_dataset_from_directory(
        images,
        image_size=(8, 6),
        color_mode=color_mode,
        shuffle=False,
        batch_size=3,
        data_format=data_format,
        verbose=False,
    )
    assert [Path(p).name for p in data.file_paths] == ["1.png", "2.bmp", "1.gif", "3.PNG"]
    channels = {"rgb": 3, "rgba": 4, "grayscale": 1}[color_mode]
    first, second = list(data)
    wanted = (3, 8, 6, channels) if data_format == "channels_last" else (3, channels, 8, 6)
    assert first[0].shape == wanted
    assert second[0].shape == (1, *wanted[1:])
    assert first[0].dtype == np.float32
    assert np.concatenate([first[1], second[1]]).tolist() == [0, 0, 1, 1]
    pixels = utils.img_to_array(utils.load_img(data.file_paths[0], color_mode=color_mode))
    expected = resized(pixels, (8, 6), "bilinear", "stretch")
    if data_format == "channels_first":
        expected = expected.transpose(2, 0, 1)
    np.testing.assert_array_equal(first[0][0], expected)


def test_passes_over_images_have_orders_that_follow_the_seed(images: Path) -> None:
    def make() -> Dataset:
        return utils.image_dataset_from_directory(images, image_size=4, seed=3, verbose=False)

    data, again = make(), make()
    for _ in range(2):
        for (x, y), (u, v) in zip(data, again, strict=True):
            np.testing.assert_array_equal(x, u)
            np.testing.assert_array_equal(y, v)


@pytest.mark.parametrize(
    ("options", "text"),
    (
        ({"color_mode": "hsv"}, "color_mode"),
        ({"image_size": (4,)}, "`image_size`"),
        ({"image_size": (0, 4)}, "`image_size`"),
        ({"interpolation": "linear"}, "`interpolation`"),
        ({"crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True}, "Only one of"),
        ({"data_format": "NHWC"}, "data_format"),
    ),
)
def test_arguments_of_images(images: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        utils.image_dataset_from_directory(images, verbose=False, **options)


# Recordings.


def write_wav(path: Path, samples: Any, width: int = 2, rate: int = 8000) -> None:
    path.parent.mkdir(exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((samples.shape[1], width, rate, 0, "NONE", ""))
        if width == 3:
            data = samples.astype("<i4")[..., None].view(np.uint8)[..., :3].tobytes()
        else:
            data = samples.astype({1: "u1", 2: "<i2", 4: "<i4"}[width]).tobytes()
        file.writeframes(data)


@pytest.mark.parametrize("width", (1, 2, 3, 4))
def test_samples_of_any_width(tmp_path: Path, width: int) -> None:
    top = 2 ** (8 * width - 1)
    values = np.array([[-top, top - 1], [0, top // 2]])
    write_wav(tmp_path / "a.wav", values + (128 if width == 1 else 0), width, 44100)
    found, rate = read_wav(str(tmp_path / "a.wav"))
    assert rate == 44100
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, values / top, rtol=1e-6)


def test_recordings(tmp_path: Path) -> None:
    for name, length in (("a/1.wav", 5), ("a/2.wav", 3), ("b/1.wav", 4)):
        write_wav(tmp_path / name, np.full((length, 2), 16384))
    data = utils.audio_dataset_from_directory(tmp_path, shuffle=False, verbose=False)
    (batch,) = data
    assert batch[0].shape == (3, 5, 2)
    assert batch[0][:, :, 0].tolist() == [[0.5] * 5, [0.5] * 3 + [0, 0], [0.5] * 4 + [0]]
    assert batch[1].tolist() == [0, 0, 1]
    cut = utils.audio_dataset_from_directory(
        tmp_path, labels=None, output_sequence_length=4, shuffle=False, verbose=False
    )
    assert next(iter(cut))[:, :, 1].tolist() == [[0.5] * 4, [0.5] * 3 + [0], [0.5] * 4]
    slower = utils.audio_dataset_from_directory(
        tmp_path, output_sequence_length=4, sampling_rate=4000, verbose=False
    )
    assert next(iter(slower))[0].shape == (3, 2, 2)
    with pytest.raises(ValueError, match="ragged"):
        utils.audio_dataset_from_directory(tmp_path, ragged=True)
    with pytest.raises(ValueError, match="`sampling_rate`"):
        utils.audio_dataset_from_directory(tmp_path, sampling_rate=0)


@pytest.mark.parametrize(("rate", "wanted"), ((8000, 16000), (44100, 16000), (16000, 44100)))
def test_a_tone_stays_a_tone_at_another_rate(rate: int, wanted: int) -> None:
    def tone(per_second: int) -> Any:
        return np.sin(2 * np.pi * 440 * np.arange(per_second // 4) / per_second)[:, None]

    found = resampled(tone(rate).astype("float32"), rate, wanted)
    assert len(found) == wanted // 4
    middle = slice(wanted // 40, -wanted // 40)
    assert abs(found - tone(wanted))[middle].max() < 0.01


# Time series.


@pytest.mark.parametrize("rate", (1, 2))
@pytest.mark.parametrize("stride", (1, 3))
@pytest.mark.parametrize(("start", "end"), ((None, None), (4, 33)))
def test_windows(rate: int, stride: int, start: int | None, end: int | None) -> None:
    series = RNG.normal(size=(40, 3)).astype("float32")
    targets = np.arange(40)
    data = utils.timeseries_dataset_from_array(
        series, targets, 5, stride, rate, batch_size=4, start_index=start, end_index=end
    )
    first, last = start or 0, end or 40
    begins = [i for i in range(first, last, stride) if i + 4 * rate < last]
    x = np.concatenate([x for x, _ in data])
    y = np.concatenate([y for _, y in data])
    assert y.tolist() == begins
    np.testing.assert_array_equal(x, np.stack([series[i : i + 5 * rate : rate] for i in begins]))
    alone = utils.timeseries_dataset_from_array(
        series, None, 5, stride, rate, batch_size=None, start_index=start, end_index=end
    )
    np.testing.assert_array_equal(np.stack(list(alone)), x)


def test_shuffled_windows() -> None:
    series = np.arange(50)
    order = np.arange(48)
    np.random.RandomState(9).shuffle(order)

    def make() -> Dataset:
        return utils.timeseries_dataset_from_array(
            series, None, 3, batch_size=2, shuffle=True, seed=9
        )

    data, again = make(), make()
    first, second = ([int(x) for b in data for x in b[:, 0]] for _ in range(2))
    assert first != second
    assert sorted(first) == sorted(second) == list(range(48))
    assert [int(x) for b in again for x in b[:, 0]] == first
    # Within the reach of the buffer, of 8 batches, windows come in NumPy's order.
    places = {start: place for place, start in enumerate(order.tolist())}
    assert all(places[start] < place + 16 for place, start in enumerate(first))


@pytest.mark.parametrize(
    ("options", "text"),
    (
        ({"start_index": -1}, "0 or greater"),
        ({"start_index": 10}, "lower than the length"),
        ({"end_index": 10}, "lower than the length"),
        ({"end_index": 2, "start_index": 3}, "higher than `start_index`"),
        ({"end_index": -2}, "higher than 0"),
        ({"sampling_rate": 0}, "`sampling_rate` must be higher"),
        ({"sequence_stride": 10}, "`sequence_stride` must be lower"),
        ({"sequence_length": 11}, "no window"),
        ({"sequence_length": 0}, "`sequence_length`"),
    ),
)
def test_arguments_of_windows(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        utils.timeseries_dataset_from_array(np.arange(10), None, **{"sequence_length": 3} | options)


# Cutting in two.


def values(data: Dataset) -> list[Any]:
    return [np.asarray(e).tolist() for e in data]


@pytest.mark.parametrize(
    ("sizes", "counts"),
    (((0.8, None), (8, 2)), ((None, 3), (7, 3)), ((2, 0.5), (2, 5)), ((0.25, None), (2, 8))),
)
def test_split(sizes: tuple[Any, Any], counts: tuple[int, int]) -> None:
    left, right = utils.split_dataset(np.arange(10), *sizes)
    assert values(left) == list(range(counts[0]))
    assert values(right) == list(range(10 - counts[1], 10))


def test_split_mixes_as_keras_does() -> None:
    """Keras shuffles a list of samples with Python's generator, seeded."""
    order = list(range(10))
    random.Random(5).shuffle(order)
    state = random.getstate()
    left, right = utils.split_dataset(np.arange(10), left_size=7, shuffle=True, seed=5)
    assert random.getstate() == state
    assert values(left) + values(right) == order


def test_split_of_pairs_and_data_sets() -> None:
    x, y = np.arange(12).reshape(6, 2), np.arange(6)
    left, right = utils.split_dataset([x, y], 0.5)
    assert [(a.tolist(), int(b)) for a, b in right] == [
        (a.tolist(), int(b)) for a, b in zip(x[3:], y[3:], strict=True)
    ]
    batches: Callable[[Dataset], list[Any]] = lambda d: [(len(a), b.tolist()) for a, b in d]  # noqa: E731
    for data in (
        Dataset.from_tensor_slices((x, y)).batch(2).prefetch(1),
        Dataset.from_generator(lambda: zip(x, y, strict=True)).batch(2).prefetch(1),
    ):
        left, right = utils.split_dataset(data, right_size=3)
        assert batches(left) == [(2, [0, 1]), (1, [2])]
        assert batches(right) == [(2, [3, 4]), (1, [5])]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    (
        ((np.arange(4),), ValueError, "At least one"),
        ((np.arange(4), 4), ValueError, "smaller than 4"),
        ((np.arange(4), 1.5), ValueError, "within the range"),
        ((np.arange(4), 0.9, 3), ValueError, "should not exceed"),
        ((np.arange(4), 0.01), ValueError, "without samples"),
        ((np.arange(4), "half"), TypeError, "integer or a float"),
        (([], 0.5), ValueError, "no data"),
        ((5, 0.5), TypeError, "must be an array"),
        (([np.arange(3), np.arange(4)], 0.5), ValueError, "differ in their numbers of rows"),
        ((Dataset.range(3).repeat(), 0.5), ValueError, "endless"),
    ),
)
def test_split_refuses(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        utils.split_dataset(*arguments)


@pytest.mark.parametrize(
    ("seed", "error"), (("a", TypeError), (1.5, TypeError), (-1, ValueError), (2**32, ValueError))
)
def test_seeds_that_are_none_are_named(texts: Path, seed: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="`seed` must be"):
        utils.text_dataset_from_directory(texts, seed=seed, verbose=False)
