"""The batches of a training, in an order that can be taken up again in the middle of an epoch."""

import hashlib
import random
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple, Union

from spacy.language import Language
from spacy.training import Example
from spacy.util import registry

from .checkpoint import CheckpointError
from .state import RandomState

ANNOTATED: List[Union[int, str]] = [
    "ORTH",
    "SPACY",
    "TAG",
    "POS",
    "MORPH",
    "LEMMA",
    "DEP",
    "HEAD",
    "SENT_START",
    "ENT_IOB",
    "ENT_TYPE",
    "ENT_ID",
    "ENT_KB_ID",
]
Corpus = Callable[[Language], Iterable[Example]]
NOTHING = (
    "The training corpus has no document. Is [corpora.train] (or what [training] train_corpus names) the right file?"
)


class Counted:
    """A schedule that knows how often it was asked."""

    def __init__(self, values: Iterable[Any]) -> None:
        self._values = iter(values)
        self.asked = 0

    def __iter__(self) -> "Counted":
        return self

    def __next__(self) -> Any:
        self.asked += 1
        return next(self._values)


def resolve_batcher(block: Dict[str, Any]) -> Tuple[Callable, Dict[str, Counted]]:
    """A batcher, and those of its settings that are schedules: they go on over epochs, and so have to be counted."""
    settings = {key: value for key, value in block.items() if key != "@batchers"}
    resolved = registry.resolve({"settings": settings})["settings"]
    counted = {key: Counted(value) for key, value in resolved.items() if hasattr(value, "__next__")}
    return registry.get("batchers", block["@batchers"])(**{**resolved, **counted}), counted


class Batches:
    """Batches of epoch after epoch, as spaCy's training makes them from the same seed.

    Random numbers for shuffling, batching and augmenting are drawn apart from all others, so that skipping the batches
    that a checkpoint has behind it leads to the same ones after it.

    corpus (Callable): Makes the examples. batcher (Dict): The block of the configuration that describes it.
    max_epochs (int): As in spaCy: 0: no limit; -1: no limit, and the corpus is read anew in each epoch.
    shuffle_buffer (int): With max_epochs = -1: examples that are held, of which the next is drawn.
    """

    def __init__(
        self, nlp: Language, corpus: Corpus, batcher: Dict[str, Any], max_epochs: int, shuffle_buffer: int = 0
    ) -> None:
        self._nlp = nlp
        self._corpus = corpus
        self._batcher, self._schedules = resolve_batcher(batcher)
        self._max_epochs = max_epochs
        self._shuffle_buffer = shuffle_buffer
        self._random = RandomState.now()
        self._examples: List[Tuple[int, Example]] = []
        self.digest = ""
        if max_epochs >= 0:
            with self._random.apart():
                self._examples = list(enumerate(corpus(nlp)))
            if not self._examples:
                raise ValueError(NOTHING)
            self.digest = _digest(example for _, example in self._examples)
        self.epoch = 0
        self.taken = 0
        self._given = 0
        self._begin: Optional[RandomState] = None
        self._asked: Dict[str, int] = {}

    def __iter__(self) -> Iterator[Tuple[int, List[Example]]]:
        """Epoch, counted from 0, and batch."""
        while self._max_epochs < 1 or self.epoch < self._max_epochs:
            if self._begin is None:
                with self._random.apart():
                    random.shuffle(self._examples)
                self._begin = self._random.copy()
                self._asked = {key: schedule.asked for key, schedule in self._schedules.items()}
            done, self.taken, self._given = self.taken, 0, 0
            batches = iter(self._batcher(self._read()))
            while True:
                with self._random.apart():
                    batch = next(batches, None)
                if batch is None:
                    break
                batch = list(batch)
                self.taken += 1
                self._given += len(batch)
                if self.taken > done:
                    yield self.epoch, batch
            if not self.taken:
                raise ValueError(NOTHING)
            self.epoch += 1
            self.taken = 0
            self._begin = None

    @property
    def share(self) -> Optional[float]:
        """Share of the epoch's documents that are in the batches so far; None: their number is not known."""
        return min(self._given / len(self._examples), 1.0) if self._examples else None

    def _read(self) -> Iterator[Example]:
        if self._max_epochs >= 0:
            yield from (example for _, example in self._examples)
            return
        held: List[Example] = []
        for example in self._corpus(self._nlp):
            if len(held) < self._shuffle_buffer:
                held.append(example)
                continue
            if held:
                place = random.randrange(len(held))
                example, held[place] = held[place], example
            yield example
        random.shuffle(held)
        yield from held

    # What a checkpoint holds

    def state(self) -> Dict[str, Any]:
        return {
            "epoch": self.epoch,
            "taken": self.taken,
            "begin": self._begin and self._begin.to_json(),
            "random": self._random.to_json(),
            "asked": self._asked,
            "order": [i for i, _ in self._examples],
            "digest": self.digest,
        }

    def restore(self, state: Dict[str, Any]) -> None:
        """RAISES (CheckpointError): The corpus is not the one that the training began with."""
        if state["digest"] != self.digest:
            raise CheckpointError(
                "The training corpus has changed since the checkpoint was written, so that the training cannot go on "
                "as it would have. Bring the old one back, or start anew with --overwrite."
            )
        self.epoch, self.taken = state["epoch"], state["taken"]
        # between two epochs there is no beginning yet
        self._begin = state["begin"] and RandomState.from_json(state["begin"])
        self._random = self._begin.copy() if self._begin else RandomState.from_json(state["random"])
        for key, asked in state["asked"].items():
            for _ in range(asked):
                next(self._schedules[key], None)
        self._asked = state["asked"]
        self._examples = [self._examples[i] for i in state["order"]]


def _digest(examples: Iterable[Example]) -> str:
    """What tells a corpus from others: all that is annotated."""
    found = hashlib.sha256()
    for example in examples:
        doc = example.reference
        found.update(doc.to_array(ANNOTATED).tobytes())
        spans = [(name, [(s.start, s.end, s.label_) for s in group]) for name, group in sorted(doc.spans.items())]
        found.update(repr((spans, sorted(doc.cats.items()))).encode())
    return found.hexdigest()
