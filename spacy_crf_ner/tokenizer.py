"""spaCy's tokenizer, as fast on long texts as on short ones."""

import re
from typing import Any, Callable, Set

from spacy.language import Language, create_tokenizer
from spacy.tokenizer import Tokenizer
from spacy.tokens import Doc

# Characters of a text from which on it pays to look through its words first.
LONG = 1000
# What spaCy cuts one by one: words, and white space but for the single space after a word.
_CHUNKS = re.compile(r"\S+|[^\S ]\s*")


class RememberingTokenizer(Tokenizer):
    """spaCy's rule-based tokenizer: the same tokens, and every word remembered.

    spaCy remembers how it has cut a word, but in each text only those before the first special case (*e.g.*, *don't*):
    what comes after is cut anew wherever it occurs, some twenty times slower. Here the new words of a long text are cut
    by themselves before the text is; there are as many of them as spaCy remembers (`max_cache_size`).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._seen: Set[str] = set()
        super().__init__(*args, **kwargs)

    def __call__(self, string: str) -> Doc:
        # in a memory zone nothing is remembered
        if len(string) >= LONG and len(self._seen) < self.max_cache_size and not self.vocab.in_memory_zone:
            new = set(_CHUNKS.findall(string)) - self._seen
            for chunk in sorted(new):
                super().__call__(chunk)
            self._seen |= new
        return super().__call__(string)

    def add_special_case(self, *args: Any) -> None:
        super().add_special_case(*args)
        # spaCy forgets everything then
        self._seen.clear()


def make_tokenizer() -> Callable[[Language], Tokenizer]:
    """`spacy_crf_ner.Tokenizer.v1`: spaCy's tokenizer with the rules of the language, quick on long texts too."""

    def make(nlp: Language) -> Tokenizer:
        _, parts, *_ = create_tokenizer()(nlp).__reduce__()
        return RememberingTokenizer(*parts)

    return make
