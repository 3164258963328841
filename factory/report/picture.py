"""The chart on a dataset's card: score gaps, figures that explain them, and score distributions.

The chart is SVG, drawn from rows of numbers without a plotting library.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

from factory.report.tables import format_percent
from factory.texts import display_html

Row = dict[str, Any]

WIDTH = 860
_LEFT = 340
_TOP = 56
_ROW = 130
_FOOT = 44
_LINE = 20

COLOURS = {"past": "#b45309", "current": "#2563eb", "future": "#059669", "reference": "#6b7280"}
SIDES = {"chosen": "#059669", "rejected": "#dc2626"}
_INK, _FAINT = "#1f2937", "#d1d5db"


@dataclass(frozen=True)
class _Axis:
    """A linear map from values to positions on the canvas, in pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1)
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[float]:
        """Return the values of at most seven axis ticks.

        They are multiples of 1, 2, or 5 times a power of ten.
        """
        span = (self.high - self.low) or 1
        power = 10.0 ** floor(log10(span))
        step = next(s for s in (power / 5, power / 2, power, power * 2) if span / s <= 6)
        first = ceil(self.low / step - 1e-9)
        return [round(n * step, 9) for n in range(first, floor(self.high / step + 1e-9) + 1)]


def draw_picture(gaps: Sequence[Row], quality: Sequence[Row], bins: Sequence[Row]) -> str:
    """Return an SVG chart of score gaps and score distributions, with a table of figures below.

    `gaps` has rows of the view `gaps`, and `quality` and `bins` have rows of the named queries
    `pair_quality` and `score_distribution`.
    """
    bins = [row for row in bins if row["role"] in COLOURS]
    iterations = sorted({row["iteration"] for row in bins})
    base = _TOP + _ROW * max(2, len(iterations)) + _FOOT
    height = base + _LINE * (len(gaps) + 3)
    kept = [row for row in gaps if row["kept"]]
    drawn = "\n".join(
        [*_gaps(kept, base), *_distributions(bins, iterations), *_figures(gaps, quality, base)]
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="12" fill="{_INK}">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n{drawn}\n</svg>\n'
    )


def _gaps(rows: Sequence[Row], height: float) -> Iterator[str]:
    has_rejected = not rows or any(row["score_rejected"] is not None for row in rows)
    title = (
        "Mean scores of the pairs and their gap" if has_rejected else "Mean scores of the answers"
    )
    yield _text(20, 24, title, weight="bold")
    for place, (side, colour) in enumerate([*SIDES.items()][: 1 + has_rejected]):
        yield _dot(58 + 80 * place, 42, colour)
        yield _text(68 + 80 * place, 46, side)
    sides = ("score_chosen", "score_rejected")
    scores = [row[side] for row in rows for side in sides if row[side] is not None]
    if not scores:
        return
    low, high = min(scores), max(scores)
    room = (high - low) * 0.1 or 0.5
    y = _Axis(low - room, high + room, height - _FOOT, _TOP)
    for tick in y.ticks:
        yield _line(52, y(tick), _LEFT - 20, y(tick), _FAINT)
        yield _text(46, y(tick) + 4, f"{tick:g}", anchor="end")
    x = _Axis(-0.5, len(rows) - 0.5, 52, _LEFT - 20)
    for place, row in enumerate(rows):
        at = x(place)
        if row["gap"] is not None:
            top, bottom = y(row["score_chosen"]), y(row["score_rejected"])
            yield _line(at, top, at, bottom, _INK, 2)
            yield _text(at + 6, (top + bottom) / 2 - 8, f"{row['gap']:.2f}")
        for side, colour in SIDES.items():
            if (score := row[f"score_{side}"]) is not None:
                yield _dot(at, y(score), colour)
        yield _text(at, height - _FOOT + 16, row["phase"], anchor="middle")
        yield _text(at, height - _FOOT + 31, f"it {row['iteration']}", anchor="middle")


_UNKNOWN = "–"

_COLUMNS = {
    "gap": 160,
    "gap / sd": 240,
    "future won": 335,
    "ties": 395,
    "chosen longer": 505,
    "cut off": 575,
    "same text": 660,
    "judge's consistency": 840,
}
"""The columns of the table of figures, with the positions of their right edges."""


def _figures(gaps: Sequence[Row], quality: Sequence[Row], top: float) -> Iterator[str]:
    """Yield a table of the figures of `pair_quality`, one line per iteration and phase."""
    figures = {(row["iteration"], row["phase"]): row for row in quality}
    lines = [["pairs of", *_COLUMNS]]
    lines += [_figures_of(row, figures[row["iteration"], row["phase"]]) for row in gaps]
    for place, (name, *texts) in enumerate(lines):
        y, weight = top + _LINE * (place + 1), "normal" if place else "bold"
        yield _text(20, y, name, weight=weight)
        for end, text in zip(_COLUMNS.values(), texts, strict=True):
            yield _text(end, y, text, anchor="end", weight=weight)
    yield _line(20, top + _LINE + 6, WIDTH - 20, top + _LINE + 6, _FAINT)
    yield _text(20, top + _LINE * (len(lines) + 1), "sd: standard deviation of all scores")


def _figures_of(gap: Row, figures: Row) -> list[str]:
    considered = sum(gap[name] for name in ("kept", "ties", "identical", "unscored", "filtered"))
    shares = [
        figures["future_won"],
        gap["ties"] / considered,
        *(figures[name] for name in ("chosen_longer", "truncated_share", "same_text_share")),
    ]
    return [
        f"it {gap['iteration']}, {gap['phase']}",
        _number(gap["gap"]),
        _number(figures["gap_in_sd"]),
        *(format_percent(share) or _UNKNOWN for share in shares),
        _number(figures["consistency"]) if figures["rejudged"] else "not measured",
    ]


def _number(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}"


def _distributions(bins: Sequence[Row], iterations: Sequence[int]) -> Iterator[str]:
    yield _text(_LEFT + 20, 24, "Score distribution by role", weight="bold")
    roles = [role for role in COLOURS if any(row["role"] == role for row in bins)]
    for place, role in enumerate(reversed(roles)):
        at = WIDTH - 90 - 75 * place
        yield f'<rect x="{at}" y="15" width="10" height="10" fill="{COLOURS[role]}"/>'
        yield _text(at + 15, 24, role)
    if not bins:
        return
    x = _Axis(
        min(row["from_score"] for row in bins),
        max(row["to_score"] for row in bins),
        _LEFT + 90,
        WIDTH - 20,
    )
    most = max(row["share"] for row in bins)
    for place, iteration in enumerate(iterations):
        base = _TOP + _ROW * (place + 1) - 24
        y = _Axis(0, most, base, base - _ROW + 34)
        yield _text(_LEFT + 20, base - 40, f"iteration {iteration}")
        for share in (0.0, most):
            yield _line(x(x.low), y(share), x(x.high), y(share), _FAINT)
            yield _text(x(x.low) - 6, y(share) + 4, f"{share:.0%}", anchor="end")
        for tick in x.ticks:
            yield _text(x(tick), base + 15, f"{tick:g}", anchor="middle")
        for role in COLOURS:
            rows = [row for row in bins if (row["iteration"], row["role"]) == (iteration, role)]
            yield from _bars(rows, role, x, y)


def _bars(rows: Sequence[Row], role: str, x: _Axis, y: _Axis) -> Iterator[str]:
    """Yield the bars of one role. The bars of all roles are side by side in each bin."""
    place = list(COLOURS).index(role)
    for row in rows:
        left, right = x(row["from_score"]), x(row["to_score"])
        width = (right - left) * 0.9 / len(COLOURS)
        top = y(row["share"])
        yield (
            f'<rect x="{left + (right - left) * 0.05 + place * width:.1f}" y="{top}" '
            f'width="{width:.1f}" height="{y(0) - top:.1f}" fill="{COLOURS[role]}"/>'
        )


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{display_html(text)}</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    return (
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{colour}" '
        f'stroke-width="{width:g}"/>'
    )


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:g}" cy="{y:g}" r="5" fill="{colour}"/>'
