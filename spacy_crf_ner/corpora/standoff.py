"""brat standoff: a folder of .txt files, each with an .ann file beside it.

The format: https://brat.nlplab.org/standoff.html. Text-bound annotations (T) become entities, with the
attributes (A, M) and notes (#) that point at them or at their event. Relations, events, equivalences and
normalisations are counted. Offsets count code points of the text exactly as it stands in the file.
"""

import re
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

from .document import Document, Entity, Problem

TEXT_BOUND = re.compile(r"(T\S*)\t(\S+) (\d+ \d+(?:;\d+ \d+)*)(?:\t(.*))?")
OTHER_KINDS = {"R": "relations", "E": "events", "N": "normalisations", "*": "equivalences", "A": "attributes",
               "M": "attributes", "#": "notes"}  # fmt: skip


class CorpusError(ValueError):
    """Annotations that cannot be read at all."""


def is_standoff(path: Path) -> bool:
    """Whether a path is a folder of brat documents."""
    return path.is_dir() and any(path.rglob("*.ann"))


def read_standoff(path: Path) -> Iterator[Document]:
    """Read all brat documents of a folder and the folders in it, by name.

    YIELDS (Document): Its id is the path in the folder, without ending. A text without .ann is not annotated.
    RAISES (CorpusError): There is no such folder, nothing in it, an .ann file without its text, or a file that
        is not UTF-8. It is raised before the first document.
    """
    if not path.is_dir():
        raise CorpusError(f"{path}: there is no such folder. Give the folder that holds the .txt and .ann files.")
    texts = sorted(path.rglob("*.txt"))
    annotations = sorted(path.rglob("*.ann"))
    if not annotations:
        raise CorpusError(f"{path}: the folder has no .ann file, so it is not a brat corpus ({len(texts)} .txt files).")
    orphans = [ann for ann in annotations if not ann.with_suffix(".txt").is_file()]
    if orphans:
        more = f", and {len(orphans) - 1} more like it" if len(orphans) > 1 else ""
        raise CorpusError(
            f"{orphans[0]}: the text {orphans[0].with_suffix('.txt').name} is not beside it{more}. "
            "Add the .txt files, or take the .ann files away."
        )
    for text in texts:
        yield _read_document(path, text)


def _read_document(folder: Path, text_path: Path) -> Document:
    ann_path = text_path.with_suffix(".ann")
    document = Document(
        id=text_path.relative_to(folder).with_suffix("").as_posix(),
        text=_read(text_path),
        source=str(ann_path.relative_to(folder.parent)),
    )
    if not ann_path.is_file():
        document.annotated = False
        document.problems.append(
            Problem(
                document.source, "text without .ann", "there is no such file: the text counts as not annotated.", False
            )
        )
        return document
    # in the text a byte-order mark is a character that offsets count; here it means nothing
    lines = _read(ann_path).removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    by_id: Dict[str, Entity] = {}
    pointers: List[Tuple[int, str]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if line.startswith("T"):
            entity = _text_bound(document, line, number)
            if entity is not None:
                by_id[entity.id] = entity
                document.entities.append(entity)
        elif line[0] in OTHER_KINDS:
            pointers.append((number, line))
        else:
            # it may have been meant as an entity
            document.problems.append(
                Problem(f"{document.source}:{number}", "line that is not brat", f'"{line[:60]}" is no annotation.')
            )
            document.unread += 1
    _attach(document, by_id, pointers)
    return document


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path}: byte {error.start} is not UTF-8. Convert the file, for instance with: iconv -f latin1 -t utf-8"
        ) from error
    except OSError as error:
        raise CorpusError(f"{path}: it cannot be read ({error.strerror}).") from error


def _text_bound(document: Document, line: str, number: int) -> Optional[Entity]:
    """An entity from a T line, or None with a problem reported."""
    match = TEXT_BOUND.fullmatch(line)
    if match is None:
        problem = f'"{line[:60]}" is not of the form T1<tab>Label start end<tab>text.'
        document.problems.append(Problem(f"{document.source}:{number}", "malformed line", problem))
        document.unread += 1
        return None
    name, label, places, text = match.groups()
    fragments = [(int(a), int(b)) for a, b in (part.split() for part in places.split(";"))]
    entity = Entity(label=label, fragments=fragments, id=name, line=number)
    for start, end in fragments:
        if start >= end:
            document.report(entity, "empty or reversed", f"entity {name} goes from character {start} to {end}.")
            document.unread += 1
            return None
        if end > len(document.text):
            document.report(
                entity,
                "offsets out of range",
                f"entity {name} covers characters {start}-{end}, but the text has {len(document.text):,}. "
                "The .txt may have been edited after annotation.",
            )
            document.unread += 1
            return None
    fragments.sort()
    covered = " ".join(document.text[a:b] for a, b in fragments)
    if text is not None and covered.split() != text.split():
        document.report(
            entity,
            "text that differs",
            f'entity {name} says "{text[:60]}", but its characters are "{covered[:60]}". '
            "The .txt may have been edited after annotation.",
        )
        document.unread += 1
        return None
    joined = [fragments[0]]
    for start, end in fragments[1:]:
        # brat cuts an entity at each line break: with nothing but white space between, it is one
        if not document.text[joined[-1][1] : start].strip():
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    if len(joined) < len(fragments):
        document.report(
            entity,
            "parts joined across white space",
            f'entity {name}, "{covered}", was annotated in parts.',
            lost=False,
        )
    entity.fragments = joined
    return entity


def _attach(document: Document, entities: Dict[str, Entity], pointers: List[Tuple[int, str]]) -> None:
    """Attributes and notes to their entities, in whatever order the file has them; the rest is counted."""
    triggers = {}
    for _, line in pointers:
        if line.startswith("E"):
            name, _, body = line.partition("\t")
            triggers[name] = body.split(" ")[0].rpartition(":")[2]
    for number, line in pointers:
        fields = line.split("\t")
        words = fields[1].split(" ") if len(fields) > 1 else []
        if len(words) < 2 and line[0] != "E":
            document.problems.append(
                Problem(f"{document.source}:{number}", "malformed line", f'"{line[:60]}" has too few fields.', False)
            )
            continue
        entity = entities.get(triggers.get(words[1], words[1])) if len(words) > 1 else None
        if line[0] in "AM" and entity is not None:
            entity.attributes[words[0]] = " ".join(words[2:]) if len(words) > 2 else True
        elif line[0] == "#" and entity is not None:
            entity.notes.append(fields[2] if len(fields) > 2 else "")
        document.other[OTHER_KINDS[line[0]]] += 1
