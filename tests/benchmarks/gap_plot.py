"""Draw the plots of the README: score gaps and probe scores of two policies on the quickstart.

    python tests/benchmarks/gap_plot.py LAKE

Runs the quickstart for four iterations with each policy, in about six minutes on two cores, unless
the lake already has the rows. Writes .github/gap-light.svg and .github/gap-dark.svg.
"""

import sys
from pathlib import Path

import factory

ROOT = Path(__file__).parents[2]

POLICIES = {"temporal": "Temporal Self-Rewarding", "self_rewarding": "Self-Rewarding"}

THEMES = {
    "light": {"ink": "#1f2328", "faint": "#59636e", "grid": "#d1d9e0", "bg": "#ffffff"},
    "dark": {"ink": "#f0f6fc", "faint": "#9198a1", "grid": "#3d444d", "bg": "#0d1117"},
}

COLORS = {
    "light": {"temporal": "#047857", "self_rewarding": "#b45309"},
    "dark": {"temporal": "#34d399", "self_rewarding": "#f59e0b"},
}

WIDTH, HEIGHT, TOP, BOTTOM = 880, 250, 52, 214


def measure(lake: str) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Run both policies. Return the gaps of D2 by iteration, and the probe scores of M_0 to M_4."""
    gaps, probes = {}, {}
    for policy in POLICIES:
        recipe = ROOT / "recipes" / "quickstart" / "recipe.yaml"
        run = factory.open(recipe, lake, {"loop.policy": policy, "loop.iterations": 4}).run()
        gaps[policy] = [row["gap"] for row in run if row["phase"] == "D2"]
        probes[policy] = [row["score"] for row in run.probe if row["name"].startswith("M_")]
    return gaps, probes


def draw_chart(theme, title, series, left, low, high, step, names) -> list[str]:
    """Return the SVG elements of one line chart."""
    ink, right = THEMES[theme], left + 300

    def place(i: int, value: float) -> tuple[float, float]:
        x = left + i * (right - left) / (len(names) - 1)
        return round(x, 1), round(BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP), 1)

    out = [f'<text x="{left}" y="28" font-weight="600" fill="{ink["ink"]}">{title}</text>']
    for n in range(round((high - low) / step) + 1):
        value = low + n * step
        y = place(0, value)[1]
        out.append(f'<path d="M{left} {y}H{right}" stroke="{ink["grid"]}"/>')
        out.append(
            f'<text x="{left - 8}" y="{y + 4}" text-anchor="end" fill="{ink["faint"]}">'
            f"{value:.1f}</text>"
        )
    for i, name in enumerate(names):
        out.append(
            f'<text x="{place(i, low)[0]}" y="{BOTTOM + 22}" text-anchor="middle" '
            f'fill="{ink["faint"]}">{name}</text>'
        )
    for policy, values in series.items():
        color = COLORS[theme][policy]
        points = [place(i, value) for i, value in enumerate(values)]
        line = " ".join(f"{x},{y}" for x, y in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
        out += [f'<circle cx="{x}" cy="{y}" r="3.5" fill="{color}"/>' for x, y in points]
    return out


def draw(theme: str, gaps: dict[str, list[float]], probes: dict[str, list[float]]) -> str:
    """Return both charts and their legend as SVG."""
    iterations = [f"iteration {i}" for i in range(4)]
    models = [f"M_{i}" for i in range(5)]
    out = draw_chart(theme, "Score gap of the kept pairs", gaps, 48, 2.0, 4.0, 0.5, iterations)
    out += draw_chart(theme, "Probe score of each model", probes, 420, 4.0, 4.8, 0.2, models)
    for n, (policy, title) in enumerate(POLICIES.items()):
        color, y = COLORS[theme][policy], 110 + 48 * n
        out.append(f'<circle cx="752" cy="{y - 4}" r="3.5" fill="{color}"/>')
        lines = title.split(" ", 1) if len(title) > 16 else [title]
        out.append(f'<text x="762" y="{y}" fill="{color}">{lines[0]}</text>')
        if len(lines) > 1:
            out.append(f'<text x="762" y="{y + 16}" fill="{color}">{lines[1]}</text>')
    drawn = "\n".join(out)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="system-ui, sans-serif" font-size="13" role="img" '
        'aria-label="Score gaps and probe scores of two policies">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{THEMES[theme]["bg"]}"/>\n{drawn}\n</svg>\n'
    )


if __name__ == "__main__":
    measured = measure(sys.argv[1])
    print(*measured, sep="\n")
    for theme in THEMES:
        (ROOT / ".github" / f"gap-{theme}.svg").write_text(draw(theme, *measured))
