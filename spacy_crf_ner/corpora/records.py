"""Records: documents as JSON objects and rows of tables have them, in whatever layout, told apart by what they hold.

    text and spans    Prodigy, doccano, spaCy's Doc.to_json() and many others; our own form, which holds all we know
    offsets           spaCy 2: [text, {"entities": [[start, end, label], …]}]
    tokens and tags   Hugging Face: {"tokens": […], "ner_tags": […]}
    paragraphs        spaCy 2's JSON for training

What a record says beside text and entities is kept in `Document.data`.
"""

import itertools
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from .columns import find_scheme
from .document import Document, Problem
from .files import CorpusError
from .names import Names
from .spans import are_words, ends, is_link, is_offset, needs_utf16, take_relation, take_span, to_link, utf16
from .tokens import Place, find_words, has_prefix, is_tag, join_words, set_tags, set_tokens, token_at

Record = Any
# What keys are called; the first that is there and fits counts.
KEYS: Dict[str, Tuple[str, ...]] = {
    "text": ("text", "content", "sentence", "data"),
    "spans": ("spans", "ents", "entities", "labels", "label", "annotations", "conceptMentions"),
    "tokens": ("tokens", "words"),
    "tags": ("ner_tags", "ner", "tags", "labels", "tag"),
    "relations": ("relations",),
    "id": ("id",),
    "group": ("group",),
}
# Keys of lists of records in an object around them.
AROUND = ("examples", "rows", "data", "documents", "annotations")
# Keys that mean something here, so that other data cannot stand under them.
TAKEN = {
    *itertools.chain.from_iterable(KEYS.values()),
    *AROUND,
    *("links", "sentences", "sents", "unknown", "annotated", "paragraphs", "completions", "predictions"),
    *("annotation_id", "lead_time", "features"),
}
TEXT_AND_SPANS, OFFSETS, TAGS, PARAGRAPHS = "text and spans", "offsets of spaCy 2", "tokens and tags", "paragraphs"
REFUSED = ("reject", "ignore")
# Records and tokens from which the scheme of tags is found out.
SAMPLE_RECORDS, SAMPLE_TOKENS = 1000, 200_000
UNKNOWN_TAG = -100
# Characters that are two units of UTF-16.
BEYOND = re.compile(r"[\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Naming:
    """What things are called in records that do not say it themselves.

    keys (Mapping[str, str]): Keys of text, spans, tokens, tags, relations, id, group; what is not named is found out.
    tag_names (Sequence[str]): Of tags that are numbers.
    spans (str): Of a Doc's JSON: "ents" or a span group; "": the group "entities" where there is one, otherwise ents.
    RAISES (CorpusError): A key is none of these.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    tag_names: Sequence[str] = ()
    spans: str = ""

    def find(self, wanted: str, record: Mapping[str, Any], fits: Callable[[Any], bool]) -> Optional[str]:
        names = (self.keys[wanted],) if wanted in self.keys else KEYS[wanted]
        return next((name for name in names if name in record and fits(record[name])), None)

    def pick(self, value: Any) -> Optional[List[Any]]:
        """The spans of a record's value: a list, or one of the groups of a Doc."""
        if isinstance(value, Mapping):
            value = value.get(self.spans or "entities")
        return value if _are_spans(value) else None


def is_label_studio(record: Record) -> bool:
    """Whether a record is a task of Label Studio, which has a reader of its own."""
    if not isinstance(record, dict):
        return False
    if "annotation_id" in record and "lead_time" in record:
        return True
    found = (record.get(key) for key in ("annotations", "completions", "predictions"))
    return any(isinstance(list_, list) and any(isinstance(a, dict) and "result" in a for a in list_) for list_ in found)


def kind_of(record: Record, naming: Naming = Naming()) -> str:  # it is frozen
    """Which layout a record has; "" where it is none."""
    if _is_offsets(record):
        return OFFSETS
    if not isinstance(record, dict) or is_label_studio(record):
        return ""
    if isinstance(record.get("paragraphs"), list):
        return PARAGRAPHS
    text = naming.find("text", record, _is_text)
    tags = naming.find("tags", record, _are_tags)
    if tags is not None and naming.find("spans", record, lambda value: bool(naming.pick(value))) is None:
        tokens = naming.find("tokens", record, are_words)
        if tokens is not None and len(record[tokens]) == len(record[tags]):
            return TAGS
        # words of a text are meant where there are as many of them as tags
        known = all(isinstance(tag, str) and is_tag(tag) for tag in record[tags])
        if tokens is None and text is not None and known and len(record[text].split()) == len(record[tags]) > 0:
            return TAGS
    return TEXT_AND_SPANS if text is not None else ""


def around(record: Record) -> Optional[List[Record]]:
    """The records of an object that holds a list of them, as {"data": […]}; None: it is none."""
    if not isinstance(record, dict) or kind_of(record) or is_label_studio(record):
        return None
    for key in AROUND:
        found = record.get(key)
        if isinstance(found, list):
            rows = [row["row"] if isinstance(row, dict) and isinstance(row.get("row"), dict) else row for row in found]
            rows = [row for row in rows if row is not None]
            if any(kind_of(row) for row in rows[:1]):
                return rows
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_offsets(record: Record) -> bool:
    return (
        isinstance(record, list)
        and len(record) == 2
        and isinstance(record[0], str)
        and isinstance(record[1], dict)
        and _are_spans(record[1].get("entities"))
    )


def _are_tags(value: Any) -> bool:
    return isinstance(value, list) and (
        all(isinstance(tag, str) for tag in value) or all(is_offset(tag) for tag in value)
    )


def _are_spans(value: Any) -> bool:
    """Whether something is a list of what could be entities; what is wrong with single ones is said later."""
    return isinstance(value, list) and all(
        isinstance(span, dict) or (isinstance(span, list) and len(span) > 2) for span in value[:1]
    )


class RecordReader:
    """Turns the records of a corpus into Documents.

    naming (Naming): What things are called.
    """

    def __init__(self, naming: Naming = Naming()) -> None:  # it is frozen
        unknown = ", ".join(set(naming.keys) - set(KEYS))
        if unknown:
            raise CorpusError(f"--keys {unknown}: there is no such thing in records. There are {', '.join(KEYS)}.")
        self._naming = naming
        self._names = Names()

    def read(
        self, records: Iterable[Tuple[int, Record]], source: str, stem: str, tag_names: Sequence[str] = ()
    ) -> Iterator[Document]:
        """The Documents of a file.

        records (Iterable[Tuple[int, Record]]): Line and record. source (str): What messages call the file.
        stem (str): What documents without an id are called, before their number.
        tag_names (Sequence[str]): Of tags that are numbers, where the file says them.
        YIELDS (Document): With an id that no other has.
        RAISES (CorpusError): A record has no layout that is known, or another one than those before.
        """
        file = _File(source, stem, self._naming, self._naming.tag_names or tag_names)
        number = 0
        for line, record in file.of_one_kind(records):
            for document in file.documents(record, line):
                number += 1
                document.id = self._unique(document, f"{stem}-{number:06}", line)
                yield document

    def _unique(self, document: Document, otherwise: str, line: int) -> str:
        wanted = document.id or otherwise
        name = wanted
        for suffix in itertools.chain([otherwise], (f"{otherwise}-{i}" for i in itertools.count(2))):
            if self._names.add(name):
                break
            name = f"{wanted}-{suffix}" if document.id else suffix
        if name != wanted and document.id:
            message = f'another document has the id "{wanted}": this one is now called "{name}".'
            document.problems.append(Problem(f"{document.source}:{line}", "id used twice", message, False))
        return name


class _File:
    """See `RecordReader.read`."""

    def __init__(self, source: str, stem: str, naming: Naming, tag_names: Sequence[str]) -> None:
        self._source = source
        self._naming = naming
        self._label_names = self._tag_names = list(tag_names)
        if tag_names and not any(has_prefix(name) for name in tag_names):
            # labels alone: neighbours with the same one are one entity
            self._tag_names = [name if is_tag(name) else f"I-{name}" for name in tag_names]
        self._kind = ""
        self._scheme = "iob2"

    def of_one_kind(self, records: Iterable[Tuple[int, Record]]) -> Iterator[Tuple[int, Record]]:
        """The records, all of the layout of the first. Those before which the scheme is known are looked at first."""
        head: List[Tuple[int, Record]] = []
        tags: List[Sequence[str]] = []
        rest = iter(records)
        for line, record in rest:
            self._check(line, record)
            head.append((line, record))
            if self._kind not in (TAGS, PARAGRAPHS):
                break
            tags += self._sequences(record, line)
            if len(head) == SAMPLE_RECORDS or sum(map(len, tags)) > SAMPLE_TOKENS:
                break
        self._scheme = find_scheme(tags) if tags else "iob2"
        yield from head
        head.clear()
        for line, record in rest:
            self._check(line, record)
            yield line, record

    def _check(self, line: int, record: Record) -> None:
        kind = kind_of(record, self._naming)
        if not kind:
            raise CorpusError(f"{self._source}:{line}: {_what_it_is(record)}")
        if self._kind and kind != self._kind:
            raise CorpusError(
                f"{self._source}:{line}: the record has {kind}, those before it {self._kind}. Take them apart."
            )
        self._kind = kind

    def _sequences(self, record: Record, line: int) -> List[Sequence[str]]:
        if self._kind == TAGS:
            return [self._tags(record[self._naming.find("tags", record, _are_tags) or ""], line)]
        paragraphs = (paragraph for paragraph in record["paragraphs"] if isinstance(paragraph, dict))
        sentences = itertools.chain.from_iterable(_sentences(paragraph) for paragraph in paragraphs)
        return [[tag for tag in (_said_tag(token) for token in sentence) if is_tag(tag)] for sentence in sentences]

    def _tags(self, tags: Sequence[Any], line: int) -> List[str]:
        """Names of tags. RAISES (CorpusError): There is no such tag, or no name for a number."""
        found = []
        for tag in tags:
            if is_offset(tag):
                tag = self._named(tag, line)
            if not is_tag(tag):
                raise CorpusError(
                    f'{self._source}:{line}: "{tag[:60]}" is no entity tag: O, or B-, I-, E-, S-, L-, U- and a label. '
                    "Say with --keys tags=NAME where those are."
                )
            found.append(tag)
        return found

    def _named(self, number: int, line: int) -> str:
        if number == UNKNOWN_TAG:
            return "-"
        if not self._tag_names:
            raise CorpusError(
                f"{self._source}:{line}: the tags are numbers, and nothing says what they mean. Give their names in "
                "their order: --tag-names O,B-PER,I-PER,… (in a config: tag_names)."
            )
        if not 0 <= number < len(self._tag_names):
            raise CorpusError(
                f"{self._source}:{line}: the tag {number} is none of the {len(self._tag_names)} that have a name."
            )
        return self._tag_names[number]

    def documents(self, record: Record, line: int) -> Iterator[Document]:
        if self._kind == PARAGRAPHS:
            yield from self._paragraphs(record, line)
        elif self._kind == TAGS:
            yield self._tagged(record, line)
        else:
            yield self._spanned({**record[1], "text": record[0]} if self._kind == OFFSETS else record, line)

    # Text and spans

    def _spanned(self, record: Mapping[str, Any], line: int) -> Document:
        naming = self._naming
        rest = dict(record)
        text = rest.pop(naming.find("text", record, _is_text) or "text")
        document = self._document(rest, text, line)
        where = f"{self._source}:{line}"
        key = naming.find("spans", record, lambda value: naming.pick(value) is not None)
        spans = naming.pick(record[key]) if key is not None else None
        units = self._units(document, rest, spans or [], where)
        self._take_tokens(document, rest, where, units)
        said = rest.pop("annotated", None)
        answer = rest.get("answer")
        document.annotated = said if isinstance(said, bool) else key is not None or answer == "accept"
        if spans is not None and key is not None and (isinstance(said, bool) or answer not in REFUSED):
            groups = rest.pop(key)
            if isinstance(groups, dict) and len(groups) > 1:
                rest[key] = {name: group for name, group in groups.items() if group is not spans}
            for span in spans:
                take_span(document, span, where, line, self._label_names, units)
        if not isinstance(said, bool) and answer in REFUSED:
            document.annotated = False
            message = f'its answer is "{answer}": it counts as not annotated.'
            document.problems.append(Problem(where, f"answer: {answer}", message, False))
        elif not isinstance(said, bool) and not document.annotated:
            message = "the record has no entities, not even an empty list of them: it counts as not annotated."
            document.problems.append(Problem(where, "record without entities", message, False))
        self._take_links(document, rest, where)
        document.data = _data(rest)
        return document

    def _document(self, rest: Dict[str, Any], text: str, line: int) -> Document:
        """A Document with what all layouts can say of it, which is taken out of the rest."""
        document = Document(id="", text=text, source=self._source)
        for name in ("id", "group"):
            key = self._naming.find(name, rest, lambda value: is_offset(value) or bool(_is_text(value) and value))
            if key is not None:
                setattr(document, name, str(rest.pop(key)))
        return document

    def _units(
        self, document: Document, rest: Mapping[str, Any], spans: Sequence[Any], where: str
    ) -> Optional[List[int]]:
        """See `spans.utf16`, where tokens or spans prove that offsets count so; otherwise None."""
        text = document.text
        if text.isascii() or not BEYOND.search(text):
            return None
        key = self._naming.find("tokens", rest, lambda value: isinstance(value, list))
        tokens = rest[key] if key is not None else []
        units = utf16(text)
        proven = _places(text, tokens) is None and _places(text, tokens, units) is not None
        if not proven and not needs_utf16(text, spans):
            return None
        message = "its offsets count units of UTF-16, as JavaScript and Java do: they were taken so."
        document.problems.append(Problem(where, "offsets of UTF-16", message, False))
        return units

    def _take_tokens(
        self, document: Document, rest: Dict[str, Any], where: str, units: Optional[Sequence[int]]
    ) -> None:
        key = self._naming.find("tokens", rest, lambda value: isinstance(value, list))
        if key is None:
            return
        tokens = rest.pop(key)
        places = _places(document.text, tokens, units)
        if places is None:
            if tokens:
                rest[key] = tokens
                message = f'its "{key}" are not the tokens of its text: the text is cut anew.'
                document.problems.append(Problem(where, "tokens that do not fit", message, False))
            return
        if any(set(token) - {"id", "text", "start", "end", "ws"} for token in tokens if isinstance(token, dict)):
            rest[key] = tokens  # what else is said of them
        begins = _begins(rest.get("sentences"), len(places))
        if begins is not None:
            del rest["sentences"]
        unknown = _begins(rest.get("unknown"), len(places))
        if unknown is not None:
            del rest["unknown"]
        set_tokens(document, places, begins or [])
        document.unknown = [token_at(document, places[i][0]) for i in unknown or []]
        sents = rest.get("sents")
        starts = [s.get("start") for s in sents if isinstance(s, dict)] if isinstance(sents, list) else []
        known: Dict[Any, int] = {start: i for i, (start, _) in enumerate(document.tokens or [])}
        if starts and len(starts) == len(sents or []) and all(is_offset(s) and s in known for s in starts):
            document.sentences = sorted({known[start] for start in starts})
            del rest["sents"]

    def _take_links(self, document: Document, rest: Dict[str, Any], where: str) -> None:
        links = rest.get("links")
        if isinstance(links, list) and all(is_link(link) for link in links):
            document.links = [to_link(link) for link in rest.pop("links")]
        key = self._naming.find("relations", rest, lambda value: isinstance(value, list))
        if key is None:
            return
        left = [relation for relation in rest.pop(key) if not take_relation(document, relation)]
        if left:
            rest[key] = left
            message = f"{len(left)} of its relations do not join two of its entities: they are kept as they are."
            document.problems.append(Problem(where, "relation of what is no entity", message, False))

    # Tokens and tags

    def _tagged(self, record: Mapping[str, Any], line: int) -> Document:
        naming = self._naming
        rest = dict(record)
        tags = self._tags(rest.pop(naming.find("tags", record, _are_tags) or ""), line)
        key = naming.find("tokens", record, are_words)
        text_key = naming.find("text", record, _is_text)
        text = record[text_key] if text_key is not None else None
        words = rest.pop(key) if key is not None else (text or "").split()
        places = find_words(text, words) if text is not None else None
        if text_key is not None and places is not None:
            del rest[text_key]
        if text is None or places is None:
            text, places = join_words(words)
        document = self._document(rest, text, line)
        begins = _begins(rest.get("sentences"), len(words))
        if begins is not None:
            del rest["sentences"]
        set_tags(document, places, tags, begins or [], self._scheme, line)
        document.data = _data(rest)
        return document

    # spaCy 2's JSON

    def _paragraphs(self, record: Mapping[str, Any], line: int) -> Iterator[Document]:
        paragraphs = record["paragraphs"]
        for number, paragraph in enumerate(paragraphs, start=1):
            sentences = _sentences(paragraph) if isinstance(paragraph, dict) else []
            words = [_said_word(token) for sentence in sentences for token in sentence]
            if not isinstance(paragraph, dict) or any(word is None for word in words):
                raise CorpusError(
                    f'{self._source}:{line}: a paragraph is not of the form {{"sentences": [{{"tokens": …'
                )
            tags = self._tags([_said_tag(token) for sentence in sentences for token in sentence], line)
            raw = paragraph.get("raw")
            places = find_words(raw, words) if isinstance(raw, str) else None  # type: ignore[arg-type]
            text = raw
            if places is None:
                text, places = join_words(words)  # type: ignore[arg-type]
            rest = {key: value for key, value in record.items() if key != "paragraphs"}
            document = self._document(rest, text, line)  # type: ignore[arg-type]
            if document.id and len(paragraphs) > 1:
                document.group = document.group or document.id
                document.id = f"{document.id}-{number}"
            begins = [0, *itertools.accumulate(len(sentence) for sentence in sentences)][:-1]
            lengths = [len(sentence) for sentence in sentences]
            begins = [begin for begin, length in zip(begins, lengths) if length]
            set_tags(document, places, tags, begins, self._scheme, line)
            if not any(_has_tag(token) for sentence in sentences for token in sentence):
                document.annotated, document.unknown = False, []
            rest.update({key: value for key, value in paragraph.items() if key not in ("raw", "sentences")})
            if any(set(token) - {"id", "orth", "ner"} for sentence in sentences for token in sentence):
                rest["sentences"] = paragraph["sentences"]
            document.data = _data(rest)
            yield document


def _what_it_is(record: Record) -> str:
    if is_label_studio(record):
        return "it is a task of Label Studio, which is a format of its own."
    known = "text and spans, or tokens and tags; or name its keys with --keys text=…,spans=…,tokens=…,tags=…"
    if isinstance(record, dict):
        keys = ", ".join(str(key)[:30] for key in list(record)[:12])
        return f"the record is of no kind that is known. Its keys are {keys or 'none'}; it should have {known}."
    return f"{str(record)[:60]} is no record. It should have {known}."


def _begins(value: Any, length: int) -> Optional[List[int]]:
    """Indices of tokens; None: they are none."""
    if isinstance(value, list) and all(is_offset(i) and 0 <= i < length for i in value):
        return value
    return None


def _places(text: str, tokens: Sequence[Any], units: Optional[Sequence[int]] = None) -> Optional[List[Place]]:
    """Where the tokens of a record stand in its text; None: they do not fit. units: See `spans.utf16`."""
    if not tokens:
        return None if text else []
    if all(isinstance(token, str) for token in tokens):
        return find_words(text, tokens) if all(tokens) else None
    places = []
    at = 0
    for token in tokens:
        if not isinstance(token, dict):
            return None
        found = ends(token)
        if found is None:
            words = [token.get("text") for token in tokens if isinstance(token, dict)]
            fit = len(words) == len(tokens) and all(isinstance(word, str) and word for word in words)
            return find_words(text, words) if fit else None  # type: ignore[arg-type]
        start, end = found
        if units is not None and 0 <= start <= end < len(units):
            start, end = units[start], units[end]
        if not at <= start < end <= len(text) or text[at:start].strip():
            return None
        if token.get("text", text[start:end]) != text[start:end]:
            return None
        places.append((start, end))
        at = end
    return None if text[at:].strip() else places


def _data(rest: Dict[str, Any]) -> Dict[str, Any]:
    """What else a record says; our own form has what could be mistaken for something else under "data"."""
    nested = rest.get("data")
    if isinstance(nested, dict) and not set(nested) & (set(rest) - {"data"}):
        return {**{key: value for key, value in rest.items() if key != "data"}, **nested}
    return rest


def _sentences(paragraph: Mapping[str, Any]) -> List[List[Any]]:
    sentences = paragraph.get("sentences")
    found = [s.get("tokens") if isinstance(s, dict) else None for s in sentences] if isinstance(sentences, list) else []
    return [
        [token if isinstance(token, dict) else {} for token in tokens] for tokens in found if isinstance(tokens, list)
    ]


def _said_word(token: Mapping[str, Any]) -> Optional[str]:
    word = token.get("orth")
    return word if isinstance(word, str) else None


def _has_tag(token: Mapping[str, Any]) -> bool:
    return isinstance(token.get("ner"), str)


def _said_tag(token: Mapping[str, Any]) -> str:
    return token["ner"] if _has_tag(token) else "-"
