"""Several corpora as one: whose ids clash, and whose annotations of the same text differ."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Dict, Iterable, List, Literal, Sequence, Set, Tuple, TypeVar

from .document import Document, Entity, Link
from .files import CorpusError
from .items import Item
from .placing import ID

Ids = Literal["prefix", "error"]
Conflicts = Literal["error", "union", "first"]
IDS = ("prefix", "error")
CONFLICTS = ("error", "union", "first")
NAMED = 5
T = TypeVar("T", Entity, Link)


@dataclass
class Merged:
    """What became of documents. renamed (int): Those with another id than before.

    same (int): Those left out since an earlier corpus has their text with the same entities. joined (int): Texts whose
    entities are those of several corpora. left (int): Texts whose entities differed, of which the first were kept.
    """

    renamed: int = 0
    same: int = 0
    joined: int = 0
    left: int = 0


def merge(
    corpora: Sequence[Tuple[str, Iterable[Item]]], ids: Ids = "prefix", conflicts: Conflicts = "error"
) -> Tuple[List[Item], Merged]:
    """Put corpora one after another; a text that several have stands where the first has it.

    corpora (Sequence[Tuple[str, Iterable[Item]]]): With a name for each, which ids may get as a prefix.
    ids (str): A document whose id one before it has: "prefix": it is called NAME/ID; "error".
    conflicts (str): The same text with other entities in a later corpus: "error"; "union": the entities of both;
        "first": those of the earlier corpus. A text that nobody has annotated conflicts with nothing.
    RETURNS (Tuple[List[Item], Merged]): The documents, and what became of them.
    RAISES (CorpusError): Ids clash or annotations differ where that is to be an error; the documents are named.
    """
    if ids not in IDS:
        raise CorpusError(f"--ids {ids}: it is one of {', '.join(IDS)}.")
    if conflicts not in CONFLICTS:
        raise CorpusError(f"--conflicts {conflicts}: it is one of {', '.join(CONFLICTS)}.")
    merged: List[Item] = []
    done = Merged()
    of_text: Dict[str, int] = {}
    taken: Set[str] = set()
    clashing: List[str] = []
    differing: List[str] = []
    for name, items in corpora:
        own: Dict[str, int] = {}  # texts that stand twice in one corpus are its own affair
        for item in items:
            digest = item.document.digest
            at = of_text.get(digest)
            if at is None or not item.document.text.strip():
                if item.document.id in taken:
                    clashing.append(f"{item.document.id} in {name}")
                    item = _renamed(item, name, taken)
                    done.renamed += 1
                taken.add(item.document.id)
                own.setdefault(digest, len(merged))
                merged.append(item)
                continue
            first = merged[at].document
            if _said(first) == _said(item.document) or not item.document.annotated:
                done.same += 1
            elif not first.annotated:
                merged[at] = _called(item, first.id)
                done.same += 1
            elif conflicts == "union":
                merged[at] = Item(_union(first, item.document))
                done.joined += 1
            else:
                differing.append(f"{item.document.id} in {name}, which is {first.id}")
                done.left += 1
        for digest, at in own.items():
            of_text.setdefault(digest, at)
    if ids == "error" and clashing:
        raise CorpusError(f"--ids error: {_some(clashing)}: documents before them have these ids.")
    if conflicts == "error" and differing:
        raise CorpusError(
            f"The same text has other entities: {_some(differing)}. Say with --conflicts whether the entities of both "
            "are kept (union) or those of the first corpus (first)."
        )
    return merged, done


def _some(named: Sequence[str]) -> str:
    more = f", and {len(named) - NAMED:,} more" if len(named) > NAMED else ""
    return "; ".join(named[:NAMED]) + more


def _said(document: Document) -> Counter:
    return Counter((entity.label, tuple(entity.fragments)) for entity in document.entities)


def _renamed(item: Item, prefix: str, taken: Set[str]) -> Item:
    name = f"{prefix}/{item.document.id}"
    number = 1
    while name in taken:
        number += 1
        name = f"{prefix}/{item.document.id}-{number}"
    return _called(item, name)


def _called(item: Item, id: str) -> Item:
    if item.doc is not None:
        item.doc.user_data[ID] = id
    return Item(replace(item.document, id=id), item.doc)


def _union(first: Document, other: Document) -> Document:
    """The first document with the other's entities and what joins them, under names that are free."""
    known = {(entity.label, tuple(entity.fragments)): entity for entity in first.entities}
    names = {entity.id for entity in first.entities} | {link.id for link in first.links}
    new_name: Dict[str, str] = {}
    entities = list(first.entities)
    for entity in other.entities:
        same = known.get((entity.label, tuple(entity.fragments)))
        if same is None:
            same = _free(entity, names)
            # in the first document's file there is no such line
            same.line, same.file = 0, ""
            entities.append(same)
            known[same.label, tuple(same.fragments)] = same
        if entity.id:
            new_name[entity.id] = same.id or entity.id
    links = [_free(link, names) for link in other.links]
    new_name.update({link.id: new.id for link, new in zip(other.links, links) if link.id})
    for link in links:
        link.arguments = [(role, new_name.get(target, target)) for role, target in link.arguments]
    entities.sort(key=lambda entity: (entity.start, -entity.end, entity.label))
    problems = first.problems + other.problems
    return replace(first, entities=entities, links=first.links + links, problems=problems)


def _free(item: T, names: Set[str]) -> T:
    """A copy with a name that no other has; one without a name has none."""
    name = item.id
    number = 0
    while name and name in names:
        number += 1
        name = f"{item.id[0]}{number}"
    names.add(name)
    return replace(item, id=name)
