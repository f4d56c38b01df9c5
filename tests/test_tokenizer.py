import pickle
from typing import Any, List

import pytest
import spacy
from spacy.language import Language
from spacy.tokenizer import Tokenizer
from spacy.tokens import Doc

from spacy_crf_ner import tokenizer as room
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


def test_what_is_behind_a_special_case_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    def searches(nlp: Language) -> int:
        """Regular expressions that were run for a text that has been there before."""
        found = []
        search = nlp.tokenizer.prefix_search
        nlp.tokenizer.prefix_search = lambda text: found.append(text) or search(text)
        for _ in range(2):
            found.clear()
            nlp.make_doc(TEXT)
        return len(found)

    assert searches(spacy.blank("en")) > 100
    # but for what holds a special case itself, such as (e.g.
    assert searches(ours()) < 20
    monkeypatch.setattr(room, "LONG", len(TEXT) + 1)
    assert searches(ours()) > 100


def test_special_cases_can_be_added() -> None:
    nlp, plain = ours(), spacy.blank("en")
    for each in (nlp, plain):
        each.make_doc(TEXT)
        each.tokenizer.add_special_case("pellet", [{"ORTH": "pel"}, {"ORTH": "let"}])
    assert cut(nlp.make_doc(TEXT)) == cut(plain.make_doc(TEXT))
    assert "pel" in [token.text for token in nlp.make_doc(TEXT)]


def test_it_is_pickled_and_stored(tmp_path: Any) -> None:
    nlp = ours()
    nlp.tokenizer.add_special_case("pellet", [{"ORTH": "pel"}, {"ORTH": "let"}])
    nlp.to_disk(tmp_path)
    for again in (spacy.load(tmp_path), pickle.loads(pickle.dumps(nlp))):
        assert type(again.tokenizer) is room.RememberingTokenizer
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
    assert isinstance(ours().tokenizer, Tokenizer)
