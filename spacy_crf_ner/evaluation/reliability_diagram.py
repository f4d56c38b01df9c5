"""A picture of how far probabilities can be trusted."""

from pathlib import Path
from typing import Any, Mapping, Tuple

import numpy as np

from .calibration import BINS, ece, reliability, risk_coverage

COLOURS = ("#b0552b", "#2b6cb0")


def draw(curves: Mapping[str, Tuple[np.ndarray, np.ndarray]], path: Path, bins: int = BINS) -> None:
    """Draw reliability and risk over coverage of entities side by side into a PNG.

    curves (Mapping[str, Tuple[np.ndarray, np.ndarray]]): By name, as "before" and "after": probabilities, and which
        entities were right.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="exact")
    for colour, (name, (p, is_right)) in zip(COLOURS, curves.items()):
        _reliability(left, name, colour, np.asarray(p), np.asarray(is_right), bins)
        _, coverage, risk = risk_coverage(p, is_right)
        right.step(coverage, risk, where="post", color=colour, label=name)
    left.set(xlabel="probability", ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.02), title="Reliability")
    right.set(
        xlabel="share of entities kept",
        ylabel="share of them wrong",
        xlim=(0, 1),
        ylim=(0, None),
        title="Risk by coverage",
    )
    left.legend(frameon=False, loc="upper left")
    right.legend(frameon=False)
    figure.savefig(path, dpi=120, format="png")


def _reliability(axes: Any, name: str, colour: str, p: np.ndarray, right: np.ndarray, bins: int) -> None:
    found = reliability(p, right, bins)
    # what chance alone makes of exact probabilities, two standard deviations wide
    spread = 2 * np.sqrt(found.variance)
    label = f"{name}: ECE {100 * ece(p, right, bins):.1f} %"
    axes.errorbar(found.p, found.right, yerr=spread, fmt="o-", color=colour, markersize=4, linewidth=1, label=label)
