"""Documents written in brat's standoff format: what was read from it and not changed, byte for byte."""

import errno
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Set, Tuple, Union

from .document import Document, Entity, Link
from .files import CorpusError
from .losses import lost_in_standoff
from .standoff import BOM, ENDINGS, KINDS, ORIGIN, SCORE, Key, Written, said_of

NOTE_TYPE = "AnnotatorNotes"
TAB = "\t"


def write_document(document: Document) -> Dict[str, str]:
    """The annotation files of a document, by the ending of their names; empty where it is not annotated.

    Lines of which nothing was changed are those that were read. What is new stands at the end of the last file.
    """
    if not document.annotated:
        return {}
    written = document.written if isinstance(document.written, Written) else Written()
    files = written.files or [ENDINGS[0]]
    names = _names(document)
    now = _lines(document, names)
    found: Dict[str, List[str]] = {ending: [] for ending in files}
    alive = set(now)
    for line in written.lines:
        if line.key is None:
            found[line.file].append(line.raw)
        elif line.key[0] == "with":
            if line.key[1:] in alive:
                found[line.file].append(line.raw)
        elif line.key in now:
            said, text = now.pop(line.key)
            end = "\r\n" if line.raw.endswith("\r\n") else "\n"
            name = line.raw.removeprefix(BOM).split("\t")[0]
            found[line.file].append(line.raw if said == line.said else f"{name}\t{text.partition(TAB)[2]}{end}")
    last = found[files[-1]]
    if now and last and not last[-1].endswith("\n"):
        last.append("\n")
    taken = {line.raw.removeprefix(BOM).split("\t")[0] for line in written.lines}
    last.extend(f"{_numbered(text, taken)}\n" for _, text in now.values())
    return {ending: "".join(lines) for ending, lines in found.items()}


def _names(document: Document) -> Dict[int, str]:
    """A name for each entity, its own where it has one that brat can have; by `id()`."""
    names: Dict[int, str] = {}
    taken: Set[str] = set()
    for entity in document.entities:
        if re.fullmatch(r"T\S*", entity.id) and entity.id not in taken:
            names[id(entity)] = entity.id
            taken.add(entity.id)
    if isinstance(document.written, Written):
        taken |= {line.raw.removeprefix(BOM).split("\t")[0] for line in document.written.lines}
    number = 0
    for entity in document.entities:
        while id(entity) not in names:
            number += 1
            if f"T{number}" not in taken:
                names[id(entity)] = f"T{number}"
    return names


def _lines(document: Document, names: Mapping[int, str]) -> Dict[Key, Tuple[Any, str]]:
    """All that there is to write: what it says, and the line; names of attributes, notes and new links are left open.

    RAISES (CorpusError): A label cannot be written.
    """
    found: Dict[Key, Tuple[Any, str]] = {}
    of_id = {entity.id: names[id(entity)] for entity in document.entities if entity.id}
    of_id.update({link.id: link.id for link in document.links if link.id})
    if isinstance(document.written, Written):
        # what could not be read is still there
        unknown = (line.raw.removeprefix(BOM).split("\t")[0] for line in document.written.lines if line.key is None)
        of_id.update({name: name for name in unknown if name not in of_id})
    nameless = 0
    targets: List[Tuple[str, Union[Entity, Link]]] = [(names[id(entity)], entity) for entity in document.entities]
    for entity in document.entities:
        name = names[id(entity)]
        found["T", name] = (said_of(entity), _entity_line(document, entity, name))
    for link in document.links:
        if any(role != "reference" and target not in of_id for role, target in link.arguments):
            continue  # what it joins is gone
        nameless += not link.id
        found["link", link.id or f"*{nameless}"] = (said_of(link), _link_line(link, of_id))
        targets += [(link.id, link)] if link.id else []
    for name, target in targets:
        for attribute, value in target.attributes.items():
            ending = "" if value is True else f" {value}"
            if value is not False and value is not None:
                found["A", name, attribute] = (value, f"A?\t{_word(attribute)} {name}{_flat(ending)}")
        if isinstance(target, Entity):
            for said, note_type in ((target.score, SCORE), (target.origin or None, ORIGIN)):
                if said is not None:
                    found["#", name, note_type] = (said, f"#?\t{note_type} {name}\t{_flat(str(said))}")
        for i, note in enumerate(target.notes):
            found["#", name, str(i)] = (note, f"#?\t{NOTE_TYPE} {name}\t{_flat(note)}")
    return found


def _numbered(line: str, taken: Set[str]) -> str:
    """A line with a name of its own in place of the question mark."""
    kind, mark, rest = line.partition("?\t")
    if not mark or len(kind) > 1:
        return line
    number = 1
    while f"{kind}{number}" in taken:
        number += 1
    taken.add(f"{kind}{number}")
    return f"{kind}{number}\t{rest}"


def _entity_line(document: Document, entity: Entity, name: str) -> str:
    # brat wants a part for each line
    parts = [part for start, end in entity.fragments for part in _line_parts(document.text, start, end)]
    text = " ".join(document.text[start:end] for start, end in parts)
    places = ";".join(f"{start} {end}" for start, end in parts)
    return f"{name}\t{_word(entity.label)} {places}\t{_flat(text)}"


def _line_parts(text: str, start: int, end: int) -> Iterator[Tuple[int, int]]:
    for match in re.finditer(r"[^\r\n]+", text[start:end]):
        if match.group().strip():
            yield start + match.start(), start + match.end()


def _link_line(link: Link, of_id: Mapping[str, str]) -> str:
    roles = [(role, target if role == "reference" else of_id[target]) for role, target in link.arguments]
    if link.kind == "equivalence":
        return f"*\t{_word(link.label)} {' '.join(target for _, target in roles)}"
    name = link.id or f"{KINDS[link.kind]}?"
    if link.kind == "normalisation":
        return f"{name}\t{_word(link.label)} {' '.join(target for _, target in roles)}\t{_flat(link.text)}"
    joined = [f"{role or link.label}:{target}" for role, target in roles]
    head = [] if link.kind == "event" else [_word(link.label)]
    return f"{name}\t{' '.join([*head, *joined])}"


def _word(name: str) -> str:
    """A label as brat can have it: without white space."""
    return re.sub(r"\s+", "_", name)


def _flat(text: str) -> str:
    return re.sub(r"[\r\n\t]", " ", text)


def write_standoff(documents: Iterable[Document], folder: Path, offered: Iterable[str] = ()) -> Iterator[Document]:
    """Write documents into a folder, with an annotation.conf for brat where there is none.

    offered (Iterable[str]): Labels that this has besides those of the documents.
    YIELDS (Document): Each of them when it is written.
    RAISES (CorpusError): Two have the same id, or one that is no file name.
    """
    labels = {_word(label) for label in offered}
    attributes: Dict[str, Set[str]] = {}
    links: Dict[str, Set[str]] = {}
    seen: Set[str] = set()
    for number, document in enumerate(documents, start=1):
        name = document.id or f"{number:06}"
        path = folder / f"{name}.txt"
        if name in seen or ".." in Path(name).parts or Path(name).is_absolute() or "\0" in name:
            why = "two documents have it" if name in seen else "it is no name of a file in a folder"
            raise CorpusError(f'The id "{name}" cannot be the name of a brat document: {why}.')
        seen.add(name)
        if not isinstance(document.written, Written):
            document.problems.extend(lost_in_standoff(document))
        with _named(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, document.text)
        for ending, content in write_document(document).items():
            _write(path.with_name(f"{path.stem}{ending}"), content)
        items: List[Union[Entity, Link]] = [*document.entities, *document.links]
        for item in items:
            for attribute, value in item.attributes.items():
                attributes.setdefault(_word(attribute), set()).update([] if value is True else [str(value)])
        labels |= {_word(entity.label) for entity in document.entities}
        for link in document.links:
            links.setdefault(link.kind, set()).add(_word(link.label))
        yield document
    conf = folder / "annotation.conf"
    if not conf.exists():
        _write(conf, _configuration(labels, links, attributes))


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Say which id the file system does not take."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL):
            raise
        shown = name if len(name) <= 60 else f"{name[:59]}…"
        raise CorpusError(f'The id "{shown}" cannot be the name of a brat document: {error.strerror}.') from error


def _configuration(labels: Set[str], links: Mapping[str, Set[str]], attributes: Mapping[str, Set[str]]) -> str:
    """brat's annotation.conf: https://brat.nlplab.org/configuration.html."""
    lines = ["[entities]", *sorted(labels), "", "[relations]"]
    lines += [f"{label}\tArg1:<ANY>, Arg2:<ANY>" for label in sorted(links.get("relation", ()))]
    lines += ["", "[events]", *(f"{label}\t<ANY>*:<ANY>" for label in sorted(links.get("event", ())))]
    lines += ["", "[attributes]"]
    for name, values in sorted(attributes.items()):
        lines.append(f"{name}\tArg:<ANY>" + (f", Value:{'|'.join(sorted(values))}" if values else ""))
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
