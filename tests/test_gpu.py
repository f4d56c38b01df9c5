"""On a GPU, where there is one, it does what it does on the CPU."""

from pathlib import Path
from typing import Iterator

import pytest
import spacy
import torch
from spacy.language import Language
from thinc.api import NumpyOps, set_current_ops

from spacy_crf_ner.embedding.bert import hidden_states
from spacy_crf_ner.embedding.module import TransformerCNNModule

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


def embedding(nlp: Language) -> TransformerCNNModule:
    return nlp.get_pipe("crf_ner").model.get_ref("tok2vec").shims[0].module  # type: ignore[attr-defined]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_on_the_gpu(encoder: str, precision: str) -> None:
    nlp = make_nlp(encoder, {"precision": precision})
    examples = make_examples(nlp)
    train(nlp, examples, steps=80)
    assert [entities(doc) for doc in nlp.pipe(text for text, _ in TEXTS)] == [entities(eg.reference) for eg in examples]
    assert (embedding(nlp).loss_scale is not None) == (precision == "fp16")


@pytest.mark.usefixtures("gpu")
def test_what_fits_into_memory_is_found_and_stored(encoder: str, tmp_path: Path) -> None:
    nlp = make_nlp(encoder)
    train(nlp, make_examples(nlp), steps=2)
    list(nlp.pipe(text for text, _ in TEXTS))
    found = embedding(nlp).found
    assert {key.split(", ")[1] for key in found} == {"training", "prediction"}
    assert all(budget >= 1024 for budget in found.values())
    nlp.to_disk(tmp_path)
    assert embedding(spacy.load(tmp_path)).found == found


@pytest.mark.usefixtures("gpu")
def test_lack_of_memory_is_survived(encoder: str) -> None:
    """A micro-batch that does not fit is halved, and gives what it would have given."""
    nlp = make_nlp(encoder, {"micro_batch_pieces": 10**9})
    train(nlp, make_examples(nlp), steps=2)
    texts = [text for text, _ in TEXTS] * 3000
    expected = [found(doc) for doc in nlp.pipe(texts[:6])]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 600e6 / torch.cuda.get_device_properties(0).total_memory))
    try:
        there = [found(doc) for doc in nlp.pipe(texts, batch_size=len(texts))]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert embedding(nlp).found, "all of it fitted into 600 MB: the test shows nothing"
    for doc, same in zip(there, expected * 3000):
        assert [e[:3] for e in doc] == [e[:3] for e in same]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 5e-3), (torch.bfloat16, 5e-2)])
def test_the_forward_pass_is_hugging_faces(encoder: str, kind: torch.dtype, tolerance: float) -> None:
    nlp = make_nlp(encoder)
    nlp.initialize(lambda: make_examples(nlp))
    model = embedding(nlp).encoder.to(kind).eval()
    ids = torch.randint(5, 20, (7, 19), device="cuda")
    n_real = torch.tensor([19, 3, 7, 19, 18, 1, 11], device="cuda")
    mask = (torch.arange(19, device="cuda") < n_real[:, None]).long()
    with torch.no_grad():
        theirs = model(input_ids=ids, attention_mask=mask)[0]
        ours = hidden_states(model, ids, n_real, [model.config.num_hidden_layers])
    torch.testing.assert_close(ours[mask.bool()], theirs[mask.bool()], atol=tolerance, rtol=tolerance)


@pytest.mark.usefixtures("gpu")
def test_vectors_of_a_frozen_encoder_stay_on_the_gpu(encoder: str) -> None:
    nlp = make_nlp(encoder, {"frozen_layers": "all", "cache": "gpu"})
    examples = make_examples(nlp)
    train(nlp, examples, steps=3)
    module = embedding(nlp)
    ran = []
    module.encoder.embeddings.register_forward_hook(lambda *_: ran.append(1))
    nlp.update(examples, sgd=False)
    assert not ran
