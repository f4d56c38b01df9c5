"""What is wrong with a configuration and its corpora, before a training finds out."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Iterator, List, Literal, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from ..corpora.document import Document
from ..corpora.multi import CorpusExample
from ..corpora.placing import ALL_ENTITIES, ID
from ..crf.gold import gold_tags, is_annotated, space_mask, target_spans
from ..tagging import UNPLACED

# What spaCy's `debug data` uses too: below it a label, or a corpus, has few examples.
FEW_OF_A_LABEL = 50
FEW_DOCUMENTS, MANY_DOCUMENTS = 100, 2000
# Labels, ids or texts that a message names.
NAMED = 5
# Documents whose wordpieces are looked at, evenly from all.
LOOKED_AT = 2000

Level = Literal["good", "info", "warn", "error"]


class Finding(NamedTuple):
    """level (str): How bad it is: "good", "info", "warn", "error". message (str): What was found, and what to do."""

    level: Level
    message: str


class Section(NamedTuple):
    """title (str): What the findings are about."""

    title: str
    findings: List[Finding]


def documents(train: Sequence[Example], dev: Sequence[Example], has_dev: bool, max_length: int) -> Section:
    """What is there to learn from and to evaluate on, and whether the two are apart.

    has_dev (bool): The configuration names a development corpus.
    max_length (int): Characters of the longest text that the pipeline takes.
    """
    found: List[Finding] = []
    for name, examples in (("train", train), ("dev", dev)):
        if not examples and (name == "train" or has_dev):
            found.append(Finding("error", f"{name}: the corpus has no document. Is [corpora.{name}] the right file?"))
        elif examples:
            found += _describe(name, examples, max_length)
    if not has_dev:
        found.append(
            Finding("info", "There is no development corpus: crf-ner train trains without one, spacy train does not.")
        )
    if train and len(train) < MANY_DOCUMENTS:
        level: Level = "warn" if len(train) < FEW_DOCUMENTS else "info"
        found.append(
            Finding(level, f"{len(train):,} documents are few to train on; {MANY_DOCUMENTS:,} and more are better.")
        )
    ids = {_digest(eg.reference): _name(eg.reference, i) for i, eg in enumerate(train)}
    shared = [
        (ids[_digest(eg.reference)], _name(eg.reference, i)) for i, eg in enumerate(dev) if _digest(eg.reference) in ids
    ]
    if shared:
        named = _named([f"{there} in train is {here} in dev" for there, here in shared])
        message = f"{len(shared):,} documents of dev are in train too, so that scores are too high: {named}. "
        found.append(Finding("warn", message + "crf-ner split keeps the same texts together."))
    elif train and dev:
        found.append(Finding("good", "No text is in both train and dev."))
    repeated = len(train) - len(ids)
    if repeated:
        found.append(Finding("info", f"train: {repeated:,} documents have the text of another one."))
    return Section("Documents", found)


def _describe(name: str, examples: Sequence[Example], max_length: int) -> Iterator[Finding]:
    lengths = [len(eg.reference) for eg in examples]
    empty = [_name(eg.reference, i) for i, eg in enumerate(examples) if not eg.reference.text.strip()]
    yield Finding(
        "info",
        f"{name}: {len(examples):,} documents, {sum(lengths):,} tokens; the longest has {max(lengths):,} tokens, "
        f"half of them {int(np.median(lengths)):,} or less.",
    )
    if empty:
        yield Finding("warn", f"{name}: {len(empty):,} documents are empty: {_named(empty)}.")
    too_long = [_name(eg.reference, i) for i, eg in enumerate(examples) if len(eg.reference.text) > max_length]
    if too_long:
        yield Finding(
            "warn",
            f"{name}: {len(too_long):,} texts are longer than the {max_length:,} characters that the trained pipeline "
            f"would take ({_named(too_long)}): use spacy_crf_ner.max_length.v1 in [nlp.after_pipeline_creation].",
        )
    other = [_name(eg.reference, i) for i, eg in enumerate(examples) if eg.reference.text != eg.predicted.text]
    if other:
        yield Finding(
            "warn", f"{name}: of {len(other):,} documents prediction and gold have other texts: {_named(other)}."
        )


@dataclass
class Survey:
    """What a recogniser reads from a corpus.

    annotated (int): Documents that say anything of its target. labels (Counter): Entities by label, tagged or not.
    without (Counter): Documents that do not have a label. left_out (Counter): Entities that cannot be tagged, by why.
    left_out_at (Dict[str, List[str]]): The first of them. spaces, crossing (int): Entities that begin or end with white
    space, and that go over the end of a sentence. same_label, other_label (int): Pairs that overlap. missing (int):
    Tokens of which nothing is known. tells (int): Documents that have such tokens. inside, tokens (int): Tokens in
    entities, and all. only_in_group (int): Entities that stand in the group of all entities alone. elsewhere (Counter):
    Span groups, and how many documents have them.
    """

    documents: int = 0
    annotated: int = 0
    labels: Counter = field(default_factory=Counter)
    with_label: Counter = field(default_factory=Counter)
    left_out: Counter = field(default_factory=Counter)
    left_out_at: Dict[str, List[str]] = field(default_factory=dict)
    spaces: int = 0
    crossing: int = 0
    same_label: int = 0
    other_label: int = 0
    missing: int = 0
    tells: int = 0
    inside: int = 0
    tokens: int = 0
    only_in_group: int = 0
    elsewhere: Counter = field(default_factory=Counter)


def survey(examples: Sequence[Example], target: str, overlap: bool) -> Survey:
    """Look through a corpus as a recogniser with these settings does."""
    found = Survey()
    names = sorted({span.label_ for eg in examples for span in target_spans(eg.reference, target)})
    names = sorted({*names, *(label for eg in examples for _, _, label in _unplaced(eg.reference, target))})
    labels = {label: i for i, label in enumerate(names)}
    for i, example in enumerate(examples):
        doc = example.reference
        found.documents += 1
        found.elsewhere.update(list(doc.spans))
        if doc.has_annotation("ENT_IOB"):
            found.elsewhere["ents"] += 1
        if not is_annotated(doc, target):
            continue
        found.annotated += 1
        spans = target_spans(doc, target)
        found.labels.update(span.label_ for span in spans)
        found.with_label.update({span.label_ for span in spans})
        found.tokens += len(doc)
        found.inside += len({token.i for span in spans for token in span})
        is_space = space_mask(doc)
        found.spaces += sum(bool(is_space[span.start] or is_space[span.end - 1]) for span in spans)
        if doc.has_annotation("SENT_START"):
            found.crossing += sum(any(token.is_sent_start for token in span[1:]) for span in spans)
        missing = int((doc.to_array("ENT_IOB") == 0).sum()) if target == "ents" else 0
        found.missing += missing
        found.tells += missing > 0
        _count_overlaps(found, spans)
        if target == "ents" and ALL_ENTITIES in doc.spans:
            found.only_in_group += max(0, len(doc.spans[ALL_ENTITIES]) - len(doc.ents))
        gold = gold_tags(example, target, labels, overlap, False) if labels else None
        for label, reason in gold.left_out if gold is not None else ():
            found.left_out[reason] += 1
            found.left_out_at.setdefault(reason, []).append(f"{label} in {_name(doc, i)}")
    return found


def _unplaced(doc: Doc, target: str) -> Iterable[Tuple[int, int, str]]:
    return doc.spans[target].attrs.get(UNPLACED, []) if target != "ents" and target in doc.spans else []


def _count_overlaps(found: Survey, spans: Sequence[Any]) -> None:
    active: List[Any] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        active = [other for other in active if other.end > span.start]
        same = sum(other.label == span.label for other in active)
        found.same_label += same
        found.other_label += len(active) - same
        active.append(span)


def recogniser(
    name: str, cfg: Dict[str, Any], given: Optional[Sequence[str]], train: Sequence[Example], dev: Sequence[Example]
) -> Section:
    """What a `crf_ner` finds in its corpora.

    name (str): The pipe. cfg (Dict[str, Any]): Its settings. given (Optional[Sequence[str]]): Labels that
        [initialize.components] names; None: those that are found.
    """
    target, overlap = cfg["target_spans"], cfg["overlap"]
    where = "doc.ents" if target == "ents" else f'doc.spans["{target}"]'
    in_train, in_dev = survey(train, target, overlap), survey(dev, target, overlap)
    found: List[Finding] = []
    for part, seen in (("train", in_train), ("dev", in_dev)):
        found += _annotation(name, part, seen, where)
    found += _labels(name, given, in_train, in_dev)
    for part, seen in (("train", in_train), ("dev", in_dev)):
        found += _places(name, part, seen, overlap, where)
    found += _partial(name, cfg, in_train)
    return Section(f"{name}, which reads {where}", found)


def _annotation(name: str, part: str, seen: Survey, where: str) -> Iterator[Finding]:
    """Whether there is gold where the pipe looks."""
    if not seen.documents:
        return
    places = ", ".join(f"{place} ({n:,})" for place, n in seen.elsewhere.most_common()) or "nothing"
    help = f"Documents have {places}: set [components.{name}] target_spans, or the reader's span_setter."
    if not seen.annotated:
        yield Finding("error", f"{part}: no document has annotation in {where}. {help}")
    elif not seen.labels:
        yield Finding("error" if part == "train" else "warn", f"{part}: no document has an entity in {where}. {help}")
    elif seen.annotated < seen.documents:
        absent = seen.documents - seen.annotated
        what = "are passed over in training" if part == "train" else "are not scored"
        yield Finding("warn", f"{part}: {absent:,} of {seen.documents:,} documents say nothing of {where}, and {what}.")


def _labels(name: str, given: Optional[Sequence[str]], train: Survey, dev: Survey) -> Iterator[Finding]:
    if train.labels:
        counts = _counts(train.labels)
        yield Finding(
            "info", f"train: {sum(train.labels.values()):,} entities of {len(train.labels)} labels: {counts}."
        )
    if dev.labels:
        counts = _counts(dev.labels)
        yield Finding("info", f"dev: {sum(dev.labels.values()):,} entities: {counts}.")
    if "" in train.labels:
        yield Finding("error", f"train: {train.labels['']:,} entities have an empty label.")
    if given is not None:
        absent, outside = sorted(set(given) - set(train.labels)), sorted(set(train.labels) - set(given))
        if absent:
            yield Finding("warn", f"[initialize.components.{name}] labels: none of {_named(absent)} is in train.")
        if outside:
            n = sum(train.labels[label] for label in outside)
            yield Finding(
                "warn", f"train: {n:,} entities have labels that are not given, and are left out: {_named(outside)}."
            )
    known = set(train.labels) if given is None else set(given)
    unknown = {label: n for label, n in dev.labels.items() if label not in known}
    if unknown and known:
        listed = _counts(unknown)
        what = "are missed in every score" if given is None else "are left out of the scores"
        yield Finding("warn", f"dev: entities have labels that train does not have, and {what}: {listed}.")
    lacking = sorted(label for label in train.labels if label not in dev.labels)
    if lacking and dev.labels:
        yield Finding("info", f"dev: it has none of {_named(lacking)}, so that scores say nothing of them.")
    few = {label: n for label, n in train.labels.items() if n < FEW_OF_A_LABEL}
    if few:
        yield Finding("warn", f"train: labels with fewer than {FEW_OF_A_LABEL} entities: {_counts(few)}.")
    elif train.labels:
        yield Finding("good", f"All labels have {FEW_OF_A_LABEL} entities or more in train.")
    everywhere = [label for label, n in train.with_label.items() if n == train.annotated and n > 1]
    if everywhere and train.annotated > len(everywhere):
        message = f"train: each document has {_named(sorted(everywhere))}; some should not."
        yield Finding("info", message)


def _places(name: str, part: str, seen: Survey, overlap: bool, where: str) -> Iterator[Finding]:
    """Entities that cannot be learned as they stand."""
    total = sum(seen.labels.values())
    for reason, n in seen.left_out.most_common():
        at = _named(seen.left_out_at[reason])
        help = ""
        if reason == "overlaps with a longer one" and not overlap:
            help = f" [components.{name}] overlap = true learns them, with target_spans that name a span group."
        what = "are left out of training" if part == "train" else "cannot be found"
        yield Finding("warn", f"{part}: {n:,} of {total:,} entities {what}; each {reason}: {at}.{help}")
    if seen.spaces:
        yield Finding("warn", f"{part}: {seen.spaces:,} entities begin or end with white space, which is taken off.")
    if seen.crossing:
        yield Finding("warn", f"{part}: {seen.crossing:,} entities go over the end of a sentence.")
    if seen.only_in_group:
        yield Finding(
            "info",
            f'{part}: doc.spans["{ALL_ENTITIES}"] has {seen.only_in_group:,} entities more than doc.ents, which cannot '
            f'overlap. overlap = true and target_spans = "{ALL_ENTITIES}" in [components.{name}] learn them too.',
        )
    if overlap and seen.same_label:
        yield Finding(
            "warn", f"{part}: {seen.same_label:,} pairs of entities of the same label overlap, which no chain can say."
        )
    if overlap and part == "train" and total and not seen.other_label and not seen.same_label:
        yield Finding("info", f"{part}: no entities overlap: overlap = false is quicker, and as good.")
    if total and not seen.left_out and not seen.spaces:
        yield Finding("good", f"{part}: all entities stand on whole tokens.")


def _partial(name: str, cfg: Dict[str, Any], train: Survey) -> Iterator[Finding]:
    """How `partial` meets the corpus."""
    if not train.tokens:
        return
    share = train.inside / train.tokens
    if train.missing:
        yield Finding(
            "info",
            f"train: {train.missing:,} of {train.tokens:,} tokens are marked as unknown, in {train.tells:,} documents.",
        )
    if cfg["partial"] is None:
        return
    if train.tells == train.annotated:
        yield Finding(
            "info", f'partial = "{cfg["partial"]}" changes nothing: all documents say themselves what is unknown.'
        )
    elif cfg["partial"] == "marginal" and not train.tells:
        yield Finding(
            "warn",
            f'partial = "marginal": no token is known to be in no entity, so that [components.{name}] may find '
            'entities everywhere. "expected_entity_ratio" holds their share near entity_ratio.',
        )
    if cfg["partial"] == "expected_entity_ratio" and share > cfg["entity_ratio"] + cfg["entity_ratio_margin"]:
        yield Finding(
            "warn",
            f"{share:.1%} of the tokens in train are in entities, more than entity_ratio = {cfg['entity_ratio']:g} "
            f"with its margin of {cfg['entity_ratio_margin']:g} allows: raise [components.{name}] entity_ratio.",
        )


def wordpieces(name: str, tokenizer: Any, window: int, examples: Sequence[Example]) -> Section:
    """How the encoder of a pipe sees the texts.

    tokenizer (PieceTokenizer): Its tokenizer. window (int): Wordpieces that it sees at once.
    """
    docs = [eg.predicted for eg in examples if len(eg.predicted)]
    docs = [docs[i] for i in np.unique(np.linspace(0, len(docs) - 1, min(len(docs), LOOKED_AT)).astype(int)).tolist()]
    n_tokens = n_pieces = n_unknown = n_ownerless = 0
    without: Counter = Counter()
    longest: Tuple[int, str] = (0, "")
    over = 0
    for start in range(0, len(docs), 100):
        batch = docs[start : start + 100]
        for i, (doc, pieces) in enumerate(zip(batch, tokenizer(batch)), start=start):
            n_tokens += len(doc)
            n_pieces += len(pieces.ids)
            over += len(pieces.ids) > window
            longest = max(longest, (len(pieces.ids), _name(doc, i)))
            if tokenizer.unknown_id is not None:
                n_unknown += int((pieces.ids == tokenizer.unknown_id).sum())
            n_ownerless += len(pieces.ids) - len(np.unique(pieces.token_pieces))
            bare = np.flatnonzero((pieces.token_counts == 0) & ~space_mask(doc))
            without.update(doc[i].text for i in bare.tolist())
    found = [
        Finding(
            "info",
            f"{n_pieces:,} wordpieces for {n_tokens:,} tokens of {len(docs):,} documents, "
            f"{n_pieces / max(1, n_tokens):.2f} for each; the longest document, {longest[1]}, has {longest[0]:,}.",
        )
    ]
    if over:
        message = f"{over:,} documents are longer than a window of {window}: they go through in several, uncut."
        found.append(Finding("info", message))
    if without:
        named = _named([f'"{text}" ({n:,})' for text, n in without.most_common()])
        found.append(
            Finding("warn", f"{sum(without.values()):,} tokens that are no white space get no wordpiece: {named}.")
        )
    if n_ownerless:
        found.append(Finding("warn", f"{n_ownerless:,} wordpieces belong to no token, so that nobody reads them."))
    if n_unknown:
        level: Level = "warn" if n_unknown > 0.005 * n_pieces else "info"
        share = f"{n_unknown:,} wordpieces ({n_unknown / n_pieces:.2%})"
        found.append(Finding(level, f"{share} are the one for unknown text. Does the encoder know the language?"))
    if not (without or n_ownerless or n_unknown):
        found.append(Finding("good", "Every token has its wordpieces, every wordpiece its token, and none is unknown."))
    return Section(f"Wordpieces of {name}", found)


def of_pipe(examples: Sequence[Example], pipe: str, corpora: Dict[str, Any]) -> List[Example]:
    """The examples that a pipe learns from. corpora (Dict[str, CorpusExtras]): Settings of single corpora."""

    def learns(example: Example) -> bool:
        extras = corpora.get(example.corpus) if isinstance(example, CorpusExample) else None
        return extras is None or extras.pipes is None or pipe in extras.pipes

    return [example for example in examples if learns(example)]


def score_weights(nlp: Language, pipes: Dict[str, Dict[str, Any]], weights: Dict[str, Any]) -> Section:
    """Whether the score that chooses the best pipeline sees what the recognisers write."""
    found = []
    seen: Set[str] = set()
    for name, cfg in pipes.items():
        output = cfg["output_spans"]
        key = "ents_f" if output == "ents" else f"spans_{output}_f"
        seen.add(key)
        if not any(weight for score, weight in weights.items() if score.startswith(key.removesuffix("f"))):
            found.append(
                Finding(
                    "warn",
                    f"{name}: its score {key} does not choose the best pipeline. Set it in [training.score_weights].",
                )
            )
    spans = [score for score, weight in weights.items() if weight and score.startswith(("ents_", "spans_"))]
    written = {key.removesuffix("f") for key in seen}
    for score in spans:
        if score.endswith("_f") and score.removesuffix("f") not in written and set(nlp.pipe_names) == set(pipes):
            found.append(Finding("warn", f"[training.score_weights] {score}: no pipe writes what it scores."))
    return Section("Scores", found or [Finding("good", "The best pipeline is chosen by what the recognisers write.")])


def _digest(doc: Doc) -> str:
    return Document("", doc.text).digest


def _name(doc: Doc, number: int) -> str:
    """What a document is called, or that it is the n-th of its corpus."""
    return str(doc.user_data.get(ID) or f"document {number + 1}")


def _named(names: Sequence[str]) -> str:
    more = f", and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _counts(labels: Mapping[str, int]) -> str:
    """The most frequent first."""
    return ", ".join(f"{label} {n:,}" for label, n in sorted(labels.items(), key=lambda pair: (-pair[1], pair[0])))
