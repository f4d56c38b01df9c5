"""The extended loop is spaCy's own, and one that was stopped ends as one that was not."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as spacy_train
from thinc.api import Config

from spacy_crf_ner.training import checkpoint as checkpoints
from spacy_crf_ner.training.blame import CodeError
from spacy_crf_ner.training.checkpoint import CheckpointError, newest
from spacy_crf_ner.training.loop import Interrupted, Training

from ..conftest import make_examples, make_nlp
from .runs import Stop, assert_resumed_as_unbroken, break_off, changed, digest, stop_after, train, weights, with_extras

# Parity with spacy train


@pytest.mark.parametrize("optimizer", ["ours", "thinc"])
def test_it_takes_the_same_steps_as_spacy_train(config: Config, optimizer: str) -> None:
    config = changed(config, training__dropout=0.0, training__max_steps=20, training__eval_frequency=100)
    if optimizer == "thinc":
        config["training"]["optimizer"] = {"@optimizers": "Adam.v1", "learn_rate": 0.001}
    theirs = init_nlp(config)
    with open(os.devnull, "w") as nowhere:
        spacy_train(theirs, stdout=nowhere, stderr=nowhere)
    ours, _ = train(config)
    expected, found = weights(theirs), weights(ours)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_it_chooses_what_spacy_train_chooses(config: Config, tmp_path: Path) -> None:
    theirs = init_nlp(config)
    (tmp_path / "theirs").mkdir()
    with open(os.devnull, "w") as nowhere:
        spacy_train(theirs, tmp_path / "theirs", stdout=nowhere, stderr=nowhere)
    train(config, tmp_path / "ours")
    for name in ("model-best", "model-last"):
        a, b = (spacy.load(tmp_path / whose / name) for whose in ("theirs", "ours"))
        assert a.meta["performance"]["ents_f"] == b.meta["performance"]["ents_f"]
    # of equal scores spaCy keeps the last, so that the best need not be the same
    for key, value in weights(a).items():
        np.testing.assert_allclose(weights(b)[key], value, rtol=1e-4, atol=1e-6)


def test_of_equal_scores_the_first_is_kept(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Language, "evaluate", lambda self, examples, **_: {"ents_f": 0.5, "speed": 1.0})
    train(config, tmp_path / "long")
    stop_after(monkeypatch, 1, Stop())
    with pytest.raises(Stop):
        train(config, tmp_path / "short")
    best = [weights(spacy.load(tmp_path / name / "model-best")) for name in ("long", "short")]
    assert all(np.array_equal(value, best[1][key]) for key, value in best[0].items())


def test_any_pipe_can_be_trained(config: Config, tmp_path: Path) -> None:
    config["nlp"]["pipeline"] = ["tagger", "crf_ner"]
    config["components"]["tagger"] = {"factory": "tagger"}
    nlp = spacy.blank("en")
    docs = [eg.reference for eg in make_examples(nlp)]
    for doc in docs:
        for token in doc:
            token.tag_ = token.text[:1]
    config["training"]["optimizer"] = {"@optimizers": "Adam.v1"}
    whole = {}
    for name in ("whole", "cut"):
        output = tmp_path / name
        settings = with_extras(config, checkpoint_steps=5)
        if name == "cut":
            with pytest.MonkeyPatch.context() as patch:
                stop_after(patch, 7, Stop())
                with pytest.raises(Stop):
                    train(settings, output, train_docs=docs, dev_docs=docs)
        nlp, _ = train(settings, output, train_docs=docs, dev_docs=docs, resume=True)
        whole[name] = weights(nlp)
    for key, value in whole["whole"].items():
        assert np.array_equal(value, whole["cut"][key]), key


# Resuming


@pytest.mark.parametrize("step", [1, 3, 4, 5, 9, 12])
def test_a_resumed_training_ends_in_the_same_bytes(
    config: Config, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_extras(config, checkpoint_steps=3)
    config["training"]["optimizer"].update(spike_guard="clip_threshold", average_decay=0.9)
    assert_resumed_as_unbroken(monkeypatch, config, tmp_path, after=step)


def test_a_random_state_that_is_not_restored_shows(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_extras(config, checkpoint_steps=3)
    train(config, tmp_path / "whole")
    break_off(monkeypatch, config, tmp_path / "cut", after=5)
    monkeypatch.setattr("spacy_crf_ner.training.loop.use_torch_random", lambda states: None)
    train(config, tmp_path / "cut", resume=True)
    assert digest(tmp_path / "cut")["model"] != digest(tmp_path / "whole")["model"]


@pytest.mark.parametrize("buffer", [0, 3])
def test_a_stream_is_taken_up_where_it_was(
    config: Config, buffer: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_extras(changed(config, training__max_epochs=-1), checkpoint_steps=3, shuffle_buffer=buffer)
    assert_resumed_as_unbroken(monkeypatch, config, tmp_path, after=8)


def test_schedules_of_the_batcher_go_on(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = with_extras(config, checkpoint_steps=3)
    config["training"]["batcher"]["size"] = {"@schedules": "compounding.v1", "start": 8, "stop": 60, "compound": 1.2}
    assert_resumed_as_unbroken(monkeypatch, config, tmp_path, after=8)


def test_more_steps_can_be_asked_for(config: Config, tmp_path: Path) -> None:
    config["training"]["optimizer"]["total_steps"] = 40
    train(changed(config, training__max_steps=20), tmp_path / "whole")
    train(changed(config, training__max_steps=8), tmp_path / "more")
    train(changed(config, training__max_steps=20), tmp_path / "more", resume=True)
    assert digest(tmp_path / "more")["model"] == digest(tmp_path / "whole")["model"]
    assert digest(tmp_path / "more")["metrics"] == digest(tmp_path / "whole")["metrics"]


def test_epochs_can_end_a_training_and_more_of_them_go_on(config: Config, tmp_path: Path) -> None:
    config = changed(config, training__max_steps=0)
    config["training"]["optimizer"]["total_steps"] = 60
    train(changed(config, training__max_epochs=3), tmp_path / "whole")
    train(changed(config, training__max_epochs=1), tmp_path / "more")
    train(changed(config, training__max_epochs=3), tmp_path / "more", resume=True)
    assert digest(tmp_path / "more")["model"] == digest(tmp_path / "whole")["model"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"training__dropout": 0.1}, "training.dropout was 0.2 and is 0.1"),
        ({"system__seed": 4}, "system.seed was 3 and is 4"),
        ({"training__optimizer__learn_rate": 0.1}, "training.optimizer.learn_rate"),
    ],
)
def test_other_settings_cannot_be_changed(config: Config, settings: dict, named: str, tmp_path: Path) -> None:
    train(changed(config, training__max_steps=3), tmp_path)
    with pytest.raises(CheckpointError, match=named):
        train(changed(config, training__max_steps=3, **settings), tmp_path, resume=True)


def test_another_corpus_is_refused(config: Config, encoder: str, tmp_path: Path) -> None:
    docs = [eg.reference for eg in make_examples(spacy.blank("en"))]
    train(config, tmp_path, train_docs=docs)
    with pytest.raises(CheckpointError, match="corpus has changed"):
        train(config, tmp_path, train_docs=docs[1:], resume=True)


def test_another_development_corpus_is_refused(config: Config, tmp_path: Path) -> None:
    docs = [eg.reference for eg in make_examples(spacy.blank("en"))]
    train(config, tmp_path, dev_docs=docs)
    for stored in (tmp_path / "corpora").glob("dev*"):
        DocBin(docs=docs[1:]).to_disk(stored)
    with pytest.raises(CheckpointError, match="development corpus has changed"):
        train(config, tmp_path, resume=True)


def test_a_folder_in_use_is_refused(config: Config, tmp_path: Path) -> None:
    config = changed(config, training__max_steps=3)
    train(config, tmp_path)
    with pytest.raises(ValueError, match=r"--resume goes on with it, --overwrite"):
        train(config, tmp_path)
    (tmp_path / "mine.txt").write_text("not to be touched")
    train(config, tmp_path, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "not to be touched"
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_resume_starts_where_there_is_nothing(config: Config, tmp_path: Path) -> None:
    train(config, tmp_path / "a")
    train(config, tmp_path / "b", resume=True)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


# Checkpoints


@pytest.mark.parametrize("damage", ["cut", "flip", "manifest", "gone"])
def test_a_damaged_checkpoint_is_passed_over(
    config: Config, damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_extras(config, checkpoint_steps=3, keep_checkpoints=9)
    train(config, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    last = sorted((tmp_path / "cut" / "checkpoints").iterdir())[-1]
    victim = last / ("manifest.json" if damage == "manifest" else "pipeline/crf_ner/model")
    content = bytearray(victim.read_bytes())
    if damage == "gone":
        victim.unlink()
    else:
        content[len(content) // 2] ^= 1
        victim.write_bytes(content[: len(content) // 2] if damage in ("cut", "manifest") else content)
    monkeypatch.setattr("spacy.util.logger.propagate", True)
    train(config, tmp_path / "cut", resume=True)
    assert f"{last}: " in caplog.text
    assert "passed over" in caplog.text
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")


def test_so_many_are_kept(config: Config, tmp_path: Path) -> None:
    train(with_extras(config, checkpoint_steps=2, keep_checkpoints=3), tmp_path)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == [
        "step-00000008",
        "step-00000010",
        "step-00000012",
    ]


def test_a_checkpoint_that_cannot_be_written_leaves_the_others(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_extras(config, checkpoint_steps=3)
    train(config, tmp_path / "whole")

    def full(*args: Any, **settings: Any) -> None:
        raise OSError(28, "No space left on device")

    write = checkpoints.save_file

    def full_later(tensors: dict, path: Path) -> None:
        full() if "step-00000006" in str(path) else write(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_file", full_later)
        with pytest.raises(CheckpointError, match=r"No space left on device.*step-00000003: make room"):
            train(config, tmp_path / "cut")
    assert [path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()] == ["step-00000003"]
    train(config, tmp_path / "cut", resume=True)
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that can be made of any size, with remount."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", place], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_fills_up_leaves_the_checkpoints(config: Config, tmp_path: Path, small_disk: Path) -> None:
    config = with_extras(config, checkpoint_steps=3, keep_checkpoints=9, curves=False)
    train(config, tmp_path / "whole")
    best, one = (
        sum(path.stat().st_size for path in (tmp_path / "whole" / name).rglob("*") if path.is_file())
        for name in ("model-best", "checkpoints/step-00000003")
    )
    # room for the pipeline that is best, some checkpoints, and a part of another
    room = best + 2 * one + one // 2
    subprocess.run(["mount", "-o", f"remount,size={room // 4096 * 4096}", small_disk], check=True)
    output = small_disk / "run"
    with pytest.raises(CheckpointError, match=r"could not be written.*step-0000000\d: make room"):
        train(config, output)
    left = [path.name for path in (output / "checkpoints").iterdir()]
    assert 1 <= len(left) < 4
    assert all(name.startswith("step-") for name in left)
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    train(config, output, resume=True)
    assert digest(output) == digest(tmp_path / "whole")


def test_by_the_clock(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("spacy_crf_ner.training.loop.time.monotonic", lambda: now.__setitem__(0, now[0] + 30) or now[0])
    train(with_extras(config, checkpoint_minutes=2.0, keep_checkpoints=99), tmp_path)
    steps = [int(path.name[5:]) for path in sorted((tmp_path / "checkpoints").iterdir())]
    assert len(steps) > 2
    assert all(1 <= b - a <= 5 for a, b in zip(steps, steps[1:]))


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_step(
    config: Config, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config, tmp_path / "whole")
    step_of = Training._step

    def interrupted(self: Training, *args: Any) -> Any:
        if self.progress.step == 5:
            os.kill(os.getpid(), number)
        return step_of(self, *args)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(Training, "_step", interrupted)
        with pytest.raises(Interrupted, match=signal.Signals(number).name):
            train(config, tmp_path / "cut")
    assert signal.getsignal(number) is before
    assert [path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()] == ["step-00000006"]
    train(config, tmp_path / "cut", resume=True)
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")


# Accumulation


@pytest.mark.parametrize("overlap", [False, True])
def test_a_batch_in_parts_is_the_batch(encoder: str, overlap: bool) -> None:
    settings: dict = {"overlap": True, "target_spans": "entities"} if overlap else {}
    gradients: List[Dict[str, torch.Tensor]] = []
    for limit in (0, 12):
        torch.manual_seed(0)
        nlp = make_nlp(encoder, **settings)
        examples = make_examples(nlp, "entities" if overlap else "")
        examples[0].reference.spans.clear()
        examples[0].reference.set_ents([], default="missing")
        nlp.initialize(lambda examples=examples: examples)
        training = Training.__new__(Training)
        training.nlp = nlp
        training.extras = type("Extras", (), {"micro_batch_tokens": limit})()
        training.settings = {"accumulate_gradient": 1}
        training._learners = {}
        parts = list(training._parts(examples))
        assert (len(parts) > 2) == bool(limit)
        torch.manual_seed(1)
        losses: Dict[str, float] = {}
        with training._whole_step(examples):
            for part in parts:
                nlp.update(part, sgd=False, losses=losses)
        module = [shim._model for node in nlp.get_pipe("crf_ner").model.walk() for shim in node.shims]
        gradients.append({n: p.grad.to_dense() for m in module for n, p in m.named_parameters() if p.grad is not None})
        gradients[-1]["loss"] = torch.tensor(losses["crf_ner"])
    assert gradients[0].keys() == gradients[1].keys()
    for name, whole in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], whole, rtol=1e-5, atol=1e-6, msg=name)


# What can be set


def test_rates_fall_where_the_score_does_not_rise(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Language, "evaluate", lambda self, examples, **_: {"ents_f": 0.5, "speed": 1.0})
    config = changed(config, training__max_steps=9, training__eval_frequency=1)
    config["training"]["optimizer"].update(warmup_steps=0, decay="constant")
    _, history = train(with_extras(config, plateau_patience=3, plateau_factor=0.5))
    rates = [line["learn_rate"] for line in history]
    assert rates[:4] == [0.01] * 4
    assert rates[4:7] == [0.005] * 3
    assert rates[7:10] == [0.0025] * 3


def test_without_a_development_corpus_the_last_pipeline_is_kept(config: Config, tmp_path: Path) -> None:
    config["paths"]["dev"] = None
    _, history = train(config, tmp_path)
    assert not (tmp_path / "model-best").exists()
    assert spacy.load(tmp_path / "model-last").get_pipe("crf_ner").labels
    assert not any("score" in line for line in history)
    stored = spacy.load(tmp_path / "model-last").config.interpolate()
    assert stored["corpora"]["dev"]["path"] is None


def test_metrics_hold_no_time(config: Config, tmp_path: Path) -> None:
    _, history = train(config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == history
    assert [line["step"] for line in lines] == list(range(12))
    assert [line["step"] for line in lines if "score" in line] == [0, 4, 8]
    assert not any("speed" in line.get("scores", {}) for line in lines)
    timings = [json.loads(line) for line in (tmp_path / "timings.jsonl").read_text().splitlines()]
    assert [line["step"] for line in timings] == list(range(12))
    assert all(line["seconds"] > 0 for line in timings)


def test_hooks_are_called(config: Config, tmp_path: Path) -> None:
    calls: List[str] = []

    @spacy.registry.callbacks("tests.note.v1")
    def make(name: str) -> Any:
        return lambda nlp, info: calls.append(f"{name} {info['step']}")

    names = ["train_begin", "epoch_begin", "step_end", "evaluation_end", "before_save", "train_end"]
    hooks = {name: {"@callbacks": "tests.note.v1", "name": name} for name in names}
    train(with_extras(changed(config, training__max_steps=3), hooks=hooks), tmp_path)
    assert calls[:4] == ["train_begin 0", "epoch_begin 0", "step_end 0", "before_save 0"]
    assert calls[-1] == "train_end 3"
    assert calls.count("evaluation_end 0") == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"checkpoint_step": 3}, r"\[training_extras\] checkpoint_step: there is no such setting"),
        ({"checkpoint_steps": -1}, "must not be negative"),
        ({"checkpoint_steps": "often"}, "must be a number"),
        ({"keep_checkpoints": 0}, "must be at least 1"),
        ({"plateau_factor": 1.5}, "between 0 and 1"),
        ({"hooks": {"never": None}}, "there is no such hook"),
        ({"hooks": {"step_end": "print"}}, r"\[training_extras.hooks\] step_end = 'print' is no function"),
    ],
)
def test_wrong_extras_are_named(config: Config, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(with_extras(config, **settings))


def test_spacy_train_says_that_it_passes_the_extras_over(
    config: Config, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spacy.util.logger.propagate", True)
    config = with_extras(config, checkpoint_steps=3)
    init_nlp(config)
    assert "[training_extras], which spacy train knows nothing of" in caplog.text
    caplog.clear()
    train(config)
    assert "training_extras" not in caplog.text


# The command line


def run(config: Config, output: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    path = output.with_suffix(".cfg")
    config.to_disk(path, interpolate=False)
    command = [sys.executable, "-m", "spacy", "crf-ner", "train", str(path), "--output", str(output), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


def test_the_command_does_what_the_function_does(config: Config, tmp_path: Path) -> None:
    train(changed(config, training__max_steps=6), tmp_path / "function")
    done = run(config, tmp_path / "command", "--training.max_steps", "6")
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "command") == digest(tmp_path / "function")
    again = run(config, tmp_path / "command")
    assert again.returncode == 1
    assert "--overwrite" in again.stdout + again.stderr
    assert "Traceback" not in again.stderr


# Nothing is touched before it is known to be right


@pytest.mark.parametrize(
    "wrong",
    [
        {"training_extras.checkpoint_step": 3},
        {"paths.train": "nowhere.spacy"},
        {"paths.dev": "nowhere.spacy"},
        {"paths.dev": ""},
        {"training.optimizer.warmup_steps": 99},
    ],
    ids=str,
)
def test_a_mistake_costs_nothing(config: Config, wrong: dict, tmp_path: Path) -> None:
    train(config, tmp_path)
    before = digest(tmp_path)
    with pytest.raises(
        ValueError, match=next(iter(wrong)).rpartition(".")[2].replace("dev", "dev]").replace("train", "train]")
    ):
        train(config, tmp_path, overwrite=True, overrides=wrong)
    assert digest(tmp_path) == before


def test_documents_of_another_training_stay(config: Config, tmp_path: Path) -> None:
    docs = [eg.reference for eg in make_examples(spacy.blank("en"))]
    train(config, tmp_path / "used", train_docs=docs, dev_docs=docs)
    stored = (tmp_path / "used" / "corpora" / "train.spacy").read_bytes()
    with pytest.raises(ValueError, match="there is a training in it already"):
        train(config, tmp_path / "used", train_docs=docs[:2])
    assert (tmp_path / "used" / "corpora" / "train.spacy").read_bytes() == stored
    (tmp_path / "mine" / "corpora").mkdir(parents=True)
    (tmp_path / "mine" / "corpora" / "train.spacy").write_text("mine")
    with pytest.raises(ValueError, match="Name another output"):
        train(config, tmp_path / "mine", train_docs=docs)
    assert (tmp_path / "mine" / "corpora" / "train.spacy").read_text() == "mine"
    with pytest.raises(ValueError, match="a tuple is among them"):
        train(config, tmp_path / "new", train_docs=[("text", {})])


def test_a_training_with_documents_goes_on_without_them(config: Config, tmp_path: Path) -> None:
    examples = make_examples(spacy.blank("en"))
    config["training"]["optimizer"]["total_steps"] = 40
    train(changed(config, training__max_steps=16), tmp_path / "whole", train_docs=examples, dev_docs=examples)
    train(changed(config, training__max_steps=7), tmp_path / "more", train_docs=examples, dev_docs=examples)
    train(changed(config, training__max_steps=16), tmp_path / "more", resume=True)
    assert digest(tmp_path / "more")["model"] == digest(tmp_path / "whole")["model"]


def test_extras_can_be_set_where_the_configuration_has_none(config: Config, tmp_path: Path) -> None:
    train(config, tmp_path, overrides={"training_extras.checkpoint_steps": 4, "training_extras.keep_checkpoints": 9})
    assert [path.name[-2:] for path in sorted((tmp_path / "checkpoints").iterdir())] == ["04", "08", "12"]


def test_misspelt_settings_are_named(
    config: Config, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spacy.util.logger.propagate", True)
    config["training"]["dropuot"] = 0.1
    config["training_extra"] = {"checkpoint_steps": 3}
    train(config)
    assert "[training] dropuot: there is no such setting, and it is passed over (is dropout meant?)." in caplog.text
    assert "[training_extra]: nothing reads this section (is training_extras meant?)." in caplog.text


def test_a_misspelt_override_is_refused(config: Config) -> None:
    """In a file it may be for somebody else; whoever sets it now wants it."""
    with pytest.raises(ValueError, match=r"--training.max_step: there is no such setting \(is max_steps meant\?\)"):
        train(config, overrides={"training.max_step": 3})


# What a reviewer found


def test_damaged_checkpoints_do_not_push_out_good_ones(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_extras(config, checkpoint_steps=3, keep_checkpoints=1)
    train(config, tmp_path)
    last = newest(tmp_path).path
    shutil.copytree(last, last.with_name("step-00000099"))
    (last.with_name("step-00000099") / "state.json").write_text("{")
    shutil.copytree(last, last.with_name(".step-00000050"))
    train(config, tmp_path, resume=True, overrides={"training.max_steps": 14})
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000015"]
    assert newest(tmp_path) is not None


def test_kept_vectors_and_resuming_go_together(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = with_extras(config, checkpoint_steps=3)
    config["components"]["crf_ner"]["model"]["tok2vec"].update(frozen_layers="all", cache="memory")
    assert_resumed_as_unbroken(monkeypatch, config, tmp_path, after=8)


def test_spacys_own_recogniser_is_trained_and_resumed(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its losses are NumPy's numbers, and it has no name that our optimizer is told by crf_ner."""
    config["nlp"]["pipeline"] = ["ner"]
    config["components"] = {"ner": {"factory": "ner"}}
    config = with_extras(config, checkpoint_steps=3)
    config["training"]["optimizer"]["groups"] = {"still": {"pattern": "ner/*", "learn_rate": 0.0}}
    nlp, history = train(changed(config, training__max_steps=3), tmp_path / "still")
    assert isinstance(history[0]["losses"]["ner"], float)
    begun = init_nlp(config)
    assert all(np.array_equal(value, weights(begun)[key]) for key, value in weights(nlp).items())
    config["training"]["optimizer"]["groups"] = {}
    whole, _ = train(config, tmp_path / "whole")
    break_off(monkeypatch, config, tmp_path / "cut", after=8)
    cut, _ = train(config, tmp_path / "cut", resume=True)
    assert all(np.array_equal(value, weights(cut)[key]) for key, value in weights(whole).items())
    assert not all(np.array_equal(value, weights(begun)[key]) for key, value in weights(whole).items())


def test_a_pipeline_that_cannot_be_written_is_named(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **settings: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("spacy_crf_ner.training.loop.replace_folder", full)
    with pytest.raises(CheckpointError, match=r"model-last: it could not be written .*Make room and start again"):
        train(config, tmp_path)
    assert not list(tmp_path.glob(".model-*"))


def test_metrics_that_are_gone_do_not_stop_it(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config["training"]["optimizer"]["total_steps"] = 40
    train(config, tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    monkeypatch.setattr("spacy.util.logger.propagate", True)
    _, history = train(changed(config, training__max_steps=13), tmp_path, resume=True)
    assert "lines that were there at the checkpoint are gone" in caplog.text
    assert [line["step"] for line in history] == [12, 13]


def test_other_annotation_is_another_corpus(config: Config, tmp_path: Path) -> None:
    docs = [eg.reference for eg in make_examples(spacy.blank("en"))]
    train(config, tmp_path, train_docs=docs)
    docs[0][0].tag_ = "X"
    with pytest.raises(CheckpointError, match="corpus has changed"):
        train(config, tmp_path, train_docs=docs, resume=True)


def test_a_training_that_would_never_end_is_refused(config: Config) -> None:
    config["paths"]["dev"] = None
    config["training"]["optimizer"]["total_steps"] = None
    with pytest.raises(ValueError, match="nothing else ends the training"):
        train(changed(config, training__max_steps=0, training__patience=100))


# Errors in functions that are not ours


@spacy.registry.callbacks("tests.fails.v1")
def make_fails(kind: str) -> Any:
    """A callback that fails as a mistake in a script does: of a pipeline, or of a pipeline and a dictionary."""

    def fails(*args: Any, **kwargs: Any) -> Any:
        raise {"key": KeyError("surprise"), "value": ValueError("surprise"), "os": OSError("surprise")}[kind]

    return fails


@spacy.registry.scorers("tests.fails.v1")
def make_failing_scorer() -> Any:
    return make_fails("key")


@spacy.registry.augmenters("tests.fails.v1")
def make_failing_augmenter() -> Any:
    return make_fails("key")


@pytest.mark.parametrize("kind", ["key", "value", "os"])
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("training_extras.hooks.train_begin", r"\[training_extras.hooks.train_begin\] has failed after 0 steps"),
        ("training_extras.hooks.step_end", r"\[training_extras.hooks.step_end\] has failed after 1 steps"),
        ("training_extras.hooks.before_save", r"\[training_extras.hooks.before_save\] has failed after 1 steps"),
        ("training.before_update", r"\[training.before_update\] has failed after 0 steps"),
        ("training.before_to_disk", r"\[training.before_to_disk\] has failed"),
    ],
)
def test_a_callback_that_fails_is_named_with_its_line(
    config: Config, place: str, message: str, kind: str, tmp_path: Path
) -> None:
    *parents, last = place.split(".")
    block: Any = config
    for name in parents:
        block = block.setdefault(name, {})
    block[last] = {"@callbacks": "tests.fails.v1", "kind": kind}
    with pytest.raises(CodeError, match=rf"{message}: .*surprise.* \({__file__}, line \d+, in fails\)") as failed:
        train(config, tmp_path)
    assert "surprise" in str(failed.value.__cause__)
    log = tmp_path / "training.log"
    assert "in fails" in log.read_text()


@pytest.mark.parametrize(
    ("place", "block", "message"),
    [
        ("components.crf_ner.scorer", {"@scorers": "tests.fails.v1"}, "The evaluation after 1 steps has failed"),
        ("corpora.train.augmenter", {"@augmenters": "tests.fails.v1"}, "pipeline of the configuration could not be"),
        ("initialize.after_init", {"@callbacks": "tests.fails.v1", "kind": "key"}, "could not be made"),
        ("nlp.lang", "zz", "could not be made: ImportError: .*zz"),
    ],
)
def test_other_functions_that_fail_are_named_too(config: Config, place: str, block: Any, message: str) -> None:
    *parents, last = place.split(".")
    section: Any = config
    for name in parents:
        section = section.setdefault(name, {})
    section[last] = block
    with pytest.raises(CodeError, match=message) as failed:
        train(config)
    assert "zz" in str(failed.value) or "KeyError: 'surprise'" in str(failed.value)


def test_a_mistake_in_a_hook_ends_the_command_in_a_sentence(config: Config, tmp_path: Path) -> None:
    hook = {"@callbacks": "tests.broken.v1"}
    with_extras(config, hooks={"step_end": hook}).to_disk(tmp_path / "config.cfg", interpolate=False)
    code = [
        "import spacy",
        "@spacy.registry.callbacks('tests.broken.v1')",
        "def make():",
        "    return lambda nlp, info: info['scores']",
    ]
    (tmp_path / "hooks.py").write_text("\n".join(code))
    command = [sys.executable, "-m", "spacy", "crf-ner", "train", str(tmp_path / "config.cfg")]
    command += ["--output", str(tmp_path / "out"), "--code", str(tmp_path / "hooks.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    said = " ".join(done.stderr.split())
    assert done.returncode == 1
    assert "Traceback" not in said
    assert "[training_extras.hooks.step_end] has failed after 1 steps: KeyError: 'scores'" in said
    assert "hooks.py, line 4" in said


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_frequency": 0}, r"\[training\] eval_frequency = 0 must be a whole number, at least 1"),
        ({"accumulate_gradient": 0}, r"\[training\] accumulate_gradient = 0"),
        ({"max_epochs": -2}, r"\[training\] max_epochs = -2 must be a whole number, at least -1"),
        ({"max_steps": -5}, r"\[training\] max_steps = -5"),
        ({"max_steps": "many"}, r"\[training\] max_steps = 'many' must be a whole number"),
        ({"patience": 2.5}, r"\[training\] patience = 2.5"),
        ({"dropout": 1.5}, r"\[training\] dropout = 1.5 must be below 1"),
        ({"dropout": "x"}, r"\[training\] dropout = 'x' must be a number"),
        ({"score_weights": {"ents_f": "x"}}, r"\[training.score_weights\] ents_f = 'x' must be a number"),
        ({"train_corpus": "corpora.nope"}, r'train_corpus = "corpora.nope": there is no section \[corpora.nope\]'),
        ({"dev_corpus": "corpora.dev.nope"}, r"there is no section \[corpora.dev.nope\]"),
    ],
)
def test_wrong_settings_of_training_are_named(config: Config, settings: dict, message: str) -> None:
    config["training"].update(settings)
    with pytest.raises(ValueError, match=message):
        train(config)


def test_what_is_no_configuration_of_a_pipeline_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "config.cfg").write_text("")
    with pytest.raises(ValueError, match=r"\[nlp\] lang is missing"):
        train(tmp_path / "config.cfg")  # type: ignore[arg-type]


def test_what_is_missing_is_as_in_spacy(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """max_steps is then 20,000, so that a training without a development corpus has an end."""
    config = changed(config, training__optimizer__total_steps=10)
    config["paths"]["dev"] = None
    for name in ("max_steps", "patience", "train_corpus", "dev_corpus"):
        del config["training"][name]
    stop_after(monkeypatch, 2, Stop())
    with pytest.raises(Stop):
        train(config)
    del config["training"]
    with pytest.raises(ValueError, match=r"no \[training\] seed found"):
        train(config)


def test_patience_that_is_missing_ends_a_training_as_in_spacy(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config = changed(config, training__max_steps=0, training__optimizer__total_steps=10)
    del config["training"]["patience"]
    stop_after(monkeypatch, 2, Stop())
    with pytest.raises(Stop):
        train(config)


@pytest.mark.parametrize(
    ("extras", "dev", "message"),
    [
        ({"shuffle_buffer": 5}, True, "shuffle_buffer = 5 has no effect: without max_epochs = -1"),
        ({"plateau_patience": 2}, False, "plateau_patience = 2 has no effect without a development corpus"),
    ],
)
def test_settings_without_effect_are_named(
    config: Config, extras: dict, dev: bool, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    if not dev:
        config["paths"]["dev"] = None
    train(with_extras(changed(config, training__max_steps=3), **extras))
    assert message in caplog.text


def test_a_resumed_training_cannot_become_a_stream(config: Config, tmp_path: Path) -> None:
    train(changed(config, training__max_steps=3), tmp_path)
    with pytest.raises(CheckpointError, match=r"training\.max_epochs was 0 and is -1"):
        train(changed(config, training__max_steps=3, training__max_epochs=-1), tmp_path, resume=True)


def test_an_empty_section_that_is_gone_is_a_change(config: Config, tmp_path: Path) -> None:
    """Without groups all parameters have one rate; where nothing is said, the encoder has its own."""
    config = changed(config, training__max_steps=3)
    train(config, tmp_path)
    del config["training"]["optimizer"]["groups"]
    with pytest.raises(CheckpointError, match=r"training.optimizer.groups was \{\} and is None"):
        train(config, tmp_path, resume=True)
    config["training"]["optimizer"]["groups"] = {"all": {"pattern": "*", "learn_rate": 0.5}}
    with pytest.raises(CheckpointError, match=r"training.optimizer.groups.all.learn_rate was None and is 0.5"):
        train(config, tmp_path, resume=True)


def test_what_is_wrong_with_a_development_corpus_is_said_of_all_of_it(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also what comes behind its first document."""
    notes = tmp_path / "notes"
    notes.mkdir()
    for name in ("a", "b"):
        (notes / f"{name}.txt").write_text("Fever in Lyon.")
        (notes / f"{name}.ann").write_text("T1\tDISEASE 0 5\tFever\nT2\tPLACE 9 99\tLyon\n")
    config["corpora"]["dev"] = {"@readers": "spacy_crf_ner.Standoff.v1", "path": str(notes)}
    with caplog.at_level("WARNING", logger="spacy"):
        train(changed(config, training__max_steps=3))
    assert "4 entities annotated, 2 kept" in caplog.text


def test_an_empty_development_corpus_is_refused(config: Config, tmp_path: Path) -> None:
    """All scores would be 0, and model-best that of the first step."""
    DocBin().to_disk(tmp_path / "empty.spacy")
    with pytest.raises(ValueError, match="development corpus has no document"):
        train(changed(config, paths__dev=str(tmp_path / "empty.spacy")), tmp_path / "out")
