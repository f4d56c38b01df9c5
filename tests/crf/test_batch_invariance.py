"""What is found in a document does not depend on what else is in the batch."""

import random
from pathlib import Path
from typing import Any, Set, Tuple

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin

from spacy_crf_ner.crf import pipe as pipe_module
from spacy_crf_ner.deployment.quantize import quantize
from spacy_crf_ner.embedding import int8

from ..conftest import TEXTS, corpus

# how many of the entities have to be the same
SAME = {"fp32": 1.0, "bf16": 0.999, "int8": 0.995}


def at(precision: str, path: Path, examples: Any) -> Language:
    """A pipeline at a precision, with small windows."""
    if precision == "int8" and not int8.works():
        pytest.skip("this processor has no instructions for int8")
    floats = "fp32" if precision == "int8" else precision
    nlp = spacy.load(path, config={"components.crf_ner.model.tok2vec.precision": floats})
    if precision == "int8":
        quantize(nlp, [nlp.make_doc(text) for text in examples])
    return nlp


def entities(nlp: Language, docs: Any) -> Set[Tuple[int, int, int, str]]:
    return {(doc.user_data["n"], e.start, e.end, e.label_) for doc in docs for e in doc.ents}


def compare(nlp: Language, texts: Any, same: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predict in many groupings and under many budgets."""

    def make(order: Any) -> Any:
        for n in order:
            doc = nlp.make_doc(texts[n])
            doc.user_data["n"] = n
            yield doc

    generator = random.Random(0)
    node = nlp.get_pipe("crf_ner").model.get_ref("tok2vec")  # type: ignore[attr-defined]
    running = node.attrs["running"]
    settings = type(running)
    expected = entities(nlp, [doc for n in range(len(texts)) for doc in nlp.pipe(make([n]))])
    assert expected
    for _ in range(6):
        order = generator.sample(range(len(texts)), len(texts))
        budget = generator.choice([30, 300, 2048, 8192])
        node.attrs["running"] = settings(running.frozen_layers, "none", budget, running.precision)
        monkeypatch.setattr(pipe_module, "PREDICTED_TOKENS", generator.choice([20, 500, 100_000]))
        found = entities(nlp, nlp.pipe(make(order), batch_size=generator.choice([2, 7, 1000])))
        assert len(found ^ expected) <= 2 * (1 - same) * len(expected), (budget, found ^ expected)


@pytest.mark.parametrize("precision", SAME)
def test_of_the_small_corpus(
    precision: str, trained: Language, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = random.Random(1)
    words = [word for text, _ in TEXTS for word in text.split()]
    texts = [" ".join(generator.choices(words, k=generator.choice([1, 4, 30, 90]))) for _ in range(120)]
    trained.to_disk(tmp_path)
    compare(at(precision, tmp_path, texts), texts, SAME[precision], monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("precision", SAME)
def test_of_real_texts(
    precision: str, encoder: str, trained: Language, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tweets through the small pipeline: it knows nothing of them, so that many decisions are close ones."""
    path = corpus("wnut17", "emerging.dev.conll")
    blocks = path.read_text(encoding="utf-8").strip().split("\n\n")[:300]
    texts = [" ".join(line.split("\t")[0] for line in block.splitlines()) for block in blocks]
    trained.to_disk(tmp_path)
    compare(at(precision, tmp_path, texts), texts, SAME[precision], monkeypatch)


def test_docs_of_a_docbin_too(trained: Language) -> None:
    docs = [trained.make_doc(text) for text, _ in TEXTS]
    again = DocBin(docs=docs).get_docs(trained.vocab)
    one = [Doc(trained.vocab).from_bytes(doc.to_bytes()) for doc in docs]
    found = [[(e.start, e.end, e.label_) for e in doc.ents] for doc in trained.pipe(again)]
    assert found == [[(e.start, e.end, e.label_) for e in trained(doc).ents] for doc in one]
