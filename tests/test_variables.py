"""Variables as scripts make, write and read them."""

import numpy as np
import pytest

import handmill
from handmill import backend


def test_a_variable_is_made_from_the_name_of_an_initializer():
    made = handmill.Variable("ones", shape=(2, 3), dtype="int32")
    assert made.dtype == "int32"
    np.testing.assert_array_equal(made.numpy(), np.ones((2, 3)))
    with pytest.raises(ValueError, match="the `shape` argument should be specified"):
        handmill.Variable("ones")


@pytest.mark.parametrize(
    ("numbers", "dtype"), (([1, 2], "int32"), (3, "int32"), (0.5, "float32"), (True, "bool"))
)
def test_numbers_of_python_have_the_dtypes_that_operators_give_them(numbers, dtype):
    assert handmill.Variable(numbers).dtype == dtype
    assert handmill.Variable(np.float64(0.5)).dtype == "float64"


def test_writing_returns_what_was_written_and_later_writes_leave_it():
    v, w = handmill.Variable([1.0, 2.0]), handmill.Variable([7.0, 8.0])
    first = v.assign(w)
    second = v.assign_add([1.0, 1.0])
    third = v.assign_sub([3.0, 3.0])
    w.assign([0.0, 0.0])
    assert [x.tolist() for x in (first, second, third)] == [[7, 8], [8, 9], [5, 6]]

    class Counts(handmill.layers.Layer):
        def build(self, shape):
            self.calls = self.add_weight((), "zeros", trainable=False)

        def call(self, x):
            return x * self.calls.assign_add(1.0)

    layer = Counts()
    assert [float(layer(np.ones(1, "float32"))[0]) for _ in range(3)] == [1.0, 2.0, 3.0]


def test_a_variable_is_no_truth_and_only_a_scalar_is_a_number():
    v = handmill.Variable([1.0, 2.0], name="pair")
    with pytest.raises(TypeError, match="cannot be used as a boolean"):
        bool(v)
    for number in (int, float):
        with pytest.raises(TypeError, match=r"Only scalar arrays .* has shape \(2,\)"):
            number(v)
    assert int(handmill.Variable(3)) == 3
    assert (+v).tolist() == [1.0, 2.0]
    assert repr(v) == "<Variable path=pair, shape=(2,), dtype=float32, value=[1. 2.]>"


def test_what_a_variable_cannot_hold_is_refused_when_it_is_set():
    v = handmill.Variable([1.0])
    for attribute in ("constraint", "regularizer"):
        with pytest.raises(ValueError, match=f"Invalid value for attribute `{attribute}`"):
            setattr(v, attribute, "l2")
        with pytest.raises(ValueError, match=f"Invalid value for attribute `{attribute}`"):
            handmill.Variable([1.0], **{attribute: 3})
        setattr(v, attribute, abs)
        assert getattr(v, attribute) is abs
    for name in ("a/b", 12):
        with pytest.raises(ValueError, match="Argument `name` must be a string"):
            handmill.Variable([1.0], name=name)


def test_numbers_of_python_take_the_dtype_of_what_they_meet():
    assert backend.result_type("bfloat16", float) == "bfloat16"
    assert backend.result_type("int8", int) == "int8"
    assert backend.result_type("int8", float) == "float32"
    assert backend.result_type("bool", "int") == "int32"
    assert backend.result_type() == backend.result_type(None) == "float32"
    with pytest.raises(ValueError, match="Invalid dtype: 'float16'"):
        backend.result_type("float16")


def test_clear_session_leaves_open_scopes():
    with handmill.name_scope("outer"):
        handmill.utils.clear_session()
        assert handmill.Variable(1.0, name="v").path == "v"
    assert handmill.Variable(1.0, name="v").path == "v"
