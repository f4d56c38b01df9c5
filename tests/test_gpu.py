"""On a GPU, where there is one, it does what it does on the CPU."""

from pathlib import Path
from typing import Iterator

import pytest
import spacy
import torch
from spacy.language import Language
from thinc.api import NumpyOps, set_current_ops

from .conftest import TEXTS, entities, found, make_examples, make_nlp, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture
def gpu() -> Iterator[None]:
    pytest.importorskip("cupy")
    spacy.require_gpu(0)
    yield
    set_current_ops(NumpyOps())
    torch.set_default_device("cpu")


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("mode", ["joint", "marginal", "independent"])
def test_it_learns_on_the_gpu(encoder: str, mode: str) -> None:
    nlp = make_nlp(encoder, mode=mode)
    examples = make_examples(nlp)
    train(nlp, examples)
    assert [entities(doc) for doc in nlp.pipe(text for text, _ in TEXTS)] == [entities(eg.reference) for eg in examples]


def test_a_pipeline_from_the_cpu_finds_the_same_on_the_gpu(
    trained: Language, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    texts = [text for text, _ in TEXTS]
    here = [found(doc) for doc in trained.pipe(texts)]
    trained.to_disk(tmp_path)
    request.getfixturevalue("gpu")
    there = [found(doc) for doc in spacy.load(tmp_path).pipe(texts)]
    assert [[e[:3] for e in doc] for doc in there] == [[e[:3] for e in doc] for doc in here]
    for a, b in zip(here, there):
        assert [e[3] for e in a] == pytest.approx([e[3] for e in b], abs=1e-3)
