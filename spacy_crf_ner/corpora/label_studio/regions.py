"""Regions of Label Studio: what a result says of a piece of text, and where that is."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..document import Problem
from ..offsets import CODE_POINTS, NAMES, UTF_16, Offsets, Span
from .labelling import LABELS

HTML = re.compile(r"<[A-Za-z/!][^>]*>|&#?\w+;")
# The whole text of a page that has no tags.
ALONE = re.compile(r"/?text\(\)(\[1\])?")
OF_REGION = {"id", "from_name", "to_name", "type", "value", "score", "meta"}
DIGITS = 15


@dataclass
class TaskLog:
    """What was wrong with a task. where (str): File and task. unread (int): Entities that could not be read."""

    where: str
    problems: List[Problem] = field(default_factory=list)
    unread: int = 0

    def lost(self, kind: str, message: str, times: int = 1) -> None:
        self.problems += [Problem(self.where, kind, message) for _ in range(times)]
        self.unread += times

    def remark(self, kind: str, message: str) -> None:
        self.problems.append(Problem(self.where, kind, message, lost=False))


@dataclass
class Region:
    """What a result says of a piece of text.

    id, from_name, to_name, type (str): As in the result. labels (List[str]): At least one.
    start, end (Optional[int]): As in the result; None: it has none that count characters.
    quoted (Optional[str]): The text that it says is there. pages (bool): Its offsets are those of a page's text.
    score (Optional[float]): How sure a model is. notes (List[str]): Of the annotator.
    more, meta, value (Dict[str, Any]): What else the result, its meta and its value say.
    """

    id: str
    from_name: str
    to_name: str
    type: str
    labels: List[str]
    start: Optional[int]
    end: Optional[int]
    quoted: Optional[str]
    pages: bool
    score: Optional[float]
    notes: List[str]
    more: Dict[str, Any]
    meta: Dict[str, Any]
    value: Dict[str, Any]


def is_region(result: Mapping[str, Any]) -> bool:
    """Whether a result labels something, rather than saying something of a region or a task."""
    value = result.get("value")
    return text_of(result, "type").endswith("labels") or (
        isinstance(value, dict) and any(key.endswith("labels") for key in value)
    )


def text_of(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    return value if isinstance(value, str) else ""


def name_of(values: Mapping[str, Any], key: str) -> str:
    """An id, which some programs write as a number."""
    value = values.get(key)
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def number_of(value: Any) -> Optional[float]:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def read_region(result: Mapping[str, Any], log: TaskLog) -> Optional[Region]:
    """A region, or None with a problem reported."""
    name = f"result {name_of(result, 'id') or '?'}"
    value = result.get("value")
    if not isinstance(value, dict):
        log.lost("malformed result", f"{name} has no value.")
        return None
    kind = text_of(result, "type").lower()
    kind = "hypertextlabels" if kind == "htmllabels" else kind
    key = next((k for k in (kind, *LABELS, *value) if k.endswith("labels") and k in value), "")
    kind = kind or key
    if kind not in LABELS:
        log.lost("region that is not of text", f"{name} is of type {kind[:40]}: Labels and HyperTextLabels are read.")
        return None
    labels = value.get(key)
    if isinstance(labels, str):
        labels = [labels]
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) and label for label in labels):
        log.lost("region without a label", f"{name} has no label.")
        return None
    start, end, pages = _offsets(value)
    if start is None and not pages:
        log.lost("malformed result", f'{name} has no offsets: "start" and "end".', len(labels))
        return None
    meta = result.get("meta") if isinstance(result.get("meta"), dict) else {}
    assert isinstance(meta, dict)
    notes = meta.get("text", [])
    notes = [notes] if isinstance(notes, str) else notes
    whole = isinstance(notes, list) and all(isinstance(note, str) for note in notes)
    taken = {key, "text"} | (set() if pages else {"start", "end"})
    return Region(
        id=name_of(result, "id"),
        from_name=text_of(result, "from_name"),
        to_name=text_of(result, "to_name"),
        type=kind,
        labels=[*dict.fromkeys(labels)],
        start=start,
        end=end,
        quoted=text_of(value, "text") or None,
        pages=pages,
        score=number_of(result.get("score")),
        notes=notes if whole else [],
        more={k: v for k, v in result.items() if k not in OF_REGION},
        meta={k: v for k, v in meta.items() if k != "text" or not whole},
        value={k: v for k, v in value.items() if k not in taken},
    )


def _offsets(value: Mapping[str, Any]) -> Tuple[Optional[int], Optional[int], bool]:
    """First character and last + 1, and whether they are those of a page rather than a plain text."""
    start, end = _whole(value.get("start")), _whole(value.get("end"))
    if start is not None and end is not None:
        return start, end, False
    whole = value.get("globalOffsets")
    if isinstance(whole, dict):
        start, end = _whole(whole.get("start")), _whole(whole.get("end"))
        if start is not None and end is not None:
            return start, end, True
    paths = [value.get("start"), value.get("end")]
    if all(isinstance(path, str) for path in paths) and "startOffset" in value:
        alone = all(ALONE.fullmatch(str(path)) for path in paths)
        start, end = _whole(value.get("startOffset")), _whole(value.get("endOffset"))
        return (start, end, True) if alone and start is not None and end is not None else (None, None, True)
    return None, None, False


def _whole(value: Any) -> Optional[int]:
    if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) <= DIGITS:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def find_unit(offsets: Offsets, regions: Sequence[Region], asked: str, log: TaskLog) -> str:
    """How the offsets of one annotation count characters.

    asked (str): "auto" or how they do. RETURNS (str): What fits more of the texts that they quote; where these do not
        tell, code points, with a remark.
    """
    if asked != "auto" or not offsets.wide:
        return CODE_POINTS if asked == "auto" else asked
    votes: Counter = Counter()
    unchecked = 0
    for region in regions:
        if region.start is None or region.end is None:
            continue
        spans = {unit: offsets.span(region.start, region.end, unit) for unit in (CODE_POINTS, UTF_16)}
        if spans[CODE_POINTS] == spans[UTF_16]:
            continue
        if region.quoted is None:
            unchecked += 1
            continue
        votes.update(unit for unit, span in spans.items() if offsets.says_well(span, region.quoted))
    if votes[UTF_16] > votes[CODE_POINTS]:
        message = (
            f"offsets were counted in UTF-16 units ({votes[UTF_16]} regions quote what is there): they were converted."
        )
        log.remark("offsets in UTF-16 units", message)
        return UTF_16
    if unchecked and not votes:
        message = (
            f"{unchecked} regions stand behind characters such as emoji and quote no text: their offsets were taken "
            "for code points. If Label Studio was one of 2021 or older, read with --offsets utf-16."
        )
        log.remark("offsets that nothing checks", message)
    return CODE_POINTS


def place(offsets: Offsets, region: Region, unit: str, log: TaskLog) -> Optional[Span]:
    """First character and last + 1 of a region, or None with a problem reported."""
    name, times = f"result {region.id or '?'} ({', '.join(region.labels)})"[:80], len(region.labels)
    page = HTML.search(offsets.text) is not None
    if region.start is None or region.end is None:
        if page or region.quoted is None:
            message = f"{name} is a region of HTML, whose text cannot be told from its tags: it was left out."
            log.lost("region of HTML", message, times)
            return None
        region.start = region.end = 0
    quoted = region.quoted
    # halves of characters, which old versions cut, are not there to compare
    if quoted is not None and "\ufffd" in quoted and "\ufffd" not in offsets.text:
        quoted = None
    span = offsets.span(region.start, region.end, unit)
    if quoted is None and page and region.type != LABELS[0]:
        log.lost("region of HTML", f"{name} is a region of HTML that quotes no text: it was left out.", times)
        return None
    if quoted is not None and not offsets.says(span, quoted):
        return _repaired(offsets, region, unit, log, name, page)
    if span is None and region.start >= region.end:
        log.lost("empty or reversed", f"{name} goes from character {region.start} to {region.end}.", times)
    elif span is None:
        message = (
            f"{name} covers characters {region.start}-{region.end} ({NAMES[unit]}), which the text, of "
            f"{len(offsets.text):,} characters, does not have. It may have been edited after annotation."
        )
        log.lost("offsets out of range", message, times)
    return span


def _repaired(offsets: Offsets, region: Region, unit: str, log: TaskLog, name: str, page: bool) -> Optional[Span]:
    """Where a region is whose offsets are not those of what it quotes."""
    assert region.start is not None
    assert region.end is not None
    assert region.quoted is not None
    if page and region.type != LABELS[0]:
        message = f"{name} is a region of HTML, where text and tags cannot be told apart: it was left out."
        log.lost("region of HTML", message, len(region.labels))
        return None
    told = offsets.find(region.start, region.end, unit, region.quoted)
    said = offsets.span(region.start, region.end, unit)
    there = f'"{offsets.text[said[0] : said[1]][:60]}"' if said else "nothing"
    where = f'{name} quotes "{region.quoted[:60]}", but at its offsets, {region.start}-{region.end}, stands {there}'
    if told.span is None:
        message = f"{where}; {told.how}. The text may have been edited after annotation."
        log.lost("text that differs", message, len(region.labels))
    else:
        log.remark("offsets repaired", f"{where}: it was put at {told.span[0]}-{told.span[1]}, since {told.how}.")
    return told.span


def simplified(result: Mapping[str, Any]) -> Optional[Any]:
    """What a result that labels nothing says: a choice, a rating, a text; None: nothing."""
    value = result.get("value")
    if not isinstance(value, dict):
        return value
    kind = text_of(result, "type").lower()
    said = value.get(kind, value.get("text") if kind == "textarea" else None)
    if said is None:
        rest: Dict[str, Any] = {k: v for k, v in value.items() if k not in ("start", "end", "text")}
        said = next(iter(rest.values())) if len(rest) == 1 else rest or value.get("text")
    if kind == "taxonomy" or not isinstance(said, list):
        return said
    return said[0] if len(said) == 1 and isinstance(said[0], str) else said
