"""What every method of explaining returns."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from handmill import tree
from handmill.ir.op import Array


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: does the explanation explain?

    Attributes:
        name: what was looked at, such as ``"completeness"``.
        passed: whether it held.
        number: what was measured.
        meaning: what that means, in a sentence.
    """

    name: str
    passed: bool
    number: float
    meaning: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.passed else 'FAIL'}  {self.name}: {self.meaning}"


Checking = Callable[["Explanation"], Sequence[Check]]


@dataclass(eq=False, kw_only=True)
class Explanation:
    """How much each part of the inputs counts for what a model answers, for every row.

    Attributes:
        values: attributions, nested and shaped as the inputs are; maps (rows, height, width) of
            methods that explain places.
        data: the inputs explained.
        method: the name of the method.
        scores: float64 (rows,), the numbers explained.
        base_values: float64 (rows,), the score of the baseline, or the mean over the background;
            None for methods without one.
        score: ``"logit"`` (before the softmax or sigmoid) or ``"output"``.
        targets: what each row's target is called.
        classes: int64, the class number of each row, (rows, 2) for "why a and not b", or None.
        error: the standard errors of ``values``, nested as they are; None for exact methods.
        complete: whether the values of a row ought to sum to score - base value.
        feature_names: names of the features, for tables; one list for each input.
        notes: what the method has to say, such as ``"no positive evidence"``.
        details: further numbers of the method, by name.
        checks: functions behind :meth:`check` that need the model; not saved.

    Example:
        >>> import numpy as np
        >>> from handmill.explanation import Explanation
        >>> found = Explanation(
        ...     values=np.array([[2.0, -0.5]]), data=np.array([[1.0, 3.0]]), method="example",
        ...     scores=np.array([2.0]), base_values=np.array([0.5]), complete=True,
        ...     feature_names=["size", "age"], targets=("class 1",))
        >>> print(found)
        example: class 1 has the output 2, 0.5 without these features
          size  = 1   +2     ++++++++++++++++++++
          age   = 3   -0.5   -----
        gap 0 (0 % of what is explained)
        >>> found.gap
        array([0.])
    """

    values: Any
    data: Any
    method: str
    scores: Array
    base_values: Array | None = None
    score: str = "output"
    targets: tuple[str, ...] = ()
    classes: Array | None = None
    error: Any = None
    complete: bool = False
    feature_names: Any = None
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    checks: tuple[Checking, ...] = ()

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def gap(self) -> Array | None:
        """What the values of each row miss: score - base value - their sum, float64 (rows,).

        None for methods whose values need not sum to anything.
        """
        if not self.complete or self.base_values is None:
            return None
        total = sum(
            np.asarray(v, np.float64).sum(tuple(range(1, np.ndim(v))))
            for v in tree.flatten(self.values)
        )
        return np.asarray(self.scores - self.base_values - total)

    def relative_gap(self) -> Array | None:
        """The gap as a part of what is explained, ``|gap| / |score - base value|``."""
        gap = self.gap
        if gap is None or self.base_values is None:
            return None
        whole = np.abs(self.scores - self.base_values)
        return np.asarray(
            np.abs(gap) / np.maximum(whole, 1e-6 * np.maximum(1, np.abs(self.scores)))
        )

    def interval(self, confidence: float = 0.95) -> tuple[Any, Any]:
        """The interval that holds the exact value of each attribution with this probability.

        Args:
            confidence: between 0 and 1.

        Returns:
            Its lower and upper ends, nested as the values are. Both are the values themselves
            where the method is exact.

        Raises:
            ValueError: for a confidence that is no probability.

        Example:
            >>> import numpy as np
            >>> from handmill.explanation import Explanation
            >>> found = Explanation(values=np.ones((1, 1)), error=np.full((1, 1), 0.5), method="x",
            ...                     data=np.ones((1, 1)), scores=np.ones(1))
            >>> [end.round(2).item() for end in found.interval()]
            [0.02, 1.98]
        """
        if not 0 < confidence < 1:
            raise ValueError(f"`confidence` must be between 0 and 1. Received: {confidence!r}")
        if self.error is None:
            return self.values, self.values
        import statistics

        factor = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
        return (
            tree.map_structure(lambda v, e: v - factor * e, self.values, self.error),
            tree.map_structure(lambda v, e: v + factor * e, self.values, self.error),
        )

    def check(self) -> list[Check]:
        """Looks whether the explanation explains: its gap, and what its method can be held to.

        Returns:
            A :class:`Check` for each thing looked at; printed, a line each. Methods of gradients
            add the sanity check (:func:`handmill.explanation.sanity`), for which the model must
            still have the weights that it had.
        """
        found = []
        gap = self.relative_gap()
        if gap is not None and len(gap):
            found.append(self._completeness(gap))
        for run in self.checks:
            found += run(self)
        return found

    def _completeness(self, relative: Array) -> Check:
        known = relative[np.isfinite(relative)]  # rows that hold no numbers explain nothing
        most = float(known.max(initial=0.0))
        of_sum = self.details.get("error_of_sum")
        meaning = f"the values miss {100 * most:.2g} % of the score that they explain"
        if isinstance(of_sum, np.ndarray) and self.gap is not None:
            passed = bool((np.abs(self.gap) <= 4 * of_sum + 1e-6).all())
            meaning += ", within" if passed else ", beyond"
            meaning += " four standard errors of the sampling"
        else:
            passed = most <= 0.01
            meaning += "" if passed else ": more steps narrow it"
        return Check("completeness", passed, most, meaning)

    def to_shap(self) -> Any:
        """Returns a ``shap.Explanation`` with these numbers, for the plots of ``shap``.

        Raises:
            ImportError: if shap is missing (``pip install shap``).
            ValueError: for several inputs, which shap's plots do not know.
        """
        try:
            import shap
        except ImportError as error:
            raise ImportError(
                "to_shap() makes an object of the package shap, which is not installed: "
                "pip install shap"
            ) from error
        if tree.is_nested(self.values):
            raise ValueError(
                "shap.Explanation holds one array, but the model has several inputs: make one for "
                "each with `explanation.part(name)`"
            )
        return shap.Explanation(
            values=np.asarray(self.values),
            base_values=self.base_values,
            data=np.asarray(self.data),
            feature_names=self.names_of(0),
            error_std=self.error,
        )

    def as_list(self, label: int | None = None) -> list[tuple[str, float]]:
        """What counts in one row, the most first, as explanations of ``lime`` tell it.

        Args:
            label: the class number whose row is told; None: the first row.

        Returns:
            (name, value) of every feature that has a value; a name is a condition, such as
            ``"age <= 7"``, where the method has these.

        Raises:
            ValueError: if no row explains this class, and for values that are no table.

        Example:
            >>> import numpy as np
            >>> from handmill.explanation import Explanation
            >>> Explanation(values=np.array([[0.1, 0.0, -3.0]]), data=np.ones((1, 3)), method="x",
            ...             scores=np.ones(1)).as_list()
            [('x2', -3.0), ('x0', 0.1)]
        """
        if tree.is_nested(self.values) or np.ndim(self.values) != 2:
            raise ValueError("as_list() tells rows of a table; these values have another shape")
        row = 0
        if label is not None and self.classes is not None:
            rows = np.flatnonzero(self.classes.reshape(len(self), -1)[:, 0] == label)
            if not len(rows):
                known = sorted({int(c) for c in self.classes.reshape(-1)})
                raise ValueError(f"no row explains class {label}; there are {known}")
            row = int(rows[0])
        values = self.values[row]
        names = self.conditions_of(row) or self.names_of(0) or [f"x{i}" for i in range(len(values))]
        order = np.argsort(-np.abs(values), kind="stable")
        return [(str(names[i]), float(values[i])) for i in order if values[i] != 0]

    def conditions_of(self, row: int) -> list[str] | None:
        """What the values of a row are about (``"4.4 < age <= 7"``, a word), if methods say it."""
        conditions = self.details.get("conditions", self.details.get("words"))
        return None if conditions is None else conditions[row]

    def text_of(self, row: int) -> list[tuple[str, float | None]] | None:
        """The text of a row, piece by piece, each with its value; None if it is no text.

        Between words stand pieces without a value, such as spaces.

        Args:
            row: the number of the row.

        Example:
            >>> import numpy as np
            >>> from handmill import explanation
            >>> ends = lambda texts: np.array([float(t.endswith("good")) for t in texts])
            >>> found = explanation.lime(ends, ["so good"], num_samples=50)
            >>> [piece for piece, value in found.text_of(0)]
            ['so', ' ', 'good']
        """
        if tree.is_nested(self.values) or np.ndim(self.values) != 2:
            return None
        values = np.asarray(self.values)[row].tolist()
        if "words" in self.details:
            pairs = zip(self.details["words"][row], values, strict=True)
            return [piece for word, v in pairs if word for piece in ((word, v), (" ", None))]
        data = np.asarray(self.data)
        words = self.conditions_of(row)
        if data.dtype.kind not in "UO" or words is None:
            return None
        by_word = dict(zip(words, values, strict=True))
        return [(p, by_word.get(p)) for p in re.split(r"(\w+)", str(data[row])) if p]

    def part(self, name: Any) -> Explanation:
        """The explanation of one input of several.

        Args:
            name: the key or the position of the input.

        Returns:
            An explanation whose values need not sum to the score: the other inputs count, too.

        Raises:
            KeyError: if there is no such input.
        """
        if not tree.is_nested(self.values):
            raise KeyError(f"the explanation has one input, and no part {name!r}")
        try:
            values, data = self.values[name], self.data[name]
        except (KeyError, IndexError, TypeError):
            known = list(self.values) if isinstance(self.values, dict) else len(self.values)
            raise KeyError(f"no input {name!r}; there are {known}") from None
        return Explanation(
            values=values,
            data=data,
            method=self.method,
            scores=self.scores,
            base_values=self.base_values,
            score=self.score,
            targets=self.targets,
            classes=self.classes,
            error=None if self.error is None else self.error[name],
            feature_names=None if self.feature_names is None else self.feature_names[name],
            notes=self.notes,
            details=self.details,
        )

    def picture(self, to_file: Any = None, rows: int = 8, shape: Any = None) -> str | bytes:
        """Draws the explanation: heat maps over images, bars for tables and sequences.

        Red speaks for the target and blue against it. No plotting package is needed.

        Args:
            to_file: a path that ends in ``.svg``, ``.png`` or ``.html``, or None.
            rows: how many rows of the data are drawn.
            shape: (height, width) of images that lie as flat rows; of flat rows that are images
                nothing is known otherwise.

        Returns:
            The picture: SVG or HTML as text, PNG as bytes; SVG if there is no file.

        Raises:
            ValueError: for another suffix, or several inputs in a PNG.
        """
        from handmill.explanation.picture import draw

        return draw(self, to_file, rows, shape)

    def _repr_svg_(self) -> str:
        found = self.picture()
        return found if isinstance(found, str) else ""

    def save(self, path: Any) -> None:
        """Writes the explanation as a plain ``.npz`` file: arrays, and a text of JSON.

        Args:
            path: where to; ``.npz`` is added if there is no suffix.
        """
        from handmill.explanation.files import write

        write(self, path)

    @staticmethod
    def load(path: Any) -> Explanation:
        """Reads what :meth:`save` wrote.

        Raises:
            FileFormatError: for another file.
        """
        from handmill.explanation.files import read

        return read(path)

    def __str__(self) -> str:
        from handmill.explanation.table import as_text

        return as_text(self)

    def __repr__(self) -> str:
        return str(self)

    def names_of(self, number: int) -> list[str] | None:
        """The names of the features of an input, by its position; None if they have none."""
        if self.feature_names is None:
            return None
        if not tree.is_nested(self.values):
            return [str(name) for name in self.feature_names]
        names = self.feature_names
        for key in tree.flatten_with_path(self.values)[number][0]:
            names = names[key]
        return None if names is None else [str(name) for name in names]
