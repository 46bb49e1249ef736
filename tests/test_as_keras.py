"""``install_as_keras``: imports of keras are handmill's for a while, then what they were."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

import pytest

import handmill


@pytest.fixture(autouse=True)
def without_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process in which nothing has imported another Keras."""
    for name in list(sys.modules):
        if name.partition(".")[0] in ("keras", "tf_keras", "tensorflow"):
            monkeypatch.delitem(sys.modules, name)


def test_imports_mean_handmill_until_it_is_undone() -> None:
    finders, modules = list(sys.meta_path), set(sys.modules)
    found_before = importlib.util.find_spec("keras")
    with handmill.install_as_keras():
        import keras
        import keras.optimizers.schedules
        import tensorflow as tf
        from keras import layers
        from tensorflow import keras as of_tensorflow
        from tensorflow.keras.layers import Dense

        assert layers is handmill.layers
        assert Dense is layers.Dense
        assert keras.Model is handmill.Model is of_tensorflow.Model is tf.keras.Model
        assert keras.optimizers.schedules.ExponentialDecay
        assert keras.__version__.startswith("3.")
        with pytest.raises(ImportError, match=r"tensorflow.data is not here; handmill stands in"):
            from tensorflow import data  # noqa: F401
        with pytest.raises(ImportError, match=r"tensorflow.nn is not here; handmill stands in"):
            importlib.import_module("tensorflow.nn")
        with pytest.raises(AttributeError, match=r"tensorflow.function is not here"):
            tf.function  # noqa: B018
        assert not hasattr(tf, "Tensor")
    assert sys.meta_path == finders
    left = {name.partition(".")[0] for name in set(sys.modules) - modules}
    assert not left & {"keras", "tf_keras", "tensorflow"}
    assert (importlib.util.find_spec("keras") is None) == (found_before is None)


def test_it_stays_until_it_is_undone_by_hand() -> None:
    installed = handmill.install_as_keras()
    try:
        with handmill.install_as_keras():  # a second one, which is not the one to undo
            pass
        assert importlib.import_module("keras").layers is handmill.layers
    finally:
        installed.undo()
        installed.undo()
    assert "keras" not in sys.modules


def test_it_is_undone_after_an_error() -> None:
    finders = list(sys.meta_path)
    with pytest.raises(ImportError, match="absent"), handmill.install_as_keras():
        importlib.import_module("keras.absent")
    assert sys.meta_path == finders
    assert "keras" not in sys.modules


@pytest.mark.parametrize("name", ("keras", "tf_keras", "tensorflow"))
def test_another_keras_is_not_pushed_aside(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = ModuleType(name)
    other.__file__ = "/somewhere/of_its_own.py"
    monkeypatch.setitem(sys.modules, name, other)
    finders = list(sys.meta_path)
    with pytest.raises(RuntimeError, match=rf"another {name} is loaded .*of_its_own\.py"):
        handmill.install_as_keras()
    assert sys.meta_path == finders
    assert sys.modules[name] is other
