"""`convert` as a stream: nothing that it reads is kept."""

import gc
import json
import re
import weakref
from pathlib import Path
from typing import Any, Iterator, List

import pytest
import spacy
from spacy.cli._util import app
from spacy.tokens import DocBin
from spacy.training import Corpus
from typer.testing import CliRunner

import spacy_crf_ner.cli.convert as command
from spacy_crf_ner.corpora.document import Document
from spacy_crf_ner.corpora.files import CorpusError
from spacy_crf_ner.corpora.formats import FORMATS, add_doc

from .running import read, run, said

DOCUMENTS = 50


def records(number: int = DOCUMENTS) -> Iterator[Any]:
    for i in range(number):
        spans = [{"start": 0, "end": 5, "label": "X"}, {"start": 0, "end": 5 + i % 3, "label": "Y"}]
        yield {"id": f"d{i}", "text": f"Fever {i} today word{i}", "spans": spans, "meta": {"i": i}}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records()))
    return path


def meaning(docs: List[Any]) -> List[Any]:
    return [
        (doc.text, [t.text for t in doc], [(s.start, s.end, s.label_) for s in doc.spans["entities"]], doc.user_data)
        for doc in docs
    ]


@pytest.mark.parametrize("size", [17, 25, 50, 1000])
def test_shards_hold_what_one_file_holds(size: int, corpus: Path, tmp_path: Path) -> None:
    run("convert", corpus, tmp_path / "all.spacy")
    run("convert", corpus, tmp_path / "shards", "--shard", size)
    files = sorted((tmp_path / "shards").iterdir())
    lengths = [len(DocBin().from_disk(file)) for file in files]
    assert lengths[:-1] == [size] * (len(lengths) - 1)
    assert 0 < lengths[-1] <= size
    shards = [doc for file in files for doc in read(file)]
    assert meaning(shards) == meaning(read(tmp_path / "all.spacy"))
    natively = [example.reference.text for example in Corpus(tmp_path / "shards")(spacy.blank("en"))]
    assert natively == [doc.text for doc in shards]
    run("convert", tmp_path / "shards", tmp_path / "again.jsonl")
    again = [json.loads(line) for line in (tmp_path / "again.jsonl").read_text().splitlines()]
    assert [(record["id"], record["meta"]) for record in again] == [(r["id"], r["meta"]) for r in records()]


@pytest.mark.parametrize("target", ["spacy", "shards", "columns", "jsonl", "standoff"])
def test_no_document_is_kept(target: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: List[Any] = []
    most = 0

    def watched(documents: Iterator[Document]) -> Iterator[Document]:
        nonlocal most
        for number, document in enumerate(documents, start=1):
            alive.append(weakref.ref(document))
            if number % 24 == 0:
                gc.collect()
                most = max(most, sum(ref() is not None for ref in alive))
            yield document

    def doc_of(*arguments: Any) -> Any:
        doc = to_doc(*arguments)
        alive.append(weakref.ref(doc))
        return doc

    to_doc = command.to_doc
    form = FORMATS["jsonl"]
    monkeypatch.setattr(command, "to_doc", doc_of)
    monkeypatch.setattr(command, "FORGET", 10)
    monkeypatch.setitem(FORMATS, "jsonl", form._replace(read=lambda path, options: watched(form.read(path, options))))
    ways = {"spacy": [tmp_path / "x.spacy"], "shards": [tmp_path / "x", "--shard", 5]}
    run("convert", corpus, *ways.get(target, [tmp_path / "x", "--to", target]))
    assert len(alive) >= DOCUMENTS
    assert 0 < most <= 6


def test_words_are_forgotten(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipelines = []
    make = command.blank
    monkeypatch.setattr(command, "blank", lambda lang: pipelines.append(make(lang)) or pipelines[-1])
    monkeypatch.setattr(command, "FORGET", 10)
    run("convert", corpus, tmp_path / "x.conll", "--to", "columns")
    assert "word1" in (tmp_path / "x.conll").read_text()
    assert "word1" not in pipelines[0].vocab.strings


def test_remarks_are_counted_and_listed_but_not_kept(tmp_path: Path) -> None:
    spans = [{"start": 0, "end": 1, "label": "X"}, {"start": 0, "end": 99, "label": "X"}]
    lines = [{"text": "a", "spans": spans}, {"text": "b", "spans": spans, "answer": "reject"}]
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    for name, more in (("a.spacy", []), ("b.jsonl", []), ("c", ["--to", "standoff"])):
        result = run("convert", tmp_path / "x.jsonl", tmp_path / name, "--report", tmp_path / "report", *more)
        assert "2 documents, 2 entities annotated, 1 kept" in said(result)
        assert "1 × answer: reject" in said(result)
        remarks = (tmp_path / "report").read_text().splitlines()
        numbered = [remark for remark in remarks if re.search(r"x\.jsonl:\d", remark)]
        assert [remark.partition(": ")[0].rpartition(":")[2] for remark in numbered] == ["1", "2"]
        # brat has nothing for the answer
        assert ["answer" in remark for remark in remarks if remark not in numbered] == [True] * (name == "c")
        assert f"All {len(remarks)} remarks are in" in said(result)
        strict = run("convert", tmp_path / "x.jsonl", tmp_path / f"strict-{name}", "--strict", *more, ok=False)
        assert strict.exit_code == 1
        assert "1 of 2 entities were left out" in said(strict)
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": "a", "spans": spans[1:]}))
    for name in ("none.spacy", "none.jsonl"):
        result = run("convert", tmp_path / "x.jsonl", tmp_path / name, ok=False)
        assert result.exit_code == 1
        assert not (tmp_path / name).exists()


def test_standard_input_and_output(corpus: Path, tmp_path: Path) -> None:
    result = run("convert", corpus, "-", "--to", "jsonl")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [f"d{i}" for i in range(DOCUMENTS)]
    command = ["crf-ner", "convert", "-", str(tmp_path / "x.spacy"), "--from", "jsonl"]
    assert CliRunner().invoke(app, command, input=result.stdout).exit_code == 0
    assert len(read(tmp_path / "x.spacy")) == DOCUMENTS


def test_keys_and_names_of_tags(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps({"stuff": ["Fever", "today"], "kind": [1, 0]}))
    options = ["--from", "jsonl", "--keys", "tokens=stuff,tags=kind", "--tag-names", "O,B-X"]
    run("convert", tmp_path / "x.jsonl", tmp_path / "x.spacy", *options)
    assert [(e.text, e.label_) for doc in read(tmp_path / "x.spacy") for e in doc.ents] == [("Fever", "X")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "parquet"], "it is read, but not written"),
        (["--shard", "0"], "--shard 0: give the documents of a file"),
        (["--shard", "5", "--to", "jsonl"], "--shard 5"),
        (["--scheme", "x", "--to", "columns"], "--scheme x: it is not one of"),
        (["--sentences", "-1", "--to", "jsonl"], "--sentences -1: it must not be negative"),
        (["--encoding", "none", "--to", "jsonl"], "--encoding none: there is no such encoding"),
        (["--encoding", "base64", "--to", "jsonl"], "--encoding base64: there is no such encoding"),
        (["--keys", "text", "--to", "jsonl"], "--keys text: give pairs"),
        (["--keys", "body=text", "--to", "jsonl"], "--keys body: there is no such thing"),
    ],
)
def test_bad_options_end_in_one_clear_message(arguments: List[str], message: str, corpus: Path, tmp_path: Path) -> None:
    result = run("convert", corpus, tmp_path / "out" / "x", *arguments, ok=False)
    assert result.exit_code == 1
    assert message in said(result)
    assert not (tmp_path / "out" / "x").exists()


def test_nothing_is_written_under_the_name_of_a_compressed_file(corpus: Path, tmp_path: Path) -> None:
    for name, target in (("x.jsonl.gz", "jsonl"), ("x.zip", "label_studio"), ("x.gz", "columns")):
        result = run("convert", corpus, tmp_path / name, "--to", target, ok=False)
        assert result.exit_code == 1
        assert "files are not compressed here" in said(result)
        assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_what_spacy_cannot_store_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"id": "one", "text": "a", "spans": [], "number": 1' + "0" * 30 + "}")
    result = run("convert", tmp_path / "x.jsonl", tmp_path / "x.spacy")
    assert "1 × values that cannot be kept" in said(result)
    doc = spacy.blank("en")("a")
    doc.user_data.update({"id": "one", "number": 10**30})
    with pytest.raises(CorpusError, match=r"one: what is said beside its entities cannot stand in a \.spacy file"):
        add_doc(DocBin(store_user_data=True), doc)
