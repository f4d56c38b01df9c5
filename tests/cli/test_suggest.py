import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import DocBin, Span

from spacy_crf_ner.corpora.formats import read
from spacy_crf_ner.corpora.label_studio.labelling import read_configuration
from spacy_crf_ner.crf.confidence import Rules
from spacy_crf_ner.crf.model import head_module
from spacy_crf_ner.deployment.suggest import mean_vectors, suggest

from ..conftest import TEXTS, found, make_examples
from ..crf import brute
from .running import run, said

MORE = ["Aspirin in Lyon", "Knee pain", "York today .", "fever since Monday"]


@pytest.fixture
def place(trained: Language, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    trained.to_disk("model")
    Path("texts.txt").write_text("".join(f"{text}\n" for text in MORE))
    return tmp_path


def chosen(result: object) -> list:
    return [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]  # type: ignore[attr-defined]


def test_the_order_is_that_of_enumeration(trained: Language) -> None:
    """Entropies of documents from all their tag sequences."""
    short = ["Aspirin", "Lyon fever", "knee", "today .", "York", "No"]
    docs = [trained.make_doc(text) for text in short]
    pipe = trained.get_pipe("crf_ner")
    chain = head_module(pipe.model).crf.scores()  # type: ignore[attr-defined]
    entropies = np.zeros(len(docs))
    for batch in pipe.chains(docs):  # type: ignore[attr-defined]
        for i, emissions, n in zip(batch.documents, batch.emissions, batch.lengths.tolist()):
            entropies[i] = float(brute.entropy(emissions[:n].detach(), chain))
    found = suggest(trained, docs, 4)
    assert [suggestion.document for suggestion in found] == np.argsort(-entropies)[:4].tolist()
    assert [suggestion.uncertainty for suggestion in found] == pytest.approx(np.sort(entropies)[::-1][:4], abs=1e-4)
    per_token = entropies / [len(doc) for doc in docs]
    again = suggest(trained, [*docs, trained.make_doc("")], 99, per_token=True)
    assert [suggestion.document for suggestion in again] == np.argsort(-per_token).tolist()


def test_of_twice_as_many_those_that_differ_are_chosen(trained: Language) -> None:
    docs = [trained.make_doc(text) for text in ("Aspirin in Lyon", *MORE, *MORE)]
    pool = [s.document for s in suggest(trained, docs, 6)]
    vectors = mean_vectors(trained.get_pipe("crf_ner"), [docs[i] for i in pool])  # type: ignore[arg-type]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = [0]
    while len(expected) < 3:
        far = np.round([min(1 - unit[i] @ unit[j] for j in expected) for i in range(len(pool))], 5)
        expected.append(int(np.argmax(far)))
    assert [s.document for s in suggest(trained, docs, 3, spread=2)] == [pool[i] for i in expected]
    # texts that are the same are never both chosen while there are others, also by words
    for distance in ("vectors", "words"):
        texts = [docs[s.document].text for s in suggest(trained, docs, 4, spread=9, distance=distance)]
        assert len(set(texts)) == 4


def test_annotators_can_choose_from_all_labels(place: Path) -> None:
    """Also where the pipeline finds nothing, or not all of them, in what it has chosen."""
    Path("bare.txt").write_text("Nothing here\n")
    for texts, n in (("texts.txt", 1), ("bare.txt", 1)):
        for form, output, configuration in (
            ("standoff", "brat", "brat/annotation.conf"),
            ("label_studio", "t.json", "t.xml"),
        ):
            run("suggest", "model", texts, output, "--n", n, "--to", form)
            said_there = Path(configuration).read_text()
            if form == "standoff":
                assert said_there.split("\n\n")[0].splitlines() == ["[entities]", "DRUG", "PLACE", "PROBLEM"]
                shutil.rmtree("brat")
            else:
                (control,) = read_configuration(Path(configuration)).controls.values()
                assert (control.type, control.values) == ("labels", {"DRUG", "PLACE", "PROBLEM"})


def test_what_is_found_goes_along(place: Path, trained: Language) -> None:
    result = run("suggest", "model", "texts.txt", "next.spacy", "--n", 3)
    lines = chosen(result)
    assert [line["rank"] for line in lines] == [1, 2, 3]
    unsure = [line["uncertainty"] for line in lines]
    assert unsure == sorted(unsure, reverse=True)
    documents = list(read(Path("next.spacy")))
    assert [document.id for document in documents] == [line["id"] for line in lines]
    for document in documents:
        doc = trained(document.text)
        expected = [(doc[a:b].start_char, doc[a:b].end_char, label, p) for a, b, label, p in found(doc)]
        assert [(e.start, e.end, e.label) for e in document.entities] == [e[:3] for e in expected]
        assert [e.score for e in document.entities] == pytest.approx([e[3] for e in expected], abs=1e-5)
        assert {e.origin for e in document.entities} <= {"en_pipeline-0.0.0"}
    assert sum(len(document.entities) for document in documents) == sum(line["entities"] for line in lines) > 0
    result = run("suggest", "model", "texts.txt", "brat", "--n", 3, "--to", "standoff")
    assert {path.stem for path in Path("brat").glob("*.txt")} == {line["id"] for line in lines}
    entities = [(e.start, e.end, e.label) for d in read(Path("brat")) for e in d.entities]
    assert sorted(entities) == sorted((e.start, e.end, e.label) for d in documents for e in d.entities)


def test_what_is_annotated_is_passed_over_and_its_gold_is_not_read(place: Path) -> None:
    nlp = spacy.blank("en")
    docs = [example.reference for example in make_examples(nlp)] + [nlp.make_doc("Aspirin in Lyon")]
    for doc in docs[:-1]:
        doc.set_ents([Span(doc, 0, 1, label="PROBLEM")], default="outside")
    DocBin(docs=docs, store_user_data=True).to_disk("mixed.spacy")
    result = run("suggest", "model", "mixed.spacy")
    assert [line["id"] for line in chosen(result)] == ["mixed-000007"]
    assert "6 annotated or empty ones passed over" in said(result)
    everything = chosen(run("suggest", "model", "mixed.spacy", "all.spacy", "--again"))
    assert len(everything) == 7
    Path("plain.txt").write_text("".join(f"{doc.text}\n" for doc in docs))
    plain = chosen(run("suggest", "model", "plain.txt"))
    assert [line["uncertainty"] for line in plain] == [line["uncertainty"] for line in everything]


def test_what_is_wrong_is_told(place: Path) -> None:
    nlp = spacy.blank("en")
    DocBin(docs=[example.reference for example in make_examples(nlp)]).to_disk("gold.spacy")
    for arguments, message in (
        (("model", "gold.spacy"), "of 6 documents none is left to annotate"),
        (("model", "texts.txt", "out"), "say with --to"),
        (("model", "texts.txt", "out", "--to", "text"), "--to text: it is one of"),
        (("model", "texts.txt", "--by", "x"), "--by x: it is one of entropy"),
        (("model", "texts.txt", "--n", 0), "--n 0: it must be at least 1"),
        (("model", "texts.txt", "--spread", 0.5), "--spread 0.5"),
        (("model", "texts.txt", "--distance", "x"), "--distance x"),
        (("model", "texts.txt", "--from", "x"), "--from x"),
        (("model", "none.txt"), "there is no such file"),
        (("texts.txt", "texts.txt"), "there is no pipeline"),
    ):
        result = run("suggest", *arguments, ok=False)
        assert result.exit_code == 1, arguments
        assert message in said(result), (arguments, result.output)
        assert not Path("out").exists()


def test_rules_of_suggestions_do_not_depend_on_thresholds(trained: Language, tmp_path: Path) -> None:
    trained.to_disk(tmp_path / "model")
    nlp = spacy.load(tmp_path / "model")
    docs = [nlp.make_doc(text) for text, _ in TEXTS]
    plain = suggest(nlp, docs, 6)
    pipe = nlp.get_pipe("crf_ner")
    pipe.threshold = 1.0  # type: ignore[attr-defined]
    assert pipe.rules() != Rules()  # type: ignore[attr-defined]
    assert suggest(nlp, docs, 6) == plain
    pipe.temperature = 3.0  # type: ignore[attr-defined]
    assert all(a.uncertainty > b.uncertainty for a, b in zip(suggest(nlp, docs, 6), plain))
