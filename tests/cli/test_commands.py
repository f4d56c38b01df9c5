import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.util import registry
from thinc.api import Config

from .running import read, run, said


def test_convert_and_split(notes: Path, tmp_path: Path) -> None:
    result = run("convert", notes, tmp_path / "all.spacy", "--report", tmp_path / "report.txt", "--strict")
    docs = read(tmp_path / "all.spacy")
    remarks = (tmp_path / "report.txt").read_text().splitlines()
    assert all("is in the span groups, not in doc.ents" in remark for remark in remarks)
    assert len(remarks) == sum(len(doc.spans["entities"]) - len(doc.ents) for doc in docs) > 0
    lines = [line for ann in notes.glob("*.ann") for line in ann.read_text().splitlines()]
    assert sum(len(doc.spans["entities"]) for doc in docs) == len(lines)
    assert f"{len(lines):,} entities annotated, {len(lines):,} kept" in said(result)
    assert {doc.user_data["id"] for doc in docs} == {path.stem for path in notes.glob("*.txt")}
    for _ in range(2):
        result = run("split", tmp_path / "all.spacy", tmp_path / "parts", "--dev", 0.25, "--test", 0.25, "--seed", 5)
    parts = {name: read(tmp_path / "parts" / f"{name}.spacy") for name in ("train", "dev", "test")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 6, "dev": 3, "test": 3}
    ids = [doc.user_data["id"] for part in parts.values() for doc in part]
    assert sorted(ids) == sorted(doc.user_data["id"] for doc in docs)
    result = run("split", tmp_path / "all.spacy", tmp_path / "parts", "--dev", 0.25, "--test", 0)
    assert not (tmp_path / "parts" / "test.spacy").exists()
    result = run("split", tmp_path / "all.spacy", tmp_path / "parts", "--dev", 0.25, "--test", 0.25, "--seed", 5)
    manifest = json.loads((tmp_path / "parts" / "manifest.json").read_text())
    assert [d["id"] for name in ("train", "dev", "test") for d in manifest["parts"][name]["documents"]] == ids


def test_convert_reports_what_was_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "a.txt").write_text("Fever today")
    (folder / "a.ann").write_text("T1\tX 0 5\tFever\nT2\tX 6 99\tout\n")
    result = run("convert", folder, tmp_path / "a.spacy", "--report", tmp_path / "r.txt")
    assert "2 entities annotated, 1 kept" in said(result)
    assert (tmp_path / "r.txt").read_text().startswith("c/a.ann:2: entity T2 covers characters 6-99")
    strict = run("convert", folder, tmp_path / "b.spacy", "--strict", ok=False)
    assert strict.exit_code == 1
    assert "1 of 2 entities were left out" in said(strict)
    (folder / "a.ann").write_text("T2\tX 6 99\tout\n")
    nothing = run("convert", folder, tmp_path / "c.spacy", ok=False)
    assert nothing.exit_code == 1
    assert "None of 1 entities could be kept" in said(nothing)
    assert not (tmp_path / "c.spacy").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "{tmp}/none", "{tmp}/o.spacy"], "no such file or folder"),
        (["convert", "{tmp}", "{tmp}/o.spacy"], "the folder is empty"),
        (["convert", "{tool}", "{tmp}/o.spacy"], "its format is not known. Name it with --from"),
        (["convert", "{notes}", "{tmp}/o.spacy", "--from", "word"], "--from word"),
        (["convert", "{notes}", "{tmp}/o.spacy", "--to", "pdf"], "--to pdf"),
        (["convert", "{notes}", "{tmp}/o.txt"], "say with --to which format"),
        (["convert", "{notes}", "{tmp}/o.txt", "--to", "spacy"], "must end in .spacy"),
        (["convert", "{notes}", "{tmp}/o.spacy", "--align", "left"], 'alignment = "left" is not one of'),
        (["convert", "{notes}", "{tmp}/o.spacy", "--columns", "a"], "--columns a: give numbers"),
        (["convert", "{notes}", "{notes}", "--to", "standoff"], "must be a folder that is new or empty"),
        (["convert", "{notes}", "{tmp}/o.spacy", "--annotators", "some"], 'annotators = "some" is not one of'),
        (
            ["convert", "{notes}", "{tmp}/o.json", "--to", "label_studio", "--labelling-config", "{tmp}/x"],
            "No such file",
        ),
        (["convert", "{notes}", "{tmp}", "--to", "label_studio"], "it is a folder"),
        (["convert", "-", "{tmp}/o.spacy"], "name its format with --from"),
        (["convert", "{notes}", "{tmp}/o.spacy", "--lang", "qq"], "--lang qq"),
        (["split", "{tmp}/none.spacy", "{tmp}/o"], "no such file"),
        (["split", "{tool}", "{tmp}/o"], "its format is not known"),
        (["init", "config", "{tmp}/o.cfg", "--template", "best"], "--template best"),
        (["init", "config", "{tmp}/o.cfg", "--train", "{notes}/note_0001.txt"], "it has texts, but no annotations"),
        (["init", "config", "{tmp}/o.cfg", "--lang", "qq"], "--lang qq"),
        (["init", "config", "{tmp}/o.cfg", "--encoder", "package:no_such/model"], "no installed Python package"),
        (["init", "config", "{tmp}/o.cfg", "--template", "cnn_crf", "--encoder", "x"], "no pretrained encoder"),
    ],
)
def test_bad_input_ends_in_one_clear_message_and_no_file(
    arguments: list, message: str, notes: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    filled = [argument.format(tmp=empty, notes=notes, tool=sys.executable) for argument in arguments]
    result = run(*filled, ok=False)
    assert result.exit_code == 1, result.output
    assert message in said(result)
    assert not list(empty.iterdir())


@pytest.mark.parametrize("form", ["standoff", "columns", "label_studio", "jsonl", "spacy", "csv"])
def test_a_configuration_reads_the_annotations_that_it_is_made_with(form: str, notes: Path, tmp_path: Path) -> None:
    run("convert", notes, tmp_path / "all.spacy")
    corpus = notes
    if form == "spacy":
        corpus = tmp_path / "all.spacy"
    elif form == "csv":
        corpus = tmp_path / "all.csv"
        rows = [(json.dumps([[e.start_char, e.end_char, e.label_] for e in doc.ents]), doc.text)
                for doc in read(tmp_path / "all.spacy")]  # fmt: skip
        with corpus.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("spans", "text"), *rows])
    elif form != "standoff":
        corpus = tmp_path / "all.json"
        options = ["--as-annotations"] if form == "label_studio" else []
        run("convert", notes, corpus, "--to", form, *options)
    run("init", "config", tmp_path / "made.cfg", "--template", "cnn_crf", "--train", corpus, "--dev", corpus)
    made = registry.resolve(Config().from_disk(tmp_path / "made.cfg").interpolate()["corpora"], schema=None)
    found = [eg.reference for eg in made["train"](spacy.blank("en"))]
    assert bare(found) == bare(read(tmp_path / "all.spacy"))


def bare(docs: list) -> list:
    """Texts and entities without white space, which columns do not keep."""
    return sorted(
        ("".join(doc.text.split()), sorted(("".join(e.text.split()), e.label_) for e in doc.ents)) for doc in docs
    )


@pytest.mark.parametrize(("template", "needed"), [("flair", True), ("stacked", True), ("cnn_crf", False)])
def test_what_is_still_to_be_named_is_in_the_command_that_trains(template: str, needed: bool, tmp_path: Path) -> None:
    result = run("init", "config", tmp_path / "made.cfg", "--template", template)
    line = result.output.splitlines()[-1]  # not wrapped
    assert line.startswith("Train with: python -m spacy ")
    assert "--paths.train FILE --paths.dev FILE" in line
    assert ("--paths.vectors PIPELINE" in line) == needed


def test_an_output_that_cannot_be_written_is_named(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.spacy").mkdir()
    (tmp_path / "file").touch()
    for output in (tmp_path / "folder.spacy", tmp_path / "file" / "x.spacy"):
        result = run("convert", notes, output, ok=False)
        assert result.exit_code == 1
        assert output.name.split(".")[0] in said(result) or "file" in said(result)


def test_nothing_is_written_when_reading_fails_half_way(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (notes / "note_0009.txt").write_bytes(b"\xff\xfe")
    result = run("convert", notes, tmp_path / "out" / "all.spacy", ok=False)
    assert result.exit_code == 1
    assert "note_0009.txt: byte 0 is not UTF-8" in said(result)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("bf16", "int8"), [(True, True), (True, False), (False, False)])
def test_check_tells_what_there_is(bf16: bool, int8: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spacy_crf_ner.embedding.precision.cpu_has_bf16", lambda: bf16)
    monkeypatch.setattr("spacy_crf_ner.embedding.int8.works", lambda: int8)
    result = run("check")
    assert f"spacy {spacy.__version__}" in said(result)
    assert f"{'bf16' if bf16 else 'fp32'} is the fastest" in said(result)
    assert ("int8, after crf-ner quantize" in said(result)) == int8


def test_convert_goes_from_each_format_to_each(notes: Path, tmp_path: Path) -> None:
    def convert(source: Path, target: str, *more: Any) -> Path:
        output = tmp_path / target
        run("convert", source, output, *more)
        return output

    first = convert(notes, "a.spacy")
    back = convert(first, "brat", "--to", "standoff")
    for path in sorted(notes.glob("*.*")):
        if path.suffix == ".txt":
            assert (back / path.name).read_bytes() == path.read_bytes()

    def entities(docs: list) -> set:
        return {(d.user_data["id"], s.start, s.end, s.label_) for d in docs for s in d.spans["entities"]}

    assert entities(read(convert(back, "b.spacy"))) == entities(read(first))
    columns = convert(first, "c.conll", "--to", "columns", "--scheme", "bioes")
    again = read(convert(columns, "d.spacy"))

    def tokens(docs: list) -> list:
        return [[([t.text for t in s if not t.is_space], s.label_) for s in d.spans["entities"]] for d in docs]

    assert tokens(again) == tokens(read(first))
    assert "S-" in columns.read_text()
    tasks = convert(notes, "tasks.json", "--to", "label_studio", "--as-annotations")
    assert (tmp_path / "tasks.xml").exists()
    numbered = {(start, end, label) for _, start, end, label in entities(read(convert(tasks, "e.spacy")))}
    assert numbered == {(start, end, label) for _, start, end, label in entities(read(first))}
    piped = run("convert", notes, "-", "--to", "label_studio", "--as-annotations")
    assert piped.stdout == tasks.read_text(encoding="utf-8")
    (tmp_path / "tasks.xml").write_text("mine")
    convert(notes, "tasks.json", "--to", "label_studio")
    assert (tmp_path / "tasks.xml").read_text() == "mine"
    assert not list(tmp_path.glob(".*"))
    folder = convert(columns, "brat2", "--to", "standoff")
    assert len(list(folder.glob("*.ann"))) == 12
    assert (folder / "annotation.conf").exists()


def test_convert_writes_to_standard_output_and_reads_from_it(notes: Path, tmp_path: Path) -> None:
    result = run("convert", notes, "-", "--to", "columns")
    assert result.stdout.startswith("-DOCSTART-\t-note_0000-\t")
    assert "documents" in result.stderr
    assert "documents" not in result.stdout
    result = run("convert", "-", tmp_path / "x.spacy", "--from", "columns", input=result.stdout)
    assert len(read(tmp_path / "x.spacy")) == 12
