"""Pictures: of models, by handmill alone, graphviz or matplotlib; of training and results."""

from __future__ import annotations

import itertools
import shutil
import warnings
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import handmill
from handmill import layers, ops
from handmill.inspection import model_plot
from handmill.inspection.layered_layout import layered
from handmill.utils import model_to_dot, plot_model

SVG = "{http://www.w3.org/2000/svg}"


def network():
    a, b = handmill.Input((8,), name="numbers"), handmill.Input((4,), name="<输入>")
    inner = handmill.Sequential(
        [handmill.Input((6,)), layers.Dense(5, activation="relu", name="deep")], name="inner"
    )
    x = layers.Add(name="sum")([layers.Dense(6, name="left")(a), layers.Dense(6, name="right")(b)])
    far = layers.Dense(5, name="far", trainable=False)(a)
    return handmill.Model([a, b], [ops.tanh(inner(x)) + far, x], name="net")


def texts(path):
    return ["".join(t.itertext()) for t in ET.parse(path).getroot().iter(f"{SVG}text")]


def rectangles(path):
    found = []
    for box in list(ET.parse(path).getroot().iter(f"{SVG}rect"))[1:]:
        x, y, w, h = (float(box.get(k)) for k in ("x", "y", "width", "height"))
        found.append((x, y, x + w, y + h))
    return found


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def inside(a, b):
    return b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3]


@pytest.mark.parametrize("rankdir", ("TB", "BT", "LR", "RL"))
def test_svg(tmp_path, rankdir):
    path = tmp_path / "model.svg"
    assert plot_model(network(), path, rankdir=rankdir) is None
    assert sorted(texts(path)) == [
        "Add", "Add", "Dense", "Dense", "Dense", "InputLayer", "InputLayer", "Sequential", "Tanh"
    ]  # fmt: skip
    boxes = rectangles(path)
    assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
    arrows = list(ET.parse(path).getroot().findall(f"{SVG}path"))
    assert len(arrows) == 9  # one for each tensor that a layer takes
    # Arrows begin and end at the borders of boxes, and lead where rankdir says.
    for arrow in arrows:
        numbers = arrow.get("d").replace("M", " ").replace("L", " ").split()
        start, end = tuple(map(float, numbers[:2])), tuple(map(float, numbers[-2:]))
        axis = 0 if rankdir in ("LR", "RL") else 1
        assert (end[axis] > start[axis]) is (rankdir in ("TB", "LR"))


def test_what_boxes_say(tmp_path):
    path = tmp_path / "model.svg"
    plot_model(
        network(), path, show_shapes=True, show_dtype=True, show_layer_names=True,
        show_layer_activations=True, show_trainable=True, expand_nested=True, splines="curved",
    )  # fmt: skip
    found = texts(path)
    for text in (
        "<输入> (InputLayer)", "deep (Dense)", "Activation: relu", "Input: (None, 6), (None, 6)",
        "Output: (None, 5)", "Dtype: float32", "Trained", "Not trained",
    ):  # fmt: skip
        assert text in found
    boxes = rectangles(path)
    nested = [(a, b) for a in boxes for b in boxes if a != b and overlap(a, b)]
    assert len(nested) == 4  # the inner model and its two layers
    assert all(inside(a, b) or inside(b, a) for a, b in nested)
    assert sum(box.get("stroke-dasharray") is not None for box in
               ET.parse(path).getroot().iter(f"{SVG}rect")) == 1  # fmt: skip


def test_models_without_a_graph(tmp_path):
    class Own(handmill.Model):
        def __init__(self):
            super().__init__(name="own")
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    own = Own()
    with pytest.raises(ValueError, match="not yet been built"):
        plot_model(own, tmp_path / "m.svg")
    own(np.ones((1, 3), "float32"))
    plot_model(own, tmp_path / "m.svg", show_layer_names=True)
    assert texts(tmp_path / "m.svg") == ["own (Own)"]


def test_dot(tmp_path, monkeypatch):
    path = tmp_path / "model.dot"
    plot_model(network(), path, rankdir="LR", show_layer_names=True, expand_nested=True)
    text = path.read_text("utf-8")
    assert 'rankdir="LR"' in text
    assert "subgraph cluster_" in text
    assert text.count("->") == 10
    assert text.count("{") == text.count("}")
    monkeypatch.setitem(__import__("sys").modules, "pydot", None)
    with pytest.raises(ImportError, match=r"pip install pydot.*model.dot"):
        model_to_dot(network())


def test_graphviz_draws_other_formats(tmp_path, monkeypatch):
    """A program in graphviz's place: it gets the graph and the format."""
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\necho "$1" > "$3"\ncat >> "$3"\n')
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    plot_model(network(), tmp_path / "model.png", dpi=77)
    first, second, *_ = (tmp_path / "model.png").read_text("utf-8").splitlines()
    assert (first, second) == ("-Tpng", "digraph model {")
    assert "dpi=77" in (tmp_path / "model.png").read_text("utf-8")
    program.write_text("#!/bin/sh\necho no such format >&2\nexit 1\n")
    with pytest.raises(ValueError, match="no such format"):
        plot_model(network(), tmp_path / "model.xyz")


def test_without_graphviz_and_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(model_plot.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"handmill\[plot\].*model\.svg"):
        plot_model(network(), tmp_path / "model.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "problem"),
    (
        ({"rankdir": "UP"}, "rankdir: expected one of TB"),
        ({"splines": "bent"}, "splines: expected one of ortho"),
        ({"layer_range": ["a"]}, "no longer supported"),
        ({"colour": 3}, "Unrecognized keyword arguments"),
    ),
)
def test_arguments_that_do_not_exist(tmp_path, given, problem):
    for call in (lambda: plot_model(network(), tmp_path / "m.svg", **given),
                 lambda: model_to_dot(network(), **given)):  # fmt: skip
        with pytest.raises(ValueError, match=problem):
            call()
    with pytest.raises(ValueError, match="subgraph"):
        model_to_dot(network(), subgraph=True)


def test_layers_of_a_picture():
    """Every edge leads down; boxes of a layer keep their distance; long edges avoid boxes."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        count = int(rng.integers(1, 14))
        sizes = [(float(w), float(h)) for w, h in rng.uniform(10, 80, (count, 2))]
        edges = [(i, j) for i in range(count) for j in range(i + 1, count) if rng.random() < 0.2]
        places = layered(sizes, edges)
        boxes = [
            (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
            for (x, y), (w, h) in zip(places.centers, sizes, strict=True)
        ]
        assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
        assert all(x0 > -1e-6 and x1 < places.width + 1e-6 for x0, _, x1, _ in boxes)
        for line, (start, end) in zip(places.lines, edges, strict=True):
            assert line[0][1] == pytest.approx(boxes[start][3])
            assert line[-1][1] == pytest.approx(boxes[end][1])
            assert all(a[1] <= b[1] + 1e-6 for a, b in itertools.pairwise(line))
            for x, y in line[1:-1]:
                assert not any(b[0] < x < b[2] and b[1] < y < b[3] for b in boxes)


# handmill.plot

RNG = np.random.default_rng(1)
X = RNG.normal(size=(64, 4)).astype("float32")


@pytest.fixture(scope="module")
def plot():
    pytest.importorskip("matplotlib")
    return handmill.plot


def is_png(path):
    return path.read_bytes()[:4] == b"\x89PNG"


def test_model_by_matplotlib(plot, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a machine without Chinese fonts says so
        plot_model(network(), tmp_path / "m.png", show_shapes=True, dpi=50)
        plot_model(network(), tmp_path / "m", show_layer_names=True, dpi=50)
    assert is_png(tmp_path / "m.png")


def test_history(plot, tmp_path):
    history = {"loss": [3.0, 2.0, 1.5, 1.0], "val_loss": [2.5, 1.5], "mae": [1.0, 0.5, 0.4, 0.3]}
    figure = plot.history(history, title="training", to_file=tmp_path / "h.png")
    assert is_png(tmp_path / "h.png")
    first, second = figure.axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in first.get_lines()}
    assert lines["training"] == [[1, 3.0], [2, 2.0], [3, 1.5], [4, 1.0]]
    assert lines["validation"] == [[2, 2.5], [4, 1.5]]
    assert second.get_ylabel() == "mae"
    assert len(plot.history(history, names=["mae"]).axes) == 1
    for wrong, problem in (
        (lambda: plot.history(history, names=["auc"]), r"no numbers \['auc'\]"),
        (lambda: plot.history({}), "there are no numbers"),
    ):
        with pytest.raises(ValueError, match=problem):
            wrong()
    with pytest.raises(TypeError, match="what fit\\(\\) returned, or a dict of lists, got list"):
        plot.history([1.0, 0.5])


def test_confusion_matrix(plot):
    true, predicted = [0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 2, 0]
    figure = plot.confusion_matrix(true, predicted, labels=["a", "b", "c"])
    table = [text.get_text() for text in figure.axes[0].texts]
    assert table == ["1", "1", "0", "0", "1", "0", "1", "0", "2"]
    rows = np.eye(3)
    again = plot.confusion_matrix(rows[true], rows[predicted], normalize=True)
    assert [t.get_text() for t in again.axes[0].texts][:3] == ["0.50", "0.50", "0.00"]
    two = plot.confusion_matrix([0, 1, 1], np.array([[0.2], [0.9], [0.4]]))
    assert [t.get_text() for t in two.axes[0].texts] == ["1", "0", "1", "1"]
    for wrong, problem in (
        (lambda: plot.confusion_matrix([0, 1], [0]), "y_pred 1"),
        (lambda: plot.confusion_matrix([0, 2], [0, 1], labels=["a"]), "3 classes, but 1 labels"),
        (lambda: plot.confusion_matrix([0, -1], [0, 1]), "start at 0"),
        (lambda: plot.confusion_matrix(np.zeros((1, 2, 3)), [0]), "rows of scores"),
    ):
        with pytest.raises(ValueError, match=problem):
            wrong()


def test_curves(plot):
    true = np.array([0, 1, 1, 0, 1, 0, 0, 1])
    scores = np.array([0.1, 0.9, 0.8, 0.8, 0.4, 0.3, 0.35, 0.7])
    figure = plot.roc_curve(true, scores)
    (curve, _) = figure.axes[0].get_lines()
    # Pairs of a positive and a negative: right ones, half of the equal ones.
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[true == 1] for b in scores[true == 0]]
    assert curve.get_label() == f"AUC = {np.mean(pairs):.3f}"
    assert curve.get_xydata()[0].tolist() == [0, 0]
    assert curve.get_xydata()[-1].tolist() == [1, 1]
    figure = plot.precision_recall_curve(true, scores)
    (curve,) = figure.axes[0].get_lines()
    assert curve.get_xydata()[-1].tolist() == [1, 0.5]
    several = plot.roc_curve(np.arange(6) % 3, np.eye(3)[np.arange(6) % 3], labels=["a", "b", "c"])
    assert [t.get_text() for t in several.axes[0].get_legend().get_texts()][:2] == [
        "a: AUC = 1.000", "b: AUC = 1.000"
    ]  # fmt: skip
    into = plot.roc_curve(true, scores, ax=several.axes[0], title="both")
    assert into is several
    assert several.axes[0].get_title() == "both"
    for function in (plot.roc_curve, plot.precision_recall_curve):
        for given, problem in (
            (([0, 1], [0.1]), "2 samples"),
            (([0, 1], [0.1, np.nan]), "NaN"),
            (([0, 2], [0.1, 0.2]), "3 classes, but one score"),
            (([0, 3], np.ones((2, 3))), "3 classes; labels or y_true"),
        ):
            with pytest.raises(ValueError, match=problem):
                function(*given)


@pytest.mark.peers
def test_curves_agree_with_scikit_learn(plot):
    metrics = pytest.importorskip("sklearn.metrics")
    true = RNG.integers(0, 2, 200)
    scores = np.round(RNG.random(200) + 0.3 * true, 1)  # with equal scores
    (curve, _) = plot.roc_curve(true, scores).axes[0].get_lines()
    assert curve.get_label() == f"AUC = {metrics.roc_auc_score(true, scores):.3f}"
    (curve,) = plot.precision_recall_curve(true, scores).axes[0].get_lines()
    wanted = metrics.average_precision_score(true, scores)
    assert curve.get_label() == f"average precision = {wanted:.3f}"


def test_histograms(plot, tmp_path):
    model = handmill.Sequential(
        [handmill.Input((4,)), layers.Dense(3), layers.BatchNormalization(), layers.Dense(1)],
        name="m",
    )
    figure = plot.weight_histograms(model, to_file=tmp_path / "w.png")
    assert figure.axes[0].get_title().startswith("m/dense")
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == 12
    with pytest.raises(ValueError, match="compile"):
        plot.gradient_histograms(model, X, X[:, :1])
    model.compile("sgd", "mse")
    before = model.get_weights()
    figure = plot.gradient_histograms(model, X, X[:, :1])
    assert len(figure.axes) == 6
    for kept, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, now)
    model.layers[0].bias.assign([np.nan, 1.0, 2.0])
    titles = [axes.get_title() for axes in plot.weight_histograms(model).axes]
    assert "1 not finite" in titles[1]
    with pytest.raises(ValueError, match="nothing to draw"):
        plot.weight_histograms(handmill.Sequential([layers.Dense(2)]))


def test_fonts_that_lack_characters(plot, monkeypatch):
    from handmill.inspection import fonts

    assert fonts.fonts_for(["plain text", "Größe"]) == ["DejaVu Sans"]
    monkeypatch.setattr(fonts, "_installed", lambda: [("Some Font", "some.ttf")])
    own = fonts._characters
    has = {"some.ttf": frozenset("学習")}
    monkeypatch.setattr(fonts, "_characters", lambda path: has.get(path) or own(path))
    assert fonts.fonts_for(["学習"]) == ["DejaVu Sans", "Some Font"]
    with pytest.warns(UserWarning, match=r"no installed font has '曲线'.*fonts-noto-cjk"):
        fonts.fonts_for(["学習曲线"])


def test_missing_characters_are_told_once(plot, monkeypatch, tmp_path):
    from handmill.inspection import fonts

    monkeypatch.setattr(fonts, "_installed", lambda: [])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        plot.confusion_matrix([0, 1], [0, 1], ["否", "是"], to_file=tmp_path / "c.png")
    assert ["no installed font" in str(warning.message) for warning in told] == [True]


def test_matplotlib_itself_is_left_alone(plot):
    import matplotlib

    before = dict(matplotlib.rcParams)
    plot.confusion_matrix([0, 1], [0, 1])
    assert dict(matplotlib.rcParams) == before
