import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc

from spacy_crf_ner.embedding import pieces as pieces_module
from spacy_crf_ner.embedding.encoder import load_tokenizer
from spacy_crf_ner.embedding.pieces import PieceTokenizer, batch_pieces, cut_windows

from ..conftest import write_encoder

STRANGE = "Ibuprofen-induced  ulcer \n\n isn't naïve: 5\u2005mg 😀\u200b ok \t"


@given(st.integers(0, 400), st.integers(1, 60), st.data())
def test_windows_cover_everything_and_keep_each_piece_once(n: int, size: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, size))
    windows = cut_windows(n, size, stride)
    kept = [i for w in windows for i in range(w.keep_start, w.keep_end)]
    assert kept == list(range(n))
    for w in windows:
        assert 0 <= w.start <= w.keep_start <= w.keep_end <= w.end <= n
        assert w.end - w.start == min(size, n)


@given(st.integers(1, 300))
def test_kept_pieces_have_context_on_both_sides(n: int) -> None:
    for w in cut_windows(n, 20, 12):
        # the overlap is 8 pieces: half of it stands on each side of what is kept
        assert w.keep_start == 0 or w.keep_start - w.start >= 4
        assert w.keep_end == n or w.end - w.keep_end >= 4


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe", "sentencepiece"])
def test_pieces_belong_to_the_tokens_whose_characters_they_cover(kind: str, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_encoder(tmp_path, kind))
    nlp = spacy.blank("en")
    words = Doc(nlp.vocab, words=["it", "is", "n't", "Lyon", "!"], spaces=[True, False, True, False, False])
    for doc in [nlp(STRANGE), words, nlp(""), nlp("   ")]:
        pieces = tokenizer([doc])[0]
        encoding = tokenizer._backend.encode(doc.text, add_special_tokens=False)
        assert pieces.ids.tolist() == encoding.ids
        expected = [
            [i for i, (a, b) in enumerate(encoding.offsets) if a < t.idx + len(t) and t.idx < b and a < b] for t in doc
        ]
        assert pieces.token_counts.tolist() == [len(e) for e in expected]
        assert pieces.token_pieces.tolist() == [i for e in expected for i in e]


def test_nothing_is_cut_or_filled_whatever_the_tokenizer_file_says(encoder: str) -> None:
    # the file asks for truncation to 8 and padding to 16
    tokenizer = load_tokenizer(encoder)
    text = " ".join(["fever"] * 500)
    doc = spacy.blank("en")(text)
    # fev ##e ##r
    assert len(tokenizer([doc])[0].ids) == 1500
    assert tokenizer.count([text, "fever", ""]) == [1500, 3, 0]


def test_micro_batches_hold_every_piece_once_within_the_budget(encoder: str) -> None:
    tokenizer = load_tokenizer(encoder)
    nlp = spacy.blank("en")
    docs = [nlp(" ".join(["fever", "in", "Lyon"] * n)) for n in (1, 40, 0, 7, 100)]
    batch = batch_pieces(tokenizer, tokenizer(docs), window=20, stride=12, budget=50)
    pieces_of: Dict[int, List[int]] = defaultdict(list)
    shares_of: Dict[int, float] = defaultdict(float)
    for part in batch.micro_batches:
        ids, n_real, tokens, _, places, shares = part
        assert ids.size <= 50
        assert ids.shape[1] <= 20
        for row, n in zip(ids, n_real):
            assert row[0] == tokenizer.prefix[0]
            assert row[n - 1] == tokenizer.suffix[0]
            assert (row[n:] == tokenizer.pad_id).all()
        for token, piece, share in zip(part.owners.tolist(), ids.flatten()[places].tolist(), shares.tolist()):
            pieces_of[token].append(piece)
            shares_of[token] += share
        assert tokens.tolist() == sorted(set(part.owners.tolist()))
    token = 0
    for doc in docs:
        ids = tokenizer([doc])[0].ids.tolist()
        for _ in doc:
            # every word here has as many pieces as its ids, one after another
            own = pieces_of.pop(token)
            assert sorted(own) == sorted(ids[: len(own)])
            assert shares_of[token] == pytest.approx(1)
            ids = ids[len(own) :]
            token += 1
        assert not ids
    assert not pieces_of


def test_what_is_left_over_comes_in_few_sizes(encoder: str) -> None:
    tokenizer = load_tokenizer(encoder)
    short = spacy.blank("en")("fever in Lyon")
    pieces = tokenizer([short])[0]
    longest = len(pieces.ids) + tokenizer.n_special
    budget = 100 * longest
    sizes = {}
    for n in range(1, 100):
        alone = batch_pieces(tokenizer, [pieces] * n, 128, 96, budget, few_shapes=True).micro_batches
        assert [len(part.ids) for part in alone] == [n]
        _, exact = batch_pieces(tokenizer, [pieces] * (100 + n), 128, 96, budget).micro_batches
        assert len(exact.ids) == n
        full, rest = batch_pieces(tokenizer, [pieces] * (100 + n), 128, 96, budget, few_shapes=True).micro_batches
        assert len(full.ids) == 100
        assert n <= len(rest.ids) <= min(100, n * 1.25)
        assert len(rest.tokens) == n * len(short)
        assert rest.places.max() < n * longest
        assert (rest.ids == rest.ids[0]).all()
        assert (rest.n_real == longest).all()
        sizes[len(rest.ids)] = n
    assert len(sizes) == 23


def test_what_is_remembered_is_what_is_made_anew(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(encoder)
    nlp = spacy.blank("en")
    calls = []
    encode = tokenizer._backend.encode_batch

    class Counting:
        def encode_batch(self, texts: List[str], **settings: Any) -> Any:
            calls.extend(texts)
            return encode(texts, **settings)

    monkeypatch.setattr(tokenizer, "_backend", Counting())
    one, again = nlp("fever in Lyon"), nlp("fever in Lyon")
    # the same text with other tokens, and the same words with other spaces, are something else
    other = [
        Doc(nlp.vocab, words=["fever", "in", "Ly", "on"], spaces=[True, True, False, False]),
        Doc(nlp.vocab, words=["fever", "in", "Lyon"], spaces=[True, False, False]),
    ]
    first, second = tokenizer([one])[0], tokenizer([again])[0]
    for name in ("ids", "token_pieces", "token_counts", "before", "after"):
        assert getattr(second, name).tolist() == getattr(first, name).tolist()
    assert second.key == first.key
    assert calls == ["fever in Lyon"]
    assert [len(p.token_counts) for p in tokenizer([*other, one])] == [4, 3, 3]
    assert calls == ["fever in Lyon", "fever in Lyon", "fever inLyon"]
    assert not pickle.loads(pickle.dumps(load_tokenizer(encoder)))._remembered


def test_what_was_not_asked_for_longest_is_forgotten(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(encoder)
    nlp = spacy.blank("en")
    monkeypatch.setattr(pieces_module, "REMEMBERED_PIECES", 10)
    fever = tokenizer([nlp("fever "), nlp("Lyon in Lyon")])
    assert sum(size for _, size in tokenizer._remembered.values()) == tokenizer._n_remembered <= 10
    assert fever[0].key in tokenizer._remembered
    assert tokenizer([nlp("fever ")])[0].key == fever[0].key
    tokenizer([nlp("Lyon " * 3)])
    assert tokenizer._n_remembered <= 10
    long = tokenizer([nlp("fever " * 50)])[0]
    assert len(long.ids) == 150
    assert tokenizer._n_remembered == 0


def test_windows_never_exceed_what_the_encoder_takes(encoder: str) -> None:
    tokenizer = load_tokenizer(encoder)
    assert tokenizer.max_length == 64
    assert tokenizer.window(512, 384) == (62, 48)
    assert tokenizer.window(32, 24) == (30, 24)
    with pytest.raises(ValueError, match="window = 2 leaves no room"):
        tokenizer.window(2, 1)
    with pytest.raises(ValueError, match="stride"):
        tokenizer.window(32, 33)


def test_slow_tokenizers_are_refused_with_advice() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        PieceTokenizer(Slow(), 512)


def test_a_stride_shrinks_only_as_far_as_it_must(encoder: str) -> None:
    tokenizer = load_tokenizer(encoder)
    tokenizer.max_length = 128
    size = 128 - tokenizer.n_special
    for (window, stride), found in {
        (128, 96): 96,
        (512, 384): 96,  # in proportion
        (512, 512): size,  # without any overlap, as it was meant
        (100_000, 96): 96,  # not every wordpiece anew
        (1000, 900): 115,
        (256, 40): 40,
        (128, 20): 20,
    }.items():
        assert tokenizer.window(window, stride) == (size, found)
