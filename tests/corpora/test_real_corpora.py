"""Every corpus beside the checkout comes in whole: its documents and entities are as many as its source says."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import pytest
import spacy

from spacy_crf_ner.corpora.document import Report
from spacy_crf_ner.corpora.formats import detect, read
from spacy_crf_ner.corpora.placing import to_doc

from ..conftest import corpus

NLP = spacy.blank("xx")
NLP.max_length = 10**9
Counts = Tuple[int, int]

# What stands in SOURCE.txt, of the parts that are here: path, format that is found out, documents, entities.
SAID: List[Tuple[str, str, Counts]] = [
    ("wnut17/wnut17train.conll", "columns", (3394, 1975)),
    ("wnut17/emerging.dev.conll", "columns", (1009, 836)),
    ("wnut17", "columns", (3394 + 1009, 1975 + 836)),
    ("ncbi_disease_iob", "columns", (5424 + 923, 5134 + 787)),
    ("wikigold", "columns", (145, 3558)),
    ("germeval2014/iob2_layers/germ.train.iob2", "columns", (24000, 31545)),
    ("germeval2014/iob2_layers/germ.dev.iob2", "columns", (2200, 2886)),
    ("healthsea_spacy/dev.spacy", "spacy", (1253, 762)),
    ("healthsea_spacy", "spacy", (3748 + 1253, 2202 + 762)),
    ("wlp_wnut2020/train", "standoff", (370, 48197)),
    ("wlp_wnut2020/dev", "standoff", (122, 15972)),
    ("ls_norwegian_nerine", "label_studio", (5, 101)),
    ("ls_dutch_biographies/testing_ls_full.json", "label_studio", (2, 13)),
]


def beside(path: str) -> Path:
    folder, _, rest = path.partition("/")
    return corpus(folder) / rest


def counted(path: Path) -> Tuple[Counts, Report]:
    """Documents and entities, each of which is on tokens or listed."""
    report = Report()
    for document in read(path):
        to_doc(document, NLP.make_doc, report=report)
    repeated = sum("repeats another one" in problem.message for problem in report.problems)
    assert report.annotated == report.kept + report.lost + repeated
    return (report.documents, report.annotated), report


LARGE = ("germeval2014/iob2_layers/germ.train.iob2",)


@pytest.mark.parametrize(
    ("path", "form", "expected"),
    [pytest.param(*row, marks=[pytest.mark.slow] if row[0] in LARGE else [], id=row[0]) for row in SAID],
)
def test_a_corpus_has_what_its_source_says(path: str, form: str, expected: Counts) -> None:
    place = beside(path)
    assert detect(place) == form
    assert counted(place)[0] == expected


# Where parts are held back, or the source does not say it: counts made without our readers


def count_brat(path: Path) -> Counts:
    lines = [line for ann in path.rglob("*.ann") for line in ann.read_text(encoding="utf-8").split("\n")]
    return len(list(path.rglob("*.txt"))), sum(line.startswith("T") for line in lines)


def count_mobie_jsonl(path: Path) -> Counts:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    return len(records), sum(len(record["conceptMentions"]) for record in records)


def count_mobie_zip(path: Path) -> Counts:
    """An entity begins where a tag is B, or where the label is another one than on the line before."""
    documents = entities = 0
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            before = "O"
            for line in archive.read(name).decode().split("\n"):
                tag = line.split()[-1] if line.strip() else "O"
                documents += line.startswith("-DOCSTART-")
                entities += tag != "O" and (tag[0] == "B" or before[2:] != tag[2:])
                before = tag
    return documents, entities


def count_label_studio(path: Path) -> Counts:
    tasks = json.loads(path.read_text(encoding="utf-8"))
    results = [result for task in tasks for result in task["annotations"][0]["result"] if result["type"] == "labels"]
    return len(tasks), sum(len(result["value"]["labels"]) for result in results)


def count_label_studio_min(path: Path) -> Counts:
    tasks = json.loads(path.read_text(encoding="utf-8"))
    return len(tasks), sum(len(region["labels"]) for task in tasks for region in task.get("label", []))


COUNTED: Dict[str, Callable[[Path], Counts]] = {
    "maccrobat2020/train": count_brat,
    "maccrobat2020/dev": count_brat,
    "litbank/brat": count_brat,
    "mobie_de/v1_20210811/dev.jsonl.gz": count_mobie_jsonl,
    "mobie_de/v1_20210811/test.jsonl.gz": count_mobie_jsonl,
    "mobie_de/v1_20210811/ner_conll03_formatted.zip": count_mobie_zip,
    "ls_dutch_biographies/testing_ls_full.json": count_label_studio,
    "ls_dutch_biographies/testing_ls.json": count_label_studio_min,
}


@pytest.mark.parametrize("path", COUNTED)
def test_a_corpus_has_what_is_counted_by_hand(path: str) -> None:
    place = beside(path)
    assert counted(place)[0] == COUNTED[path](place)


def test_every_corpus_is_here() -> None:
    folders = {path.name for path in corpus(".").iterdir() if path.is_dir()}
    assert folders == {path.partition("/")[0] for path in [*COUNTED, *(path for path, _, _ in SAID)]}
