"""Fixtures that several files share."""

from __future__ import annotations

import gc
import importlib.util
import os
import tarfile
import tempfile
import warnings
from pathlib import Path
from types import ModuleType

import pytest

import handmill

# Keras reads it once, when a test first imports it. JAX, which can train, where it is installed.
os.environ["KERAS_BACKEND"] = "jax" if importlib.util.find_spec("jax") else "numpy"
# Each of Keras's functions is compiled for a call or two: a quarter less time without these passes.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)

# Where a test fails, the frames of handmill are what one wants to see.
handmill.config.disable_traceback_filtering()

# Thirty thousand tests are a million objects that all live to the end. Unless the collector leaves
# them out, it walks over them while they are made, in each gc.collect() of a test, and at the end.
gc.disable()


# As many samples of a test a bare `pytest` takes; with a file, -k or -m it takes all.
SAMPLES = 8


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out samples, evenly, in README's run; `.ci/run` takes them in its last stage."""
    bare = (
        config.args_source is pytest.Config.ArgsSource.TESTPATHS
        and not config.option.keyword
        and config.option.markexpr == config.getini("addopts")[-1]
    )
    if not bare:
        return
    samples: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("every_sample") is None:
            samples.setdefault(item.nodeid.split("[")[0], []).append(item)
    left_out = {
        item
        for many in samples.values()
        if len(many) > SAMPLES
        for item in {*many} - {many[i * len(many) // SAMPLES] for i in range(SAMPLES)}
    }
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=list(left_out))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    gc.freeze()


DATA = Path(os.environ.get("HANDMILL_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def keras() -> ModuleType:
    """Keras on JAX."""
    pytest.importorskip("jax", reason="Keras runs on JAX in these tests")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: ModuleType = pytest.importorskip("keras", reason="Keras is the oracle")
    return found


@pytest.fixture(scope="session")
def cifar10(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds CIFAR-10 as files: train/<class>/*.jpg and test/<class>/*.jpg.

    Unpacked once into pytest's cache: writing and deleting 60,000 files takes minutes on some
    machines, and pytest deletes its older temporary folders.
    """
    packed = DATA / "cifar10_jpeg.tar.gz"
    if not packed.is_file():
        pytest.skip(f"no {packed}")
    cache = getattr(request.config, "cache", None)
    place = Path(cache.mkdir("cifar10")) if cache else tmp_path_factory.mktemp("cifar10")
    done = place / "images"
    if not done.is_dir():
        folder = Path(tempfile.mkdtemp(dir=place))
        with tarfile.open(packed) as tar:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(folder, filter="data")
            else:
                tar.extractall(folder)
        if not done.is_dir():  # another process may have been quicker
            folder.rename(done)
    (train,) = done.rglob("train")
    return train.parent
