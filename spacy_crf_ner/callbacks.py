"""Callbacks for the config."""

from collections import Counter
from itertools import islice
from typing import Any, Callable, Iterable, List, Optional

from spacy.language import Language
from spacy.training import Example
from spacy.util import logger, resolve_dot_names


def max_length(characters: int = 10**9) -> Callable[[Language], Language]:
    """Let a pipeline take texts of up to so many characters, for `[nlp.after_pipeline_creation]`.

    spaCy's own limit of a million is for pipes whose memory grows with the square of the text, or by megabytes a
    sentence. In a pipeline of ours it grows by a few kilobytes a token.

    RAISES (ValueError): characters is less than 1.
    """
    if characters < 1:
        raise ValueError(f"spacy_crf_ner.max_length.v1: characters = {characters} must be at least 1.")
    return MaxLength(characters)


class MaxLength:
    """See `max_length`. A class rather than a closure, so that it pickles."""

    def __init__(self, characters: int) -> None:
        self._characters = characters

    def __call__(self, nlp: Language) -> Language:
        nlp.max_length = max(nlp.max_length, self._characters)
        return nlp


def set_labels(pipe: str = "crf_ner", labels: Optional[List[str]] = None) -> Callable[[Language], Language]:
    """Give a trained recogniser other labels before it is trained on, for `[initialize.after_init]`.

    spaCy does not initialize a pipe that is taken from another pipeline (`source = ...`), so that it keeps the labels
    that it has. What it knows of labels that stay is kept to the last bit; new ones begin at random, by the seed.

    pipe (str): Its name.
    labels (Optional[List[str]]): All labels that it is to have; those that it has and that are not among them are
        removed. null: those that it has, and those found in the training corpus (with max_epochs = -1 in its first
        100 documents).
    RAISES (ValueError): There is no label, or one stands there twice. When it is called: there is no such pipe, or it
        is no crf_ner.
    """
    if labels is not None and (not labels or len({*labels}) < len(labels)):
        raise ValueError(
            f"[initialize.after_init] labels = {labels}: it is null, or a list of labels of which none stands there "
            "twice."
        )
    return SetLabels(pipe, labels)


class SetLabels:
    """See `set_labels`. A class rather than a closure, so that it pickles."""

    def __init__(self, pipe: str, labels: Optional[List[str]]) -> None:
        self._pipe = pipe
        self._labels = labels

    def __call__(self, nlp: Language) -> Language:
        pipe = self._find(nlp)
        found = pipe.count_labels(_training_examples(nlp))
        labels = [*pipe.labels, *sorted(found.keys() - {*pipe.labels})] if self._labels is None else self._labels
        added, removed = pipe.set_labels(labels)
        pipe.cfg["labels_given"] = self._labels is not None
        kept = [label for label in labels if label not in added]
        listed = (", ".join(names) or "none" for names in (added, removed, kept))
        logger.info("%s: labels added: %s; removed: %s; kept: %s.", self._pipe, *listed)
        outside = Counter({label: n for label, n in found.items() if label not in labels})
        if outside:
            logger.warning(
                "%s: %d of %d gold entities are left out of training: they have labels outside the given list: %s.",
                self._pipe, sum(outside.values()), sum(found.values()), ", ".join(sorted(outside)),
            )  # fmt: skip
        return nlp

    def _find(self, nlp: Language) -> Any:
        place = f'[initialize.after_init] pipe = "{self._pipe}"'
        if self._pipe not in nlp.component_names:
            raise ValueError(f"{place}: there is no such pipe. There are {', '.join(nlp.component_names)}.")
        pipe = nlp.get_pipe(self._pipe)
        if not hasattr(pipe, "set_labels"):
            raise ValueError(f"{place}: it is a {type(pipe).__name__}, and this callback is for a crf_ner.")
        return pipe


def _training_examples(nlp: Language) -> Iterable[Example]:
    """What `[training] train_corpus` gives."""
    config = nlp.config.interpolate()
    (corpus,) = resolve_dot_names(config, [config["training"]["train_corpus"]])
    examples = corpus(nlp)
    return islice(examples, 100) if config["training"]["max_epochs"] == -1 else examples
