"""Batches under a budget, of documents of like length."""

import random
from typing import Any, Callable, Iterable, Iterator, List, Literal, NamedTuple, Optional, Union

from spacy.strings import hash_string  # type: ignore[attr-defined]
from spacy.tokens import Doc
from spacy.training import Example

from ..context import get_context
from ..embedding.pieces import PieceTokenizer, cut_document

Unit = Literal["words", "wordpieces", "padded_wordpieces", "spans", "docs"]
UNITS = ("words", "wordpieces", "padded_wordpieces", "spans", "docs")
Batcher = Callable[[Iterable[Example]], Iterable[List[Example]]]


class _Cost(NamedTuple):
    """What one item adds to a batch: `amount` of the unit; for padded wordpieces `amount` windows of `longest`."""

    amount: int
    longest: int


def batch_by_tokens(
    size: Union[int, Iterable[int]],
    *,
    unit: Unit = "words",
    encoder: Optional[str] = None,
    window: int = 128,
    stride: int = 96,
    target_spans: str = "ents",
    pool: int = 1000,
    shuffle: bool = True,
) -> Batcher:
    """Batches that hold as many documents as fit a budget.

    Documents are taken in pools; a pool is shuffled, sorted by length, cut into batches, and the batches come
    out in random order. Randomness is Python's own `random`, as in spaCy's training. A document over the
    budget makes a batch of its own; none is dropped.

    size (Union[int, Iterable[int]]): The budget, or a schedule of budgets, one a batch.
    unit (str): What the budget counts: "words" (spaCy tokens), "wordpieces" (special ones included),
        "padded_wordpieces" (windows times the longest of them, which is what the encoder computes),
        "spans" (gold entities) or "docs".
    encoder (Optional[str]): For both wordpiece units: the encoder whose tokenizer counts, named as in the model.
    window, stride (int): For both wordpiece units: as in the model.
    target_spans (str): For "spans": where the entities are, "ents" or the name of a span group.
    pool (int): Documents that are sorted together. Larger: less padding; smaller: more random.
    shuffle (bool): False: no randomness, and the batches of a pool come longest first.
    RETURNS (Callable): From examples (or Docs) to batches of them.
    RAISES (ValueError): A setting is out of its range, or the encoder is missing.
    """
    if unit not in UNITS:
        raise ValueError(f'[training.batcher] unit = "{unit}" is not one of {", ".join(UNITS)}.')
    if isinstance(size, int) and size < 1:
        raise ValueError(f"[training.batcher] size = {size} must be at least 1.")
    if pool < 1:
        raise ValueError(f"[training.batcher] pool = {pool} must be at least 1.")
    if not 1 <= stride <= window:
        raise ValueError(
            f"[training.batcher] stride = {stride} must lie between 1 and window = {window}; both as in the model."
        )
    if "wordpieces" in unit and encoder is None:
        raise ValueError(
            f'[training.batcher] unit = "{unit}" needs encoder, the same as in the model, '
            "for instance encoder = ${paths.encoder}."
        )
    return TokenBatcher(size, unit, encoder, window, stride, target_spans, pool, shuffle)


class TokenBatcher:
    """See `batch_by_tokens`. A class rather than closures, so that it pickles."""

    def __init__(
        self,
        size: Union[int, Iterable[int]],
        unit: Unit,
        encoder: Optional[str],
        window: int,
        stride: int,
        target_spans: str,
        pool: int,
        shuffle: bool,
    ) -> None:
        self._sizes = None if isinstance(size, int) else iter(size)
        self._size = size if isinstance(size, int) else 0
        self._unit = unit
        self._encoder = encoder
        self._window = window
        self._stride = stride
        self._target_spans = target_spans
        self._pool = pool
        self._shuffle = shuffle
        self._tokenizer: Optional[PieceTokenizer] = None
        self._piece_counts: dict = {}

    def __call__(self, items: Iterable[Any]) -> Iterator[List[Any]]:
        pool: List[Any] = []
        for item in items:
            pool.append(item)
            if len(pool) == self._pool:
                yield from self._batches(pool)
                pool = []
        yield from self._batches(pool)

    def _batches(self, pool: List[Any]) -> List[List[Any]]:
        if self._shuffle:
            pool = random.sample(pool, len(pool))
        costs = self._costs(pool)
        order = sorted(range(len(pool)), key=lambda i: (-costs[i].longest, -costs[i].amount))
        batches: List[List[Any]] = []
        amount = longest = 0
        budget = 0
        for i in order:
            amount, longest = amount + costs[i].amount, max(longest, costs[i].longest)
            if not batches or amount * longest > budget:
                batches.append([])
                amount, longest = costs[i]
                budget = self._next_size()
            batches[-1].append(pool[i])
        if self._shuffle:
            random.shuffle(batches)
        return batches

    def _next_size(self) -> int:
        if self._sizes is not None:
            self._size = int(next(self._sizes, self._size))
        return self._size

    def _costs(self, items: List[Any]) -> List[_Cost]:
        """What each item costs; a batch costs the sum of amounts times the largest `longest`."""
        docs = [item if isinstance(item, Doc) else item.reference for item in items]
        if self._unit == "docs":
            return [_Cost(1, 1) for _ in docs]
        if self._unit == "words":
            return [_Cost(len(doc), 1) for doc in docs]
        if self._unit == "spans":
            return [_Cost(self._count_spans(doc), 1) for doc in docs]
        counts = iter(self._count_pieces([text for doc in docs for text in (doc.text, *get_context(doc))]))
        assert self._tokenizer is not None
        size, stride = self._tokenizer.window(self._window, self._stride)
        costs = []
        for n_own, n_before, n_after in zip(counts, counts, counts):
            windows, _ = cut_document(n_before, n_own, n_after, size, stride)
            lengths = [w.end - w.start + self._tokenizer.n_special for w in windows]
            if self._unit == "wordpieces":
                costs.append(_Cost(sum(lengths), 1))
            else:
                costs.append(_Cost(len(lengths), max(lengths, default=1)))
        return costs

    def _count_spans(self, doc: Doc) -> int:
        if self._target_spans == "ents":
            return len(doc.ents)
        return len(doc.spans[self._target_spans]) if self._target_spans in doc.spans else 0

    def _count_pieces(self, texts: List[str]) -> List[int]:
        """Wordpieces of each text; kept by a hash of the text, a few bytes a document."""
        if self._tokenizer is None:
            from ..embedding.encoder import load_tokenizer

            self._tokenizer = load_tokenizer(self._encoder or "")
        keys = [hash_string(text) for text in texts]
        fresh = {key: text for key, text in zip(keys, texts) if key not in self._piece_counts}
        if len(self._piece_counts) > 1_000_000:
            self._piece_counts.clear()
            fresh = dict(zip(keys, texts))
        self._piece_counts.update(zip(fresh, self._tokenizer.count(list(fresh.values()))))
        return [self._piece_counts[key] for key in keys]
