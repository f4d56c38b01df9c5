"""stats, split, merge, subsample, rename-labels from the command line, over files of each format."""

import hashlib
import json
from pathlib import Path
from typing import Dict

import pytest
import spacy
from spacy.tokens import Doc, DocBin

from spacy_crf_ner.corpora.formats import read as read_documents
from spacy_crf_ner.corpora.standoff import read_standoff

from .running import read, run, said


def files(folder: Path) -> Dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_stats_says_the_same_of_every_format(notes: Path, tmp_path: Path) -> None:
    run("convert", notes, tmp_path / "a.spacy")
    run("convert", notes, tmp_path / "a.conll", "--to", "columns")
    found = {path.name: json.loads(run("stats", path, "--json").stdout) for path in (notes, *tmp_path.glob("a.*"))}
    assert len(found) == 3
    n_entities = sum(ann.read_text().count("\nT") + ann.read_text().startswith("T") for ann in notes.glob("*.ann"))
    for counted in found.values():
        assert (counted["documents"], counted["entities"]) == (12, n_entities)
    labels = [{name: label["entities"] for name, label in counted["labels"].items()} for counted in found.values()]
    assert labels[0] == labels[1] == labels[2]


def test_stats_writes_a_page_and_reads_from_standard_input(notes: Path, tmp_path: Path) -> None:
    result = run("stats", notes, "--output", tmp_path / "out")
    assert "12 documents, 12 of them annotated" in result.stdout
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {
        "stats.html",
        "stats.json",
        "labels.png",
        "labels-dark.png",
        "together.png",
        "document_lengths.png",
    } <= names
    assert json.loads((tmp_path / "out" / "stats.json").read_text())["documents"] == 12
    piped = run("stats", "-", "--from", "columns", input="a\tB-X\n\na\tO\n")
    assert "annotated in some places" not in piped.stdout
    (tmp_path / "x.conll").write_text("a\tB-X\n\nb\tO\n\nab\tB-X\n\nab\tO\n")
    assert '"ab": 1 × X, 1 × nothing: x-000004, characters 0-2' in run("stats", tmp_path / "x.conll").stdout


def test_brat_is_split_byte_for_byte_with_a_manifest(notes: Path, tmp_path: Path) -> None:
    for _ in range(2):  # the second time over the first
        run("split", notes, tmp_path / "p", "--to", "standoff", "--part", "fit=0.75", "--part", "tune=0.25")
    manifest = json.loads((tmp_path / "p" / "manifest.json").read_text())
    assert [part["n_documents"] for part in manifest["parts"].values()] == [9, 3]
    together: Dict[str, bytes] = {}
    for name, part in manifest["parts"].items():
        here = files(tmp_path / "p" / part["file"])
        here.pop("annotation.conf")
        assert {f"{d['id']}.txt" for d in part["documents"]} == {n for n in here if n.endswith(".txt")}
        for document in part["documents"]:
            assert hashlib.sha256(here[f"{document['id']}.txt"]).hexdigest() == document["sha256"]
        assert part["n_entities"] == sum(part["labels"].values()), name
        together.update(here)
    assert together == files(notes)
    assert manifest["options"]["shares"] == {"fit": 0.75, "tune": 0.25}


@pytest.mark.parametrize("form", ["jsonl", "columns", "label_studio", "standoff"])
def test_the_parts_of_a_split_are_a_folder_that_is_read(form: str, notes: Path, tmp_path: Path) -> None:
    run("split", notes, tmp_path / "p", "--to", form)
    result = run("convert", tmp_path / "p", tmp_path / "all.spacy")
    assert len(read(tmp_path / "all.spacy")) == 12
    assert "manifest.json" not in said(result)


def test_spacys_files_lose_nothing_on_their_way(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    docs = []
    for i in range(6):
        doc = Doc(nlp.vocab, words=["a", f"b{i}"], tags=["X", "Y"])
        doc.set_ents([spacy.tokens.Span(doc, 0, 1, label="L")], missing=[doc[1:2]])
        doc.spans["mine"] = [spacy.tokens.Span(doc, 1, 2, label="M")]
        doc.user_data["patient"] = i // 2
        docs.append(doc)
    DocBin(docs=docs, store_user_data=True).to_disk(tmp_path / "a.spacy")
    run("split", tmp_path / "a.spacy", tmp_path / "p", "--dev", 0.34, "--test", 0, "--group-by", "patient")
    parts = {name: read(tmp_path / "p" / f"{name}.spacy") for name in ("train", "dev")}
    patients = {name: {doc.user_data["patient"] for doc in part} for name, part in parts.items()}
    assert [len(part) for part in parts.values()] == [4, 2]
    assert not patients["train"] & patients["dev"]
    for doc in parts["train"] + parts["dev"]:
        assert [token.tag_ for token in doc] == ["X", "Y"]
        assert doc.to_array("ENT_IOB").tolist() == [3, 0]
        assert [span.label_ for span in doc.spans["mine"]] == ["M"]


def test_a_folder_of_spacys_files_is_one_corpus(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    run("convert", notes, tmp_path / "parts" / "a.spacy")
    run("convert", notes, tmp_path / "parts" / "b.spacy")
    run("subsample", tmp_path / "parts", tmp_path / "all.spacy", "--n", 24)
    assert len(read(tmp_path / "all.spacy")) == 24


def test_a_span_group_that_is_not_there_is_not_replaced_by_another(tmp_path: Path) -> None:
    doc = spacy.blank("en")("New York City")
    doc.ents = [doc.char_span(0, 13, label="A")]
    doc.spans["sc"] = [doc.char_span(0, 8, label="B"), doc.char_span(4, 13, label="B")]
    DocBin(docs=[doc], store_user_data=True).to_disk(tmp_path / "a.spacy")
    for command in (["convert"], ["subsample", "--n", 1]):
        result = run(*command, tmp_path / "a.spacy", tmp_path / "b.conll", "--to", "columns", "--spans", "cs", ok=False)
        assert "--spans asks for, cs. There are ents, sc." in said(result)
        assert not (tmp_path / "b.conll").exists()
    # and all of the one that is there is written
    run("convert", tmp_path / "a.spacy", tmp_path / "b.conll", "--to", "columns", "--spans", "sc")
    (found,) = read_documents(tmp_path / "b.conll")
    assert [(e.label, found.text[e.start : e.end]) for e in found.entities] == [("B", "New York"), ("B", "York City")]


def test_folds_hold_everything_once(notes: Path, tmp_path: Path) -> None:
    run("split", notes, tmp_path / "p", "--folds", 3, "--stratified")
    devs = [doc.user_data["id"] for i in (1, 2, 3) for doc in read(tmp_path / "p" / f"fold-{i}" / "dev.spacy")]
    assert sorted(devs) == sorted(path.stem for path in notes.glob("*.txt"))
    assert len(read(tmp_path / "p" / "fold-2" / "train.spacy")) == 8
    # another split takes the place of the folds
    run("split", notes, tmp_path / "p")
    assert {path.name for path in (tmp_path / "p").iterdir()} == {
        "train.spacy",
        "dev.spacy",
        "test.spacy",
        "manifest.json",
    }


def test_a_text_in_two_parts_is_reported(tmp_path: Path) -> None:
    (tmp_path / "x.conll").write_text("same\tB-X\n\n" * 6)
    result = run("split", tmp_path / "x.conll", tmp_path / "p", "--duplicates", "report")
    assert "1 texts are in several parts: x-000001 in" in said(result)
    failed = run("split", tmp_path / "x.conll", tmp_path / "q", ok=False)
    assert "6 documents cannot be split into 3 parts. Those of one group, or with the same text," in said(failed)
    assert not (tmp_path / "q").exists()


def test_a_split_that_fails_leaves_the_earlier_one(notes: Path, tmp_path: Path) -> None:
    run("split", notes, tmp_path / "p", "--to", "standoff")
    before = files(tmp_path / "p")
    (notes / "note_0003.txt").write_bytes(b"\xff")
    run("split", notes, tmp_path / "p", "--to", "standoff", ok=False)
    assert files(tmp_path / "p") == before
    (tmp_path / "o" / "train").mkdir(parents=True)
    (notes / "note_0003.txt").write_text("")
    (notes / "note_0003.ann").write_text("")
    assert "no earlier split has made it" in said(run("split", notes, tmp_path / "o", "--to", "standoff", ok=False))
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["train"]


def test_corpora_of_several_formats_become_one(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "x.conll").write_text("-DOCSTART-\t-note_0001-\tO\n\nLyon\tB-PLACE\n")
    run("convert", notes, tmp_path / "a.spacy")
    result = run(
        "merge", notes, tmp_path / "a.spacy", tmp_path / "x.conll", tmp_path / "all.spacy", "--conflicts", "first"
    )
    assert "1 documents got another id" in said(result)
    docs = {doc.user_data["id"]: doc for doc in read(tmp_path / "all.spacy")}
    assert set(docs) == {path.stem for path in notes.glob("*.txt")} | {"x/note_0001"}
    assert [e.label_ for e in docs["x/note_0001"].ents] == ["PLACE"]
    run(
        "merge",
        notes,
        tmp_path / "x.conll",
        tmp_path / "brat",
        "--to",
        "standoff",
        "--from",
        "standoff",
        "--from",
        "columns",
    )
    back = {document.id: document for document in read_standoff(tmp_path / "brat")}
    assert len(back["x/note_0001"].entities) == 1
    for path in notes.glob("*.*"):
        assert (tmp_path / "brat" / path.name).read_bytes() == path.read_bytes()


def test_a_subsample_has_what_was_asked_for(notes: Path, tmp_path: Path) -> None:
    texts = [document.text for document in read_standoff(notes)]
    drawn = []
    for seed in (1, 1, 2):
        run("subsample", notes, tmp_path / "s.spacy", "--n", 5, "--seed", seed, "--stratified")
        drawn.append([doc.text for doc in read(tmp_path / "s.spacy")])
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(found == [text for text in texts if text in found] and len(found) == 5 for found in drawn)
    run("subsample", notes, tmp_path / "s.conll", "--share", 0.25, "--to", "columns")
    assert len(list(read_documents(tmp_path / "s.conll", "columns"))) == 3
    run("subsample", notes, tmp_path / "s", "--n", 12, "--to", "standoff")
    assert {**files(tmp_path / "s"), "annotation.conf": b""} == {**files(notes), "annotation.conf": b""}


def test_labels_are_renamed_in_every_format(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("DRUG=MEDICATION\nDOSE=\n")
    run("rename-labels", notes, tmp_path / "brat", "--map-file", tmp_path / "map.txt", "--to", "standoff")
    result = run("rename-labels", notes, tmp_path / "a.spacy", "--map-file", tmp_path / "map.txt")
    labels = [(e.label, e.start) for document in read_standoff(notes) for e in document.entities]
    expected = [("MEDICATION" if label == "DRUG" else label, start) for label, start in labels if label != "DOSE"]
    dropped = sum(label == "DOSE" for label, _ in labels)
    assert f"{sum(label == 'DRUG' for label, _ in labels)} entities were renamed, {dropped} dropped." in said(result)
    assert [(e.label, e.start) for document in read_standoff(tmp_path / "brat") for e in document.entities] == expected
    again = run("rename-labels", tmp_path / "a.spacy", tmp_path / "b.spacy", "--map", "MEDICATION=DRUG")
    assert "renamed, 0 dropped" in said(again)
    found = [(s.label_, s.start_char) for doc in read(tmp_path / "b.spacy") for s in doc.spans["entities"]]
    back = {("DRUG" if label == "MEDICATION" else label, start) for label, start in expected}
    assert set(found) == back
    assert {e.label_ for doc in read(tmp_path / "b.spacy") for e in doc.ents} <= {label for label, _ in back}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats", "{tmp}/none"], "no such file or folder"),
        (["stats", "{tmp}/empty.conll", "--from", "columns"], "there is no document in it"),
        (["stats", "{notes}", "--from", "word"], "--from word"),
        (["stats", "{notes}", "--list", -1], "--list -1"),
        (["stats", "{notes}", "--output", "{tmp}/empty.conll"], "--output must be a folder"),
        (["split", "{notes}", "{tmp}/o", "--dev", 0.6, "--test", 0.5], "leave a share for training"),
        (["split", "{notes}", "{tmp}/o", "--part", "a=0.5", "--dev", 0.5], "leave --dev and --test out"),
        (["split", "{notes}", "{tmp}/o", "--part", "a=0.5"], "must sum to 1"),
        (["split", "{notes}", "{tmp}/o", "--part", "../a=1"], "give a name of letters"),
        (["split", "{notes}", "{tmp}/o", "--part", "a"], "give a name and a share"),
        (["split", "{notes}", "{tmp}/o", "--part", "a=nan", "--part", "b=0.5"], "--part a=nan"),
        (["split", "{notes}", "{tmp}/o", "--dev", "nan"], "leave a share for training"),
        (["split", "{notes}", "{tmp}/o", "--part", "a=0.5", "--part", "A=0.5"], "two parts have this name"),
        (["split", "{notes}", "{tmp}/o", "--part", "manifest=1", "--to", "label_studio"], "Give another name"),
        (["stats", "{notes}/note_0000.txt", "--encoding", "none"], "--encoding none: there is no such encoding"),
        (["subsample", "{notes}", "{tmp}/o.jsonl.gz", "--n", 1, "--to", "jsonl"], "Write o.jsonl, and compress it"),
        (["split", "{notes}", "{tmp}/o", "--folds", 2, "--dev", 0.1], "--folds has parts of its own"),
        (["split", "{notes}", "{tmp}/o", "--folds", 1], "at least 2"),
        (["split", "{notes}", "{tmp}/o", "--group-by", "patient"], 'have no "patient" in their data: note_0000'),
        (["split", "{notes}", "{tmp}/o", "--duplicates", "no"], "together or report"),
        (["split", "{notes}", "{tmp}/o", "--to", "pdf"], "--to pdf"),
        (["merge", "{notes}"], "Give the corpora to merge"),
        (["merge", "{notes}", "{tmp}/o.txt"], "must end in .spacy"),
        (
            ["merge", "{notes}", "{notes}", "{tmp}/o", "--to", "standoff", "--from", "a", "--from", "b", "--from", "c"],
            "--from",
        ),
        (["merge", "{notes}", "{notes}", "--to", "standoff"], "new or empty"),
        (["merge", "{notes}", "{tmp}/o.spacy", "--conflicts", "none"], "--conflicts none"),
        (["subsample", "{notes}", "{tmp}/o.spacy"], "Say how many documents"),
        (["subsample", "{notes}", "{tmp}/o.spacy", "--n", 1, "--share", 0.1], "Say how many documents"),
        (["subsample", "{notes}", "{tmp}/o.spacy", "--share", 1.5], "above 0 and below 1"),
        (["subsample", "{notes}", "{tmp}/o.spacy", "--n", 13], "it has 12 documents, and 13 are asked for"),
        (["rename-labels", "{notes}", "{tmp}/o.spacy"], "Say with --map"),
        (
            ["rename-labels", "{notes}", "{tmp}/o.spacy", "--map", "NONE=X"],
            "No entity has the label NONE. There are BODY_PART",
        ),
        (["rename-labels", "{notes}", "{tmp}/o.spacy", "--map-file", "{tmp}/none"], "none"),
    ],
)
def test_bad_input_ends_in_one_clear_message_and_no_file(
    arguments: list, message: str, notes: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "empty.conll").touch()
    result = run(*[str(argument).format(tmp=place, notes=notes) for argument in arguments], ok=False)
    assert message in said(result)
    assert [path.name for path in place.iterdir()] == ["empty.conll"]
