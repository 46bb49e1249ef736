"""If, Loop and Scan of ONNX files: what becomes of them, their gradients, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill as hm
from handmill import layers as L
from handmill.errors import FileFormatError
from handmill.exchange import messages, wire
from handmill.exchange.from_onnx import execution
from handmill.exchange.from_onnx.file import model_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 3)).astype("float32")
W = RNG.normal(size=(3, 3)).astype("float32") / 2


def node(op: str, inputs: str, outputs: str, **attrs: Any) -> messages.Node:
    """A node; "_" stands for an operand that is left out."""
    given = [messages.attribute_of(k, v) for k, v in attrs.items()]
    names = ["" if name == "_" else name for name in inputs.split()]
    return messages.Node(names, outputs.split(), f"the {op} of {outputs}", op, attribute=given)


def graph(nodes: list[messages.Node], inputs: str, outputs: str, **numbers: Any) -> messages.Graph:
    """A body; its inputs and outputs have no types, as some exporters write it."""
    return messages.Graph(
        nodes,
        "body",
        [messages.tensor_of(np.asarray(v), k) for k, v in numbers.items()],
        [messages.ValueInfo(name) for name in inputs.split()],
        [messages.ValueInfo(name) for name in outputs.split()],
    )


def bytes_of(
    nodes: list[messages.Node], outputs: str, shape: Any = ("n", 3), **numbers: Any
) -> bytes:
    """A file whose input is ``x``."""
    whole = graph(nodes, "", outputs, **numbers)
    whole.input = [messages.value_info("x", "float32", shape)]
    whole.output = [messages.value_info(name, "float32", ["n"]) for name in outputs.split()]
    file = messages.Model(8, "p", "1", None, whole, [messages.OperatorSet("", 17)])
    return b"".join(bytes(piece) for piece in wire.written(file))


def read(nodes: list[messages.Node], outputs: str = "y", **given: Any) -> Any:
    return model_of(bytes_of(nodes, outputs, **given), "it", None)


def refused(nodes: list[messages.Node], match: str, outputs: str = "y", **given: Any) -> None:
    with pytest.raises(ValueError, match=match):
        read(nodes, outputs, **given)


def close(model: Any, want: Any, x: Any = X) -> None:
    np.testing.assert_allclose(model.predict(x, verbose=0), want, rtol=1e-5, atol=1e-5)


def learns(model: Any) -> bool:
    """Whether a step of training moves the weights."""
    before = [v.numpy() for v in model.trainable_variables]
    model.compile("sgd", "mse")
    model.fit(X, np.zeros_like(model.predict(X, verbose=0)), verbose=0)
    after = model.trainable_variables
    return bool(before) and not any(
        np.array_equal(a, b.numpy()) for a, b in zip(before, after, strict=True)
    )


TRUE = np.array(True)


# --- choices -------------------------------------------------------------------------------------


def chosen(**attrs: Any) -> list[messages.Node]:
    """A choice between a product and a sum, by a condition ``c``."""
    given = {
        "then_branch": graph([node("MatMul", "x w", "a")], "", "a"),
        "else_branch": graph([node("Add", "x b", "a")], "", "a", b=np.ones(3, "float32")),
        **attrs,
    }
    return [node("If", "c", "y", **given)]


def test_the_branch_that_a_file_decides_is_all_that_is_left() -> None:
    for condition, want in ((True, X @ W), (False, X + 1)):
        model = read([*chosen(), node("Identity", "y", "z")], "z", w=W, c=np.array([condition]))
        close(model, want)
        kinds = [type(layer).__name__ for layer in model.layers[1:]]
        assert kinds == (["Dense"] if condition else ["OnnxGraph"])
        assert learns(model)


def test_a_condition_computed_from_numbers_of_the_file() -> None:
    nodes = [node("Less", "one two", "c0"), node("Not", "c0", "c"), *chosen()]
    model = read(nodes, w=W, one=np.array(1.0), two=np.array(2.0))
    close(model, X + 1)


def test_a_condition_computed_from_inputs_is_a_branch_of_the_program(tmp_path: Path) -> None:
    head = [node("ReduceSum", "x", "s", keepdims=0), node("Greater", "s zero", "c")]
    model = read([*head, *chosen()], w=W, zero=np.array(0, "float32"))
    assert X.sum() != 0
    for x in (X, -X):
        close(model, x @ W if x.sum() > 0 else x + 1, x)
    model.save(tmp_path / "m.hmill")
    again = hm.models.load_model(tmp_path / "m.hmill")
    assert np.array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    before = [v.numpy() for v in model.trainable_variables]
    model.compile("sgd", "mse")
    model.fit(X, np.zeros_like(X), verbose=0)
    moved = [
        not np.array_equal(a, b.numpy())
        for a, b in zip(before, model.trainable_variables, strict=True)
    ]
    assert sorted(moved) == [False, True]  # those of the branch that ran


def test_branches_of_other_shapes_or_dtypes() -> None:
    head = [node("ReduceSum", "x", "s", keepdims=0), node("Greater", "s zero", "c")]
    for other in (node("Transpose", "x", "a", perm=[1, 0]), node("Cast", "x", "a", to=7)):
        branch = graph([other], "", "a")
        nodes = [*head, *chosen(else_branch=branch)]
        refused(
            nodes,
            r"If in 'the If of y': its condition is computed from the model's inputs, so that "
            r"both branches must give the same shapes and dtypes: .*then_branch gives float32",
            w=W,
            zero=np.array(0, "float32"),
        )


# --- loops ---------------------------------------------------------------------------------------


def repeated(body: messages.Graph, inputs: str, outputs: str = "y") -> list[messages.Node]:
    return [node("Loop", inputs, outputs, body=body)]


def products(*more: messages.Node) -> messages.Graph:
    """v <- tanh(v @ w), and a row of it where ``more`` makes ``r``."""
    nodes = [node("MatMul", "v w", "p"), node("Tanh", "p", "u"), node("Identity", "go", "still")]
    return graph([*nodes, *more], "i go v", "still u" + " r" * bool(more))


def after(steps: int, w: Any = W) -> Any:
    v = X
    for _ in range(steps):
        v = np.tanh(v @ w)
    return v


@pytest.mark.parametrize("steps", (0, 3, 2_000))
def test_loops_of_a_known_number_of_steps(steps: int) -> None:
    """Written out, or a loop of the program; weights of the file in both learn."""
    row = node("ReduceMean", "u", "r", axes=[1], keepdims=0)
    w = W if steps < 100 else np.asarray(np.eye(3), "float32")
    model = read(
        repeated(products(row), "m t x", "y rows"), "y rows", w=w, m=np.array([steps]), t=TRUE
    )
    y, rows = model.predict(X, verbose=0)
    want = after(steps, w)
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)
    assert rows.shape == (steps, 4)
    if steps:
        np.testing.assert_allclose(rows[-1], want.mean(1), rtol=1e-4, atol=1e-5)
        assert learns(read(repeated(products(), "m _ x"), w=w, m=np.array(steps)))


def test_both_forms_of_a_loop_have_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written out and as a loop of the program; the first is the plain chain of operators."""
    trained = []
    for most in (1_000, 8):  # operators that may be written out
        monkeypatch.setattr(execution, "MOST_WRITTEN_OUT", most)
        model = read(repeated(products(), "m t x"), w=W, m=np.array(4), t=TRUE)
        close(model, after(4))
        model.compile(hm.optimizers.SGD(0.5), "mse")
        model.fit(X, np.ones_like(X), epochs=3, verbose=0)
        trained.append(model.trainable_variables[0].numpy())
    assert np.abs(trained[0] - W).max() > 0.01
    np.testing.assert_allclose(*trained, rtol=1e-5, atol=1e-6)


def test_a_step_may_use_its_number_as_a_size() -> None:
    """A loop that is written out: each step appends one column more, of another size."""
    body = graph(
        [
            node("Concat", "v x", "u", axis=1),
            node("Slice", "u zero i1 one", "part"),
            node("Unsqueeze", "i zero", "i0"),
            node("Add", "i0 one", "i1"),
        ],
        "i go v",
        "go u",
    )
    body.node = [body.node[i] for i in (0, 2, 3, 1)]
    body.output[1].name = "part"
    model = read(
        repeated(body, "m t x"), m=np.array(3), t=TRUE, zero=np.array([0]), one=np.array([1])
    )
    close(model, X[:, [0, 0, 0]])


def test_as_many_steps_as_rows() -> None:
    """The number of steps is a size that each call decides."""
    head = [node("Shape", "x", "s"), node("Gather", "s zero", "m", axis=0)]
    body = graph(
        [
            node("Gather", "x i", "row", axis=0),
            node("Add", "v row", "u"),
            node("Identity", "u", "r"),
        ],
        "i go v",
        "go u r",
    )
    nodes = [*head, *repeated(body, "m _ start", "total rows"), node("Mul", "rows b", "y")]
    model = read(nodes, zero=np.array(0), start=np.zeros(3, "float32"), b=np.ones(3, "float32") * 2)
    for rows in (4, 2):
        close(model, np.cumsum(X[:rows], 0) * 2, X[:rows])
    assert learns(model)


def test_loops_that_a_condition_ends() -> None:
    """Known while tracing: written out. Computed from inputs: a loop of the program."""
    known = graph(
        [node("Mul", "v two", "u"), node("Add", "k one", "k1"), node("Less", "k1 five", "still")],
        "i go k v",
        "still k1 u",
    )
    given = {"two": np.float32(2), "one": np.array(1), "five": np.array(5), "k": np.array(0)}
    model = read(repeated(known, "_ t k x", "count y"), **given, t=TRUE)
    close(model, X * 32)
    open_ = graph(
        [node("Mul", "v two", "u"), node("ReduceMax", "u", "top", keepdims=0),
         node("Less", "top hundred", "still")],
        "i go v",
        "still u",
    )  # fmt: skip
    numbers = {"two": np.float32(2), "hundred": np.float32(100), "t": TRUE}
    model = read(repeated(open_, "m t x"), **numbers, m=np.array(2**63 - 1))
    want = X
    while want.max() < 100:
        want = want * 2
    close(model, want)
    model = read(repeated(open_, "m t x"), **numbers, m=np.array(2))
    close(model, X * 4)


@pytest.mark.parametrize(
    ("given", "match"),
    (
        ({"m": np.array(2**62)}, r"it runs 4,611,686,018,427,387,904 steps, at most 1,048,576"),
        ({"m": np.array([1, 2])}, r"its number of steps must be one integer, it is int64\(2,\)"),
        ({"m": np.array(1.5)}, r"its number of steps must be one integer, it is float64"),
        ({"t": np.array([True, True])}, r"its condition must be one bool, it is bool\(2,\)"),
        ({"t": np.array(1.0)}, r"its condition must be one bool, it is float64"),
    ),
)
def test_numbers_of_steps_and_conditions(given: dict[str, Any], match: str) -> None:
    numbers = {"w": W, "m": np.array(3), "t": TRUE, **given}
    refused(repeated(products(), "m t x"), "Loop in 'the Loop of y': " + match, **numbers)


MORE = "compute more than 1,000 operators one by one while the file is read"


def test_loops_without_an_end() -> None:
    """Numbers of the file alone are computed while it is read, and no longer than that."""
    body = graph([node("Add", "v v", "u")], "i go v", "go u")
    nodes = [*repeated(body, "m t w", "z"), node("MatMul", "x z", "y")]
    refused(nodes, MORE, w=W, t=TRUE, m=np.array(2**40))


@pytest.mark.slow
def test_loops_without_an_end_that_are_traced() -> None:
    refused(repeated(products(), "_ t x"), MORE, w=W, t=TRUE)


@pytest.mark.slow
def test_loops_in_loops() -> None:
    """Many steps of many steps are loops of the program, and nothing is written out."""
    inner = node("Loop", "m t v", "u", body=graph([node("Add", "a a", "b")], "j go2 a", "go2 b"))
    nested = repeated(graph([inner], "i go v", "go u"), "m t x")
    model = read(nested, m=np.array(400), t=TRUE)
    assert model.predict(X[:1] * 0, verbose=0).tolist() == [[0.0, 0.0, 0.0]]


def test_results_stacked_by_a_loop_of_unknown_length() -> None:
    row = node("ReduceMax", "u", "r", keepdims=0)
    body = products(row, node("Less", "r w00", "open"))
    body.output[0].name = "open"
    refused(
        repeated(body, "m t x", "y rows"),
        r"how many steps it takes is computed from the model's inputs, and \['rows'\] hold a",
        w=W, w00=np.float32(1), m=np.array(50_000), t=TRUE,
    )  # fmt: skip


def test_a_carried_value_that_changes_its_shape() -> None:
    grows = graph([node("Concat", "v v", "u", axis=1)], "i go v", "go u")
    close(read(repeated(grows, "m t x"), m=np.array(2), t=TRUE), np.tile(X, 4))
    refused(repeated(grows, "m t x"), r"went in as .* and came out as", m=np.array(5_000), t=TRUE)


# --- scans ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("backwards", (0, 1))
def test_scan(backwards: int) -> None:
    """Running sums of the columns of rows, stacked as columns, along a product with weights."""
    body = graph([node("Add", "s c", "t"), node("MatMul", "t w", "r")], "s c", "t r")
    start = [node("ReduceSum", "x axis", "zeros0", keepdims=1), node("Mul", "zeros0 none", "zeros"),
             node("Unsqueeze", "x minus", "columns")]  # fmt: skip
    scan = node(
        "Scan", "zeros columns", "last rows", body=body, num_scan_inputs=1, scan_input_axes=[1],
        scan_output_axes=[-1], scan_input_directions=[backwards],
        scan_output_directions=[backwards],
    )  # fmt: skip
    numbers = {"axis": np.array([1]), "none": np.float32(0), "minus": np.array([-1])}
    nodes = [*start, scan, node("ReduceSum", "rows axis", "y", keepdims=0)]
    w = np.array([[2.0]], "float32")
    model = read(nodes, **numbers, w=w)
    order = X[:, ::-1] if backwards else X
    want = np.cumsum(order, 1) * 2
    close(model, want[:, ::-1] if backwards else want)
    close(model, (want[:, ::-1] if backwards else want)[:2], X[:2])
    assert learns(model)


def test_scan_along_rows_that_a_call_decides() -> None:
    body = graph([node("Max", "s r", "t"), node("Identity", "t", "o")], "s r", "t o")
    scan = node("Scan", "start x", "last y", body=body, num_scan_inputs=1)
    model = read([scan], start=np.full(3, -9, "float32"))
    for rows in (4, 1):
        close(model, np.maximum.accumulate(X[:rows], 0), X[:rows])


@pytest.mark.parametrize(
    ("attrs", "match"),
    (
        ({"num_scan_inputs": 0}, "its graph has 2 inputs, of which 0 are scanned"),
        ({"num_scan_inputs": 3}, "its graph has 2 inputs, of which 3 are scanned"),
        ({"scan_input_axes": [2]}, "the axis 2 is none of 2"),
        ({"scan_input_axes": [0, 0]}, "for 1 tensors"),
        ({"scan_input_directions": [2]}, "directions are 0 or 1"),
        ({"scan_output_axes": [3]}, "the axis 3 is none of 2"),
        ({"strange": 1}, r"its attributes \['strange'\] are not read"),
    ),
)
def test_scans_that_are_wrong(attrs: dict[str, Any], match: str) -> None:
    body = graph([node("Max", "s r", "t"), node("Identity", "t", "o")], "s r", "t o")
    given = {"num_scan_inputs": 1, **attrs}
    scan = node("Scan", "start x", "last y", body=body, **given)
    refused([scan], "Scan in 'the Scan of last y': .*" + match, start=np.zeros(3, "float32"))


def test_layers_of_the_users_own_come_back(tmp_path: Path) -> None:
    """Cells of the user's own are written as Scan."""

    class Cell(L.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.units = self.state_size = 2
            self.mix = L.Dense(2)

        def build(self, shape: Any) -> None:
            self.mix.build((None, shape[-1] + 2))

        def call(self, x: Any, states: Any) -> Any:
            y = hm.ops.tanh(self.mix(hm.ops.concatenate([x, states[0]], -1)))
            return y, [y]

    model = hm.Sequential([L.Input((None, 3)), L.RNN(Cell(), return_sequences=True)])
    model.export(tmp_path / "m.onnx", format="onnx")
    found = hm.exchange.load_onnx(tmp_path / "m.onnx")
    for steps in (5, 2):
        x = RNG.normal(size=(3, steps, 3)).astype("float32")
        close(found, model.predict(x, verbose=0), x)
    found.save(tmp_path / "m.hmill")
    again = hm.models.load_model(tmp_path / "m.hmill")
    assert np.array_equal(again.predict(x, verbose=0), found.predict(x, verbose=0))


# --- names, and what is hostile ------------------------------------------------------------------


def test_casts_that_bodies_read_stay() -> None:
    """A Cast that changes nothing is dropped, but for a body that knows it by its name."""
    body = graph([node("Add", "v same", "u")], "i go v", "go u")
    nodes = [node("Cast", "x", "same", to=1), *repeated(body, "m t x", "u"),
             node("MatMul", "u w", "y")]  # fmt: skip
    close(read(nodes, w=W, m=np.array(2), t=TRUE), 3 * X @ W)


def test_single_factors_are_no_weights() -> None:
    """As exporters write scales of attention; what is added to a product is one."""
    nodes = [node("MatMul", "x w", "a"), node("Add", "a b", "c"), node("Mul", "c f", "d"),
             node("Sin", "d", "y")]  # fmt: skip
    model = read(nodes, w=W[:, :1], b=np.ones(1, "float32"), f=np.full(1, 2, "float32"))
    close(model, np.sin((X @ W[:, :1] + 1) * 2))
    assert sorted(v.shape for v in model.trainable_variables) == [(1,), (3, 1)]


def test_names_inside_may_be_those_outside() -> None:
    """A body's values hide those around it, and its weights are weights."""
    body = graph(
        [node("MatMul", "x w", "y"), node("Identity", "i", "w2")], "i go x", "go y", w=2 * W
    )
    nodes = [*repeated(body, "m t x", "u"), node("MatMul", "u w", "y")]
    model = read(nodes, w=W, m=np.array(2), t=TRUE)
    close(model, X @ (2 * W) @ (2 * W) @ W)
    assert learns(model)
    assert sum(v.shape == (3, 3) for v in model.trainable_variables) == 2


@pytest.mark.parametrize(
    ("nodes", "inputs", "outputs", "match"),
    (
        ([node("Add", "v later", "u"), node("Add", "u u", "later")], "i go v", "go u",
         "'later', which 'the Add of u' reads, is used before it is written"),
        ([node("Add", "v behind", "u")], "i go v", "go u",
         "'behind', which 'the Add of u' reads, is used before it is written"),
        ([node("Add", "v nothing", "u")], "i go v", "go u",
         "'nothing', which 'the Add of u' reads, is written nowhere"),
        ([node("Add", "v v", "u")], "i go v", "go missing", "output 'missing' is written nowhere"),
        ([node("Add", "v v", "u"), node("Add", "v v", "u")], "i go v", "go u", "written twice"),
        ([node("Add", "v v", "u")], "i v v", "i u", "input 'v' is there twice"),
        ([node("Add", "v v", "u")], "i go v z", "go u", "has 3 operands, but the inputs of its "
         r"graphs are \[4\]: 4 operands were expected"),
        ([node("Add", "i i", "u")], "i go", "go u", "has 3 operands.*2 operands were expected"),
        ([node("Add", "v v", "u")], "i go v", "go", "its graph has 3 inputs and 1 outputs"),
        ([node("Fancy", "v", "u")], "i go v", "go u", "Fancy: 1 time, first in node 'the Fancy"),
    ),
)  # fmt: skip
def test_hostile_bodies(nodes: list[messages.Node], inputs: str, outputs: str, match: str) -> None:
    body = graph(nodes, inputs, outputs)
    more = node("Add", "y y", "behind")
    given = {"w": W, "m": np.array(2), "t": TRUE}
    refused([*repeated(body, "m t x"), more], match, "y behind", **given)


def test_graphs_that_are_missing_or_nested_too_deep() -> None:
    refused([node("Loop", "m t x", "y")], "has no graph 'body'", m=np.array(1), t=TRUE)
    refused([node("Loop", "m t x", "y", body=3)], "has no graph 'body'", m=np.array(1), t=TRUE)
    refused(
        [node("If", "c", "y", then_branch=graph([], "", "x"))], "no graph 'else_branch'", c=TRUE
    )
    refused(
        chosen(else_branch=graph([node("Neg", "q", "a")], "q", "a")), "and no inputs", c=TRUE, w=W
    )
    refused([node("Relu", "x", "y", body=graph([], "", "x"))], "graphs and such")
    body = graph([node("Neg", "x", "y0")], "", "y0")
    other = graph([node("Relu", "x", "a")], "", "a")
    for i in range(12):
        nodes = [node("If", "c", "y", then_branch=body, else_branch=other)]
        if i == 3:
            close(read(nodes, c=TRUE), -X)
        inner = node("If", "c", f"y{i + 1}", then_branch=body, else_branch=other)
        body = graph([inner], "", f"y{i + 1}")
    with pytest.raises(FileFormatError, match="nested more than 32 deep"):
        read(nodes, c=TRUE)
