import json
import re
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
import spacy
import srsly
from spacy.language import Language
from spacy.tokens import DocBin

from spacy_crf_ner.evaluation.record import hash_of
from spacy_crf_ner.evaluation.report import report

from ..conftest import ROOT, make_examples
from ..evaluation.test_evaluate import fixed, write_brat
from .running import run, said


@pytest.fixture(scope="module")
def models(trained: Language, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline that knows the small corpus, and one that knows a single word of it."""
    folder = tmp_path_factory.mktemp("models")
    trained.to_disk(folder / "trained")
    fixed([("Aspirin", "DRUG", 0.5)]).to_disk(folder / "poor")
    return folder


@pytest.fixture
def gold(trained: Language, tmp_path: Path) -> Path:
    docs = [example.reference for example in make_examples(trained)]
    for number, doc in enumerate(docs):
        doc.user_data.update({"id": f"d{number}", "data": {"site": "ab"[number % 2]}})
    DocBin(docs=docs, store_user_data=True).to_disk(tmp_path / "dev.spacy")
    return tmp_path / "dev.spacy"


def lines(path: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_evaluate_writes_what_it_says(models: Path, gold: Path, tmp_path: Path, trained: Language) -> None:
    note = write_brat(tmp_path / "notes", "Aspirin today", "T1\tDRUG 0 7\tAspirin")
    arguments = ["evaluate", models / "trained", gold, f"test={note}", "--output", tmp_path / "out", "--train", gold]
    result = run(*arguments, "--compare", models / "poor", "--by", "site", "--samples", 50, ok=False)
    assert result.exit_code == 1
    assert "--by site: no document has it" in said(result)
    assert not (tmp_path / "out").exists()
    result = run(*arguments, "--compare", models / "poor", "--samples", 50, "--seed", 3)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(metrics["parts"]) == ["dev", "test"]
    dev = metrics["parts"]["dev"]
    theirs = trained.evaluate(make_examples(trained))
    assert dev["characters"]["exact"]["micro"]["f"] == theirs["ents_f"] == 1.0
    assert dev["by_seen"]["seen"]["gold"] == dev["gold"] == 9
    assert dev["sha256"] == hash_of(gold)
    assert metrics["run"]["model"]["sha256"] == hash_of(models / "trained")
    assert metrics["run"]["options"]["seed"] == 3
    assert metrics["run"]["versions"]["spacy"] == spacy.__version__
    comparison = metrics["comparison"]
    assert comparison["model"]["loaded_as"] == str(models / "poor")
    assert comparison["parts"]["dev"]["found"] == {"both": 1, "first": 8, "other": 0, "neither": 0}
    rows = lines(tmp_path / "out" / "predictions.jsonl")
    assert [(row["part"], row["id"]) for row in rows] == [("dev", f"d{i}") for i in range(6)] + [("test", "a")]
    probabilities = {}
    for example in make_examples(trained):
        doc = trained(example.predicted)
        for span, score in zip(doc.spans["crf_ner"], doc.spans["crf_ner"].attrs["scores"]):
            probabilities[doc.text, span.start_char, span.end_char] = pytest.approx(float(score), abs=1e-4)
    for row in rows[:6]:
        for entity in row["predicted"]:
            assert entity["probability"] == probabilities[row["text"], entity["start"], entity["end"]]
    timings = json.loads((tmp_path / "out" / "timings.json").read_text())
    assert set(timings["predicting_s"]) == {"dev", "test", "dev, other model", "test, other model"}
    assert timings["words_per_second"]["dev"] > 0
    out = result.stdout
    assert "dev: 6 documents, 9 gold entities, 9 predicted" in out
    assert "dev: F1 less that of" in out
    assert "Predicting" not in out
    # what does not depend on time is the same again
    before = {name: (tmp_path / "out" / name).read_bytes() for name in ("metrics.json", "predictions.jsonl")}
    run(*arguments, "--compare", models / "poor", "--samples", 50, "--seed", 3)
    assert before == {name: (tmp_path / "out" / name).read_bytes() for name in before}


def test_a_pipeline_is_compared_with_an_evaluation_of_another(models: Path, gold: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", models / "trained", gold, "--samples", 20, "--output"]
    run("evaluate", models / "poor", gold, "--no-report", "-o", tmp_path / "poor")
    for name, other in (("model", models / "poor"), ("scores", tmp_path / "poor")):
        result = run(*arguments, tmp_path / name, "--compare", other)
        assert f"dev: F1 less that of {models / 'poor'}" in result.stdout
    by_model, by_scores = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("model", "scores"))
    assert by_scores["comparison"]["parts"] == by_model["comparison"]["parts"]
    noted = {
        "evaluation": str(tmp_path / "poor"),
        "predictions_sha256": hash_of(tmp_path / "poor" / "predictions.jsonl"),
    }
    assert by_scores["comparison"]["model"] == {**by_model["comparison"]["model"], **noted}
    assert lines(tmp_path / "model" / "predictions.jsonl") == lines(tmp_path / "scores" / "predictions.jsonl")
    # a pipeline that was evaluated into its own folder stays a pipeline
    run("evaluate", models / "poor", gold, "--no-report", "-o", models / "poor")
    run(*arguments, tmp_path / "again", "--compare", models / "poor", "--no-report")
    assert "evaluation" not in json.loads((tmp_path / "again" / "metrics.json").read_text())["comparison"]["model"]
    (tmp_path / "poor" / "metrics.json").write_text("{")
    result = run(*arguments, tmp_path / "none", "--compare", tmp_path / "poor", ok=False)
    assert result.exit_code == 1
    assert "has not written it, or not to its end" in said(result)
    assert not (tmp_path / "none").exists()


def test_the_workflow_of_the_project_evaluates_and_shows_its_scores(
    models: Path, gold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The commands that project.yml has, on a small corpus in its place."""
    project = srsly.read_yaml(ROOT / "project.yml")
    commands = {command["name"]: command for command in project["commands"]}
    monkeypatch.chdir(tmp_path)
    Path("corpus").mkdir()
    for name in ("train", "dev", "test"):
        shutil.copy(gold, Path("corpus", f"{name}.spacy"))
    Path("training").mkdir()
    shutil.copytree(models / "trained", "training/model-best")
    (line,) = commands["evaluate"]["script"]
    result = run(*line.replace("${vars.gpu}", "-1").split()[4:])
    assert all(Path(made).is_file() for made in commands["evaluate"]["outputs"])
    assert all(made.split("/")[0] in project["directories"] for made in commands["evaluate"]["outputs"])
    assert "in training: seen" in result.stdout
    # what the last step of the workflow shows of it
    (line,) = commands["annotate"]["script"]
    given = line.split()
    arguments = ["training/model-best", *given[3:5], *given[given.index("--metrics") :][:2]]
    monkeypatch.setattr(sys, "argv", [given[1], *arguments])
    runpy.run_path(str(ROOT / given[1]), run_name="__main__")
    out = capsys.readouterr().out
    assert "Scores on test" in out
    assert re.search(r"all +100\.0 +100\.0 +100\.0", out)
    assert Path(given[4]).is_file()


def test_options_have_their_effect(models: Path, gold: Path, tmp_path: Path) -> None:
    def metrics(*options: Any) -> Dict[str, Any]:
        run("evaluate", models / "poor", gold, "--no-report", "--output", tmp_path / "out", *options)
        return json.loads((tmp_path / "out" / "metrics.json").read_text())["parts"]["dev"]

    part = metrics("--samples", 0, "--by", "site")
    assert part["characters"]["exact"]["micro"]["intervals"] is None
    assert {site: found["documents"] for site, found in part["by_attribute"]["site"].items()} == {"a": 3, "b": 3}
    wide, narrow = (
        metrics("--samples", 200, "--level", level)["characters"]["exact"]["micro"]["intervals"]["r"]
        for level in (0.95, 0.5)
    )
    assert wide[0] <= narrow[0] < narrow[1] <= wide[1]
    assert wide != narrow
    other = metrics("--samples", 200, "--seed", 9)["characters"]["exact"]["micro"]["intervals"]["r"]
    assert metrics("--samples", 200)["characters"]["exact"]["micro"]["intervals"]["r"] == wide
    assert other == metrics("--samples", 200, "--seed", 9)["characters"]["exact"]["micro"]["intervals"]["r"]
    assert metrics("--output-spans", "nothing")["predicted"] == 0
    assert metrics("--spans", "ents")["gold"] == 9


def test_a_report_is_of_its_own_evaluation(models: Path, gold: Path, tmp_path: Path) -> None:
    """It is made of the files that stand beside it, and goes when they go."""
    out = tmp_path / "out"

    def evaluate(*options: Any) -> str:
        result = run("evaluate", models / "poor", gold, "--output", out, "--samples", 5, *options)
        return said(result)

    assert "report.html" in evaluate()
    metrics = json.loads((out / "metrics.json").read_text())
    assert (out / "report.html").read_text(encoding="utf-8") == report(metrics, lines(out / "predictions.jsonl"))
    made = {path.name for path in (out / "plots").iterdir()}
    assert made == {
        f"dev.{kind}.png" for kind in ("scores", "labels", "frequency", "confusion", "lengths", "reliability")
    }
    (out / "plots" / "mine.png").write_bytes(b"")
    assert "report.html" not in evaluate("--no-report")
    assert {path.name for path in out.iterdir()} == {"metrics.json", "predictions.jsonl", "timings.json", "plots"}
    assert [path.name for path in (out / "plots").iterdir()] == ["mine.png"]


def test_columns_are_evaluated_on_their_own_tokens(models: Path, tmp_path: Path) -> None:
    (tmp_path / "dev.conll").write_text("Aspirin\tB-DRUG\ndon't\tO\n\nNo\tO\n")
    found = {}
    for tokens in ("auto", "model"):
        run(
            "evaluate", models / "poor", tmp_path / "dev.conll", "-o", tmp_path / "o", "--no-report", "--tokens", tokens
        )
        found[tokens] = json.loads((tmp_path / "o" / "metrics.json").read_text())["parts"]["dev"]["words"]
    assert found == {"auto": 3, "model": 4}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{models}/none", "{gold}"], "there is no such pipeline"),
        (["{tmp}", "{gold}"], "it is no pipeline"),
        (["{models}/poor", "{tmp}/none.spacy"], "there is no such file or folder"),
        (["{models}/poor", "{gold}", "{gold}"], "give each part a name of its own"),
        (["{models}/poor", "-"], "Standard input cannot be evaluated"),
        (["{models}/poor", "{gold}", "--from", "word"], "--from word"),
        (["{models}/poor", "{gold}", "--tokens", "mine"], "--tokens mine"),
        (["{models}/poor", "{gold}", "--overlap-unit", "words"], 'overlap_unit = "words"'),
        (["{models}/poor", "{gold}", "--min-overlap", "2"], "min_overlap = 2"),
        (["{models}/poor", "{gold}", "--samples", "-1"], "--samples -1"),
        (["{models}/poor", "{gold}", "--samples", "0", "--compare", "{models}/poor"], "--samples must be above 0"),
        (["{models}/poor", "{gold}", "--train", "{tmp}/none"], "there is no such file or folder"),
    ],
)
def test_bad_input_ends_in_one_clear_message_and_no_file(
    arguments: List[str], message: str, models: Path, gold: Path, tmp_path: Path
) -> None:
    filled = [argument.format(models=models, gold=gold, tmp=tmp_path) for argument in arguments]
    result = run("evaluate", *filled, "--output", tmp_path / "out", ok=False)
    assert result.exit_code == 1, result.output
    assert message in said(result)
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()
