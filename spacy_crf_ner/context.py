"""Text around a document: neighbours from the same source, which the encoder reads and nothing else sees."""

from collections import deque
from typing import Any, Callable, Deque, Iterable, Iterator, List, Optional, Sequence, Tuple

from spacy.tokens import Doc
from spacy.util import logger

# Where it is kept: `doc.user_data[KEY] = [text before, text after]`, which .spacy files and copies of a Doc keep too.
KEY = "spacy_crf_ner.context"


def set_context(doc: Doc, before: str, after: str) -> None:
    """Say what stands before and after a document in its source."""
    doc.user_data[KEY] = [before, after]


def get_context(doc: Doc) -> Tuple[str, str]:
    """Text before and after a document; empty where nobody has set any."""
    before, after = doc.user_data.get(KEY, ("", ""))
    return before, after


def add_context(docs: Iterable[Doc], words: int = 64, source: Optional[str] = None) -> Iterator[Doc]:
    """Give each document its neighbours as context.

    docs (Iterable[Doc]): In the order of their source.
    words (int): spaCy tokens on each side; of them the encoder gets as many as fit into its window.
    source (Optional[str]): Key of `doc.user_data` that says which source a document is from; only documents of the same
        source that follow each other are neighbours, and one without the key has none. None: all are of one source.
    YIELDS (Doc): The same documents.
    RAISES (ValueError): words is less than 1.
    """
    if words < 1:
        raise ValueError(f"words = {words}: a context has at least 1 word on each side.")
    any_docs = any_named = False
    for doc, before, after in with_neighbours(docs, words, source, _only_docs):
        any_docs, any_named = True, any_named or source in doc.user_data
        set_context(doc, before, after)
        yield doc
    if source is not None and any_docs and not any_named:
        logger.warning('source = "%s": no document has that in its user_data, so none has context.', source)


def _only_docs(doc: Any) -> Doc:
    if not isinstance(doc, Doc):
        raise TypeError(f"add_context takes Docs, not {type(doc).__name__}: map(nlp.make_doc, texts).")
    return doc


def with_neighbours(
    items: Iterable[Any], words: int, source: Optional[str], doc_of: Callable[[Any], Doc]
) -> Iterator[Tuple[Any, str, str]]:
    """Items with the text before and after their documents; see `add_context`.

    They come as soon as enough of what follows them is known.
    """
    run: Any = None
    passed: Deque[Doc] = deque()  # what stands before the first that waits, no more than is needed
    waiting: Deque[Tuple[Any, Doc]] = deque()
    ahead = 0  # tokens after the first that waits

    def first() -> Tuple[Any, str, str]:
        nonlocal ahead
        item, doc = waiting.popleft()
        found = item, _end_of(passed, words), _start_of((other for _, other in waiting), words)
        ahead -= len(waiting[0][1]) if waiting else 0
        if len(doc):
            passed.append(doc)
            while sum(map(len, passed)) - len(passed[0]) >= words:
                passed.popleft()
        return found

    for number, item in enumerate(items):
        doc = doc_of(item)
        name = None if source is None else doc.user_data.get(source, ("alone", number))
        if name != run:
            while waiting:
                yield first()
            passed.clear()
            run = name
        ahead += len(doc) if waiting else 0
        waiting.append((item, doc))
        while ahead >= words:
            yield first()
    while waiting:
        yield first()


def _start_of(docs: Iterable[Doc], words: int) -> str:
    """Text of the first tokens of some documents."""
    parts: List[str] = []
    for doc in docs:
        if words <= 0:
            break
        parts.append(doc[:words].text)
        words -= len(doc)
    return " ".join(part for part in parts if part)


def _end_of(docs: Sequence[Doc], words: int) -> str:
    """Text of the last tokens of some documents."""
    parts: List[str] = []
    for doc in reversed(docs):
        if words <= 0:
            break
        parts.append(doc[max(0, len(doc) - words) :].text)
        words -= len(doc)
    return " ".join(part for part in reversed(parts) if part)
