"""The report as one page that works offline: the answer, maps, tables, and the words."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.figure import Figure

from pinnfluence.diagnosis import figures, report_text
from pinnfluence.diagnosis.findings import QuantityError
from pinnfluence.diagnosis.report import Report
from pinnfluence.plots.style import render
from pinnfluence.problem.labels import PLAIN, Labels

DPI = 130

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1060px; margin: 2em auto; padding: 0 1em;
       color: #1a1a1a; background: #fff; }
.verdict { font-size: 19px; border-left: 5px solid #888; padding: .5em 1em; background: #f6f6f4; }
.verdict.stable { border-color: #2a7d4f; } .verdict.wrong { border-color: #b3261e; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5em 0 1em; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25em .8em; border-bottom: 1px solid #ddd;
         white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { border-bottom: 2px solid #888; font-weight: 600; }
pre { font: 12px/1.45 ui-monospace, monospace; background: #f6f6f4; padding: 1em;
      overflow-x: auto; }
figure { margin: 1em 0; } img { max-width: 100%; }
figcaption, .note { color: #555; font-size: 13px; max-width: 80ch; }
.square { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 1em; }
h2 { margin-top: 1.6em; font-size: 18px; }
"""


def page(report: Report, model: Any = None, name: str = "") -> str:
    """The page as HTML; with a model that has a problem, its labels, and its reference's errors."""
    problem = getattr(model, "problem", None)
    labels = problem.labels if problem is not None else PLAIN
    title = html.escape(f"Diagnosis of {name or 'a network'}")
    look = "stable" if report.reliable else "wrong"
    if max(error.relative for error in report.errors.values()) >= report_text.WRONG:
        look = "wrong"
    parts = [
        f'<p class="verdict {look}">{html.escape(report_text.verdict(report))}</p>',
        _next(report),
        *_how_wrong(report, problem, labels),
        *_between(report, labels),
        *_weights(report),
        *_unknowns(report),
        "<details><summary>The whole report in words</summary>"
        f"<pre>{html.escape(report.text())}</pre></details>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>"
        f"{''.join(parts)}</body></html>\n"
    )


def _next(report: Report) -> str:
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in report_text.advice(report))
    return f"<h2>What to do next</h2><ul>{lines}</ul>"


def _how_wrong(report: Report, problem: Any, labels: Labels) -> Iterable[str]:
    yield "<h2>How wrong, and where</h2>"
    rows = [
        (
            name + labels.plain_unit(name),
            report_text.size(error),
            *_where(report, error),
        )
        for name, error in report.errors.items()
    ]
    heads = ("quantity", "off by", "rms", "largest", "at")
    yield _table(heads, rows)
    yield (
        '<p class="note">Solution minus network (positive: the network is too low), estimated from '
        f"the residuals at {len(report.fresh_x)} points on which it was not trained. Percentages "
        "are root mean squares over that of the solution. How sure an estimate is comes from a "
        "second set of such points, from other dampings and from the scatter of the points.</p>"
    )
    if report.measures:
        measured = [
            (name, f"{before:.6g}", report_text.corrected_measure(report, name))
            for name, (before, _) in report.measures.items()
        ]
        yield _table(("measure", "network", "corrected"), measured)
    for caption, drawn in figures.error_figures(report, problem, labels).items():
        yield _figure(caption, drawn)


def _where(report: Report, error: QuantityError) -> tuple[str, str, str]:
    """Size and place of an error, where they are known."""
    if not error.reliable:
        return "unknown", "unknown", "unknown"
    place = report_text.place(report.pinn.inputs, error.place)
    return f"{error.rms:.2g}", f"{error.largest:+.2g}", place


def _between(report: Report, labels: Labels) -> Iterable[str]:
    yield "<h2>Does it fit between its points?</h2>"
    yield f"<p>{'<br>'.join(map(html.escape, report_text.fit(report)))}</p>"
    explained = report.errors if report.reliable else {}
    rows = [
        (
            name,
            f"{term.training:.2e}",
            f"{term.press:.2e}",
            f"{term.fresh:.2e}",
            *(f"{round(100 * error.terms[name])} %" for error in explained.values()),
        )
        for name, term in report.terms.items()
    ]
    shares = (f"part of the error of {name}" for name in explained)
    yield _table(("loss term", "training", "left out", "fresh points", *shares), rows)
    yield (
        f'<p class="note">{report_text.LEFT_OUT} It is half the sum of the squares of the deleted '
        "residuals, PRESS.</p>"
    )
    yield f"<p>{'<br>'.join(map(html.escape, report_text.points(report)))}</p>"
    maps = figures.point_figures(report, labels)
    if maps:
        shape = "square" if figures.is_square(report.x) else "long"
        drawn = "".join(_figure(caption, figure) for caption, figure in maps.items())
        yield f'<div class="{shape}">{drawn}</div>'


def _weights(report: Report) -> Iterable[str]:
    if not report.reliable:
        return
    yield "<h2>Which loss weight matters?</h2>"
    if report_text.no_weight_matters(report):
        yield f"<p>{report_text.NO_WEIGHT}</p>"
        return
    names = list(report.errors)
    rows = [
        (term, *(f"{10 * report.slopes[name][term]:+.2g} %" for name in names))
        for term in report.terms
    ]
    yield _table(("ten percent more weight on", *(f"error of {name}" for name in names)), rows)


def _unknowns(report: Report) -> Iterable[str]:
    if report.unknowns is not None:
        yield f"<p>{'<br>'.join(map(html.escape, report_text.unknowns(report)))}</p>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def _figure(caption: str, figure: Figure) -> str:
    image, text = b64encode(render(figure, "png", DPI)).decode(), html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{image}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
