"""Fixtures of the tests of training."""

import pytest


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes seconds of every training, and is tested where it is looked at."""
    if not request.module.__name__.endswith("test_seeing"):
        monkeypatch.setattr("spacy_crf_ner.training.pictures.to_png", lambda panels: b"")
