"""Tables: CSV and TSV, Parquet, and data sets that Hugging Face's `datasets` saved.

Their rows are turned into records, of which `records` makes Documents. All are read as a stream.
"""

import ast
import csv
import io
import itertools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .document import Document
from .files import CorpusError, readable, text_files
from .jsonl import tag_names
from .records import KEYS, Naming, Record, RecordReader

ENDINGS = (".csv", ".tsv")
# Names of columns, in small letters, of tables with a row a token.
WORD = ("word", "words", "token", "tokens", "form")
TAG = ("tag", "tags", "ner", "ner_tag", "ner_tags", "label", "labels", "iob", "entity")
SENTENCE = ("sentence #", "sentence_id", "sentence_idx", "sentence id", "sent_id", "sentence")
DOCUMENT = ("document_id", "doc_id", "document", "doc", "file", "filename")
# Characters from which the layout is found out, and rows that are read from Parquet at once.
SAMPLE, ROWS = 1 << 20, 1000


Rows = Iterator[Tuple[int, List[str]]]


class Layout(NamedTuple):
    """How a CSV file is written.

    delimiter (str), quoted (bool): Between cells, and whether quotation marks are around some. header (List[str]):
        Names of columns. word, tag (Optional[str]): Of a table with a row a token; none: a row is a document.
    sentence, document (Optional[str]): Columns that say to which a token belongs.
    """

    delimiter: str
    quoted: bool
    header: List[str]
    word: Optional[str] = None
    tag: Optional[str] = None
    sentence: Optional[str] = None
    document: Optional[str] = None

    def rows(self, lines: Iterable[str]) -> Rows:
        """Number of the line where a row ends, and its cells; a blank line has none."""
        csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))  # texts are long; it can only be set for all
        if self.quoted:
            reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
        else:
            reader = csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE)
        for row in reader:
            yield reader.line_num, row


# CSV


def is_csv(path: Path) -> bool:
    """Whether the first file of a path is CSV or TSV with names of columns that can be read here."""
    if path.suffix == ".spacy" or not path.exists():
        return False
    try:
        for file in itertools.islice(text_files(path, _wanted(path), "latin-1"), 1):
            begin = file.text.read(SAMPLE).removeprefix("ï»¿")  # a byte-order mark
            return "\0" not in begin and _find_layout(begin, Naming()) is not None
    except CorpusError:
        pass
    return False


def _wanted(path: Path) -> Sequence[str]:
    return ENDINGS if path.is_dir() or path.suffix.lower() == ".zip" else ()


def read_csv(path: Path, encoding: str = "utf-8", naming: Naming = Naming()) -> Iterator[Document]:  # it is frozen
    """Read files of CSV or TSV with names of columns in the first line: a row a token, or a row a document.

    path (Path): A file, a .gz, a .zip or a folder of files that end in .csv or .tsv, or "-".
    encoding (str): Of the files. naming (Naming): What columns are called, where it is not found out.
    YIELDS (Document): With what other columns say in `data`; of tables with a row a token, as a list.
    RAISES (CorpusError): The columns are not known, or a row has another number of them.
    """
    reader = RecordReader(naming)
    for file in text_files(path, _wanted(path), encoding):
        with readable(file.name, encoding):
            begin = file.text.read(SAMPLE)
            if not begin.strip():
                continue
            begin += file.text.readline()
            layout = _find_layout(begin, naming)
            if layout is None:
                raise CorpusError(
                    f"{file.name}:1: the first line does not name columns that are known: Sentence #, Word and Tag; "
                    "tokens and ner_tags; or text and entities. Name them with --keys tokens=…,tags=… or "
                    "--keys text=…,spans=…"
                )
            lines = itertools.chain(io.StringIO(begin, newline=""), file.text)
            yield from reader.read(_records(file.name, lines, layout, naming), file.name, file.stem)


def _find_layout(begin: str, naming: Naming) -> Optional[Layout]:
    for delimiter, quoted in itertools.product(",\t;", (True, False)):
        layout = Layout(delimiter, quoted, [])
        rows = _sample(begin, layout)
        if len(rows) < 2 or len(rows[0]) < 2 or any(row and len(row) != len(rows[0]) for row in rows):
            continue
        header = [name.strip() for name in rows[0]]
        found = _known(layout._replace(header=header), next((row for row in rows[1:] if row), []), naming)
        if found is not None:
            return found
    return None


def _sample(begin: str, layout: Layout) -> List[List[str]]:
    """Rows of the beginning of a file; none where it is not written so."""
    cut = len(begin) >= SAMPLE
    rows: List[List[str]] = []
    try:
        for _, row in layout.rows(io.StringIO(begin, newline="")):
            rows.append(row)
    except csv.Error as error:
        # a text with line ends may be cut
        return rows if cut and "end of data" in str(error) else []
    return rows[:-1] if cut else rows


def _known(layout: Layout, first: Sequence[str], naming: Naming) -> Optional[Layout]:
    """A layout with the columns that matter; None: there are none."""
    if len(set(layout.header)) < len(layout.header) or not first:
        return None
    small = {name.lower(): name for name in reversed(layout.header)}
    cells = dict(zip(layout.header, first))

    def column(name: str, otherwise: Sequence[str]) -> Optional[str]:
        if name in naming.keys:
            return naming.keys[name] if naming.keys[name] in cells else None
        return next((small[name] for name in otherwise if name in small), None)

    def holds_list(name: Optional[str]) -> bool:
        return name is not None and cells[name].lstrip()[:1] in ("[", "{")

    word, tag = column("tokens", WORD), column("tags", TAG)
    if word is not None and tag is not None and word != tag and not holds_list(tag):
        sentence, document = column("", SENTENCE), column("id", DOCUMENT)
        return layout._replace(word=word, tag=tag, sentence=sentence, document=document)
    text, spans = column("text", KEYS["text"]), column("spans", KEYS["spans"])
    listed = column("tags", KEYS["tags"])
    if (text and (holds_list(spans) or holds_list(listed))) or (word and holds_list(listed)):
        return layout
    return None


def _records(name: str, lines: Iterator[str], layout: Layout, naming: Naming) -> Iterator[Tuple[int, Record]]:
    rows = layout.rows(lines)
    find = _cells if layout.word is None else _documents
    try:
        next(rows)  # the names
        yield from find(name, _checked(name, rows, layout), layout, naming)
    except csv.Error as error:
        raise CorpusError(f"{name}: it is not CSV ({error}). Is the file complete?") from error


def _checked(name: str, rows: Rows, layout: Layout) -> Rows:
    for line, row in rows:
        if row and len(row) != len(layout.header):
            raise CorpusError(f"{name}:{line}: the row has {len(row)} cells, the first line {len(layout.header)}.")
        yield line, row


def _cells(name: str, rows: Rows, layout: Layout, naming: Naming) -> Iterator[Tuple[int, Record]]:
    """A record a row, with what is JSON, or a list as Python writes it, taken for what it is."""
    # columns that mean something are known in small letters
    known = {key for keys in KEYS.values() for key in keys}
    named = set(naming.keys.values())
    keys = [key.lower() if key.lower() in known and key not in named else key for key in layout.header]
    for line, row in rows:
        if row:
            yield line, {key: _value(cell) for key, cell in zip(keys, row)}


def _value(cell: str) -> Any:
    begin = cell.lstrip()[:1]
    if begin not in ("[", "{"):
        return cell
    for decode in (json.loads, ast.literal_eval):
        try:
            return _plain(decode(cell))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return cell


def _documents(name: str, rows: Rows, layout: Layout, naming: Naming) -> Iterator[Tuple[int, Record]]:
    """Records of tokens. A blank cell of sentence or document says: as above."""
    at = {column: i for i, column in enumerate(layout.header)}
    mark = layout.document or layout.sentence
    sentence = layout.sentence if layout.document else None
    others = [column for column in layout.header if column not in (layout.word, layout.tag, mark, sentence)]
    record: Optional[_Rows] = None
    for line, row in rows:
        here = row[at[mark]].strip() if row and mark is not None else ""
        if record is not None and ((here and here != record.mark) or (mark is None and not row)):
            yield record.first, record.whole(others, naming)
            record = None
        if row:
            record = record or _Rows(line, here)
            said = row[at[sentence]].strip() if sentence else ""
            if not record.tokens or (said and said != record.sentence):
                record.sentences.append(len(record.tokens))
                record.sentence = said
            record.tokens.append(row[at[layout.word or ""]])
            record.tags.append(row[at[layout.tag or ""]])
            record.rest.append([row[at[column]] for column in others])
    if record is not None:
        yield record.first, record.whole(others, naming)


@dataclass
class _Rows:
    """Tokens of a document. first (int): The line of the first. mark, sentence (str): What the table calls them."""

    first: int
    mark: str
    sentence: str = ""
    tokens: List[str] = field(default_factory=list)
    tags: List[str] = field(default_factory=list)
    sentences: List[int] = field(default_factory=list)
    rest: List[List[str]] = field(default_factory=list)

    def whole(self, others: Sequence[str], naming: Naming) -> Record:
        tags = [tag.strip() for tag in self.tags]
        numbers = all(re.fullmatch(r"-?\d{1,9}", tag) for tag in tags)
        values = {"id": self.mark, "tokens": self.tokens, "tags": [int(tag) for tag in tags] if numbers else tags}
        record = {naming.keys.get(key, KEYS[key][0]): value for key, value in values.items()}
        columns = dict(zip(others, map(list, zip(*self.rest))))
        return {**record, "sentences": self.sentences, **({"columns": columns} if columns else {})}


# Parquet and Arrow


def is_parquet(path: Path) -> bool:
    """Whether a path is a Parquet file or a folder with some."""
    return bool(_parquet_files(path))


def _parquet_files(path: Path) -> List[Path]:
    if path.is_dir():
        return sorted(found for found in path.rglob("*.parquet") if not found.name.startswith("."))
    if path.is_file():
        with path.open("rb") as file:
            return [path] if file.read(4) == b"PAR1" else []
    return []


def read_parquet(path: Path, naming: Naming = Naming()) -> Iterator[Document]:  # it is frozen
    """Read a Parquet file, or all those of a folder, a thousand rows at a time.

    naming (Naming): What columns are called, where it is not found out. The file may name tags that are numbers.
    RAISES (CorpusError): pyarrow is not installed, the file is damaged, or its rows are of no kind that is known.
    """
    pyarrow = _pyarrow()
    reader = RecordReader(naming)
    files = _parquet_files(path)
    if not files:
        raise CorpusError(f"{path}: it is not a Parquet file, nor a folder with some.")
    for found in files:
        stem = found.relative_to(path).with_suffix("").as_posix() if path.is_dir() else found.stem
        try:
            with pyarrow.parquet.ParquetFile(found) as table:
                names = _names_in(table.schema_arrow.metadata)
                batches = table.iter_batches(batch_size=ROWS)
                yield from reader.read(_rows(batches), str(found), stem.replace(" ", "_"), names)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise CorpusError(f"{found}: the Parquet file cannot be read ({error}).") from error


def is_dataset(path: Path) -> bool:
    """Whether a path is a folder that `datasets` wrote with save_to_disk."""
    return path.is_dir() and any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))


def read_dataset(path: Path, naming: Naming = Naming()) -> Iterator[Document]:  # it is frozen
    """Read a data set that Hugging Face's `datasets` wrote with save_to_disk, or all parts of several.

    naming (Naming): What columns are called, where it is not found out.
    RAISES (CorpusError): pyarrow is not installed, the folder is not complete, or its rows are of no known kind.
    """
    pyarrow = _pyarrow()
    reader = RecordReader(naming)
    parts = [path]
    if (path / "dataset_dict.json").is_file():
        parts = [path / name for name in _json(path / "dataset_dict.json", "splits", list)]
    for part in parts:
        features = _json(part / "dataset_info.json", "features", dict)
        rows = _arrow_rows(part, _json(part / "state.json", "_data_files", list))
        try:
            yield from reader.read(rows, str(part), part.name, tag_names(features))
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise CorpusError(f"{part}: the data set cannot be read ({error}).") from error


def _arrow_rows(folder: Path, files: Sequence[Any]) -> Iterator[Tuple[int, Record]]:
    pyarrow = _pyarrow()

    def batches() -> Iterator[Any]:
        for file in files:
            name = file.get("filename") if isinstance(file, dict) else None
            if not isinstance(name, str):
                raise CorpusError(f"{folder}/state.json: it does not name its files.")
            with pyarrow.memory_map(str(folder / Path(name).name)) as source:
                yield from pyarrow.ipc.open_stream(source)

    return _rows(batches())


def _rows(batches: Iterator[Any]) -> Iterator[Tuple[int, Record]]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, ROWS):
            for row in batch.slice(start, ROWS).to_pylist():
                number += 1
                yield number, _plain(row)


def _json(path: Path, key: str, kind: type) -> Any:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise CorpusError(f"{path}: it cannot be read ({error}). The folder must be one of save_to_disk.") from error
    if not isinstance(said, dict) or not isinstance(said.get(key), kind):
        raise CorpusError(f'{path}: it does not say "{key}". The folder must be one of save_to_disk.')
    return said[key]


def _names_in(metadata: Optional[Mapping[bytes, bytes]]) -> List[str]:
    """Names of tags that Hugging Face writes into a file."""
    try:
        return tag_names(json.loads((metadata or {}).get(b"huggingface", b"{}")))
    except (ValueError, RecursionError):
        return []


def _plain(value: Any) -> Any:
    """A value as JSON could have it: dates and the like as text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value)


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise CorpusError('Parquet and data sets need pyarrow: pip install "spacy-crf-ner[tables]".') from error
    return pyarrow
