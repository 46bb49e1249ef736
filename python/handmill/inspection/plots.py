"""Pictures of training and of results; public as ``handmill.plot``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handmill.inspection.fonts import fonts_for, write_figure
from handmill.ir.op import Array

_SIZE = (6.4, 4.2)


def history(
    history: Any, names: Sequence[str] | None = None, title: str = "", to_file: Any = None
) -> Any:
    """Draws the numbers of each epoch, validation beside training, one panel for each number.

    Args:
        history: what ``fit`` returned, or its ``history``.
        names: which numbers, without ``val_``; default: all.
        title: stands above.
        to_file: where to write the picture, if anywhere.

    Returns:
        The figure.

    Raises:
        ValueError: if there is nothing to draw, or no number of a name.
        TypeError: if ``history`` is neither a ``History`` nor a dict.
        ImportError: if matplotlib is missing.
    """
    found: Mapping[str, Sequence[float]] = getattr(history, "history", history)
    if not isinstance(found, Mapping):
        raise TypeError(
            f"history: expected what fit() returned, or a dict of lists, got {type(found).__name__}"
        )
    epochs = getattr(history, "epoch", None)
    known = list(dict.fromkeys(name.removeprefix("val_") for name in found))
    names = known if names is None else list(names)
    if missing := [name for name in names if name not in known]:
        raise ValueError(f"history: no numbers {missing}; there are {known}")
    if not names:
        raise ValueError("history: there are no numbers; was fit() called?")
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = new_figure((4.6 * columns, 3.6 * rows))
    for i, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, i + 1)
        for key, label, style in ((name, "training", "-"), (f"val_{name}", "validation", "--")):
            if key in found:
                values = np.asarray(found[key], np.float64)
                fits = epochs is not None and len(epochs) == len(values)
                # Validation with validation_freq has fewer numbers, at the end of every n-th.
                steps = np.asarray(epochs) + 1 if fits else _epochs_of(values, found)
                marker = "o" if len(values) < 25 else None
                axes.plot(steps, values, style, marker=marker, markersize=3.5, label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    return finished(figure, title, to_file)


def _epochs_of(values: Array, found: Mapping[str, Sequence[float]]) -> Array:
    total = max(len(v) for v in found.values())
    every = total // len(values) if len(values) else 1
    return every * np.arange(1, len(values) + 1)


def confusion_matrix(
    y_true: Any,
    y_pred: Any,
    labels: Sequence[str] | None = None,
    normalize: bool = False,
    title: str = "",
    ax: Any = None,
    to_file: Any = None,
) -> Any:
    """Draws how often each class was taken for each.

    Args:
        y_true: class numbers, or one-hot rows.
        y_pred: class numbers, or a row of scores for each sample; of one column, probabilities of
            the second class.
        labels: names of the classes.
        normalize: whether rows are divided by their sums.
        title: stands above.
        ax: axes to draw into; default: a new figure.
        to_file: where to write the picture, if anywhere.

    Returns:
        The figure.

    Raises:
        ValueError: if the arrays do not fit.
        ImportError: if matplotlib is missing.

    Example:
        >>> import handmill
        >>> figure = handmill.plot.confusion_matrix([0, 1, 1], [0, 1, 0], labels=["cat", "dog"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['1', '0', '1', '1']
    """
    true, predicted = _classes("y_true", y_true), _classes("y_pred", y_pred)
    if len(true) != len(predicted):
        raise ValueError(
            f"confusion_matrix: y_true has {len(true)} samples, y_pred {len(predicted)}"
        )
    count = int(max(true.max(initial=0), predicted.max(initial=0))) + 1
    if labels is not None:
        if len(labels) < count:
            raise ValueError(f"confusion_matrix: {count} classes, but {len(labels)} labels")
        count = len(labels)
    table = np.zeros((count, count))
    np.add.at(table, (true, predicted), 1)
    shown = table / np.maximum(table.sum(1, keepdims=True), 1) if normalize else table
    figure, axes = _axes(ax, (1.6 + 0.55 * count, 1.3 + 0.5 * count) if count > 6 else (4.6, 4.0))
    image = axes.imshow(shown, cmap="Blues", vmin=0)
    figure.colorbar(image, ax=axes, fraction=0.046, pad=0.04)
    names = [str(label) for label in labels] if labels is not None else list(map(str, range(count)))
    turned = max(map(len, names)) > 4
    axes.set_xticks(
        range(count), names, rotation=45 if turned else 0, ha="right" if turned else "center"
    )
    axes.set_yticks(range(count), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if count <= 25:
        dark = shown.max(initial=0) / 2
        for (i, j), value in np.ndenumerate(shown):
            text = f"{value:.2f}" if normalize else f"{int(value)}"
            color = "white" if value > dark else "black"
            axes.text(j, i, text, ha="center", va="center", color=color, fontsize=9)
    return finished(figure, title, to_file, None if ax is None else axes)


def roc_curve(
    y_true: Any,
    y_score: Any,
    labels: Sequence[str] | None = None,
    title: str = "",
    ax: Any = None,
    to_file: Any = None,
) -> Any:
    """Draws the rate of true against that of false positives, for each class if there are several.

    Args:
        y_true: class numbers, or one-hot rows.
        y_score: scores of the second class, or a row of scores of all classes for each sample.
        labels: names of the classes.
        title: stands above.
        ax: axes to draw into; default: a new figure.
        to_file: where to write the picture, if anywhere.

    Returns:
        The figure.

    Raises:
        ValueError: if the arrays do not fit, or a score is not finite.
        ImportError: if matplotlib is missing.
    """
    figure, axes = _axes(ax, _SIZE)
    for name, hit, scores in _one_against_rest("roc_curve", y_true, y_score, labels):
        true, false = _counts(hit, scores)
        tpr, fpr = true / max(true[-1], 1), false / max(false[-1], 1)
        area = float(np.sum((fpr[1:] - fpr[:-1]) * (tpr[1:] + tpr[:-1]) / 2))
        axes.plot(fpr, tpr, label=f"{name}AUC = {area:.3f}")
    axes.plot([0, 1], [0, 1], ":", color="grey", label="guessing")
    _square(axes, "false positive rate", "true positive rate")
    return finished(figure, title, to_file, None if ax is None else axes)


def precision_recall_curve(
    y_true: Any,
    y_score: Any,
    labels: Sequence[str] | None = None,
    title: str = "",
    ax: Any = None,
    to_file: Any = None,
) -> Any:
    """Draws precision against recall, for each class if there are several.

    Args:
        y_true: class numbers, or one-hot rows.
        y_score: scores of the second class, or a row of scores of all classes for each sample.
        labels: names of the classes.
        title: stands above.
        ax: axes to draw into; default: a new figure.
        to_file: where to write the picture, if anywhere.

    Returns:
        The figure.

    Raises:
        ValueError: if the arrays do not fit, or a score is not finite.
        ImportError: if matplotlib is missing.
    """
    figure, axes = _axes(ax, _SIZE)
    for name, hit, scores in _one_against_rest("precision_recall_curve", y_true, y_score, labels):
        true, false = _counts(hit, scores)
        recall = true / max(true[-1], 1)
        precision = np.concatenate([[1.0], true[1:] / (true[1:] + false[1:])])
        mean = float(np.sum((recall[1:] - recall[:-1]) * precision[1:]))
        axes.step(recall, precision, where="pre", label=f"{name}average precision = {mean:.3f}")
    _square(axes, "recall", "precision")
    return finished(figure, title, to_file, None if ax is None else axes)


def weight_histograms(model: Any, bins: int = 40, title: str = "", to_file: Any = None) -> Any:
    """Draws the distribution of each weight of a model.

    Args:
        model: a model that is built.
        bins: bars of a histogram.
        title: stands above.
        to_file: where to write the picture, if anywhere.

    Returns:
        The figure.

    Raises:
        ValueError: if the model has no weights.
        ImportError: if matplotlib is missing.
    """
    arrays = {w.path: w.numpy() for w in model.weights}
    return _histograms("weight_histograms", arrays, bins, title, to_file)


def gradient_histograms(
    model: Any,
    x: Any,
    y: Any,
    sample_weight: Any = None,
    bins: int = 40,
    title: str = "",
    to_file: Any = None,
) -> Any:
    """Draws the distribution of the gradient of the loss by each trainable weight.

    The model is left as it is: no step is made.

    Args:
        model: a compiled model.
        x: inputs of one batch.
        y: targets of one batch.
        sample_weight: factors of the samples.
        bins: bars of a histogram.
        title: stands above.
        to_file: where to write the picture, if anywhere.

    Returns:
        The figure.

    Raises:
        ValueError: if the model is not compiled, or has nothing to train.
        ImportError: if matplotlib is missing.
    """
    from handmill.runtime.tape import GradientTape

    if not model.compiled:
        raise ValueError("gradient_histograms needs a loss: call model.compile(loss=...) first")
    model(x)  # which builds it
    kept = [(v, v.numpy()) for v in model.non_trainable_variables]
    try:
        with GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True), sample_weight, training=True)
        found = tape.gradient(loss, model.trainable_variables)
    finally:
        for variable, value in kept:
            variable.assign(value)
    arrays = {
        v.path: np.asarray(g)
        for v, g in zip(model.trainable_variables, found, strict=True)
        if g is not None
    }
    return _histograms("gradient_histograms", arrays, bins, title, to_file)


def _histograms(
    function: str, arrays: Mapping[str, Array], bins: int, title: str, to_file: Any
) -> Any:
    if not arrays:
        raise ValueError(f"{function}: there is nothing to draw; was the model built?")
    columns = min(len(arrays), 4)
    rows = -(-len(arrays) // columns)
    figure = new_figure((3.4 * columns, 2.5 * rows))
    for i, (name, array) in enumerate(arrays.items()):
        numbers = np.asarray(array, np.float64).reshape(-1)
        finite = numbers[np.isfinite(numbers)]
        axes = figure.add_subplot(rows, columns, i + 1)
        if finite.size:
            axes.hist(finite, min(bins, max(1, 4 * math.isqrt(finite.size))))
        lost = numbers.size - finite.size
        about = f"mean {finite.mean():.2g}, std {finite.std():.2g}" if finite.size else "empty"
        axes.set_title(f"{name}\n{about}" + (f", {lost} not finite" if lost else ""), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.xaxis.get_major_locator().set_params(nbins=5)
    return finished(figure, title, to_file)


def _classes(name: str, values: Any) -> Array:
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] > 1:
        best: Array = array.argmax(1)
        return best
    if array.ndim == 2:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"{name}: expected class numbers or rows of scores, got {array.shape}")
    if array.dtype.kind == "f" and not np.array_equal(array, np.round(array)):
        return (array > 0.5).astype(np.int64)
    found: Array = array.astype(np.int64)
    if found.min(initial=0) < 0:
        raise ValueError(f"{name}: class numbers start at 0, got {found.min()}")
    return found


def _one_against_rest(
    function: str, y_true: Any, y_score: Any, labels: Sequence[str] | None
) -> list[tuple[str, Array, Array]]:
    scores = np.asarray(y_score, np.float64)
    true = _classes("y_true", y_true)
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if scores.ndim not in (1, 2) or len(scores) != len(true):
        raise ValueError(
            f"{function}: y_true has {len(true)} samples, y_score the shape {scores.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"{function}: y_score holds NaN or infinity")
    if scores.ndim == 1:
        if true.max(initial=0) > 1:
            raise ValueError(f"{function}: {true.max() + 1} classes, but one score for each sample")
        return [("", true == 1, scores)]
    count = scores.shape[1]
    if true.max(initial=0) >= count or (labels is not None and len(labels) != count):
        raise ValueError(f"{function}: y_score has {count} classes; labels or y_true have others")
    names = labels if labels is not None else [f"class {i}" for i in range(count)]
    return [(f"{name}: ", true == i, scores[:, i]) for i, name in enumerate(names)]


def _counts(hit: Array, scores: Array) -> tuple[Array, Array]:
    """True and false positives for each threshold, from the highest down; first those of none."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # of equal scores
    true = np.cumsum(hit[order])[last]
    return np.append(0.0, true), np.append(0.0, last + 1 - true)


def _square(axes: Any, x: str, y: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.legend()


def new_figure(size: tuple[float, float]) -> Any:
    """An empty figure of so many inches.

    Raises:
        ImportError: if matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "handmill.plot needs a package: pip install matplotlib, or 'handmill[plot]'"
        ) from error
    return Figure(figsize=size, layout="constrained")


def _axes(ax: Any, size: tuple[float, float]) -> tuple[Any, Any]:
    if ax is not None:
        return ax.figure, ax
    figure = new_figure(size)
    return figure, figure.add_subplot()


def finished(figure: Any, title: str, to_file: Any, axes: Any = None) -> Any:
    """Puts the title on, finds fonts for every text and writes the file."""
    from matplotlib.text import Text

    if title and axes is not None:
        axes.set_title(title)
    elif title:
        figure.suptitle(title)
    place = figure if axes is None else axes
    texts = [text for text in place.findobj(Text) if text.get_text()]
    families = fonts_for([text.get_text() for text in texts])
    if len(families) > 1:
        for text in texts:
            text.set_fontfamily(families)
    if to_file is not None:
        write_figure(figure, to_file, dpi=150)
    return figure
