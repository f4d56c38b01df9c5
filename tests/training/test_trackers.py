"""Trackers get numbers and settings, and nothing that happens to them reaches the training."""

import importlib
import json
import os
import sys
import textwrap
from pathlib import Path
from typing import Any, Dict, List

import pytest
import spacy
from spacy.training import Corpus
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as spacy_train
from thinc.api import Config

from spacy_crf_ner.training import trackers

from .runs import Stop, changed, digest, stop_after, train, with_extras

TEXT = "acetyl"  # a word of the corpus


def with_logger(config: Config, name: str, **settings: Any) -> Config:
    """The configuration with one of our trackers beside a console logger."""
    chained = {
        "@loggers": "spacy.ChainLogger.v1",
        "logger1": {"@loggers": "spacy.ConsoleLogger.v1"},
        "logger2": {"@loggers": f"spacy_crf_ner.{name}.v1", **settings},
    }
    return Config({**config, "training": {**config["training"], "logger": chained}})


def read_events(folder: Path) -> Dict[str, List[Any]]:
    """Points of event files, by name: step and value."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), {"scalars": 0})
    found.Reload()
    return {name: [(e.step, e.value) for e in found.Scalars(name)] for name in found.Tags()["scalars"]}


def test_tensorboard_holds_what_the_metrics_say(config: Config, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = with_extras(with_logger(config, "TensorBoardLogger", log_steps=1), curves=False, checkpoint_steps=3)
    _, history = train(config, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 8, Stop())
        with pytest.raises(Stop):
            train(config, tmp_path / "cut")
    train(config, tmp_path / "cut", resume=True)
    whole, cut = (read_events(tmp_path / name / "tensorboard") for name in ("whole", "cut"))
    assert [step for step, _ in whole["loss/crf_ner"]] == list(range(12))
    for line, (_, loss), (_, norm) in zip(history, whole["loss/crf_ner"], whole["gradient_norm"]):
        assert loss == pytest.approx(line["losses"]["crf_ner"], rel=1e-6)
        assert norm == pytest.approx(line["gradient_norm"], rel=1e-6)
    assert [step for step, _ in whole["scores/ents_f"]] == [0, 4, 8]
    assert {name: points for name, points in cut.items() if name != "words_a_second"} == {
        name: points for name, points in whole.items() if name != "words_a_second"
    }


def test_spacys_own_loop_tells_of_evaluations(config: Config, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = with_logger(config, "TensorBoardLogger", folder=str(tmp_path / "events"))
    with open(os.devnull, "w") as nowhere:
        spacy_train(init_nlp(config), stdout=nowhere, stderr=nowhere)
    assert [step for step, _ in read_events(tmp_path / "events")["score"]] == [0, 4, 8]


def test_a_run_of_mlflow_is_gone_on_with(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    address = (tmp_path / "store").as_uri()
    settings = {"experiment": "tests", "tracking_uri": address, "log_steps": 2, "artifacts": True}
    config = with_extras(with_logger(config, "MLflowLogger", **settings), checkpoint_steps=3)
    with monkeypatch.context() as patch:
        stop_after(patch, 8, Stop())
        with pytest.raises(Stop):
            train(config, tmp_path / "out")
    train(config, tmp_path / "out", resume=True)
    client = MlflowClient(tracking_uri=address)
    (run,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["training.optimizer.learn_rate"] == "0.01"
    assert {metric.step for metric in client.get_metric_history(run.info.run_id, "loss/crf_ner")} == {0, 2, 4, 6, 8, 10}
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"metrics.jsonl", "training.png", "training.html"}


def test_wandb_writes_files_and_no_text(config: Config, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    config = with_extras(with_logger(config, "WandbLogger", project="tests", log_steps=1), curves=False)
    train(config, tmp_path)
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    (file,) = run.glob("*.wandb")
    content = file.read_bytes()
    assert b"loss/crf_ner" in content
    assert TEXT.encode() not in content
    assert not list(run.glob("files/*output.log"))


def fake(folder: Path, package: str, body: str) -> None:
    """A package of that name which the tracker's process finds before the real one."""
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text(textwrap.dedent(body))
    importlib.invalidate_caches()


WANDB = """
import json, os
class Run:
    id = "run-1"
    def define_metric(self, *a, **k): pass
    def log(self, values): note(["log", values])
    def save(self, *a, **k): note(["save", a])
    def finish(self, exit_code): note(["finish", exit_code])
def note(what):
    with open(os.environ["NOTES"], "a") as file:
        file.write(json.dumps(what) + "\\n")
def Settings(**k): return k
def init(**k):
    note(["init", k])
    %s
    return Run()
"""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    (tmp_path / "fakes").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "fakes"))
    monkeypatch.setattr("spacy.util.logger.propagate", True)
    yield tmp_path / "notes"
    sys.modules.pop("wandb", None)


def read(notes: Path) -> List[Any]:
    return [json.loads(line) for line in notes.read_text().splitlines()]


def test_a_resumed_run_has_the_same_name(
    config: Config,
    notes: Path,
    tmp_path: Path,
) -> None:
    fake(tmp_path / "fakes", "wandb", WANDB % "")
    config = with_extras(with_logger(config, "WandbLogger", project="tests"), curves=False)
    train(changed(config, training__max_steps=4), tmp_path / "out")
    train(changed(config, training__max_steps=8), tmp_path / "out", resume=True)
    begun = [what[1] for what in read(notes) if what[0] == "init"]
    assert [(begin["id"], begin["resume"], begin["mode"]) for begin in begun] == [
        (None, None, "offline"),
        ("run-1", "allow", "offline"),
    ]
    assert read(notes)[-1] == ["finish", 0]


@pytest.mark.parametrize("fault", ["raise OSError('no route')", "import time; time.sleep(99)", "os._exit(3)"])
def test_an_outage_changes_nothing(
    config: Config,
    fault: str,
    notes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = with_extras(changed(config, training__dropout=0.3), curves=False)
    train(config, tmp_path / "alone")
    caplog.clear()
    fake(tmp_path / "fakes", "wandb", WANDB % fault)
    monkeypatch.setattr(trackers, "PATIENCE", 1.0)
    train(with_logger(config, "WandbLogger", project="tests", log_steps=1), tmp_path / "tracked")
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len([message for message in told if message.startswith("WandbLogger: ")]) == 1
    ends = {name: digest(tmp_path / name) for name in ("alone", "tracked")}
    assert ends["alone"] == ends["tracked"]


def test_settings_that_hold_text_are_not_told(
    config: Config,
    notes: Path,
    tmp_path: Path,
) -> None:
    @spacy.registry.readers("tests.inline.v1")
    def make(path: str, text: str) -> Any:
        return Corpus(path)

    fake(tmp_path / "fakes", "wandb", WANDB % "")
    for part in ("train", "dev"):
        config["corpora"][part].update({"@readers": "tests.inline.v1", "text": TEXT})
    train(with_extras(with_logger(config, "WandbLogger", project="tests"), curves=False), tmp_path / "out")
    assert TEXT not in notes.read_text()
    told = read(notes)[0][1]["config"]
    assert told["training.dropout"] == 0.2
    assert not any(name.startswith("corpora") for name in told)


@pytest.mark.parametrize("name", ["TensorBoardLogger", "MLflowLogger", "WandbLogger"])
def test_a_package_that_is_missing_is_named(
    config: Config,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda package: None)
    settings = {
        "TensorBoardLogger": {},
        "MLflowLogger": {"experiment": "a", "tracking_uri": "b"},
        "WandbLogger": {"project": "a"},
    }[name]
    with pytest.raises(ValueError, match=r"pip install spacy-crf-ner\[tracking\]"):
        train(with_logger(config, name, **settings), tmp_path / "out")
    assert not (tmp_path / "out").exists()
