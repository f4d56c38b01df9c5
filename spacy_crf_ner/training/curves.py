"""How a training went, as curves: what metrics.jsonl, timings.jsonl and weights.jsonl hold, made ready for drawing."""

import math
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Sequence, Tuple

# More points than a picture has room for make it slow and no clearer.
MOST_POINTS = 800
# Share of the points that a smoothed curve averages over, and the fewest of them.
SMOOTH, FEWEST = 0.01, 10
Lines = Sequence[Dict[str, Any]]
Point = Tuple[float, float]


class Curve(NamedTuple):
    """A curve, or marked points.

    name (str): Empty: it belongs to the one before it. kind (str): "line", "faint" or "marks".
    colour (int): Number of its colour. points: By step; all finite.
    """

    name: str
    kind: str
    colour: int
    points: List[Point]


class Panel(NamedTuple):
    """Curves that share their axes. is_log (bool): Whether the vertical axis is logarithmic."""

    title: str
    curves: List[Curve]
    is_log: bool = False


def training_panels(metrics: Lines, timings: Lines, score_names: Sequence[str]) -> List[Panel]:
    """Losses, scores, rates, norm of the gradient and speed, without what there is nothing of.

    score_names: Scores that are shown besides the weighted one.
    """
    panels = [_losses(metrics), _scores(metrics, score_names), _rates(metrics), _norms(metrics)]
    panels.append(_speed(metrics, timings))
    return [panel for panel in panels if any(curve.points for curve in panel.curves)]


def weight_panels(weights: Lines) -> List[Panel]:
    """Norm, standard deviation and relative update of each part of the pipeline."""
    names = list(dict.fromkeys(name for line in weights for name in line["weights"]))
    panels = []
    for key, title in (
        ("norm", "Norm of the weights"),
        ("std", "Standard deviation of the weights"),
        ("update", "Update of one step / norm of the weights"),
    ):
        curves = [
            Curve(name, "line", i, _points(weights, "weights", name, key, above=0.0)) for i, name in enumerate(names)
        ]
        panels.append(Panel(title, [curve for curve in curves if curve.points], True))
    return [panel for panel in panels if panel.curves]


def _losses(metrics: Lines) -> Panel:
    names = dict.fromkeys(name for line in metrics for name in line["losses"])
    curves: List[Curve] = []
    for i, name in enumerate(names):
        points = _points(metrics, "losses", name)
        curves += _raw_and_smooth(name, i, points)
    return Panel("Loss", curves)


def _scores(metrics: Lines, names: Sequence[str]) -> Panel:
    evaluated = [line for line in metrics if "score" in line]
    score = _points(evaluated, "score")
    curves = [Curve("score", "line", 0, score)]
    for i, name in enumerate(names, 1):
        points = _points(evaluated, "scores", name)
        if points != score:
            curves.append(Curve(name, "line", i, points))
    if score:
        best = max(score, key=lambda point: (point[1], -point[0]))
        curves.append(Curve(f"best: {best[1]:.4f} at step {best[0]:,}", "marks", 0, [best]))
    return Panel("Scores", [curve for curve in curves if curve.points])


def _rates(metrics: Lines) -> Panel:
    groups = list(dict.fromkeys(name for line in metrics for name in line.get("learn_rates", {})))
    curves = [Curve("all else" if groups else "all", "line", 0, _points(metrics, "learn_rate"))]
    for i, group in enumerate(groups, 1):
        curves.append(Curve(group, "line", i, _points(metrics, "learn_rates", group)))
    highest = [max((y for _, y in curve.points), default=0.0) for curve in curves]
    is_log = 5 * min((y for y in highest if y > 0), default=0.0) < max(highest)
    if is_log:
        curves = [curve._replace(points=[point for point in curve.points if point[1] > 0]) for curve in curves]
    thinned = [curve._replace(points=_thin(curve.points, _mean)) for curve in curves]
    return Panel("Learning rate", [curve for curve in thinned if curve.points], is_log)


def _norms(metrics: Lines) -> Panel:
    points = _points(metrics, "gradient_norm", above=0.0)
    curves = [
        Curve("", "faint", 0, _thin(points, max)),
        Curve("smoothed", "line", 0, _thin(_smooth(points), _mean)),
    ]
    done = {"clip_mean": "clipped", "clip_threshold": "clipped", "skip": "skipped", "not finite": "not finite, skipped"}
    for i, what in enumerate(dict.fromkeys(done.values()), 1):
        spikes = [line for line in metrics if done.get(line.get("spike", "")) == what]
        marks = _points(spikes, "gradient_norm", above=0.0)
        if what.startswith("not"):  # it has no place on the axis: at its upper end
            top = max((y for _, y in points), default=1.0)
            marks = [(line["step"], top) for line in spikes]
        if marks:
            curves.append(Curve(f"{what}: {len(marks):,}", "marks", i, marks))
    return Panel("Norm of the gradient", [curve for curve in curves if curve.points], True)


def _speed(metrics: Lines, timings: Lines) -> Panel:
    """Without the steps that an evaluation followed, whose time is its own for the most part."""
    evaluated = {line["step"] for line in metrics if "score" in line}
    points = _points([line for line in timings if line["step"] not in evaluated], "words_a_second")
    return Panel("Words a second", _raw_and_smooth("", 0, points))


def _raw_and_smooth(name: str, colour: int, points: List[Point]) -> List[Curve]:
    raw = Curve("", "faint", colour, _thin(points, _mean))
    return [raw, Curve(name or "smoothed", "line", colour, _thin(_smooth(points), _mean))] if points else []


def _points(lines: Iterable[Dict[str, Any]], *keys: str, above: float = -math.inf) -> List[Point]:
    """What lines have under keys, one inside the other, by step; without what is not there, not finite or too low."""
    found: List[Point] = []
    for line in lines:
        value: Any = line
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None and math.isfinite(value) and value > above:
            found.append((line["step"], float(value)))
    return found


def _smooth(points: List[Point]) -> List[Point]:
    """Exponentially weighted means, the first values weighted evenly."""
    share = 1 / max(SMOOTH * len(points), FEWEST)
    mean, smooth = 0.0, []
    for i, (x, y) in enumerate(points):
        mean += max(share, 1 / (i + 1)) * (y - mean)
        smooth.append((x, mean))
    return smooth


def _thin(points: List[Point], pick: Callable[[List[float]], float]) -> List[Point]:
    """At most MOST_POINTS points, each in the place of its neighbours; the last one is kept as it is."""
    size = math.ceil(len(points) / MOST_POINTS)
    if size <= 1:
        return points
    parts = [points[i : i + size] for i in range(0, len(points) - 1, size)]
    return [*((part[len(part) // 2][0], pick([y for _, y in part])) for part in parts), points[-1]]


def _mean(values: List[float]) -> float:
    return math.fsum(values) / len(values)
