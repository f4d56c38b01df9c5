"""What `statistics` has counted, as readable text and as a page with plots that needs nothing beside it."""

import base64
import html
import io
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .statistics import KINDS, Statistics

# Labels of which there are bars, lengths and a row; the page's table has all of them.
DRAWN_LABELS = 30


class Style(NamedTuple):
    """Colours of a plot: text and lines, weak lines, bars, and the colour map from little to much."""

    ink: str
    faint: str
    bar: str
    colours: str
    paper: str


STYLES = {
    "light": Style("#22282e", "#d5dadf", "#2f6fa8", "Blues", "#ffffff"),
    "dark": Style("#dde3e8", "#454d55", "#6fb1e8", "Blues_r", "#16191d"),
}


# Text


def text_lines(found: Dict[str, Any]) -> Iterator[str]:
    """What `Statistics.to_dict` gives, for a terminal."""
    yield f"{_n(found['documents'])} documents, {_n(found['annotated_documents'])} of them annotated; {_sizes(found)}."
    yield f"{_n(found['entities'])} entities, {len(found['labels'])} labels."
    yield ""
    rows = list(label_rows(found))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
    yield ""
    for name, value in facts(found):
        yield f"{name}: {value}"
    yield ""
    for kind, what in found["suspicious"].items():
        if what["count"]:
            yield f"{_n(what['count'])} × {KINDS[kind].name} ({KINDS[kind].why})"
            yield from (f"    {place}" for place in what["listed"])
            left = what["count"] - len(what["listed"])
            if left:
                yield f"    … and {_n(left)} more"
    if not any(what["count"] for what in found["suspicious"].values()):
        yield "Nothing suspicious was found."


def label_rows(found: Dict[str, Any]) -> Iterator[Tuple[str, ...]]:
    """A table of the labels, its head first."""
    yield "label", "entities", "share", "documents", "texts", "tokens: mean", "max", "characters: mean", "max"
    for name, label in found["labels"].items():
        tokens, characters = label["tokens"], label["characters"]
        yield (
            name, _n(label["entities"]), f"{label['share']:.1%}", _n(label["documents"]), _n(label["texts"]),
            f"{tokens['mean']:.1f}", _n(tokens["max"]), f"{characters['mean']:.1f}", _n(characters["max"]),
        )  # fmt: skip


def facts(found: Dict[str, Any]) -> Iterator[Tuple[str, str]]:
    """Names and values of all else that was counted."""
    yield "tokens of a document", _spread(found["document_tokens"])
    yield "entities of a document", _spread(found["document_entities"])
    yield "tokens of an entity", _spread(found["entity_tokens"])
    yield "characters of an entity", _spread(found["entity_characters"])
    overlaps = found["overlaps"]
    pairs = ", ".join(f"{_n(n)} {kind}" for kind, n in overlaps["pairs"].items())
    yield "entities that overlap", f"{_n(overlaps['entities'])}; pairs: {pairs}; up to {overlaps['deepest']} around one"
    if overlaps["nested"]:
        inside = (f"{pair['inner']} in {pair['outer']} {_n(pair['pairs'])}" for pair in overlaps["nested"])
        yield "nested", ", ".join(inside)
    yield "discontinuous entities", _n(found["discontinuous"])
    if found["links"]:
        yield "beside entities", ", ".join(f"{_n(n)} {kind}s" for kind, n in sorted(found["links"].items()))
    if found["remarks"]:
        yield "remarks of the reader", ", ".join(f"{_n(n)} {kind}" for kind, n in found["remarks"].items())


def _sizes(found: Dict[str, Any]) -> str:
    parts = [f"{_n(found['tokens'])} tokens", f"{_n(found['characters'])} characters"]
    if found["sentences"] is not None:
        some = found["documents_with_sentences"] < found["documents"]
        where = f" in {_n(found['documents_with_sentences'])} of the documents" if some else ""
        parts.insert(1, f"{_n(found['sentences'])} sentences{where}")
    return ", ".join(parts)


def _spread(lengths: Optional[Dict[str, float]]) -> str:
    if lengths is None:
        return "none"
    return (
        f"{_n(lengths['min'])} to {_n(lengths['max'])}, mean {lengths['mean']:,.1f}, median {_n(lengths['median'])}, "
        f"95 of 100 up to {_n(lengths['p95'])}"
    )


def _n(number: float) -> str:
    return f"{number:,}"


# Page


def page(found: Dict[str, Any], plots: Dict[str, bytes], title: str) -> str:
    """A page of HTML that holds its plots, in dark or light as the reader's system is.

    plots (Dict[str, bytes]): PNGs by name, as `draw_plots` gives them.
    """
    tiles = [("documents", found["documents"]), ("tokens", found["tokens"]), ("entities", found["entities"])]
    tiles += [("labels", len(found["labels"]))]
    if found["sentences"] is not None:
        tiles.insert(1, ("sentences", found["sentences"]))
    parts = [f"<h1>{html.escape(title)}</h1>", '<div class="tiles">']
    parts += [f"<div><b>{_n(value)}</b>{name}</div>" for name, value in tiles]
    parts += ["</div>", '<div class="plots">']
    for name in dict.fromkeys(name.removesuffix("-dark") for name in plots):
        light, dark = (base64.b64encode(plots[key]).decode() for key in (name, f"{name}-dark"))
        parts.append(
            f'<picture><source media="(prefers-color-scheme: dark)" srcset="data:image/png;base64,{dark}">'
            f'<img alt="{name}" src="data:image/png;base64,{light}"></picture>'
        )
    parts += ["</div>", "<h2>Labels</h2>", _table(list(label_rows(found)))]
    parts += ["<h2>Counts</h2>", "<dl>"]
    parts += [f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in facts(found)]
    parts += ["</dl>", "<h2>What looks like a mistake</h2>", *_suspicions(found)]
    return PAGE.format(title=html.escape(title), body="\n".join(parts))


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ([html.escape(cell) for cell in row] for row in rows)
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _suspicions(found: Dict[str, Any]) -> Iterator[str]:
    nothing = True
    for kind, what in found["suspicious"].items():
        if not what["count"]:
            continue
        nothing = False
        left = what["count"] - len(what["listed"])
        places = [f"<li>{html.escape(place)}</li>" for place in what["listed"]]
        places += [f"<li>… and {_n(left)} more</li>"] if left else []
        name, why = (html.escape(part) for part in KINDS[kind])
        summary = f"<summary><b>{_n(what['count'])}</b> × {name} <i>{why}</i></summary>"
        yield f"<details>{summary}<ul>{''.join(places)}</ul></details>"
    if nothing:
        yield "<p>Nothing was found.</p>"


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --ink: #22282e; --paper: #ffffff; --faint: #d5dadf; --soft: #6a737b; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #dde3e8; --paper: #16191d; --faint: #363d44; --soft: #98a2ab; }}
}}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1100px;
  margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
.tiles {{ display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin-bottom: 1.5rem; color: var(--soft); }}
.tiles b {{ display: block; font-size: 1.6rem; color: var(--ink); font-variant-numeric: tabular-nums; }}
.plots {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 500px), 1fr)); gap: 1.5rem; }}
.plots img {{ width: 100%; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .2rem .7rem; text-align: right; border-bottom: 1px solid var(--faint); white-space: nowrap; }}
th {{ color: var(--soft); font-weight: normal; }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; }}
dt {{ color: var(--soft); }}
dd {{ margin: 0; }}
details {{ border-bottom: 1px solid var(--faint); padding: .35rem 0; }}
summary {{ cursor: pointer; }}
summary i {{ color: var(--soft); }}
li {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


# Plots


def draw_plots(statistics: Statistics) -> Dict[str, bytes]:
    """PNGs by name: labels, entity_lengths, document_lengths, together; each for light and, as NAME-dark, for dark."""
    found = statistics.to_dict()
    names = list(found["labels"])[:DRAWN_LABELS]
    plots: Dict[str, Callable[[Any, Style], None]] = {}
    if names:
        plots["labels"] = lambda figure, style: _draw_labels(figure, style, found, names)
        plots["entity_lengths"] = lambda figure, style: _draw_entity_lengths(figure, style, statistics, names)
    if statistics.documents:
        plots["document_lengths"] = lambda figure, style: _draw_document_lengths(figure, style, statistics)
    if len(names) > 1:
        plots["together"] = lambda figure, style: _draw_together(figure, style, statistics, names)
    return {
        f"{name}{'' if mode == 'light' else '-dark'}": _png(draw, style)
        for name, draw in plots.items()
        for mode, style in STYLES.items()
    }


def write_plots(plots: Dict[str, bytes], folder: Path, written: Callable[[Path], Any]) -> List[Path]:
    """Write PNGs into a folder. written: A context manager that gives a path beside, as `written_whole`."""
    paths = []
    for name, content in plots.items():
        paths.append(folder / f"{name}.png")
        with written(paths[-1]) as beside:
            beside.write_bytes(content)
    return paths


def _png(draw: Callable[[Any, Style], None], style: Style) -> bytes:
    # without pyplot: nothing is shown, and no figure is left in memory
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    colours = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), style.ink)
    settings = {
        **colours,
        "axes.edgecolor": style.faint,
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
    }
    with rc_context(settings):  # type: ignore[arg-type]
        figure = Figure(layout="constrained", facecolor=style.paper, dpi=150)
        figure.set_size_inches(6.2, 4.2)
        draw(figure, style)
        for axes in figure.axes:
            axes.set_facecolor(style.paper)
        content = io.BytesIO()
        figure.savefig(content, format="png", facecolor=style.paper)
    return content.getvalue()


def _plain(axes: Any, style: Style) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(axis="x", color=style.faint, linewidth=0.6)
    axes.set_axisbelow(True)


def _draw_labels(figure: Any, style: Style, found: Dict[str, Any], names: Sequence[str]) -> None:
    figure.set_size_inches(6.2, max(2.2, 0.9 + 0.24 * len(names)))
    axes = figure.subplots()
    counts = [found["labels"][name]["entities"] for name in names]
    axes.barh(range(len(names)), counts, color=style.bar, height=0.75)
    axes.set_yticks(range(len(names)), [_cut(name) for name in names], parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    for place, count in enumerate(counts):
        axes.annotate(f"{count:,}", (count, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlim(0, max(counts) * 1.14)
    axes.set_xticks([])
    left = len(found["labels"]) - len(names)
    axes.set_title(
        "Entities by label" + (f" (the {len(names)} most frequent of {left + len(names)})" if left else ""), loc="left"
    )
    _plain(axes, style)


def _draw_entity_lengths(figure: Any, style: Style, statistics: Statistics, names: Sequence[str]) -> None:
    """A box for each label, from counted lengths."""
    figure.set_size_inches(6.2, max(2.2, 0.9 + 0.24 * len(names)))
    axes = figure.subplots()
    boxes = []
    for name in names:
        lengths = statistics.labels[name].tokens
        quantile = {part: _quantile(lengths, part) for part in (0.05, 0.25, 0.5, 0.75, 0.95)}
        fliers = [length for length in lengths if length > quantile[0.95]]
        boxes.append(
            {"whislo": quantile[0.05], "q1": quantile[0.25], "med": quantile[0.5], "q3": quantile[0.75],
             "whishi": quantile[0.95], "fliers": fliers}
        )  # fmt: skip
    lines = {"color": style.ink, "linewidth": 1}
    axes.bxp(
        boxes, positions=range(len(names)), orientation="horizontal", widths=0.6, patch_artist=True,
        boxprops={"facecolor": style.bar, "edgecolor": style.bar}, medianprops={**lines, "linewidth": 2},
        whiskerprops=lines, showcaps=False,
        flierprops={"marker": "o", "markersize": 2.5, "markerfacecolor": style.bar, "markeredgecolor": "none"},
    )  # fmt: skip
    axes.set_yticks(range(len(names)), [_cut(name) for name in names], parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    longest = max(max(statistics.labels[name].tokens) for name in names)
    if longest > 30:
        axes.set_xscale("symlog", linthresh=10)
        axes.set_xlim(0, longest * 1.3)
        ticks = [tick for tick in (0, 2, 4, 6, 8, 10, 20, 50, 100, 200, 500, 1000, 5000) if tick <= longest]
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    else:
        axes.set_xlim(0, longest + 1)
    axes.set_xlabel("tokens: half of the entities in the box, 90 of 100 in the line")
    axes.set_title("Lengths of entities", loc="left")
    _plain(axes, style)


def _draw_document_lengths(figure: Any, style: Style, statistics: Statistics) -> None:
    figure.set_size_inches(6.2, 3)
    axes = figure.subplots()
    lengths, counts = zip(*sorted(statistics.document_tokens.items()))
    longest = max(lengths)
    if longest <= 40:
        axes.bar(lengths, counts, color=style.bar, width=0.85)
    else:
        axes.hist(lengths, weights=counts, bins=min(40, longest), range=(0, longest), color=style.bar, rwidth=0.9)
    axes.set_xlim(-0.5, longest * 1.02 + 0.5)
    axes.set_xlabel("tokens")
    axes.set_ylabel("documents")
    axes.set_title("Lengths of documents", loc="left")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="both", integer=True, nbins=7)
    _plain(axes, style)
    axes.grid(visible=False, axis="x")
    axes.grid(axis="y", color=style.faint, linewidth=0.6)


def _draw_together(figure: Any, style: Style, statistics: Statistics, names: Sequence[str]) -> None:
    """Of the documents with one label those that have another, in hundredths."""
    import numpy as np
    from matplotlib import colormaps

    size = max(3.4, 1.6 + 0.24 * len(names))
    figure.set_size_inches(6.2, size)
    axes = figure.subplots()
    shares = np.full((len(names), len(names)), np.nan)
    for row, one in enumerate(names):
        for column, other in enumerate(names):
            if one != other:
                both = statistics.together[min(one, other), max(one, other)]
                shares[row, column] = both / statistics.labels[one].documents
    colours = colormaps[style.colours].with_extremes(bad=style.faint)
    image = axes.imshow(shares, cmap=colours, vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(names)), [_cut(name, 18) for name in names], rotation=90, parse_math=False)
    axes.set_yticks(range(len(names)), [_cut(name) for name in names], parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if len(names) <= 12:
        for row in range(len(names)):
            for column in range(len(names)):
                if row != column:
                    share = shares[row, column]
                    dark = (share > 0.55) == (style.colours == "Blues")
                    axes.text(
                        column,
                        row,
                        f"{share:.0%}",
                        ha="center",
                        va="center",
                        fontsize=8,
                        color="#ffffff" if dark else "#101418",
                    )
    bar = figure.colorbar(image, ax=axes, shrink=0.7, format=lambda share, _: f"{share:.0%}")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    if len(names) > 15:
        axes.tick_params(labelsize=7)
    axes.set_xlabel("share of the documents with the label of the row that have that of the column", fontsize=9)
    axes.set_title("Labels in the same document", loc="left")


def _quantile(lengths: Any, part: float) -> int:
    total, below = sum(lengths.values()), 0
    for length in sorted(lengths):
        below += lengths[length]
        if below >= part * total:
            return int(length)
    return 0


def _cut(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
