"""Which documents to annotate next: those that a recogniser is least sure of, and of these the ones that differ."""

from typing import Any, List, NamedTuple, Sequence

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc

from ..corpora.selection import choose, least_sure, word_vectors
from ..crf.calibration import prepared, recogniser
from ..crf.model import head_module
from ..crf.pipe import CRFEntityRecognizer
from ..crf.uncertainty import uncertainty

DISTANCES = ("vectors", "words")


class Suggestion(NamedTuple):
    """document (int): Its place among all. uncertainty (float): How unsure the recogniser is of it."""

    document: int
    uncertainty: float


def suggest(
    nlp: Language,
    docs: Sequence[Doc],
    n: int,
    *,
    name: str = "",
    by: str = "entropy",
    per_token: bool = False,
    spread: float = 1.0,
    distance: str = "vectors",
) -> List[Suggestion]:
    """Choose documents whose annotation teaches most.

    nlp (Language): A trained pipeline.
    docs (Sequence[Doc]): Not annotated, as `nlp.make_doc` makes them.
    n (int): How many to choose.
    name (str): Which component; "": the only `crf_ner` there is.
    by (str): What is least sure: "entropy", "best", "errors" or "margin"; see `crf.uncertainty`.
    per_token (bool): Divide that by the number of tokens, so that long documents are not chosen for their length.
    spread (float): Above 1: not the n least sure, but of so many times n the ones that differ most.
    distance (str): What differs: the mean "vectors" of the pipeline's embedding, or "words", weighted by tf-idf.
    RETURNS (List[Suggestion]): The first is to be annotated first. Empty documents are never among them.
    """
    pipe = recogniser(nlp, name)
    ready = prepared(nlp, pipe, docs)
    unsure = np.full(len(ready), -np.inf)
    crf = head_module(pipe.model).crf
    for batch in pipe.chains(ready):
        found = uncertainty(crf, batch.emissions, batch.lengths, batch.possible, pipe.temperature)[by]
        tokens = np.array([len(ready[i]) for i in batch.documents])
        unsure[batch.documents] = found / tokens if per_token else found
    solid = int(np.isfinite(unsure).sum())
    pool = least_sure(unsure, min(solid, round(n * spread)))
    if spread > 1:
        members = [ready[i] for i in pool]
        vectors = word_vectors(members) if distance == "words" else mean_vectors(pipe, members)
        pool = [pool[i] for i in choose(unsure[pool], vectors, n)]
    return [Suggestion(i, float(unsure[i])) for i in pool[:n]]


def mean_vectors(pipe: CRFEntityRecognizer, docs: Sequence[Doc]) -> np.ndarray:
    """Mean of the token vectors that a recogniser's embedding gives; float32, (documents, width)."""
    tok2vec: Any = pipe.model.get_ref("tok2vec")
    rows: List[np.ndarray] = []
    for at in range(0, len(docs), 256):
        found = tok2vec.predict(list(docs[at : at + 256]))
        rows += [pipe.model.ops.to_numpy(vectors).mean(0) for vectors in found]
    return np.stack(rows)
