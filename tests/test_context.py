"""Text around a document: set by the reader, seen by the encoder alone, stored with the Doc."""

from pathlib import Path
from typing import Any, Iterator, List

import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.training.augment import create_lower_casing_augmenter
from spacy.util import registry
from thinc.api import Config

from spacy_crf_ner.context import add_context, get_context, set_context
from spacy_crf_ner.corpora.readers import DocumentContext
from spacy_crf_ner.embedding.model import TransformerCNN
from spacy_crf_ner.embedding.pieces import cut_document, cut_windows
from spacy_crf_ner.training.batching import batch_by_tokens

from .conftest import ROOT, found, make_examples, make_nlp, train

NLP = spacy.blank("en")


@given(st.integers(0, 90), st.integers(0, 300), st.integers(0, 90), st.integers(1, 60), st.data())
def test_windows_over_a_context_keep_the_document_and_nothing_else(
    before: int, own: int, after: int, size: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, size))
    windows, (left, right) = cut_document(before, own, after, size, stride)
    assert [i for w in windows for i in range(w.keep_start, w.keep_end)] == list(range(left, left + own))
    assert 0 <= left <= before
    assert 0 <= right <= after
    if not own:
        return
    if own <= size:
        # one window, as full as there is text for
        assert len(windows) == 1
        assert windows[0].end - windows[0].start == left + own + right == min(size, before + own + after)
    else:
        assert left + right <= size - stride
    if before == after == 0:
        assert windows == cut_windows(own, size, stride)


def test_a_short_document_has_its_context_evenly_on_both_sides() -> None:
    assert cut_document(100, 10, 100, 30, 20)[1] == (10, 10)
    assert cut_document(4, 10, 100, 30, 20)[1] == (4, 16)
    assert cut_document(100, 10, 4, 30, 20)[1] == (16, 4)
    assert cut_document(100, 50, 100, 30, 20)[1] == (5, 5)


def test_neighbours_come_from_the_same_source_and_hold_so_many_words() -> None:
    docs = [NLP(text) for text in ("one two three", "four", "", "five six", "seven", "eight", "nine")]
    for doc, name in zip(docs, "aaaab"):
        doc.user_data["file"] = name
    assert [get_context(d) for d in add_context(docs, words=2, source="file")] == [
        ("", "four five"),
        ("two three", "five six"),
        ("three four", "five six"),
        ("three four", ""),
        ("", ""),
        # without the key nothing is known of the source
        ("", ""),
        ("", ""),
    ]
    assert get_context(list(add_context(docs, words=1))[4]) == ("six", "eight")
    assert list(add_context([])) == []
    with pytest.raises(ValueError, match="words = 0"):
        list(add_context(docs, words=0))


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 9))
def test_neighbours_are_those_of_the_whole_text(lengths: List[int], words: int) -> None:
    tokens = [f"w{i}" for i in range(sum(lengths))]
    ends = np.cumsum([0, *lengths]).tolist()
    docs = [Doc(NLP.vocab, words=tokens[a:b]) for a, b in zip(ends, ends[1:])]
    given = list(add_context(docs, words))
    assert [doc is other for doc, other in zip(given, docs)] == [True] * len(docs)
    for doc, a, b in zip(docs, ends, ends[1:]):
        before, after = get_context(doc)
        assert before.split() == tokens[max(0, a - words) : a]
        assert after.split() == tokens[b : b + words]


def test_context_needs_no_more_of_a_stream_than_it_shows() -> None:
    taken: List[int] = []

    def stream() -> Iterator[Doc]:
        for i in range(1000):
            taken.append(i)
            yield NLP(f"one two three {i}")

    first = next(add_context(stream(), words=8))
    assert len(taken) == 3
    assert get_context(first) == ("", "one two three 1 one two three 2")


@pytest.fixture
def model(encoder: str) -> Any:
    model = TransformerCNN(encoder, window=20, stride=12, kernel_sizes=[], norm=None)
    model.initialize()
    return model


def test_vectors_are_those_of_the_text_in_its_context(model: Any) -> None:
    doc, whole = NLP("fever in Lyon"), NLP("She took ibuprofen fever in Lyon and knee")
    set_context(doc, "She took ibuprofen", "and knee")
    np.testing.assert_allclose(model.predict([doc])[0], model.predict([whole])[0][3:6], atol=1e-5)
    # batch-mates are no context, and a document with another context is another
    plain, other = NLP("fever in Lyon"), NLP("fever in Lyon")
    set_context(other, "", "and knee")
    together = model.predict([plain, doc, other])
    for one, vectors in zip((plain, doc, other), together):
        np.testing.assert_allclose(model.predict([one])[0], vectors, atol=1e-5)
    assert not np.allclose(together[0], together[1], atol=1e-3)
    assert not np.allclose(together[1], together[2], atol=1e-3)


def test_context_is_stored_with_the_doc(tmp_path: Path) -> None:
    doc = NLP("fever")
    set_context(doc, "No", "today")
    DocBin(docs=[doc], store_user_data=True).to_disk(tmp_path / "docs.spacy")
    (again,) = DocBin().from_disk(tmp_path / "docs.spacy").get_docs(NLP.vocab)
    for copy in (again, doc.copy(), Doc(NLP.vocab).from_bytes(doc.to_bytes())):
        assert get_context(copy) == ("No", "today")


def corpus(nlp: Language) -> Iterator[Example]:
    for i, example in enumerate(make_examples(nlp)):
        example.reference.user_data["file"] = str(i // 3)
        yield example


def test_the_reader_tells_training_and_evaluation(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = DocumentContext(corpus, words=4, source="file")
    nlp = make_nlp(encoder, {"window": 40, "stride": 30})
    examples = list(reader(nlp))
    assert get_context(examples[1].predicted) == ("fever in Lyon .", "She took ibuprofen and")
    assert get_context(examples[2].reference) == ("No fever today .", "")
    seen: List[int] = []
    train(nlp, examples, steps=30)
    module = nlp.get_pipe("crf_ner").model.get_ref("tok2vec").shims[0].module
    module.encoder.embeddings.register_forward_pre_hook(
        lambda _, __, inputs: seen.append(int((inputs["input_ids"] != module.tokenizer.pad_id).sum())), with_kwargs=True
    )
    assert nlp.evaluate(examples)["ents_f"] == 1.0
    with_context = sum(seen)
    seen.clear()
    nlp.evaluate(list(corpus(nlp)))
    assert with_context > 1.5 * sum(seen)
    # the same from storage
    docs = [eg.predicted.copy() for eg in examples]
    again = [Doc(nlp.vocab).from_bytes(doc.to_bytes()) for doc in docs]
    assert [found(d) for d in nlp.pipe(docs)] == [found(d) for d in nlp.pipe(again)]


def test_documents_without_the_source_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    docs = [NLP(text) for text in ("Fever", "Knee")]
    assert [get_context(doc) for doc in add_context(docs, 2, source="file")] == [("", "")] * 2
    (message,) = caplog.messages
    assert message.startswith('source = "file": no document has that')
    caplog.clear()
    docs[1].user_data["file"] = "a"
    list(add_context(docs, 2, source="file"))
    assert list(add_context([], 2, source="file")) == []
    assert not caplog.messages


def test_augmented_documents_have_the_neighbours_of_the_original() -> None:
    reader = DocumentContext(corpus, words=2, augmenter=create_lower_casing_augmenter(1.0))
    plain = list(DocumentContext(corpus, words=2)(NLP))
    for original, augmented in zip(plain, reader(NLP)):
        assert get_context(augmented.predicted) == get_context(original.predicted)
        assert augmented.predicted.text == original.predicted.text.lower()


def test_batches_count_the_context(encoder: str) -> None:
    docs = [NLP("fever") for _ in range(4)]
    batcher = batch_by_tokens(40, unit="padded_wordpieces", encoder=encoder, window=20, stride=15, shuffle=False)
    assert [len(batch) for batch in batcher(docs)] == [4]  # 4 times 5 pieces, special ones included
    assert [len(batch) for batch in batcher(list(add_context(docs, words=20)))] == [2, 2]  # 4 times 14


def test_a_source_that_no_document_has_is_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spacy.util.logger.propagate", True)
    with caplog.at_level("WARNING"):
        assert len(list(DocumentContext(corpus, source="file")(NLP))) == 6
        assert not caplog.records
        list(DocumentContext(corpus, source="folder")(NLP))
    assert "source = 'folder'" in caplog.records[0].getMessage()


def test_the_recipe_in_the_docs_reads_a_corpus(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    section = text[text.index("## `spacy_crf_ner.DocumentContext.v1`") :]
    recipe = section[section.index("```ini") + 6 :]
    recipe = "[paths]\ntrain = null\n\n[corpora]\n" + recipe[: recipe.index("```")]
    DocBin(docs=[NLP("One fever."), NLP("Two knees.")]).to_disk(tmp_path / "train.spacy")
    config = Config().from_str(recipe, overrides={"paths.train": str(tmp_path / "train.spacy")})
    reader = registry.resolve(config["corpora"])["train"]
    assert [get_context(eg.predicted) for eg in reader(NLP)] == [("", "Two knees."), ("One fever.", "")]


def test_strings_are_refused() -> None:
    with pytest.raises(TypeError, match="make_doc"):
        list(add_context(["One fever."]))  # type: ignore[list-item]


def test_the_reader_is_checked() -> None:
    with pytest.raises(ValueError, match="words = 0"):
        DocumentContext(corpus, words=0)
