"""Pictures of comparisons and of learning curves; public in ``handmill.plot``."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.inspection.plots import finished, new_figure

_MOST_LINES = 40


def comparison(found: Any, title: str = "", ax: Any = None, to_file: Any = None) -> Any:
    """Draws each configuration's mean with the 95 % interval of its seeds, best at the top.

    What is not distinguishable from the best is drawn in full colour, the rest in grey.

    Args:
        found: a ``handmill.strategy.Comparison``, or what has one (``Runs``, ``Search``); of more
            than 40 configurations the best 40.
        title: stands above.
        ax: axes to draw into; default: a new figure.
        to_file: where to write the picture, if anywhere.

    Returns:
        The figure.

    Raises:
        TypeError: if ``found`` is no comparison.
        ImportError: if matplotlib is missing.

    Example:
        >>> import handmill
        >>> from handmill.strategy import Comparison
        >>> found = Comparison([[0.9, 0.92, 0.91], [0.5, 0.52, 0.55]], ["wide", "narrow"])
        >>> figure = handmill.plot.comparison(found)
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['wide', 'narrow']
    """
    inner = getattr(found, "comparison", found)
    found = inner() if callable(inner) else inner
    if not hasattr(found, "seed_errors"):
        raise TypeError(
            "comparison: expected a handmill.strategy.Comparison, or Runs or a Search that have "
            f"one, got {type(found).__name__}"
        )
    order = [i for i in found.order if np.isfinite(found.means[i])][:_MOST_LINES]
    own = ax is None
    axes = new_figure((6.4, 1.2 + 0.26 * len(order))).add_subplot() if own else ax
    for line, i in enumerate(order):
        error = found.seed_errors[i]
        axes.errorbar(
            found.means[i],
            line,
            xerr=error if np.isfinite(error) else None,
            fmt="o",
            capsize=3,
            markersize=4,
            color="C0" if found.undecided[i] else "0.6",
        )
    axes.set_yticks(range(len(order)), _names([found.configurations[i] for i in order]))
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_xlabel(f"{found.metric}, 95 % interval over seeds")
    axes.grid(axis="x", alpha=0.3)
    return finished(axes.figure, title, to_file, None if own else axes)


def _names(configurations: list[dict[str, Any]]) -> list[str]:
    """The settings in which configurations differ."""
    keys = list(dict.fromkeys(key for each in configurations for key in each))
    if len(configurations) > 1:
        first = configurations[0]
        keys = [k for k in keys if any(each.get(k) != first.get(k) for each in configurations)]
    found = [[each[k] for k in keys if k in each] for each in configurations]
    return [" ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in vs) for vs in found]


def learning_curve(found: Any, title: str = "", ax: Any = None, to_file: Any = None) -> Any:
    """Draws errors by the number of training rows, and where the power law through them leads.

    Args:
        found: a ``handmill.strategy.LearningCurve``.
        title: stands above.
        ax: axes to draw into; default: a new figure.
        to_file: where to write the picture, if anywhere.

    Returns:
        The figure. Without a law (``found.reason``) it shows the points alone.

    Raises:
        TypeError: if ``found`` is no learning curve.
        ImportError: if matplotlib is missing.

    Example:
        >>> import numpy as np
        >>> import handmill
        >>> from handmill.strategy import LearningCurve
        >>> errors = np.array([[0.3], [0.2], [0.15]])
        >>> curve = LearningCurve(
        ...     np.array([50, 100, 200]), errors / 2, errors, 0, 0, 0, "too few", np.zeros((0, 3)))
        >>> [line.get_label() for line in handmill.plot.learning_curve(curve).axes[0].lines]
        ['validation', 'training']
    """
    if not hasattr(found, "samples_for"):
        raise TypeError(
            "learning_curve: expected what handmill.strategy.learning_curve() gave, got "
            f"{type(found).__name__}"
        )
    own = ax is None
    axes = new_figure((6.4, 4.2)).add_subplot() if own else ax
    for name, errors, style in (
        ("validation", found.validation, "o"),
        ("training", found.train, "s"),
    ):
        axes.plot(found.sizes, errors.mean(1), style, markersize=4, label=name)
    if not found.reason:
        rows = np.geomspace(found.sizes[0], 10 * found.sizes[-1], 60)
        expected = np.array([found.predict(n) for n in rows])
        axes.plot(rows, expected[:, 0], "-", color="C0", label="expected")
        axes.fill_between(rows, expected[:, 1], expected[:, 2], color="C0", alpha=0.15)
    axes.set_xscale("log")
    axes.set_xlabel("training rows")
    axes.set_ylabel("error")
    axes.grid(alpha=0.3)
    axes.legend()
    return finished(axes.figure, title, to_file, None if own else axes)
