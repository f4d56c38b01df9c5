"""JSON in every layout, by what its records hold."""

import gzip
import json
import random
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
import spacy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spacy.tokens import Span
from spacy.util import registry

from spacy_crf_ner.corpora import json_stream
from spacy_crf_ner.corpora.columns import read_columns
from spacy_crf_ner.corpora.document import Document, Entity, Link, Report
from spacy_crf_ner.corpora.files import CorpusError
from spacy_crf_ner.corpora.formats import detect
from spacy_crf_ner.corpora.json_stream import json_values
from spacy_crf_ner.corpora.jsonl import read_jsonl, write_jsonl
from spacy_crf_ner.corpora.placing import from_doc, to_doc
from spacy_crf_ner.corpora.records import Names, Naming, kind_of
from spacy_crf_ner.corpora.standoff import read_standoff

from ..conftest import corpus

NLP = spacy.blank("en")
TEXT = "Fever 😀 in New York."


def write(folder: Path, *records: Any, name: str = "file.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    return path


def read(folder: Path, *records: Any, **naming: Any) -> List[Document]:
    return list(read_jsonl(write(folder, *records), naming=Naming(**naming)))


def entities(document: Document) -> List[tuple]:
    return [(*(document.text[start:end] for start, end in e.fragments), e.label) for e in document.entities]


def kinds(document: Document) -> List[tuple]:
    return [(problem.kind, problem.lost) for problem in document.problems]


FEVER = [("Fever", "PROBLEM"), ("New York", "PLACE")]
LAYOUTS: Dict[str, Any] = {
    "Prodigy": {
        "text": TEXT,
        "spans": [
            {"start": 0, "end": 5, "label": "PROBLEM", "token_start": 0, "token_end": 0},
            {"start": 11, "end": 19, "label": "PLACE", "token_start": 3, "token_end": 4},
        ],
        "tokens": [
            {"text": "Fever", "start": 0, "end": 5, "id": 0, "ws": True},
            {"text": "😀", "start": 6, "end": 7, "id": 1, "ws": True},
            {"text": "in", "start": 8, "end": 10, "id": 2, "ws": True},
            {"text": "New York.", "start": 11, "end": 20, "id": 3, "ws": False},
        ],
        "answer": "accept",
        "meta": {"source": "x"},
        "_input_hash": -5,
    },
    "doccano, old": {"id": 7, "text": TEXT, "label": [[0, 5, "PROBLEM"], [11, 19, "PLACE"]]},
    "doccano, older": {"id": 7, "data": TEXT, "labels": [[0, 5, "PROBLEM"], [11, 19, "PLACE"]]},
    "doccano, new": {
        "id": 7,
        "text": TEXT,
        "entities": [
            {"id": 1, "label": "PROBLEM", "start_offset": 0, "end_offset": 5},
            {"id": 2, "label": "PLACE", "start_offset": 11, "end_offset": 19},
        ],
        "relations": [{"id": 9, "from_id": 1, "to_id": 2, "type": "In"}],
        "Comments": [],
    },
    "spaCy 2": [TEXT, {"entities": [[0, 5, "PROBLEM"], [11, 19, "PLACE"]]}],
    "LightTag": {
        "content": TEXT,
        "annotations": [
            {"start": 0, "end": 5, "tag": "PROBLEM", "value": "Fever"},
            {"start": 11, "end": 19, "tag": "PLACE", "value": "New York"},
        ],
    },
    "Hugging Face": {
        "id": "0",
        "tokens": ["Fever", "😀", "in", "New", "York", "."],
        "ner_tags": ["B-PROBLEM", "O", "O", "B-PLACE", "I-PLACE", "O"],
    },
    "spaCy 2, training": {
        "id": 3,
        "paragraphs": [
            {
                "raw": TEXT,
                "sentences": [
                    {"tokens": [{"orth": "Fever", "ner": "U-PROBLEM"}, {"orth": "😀", "ner": "O"}]},
                    {
                        "tokens": [
                            {"orth": "in", "ner": "O"},
                            {"orth": "New", "ner": "B-PLACE"},
                            {"orth": "York", "ner": "L-PLACE"},
                            {"orth": ".", "ner": "O"},
                        ]
                    },
                ],
            }
        ],
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_are_told_apart(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, LAYOUTS[name], LAYOUTS[name])
    assert detect(path) == "jsonl"
    first, second = read_jsonl(path)
    assert entities(first) == entities(second) == FEVER
    assert first.annotated
    assert first.id != second.id
    assert (first.source, first.entities[0].line, second.entities[0].line) == (str(path), 1, 2)
    array = tmp_path / "array.json"
    for indent in (None, 2):
        array.write_text(json.dumps([LAYOUTS[name]] * 3, indent=indent))
        assert detect(array) == "jsonl"
        assert [entities(document) for document in read_jsonl(array)] == [FEVER] * 3
    (tmp_path / "one.json").write_text(json.dumps(LAYOUTS[name], indent=2))
    assert [entities(document) for document in read_jsonl(tmp_path / "one.json")] == [FEVER]


def test_what_else_records_say_is_kept(tmp_path: Path) -> None:
    (prodigy,) = read(tmp_path, LAYOUTS["Prodigy"])
    assert prodigy.data == {"answer": "accept", "meta": {"source": "x"}, "_input_hash": -5}
    assert prodigy.tokens == [(0, 5), (6, 7), (8, 10), (11, 20)]
    assert [t.text for t in to_doc(prodigy, NLP.make_doc)] == ["Fever", "😀", "in", "New York."]
    (doccano,) = read(tmp_path, LAYOUTS["doccano, new"])
    assert (doccano.id, [e.id for e in doccano.entities], doccano.data) == ("7", ["1", "2"], {"Comments": []})
    assert doccano.links == [Link("relation", "In", [("Arg1", "1"), ("Arg2", "2")], "R9")]
    (training,) = read(tmp_path, LAYOUTS["spaCy 2, training"])
    assert (training.text, training.sentences) == (TEXT, [0, 2])
    (odd,) = read(tmp_path, {"text": "ab", "spans": [{"start": 0, "end": 1, "label": "X", "rank": 3, "source": "m"}]})
    assert (odd.entities[0].attributes, odd.entities[0].origin) == ({"rank": 3}, "m")


def test_relations_of_prodigy_join_spans(tmp_path: Path) -> None:
    head = {"start": 0, "end": 1, "label": "X", "token_start": 0, "token_end": 0}
    child = {"start": 2, "end": 3, "label": "Y"}
    relations = [
        {"head": 0, "child": 1, "head_span": head, "child_span": child, "label": "OF", "color": "#fff"},
        {"head": 0, "child": 2, "head_span": head, "child_span": {"start": 4, "end": 5, "label": None}, "label": "OF"},
    ]
    (document,) = read(tmp_path, {"text": "a b c", "spans": [head, child], "relations": relations})
    assert document.links == [Link("relation", "OF", [("Arg1", "T1"), ("Arg2", "T2")])]
    assert [entity.id for entity in document.entities] == ["T1", "T2"]
    assert document.data == {"relations": relations[1:]}
    assert kinds(document) == [("relation of what is no entity", False)]


def test_answers(tmp_path: Path) -> None:
    span = {"start": 0, "end": 1, "label": "X"}
    found = read(
        tmp_path,
        *({"text": "a", "spans": [span], "answer": answer} for answer in ("accept", "reject", "ignore")),
        {"text": "a", "answer": "accept"},
        {"text": "a"},
        {"text": "a", "spans": []},
    )
    assert [document.annotated for document in found] == [True, False, False, True, False, True]
    assert [len(document.entities) for document in found] == [1, 0, 0, 0, 0, 0]
    assert found[1].data == {"answer": "reject", "spans": [span]}
    report = Report()
    docs = [to_doc(document, NLP.make_doc, report=report) for document in found]
    assert (report.annotated, report.kept) == (1, 1)
    assert report.kinds == {"answer: reject": 1, "answer: ignore": 1, "record without entities": 1}
    assert [doc.has_annotation("ENT_IOB") for doc in docs] == [document.annotated for document in found]


def test_spans_of_docs(tmp_path: Path) -> None:
    doc = NLP("Fever in New York. None.")
    doc.ents = [Span(doc, 0, 1, label="PROBLEM")]
    doc.spans["sc"] = [Span(doc, 2, 4, label="PLACE"), Span(doc, 0, 4, label="ALL")]
    record = doc.to_json()
    (document,) = read(tmp_path, record)
    assert entities(document) == [("Fever", "PROBLEM")]
    assert document.data["spans"] == record["spans"]
    (document,) = read(tmp_path, record, spans="sc")
    assert entities(document) == [("New York", "PLACE"), ("Fever in New York", "ALL")]
    assert document.data["ents"] == record["ents"]
    assert document.tokens == [(token.idx, token.idx + len(token)) for token in doc]


@pytest.mark.parametrize(
    ("span", "kind"),
    [
        ({"start": 0, "end": 99, "label": "X"}, "offsets out of range"),
        ({"start": -1, "end": 3, "label": "X"}, "offsets out of range"),
        ({"start": 3, "end": 3, "label": "X"}, "empty or reversed"),
        ({"start": 5, "end": 3, "label": "X"}, "empty or reversed"),
        ({"start": 0, "end": 5, "label": "X", "text": "Lyon"}, "text that differs"),
        ({"start": 0, "end": 5}, "malformed span"),
        ({"start": "0", "end": 5, "label": "X"}, "malformed span"),
        ({"start": True, "end": 5, "label": "X"}, "malformed span"),
        ({"start": 0, "end": 5, "label": 3}, "malformed span"),
        ([0, 5], "malformed span"),
        ("Fever", "malformed span"),
        ({"fragments": [], "label": "X"}, "malformed span"),
    ],
)
def test_spans_that_cannot_be_are_reported_with_their_line(span: Any, kind: str, tmp_path: Path) -> None:
    good = {"start": 0, "end": 5, "label": "X"}
    (first, second) = read(tmp_path, {"text": TEXT, "spans": []}, {"text": TEXT, "spans": [good, span]})
    assert (len(second.entities), second.unread) == (1, 1)
    assert kinds(second) == [(kind, True)]
    assert str(second.problems[0]).startswith(f"{tmp_path / 'file.jsonl'}:2: ")
    assert not first.problems


def test_ends_are_inclusive_only_where_the_text_proves_it(tmp_path: Path) -> None:
    spans = [{"start": 0, "end": 4, "label": "X", "text": "Fever"}, {"start": 19, "end": 19, "label": "X", "text": "."}]
    (document,) = read(tmp_path, {"text": TEXT, "spans": [*spans, {"start": 8, "end": 9, "label": "Y"}]})
    assert entities(document) == [("Fever", "X"), (".", "X"), ("i", "Y")]
    assert kinds(document) == [("end that is inclusive", False)] * 2


def test_offsets_are_of_utf16_only_where_tokens_or_texts_prove_it(tmp_path: Path) -> None:
    place = {"start": 12, "end": 20, "label": "X"}
    proven = {"text": TEXT, "spans": [{**place, "text": "New York"}]}
    tokens = [{"start": s, "end": e} for s, e in ((0, 5), (6, 8), (9, 11), (12, 15), (16, 20), (20, 21))]
    by_tokens = {"text": TEXT, "spans": [place], "tokens": tokens}
    found = read(tmp_path, proven, by_tokens, {"text": TEXT, "spans": [place]})
    assert [entities(document) for document in found] == [[("New York", "X")], [("New York", "X")], [("ew York.", "X")]]
    assert [kinds(document) for document in found] == [[("offsets of UTF-16", False)]] * 2 + [[]]
    assert found[1].tokens == [(0, 5), (6, 7), (8, 10), (11, 14), (15, 19), (19, 20)]


def test_tokens_that_are_not_those_of_the_text_are_left(tmp_path: Path) -> None:
    spans = [{"start": 0, "end": 1, "label": "X"}]
    bad = [[{"start": 0, "end": 9}], [{"start": 1, "end": 0}], [{"text": "z", "start": 0, "end": 1}], ["z"], [3], [""]]
    for tokens in bad:
        (document,) = read(tmp_path, {"text": "ab c", "spans": spans, "tokens": tokens})
        assert document.tokens is None
        assert document.data == {"tokens": tokens}
        assert kinds(document) == [("tokens that do not fit", False)]
    (document,) = read(tmp_path, {"text": " a\n\nb  c ", "spans": [], "tokens": ["a", "b", "c"]})
    doc = to_doc(document, NLP.make_doc)
    assert [token.text for token in doc] == [" ", "a", "\n\n", "b", " ", "c"]
    assert doc.text == document.text


def test_numbers_of_tags_need_names(tmp_path: Path) -> None:
    record = {"tokens": ["Fever", "in", "New", "York"], "ner_tags": [1, 0, 3, 4]}
    names = ["O", "B-PROBLEM", "I-PROBLEM", "B-PLACE", "I-PLACE"]
    with pytest.raises(CorpusError, match=r"file\.jsonl:1: the tags are numbers.*--tag-names"):
        read(tmp_path, record)
    with pytest.raises(CorpusError, match="the tag 3 is none of the 2"):
        read(tmp_path, record, tag_names=["O", "B-PROBLEM"])
    (document,) = read(tmp_path, record, tag_names=names)
    assert entities(document) == FEVER
    (labels,) = read(tmp_path, {**record, "ner_tags": [1, 0, 2, 2]}, tag_names=["O", "PROBLEM", "PLACE"])
    assert entities(labels) == FEVER
    numbered = {"text": "Fever", "spans": [{"start": 0, "end": 5, "label": 1}]}
    assert [entities(document) for document in read(tmp_path, numbered, tag_names=["O", "PROBLEM"])] == [FEVER[:1]]
    (unknown,) = read(tmp_path, {**record, "ner_tags": [-100, 0, 3, 4]}, tag_names=names)
    assert unknown.unknown == [0]
    features = [{"name": "ner_tags", "type": {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "Sequence"}}]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"features": features, "rows": [{"row_idx": 0, "row": record}]}))
    assert [entities(document) for document in read_jsonl(path)] == [FEVER]


def test_tags_are_repaired_and_empty_tokens_stand_for_nothing(tmp_path: Path) -> None:
    first, second = read(
        tmp_path,
        {"tokens": ["a", "", "b", "c"], "tags": ["B-X", "I-X", "I-X", "I-Y"]},
        {"tokens": ["", "d"], "tags": ["B-X", "O"]},
    )
    assert entities(first) == [("a  b", "X"), ("c", "Y")]
    assert kinds(first) == [("IOB2 repaired", False)]
    assert (second.entities, kinds(second), second.unread) == ([], [("entity without text", True)], 1)
    with pytest.raises(CorpusError, match=r'file\.jsonl:1: "NN" is no entity tag'):
        read(tmp_path, {"tokens": ["a"], "tags": ["NN"]})


def test_documents_of_spacy_2_have_a_paragraph_each(tmp_path: Path) -> None:
    def paragraph(*tokens: Any) -> Dict[str, Any]:
        return {"sentences": [{"tokens": [{"orth": orth, **more} for orth, more in tokens]}]}

    known = paragraph(("a", {"ner": "U-X"}), ("b", {"ner": "-"}))
    one, two = read(tmp_path, {"id": 5, "paragraphs": [known, {**paragraph(("c", {})), "cats": 1}]})
    assert (one.id, one.group, one.text, one.unknown, one.annotated) == ("5-1", "5", "a b", [1], True)
    assert (two.id, two.group, two.annotated, two.data) == ("5-2", "5", False, {"cats": 1})
    with pytest.raises(CorpusError, match=r"file\.jsonl:1: a paragraph is not"):
        read(tmp_path, {"paragraphs": [{"sentences": [{"tokens": [{"id": 3}]}]}]})


def test_keys_can_be_named(tmp_path: Path) -> None:
    record = {"body": "a b", "text": "no", "marks": [[0, 1, "X"]], "who": "p1", "key": 4}
    (document,) = read(tmp_path, record, keys={"text": "body", "spans": "marks", "group": "who", "id": "key"})
    assert (document.text, entities(document), document.group, document.id) == ("a b", [("a", "X")], "p1", "4")
    assert document.data == {"text": "no"}
    with pytest.raises(CorpusError, match="--keys marks: there is no such thing"):
        read(tmp_path, record, keys={"marks": "spans"})


def test_ids_are_unique(tmp_path: Path) -> None:
    ids = ["a", "a", "file-000002", "a", ""]
    found = read(tmp_path, *({"text": "x", "spans": [], "id": id} for id in ids))
    assert len({document.id for document in found}) == 5
    assert found[0].id == "a"
    assert [kinds(document) for document in found] == [
        [],
        [("id used twice", False)],
        [],
        [("id used twice", False)],
        [],
    ]
    names, own = Names(), set()
    numbers = random.Random(0)
    for _ in range(20_000):
        name = str(numbers.randrange(15_000))
        assert names.add(name) == (name not in own)
        own.add(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a", "spans": []}\n{"text": "b"', r"f\.jsonl:2: it is not JSON"),
        ('{"text": "a", "spans": []}\n\n[1]\n', r"f\.jsonl:3: \[1\] is no record"),
        ('{"text": "a", "spans": []}\n{"tokens": ["a"], "tags": ["O"]}\n', r"f\.jsonl:2: .*tokens and tags.*Take them"),
        ('{"name": "a"}\n', r"f\.jsonl:1: the record is of no kind that is known. Its keys are name"),
        ('[{"text": "a", "spans": []},\n{"text": "b" "spans": []}]', r"f\.jsonl:2: it is not JSON"),
        ('[{"text": "a", "spans": []},\n', r"f\.jsonl:2: the array does not go on"),
        ('[{"text": "a", "spans": []}\n{"text": "a", "spans": []}]', r"f\.jsonl:2: the array does not go on"),
        ('[{"text": "a", "spans": []}]\nmore', r"f\.jsonl:2: something stands after"),
        ("[" * 100_000, r"f\.jsonl:1: it is not JSON"),
        ('{"text": "a", "spans": ' + "[" * 100_000, r"f\.jsonl:1: it is not JSON"),
        ('{"text": "a", "x": ' + "1" * 5000 + "}", r"f\.jsonl:1: it is not JSON"),
        ('[{"id": 1, "annotations": [{"result": []}], "data": {"text": "a"}}]', r"f\.jsonl:1: it is a task of Label"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text(content)
    with pytest.raises(CorpusError, match=message):
        list(read_jsonl(tmp_path / "f.jsonl"))


def test_exports_of_label_studio_are_not_claimed() -> None:
    for task in (
        {"data": {"text": "a"}, "annotations": [{"result": []}]},
        {"data": {"text": "a"}, "completions": [{"result": []}]},
        {"text": "a", "label": [{"start": 0, "end": 1, "labels": ["X"]}], "annotation_id": 1, "lead_time": 2.0},
    ):
        assert kind_of(task) == ""


def test_files_folders_and_archives(tmp_path: Path) -> None:
    line = json.dumps(LAYOUTS["doccano, old"])
    with gzip.open(tmp_path / "a.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\ufeff" + line + "\r\n")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("folder/x.jsonl", line)
        archive.writestr("folder/LICENSE", "none")
    for path in (tmp_path / "a.jsonl.gz", tmp_path / "b.zip"):
        assert detect(path) == "jsonl"
        assert [entities(document) for document in read_jsonl(path)] == [FEVER]
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.json").write_text(f"[{line}]")
    (folder / "b.jsonl").write_text(line)
    (folder / "notes.md").write_text("nothing")
    assert detect(folder) == "jsonl"
    assert [document.id for document in read_jsonl(folder)] == ["7", "7-b-000001"]
    (folder / "b.jsonl").write_bytes('{"text": "é", "spans": []}'.encode("latin-1"))
    with pytest.raises(CorpusError, match=r"b\.jsonl: byte 10 is not UTF-8"):
        list(read_jsonl(folder))
    assert [document.text for document in read_jsonl(folder / "b.jsonl", "latin-1")] == ["é"]


class Trickle:
    """A file that gives few characters at a time, and counts how many were asked for."""

    def __init__(self, content: str, size: int) -> None:
        self.content, self.size, self.given = content, size, 0

    def read(self, count: int) -> str:
        piece = self.content[self.given : self.given + min(count, self.size)]
        self.given += len(piece)
        return piece

    def readline(self) -> str:
        end = self.content.find("\n", self.given) + 1 or len(self.content)
        piece, self.given = self.content[self.given : end], end
        return piece

    def __iter__(self) -> Iterator[str]:
        return iter(self.readline, "")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=5) | st.just('a\n\t\\"]}\u2028😀'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    values=st.lists(st.dictionaries(st.text(max_size=3), VALUES, min_size=1, max_size=3), min_size=1, max_size=5),
    size=st.integers(1, 60),
    indent=st.sampled_from([None, 1]),
    array=st.booleans(),
    ascii=st.booleans(),
)
def test_values_are_those_of_the_whole_file(values: list, size: int, indent: Any, array: bool, ascii: bool) -> None:
    dumped = [json.dumps(value, indent=indent, ensure_ascii=ascii) for value in values]
    content = json.dumps(values, indent=indent, ensure_ascii=ascii) if array else "\n".join(dumped)
    found = list(json_values(Trickle(content, size), "x"))
    assert [value.value for value in found] == values
    assert not any(value.mended for value in found)
    lines = content.split("\n")
    assert all(lines[line - 1].lstrip("[ ").startswith("{") for line, *_ in found)


def test_what_cannot_be_kept_of_a_value_is_said(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(
        '{"text": "a", "spans": []}\n'
        '{"spans": [], "text": "b \\ud83d", "meta": {"n": 1e999, "m": [NaN], "k": 100000000000000000000}}\n'
        '{"spans": [], "text": "\\ud83d\\ude00 NaN", "meta": {"n": 1234567890123456789}}\n'
    )
    first, second, third = read_jsonl(path)
    assert second.text == "b \ufffd"
    assert second.data["meta"] == {"n": None, "m": [None], "k": "0x56bc75e2d63100000"}
    assert [problem.where for problem in second.problems] == [f"{path}:2"]
    assert (third.text, third.data["meta"]) == ("😀 NaN", {"n": 1234567890123456789})
    assert not first.problems + third.problems


def test_reading_goes_no_further_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", 100)
    record = json.dumps({"text": "x" * 50, "spans": []})
    for content in (f"{record}\n" * 1000, f"[{', '.join([record] * 1000)}]", f"[{record}, [x" + "y" * 10**6):
        file = Trickle(content, 10**9)
        values = json_values(file, "x")
        next(values)
        assert file.given < 400
        with pytest.raises(CorpusError) if "y" in content else pytest.MonkeyPatch.context():
            next(values)
        assert file.given < 800


# Writing

LABELS = st.text(min_size=1, max_size=4).filter(str.strip)
PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | PLAIN,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(PLAIN, inner, max_size=2),
    max_leaves=4,
)
KEYS = PLAIN | st.sampled_from(["text", "spans", "data", "labels", "answer", "meta", "id", "annotated", "paragraphs"])
KEYS = KEYS | st.sampled_from(
    ["annotation_id", "lead_time", "tokens", "ner_tags", "relations", "links", "sents", "group"]
)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    words = draw(st.lists(st.sampled_from(["a", "b-c", "😀", "d e", "\n", "é"]), min_size=1, max_size=6))
    spaces = draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    text, places = "", []
    for word, space in zip(words, spaces):
        places.append((len(text), len(text) + len(word)))
        text += word + " " * space
    tokens = draw(st.sampled_from([None, places]))
    indices = st.lists(st.integers(0, len(words) - 1), unique=True, max_size=3).map(sorted)
    found = []
    for i in range(draw(st.integers(0, 3))):
        fragments = []
        for _ in range(draw(st.integers(1, 2))):
            start = draw(st.integers(0, len(text) - 1))
            fragments.append((start, draw(st.integers(start + 1, len(text)))))
        entity = Entity(
            draw(LABELS.filter(lambda label: label.isprintable())),
            fragments,
            id=draw(st.sampled_from(["", f"T{i}", str(i)])),
            attributes=draw(st.dictionaries(PLAIN, JSON, max_size=2)),
            notes=draw(st.lists(PLAIN, max_size=2)),
            score=draw(st.none() | st.floats(0, 1)),
            origin=draw(st.sampled_from(["", "me"])),
        )
        found.append(entity)
    link = st.builds(
        Link,
        kind=st.sampled_from(["relation", "event"]),
        label=PLAIN,
        arguments=st.lists(st.tuples(PLAIN, PLAIN), max_size=2),
        id=PLAIN,
        text=PLAIN,
        attributes=st.dictionaries(PLAIN, JSON, max_size=1),
        notes=st.lists(PLAIN, max_size=1),
    )
    return Document(
        id=draw(st.sampled_from(["x", "1"])),
        text=text,
        entities=found,
        links=draw(st.lists(link, max_size=2)),
        group=draw(st.sampled_from(["", "g"])),
        annotated=draw(st.booleans()),
        data=draw(st.dictionaries(KEYS, JSON | st.sampled_from(["reject", "accept"]), max_size=3)),
        tokens=tokens,
        sentences=draw(indices) if tokens else [],
        unknown=draw(indices) if tokens else [],
    )


def stripped(document: Document) -> Document:
    """A Document without where it stood."""
    for entity in document.entities:
        entity.line, entity.file = 0, ""
    document.source, document.problems, document.written = "", [], None
    return document


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=documents())
def test_what_is_written_is_read(document: Document, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    assert list(write_jsonl([document], path)) == [document]
    assert path.read_text(encoding="utf-8").count("\n") == 1
    assert detect(path) == "jsonl"
    (again,) = read_jsonl(path)
    assert not again.problems
    assert stripped(again) == document


def test_peers_can_read_what_is_written(tmp_path: Path) -> None:
    (prodigy,) = read(tmp_path, LAYOUTS["Prodigy"])
    list(write_jsonl([prodigy], tmp_path / "again.jsonl"))
    again = json.loads((tmp_path / "again.jsonl").read_text())
    expected = {**LAYOUTS["Prodigy"], "id": "file-000001"}
    # the token "New York." does not end where the entity ends
    expected["spans"] = [expected["spans"][0], {"start": 11, "end": 19, "label": "PLACE"}]
    assert again == expected


@pytest.mark.parametrize("parts", [("maccrobat2020", "dev"), ("litbank", "brat"), ("wlp_wnut2020", "dev")])
def test_real_corpora_come_back_the_same(parts: tuple, tmp_path: Path) -> None:
    before = list(read_standoff(corpus(*parts)))
    list(write_jsonl(before, tmp_path / "x.jsonl"))
    after = list(read_jsonl(tmp_path / "x.jsonl"))
    assert not any(document.problems for document in after)
    for one in before:
        one.unread = 0
    assert [stripped(one) for one in after] == [stripped(one) for one in before]


def test_mobies_mentions_are_those_of_its_columns(tmp_path: Path) -> None:
    folder = corpus("mobie_de", "v1_20210811")
    with zipfile.ZipFile(folder / "ner_conll03_formatted.zip") as archive:
        archive.extract("dev.conll2003", tmp_path)
    columns = list(read_columns(tmp_path / "dev.conll2003"))
    for part, mentions, in_columns in (("dev", 2766, columns), ("test", 4874, None)):
        found = list(read_jsonl(folder / f"{part}.jsonl.gz"))
        assert sum(len(document.entities) for document in found) == mentions
        assert sum(document.unread for document in found) == 0
        assert all(document.tokens is not None for document in found)
        if in_columns is not None:
            # columns cut entities where they end a sentence, and have one layer: one mention lies inside another
            assert characters(found) - characters(in_columns) == {"duration": len("+0200")}
            assert not characters(in_columns) - characters(found)


def characters(documents: List[Document]) -> Counter:
    """Characters in entities, but for white space, by label."""
    count: Counter = Counter()
    for document in documents:
        for entity in document.entities:
            count[entity.label] += len("".join(document.text[entity.start : entity.end].split()))
    return count


def test_the_reader_for_configs(tmp_path: Path) -> None:
    path = write(tmp_path, LAYOUTS["Prodigy"], {"text": "No pain", "spans": [], "who": "x"})
    corpus_ = registry.get("readers", "spacy_crf_ner.Jsonl.v1")(path, alignment="strict", span_setter=["ents"])
    examples = corpus_(NLP)
    first = next(iter(examples))
    assert [token.text for token in first.predicted] == ["Fever", "😀", "in", "New York."]
    assert [entity.text for entity in first.reference.ents] == ["Fever"]
    with pytest.raises(CorpusError, match=r"Jsonl\.v1 has no path"):
        registry.get("readers", "spacy_crf_ner.Jsonl.v1")(None)


def test_the_reader_reads_as_it_goes(tmp_path: Path) -> None:
    path = write(tmp_path, {"text": "a", "spans": []})
    with path.open("a") as file:
        file.write("{broken\n")
    examples = registry.get("readers", "spacy_crf_ner.Jsonl.v1")(path)(NLP)
    assert next(iter(examples)).reference.text == "a"
    with pytest.raises(CorpusError, match=r"file\.jsonl:2"):
        list(registry.get("readers", "spacy_crf_ner.Jsonl.v1")(path)(NLP))


# Anything at all

PIECES = [
    '"',
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\\",
    "\\ud83d",
    "null",
    "-1",
    "1e999",
    "NaN",
    "true",
    "\n",
    "\x00",
    "\ufeff",
]
PIECES += ['"text"', '"spans"', '"tokens"', '"ner_tags"', '"start"', '"links"', '"data"', '"O"', "99999999999999999999"]


def mutated(chance: random.Random) -> bytes:
    records = [chance.choice(list(LAYOUTS.values())) for _ in range(chance.randint(1, 2))]
    if chance.random() < 0.7:
        records = records[:1] * 2
    as_array = chance.random() < 0.3
    content = json.dumps(records) if as_array else "\n".join(json.dumps(record) for record in records)
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(content) + 1), chance.choice([0, 0, 1, 2, 5, 30])
        new = chance.choice([chance.choice(PIECES), content[at // 2 : at // 2 + chance.randrange(40)], ""])
        content = content[:at] + new + content[at + length :]
    raw = content.encode()
    if chance.random() < 0.1:
        raw = raw[: len(raw) // 2] + b"\xff" + raw[len(raw) // 2 :]
    return raw


def survives(raw: bytes, folder: Path) -> bool:
    """Read it, put it on tokens, write it, read that. RETURNS: Whether it could be read."""
    path = folder / "x.jsonl"
    path.write_bytes(raw)
    try:
        found = list(read_jsonl(path))
    except CorpusError as error:
        if "x.jsonl" not in str(error):
            raise
        return False
    for document in found:
        doc = to_doc(document, NLP.make_doc)
        assert doc.text == document.text
        assert from_doc(doc).text == document.text
    list(write_jsonl(found, folder / "y.jsonl"))
    again = list(read_jsonl(folder / "y.jsonl"))
    assert [stripped(one).entities for one in again] == [stripped(one).entities for one in found]
    return True


def test_whatever_is_in_a_file_ends_in_a_document_or_a_clear_error(tmp_path: Path) -> None:
    chance = random.Random(0)
    assert 0 < sum(survives(mutated(chance), tmp_path) for _ in range(400)) < 400


@pytest.mark.slow
def test_much_more_of_it(tmp_path: Path) -> None:
    chance = random.Random(1)
    assert 1000 < sum(survives(mutated(chance), tmp_path) for _ in range(25_000)) < 24_000
