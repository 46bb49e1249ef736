"""Settings: executors, threads, levels."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import handmill
from handmill import config, ops
from handmill.data.prefetch import Prefetcher


def run_without_kernels(tmp_path: Path, code: str, **environment: str):
    """Runs code with a copy of the package from which the kernels were removed."""
    package = Path(handmill.__file__).parent
    ignored = shutil.ignore_patterns("_core*.so", "__pycache__")
    shutil.copytree(package, tmp_path / "handmill", ignore=ignored)
    env = {**os.environ, "PYTHONPATH": str(tmp_path), **environment}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not config.has_kernels(), reason="a build without kernels, made on purpose")
def test_missing_kernels_are_an_error_not_a_fallback(tmp_path):
    found = run_without_kernels(tmp_path, "import handmill; handmill.ops.exp([1.0])")
    assert found.returncode == 1
    assert "kernels (handmill._core) are missing" in found.stderr


@pytest.mark.slow
def test_numpy_runs_without_kernels_when_asked(tmp_path):
    code = "import handmill; print(handmill.ops.exp([0.0]), handmill.config.backend())"
    found = run_without_kernels(tmp_path, code, HANDMILL_BACKEND="numpy")
    assert found.stdout.strip() == "[1.] numpy", found.stderr


def test_use_backend_is_a_context_and_a_function():
    before = config.backend()
    with handmill.use_backend("numpy"):
        assert config.backend() == "numpy"
        assert not config.is_native()
    assert config.backend() == before
    handmill.use_backend("numpy")
    assert config.backend() == "numpy"
    handmill.use_backend(before)


def test_the_backend_is_that_of_the_thread():
    before = config.backend()
    other = "numpy" if before == "native" else before
    found = {}
    inside, done = threading.Event(), threading.Event()

    def chooses():
        with handmill.use_backend(other):
            inside.set()
            done.wait(10)
            found["chooses"] = config.backend()

    def looks():
        inside.wait(10)
        found["looks"] = config.backend(), config.is_native()
        found["computes"] = ops.exp(np.zeros(2, "float32"))
        done.set()

    threads = [threading.Thread(target=target) for target in (chooses, looks)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    assert config.backend() == before
    for thread in threads:
        thread.join()
    assert found["chooses"] == other
    assert found["looks"] == (before, before == "native")
    assert found["computes"].tolist() == [1.0, 1.0]
    assert config.backend() == before


def test_threads_that_prepare_batches_have_the_backend_of_their_caller():
    other = "numpy" if config.has_kernels() else config.backend()
    with handmill.use_backend(other):
        made = Prefetcher(lambda step: config.backend(), first=0, threads=2, ahead=4)
        try:
            assert {made.get(step) for step in range(6)} == {other}
            assert made.is_usable
            with handmill.use_backend("native" if config.has_kernels() else other):
                assert made.is_usable != config.has_kernels()
        finally:
            made.close()


def test_contexts_of_backends_nest_and_end_with_errors():
    before = config.backend()
    with handmill.use_backend("numpy"):
        with contextlib.suppress(KeyError), handmill.use_backend(before):
            assert config.backend() == before
            raise KeyError
        assert config.backend() == "numpy"
    assert config.backend() == before


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="expected one of native, numpy, got 'tpu'"):
        handmill.use_backend("tpu")
    with pytest.raises(ValueError, match="expected one of pillow, opencv, got 'gd'"):
        config.set_image_decoder("gd")
    with pytest.raises(ValueError, match="at least 1, got 0"):
        config.set_num_threads(0)
    with pytest.raises(ValueError, match="float32"):
        config.set_floatx("float16")


def test_numpy_generator_and_state_are_left_alone():
    np.random.seed(7)  # noqa: NPY002  (the global generator is what is tested)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    handmill.utils.set_random_seed(3)
    model = handmill.Sequential([handmill.Input((4,)), handmill.layers.Dense(3)])
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 4), "f"), np.ones((8, 3), "f"), verbose=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
