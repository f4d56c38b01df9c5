"""report.html: an evaluation as one page, made of what metrics.json and predictions.jsonl hold and of nothing else.

The page has all that it needs in it and fetches nothing. Names and texts reach it as data in JSON, which its script
puts into the page as text, so that none of them can become part of the page's own code.
"""

import base64
import json
import zlib
from collections import Counter
from importlib.resources import files
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from .calibration import measures, reliability, risk_coverage
from .matching import KINDS

REPORT = "report.html"
# Bytes of the page's data: with what else it has it stays below 5 MB.
MOST_BYTES = 4_850_000
# Texts and their entities become at most so many times smaller when they are compressed.
MOST_RATIO = 10
# More points than a picture has room for make a page large and no clearer.
MOST_POINTS = 400
# How far a probability may be outside 0 to 1 by rounding alone.
ROUNDING = 1e-4
# Digits of a probability in the page.
DIGITS = 4
# What `match` of an entity can be; the page has their numbers.
MATCHES = (*KINDS, "ignored")
SCRIPTS = ("scores.js", "errors.js")
# Keys of a row that hold entities; the last where there is another model to compare with.
SIDES = ("gold", "predicted", "other")

Row = Mapping[str, Any]


def report(metrics: Mapping[str, Any], rows: Iterable[Row], most_bytes: int = MOST_BYTES) -> str:
    """Make the page.

    metrics (Mapping[str, Any]): What metrics.json holds. rows (Iterable[Row]): The lines of predictions.jsonl.
    most_bytes (int): What its data may take, in bytes of UTF-8. Data that would take more is compressed; if it still is
        too large, documents are left out, first those without errors, and the page says how many of each part.
        Scores are never left out.
    RETURNS (str): HTML.
    RAISES (ValueError): They are not of one evaluation.
    """
    rows = list(rows)
    data = _Data(metrics, rows)
    text, packed = _fit(data, rows, most_bytes)
    folder = files("spacy_crf_ner.evaluation") / "page"
    page, style, *scripts = (
        (folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.css", *SCRIPTS)
    )
    # data comes last: whatever it has in it is not taken for a place to fill
    for place, content in (
        ("/*style*/", style),
        ("/*scripts*/", "\n".join(scripts)),
        ("/*packed*/", "deflate" if packed else ""),
        ("/*data*/", text),
    ):
        page = page.replace(place, content, 1)
    return page


class _Data:
    """What the page shows, as JSON: documents one by one, and all else."""

    def __init__(self, metrics: Mapping[str, Any], rows: Sequence[Row]) -> None:
        parts = metrics["parts"]
        names = list(parts)
        labels = sorted({item["label"] for row in rows for side in SIDES for item in row.get(side, ())})
        numbers = {label: i for i, label in enumerate(labels)}
        triples = [row for part in parts.values() for row in part["per_document"]]
        if len(triples) != len(rows):
            raise ValueError(
                f"metrics.json scores {len(triples):,} documents, and predictions.jsonl has {len(rows):,}: they are of "
                "two evaluations."
            )
        self.documents = [
            _json(_document(row, names.index(row["part"]), numbers, scores)) for row, scores in zip(rows, triples)
        ]
        shown = {
            name: {key: value for key, value in part.items() if key != "per_document"} for name, part in parts.items()
        }
        self.rest = {
            "metrics": {**metrics, "parts": shown},
            # keys of an object that look like numbers have an order of their own in a browser
            "parts": names,
            "matches": MATCHES,
            "labels": labels,
            "probabilities": {name: _probabilities(*probabilities(rows, name)) for name in names},
        }

    def text(self, chosen: Sequence[int], left_out: Mapping[str, int]) -> str:
        """JSON with some of the documents."""
        rest = _json({**self.rest, "left_out": left_out})
        return f'{rest[:-1]},"documents":[{",".join(self.documents[i] for i in chosen)}]}}'


def _fit(data: _Data, rows: Sequence[Row], most_bytes: int) -> Tuple[str, bool]:
    """RETURNS: The page's data, and whether it is compressed."""
    everything = range(len(rows))
    text = data.text(everything, {})
    if len(text.encode("utf-8")) <= most_bytes:
        return text, False
    order = _order(rows)
    sizes = [len(document.encode("utf-8")) for document in data.documents]
    room = float(min(sum(sizes), MOST_RATIO * most_bytes))
    while True:
        chosen = _within(order, sizes, room)
        packed = _packed(data.text(chosen, _left_out(rows, chosen)))
        if len(packed) <= most_bytes or not chosen:
            return packed, True
        # documents compress alike, so two or three rounds are enough
        room *= min(0.95, 0.98 * most_bytes / len(packed))


def _left_out(rows: Sequence[Row], chosen: Iterable[int]) -> Dict[str, int]:
    """How many documents of each part are not chosen, where there are any."""
    left = Counter(row["part"] for row in rows)
    left.subtract(rows[i]["part"] for i in chosen)
    return {name: n for name, n in left.items() if n}


def _order(rows: Sequence[Row]) -> List[int]:
    """Numbers of documents: first those with errors, of all parts in turn."""
    sizes: Dict[str, int] = {}
    keys = []
    for i, row in enumerate(rows):
        place = sizes[row["part"]] = sizes.get(row["part"], 0) + 1
        wrong = _has_errors(row)
        keys.append((not wrong, row["part"], place, i))
    return [i for *_, i in sorted(keys, key=lambda key: (key[0], key[2] / sizes[key[1]], key[3]))]


def _has_errors(row: Row) -> bool:
    """Whether a model has found something wrong in a document, or has missed something."""
    found = [row[side] for side in SIDES[1:] if side in row]
    wrong = any(item["match"] not in ("exact", "ignored") for items in found for item in items)
    return wrong or any(sum(item["match"] == "exact" for item in items) < len(row["gold"]) for items in found)


def _within(order: Iterable[int], sizes: Sequence[int], room: float) -> List[int]:
    """Documents that there is room for, the first ones first; in the order of the file."""
    chosen = []
    for i in order:
        if sizes[i] <= room:
            room -= sizes[i]
            chosen.append(i)
    return sorted(chosen)


def _packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode("utf-8"))).decode("ascii")


def _json(value: Any) -> str:
    """JSON that may stand in a script: nothing in it can end the script or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    return text.replace("<", "\\u003c")


# Documents


def _document(row: Row, part: int, labels: Mapping[str, int], scores: Mapping[str, Any]) -> List[Any]:
    """A document as the page has it: part, id, what the file says of it, text, exact counts, entities of each side."""
    about = {**({"group": row["group"]} if row["group"] else {}), **row["data"]}
    place = _utf16(row["text"])
    sides = []
    for side in SIDES:
        if side not in row:
            continue
        made = []
        for item in row[side]:
            extra = item["id"] if side == "gold" else _rounded(item["probability"])
            entity = [*_entity(item, place, labels), extra]
            if "fragments" in item:
                entity.append([[place[start], place[end]] for start, end in item["fragments"]])
            made.append(entity)
        sides.append(made)
    return [part, row["id"], about, row["text"], scores["exact"], *sides]


def _entity(item: Mapping[str, Any], place: Sequence[int], labels: Mapping[str, int]) -> List[Any]:
    """Start, length, label, match, the other side's number or -1, and 1 or 0 for seen or not, -1: not known."""
    start, end = place[item["start"]], place[item["end"]]
    other = -1 if item["with"] is None else item["with"]
    return [
        start,
        end - start,
        labels[item["label"]],
        MATCHES.index(item["match"]),
        other,
        int(item.get("seen", -1)),
    ]


def _rounded(probability: Optional[float]) -> Optional[float]:
    return None if probability is None else round(probability, DIGITS)


def _utf16(text: str) -> Sequence[int]:
    """Where each character begins, and the text ends, in the units that scripts of pages count in."""
    if not text or max(text) <= "\uffff":
        return range(len(text) + 1)
    return np.cumsum([0, *(1 + (character > "\uffff") for character in text)]).tolist()


# Probabilities


def probabilities(rows: Iterable[Row], part: str) -> Tuple[np.ndarray, np.ndarray, List[str]]:
    """Predictions of a part that count and have a probability; a score that is not from 0 to 1 is none.

    RETURNS: Probabilities, whether each was exactly right, and labels.
    """
    found = [
        item
        for row in rows
        if row["part"] == part
        for item in row["predicted"]
        if item["probability"] is not None and item["match"] != "ignored"
        # sums of float32 may be above 1 by a little
        if -ROUNDING <= item["probability"] <= 1 + ROUNDING
    ]
    return (
        np.clip(np.array([item["probability"] for item in found], dtype=float), 0, 1),
        np.array([item["match"] == "exact" for item in found], dtype=bool),
        [item["label"] for item in found],
    )


def _probabilities(p: np.ndarray, right: np.ndarray, labels: Sequence[str]) -> Optional[Dict[str, Any]]:
    """Figures of one part: all entities together, and each label. RETURNS: None where no entity has a probability."""
    if not len(p):
        return None
    bins = reliability(p, right)
    thresholds, coverage, risk = risk_coverage(p, right)
    kept = np.unique(np.linspace(0, len(risk) - 1, min(len(risk), MOST_POINTS)).round().astype(int))
    names = np.array(labels)
    return {
        "measures": _measures(p, right),
        "per_label": {name: _measures(p[names == name], right[names == name]) for name in sorted(set(labels))},
        "bins": _columns(bins.n, bins.p, bins.right, np.sqrt(bins.variance)),
        "risk": _columns(thresholds[kept], coverage[kept], risk[kept]),
    }


def _measures(p: np.ndarray, right: np.ndarray) -> Dict[str, Optional[float]]:
    """`measures`, with None where entities are too few to say: where each is in a bin of its own."""
    found: Dict[str, Optional[float]] = {**measures(p, right)}
    if reliability(p, right).n.max() < 2:
        found["calibration_error"] = None
    return found


def _columns(*arrays: np.ndarray) -> List[List[float]]:
    return [[round(float(value), 6) for value in row] for row in zip(*arrays)]
