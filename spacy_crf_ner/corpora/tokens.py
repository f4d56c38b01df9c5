"""Tokens that a file has: where they stand in its text, and entities from their tags."""

import re
from bisect import bisect_left, bisect_right
from typing import Dict, List, Optional, Sequence, Tuple

from .columns import NO_ENTITY_KNOWN, parse_tag, tag_spans
from .document import Document, Entity, Problem

Place = Tuple[int, int]


def find_words(text: str, words: Sequence[str]) -> Optional[List[Place]]:
    """First character and last + 1 of each word; None where they are not the text, but for white space between them."""
    places = []
    at = 0
    for word in words:
        while not text.startswith(word, at):
            if at >= len(text) or not text[at].isspace():
                return None
            at += 1
        places.append((at, at + len(word)))
        at += len(word)
    return None if text[at:].strip() else places


def join_words(words: Sequence[str]) -> Tuple[str, List[Place]]:
    """A text of words with a space between them, and the place of each."""
    places = []
    at = 0
    for word in words:
        places.append((at, at + len(word)))
        at += len(word) + 1
    return " ".join(words), places


def covering(text: str, places: Sequence[Place]) -> Tuple[List[Place], List[int]]:
    """Tokens of all that is in a text, as spaCy wants them: one space at most between two, all else in tokens.

    places (Sequence[Tuple[int, int]]): First character and last + 1 of the tokens that there are, none of them empty,
        in order.
    RETURNS (Tuple[List[Tuple[int, int]], List[int]]): Those and new ones for what is between them, and the index of
        each of `places`.
    """
    whole: List[Place] = []
    indices = []
    at = 0
    for start, end in [*places, (len(text), len(text))]:
        # after a token one space belongs to it
        gap = at + 1 if whole and text.startswith(" ", at) and at < start else at
        if gap < start:
            whole.append((gap, start))
        if start < end:
            indices.append(len(whole))
            whole.append((start, end))
        at = end
    return whole, indices


def set_tokens(document: Document, places: Sequence[Place], sentences: Sequence[int] = ()) -> None:
    """Give a document its tokens. sentences (Sequence[int]): Which of them begin sentences."""
    document.tokens, indices = covering(document.text, places)
    # what comes before the first token is of the first sentence
    document.sentences = sorted({indices[i] if i else 0 for i in sentences})


def token_at(document: Document, character: int) -> int:
    """Which token a character stands in, or the last before it; -1: there is none."""
    return bisect_right(document.tokens or [], character, key=lambda place: place[0]) - 1


def set_tags(
    document: Document, places: Sequence[Place], tags: Sequence[str], sentences: Sequence[int], scheme: str, line: int
) -> None:
    """Make entities of the tags of tokens. What breaks the scheme is repaired and reported.

    places (Sequence[Tuple[int, int]]): First character and last + 1 of each token, which may be empty. tags
        (Sequence[str]): One for each. sentences (Sequence[int]): Which of them begin sentences. line (int): Where they
        stand in the file.
    """
    name = f"{document.source}:{line}"
    bounds = [*(sentences or [0]), len(places)]
    for first, last in zip(bounds, bounds[1:]):
        cells: List[Dict[str, str]] = [parse_tag(tag) or {} for tag in tags[first:last]]
        for start, end, label, broken in tag_spans(cells, scheme):
            place = (places[first + start][0], places[first + end - 1][1])
            text = document.text[slice(*place)]
            if place[0] == place[1]:
                message = f"an entity ({label}) has tokens without any character: left out."
                document.problems.append(Problem(name, "entity without text", message))
                document.unread += 1
                continue
            if broken:
                message = f'"{text}" ({label}): {broken}; it was taken for an entity.'
                document.problems.append(Problem(name, f"{scheme.upper()} repaired", message, False))
            document.entities.append(Entity(label, [place], line=line))
    document.entities.sort(key=lambda entity: (entity.start, -entity.end, entity.label))
    solid = [i for i, (start, end) in enumerate(places) if start < end]
    begins = {bisect_left(solid, first) for first in sentences} - {len(solid)}
    set_tokens(document, [places[i] for i in solid], sorted(begins))
    unknown = [places[i][0] for i in solid if tags[i] in NO_ENTITY_KNOWN]
    document.unknown = [token_at(document, character) for character in unknown]


def is_tag(value: str) -> bool:
    return parse_tag(value) is not None


def has_prefix(value: str) -> bool:
    """Whether a tag is more than a label: B-PER, not PER."""
    return bool(re.match(r"[BIELSUMW]-.", value))
