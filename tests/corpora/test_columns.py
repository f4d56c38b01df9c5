"""Columns of any scheme come in whole, and go out as they were."""

import gzip
import zipfile
from pathlib import Path
from typing import Dict, List, Tuple

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc, Span

from spacy_crf_ner.corpora.columns import SCHEMES, find_layout, read_columns, write_columns
from spacy_crf_ner.corpora.document import Document, Report
from spacy_crf_ner.corpora.files import CorpusError
from spacy_crf_ner.corpora.formats import detect
from spacy_crf_ner.corpora.formats import read as read_any
from spacy_crf_ner.corpora.placing import from_doc, to_doc
from spacy_crf_ner.corpora.readers import Columns

from ..conftest import corpus

NLP = spacy.blank("xx")


def read(folder: Path, content: str, **settings: object) -> List[Document]:
    path = folder / "file.conll"
    path.write_text(content, encoding="utf-8", newline="")
    return list(read_columns(path, **settings))  # type: ignore[arg-type]


def entities(document: Document) -> List[Tuple[str, str]]:
    return [(document.text[e.start : e.end], e.label) for e in document.entities]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-P I-P O B-P B-P", ["a b", "d", "e"]),
        ("I-P I-P O I-P B-P", ["a b", "d", "e"]),
        ("B-P E-P O S-P S-P", ["a b", "d", "e"]),
        ("B-P L-P O U-P U-P", ["a b", "d", "e"]),
        ("B-P M-P E-P W-P O", ["a b c", "d"]),
        ("B-P,B-Q I-Q O O O", ["a b", "a"]),
    ],
)
def test_schemes_are_told_apart(tags: str, expected: List[str], tmp_path: Path) -> None:
    rows = "".join(f"{word}\t{tag}\n" for word, tag in zip("abcde", tags.split()))
    (document,) = read(tmp_path, rows)
    assert [text for text, _ in entities(document)] == expected
    assert not document.problems


@pytest.mark.parametrize(
    ("tags", "expected", "lines"),
    [
        # one B that begins an entity makes it IOB2
        ("B-P O I-P O B-Q", ["a", "c", "e"], [3]),
        ("B-P I-Q O O O", ["a", "b"], [2]),
        ("B-P L-P B-P O U-P", ["a b", "c", "e"], [3]),
        ("I-P L-P O U-P L-P", ["a b", "d", "e"], [1, 5]),
        ("U-P I-P I-P O O", ["a", "b c"], [2]),
    ],
)
def test_broken_tags_are_repaired_and_counted(tags: str, expected: List[str], lines: List[int], tmp_path: Path) -> None:
    rows = "".join(f"{word}\t{tag}\n" for word, tag in zip("abcde", tags.split()))
    (document,) = read(tmp_path, rows)
    assert [text for text, _ in entities(document)] == expected
    assert [int(problem.where.rpartition(":")[2]) for problem in document.problems] == lines
    assert not any(problem.lost for problem in document.problems)


def test_documents_sentences_and_ids(tmp_path: Path) -> None:
    content = "-DOCSTART- -tweet-7- O\n\na NN B-X\n\n\nb NN O\n-DOCSTART- -X- O\n\nc NN I-X\n"
    first, second = read(tmp_path, content)
    assert (first.id, first.text, first.sentences) == ("tweet-7", "a b", [0, 1])
    assert second.text == "c"
    assert [t.is_sent_start for t in to_doc(first, NLP.make_doc)] == [True, True]
    apart = read(tmp_path, "a\tO\n\t\nb\tB-X\n\nc\tO\n")
    assert [(d.id, d.text) for d in apart] == [("file-000001", "a"), ("file-000002", "b"), ("file-000003", "c")]
    (whole,) = read(tmp_path, "a\tO\n\t\nb\tB-X\n\nc\tO\n", sentences=0)
    assert (whole.text, whole.sentences, entities(whole)) == ("a b c", [0, 1, 2], [("b", "X")])


def test_conll_u_has_spaces_documents_and_tags_beside_others(tmp_path: Path) -> None:
    rest = "_\t_\t_\t_\t_\t_\t_"
    content = (
        "# newdoc id = one\n# text = Im Au.\n"
        f"1-2\tIm\t_\t{rest[:-2]}\t_\n"
        f"1\tin\tin\t{rest[:-2]}\t_\n2\tdem\tder\t{rest[:-2]}\t_\n"
        f"2.1\tghost\t_\t{rest[:-2]}\t_\n"
        f"3\tAu\tAu\t{rest[:-2]}\tNER=B-LOC|SpaceAfter=No\n4\t.\t.\t{rest[:-2]}\t_\n\n"
        f"# newdoc id = two\n1\tAu\tAu\t{rest[:-2]}\tNER=B-LOC\n"
    )
    one, two = read(tmp_path, content)
    assert (one.id, one.text, entities(one)) == ("one", "in dem Au.", [("Au", "LOC")])
    assert (two.id, entities(two)) == ("two", [("Au", "LOC")])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["EU NNP I-NP B-ORG", "calls VB I-VP O"], (0, (3,))),  # chunks look like tags and are none
        (["Bank\tB-ORG\tB-LOC", "rief\tO\tO"], (0, (1, 2))),
        (["# http://x [2010]", "1\tBank\tB-ORG\tB-LOC", "2\trief\tO\tO"], (1, (2, 3))),
        (["EU B-ORG", "calls O"], (0, (1,))),
    ],
)
def test_columns_are_found_out(lines: List[str], expected: tuple) -> None:
    layout = find_layout(lines)
    assert layout is not None
    assert (layout.word, layout.tags) == expected


def test_columns_can_be_named(tmp_path: Path) -> None:
    content = "EU NNP I-NP B-ORG\ncalls VB I-VP O\n"
    (document,) = read(tmp_path, content, word=0, tags=[2])
    assert entities(document) == [("EU", "NP"), ("calls", "VP")]
    (document,) = read(tmp_path, content, word=1, tags=[-1])
    assert entities(document) == [("NNP", "ORG")]
    with pytest.raises(CorpusError, match="its lines have 4 columns"):
        read(tmp_path, content, word=0, tags=[4])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tO\nb\tB-X\textra\nc\tO\n", r'file\.conll:2: "b.B-X.extra" has 3 columns, the other lines 2'),
        ("a b\nc d\n", "no column has entity tags"),
        ("a\tO\nb\tB-X\nc\tX9\n", "no column has entity tags"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=message):
        read(tmp_path, content)


def test_a_tag_that_is_none_far_down_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r'file\.conll:2501: "X9" is no entity tag'):
        read(tmp_path, "a\tO\n" * 2500 + "b\tX9\n")


def test_unknown_tags_are_missing_values(tmp_path: Path) -> None:
    (document,) = read(tmp_path, "a\tB-X\nb\t-\nc\tO\n")
    assert [token.ent_iob for token in to_doc(document, NLP.make_doc)] == [3, 0, 2]


def test_what_is_not_known_is_written_and_read_again(tmp_path: Path) -> None:
    content = "-DOCSTART-\t-a-\tO\n\na\tB-X\nb\t-\nc\tO\n\n-DOCSTART-\t-b-\tO\n\nd\tO\ne\t-\n\n"
    docs = [to_doc(document, NLP.make_doc) for document in read(tmp_path, content)]
    assert "".join(write_columns(docs)) == content
    again = [to_doc(from_doc(doc), NLP.make_doc) for doc in docs]
    assert [[token.ent_iob for token in doc] for doc in again] == [[3, 0, 2], [2, 0]]


def test_a_text_that_nobody_has_annotated_does_not_become_one_without_entities(tmp_path: Path) -> None:
    unseen, empty = NLP("never seen"), NLP("none here")
    empty.spans["entities"] = []
    content = "".join(write_columns([unseen, empty]))
    first, second = read(tmp_path, content)
    assert (first.unknown, second.unknown) == ([0, 1], [])


def test_documents_without_a_name_get_one_and_no_two_have_the_same(tmp_path: Path) -> None:
    nameless = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\n\n-DOCSTART- -X- O O\n\nno DT B-NP O\n\n"
    assert [document.id for document in read(tmp_path, nameless)] == ["file-000001", "file-000002"]
    twice = "-DOCSTART- -a- O\n\nEU B-ORG\n\n-DOCSTART- -a- O\n\nno O\n\n"
    first, second = read(tmp_path, twice)
    assert (first.id, second.id) == ("a", "a-2")
    assert [problem.kind for problem in first.problems + second.problems] == ["id used twice"]


def test_other_encodings_and_compressed_files(tmp_path: Path) -> None:
    content = "Zürich\tB-LOC\r\nruft\tO\r\n"
    (tmp_path / "latin.conll").write_bytes(content.encode("latin-1"))
    with pytest.raises(CorpusError, match="is not UTF-8"):
        list(read_columns(tmp_path / "latin.conll"))
    (document,) = read_columns(tmp_path / "latin.conll", encoding="latin-1")
    assert entities(document) == [("Zürich", "LOC")]
    with gzip.open(tmp_path / "packed.conll.gz", "wb") as file:
        file.write(b"\xef\xbb\xbf" + content.encode())
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("folder/one.conll", content)
        archive.writestr("two.conll", content)
    assert [d.text for d in read_columns(tmp_path / "packed.conll.gz")] == ["Zürich ruft"]
    assert [d.id for d in read_columns(tmp_path / "packed.zip")] == ["one-000001", "two-000001"]
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(CorpusError, match=r"damaged|cannot be read"):
        list(read_columns(tmp_path / "broken.gz"))


NOTES = "The corpus was made in 2020 - by hand.\nSee https://example.org, and B-tree for more.\n" + "Words.\n" * 20


def test_what_is_plainly_no_data_is_passed_over_and_said(tmp_path: Path) -> None:
    data = "Zürich\tB-LOC\nruft\tO\n\n" * 3
    (tmp_path / "corpus" / "docs").mkdir(parents=True)
    for name, content in (
        ("README.txt", NOTES),
        ("docs/settings.cfg", "[entities]\nentities = PER\n           LOC\n\nIOB = IO\n"),
        ("train.conll", data),
        ("dev.conll", data),
        ("empty.conll", ""),
    ):
        (tmp_path / "corpus" / name).write_text(content)
    with zipfile.ZipFile(tmp_path / "corpus.zip", "w") as archive:
        for path in (path for path in (tmp_path / "corpus").rglob("*") if path.is_file()):
            archive.write(path, path.relative_to(tmp_path))
    for path in (tmp_path / "corpus", tmp_path / "corpus.zip"):
        assert detect(path) == "columns"
        found = list(read_any(path))
        assert [document.id for document in found] == [f"{n}-{i:06}" for n in ("dev", "train") for i in (1, 2, 3)]
        problems = [problem for document in found for problem in document.problems]
        assert [problem.kind for problem in problems] == ["file that was not read"] * 2
        assert {problem.where.rpartition("corpus/")[2] for problem in problems} == {"README.txt", "docs/settings.cfg"}
        assert not any(problem.lost for problem in problems)


def test_data_with_mistakes_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "good.conll").write_text("a\tB-X\n")
    for broken, message in (
        ("a\tB-X\nb\tQ\nc\tO\n", "no column has entity tags"),
        ("a\tB-X\nb c d\nc\tO\n", r"bad\.conll:2: .* has 1 columns"),
    ):
        (tmp_path / "bad.conll").write_text(broken)
        with pytest.raises(CorpusError, match=message):
            list(read_any(tmp_path))
    # nor is a file that is named by itself
    (tmp_path / "README").write_text(NOTES)
    with pytest.raises(CorpusError, match="no column has entity tags"):
        list(read_any(tmp_path / "README", "columns"))


def test_columns_are_told_whatever_their_characters(tmp_path: Path) -> None:
    # bytes of these, each by itself, would be ends of lines and white space
    for separator in ("\t", " "):
        (tmp_path / "a.conll").write_text(f"😅{separator}O\nà{separator}B-X\n\n" * 20, encoding="utf-8")
        assert detect(tmp_path / "a.conll") == "columns"
        assert len(list(read_any(tmp_path / "a.conll"))) == 20


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "Fever", "spans": [{"start": 0, "end": 5, "label": "X"}]}\n'),
        ("a.csv", "token,tag\nFever,B-X\n"),
        ("a.json", '[{"id": 1, "data": {"text": "Fever"}, "annotations": [{"result": [{"id": "a", "type": "labels", '
         '"from_name": "label", "to_name": "text", "value": {"start": 0, "end": 5, "labels": ["X"]}}]}]}]'),
    ],
)  # fmt: skip
def test_other_formats_say_too_which_files_of_a_folder_they_pass_over(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    (tmp_path / "LICENSE").write_text(NOTES)
    (document,) = read_any(tmp_path)
    assert [(e.label, e.fragments) for e in document.entities] == [("X", [(0, 5)])]
    said = [problem for problem in document.problems if problem.kind == "file that was not read"]
    assert [Path(problem.where).name for problem in said] == ["LICENSE"]


@st.composite
def annotated(draw: st.DrawFn) -> Doc:
    """A Doc with entities that may overlap, but not be the same twice."""
    words = draw(st.lists(st.sampled_from(["a", "b-c", "#", "O", "😀"]), min_size=1, max_size=12))
    starts = [True] + draw(st.lists(st.booleans(), min_size=len(words) - 1, max_size=len(words) - 1))
    doc = Doc(NLP.vocab, words=words, sent_starts=starts)  # type: ignore[arg-type]
    found: Dict[tuple, Span] = {}
    for _ in range(draw(st.integers(0, 5))):
        sentence = draw(st.sampled_from(list(doc.sents)))
        start = draw(st.integers(sentence.start, sentence.end - 1))
        end = draw(st.integers(start + 1, sentence.end))
        label = draw(st.sampled_from(["P", "Q-R"]))
        found[start, end, label] = Span(doc, start, end, label=label)
    doc.spans["entities"] = list(found.values())
    return doc


@given(doc=annotated(), scheme=st.sampled_from(SCHEMES))
def test_what_is_written_is_read(doc: Doc, scheme: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("columns")
    lines = list(write_columns([doc], scheme=scheme))  # type: ignore[arg-type]
    layers = lines[0].count("\tO")
    # which scheme it is can only be told where it shows
    (again,) = read(folder, "".join(lines), word=0, tags=range(1, 1 + layers))
    found = to_doc(again, NLP.make_doc)
    assert [t.text for t in found] == [t.text for t in doc]
    assert [s.start for s in found.sents] == [s.start for s in doc.sents]
    expected = {(s.start, s.end, s.label_) for s in doc.spans["entities"]}
    assert {(s.start, s.end, s.label_) for s in found.spans["entities"]} == expected


COUNTS = {
    # documents, sentences, tokens and entities as the sources say; entities that begin with I in IOB2 on top
    "wnut17/wnut17train.conll": (3394, 3394, 62730, 1975),
    "wnut17/emerging.dev.conll": (1009, 1009, 15733, 836),
    "ncbi_disease_iob/train.tsv": (5424, 5424, 135701, 5134),
    "ncbi_disease_iob/devel.tsv": (923, 923, 23969, 787),
    "wikigold/CONLL-format/data/wikigold.conll.txt": (145, 1696, 39007, 3558),
    "germeval2014/iob2_layers/germ.dev.iob2": (2200, 2200, 41653, 2886),
    "mobie_de/v1_20210811/ner_conll03_formatted.zip": (3232, 4785 + 1082 + 1210, 90971, 12830 + 2765 + 4856 + 265),
}


@pytest.mark.parametrize("name", COUNTS)
def test_real_files_are_read_in_full(name: str) -> None:
    folder, _, file = name.partition("/")
    report, docs = Report(), []
    for document in read_columns(corpus(folder) / file):
        docs.append(to_doc(document, NLP.make_doc, report=report))
    counts = (len(docs), sum(len(list(doc.sents)) for doc in docs), sum(map(len, docs)), report.annotated)
    assert counts == COUNTS[name]
    assert report.kept == report.annotated
    repaired = sum("repaired" in problem.kind for problem in report.problems)
    assert repaired == (265 if folder == "mobie_de" else 0)


def test_the_reader_gives_the_files_tokens(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("don't-split\tB-X\nme\tO\n\nb\tO\n")
    first, second = Columns(tmp_path / "a.conll")(spacy.blank("en"))
    assert [t.text for t in first.predicted] == ["don't-split", "me"]
    assert [(e.text, e.label_) for e in first.reference.ents] == [("don't-split", "X")]
    assert not first.predicted.ents
    assert [t.text for t in second.predicted] == ["b"]
