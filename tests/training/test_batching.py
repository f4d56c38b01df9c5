import random
from typing import Any, List

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_crf_ner.embedding.encoder import load_tokenizer
from spacy_crf_ner.embedding.pieces import batch_pieces
from spacy_crf_ner.training.batching import batch_by_tokens

NLP = spacy.blank("en")


def docs(lengths: List[int]) -> List[Doc]:
    return [Doc(NLP.vocab, words=["fever"] * n) for n in lengths]


def lengths_of(batches: Any) -> List[List[int]]:
    return [[len(doc) for doc in batch] for batch in batches]


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 50), st.integers(1, 40), st.booleans())
def test_every_document_is_in_one_batch_within_the_budget(lengths: list, size: int, pool: int, shuffle: bool) -> None:
    items = docs(lengths)
    batches = list(batch_by_tokens(size, pool=pool, shuffle=shuffle)(items))
    assert sorted(id(doc) for batch in batches for doc in batch) == sorted(map(id, items))
    for batch in batches:
        assert batch
        assert len(batch) == 1 or sum(map(len, batch)) <= size


def test_documents_of_like_length_go_together() -> None:
    batches = lengths_of(batch_by_tokens(12, shuffle=False)(docs([2, 6, 2, 6, 2, 6, 6, 2, 2, 2])))
    assert batches == [[6, 6], [6, 6], [2, 2, 2, 2, 2, 2]]


def test_pythons_random_decides_and_nothing_else() -> None:
    items = docs([i % 7 + 1 for i in range(50)])
    runs = []
    for seed in (1, 1, 2):
        random.seed(seed)
        runs.append([[items.index(doc) for doc in batch] for batch in batch_by_tokens(12)(items)])
    assert runs[0] == runs[1] != runs[2]


def test_what_each_unit_counts() -> None:
    items = []
    for n_entities in (0, 1, 2, 3):
        doc = Doc(NLP.vocab, words=["fever"] * 4)
        doc.ents = [Span(doc, i, i + 1, "X") for i in range(n_entities)]
        doc.spans["g"] = list(doc.ents)[:1]
        items.append(Example(doc.copy(), doc))

    def sizes(unit: str, size: int, **settings: Any) -> List[int]:
        return sorted(len(b) for b in batch_by_tokens(size, unit=unit, shuffle=False, **settings)(items))

    assert sizes("docs", 3) == [1, 3]
    assert sizes("words", 8) == [2, 2]
    assert sizes("spans", 3) == [1, 3]
    assert sizes("spans", 3, target_spans="g") == [4]
    assert sizes("spans", 3, target_spans="absent") == [4]


def test_padded_wordpieces_are_what_the_encoder_computes(encoder: str) -> None:
    tokenizer = load_tokenizer(encoder)
    items = docs([random.randint(0, 150) for _ in range(60)])
    batcher = batch_by_tokens(300, unit="padded_wordpieces", encoder=encoder, window=40, stride=30)
    batches = list(batcher(items))
    assert sum(map(len, batches)) == 60
    for batch in batches:
        plan = batch_pieces(tokenizer, tokenizer(batch), 40, 30, None)
        computed = sum(part.ids.size for part in plan.micro_batches)
        assert len(batch) == 1 or computed <= 300
    plain = list(batch_by_tokens(300, unit="wordpieces", encoder=encoder, window=40, stride=30)(items))
    for batch in plain:
        real = sum(part.n_real.sum() for part in batch_pieces(tokenizer, tokenizer(batch), 40, 30, None).micro_batches)
        assert len(batch) == 1 or real <= 300


def test_a_schedule_gives_each_batch_its_budget() -> None:
    batches = lengths_of(batch_by_tokens([2, 4], shuffle=False)(docs([1] * 14)))
    assert batches == [[1] * 2, [1] * 4, [1] * 4, [1] * 4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size"),
        ({"unit": "letters"}, "unit"),
        ({"pool": 0}, "pool"),
        ({"unit": "wordpieces"}, "needs encoder"),
        ({"window": -1}, "stride = 96 must lie between 1 and window = -1"),
        ({"stride": 0}, "stride = 0 must"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=rf"\[training\.batcher\].*{message}"):
        batch_by_tokens(**{"size": 100, **settings})
