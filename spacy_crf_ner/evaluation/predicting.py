"""What a pipeline finds in documents, when it is given their texts and nothing of their annotation."""

import math
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Literal, Optional, Sequence, Tuple

from spacy.language import Language
from spacy.tokens import Doc

from ..context import add_context
from ..corpora.document import Document
from .matching import Mention
from .scorers import solid_tokens, spans_of, trimmed

Tokens = Literal["auto", "file", "model"]
TOKENS: Tuple[Tokens, ...] = ("auto", "file", "model")
# Where a Doc holds the number of its source.
SOURCE = "spacy_crf_ner.source"


@dataclass(frozen=True)
class Place:
    """Where a pipeline writes its entities.

    output (str): "ents" or a span group. scores_keys (Tuple[str, ...]): Span groups that have their probabilities.
    labels (Optional[Tuple[str, ...]]): All that it can find, where they were given to it; None: they were found in the
        training data, and gold of other labels is missed.
    """

    output: str
    scores_keys: Tuple[str, ...] = ()
    labels: Optional[Tuple[str, ...]] = None


def find_place(nlp: Language, output: str = "") -> Place:
    """Find where a pipeline writes its entities.

    output (str): "ents" or a span group; "": where its recogniser writes, and where it has none of ours "ents".
    RAISES (ValueError): It has several that write to different places.
    """
    # recognisers by what they have, since evaluation knows nothing of models
    everything: List[Tuple[str, Any]] = list(nlp.pipeline)
    pipes = [(name, pipe) for name, pipe in everything if "output_spans" in (getattr(pipe, "cfg", None) or {})]
    places = {pipe.cfg["output_spans"]: name for name, pipe in pipes}
    if not output and len(places) > 1:
        named = ", ".join(f"{name} writes to {place}" for place, name in places.items())
        raise ValueError(f"{named}: say with --output-spans which of them is to be scored.")
    output = output or next(iter(places), "ents")
    here = [pipe for _, pipe in pipes if pipe.cfg["output_spans"] == output]
    given = bool(here) and all(pipe.cfg["labels_given"] for pipe in here)
    return Place(
        output,
        tuple(dict.fromkeys(pipe.scores_key for pipe in here if pipe.scores_key is not None)),
        tuple(label for pipe in here for label in pipe.labels) if given else None,
    )


@dataclass
class Prediction:
    """What was found in one document.

    found (Dict[Mention, Optional[float]]): Entities by characters, with their probabilities where there are any.
    tokens (List[Tuple[int, int]]): First character and last + 1 of each token that the pipeline made or was given;
    solid (List[Tuple[int, int]]): those that are not white space.
    """

    found: Dict[Mention, Optional[float]]
    tokens: List[Tuple[int, int]]
    solid: List[Tuple[int, int]]


def predict(
    nlp: Language,
    documents: Iterable[Document],
    place: Place,
    tokens_of_file: bool,
    context: int = 0,
    sources: Optional[Sequence[Optional[int]]] = None,
) -> Iterator[Prediction]:
    """Run a pipeline over the texts of documents.

    tokens_of_file (bool): It is given the tokens that a document has, rather than those of its own tokenizer.
    context (int): So many tokens of the documents before and after stand around each as context; 0: none.
    sources (Optional[Sequence[Optional[int]]]): Where each document is from, None for one by itself: only those from
        the same source that follow each other are context. None: all are from one.
    RAISES (ValueError): The pipeline gives back other documents than it was given.
    """
    texts: List[str] = []
    blank: Iterable[Doc] = (_blank(nlp, document, tokens_of_file, texts) for document in documents)
    if context and sources is not None:
        blank = add_context(map(_with_source, blank, sources), context, SOURCE)
    elif context:
        blank = add_context(blank, context)
    docs = nlp.pipe(blank)
    number = 0
    for number, doc in enumerate(docs, start=1):
        if doc.text != texts[number - 1]:
            raise ValueError(f"Document {number:,}: what the pipeline gave back has another text than it was given.")
        tokens = [(token.idx, token.idx + len(token)) for token in doc]
        yield Prediction(_found(doc, place), tokens, solid_tokens(doc))
    if number < len(texts):
        raise ValueError(f"The pipeline gave back {number:,} of {len(texts):,} documents.")


def _with_source(doc: Doc, source: Optional[int]) -> Doc:
    if source is not None:
        doc.user_data[SOURCE] = source
    return doc


def _blank(nlp: Language, document: Document, tokens_of_file: bool, texts: List[str]) -> Doc:
    """A Doc that knows nothing of the annotation; its text is noted."""
    texts.append(document.text)
    if document.tokens is None or not tokens_of_file:
        return nlp.make_doc(document.text)
    words = [document.text[start:end] for start, end in document.tokens]
    follows = [start for start, _ in document.tokens[1:]] + [len(document.text)]
    return Doc(nlp.vocab, words=words, spaces=[end < after for (_, end), after in zip(document.tokens, follows)])


def _found(doc: Doc, place: Place) -> Dict[Mention, Optional[float]]:
    known: Dict[Tuple[int, int, str], float] = {}
    for key in dict.fromkeys([*place.scores_keys, place.output]):
        group = doc.spans.get(key) if key != "ents" else None
        if group is not None:
            for span, probability in zip(group, group.attrs.get("scores", [])):
                # of a model that has gone astray there is none
                if math.isfinite(probability):
                    known[span.start, span.end, span.label_] = float(probability)
    return {trimmed(s): known.get((s.start, s.end, s.label_)) for s in spans_of(doc, place.output)}
