"""Probabilities of a trained recogniser made to mean what they say, and thresholds that keep a promise.

What is fitted: a temperature, by which the chain's scores are divided, so that probabilities stay exact marginals of a
chain; and an exponent, to which the probabilities of entities are then raised: one for all labels, and where the data
allow one for a label. All are fitted to the entities of the best sequences, which do not depend on them.
"""

import math
import random
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from .. import tagging
from ..corpora.files import CorpusError
from ..evaluation.calibration import (
    THRESHOLDS,
    Certificate,
    certified_threshold,
    exponent_gain,
    exponent_loss,
    fewest,
    fit_exponent,
    measures,
    minimum,
    sequence_of_tests,
)
from ..tagging import UNKNOWN, TagSpan
from .confidence import Rules, SpanMarginals
from .gold import gold_tags
from .model import head_module
from .pipe import ChainBatch, CRFEntityRecognizer, is_key

# Right ones and wrong ones without which nothing is fitted.
FEWEST = 10
FOLDS = 5
TEMPERATURES = (0.2, 10.0)
# Share of the documents that temperatures are fitted to where the others are to certify thresholds.
FIT_SHARE = 1 / 3


class Judged(NamedTuple):
    """Entities of a pipe in annotated documents; arrays, (entities,).

    document (np.ndarray): Which document. label (np.ndarray): Id of the label. p (np.ndarray): Probability. right
        (np.ndarray): Whether gold has it, bool.
    """

    document: np.ndarray
    label: np.ndarray
    p: np.ndarray
    right: np.ndarray

    def where(self, kept: np.ndarray) -> "Judged":
        return Judged(*(array[kept] for array in self))


class Fit(NamedTuple):
    """temperature (float): Of the chain. exponents (Dict[int, float]): By label id, of the labels that have one."""

    temperature: float
    exponents: Dict[int, float]


class Evidence:
    """What a pipe finds in annotated documents, at any temperature; emissions are held in memory.

    pipe (CRFEntityRecognizer): Trained.
    examples (Sequence[Example]): Their predicted Docs as the pipes before it leave them. Documents without gold are
        passed over. What is not marked counts as no entity, also with `partial`; entities that touch tokens of which
        gold says nothing, and could be right, are left out.
    labels (Sequence[str]): Those that are annotated; entities of others are left out. None: all.
    """

    def __init__(self, pipe: CRFEntityRecognizer, examples: Sequence[Example], labels: Sequence[str] = ()) -> None:
        ids = {label: i for i, label in enumerate(pipe.labels)}
        overlap, target = pipe.cfg["overlap"], pipe.cfg["target_spans"]
        found = [gold_tags(example, target, ids, overlap, False) for example in examples]
        self._gold = [gold.tags for gold in found if gold is not None]
        docs = [example.predicted for example, gold in zip(examples, found) if gold is not None]
        self._pipe = pipe
        self._wanted = {ids[label] for label in labels or pipe.labels}
        self._batches: List[ChainBatch] = list(pipe.chains(docs))
        self._at: Dict[float, np.ndarray] = {}
        self.documents = len(docs)
        self.best = self.judge(Rules())
        self._spans = self._locate()

    def judge(self, rules: Rules) -> Judged:
        """Entities by rules of one's own, and whether each is right."""
        rows = []
        for batch in self._batches:
            for document, entities in zip(batch.documents, self._pipe.entities(batch, rules)):
                for span, p in entities:
                    right = self._is_right(document, span)
                    if right is not None:
                        rows.append((document, span.label, p, right))
        document, label, p, right = np.array(rows, dtype=float).reshape(-1, 4).T
        return Judged(document.astype(int), label.astype(int), p, right.astype(bool))

    def _is_right(self, document: int, span: TagSpan) -> Optional[bool]:
        """None: gold does not say, or its label is not annotated."""
        if span.label not in self._wanted:
            return None
        chain, label = (span.label, 0) if self._pipe.cfg["overlap"] else (0, span.label)
        gold = self._gold[document][chain, span.start : span.end]
        known = gold != UNKNOWN
        if (gold != tagging.span_tags(TagSpan(span.start, span.end, label)))[known].any():
            return False
        return True if known.all() else None

    def _locate(self) -> List[torch.Tensor]:
        """Entities of the best sequences in each batch, in the order of `best`, as `SpanMarginals` takes them."""
        overlap, located = self._pipe.cfg["overlap"], []
        n_chains = head_module(self._pipe.model).n_chains
        for batch in self._batches:
            rows = [
                (place * n_chains + span.label, span.start, span.end, 0) if overlap else (place, *span)
                for place, entities in enumerate(self._pipe.entities(batch, Rules()))
                for span, _ in entities
                if self._is_right(batch.documents[place], span) is not None
            ]
            located.append(torch.tensor(rows, dtype=torch.int64).reshape(-1, 4))
        return located

    def probabilities(self, temperature: float) -> np.ndarray:
        """P(entity) of those in `best` at another temperature, float64, (entities,)."""
        if temperature not in self._at:
            crf, parts = head_module(self._pipe.model).crf, [np.zeros(0)]
            for batch, spans in zip(self._batches, self._spans):
                if len(spans):
                    marginals = SpanMarginals(crf, batch.emissions, batch.lengths, batch.possible, temperature)
                    found = marginals.probabilities(spans.to(batch.emissions.device))
                    parts.append(found.cpu().numpy().astype(float))
            self._at[temperature] = np.concatenate(parts)
        return self._at[temperature]

    def at(self, fit: Fit) -> Judged:
        """`best` with the probabilities that a fit gives."""
        exponents = np.array([fit.exponents.get(label, 1.0) for label in self.best.label.tolist()])
        return self.best._replace(p=self.probabilities(fit.temperature) ** exponents)


def fit(evidence: Evidence, documents: np.ndarray, labels: Sequence[str]) -> Fit:
    """Fit a temperature and exponents.

    documents (np.ndarray): Which documents count, bool, (documents,).
    labels (Sequence[str]): The pipe's.
    RETURNS (Fit): The temperature from 0.2 to 10 and the exponent for all labels with which `exponent_loss` is least. A
        label has an exponent of its own where it has at least 10 right and 10 wrong entities, and exponents fitted to
        four fifths of the documents make the outcomes in the other fifths likelier.
    RAISES (CorpusError): There are fewer than 10 right or 10 wrong entities.
    """
    counts = documents[evidence.best.document]
    right = evidence.best.right[counts]
    if min(right.sum(), (~right).sum()) < FEWEST:
        raise CorpusError(
            f"In {int(documents.sum()):,} documents {int(right.sum()):,} of the entities that the pipeline finds are "
            f"right, and {int((~right).sum()):,} are wrong. At least {FEWEST} of both are needed to fit a temperature; "
            "give more annotated documents that it was not trained on."
        )

    # a label that cannot be a key in a config cannot have its exponent stored
    shared = all(map(is_key, labels))

    def exponent_at(temperature: float) -> float:
        return fit_exponent(evidence.probabilities(temperature)[counts], right) if shared else 1.0

    def loss(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        return exponent_loss(evidence.probabilities(temperature)[counts], right, exponent_at(temperature))

    low, high = (math.log(temperature) for temperature in TEMPERATURES)
    temperature = round(math.exp(minimum(loss, low, high, tolerance=0.002)), 3)
    common = round(exponent_at(temperature), 3)
    exponents = dict.fromkeys(range(len(labels)), common) if shared else {}
    found = evidence.at(Fit(temperature, exponents)).where(counts)
    for label, name in enumerate(labels):
        own = found.where(found.label == label)
        if min(own.right.sum(), (~own.right).sum()) < FEWEST or not is_key(name):
            continue
        if exponent_gain(own.p, own.right, own.document % FOLDS) > 0:
            exponents[label] = round(common * fit_exponent(own.p, own.right), 3)
    return Fit(temperature, exponents)


def held_out(evidence: Evidence, labels: Sequence[str]) -> Judged:
    """`evidence.best` with probabilities from fits to other documents, in five folds."""
    p = np.zeros(len(evidence.best.p))
    folds = np.arange(evidence.documents) % FOLDS
    for fold in range(FOLDS):
        out = folds[evidence.best.document] == fold
        p[out] = evidence.at(fit(evidence, folds != fold, labels)).p[out]
    return evidence.best._replace(p=p)


class Promise(NamedTuple):
    """Thresholds that keep a precision. overall (Certificate): Of all labels that are not in `labels`."""

    overall: Optional[Certificate]
    labels: Dict[int, Optional[Certificate]]


def promise(
    evidence: Evidence,
    fitted: np.ndarray,
    tested: np.ndarray,
    precision: float,
    confidence: float,
    per_label: bool,
    labels: Sequence[str],
) -> Tuple[Fit, Promise]:
    """Fit temperatures to some documents, and find thresholds that keep a precision in others.

    fitted, tested (np.ndarray): Which documents, bool, (documents,); none is in both.
    per_label (bool): Keep it for each label of which `fitted` leads to expect enough entities, and for all others
        together, at once: each is tested at (1 − confidence) / how many there are.
    labels (Sequence[str]): The pipe's.
    RETURNS (Tuple[Fit, Promise]): Certificates are None where no threshold could be shown to keep it.
    RAISES (CorpusError): There is not enough to fit to, or no threshold at all keeps it.
    """
    chosen = fit(evidence, fitted, labels)
    found = evidence.judge(Rules(THRESHOLDS[-1], chosen.temperature, {}, chosen.exponents))
    before, after = (found.where(documents[found.document]) for documents in (fitted, tested))
    own: List[int] = []
    if per_label:
        # whether a label stands alone depends on `fitted` only, on which nothing is tested
        level = 1 - (1 - confidence) / (len(labels) + 1)
        needed = fewest(precision, level) * fitted.sum() / max(tested.sum(), 1)
        own = [i for i, name in enumerate(labels) if (before.label == i).sum() >= needed and is_key(name)]
    level = 1 - (1 - confidence) / (len(own) + 1)

    def certify(label: Optional[int]) -> Optional[Certificate]:
        mine = [~np.isin(j.label, own) if label is None else j.label == label for j in (before, after)]
        order = sequence_of_tests(before.p[mine[0]], before.right[mine[0]], precision)
        return certified_threshold(after.p[mine[1]], after.right[mine[1]], order, precision, level)

    promised = Promise(certify(None), {label: certify(label) for label in own})
    if promised.overall is None and not any(promised.labels.values()):
        sure = after.where(after.p >= 0.9)
        raise CorpusError(
            f"No threshold could be shown to keep a precision of {precision:g} with a confidence of {confidence:g}. "
            f"Of {len(after.p):,} entities to test it on {int(after.right.sum()):,} are right, and of {len(sure.p):,} "
            f"with a probability of at least 0.9 {int(sure.right.sum()):,}. At least {fewest(precision, confidence):,} "
            "are needed if all are right. Give more documents, or a lower --precision or --confidence."
        )
    return chosen, promised


def calibrate(
    nlp: Language,
    examples: Sequence[Example],
    *,
    name: str = "",
    labels: Sequence[str] = (),
    precision: Optional[float] = None,
    confidence: float = 0.9,
    per_label: bool = False,
    seed: int = 0,
) -> Dict[str, Any]:
    """Make the probabilities of a recogniser in a pipeline mean what they say; the pipeline is changed.

    nlp (Language): A trained pipeline.
    examples (Sequence[Example]): Annotated documents that it was not trained on.
    name (str): Which component; "": the only `crf_ner` there is.
    labels (Sequence[str]): Labels that are annotated; none given: all of the component's.
    precision (Optional[float]): Set `threshold` too, so that at least this share of the entities is right. Temperatures
        are then fitted to a third of the documents, drawn at random, and thresholds tested on the others.
    confidence (float): With what probability, over draws of the documents, the promise is kept.
    per_label (bool): Keep it for each label by itself, in `label_thresholds`, where there are enough of it.
    seed (int): For the draw.
    RETURNS (Dict[str, Any]): `settings` as they are now; `before` and `after`: measures of entities of the best
        sequences, `after` by fits to other documents; `promise`; `entities`: their probability before and after, and
        whether they are right.
    RAISES (CorpusError): There is not enough to fit to, or no threshold keeps the promise.
    """
    pipe = recogniser(nlp, name)
    unknown = [label for label in labels if label not in pipe.labels]
    if unknown:
        raise CorpusError(f"--labels: {', '.join(unknown)} is none of {pipe.name}'s labels: {', '.join(pipe.labels)}.")
    for key, value in (("precision", precision), ("confidence", confidence)):
        if value is not None and not 0 < value < 1:
            raise CorpusError(f"--{key} {value}: it must be above 0 and below 1.")
    examples = list(examples)
    random.Random(seed).shuffle(examples)
    evidence = Evidence(pipe, before_pipe(nlp, pipe, examples), labels)
    rules = pipe.rules()
    before = evidence.at(Fit(rules.temperature, dict(rules.label_exponents)))
    promised: Optional[Promise] = None
    if precision is None:
        chosen = fit(evidence, np.ones(evidence.documents, dtype=bool), pipe.labels)
        after = held_out(evidence, pipe.labels)
    else:
        first = np.arange(evidence.documents) < evidence.documents * FIT_SHARE
        chosen, promised = promise(evidence, first, ~first, precision, confidence, per_label, pipe.labels)
        kept = ~first[before.document]
        before, after = before.where(kept), evidence.at(chosen).where(kept)
    pipe.temperature = chosen.temperature
    pipe.label_exponents = {pipe.labels[label]: value for label, value in chosen.exponents.items()}
    if promised is not None:
        pipe.threshold = promised.overall.threshold if promised.overall else 1.0
        pipe.label_thresholds = {
            pipe.labels[label]: certificate.threshold if certificate else 1.0
            for label, certificate in promised.labels.items()
        }
    if pipe.threshold is not None or pipe.label_thresholds:
        nlp.meta.pop("performance", None)  # those are the scores of other entities
    return _report(pipe, before, after, promised, {"precision": precision, "confidence": confidence})


def recogniser(nlp: Language, name: str = "") -> CRFEntityRecognizer:
    """A recogniser of a pipeline.

    name (str): Of the component; "": the only one that there is.
    RAISES (CorpusError): There is none, or there are several and none is named.
    """
    found = {n: pipe for n, pipe in nlp.pipeline if isinstance(pipe, CRFEntityRecognizer)}
    if name in found:
        return found[name]
    if len(found) == 1 and not name:
        return next(iter(found.values()))
    known = f"those that there are: {', '.join(found)}" if found else "there is none"
    raise CorpusError(f"Name a crf_ner component of the pipeline with --pipe; {known}.")


def before_pipe(nlp: Language, pipe: CRFEntityRecognizer, examples: Sequence[Example]) -> List[Example]:
    """Examples whose predicted Docs have gone through the pipes before a recogniser."""
    docs = prepared(nlp, pipe, [example.predicted for example in examples])
    return [Example(doc, example.reference) for doc, example in zip(docs, examples)]


def prepared(nlp: Language, pipe: CRFEntityRecognizer, docs: Sequence[Doc]) -> List[Doc]:
    """Docs as the pipes before a recogniser leave them."""
    names = [name for name, component in nlp.pipeline]
    at = next(i for i, (_, component) in enumerate(nlp.pipeline) if component is pipe)
    with nlp.select_pipes(enable=names[:at]):
        return list(nlp.pipe(docs))


def _report(
    pipe: CRFEntityRecognizer, before: Judged, after: Judged, promised: Optional[Promise], asked: Dict[str, Any]
) -> Dict[str, Any]:
    keys = ("temperature", "label_exponents", "threshold", "label_thresholds")
    report: Dict[str, Any] = {"settings": {key: getattr(pipe, key) for key in keys}}
    for key, judged in (("before", before), ("after", after)):
        every = {"": np.ones(len(judged.p), dtype=bool)}
        every.update({name: judged.label == label for label, name in enumerate(pipe.labels)})
        scores = {name: measures(judged.p[own], judged.right[own]) for name, own in every.items() if own.any()}
        report[key] = {"all": scores.pop(""), "labels": scores}
    if promised is not None:
        named = {pipe.labels[label]: certificate for label, certificate in promised.labels.items()}
        report["promise"] = {
            **asked,
            "overall": promised.overall and promised.overall._asdict(),
            "labels": {name: certificate and certificate._asdict() for name, certificate in named.items()},
        }
    report["entities"] = {
        "label": [pipe.labels[label] for label in after.label.tolist()],
        "before": before.p.tolist(),
        "after": after.p.tolist(),
        "right": after.right.tolist(),
    }
    return report
