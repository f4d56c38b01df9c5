"""plots/: the report's pictures as PNG files, for papers and slides."""

import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from . import reliability_diagram
from .report import Row, probabilities

PLOTS = "plots"
COLOURS = ("#0b5cad", "#b3480c")
# Rows of a picture: more could not be read.
MOST_ROWS = 60
HEADLINE: Dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    "exact": lambda scores: scores["exact"]["micro"],
    "exact, mean of labels": lambda scores: scores["exact"]["macro"],
    "exact, labels weighted": lambda scores: scores["exact"]["weighted"],
    "in part": lambda scores: scores["overlap"]["micro"],
    "borders alone": lambda scores: scores["boundaries"],
    "tokens": lambda scores: scores["tokens"]["micro"],
    "SemEval strict": lambda scores: scores["semeval"]["strict"],
    "SemEval exact": lambda scores: scores["semeval"]["exact"],
    "SemEval partial": lambda scores: scores["semeval"]["partial"],
    "SemEval type": lambda scores: scores["semeval"]["type"],
}
# What can follow the name of a part in the name of a file.
PICTURES = ("scores", "labels", "frequency", "confusion", "lengths", "seen", "attributes", "reliability", "comparison")
Scored = Sequence[Tuple[str, Mapping[str, Any]]]


def plots(metrics: Mapping[str, Any], rows: Iterable[Row]) -> Iterator[Tuple[str, Callable[[Path], None]]]:
    """Each picture's file name, PART.KIND.png, and what draws it into a path; without those that have nothing to show.

    metrics (Mapping[str, Any]): What metrics.json holds. rows (Iterable[Row]): The lines of predictions.jsonl.
    """
    rows = list(rows)
    taken: Set[str] = set()
    compared = metrics["comparison"]
    for name, part in metrics["parts"].items():
        other = None if compared is None else compared["parts"].get(name)
        prefix = _file_name(name, taken)
        for kind, draw in _of_part(name, part, other, rows):
            yield f"{prefix}.{kind}.png", draw


def is_plot(path: Path) -> bool:
    """Whether a file has a name that `plots` gives."""
    return path.name.endswith(tuple(f".{kind}.png" for kind in PICTURES))


def _file_name(part: str, taken: Set[str]) -> str:
    """A part's name as a file can have it; each part another one, also where case does not count."""
    base = found = re.sub(r"[^\w.-]", "_", part)[:60]
    number = 1
    while found.lower() in taken:
        number += 1
        found = f"{base}_{number}"
    taken.add(found.lower())
    return found


def _of_part(
    name: str, part: Mapping[str, Any], other: Optional[Mapping[str, Any]], rows: Iterable[Row]
) -> Iterator[Tuple[str, Callable[[Path], None]]]:
    characters, aligned = part["characters"], part["aligned"]
    headline = [(score, get(characters)) for score, get in HEADLINE.items()]
    on_tokens = [(score, get(aligned)) for score, get in HEADLINE.items()]
    yield "scores", lambda path: _scores(f"{name}: F1", headline, path, on_tokens)
    labels = sorted(characters["exact"]["per_label"].items(), key=lambda item: -item[1]["gold"])
    slices: List[Tuple[str, str, Scored]] = [
        (
            "labels",
            "exact F1 by label",
            [(f"{label or '(none)'}  ({score['gold']:,})", score) for label, score in labels],
        ),
        ("lengths", "exact F1 by length in tokens", list(part["by_length"].items())),
        ("seen", "exact F1 by whether the training data has the entity", list((part["by_seen"] or {}).items())),
        ("attributes", "exact F1 by attribute", _attributes(part["by_attribute"])),
    ]
    for kind, title, scored in slices:
        if scored:
            yield kind, lambda path, title=title, scored=scored: _scores(f"{name}: {title}", scored, path)  # type: ignore[misc]
    if labels:
        yield "frequency", lambda path: _frequency(name, labels, path)
    if characters["confusion"]["labels"]:
        yield "confusion", lambda path: _confusion(name, characters["confusion"], path)
    p, right, _ = probabilities(rows, name)
    if len(p):
        yield "reliability", lambda path: reliability_diagram.draw({name: (p, right)}, path)
    if other is not None:
        differences = [(kind.replace("_", ", "), found) for kind, found in other["f"].items()]
        yield "comparison", lambda path: _differences(f"{name}: F1 less that of the other model", differences, path)


def _attributes(by_attribute: Mapping[str, Mapping[str, Any]]) -> Scored:
    return [
        (f"{key}: {value or '(none)'}  ({found['documents']:,})", found["exact"])
        for key, values in by_attribute.items()
        for value, found in values.items()
    ]


def _figure(wide: float, tall: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, tall), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")


def _rows(title: str, names: Sequence[str], path: Path, draw: Callable[[Any, Sequence[float]], None]) -> None:
    """One row for each name, from the top; as many as can be read."""
    left_out = f" (the first {MOST_ROWS} of {len(names):,})" if len(names) > MOST_ROWS else ""
    names = names[:MOST_ROWS]
    figure = _figure(7.5, 1.1 + 0.27 * len(names))
    axes = figure.subplots()
    places = [-float(i) for i in range(len(names))]
    draw(axes, places)
    axes.set_yticks(places, [_plain(name) for name in names], fontsize=8)
    axes.set_ylim(-len(names) + 0.4, 0.6)
    axes.set_title(_plain(title) + left_out, fontsize=11, loc="left")
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3, linewidth=0.6, axis="x")
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, dpi=120, format="png")


def _scores(title: str, scored: Scored, path: Path, on_tokens: Optional[Scored] = None) -> None:
    """F1 with intervals. on_tokens: The same scores of gold on tokens."""

    def draw(axes: Any, places: Sequence[float]) -> None:
        sides = [(scored, "gold by characters", "o"), *([(on_tokens, "gold on tokens", "s")] if on_tokens else [])]
        for (found, side, marker), colour, shift in zip(sides, COLOURS, (0.14, -0.14) if on_tokens else (0.0,)):
            shown = [score for _, score in found][: len(places)]
            y = [place + shift for place in places]
            for place, score in zip(y, shown):
                interval = (score["intervals"] or {}).get("f")
                if interval is not None:
                    axes.plot([100 * end for end in interval], [place, place], color=colour, linewidth=1.5)
            f = [100 * score["f"] for score in shown]
            axes.plot(f, y, marker, color=colour, markersize=5, label=side)
        axes.set_xlim(-1, 101)
        if on_tokens:
            axes.legend(fontsize=8, frameon=False, loc="lower left")

    _rows(title, [name for name, _ in scored], path, draw)


def _frequency(name: str, labels: Scored, path: Path) -> None:
    """F1 of labels by how often gold has them."""
    figure = _figure(6.5, 4.2)
    axes = figure.subplots()
    for label, score in labels:
        if score["gold"] == 0:
            continue
        interval = (score["intervals"] or {}).get("f")
        if interval is not None:
            axes.plot([score["gold"]] * 2, [100 * end for end in interval], color=COLOURS[0], alpha=0.35, linewidth=1.2)
        axes.plot([score["gold"]], [100 * score["f"]], "o", color=COLOURS[0], markersize=5)
        axes.annotate(
            _plain(label), (score["gold"], 100 * score["f"]), (5, 3), textcoords="offset points", fontsize=6.5
        )
    axes.set_xscale("log")
    axes.set(xlabel="gold entities of the label", ylabel="exact F1", ylim=(-3, 103))
    axes.set_title(_plain(name) + ": labels by frequency", fontsize=11, loc="left")
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, format="png")


def _differences(title: str, differences: Sequence[Tuple[str, Mapping[str, Any]]], path: Path) -> None:
    def draw(axes: Any, places: Sequence[float]) -> None:
        axes.axvline(0, color="0.6", linewidth=1)
        for place, (_, found) in zip(places, differences):
            if found["interval"] is not None:
                axes.plot([100 * end for end in found["interval"]], [place, place], color=COLOURS[0], linewidth=1.5)
            axes.plot([100 * found["difference"]], [place], "o", color=COLOURS[0], markersize=5)

    _rows(title, [f"{name}  (p = {found['p_value']:.4f})" for name, found in differences], path, draw)


def _confusion(name: str, confusion: Mapping[str, Any], path: Path) -> None:
    """Counts, shaded by their share of the row."""
    labels, counts = confusion["labels"], confusion["counts"]
    n = len(labels) + 1
    shares = [[value / max(sum(row), 1) for value in row] for row in counts]
    figure = _figure(3.2 + 0.32 * n, 2.4 + 0.28 * n)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
    for i, row in enumerate(counts):
        for j, value in enumerate(row):
            if value:
                axes.text(j, i, f"{value:,}", ha="center", va="center", fontsize=7 if n <= 20 else 5.5)
    axes.set_xticks(range(n), [*(_plain(label) for label in labels), "missed"], rotation=90, fontsize=8)
    axes.set_yticks(range(n), [*(_plain(label) for label in labels), "spurious"], fontsize=8)
    axes.set(xlabel="predicted", ylabel="gold")
    axes.set_title(_plain(name) + ": what entities were taken for", fontsize=11, loc="left")
    figure.savefig(path, dpi=120, format="png")
