"""What a look at data, a model or a run found: one line each, in English or Chinese.

Whoever looks (:func:`handmill.check_data`, :func:`handmill.diagnose`) keeps a table of wordings,
one for each kind of finding, and fills one in with the numbers that it measured. A finding keeps
both the numbers and the wording, so the same report prints in either language and as plain data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from handmill.naming import known_names

LEVELS = ("ok", "note", "warning", "error")
"""How grave a finding is, least first."""

LANGUAGES = ("en", "zh")
"""The languages of a report: English and Chinese."""

_LEVEL_WORDS = {
    "en": {level: level for level in LEVELS},
    "zh": {"ok": "正常", "note": "提示", "warning": "警告", "error": "错误"},
}
_NOTHING = {"en": "nothing found", "zh": "未发现问题"}
_ROWS_SHOWN = 5


class FindingError(ValueError):
    """What :meth:`Report.raise_if` raises: a report holds findings of the level asked for."""


@dataclass(frozen=True, slots=True)
class Wording:
    """The texts of one kind of finding; ``{name}`` and ``{name:.3f}`` stand for its numbers.

    Attributes:
        en: number first, then what it means.
        zh: the same in Chinese.
        call: the call that helps, as code; empty where none does.
        call_zh: where the call has words around it, the same in Chinese; else empty.
    """

    en: str
    zh: str
    call: str = ""
    call_zh: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """One thing that was measured, and what it means.

    Made with :meth:`of`; two findings are equal if their :meth:`to_dict` are.

    Attributes:
        id: its kind, such as ``"duplicates.across"``; stable over versions and languages.
        level: ``"ok"``, ``"note"``, ``"warning"`` or ``"error"``.
        value: the number that was measured.
        interval: the lower and upper end of its interval, where it has one.
        limit: what ``value`` was held against, where there is a limit.
        rows: row numbers in the data, or tuples of them (pairs), that the finding is about.
        facts: the other numbers and names in its texts.
        wording: its texts.
    """

    id: str
    level: str
    value: float | None
    interval: tuple[float, float] | None
    limit: float | None
    rows: tuple[Any, ...]
    facts: Mapping[str, Any]
    wording: Wording

    @classmethod
    def of(
        cls,
        wordings: Mapping[str, Wording],
        id: str,
        level: str,
        value: float | None = None,
        *,
        interval: tuple[float, float] | None = None,
        limit: float | None = None,
        rows: Sequence[Any] | np.ndarray[Any, Any] = (),
        **facts: Any,
    ) -> Finding:
        """Fills in a wording.

        Args:
            wordings: kind -> its texts.
            id: the kind, a key of ``wordings``.
            level: ``"ok"``, ``"note"``, ``"warning"`` or ``"error"``.
            value: the number measured, ``{value}`` in the texts.
            interval: its interval, ``{low}`` and ``{high}`` in the texts.
            limit: what it was held against, ``{limit}``.
            rows: rows or pairs of rows, ``{rows}`` (the first five) and ``{count}`` (how many).
            **facts: other numbers and names of the texts.

        Raises:
            ValueError: ``id`` has no wording, or ``level`` is none.
            KeyError: a text names a number that was not given.
        """
        _known("kind of finding", id, wordings)
        _known("level", level, LEVELS)
        finding = cls(
            id,
            level,
            None if value is None else float(value),
            None if interval is None else (float(interval[0]), float(interval[1])),
            None if limit is None else float(limit),
            tuple(_plain(np.asarray(rows))) if len(rows) else (),
            {name: _plain(fact) for name, fact in facts.items()},
            wordings[id],
        )
        for language in LANGUAGES:
            finding.line(language)
        return finding

    def line(self, language: str = "en") -> str:
        """The finding in one line: level, kind, numbers and meaning, then the call that helps.

        Args:
            language: ``"en"`` or ``"zh"``.
        """
        level = _LEVEL_WORDS[checked_language(language)][self.level]
        colon, stop = (": ", ". ") if language == "en" else ("：", "。")
        parts = [self.text(language), self.remedy(language)]
        return f"{level} {self.id}{colon}" + stop.join(part for part in parts if part)

    def text(self, language: str = "en") -> str:
        """The numbers and what they mean, without a full stop."""
        en = checked_language(language) == "en"
        return self._filled(self.wording.en if en else self.wording.zh)

    def remedy(self, language: str = "en") -> str:
        """The call that helps; empty where there is none."""
        en = checked_language(language) == "en"
        wording = self.wording
        return self._filled(wording.call if en or not wording.call_zh else wording.call_zh)

    def _filled(self, template: str) -> str:
        low, high = self.interval or (math.nan, math.nan)
        shown = ", ".join(str(row) for row in self.rows[:_ROWS_SHOWN])
        if len(self.rows) > _ROWS_SHOWN:
            shown += ", ..."
        numbers: dict[str, Any] = {"low": low, "high": high, "limit": self.limit}
        numbers |= {"value": self.value, "rows": shown, "count": len(self.rows)}
        return template.format_map(numbers | dict(self.facts))

    def to_dict(self) -> dict[str, Any]:
        """Plain data: ``id, level, value, interval, limit, rows, facts`` and the English texts.

        Numbers that are not finite, which JSON lacks, are the strings ``"nan"``, ``"inf"`` and
        ``"-inf"``.
        """
        return {
            "id": self.id,
            "level": self.level,
            "value": _json(self.value),
            "interval": _json(self.interval),
            "limit": _json(self.limit),
            "rows": _json(self.rows),
            "facts": _json(self.facts),
            "text": self.text(),
            "remedy": self.remedy(),
        }

    def __str__(self) -> str:
        return self.line()


@dataclass(frozen=True, eq=False)
class Report:
    """Findings, gravest first; never raises and never changes what was looked at.

    Attributes:
        findings: the findings, by level, gravest first, then in the order in which they were made.
        language: in which ``print`` shows them, ``"en"`` or ``"zh"``.
        title: what was looked at, for the first line; language -> text.
        numbers: what else was measured, as plain data.

    Example:
        >>> from handmill.strategy.findings import Finding, Report, Wording
        >>> texts = {"rows": Wording("{value:.0f} rows: few", "{value:.0f} 行：太少", "collect()")}
        >>> report = Report((Finding.of(texts, "rows", "warning", 12),))
        >>> print(report)
        warning rows: 12 rows: few. collect()
        >>> print(report.translated("zh"))
        警告 rows：12 行：太少。collect()
        >>> report["rows"].value
        12.0
    """

    findings: tuple[Finding, ...]
    language: str = "en"
    title: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked_language(self.language)
        order = sorted(self.findings, key=lambda f: -LEVELS.index(f.level))
        object.__setattr__(self, "findings", tuple(order))

    @property
    def ok(self) -> bool:
        """Whether there is neither a warning nor an error."""
        return not self.at_least("warning")

    def at_least(self, level: str) -> tuple[Finding, ...]:
        """The findings of ``level`` and graver ones."""
        _known("level", level, LEVELS)
        least = LEVELS.index(level)
        return tuple(f for f in self.findings if LEVELS.index(f.level) >= least)

    def raise_if(self, level: str = "error") -> None:
        """Raises if something of ``level`` or graver was found, such as in a script.

        Raises:
            FindingError: its message is these findings, one line each.
        """
        if found := self.at_least(level):
            raise FindingError("\n".join(finding.line(self.language) for finding in found))

    def translated(self, language: str) -> Report:
        """The same report, shown in ``language``."""
        return replace(self, language=checked_language(language))

    def to_dict(self) -> dict[str, Any]:
        """Plain data: ``{"findings": [...], "numbers": {...}}``; JSON can hold it."""
        found = [finding.to_dict() for finding in self.findings]
        return {"findings": found, "numbers": _json(self.numbers)}

    def to_json(self) -> str:
        """:meth:`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def __contains__(self, id: object) -> bool:
        return any(finding.id == id for finding in self.findings)

    def __getitem__(self, id: str) -> Finding:
        """The gravest finding of a kind.

        Raises:
            KeyError: there is none.
        """
        for finding in self.findings:
            if finding.id == id:
                return finding
        there = ", ".join(dict.fromkeys(f.id for f in self.findings)) or _NOTHING["en"]
        raise KeyError(f"no finding {id!r} in this report, which has: {there}")

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __str__(self) -> str:
        lines = [self.title[self.language]] if self.title else []
        lines += [finding.line(self.language) for finding in self.findings]
        return "\n".join(lines if self.findings else [*lines, _NOTHING[self.language]])


def checked_language(language: Any) -> str:
    """Returns ``language``, which has to be one of :data:`LANGUAGES`."""
    if not isinstance(language, str) or language not in LANGUAGES:
        raise ValueError(f"language: expected 'en' (English) or 'zh' (Chinese), got {language!r}")
    return language


def _known(kind: str, received: Any, known: Iterable[str]) -> None:
    if received not in known:
        raise ValueError(known_names(kind, received, known))


def _plain(value: Any) -> Any:
    """A value of NumPy as numbers, strings, lists of Python; rows of pairs as tuples."""
    if isinstance(value, np.ndarray) and value.ndim > 1:
        return [tuple(_plain(part)) for part in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _json(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_json(part) for part in value]
    return _json(_plain(value)) if isinstance(value, np.ndarray | np.generic) else value
