"""Several corpora as one."""

import random
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, TypeVar

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

Reader = Callable[[Language], Iterable[Example]]
NAME = "spacy_crf_ner.MultiCorpus.v1"
EMPTY = f"{NAME}: the corpus {{}} gave nothing to learn from. Is it the right file?"
T = TypeVar("T")


class CorpusExample(Example):
    """An example that says which corpus it is from. corpus (str): The name that MultiCorpus has for it."""

    def __init__(self, predicted: Doc, reference: Doc, corpus: str) -> None:
        super().__init__(predicted, reference)
        self.corpus = corpus


def MultiCorpus(
    corpora: Dict[str, Any], proportions: Optional[Dict[str, float]] = None, seed: int = 0
) -> "MultiReader":
    """Read several corpora as one.

    corpora (Dict[str, Callable]): Any readers, under names of your choice.
    proportions (Optional[Dict[str, float]]): What part of an epoch's documents comes from each corpus; only the ratios
        matter. The corpus that is largest for its share is seen once in an epoch, the others again and again until
        they have theirs; a share of 0 leaves one out. null: all documents of all, once.
    seed (int): Which documents of a corpus come once more than others, where it is not seen a whole number of times.
        Of no effect with max_epochs = -1: there a corpus is read from its beginning again.
    RETURNS (Callable): From nlp to its examples, from the corpora in turn, so that a stream is mixed too.
    RAISES (ValueError): There is no corpus, or the proportions do not fit. When it is read: a corpus is empty.
    """
    if not corpora:
        raise ValueError(f"{NAME}: there is no corpus. Give each a section of its own, [….corpora.NAME].")
    if proportions is not None:
        _check(list(corpora), proportions)
        corpora = {name: corpus for name, corpus in corpora.items() if proportions[name]}
    return MultiReader(corpora, proportions, seed)


def _check(names: Sequence[str], proportions: Dict[str, float]) -> None:
    """RAISES (ValueError): A name is unknown or missing, a share is negative, or all are 0."""
    for name, share in proportions.items():
        if name not in names:
            raise ValueError(f"{NAME}: proportions.{name}: there is no such corpus. There are {', '.join(names)}.")
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < float("inf"):
            raise ValueError(f"{NAME}: proportions.{name} = {share!r} must be a number from 0.")
    missing = [name for name in names if name not in proportions]
    if missing:
        raise ValueError(f"{NAME}: proportions.{missing[0]} is missing. Set it; 0 leaves the corpus out.")
    if not any(proportions.values()):
        raise ValueError(f"{NAME}: all proportions are 0, so that nothing would be read.")


class MultiReader:
    """See `MultiCorpus`."""

    def __init__(self, corpora: Dict[str, Reader], proportions: Optional[Dict[str, float]], seed: int) -> None:
        self._corpora = corpora
        self._proportions = proportions
        self._seed = seed

    @property
    def names(self) -> List[str]:
        """Names of the corpora that are read."""
        return list(self._corpora)

    @property
    def proportions(self) -> Optional[Dict[str, float]]:
        return self._proportions

    def only(self, names: Sequence[str]) -> "MultiReader":
        """Some of the corpora."""
        return MultiReader({name: self._corpora[name] for name in names}, self._proportions, self._seed)

    def __call__(self, nlp: Language) -> Iterator[Example]:
        readers = {name: _Named(name, corpus, nlp) for name, corpus in self._corpora.items()}
        if self._proportions is None:
            return take_turns(readers, dict.fromkeys(readers, 1.0))
        shares = {name: self._proportions[name] for name in readers}
        if nlp.config.interpolate()["training"].get("max_epochs", 0) < 0:
            return take_turns(readers, shares, again=True)
        chosen = self._choose(readers, shares)
        return take_turns(chosen, {name: len(examples) for name, examples in chosen.items()})

    def _choose(self, readers: Mapping[str, Iterable[Example]], shares: Dict[str, float]) -> Dict[str, List[Example]]:
        """What an epoch holds of each corpus: the same examples again, so that they are in memory once."""
        read = {name: list(examples) for name, examples in readers.items()}
        for name, examples in read.items():
            if not examples:
                raise ValueError(EMPTY.format(name))
        unit = max(len(examples) / shares[name] for name, examples in read.items())
        chosen = {}
        for name, examples in read.items():
            times, rest = divmod(max(1, round(shares[name] * unit)), len(examples))
            # by its name too, so that corpora of the same size do not give the same places
            some = sorted(random.Random(f"{self._seed} {name}").sample(range(len(examples)), rest))
            chosen[name] = examples * times + [examples[i] for i in some]
        return chosen


class _Named:
    """A corpus whose examples know its name; each iteration reads it anew."""

    def __init__(self, name: str, corpus: Reader, nlp: Language) -> None:
        self._name, self._corpus, self._nlp = name, corpus, nlp

    def __iter__(self) -> Iterator[Example]:
        for example in self._corpus(self._nlp):
            yield CorpusExample(example.predicted, example.reference, self._name)


def take_turns(
    streams: Mapping[str, Iterable[T]],
    weights: Mapping[str, float],
    size: Callable[[T], int] = lambda item: 1,
    again: bool = False,
) -> Iterator[T]:
    """Items of several streams, always of that which is furthest behind its weight.

    streams (Mapping[str, Iterable[T]]): By name; each can be read more than once.
    weights (Mapping[str, float]): What part of the whole each has, in any unit.
    size (Callable): How much an item counts.
    again (bool): One that is at its end is read anew, until all have been at theirs. False: the others go on without.
    YIELDS (T): Items; no random numbers are drawn for their order.
    RAISES (ValueError): A stream that is to be read anew has nothing.
    """
    running = {name: iter(stream) for name, stream in streams.items()}
    taken = dict.fromkeys(running, 0)
    at_begin = set(running)
    finished: Set[str] = set()
    while running:
        # of those that are equal one that was not at its end yet, and the first of them
        name = min(running, key=lambda name: (taken[name] / weights[name], name in finished))
        item = next(running[name], None)
        if item is not None:
            at_begin.discard(name)
            taken[name] += size(item)
            yield item
            continue
        finished.add(name)
        if not again:
            del running[name]
        elif name in at_begin:
            raise ValueError(EMPTY.format(name))
        elif len(finished) == len(running):
            return
        else:
            running[name] = iter(streams[name])
            at_begin.add(name)
