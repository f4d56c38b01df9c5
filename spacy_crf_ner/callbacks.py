"""Callbacks for the config."""

from typing import Callable

from spacy.language import Language


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
