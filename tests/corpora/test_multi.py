"""Several corpora in one: all of all, or in the proportions that were asked for."""

from collections import Counter
from itertools import islice
from typing import Any, Dict, Iterator, List, Optional

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.training import Example
from spacy.util import registry

from spacy_crf_ner.corpora.multi import CorpusExample, MultiCorpus, take_turns
from spacy_crf_ner.corpora.segments import Segments

NLP = spacy.blank("en")
STREAM = spacy.blank("en")
STREAM.config["training"]["max_epochs"] = -1


class Numbered:
    """A corpus of so many documents, which counts what was taken of it."""

    def __init__(self, name: str, n: int) -> None:
        self.name, self.n, self.taken = name, n, 0

    def __call__(self, nlp: Language) -> Iterator[Example]:
        for i in range(self.n):
            self.taken += 1
            doc = nlp.make_doc(f"{self.name} {i}")
            yield Example(nlp.make_doc(doc.text), doc)


def corpora(**sizes: int) -> Dict[str, Any]:
    return {name: Numbered(name, n) for name, n in sizes.items()}


def texts(
    nlp: Language, given: Dict[str, Any], proportions: Optional[Dict[str, float]] = None, **rest: Any
) -> List[str]:
    found = list(MultiCorpus(given, proportions, **rest)(nlp))
    assert all(eg.corpus == eg.reference[0].text for eg in found)
    return [eg.reference.text for eg in found]


@pytest.mark.parametrize("nlp", [NLP, STREAM], ids=["held", "stream"])
def test_without_proportions_all_are_read_once_and_mixed(nlp: Language) -> None:
    assert texts(nlp, corpora(a=4, b=2, c=0)) == ["a 0", "b 0", "a 1", "b 1", "a 2", "a 3"]


@given(
    st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(1, 9), st.sampled_from([0.5, 1, 2, 3])), min_size=1),
    st.sampled_from([NLP, STREAM]),
)
def test_an_epoch_has_the_proportions_and_the_largest_once(given: Dict[str, Any], nlp: Language) -> None:
    sizes = {name: n for name, (n, _) in given.items()}
    shares = {name: share for name, (_, share) in given.items()}
    found = Counter(texts(nlp, corpora(**sizes), shares))
    largest = max(sizes, key=lambda name: sizes[name] / shares[name])
    unit = sizes[largest] / shares[largest]
    for name, n in sizes.items():
        seen = [found[f"{name} {i}"] for i in range(n)]
        # within one: of a fraction of a document there is none
        assert abs(sum(seen) - shares[name] * unit) <= 1 + 1e-9
        assert max(seen) - min(seen) <= 1
        assert min(seen) >= 1
    assert [found[f"{largest} {i}"] for i in range(sizes[largest])] == [1] * sizes[largest]


def test_what_comes_once_more_depends_on_the_seed_alone() -> None:
    shares = {"a": 1.0, "b": 1.0}
    found = [Counter(texts(NLP, corpora(a=50, b=40), shares, seed=seed)) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    # the same example again, not a copy of it
    examples = list(MultiCorpus(corpora(a=6, b=2), shares)(NLP))
    assert len({id(eg) for eg in examples if eg.corpus == "b"}) == 2


def test_a_stream_is_not_held() -> None:
    given = corpora(a=10**9, b=10**9)
    found = list(islice(MultiCorpus(given, {"a": 3.0, "b": 1.0})(STREAM), 40))
    assert Counter(eg.corpus for eg in found) == {"a": 30, "b": 10}
    assert [corpus.taken for corpus in given.values()] == [30, 10]


def test_a_share_of_0_leaves_a_corpus_out() -> None:
    given = corpora(a=3, b=3)
    assert texts(NLP, given, {"a": 1.0, "b": 0.0}) == ["a 0", "a 1", "a 2"]
    assert given["b"].taken == 0


@pytest.mark.parametrize(
    ("proportions", "message"),
    [
        ({"a": 1.0, "b": 1.0, "c": 1.0}, r"proportions\.c: there is no such corpus. There are a, b"),
        ({"a": -1.0, "b": 1.0}, r"proportions\.a = -1\.0 must be"),
        ({"a": 0.0, "b": 0}, "all proportions are 0"),
        ({"a": 1.0}, r"proportions\.b is missing"),
        ({"a": "much", "b": 1.0}, r"proportions\.a = 'much' must be a number"),
    ],
)
def test_wrong_proportions_are_named(proportions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiCorpus(corpora(a=1, b=1), proportions)


@pytest.mark.parametrize("nlp", [NLP, STREAM], ids=["held", "stream"])
def test_an_empty_corpus_has_no_share(nlp: Language) -> None:
    with pytest.raises(ValueError, match="the corpus b gave nothing"):
        texts(nlp, corpora(a=2, b=0), {"a": 1.0, "b": 1.0})
    with pytest.raises(ValueError, match="there is no corpus"):
        MultiCorpus({})


@given(st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(1, 5), min_size=1), min_size=1))
def test_none_is_far_ahead(streams: Dict[str, List[int]]) -> None:
    weights = {name: float(sum(items)) for name, items in streams.items()}
    done = dict.fromkeys(streams, 0)
    largest = max(item / weights[name] for name, items in streams.items() for item in items)
    pairs = {name: [(name, item) for item in items] for name, items in streams.items()}
    for name, item in take_turns(pairs, weights, size=lambda pair: pair[1]):
        done[name] += item
        shares = [done[name] / weights[name] for name in streams]
        assert max(shares) - min(shares) <= largest + 1e-9
    assert done == weights


def test_segments_know_their_corpus() -> None:
    block = {
        "@readers": "spacy_crf_ner.Segments.v1",
        "max_tokens": 1,
        "corpus": {"@readers": "spacy_crf_ner.MultiCorpus.v1", "corpora": {}},
    }
    with pytest.raises(ValueError, match="no corpus"):
        registry.resolve({"train": block})
    found = list(Segments(MultiCorpus(corpora(a=1, b=1)), max_tokens=1)(NLP))
    assert [(type(eg), eg.corpus, eg.reference[0].text) for eg in found] == [
        (CorpusExample, "a", "a"), (CorpusExample, "a", "0"), (CorpusExample, "b", "b"), (CorpusExample, "b", "0"),
    ]  # fmt: skip
