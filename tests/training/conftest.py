"""Fixtures of the tests of training."""

import pytest
import spacy
from spacy.tokens import DocBin
from thinc.api import Config

from ..conftest import make_examples
from .runs import SMALL


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes seconds of every training, and is tested where it is looked at."""
    if not request.module.__name__.endswith("test_seeing"):
        monkeypatch.setattr("spacy_crf_ner.training.pictures.to_png", lambda panels: b"")


@pytest.fixture(scope="module")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    nlp = spacy.blank("en")
    path = tmp_path_factory.mktemp("corpus") / "small.spacy"
    DocBin(docs=[eg.reference for eg in make_examples(nlp)]).to_disk(path)
    return str(path)


@pytest.fixture
def config(encoder: str, corpus_file: str) -> Config:
    overrides = {
        "paths.train": corpus_file,
        "paths.dev": corpus_file,
        "components.crf_ner.model.tok2vec.encoder": encoder,
    }
    return Config().from_str(SMALL, overrides=overrides, interpolate=False)
