"""A pipeline's scores on annotated documents: everything that metrics.json and predictions.jsonl hold.

Two kinds of gold are scored side by side. "characters": every entity as it was annotated, by its own offsets; what
does not fit the pipeline's tokens, or cannot stand where it writes, is missed. "aligned": gold as training and
`spacy evaluate` see it, on the pipeline's tokens, and in `doc.ents` without what overlaps.
"""

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import (
    Any,
    Callable,
    Collection,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc

from ..corpora.document import Document
from ..corpora.files import CorpusError
from ..corpora.placing import ALL_ENTITIES, to_doc
from .earlier import EarlierPredictions, Found
from .intervals import Bootstrap, Difference, compare
from .matching import Mention, mention, on_tokens
from .metrics import ComparedPart, Comparison, Confusion, DocumentRow, Evaluation, GroupScores, Part, Scores
from .predicting import TOKENS, Place, Prediction, Tokens, find_place, predict
from .scorers import gold_mentions, touches_missing
from .scores import (
    DocumentScores,
    Overlap,
    Table,
    Triple,
    kinds_table,
    macro_average,
    measure,
    precision_recall_f1,
    score,
    score_document,
    score_each,
    semeval,
    triples,
)

# Longest entity of each row, in tokens, and what the row is called.
LENGTHS = ((1, "1"), (2, "2"), (3, "3"), (4, "4"), (5, "5"), (10, "6-10"), (None, "11+"))

Progress = Callable[[Iterable[Prediction], str, int], Iterable[Prediction]]


@dataclass(frozen=True)
class Settings:
    """How to evaluate.

    overlap (Overlap): When an entity counts as found in part.
    samples (int): How often documents are drawn for intervals; 0: no intervals, and no comparison.
    level (float): Share of the samples inside an interval.
    exchanges (int): How many ways of exchanging two models' documents are drawn to compare them.
    seed (int): For both.
    by (Tuple[str, ...]): Attributes of documents for whose values scores are given apart: keys of `Document.data`, or
        "group".
    tokens (str): What the pipeline is given: "file": the tokens of the file, where it has any; "model": the text, for
        its own tokenizer; "auto": tokens where the annotation is by tokens (columns), otherwise the text.
    output_spans (str): Where predictions are, "ents" or a span group; "": where the recogniser writes.
    context (int): Tokens of the documents before and after that stand around each as context.
    context_source (Optional[str]): Attribute of documents that says which source they are from: only documents of the
        same source are context. None: all are of one.
    RAISES (ValueError): A setting is out of its range.
    """

    overlap: Overlap = field(default_factory=Overlap)
    samples: int = 1000
    level: float = 0.95
    exchanges: int = 10_000
    seed: int = 0
    by: Tuple[str, ...] = ()
    tokens: Tokens = "auto"
    output_spans: str = ""
    context: int = 0
    context_source: Optional[str] = None

    def __post_init__(self) -> None:
        if self.tokens not in TOKENS:
            raise ValueError(f"--tokens {self.tokens}: it is one of {', '.join(TOKENS)}.")
        for option, value in (("--samples", self.samples), ("--context", self.context), ("--seed", self.seed)):
            if value < 0:
                raise ValueError(f"{option} {value}: it must not be negative.")
        if self.exchanges < 1:
            raise ValueError(f"--exchanges {self.exchanges}: at least 1 is needed.")
        if not 0 < self.level < 1:
            raise ValueError(f"--level {self.level}: it is a share between 0 and 1.")
        if self.context_source is not None and not self.context:
            raise ValueError("--context-source: it is for --context, which says how many tokens.")


@dataclass
class Data:
    """Documents to evaluate on.

    name (str): What the part is called. path, format, sha256 (str): Where they are from. documents (List[Document]).
    """

    name: str
    path: str
    format: str
    sha256: str
    documents: List[Document]


# A document and what was found in it


@dataclass
class Compared:
    """A document, its gold, what was found in it, and the counts.

    gold (Dict[Mention, str]): Entities as annotated, and their ids. ignored (Dict[Mention, Optional[float]]):
        Predictions that do not count. repeated (int), other_labels (Counter): As in Part.
    """

    document: Document
    gold: Dict[Mention, str]
    found: Dict[Mention, Optional[float]]
    ignored: Dict[Mention, Optional[float]]
    solid: List[Tuple[int, int]]
    repeated: int
    other_labels: Counter
    characters: DocumentScores
    aligned: DocumentScores


def as_annotated(document: Document) -> List[Tuple[Mention, str]]:
    """Entities by the characters of the file, without white space at the ends of their parts, and their ids."""
    found = []
    for entity in document.entities:
        pieces = [_trimmed(document.text, start, end) for start, end in entity.fragments]
        solid = [(start, end) for start, end in pieces if start < end]
        found.append((mention(entity.label, solid or pieces[:1]), entity.id))
    return found


def _trimmed(text: str, start: int, end: int) -> Tuple[int, int]:
    piece = text[start:end]
    first = start + len(piece) - len(piece.lstrip())
    return first, max(first, end - len(piece) + len(piece.rstrip()))


def compare_document(
    document: Document, prediction: Prediction, place: Place, nlp: Language, overlap: Overlap
) -> Compared:
    """Score one document, by characters and aligned."""
    every = as_annotated(document)
    counted = [(item, id) for item, id in every if place.labels is None or item.label in place.labels]
    gold: Dict[Mention, str] = {}
    for item, id in counted:
        gold.setdefault(item, id)
    found, ignored = _that_count(document, prediction.found)
    return Compared(
        document,
        gold,
        found,
        ignored,
        prediction.solid,
        repeated=len(counted) - len(gold),
        other_labels=Counter(item.label for item, _ in every) - Counter(item.label for item, _ in counted),
        characters=score_document(gold, found, prediction.solid, overlap),
        aligned=_score_aligned(document, prediction, place, nlp, overlap),
    )


def _that_count(document: Document, found: Found) -> Tuple[Found, Found]:
    """Predictions that count, and those on tokens of which the file says that nothing is known."""
    unknown = [document.tokens[token] for token in document.unknown] if document.tokens else []
    ignored = {item: p for item, p in found.items() if _touches(item, unknown)}
    return {item: p for item, p in found.items() if item not in ignored}, ignored


def _touches(found: Mention, tokens: Iterable[Tuple[int, int]]) -> bool:
    return any(start < end and start < last and end > first for first, last in tokens for start, end in found.pieces)


def _score_aligned(
    document: Document, prediction: Prediction, place: Place, nlp: Language, overlap: Overlap
) -> DocumentScores:
    """As `ner_score` does, with gold as our readers put it on the pipeline's tokens."""
    # what placing has to say of it is not for here
    unknown = [
        number
        for number, token in enumerate(prediction.tokens)
        if document.tokens and _touches(Mention("", (token,)), [document.tokens[i] for i in document.unknown])
    ]
    laid = replace(document, tokens=prediction.tokens, sentences=[], unknown=unknown, problems=[])
    reference: Doc = to_doc(laid, nlp.make_doc)
    gold = gold_mentions(reference, "ents" if place.output == "ents" else ALL_ENTITIES)
    found = list(prediction.found)
    if place.output == "ents":
        found = [item for item in found if not touches_missing(reference, item)]
    wanted = [item for item in gold if place.labels is None or item.label in place.labels]
    return score_document(wanted, found, prediction.solid, overlap)


# A part


def evaluate_part(
    data: Data,
    predictions: Iterable[Prediction],
    place: Place,
    nlp: Language,
    settings: Settings,
    seen: Optional[Collection[Tuple[str, str]]] = None,
) -> Tuple[Part, List[Compared]]:
    """Score a pipeline's predictions.

    predictions (Iterable[Prediction]): Of the documents that are annotated, in order.
    seen (Optional[Collection[Tuple[str, str]]]): Labels and texts of entities in the training data; see `surfaces`.
    """
    annotated = _annotated(data)
    compared = [
        compare_document(document, prediction, place, nlp, settings.overlap)
        for document, prediction in zip(annotated, predictions, strict=True)
    ]
    bootstrap = _bootstrap(len(compared), settings)
    rows = [one.characters for one in compared]
    by_length = score_each(_exact_by(compared, _lengths), bootstrap)
    part = Part(
        data.name,
        data.path,
        data.format,
        data.sha256,
        documents=len(annotated),
        not_annotated=len(data.documents) - len(annotated),
        words=sum(len(one.solid) for one in compared),
        gold=sum(len(row.gold) for row in rows),
        predicted=sum(len(row.predicted) for row in rows),
        repeated=sum(one.repeated for one in compared),
        unread=sum(document.unread for document in annotated),
        other_labels=dict(sorted(sum((one.other_labels for one in compared), Counter()).items())),
        ignored=sum(len(one.ignored) for one in compared),
        characters=_scores(rows, bootstrap),
        aligned=_scores([one.aligned for one in compared], bootstrap),
        by_length={name: by_length[name] for _, name in LENGTHS if name in by_length},
        by_seen=None if seen is None else score_each(_exact_by(compared, _seen_in(seen)), bootstrap),
        by_attribute={key: _by_attribute(compared, key, settings) for key in settings.by},
        per_document=[
            DocumentRow(one.document.id, _total(one.characters.exact), _total(one.characters.overlap))
            for one in compared
        ],
    )
    return part, compared


def _bootstrap(documents: int, settings: Settings) -> Optional[Bootstrap]:
    return Bootstrap(documents, settings.samples, settings.seed, settings.level) if settings.samples else None


def _total(counts: Mapping[str, Triple]) -> Triple:
    correct, predicted, gold = (sum(triple[i] for triple in counts.values()) for i in range(3))
    return correct, predicted, gold


def _scores(documents: Sequence[DocumentScores], bootstrap: Optional[Bootstrap]) -> Scores:
    kinds = kinds_table(documents)
    return Scores(
        exact=measure(Table.of([document.exact for document in documents]), bootstrap),
        overlap=measure(Table.of([document.overlap for document in documents]), bootstrap),
        tokens=measure(Table.of([document.tokens for document in documents]), bootstrap),
        boundaries=score(triples([document.boundaries for document in documents]), bootstrap),
        semeval=semeval(kinds.counts.sum(1), bootstrap),
        semeval_per_label={label: semeval(kinds.counts[:, i]) for i, label in enumerate(kinds.names)},
        confusion=confusion(documents),
    )


def confusion(documents: Sequence[DocumentScores]) -> Confusion:
    """What gold was taken for, in all documents."""
    cells: Counter = Counter()
    for document in documents:
        for pair in document.pairs:
            gold = None if pair.gold is None else document.gold[pair.gold].label
            predicted = None if pair.predicted is None else document.predicted[pair.predicted].label
            cells[gold, predicted] += 1
    labels = sorted({label for cell in cells for label in cell if label is not None})
    names = [*labels, None]
    return Confusion(labels, [[cells[gold, predicted] for predicted in names] for gold in names])


def _exact_by(compared: Sequence[Compared], names_of: Callable[[Compared, Sequence[Mention]], List[str]]) -> Table:
    """Exact counts under names that entities have by themselves, so that gold and what is the same have the same."""
    rows = []
    for one in compared:
        gold, found = set(one.characters.gold), set(one.characters.predicted)
        items = list(gold | found)
        name = dict(zip(items, names_of(one, items)))
        counts = [Counter(name[item] for item in side) for side in (gold & found, found, gold)]
        rows.append({name: [c[name] for c in counts] for name in {*counts[1], *counts[2]}})
    return Table.of(rows)


def _lengths(one: Compared, items: Sequence[Mention]) -> List[str]:
    # of white space alone: no token
    lengths = [0 if laid is None else laid.length for laid in on_tokens(items, one.solid)]
    return [next(name for longest, name in LENGTHS if longest is None or length <= longest) for length in lengths]


def surface(text: str, item: Mention) -> Tuple[str, str]:
    """An entity's label and text, white space made one space."""
    return item.label, " ".join(" ".join(text[start:end] for start, end in item.pieces).split())


def surfaces(documents: Iterable[Document]) -> Set[Tuple[str, str]]:
    """Labels and texts of all entities of some documents: those of the training data."""
    return {surface(document.text, item) for document in documents for item, _ in as_annotated(document)}


def _seen_in(seen: Collection[Tuple[str, str]]) -> Callable[[Compared, Sequence[Mention]], List[str]]:
    return lambda one, items: ["seen" if surface(one.document.text, item) in seen else "unseen" for item in items]


def _attribute(document: Document, key: str) -> str:
    """What a document says of itself; "" where it says nothing."""
    value = document.group if key == "group" else document.data.get(key)
    return "" if value is None else str(value)


def _check_attributes(documents: Sequence[Document], keys: Iterable[str], option: str) -> None:
    """RAISES (CorpusError): No document has an attribute."""
    for key in keys:
        if not any(_attribute(document, key) for document in documents):
            known = sorted({name for document in documents for name in document.data})
            raise CorpusError(
                f"{option} {key}: no document has it. What documents have: {', '.join(known) or 'nothing'}; and group, "
                "where the file says what belongs together."
            )


def _by_attribute(compared: Sequence[Compared], key: str, settings: Settings) -> Dict[str, GroupScores]:
    values: Dict[str, List[Compared]] = {}
    for one in compared:
        values.setdefault(_attribute(one.document, key), []).append(one)
    found = {}
    for value, members in sorted(values.items()):
        bootstrap = _bootstrap(len(members), settings)
        exact, overlap = (
            score(triples([_total(getattr(one.characters, name)) for one in members]), bootstrap)
            for name in ("exact", "overlap")
        )
        found[value] = GroupScores(len(members), exact, overlap)
    return found


# Two models


@dataclass
class Other:
    """What another model found in a document, scored as the first: against the same gold, on the same tokens.

    found, ignored (Found): As in Compared.
    """

    found: Found
    ignored: Found
    scores: DocumentScores


def score_other(one: Compared, found: Found, overlap: Overlap) -> Other:
    """Score what another model found in a document."""
    counted, ignored = _that_count(one.document, found)
    return Other(counted, ignored, score_document(one.gold, counted, one.solid, overlap))


def compare_parts(first: Sequence[Compared], other: Sequence[Other], settings: Settings) -> ComparedPart:
    """Say whether one model is better than another on the same documents; of entities by characters."""
    bootstrap = Bootstrap(len(first), settings.samples, settings.seed, settings.level)
    sides = [[one.characters for one in first], [one.scores for one in other]]
    differences: Dict[str, Difference] = {}
    for name in ("exact", "overlap", "tokens"):
        both = Table.of([getattr(row, name) for side in sides for row in side])
        counts = both.counts[: len(first)], both.counts[len(first) :]
        micro = [side.sum(1) for side in counts]
        for average, (a, b), function in (
            ("micro", micro, _micro_f),
            ("macro", counts, _macro_f),
        ):
            differences[f"{name}_{average}"] = compare(a, b, function, bootstrap, settings.exchanges, settings.seed)
    found: Counter = Counter({"both": 0, "first": 0, "other": 0, "neither": 0})
    for a, b in zip(*sides):
        hits = [set(side.gold) & set(side.predicted) for side in (a, b)]
        found["both"] += len(hits[0] & hits[1])
        found["first"] += len(hits[0] - hits[1])
        found["other"] += len(hits[1] - hits[0])
        found["neither"] += len(set(a.gold) - hits[0] - hits[1])
    exact, overlap = (
        score(triples([_total(getattr(row, name)) for row in sides[1]]), bootstrap) for name in ("exact", "overlap")
    )
    return ComparedPart(exact, overlap, differences, dict(found))


def _micro_f(counts: np.ndarray) -> np.ndarray:
    return precision_recall_f1(counts)[..., 2]


def _macro_f(counts: np.ndarray) -> np.ndarray:
    return macro_average(counts)[..., 2]


# predictions.jsonl


def prediction_rows(
    part: str,
    compared: Sequence[Compared],
    seen: Optional[Collection] = None,
    others: Optional[Sequence[Other]] = None,
) -> Iterator[Dict]:
    """The lines of predictions.jsonl: each document with its text, its entities, and what was taken for what.

    others (Optional[Sequence[Other]]): What another model found in each, where there is one.
    """
    for number, one in enumerate(compared):
        gold = [_entity(one, item, seen) | {"id": one.gold[item]} for item in one.characters.gold]
        for pair in one.characters.pairs:
            if pair.gold is not None:
                gold[pair.gold] |= {"match": pair.kind, "with": pair.predicted}
        row = {
            "part": part,
            "id": one.document.id,
            "group": one.document.group,
            "data": plain(one.document.data),
            "text": one.document.text,
            "gold": gold,
            "predicted": _predicted(one, one.characters, one.found, one.ignored, seen),
        }
        if others is not None:
            other = others[number]
            row["other"] = _predicted(one, other.scores, other.found, other.ignored, seen)
        yield row


def plain(value: Any) -> Any:
    """A value with null for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _predicted(
    one: Compared, scores: DocumentScores, found: Found, ignored: Found, seen: Optional[Collection]
) -> List[Dict[str, Any]]:
    """What a model found in a document, and what of gold it was taken for."""
    rows = [_entity(one, item, seen) | {"probability": found[item]} for item in scores.predicted]
    for pair in scores.pairs:
        if pair.predicted is not None:
            rows[pair.predicted] |= {"match": pair.kind, "with": pair.gold}
    for item, probability in sorted(ignored.items()):
        rows.append(_entity(one, item, seen) | {"probability": probability, "match": "ignored", "with": None})
    return rows


def _entity(one: Compared, item: Mention, seen: Optional[Collection]) -> Dict[str, Any]:
    found: Dict[str, Any] = {"start": item.start, "end": item.end, "label": item.label}
    if len(item.pieces) > 1:
        found["fragments"] = [list(piece) for piece in item.pieces]
    if seen is not None:
        found["seen"] = surface(one.document.text, item) in seen
    return found


def evaluate(
    nlp: Language,
    parts: Sequence[Data],
    settings: Settings = Settings(),  # it is frozen
    *,
    seen: Optional[Collection[Tuple[str, str]]] = None,
    other: Optional[Union[Language, EarlierPredictions]] = None,
    run: Optional[Dict[str, Any]] = None,
    other_model: Optional[Dict[str, Any]] = None,
    progress: Progress = lambda found, name, n: found,
) -> Tuple[Evaluation, List[Dict[str, Any]]]:
    """Score a pipeline, and compare it with another.

    parts (Sequence[Data]): Documents, by part. seen: See `evaluate_part`.
    other (Optional[Union[Language, EarlierPredictions]]): To compare with: another pipeline, or what was predicted
        before. run, other_model (Optional[Dict[str, Any]]): What is noted of the run and of the other model.
    progress (Callable): Wraps predictions, with what they are called and how many there will be.
    RETURNS (Tuple[Evaluation, List[Dict[str, Any]]]): What metrics.json holds, and the lines of predictions.jsonl.
    RAISES (CorpusError): A part has no annotated document, or no document has an attribute, or what was predicted
        before is of other documents.
    RAISES (ValueError): See `predicting.find_place`; or two models are to be compared without samples.
    """
    if other is not None and not settings.samples:
        raise ValueError("--compare: two models are compared by samples, so --samples must be above 0.")
    place = find_place(nlp, settings.output_spans)
    other_place = find_place(other, settings.output_spans) if isinstance(other, Language) else None
    for data in parts:
        if not any(document.annotated for document in data.documents):
            raise CorpusError(f"{data.path}: none of its {len(data.documents):,} documents is annotated.")
        _check_attributes(data.documents, settings.by, "--by")
        if settings.context_source is not None:
            _check_attributes(_annotated(data), [settings.context_source], "--context-source")
        if isinstance(other, EarlierPredictions):
            other.of(data.name, _annotated(data))
    evaluation = Evaluation(run or {}, {})
    rows: List[Dict[str, Any]] = []
    if other is not None:
        evaluation.comparison = Comparison(other_model or {}, {})
    for data in parts:
        found = _predictions(data, nlp, place, settings, progress, data.name)
        evaluation.parts[data.name], compared = evaluate_part(data, found, place, nlp, settings, seen)
        others: Optional[List[Other]] = None
        if other is not None and evaluation.comparison is not None:
            theirs: Iterable[Found]
            if isinstance(other, EarlierPredictions):
                theirs = other.of(data.name, _annotated(data))
            else:
                assert other_place is not None
                again = _predictions(data, other, other_place, settings, progress, f"{data.name}, other model")
                theirs = (prediction.found for prediction in again)
            others = [score_other(one, its, settings.overlap) for one, its in zip(compared, theirs, strict=True)]
            evaluation.comparison.parts[data.name] = compare_parts(compared, others, settings)
        rows += prediction_rows(data.name, compared, seen, others)
    return evaluation, rows


def _annotated(data: Data) -> List[Document]:
    return [document for document in data.documents if document.annotated]


def _predictions(
    data: Data, nlp: Language, place: Place, settings: Settings, progress: Progress, name: str
) -> Iterable[Prediction]:
    documents = _annotated(data)
    of_file = settings.tokens == "file" or (settings.tokens == "auto" and data.format == "columns")
    key = settings.context_source
    # the pipeline is told which documents are of one source, not what the attribute says
    names = {} if key is None else {_attribute(document, key): number for number, document in enumerate(documents)}
    names.pop("", None)
    sources = None if key is None else [names.get(_attribute(document, key)) for document in documents]
    return progress(predict(nlp, documents, place, of_file, settings.context, sources), name, len(documents))
