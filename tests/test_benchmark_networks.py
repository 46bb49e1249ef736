"""The networks of images that the benchmarks time are one and the same in every library."""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import replace

import pytest

pytest.importorskip("handmill._core", reason="a build without kernels")

from handmill.inspection.benchmarks import handmill_jobs
from handmill.inspection.benchmarks.job import AbsentError
from handmill.inspection.benchmarks.worker import libraries_for, make_job
from handmill.inspection.benchmarks.workloads import IMAGES, KNOWN, WORKLOADS

NAMES = [w.name for w in IMAGES]


def small(name):
    """A few small images.

    Of odd size, where strided windows leave no pixel over and torch pads as Keras does; and one
    batch is the data set, so that the order of rows changes nothing.
    """
    return replace(KNOWN[name], size=16 if name == "convnet" else 17, batch=8, rows=8)


def job_of(library, w, kind):
    """What the worker makes for the name of a workload."""
    module, _, make = libraries_for(str(kind))[library].partition(":")
    make = getattr(importlib.import_module(f"handmill.inspection.benchmarks.{module}"), make)
    return make(w) if kind == "train" else make(w, kind)


def test_images_are_timed_by_name_only():
    assert not set(NAMES) & set(WORKLOADS)
    assert all(KNOWN[name].predicted == (1, 32) for name in NAMES)


# convnet: 9 * 32 + 32, 9 * 32 * 64 + 64, 1600 * 10 + 10. resnet8: the 78 666 of MLPerf Tiny's
# without the biases before batch normalizations, 3 * 16 + 2 * 32 + 2 * 64.
@pytest.mark.parametrize(("name", "count"), (("convnet", 34_826), ("resnet8", 78_426)))
def test_parameters(name, count):
    assert handmill_jobs.make_model(KNOWN[name]).count_params() == count


@pytest.mark.parametrize("name", NAMES)
def test_operations_of_a_training_step(name):
    w = small(name)
    x, y = w.data()
    function, _ = handmill_jobs.make_model(w).step_to_compare(x, y)
    steps = function.plan(x, y).summary()
    flops = Counter()
    for step in steps:
        flops[step["kernel"]] += step["flops"]
    kernels = ("matmul", "conv", "conv_kernel_grad", "depthwise", "depthwise_grad")
    plain = sum(flops[kernel] for kernel in kernels)
    filtered = flops["winograd"] + flops["winograd_grad"]
    assert (filtered > 0) == (name != "mobile")  # of 3x3 and enough channels it has depthwise alone
    if filtered == 0:  # beside the products, the update of the last layer's weights
        assert w.train_flops <= plain <= 1.002 * w.train_flops
    else:  # 16 products for 36, of whole tiles: 5 positions are computed as 6, 7 behind 5 as 8
        assert plain < w.train_flops <= plain + 36 / 16 * filtered <= (8 / 5) ** 2 * w.train_flops


def test_libraries_without_convolutions_say_so():
    with pytest.raises(AbsentError, match="dense networks only"):
        make_job("scikit-learn", "convnet", "train")


@pytest.mark.slow
@pytest.mark.parametrize("library", ("torch", "jax", "keras"))
@pytest.mark.parametrize("name", NAMES)
def test_training_goes_the_same_way(name, library):
    pytest.importorskip(library)
    w = small(name)
    ours, theirs = (job_of(one, w, "train") for one in ("handmill", library))
    losses = []
    for _ in range(2):
        losses.append(ours.check())
        # torch's moving variances are those of samples, and its epsilon of Adam another.
        assert theirs.check() == pytest.approx(losses[-1], rel=1e-3 if library == "torch" else 1e-5)
        for job in (ours, theirs):
            next(iter(job.ways.values()))(3)
    assert losses[1] < 0.98 * losses[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # by torch's own modules
@pytest.mark.parametrize("library", ("torch", "onnxruntime", "keras"))
@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_the_same(name, library):
    pytest.importorskip("onnx" if library == "onnxruntime" else library)
    pytest.importorskip(library)
    ours, theirs = (job_of(one, small(name), 3).check() for one in ("handmill", library))
    assert theirs == pytest.approx(ours, rel=1e-5)
