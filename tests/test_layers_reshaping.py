"""Layers of the folder reshaping: Flatten, Permute, RepeatVector, Reshape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers
from layer_parity import check_layer, check_policy, errors_of, normal

CASES: dict[str, Any] = {
    "permute": (lambda k: k.Permute((2, 1)), (6, 5, 4), (5, 4)),
    "permute_lengths": (lambda k: k.Permute((2, 1)), (6, 5, 4), (None, 4)),
    "permute_three": (lambda k: k.Permute([3, 1, 2]), (6, 2, 5, 4), (2, 5, 4)),
    "repeat": (lambda k: k.RepeatVector(3), (6, 4), (4,)),
    "repeat_once": (lambda k: k.RepeatVector(1), (6, 4), (4,)),
    "flatten": (lambda k: k.Flatten(), (6, 2, 5, 4), (2, 5, 4)),
    "flatten_vector": (lambda k: k.Flatten(), (6, 4), (4,)),
    "flatten_last": (lambda k: k.Flatten(data_format="channels_last"), (6, 5, 4), (5, 4)),
    "flatten_first": (lambda k: k.Flatten(data_format="channels_first"), (6, 2, 5, 4), (2, 5, 4)),
    "flatten_first_steps": (lambda k: k.Flatten("channels_first"), (6, 5, 4), (5, 4)),
    "reshape": (lambda k: k.Reshape((2, 10)), (6, 5, 4), (5, 4)),
    "reshape_rest": (lambda k: k.Reshape((-1, 2)), (6, 5, 4), (5, 4)),
    "reshape_flat": (lambda k: k.Reshape((-1,)), (6, 5, 4), (None, 4)),
    "reshape_lengths": (lambda k: k.Reshape((-1, 2, 2)), (6, 5, 4), (None, 4)),
}


@pytest.mark.peers
@pytest.mark.parametrize("name", CASES)
def test_as_keras(keras: Any, name: str, tmp_path: Any) -> None:
    make, size, shape = CASES[name]
    check_layer(
        keras,
        lambda library: make(library.layers),
        normal(*size),
        [shape],
        saved=tmp_path / "model.hmill",
    )


@pytest.mark.peers
def test_flatten_of_a_number_each(keras: Any) -> None:
    check_layer(keras, lambda k: k.layers.Flatten(), normal(6), [()], before=False, trains=False)


@pytest.mark.peers
@pytest.mark.parametrize("dtype", ("int32", "uint8", "bool"))
def test_integers_stay_integers(keras: Any, dtype: str) -> None:
    x = np.random.default_rng(0).integers(0, 2, (3, 4, 2)).astype(dtype)
    for name in ("permute", "flatten", "reshape_rest"):
        found = [np.asarray(CASES[name][0](k.layers)(x)) for k in (keras, handmill)]
        assert found[0].dtype == found[1].dtype == dtype
        if name != "reshape_rest":
            np.testing.assert_array_equal(*found)


@pytest.mark.peers
@pytest.mark.parametrize(
    "call",
    (
        lambda k: k.Permute((0, 1)),
        lambda k: k.Permute((1, 3)),
        lambda k: k.Permute((1, 1)),
        lambda k: k.Permute((2, 1))(np.ones((2, 3), "float32")),
        lambda k: k.RepeatVector(0),
        lambda k: k.RepeatVector(2.0),
        lambda k: k.RepeatVector(True),
        lambda k: k.RepeatVector(2)(np.ones((2, 3, 4), "float32")),
        lambda k: k.Reshape((-2, 3)),
        lambda k: k.Reshape((-1, -1)),
        lambda k: k.Reshape((5,))(np.ones((2, 3), "float32")),
        lambda k: k.Flatten("channels"),
    ),
    ids=map(str, range(12)),
)
def test_what_keras_refuses_is_refused(keras: Any, call: Any) -> None:
    errors_of(keras, lambda library: call(library.layers))


def test_masks_end_where_they_do_in_keras(keras: Any) -> None:
    x = normal(2, 5, 4)
    for make in (CASES["permute"][0], CASES["flatten"][0], CASES["reshape"][0]):
        for library in (keras, handmill):
            inputs = library.Input((5, 4))
            with pytest.warns(UserWarning, match="does not support masking"):
                outputs = make(library.layers)(library.layers.Masking()(inputs))
            model = library.Model(inputs, outputs)
        assert outputs.mask is None
        with pytest.warns(UserWarning, match="does not support masking"):
            model(x)


def test_bfloat16(keras: Any) -> None:
    for name in ("permute", "flatten", "reshape"):
        make = CASES[name][0]
        layer = make(layers)
        check_policy(
            keras,
            lambda k, d, m=layer: getattr(k.layers, type(m).__name__).from_config(
                {**m.get_config(), "dtype": d}
            ),
            normal(3, 5, 4),
        )


def test_cropping1d_names_an_argument_that_it_does_not_have():
    with pytest.raises(ValueError, match="Unrecognized keyword arguments passed to Cropping1D"):
        layers.Cropping1D(1, data_format="channels_first")
