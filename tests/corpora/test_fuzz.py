"""Broken annotation files through `convert`: an output, or an error of ours that names the file, and nothing else.

CRF_NER_FUZZ_EXAMPLES says how many files of each kind are tried: `CRF_NER_FUZZ_EXAMPLES=30000 make test-slow`.
"""

import contextlib
import importlib
import inspect
import os
import random
import re
import signal
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spacy_crf_ner.corpora.files import CorpusError
from spacy_crf_ner.corpora.formats import FORMATS, Options
from spacy_crf_ner.corpora.placing import ALIGNMENTS, DISCONTINUOUS

# the module, of which the package has the function under the same name
command = importlib.import_module("spacy_crf_ner.cli.convert")

EXAMPLES = int(os.environ.get("CRF_NER_FUZZ_EXAMPLES", "300"))
# Far more than any of these small files takes: what is over it hangs.
SECONDS = 20

TEXT = "Fever 😀 in Lyon.\r\nNo pain, left  knee and hip.\n\tRamipril 5 mg\u2028daily\u00a0.\n"
ANN = (
    "T1\tPROBLEM 0 5\tFever\nT2\tPLACE 11 15\tLyon\nT3\tPROBLEM 21 25\tpain\nT4\tPART 32 36;41 44\tknee hip\n"
    "T5\tDRUG 47 55\tRamipril\nA1\tNegated T3\nA2\tGrade T1 severe\n#1\tAnnotatorNotes T1\thigh\n"
    "E1\tEvent:T1 Where:T2\nR1\tIn Arg1:T1 Arg2:T2\n*\tSame T1 T3\nN1\tReference T1 X:1\tFever\n"
)
COLUMNS = (
    "-DOCSTART-\t-a-\tO\tO\n\nFever\tB-PROBLEM\tO\tO\nin\tO\tO\tO\nLyon\tB-PLACE\tB-X\tO\n.\tO\tI-X\tO\n\n"
    "No\tO\tO\tO\npain\tS-PROBLEM\tO\tO\n\n-DOCSTART-\t-b-\tO\tO\n\nleft\tB-PART\tO\tO\nknee\tE-PART\tO\tO\n",
    "Fever NN B-NP I-PROBLEM\nin IN O O\nLyon NNP B-NP I-PLACE\n\nNo DT O O\npain NN O B-PROBLEM\n",
    "# newdoc id = d1\n1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_\n1\tde\t_\t_\t_\t_\t_\t_\t_\tNER=O\n"
    "2\tle\t_\t_\t_\t_\t_\t_\t_\tNER=B-X|SpaceAfter=No\n2.1\tx\t_\t_\t_\t_\t_\t_\t_\t_\n\n",
    "A\tB-X\nb\tI-X\nc\t-\nd\tB-ORG,I-LOC\ne\tU-Z\n",
)
# What breaks readers: separators, ends of lines that only Python knows, no text at all, halves of characters.
PIECES = [
    b"\t", b"\n", b"\r", b"\r\n", b"\0", b" ", b"#", b";", b"\xef\xbb\xbf", b"\xff", b"\xed\xa0\x80", b"\xc2\x85",
    b"\xe2\x80\xa8", b"\x0b", b"\x1c", "😀".encode(), "é".encode(), b"\xc3", b"-", b"|", b"B-", b"I-X", b"/", b"..",
    b"99999999999999999999", b"-1", b"\xd9\xa3", b"0x1",
]  # fmt: skip
LINES = [
    b"T9\tX 0 5;3 9\tFever", b"T1\tX 0 5\tFever", b"T\tX 0 5\t", b"T9\tX 0 5", b"T9\tX 5 0\t", b"T9\t\t", b"T9",
    b"R2\t", b"R2\tIn Arg1: Arg2:T1", b"*\t", b"*", b"*\tSame", b"E2\tX:", b"E2\t:T1", b"E2", b"A9\t", b"A9\tX",
    b"A9\tX E1", b"A", b"#", b"#2\tAnnotatorNotes A1\tx", b"#2\tAnnotatorNotes", b"N2\tReference T1",
    b"M1\tNegated R1", b"1\tx", b"\t\t\t", b"T99\tX 0 5;6 7;8 9\tFever \xf0\x9f\x98\x80 in", b"T7\tX 18 19\t",
    b"-DOCSTART- -X- O O", b"-DOCSTART-", b"# newdoc", b"# newdoc id = ../../x", b"# newdoc id = a\0b",
    b"# newdoc id = d1", b"word\tB-", b"word\tQ-X", b"\tB-X", b"a b c d e f", b"-DOCSTART-\t-/etc/x-\tO\tO",
    b"-DOCSTART-\t-" + b"x" * 300 + b"-\tO\tO", b"3-1\tx\t_\t_\t_\t_\t_\t_\t_\t_",
]  # fmt: skip
NUMBERS = [b"0", b"1", b"44", b"4000", b"-5", b"999999999999999", b"5.5", b"007", b""]


def flip(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]


def put_in(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.choice(PIECES) + data[at + draw.choice((0, 0, 1, 5)) :]


def truncate(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] if draw.random() < 0.8 else data[at:]


def change_lines(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    one, two = draw.randrange(len(lines)), draw.randrange(len(lines))
    what = draw.randrange(4)
    if what == 0:
        lines[one], lines[two] = lines[two], lines[one]
    elif what == 1:
        del lines[one]
    elif what == 2:
        lines.insert(two, lines[one])
    else:
        lines.insert(one, draw.choice(LINES) + draw.choice((b"\n", b"\r\n", b"")))
    return b"".join(lines)


def renumber(data: bytes, draw: random.Random) -> bytes:
    """Another number in the place of one: an offset, an id, a column."""
    found = list(re.finditer(rb"\d+", data))
    if not found:
        return data
    match = draw.choice(found)
    near = str(max(0, int(match.group()[:15]) + draw.choice((-1, 1, 3)))).encode()
    return data[: match.start()] + draw.choice([*NUMBERS, near, near, near]) + data[match.end() :]


def reencode(data: bytes, draw: random.Random) -> bytes:
    text = data.decode("utf-8", errors="replace")
    encoding = draw.choice(("utf-16", "utf-16-le", "latin-1", "cp1252", "utf-8-sig", "utf-7"))
    return text.encode(encoding, errors="replace")


CHANGES: List[Callable[[bytes, random.Random], bytes]] = [
    flip, put_in, put_in, truncate, change_lines, change_lines, renumber, renumber, reencode,
]  # fmt: skip


def broken(data: bytes, draw: random.Random) -> bytes:
    """A file after up to five changes."""
    for _ in range(draw.randrange(6)):
        data = draw.choice(CHANGES)(data, draw)
    return data


# Each example is a seed: what is made of it is made here, so that the same example makes the same files.
SEEDS = st.integers(0, 2**64 - 1)


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    def too_long(*_: Any) -> None:
        pytest.fail(f"convert did not end in {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run(**given: Any) -> None:
    """The command without what turns errors into messages, so that errors that are not ours are seen."""
    function = inspect.unwrap(command.convert)
    defaults = {name: p.default.default for name, p in inspect.signature(function).parameters.items()}
    with time_limit():
        function(**{**defaults, **given})


def check(source: str, folder: Path, input: Path, draw: random.Random) -> None:
    """Convert, and see that there is a whole output, or an error that names a file that was read."""
    target = draw.choice(sorted(name for name, form in FORMATS.items() if form.is_written))
    result = folder / "out"
    result.mkdir()
    output = result / ("x.spacy" if target == "spacy" else "x")
    report = result / "report.txt"
    more: Dict[str, Any] = {"align": draw.choice(ALIGNMENTS), "discontinuous": draw.choice(DISCONTINUOUS)}
    if source == "columns":
        more.update(sentences=draw.choice((0, 1, 3)), encoding=draw.choice(("utf-8", "utf-8", "latin-1", "utf-16")))
        more["columns"] = draw.choice((None, None, "0,1", "0,-1", "9,1", "-1,0"))
    names = {path.name for path in folder.rglob("*")}
    try:
        run(input=input, output=output, source=source, target=target, report=report, **more)
    except CorpusError as error:
        message = str(error)
        assert input.name in message or any(name in message for name in names) or "brat document" in message, message
        assert not list(result.iterdir()), "something was left of an output that failed"
        return
    except typer.Exit:
        assert not list(result.iterdir()), "something was left of an output that failed"
        return
    beside = {"x.xml"} if target == "label_studio" else set()
    assert {path.name for path in result.iterdir()} == {output.name, report.name, *beside}
    for remark in report.read_text(encoding="utf-8").splitlines():
        assert re.match(rf"[^:]*{re.escape(input.name)}[^:]*(:\d+)?: .", remark), remark
    assert list(FORMATS[target].read(output, Options()))


def try_many(source: str, make: Callable[[Path, random.Random], Path]) -> None:
    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=False
    )
    @given(seed=SEEDS)
    def one(seed: int) -> None:
        draw = random.Random(seed)
        with tempfile.TemporaryDirectory() as name:
            check(source, Path(name), make(Path(name), draw), draw)

    one()


def make_brat(folder: Path, draw: random.Random) -> Path:
    path = folder / "notes"
    path.mkdir()
    whole: Tuple[str, str] = (TEXT, ANN)
    for name in ("a", "b")[: draw.choice((1, 1, 2))]:
        text, ann = (part.encode() for part in whole)
        what = draw.randrange(4)
        (path / f"{name}.txt").write_bytes(broken(text, draw) if what == 0 else text)
        (path / f"{name}.ann").write_bytes(broken(ann, draw) if what != 0 else ann)
        if draw.random() < 0.1:
            (path / f"{name}.a1").write_bytes(broken(ann, draw))
    return path


def make_columns(folder: Path, draw: random.Random) -> Path:
    path = folder / draw.choice(("x.conll", "x.tsv", "x y.conll"))
    path.write_bytes(broken(draw.choice(COLUMNS).encode(), draw))
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One tokenizer for all."""
    made = command.blank("en")
    monkeypatch.setattr(command, "blank", lambda lang: made)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "make"), [("standoff", make_brat), ("columns", make_columns)])
def test_broken_files_end_in_an_output_or_in_a_clear_error(source: str, make: Any, quick: None) -> None:
    try_many(source, make)
