"""brat's standoff format: a .txt file and, beside it, what is annotated in .ann, or in .a1 and .a2.

https://brat.nlplab.org/standoff.html. Offsets count characters (code points) of the .txt as it stands on disk, line
ends included. What is read is written back byte for byte where nothing was changed.
"""

import io
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from .document import Document, Entity, Link, Problem
from .files import CorpusError, readable

ENDINGS = (".ann", ".a1", ".a2")
TEXT_BOUND = re.compile(r"(T\S*)\t(\S+) (\d{1,15} \d{1,15}(?:;\d{1,15} \d{1,15})*)(?:\t(.*))?", re.DOTALL)
# Types of notes in which the score and the origin of an entity stand, for which brat has nothing else.
SCORE, ORIGIN = "PredictionScore", "PredictionOrigin"
KINDS = {"relation": "R", "event": "E", "normalisation": "N"}
BOM = "\ufeff"

# What a line is about: an entity, a link, an attribute or a note of one of these.
Key = Tuple[str, ...]


@dataclass(slots=True)
class Line:
    """A line of an annotation file as it was read.

    raw (str): The line with its end. file (str): Ending of the file's name. key (Optional[Key]): What it is about;
        None: nothing that we know of. said (Any): What it says of it.
    """

    raw: str
    file: str
    key: Optional[Key] = None
    said: Any = None


@dataclass
class Written:
    """What a document's annotation files looked like.

    files (List[str]): Endings of their names. lines (List[Line]): Of all files, one after another.
    """

    files: List[str] = field(default_factory=list)
    lines: List[Line] = field(default_factory=list)


def is_standoff(path: Path) -> bool:
    """Whether a path is a folder of brat documents."""
    return path.is_dir() and any(found.suffix in ENDINGS for found in path.rglob("*.a*"))


# Reading


def read_standoff(path: Path) -> Iterator[Document]:
    """Read all brat documents of a folder and the folders in it, by name.

    YIELDS (Document): Its id is the path in the folder, without ending. A text without annotation file is not
        annotated.
    RAISES (CorpusError): There is no such folder, nothing in it, an annotation file without its text (before the first
        document), or a file that is not UTF-8.
    """
    if not path.is_dir():
        raise CorpusError(f"{path}: there is no such folder. Give the folder that holds the .txt and .ann files.")
    texts = sorted(path.rglob("*.txt"))
    annotations = sorted(found for found in path.rglob("*.a*") if found.suffix in ENDINGS and found.is_file())
    if not annotations:
        raise CorpusError(f"{path}: the folder has no .ann file, so it is not a brat corpus ({len(texts)} .txt files).")
    orphans = [ann for ann in annotations if not ann.with_suffix(".txt").is_file()]
    if orphans:
        more = f", and {len(orphans) - 1} more like it" if len(orphans) > 1 else ""
        raise CorpusError(
            f"{orphans[0]}: the text {orphans[0].with_suffix('.txt').name} is not beside it{more}. "
            "Add the .txt files, or take the annotation files away."
        )
    there = {*annotations}
    for text in texts:
        files = [ending for ending in ENDINGS if text.with_suffix(ending) in there]
        yield read_document(
            _read(text),
            {ending: _read(text.with_suffix(ending)) for ending in files},
            id=text.relative_to(path).with_suffix("").as_posix(),
            source=text.with_suffix("").relative_to(path.parent).as_posix(),
        )


def read_document(text: str, files: Mapping[str, str], id: str = "", source: str = "") -> Document:
    """Read one document.

    files (Mapping[str, str]): What stands in its annotation files, by the ending of their names; none: nobody has
        looked at the text yet.
    source (str): What the files are called in messages, but for their ending.
    """
    document = Document(id=id, text=text, source=source + next(iter(files), ".ann"), written=Written([*files]))
    if not files:
        document.annotated = False
        message = "there is no such file: the text counts as not annotated."
        document.problems.append(Problem(document.source, "text without .ann", message, False))
        return document
    pointers: List[_Pointer] = []
    entities: Dict[str, Entity] = {}
    for ending, content in files.items():
        place = f"{source}{ending}"
        # lines with their ends: only a line feed ends one, also where it is not the only character that could
        for number, raw in enumerate(io.StringIO(content, newline="\n"), start=1):
            line = Line(raw, ending)
            document.written.lines.append(line)
            # in the text a byte-order mark is a character that offsets count; here it means nothing
            said = (raw.removeprefix(BOM) if number == 1 else raw).removesuffix("\n").removesuffix("\r")
            if said.startswith("T"):
                entity = _text_bound(document, said, place, number, entities)
                if entity is not None:
                    entities[entity.id] = entity
                    document.entities.append(entity)
                    line.key = ("T", entity.id)
                    line.said = said_of(entity)
            elif said.strip():
                pointers.append(_Pointer(place, number, said, line))
    _read_pointers(document, entities, pointers)
    return document


class _Pointer(NamedTuple):
    """A line that speaks of others: where it stands, what it says without its end, and what is kept of it."""

    place: str
    number: int
    said: str
    line: Line


def _read(path: Path) -> str:
    with readable(str(path)), path.open(encoding="utf-8", newline="") as file:
        return file.read()


def _text_bound(
    document: Document, line: str, place: str, number: int, known: Mapping[str, Entity]
) -> Optional[Entity]:
    """An entity from a T line, or None with a problem reported."""

    def wrong(kind: str, message: str) -> None:
        document.problems.append(Problem(f"{place}:{number}", kind, message))
        document.unread += 1

    match = TEXT_BOUND.fullmatch(line)
    if match is None:
        wrong("malformed line", f'"{line[:60]}" is not of the form T1<tab>Label start end<tab>text.')
        return None
    name, label, places, text = match.groups()
    if name in known:
        wrong("id used twice", f"{name} is the name of the entity in line {known[name].line} too.")
        return None
    fragments = []
    for part in places.split(";"):
        first, last = part.split()
        fragments.append((int(first), int(last)))
    fragments.sort()
    for start, end in fragments:
        if start >= end:
            wrong("empty or reversed", f"entity {name} goes from character {start} to {end}.")
            return None
        if end > len(document.text):
            wrong(
                "offsets out of range",
                f"entity {name} covers characters {start}-{end}, but the text has {len(document.text):,}. "
                "The .txt may have been edited after annotation.",
            )
            return None
    covered = " ".join([document.text[a:b] for a, b in fragments])
    if text is not None and covered != text and covered.split() != text.split():
        wrong(
            "text that differs",
            f'entity {name} says "{text[:60]}", but its characters are "{covered[:60]}". '
            "The .txt may have been edited after annotation.",
        )
        return None
    file = "" if place == document.source else place
    joined = fragments if len(fragments) == 1 else _joined(document.text, fragments)
    entity = Entity(label, joined, name, number, file=file)
    if len(joined) < len(fragments):
        message = f'entity {name}, "{covered}", was annotated in parts.'
        document.report(entity, "parts joined across white space", message, lost=False)
    return entity


def _joined(text: str, fragments: List[Tuple[int, int]]) -> List[Tuple[int, int]]:
    """Parts with nothing but white space between them as one: brat cuts an entity at each line break."""
    joined = fragments[:1]
    for start, end in fragments[1:]:
        if not text[joined[-1][1] : start].strip():
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _read_pointers(document: Document, entities: Dict[str, Entity], pointers: Sequence[_Pointer]) -> None:
    """Lines that speak of others, in whatever order the files have them."""
    links: Dict[str, Link] = {}
    nameless = 0
    for pointer in pointers:
        if pointer.said[0] in "AM#":
            continue
        link = _link(pointer.said)
        if link is None and pointer.said[0] in "REN*":
            _note(document, pointer, "malformed line", "is no annotation")
        elif link is None:
            # it may have been meant as an entity
            _note(document, pointer, "line that is not brat", "is no annotation", lost=True)
            document.unread += 1
        elif link.id in links or link.id in entities:
            _note(document, pointer, "id used twice", f"{link.id} is the name of something else too")
        else:
            nameless += not link.id
            if link.id:
                links[link.id] = link
            document.links.append(link)
            # equivalences have no name: they are told apart by their number
            pointer.line.key, pointer.line.said = ("link", link.id or f"*{nameless}"), said_of(link)
    # what is said of an event is said of its trigger
    events = {link.id: entities.get(link.arguments[0][1], link) for link in links.values() if link.kind == "event"}
    targets: Dict[str, Union[Entity, Link]] = {**entities, **links, **events}
    attributes = _read_attributes(document, targets, [pointer for pointer in pointers if pointer.said[0] in "AM"])
    _read_notes(document, targets, attributes, [pointer for pointer in pointers if pointer.said[0] == "#"])


def _read_attributes(
    document: Document, targets: Mapping[str, Union[Entity, Link]], pointers: Sequence[_Pointer]
) -> Dict[str, Key]:
    """Attributes to what they are said of. RETURNS: What each line is about, by the attribute's own name."""
    found: Dict[str, Key] = {}
    for pointer in pointers:
        name, words, _ = _fields(pointer.said)
        target = targets.get(words[1]) if len(words) > 1 else None
        if target is None:
            _note_target(document, pointer, words)
            continue
        found[name] = key = ("A", target.id, words[0])
        if words[0] in target.attributes:
            _note(document, pointer, "attribute given twice", f"{words[1]} has a {words[0]} already, which counts")
            pointer.line.key = ("with", *key)
        else:
            target.attributes[words[0]] = value = " ".join(words[2:]) if len(words) > 2 else True
            pointer.line.key, pointer.line.said = key, value
    return found


def _read_notes(
    document: Document,
    targets: Mapping[str, Union[Entity, Link]],
    attributes: Mapping[str, Key],
    pointers: Sequence[_Pointer],
) -> None:
    for pointer in pointers:
        _, words, text = _fields(pointer.said)
        name = words[1] if len(words) > 1 else ""
        target = targets.get(name)
        if isinstance(target, Entity) and _read_prediction(target, words[0], text):
            pointer.line.key = ("#", target.id, words[0])
            pointer.line.said = target.score if words[0] == SCORE else target.origin
        elif target is not None:
            pointer.line.key, pointer.line.said = ("#", target.id, str(len(target.notes))), text
            target.notes.append(text)
        elif name in attributes:
            # a note on an attribute goes where the attribute goes
            pointer.line.key = ("with", *attributes[name])
        else:
            _note_target(document, pointer, words)


def _read_prediction(entity: Entity, note_type: str, text: str) -> bool:
    """Whether a note says the score or the origin of an entity, which does not have it yet."""
    if note_type == ORIGIN and text and not entity.origin:
        entity.origin = text
        return True
    if note_type == SCORE and entity.score is None:
        with suppress(ValueError):
            entity.score = float(text)
            return True
    return False


def _fields(line: str) -> Tuple[str, List[str], str]:
    """Name, words and text of a line that speaks of another."""
    name, _, rest = line.partition("\t")
    said, _, text = rest.partition("\t")
    return name, said.split(" "), text


def _note(document: Document, pointer: _Pointer, kind: str, why: str, lost: bool = False) -> None:
    where = f"{pointer.place}:{pointer.number}"
    document.problems.append(Problem(where, kind, f'"{pointer.said[:60]}": {why}.', lost))


def _note_target(document: Document, pointer: _Pointer, words: Sequence[str]) -> None:
    if len(words) < 2:
        _note(document, pointer, "malformed line", "it has too few fields")
    else:
        _note(document, pointer, "target that is not there", f"there is no {words[1]} to say it of")


def _link(line: str) -> Optional[Link]:
    """A relation, an event, an equivalence or a normalisation; None: the line is none of these."""
    name, *rest = line.split("\t")
    words = rest[0].split(" ") if rest else []
    pairs = [(role, target) for role, _, target in (word.partition(":") for word in words if word)]
    if name.startswith("R") and len(pairs) > 1 and all(target for _, target in pairs[1:]):
        return Link("relation", words[0], pairs[1:], name)
    if name.startswith("E") and pairs and all(target for _, target in pairs):
        return Link("event", pairs[0][0], [("", pairs[0][1]), *pairs[1:]], name)
    if name == "*" and len(words) > 1:
        return Link("equivalence", words[0], [("", word) for word in words[1:] if word])
    if name.startswith("N") and len(words) == 3:
        text = "\t".join(rest[1:])
        return Link("normalisation", words[0], [("", words[1]), ("reference", words[2])], name, text)
    return None


def said_of(item: Union[Entity, Link]) -> Tuple[Any, ...]:
    """What a line says of an entity or a link."""
    if isinstance(item, Entity):
        return item.label, tuple(item.fragments)
    return item.kind, item.label, tuple(item.arguments), item.text
