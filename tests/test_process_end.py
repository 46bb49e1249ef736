"""Processes that end while a daemon thread computes: their own exit code, no abort."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import handmill as hm

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not hm.config.has_kernels(), reason="needs kernels"),
]

CODE = """
import sys, threading, time
import numpy as np, handmill as hm
from handmill import layers
class Host(layers.Layer):
    def call(self, x):
        return hm.ops.sort(x)  # runs the reference, under the GIL
kind = sys.argv[1]
middle = Host() if kind == "host node" else layers.Dense(256, activation="tanh")
m = hm.Sequential([hm.Input((64,)), middle, layers.Dense(10, activation="softmax")])
m.compile("adam", "sparse_categorical_crossentropy")
x, y = np.ones((2000, 64), "float32"), np.zeros(2000, "int32")
m.fit(x[:64], y[:64], verbose=0)
images = hm.preprocessing.image.ImageDataGenerator(rotation_range=20)
flow = images.flow(np.ones((64, 32, 32, 3), "float32"), batch_size=64)
def work():
    while True:
        if kind == "images":
            next(flow)
        elif kind == "permutation":
            hm._core.permutation(1, 2, 300_000)
        elif kind == "predict":
            m.predict(x, verbose=0)
        else:
            m.fit(x, y, verbose=0)
threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
sys.exit(7)
"""


@pytest.mark.parametrize(
    ("kind", "times"),
    (
        ("fit", 1),
        *(
            pytest.param(kind, 3, marks=pytest.mark.slow)
            for kind in ("fit", "predict", "host node", "images", "permutation")
        ),
    ),
)
def test_exit_beside_a_daemon_thread(kind, times):
    for _ in range(times):
        process = subprocess.run(
            [sys.executable, "-c", CODE, kind],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=Path(hm.__file__).parent.parent,
        )
        assert process.returncode == 7, process.stderr
        assert "terminate" not in process.stderr
