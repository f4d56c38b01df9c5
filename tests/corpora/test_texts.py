import gzip
import zipfile
from pathlib import Path

import pytest

from spacy_crf_ner.corpora.files import CorpusError
from spacy_crf_ner.corpora.formats import detect, read


def test_a_folder_has_a_document_a_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b c.txt").write_text("Second\n\nof two.\n")
    (tmp_path / "a.txt").write_bytes("\ufeffFirst.\r\n".encode())
    (tmp_path / "notes.md").write_text("no")
    assert detect(tmp_path) == "text"
    documents = list(read(tmp_path))
    assert [(d.id, d.text) for d in documents] == [("a", "First.\r\n"), ("in/b_c", "Second\n\nof two.\n")]
    assert not any(document.annotated for document in documents)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "in" / "b c.txt", "in/b c.txt")
    assert [(d.id, d.text) for d in read(tmp_path / "all.zip", "text")] == [("in/b_c", "Second\n\nof two.\n")]


def test_a_file_has_a_document_a_line(tmp_path: Path) -> None:
    text = "First one.\r\n\n  \nsecond\u2028one\nthird"
    (tmp_path / "t.txt").write_bytes(text.encode())
    with gzip.open(tmp_path / "u.txt.gz", "wb") as file:
        file.write(text.encode())
    assert detect(tmp_path / "t.txt") == detect(tmp_path / "u.txt.gz") == "text"
    expected = [("000001", "First one."), ("000004", "second\u2028one"), ("000005", "third")]
    for name in ("t.txt", "u.txt.gz"):
        assert [(d.id, d.text) for d in read(tmp_path / name)] == [(f"{name[0]}-{n}", line) for n, line in expected]


def test_what_has_annotations_is_not_taken_for_plain_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Fever")
    (tmp_path / "a.ann").write_text("")
    assert detect(tmp_path) == "standoff"
    (tmp_path / "c.txt").write_text("Fever B-X\ntoday O\n\nNo O\n")
    assert detect(tmp_path / "c.txt") == "columns"


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(CorpusError, match="byte 0 is not UTF-8"):
        list(read(tmp_path / "a.txt", "text"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"no file with the ending \.txt"):
        list(read(tmp_path / "empty", "text"))
