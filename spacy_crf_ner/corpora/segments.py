"""Documents cut into segments: at a pattern, to a length, never inside an entity."""

import copy
import re
from itertools import chain
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

import numpy as np
from spacy.attrs import SENT_START
from spacy.language import Language
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example
from spacy.util import logger

from ..context import KEY as CONTEXT
from ..context import get_context, set_context
from ..tagging import UNPLACED
from .multi import CorpusExample

NAME = "spacy_crf_ner.Segments.v1"
# attributes of a span group that have a value for each of its spans
ONE_A_SPAN = ("scores",)


def Segments(
    corpus: Callable[[Language], Iterable[Example]],
    pattern: Optional[str] = None,
    max_tokens: Optional[int] = None,
    drop_empty: bool = False,
    target_spans: str = "ents",
    context_words: int = 0,
) -> Callable[[Language], Iterable[Example]]:
    """Cut the documents of another corpus into segments.

    No entity is cut, of `doc.ents` or of any span group: where one stands in the way, the document is cut elsewhere,
    or not. Entities, span groups, sentences and extensions stay what they are in each segment.

    corpus (Callable): Any reader.
    pattern (Optional[str]): A regular expression; each place where it is found ends a segment, to which what was found
        belongs. null: none.
    max_tokens (Optional[int]): Most spaCy tokens of a segment, unless an entity is longer. Where sentences are set it
        ends with one if it can. null: no limit.
    drop_empty (bool): Leave out segments without a target entity. For training only.
    target_spans (str): Where target entities are: "ents" or the name of a span group.
    context_words (int): spaCy tokens of the same document, on each side, that the encoder reads around a segment; see
        `DocumentContext`. 0: none.
    RETURNS (Callable): From nlp to its examples.
    RAISES (ValueError): A setting is out of its range.
    """
    if pattern is not None and len(pattern) > 1 and pattern[0] == pattern[-1] == '"':
        raise ValueError(
            f"{NAME}: pattern = {pattern}: its quotes would be part of the expression. In a configuration a "
            r'backslash is written twice: pattern = "\\n\\s*\\n".'
        )
    try:
        found = re.compile(pattern) if pattern is not None else None
    except re.error as error:
        raise ValueError(f"{NAME}: pattern = {pattern!r} is no regular expression: {error}.") from None
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"{NAME}: max_tokens = {max_tokens} must be at least 1, or null.")
    if context_words < 0:
        raise ValueError(f"{NAME}: context_words = {context_words} must not be negative.")
    return SegmentReader(corpus, found, max_tokens, drop_empty, target_spans, context_words)


class SegmentReader:
    """See `Segments`."""

    def __init__(
        self,
        corpus: Callable[[Language], Iterable[Example]],
        pattern: Optional["re.Pattern[str]"],
        max_tokens: Optional[int],
        drop_empty: bool,
        target_spans: str,
        context_words: int,
    ) -> None:
        self._corpus = corpus
        self._pattern = pattern
        self._max_tokens = max_tokens
        self._drop_empty = drop_empty
        self._target_spans = target_spans
        self._context_words = context_words
        self._reported = False

    def __call__(self, nlp: Language) -> Iterator[Example]:
        documents = made = dropped = whole = 0
        for example in self._corpus(nlp):
            documents += 1
            borders = _shared_borders(example)
            whole += borders is None
            for segment in self._segments(example, borders):
                made += 1
                if self._drop_empty and not _has_entity(segment.reference, self._target_spans):
                    dropped += 1
                    continue
                yield segment
        if not self._reported:
            self._reported = True
            logger.info(
                "%s: %d segments were made of %d documents, and %d without an entity dropped.",
                NAME, made, documents, dropped,
            )  # fmt: skip
            if whole:
                logger.warning(
                    "%s: %d documents are left whole: the texts of prediction and gold are not the same.", NAME, whole
                )

    def _segments(self, example: Example, borders: Optional[np.ndarray]) -> Iterator[Example]:
        reference, predicted = example.reference, example.predicted
        cuts = [] if borders is None else find_cuts(reference, self._pattern, self._max_tokens, borders >= 0)
        if not cuts:
            yield example
            return
        assert borders is not None
        of_reference, of_predicted = _Cutter(reference), _Cutter(predicted)
        ends = [0, *cuts, len(reference)]
        for start, end in zip(ends, ends[1:]):
            gold = of_reference.segment(start, end, self._context_words)
            guess = of_predicted.segment(int(borders[start]), int(borders[end]), self._context_words)
            yield _like(example, guess, gold)


# Where to cut


def find_cuts(
    doc: Doc, pattern: Optional["re.Pattern[str]"], max_tokens: Optional[int], may_cut: Optional[np.ndarray] = None
) -> List[int]:
    """Where segments of a document begin, but for the first: numbers of tokens, rising.

    pattern, max_tokens: See `Segments`.
    may_cut (Optional[np.ndarray]): Before which tokens it may be cut at all, bool, (tokens + 1,); entities are seen to
        here. None: before each.
    """
    allowed = ~inside_entities(doc)
    if may_cut is not None:
        allowed &= may_cut
    allowed[[0, -1]] = False
    cuts = _at_pattern(doc, pattern, allowed) if pattern is not None else []
    if max_tokens is None:
        return cuts
    borders = np.flatnonzero(allowed)
    sentences = np.flatnonzero(allowed[:-1] & _sentence_starts(doc))
    ends = [0, *cuts, len(doc)]
    short = (_to_length(start, end, max_tokens, borders, sentences) for start, end in zip(ends, ends[1:]))
    return sorted({*cuts, *chain.from_iterable(short)})


def inside_entities(doc: Doc) -> np.ndarray:
    """Whether the place before each token, and that after the last, is inside an entity, bool, (tokens + 1,)."""
    depth = np.zeros(len(doc) + 2, dtype=np.int64)
    spans = [(span.start, span.end) for span in chain(doc.ents, *doc.spans.values())]
    idx = np.array([token.idx for token in doc], dtype=np.int64)
    for group in doc.spans.values():
        # what could not be placed on tokens is to be whole all the same
        for start, end, _ in group.attrs.get(UNPLACED, []):
            spans.append((int(np.searchsorted(idx, start, "right")) - 1, int(np.searchsorted(idx, end, "left"))))
    for first, last in spans:
        if last - first > 1:
            depth[first + 1] += 1
            depth[last] -= 1
    return np.cumsum(depth)[:-1] > 0


def _at_pattern(doc: Doc, pattern: "re.Pattern[str]", allowed: np.ndarray) -> List[int]:
    """At the first place between two tokens that is not before the end of what was found."""
    idx = np.array([token.idx for token in doc], dtype=np.int64)
    ends = np.array([match.end() for match in pattern.finditer(doc.text)], dtype=np.int64)
    places = np.unique(np.searchsorted(idx, ends, "left"))
    return [int(place) for place in places if allowed[place]]


def _sentence_starts(doc: Doc) -> np.ndarray:
    """Which tokens begin a sentence, bool, (tokens,); none where nothing is known."""
    if not doc.has_annotation("SENT_START"):
        return np.zeros(len(doc), dtype=bool)
    return doc.to_array([SENT_START]).reshape(-1) == 1


def _to_length(start: int, end: int, max_tokens: int, borders: np.ndarray, sentences: np.ndarray) -> Iterator[int]:
    """Cuts that leave at most so many tokens: the last sentence that fits, or else the last token.

    borders, sentences (np.ndarray): Where it may be cut at all, and where a sentence begins, rising.
    """
    while end - start > max_tokens:
        cut = _last(sentences, start, start + max_tokens) or _last(borders, start, start + max_tokens)
        if cut is None:
            # an entity is longer than a segment may be: it ends where that one does
            later = borders[np.searchsorted(borders, start + max_tokens, "right") :]
            if not len(later) or later[0] >= end:
                return
            cut = int(later[0])
        yield cut
        start = cut


def _last(places: np.ndarray, after: int, up_to: int) -> Optional[int]:
    """The last of some places that lies in (after, up_to]."""
    at = int(np.searchsorted(places, up_to, "right")) - 1
    return int(places[at]) if at >= 0 and places[at] > after else None


def _shared_borders(example: Example) -> Optional[np.ndarray]:
    """For each place between tokens of the gold document that in the other one, -1 where that has none.

    RETURNS (Optional[np.ndarray]): int64, (tokens + 1,); None where the texts are not the same.
    """
    reference, predicted = example.reference, example.predicted
    if len(reference) == len(predicted) and all(a.orth == b.orth for a, b in zip(reference, predicted)):
        return np.arange(len(reference) + 1)
    if reference.text != predicted.text:
        return None
    places = {token.idx: token.i for token in predicted}
    found = [places.get(token.idx, -1) for token in reference]
    return np.array([*found, len(predicted)], dtype=np.int64)


# What a segment holds


class _Cutter:
    """Makes documents of parts of one, with all that is annotated there.

    `Span.as_doc` alone loses span groups and categories, and gives each part the extensions of all others.
    """

    def __init__(self, doc: Doc) -> None:
        self._doc = doc
        self._head: Any = tuple(doc._get_array_attrs())
        self._array = doc.to_array(self._head)  # type: ignore[arg-type]
        self._groups = {name: list(group) for name, group in doc.spans.items()}
        self._starts = {
            name: np.array([s.start for s in spans], dtype=np.int64) for name, spans in self._groups.items()
        }

    def segment(self, start: int, end: int, context_words: int) -> Doc:
        """Tokens `start` to `end`, the last not included, and of those around them the text of so many as context."""
        span = self._doc[start:end]
        made = span.as_doc(array_head=self._head, array=self._array)  # type: ignore[call-arg]
        made.has_unknown_spaces = self._doc.has_unknown_spaces
        made.cats = dict(self._doc.cats)
        made.user_data = self._user_data(span)
        for name, group in self._doc.spans.items():
            made.spans[name] = self._group(made, name, group, span)
        context = _context(self._doc, start, end, context_words)
        if any(context):
            set_context(made, *context)
        return made

    def _user_data(self, span: Span) -> Dict[Any, Any]:
        """Extensions of the span's own tokens and spans, moved; what belongs to the whole document, in each part."""
        found: Dict[Any, Any] = {}
        for key, value in self._doc.user_data.items():
            if key == CONTEXT:
                continue
            if isinstance(key, tuple) and len(key) == 4 and key[0] == "._." and key[2] is not None:
                kind, name, first, last = key
                beyond = first >= span.end_char if last is None else last > span.end_char
                if first < span.start_char or beyond:
                    continue
                key = (kind, name, first - span.start_char, None if last is None else last - span.start_char)
            found[key] = copy.copy(value)
        return found

    def _group(self, made: Doc, name: str, group: SpanGroup, span: Span) -> SpanGroup:
        """A span group of a part; an empty one stays, since it says that there is nothing."""
        starts = self._starts[name]
        here = np.flatnonzero((starts >= span.start) & (starts < span.end)).tolist()
        spans = [_moved(made, self._groups[name][i], span.start) for i in here]
        attrs = copy.deepcopy(group.attrs)
        for key in ONE_A_SPAN:
            if key in attrs:
                attrs[key] = _chosen(attrs[key], here)
        if UNPLACED in attrs:
            first, last = span.start_char, span.end_char
            unplaced = [[a - first, b - first, label] for a, b, label in attrs.pop(UNPLACED) if first <= a < last]
            attrs.update({UNPLACED: unplaced} if unplaced else {})
        return SpanGroup(made, name=name, attrs=attrs, spans=spans)


def _moved(doc: Doc, span: Span, by: int) -> Span:
    start, end = span.start - by, span.end - by
    return Span(doc, start, end, label=span.label, kb_id=span.kb_id, span_id=span.id)


def _chosen(values: Any, places: List[int]) -> Any:
    return values[places] if isinstance(values, np.ndarray) else [values[i] for i in places]


def _context(doc: Doc, start: int, end: int, words: int) -> Tuple[str, str]:
    """Text around a part of a document: so many tokens of it, and where it has fewer, its own context beyond them."""
    before, after = get_context(doc)
    left = [before] if start == 0 or start < words else []
    right = [after] if end == len(doc) or len(doc) - end < words else []
    return (
        " ".join(part for part in (*left, doc[max(0, start - words) : start].text) if part),
        " ".join(part for part in (doc[end : min(len(doc), end + words)].text, *right) if part),
    )


def _like(example: Example, predicted: Doc, reference: Doc) -> Example:
    """An example that is from the same corpus as another one."""
    if isinstance(example, CorpusExample):
        return CorpusExample(predicted, reference, example.corpus)
    return Example(predicted, reference)


def _has_entity(doc: Doc, target: str) -> bool:
    """Whether a document has a target entity, if only one that could not be placed on tokens."""
    if target == "ents":
        return bool(doc.ents)
    return target in doc.spans and bool(len(doc.spans[target]) or doc.spans[target].attrs.get(UNPLACED))
