"""spaCy's tokenizer, quick on long texts too."""

from itertools import islice
from typing import Any, Callable, Set

from spacy.language import Language, create_tokenizer
from spacy.tokenizer import Tokenizer
from spacy.tokens import Doc

# Characters of a text from which on it pays to look through its words first.
LONG = 1000


class RememberingTokenizer(Tokenizer):
    """spaCy's rule-based tokenizer: the same tokens, with more words remembered.

    spaCy remembers how it has cut a word, but in each text only those before the first special case (*e.g.*, *don't*):
    what comes after is cut anew wherever it occurs, some twenty times slower. Here the new words of a long text are cut
    by themselves first, so that all of them are remembered but those with a special case inside. There are never more
    than spaCy has room for (`max_cache_size`); the first to come stay.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._seen: Set[str] = set()
        super().__init__(*args, **kwargs)

    def __call__(self, string: str) -> Doc:
        room = self.max_cache_size - len(self._seen)
        # in a memory zone nothing is remembered
        if len(string) >= LONG and room > 0 and not self.vocab.in_memory_zone:
            words = (word for word in dict.fromkeys(string.split()) if word not in self._seen)
            new = list(islice(words, room))
            for word in new:
                super().__call__(word)
            self._seen.update(new)
        return super().__call__(string)

    def _flush_cache(self) -> None:
        """spaCy calls it when rules change."""
        super()._flush_cache()
        self._seen.clear()


def make_tokenizer() -> Callable[[Language], Tokenizer]:
    """spaCy's tokenizer with the rules of the language, quick on long texts too, for `[nlp.tokenizer]`."""

    def make(nlp: Language) -> Tokenizer:
        plain = create_tokenizer()(nlp)
        return RememberingTokenizer(
            nlp.vocab,
            rules=plain.rules,
            prefix_search=plain.prefix_search,
            suffix_search=plain.suffix_search,
            infix_finditer=plain.infix_finditer,
            token_match=plain.token_match,
            url_match=plain.url_match,
        )

    return make
