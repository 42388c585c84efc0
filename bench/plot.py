"""
The results of a contest as a picture: a panel for each measure, a bar for each competitor.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.measure import Contest, Measure, Rounds, Standing, standings
from bench.report import number
from bench.servers import BASELINE

OURS = "#c8501e"
STOCK = "#5b6470"
OTHERS = "#a9b4c2"


def draw(contest: Contest, rounds: Rounds, path: Path) -> None:
    """
    Draw the median ratios to stock Twisted, with whiskers from the least to the greatest.
    """
    measures = [measure for measure in contest.measures if measure.drawn]
    rows = (len(measures) + 1) // 2
    height = 1.2 + rows * (1.2 + 0.34 * len(contest.competitors))
    figure = Figure(figsize=(14, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(
        f"{contest.name}: ratio to stock Twisted, median of {len(rounds.figures)} rounds, "
        "whiskers from minimum to maximum; median figure beside the bar"
    )
    titles = {competitor.name: competitor.title for competitor in contest.competitors}
    panels = figure.subplots(rows, 2, squeeze=False).flat
    for axes, measure in zip(panels, measures, strict=True):
        _panel(axes, measure, standings(rounds.figures, measure), titles)
    figure.savefig(path, dpi=110)


def _panel(
    axes: Axes, measure: Measure, standing: dict[str, Standing], titles: dict[str, str]
) -> None:
    colours = {"ours": OURS, BASELINE: STOCK}
    ratios = [each.ratio for each in standing.values()]
    axes.barh(
        [titles[name] for name in standing],
        [ratio.median for ratio in ratios],
        xerr=[
            [ratio.median - ratio.minimum for ratio in ratios],
            [ratio.maximum - ratio.median for ratio in ratios],
        ],
        color=[colours.get(name, OTHERS) for name in standing],
        capsize=3,
    )
    for row, each in enumerate(standing.values()):
        axes.annotate(
            f"{each.ratio.median:.2f}x  {number(each.figure.median)}",
            (each.ratio.maximum, row),
            xytext=(6, 0),
            textcoords="offset points",
            verticalalignment="center",
            fontsize=9,
        )
    better = "higher" if measure.higherIsBetter else "lower"
    axes.set_title(f"{measure.title} ({better} is better)", fontsize=10)
    axes.axvline(1, color=STOCK, linewidth=1, linestyle=":")
    axes.margins(x=0.3)  # room for the words beside the longest bar
    axes.invert_yaxis()
