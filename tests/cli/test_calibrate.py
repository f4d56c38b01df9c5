import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
import spacy
from spacy.cli.package import package
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span

from ..conftest import ROOT, TEXTS, found
from .running import run, said


@pytest.fixture
def place(trained: Language, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with training/model-best, dev.spacy and texts.txt, as the examples of the docs have it."""
    monkeypatch.chdir(tmp_path)
    Path("training").mkdir()
    trained.to_disk("training/model-best")
    write(trained, Path("dev.spacy"), 24)
    Path("texts.txt").write_text("".join(f"{text}\n" for text, _ in TEXTS))
    return tmp_path


def write(nlp: Language, path: Path, n: int, absent: str = "PLACE") -> None:
    """The small corpus n times; of the entities of a label half are taken away."""
    docs: List[Doc] = []
    for i in range(n):
        for text, spans in TEXTS:
            doc = nlp.make_doc(text)
            doc.set_ents(
                [Span(doc, a, b, label=label) for a, b, label in spans if label != absent or i % 2], default="outside"
            )
            docs.append(doc)
    DocBin(docs=docs).to_disk(path)


def test_columns_that_have_to_be_named_calibrate_as_their_docs_do(place: Path) -> None:
    """The column that is taken where none is named has no entity."""
    docs = DocBin().from_disk("dev.spacy").get_docs(spacy.blank("en").vocab)
    lines = []
    for doc in docs:
        tags = [f"{token.ent_iob_}-{token.ent_type_}" if token.ent_type_ else "O" for token in doc]
        lines += [f"{token.text}\t{tag}\tO\n" for token, tag in zip(doc, tags)] + ["\n"]
    Path("dev.conll").write_text("".join(lines))
    for data, more in (("dev.spacy", ()), ("dev.conll", ("--columns", "0,1"))):
        run("calibrate", "training/model-best", data, f"of.{data}", *more)
    one, other = (json.loads(Path(f"of.dev.{form}/calibration.json").read_text()) for form in ("spacy", "conll"))
    assert other["settings"]["temperature"] == pytest.approx(one["settings"]["temperature"], rel=0.05)


def test_it_writes_a_pipeline_with_what_was_measured(place: Path) -> None:
    result = run("calibrate", "training/model-best", "dev.spacy", "calibrated")
    measured = json.loads(Path("calibrated/calibration.json").read_text())
    before, after = spacy.load("training/model-best"), spacy.load("calibrated")
    pipe = after.get_pipe("crf_ner")
    for key, value in measured["settings"].items():
        assert getattr(pipe, key) == value, key
    assert pipe.threshold is None  # type: ignore[attr-defined]
    texts = [text for text, _ in TEXTS]
    then, now = ([found(doc) for doc in nlp.pipe(texts)] for nlp in (before, after))
    assert [[e[:3] for e in doc] for doc in then] == [[e[:3] for e in doc] for doc in now]
    scores = {"before": then, "after": now}
    for when, docs in scores.items():
        p = [e[3] for doc in docs for e in doc]
        assert measured[when]["all"]["mean_probability"] == pytest.approx(sum(p) / len(p), abs=0.02), when
    assert measured["after"]["all"]["log_loss"] < measured["before"]["all"]["log_loss"]
    assert Path("calibrated/calibration.png").read_bytes().startswith(b"\x89PNG")
    assert re.search(r"all 216 83\.3 %", said(result))


def test_what_is_wrong_is_told_and_nothing_is_written(place: Path, trained: Language) -> None:
    write(trained, Path("right.spacy"), 4, "none")
    DocBin(docs=[trained.make_doc("Fever")]).to_disk("bare.spacy")
    base = ("calibrate", "training/model-best")
    for arguments, message in (
        ((*base, "dev.spacy", "training"), "it is there already"),
        ((*base, "right.spacy", "out"), "0 are wrong"),
        ((*base, "bare.spacy", "out"), "none of 1 documents is annotated"),
        ((*base, "none.spacy", "out"), "no such file"),
        (("calibrate", "nowhere", "dev.spacy", "out"), "there is no pipeline"),
        ((*base, "dev.spacy", "out", "--precision", 0.999), "No threshold could be shown"),
        ((*base, "dev.spacy", "out", "--confidence", 2), "--confidence 2"),
        ((*base, "dev.spacy", "out", "--per-label"), "give that too"),
        ((*base, "dev.spacy", "out", "--labels", "DRUG,X"), "X is none of"),
        ((*base, "dev.spacy", "out", "--from", "x"), "not one of"),
    ):
        result = run(*arguments, ok=False)
        assert result.exit_code == 1, arguments
        assert message in said(result), (arguments, result.output)
        assert not Path("out").exists()
        assert not list(place.glob(".out*"))


def test_other_formats_and_labels_that_were_not_annotated(place: Path) -> None:
    run("convert", "dev.spacy", "brat", "--to", "standoff")
    run("calibrate", "training/model-best", "brat", "a", "--precision", 0.8, "--confidence", 0.8)
    assert spacy.load("a").get_pipe("crf_ner").threshold < 1  # type: ignore[attr-defined]
    docs = list(DocBin().from_disk("dev.spacy").get_docs(spacy.blank("en").vocab))
    for doc in docs:
        doc.set_ents([e for e in doc.ents if e.label_ == "PLACE"], default="outside")
    DocBin(docs=docs).to_disk("places.spacy")
    warned = run("calibrate", "training/model-best", "places.spacy", "b")
    assert "no entity of DRUG, PROBLEM: all that are found count as wrong" in said(warned)
    some = run("calibrate", "training/model-best", "places.spacy", "c", "--labels", "PLACE")
    assert list(json.loads(Path("c/calibration.json").read_text())["after"]["labels"]) == ["PLACE"]
    assert "count as wrong" not in said(some)


def test_thresholds_and_scores_of_other_entities(place: Path) -> None:
    """Scores in meta.json are those of the entities that are found; thresholds that are there stay, with a word."""
    nlp = spacy.load("training/model-best")
    nlp.meta["performance"] = {"ents_f": 0.5}
    nlp.to_disk("scored")
    run("calibrate", "scored", "dev.spacy", "same")
    assert spacy.load("same").meta["performance"] == {"ents_f": 0.5}
    run("calibrate", "scored", "dev.spacy", "sure", "--precision", 0.8, "--confidence", 0.8)
    sure = spacy.load("sure")
    assert "performance" not in sure.meta
    again = run("calibrate", "sure", "dev.spacy", "again")
    assert "has thresholds, which stay and hold for the new probabilities" in said(again)
    assert spacy.load("again").get_pipe("crf_ner").threshold == sure.get_pipe("crf_ner").threshold  # type: ignore[attr-defined]


LOAD = """
import json, sys, spacy
nlp = spacy.load("en_sure")
pipe = nlp.get_pipe("crf_ner")
docs = []
for doc in nlp.pipe(json.load(sys.stdin)):
    group = doc.spans["crf_ner"]
    docs.append([[[e.start, e.end, e.label_] for e in doc.ents], [float(p) for p in group.attrs["scores"]]])
keys = ["temperature", "label_exponents", "threshold", "label_thresholds"]
print(json.dumps([str(nlp.path), [getattr(pipe, key) for key in keys], docs]))
"""


def test_a_package_of_a_calibrated_pipeline_finds_the_same(place: Path) -> None:
    """As it is built, in a process that knows nothing else of it: settings, entities and probabilities."""
    run("calibrate", "training/model-best", "dev.spacy", "calibrated")
    nlp = spacy.load("calibrated")
    pipe: Any = nlp.get_pipe("crf_ner")
    texts = [text for text, _ in TEXTS]
    every = [p for doc in nlp.pipe(texts) for *_, p in found(doc)]
    # some entities are left, and some are not
    pipe.threshold = float(np.median(every))
    pipe.label_thresholds = {"PLACE": 0.999}
    pipe.label_exponents = {**pipe.label_exponents, "DRUG": 1.25}
    nlp.to_disk("sure")
    nlp = spacy.load("sure")
    pipe = nlp.get_pipe("crf_ner")
    docs = list(nlp.pipe(texts))
    wanted = [[[[e.start, e.end, e.label_] for e in doc.ents], [p for *_, p in found(doc)]] for doc in docs]
    assert 0 < sum(len(entities) for entities, _ in wanted) < len(every)
    assert pipe.temperature != 1
    Path("packages").mkdir()
    package(
        Path("sure"),
        Path("packages"),
        name="sure",
        version="0.1.0",
        create_sdist=False,
        create_wheel=False,
        create_meta=False,
    )
    # as pip would lay it out, without installing it
    built = place / "packages" / "en_sure-0.1.0"
    subprocess.run([sys.executable, "setup.py", "-q", "egg_info", "build"], cwd=built, check=True, capture_output=True)
    path = os.pathsep.join(map(str, [ROOT, built / "build" / "lib", built]))
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD],
        input=json.dumps(texts),
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert loaded.returncode == 0, loaded.stderr
    loaded_from, settings, entities = json.loads(loaded.stdout.splitlines()[-1])
    assert Path(loaded_from).is_relative_to(built / "build" / "lib")
    assert settings == [pipe.temperature, dict(pipe.label_exponents), pipe.threshold, dict(pipe.label_thresholds)]
    assert [found for found, _ in entities] == [found for found, _ in wanted]
    for (_, theirs), (_, ours) in zip(entities, wanted):
        assert theirs == pytest.approx(ours, abs=1e-6)


@pytest.mark.parametrize("page", ["calibration.md", "commands.md"])
def test_the_examples_of_the_docs_run(place: Path, page: str, capsys: Any) -> None:
    text = (ROOT / "docs" / page).read_text()
    lines = [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    commands = [line.split()[4:] for line in lines if " calibrate " in line or " suggest " in line]
    assert commands
    for command in commands:
        run(*command)
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, page, "exec"), {})
        before, after, threshold = map(float, capsys.readouterr().out.split())
        assert after < 0.03 < before
        assert 0.3 <= threshold < 1
