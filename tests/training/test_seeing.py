"""What a training says of itself: bar and rows, curves, weights, log and record."""

import contextlib
import hashlib
import inspect
import io
import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import spacy
import torch
from spacy.tokens import DocBin
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as spacy_train
from spacy.util import logger
from thinc.api import Config

import spacy_crf_ner
from spacy_crf_ner.training import curves, pictures, progress
from spacy_crf_ner.training.curves import Curve, Panel, training_panels
from spacy_crf_ner.training.loop import Interrupted
from spacy_crf_ner.training.standing import Standing
from spacy_crf_ner.training.weights import statistics

from ..conftest import ROOT, make_examples
from .runs import Stop, changed, digest, stop_after, train, weights, with_extras


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(path: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def shown(config: Config) -> Config:
    config["training"]["logger"] = {"@loggers": "spacy_crf_ner.ProgressLogger.v1"}
    return with_extras(config, curves=False)


# Bar, lines and rows


def rows(text: str) -> List[List[str]]:
    return [line.split() for line in text.splitlines() if re.match(r" +\d", line)]


def test_rows_say_what_the_metrics_say(shown: Config) -> None:
    out = io.StringIO()
    _, history = spacy_crf_ner.train(shown, stdout=out, stderr=io.StringIO())
    evaluated = [i for i, line in enumerate(history) if "score" in line]
    found = rows(out.getvalue())
    assert [int(row[1]) for row in found] == evaluated
    assert {"ENTS_F", "ENTS_P", "ENTS_R"} <= set(out.getvalue().split())
    for row, end in zip(found, evaluated):
        start = max(end - 3, 0)
        mean = np.mean([line["losses"]["crf_ner"] for line in history[start : end + 1]])
        assert float(row[2]) == pytest.approx(mean, rel=1e-3)
    best = max(evaluated, key=lambda i: (history[i]["score"], -i))
    marked = [int(row[1]) for row in found if "*" in row]
    assert marked[-1] == best


def test_rows_go_where_standard_output_leads_now(shown: Config) -> None:
    given, redirected = io.StringIO(), io.StringIO()
    spacy_crf_ner.train(shown, stdout=given)
    with contextlib.redirect_stdout(redirected):
        spacy_crf_ner.train(shown)

    def scores(rows: str) -> List[List[str]]:
        return [row.split()[:4] for row in rows.splitlines()]  # without speed and time

    assert scores(redirected.getvalue()) == scores(given.getvalue()) != []


def test_spacys_loop_gives_the_same_rows(shown: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REFRESH", 0.0)
    shown = changed(shown, training__dropout=0.0)
    theirs, ours, bar = io.StringIO(), io.StringIO(), Terminal()
    spacy_train(init_nlp(shown), stdout=theirs, stderr=bar)
    spacy_crf_ner.train(shown, stdout=ours, stderr=io.StringIO())
    found = [[(row[1], row[2]) for row in rows(out.getvalue())] for out in (theirs, ours)]
    assert found[0] == found[1]
    assert "step 11/11 (100%)" in bar.getvalue()


def test_a_terminal_gets_a_bar_that_makes_room(shown: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REFRESH", 0.0)
    both = Terminal()
    shown["training"]["patience"] = 100
    handlers = list(logger.handlers)
    spacy_crf_ner.train(shown, stdout=both, stderr=both)
    assert logger.handlers == handlers
    text = both.getvalue()
    for step in range(12):
        assert f"step {step}/11" in text
    for word in ("loss crf_ner", "rate 0.01", "norm", "words/s", "memory", "best", "left", "patience ends it in"):
        assert word in text
    # each row stands by itself on its line, and all of the bar is erased in the end
    screen = on_screen(text)
    assert len(screen) == 2 + 3
    assert [row.split()[1] for row in screen[2:]] == ["0", "4", "8"]


def on_screen(text: str) -> List[str]:
    """What a terminal shows after it was sent a text: of its codes those that rich uses to erase lines."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\n|\r|[^\x1b\n\r]+", text):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1])
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith(("\x1b", "\r")):
            lines[row] += part
    return [line for line in lines if line.strip()]


def test_a_file_gets_lines_now_and_then(shown: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.__setitem__(0, now[0] + 1.0) or now[0])
    few, many, none = io.StringIO(), io.StringIO(), io.StringIO()
    for seconds, out in ((30.0, few), (5.0, many), (0.0, none)):
        shown["training"]["logger"]["line_seconds"] = seconds
        spacy_crf_ner.train(shown, stdout=io.StringIO(), stderr=out)
    assert none.getvalue() == ""
    assert 0 < len(few.getvalue().splitlines()) < len(many.getvalue().splitlines())
    assert all(re.match(r"step \d+/11 \(\d+%\), epoch", line) for line in many.getvalue().splitlines())
    shown["training"]["logger"].update(progress_bar=False, line_seconds=0.0)
    terminal = Terminal()
    spacy_crf_ner.train(shown, stdout=io.StringIO(), stderr=terminal)
    assert terminal.getvalue() == ""
    shown["training"]["logger"]["line_seconds"] = -1.0
    with pytest.raises(ValueError, match="line_seconds"):
        spacy_crf_ner.train(shown)


def test_spacys_own_bar_moves_at_each_step(config: Config) -> None:
    config["training"]["logger"] = {"@loggers": "spacy.ConsoleLogger.v3", "progress_bar": "train"}
    bar = Terminal()
    spacy_crf_ner.train(with_extras(config, curves=False), stdout=io.StringIO(), stderr=bar)
    assert "/11" in bar.getvalue()


def test_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("spacy_crf_ner.training.standing.time.monotonic", lambda: now[0])
    settings = {"max_steps": 99, "max_epochs": 4, "patience": 30, "eval_frequency": 10}
    standing = Standing(settings, 20)
    for step in range(20, 40):
        now[0] += 2.0
        info = {"step": step, "epoch": 1, "score": None, "checkpoints": [(0.5, 20)], "words": 100 * step}
        info.update(step_losses={"a": float(step)}, learn_rate=0.1, epoch_share=(step - 19) / 40)
        standing.take(info)
    # 60 steps of 2 seconds; or 2.5 epochs of which 19 / 40 took 40 seconds, which is later
    assert standing.seconds_left == pytest.approx(120.0)
    assert standing.done == pytest.approx(39 / 99)
    assert standing.patience_left == 11
    assert standing.words_a_second == pytest.approx(50.0)
    assert standing.losses == {"a": pytest.approx(29.5)}


# Metrics


def test_metrics_name_groups_and_spikes(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config["training"]["optimizer"].update(spike_guard="skip", spike_deviations=0.01, warmup_steps=0, decay="constant")
    config["training"]["optimizer"]["groups"] = {
        "encoder": {"pattern": "*/encoder.*", "learn_rate": 0.001, "frozen_until": 3},
        "nothing": {"pattern": "nobody/*", "learn_rate": 0.5},
    }
    config = with_extras(changed(config, training__max_steps=20), checkpoint_steps=5, curves=False)
    _, history = train(config, tmp_path / "whole")
    # rates are those of the step that follows
    assert [line["learn_rates"] for line in history[:4]] == [{"encoder": r} for r in (0.0, 0.0, 0.001, 0.001)]
    spikes = [line["step"] for line in history if "spike" in line]
    assert spikes
    assert min(spikes) >= 10
    assert {line["spike"] for line in history if "spike" in line} == {"skip"}
    with monkeypatch.context() as patch:
        stop_after(patch, 18, Stop())
        with pytest.raises(Stop):
            train(config, tmp_path / "cut")
    train(config, tmp_path / "cut", resume=True)
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")


# Curves


def test_curves_are_the_metrics(config: Config, tmp_path: Path) -> None:
    _, history = train(config, tmp_path)
    data = re.search(r"const panels = (.*), colours", (tmp_path / "training.html").read_text())
    assert data is not None
    panels = {panel["title"]: {c["name"]: c["points"] for c in panel["curves"]} for panel in json.loads(data[1])}
    assert list(panels) == ["Loss", "Scores", "Learning rate", "Norm of the gradient", "Words a second"]
    assert panels["Loss"][""] == [[line["step"], line["losses"]["crf_ner"]] for line in history]
    assert panels["Norm of the gradient"][""] == [[line["step"], line["gradient_norm"]] for line in history]
    evaluated = [line for line in history if "score" in line]
    best = max(evaluated, key=lambda line: (line["score"], -line["step"]))
    assert [best["step"], best["score"]] in [p[0] for n, p in panels["Scores"].items() if n.startswith("best")]
    assert (tmp_path / "training.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "http" not in re.sub(r"http://www.w3.org/2000/svg", "", (tmp_path / "training.html").read_text())


def test_curves_change_nothing(config: Config, tmp_path: Path) -> None:
    config = changed(config, training__dropout=0.3)
    train(with_extras(config, curves=True, weight_statistics=True), tmp_path / "with")
    train(with_extras(config, curves=False), tmp_path / "without")
    assert digest(tmp_path / "with") == digest(tmp_path / "without")
    names = {path.name for path in (tmp_path / "without").iterdir()}
    assert not names & {"training.png", "training.html", "weights.jsonl", "weights.png"}


def test_a_drawing_that_fails_is_said_once(
    config: Config,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: Any) -> bytes:
        raise RuntimeError("no canvas")

    monkeypatch.setattr("spacy.util.logger.propagate", True)
    monkeypatch.setattr(pictures, "to_png", broken)
    train(config, tmp_path)
    assert caplog.text.count("no canvas") == 1
    assert len(lines(tmp_path / "metrics.jsonl")) == 12


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    metrics = [
        {"step": i, "losses": {"a": float(i)}, "learn_rate": 0.1, "gradient_norm": 1.0 + (i == 4321)}
        for i in range(10_000)
    ]
    metrics[4321]["spike"] = "clip_mean"
    metrics[50]["spike"], metrics[50]["gradient_norm"] = "not finite", float("nan")
    panels = {panel.title: panel for panel in training_panels(metrics, [], [])}
    raw = panels["Loss"].curves[0].points
    assert len(raw) <= curves.MOST_POINTS + 1
    assert raw[-1] == (9999, 9999.0)
    assert all(abs(x - y) <= 13 for x, y in raw)
    norms = panels["Norm of the gradient"].curves
    assert max(y for _, y in norms[0].points) == 2.0  # no peak is lost
    marks = {curve.name: curve.points for curve in norms if curve.kind == "marks"}
    assert marks == {"clipped: 1": [(4321, 2.0)], "not finite, skipped: 1": [(50, 2.0)]}


def test_a_name_cannot_end_the_script() -> None:
    page = pictures.to_html([Panel("</script><b>", [Curve("a", "line", 0, [(0, 1.0)])])])
    assert page.count("</script>") == 1


# Weights


def test_statistics_of_weights_are_numpys() -> None:
    torch.manual_seed(0)
    before = [torch.randn(7, 3), torch.randn(5) + 2]
    now = [tensor + 0.01 * torch.randn_like(tensor) for tensor in before]
    a, b = (np.concatenate([t.numpy().astype("d").ravel() for t in part]) for part in (now, before))
    found = statistics(now, before)
    expected = {
        "mean": a.mean(),
        "std": a.std(),
        "norm": np.linalg.norm(a),
        "update": np.linalg.norm(a - b) / np.linalg.norm(b),
    }
    assert found == pytest.approx(expected, rel=1e-9)


def test_weights_are_looked_at_where_the_training_stands(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = with_extras(config, checkpoint_steps=3, weight_statistics=True)
    train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 11, Stop())
        with pytest.raises(Stop):
            train(config, tmp_path / "cut")
    train(config, tmp_path / "cut", resume=True)
    found = [(tmp_path / name / "weights.jsonl").read_bytes() for name in ("whole", "cut")]
    assert found[0] == found[1]
    whole = lines(tmp_path / "whole" / "weights.jsonl")
    assert [line["step"] for line in whole] == [0, 4, 8]
    updates = {name: part["update"] for name, part in whole[1]["weights"].items()}
    assert all(0 < updates[f"crf_ner/{part}"] < 1 for part in ("linear", "crf", "cnn", "encoder.encoder.layer.1"))
    # the last evaluation was the best one or not: model-last of a training that ends there has the same weights
    train(changed(config, training__max_steps=8, training__optimizer__total_steps=11), tmp_path / "short")
    stored = weights(spacy.load(tmp_path / "short" / "model-last"))
    norm = np.sqrt(sum((v.astype("d") ** 2).sum() for v in stored.values()))
    told = np.sqrt(sum(p["norm"] ** 2 for p in lines(tmp_path / "short" / "weights.jsonl")[-1]["weights"].values()))
    assert told == pytest.approx(norm, rel=1e-6)
    assert (tmp_path / "whole" / "weights.png").stat().st_size > 10_000


# Log and record


def test_the_log_goes_on_and_has_the_traceback(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = with_extras(config, checkpoint_steps=3, curves=False)
    levels = logger.level, [(handler, handler.level) for handler in logger.handlers]
    with monkeypatch.context() as patch:
        stop_after(patch, 5, Stop("the disk melted"))
        with pytest.raises(Stop):
            train(config, tmp_path)
    first = (tmp_path / "training.log").read_text()
    assert re.search(r"^\d{4}-\d\d-\d\d .* INFO Initialized pipeline components", first, re.MULTILINE)
    assert "Traceback (most recent call last)" in first
    assert "the disk melted" in first
    train(config, tmp_path, resume=True)
    logger.warning("after the end")
    again = (tmp_path / "training.log").read_text()
    assert again.startswith(first)
    assert "after the end" not in again
    assert (logger.level, [(handler, handler.level) for handler in logger.handlers]) == levels


def test_the_console_hears_no_more_than_before(config: Config, tmp_path: Path) -> None:
    heard: List[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.levelname)  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        train(with_extras(config, curves=False), tmp_path)
    finally:
        logger.removeHandler(handler)
    assert "INFO" in (tmp_path / "training.log").read_text()
    assert "INFO" not in heard


def test_a_refused_resume_leaves_log_and_record(config: Config, tmp_path: Path) -> None:
    docs = [eg.reference for eg in make_examples(spacy.blank("en"))]
    train(with_extras(config, curves=False), tmp_path, train_docs=docs)
    before = [(tmp_path / name).read_bytes() for name in ("training.log", "run.json")]
    with pytest.raises(ValueError, match="corpus has changed"):
        train(with_extras(config, curves=False), tmp_path, train_docs=docs[1:], resume=True)
    assert [(tmp_path / name).read_bytes() for name in ("training.log", "run.json")] == before


def test_the_record_tells_how_it_went(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = with_extras(config, checkpoint_steps=3, curves=False)

    def record() -> Dict[str, Any]:
        return json.loads((tmp_path / "out" / "run.json").read_text())

    states = []
    ends = ((2, Stop("a fault"), False), (5, Interrupted("SIGTERM"), True), (None, None, True))
    for steps, error, resume in ends:
        with monkeypatch.context() as patch:
            if error is not None:
                stop_after(patch, steps, error)
                with pytest.raises(type(error)):
                    train(config, tmp_path / "out", resume=resume)
            else:
                train(config, tmp_path / "out", resume=resume)
        states.append(record()["state"])
    assert states == ["failed", "interrupted", "finished"]
    found = record()
    assert [(run["step"], run["end_step"]) for run in found["runs"]] == [(0, 2), (0, 5), (3, 12)]
    assert found["runs"][0]["error"] == "Stop: a fault"
    assert found["runs"][0]["versions"]["spacy"] == spacy.__version__
    path = config.interpolate()["paths"]["train"]
    assert found["corpora"] == {path: hashlib.sha256(Path(path).read_bytes()).hexdigest()}
    assert found["config"]["training"]["optimizer"]["total_steps"] == 11
    assert not list((tmp_path / "out").glob(".run*"))


def test_a_folder_of_a_corpus_has_one_hash(tmp_path: Path) -> None:
    from spacy_crf_ner.training.record import corpora

    folder = tmp_path / "notes"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.txt").write_text("x")
    config = {
        "corpora": {"train": {"corpus": {"path": str(folder)}}, "dev": {"path": None}},
        "training": {"train_corpus": "corpora.train", "dev_corpus": "corpora.dev"},
    }
    first = corpora(config)
    assert list(first) == [str(folder)]
    (folder / "a" / "1.txt").rename(folder / "a" / "2.txt")
    assert corpora(config) != first
    (folder / "a" / "2.txt").rename(folder / "a" / "1.txt")
    assert corpora(config) == first


def test_the_record_names_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spacy_crf_ner.training.record import git

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git() is None
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], [*author, "commit", "-q", "--allow-empty", "-m", "a"]):
        subprocess.run(["git", *command], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert git() == {"commit": commit, "changed": False}
    monkeypatch.setenv("PATH", "")
    assert git() is None


def test_overwriting_removes_all_that_is_ours(config: Config, tmp_path: Path) -> None:
    train(with_extras(config, weight_statistics=True), tmp_path)
    (tmp_path / "trackers.json").write_text('{"wandb": "a"}')
    train(with_extras(config, curves=False), tmp_path, overwrite=True)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        "checkpoints", "metrics.jsonl", "model-best", "model-last", "run.json", "timings.jsonl", "training.log"
    }  # fmt: skip
    for name in ("run.json", "training.log"):
        assert (
            len((tmp_path / name).read_text().split('"started"' if name == "run.json" else "Created vocabulary")) == 2
        )
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "training.png").write_bytes(b"a")
    with pytest.raises(ValueError, match=r"training\.png"):
        train(config, folder)


def test_docs_of_a_stream_have_no_share(config: Config) -> None:
    seen: List[Any] = []

    @spacy.registry.callbacks("tests.shares.v1")
    def make() -> Any:
        return lambda nlp, info: seen.append((info["epoch"], info["epoch_share"]))

    hooks = {"step_end": {"@callbacks": "tests.shares.v1"}}
    train(with_extras(config, hooks=hooks))
    shares = [share for epoch, share in seen if epoch == 0]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    path = config.interpolate()["paths"]["train"]
    number = len(list(DocBin().from_disk(path).get_docs(spacy.blank("en").vocab)))
    assert all(float(share * number).is_integer() for share in shares)
    seen.clear()
    train(with_extras(changed(config, training__max_epochs=-1), hooks=hooks))
    assert {share for _, share in seen} == {None}


def test_every_step_reaches_a_logger_that_wants_it(config: Config) -> None:
    from spacy_crf_ner.training.watching import watched_training

    steps: List[int] = []
    rows_of: List[Any] = []

    @spacy.registry.loggers("tests.every.v1")
    def make() -> Any:
        def setup(nlp: Any, stdout: Any, stderr: Any) -> Any:
            watch = watched_training()
            assert watch is not None
            watch.every_step.append(lambda info: steps.append(info["step"]))
            return (lambda info: rows_of.append(info and info["step"])), (lambda: None)

        return setup

    chained = {"@loggers": "spacy.ChainLogger.v1", "logger1": {"@loggers": "tests.every.v1"}}
    config["training"]["logger"] = chained
    train(config)
    assert steps == list(range(12))
    # spaCy's own loggers are told of evaluations, and of nothing in between
    assert rows_of == [step if step % 4 == 0 else None for step in range(12)]
    assert watched_training() is None


@pytest.mark.parametrize("name", ["ProgressLogger", "TensorBoardLogger", "MLflowLogger", "WandbLogger"])
def test_every_setting_of_a_logger_is_documented(name: str) -> None:
    page = (ROOT / "docs" / "training.md").read_text().partition("## Seeing how it goes")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| .*?`(\w+)` \|", page, re.MULTILINE))
    parameters = set(inspect.signature(spacy.registry.loggers.get(f"spacy_crf_ner.{name}.v1")).parameters)
    assert f"{name}.v1" in page
    assert parameters <= documented


def test_importing_is_light() -> None:
    code = (
        "import sys, spacy_crf_ner.api, spacy_crf_ner.training.trackers, spacy_crf_ner.training.progress;"
        "heavy = {'matplotlib', 'tensorboard', 'mlflow', 'wandb'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
