"""`crf-ner quantize` and what it is made of."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import DocBin
from thinc.api import Config, fix_random_seed

import spacy_crf_ner.cli.quantize as quantize_command
from spacy_crf_ner.deployment.quantize import quantize, same_entities
from spacy_crf_ner.embedding import int8

from ..cli.running import run, said
from ..conftest import TEXTS, entities, found, make_examples, make_nlp, train

texts = [text for text, _ in TEXTS]


@pytest.fixture(scope="module")
def saved(encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    fix_random_seed(0)
    nlp = make_nlp(encoder)
    train(nlp, make_examples(nlp))
    path = tmp_path_factory.mktemp("trained") / "pipeline"
    nlp.to_disk(path)
    return path


def write_texts(path: Path, suffix: str) -> Path:
    if suffix == "txt":
        path.write_text("\n".join([*texts, "", *texts]), encoding="utf-8")
        return path
    nlp = spacy.blank("en")
    DocBin(docs=[nlp(text) for text in texts]).to_disk(path)
    return path


@pytest.mark.parametrize("suffix", ["txt", "spacy"])
def test_a_quantized_pipeline_finds_the_same_and_loads_like_any_other(saved: Path, suffix: str, tmp_path: Path) -> None:
    data = write_texts(tmp_path / f"texts.{suffix}", suffix)
    result = run("quantize", saved, tmp_path / "out", "--data", data)
    assert "of them the same" in said(result)
    assert (
        f"python -m spacy crf-ner evaluate {tmp_path / 'out'} DATA --compare {saved} --output scores" in result.output
    )
    assert not list(tmp_path.glob(".out*"))
    again = spacy.load(tmp_path / "out")
    tok2vec = again.get_pipe("crf_ner").model.get_ref("tok2vec")  # type: ignore[attr-defined]
    assert again.config["components"]["crf_ner"]["model"]["tok2vec"]["precision"] == "int8"
    assert any(isinstance(part, int8.Int8Linear) for part in tok2vec.shims[0].module.encoder.modules())
    before = spacy.load(saved)
    assert [entities(d) for d in again.pipe(texts)] == [entities(d) for d in before.pipe(texts)]
    copied = pickle.loads(pickle.dumps(again))
    assert [found(d) for d in copied.pipe(texts)] == [found(d) for d in again.pipe(texts)]
    size = [sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) for path in (tmp_path / "out", saved)]
    assert size[0] < size[1]


@pytest.mark.slow
def test_processes_share_the_work(saved: Path, tmp_path: Path) -> None:
    data = write_texts(tmp_path / "texts.txt", "txt")
    run("quantize", saved, tmp_path / "out", "--data", data)
    nlp = spacy.load(tmp_path / "out")
    assert [found(d) for d in nlp.pipe(texts, n_process=2)] == [found(d) for d in nlp.pipe(texts)]


def test_the_training_corpus_is_what_it_takes_where_nothing_is_given(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "named")
    config = Config().from_disk(saved / "config.cfg")
    config["paths"] = {"train": str(write_texts(tmp_path / "train.spacy", "spacy"))}
    config.to_disk(tmp_path / "named" / "config.cfg")
    run("quantize", tmp_path / "named", tmp_path / "out")


@pytest.mark.parametrize(("before", "after"), [(1.0, 2.0), (2.0, 1.0)])
def test_it_says_when_it_was_of_no_use(
    saved: Path, before: float, after: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {"Before": before, "After": after}
    monkeypatch.setattr(quantize_command, "_predict", lambda nlp, texts, name: (list(nlp.pipe(texts)), seconds[name]))
    data = write_texts(tmp_path / "texts.txt", "txt")
    result = run("quantize", saved, tmp_path / "out", "--data", data)
    assert ("no faster" in said(result)) == (after > before)


def test_a_shared_embedding_is_quantized(encoder: str) -> None:
    nlp = spacy.blank("en")
    embedding = {"@architectures": "spacy_crf_ner.TransformerCNN.v1", "encoder": encoder, "width": 24}
    nlp.add_pipe("transformer_cnn", config={"model": embedding})
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 24, "upstream": "transformer_cnn"}
    model = {"@architectures": "spacy_crf_ner.CRFTagger.v1", "tok2vec": listener}
    nlp.add_pipe("crf_ner", config={"model": model})
    train(nlp, make_examples(nlp))
    before = [entities(d) for d in nlp.pipe(texts)]
    quantize(nlp, [nlp.make_doc(text) for text in texts])
    assert [entities(d) for d in nlp.pipe(texts)] == before
    assert nlp.config["components"]["transformer_cnn"]["model"]["precision"] == "int8"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{saved}", "{tmp}/out"], "Give texts like those"),
        (["{saved}", "{tmp}/out", "--data", "{tmp}/none.txt"], "none.txt"),
        (["{saved}", "{tmp}/out", "--data", "{tmp}/few.txt"], "it has 1 texts, and at least 4"),
        (["{saved}", "{tmp}/few.txt", "--data", "{tmp}/texts.txt"], "it is there already"),
        (["{tmp}", "{tmp}/out", "--data", "{tmp}/texts.txt"], "there is no pipeline"),
        (["{saved}", "{tmp}/out", "--data", "{tmp}/texts.txt", "--documents", "2"], "at least 4"),
        (["{tmp}/blank", "{tmp}/out", "--data", "{tmp}/texts.txt"], "nothing to quantize"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(arguments: list, message: str, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("one\n")
    write_texts(tmp_path / "texts.txt", "txt")
    spacy.blank("en").to_disk(tmp_path / "blank")
    result = run("quantize", *(part.format(saved=saved, tmp=tmp_path) for part in arguments), ok=False)
    assert result.exit_code == 1
    assert message in said(result)
    assert not (tmp_path / "out").exists()


def test_it_cannot_be_done_twice(trained: Language, saved: Path) -> None:
    nlp: Any = spacy.load(saved)
    quantize(nlp, [nlp.make_doc(text) for text in texts])
    with pytest.raises(ValueError, match="crf_ner: its encoder is quantized already"):
        quantize(nlp, [nlp.make_doc(text) for text in texts])
    with pytest.raises(ValueError, match="no text"):
        quantize(spacy.load(saved), [])


def test_what_two_runs_share_is_counted(trained: Language) -> None:
    before = list(trained.pipe(texts))
    after = [doc.copy() for doc in before]
    n = sum(len(d.ents) for d in before)
    assert same_entities(before, after) == (n, n, n)
    after[0].ents = after[0].ents[1:]
    after[0].spans.clear()
    shared, n_before, n_after = same_entities(before, after)
    assert (n_before, shared) == (n, n - 1)
    assert n_after == n - 1
