"""Labels of a corpus under other names, or without some of them."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
from spacy.tokens import Doc, Span, SpanGroup

from ..tagging import UNPLACED
from .document import Document, Entity, Link
from .files import CorpusError
from .items import Item
from .placing import ANNOTATIONS, from_doc, noted_entities

# Attributes of a span group that have a value for each of its spans.
ONE_A_SPAN = ("scores",)


@dataclass
class Renamed:
    """What became of entities.

    renamed, dropped (int): Those with another label, and without any. merged (int): Of those that were renamed, or
    are where one was, those left out because they have become the same as another one. links (int): Relations and the
    like that are left out with what they joined.
    """

    renamed: int = 0
    dropped: int = 0
    merged: int = 0
    links: int = 0


def read_map(said: Sequence[str], file: Optional[Path] = None) -> Dict[str, str]:
    """New names of labels by their old ones; an empty new name drops a label.

    said (Sequence[str]): OLD=NEW. file (Optional[Path]): Such lines; empty ones, and those that begin with #, say
        nothing.
    RAISES (CorpusError): A line is not of this form, or a label has two new names.
    """
    lines = [("--map", text) for text in said]
    if file is not None:
        try:
            content = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise CorpusError(f"{file}: byte {error.start} is not UTF-8.") from error
        numbered = enumerate(content.split("\n"), start=1)
        lines += [(f"{file}:{i}:", line.strip()) for i, line in numbered if line.strip() and not line.startswith("#")]
    if not lines:
        raise CorpusError("Say with --map OLD=NEW, or with --map-file, which labels get which names.")
    names: Dict[str, str] = {}
    for where, text in lines:
        old, equals, new = (part.strip() for part in text.partition("="))
        if not old or not equals:
            raise CorpusError(f"{where} {text}: give OLD=NEW, or OLD= to drop a label.")
        if names.setdefault(old, new) != new:
            raise CorpusError(f'{where} {text}: {old} has the new name "{names[old]}" already.')
    return names


def rename(items: Sequence[Item], names: Mapping[str, str], spans: str = "") -> Tuple[List[Item], Renamed]:
    """Rename labels; the items that are given are not to be used again.

    names (Mapping[str, str]): See `read_map`.
    spans (str): Of Docs: "ents" or a span group alone; not given: `doc.ents` and all span groups.
    RETURNS (Tuple[List[Item], Renamed]): The documents, and what became of entities.
    RAISES (CorpusError): No entity has one of the old names.
    """
    here: Set[str] = set()
    for item in items:
        here.update(_doc_labels(item.doc, spans) if item.doc is not None else (e.label for e in item.document.entities))
    unknown = [old for old in names if old not in here]
    if unknown:
        raise CorpusError(
            f"No entity has the label{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}. There are "
            f"{', '.join(sorted(here)) or 'no labels at all'}."
        )
    done = Renamed()
    return [_rename_item(item, names, spans, done) for item in items], done


def _rename_item(item: Item, names: Mapping[str, str], spans: str, done: Renamed) -> Item:
    document = _rename_document(item.document, names, done)
    if item.doc is None:
        return Item(document)
    _rename_doc(item.doc, names, spans)
    return Item(from_doc(item.doc, spans, item.document.id), item.doc)


def _rename_document(document: Document, names: Mapping[str, str], done: Renamed) -> Document:
    first: Dict[Any, Tuple[str, Entity]] = {}  # the old label and the entity of each new label and place
    entities: List[Entity] = []
    instead: Dict[str, Optional[str]] = {}
    for entity in document.entities:
        new = names.get(entity.label, entity.label)
        if not new:
            done.dropped += 1
            instead[entity.id] = None
            continue
        renamed = replace(entity, label=new)
        old, other = first.setdefault((new, tuple(entity.fragments)), (entity.label, renamed))
        done.renamed += new != entity.label
        if old != entity.label:
            done.merged += 1
            instead[entity.id] = other.id or None
            continue
        entities.append(renamed)
    instead.pop("", None)
    links = _links(document.links, instead)
    done.links += len(document.links) - len(links)
    return replace(document, entities=entities, links=links)


def _links(links: Sequence[Link], instead: Dict[str, Optional[str]]) -> List[Link]:
    """Links to what is there now, without those that joined something that is gone, be it another link.

    instead (Dict[str, Optional[str]]): What stands in the place of what is gone, by ids; None: nothing. Links that go
        are put in.
    """
    now = [_retarget(link, instead) for link in links]
    gone = {link.id: None for link, left in zip(links, now) if left is None and link.id and link.id not in instead}
    if gone:
        instead.update(gone)
        return _links(links, instead)
    return [link for link in now if link is not None]


def _retarget(link: Link, instead: Mapping[str, Optional[str]]) -> Optional[Link]:
    """A link to what is there now; None where something that it joined is gone."""
    arguments = []
    for role, target in link.arguments:
        now = target if role == "reference" else instead.get(target, target)
        if now is None:
            return None
        arguments.append((role, now))
    return replace(link, arguments=arguments)


# Docs


def _doc_labels(doc: Doc, spans: str) -> Set[str]:
    labels = {span.label_ for span in doc.ents} if spans in ("", "ents") else set()
    for name in _groups(doc, spans):
        labels |= {span.label_ for span in doc.spans[name]}
        labels |= {label for _, _, label in doc.spans[name].attrs.get(UNPLACED, [])}
    return labels


def _groups(doc: Doc, spans: str) -> List[str]:
    return [name for name in doc.spans if spans in ("", name)]


def _rename_doc(doc: Doc, names: Mapping[str, str], spans: str) -> None:
    """Rename the spans of a Doc, and what is written down of its annotations."""
    if spans in ("", "ents") and doc.has_annotation("ENT_IOB"):
        iob, kind = (doc.to_array(attribute) for attribute in ("ENT_IOB", "ENT_TYPE"))
        missing, blocked = np.flatnonzero(iob == 0), np.flatnonzero((iob == 3) & (kind == 0))
        kept = _renamed_spans(doc, doc.ents, names)
        doc.set_ents(
            [span for span, _ in kept],
            missing=[doc[i : i + 1] for i in missing.tolist()],
            blocked=[doc[i : i + 1] for i in blocked.tolist()],
            default="outside",
        )
    for name in _groups(doc, spans):
        group = doc.spans[name]
        kept = _renamed_spans(doc, group, names)
        attrs = dict(group.attrs)
        for key in ONE_A_SPAN:
            if key in attrs:
                attrs[key] = _chosen(attrs[key], [i for _, i in kept])
        if UNPLACED in attrs:
            attrs[UNPLACED] = [[a, b, names.get(x, x)] for a, b, x in attrs[UNPLACED] if names.get(x, x)]
        doc.spans[name] = SpanGroup(doc, name=name, attrs=attrs, spans=[span for span, _ in kept])
    if ANNOTATIONS in doc.user_data:
        doc.user_data[ANNOTATIONS] = _rename_noted(doc.user_data[ANNOTATIONS], names)


def _renamed_spans(doc: Doc, spans: Iterable[Span], names: Mapping[str, str]) -> List[Tuple[Span, int]]:
    """Spans under their new labels, each with its number among the old ones; those that became the same are one."""
    first: Dict[Tuple[int, int, str], str] = {}
    kept = []
    for i, span in enumerate(spans):
        new = names.get(span.label_, span.label_)
        if new and first.setdefault((span.start, span.end, new), span.label_) == span.label_:
            kept.append((Span(doc, span.start, span.end, label=new, kb_id=span.kb_id, span_id=span.id), i))
    return kept


def _chosen(values: Any, places: List[int]) -> Any:
    return values[places] if isinstance(values, np.ndarray) else [values[i] for i in places]


def _rename_noted(noted: Mapping[str, Any], names: Mapping[str, str]) -> Dict[str, Any]:
    """See `placing.to_doc`: what tokens cannot say."""
    first: Dict[Any, Tuple[str, Mapping[str, Any]]] = {}
    entities = []
    instead: Dict[str, Optional[str]] = {}
    for entity in noted_entities(noted):
        old = entity["label"]
        new = names.get(old, old)
        renamed = {**entity, "label": new}
        # characters are noted where they are not those of the tokens
        key = "fragments" if "fragments" in entity else "tokens"
        places = (key, *((start, end) for start, end in entity[key]))
        before, other = first.setdefault((new, places), (old, renamed)) if new else ("", {})
        if before == old:
            entities.append(renamed)
        elif entity.get("id"):
            instead[entity["id"]] = other.get("id")
    links = [Link(**{**link, "arguments": [tuple(pair) for pair in link["arguments"]]}) for link in noted["links"]]
    return {"entities": entities, "links": [asdict(link) for link in _links(links, instead)]}
