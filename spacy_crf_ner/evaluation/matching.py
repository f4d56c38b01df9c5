"""What counts as found. Works on plain tuples; knows nothing of torch or pipelines."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, Iterable, Set, Tuple

Entity = Tuple[str, int, int]
"""Label, first character, last character + 1."""


@dataclass
class Counts:
    """Correct, predicted and gold entities, and the scores that follow from them.

    Without predictions precision is 0, without gold recall is 0; an F1 of nothing at all is 0.
    """

    correct: int = 0
    predicted: int = 0
    gold: int = 0

    @property
    def precision(self) -> float:
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return self.correct / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        total = self.predicted + self.gold
        return 2 * self.correct / total if total else 0.0

    def as_dict(self) -> Dict[str, float]:
        return {"p": self.precision, "r": self.recall, "f": self.f1}


@dataclass
class ExactMatch:
    """Counts entities found with the same label and the same characters, over many documents."""

    per_label: Dict[str, Counts] = field(default_factory=dict)

    def add(self, gold: Iterable[Entity], predicted: Iterable[Entity]) -> None:
        """Count one document. An entity that is given twice counts once."""
        gold_set: Set[Entity] = set(gold)
        predicted_set: Set[Entity] = set(predicted)
        for part, entities in (
            ("gold", gold_set),
            ("predicted", predicted_set),
            ("correct", gold_set & predicted_set),
        ):
            for label, n in sorted(Counter(label for label, _, _ in entities).items()):
                counts = self.per_label.setdefault(label, Counts())
                setattr(counts, part, getattr(counts, part) + n)

    @property
    def micro(self) -> Counts:
        """All entities together."""
        every = self.per_label.values()
        return Counts(sum(c.correct for c in every), sum(c.predicted for c in every), sum(c.gold for c in every))

    def macro(self) -> Dict[str, float]:
        """Mean of the labels' own scores, over labels that gold has; p, r and f."""
        own = [counts.as_dict() for _, counts in sorted(self.per_label.items()) if counts.gold]
        return {key: sum(scores[key] for scores in own) / len(own) if own else 0.0 for key in ("p", "r", "f")}
