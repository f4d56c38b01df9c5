"""The batches of a training, in an order that can be taken up again in the middle of an epoch."""

import hashlib
import random
from collections import Counter
from functools import partial
from typing import Any, Callable, Dict, Generator, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

from spacy.language import Language
from spacy.training import Example
from spacy.util import registry

from ..corpora.multi import EMPTY, take_turns
from .ahead import made_ready
from .blame import blamed_on
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

# readers, augmenters and batchers may be the user's own; messages of ours are of these kinds
READING = ("The training corpus could not be read or batched", (ValueError, OSError))


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


class Position(NamedTuple):
    """A place between two batches.

    epoch (int): Counted from 0.
    taken (int): Batches of it that are behind.
    begin (Optional[RandomState]): Random numbers when the epoch began, after shuffling; None: it has not.
    asked (Dict[str, int]): How often each schedule of a batcher had been asked then.
    order (List[int]): The examples' order then, by their place in the corpus.
    random (RandomState): Random numbers here.
    given (Dict[str, int]): Documents in the batches that are behind, by corpus.
    """

    epoch: int
    taken: int
    begin: Optional[RandomState]
    asked: Dict[str, int]
    order: List[int]
    random: RandomState
    given: Dict[str, int] = {}  # noqa: RUF012


class Lane(NamedTuple):
    """Corpora that share a batcher.

    names (Optional[List[str]]): Which; None: the training corpus as it is. batcher (Callable): Makes their batches.
    """

    names: Optional[List[str]]
    batcher: Callable[[Iterable[Example]], Iterable[List[Example]]]


class Batches:
    """Batches of epoch after epoch, as spaCy's training makes them from the same seed.

    Random numbers for shuffling, batching and augmenting are drawn apart from all others, so that skipping the batches
    that a checkpoint has behind it leads to the same ones after it.

    corpus (Callable): Makes the examples. batcher (Dict): The block of the configuration that describes it.
    max_epochs (int): As in spaCy: 0: no limit; -1: no limit, and the corpus is read anew in each epoch.
    shuffle_buffer (int): With max_epochs = -1: examples that are held, of which the next is drawn.
    batchers (Dict[str, Dict]): Blocks of those corpora of a MultiCorpus that have a batcher of their own.
    one_of_each (bool): A step has a batch of each corpus of a MultiCorpus; an epoch ends when all of the last one were
        seen, and until then the others begin again. False: the batches come in turn, so that all corpora end together.
    prepare (Optional[Callable]): Makes a batch ready, in a thread, before it is due. ahead (int): How many at once.
    """

    def __init__(
        self,
        nlp: Language,
        corpus: Corpus,
        batcher: Dict[str, Any],
        max_epochs: int,
        shuffle_buffer: int = 0,
        batchers: Optional[Dict[str, Dict[str, Any]]] = None,
        one_of_each: bool = False,
        prepare: Optional[Callable[[List[Example]], Any]] = None,
        ahead: int = 0,
    ) -> None:
        self._nlp = nlp
        self._corpus = corpus
        self._one_of_each = one_of_each
        self._schedules: Dict[str, Counted] = {}
        self._lanes = [
            self._lane(names, block) for names, block in _blocks(corpus, batcher, batchers or {}, one_of_each)
        ]
        self._max_epochs = max_epochs
        self._shuffle_buffer = shuffle_buffer
        self._prepare = prepare
        self._ahead = ahead if prepare is not None else 0
        self._random = RandomState.now()
        self._examples: List[Tuple[int, Example]] = []
        self.digest = ""
        if max_epochs >= 0:
            with self._random.apart(), blamed_on(*READING):
                self._examples = list(enumerate(corpus(nlp)))
            if not self._examples:
                raise ValueError(NOTHING)
            self.digest = digest_of(example for _, example in self._examples)
        self._sizes = Counter(corpus_of(example) for _, example in self._examples)
        # that of the last batch that was handed out, which others may be drawn after already
        self._at = Position(0, 0, None, {}, self._order(), self._random.copy())

    @property
    def epoch(self) -> int:
        return self._at.epoch

    @property
    def taken(self) -> int:
        """Batches of the epoch that were handed out."""
        return self._at.taken

    @property
    def share(self) -> Optional[float]:
        """Share of the epoch's documents that are in them; None: it is not known how many it will have.

        With one batch of each corpus the share of the one that is least far: that ends the epoch.
        """
        if not self._examples:
            return None
        given = self._at.given
        if self._one_of_each:
            return min(min(given.get(name, 0) / size, 1.0) for name, size in self._sizes.items())
        return sum(given.values()) / len(self._examples)

    def _lane(self, names: Optional[List[str]], block: Dict[str, Any]) -> Lane:
        batcher, schedules = resolve_batcher(block)
        self._schedules.update({".".join([*(names or []), key]): value for key, value in schedules.items()})
        return Lane(names, batcher)

    def __iter__(self) -> Generator[Tuple[int, List[Example]], None, None]:
        """Epoch, counted from 0, and batch."""
        for position, batch in made_ready(self._draw(), self._make_ready, self._ahead):
            self._at = position
            if batch is not None:
                yield position.epoch, batch

    def _draw(self) -> Iterator[Tuple[Position, Optional[List[Example]]]]:
        """Batches, each with the position after it; and where epochs end the training, the end without a batch."""
        epoch, done, begin, asked, order, _, _ = self._at
        while self._max_epochs < 1 or epoch < self._max_epochs:
            if begin is None:
                with self._random.apart():
                    random.shuffle(self._examples)
                begin = self._random.copy()
                asked, order = self._asked(), self._order()
            taken = 0
            given: Counter[str] = Counter()
            batches = self._batches()
            while True:
                with self._random.apart(), blamed_on(*READING):
                    batch = next(batches, None)
                if batch is None:
                    break
                taken += 1
                given.update(map(corpus_of, batch))
                if taken > done:
                    yield Position(epoch, taken, begin, asked, order, self._random.copy(), dict(given)), list(batch)
            if not taken:
                raise ValueError(NOTHING)
            epoch, done, begin = epoch + 1, 0, None
        yield Position(epoch, 0, None, self._asked(), self._order(), self._random.copy()), None

    # One epoch

    def _batches(self) -> Iterator[List[Example]]:
        lanes = {", ".join(lane.names or []): _Epoch(partial(self._run, lane)) for lane in self._lanes}
        if self._one_of_each:
            return _one_of_each(lanes)
        weights = {name: self._weight(lane) for name, lane in zip(lanes, self._lanes)}
        # as MultiCorpus itself reads a stream in proportions
        again = self._max_epochs < 0 and len(lanes) > 1 and getattr(self._corpus, "proportions", None) is not None
        return take_turns(lanes, weights, len, again)

    def _weight(self, lane: Lane) -> float:
        """What part of an epoch a lane has: its examples, or in a stream its share."""
        if self._max_epochs >= 0:
            return max(1, sum(_is_in(lane, example) for _, example in self._examples))
        shares = getattr(self._corpus, "proportions", None) or {}
        return sum(shares.get(name, 1.0) for name in lane.names or [""])

    def _run(self, lane: Lane, again: bool) -> Iterator[List[Example]]:
        """All batches of a lane; `again` in the same epoch."""
        return map(list, lane.batcher(self._read(lane, again)))

    def _read(self, lane: Lane, again: bool) -> Iterator[Example]:
        if self._max_epochs >= 0:
            examples = [example for _, example in self._examples if _is_in(lane, example)]
            if again:
                random.shuffle(examples)
            yield from examples
            return
        corpus = self._corpus if lane.names is None else self._corpus.only(lane.names)  # type: ignore[attr-defined]
        held: List[Example] = []
        for example in corpus(self._nlp):
            if len(held) < self._shuffle_buffer:
                held.append(example)
                continue
            if held:
                place = random.randrange(len(held))
                example, held[place] = held[place], example
            yield example
        random.shuffle(held)
        yield from held

    def _make_ready(self, drawn: Tuple[Position, Optional[List[Example]]]) -> None:
        if self._prepare is not None and drawn[1] is not None:
            self._prepare(drawn[1])

    def _asked(self) -> Dict[str, int]:
        return {key: schedule.asked for key, schedule in self._schedules.items()}

    def _order(self) -> List[int]:
        return [i for i, _ in self._examples]

    # What a checkpoint holds

    def state(self) -> Dict[str, Any]:
        at = self._at
        return {
            "epoch": at.epoch,
            "taken": at.taken,
            "begin": at.begin and at.begin.to_json(),
            "random": at.random.to_json(),
            "asked": at.asked,
            "order": at.order,
            "digest": self.digest,
        }

    def restore(self, state: Dict[str, Any]) -> None:
        """RAISES (CheckpointError): The corpus is not the one that the training began with."""
        if state["digest"] != self.digest:
            raise CheckpointError(
                "The training corpus has changed since the checkpoint was written, so that the training cannot go on "
                "as it would have. Bring the old one back, or start anew with --overwrite."
            )
        # between two epochs there is no beginning yet
        begin = state["begin"] and RandomState.from_json(state["begin"])
        self._random = begin.copy() if begin else RandomState.from_json(state["random"])
        for key, asked in state["asked"].items():
            for _ in range(asked):
                next(self._schedules[key], None)
        self._examples = [self._examples[i] for i in state["order"]]
        self._at = Position(
            state["epoch"],
            state["taken"],
            begin,
            state["asked"],
            state["order"],
            RandomState.from_json(state["random"]),
        )


class _Epoch:
    """Batches of a lane, read anew each time they are iterated over. read (Callable): Is told whether it did so."""

    def __init__(self, read: Callable[[bool], Iterator[List[Example]]]) -> None:
        self._read = read
        self._again = False

    def __iter__(self) -> Iterator[List[Example]]:
        again, self._again = self._again, True
        return self._read(again)


def _blocks(
    corpus: Corpus, batcher: Dict[str, Any], batchers: Dict[str, Dict[str, Any]], one_of_each: bool
) -> List[Tuple[Optional[List[str]], Dict[str, Any]]]:
    """Which corpora share a batcher, and the block that describes it."""
    if not batchers and not one_of_each:
        return [(None, batcher)]
    names: List[str] = corpus.names  # type: ignore[attr-defined]
    if one_of_each:
        return [([name], batchers.get(name, batcher)) for name in names]
    shared = [name for name in names if name not in batchers]
    own: List[Tuple[Optional[List[str]], Dict[str, Any]]] = [
        ([name], batchers[name]) for name in names if name in batchers
    ]
    return [*([(shared, batcher)] if shared else []), *own]


def _is_in(lane: Lane, example: Example) -> bool:
    return lane.names is None or corpus_of(example) in lane.names


def corpus_of(example: Example) -> str:
    """Which corpus of a MultiCorpus an example is from; empty where it does not say."""
    return getattr(example, "corpus", "")


def _one_of_each(lanes: Dict[str, _Epoch]) -> Iterator[List[Example]]:
    """Batches put together from one of each lane, until each lane was at its end; one that is begins again."""
    running = {name: iter(lane) for name, lane in lanes.items()}
    finished = set()
    while True:
        whole: List[Example] = []
        for name, lane in lanes.items():
            batch = next(running[name], None)
            if batch is None:
                finished.add(name)
                if len(finished) == len(lanes):
                    return
                running[name] = iter(lane)
                batch = next(running[name], None)
            if batch is None:
                raise ValueError(EMPTY.format(name))
            whole += batch
        yield whole


def digest_of(examples: Iterable[Example]) -> str:
    """What tells a corpus from others: all that is annotated."""
    found = hashlib.sha256()
    for example in examples:
        doc = example.reference
        found.update(doc.to_array(ANNOTATED).tobytes())
        spans = [(name, [(s.start, s.end, s.label_) for s in group]) for name, group in sorted(doc.spans.items())]
        found.update(repr((spans, sorted(doc.cats.items()))).encode())
        found.update(corpus_of(example).encode())
    return found.hexdigest()
