"""Our tokenizer against spaCy's: the same tokens, fewer searches."""

import pickle
from typing import Any, List

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc

from spacy_crf_ner import tokenizer as tokenizer_module
from spacy_crf_ner.cli.init_config import make_config

TEXT = (
    "Add 5 ml of PBS (e.g. Dulbecco's) and don't shake!  \n\nIncubate at 37°C for 30 min.;\tspin down, i.e. 300xg \xa0 "
    "(see Fig.2/3), re-suspend the pellet :) in a 1.5-ml tube.\r\n U.S. suppliers' tubes won't do... "
) * 5


def ours(lang: str = "en") -> Language:
    return spacy.blank(lang, config={"nlp": {"tokenizer": {"@tokenizers": "spacy_crf_ner.Tokenizer.v1"}}})


def cut(doc: Doc) -> List[Any]:
    return [(token.text, token.whitespace_, token.norm_) for token in doc]


@pytest.mark.parametrize("lang", ["en", "de", "fr", "xx"])
def test_tokens_are_those_of_spacy(lang: str) -> None:
    nlp, plain = ours(lang), spacy.blank(lang)
    for _ in range(2):
        for text in (TEXT, TEXT[::-1], TEXT[:40], ""):
            assert cut(nlp.make_doc(text)) == cut(plain.make_doc(text))


class Searches:
    """Counts how often a tokenizer runs a regular expression over what it does not remember."""

    def __init__(self, nlp: Language) -> None:
        self.nlp = nlp
        self._search = nlp.tokenizer.prefix_search
        self._n = 0
        nlp.tokenizer.prefix_search = self

    def __call__(self, text: str) -> Any:
        self._n += 1
        return self._search(text)

    def of(self, text: str) -> int:
        self._n = 0
        self.nlp.make_doc(text)
        return self._n


def test_what_is_behind_a_special_case_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    def second_time(nlp: Language) -> int:
        searches = Searches(nlp)
        searches.of(TEXT)
        return searches.of(TEXT)

    assert second_time(spacy.blank("en")) > 100
    # but for what holds a special case itself, such as (e.g., and white space
    assert second_time(ours()) < 40
    monkeypatch.setattr(tokenizer_module, "LONG", len(TEXT) + 1)
    assert second_time(ours()) > 100


def test_words_are_looked_at_once() -> None:
    searches = Searches(ours())
    text = " ".join(f"word{i}" for i in range(500))
    first = searches.of(text)
    assert 500 <= first < 600
    assert searches.of(text) == 0


def test_as_many_words_are_remembered_as_spacy_has_room_for_and_the_first_to_come() -> None:
    for nlp in (ours(), spacy.blank("en")):
        searches = Searches(nlp)
        words = " ".join(f"zebra{i}" for i in range(2000))
        searches.of(words + " " + " ".join(f"{i}a" for i in range(20_000)))
        assert searches.of(words) == 0
        if isinstance(nlp.tokenizer, tokenizer_module.RememberingTokenizer):
            assert len(nlp.tokenizer._seen) == nlp.tokenizer.max_cache_size == 10_000


def test_rules_can_be_changed() -> None:
    nlp, plain = ours(), spacy.blank("en")
    for each in (nlp, plain):
        each.make_doc(TEXT)
        each.tokenizer.add_special_case(string="pellet", substrings=[{"ORTH": "pel"}, {"ORTH": "let"}])
    assert not nlp.tokenizer._seen
    assert cut(nlp.make_doc(TEXT)) == cut(plain.make_doc(TEXT))
    assert "pel" in [token.text for token in nlp.make_doc(TEXT)]
    searches = Searches(nlp)
    searches.of(TEXT)
    assert searches.of(TEXT) < 40
    nlp.tokenizer.rules = plain.tokenizer.rules = {}
    assert cut(nlp.make_doc(TEXT)) == cut(plain.make_doc(TEXT))


def test_it_is_pickled_and_stored(tmp_path: Any) -> None:
    nlp = ours()
    nlp.tokenizer.add_special_case("pellet", [{"ORTH": "pel"}, {"ORTH": "let"}])
    nlp.to_disk(tmp_path)
    for again in (spacy.load(tmp_path), pickle.loads(pickle.dumps(nlp))):
        assert type(again.tokenizer) is tokenizer_module.RememberingTokenizer
        assert cut(again.make_doc(TEXT)) == cut(nlp.make_doc(TEXT))


def test_nothing_is_remembered_of_a_memory_zone() -> None:
    nlp, plain = ours(), spacy.blank("en")
    for each in (nlp, plain):
        with each.memory_zone():
            each.make_doc(TEXT)
    assert len(nlp.vocab) == len(plain.vocab)
    assert cut(nlp.make_doc(TEXT)) == cut(plain.make_doc(TEXT))


def test_configs_have_it_where_the_language_has_spacys_tokenizer() -> None:
    def tokenizer(lang: str) -> Any:
        return make_config(lang, None, None, None, "cnn_crf")["nlp"]["tokenizer"]

    assert tokenizer("de") == {"@tokenizers": "spacy_crf_ner.Tokenizer.v1"}
    assert tokenizer("zh") == {"@tokenizers": "spacy.zh.ChineseTokenizer", "segmenter": "char"}
