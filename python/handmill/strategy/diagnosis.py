"""``diagnose``: what is wrong with a model, its training or its data, found by trying."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from handmill.arguments import finite_number, whole_number
from handmill.errors import clean_traceback
from handmill.strategy import remedies, trained_checks, trial_checks
from handmill.strategy.baselines import baselines
from handmill.strategy.case import FEWEST_VALIDATION_ROWS, Case, Rows, case_of, rows_of
from handmill.strategy.clones import NoCopyError, copy_of, untouched
from handmill.strategy.data_checks import check_data
from handmill.strategy.diagnosis_texts import TEXTS
from handmill.strategy.findings import Finding, Report, checked_language
from handmill.strategy.trainings import OverBudgetError, Trained, seconds_of_training, train

_CAUSED = ("base.constant", "base.linear", "base.knn", "one.class", "loss.spikes", "loss.nan")
"""Findings that are worth trying what causes them."""
_FATAL = ("values.nonfinite", "labels.constant", "labels.missing")
"""Findings about data with which nothing can be learned, nor anything else be looked at."""
_GRAVE = ("warning", "error")
_TASTE = ("duplicates.within",)
_NOTES = ("columns.constant",)
SIGNAL = 0.1
"""What saves less than this share of the error of the constant has hardly found anything in x;
below twice as much it is asked whether labels in random order do as well."""


@clean_traceback
def diagnose(
    model: Any,
    x: Any,
    y: Any,
    validation_data: Any = None,
    *,
    experiments: bool = False,
    seeds: int = 8,
    budget: float = 10.0,
    epochs: int | None = None,
    batch_size: int | None = None,
    language: str = "en",
) -> Report:
    """Says what is wrong with a model, its training or its data, and what would help.

    Both sides are measured in inference mode with the same weights on equally many rows. What
    cannot be read from the model is tried on copies made from its configuration, each under several
    seeds: over- and underfitting are what copies do, with intervals. Class weights, sample weights
    and callbacks of the training are not known, and not used.

    The model stays as it is, bit by bit: weights, optimizer, metrics, seeds.

    Args:
        model: a compiled model of one output, trained or not.
        x: training inputs: an array, or a list or dict of arrays, of shape (rows, ...).
        y: training targets, as for ``fit``.
        validation_data: ``(x, y)`` that the model was not trained on.
        experiments: whether remedies are tried (more and fewer units, dropout, L2, more epochs,
            early stopping) and listed by what each gained.
        seeds: how often copies are trained, at least 3.
        budget: seconds that trainings may take, roughly; fewer seeds are used where they take more.
        epochs: of the training; default: what the history of the model or its optimizer says.
        batch_size: of the training; default: what the history says, else 32.
        language: ``"en"`` or ``"zh"``.

    Returns:
        A :class:`handmill.strategy.findings.Report`: a line for each finding, gravest first, with
        the number, what it means, and the call that helps.

    Raises:
        ValueError: for a model that is not compiled or has several outputs, lengths that differ,
            and other arguments that do not fit.
        TypeError: for data that are no arrays.

    Example:
        >>> import handmill
        >>> from handmill import layers
        >>> (x, y), (x_val, y_val) = handmill.datasets.digits.load_data()
        >>> model = handmill.Sequential([
        ...     handmill.Input((8, 8)), layers.Flatten(), layers.Dense(32, "relu"),
        ...     layers.Dense(10, "softmax")])
        >>> model.compile("adam", "sparse_categorical_crossentropy")
        >>> history = model.fit(x / 16, y, epochs=20, verbose=0)
        >>> report = handmill.diagnose(model, x / 16, y, (x_val / 16, y_val))
        >>> report["overfit.batch"].level
        'ok'

    References:
        A. Karpathy, A recipe for training neural networks, 2019.
        I. Goodfellow, Y. Bengio, A. Courville, Deep learning, 2016, chapter 11.
    """
    checked_language(language)
    seeds = whole_number("`seeds`", seeds, 3)
    if finite_number("`budget`", budget) < 0:
        raise ValueError(f"`budget` must be seconds, 0 or more. Received: {budget!r}")
    epochs = None if epochs is None else whole_number("`epochs`", epochs, 0)
    batch_size = None if batch_size is None else whole_number("`batch_size`", batch_size, 1)
    if not getattr(model, "compiled", False):
        raise ValueError(
            "diagnose() needs a compiled model, to know its loss and optimizer. For example "
            "model.compile('adam', 'mse')"
        )
    rows = rows_of("x, y", x, y)
    validation = (
        None if validation_data is None else rows_of("validation_data", *_pair(validation_data))
    )
    of_data = _findings_of_data(rows, validation)
    if fatal := tuple(f for f in of_data if f.id in _FATAL and f.level == "error"):
        return Report(fatal, language, _title(model))
    with untouched():
        diagnosis = _Diagnosis(model, rows, validation, seeds, float(budget), epochs, batch_size)
        findings = (*of_data, *diagnosis.findings(experiments))
    return Report(findings, language, _title(model), diagnosis.numbers)


def _findings_of_data(rows: Rows, validation: Rows | None) -> list[Finding]:
    """What ``check_data`` finds that bears on a training, but for what is a matter of taste."""
    held = None if validation is None else (validation.x, validation.y)
    try:
        report = check_data(rows.x, rows.y, validation_data=held, near_duplicates=False)
    except (TypeError, ValueError):  # such as targets that are images
        return []
    return [f for f in report if f.id in _NOTES or (f.level in _GRAVE and f.id not in _TASTE)]


def _pair(given: Any) -> tuple[Any, Any]:
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise TypeError(
            f"validation_data: expected (x, y), received {type(given).__name__}: all rows are "
            "needed at once"
        )
    return given[0], given[1]


def _title(model: Any) -> dict[str, str]:
    return {"en": f"diagnosis of {model.name!r}", "zh": f"对 {model.name!r} 的诊断"}


class _Diagnosis:
    def __init__(
        self,
        model: Any,
        rows: Any,
        validation: Any,
        seeds: int,
        budget: float,
        epochs: Any,
        batch_size: Any,
    ) -> None:
        self.model = model
        self.seeds = seeds
        self.end = time.monotonic() + budget
        self.seconds = 0.0
        self.numbers: dict[str, Any] = {}
        self.reason = ""
        try:
            copy = copy_of(model)
        except NoCopyError as error:
            self.reason = str(error)
            copy = model
        self.case: Case = case_of(model, copy, rows, validation, epochs, batch_size)

    def findings(self, experiments: bool) -> Iterator[Finding]:
        case = self.case
        found = [*self._as_it_is()]
        if self.reason:
            found.append(Finding.of(TEXTS, "copy.none", "note", reason=self.reason))
        else:
            found += self._tried(found, experiments)
        if not case.epochs:
            found.append(Finding.of(TEXTS, "not.trained", "note"))
        return iter(found)

    def _as_it_is(self) -> Iterator[Finding]:
        case = self.case
        yield from trained_checks.history_of(self.model.history)
        yield from trained_checks.wiring(case)
        yield from trained_checks.fit_gap(case)
        yield from trained_checks.health(case)
        self.baselines = []
        validation = case.validation
        if validation is None:
            return
        outputs = case.predictions(validation)
        if case.epochs:
            yield from trained_checks.one_class(case, outputs, validation.y)
        flat = isinstance(case.train.x, np.ndarray) and isinstance(validation.x, np.ndarray)
        if flat and case.task.kind != "other":
            train, held = case.train, validation
            self.baselines = baselines(case.task, train.x, train.y, held.x, held.y)
            errors = case.task.errors(held.y, outputs)
            self.numbers["validation_error"] = float(errors.mean())
            self.numbers["baselines"] = {b.name: b.error for b in self.baselines}
            if case.epochs and len(held) >= FEWEST_VALIDATION_ROWS:
                yield from trained_checks.against_baselines(case, errors, self.baselines)

    def _tried(self, found: list[Finding], experiments: bool) -> Iterator[Finding]:
        case, model = self.case, self.model
        yield from trial_checks.first_loss(case, model)
        yield from trial_checks.one_batch(case, model)
        if not case.epochs:
            return
        yield from trained_checks.updates(case, copy_of(model))
        self.seconds = seconds_of_training(case, model)
        seeds = self.affordable()
        if seeds < self.seeds:
            yield self.over_budget(seeds)
        if not seeds:
            return
        yield from trial_checks.noise(case, model)
        validation = case.validation
        if validation is None or len(validation) < FEWEST_VALIDATION_ROWS:
            return
        trained = [train(case, model, seed, follow=True) for seed in range(seeds)]
        yield from trial_checks.rise(case, trained)
        yield from self._judged(found, trained)
        if experiments and np.all([np.isfinite(t.losses) for t in trained]):
            yield from self._in_budget(remedies.tried(case, model, trained, self.affordable))

    def _judged(self, found: list[Finding], trained: list[Trained]) -> Iterator[Finding]:
        case, model = self.case, self.model
        named = {f.id for f in found if f.level in ("warning", "error")}
        if self.baselines:
            yield from trial_checks.blind(case, model, self.baselines[0])
        if self.baselines and self._saved() < 2 * SIGNAL:
            found_of_labels = trial_checks.labels_belong(case, model, trained)
            if found_of_labels.level == "error" or self._saved() < SIGNAL:
                yield found_of_labels
                return
        if named & set(_CAUSED):
            yield from self._in_budget(trial_checks.causes(case, model, trained, self.affordable))

    def _saved(self) -> float:
        """The share of the error of the constant that the model or a simple method saves.

        No test: rows of one class have the same neighbours, and err together.
        """
        constant, *others = [baseline.error for baseline in self.baselines]
        least: float = min(*others, self.numbers["validation_error"])
        return 1 - least / max(constant, 1e-12)

    def _in_budget(self, findings: Iterator[Finding]) -> Iterator[Finding]:
        try:
            yield from findings
        except OverBudgetError:
            yield self.over_budget(0)

    def affordable(self, epochs: int = 1) -> int:
        """Seeds that fit into what is left of the budget; none below three.

        Args:
            epochs: of each training, in those of the case.
        """
        left = self.end - time.monotonic()
        seeds = min(self.seeds, int(left / max(epochs * self.seconds, 1e-9)))
        return seeds if seeds >= 3 else 0

    def over_budget(self, seeds: int) -> Finding:
        """Says that less was trained than asked for."""
        seconds = self.seconds
        what = f"{seeds} seeds were used" if seeds else "some copies were not trained"
        chinese = f"只用了 {seeds} 个种子" if seeds else "部分副本没有训练"
        return Finding.of(
            TEXTS,
            "budget",
            "note",
            seconds,
            epochs=self.case.epochs,
            what=what,
            what_zh=chinese,
            more=60 * seconds * self.seeds + 1,
        )
