"""Where others claim the same figures, ours are the same; where they differ, this shows theirs and ours."""

import random
import warnings
from typing import Any, Dict, List, Sequence, Tuple

import pytest
import spacy
from spacy.scorer import Scorer, get_ner_prf
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_crf_ner.evaluation.matching import Mention, mention, overlaps
from spacy_crf_ner.evaluation.scorers import ner_score
from spacy_crf_ner.evaluation.scores import SEMEVAL, Table, kinds_table, measure, score_document, semeval

NLP = spacy.blank("en")
TOKENS = [(i, i + 1) for i in range(30)]
Side = List[Mention]


def flat(rng: random.Random, labels: str) -> Side:
    """Entities that do not overlap, in tokens of one character; some follow each other directly."""
    found: Side = []
    at = 0
    while at < 20:
        length = rng.randint(1, 4)
        if rng.random() < 0.5:
            found.append(mention(rng.choice(labels), [(at, at + length)]))
        at += length
    return found


def documents(n: int, gold_labels: str = "XYZ", labels: str = "XYZ", seed: int = 0) -> List[Tuple[Side, Side]]:
    """Gold and predictions, of which about half are right."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(n):
        gold = flat(rng, gold_labels)
        kept = [item for item in gold if rng.random() < 0.5]
        free = [m for m in flat(rng, labels) if not any(_meet(m, other) for other in kept)]
        pairs.append((gold, kept + free))
    return pairs


def _meet(a: Mention, b: Mention) -> bool:
    return next(iter(overlaps([a], [b])), None) is not None


def ours(pairs: Sequence[Tuple[Side, Side]]) -> Any:
    return [score_document(gold, predicted, TOKENS) for gold, predicted in pairs]


def tags(side: Side, scheme: str, n: int = 30) -> List[str]:
    begin, inside, last, unit = {"iob2": "BIIB", "iobes": "BIES", "bilou": "BILU"}[scheme]
    found = ["O"] * n
    for label, ((start, end),) in side:
        names = [unit] if end - start == 1 else [begin, *(inside * (end - start - 2)), last]
        found[start:end] = [f"{name}-{label}" for name in names]
    return found


@pytest.mark.parametrize(
    ("scheme", "mode"), [("iob2", None), ("iob2", "strict"), ("iobes", None), ("iobes", "strict"), ("bilou", "strict")]
)
def test_seqeval_gives_the_same_figures(scheme: str, mode: Any) -> None:
    metrics, schemes = pytest.importorskip("seqeval.metrics"), pytest.importorskip("seqeval.scheme")
    pairs = documents(200)
    own = measure(Table.of([document.exact for document in ours(pairs)]))
    sides = [[tags(pair[i], scheme) for pair in pairs] for i in range(2)]
    settings = {"mode": mode, "scheme": getattr(schemes, scheme.upper()) if mode else None}
    report = metrics.classification_report(*sides, output_dict=True, **settings)
    names: Dict[str, Any] = {"micro avg": own.micro, "macro avg": own.macro, "weighted avg": own.weighted}
    for name, found in {**names, **own.per_label}.items():
        theirs = report[name]
        assert (found.p, found.r, found.f) == pytest.approx(
            (theirs["precision"], theirs["recall"], theirs["f1-score"])
        ), name


def test_seqeval_by_default_does_not_know_bilou() -> None:
    """Two entities of one token that follow each other become one, so that the one that was found is not there."""
    metrics = pytest.importorskip("seqeval.metrics")
    gold, predicted = [mention("X", [(0, 1)]), mention("X", [(1, 2)])], [mention("X", [(0, 1)])]
    assert metrics.recall_score([tags(gold, "bilou")], [tags(predicted, "bilou")]) == 0.0
    assert measure(Table.of([score_document(gold, predicted, TOKENS).exact])).micro.r == 0.5


def test_seqeval_averages_over_labels_that_gold_does_not_have() -> None:
    """A choice rather than a mistake: there a label that is only predicted has a score of 0, here it has none."""
    metrics = pytest.importorskip("seqeval.metrics")
    gold, predicted = [mention("X", [(0, 1)])], [mention("X", [(0, 1)]), mention("Y", [(2, 3)])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = metrics.f1_score([tags(gold, "iob2")], [tags(predicted, "iob2")], average="macro")
    own = measure(Table.of([score_document(gold, predicted, TOKENS).exact]))
    assert theirs == 0.5
    assert own.macro.f == 1.0
    assert own.micro.f == pytest.approx(2 / 3)


def nervaluate(pairs: Sequence[Tuple[Side, Side]]) -> Dict[str, Any]:
    evaluator = pytest.importorskip("nervaluate").Evaluator
    # ends belong to the entity there
    sides = [
        [[{"label": m.label, "start": m.start, "end": m.end - 1} for m in pair[i]] for pair in pairs] for i in range(2)
    ]
    return evaluator(*sides, tags=["X", "Y", "Z"], loader="dict").evaluate()["overall"]


def figures(found: Any) -> Tuple[float, ...]:
    return found.correct, found.incorrect, found.partial, found.missed, found.spurious


def test_nervaluate_gives_the_same_figures_where_each_entity_meets_one_other() -> None:
    pairs = []
    for gold, predicted in documents(3_000, seed=1):
        meets = [[_meet(g, p) for p in predicted] for g in gold]
        if all(sum(row) <= 1 for row in meets) and all(sum(column) <= 1 for column in zip(*meets)):
            pairs.append((gold, predicted))
    assert len(pairs) > 100
    theirs = nervaluate(pairs)
    own = semeval(kinds_table(ours(pairs)).counts.sum(1))
    for name in SEMEVAL:
        found = theirs["ent_type" if name == "type" else name]
        assert figures(own[name]) == figures(found), name
        assert (own[name].p, own[name].r, own[name].f) == pytest.approx((found.precision, found.recall, found.f1))
        assert min(own["strict"].incorrect, own["partial"].partial, own["strict"].missed) > 50


def test_nervaluate_gives_gold_to_the_first_that_touches_it() -> None:
    """An entity that was found exactly counts as spurious, since one that comes before it has taken its gold."""
    pair = [mention("X", [(2, 6)])], [mention("X", [(0, 3)]), mention("X", [(2, 6)])]
    assert figures(nervaluate([pair])["strict"]) == (0, 1, 0, 0, 1)
    assert figures(semeval(kinds_table(ours([pair])).counts.sum(1))["strict"]) == (1, 0, 0, 0, 1)


def test_nervaluate_depends_on_which_side_is_gold() -> None:
    """The least overlap is a share of gold there, so that precision and recall do not change places."""
    pytest.importorskip("nervaluate")
    wide, narrow = [mention("X", [(0, 20)])], [mention("X", [(0, 2)])]
    from nervaluate import Evaluator

    def partial(gold: Side, predicted: Side) -> int:
        sides = [[[{"label": m.label, "start": m.start, "end": m.end - 1} for m in side]] for side in (gold, predicted)]
        return (
            Evaluator(*sides, tags=["X"], loader="dict", min_overlap_percentage=50)
            .evaluate()["overall"]["partial"]
            .partial
        )

    assert (partial(wide, narrow), partial(narrow, wide)) == (0, 1)
    there, back = (score_document(*sides, TOKENS).overlap["X"] for sides in ((wide, narrow), (narrow, wide)))
    assert there == back == (0, 1, 1)


def test_nervaluate_counts_an_entity_that_is_given_twice_twice() -> None:
    pair = [mention("X", [(0, 2)])], [mention("X", [(0, 2)])] * 2
    assert figures(nervaluate([pair])["strict"]) == (1, 0, 0, 0, 1)
    assert figures(semeval(kinds_table(ours([pair])).counts.sum(1))["strict"]) == (1, 0, 0, 0, 0)


def spacy_example(gold: Any, predicted: Any, group: str = "") -> Example:
    docs = [Doc(NLP.vocab, words=[chr(97 + i % 26) for i in range(30)]) for _ in range(2)]
    for doc, side in zip(docs, (gold, predicted)):
        spans = [Span(doc, start, end, label=label) for label, ((start, end),) in side]
        if group:
            doc.spans[group] = spans
        else:
            doc.ents = spans
    return Example(docs[1], docs[0])


def test_spacy_gives_the_same_figures_of_overlapping_spans() -> None:
    rng = random.Random(3)
    examples = []
    for _ in range(300):
        gold, predicted = (flat(rng, "XY") + flat(rng, "YZ") for _ in range(2))
        examples.append(spacy_example(gold, predicted + gold[:2], "g"))
    own = ner_score(examples, labels=["X", "Y", "Z"], target_spans="g", output_spans="g")
    theirs = Scorer.score_spans(
        examples, "spans_g", getter=lambda doc, key: doc.spans[key[6:]], allow_overlap=True, labeled=True
    )
    for key in ("spans_g_p", "spans_g_r", "spans_g_f"):
        assert own[key] == pytest.approx(theirs[key])
    for label, scores in theirs["spans_g_per_type"].items():
        assert own["spans_g_per_type"][label] == pytest.approx(scores)


def test_spacy_widens_predictions_to_the_tokens_of_gold() -> None:
    """What was predicted is "New", what is gold is "NewYork": there it is right."""
    reference = Doc(NLP.vocab, words=["NewYork", "is"])
    reference.ents = [Span(reference, 0, 1, "X")]
    predicted = Doc(NLP.vocab, words=["New", "York", "is"], spaces=[False, True, True])
    predicted.ents = [Span(predicted, 0, 1, "X")]
    examples = [Example(predicted, reference)]
    assert get_ner_prf(examples)["ents_f"] == 1.0
    own = ner_score(examples, labels=["X"])
    assert own["ents_f"] == 0.0
    assert own["ents_overlap_f"] == 1.0


def test_spacy_leaves_out_predictions_of_groups_that_do_not_fit_the_tokens_of_gold() -> None:
    reference = Doc(NLP.vocab, words=["NewYork", "is"])
    reference.spans["g"] = [Span(reference, 1, 2, "X")]
    predicted = Doc(NLP.vocab, words=["New", "York", "is"], spaces=[False, True, True])
    predicted.spans["g"] = [Span(predicted, 0, 1, "X"), Span(predicted, 2, 3, "X")]
    examples = [Example(predicted, reference)]
    theirs = Scorer.score_spans(examples, "spans_g", getter=lambda doc, key: doc.spans["g"], allow_overlap=True)
    assert theirs["spans_g_p"] == 1.0
    assert ner_score(examples, labels=["X"], target_spans="g", output_spans="g")["spans_g_p"] == 0.5
