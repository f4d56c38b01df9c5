"""All one-to-one matchings of a few entities, to compare with."""

from typing import Any, Callable, FrozenSet, List, Sequence, Tuple

from spacy_crf_ner.evaluation.matching import Mention


def best_matching(
    gold: Sequence[Mention], predicted: Sequence[Mention], worth: Callable[[Mention, Mention], Any]
) -> Tuple[int, ...]:
    """The largest sum, element by element, that a one-to-one matching can have.

    worth (Callable): Of a pair, a tuple of numbers; None: it cannot be.
    """
    width = len(next((w for g in gold for p in predicted if (w := worth(g, p)) is not None), (0,)))

    def rest(i: int, used: FrozenSet[int]) -> Tuple[int, ...]:
        if i == len(gold):
            return (0,) * width
        found: List[Tuple[int, ...]] = [rest(i + 1, used)]
        for j, other in enumerate(predicted):
            own = None if j in used else worth(gold[i], other)
            if own is not None:
                found.append(tuple(a + b for a, b in zip(own, rest(i + 1, used | {j}))))
        return max(found)

    return rest(0, frozenset())


def characters(mention: Mention) -> set:
    return {i for start, end in mention.pieces for i in range(start, end)}
