"""What a corpus holds, and what in it looks like a mistake, counted document by document.

Memory grows with what is counted (labels, lengths, texts of entities, a digest of each document), not with the corpus.
"""

import bisect
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from spacy.tokens import Doc

from .document import Document, Entity

WORD = re.compile(r"\w+|[^\w\s]")
# Longest surface text, in words, that is looked for where it is not annotated.
LONGEST_FORM = 20
# What a sign at the beginning or at the end of a text needs elsewhere in it, to belong to it.
OPENS = {"(": ")", "[": "]", "{": "}", "«": "»", "»": "«", "“": "”", "„": "“”", '"': '"'}
CLOSES = {")": "(", "]": "[", "}": "{", "»": "«", "«": "»", "”": "“„", "“": "„", '"': '"'}
ONLY_OPENING, ONLY_CLOSING = "([{„", ")]}”"
PUNCTUATION = ",;:!?…·|•"
DASHES = "-–—"


class Kind(NamedTuple):
    """A kind of thing that looks like a mistake. name (str): In a few words. why (str): What is the matter with it."""

    name: str
    why: str


KINDS: Dict[str, Kind] = {
    "same_text": Kind("documents with the same text", "in train and dev they make scores too high"),
    "same_text_differs": Kind("the same text, annotated differently", "of two truths a model can learn neither"),
    "same_entity": Kind("the same entity twice", "it counts once"),
    "several_labels": Kind("one text, several labels", "the rarer label may be a slip"),
    "not_everywhere": Kind("annotated in some places, not in others", "the others may have been forgotten"),
    "labels_alike": Kind("labels that are spelled alike", "one may be a slip; mend it with rename-labels"),
    "edge_space": Kind("white space at the edge", "convert takes it off"),
    "edge_punctuation": Kind("punctuation at the edge", "the borders may have slipped"),
    "not_on_tokens": Kind("not on whole tokens", "convert widens them, see --align"),
    "very_long": Kind("very long entities", "an end may be missing"),
    "empty": Kind("empty documents", "there is nothing to learn from them"),
    "only_space": Kind("entities of white space alone", "convert leaves them out"),
    "reader": Kind("remarks of the reader", "convert --report FILE lists them all"),
}  # fmt: skip


@dataclass
class Found:
    """Things of one kind: how many there are, and the first of them, each with where it is."""

    count: int = 0
    listed: List[str] = field(default_factory=list)


@dataclass
class Form:
    """The text of entities. labels (Counter): How often it has each. first (Dict[str, str]): Where it has it first.

    plain (int): How often it stands in a text and is in no entity. plain_at (List[str]): The first of these places.
    """

    labels: Counter = field(default_factory=Counter)
    first: Dict[str, str] = field(default_factory=dict)
    plain: int = 0
    plain_at: List[str] = field(default_factory=list)


@dataclass
class Label:
    """What is counted of a label. tokens, characters (Counter): How many entities are so long."""

    documents: int = 0
    tokens: Counter = field(default_factory=Counter)
    characters: Counter = field(default_factory=Counter)
    discontinuous: int = 0
    forms: int = 0


class Statistics:
    """Counts of a corpus.

    make_doc (Callable[[str], Doc]): Cuts texts of documents that have no tokens of their own: `nlp.make_doc`.
    listed (int): Of each kind of mistake so many are listed with where they are; 0: all, however many.
    long (int): Tokens above which an entity is very long.
    """

    def __init__(self, make_doc: Callable[[str], Doc], listed: int = 10, long: int = 25) -> None:
        self._make_doc = make_doc
        self._listed = listed
        self._long = long
        self.documents = self.annotated = self.characters = self.sentences = self.with_sentences = 0
        self.entities = self.discontinuous = self.in_overlaps = 0
        self.deepest = 0
        self.labels: Dict[str, Label] = {}
        self.document_tokens: Counter = Counter()
        self.document_entities: Counter = Counter()
        self.overlaps: Counter = Counter()
        self.nested_labels: Counter = Counter()
        self.together: Counter = Counter()
        self.links: Counter = Counter()
        self.remarks: Counter = Counter()
        self.forms: Dict[str, Form] = {}
        self.found: Dict[str, Found] = {kind: Found() for kind in KINDS}
        self._texts: Dict[bytes, Tuple[str, int]] = {}
        self._lengths_from: Dict[str, List[int]] = {}
        self._looked_again = False

    # First pass

    def add(self, document: Document) -> None:
        """Count a document."""
        tokens = self._tokens(document)
        self.documents += 1
        self.annotated += document.annotated
        self.characters += len(document.text)
        self.document_tokens[len(tokens)] += 1
        if document.sentences:
            self.with_sentences += 1
            self.sentences += len(document.sentences)
        self.links.update(link.kind for link in document.links)
        for problem in document.problems:
            self.remarks[problem.kind] += 1
            self._note("reader", str(problem))
        if not document.text.strip():
            self._note("empty", document.id)
        self._compare(document)
        if not document.annotated:
            return
        self.document_entities[len(document.entities)] += 1
        here = {entity.label for entity in document.entities}
        for label in here:
            self.labels.setdefault(label, Label()).documents += 1
        self.together.update(combinations(sorted(here), 2))
        starts, ends = [start for start, _ in tokens], [end for _, end in tokens]
        seen: Set[Tuple[str, Tuple[Tuple[int, int], ...]]] = set()
        for entity in document.entities:
            key = (entity.label, tuple(entity.fragments))
            if key in seen:
                self._note("same_entity", f"{document.place(entity)}: {_named(document, entity)}")
            seen.add(key)
            self._add_entity(document, entity, starts, ends)
        self._add_overlaps(document.entities)

    def _tokens(self, document: Document) -> List[Tuple[int, int]]:
        if document.tokens is not None:
            return document.tokens
        return [(token.idx, token.idx + len(token)) for token in self._make_doc(document.text)]

    def _compare(self, document: Document) -> None:
        """Look whether the text was there before."""
        if not document.text.strip():
            return
        digest = bytes.fromhex(document.digest)
        said = hash(frozenset((e.label, tuple(e.fragments)) for e in document.entities)) if document.annotated else 0
        if digest not in self._texts:
            self._texts[digest] = (document.id, said)
            return
        first, said_first = self._texts[digest]
        self._note("same_text", f"{document.id} has the text of {first}")
        if document.annotated and said_first not in (0, said):
            self._note("same_text_differs", f"{document.id} and {first}")

    def _add_entity(self, document: Document, entity: Entity, starts: Sequence[int], ends: Sequence[int]) -> None:
        label = self.labels[entity.label]
        parts = [document.text[start:end] for start, end in entity.fragments]
        n_tokens = sum(_count_tokens(start, end, starts, ends) for start, end in entity.fragments)
        self.entities += 1
        label.tokens[n_tokens] += 1
        label.characters[sum(map(len, parts))] += 1
        if len(parts) > 1:
            self.discontinuous += 1
            label.discontinuous += 1
        where, name = document.place(entity), _named(document, entity)
        if not any(part.strip() for part in parts):
            self._note("only_space", f"{where}: {name}")
            return
        if any(part != part.strip() for part in parts):
            self._note("edge_space", f"{where}: {name}")
        if any(_has_edge_punctuation(part.strip()) for part in parts):
            self._note("edge_punctuation", f"{where}: {name}")
        if n_tokens > self._long:
            self._note("very_long", f"{where}: {n_tokens} tokens, {name}")
        misfit = next((part for part in entity.fragments if not _fits(document.text, part, starts, ends)), None)
        if misfit is not None:
            first, last = _touched(*misfit, starts, ends)
            whole = document.text[starts[first] : ends[last - 1]] if first < last else ""
            self._note("not_on_tokens", f'{where}: {name}, in "{_short(whole)}"')
        if len(parts) == 1:
            form = self.forms.setdefault(_form(parts[0]), Form())
            label.forms += entity.label not in form.labels
            form.labels[entity.label] += 1
            form.first.setdefault(entity.label, where)

    def _add_overlaps(self, entities: Sequence[Entity]) -> None:
        """Count pairs of entities that share characters."""
        active: List[Entity] = []
        touching: Set[int] = set()
        for entity in sorted(entities, key=lambda e: (e.start, -e.end)):
            active = [other for other in active if other.end > entity.start]
            around = 0
            for other in active:
                if (other.start, other.end) == (entity.start, entity.end):
                    self.overlaps["same place"] += other.label != entity.label
                elif other.end >= entity.end:
                    around += 1
                    self.overlaps["nested"] += 1
                    self.nested_labels[other.label, entity.label] += 1
                else:
                    self.overlaps["crossing"] += 1
                touching |= {id(other), id(entity)}
            self.deepest = max(self.deepest, around)
            active.append(entity)
        self.in_overlaps += len(touching)

    def _note(self, kind: str, place: str) -> None:
        found = self.found[kind]
        found.count += 1
        if not self._listed or len(found.listed) < self._listed:
            found.listed.append(place)

    # Second pass

    def look_again(self, document: Document) -> None:
        """Look in an annotated document for texts of entities that are in no entity; after all were added."""
        if not self._looked_again:
            self._looked_again = True
            self._index_forms()
        if not document.annotated:
            return
        covered = sorted(part for entity in document.entities for part in entity.fragments)
        reach: List[int] = []  # the last character that entities up to here cover
        for _, end in covered:
            reach.append(max(end, reach[-1] if reach else 0))
        begins = [start for start, _ in covered]
        for text, start, end in self._occurrences(document.text):
            before = bisect.bisect_left(begins, end)
            if before and reach[before - 1] > start:
                continue
            form = self.forms[text]
            form.plain += 1
            if len(form.plain_at) < 3:
                form.plain_at.append(f"{document.id}, characters {start}-{end}")

    def _index_forms(self) -> None:
        for form in self.forms:
            words = form.split(" ")
            if len(words) <= LONGEST_FORM and len(form) > 1 and any(char.isalnum() for char in form):
                lengths = self._lengths_from.setdefault(words[0], [])
                if len(words) not in lengths:
                    bisect.insort(lengths, len(words))

    def _occurrences(self, text: str) -> Iterator[Tuple[str, int, int]]:
        """Where texts of entities stand, the longest first, one after another."""
        words = [(match.group(), match.start(), match.end()) for match in WORD.finditer(text)]
        at = 0
        while at < len(words):
            step = 1
            for length in reversed(self._lengths_from.get(words[at][0], ())):
                run = words[at : at + length]
                form = " ".join(word for word, _, _ in run)
                if len(run) == length and form in self.forms:
                    yield form, run[0][1], run[-1][2]
                    step = length
                    break
            at += step

    # What was found

    def to_dict(self) -> Dict[str, Any]:
        """Everything, for JSON. Lengths are in tokens or characters; shares are of all entities."""
        labels = {
            name: {
                "entities": sum(label.tokens.values()),
                "share": sum(label.tokens.values()) / self.entities if self.entities else 0.0,
                "documents": label.documents,
                "texts": label.forms,
                "discontinuous": label.discontinuous,
                "tokens": spread(label.tokens),
                "characters": spread(label.characters),
            }
            for name, label in sorted(self.labels.items(), key=lambda item: (-sum(item[1].tokens.values()), item[0]))
        }
        return {
            "documents": self.documents,
            "annotated_documents": self.annotated,
            "characters": self.characters,
            "tokens": sum(length * n for length, n in self.document_tokens.items()),
            "sentences": self.sentences if self.with_sentences else None,
            "documents_with_sentences": self.with_sentences,
            "entities": self.entities,
            "labels": labels,
            "entity_tokens": spread(sum((label.tokens for label in self.labels.values()), Counter())),
            "entity_characters": spread(sum((label.characters for label in self.labels.values()), Counter())),
            "document_tokens": spread(self.document_tokens),
            "document_entities": spread(self.document_entities),
            "discontinuous": self.discontinuous,
            "overlaps": {
                "entities": self.in_overlaps,
                "pairs": {kind: self.overlaps[kind] for kind in ("nested", "crossing", "same place")},
                "deepest": self.deepest,
                "nested": [
                    {"outer": outer, "inner": inner, "pairs": n}
                    for (outer, inner), n in self.nested_labels.most_common(self._listed or None)
                ],
            },
            "together": [{"labels": list(pair), "documents": n} for pair, n in self.together.most_common()],
            "links": dict(self.links),
            "remarks": dict(self.remarks.most_common()),
            "suspicious": {kind: {"count": f.count, "listed": f.listed} for kind, f in self._all_found().items()},
        }

    def _all_found(self) -> Dict[str, Found]:
        """What was found on the way, and what only the whole shows."""
        late = {
            "several_labels": self._several_labels(),
            "not_everywhere": self._not_everywhere(),
            "labels_alike": [_alike(self.labels, *pair) for pair in labels_alike(self.labels)],
        }
        found = {kind: Found(len(said), said[: self._listed or None]) for kind, said in late.items()}
        return {**self.found, **found}

    def _several_labels(self) -> List[str]:
        """Those first where the rare label is the rarest."""
        several = [(text, form) for text, form in self.forms.items() if len(form.labels) > 1]
        several.sort(key=lambda item: (min(item[1].labels.values()) / sum(item[1].labels.values()), item[0]))
        said = []
        for text, form in several:
            counts = ", ".join(f"{n} × {label}" for label, n in form.labels.most_common())
            rare, _ = form.labels.most_common()[-1]
            said.append(f'"{_short(text)}": {counts}; {rare} at {form.first[rare]}')
        return said

    def _not_everywhere(self) -> List[str]:
        """Those first that are annotated most often and most regularly."""

        def regular(item: Tuple[str, Form]) -> Tuple[float, str]:
            n = sum(item[1].labels.values())
            return -n * n / (n + item[1].plain), item[0]

        said = []
        for text, form in sorted(((t, f) for t, f in self.forms.items() if f.plain), key=regular):
            counts = ", ".join(f"{n} × {label}" for label, n in form.labels.most_common())
            said.append(f'"{_short(text)}": {counts}, {form.plain} × nothing: {"; ".join(form.plain_at)}')
        return said


def spread(lengths: Counter) -> Optional[Dict[str, float]]:
    """Least, mean, median, 95th percentile and greatest of lengths that are counted; None of none."""
    n = sum(lengths.values())
    if not n:
        return None
    order = sorted(lengths)
    below, quantiles = 0, {}
    for length in order:
        below += lengths[length]
        for name, part in (("median", 0.5), ("p95", 0.95)):
            if name not in quantiles and below >= part * n:
                quantiles[name] = length
    mean = sum(length * count for length, count in lengths.items()) / n
    return {"min": order[0], "mean": round(mean, 2), **quantiles, "max": order[-1]}


def labels_alike(labels: Dict[str, Any]) -> Iterator[Tuple[str, str]]:
    """Pairs of labels that differ by case or separators alone, or by one letter, which is not the first, in at least
    four."""
    for one, two in combinations(sorted(labels), 2):
        a, b = (re.sub(r"[\W_]", "", label).casefold() for label in (one, two))
        numbers = [re.findall(r"\d+", label) for label in (a, b)]
        long = min(len(a), len(b)) > 3 and a[:1] == b[:1]
        if (a == b and a) or (long and numbers[0] == numbers[1] and one_edit_apart(a, b)):
            yield one, two


def one_edit_apart(a: str, b: str) -> bool:
    """Whether one letter put in, left out or changed, or two neighbours that changed places, make `b` of `a`."""
    if abs(len(a) - len(b)) > 1 or a == b:
        return False
    if len(a) > len(b):
        a, b = b, a
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), len(a))
    if len(a) < len(b):
        return a[at:] == b[at + 1 :]
    return a[at + 1 :] == b[at + 1 :] or (a[at : at + 2] == b[at : at + 2][::-1] and a[at + 2 :] == b[at + 2 :])


def _alike(labels: Dict[str, Label], one: str, two: str) -> str:
    counts = {label: sum(labels[label].tokens.values()) for label in (one, two)}
    often, rare = sorted(counts, key=lambda label: -counts[label])
    return f"{rare} ({counts[rare]:,}) and {often} ({counts[often]:,})"


def _touched(start: int, end: int, starts: Sequence[int], ends: Sequence[int]) -> Tuple[int, int]:
    """First and last + 1 of the tokens that have a character of a part."""
    return bisect.bisect_right(ends, start), bisect.bisect_left(starts, end)


def _count_tokens(start: int, end: int, starts: Sequence[int], ends: Sequence[int]) -> int:
    first, last = _touched(start, end, starts, ends)
    return max(0, last - first)


def _fits(text: str, part: Tuple[int, int], starts: Sequence[int], ends: Sequence[int]) -> bool:
    """Whether a part begins and ends with tokens, white space at its ends aside."""
    said = text[part[0] : part[1]]
    if not said.strip():
        return True
    start, end = part[0] + len(said) - len(said.lstrip()), part[1] - len(said) + len(said.rstrip())
    first, last = _touched(start, end, starts, ends)
    return first < last and starts[first] == start and ends[last - 1] == end


def _has_edge_punctuation(text: str) -> bool:
    """Whether a text begins or ends with signs that do not belong to it; dots of abbreviations and pairs do."""
    if len(text) < 2 or not any(char.isalnum() for char in text):
        return False
    first, last = text[0], text[-1]
    if first in PUNCTUATION or last in PUNCTUATION + DASHES or (first in DASHES and not text[1].isdigit()):
        return True
    if (first in OPENS and not any(char in OPENS[first] for char in text[1:])) or first in ONLY_CLOSING:
        return True
    if (last in CLOSES and not any(char in CLOSES[last] for char in text[:-1])) or last in ONLY_OPENING:
        return last != '"' or not text[-2].isdigit()  # inches
    word = text.split()[-1].rstrip(".")
    if last == "." and not text.endswith(".."):
        return "." not in word and len(word) > 4 and word.islower()
    return first == "." and text[1].isspace()


def _form(text: str) -> str:
    """A surface text, with one space between its words and signs."""
    return " ".join(WORD.findall(text))


def _named(document: Document, entity: Entity) -> str:
    text = " … ".join(document.text[start:end] for start, end in entity.fragments)
    return f'{entity.label} "{_short(text)}"'


def _short(text: str, most: int = 60) -> str:
    text = text.replace("\n", "⏎").replace("\r", "").replace("\t", "→")
    return text if len(text) <= most else f"{text[: most - 1]}…"
