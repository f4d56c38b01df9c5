"""What all readers of annotation files share: where entities go, limits, samples, augmentation."""

from collections import Counter
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest
import spacy
from spacy.language import Language
from spacy.training import Example
from spacy.util import registry

from spacy_crf_ner.corpora.readers import Columns, Standoff, draw

NLP = spacy.blank("en")
LABELS = ["DRUG", "PLACE", "DRUG", "PERSON", "PLACE", "DRUG", "PERSON", "DRUG"]


def standoff(folder: Path) -> Path:
    path = folder / "brat"
    path.mkdir()
    for i, label in enumerate(LABELS):
        (path / f"d{i}.txt").write_text(f"Word{i} here")
        (path / f"d{i}.ann").write_text(f"T1\t{label} 0 5\tWord{i}\n")
    return path


def columns(folder: Path) -> Path:
    path = folder / "x.conll"
    path.write_text("".join(f"Word{i}\tB-{label}\nhere\tO\n\n" for i, label in enumerate(LABELS)))
    return path


READERS = [pytest.param((Standoff, standoff), id="standoff"), pytest.param((Columns, columns), id="columns")]


@pytest.fixture(params=READERS)
def make(request: Any, tmp_path: Path) -> Callable[..., List[Example]]:
    """A function of settings that gives the examples of a reader over eight documents."""
    reader, write = request.param
    path = write(tmp_path)
    return lambda **settings: list(reader(path, **settings)(NLP))


def words(examples: List[Example]) -> List[str]:
    return [example.reference[0].text for example in examples]


def groups(example: Example) -> dict:
    doc = example.reference
    return {"ents": [e.label_ for e in doc.ents], **{k: [s.label_ for s in g] for k, g in doc.spans.items()}}


def test_entities_go_where_the_setter_says(make: Callable) -> None:
    drug = make(span_setter="found")[0]
    assert groups(drug) == {"ents": [], "found": ["DRUG"]}
    drug = make(span_setter=["ents", "a", "b"])[0]
    assert groups(drug) == {"ents": ["DRUG"], "a": ["DRUG"], "b": ["DRUG"]}
    examples = make(span_setter={"ents": True, "drugs": ["DRUG"], "people": ["PERSON", "PLACE"]})
    assert groups(examples[0]) == {"ents": ["DRUG"], "drugs": ["DRUG"], "people": []}
    assert groups(examples[1]) == {"ents": ["PLACE"], "drugs": [], "people": ["PLACE"]}
    examples = make(span_setter={"ents": True, "DRUG": "found", "PLACE": "people", "found": ["PLACE"]})
    assert groups(examples[0]) == {"ents": ["DRUG"], "found": ["DRUG"], "people": []}
    assert groups(examples[1]) == {"ents": ["PLACE"], "found": ["PLACE"], "people": ["PLACE"]}


def test_a_setter_of_a_config_is_what_it_says(tmp_path: Path) -> None:
    block = {"@readers": "spacy_crf_ner.Standoff.v1", "path": standoff(tmp_path)}
    block["span_setter"] = {"ents": False, "drugs": True, "DRUG": "found"}
    example = next(iter(registry.resolve({"reader": block})["reader"](NLP)))
    assert groups(example) == {"ents": [], "drugs": ["DRUG"], "found": ["DRUG"]}


def test_labels_that_go_nowhere_are_counted(make: Callable, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="spacy"):
        examples = make(span_setter={"drugs": ["DRUG"]})
    assert sum(len(example.reference.spans["drugs"]) for example in examples) == 4
    assert "8 entities annotated, 4 kept" in caplog.text
    assert "4 × label without a place" in caplog.text


@pytest.mark.parametrize("setter", [{"ents": "DRUG"}, {"ents": 1.5}, {"DRUG": ""}, {}, []])
def test_a_setter_that_says_nothing_is_an_error(setter: Any, make: Callable) -> None:
    with pytest.raises(ValueError, match="span_setter"):
        make(span_setter=setter)


def test_the_limit_counts_documents_as_spacys_does(make: Callable) -> None:
    def twice(nlp: Language, example: Example) -> Iterator[Example]:
        yield example
        yield example

    assert words(make(limit=3)) == ["Word0", "Word1", "Word2"]
    assert words(make(limit=2, augmenter=twice)) == ["Word0", "Word0", "Word1", "Word1"]
    assert len(make(limit=0)) == len(make(limit=100)) == 8
    with pytest.raises(ValueError, match="limit = -1"):
        make(limit=-1)


def test_a_sample_is_seeded_and_in_order(make: Callable) -> None:
    drawn = [words(make(sample=4, seed=seed)) for seed in range(20)]
    assert drawn == [words(make(sample=4, seed=seed)) for seed in range(20)]
    assert len({tuple(found) for found in drawn}) > 10
    assert all(found == sorted(set(found)) and len(found) == 4 for found in drawn)
    assert words(make(sample=4, seed=1, limit=2)) == drawn[1][:2]
    assert words(make(sample=9)) == words(make())
    with pytest.raises(ValueError, match="sample = 0"):
        make(sample=0)


def test_every_item_is_drawn_as_often_as_any_other() -> None:
    found = Counter(item for seed in range(6000) for item in draw(range(10), 3, seed))
    # 6,000 draws of 3 of 10: 1,800 each, with a standard deviation of 35
    assert all(abs(found[item] - 1800) < 5 * 35 for item in range(10))


def test_an_augmenter_may_make_none_or_others(make: Callable) -> None:
    def only_people(nlp: Language, example: Example) -> Iterator[Example]:
        if example.reference.ents[0].label_ == "PERSON":
            yield Example(nlp.make_doc("Someone"), nlp.make_doc("Someone"))

    assert words(make(augmenter=only_people)) == ["Someone", "Someone"]
