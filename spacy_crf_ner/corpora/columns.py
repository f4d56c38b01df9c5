"""Columns: a token a line with its tags, a blank line after each sentence (CoNLL-2002, CoNLL-2003, CoNLL-U, …)."""

import re
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Literal, NamedTuple, Optional, Sequence, Tuple

from spacy.tokens import Doc, Span

from .document import Document, Entity, Problem
from .files import CorpusError, TextFile, readable, text_files
from .names import Names

Scheme = Literal["iob2", "iob1", "bioes", "bilou"]
SCHEMES = ("iob2", "iob1", "bioes", "bilou")
TAG = re.compile(r"([BIELSUMW])-(.+)")
# What other schemes call the last token of an entity, one inside it, and one that is an entity by itself.
SAME = {"E": "L", "M": "I", "S": "U", "W": "U"}
OUTSIDE = ("O", "_", "")
NO_ENTITY_KNOWN = ("-", "?")
# What stands after -DOCSTART- where a document has no name.
NAMELESS = "X"
DOCUMENT = re.compile(r"#\s*newdoc(?:\s+id\s*=\s*(.*))?")
# Universal line ends, but no other characters that Python would take for one.
LINE_END = re.compile(r"\r\n|\n|\r")
# Lines from which separator and columns are found out.
SAMPLE = 2000
# Of the lines of a file of columns at least this share has something that looks like a tag.
FEW = 0.3


@dataclass(frozen=True)
class Layout:
    """Where things stand in a file of columns. Columns are counted from 0, or from the end as -1.

    separator (Optional[str]): Tab, or null: any white space. word (int): The column of tokens. tags (Tuple[int, ...]):
        Columns of entity tags, the outer layer first. misc (Optional[int]): CoNLL-U's column of what else there is:
        SpaceAfter=No, and NER=… where the tags stand there. width (int): Columns in each line.
    """

    separator: Optional[str]
    word: int
    tags: Tuple[int, ...]
    misc: Optional[int]
    width: int

    def cut(self, line: str) -> List[str]:
        return [part.strip() for part in line.split(self.separator)] if self.separator else line.split()


class Row(NamedTuple):
    """A token: where it stands, what it is, its tags by layer, and whether a space follows."""

    line: int
    word: str
    tags: List[str]
    space: bool


def looks_like_columns(sample: str) -> bool:
    """Whether a text's first lines are columns with tags in the last one, or CoNLL-U."""
    try:
        layout = find_layout(LINE_END.split(sample))
    except CorpusError:
        return False
    return layout is not None


def may_be_columns(sample: str) -> bool:
    """Whether tags stand in a text's first lines, however broken they are; a README, say, has none."""
    lines = [line for line in LINE_END.split(sample) if line.strip() and not line.startswith("#")]
    tagged = sum(any(cell in ("O", "_") or TAG.fullmatch(cell) for cell in line.split()[1:]) for line in lines)
    return tagged >= FEW * len(lines)


def find_layout(
    lines: Sequence[str], name: str = "", word: Optional[int] = None, tags: Sequence[int] = ()
) -> Optional[Layout]:
    """Find out where things stand.

    word, tags: Where the user knows it. RETURNS (Optional[Layout]): None where no column has tags.
    RAISES (CorpusError): A column that is asked for is not there.
    """
    solid = [line.rstrip("\r\n") for line in lines[:SAMPLE] if line.strip() and not line.startswith("-DOCSTART-")]
    separator = "\t" if any("\t" in line.strip() for line in solid) else None
    cut = [line.split(separator) for line in solid]
    plain = [row for row, line in zip(cut, solid) if not line.startswith("#")] or cut
    if not plain:
        return None
    width = Counter(len(row) for row in plain).most_common(1)[0][0]
    rows = [[part.strip() for part in row] for row in plain if len(row) == width]
    if any(not -width <= column < width for column in (*tags, *([] if word is None else [word]))):
        raise CorpusError(f"{name}: its lines have {width} columns; --columns asks for one that is not there.")
    numbered = all(re.fullmatch(r"\d+([-.]\d+)?", row[0]) for row in rows) and width > 2
    words = (1 if numbered else 0) if word is None else word % width
    misc = 9 if numbered and width >= 10 else None
    if tags:
        return Layout(separator, words, tuple(column % width for column in tags), misc, width)
    found: List[int] = []
    for column in range(width - 1, words, -1):
        if column == misc or not _is_tags([row[column] for row in rows]):
            break
        found.insert(0, column)
    if found and found[0] > words + 1:
        # parts of speech and chunks stand between: the layers that look like tags may be chunks, but for the last
        found = found[-1:]
    in_misc = misc is not None and any(_said(row[misc]).get("NER") for row in rows)
    if not found and not in_misc:
        return None
    return Layout(separator, words, tuple(found), misc, width)


def _is_tags(values: Sequence[str]) -> bool:
    return all(parse_tag(value) is not None for value in values) and any(v == "O" or parse_tag(v) for v in values)


def _said(misc: str) -> Dict[str, str]:
    """CoNLL-U's MISC: name=value|…, names of entity tags as NER."""
    pairs = (part.partition("=") for part in misc.split("|"))
    return {name.upper() if name.upper() == "NER" else name: value for name, _, value in pairs}


def parse_tag(cell: str) -> Optional[Dict[str, str]]:
    """Position by label of a cell, as "B-PER" or "B-ORG,I-LOC"; None where it is no tag."""
    if cell in OUTSIDE or cell in NO_ENTITY_KNOWN:
        return {}
    found = {}
    for part in re.split(r"[,|](?=[BIELSUMW]-)", cell):
        match = TAG.fullmatch(part)
        if match is None:
            return None
        found[match.group(2)] = SAME.get(match.group(1), match.group(1))
    return found


# Reading


def read_columns(
    path: Path,
    encoding: str = "utf-8",
    word: Optional[int] = None,
    tags: Sequence[int] = (),
    sentences: int = 1,
) -> Iterator[Document]:
    """Read files of columns; in a folder or an archive those that plainly have none are passed over.

    encoding (str): Of the files. word (Optional[int]): Column of the tokens, from 0; null: found out.
    tags (Sequence[int]): Columns of entity tags; none given: found out.
    sentences (int): How many make a document where the file does not mark documents; 0: all of a file.
    YIELDS (Document): With its tokens. Any of IOB1, IOB2, BIOES (BMEWO) and BILOU is understood; what breaks its own
        scheme is repaired and counted.
    RAISES (CorpusError): A line has another number of columns, or no column has tags.
    """
    names = Names()
    for file in text_files(path, encoding=encoding, is_data=may_be_columns):
        yield from _read_file(file, encoding, word, tags, sentences, names)


def _read_file(
    file: TextFile, encoding: str, word: Optional[int], tags: Sequence[int], sentences: int, names: Names
) -> Iterator[Document]:
    with readable(file.name, encoding):
        lines = LINE_END.split(file.text.read())
    layout = find_layout(lines, file.name, word, tags)
    if layout is None:
        if not any(line.strip() for line in lines):
            return
        raise CorpusError(
            f"{file.name}: no column has entity tags such as O, B-PER, I-PER. Name the columns with --columns: that of "
            "the tokens first, then those of tags, from 0."
        )
    found = list(_documents(file.name, lines, layout, sentences))
    layers = range(len(layout.tags) or 1)
    schemes = [
        find_scheme([row.tags[layer] for row in s] for _, document in found for s in document) for layer in layers
    ]
    for number, (id, rows) in enumerate(found, start=1):
        document = _document(id or f"{file.stem}-{number:06}", file.name, rows, schemes)
        _make_unique(document, names)
        yield document


def _make_unique(document: Document, names: Names) -> None:
    """Another id for a document whose id one before it has, and a remark."""
    wanted, number = document.id, 1
    while not names.add(document.id):
        number += 1
        document.id = f"{wanted}-{number}"
    if document.id != wanted:
        message = f'another document has the id "{wanted}": this one is now called "{document.id}".'
        document.problems.append(Problem(document.source, "id used twice", message, False))


def _documents(
    name: str, lines: Sequence[str], layout: Layout, sentences: int
) -> Iterator[Tuple[str, List[List[Row]]]]:
    """Id and sentences of each document."""
    marked = any(line.startswith("-DOCSTART-") or DOCUMENT.match(line) for line in lines)
    id = ""
    document: List[List[Row]] = []
    for mark, rows in _sentences(name, lines, layout):
        if mark is not None:
            if document:
                yield id, document
            id, document = mark, []
        if rows:
            document.append(rows)
        if document and not marked and len(document) == sentences:
            yield id, document
            document = []
    if document:
        yield id, document


def _sentences(name: str, lines: Sequence[str], layout: Layout) -> Iterator[Tuple[Optional[str], List[Row]]]:
    """Sentences, and where a document begins its id."""
    rows: List[Row] = []
    last, space = "", True
    for number, line in enumerate(lines, start=1):
        cells = layout.cut(line)
        is_row = len(cells) == layout.width and any(cells)
        start = DOCUMENT.match(line)
        if line.startswith("-DOCSTART-") or (start and not is_row):
            if rows:
                yield None, rows
            rows = []
            said = line.split()
            id = (start.group(1) or "") if start else next((w.strip("-") for w in said[1:2] if w.startswith("-")), "")
            yield id.strip() if id != NAMELESS else "", []
        elif not any(cells):
            if rows:
                yield None, rows
            rows = []
        elif not is_row and line.startswith("#"):
            continue
        elif not is_row:
            raise CorpusError(
                f'{name}:{number}: "{line.strip()[:60]}" has {len(cells)} columns, the other lines {layout.width}. '
                "Sentences are separated by a blank line; columns by a tab or, where there is none, by white space."
            )
        elif layout.misc is not None and re.search(r"[-.]", cells[0]):
            # CoNLL-U: "3-4" is the text of the next tokens, "3.1" is nothing that was written
            if "-" in cells[0]:
                last = cells[0].partition("-")[2]
                space = _said(cells[layout.misc]).get("SpaceAfter") != "No"
        elif not cells[layout.word]:
            raise CorpusError(
                f"{name}:{number}: there is no token in column {layout.word}. Name the columns with --columns: that of "
                "the tokens first, then those of tags, from 0."
            )
        else:
            misc = _said(cells[layout.misc]) if layout.misc is not None else {}
            tags = [cells[column] for column in layout.tags] or [misc.get("NER", "O")]
            for tag in tags:
                if parse_tag(tag) is None:
                    raise CorpusError(
                        f'{name}:{number}: "{tag}" is no entity tag: O, or B-, I-, E-, S-, L-, U- and a label. '
                        "Name the columns of tags with --columns."
                    )
            follows = space if cells[0] == last else misc.get("SpaceAfter") != "No"
            rows.append(Row(number, cells[layout.word], tags, follows))
    if rows:
        yield None, rows


def find_scheme(sentences: Iterable[Sequence[str]]) -> str:
    """Which scheme the tags of a layer follow: iob1, iob2 or bilou, as which BIOES is read."""
    positions: Counter = Counter()
    first_b = 0
    for sentence in sentences:
        before: Dict[str, str] = {}
        for cell in sentence:
            here = parse_tag(cell) or {}
            positions.update(here.values())
            # in IOB1 an entity begins with B only right after another one of its label
            first_b += sum(position == "B" and label not in before for label, position in here.items())
            before = here
    if positions["L"] or positions["U"]:
        return "bilou"
    return "iob2" if first_b or not positions["I"] else "iob1"


def _document(id: str, name: str, sentences: Sequence[Sequence[Row]], schemes: Sequence[str]) -> Document:
    rows = [row for sentence in sentences for row in sentence]
    text, tokens = _text(rows)
    document = Document(id=id, text=text, source=name, tokens=tokens)
    at = 0
    for sentence in sentences:
        document.sentences.append(at)
        for layer, scheme in enumerate(schemes):
            cells = [parse_tag(row.tags[layer]) or {} for row in sentence]
            for start, end, label, broken in tag_spans(cells, scheme):
                place = (tokens[at + start][0], tokens[at + end - 1][1])
                line = sentence[start].line
                document.entities.append(Entity(label, [place], line=line))
                if broken:
                    kind = f"{scheme.upper()} repaired"
                    message = f'"{text[place[0] : place[1]]}" ({label}): {broken}; it was taken for an entity.'
                    document.problems.append(Problem(f"{name}:{line}", kind, message, False))
        at += len(sentence)
    if any(tag in NO_ENTITY_KNOWN for row in rows for tag in row.tags):
        document.unknown = [i for i, row in enumerate(rows) if any(tag in NO_ENTITY_KNOWN for tag in row.tags)]
    document.entities.sort(key=lambda entity: (entity.start, -entity.end, entity.label))
    return document


def _text(rows: Sequence[Row]) -> Tuple[str, List[Tuple[int, int]]]:
    """The text, and the characters of each token."""
    pieces, places = [], []
    at = 0
    for i, row in enumerate(rows):
        places.append((at, at + len(row.word)))
        piece = row.word + (" " if row.space and i + 1 < len(rows) else "")
        pieces.append(piece)
        at += len(piece)
    return "".join(pieces), places


def tag_spans(cells: Sequence[Dict[str, str]], scheme: str) -> Iterator[Tuple[int, int, str, str]]:
    """First token, last + 1, label of each entity, and what of its tags breaks the scheme.

    An entity begins where its label begins to stand, or where the position says so; labels are read one by one.
    """
    for label in {label: None for cell in cells for label in cell}:
        start, broken = -1, ""
        for i in range(len(cells) + 1):
            position = cells[i].get(label) if i < len(cells) else None
            if start >= 0 and position not in ("I", "L"):
                if scheme == "bilou":
                    broken = broken or "it has no end"
                yield start, i, label, broken
                start, broken = -1, ""
            if position is None:
                continue
            if position == "U":
                yield i, i + 1, label, ""
                continue
            if start < 0:
                start = i
                broken = "" if position == "B" or scheme == "iob1" else "it has no beginning"
            if position == "L":
                yield start, i + 1, label, broken
                start, broken = -1, ""


# Writing


def write_columns(docs: Iterable[Doc], spans: str = "", scheme: Scheme = "iob2") -> Iterator[str]:
    """Lines of token and tags, with as many columns of tags as there are layers of entities that overlap.

    docs (Iterable[Doc]): All are looked at before the first line, to know how many columns there are; meanwhile their
        lines are in a temporary file, and no Doc is kept.
    spans (str): Where the entities are: "ents" or a span group; not given: the group "entities" where there is one.
    scheme (str): iob2, iob1, bioes or bilou.
    """
    width = 1
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n") as narrow:
        for doc in docs:
            layers = _layered(_entities(doc, spans))
            width = max(width, len(layers))
            columns = [_tags(len(doc), layer, scheme) for layer in layers]
            narrow.writelines(_lines(doc, _with_unknown(doc, spans, columns)))
        narrow.seek(0)
        for line in narrow:
            # a line has its number of columns of tags in front
            filled, _, cells = line.rstrip("\n").partition("\t")
            yield (cells + "\tO" * (width - int(filled)) if cells else "") + "\n"


def _lines(doc: Doc, columns: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a document, before each how many columns of tags it has."""
    yield f"0\t-DOCSTART-\t-{_flat(str(doc.user_data.get('id', 'X')))}-\n\n"
    for token in doc:
        if token.i and token.is_sent_start:
            yield "\n"
        if not token.is_space:
            yield "\t".join([str(len(columns)), _flat(token.text), *(column[token.i] for column in columns)]) + "\n"
    yield "\n"


def _with_unknown(doc: Doc, spans: str, columns: Sequence[List[str]]) -> Sequence[Sequence[str]]:
    """Columns of tags, in which tokens of which nothing is known have "-"; in a Doc without annotation all have it."""
    if doc.has_annotation("ENT_IOB"):
        unknown = [token.i for token in doc if token.ent_iob == 0]
    else:
        unknown = [] if spans != "ents" and (spans or "entities") in doc.spans else list(range(len(doc)))
    if not unknown:
        return columns
    first = list(columns[0]) if columns else ["O"] * len(doc)
    for i in unknown:
        if all(column[i] == "O" for column in columns):
            first[i] = NO_ENTITY_KNOWN[0]
    return [first, *columns[1:]]


def _flat(text: str) -> str:
    """A cell: the signs that end one cannot stand in it."""
    return re.sub(r"[\t\r\n]", " ", text)


def _entities(doc: Doc, spans: str) -> List[Span]:
    group = spans or "entities"
    return list(doc.spans[group]) if spans != "ents" and group in doc.spans else list(doc.ents)


def _layered(spans: Sequence[Span]) -> List[List[Span]]:
    """Spans in layers without overlaps: the longest go outermost."""
    layers: List[List[Span]] = []
    for span in sorted(spans, key=lambda span: (span.start - span.end, span.start)):
        free = (layer for layer in layers if all(span.end <= s.start or s.end <= span.start for s in layer))
        layer = next(free, None)
        if layer is None:
            layers.append([span])
        else:
            layer.append(span)
    return layers


def _tags(length: int, spans: Sequence[Span], scheme: Scheme) -> List[str]:
    tags = ["O"] * length
    ends = {span.end: span.label_ for span in spans}
    for span in spans:
        begins = "B"
        if scheme == "iob1" and ends.get(span.start) != span.label_:
            begins = "I"
        positions = [begins] + ["I"] * (len(span) - 1)
        if scheme in ("bioes", "bilou"):
            positions[-1] = "E" if scheme == "bioes" else "L"
            if len(span) == 1:
                positions[-1] = "S" if scheme == "bioes" else "U"
        tags[span.start : span.end] = [f"{position}-{_flat(span.label_)}" for position in positions]
    return tags
