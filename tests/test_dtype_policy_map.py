"""DTypePolicyMap: policies of layers by their paths."""

from __future__ import annotations

import json

import numpy as np
import pytest

import handmill
from handmill import dtype_policies, layers
from handmill.dtype_policies import DTypePolicy, DTypePolicyMap

pytest.importorskip("ml_dtypes")


def test_look_up():
    found = DTypePolicyMap("float32", {"a/b": DTypePolicy("bfloat16"), "c/.*": "mixed_bfloat16"})
    assert found["a/b"].name == "bfloat16"
    assert found["c/d/e"].name == "mixed_bfloat16"
    assert found["a"].name == found["x/c/d"].name == "float32"
    assert (found.name, found.compute_dtype, found.variable_dtype) == (
        "map_float32", "float32", "float32"
    )  # fmt: skip
    assert list(found) == ["a/b", "c/.*"]
    assert len(found) == 2
    assert "c/.*" in found
    assert "c/d" not in found
    found["c/d.*"] = "float64"
    with pytest.raises(ValueError, match="multiple dtype policy keys"):
        found["c/d"]
    del found["c/d.*"]
    assert found["c/d"].name == "mixed_bfloat16"
    assert repr(found) == (
        "<DTypePolicyMap default_policy=float32, "
        "mapping=[('a/b', 'bfloat16'), ('c/.*', 'mixed_bfloat16')]>"
    )


def test_default_follows_the_process():
    found = DTypePolicyMap()
    assert found.compute_dtype == "float32"
    handmill.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert found.compute_dtype == "bfloat16"
        assert DTypePolicyMap("float32").compute_dtype == "float32"
    finally:
        handmill.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("call", "kind", "problem"),
    (
        (lambda: DTypePolicyMap(DTypePolicyMap()), ValueError, "cannot be a `DTypePolicyMap`"),
        (lambda: DTypePolicyMap(None, 3), TypeError, "must be a dict"),
        (lambda: DTypePolicyMap("float31"), ValueError, "Cannot convert 'float31'"),
        (lambda: DTypePolicyMap(None, {"a": 3.5}), ValueError, "Cannot interpret"),
        (lambda: DTypePolicyMap(None, {"(": "float32"}), ValueError, "Cannot interpret"),
        (lambda: handmill.config.set_dtype_policy(DTypePolicyMap()), ValueError, "Invalid `pol"),
    ),
)
def test_what_is_refused(call, kind, problem):
    with pytest.raises(kind, match=problem):
        call()
    again = DTypePolicyMap(None, {"a": "float32"})
    with pytest.raises(ValueError, match="already exist"):
        again["a"] = "float64"
    with pytest.raises(KeyError):
        del again["b"]


def test_layers_look_their_paths_up():
    class Two(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.first = layers.Dense(2, dtype=self.dtype_policy, name="first")
            self.second = layers.Dense(2, dtype=self.dtype_policy, name="second")

        def call(self, x):
            return self.second(self.first(x))

    found = DTypePolicyMap("float32", {"two/second": DTypePolicy("bfloat16")})
    two = Two(dtype=found, name="two")
    made = two(np.ones((1, 3), "float32"))
    assert two.first.kernel.dtype == "float32"
    assert two.second.kernel.dtype == "bfloat16"
    assert made.dtype.name == "bfloat16"
    assert (two.compute_dtype, two.second.compute_dtype) == ("float32", "bfloat16")


def test_config():
    found = DTypePolicyMap(None, {"a": DTypePolicy("bfloat16")})
    config = json.loads(json.dumps(dtype_policies.serialize(found)))
    assert config["module"] == "keras.dtype_policies"
    again = dtype_policies.deserialize(config)
    assert isinstance(again, DTypePolicyMap)
    assert again == found
    assert again._default_policy_arg is None
    layer = layers.Dense(2, dtype=found)
    assert layers.Dense.from_config(layer.get_config()).dtype_policy == found


def test_convert_input():
    policy = DTypePolicy("bfloat16")
    x = np.ones(2, "float32")
    assert policy.convert_input(x, True, policy.compute_dtype).dtype.name == "bfloat16"
    assert policy.convert_input(x, False, policy.compute_dtype).dtype == np.float32
    assert policy.convert_input(np.ones(2, "int32"), True, "bfloat16").dtype == np.int32
    symbolic = handmill.Input((3,))
    assert policy.convert_input(symbolic, True, "float64").dtype == "float64"
    assert policy.convert_input("text", True, "float32") == "text"
