"""Phases: pipes that do not learn stay as they are to the last bit, and the others get what they need."""

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.training.initialize import init_nlp
from thinc.api import Config

from spacy_crf_ner.training.checkpoint import CheckpointError
from spacy_crf_ner.training.loop import Training
from spacy_crf_ner.training.phases import read_phases

from ..conftest import make_examples
from .runs import Stop, changed, digest, stop_after, train, weights, with_extras

PHASES = {"1": {"until_step": 4, "pipes": ["crf_ner"]}, "2": {"until_step": 8, "pipes": None}, "3": {"until_step": 0}}


@pytest.fixture
def tagged(tmp_path: Path) -> str:
    """The small corpus with tags, entities in every second document only."""
    nlp = spacy.blank("en")
    docs = [eg.reference for eg in make_examples(nlp)]
    for doc in docs:
        for token in doc:
            token.tag_ = token.text[:1]
    path = tmp_path / "tagged.spacy"
    spacy.tokens.DocBin(docs=docs).to_disk(path)
    return str(path)


def shared(
    config: Config, tagged: str, embedding: str = "transformer_cnn", pipes: tuple = ("crf_ner", "tagger")
) -> Config:
    """An embedding that a recogniser and a tagger listen to: ours, or spaCy's own."""
    config = Config().from_str(config.to_str(interpolate=False), interpolate=False)
    config["paths"]["train"] = config["paths"]["dev"] = tagged
    model = config["components"]["crf_ner"]["model"]
    if embedding == "transformer_cnn":
        own = {**model["tok2vec"], "width": 24}
    else:
        own = {"@architectures": "spacy.HashEmbedCNN.v2", "width": 24, "depth": 1, "embed_size": 100, "window_size": 1,
               "maxout_pieces": 2, "subword_features": True, "pretrained_vectors": None}  # fmt: skip
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 24, "upstream": "*"}
    config["nlp"]["pipeline"] = [embedding, *pipes]
    config["components"][embedding] = {"factory": embedding, "model": own}
    model["tok2vec"] = listener
    config["components"]["tagger"] = {
        "factory": "tagger",
        "model": {"@architectures": "spacy.Tagger.v2", "nO": None, "normalize": False, "tok2vec": listener},
    }
    return config


def by_step(config: Config, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> List[Dict[str, np.ndarray]]:
    """The weights after each step."""
    found = []
    step_of = Training._step

    def noted(self: Training, *args: Any) -> Any:
        if not found:
            found.append(weights(self.nlp))
        info = step_of(self, *args)
        found.append(weights(self.nlp))
        return info

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_step", noted)
        train(config, **settings)
    return found


def moved(before: Dict[str, np.ndarray], after: Dict[str, np.ndarray]) -> set:
    """Pipes of which any weight has changed."""
    return {name.partition("/")[0] for name, value in before.items() if not np.array_equal(value, after[name])}


@pytest.mark.parametrize("embedding", ["transformer_cnn", "tok2vec"])
def test_pipes_that_do_not_learn_do_not_change(
    config: Config, tagged: str, embedding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an embedding that is frozen under a listener that learns, and one that learns under frozen ones, first or
    last of all listeners."""
    learning = [
        ["crf_ner"],
        [embedding, "crf_ner"],
        [embedding, "tagger"],
        ["tagger", "crf_ner"],
        ["tagger"],
    ]
    phases = {str(i): {"until_step": 2 * i + 2, "pipes": pipes} for i, pipes in enumerate(learning)}
    phases["5"] = {"until_step": 0}
    steps = by_step(with_extras(shared(config, tagged, embedding), phases=phases), monkeypatch)
    for i, pipes in enumerate([*learning, [embedding, "tagger", "crf_ner"]]):
        assert moved(steps[2 * i], steps[2 * i + 2]) == {*pipes}, i


@pytest.mark.parametrize("embedding", ["transformer_cnn", "tok2vec"])
@pytest.mark.parametrize("frozen", ["embedding", "crf_ner", "tagger"])
def test_components_that_are_frozen_leave_the_others_to_learn(
    config: Config, tagged: str, embedding: str, frozen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the embedding of which the last listener is frozen, and listeners of a frozen one that does not annotate."""
    config = changed(shared(config, tagged, embedding), training__max_steps=3)
    init_nlp(config).to_disk(tmp_path / "begun")
    names = [*config["nlp"]["pipeline"]]
    for name in names:
        config["components"][name] = {"source": str(tmp_path / "begun")}
    config["training"]["frozen_components"] = [frozen.replace("embedding", embedding)]
    steps = by_step(config, monkeypatch)
    assert moved(steps[0], steps[-1]) == {*names} - {*config["training"]["frozen_components"]}


def test_a_frozen_embedding_gives_what_it_would_predict(
    config: Config, tagged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recogniser's steps are those that spaCy's way to freeze leads to."""
    config = changed(shared(config, tagged, pipes=("crf_ner",)), training__max_steps=3)
    init_nlp(config).to_disk(tmp_path / "begun")
    config["components"]["transformer_cnn"] = {"source": str(tmp_path / "begun")}
    phases = {"1": {"until_step": 4, "pipes": ["crf_ner"]}, "2": {"until_step": 0}}
    found = by_step(with_extras(config, phases=phases), monkeypatch)
    config["training"]["frozen_components"] = ["transformer_cnn"]
    config["training"]["annotating_components"] = ["transformer_cnn"]
    expected = by_step(config, monkeypatch)
    assert moved(found[0], found[-1]) == {"crf_ner"}
    for a, b in zip(found, expected):
        assert a.keys() == b.keys()
        assert all(np.array_equal(value, b[name]) for name, value in a.items())


def test_one_phase_of_all_pipes_changes_nothing(config: Config, tagged: str, tmp_path: Path) -> None:
    config = shared(config, tagged)
    train(config, tmp_path / "plain")
    _, history = train(with_extras(config, phases={"all": {"until_step": 0}}), tmp_path / "phase")
    assert digest(tmp_path / "plain")["model"] == digest(tmp_path / "phase")["model"]
    assert {line["phase"] for line in history} == {"all"}
    assert "phase" not in (tmp_path / "plain" / "metrics.jsonl").read_text()


@pytest.mark.parametrize("step", [2, 4, 7])
def test_each_phase_is_resumed_to_the_last_bit(
    config: Config, tagged: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_extras(shared(config, tagged), phases=PHASES, checkpoint_steps=2)
    train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, step, Stop())
        with pytest.raises(Stop):
            train(config, tmp_path / "cut")
    _, history = train(config, tmp_path / "cut", resume=True)
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")
    assert [line["phase"] for line in history] == ["1"] * 4 + ["2"] * 4 + ["3"] * 4
    for name in ("transformer_cnn", "tagger"):
        a, b = ((tmp_path / run / "model-last" / name / "model").read_bytes() for run in ("whole", "cut"))
        assert a == b
    with pytest.raises(CheckpointError, match=r"training_extras.phases.1.until_step was 4 and is 5"):
        train(changed(config, training_extras__phases__1__until_step=5), tmp_path / "cut", resume=True)


def test_what_is_frozen_stays_frozen_in_all_phases(
    config: Config, tagged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("spacy.util.logger.propagate", True)
    config = shared(config, tagged)
    init_nlp(config).to_disk(tmp_path / "begun")
    config = changed(config, training__frozen_components=["tagger"])
    config["components"]["tagger"] = {"source": str(tmp_path / "begun"), "replace_listeners": ["model.tok2vec"]}
    phases = {"1": {"until_step": 4, "pipes": ["crf_ner", "tagger"]}, "2": {"until_step": 0}}
    steps = by_step(with_extras(config, phases=phases), monkeypatch)
    assert moved(steps[0], steps[4]) == {"crf_ner"}
    assert moved(steps[4], steps[-1]) == {"crf_ner", "transformer_cnn"}
    assert "tagger is one of [training] frozen_components, and stays frozen" in caplog.text


def test_patience_waits_for_the_last_phase(config: Config, tagged: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A score that never rises ends the training when that phase has had its time, and rates fall as late."""
    monkeypatch.setattr(Language, "evaluate", lambda self, examples, **_: {"ents_f": 0.5, "speed": 1.0})
    config = changed(shared(config, tagged), training__patience=3, training__eval_frequency=1)
    config["training"]["optimizer"].update(warmup_steps=0, decay="constant")
    _, plain = train(config)
    assert [line["step"] for line in plain] == [0, 1, 2, 3]
    phases = {"1": {"until_step": 2, "pipes": ["crf_ner"]}, "2": {"until_step": 5}, "3": {"until_step": 0}}
    _, history = train(with_extras(config, phases=phases, plateau_patience=3))
    assert [line["step"] for line in history] == [*range(9)]
    rates = [line["learn_rate"] for line in history]
    assert rates == [0.01] * 5 + [0.005] * 3 + [0.0025]


def test_the_console_shows_pipes_that_wait(config: Config, tagged: str) -> None:
    class Lines(list):
        def write(self, text: str) -> None:
            self.append(text)

        def flush(self) -> None:
            pass

    from spacy_crf_ner import train as train_with_output

    lines = Lines()
    config = with_extras(shared(config, tagged), phases=PHASES)
    train_with_output(config, stdout=lines, stderr=lines)
    rows = [line.split() for line in "".join(lines).splitlines() if line.strip()[:1].isdigit()]
    assert [row[1] for row in rows] == ["0", "4", "8"]
    # epoch, step, loss of each pipe
    assert [float(row[4]) > 0 for row in rows] == [False, True, True]


# What a user can get wrong


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ({"1": {"until_step": 0, "pipes": ["ner"]}}, r'phases.1\] pipes: there is no pipe "ner". There are crf_ner'),
        ({"1": {"until_step": 5}}, "until_step = 5: no phase lasts to the end"),
        ({"a": {"until_step": 5}, "b": {"until_step": 5}, "c": {"until_step": 0}}, "has to end after the one before"),
        ({"1": {"until_step": 5}, "2": {"until_step": 3}, "3": {"until_step": 0}}, "has to end after the one before"),
        ({"a": {"until_step": 0}, "b": {"until_step": 0}}, "has to end after the one before"),
        ({"1": {"until_step": -1}}, "until_step = -1"),
        ({"1": {"until_step": "late"}}, "until_step = 'late'"),
        ({"1": {"pipes": ["crf_ner"]}}, "a section with until_step"),
        ({"1": {"until_step": 0, "pipe": ["crf_ner"]}}, "a section with until_step"),
        ({"1": {"until_step": 0, "pipes": []}}, r"pipes = \[\]"),
        ({"1": {"until_step": 0, "pipes": "crf_ner"}}, "pipes = 'crf_ner'"),
    ],
)
def test_wrong_phases_are_named(config: Config, phases: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(with_extras(config, phases=phases))


def test_a_phase_in_which_nothing_is_learned_is_refused(config: Config, tagged: str) -> None:
    config = shared(config, tagged)
    alone = {"1": {"until_step": 3, "pipes": ["transformer_cnn"]}, "2": {"until_step": 0}}
    with pytest.raises(ValueError, match="transformer_cnn learns from the pipes that listen to it"):
        train(with_extras(config, phases=alone))
    nothing = {"1": {"until_step": 3, "pipes": ["tagger"]}, "2": {"until_step": 0}}
    with pytest.raises(ValueError, match="none of them learns anything"):
        train(with_extras(changed(config, training__frozen_components=["tagger"]), phases=nothing))


def test_phases_come_in_the_order_of_their_ends() -> None:
    block = {"z": {"until_step": 0}, "b": {"until_step": 3}, "a": {"until_step": 10}}
    assert [phase.name for phase in read_phases(block, [])] == ["b", "a", "z"]


def test_a_last_phase_that_is_not_reached_is_pointed_out(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("spacy.util.logger.propagate", True)
    phases = {"1": {"until_step": 12}, "2": {"until_step": 0}}
    train(with_extras(config, phases=phases))
    assert "max_steps = 11: the last phase, which begins with step 12, is not reached" in caplog.text


@pytest.mark.parametrize("embedding", ["transformer_cnn", "tok2vec"])
def test_a_pipe_learns_where_its_phase_and_its_corpus_let_it(
    config: Config, tagged: str, embedding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = shared(config, tagged, embedding)
    reader = {"@readers": "spacy.Corpus.v1", "path": tagged, "gold_preproc": False}
    config["corpora"]["train"] = {"@readers": "spacy_crf_ner.MultiCorpus.v1", "corpora": {"a": reader, "b": reader}}
    phases = {
        "1": {"until_step": 2, "pipes": [embedding, "crf_ner"]},
        "2": {"until_step": 4, "pipes": [embedding, "tagger"]},
        "3": {"until_step": 0},
    }
    corpora = {name: {"pipes": ["crf_ner"]} for name in ("a", "b")}
    steps = by_step(with_extras(config, phases=phases, corpora=corpora, one_batch_of_each=True), monkeypatch)
    assert moved(steps[0], steps[2]) == {embedding, "crf_ner"}
    # spaCy's embedding goes on by the optimizer's momentum: its gradient is zero, ours is none
    assert moved(steps[2], steps[4]) - {"tok2vec"} == set()
    assert moved(steps[4], steps[-1]) == {embedding, "crf_ner"}
