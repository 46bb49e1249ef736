"""A slice of tools/random_layers.py: kernels beside the NumPy executor, open lengths."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parents[1] / "tools" / "random_layers.py"
if not PATH.exists():
    pytest.skip("the tools are not beside the tests", allow_module_level=True)
_spec = importlib.util.spec_from_file_location("random_layers", PATH)
random_layers = importlib.util.module_from_spec(_spec)
sys.modules["random_layers"] = random_layers
_spec.loader.exec_module(random_layers)


@pytest.mark.parametrize(
    "calls",
    (
        100,
        pytest.param(1_500, marks=pytest.mark.slow),
        pytest.param(20_000, marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ),
)
def test_random_layers_agree(calls):
    pytest.importorskip("ml_dtypes", reason="bfloat16 is drawn too")
    found = list(random_layers.disagreements(calls, seed=calls))
    assert not found, "\n".join(found[:20])


def test_every_kind_gives_results():
    """A kind of call that is always refused would test nothing."""
    pytest.importorskip("ml_dtypes", reason="bfloat16 is drawn too")
    rng = np.random.default_rng(0)
    for name, make in random_layers.MAKERS.items():
        assert any(isinstance(random_layers.ours(make(rng)), dict) for _ in range(9)), name


def test_a_disagreement_is_found(monkeypatch):
    from handmill import config, ops

    right = ops.nn.conv

    def wrong(*args, **kwargs):
        y = right(*args, **kwargs)
        return y + 1 if config.backend() == "numpy" else y

    assert not list(random_layers.disagreements(12, seed=0, only="nn_conv"))
    monkeypatch.setattr(ops.nn, "conv", wrong)
    assert list(random_layers.disagreements(12, seed=0, only="nn_conv"))
