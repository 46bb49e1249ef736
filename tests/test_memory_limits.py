"""What this process cannot have is refused as a sum, before any of it is taken."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, models, optimizers
from handmill.hub.models import BertBackbone, GPT2Backbone, GPT2CausalLM, LlamaBackbone
from handmill.runtime.memory import FEW_BYTES, Account, available_bytes, check_room
from handmill.runtime.plans import PLANS

MB = 1_000_000


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets the process have so many bytes more, and every sum be looked at."""

    def set_to(count: float) -> None:
        monkeypatch.setattr("handmill.runtime.memory.available_bytes", lambda: int(count))
        for module in ("memory", "variable", "traces"):
            monkeypatch.setattr(f"handmill.runtime.{module}.FEW_BYTES", 0)
        monkeypatch.setattr("handmill.hub.models.backbone.FEW_BYTES", 0)

    return set_to


LLAMA_70B = (32000, 80, 64, 8192, 28672, 8)
LARGE: dict[str, tuple[Callable[[], Any], str]] = {
    "llama": (lambda: LlamaBackbone(*LLAMA_70B), "68,976,648,192 weights, which need 275.9 GB"),
    "gpt2": (lambda: GPT2Backbone(50257, 96, 96, 12288, 49152), "weights, which need 698.4 GB"),
    "bert": (lambda: BertBackbone(30522, 200, 32, 8192, 32768), "weights, which need 645.6 GB"),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_backbone_that_is_too_large(name: str, has: Callable[[float], None]) -> None:
    """It is refused whole, at once, not after memory is full of its first blocks."""
    make, text = LARGE[name]
    has(20e9)
    tracemalloc.start()
    try:
        with pytest.raises(MemoryError) as found:
            make()
        assert tracemalloc.get_traced_memory()[1] < MB
    finally:
        tracemalloc.stop()
    assert text in str(found.value)
    assert "this process can have 20 GB more. Nothing was allocated" in str(found.value)
    assert 'dtype="bfloat16" needs half of it' in str(found.value)


SMALL: dict[str, Callable[[Any], Any]] = {
    "gpt2": lambda d: GPT2Backbone(31, 3, 2, 8, 20, max_sequence_length=13, dtype=d),
    "gpt2 untied": lambda d: GPT2Backbone(31, 2, 2, 8, 20, 0, 13, d, tie_word_embeddings=False),
    "bert": lambda d: BertBackbone(31, 3, 2, 8, 20, max_sequence_length=13, dtype=d),
    "llama": lambda d: LlamaBackbone(31, 3, 4, 8, 20, 2, dtype=d),
    "llama tied": lambda d: LlamaBackbone(31, 2, 4, 8, 20, 1, tie_word_embeddings=True, dtype=d),
    "llama heads": lambda d: LlamaBackbone(31, 2, 4, 8, 20, 2, head_dim=6, dtype=d),
}


@pytest.mark.parametrize("dtype", (None, "bfloat16"))
@pytest.mark.parametrize("name", SMALL)
def test_the_sum_is_that_of_the_weights(
    name: str, dtype: Any, has: Callable[[float], None]
) -> None:
    """So nothing that fits is refused: there may be exactly as much as it needs."""
    make = SMALL[name]
    weights = make(dtype).count_params()
    has(weights * (2 if dtype else 4) - 1)
    with pytest.raises(MemoryError, match=f" has {weights:,} weights"):
        make(dtype)
    has(weights * (2 if dtype else 4))
    make(dtype)


def test_many_small_weights(has: Callable[[float], None]) -> None:
    """None of them is large, and there is room for none."""
    has(4 * 100 * 100 * 2)
    stack = [layers.Dense(100, use_bias=False) for _ in range(3)]
    models.Sequential([layers.Input((100,)), *stack])
    has(4 * 100 * 100 * 2 - 1)
    with pytest.raises(MemoryError, match=r"kernel.*and as much while its first values are made"):
        models.Sequential([layers.Input((100,)), layers.Dense(100)])


def test_small_weights_are_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight below what is looked at by itself is looked at when others came before it."""
    looks = []
    monkeypatch.setattr(
        "handmill.runtime.memory.available_bytes", lambda: looks.append(1) or 1 << 40
    )
    side = 1 << 11  # a kernel takes a quarter of FEW_BYTES
    for _ in range(8):
        layers.Dense(side, use_bias=False, kernel_initializer="zeros").build((None, side))
    assert 4 * side * side * 4 <= FEW_BYTES
    assert 1 <= len(looks) <= 8


def test_slots_of_optimizers(has: Callable[[float], None]) -> None:
    """They are zeros that take no memory until the first step: their sum decides."""
    model = models.Sequential([layers.Input((8,)), *(layers.Dense(8) for _ in range(4))])
    size = 4 * model.count_params()
    x = np.ones((4, 8), "float32")
    for optimizer, factor in (
        (optimizers.Adam(), 2),
        (optimizers.SGD(momentum=0.9, use_ema=True), 2),
        (optimizers.Ftrl(), 2),
    ):
        model.compile(optimizer, "mse")
        before = model.get_weights()
        has(size * factor - 1)
        with pytest.raises(MemoryError, match=r"optimizer .* keeps of 8 weights: .* together"):
            model.train_on_batch(x, x)
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        assert not optimizer.built
        has(1e12)
        model.train_on_batch(x, x)  # nothing is left over of the first try
        assert len({v.path for v in optimizer.variables}) == len(optimizer.variables)


def test_steps_whose_results_are_too_large(has: Callable[[float], None]) -> None:
    model = models.Sequential([layers.Input((8,)), layers.Dense(8, "tanh"), layers.Dense(8)])
    model.compile("sgd", "mse")
    x = np.ones((2048, 8), "float32")
    has(2048 * 8)
    before = model.get_weights()
    with pytest.raises(MemoryError, match=r"with sizes B=2048 needs .* GB .*batch_size"):
        model.fit(x, x, batch_size=2048, verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.fit(x, x, batch_size=16, verbose=0)


def test_steps_take_what_idle_ones_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last batch of a pass is smaller than the others: its plan takes the place of theirs."""
    model = models.Sequential([layers.Input((8,)), layers.Dense(8, "tanh"), layers.Dense(8)])
    model.compile("sgd", "mse")
    x = np.ones((40, 8), "float32")
    model.fit(x, x, batch_size=16, verbose=0)
    for module in ("memory", "traces"):
        monkeypatch.setattr(f"handmill.runtime.{module}.FEW_BYTES", 0)
    monkeypatch.setattr("handmill.runtime.memory.available_bytes", lambda: 0 if len(PLANS) else 1e9)
    assert model.fit(x, x, batch_size=24, verbose=0).history["loss"]
    assert model.fit(x, x, batch_size=16, verbose=0).history["loss"]


def test_caches_of_texts(has: Callable[[float], None]) -> None:
    model = GPT2CausalLM(GPT2Backbone(20, 2, 2, 8, 16, max_sequence_length=512))
    model.compile(sampler="greedy")
    assert model.generate([[1, 2]], max_length=4)
    has(4 * 8 * 256 * 2 * 2 * 3 - 1)
    with pytest.raises(MemoryError, match=r"of 3 texts of 256 tokens: .*smaller max_length"):
        model.generate([[1, 2]] * 3, max_length=4)


@pytest.mark.parametrize("suffix", ("hmill", "keras"))
def test_models_that_are_loaded(suffix: str, tmp_path: Path, has: Callable[[float], None]) -> None:
    if suffix == "keras":
        pytest.importorskip("h5py", reason="no h5py")
    model = models.Sequential([layers.Input((50,)), *(layers.Dense(50) for _ in range(5))])
    path = tmp_path / f"model.{suffix}"
    model.save(path)
    has(4 * 50 * 50 * 4)
    with pytest.raises(MemoryError, match=r"weights that will be read.*together"):
        models.load_model(path)
    has(4 * 50 * 51 * 5)
    models.load_model(path)


def test_presets_that_are_loaded(tmp_path: Path, has: Callable[[float], None]) -> None:
    GPT2Backbone(31, 3, 2, 8, 20, max_sequence_length=13).save_to_preset(tmp_path)
    has(1000)
    with pytest.raises(MemoryError, match=r"GPT2Backbone with vocabulary_size=31.*need .* GB"):
        GPT2Backbone.from_preset(tmp_path)


def test_what_is_asked_for_together(has: Callable[[float], None]) -> None:
    has(1000)
    assert check_room(1000, "it needs all", "") == 1000
    with Account("three of them", "Ask for less"):
        handmill.Variable("zeros", shape=(100,), name="a")
        with Account("an inner one, which is a part of it", ""):
            handmill.Variable("zeros", shape=(100,), name="b")
        with pytest.raises(MemoryError) as found:
            handmill.Variable("zeros", shape=(100,), name="c")
    assert str(found.value) == (
        "three of them: the first 3, up to 'c', need 1.2e-06 GB together; this process can have "
        "1e-06 GB more. Nothing was allocated. Ask for less"
    )
    handmill.Variable("zeros", shape=(100,), name="c")  # what is counted ends with the block


@pytest.mark.parametrize("group", ("/job/7", "/", "/../other"))
@pytest.mark.parametrize("version", (1, 2))
def test_groups_inside_of_others(
    group: str, version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of a job counts where the group around it has none."""
    monkeypatch.setattr("os.sysconf", lambda name: 1 << 30)
    names = ("memory.max", "memory.current") if version == 2 else ()
    names = names or ("memory.limit_in_bytes", "memory.usage_in_bytes")
    base = tmp_path / "sys/fs/cgroup" / ("." if version == 2 else "memory")
    for folder, most, used in (("", 5000, 1000), ("job", 3000, 500), ("job/7", 9000, 0)):
        (base / folder).mkdir(parents=True, exist_ok=True)
        for name, number in zip(names, (most, used), strict=True):
            (base / folder / name).write_text(f"{number}\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    line = f"0::{group}" if version == 2 else f"9:cpu:/x\n4:memory:{group}"
    (tmp_path / "proc/self/cgroup").write_text(line + "\n")
    assert available_bytes(str(tmp_path)) == (2500 if group == "/job/7" else 4000)
    assert re.fullmatch(r"\d+", str(available_bytes()))
