"""Image files and folders: reading, scanning, labels, damaged files."""

from __future__ import annotations

import io
import os
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest

PIL_Image = pytest.importorskip("PIL.Image", reason="reading images needs Pillow")

from handmill import config  # noqa: E402
from handmill.preprocessing.image import (  # noqa: E402
    DirectoryIterator,
    ImageDataGenerator,
    array_to_img,
    img_to_array,
    load_img,
    save_img,
    smart_resize,
)

DATA = Path(os.environ.get("HANDMILL_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="module")
def keras_utils():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras.src.utils.image_utils", reason="Keras is the oracle")


def pixels(seed=0, height=12, width=10, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def make_folder(root, counts, size=(12, 10), suffix="png"):
    """A folder of classes, ``counts`` images each; image i of all is filled by its number."""
    number = 0
    for name, count in counts.items():
        folder = root / name
        folder.mkdir(parents=True)
        for i in range(count):
            image = np.full((*size, 3), number, np.uint8)
            PIL_Image.fromarray(image).save(folder / f"{i:03}.{suffix}")
            number += 1
    return root


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def flow(folder, settings=None, **arguments):
    arguments = {"target_size": (12, 10), "seed": 0, **arguments}
    return ImageDataGenerator(**(settings or {})).flow_from_directory(folder, **arguments)


# --- Single files --------------------------------------------------------------------------------


@pytest.mark.peers
@pytest.mark.parametrize("color_mode", ("rgb", "rgba", "grayscale"))
@pytest.mark.parametrize("mode", ("RGB", "RGBA", "L", "LA", "P", "I;16", "1", "CMYK"))
def test_load_img_is_that_of_keras(keras_utils, tmp_path, mode, color_mode):
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    if mode == "I;16":
        wide = np.arange(120, dtype=np.uint16).reshape(12, 10) * 500
        PIL_Image.fromarray(wide).save(path)
    else:
        PIL_Image.fromarray(pixels()).convert(mode).save(path)
    for target_size in (None, (5, 7), (12, 10), (31, 9)):
        for keep in (False, True):
            for interpolation in ("nearest", "bilinear", "lanczos"):
                arguments = {
                    "color_mode": color_mode, "target_size": target_size,
                    "interpolation": interpolation, "keep_aspect_ratio": keep,
                }  # fmt: skip
                if mode == "I;16" and color_mode == "grayscale" and interpolation == "lanczos":
                    continue  # Pillow cannot
                got, expected = load_img(path, **arguments), keras_utils.load_img(path, **arguments)
                assert got.mode == expected.mode
                np.testing.assert_array_equal(img_to_array(got), keras_utils.img_to_array(expected))


@pytest.mark.peers
@pytest.mark.parametrize("kind", ("palette with alpha", "animated", "rotated"))
@pytest.mark.parametrize("color_mode", ("rgb", "rgba", "grayscale"))
def test_unusual_files_are_read_as_in_keras(keras_utils, tmp_path, kind, color_mode):
    """Of an animation the first frame counts, and the orientation a camera noted is not heeded."""
    images = [PIL_Image.fromarray(pixels(seed)) for seed in range(3)]
    path = tmp_path / "image.gif"
    if kind == "palette with alpha":
        images[0].quantize(16).save(path, transparency=3)
    elif kind == "animated":
        images[0].save(path, save_all=True, append_images=images[1:])
    else:
        path = tmp_path / "image.jpg"
        exif = PIL_Image.Exif()
        exif[0x0112] = 6
        images[0].save(path, exif=exif)
    got = load_img(path, color_mode=color_mode)
    assert got.size == (10, 12)
    expected = keras_utils.load_img(path, color_mode=color_mode)
    np.testing.assert_array_equal(img_to_array(got), keras_utils.img_to_array(expected))


@pytest.mark.peers
def test_conversions_are_those_of_keras(keras_utils, tmp_path):
    rng = np.random.default_rng(1)
    for channels in (1, 3, 4):
        for data_format in ("channels_last", "channels_first"):
            x = rng.normal(100, 90, (6, 5, channels)).astype(np.float32)
            if data_format == "channels_first":
                x = x.transpose(2, 0, 1)
            got = array_to_img(x, data_format)
            expected = keras_utils.array_to_img(x, data_format)
            assert got.mode == expected.mode
            np.testing.assert_array_equal(
                img_to_array(got, data_format), keras_utils.img_to_array(expected, data_format)
            )
    save_img(tmp_path / "a.png", pixels(), scale=False)
    np.testing.assert_array_equal(np.asarray(load_img(tmp_path / "a.png")), pixels())
    with pytest.warns(UserWarning, match="RGBA"):
        save_img(tmp_path / "a.jpg", pixels(channels=4))
    assert load_img(io.BytesIO((tmp_path / "a.jpg").read_bytes())).size == (10, 12)


@pytest.mark.peers
@pytest.mark.parametrize("interpolation", ("bilinear", "nearest"))
def test_smart_resize_is_that_of_keras(keras_utils, interpolation):
    for shape, size in (((34, 50, 3), (20, 20)), ((2, 9, 7, 1), (15, 30)), ((12, 12, 3), (5, 7))):
        x = np.random.default_rng(2).uniform(0, 255, shape).astype(np.float32)
        got = smart_resize(x, size, interpolation)
        expected = keras_utils.smart_resize(x, size, interpolation=interpolation)
        np.testing.assert_allclose(got, expected, atol=0.05)


def test_bad_arguments(tmp_path):
    save_img(tmp_path / "a.png", pixels())
    with pytest.raises(ValueError, match="grayscale, rgb, rgba"):
        load_img(tmp_path / "a.png", color_mode="bgr")
    with pytest.raises(ValueError, match="nearest, bilinear, bicubic, hamming, box, lanczos"):
        load_img(tmp_path / "a.png", target_size=(3, 3), interpolation="cubic")
    with pytest.raises(TypeError, match="expected a path"):
        load_img(3)
    with pytest.raises(ValueError, match="rank 3"):
        array_to_img(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="1, 3 or 4 channels"):
        array_to_img(np.zeros((3, 3, 2)))
    with pytest.raises(ValueError, match="two positive integers"):
        smart_resize(np.zeros((3, 3, 3)), (0, 3))


# --- Folders -------------------------------------------------------------------------------------


def test_labels_and_attributes(tmp_path, capsys):
    make_folder(tmp_path, {"dog": 3, "cat": 2})
    batches = flow(tmp_path, shuffle=False, batch_size=4)
    assert capsys.readouterr().out == "Found 5 images belonging to 2 classes.\n"
    assert isinstance(batches, DirectoryIterator)
    assert batches.class_indices == {"cat": 0, "dog": 1}
    np.testing.assert_array_equal(batches.classes, [0, 0, 1, 1, 1])
    assert batches.classes.dtype == np.int32
    assert batches.filenames[0] == str(Path("cat", "000.png"))
    assert batches.filepaths[0] == str(tmp_path / "cat" / "000.png")
    assert (batches.samples, batches.n, batches.num_classes, len(batches)) == (5, 5, 2, 2)
    assert (batches.batch_size, batches.image_shape) == (4, (12, 10, 3))
    assert batches.class_mode == "categorical"
    assert not batches.augments
    x, y = next(batches)
    assert (x.dtype, y.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(x[:, 0, 0, 0], [3, 4, 0, 1])
    np.testing.assert_array_equal(y, [[1, 0], [1, 0], [0, 1], [0, 1]])
    x, y = next(batches)
    assert len(x) == len(y) == 1
    for class_mode in ("sparse", "binary"):
        _, y = next(flow(tmp_path, shuffle=False, class_mode=class_mode))
        np.testing.assert_array_equal(y, np.array([0, 0, 1, 1, 1], np.float32))
        assert y.dtype == np.float32
    x, y = next(flow(tmp_path, class_mode="input"))
    np.testing.assert_array_equal(x, y)
    assert isinstance(next(flow(tmp_path, class_mode=None)), np.ndarray)
    assert next(flow(tmp_path, color_mode="grayscale"))[0].shape == (5, 12, 10, 1)
    assert next(flow(tmp_path, color_mode="rgba"))[0].shape == (5, 12, 10, 4)
    first = flow(tmp_path, settings={"data_format": "channels_first"})
    assert first.image_shape == (3, 12, 10)
    assert next(first)[0].shape == (5, 3, 12, 10)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_the_batches_of_a_folder_are_those_of_keras(keras_utils, tmp_path):
    from keras.src.legacy.preprocessing import image as keras_image

    for i, name in enumerate(("b", "a", "c")):
        for j in range(5):
            path = tmp_path / name / ("deeper" if j > 2 else "") / f"{j}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_img(path, pixels(10 * i + j, 30, 40), quality=90)
    settings = {"rotation_range": 20, "zoom_range": 0.2, "validation_split": 0.4}
    for subset in (None, "training", "validation"):
        arguments = {
            "target_size": (16, 20), "batch_size": 4, "seed": 5, "subset": subset,
            "interpolation": "bilinear", "keep_aspect_ratio": True,
        }  # fmt: skip
        ours = ImageDataGenerator(**settings, compat="keras3")
        ours = ours.flow_from_directory(tmp_path, **arguments)
        theirs = keras_image.ImageDataGenerator(**settings)
        theirs = theirs.flow_from_directory(str(tmp_path), **arguments)
        assert ours.filenames == theirs.filenames
        np.testing.assert_array_equal(ours.classes, theirs.classes)
        for _ in range(6):
            (got_x, got_y), (expected_x, expected_y) = next(ours), next(theirs)
            np.testing.assert_array_equal(got_y, expected_y)
            np.testing.assert_allclose(got_x, expected_x, atol=0.05)


def test_names_with_spaces_and_in_chinese(tmp_path):
    root = make_folder(tmp_path / "图像 数据", {"小 猫": 2, "a dog": 1, "ö": 1})
    batches = flow(root)
    assert list(batches.class_indices) == ["a dog", "ö", "小 猫"]
    assert len(next(batches)[0]) == 4


def test_chosen_classes_links_and_other_files(tmp_path):
    root = make_folder(tmp_path / "data", {"a": 1, "b": 2, "c": 3})
    (root / "b" / "notes.txt").write_text("not an image")
    (root / "loose.png").write_bytes(b"not in a class")
    assert flow(root, classes=["c", "a"]).class_indices == {"c": 0, "a": 1}
    linked = make_folder(tmp_path / "linked", {"more": 4})
    (root / "a" / "link").symlink_to(linked / "more", target_is_directory=True)
    assert flow(root).samples == 6
    assert flow(root, follow_links=True).samples == 10


def test_subsets_of_a_folder(tmp_path):
    make_folder(tmp_path, {"a": 10, "b": 5})
    settings = {"validation_split": 0.3}
    validation = flow(tmp_path, settings=settings, subset="validation", shuffle=False)
    training = flow(tmp_path, settings=settings, subset="training", shuffle=False)
    assert validation.filenames == [f"a/{i:03}.png" for i in range(3)] + ["b/000.png"]
    assert sorted(validation.filenames + training.filenames) == flow(tmp_path).filenames
    with pytest.raises(ValueError, match='expected "training" or "validation"'):
        flow(tmp_path, subset="test")


def test_empty_and_missing_folders(tmp_path, capsys):
    batches = flow(tmp_path)
    assert capsys.readouterr().out == "Found 0 images belonging to 0 classes.\n"
    assert len(batches) == 0
    with pytest.raises(ValueError, match="no images below") as error:
        next(batches)
    assert str(tmp_path) in str(error.value)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        flow(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="file"):
        flow(tmp_path / "file")


def test_a_class_without_images_counts_and_warns(tmp_path, capsys):
    make_folder(tmp_path, {"a": 2, "empty class": 0, "z": 1})
    with pytest.warns(UserWarning, match="'empty class'"):
        batches = flow(tmp_path, shuffle=False)
    assert "Found 3 images belonging to 3 classes." in capsys.readouterr().out
    np.testing.assert_array_equal(next(batches)[1].argmax(1), [0, 0, 2])


def damaged_files():
    png, jpeg = io.BytesIO(), io.BytesIO()
    PIL_Image.fromarray(pixels(0, 64, 64)).save(png, "png")
    PIL_Image.fromarray(pixels(0, 64, 64)).save(jpeg, "jpeg")
    return {
        "empty.png": b"",
        "garbage.jpg": b"this is not an image" * 20,
        "header only.png": png.getvalue()[:20],
        "truncated.png": png.getvalue()[:-3000],
        "truncated 图.jpg": jpeg.getvalue()[: len(jpeg.getvalue()) // 2],
    }


@pytest.mark.parametrize("decoder", ("pillow", "opencv"))
@pytest.mark.parametrize("name", damaged_files())
def test_damaged_files_are_named(tmp_path, name, decoder, monkeypatch):
    if decoder == "opencv":
        pytest.importorskip("cv2", reason="OpenCV is an optional decoder")
    monkeypatch.setattr(config, "_image_decoder", decoder)
    make_folder(tmp_path, {"a": 3})
    path = tmp_path / "a" / name
    path.write_bytes(damaged_files()[name])
    with pytest.raises(OSError, match="cannot read image") as error:
        load_img(path)
    assert name in str(error.value)
    batches = flow(tmp_path, batch_size=1, shuffle=False)
    for position, file in enumerate(names_in(tmp_path / "a") * 2):
        if file == name:
            with pytest.raises(OSError, match="cannot read image") as error:
                next(batches)
            assert name in str(error.value)
        else:
            assert len(next(batches)[0]) == 1, position


def test_a_file_that_vanishes_is_named(tmp_path):
    make_folder(tmp_path, {"a": 3})
    batches = flow(tmp_path)
    (tmp_path / "a" / "001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"001\.png"):
        next(batches)


def test_opencv_only_decodes(tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is an optional decoder")
    for channels, mode in ((1, "L"), (3, "RGB"), (4, "RGBA")):
        path = tmp_path / f"{mode}.png"
        save_img(path, pixels(channels=channels), scale=False)
        for color_mode in ("rgb", "rgba", "grayscale"):
            arguments = {"color_mode": color_mode, "target_size": (30, 7), "interpolation": "box"}
            expected = np.asarray(load_img(path, **arguments))
            config.set_image_decoder("opencv")
            try:
                got = np.asarray(load_img(path, **arguments))
            finally:
                config.set_image_decoder("pillow")
            np.testing.assert_array_equal(got, expected)


def test_the_cache_is_bounded_and_changes_nothing(tmp_path):
    make_folder(tmp_path, {"a": 8})
    for cache_bytes, kept in ((0, 0), (3 * 360, 3), (2**20, 8)):
        batches = flow(tmp_path, batch_size=3, shuffle=False, cache_bytes=cache_bytes)
        passes = [np.concatenate([next(batches)[0] for _ in range(3)]) for _ in range(3)]
        np.testing.assert_array_equal(passes[0][:, 0, 0, 0], np.arange(8))
        np.testing.assert_array_equal(passes[0], passes[1])
        np.testing.assert_array_equal(passes[0], passes[2])
        batches.close()
        assert len(batches._maker.source.reader._kept) == kept


def test_grey_images_of_16_bits_keep_their_values(tmp_path):
    (tmp_path / "a").mkdir()
    wide = np.arange(120, dtype=np.uint16).reshape(12, 10) * 500
    PIL_Image.fromarray(wide).save(tmp_path / "a" / "0.png")
    PIL_Image.fromarray(pixels(channels=1)[:, :, 0]).save(tmp_path / "a" / "1.png")
    x, _ = next(flow(tmp_path, color_mode="grayscale", shuffle=False))
    np.testing.assert_array_equal(x[0, :, :, 0], wide)
    np.testing.assert_array_equal(x[1], pixels(channels=1))


def test_augmented_images_are_saved(tmp_path):
    make_folder(tmp_path / "in", {"a": 5})
    (tmp_path / "out").mkdir()
    batches = flow(tmp_path / "in", batch_size=2, save_to_dir=tmp_path / "out", save_prefix="p")
    next(batches)
    next(batches)
    saved = names_in(tmp_path / "out")
    assert len(saved) == 4
    assert all(name.startswith("p_") and name.endswith(".png") for name in saved)


def test_tables_of_files(tmp_path, capsys):
    make_folder(tmp_path, {"a": 4})
    table = {
        "filename": [f"{i:03}.png" for i in range(5)],
        "class": ["x", "y", "x", "z", "x"],
        "weight": [1.0, 2.0, 3.0, 4.0, 5.0],
        "value": [0.1, 0.2, 0.3, 0.4, 0.5],
    }
    generator = ImageDataGenerator()
    arguments = {"directory": tmp_path / "a", "target_size": (12, 10), "shuffle": False}
    with pytest.warns(UserWarning, match="Found 1 invalid image filename"):
        batches = generator.flow_from_dataframe(table, weight_col="weight", **arguments)
    assert "Found 4 validated image filenames belonging to 3 classes." in capsys.readouterr().out
    x, y, weights = next(batches)
    np.testing.assert_array_equal(x[:, 0, 0, 0], np.arange(4))
    np.testing.assert_array_equal(y.argmax(1), [0, 1, 0, 2])
    np.testing.assert_array_equal(weights, [1, 2, 3, 4])
    table = {name: column[:4] for name, column in table.items()}
    _, y = next(
        generator.flow_from_dataframe(table, class_mode="sparse", classes=["y", "x"], **arguments)
    )
    np.testing.assert_array_equal(y, [1, 0, 1])
    _, y = next(generator.flow_from_dataframe(table, y_col="value", class_mode="raw", **arguments))
    np.testing.assert_array_equal(y, [0.1, 0.2, 0.3, 0.4])
    _, y = next(
        generator.flow_from_dataframe(
            table, y_col=["value", "weight"], class_mode="multi_output", **arguments
        )
    )
    np.testing.assert_array_equal(y[1], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="there must be 2 classes"):
        generator.flow_from_dataframe(table, class_mode="binary", **arguments)
    with pytest.raises(TypeError, match="must be strings"):
        generator.flow_from_dataframe(table, y_col="value", class_mode="sparse", **arguments)


@pytest.mark.slow
def test_a_real_folder(tmp_path):
    archive = DATA / "cifar10_jpeg.tar.gz"
    if not archive.exists():
        pytest.skip(f"no {archive}")
    with tarfile.open(archive) as tar:
        for member in tar:
            part, _, name = member.name.partition("/")
            if part == "test" and name.endswith(".jpg"):
                path = tmp_path / name
                path.parent.mkdir(exist_ok=True)
                if len(names_in(path.parent)) < 40:
                    path.write_bytes(tar.extractfile(member).read())
                elif path.parent.name == "truck":
                    break
    batches = flow(tmp_path, target_size=(64, 64), settings={"rotation_range": 20}, batch_size=50)
    assert batches.num_classes == 10
    x = np.concatenate([next(batches)[0] for _ in range(len(batches))])
    assert x.shape == (400, 64, 64, 3)
    assert 90 < x.mean() < 150


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX files")
@pytest.mark.parametrize("kind", ("pipe", "device", "folder"))
def test_what_is_no_regular_file_is_named(tmp_path, kind):
    """A pipe would be waited for, and /dev/zero read until memory ends."""
    make_folder(tmp_path, {"a": 1, "b": 1})
    odd = tmp_path / "a" / "odd.png"
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "device":
        odd.symlink_to("/dev/zero")
    else:
        odd.mkdir()
        with pytest.raises(OSError, match=r"odd\.png.*not a regular file"):
            load_img(odd)
        return
    with pytest.raises(OSError, match=r"odd\.png.*not a regular file"):
        load_img(odd)
    batches = flow(tmp_path, batch_size=3)
    with pytest.raises(OSError, match=r"odd\.png.*not a regular file"):
        next(batches)


@pytest.mark.parametrize("class_mode", ("categorical", "sparse", "binary"))
def test_classes_whose_files_are_all_missing_are_none(tmp_path, class_mode):
    make_folder(tmp_path, {"a": 2, "c": 2})
    files = ["a/000.png", "b/000.png", "c/000.png", "a/001.png", "c/001.png"]
    table = {"filename": files, "class": ["a", "b", "c", "a", "c"]}
    with pytest.warns(UserWarning, match="1 invalid image filename"):
        found = ImageDataGenerator().flow_from_dataframe(
            table, tmp_path, class_mode=class_mode, shuffle=False
        )
    assert found.class_indices == {"a": 0, "c": 1}
    assert list(found.classes) == [0, 1, 0, 1]
