"""What metrics.json holds. Its form is for ever; docs/evaluation.md says what each field means."""

from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional

from .intervals import Difference
from .scores import Measure, Score, SemEval, Triple

FORMAT = "spacy_crf_ner.metrics.v1"


@dataclass
class Confusion:
    """What entities were taken for.

    labels (List[str]): Of rows and columns. counts (List[List[int]]): Rows are gold, columns predictions; one more
        column for gold that was missed, and one more row for predictions that are spurious.
    """

    labels: List[str]
    counts: List[List[int]]


@dataclass
class Scores:
    """All scores of one kind of gold."""

    exact: Measure
    overlap: Measure
    tokens: Measure
    boundaries: Score
    semeval: Dict[str, SemEval]
    semeval_per_label: Dict[str, Dict[str, SemEval]]
    confusion: Confusion


@dataclass
class GroupScores:
    """Documents that have something in common."""

    documents: int
    exact: Score
    overlap: Score


@dataclass
class DocumentRow:
    """One document: correct, predicted and gold entities."""

    id: str
    exact: Triple
    overlap: Triple


@dataclass
class Part:
    """Scores on one set of documents.

    documents (int): How many were scored. not_annotated (int): How many were left out, since nobody has annotated them.
    words (int): Tokens that are not white space. gold, predicted (int): Entities.
    repeated (int): Gold entities that are given more than once, and count once.
    unread (int): Annotations that could not be read, and are not scored.
    other_labels (Dict[str, int]): Gold left out, since its label is none of those given to the recogniser.
    ignored (int): Predictions on tokens of which it is not known whether they are in an entity; they do not count.
    by_length (Dict[str, Score]): Exact scores by length in tokens. by_seen (Optional[Dict[str, Score]]): By whether
        the training data has the same text with the same label ("seen", "unseen").
    by_attribute (Dict[str, Dict[str, GroupScores]]): By attribute of documents, then by its value.
    """

    name: str
    path: str
    format: str
    sha256: str
    documents: int
    not_annotated: int
    words: int
    gold: int
    predicted: int
    repeated: int
    unread: int
    other_labels: Dict[str, int]
    ignored: int
    characters: Scores
    aligned: Scores
    by_length: Dict[str, Score]
    by_seen: Optional[Dict[str, Score]]
    by_attribute: Dict[str, Dict[str, GroupScores]]
    per_document: List[DocumentRow]


@dataclass
class ComparedPart:
    """Two models on the same documents; differences are the first less the other.

    other_exact, other_overlap (Score): Of the other model, all entities together. f (Dict[str, Difference]): Of F1.
    found (Dict[str, int]): Gold entities that "both", "first", "other" or "neither" found exactly.
    """

    other_exact: Score
    other_overlap: Score
    f: Dict[str, Difference]
    found: Dict[str, int]


@dataclass
class Comparison:
    """model (Dict[str, Any]): The other model. parts (Dict[str, ComparedPart]): By name."""

    model: Dict[str, Any]
    parts: Dict[str, ComparedPart]


@dataclass
class Evaluation:
    """What metrics.json holds.

    run (Dict[str, Any]): Versions, model, options. parts (Dict[str, Part]): By name.
    """

    run: Dict[str, Any]
    parts: Dict[str, Part]
    comparison: Optional[Comparison] = None
    format: str = FORMAT

    def as_dict(self) -> Dict[str, Any]:
        """For JSON."""
        return {"format": self.format, **asdict(self)}
