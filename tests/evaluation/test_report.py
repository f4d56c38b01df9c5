import base64
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from spacy.language import Language

from spacy_crf_ner.corpora.document import Document, Entity
from spacy_crf_ner.evaluation.calibration import ece, reliability
from spacy_crf_ner.evaluation.evaluate import Data, Settings, evaluate
from spacy_crf_ner.evaluation.plots import is_plot, plots
from spacy_crf_ner.evaluation.report import MATCHES, probabilities, report

from .test_evaluate import document, fixed

NASTY = "</script><script>alert('1')</script><!-- \"Aspirin\" & 'fever' 🦠😀 \u2028 é  "
NASTY_LABEL = "</script>\"'&<b>🦠"


class Page(HTMLParser):
    """What a browser sees of a page: its elements, and the data."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: List[Tuple[str, Dict[str, Any]]] = []
        self.text = ""
        self._in_data = False
        self.feed(page)
        packed = next(attributes["data-packed"] for _, attributes in self.elements if attributes.get("id") == "data")
        unpacked = zlib.decompress(base64.b64decode(self.text)).decode() if packed == "deflate" else self.text
        self.data = json.loads(unpacked)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_data = dict(attrs).get("id") == "data"

    def handle_endtag(self, tag: str) -> None:
        self._in_data = False

    def handle_data(self, data: str) -> None:
        self.text += data if self._in_data else ""


def written(nlp: Language, *parts: Data, samples: int = 10, **more: Any) -> Tuple[Dict[str, Any], List[Dict[str, Any]]]:
    """What is in the two files."""
    evaluation, rows = evaluate(nlp, parts, Settings(samples=samples, **more.pop("settings", {})), **more)
    return json.loads(json.dumps(evaluation.as_dict())), [json.loads(json.dumps(row)) for row in rows]


def part(name: str, *documents: Document) -> Data:
    return Data(name, "dev", "standoff", "0", list(documents))


def nasty() -> Tuple[Dict[str, Any], List[Dict[str, Any]]]:
    """Names, labels and texts that would break a page that is put together carelessly."""
    first = document(NASTY, (NASTY_LABEL, "Aspirin"), (NASTY_LABEL, "fever … é"), id="</h4><b>", data={"<i>": "</div>"})
    second = document("No aspirin", ("DRUG", "aspirin"), id="b")
    finds = fixed([("Aspirin", NASTY_LABEL, 0.9), ("fever", "DRUG", 0.4), ("aspirin", "DRUG", 0.7)])
    return written(finds, part("<b>dev</b>", first, second), part("test", second))


def entities(document: List[Any], side: int, labels: List[str]) -> List[Dict[str, Any]]:
    """Entities of the page, as predictions.jsonl has them but for their offsets, which are texts here."""
    units = document[3].encode("utf-16-le")
    found = []
    for start, length, label, match, other, seen, extra, *fragments in document[5 + side]:
        pieces = fragments[0] if fragments else [[start, start + length]]
        found.append(
            {
                "said": [units[2 * a : 2 * b].decode("utf-16-le") for a, b in pieces],
                "label": labels[label],
                "match": MATCHES[match],
                "with": None if other == -1 else other,
                "seen": None if seen == -1 else bool(seen),
                ("id", "probability")[side]: extra,
            }
        )
    return found


def of_row(row: Dict[str, Any], side: int) -> List[Dict[str, Any]]:
    """The same of a line of predictions.jsonl."""
    return [
        {
            "said": [row["text"][a:b] for a, b in item.get("fragments", [[item["start"], item["end"]]])],
            "label": item["label"],
            "match": item["match"],
            "with": item["with"],
            "seen": item.get("seen"),
            ("id", "probability")[side]: pytest.approx(item["probability"], abs=1e-4) if side else item["id"],
        }
        for item in row[("gold", "predicted")[side]]
    ]


def test_names_and_texts_stay_data() -> None:
    metrics, rows = nasty()
    plain = written(fixed([]), part("dev", document("No fever", ("X", "fever"))))
    page = report(metrics, rows)
    assert [element for element, _ in Page(page).elements] == [element for element, _ in Page(report(*plain)).elements]
    assert page.count("</script>") == 2
    assert "<b>" not in page
    # what the scripts and the style are put in the place of does not matter in texts
    same = document("/*style*/ /*data*/ /*scripts*/ /*packed*/", ("X", "/*data*/"))
    assert Page(report(*written(fixed([]), part("dev", same)))).data["documents"][0][3] == same.text


def test_the_page_has_what_the_files_have() -> None:
    metrics, rows = nasty()
    found = Page(report(metrics, rows)).data
    for name, scores in metrics["parts"].items():
        scores = {key: value for key, value in scores.items() if key != "per_document"}
        assert found["metrics"]["parts"][name] == scores
    assert {**found["metrics"], "parts": None} == {**metrics, "parts": None}
    assert found["left_out"] == {}
    assert [row[3] for row in found["documents"]] == [row["text"] for row in rows]
    for row, one in zip(rows, found["documents"], strict=True):
        assert [list(metrics["parts"])[one[0]], one[1], one[2]] == [row["part"], row["id"], row["data"]]
        for side in (0, 1):
            assert entities(one, side, found["labels"]) == of_row(row, side)
    # offsets count as the script of a page does: behind an emoji they are other ones, and in two parts they were right
    assert entities(found["documents"][0], 0, found["labels"])[1]["said"] == ["fever", "é"]


def many(documents: int, length: int) -> Tuple[Dict[str, Any], List[Dict[str, Any]]]:
    """Documents of words that no two share, half of them with errors. The rows are scored as those of `written`."""
    (metrics, (row,)) = written(fixed([("fever", "X", 0.5)]), part("dev", document("fever", ("X", "fever"))))
    generator = np.random.default_rng(0)
    rows = []
    for number in range(documents):
        text = "fever " + " ".join(f"{x:x}" for x in generator.integers(0, 2**28, length))
        match = "exact" if number % 2 else "missed"
        gold = [{**row["gold"][0], "match": match, "with": 0 if number % 2 else None}]
        rows.append(
            {**row, "id": str(number), "text": text, "gold": gold, "predicted": row["predicted"] * (number % 2)}
        )
    metrics["parts"]["dev"]["per_document"] *= documents
    metrics["parts"]["dev"]["documents"] = documents
    return metrics, rows


def test_what_is_too_large_is_compressed_and_then_left_out_with_a_word() -> None:
    metrics, rows = many(60, 100)
    plain = report(metrics, rows)
    size = len(Page(plain).text.encode())
    frame = len(plain.encode()) - size
    assert 'data-packed=""' in plain
    packed = report(metrics, rows, most_bytes=size - 1)
    assert 'data-packed="deflate"' in packed
    assert Page(packed).data == Page(plain).data
    assert len(packed) < len(plain)
    for most in (size // 2, size // 4):
        less = report(metrics, rows, most_bytes=most)
        found = Page(less).data
        here = [one[1] for one in found["documents"]]
        assert len(less.encode()) - frame <= most + len("deflate")
        assert found["left_out"] == {"dev": 60 - len(here)}
        assert 0 < len(here) < 60
        assert here == sorted(here, key=int)
        # those with errors stay longer
        wrong = [name for name in here if int(name) % 2 == 0]
        assert len(wrong) == min(30, len(here))
        assert found["metrics"] == Page(plain).data["metrics"]
        # what there is room for is used
        assert len(less.encode()) - frame > 0.85 * most


def test_a_thousand_documents_stay_below_5_mb() -> None:
    assert len(report(*many(1000, 20)).encode()) < 1_000_000
    metrics, rows = many(1000, 1200)
    assert sum(len(row["text"]) for row in rows) > 9_000_000
    assert 4_500_000 < len(report(metrics, rows).encode()) < 5_000_000


def test_files_of_two_evaluations_are_not_mixed() -> None:
    metrics, rows = nasty()
    with pytest.raises(ValueError, match=r"scores 3 documents, and predictions\.jsonl has 2"):
        report(metrics, rows[1:])


def test_probabilities_are_those_of_predictions_that_count() -> None:
    documents = [document(f"{word} today", ("X", word), id=word) for word in ("Fever", "Cough", "Pain")]
    finds = fixed([("Fever", "X", 0.9), ("Cough", "Y", 0.6), ("today", "X", 0.3)])
    metrics, rows = written(finds, part("dev", *documents), part("test", documents[0]))
    p, right, labels = probabilities(rows, "dev")
    assert sorted(zip(p.tolist(), right.tolist(), labels)) == [
        (0.3, False, "X"),
        (0.3, False, "X"),
        (0.3, False, "X"),
        (0.6, False, "Y"),
        (0.9, True, "X"),
    ]
    found = Page(report(metrics, rows)).data["probabilities"]["dev"]
    assert found["measures"]["ece"] == pytest.approx(ece(p, right))
    assert found["measures"]["precision"] == 1 / 5
    assert [row[0] for row in found["bins"]] == reliability(p, right).n.tolist()
    assert [tuple(row) for row in found["risk"]] == [(0.9, 0.2, 0.0), (0.6, 0.4, 0.5), (0.3, 1.0, 0.8)]
    assert {name: one["entities"] for name, one in found["per_label"].items()} == {"X": 4, "Y": 1}
    # an unknown place, and a score that is no probability, say nothing of it
    rows[0]["predicted"][0]["match"] = "ignored"
    rows[1]["predicted"][0]["probability"] = 1.7
    rows[2]["predicted"][0]["probability"] = 1.00001
    assert probabilities(rows, "dev")[0].tolist() == [0.3, 0.3, 1.0]
    assert Page(report(*written(fixed([]), part("dev", *documents)))).data["probabilities"] == {"dev": None}


def test_plots(tmp_path: Path) -> None:
    documents = [document("Fever in $Lyon$", ("X$", "Fever"), id=str(i), data={"site": "ab"[i % 2]}) for i in range(3)]
    one = fixed([("Fever", "X$", 0.5)])
    seen = {("X$", "Fever")}
    parts = [part(name, *documents) for name in ("a/b", "a_b", "A_B")]
    metrics, rows = written(one, *parts, settings={"by": ("site",)}, seen=seen, other=fixed([]))
    made = dict(plots(metrics, rows))
    kinds = ["attributes", "comparison", "confusion", "frequency", "labels", "lengths", "reliability", "scores", "seen"]
    names = ("a_b", "a_b_2", "A_B_3")
    assert sorted(made) == sorted(f"{name}.{kind}.png" for name in names for kind in kinds)
    for name, draw in made.items():
        assert is_plot(Path(name))
        if name.startswith("a_b."):
            draw(tmp_path / name)
            assert (tmp_path / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert not is_plot(Path("my.png"))
    # nothing is drawn of what there is not
    metrics, rows = written(fixed([]), part("dev", Document("d", "No", [])), samples=0)
    assert [name for name, _ in plots(metrics, rows)] == ["dev.scores.png"]


def test_the_page_fetches_nothing() -> None:
    page = report(*nasty())
    for _, attributes in Page(page).elements:
        assert not {"src", "action"} & set(attributes)
        assert attributes.get("href", "#").startswith("#")
    assert not re.search(
        r"fetch\(|XMLHttpRequest|import\(|url\(|@import|innerHTML|insertAdjacentHTML|document\.write", page
    )
    assert "default-src 'none'" in page


def test_entities_of_a_document_may_nest_and_overlap() -> None:
    made = Document(
        "d", "a b c d", [Entity("X", [(0, 5)], "T1"), Entity("Y", [(2, 3)], "T2"), Entity("Z", [(4, 7)], "T3")]
    )
    metrics, rows = written(fixed([("b c", "Y", 0.5)]), part("dev", made))
    found = Page(report(metrics, rows)).data
    assert [one["said"] for one in entities(found["documents"][0], 0, found["labels"])] == [["a b c"], ["b"], ["c d"]]
