"""training.png, training.html and weights.png: curves of a training, drawn anew while it goes on."""

import io
import json
import time
from importlib.resources import files
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from spacy.util import logger

from .curves import Lines, Panel, training_panels, weight_panels
from .files import put

PNG, HTML, WEIGHTS_PNG = "training.png", "training.html", "weights.png"
# A picture takes a second: it is drawn where that is at most this share of the training's time.
SHARE = 0.01
# Seconds until the first is: one of a few steps shows nothing.
FIRST = 60.0
COLOURS = ("#2a78d6", "#e0663c", "#2f9e6e", "#8c5fd0", "#c43d7e", "#b78a10", "#1e9bb0", "#7a7a7a")
FAINT = 0.3


class Pictures:
    """Draws what a training has written down so far.

    A failure is said once, and nothing is drawn from then on.

    output (Optional[Path]): Where they are put; None: nothing is drawn.
    score_weights (Dict[str, Any]): [training.score_weights]; those that have a weight are shown.
    """

    def __init__(self, output: Optional[Path], score_weights: Dict[str, Any]) -> None:
        self._output = output
        self._scores = [name for name, weight in score_weights.items() if weight is not None and name != "speed"]
        self._next = time.monotonic() + FIRST

    def draw(self, metrics: Lines, timings: Callable[[], Lines], weights: Callable[[], Lines], at_end: bool) -> None:
        """Put the files in the place of those that are there. at_end (bool): Whether the pictures must not be old."""
        if self._output is None:
            return
        try:
            training = training_panels(metrics, timings(), self._scores)
            of_weights = weight_panels(weights())
            put(self._output / HTML, to_html([*training, *of_weights]).encode())
            if at_end or time.monotonic() >= self._next:
                begun = time.monotonic()
                put(self._output / PNG, to_png(training))
                if of_weights:
                    put(self._output / WEIGHTS_PNG, to_png(of_weights))
                now = time.monotonic()
                self._next = now + (now - begun) / SHARE
        except Exception as error:
            logger.warning("%s: the curves cannot be drawn (%s); no more are.", self._output / PNG, error)
            self._output = None


def to_html(panels: Sequence[Panel]) -> str:
    """A page with all that it needs in it."""
    data = [panel._replace(curves=[curve._asdict() for curve in panel.curves])._asdict() for panel in panels]  # type: ignore[misc]
    page = (files("spacy_crf_ner.training") / "curves.html").read_text(encoding="utf-8")
    # no name may end the script
    return page.replace("[/*panels*/]", json.dumps(data).replace("<", "\\u003c")).replace(
        "[/*colours*/]", json.dumps(COLOURS)
    )


def to_png(panels: Sequence[Panel]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 2 if len(panels) > 1 else 1
    rows = max(-(-len(panels) // columns), 1)
    figure = Figure(figsize=(6.5 * columns, 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, place in zip(panels, axes):
        _draw_panel(panel, place)
    for place in axes[len(panels) :]:
        place.set_axis_off()
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()


def _draw_panel(panel: Panel, place: Any) -> None:
    from matplotlib.ticker import LogFormatter

    colours = _colours(panel)
    for curve in panel.curves:
        x, y = zip(*curve.points)
        style: Dict[str, Any] = {"linewidth": 1.6}
        if curve.kind == "faint":
            style = {"linewidth": 0.8, "alpha": FAINT}
        elif curve.kind == "marks":
            style = {"linestyle": "", "marker": "o", "markersize": 7, "markerfacecolor": "none"}
        elif len(x) == 1:
            style = {"marker": "."}
        place.plot(x, y, color=colours[curve.colour], label=curve.name or None, **style)
    place.set_title(panel.title, fontsize=11, loc="left")
    place.set_xlabel("step", fontsize=9)
    if panel.is_log:
        place.set_yscale("log")
        for set_formatter in (place.yaxis.set_major_formatter, place.yaxis.set_minor_formatter):
            set_formatter(LogFormatter(minor_thresholds=(1.2, 0.5)))
        place.tick_params(which="minor", labelsize=7)
    place.tick_params(labelsize=8)
    place.grid(alpha=0.25, linewidth=0.6)
    place.spines[["top", "right"]].set_visible(False)
    names = [curve.name for curve in panel.curves if curve.name]
    if len(names) > 6:
        place.legend(fontsize=6.5, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    elif names:
        place.legend(fontsize=8, framealpha=0.75, edgecolor="none")


def _colours(panel: Panel) -> List[Any]:
    """The palette, or for many curves a scale, so that layers of an encoder follow each other."""
    number = max(curve.colour for curve in panel.curves) + 1
    if number <= len(COLOURS):
        return list(COLOURS)
    from matplotlib import colormaps

    return [colormaps["viridis"](i / number) for i in range(number)]
