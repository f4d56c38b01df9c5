"""Text around a document: neighbours from the same source, which the encoder reads and nothing else sees."""

from itertools import groupby
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple

from spacy.tokens import Doc

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
    for group in by_source(docs, source, lambda doc: doc):
        for doc, (before, after) in zip(group, neighbours(group, words)):
            set_context(doc, before, after)
            yield doc


def by_source(items: Iterable[Any], source: Optional[str], doc_of: Callable[[Any], Doc]) -> Iterator[List[Any]]:
    """Runs of items whose documents are from the same source; see `add_context`."""

    def name(numbered: Tuple[int, Any]) -> Tuple[bool, Any]:
        number, item = numbered
        if source is None:
            return True, None
        found = doc_of(item).user_data.get(source)
        return (False, number) if found is None else (True, found)

    for _, run in groupby(enumerate(items), name):
        yield [item for _, item in run]


def neighbours(docs: Sequence[Doc], words: int) -> List[Tuple[str, str]]:
    """Text of the `words` tokens before and after each of some documents that stand one after another."""
    found = []
    for i in range(len(docs)):
        before: List[str] = []
        missing, j = words, i - 1
        while missing and j >= 0:
            part = docs[j][-missing:] if len(docs[j]) else docs[j][:0]
            before.append(part.text)
            missing, j = missing - len(part), j - 1
        after: List[str] = []
        missing, j = words, i + 1
        while missing and j < len(docs):
            part = docs[j][:missing]
            after.append(part.text)
            missing, j = missing - len(part), j + 1
        found.append((" ".join(part for part in reversed(before) if part), " ".join(part for part in after if part)))
    return found
