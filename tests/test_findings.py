"""Findings and reports: texts in both languages, order, plain data, errors."""

from __future__ import annotations

import json

import numpy as np
import pytest

from handmill.strategy.findings import Finding, FindingError, Report, Wording

TEXTS = {
    "gap": Wording(
        "gap {value:.3f} [{low:.3f}, {high:.3f}], val {val:.3f}: overfits",
        "差距 {value:.3f} [{low:.3f}, {high:.3f}]，验证 {val:.3f}：过拟合",
        "EarlyStopping({epoch})",
    ),
    "pairs": Wording(
        "{count} pairs (first {rows})", "{count} 对（最先 {rows}）", "see rows", "见 rows"
    ),
}


def gap(level: str = "warning") -> Finding:
    interval = (np.float64(0.1514), 0.236)
    value = np.float32(0.193)
    return Finding.of(TEXTS, "gap", level, value, interval=interval, val=0.2144, epoch=7)


def test_a_finding_is_one_line_in_either_language() -> None:
    finding = gap()
    assert finding.line() == str(finding)
    assert finding.line() == (
        "warning gap: gap 0.193 [0.151, 0.236], val 0.214: overfits. EarlyStopping(7)"
    )
    assert finding.line("zh") == (
        "警告 gap：差距 0.193 [0.151, 0.236]，验证 0.214：过拟合。EarlyStopping(7)"
    )
    assert finding.text() == "gap 0.193 [0.151, 0.236], val 0.214: overfits"
    assert finding.remedy() == "EarlyStopping(7)"


def test_rows_are_kept_whole_and_shown_in_part() -> None:
    pairs = Finding.of(TEXTS, "pairs", "error", 7, rows=np.arange(14).reshape(7, 2))
    assert pairs.rows == tuple((i, i + 1) for i in range(0, 14, 2))
    assert pairs.line() == (
        "error pairs: 7 pairs (first (0, 1), (2, 3), (4, 5), (6, 7), (8, 9), ...). see rows"
    )
    assert pairs.remedy("zh") == "见 rows"
    assert Finding.of(TEXTS, "pairs", "error", 1, rows=[3]).line("zh") == (
        "错误 pairs：1 对（最先 3）。见 rows"
    )


def test_a_report_is_sorted_and_asked_by_kind() -> None:
    report = Report((gap("note"), gap("error"), Finding.of(TEXTS, "pairs", "warning", rows=[1])))
    assert [f.level for f in report] == ["error", "warning", "note"]
    assert len(report) == 3
    assert not report.ok
    assert "pairs" in report
    assert "other" not in report
    assert report["gap"].level == "error"
    assert [f.id for f in report.at_least("warning")] == ["gap", "pairs"]
    assert str(report.translated("zh")).startswith("错误 gap：")
    with pytest.raises(KeyError, match=r"no finding 'dead' in this report, which has: gap, pairs"):
        report["dead"]
    with pytest.raises(FindingError, match=r"^error gap: .*EarlyStopping\(7\)$"):
        report.raise_if("error")
    Report((gap("note"),)).raise_if("warning")


def test_an_empty_report_says_so() -> None:
    report = Report((), title={"en": "3 rows", "zh": "3 行"})
    assert report.ok
    assert str(report) == "3 rows\nnothing found"
    assert str(report.translated("zh")) == "3 行\n未发现问题"


def test_plain_data_is_json() -> None:
    odd = Finding.of({"odd": Wording("{value}", "{value}")}, "odd", "ok", np.inf, rows=np.arange(2))
    report = Report((odd, gap()), numbers={"loss": np.float64(np.nan), "sizes": np.arange(2)})
    data = report.to_dict()
    assert json.loads(report.to_json()) == data
    assert data["numbers"] == {"loss": "nan", "sizes": [0, 1]}
    assert data["findings"][1] | {"value": None} == {
        "id": "odd",
        "level": "ok",
        "value": None,
        "interval": None,
        "limit": None,
        "rows": [0, 1],
        "facts": {},
        "text": "inf",
        "remedy": "",
    }
    assert data["findings"][1]["value"] == "inf"
    assert data["findings"][0]["facts"] == {"val": 0.2144, "epoch": 7}


def test_bad_findings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown kind of finding: 'gab'.*Did you mean 'gap'"):
        Finding.of(TEXTS, "gab", "note")
    with pytest.raises(ValueError, match=r"Unknown level: 'warn'. Known: error, note, ok, warning"):
        Finding.of(TEXTS, "gap", "warn")
    with pytest.raises(KeyError, match=r"epoch"):
        Finding.of(TEXTS, "gap", "note", 0.1, interval=(0, 1), val=0.2)
    with pytest.raises(
        ValueError, match=r"expected 'en' \(English\) or 'zh' \(Chinese\), got 'fr'"
    ):
        gap().line("fr")
    with pytest.raises(ValueError, match="got None"):
        Report((), language=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Unknown level: 'fatal'"):
        Report(()).raise_if("fatal")
