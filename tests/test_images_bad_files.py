"""Folders in which something is wrong: files that cannot be read, bombs, loops, many files."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PIL_Image = pytest.importorskip("PIL.Image", reason="reading images needs Pillow")

import handmill as keras  # noqa: E402
from handmill import config, layers  # noqa: E402
from handmill.data.reader import SMALL_FILE, reading_threads  # noqa: E402
from handmill.preprocessing.image import ImageDataGenerator  # noqa: E402
from handmill.utils import image_dataset_from_directory  # noqa: E402

CLASSES = ("cat", "Füchse und 狐", "with space")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of four images; the grey value of an image is 10 times its number."""
    for number in range(12):
        path = tmp_path / CLASSES[number // 4] / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        PIL_Image.new("RGB", (6, 8), (10 * number,) * 3).save(path)
    return tmp_path


def path_of(folder: Path, number: int) -> Path:
    return folder / CLASSES[number // 4] / f"{number:02}.png"


def flow(folder: Path, **arguments: Any) -> Any:
    arguments = {"target_size": (8, 6), "shuffle": False, "class_mode": "sparse", **arguments}
    arguments.setdefault("cache_bytes", 0)
    names = [*CLASSES]
    return ImageDataGenerator().flow_from_directory(
        folder, batch_size=4, classes=names, **arguments
    )


def data_set(folder: Path, **arguments: Any) -> Any:
    arguments = {"image_size": (8, 6), "shuffle": False, "batch_size": 4, **arguments}
    return image_dataset_from_directory(folder, class_names=[*CLASSES], verbose=False, **arguments)


def one_pass(data: Any) -> list[tuple[int, int]]:
    """The number and the class of each image."""
    batches = iter(data)
    found = [next(batches) for _ in range(3)]
    return [
        (round(float(image[0, 0, 0]) / 10), int(label))
        for x, y in found
        for image, label in zip(x, y, strict=True)
    ]


ALL = [(number, number // 4) for number in range(12)]


@pytest.mark.parametrize("make", (flow, data_set))
def test_a_file_that_goes_bad_in_a_later_pass_is_named(make: Any, folder: Path) -> None:
    data = make(folder)
    if make is flow:  # its next batches are made ahead: hold them back
        assert [data[i][1].tolist() for i in range(3)] == [[0.0] * 4, [1.0] * 4, [2.0] * 4]
    else:
        assert one_pass(data) == one_pass(data) == ALL
    path_of(folder, 6).write_bytes(b"\xff\xd8 no longer an image")
    with pytest.raises(OSError, match="cannot read image") as error:
        one_pass(data)
    assert str(path_of(folder, 6)) in str(error.value)


@pytest.mark.parametrize("make", (flow, data_set))
def test_corrupt_files_can_be_left_out(make: Any, folder: Path) -> None:
    path_of(folder, 6).write_bytes(b"")
    path_of(folder, 9).write_bytes(path_of(folder, 9).read_bytes()[:40])
    data = make(folder, skip_corrupt=True)
    here = Path(__file__).name
    with pytest.warns(UserWarning, match="skip_corrupt left out") as caught:
        assert one_pass(data) == [pair for pair in ALL if pair[0] not in (6, 9)]
    assert {Path(w.filename).name for w in caught} == {here}
    assert set(data.corrupt_files) == {str(path_of(folder, n)) for n in (6, 9)}
    assert "0 bytes" in data.corrupt_files[str(path_of(folder, 6))]
    with warnings.catch_warnings():  # told once
        warnings.simplefilter("error")
        assert len(one_pass(data)) == 10


@pytest.mark.filterwarnings("ignore:skip_corrupt left out")
@pytest.mark.parametrize("make", (flow, data_set))
def test_a_batch_without_any_readable_file_is_an_error(make: Any, folder: Path) -> None:
    for number in range(4, 8):
        path_of(folder, number).write_bytes(b"?")
    data = make(folder, skip_corrupt=True)
    with pytest.raises(OSError, match="none of the 4 files of a batch can be read"):
        one_pass(data)


def test_single_images_can_be_left_out(folder: Path) -> None:
    path_of(folder, 0).write_bytes(b"?")
    data = data_set(folder, batch_size=None, skip_corrupt=True)
    with pytest.warns(UserWarning, match="left out 1 file"):
        found = list(data)
    assert [int(label) for _, label in found] == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert found[0][0].shape == (8, 6, 3)
    assert found[0][0].dtype == np.float32
    assert data.cardinality() == -2
    assert data_set(folder, batch_size=None).cardinality() == 12


def test_training_goes_on_without_the_corrupt_ones(folder: Path) -> None:
    """The weights are those of training on the images that are left, in the same batches."""

    def trained(source: Any) -> list[np.ndarray]:
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(3, activation="softmax")]
        )
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(source, epochs=2, verbose=0)
        return model.get_weights()

    images = list(data_set(folder))
    images[1] = tuple(array[[0, 1, 3]] for array in images[1])
    path_of(folder, 6).write_bytes(b"?")
    with pytest.warns(UserWarning, match="left out 1 file"):
        got = trained(data_set(folder, skip_corrupt=True))

    def generate() -> Any:
        yield from images

    for a, b in zip(got, trained(keras.data.Dataset.from_generator(generate)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", (flow, data_set))
@pytest.mark.parametrize("skip", (False, True))
def test_a_photograph_that_is_damaged_before_the_third_epoch(
    make: Any, skip: bool, folder: Path
) -> None:
    """``fit`` ends with the name of the file, or goes on without it and counts it."""
    path = folder / CLASSES[2] / "z.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for name in ("y.jpg", "z.jpg"):  # both in the last batch
        PIL_Image.fromarray(noise).save(path.with_name(name))
    whole = path.read_bytes()
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 6, 3)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    ended = []

    class Damage(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            ended.append(model.get_weights())
            if epoch == 1:
                half = path.with_suffix(".half")  # at once: a thread may be reading
                half.write_bytes(whole[: len(whole) // 2])
                half.replace(path)

    data = make(folder, skip_corrupt=skip)
    if skip:
        with pytest.warns(UserWarning, match="skip_corrupt left out 1 file"):
            model.fit(data, epochs=6, verbose=0, callbacks=[Damage()])
        assert len(ended) == 6
        assert list(data.corrupt_files) == [str(path)]
        assert "truncated" in data.corrupt_files[str(path)]
        return
    with pytest.raises(OSError, match=r"cannot read image .*z\.jpg.*truncated"):
        model.fit(data, epochs=6, verbose=0, callbacks=[Damage()])
    assert 2 <= len(ended) <= 4  # batches of the next passes may have been read before
    assert all(np.isfinite(w).all() for w in model.get_weights())
    path.write_bytes(whole)
    model.fit(make(folder), verbose=0)


def test_images_kept_in_memory_are_bounded_and_equal(folder: Path) -> None:
    image = 8 * 6 * 3
    data = data_set(folder, cache_bytes=5 * image + 1)
    assert one_pass(data) == ALL
    assert len(data._reader._kept) == 5
    for number in range(5):  # these are read no more
        path_of(folder, number).unlink()
    assert one_pass(data) == ALL
    with pytest.warns(UserWarning, match="in the class folder.* 'cat'"):
        one = data_set(folder, cache_bytes=2**20, batch_size=None).skip(5)
    next(iter(one))[0][:] = -1.0  # a user's own copy
    assert next(iter(one))[0].min() >= 0


def bomb(path: Path) -> None:
    """A PNG of a few bytes that says it has 40,000 x 40,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b""))


@pytest.mark.parametrize("make", (flow, data_set))
def test_decompression_bombs_are_refused(make: Any, folder: Path) -> None:
    bomb(path_of(folder, 1))
    with pytest.raises(OSError, match=r"01\.png.*decompression bomb"):
        one_pass(make(folder))


def test_a_folder_that_cannot_be_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    real = os.scandir

    def scandir(path: Any = ".") -> Any:
        if Path(os.fspath(path)).name == CLASSES[1]:
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for make in (flow, data_set):
        with pytest.raises(PermissionError, match=CLASSES[1]):
            make(folder)


@pytest.mark.parametrize("make", (flow, data_set))
def test_links_that_lead_back_up_end(make: Any, folder: Path) -> None:
    (folder / CLASSES[0] / "loop").symlink_to(folder / CLASSES[0], target_is_directory=True)
    (folder / CLASSES[1] / "up").symlink_to(folder, target_is_directory=True)
    data = make(folder, follow_links=True)
    paths = data.filepaths if make is flow else data.file_paths
    assert sum(Path(path).name == "00.png" for path in paths) == 2  # its own, and through "up"


@pytest.mark.parametrize("color_mode", ("rgb", "rgba", "grayscale"))
@pytest.mark.parametrize("make", (flow, data_set))
def test_images_of_all_sizes_and_modes_in_one_folder(
    make: Any, color_mode: str, folder: Path
) -> None:
    """Each is what it is alone, in the one size and number of channels of the batch."""
    plain = PIL_Image.new("RGB", (9, 4), (200, 40, 80))
    turned = PIL_Image.Exif()
    turned[0x0112] = 6
    wide = np.full((3, 5), 200, np.uint16)
    for number, (name, picture, options) in enumerate(
        (
            ("cmyk.jpg", plain.convert("CMYK"), {}),
            ("wide.png", PIL_Image.fromarray(wide), {}),
            ("palette.png", plain.quantize(4), {"transparency": 1}),
            ("moving.gif", plain, {"save_all": True, "append_images": [plain.convert("L")]}),
            ("turned.jpg", plain.resize((30, 2)), {"exif": turned}),
            ("bits.bmp", plain.convert("1", dither=0), {}),
        )
    ):
        picture.save(folder / CLASSES[number % 3] / name, **options)
    data = make(folder, color_mode=color_mode)
    paths = data.filepaths if make is flow else data.file_paths
    batches = iter(data)
    found = [image for _ in range(5) for image in next(batches)[0]]
    assert len(found) == len(paths) == (17 if make is flow else 18)  # Keras's flow takes no GIF
    for path, image in zip(paths, found, strict=True):
        alone = keras.utils.img_to_array(keras.utils.load_img(path, color_mode=color_mode))
        assert (alone == alone[0, 0]).all()  # one colour, so that its size says nothing
        np.testing.assert_allclose(image, np.broadcast_to(alone[0, 0], image.shape), atol=1e-3)


def test_few_threads_for_small_files(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    paths = [str(path_of(folder, n)) for n in range(12)]
    assert reading_threads(paths, 8) == 1
    large = tmp_path_factory.mktemp("large") / "large"
    large.write_bytes(bytes(13 * SMALL_FILE))
    assert reading_threads([*paths, str(large)], 8) == 8
    assert reading_threads(["not there"], 8) == 8


def test_photographs_can_be_decoded_at_a_part_of_their_size(tmp_path: Path) -> None:
    """The means of blocks of pixels are nearly what a resize that smooths makes."""
    y, x = np.mgrid[:256, :320]
    picture = np.stack([128 + 100 * np.sin(x / 40), 128 + 100 * np.cos(y / 30), (x + y) / 3], -1)
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "photo.jpg"
    PIL_Image.fromarray(picture.astype(np.uint8)).save(path, quality=95)

    def read(size: tuple[int, int]) -> np.ndarray:
        data = image_dataset_from_directory(
            tmp_path, image_size=size, verbose=False, labels=None, interpolation="area"
        )
        return next(iter(data))[0]

    whole, exact = read((32, 40)), read((200, 250))
    config.set_image_decoder("pillow", reduced=True)
    try:
        assert config.reduces_images()
        assert np.abs(read((32, 40)) - whole).max() < 4
        assert not np.array_equal(read((32, 40)), whole)
        np.testing.assert_array_equal(read((200, 250)), exact)  # half of it would be too small
    finally:
        config.set_image_decoder("pillow")
    assert not config.reduces_images()
    np.testing.assert_array_equal(read((32, 40)), whole)
    with pytest.raises(ValueError, match="for 'pillow' alone"):
        config.set_image_decoder("opencv", reduced=True)


@pytest.mark.slow
def test_ten_thousand_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    PIL_Image.new("RGB", (2, 2)).save(tmp_path / "a" / "0.png")
    content = (tmp_path / "a" / "0.png").read_bytes()
    for number in range(1, 10_000):
        (tmp_path / "a" / f"{number}.png").write_bytes(content)
    data = image_dataset_from_directory(
        tmp_path, labels=None, image_size=(2, 2), batch_size=1000, seed=1
    )
    assert sum(len(batch) for batch in data) == 10_000
    batches = ImageDataGenerator().flow_from_directory(tmp_path, (2, 2), batch_size=500)
    assert sum(len(next(batches)[0]) for _ in range(len(batches))) == 10_000
    batches.close()
