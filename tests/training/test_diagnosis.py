"""Each thing that can be wrong with a corpus is found, and nothing where all is well."""

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import pytest
import spacy
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from thinc.api import Config
from typer.testing import CliRunner

from spacy_crf_ner.corpora.multi import CorpusExample
from spacy_crf_ner.embedding.encoder import load_tokenizer
from spacy_crf_ner.tagging import UNPLACED
from spacy_crf_ner.training import diagnosis
from spacy_crf_ner.training.settings import CorpusExtras

from ..conftest import TEXTS, write_encoder

NLP = spacy.blank("en")
CFG = {
    "target_spans": "ents",
    "output_spans": "ents",
    "overlap": False,
    "partial": None,
    "entity_ratio": 0.15,
    "entity_ratio_margin": 0.05,
}
Spans = Sequence[Tuple[int, int, str]]


def example(text: str, spans: Optional[Spans] = (), group: str = "", **more: Any) -> Example:
    doc = NLP.make_doc(text)
    found = [Span(doc, start, end, label=label) for start, end, label in spans or ()]
    if group:
        doc.spans[group] = found
    elif spans is not None:
        doc.set_ents(found, **more)
    return Example(NLP.make_doc(text), doc)


def many(n: int = 60, **more: Any) -> List[Example]:
    """A corpus that has nothing wrong with it, but that it is small."""
    return [
        example(f"Fever number {i} again" if i % 3 else f"None {i}", [(0, 1, "X")] if i % 3 else [], **more)
        for i in range(n)
    ]


def found(section: diagnosis.Section) -> Dict[str, List[str]]:
    levels: Dict[str, List[str]] = {}
    for finding in section.findings:
        levels.setdefault(finding.level, []).append(finding.message)
    return levels


def look(
    train: List[Example], dev: Optional[List[Example]] = None, given: Any = None, **cfg: Any
) -> Dict[str, List[str]]:
    return found(diagnosis.recogniser("crf_ner", {**CFG, **cfg}, given, train, many() if dev is None else dev))


def test_a_good_corpus_has_neither_warnings_nor_errors() -> None:
    levels = look(many(90), many(30))
    assert set(levels) == {"good", "info"}
    assert levels["info"] == ["train: 60 entities of 1 labels: X 60.", "dev: 20 entities: X 20."]
    other = [example(f"Other {i}") for i in range(3000)]
    assert set(found(diagnosis.documents(other, many(), True, 100))) == {"good", "info"}


@pytest.mark.parametrize(
    ("train", "level", "message"),
    [
        ([example("a b", None)] * 2, "error", "train: no document has annotation in doc.ents. Documents have nothing"),
        ([example("a b", [(0, 1, "X")], "g")], "error", "Documents have g (1): set [components.crf_ner] target_spans"),
        ([example("a b")] * 2, "error", "train: no document has an entity in doc.ents"),
        (
            [*many(90), example("a", None)],
            "warn",
            "train: 1 of 91 documents say nothing of doc.ents, and are passed over",
        ),
        ([*many(90), example("a", [(0, 1, "R")])], "warn", "train: labels with fewer than 50 entities: R 1."),
        ([*many(90), example("a \n b", [(0, 2, "X")])], "warn", "train: 1 entities begin or end with white space"),
    ],
)
def test_what_is_wrong_is_said(train: List[Example], level: str, message: str) -> None:
    assert any(message in said for said in look(train)[level])


def test_empty_labels_are_an_error() -> None:
    train = [example("a", [(0, 1, "")], "g")]
    assert look(train, [], target_spans="g", output_spans="g")["error"] == ["train: 1 entities have an empty label."]


def test_labels_of_dev_and_given_ones() -> None:
    dev = [*many(9), example("a", [(0, 1, "NEW")])]
    assert (
        "dev: entities have labels that train does not have, and are missed in every score: NEW 1."
        in look(many(90), dev)["warn"]
    )
    levels = look(many(90), dev, given=["Y"])
    assert "[initialize.components.crf_ner] labels: none of Y is in train." in levels["warn"]
    assert "train: 60 entities have labels that are not given, and are left out: X." in levels["warn"]
    assert "dev: it has none of X, so that scores say nothing of them." in look(many(90), dev[-1:])["info"]


def nested(group: str) -> Example:
    return example("Pain in the knee", [(0, 4, "X"), (3, 4, "Y"), (0, 1, "X")], group)


def test_entities_that_overlap_are_counted_as_the_pipe_meets_them() -> None:
    flat = look([nested("g")], [], target_spans="g", output_spans="g")["warn"]
    assert "train: 2 of 3 entities are left out of training; each overlaps with a longer one" in " ".join(flat)
    assert "overlap = true learns them" in " ".join(flat)
    chains = look([nested("g")], [], target_spans="g", output_spans="g", overlap=True)
    assert "train: 1 of 3 entities are left out" in " ".join(chains["warn"])
    assert "1 pairs of entities of the same label overlap, which no chain can say" in " ".join(chains["warn"])
    apart = look([example("a b", [(0, 1, "X")], "g")], [], target_spans="g", output_spans="g", overlap=True)
    assert "no entities overlap: overlap = false is quicker" in " ".join(apart["info"])
    both = nested("entities")
    both.reference.set_ents([both.reference[0:4]], default="outside")
    both.reference.ents = [Span(both.reference, 0, 4, label="X")]
    assert 'doc.spans["entities"] has 2 entities more than doc.ents' in " ".join(look([both], [])["info"])


def test_entities_that_are_not_on_tokens_are_named() -> None:
    bad = example("a b", [(0, 1, "X")], "g")
    bad.reference.spans["g"].attrs[UNPLACED] = [[2, 3, "Z"]]
    bad.reference.user_data["id"] = "note-7"
    other = Example(
        NLP.make_doc("feverish child"), Doc(NLP.vocab, words=["fever", "ish", "child"], spaces=[False, True, False])
    )
    other.reference.spans["g"] = [Span(other.reference, 0, 1, label="X")]
    said = " ".join(look([bad, other], [], target_spans="g", output_spans="g")["warn"])
    assert (
        "1 of 2 entities are left out of training; each the reader could not place it on tokens: Z in note-7." in said
    )
    assert "each its ends lie inside tokens: X in document 2." in said


def test_sentences_and_missing_tokens() -> None:
    crossing = example("a b c", [(0, 2, "X")])
    crossing.reference[1].is_sent_start = True
    crossing.reference[2].is_sent_start = False
    assert "train: 1 entities go over the end of a sentence." in look([crossing], [])["warn"]
    doc = example("a b c", [(0, 1, "X")], default="missing")
    assert "train: 2 of 3 tokens are marked as unknown, in 1 documents." in look([doc], [])["info"]
    assert 'partial = "marginal" changes nothing' in " ".join(look([doc], [], partial="marginal")["info"])


def test_partial_annotation_is_met_with_its_share_of_entities() -> None:
    train = [example("a b c d", [(0, 1, "X")])]
    assert "no token is known to be in no entity" in " ".join(look(train, [], partial="marginal")["warn"])
    high = look(train, [], partial="expected_entity_ratio")["warn"]
    assert "25.0% of the tokens in train are in entities, more than entity_ratio = 0.15" in " ".join(high)
    assert "entity_ratio" not in " ".join(look(train, [], partial="expected_entity_ratio", entity_ratio=0.21)["warn"])


def test_documents_are_compared_and_measured() -> None:
    train, dev = [*many(5), example("same"), example("same")], [example("same"), example(" "), example("x" * 200)]
    train[-1].reference.user_data["id"] = "one"
    levels = found(diagnosis.documents(train, dev, True, 100))
    warned = " ".join(levels["warn"])
    assert (
        "1 documents of dev are in train too, so that scores are too high: one in train is document 1 in dev." in warned
    )
    assert "dev: 1 documents are empty: document 2." in warned
    assert "dev: 1 texts are longer than the 100 characters" in warned
    assert "7 documents are few" in warned
    assert "train: 1 documents have the text of another one." in levels["info"]
    assert "error" in found(diagnosis.documents([], dev, True, 100))
    assert "error" in found(diagnosis.documents(train, [], True, 100))
    assert "error" not in found(diagnosis.documents(train, [], False, 100))


def test_wordpieces_and_tokens_that_miss_each_other(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_encoder(tmp_path))
    clean = [example(text) for text, _ in TEXTS]
    levels = found(diagnosis.wordpieces("crf_ner", tokenizer, 64, clean))
    assert set(levels) == {"info", "good"}
    n_pieces = sum(tokenizer.count([text for text, _ in TEXTS]))
    assert levels["info"][0].startswith(
        f"{n_pieces} wordpieces for {sum(len(eg.reference) for eg in clean)} tokens of 6"
    )
    # the normaliser of this tokenizer takes control characters out, and its vocabulary has no Japanese
    strange = Doc(NLP.vocab, words=["fever", "\u200b", "病"], spaces=[True, True, False])
    levels = found(diagnosis.wordpieces("crf_ner", tokenizer, 2, [Example(strange, strange)]))
    assert any('1 tokens that are no white space get no wordpiece: "\u200b" (1).' in said for said in levels["warn"])
    assert any("1 wordpieces" in said and "unknown text" in said for said in levels["warn"])
    assert any("1 documents are longer than a window of 2" in said for said in levels["info"])


def test_a_pipe_is_shown_what_it_learns_from() -> None:
    doc = NLP.make_doc("a")
    examples = [CorpusExample(doc, doc, name) for name in ("notes", "letters")] + [Example(doc, doc)]
    corpora = {"letters": CorpusExtras(pipes=["other"])}
    assert diagnosis.of_pipe(examples, "crf_ner", corpora) == [examples[0], examples[2]]
    assert diagnosis.of_pipe(examples, "other", corpora) == examples


@pytest.fixture
def config(tmp_path: Path, encoder: str) -> Path:
    for name, texts in (("train", TEXTS), ("dev", TEXTS[:2])):
        docs = []
        for text, spans in texts:
            doc = NLP.make_doc(f"{text} {name}")
            doc.ents = [Span(doc, start, end, label=label) for start, end, label in spans]
            docs.append(doc)
        DocBin(docs=docs).to_disk(tmp_path / f"{name}.spacy")
    from spacy_crf_ner.cli.init_config import make_config

    made: Config = make_config("en", encoder, tmp_path / "train.spacy", tmp_path / "dev.spacy", "transformer_cnn_crf")
    made.to_disk(tmp_path / "config.cfg")
    return tmp_path / "config.cfg"


def run(*arguments: Any) -> Any:
    from spacy.cli._util import app

    import spacy_crf_ner.cli.app  # noqa: F401  (hangs the commands on spaCy's)

    return CliRunner().invoke(app, ["crf-ner", "debug", *map(str, arguments)])


def test_the_command_takes_overrides_and_fails_on_errors(config: Path, tmp_path: Path) -> None:
    good = run(config, "-NF")
    assert good.exit_code == 0, good.output
    assert "train: 9 entities of 3 labels: DRUG 3, PLACE 3, PROBLEM 3." in good.stdout
    assert "good: crf_ner: it can be initialised with the data." in good.stdout
    assert "warn: train: labels with fewer than 50 entities" in good.stdout
    assert "fewer than 50" not in run(config, "-NF", "--ignore-warnings").stdout
    bad = run(config, "-NF", "--components.crf_ner.target_spans", "sc")
    assert bad.exit_code == 1
    assert 'error: train: no document has annotation in doc.spans["sc"]. Documents have ents (6)' in bad.stdout
    assert "errors: a training would not succeed" in bad.stderr
    same = run(config, "-NF", "--paths.dev", tmp_path / "train.spacy")
    assert "6 documents of dev are in train too" in same.stdout
    without = run(config, "-NF", "--paths.dev", "null")
    assert without.exit_code == 0, without.output
    assert "There is no development corpus" in without.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--paths.train", "nowhere.spacy"], "nowhere.spacy"),
        (["--components.crf_ner.mode", "best"], "mode"),
    ],
)
def test_what_cannot_be_read_ends_in_one_message(arguments: list, message: str, config: Path) -> None:
    result = run(config, *arguments)
    assert result.exit_code == 1, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_pipeline_without_a_recogniser_is_spacys(tmp_path: Path) -> None:
    spacy.blank("en").config.to_disk(tmp_path / "config.cfg")
    result = run(tmp_path / "config.cfg")
    assert result.exit_code == 1
    assert "The pipeline has no crf_ner: nothing. For others use spacy debug data." in " ".join(result.output.split())
