"""LIME: what a simple model says that imitates the model near a row; tables, images, texts."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from handmill.arguments import finite_number, whole_number
from handmill.data.keyed_random import make_key, uniform, words
from handmill.errors import warn_caller
from handmill.explanation.black_box import BlackBox
from handmill.explanation.composition import Composer
from handmill.explanation.explanation import Explanation
from handmill.explanation.local_linear import SELECTIONS, LocalFit, fit_local
from handmill.explanation.players import column_of, players_for
from handmill.explanation.rows import alike, check_finite_rows, checked_seed, for_model, rows_of
from handmill.explanation.segments import absent_images, default_squares
from handmill.explanation.table_samples import BinnedSamples, NormalSamples
from handmill.ir.op import Array

GROWTH = 16
"""How many times the samples asked for ``until`` may use."""

WORDS = re.compile(r"\w+")


def lime(
    model: Any,
    x: Any,
    background: Any = None,
    target: Any = None,
    *,
    num_features: int = 10,
    num_samples: int | None = None,
    bins: bool = True,
    categorical: Sequence[Any] = (),
    segments: Any = None,
    kernel_width: float | None = None,
    selection: str = "auto",
    alpha: float = 1.0,
    until: float = 0.0,
    seed: int = 0,
    feature_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> Explanation:
    """Imitates the model near each row by a linear model of few features (LIME).

    The same seed gives the same numbers. Sixteen parts of the samples are fitted on their own:
    their spread gives standard errors, and ``details["stability"]`` says in what part of them a
    feature is among those chosen. Rows of a table share their samples: many cost little more than
    one.

    Args:
        model: a handmill model, an estimator, or a function of rows (or of a list of texts).
        x: rows of a table, images, or a list of texts.
        background: of a table, the training rows (or many of them), from which samples are drawn;
            of images, what a hidden segment shows: ``"mean"`` (its own mean colour, the default), a
            number, or an image.
        target: what is explained; None: the predicted class, or the only output.
        num_features: features of the linear model at most.
        num_samples: default 5,000; of images 1,000.
        bins: of a table, whether a feature is "in the row's quartile" or not; else it is a number.
        categorical: of a table, the columns (numbers or names) whose values are names.
        segments: of images, (height, width) numbers of segments, or the side of squares; default:
            squares, some seven to a side.
        kernel_width: how far samples count: exp(-d^2 / (2 width^2)); default 0.75 sqrt(features),
            of images 0.25, of texts 25 (distances there: cosine, times 100 for texts).
        selection: ``"auto"``, ``"forward_selection"``, ``"highest_weights"`` or ``"none"``.
        alpha: penalty of squared coefficients.
        until: more samples, up to 16 times as many, until the largest standard error is below this
            part of the largest coefficient; 0 never asks for more.
        seed: of the samples.
        feature_names: names of columns.
        class_names: names of the classes.

    Returns:
        An :class:`Explanation` of coefficients, not of a sum: ``base_values`` are intercepts,
        ``details`` holds ``r2``, ``prediction`` and ``stability``, of tables and texts
        ``conditions``, what each value is about.

    Raises:
        ValueError: for arguments that do not fit, and fewer samples than features.

    Example:
        >>> import numpy as np
        >>> from handmill import explanation
        >>> train = np.arange(40.0).reshape(20, 2)
        >>> found = explanation.lime(lambda x: x[:, 0], train[15:16], train, num_samples=500)
        >>> bool(found.values[0, 0] > 5 * abs(found.values[0, 1]))
        True
    """
    began = time.perf_counter()
    if selection not in SELECTIONS:
        raise ValueError(f"`selection` must be one of {SELECTIONS}. Received: {selection!r}")
    whole_number("num_features", num_features, 1)
    if num_samples is not None:
        whole_number("num_samples", num_samples, 2)
    if kernel_width is not None and finite_number("kernel_width", kernel_width) <= 0:
        raise ValueError(f"kernel_width must be above 0. Received: {kernel_width!r}")
    seed = checked_seed(seed)
    fit = _Fitting(num_features, selection, alpha, until)
    if is_text(x):
        kind: Callable[..., Explanation] = _texts
        options: dict[str, Any] = {}
    elif _rank(x) == 2:
        kind, options = _table, {"bins": bins, "categorical": categorical}
        options["feature_names"] = feature_names
    else:
        kind, options = _images, {"segments": segments}
    found = kind(
        model, x, background, target, fit, num_samples, kernel_width, seed, class_names, **options
    )
    found.details["seconds"] = time.perf_counter() - began
    for first, second in fit.alike:
        warn_caller(
            f"columns {first} and {second} are the same in every sample: which of them carries the "
            "weight is arbitrary. Leave one out, or explain them as one group with shap(groups=)"
        )
    return found


class _Fitting:
    """How a linear model is fitted; collects columns that no sample tells apart."""

    def __init__(self, num_features: int, selection: str, alpha: float, until: float) -> None:
        self._options = (num_features, selection, alpha)
        self._until = until
        self.alike: set[tuple[int, int]] = set()

    def run(self, sample: Callable[[int], tuple[Array, Array, Array]], samples: int) -> LocalFit:
        """Fits; asks for more samples while ``until`` wants them.

        Args:
            sample: gives the design, the scores and the weights of so many samples.
            samples: how many at first.
        """
        most = samples * (GROWTH if self._until else 1)
        while True:
            design, scores, weights = sample(samples)
            found = fit_local(design, scores, weights, *self._options)
            largest = np.abs(found.coefficients).max(initial=0.0)
            if 2 * samples > most or found.error.max(initial=0.0) <= self._until * largest:
                self.alike |= set(found.alike)
                return found
            samples *= 2


def _told(
    fits: list[LocalFit], values: Any, data: Any, scores: Array, targets: Any, **others: Any
) -> Explanation:
    details = {
        "r2": np.array([f.r2 for f in fits]),
        "prediction": np.array([f.prediction for f in fits]),
        "stability": np.array([f.stability for f in fits]),
        **others.pop("details"),
    }
    notes: tuple[str, ...] = ()
    if fits:
        notes = (
            f"the linear model explains {100 * min(f.r2 for f in fits):.0f} % of the model's "
            f"variance near {'the row' if len(fits) == 1 else 'the row it fits worst'} (R^2)",
        )
    return Explanation(
        values=values,
        data=data,
        method="LIME",
        scores=scores,
        base_values=np.array([f.intercept for f in fits]),
        targets=targets.names,
        classes=targets.classes,
        notes=notes,
        details=details,
        **others,
    )


def _table(
    model: Any,
    x: Any,
    background: Any,
    target: Any,
    fit: _Fitting,
    num_samples: int | None,
    width: float | None,
    seed: int,
    class_names: Sequence[str] | None,
    bins: bool,
    categorical: Sequence[Any],
    feature_names: Sequence[str] | None,
) -> Explanation:
    made, arrays, columns = rows_of(x)
    features = arrays[0].shape[1]
    if isinstance(background, BinnedSamples | NormalSamples):
        source = background
    else:
        source = samples_of(background, features, bins, categorical, feature_names or columns)
    rows = for_model(model, arrays)[0]
    box = BlackBox(model, made)
    targets, scores, _ = box.explain([rows], target, class_names)
    width = 0.75 * math.sqrt(features) if width is None else width
    kind = rows.dtype if rows.dtype.kind == "f" else np.dtype(np.float64)
    kept: dict[int, tuple[Array, Array]] = {}  # samples that all rows share, and what they give
    fits = []
    for row in range(len(scores)):
        seeds, offset = targets.seeds[row].astype(np.float64), float(targets.offset[row])
        own = np.asarray(rows[row], kind)

        def sample(
            count: int,
            own: Array = own,
            seeds: Array = seeds,
            offset: float = offset,
            row: int = row,
        ) -> tuple[Array, Array, Array]:
            if count not in kept:
                drawn = source.draw(count, seed, kind)
                kept[count] = drawn, box.all_outputs([drawn]).astype(np.float64)
            drawn, outputs = kept[count]
            design = source.design(drawn, own)
            design[0] = source.design(own[None], own)
            given = np.asarray(offset + outputs @ seeds)
            given[0] = scores[row]
            return design, given, source.weights(design, width)

        fits.append(fit.run(sample, num_samples or 5000))
    return _told(
        fits,
        np.array([f.coefficients for f in fits]).reshape(len(fits), features),
        rows,
        scores,
        targets,
        error=np.array([f.error for f in fits]).reshape(len(fits), features),
        feature_names=feature_names or columns,
        details={
            "conditions": [source.conditions(row) for row in rows],
            "evaluations": box.evaluations,
        },
    )


def samples_of(
    background: Any, features: int, bins: bool, categorical: Sequence[Any], names: Any
) -> BinnedSamples | NormalSamples:
    """What samples of a table are drawn from."""
    if background is None:
        raise ValueError(
            "`background` is missing: LIME draws its samples as the training rows are spread. Pass "
            "them, such as background=x_train"
        )
    _, found, _ = rows_of(background, "background")
    if found[0].ndim != 2 or found[0].shape[1] != features or not len(found[0]):
        raise ValueError(
            f"`background` must hold training rows of {features} features. Received the shape "
            f"{found[0].shape}"
        )
    rows = found[0]
    if rows.dtype.kind not in "biuf":
        raise ValueError(
            f"`background` holds {rows.dtype} values, not numbers: texts need numbers first "
            "(layers.StringLookup, utils.FeatureSpace), or explain a function that makes them"
        )
    if rows.dtype.kind == "b":
        rows = rows.astype(np.int64)
    check_finite_rows("background", [rows])
    named = [f"x{j}" for j in range(features)] if names is None else [str(n) for n in names]
    if len(named) != features:
        raise ValueError(f"`feature_names` has {len(named)} names for {features} features")
    if bins:
        chosen = [column_of(c, named, features) for c in categorical]
        return BinnedSamples(rows, chosen, named)
    if len(categorical):
        raise ValueError("`categorical` columns need bins=True: a name is no number")
    return NormalSamples(rows, named)


def _images(
    model: Any,
    x: Any,
    background: Any,
    target: Any,
    fit: _Fitting,
    num_samples: int | None,
    width: float | None,
    seed: int,
    class_names: Sequence[str] | None,
    segments: Any,
) -> Explanation:
    made, arrays, _ = rows_of(x)
    arrays = for_model(model, arrays)
    if len(arrays) != 1 or arrays[0].ndim not in (3, 4):
        raise ValueError(
            "LIME explains rows of a table, images, or texts; of other inputs shap() says more"
        )
    if segments is None:
        segments = default_squares(arrays[0].shape[1:])
    players = players_for(arrays, segments=segments)
    absent = absent_images(arrays[0], "mean" if background is None else background, players)
    arrays, [absent] = alike(arrays, [absent])
    box = BlackBox(model, made)
    targets, scores, _ = box.explain(arrays, target, class_names)
    width = 0.25 if width is None else width
    fits = []
    everybody = np.arange(players.count)
    for row in range(len(scores)):
        composer = box.composer(players, [absent[row][None]])
        score = box.scoring(targets, row)

        def sample(
            count: int, row: int = row, composer: Composer = composer, score: Any = score
        ) -> tuple[Array, Array, Array]:
            position = np.arange(count * players.count).reshape(count, players.count)
            there = uniform(make_key(seed, 2, row), position) < 0.5
            there[0] = True
            given = composer.means([arrays[0][row]], everybody, there, score)
            distance = 1 - np.sqrt(there.mean(1))  # cosine, from an image with every segment
            return there.astype(np.float64), given, np.exp(-(distance**2) / (2 * width**2))

        fits.append(fit.run(sample, num_samples or 1000))
    values = np.array([f.coefficients for f in fits]).reshape(len(fits), players.count)
    errors = np.array([f.error for f in fits]).reshape(len(fits), players.count)
    return _told(
        fits,
        players.shown(values)[0],
        arrays[0],
        scores,
        targets,
        error=players.shown(errors)[0],
        details={"coefficients": values, "segments": players.map, "evaluations": box.evaluations},
    )


def _texts(
    model: Any,
    x: Any,
    background: Any,
    target: Any,
    fit: _Fitting,
    num_samples: int | None,
    width: float | None,
    seed: int,
    class_names: Sequence[str] | None,
) -> Explanation:
    if background is not None:
        raise ValueError("texts need no `background`: absent words are left out")
    texts = np.array([str(text) for text in x])
    width = 25.0 if width is None else width
    box = BlackBox(of_texts(model), texts)
    targets, scores, _ = box.explain([texts], target, class_names)
    fits, found_words = [], []
    for row, text in enumerate(texts):
        pieces = re.split(r"(\w+)", str(text))
        distinct = list(dict.fromkeys(pieces[1::2]))
        if not distinct:
            raise ValueError(f"text {row} has no words to explain: {str(text)!r}")
        number = {word: i for i, word in enumerate(distinct)}
        score = box.scoring(targets, row)

        def sample(
            count: int,
            row: int = row,
            pieces: list[str] = pieces,
            number: dict[str, int] = number,
            score: Any = score,
        ) -> tuple[Array, Array, Array]:
            there = _words_there(count, len(number), make_key(seed, 3, row))
            made = np.array(
                [
                    "".join(p for i, p in enumerate(pieces) if i % 2 == 0 or one[number[p]])
                    for one in there.tolist()
                ],
                dtype=object,
            )
            distance = 100 * (1 - np.sqrt(there.mean(1)))
            weights = np.exp(-(distance**2) / (2 * width**2))
            return there.astype(np.float64), np.asarray(score([made]), np.float64), weights

        fits.append(fit.run(sample, num_samples or 5000))
        found_words.append(distinct)
    most = max((len(w) for w in found_words), default=0)
    values, errors = np.zeros((len(fits), most)), np.zeros((len(fits), most))
    for row, one in enumerate(fits):
        values[row, : len(found_words[row])] = one.coefficients
        errors[row, : len(found_words[row])] = one.error
        one.stability.resize(most, refcheck=False)
    return _told(
        fits,
        values,
        texts,
        scores,
        targets,
        error=errors,
        details={
            "conditions": [w + [""] * (most - len(w)) for w in found_words],
            "evaluations": box.evaluations,
        },
    )


def _words_there(count: int, distinct: int, key: int) -> Array:
    """Which words stay: of each sample, one to all are left out; the first keeps all."""
    sizes = 1 + (uniform(make_key(key, 0), np.arange(count)) * distinct).astype(np.int64)
    position = np.arange(count * distinct).reshape(count, distinct)
    ranks = np.argsort(np.argsort(words(make_key(key, 1), position), axis=1, kind="stable"), axis=1)
    there = ranks >= sizes[:, None]
    there[0] = True
    return np.asarray(there)


def of_texts(model: Any) -> Any:
    """A function of texts; others get a list, as the models of ``lime``'s users expect."""
    from handmill.models.prediction import Predicting

    if isinstance(model, Predicting):
        rows = 1024 if getattr(model, "preprocessor", None) is None else 32  # a transformer
        return lambda texts: model.predict(texts.astype(str), batch_size=rows, verbose=0)
    for name in ("predict_proba", "predict"):
        if callable(getattr(model, name, None)):
            return lambda texts: getattr(model, name)(texts.tolist())
    return lambda texts: model(texts.tolist())


def is_text(x: Any) -> bool:
    """Whether ``x`` is a list or array of texts."""
    if isinstance(x, str):
        raise ValueError("`x` must be a list of texts; of one text pass [text]")
    if isinstance(x, np.ndarray):
        return x.ndim == 1 and (
            x.dtype.kind in "US" or (x.dtype == object and all(isinstance(t, str) for t in x))
        )
    return isinstance(x, list | tuple) and len(x) > 0 and all(isinstance(t, str) for t in x)


def _rank(x: Any) -> int:
    return 2 if hasattr(x, "toarray") or hasattr(x, "columns") else np.ndim(x)
