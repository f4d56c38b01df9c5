"""CSV, Parquet and saved data sets, whose rows become records."""

import builtins
import csv
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Sequence

import pytest
import spacy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spacy.util import registry

from spacy_crf_ner.corpora.document import Document
from spacy_crf_ner.corpora.files import CorpusError
from spacy_crf_ner.corpora.formats import detect
from spacy_crf_ner.corpora.formats import read as read_any
from spacy_crf_ner.corpora.placing import to_doc
from spacy_crf_ner.corpora.records import Naming
from spacy_crf_ner.corpora.tables import read_csv, read_dataset, read_parquet

from .test_jsonl import entities, kinds

NLP = spacy.blank("en")
NAMES = ["O", "B-PROBLEM", "I-PROBLEM", "B-PLACE", "I-PLACE"]
FEVER = [("Fever", "PROBLEM"), ("New York", "PLACE")]
KAGGLE = (
    "Sentence #,Word,POS,Tag\nSentence: 1,Fever,NN,B-PROBLEM\n,in,IN,O\n,New,NNP,B-PLACE\n,York,NNP,I-PLACE\n"
    'Sentence: 2,"""",``,O\n,pain,NN,B-PROBLEM\n'
)


def write(folder: Path, content: str, name: str = "file.csv") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def read(folder: Path, content: str, name: str = "file.csv", **naming: Any) -> List[Document]:
    return list(read_csv(write(folder, content, name), naming=Naming(**naming)))


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_row_a_token_as_kaggle_has_it(ends: str, tmp_path: Path) -> None:
    path = tmp_path / "ner_dataset.csv"
    path.write_bytes(KAGGLE.replace("\n", ends).encode())
    assert detect(path) == "csv"
    one, two = read_csv(path)
    assert (one.id, one.text, entities(one)) == ("Sentence: 1", "Fever in New York", FEVER)
    assert (two.id, two.text, entities(two)) == ("Sentence: 2", '" pain', [("pain", "PROBLEM")])
    assert one.data == {"columns": {"POS": ["NN", "IN", "NNP", "NNP"]}}
    assert (one.entities[0].line, two.entities[0].line) == (2, 6)
    assert [token.text for token in to_doc(two, NLP.make_doc)] == ['"', "pain"]


def test_other_tables_with_a_row_a_token(tmp_path: Path) -> None:
    everywhere = 'sentence_idx\tword\ttag\n1\tFever\tB-PROBLEM\n1\t"\tO\n2\tNew\tB-PLACE\n2\tYork\tI-PLACE\n'
    found = read(tmp_path, everywhere, "file.tsv")
    assert [(d.id, d.text) for d in found] == [("1", 'Fever "'), ("2", "New York")]
    both = "doc_id;sentence_id;token;label\na;1;Fever;1\na;1;in;0\na;2;New;3\nb;2;York;3\n"
    one, two = read(tmp_path, both, tag_names=NAMES)
    assert (one.id, one.text, one.sentences, entities(one)) == (
        "a",
        "Fever in New",
        [0, 2],
        [FEVER[0], ("New", "PLACE")],
    )
    assert (two.id, entities(two)) == ("b", [("York", "PLACE")])
    blank = "Token,NER\nFever,I-PROBLEM\n\nNew,I-PLACE\nYork,I-PLACE\n\n"
    assert [(d.id, entities(d)) for d in read(tmp_path, blank)] == [
        ("file-000001", FEVER[:1]),
        ("file-000002", FEVER[1:]),
    ]
    named = "id,stuff,mark,tag\n1,a,B-X,NN\n2,b,O,NN\n"
    (document,) = read(tmp_path, named, keys={"tokens": "stuff", "tags": "mark"})
    assert (entities(document), document.data["columns"]) == ([("a", "X")], {"id": ["1", "2"], "tag": ["NN", "NN"]})


def test_a_row_a_document(tmp_path: Path) -> None:
    text = 'Fever, "so" in\nNew York'
    spans = [[0, 5, "PROBLEM"], {"start": 15, "end": 23, "label": "PLACE"}]
    tokens, tags = ["Fever", "in", "New", "York"], ["B-PROBLEM", "O", "B-PLACE", "I-PLACE"]
    tables: Dict[str, Sequence[Sequence[str]]] = {
        "json": [["id", "text", "entities", "who"], ["7", text, json.dumps(spans), "x"], ["8", "none", "[]", "y"]],
        "python": [["Tokens", "ner_tags", "who"], [str(tokens), str(tags), "x"], ["['none']", "['O']", "y"]],
        "kaggle": [["Sentence", "POS", "Tag"], ["Fever in New York", "x", str(tags)], ["none", "y", "['O']"]],
        "numbers": [["tokens", "ner_tags"], [json.dumps(tokens), "[1, 0, 3, 4]"], ["[]", "[]"]],
    }
    for rows in tables.values():
        out = io.StringIO()
        csv.writer(out).writerows(rows)
        path = write(tmp_path, out.getvalue())
        assert detect(path) == "csv"
        first, second = read_csv(path, naming=Naming(tag_names=NAMES))
        assert entities(first) == FEVER or entities(first) == [FEVER[0], ("New York", "PLACE")]
        assert (second.entities, second.annotated) == ([], True)
    assert first.entities[0].line == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Word,Tag\na,O\nb,O,c\n", r"f\.csv:1: the first line does not name"),
        ("Word,Tag\n" + "a,O\n" * 400 + "b,O,c\n", r"f\.csv:402: the row has 3 cells, the first line 2"),
        ("Word,Tag\n" + "a,O\n" * 400 + 'b,"O\n', r"f\.csv: it is not CSV"),
        ("a,b\nc,d\n", r"f\.csv:1: the first line does not name"),
        ("Word,Tag\na,X9\n", r'f\.csv:2: "X9" is no entity tag'),
        ("Word,Tag\na,7\n", r"f\.csv:2: the tags are numbers"),
        ("Word,Word,Tag\na,a,O\n", r"f\.csv:1: the first line does not name"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(
    content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spacy_crf_ner.corpora.tables.SAMPLE", 200)
    path = write(tmp_path, content, "f.csv")
    with pytest.raises(CorpusError, match=message):
        list(read_csv(path))


def test_a_cut_row_does_not_hide_how_a_table_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spacy_crf_ner.corpora.tables.SAMPLE", 200)
    long = '"' + "x y\n" * 300 + '"'
    content = f'text,spans\na,"[]"\n{long},"[[0, 1, ""X""]]"\nb,[]\n'
    path = write(tmp_path, content)
    assert detect(path) == "csv"
    assert [len(document.entities) for document in read_csv(path)] == [0, 1, 0]


def test_archives_folders_and_encodings(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("ner.csv", "\ufeff" + KAGGLE.replace("Fever", "Fiévre"))
        archive.writestr("readme.txt", "no")
    assert detect(tmp_path / "a.zip") == "csv"
    assert len(list(read_csv(tmp_path / "a.zip"))) == 2
    (tmp_path / "d").mkdir()
    for name in ("one.csv", "two.csv"):
        (tmp_path / "d" / name).write_bytes(KAGGLE.replace("Fever", "Fièvre").encode("latin-1"))
    with pytest.raises(CorpusError, match=r"one\.csv: byte \d+ is not UTF-8.*latin-1"):
        list(read_csv(tmp_path / "d"))
    found = list(read_csv(tmp_path / "d", "latin-1"))
    assert [document.text for document in found][::2] == ["Fièvre in New York"] * 2
    assert kinds(found[2]) == [("id used twice", False)]


# Parquet and data sets

ROWS = [
    {"id": "0", "tokens": ["Fever", "in", "New", "York"], "ner_tags": [1, 0, 3, 4]},
    {"id": "1", "tokens": ["none"], "ner_tags": [0]},
]
FEATURES = {"ner_tags": {"feature": {"names": NAMES, "_type": "ClassLabel"}, "_type": "Sequence"}}


def parquet(path: Path, rows: Sequence[Any], metadata: Any = None) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.Table.from_pylist(rows)
    if metadata is not None:
        table = table.replace_schema_metadata({b"huggingface": json.dumps(metadata).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=1)


def save_to_disk(folder: Path, rows: Sequence[Any]) -> None:
    """As `datasets` saves them, in two files."""
    arrow = pytest.importorskip("pyarrow")
    folder.mkdir(parents=True)
    files = []
    for i, part in enumerate((rows[:1], rows[1:])):
        table = arrow.Table.from_pylist(part, schema=arrow.Table.from_pylist(rows).schema)
        files.append({"filename": f"data-{i:05}-of-00002.arrow"})
        with (
            arrow.OSFile(str(folder / files[-1]["filename"]), "wb") as sink,
            arrow.ipc.new_stream(sink, table.schema) as out,
        ):
            out.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": "train"}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))


def test_parquet(tmp_path: Path) -> None:
    parquet(tmp_path / "data" / "train-00000.parquet", ROWS, {"info": {"features": FEATURES}})
    parquet(
        tmp_path / "data" / "x" / "dev.parquet", [{**row, "id": None} for row in ROWS], {"info": {"features": FEATURES}}
    )
    assert detect(tmp_path / "data") == detect(tmp_path / "data" / "train-00000.parquet") == "parquet"
    found = list(read_parquet(tmp_path / "data"))
    assert [document.id for document in found] == ["0", "1", "x/dev-000001", "x/dev-000002"]
    assert [entities(document) for document in found] == [FEVER, [], FEVER, []]
    assert found[2].data == {"id": None}
    parquet(tmp_path / "plain.parquet", ROWS)
    with pytest.raises(CorpusError, match=r"plain\.parquet:1: the tags are numbers"):
        list(read_parquet(tmp_path / "plain.parquet"))
    assert len(list(read_parquet(tmp_path / "plain.parquet", Naming(tag_names=NAMES)))) == 2
    raw = (tmp_path / "plain.parquet").read_bytes()
    (tmp_path / "bad.parquet").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(CorpusError, match=r"bad\.parquet: the Parquet file cannot be read"):
        list(read_parquet(tmp_path / "bad.parquet"))
    (tmp_path / "none").mkdir()
    with pytest.raises(CorpusError, match="nor a folder with some"):
        list(read_parquet(tmp_path / "none"))


def test_parquet_is_read_by_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spacy_crf_ner.corpora.tables.ROWS", 1)
    parquet(tmp_path / "a.parquet", [*ROWS, {"id": "2", "tokens": ["x"], "ner_tags": [9]}], {"features": FEATURES})
    documents = read_parquet(tmp_path / "a.parquet")
    # what is wrong further down is not seen before it is reached, but for the rows that say which scheme it is
    monkeypatch.setattr("spacy_crf_ner.corpora.records.SAMPLE_RECORDS", 1)
    assert [next(documents).id, next(documents).id] == ["0", "1"]
    with pytest.raises(CorpusError, match=r"a\.parquet:3: the tag 9 is none of the 5"):
        next(documents)


def test_saved_data_sets(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "one", ROWS)
    assert detect(tmp_path / "one") == "datasets"
    assert [(document.id, entities(document)) for document in read_dataset(tmp_path / "one")] == [
        ("0", FEVER),
        ("1", []),
    ]
    for split in ("train", "dev"):
        save_to_disk(tmp_path / "all" / split, ROWS)
    (tmp_path / "all" / "dataset_dict.json").write_text('{"splits": ["train", "dev"]}')
    assert detect(tmp_path / "all") == "datasets"
    assert [document.id for document in read_dataset(tmp_path / "all")] == ["0", "1", "0-dev-000001", "1-dev-000002"]
    state = tmp_path / "one" / "state.json"
    for said, message in (("{", "cannot be read"), ("{}", "does not say"), ('{"_data_files": [3]}', "does not name")):
        state.write_text(said)
        with pytest.raises(CorpusError, match=rf"state\.json: it {message}"):
            list(read_dataset(tmp_path / "one"))
    state.write_text('{"_data_files": [{"filename": "gone.arrow"}]}')
    with pytest.raises(CorpusError, match="the data set cannot be read"):
        list(read_dataset(tmp_path / "one"))


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    found = builtins.__import__

    def absent(name: str, *arguments: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return found(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(CorpusError, match=r'pip install "spacy-crf-ner\[tables\]"'):
        list(read_any(tmp_path / "a.parquet"))


def test_the_reader_for_configs(tmp_path: Path) -> None:
    make = registry.get("readers", "spacy_crf_ner.Tables.v1")
    parquet(tmp_path / "a.parquet", ROWS)
    paths = [write(tmp_path, KAGGLE), tmp_path / "a.parquet"]
    for path in paths:
        example = next(iter(make(path, tag_names=NAMES)(NLP)))
        assert [token.text for token in example.predicted] == ["Fever", "in", "New", "York"]
        assert [(entity.text, entity.label_) for entity in example.reference.ents] == FEVER
    with pytest.raises(CorpusError, match=r"Tables\.v1 has no path"):
        make(None)


CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sentences=st.lists(
        st.lists(st.tuples(CELLS, st.sampled_from(["O", "B-X", "B-Y"])), min_size=1, max_size=4), min_size=1, max_size=4
    ),
    delimiter=st.sampled_from(",;\t"),
    everywhere=st.booleans(),
)
def test_tables_say_what_was_written_into_them(
    sentences: List[List[Any]], delimiter: str, everywhere: bool, tmp_path: Path
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["sentence_id", "word", "tag"])
    for number, sentence in enumerate(sentences):
        writer.writerows([number if everywhere or not i else "", *row] for i, row in enumerate(sentence))
    found = read(tmp_path, out.getvalue())
    expected = [[(word, tag[2:]) for word, tag in sentence if tag != "O"] for sentence in sentences]
    assert [entities(document) for document in found] == expected
    assert [document.text for document in found] == [" ".join(word for word, _ in sentence) for sentence in sentences]


def survives(raw: bytes, folder: Path) -> bool:
    (folder / "x.csv").write_bytes(raw)
    try:
        for document in read_csv(folder / "x.csv"):
            assert to_doc(document, NLP.make_doc).text == document.text
    except CorpusError as error:
        if "x.csv" not in str(error):
            raise
        return False
    return True


def mutated(chance: random.Random) -> bytes:
    content = chance.choice([KAGGLE, 'id,text,entities\n1,a b,"[[0, 1, ""X""]]"\n2,"c\nd",[]\n'])
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(content) + 1)
        new = chance.choice(['"', ",", "\n", "\r", "\t", ";", "[", "]", "O", "B-", "\x00", "Word", "'", "7", ""])
        content = content[:at] + new + content[at + chance.choice([0, 0, 1, 5]) :]
    raw = content.encode()
    return raw + b"\xff" if chance.random() < 0.05 else raw


def test_whatever_is_in_a_table_ends_in_a_document_or_a_clear_error(tmp_path: Path) -> None:
    chance = random.Random(0)
    assert 0 < sum(survives(mutated(chance), tmp_path) for _ in range(400)) < 400


@pytest.mark.slow
def test_much_more_of_it(tmp_path: Path) -> None:
    chance = random.Random(1)
    assert 1000 < sum(survives(mutated(chance), tmp_path) for _ in range(20_000)) < 19_000
