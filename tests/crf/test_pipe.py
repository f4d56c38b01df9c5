import copy
import pickle
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from thinc.api import Adam, fix_random_seed

from spacy_crf_ner.crf.confidence import ScoredSpan
from spacy_crf_ner.crf.model import head_module
from spacy_crf_ner.tagging import TagSpan
from spacy_crf_ner.training.optimizer import make_adamw

from ..conftest import TEXTS, entities, found, make_examples, make_nlp, train

MODES = ["joint", "marginal", "independent"]


def gold(examples: list) -> list:
    return [entities(example.reference) for example in examples]


# Learning


@pytest.mark.parametrize("mode", MODES)
def test_it_learns_a_small_corpus_by_heart(encoder: str, mode: str) -> None:
    nlp = make_nlp(encoder, mode=mode)
    examples = make_examples(nlp)
    train(nlp, examples)
    docs = list(nlp.pipe(text for text, _ in TEXTS))
    assert [entities(doc) for doc in docs] == gold(examples)
    for doc in docs:
        assert [(a, b, label) for a, b, label, _ in found(doc)] == entities(doc)
        assert all(0.5 < p <= 1 for *_, p in found(doc))
    scores = nlp.evaluate(examples)
    assert scores["ents_f"] == scores["ents_macro_f"] == 1.0


def test_independent_mode_learns_no_transitions(encoder: str) -> None:
    nlp = make_nlp(encoder, mode="independent")
    train(nlp, make_examples(nlp), steps=3)
    assert not head_module(nlp.get_pipe("crf_ner").model).crf.transitions.any()


def test_overlapping_entities_of_different_labels(encoder: str) -> None:
    nlp = make_nlp(encoder, overlap=True, target_spans="all", output_spans="found")
    examples = make_examples(nlp, "all")
    for example in examples:
        knee = [t.i for t in example.reference if t.text == "knee"]
        for i in knee:
            example.reference.spans["all"].append(Span(example.reference, i - 1, i + 1, label="PART"))
    train(nlp, examples, steps=100)
    assert head_module(nlp.get_pipe("crf_ner").model).crf.transitions.shape == (4, 5, 5)
    doc = nlp("Pain in the left knee since Monday .")
    assert sorted((s.start, s.end, s.label_) for s in doc.spans["found"]) == [(0, 5, "PROBLEM"), (3, 5, "PART")]
    assert not doc.ents
    scores = nlp.evaluate(examples)
    assert scores["spans_found_f"] == 1.0
    assert "ents_f" not in scores


def test_same_seed_same_weights(encoder: str) -> None:
    runs = []
    for _ in range(2):
        fix_random_seed(5)
        nlp = make_nlp(encoder)
        runs.append(train(nlp, make_examples(nlp), steps=3).to_bytes(exclude=["tokenizer"]))
    assert runs[0] == runs[1]


def test_loss_is_the_mean_over_tokens_and_its_gradient_is_right(encoder: str) -> None:
    nlp = make_nlp(encoder)
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    pipe = nlp.get_pipe("crf_ner")
    emissions = pipe.model.predict([example.x for example in examples])
    loss, gradients = pipe.get_loss(examples, emissions)
    each = [pipe.get_loss([example], [e])[0] for example, e in zip(examples, emissions)]
    lengths = [len(example.x) for example in examples]
    assert loss == pytest.approx(np.dot(each, lengths) / sum(lengths), rel=1e-4)
    direction = [np.random.default_rng(0).normal(size=e.shape).astype("f") for e in emissions]
    up = pipe.get_loss(examples, [e + 1e-2 * d for e, d in zip(emissions, direction)])[0]
    down = pipe.get_loss(examples, [e - 1e-2 * d for e, d in zip(emissions, direction)])[0]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction))
    assert (up - down) / 2e-2 == pytest.approx(slope, rel=0.01)


def test_documents_without_gold_teach_nothing(encoder: str) -> None:
    nlp = make_nlp(encoder)
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    before = nlp.get_pipe("crf_ner").model.to_bytes()
    bare = [
        Example(nlp.make_doc("Fever in Lyon"), nlp.make_doc("Fever in Lyon")),
        Example(nlp.make_doc(""), nlp.make_doc("")),
    ]
    losses = nlp.update(bare, sgd=make_adamw())
    assert losses == {"crf_ner": 0.0}
    pipe = nlp.get_pipe("crf_ner")
    assert pipe.model.to_bytes() == before
    mixed = [*bare, examples[0]]
    emissions = pipe.model.predict([example.x for example in mixed])
    loss, gradients = pipe.get_loss(mixed, emissions)
    assert not gradients[0].any()
    assert gradients[2].any()
    assert loss == pytest.approx(pipe.get_loss([examples[0]], emissions[2:])[0], rel=1e-5)


def test_partial_modes_do_not_punish_what_is_not_marked(encoder: str) -> None:
    losses = {}
    for partial in (None, "marginal", "expected_entity_ratio"):
        fix_random_seed(0)
        nlp = make_nlp(encoder, partial=partial, entity_ratio=0.9, entity_ratio_margin=0.0, entity_ratio_weight=2.0)
        examples = make_examples(nlp)
        nlp.initialize(lambda corpus=examples: corpus)
        pipe = nlp.get_pipe("crf_ner")
        emissions = pipe.model.predict([example.x for example in examples])
        losses[partial], gradients = pipe.get_loss(examples, emissions)
        assert any(g.any() for g in gradients)
        # by itself, a text in which nothing is marked says nothing
        assert gradients[5].any() == (partial != "marginal")
    assert losses["marginal"] < losses[None]
    outside = []
    for doc, row in zip([example.x for example in examples], emissions):
        possible = pipe._possible([doc], clamp=False)
        scores = head_module(pipe.model).crf.forward_backward(
            torch.tensor(row)[None], torch.tensor([len(doc)]), possible
        )
        outside += scores.log_marginals()[0, :, 0].exp().tolist()
    penalty = 2.0 * abs(1 - sum(outside) / len(outside) - 0.9)
    assert losses["expected_entity_ratio"] == pytest.approx(losses["marginal"] + penalty, rel=1e-3)


# Labels


def test_labels_are_found_or_given(encoder: str) -> None:
    nlp = make_nlp(encoder)
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    pipe = nlp.get_pipe("crf_ner")
    assert pipe.labels == ("DRUG", "PLACE", "PROBLEM")
    assert pipe.label_data == ["DRUG", "PLACE", "PROBLEM"]
    given = make_nlp(encoder)
    given.config["initialize"]["components"]["crf_ner"] = {"labels": ["PROBLEM", "DRUG"]}
    train(given, examples)
    assert given.get_pipe("crf_ner").labels == ("PROBLEM", "DRUG")
    scores = given.evaluate(examples)
    assert scores["ents_f"] == 1.0, "gold of other labels is left out of scoring"
    assert set(scores["ents_per_type"]) == {"PROBLEM", "DRUG"}


def test_labels_that_only_dev_has_are_missed_with_a_warning(encoder: str, caplog: pytest.LogCaptureFixture) -> None:
    nlp = make_nlp(encoder)
    examples = make_examples(nlp)
    train(nlp, examples[1:4])
    with caplog.at_level("WARNING", logger="spacy"):
        scores = nlp.evaluate(examples)
        nlp.evaluate(examples)
    assert caplog.text.count("3 of 9 gold entities have labels that training did not have, and are missed: PLACE.") == 1
    assert scores["ents_per_type"]["PLACE"] == {"p": 0.0, "r": 0.0, "f": 0.0}
    assert scores["ents_r"] < 1


@pytest.mark.parametrize("overlap", [False, True])
def test_a_new_label_leaves_the_old_scores_as_they_are(encoder: str, overlap: bool) -> None:
    settings = {"overlap": True, "target_spans": "all"} if overlap else {}
    nlp = make_nlp(encoder, **settings)
    train(nlp, make_examples(nlp, "all" if overlap else ""))
    pipe = nlp.get_pipe("crf_ner")
    doc = nlp.make_doc(TEXTS[0][0])
    before, transitions = pipe.model.predict([doc])[0], head_module(pipe.model).crf.transitions.detach().clone()
    assert pipe.add_label("NEW") == 1
    assert pipe.add_label("NEW") == 0
    after, grown = pipe.model.predict([doc])[0], head_module(pipe.model).crf.transitions
    n = before.shape[1]
    assert after.shape[1] == n + (5 if overlap else 4)
    np.testing.assert_allclose(after[:, :n], before, atol=1e-6)
    old = tuple(slice(0, size) for size in transitions.shape)
    assert torch.equal(grown[old], transitions)
    pipe.remove_label("NEW")
    np.testing.assert_allclose(pipe.model.predict([doc])[0], before, atol=1e-6)
    with pytest.raises(ValueError, match='no label "NEW"'):
        pipe.remove_label("NEW")


@pytest.mark.parametrize("overlap", [False, True])
def test_removing_a_label_keeps_the_others_in_place(encoder: str, overlap: bool) -> None:
    settings = {"overlap": True, "target_spans": "all"} if overlap else {}
    nlp = make_nlp(encoder, **settings)
    train(nlp, make_examples(nlp, "all" if overlap else ""), steps=60)
    before = {s[:3] for text, _ in TEXTS for s in found(nlp(text))}
    nlp.get_pipe("crf_ner").remove_label("DRUG")
    after = {s[:3] for text, _ in TEXTS for s in found(nlp(text))}
    assert {s for s in after if s[2] != "DRUG"} >= {s for s in before if s[2] != "DRUG"}
    assert not any(s[2] == "DRUG" for s in after)


def test_labels_can_be_added_before_initialization(encoder: str) -> None:
    nlp = make_nlp(encoder)
    nlp.get_pipe("crf_ner").add_label("EXTRA")
    nlp.initialize(lambda: make_examples(nlp))
    assert nlp.get_pipe("crf_ner").labels == ("DRUG", "EXTRA", "PLACE", "PROBLEM")
    nlp("Fever in Lyon")


# Prediction


def test_entities_do_not_depend_on_batch_mates(trained: Language) -> None:
    rng = np.random.default_rng(0)
    words = [w for text, _ in TEXTS for w in text.split()] + ["\n", "  "]
    texts = [" ".join(rng.choice(words, size=n)) for n in [0, 1, 2, 5, 90, 300, 7, 33, 4, 150]]
    alone = [found(trained(text)) for text in texts]
    assert sum(map(len, alone)) > 50
    for size in (2, 3, 100):
        together = [found(doc) for doc in trained.pipe(texts, batch_size=size)]
        for a, b in zip(alone, together):
            assert [s[:3] for s in a] == [s[:3] for s in b]
            assert [s[3] for s in a] == pytest.approx([s[3] for s in b], abs=1e-4)


def test_preset_entities_stay_and_predictions_fit_around_them(trained: Language) -> None:
    doc = trained.make_doc("Aspirin was given for fever in Lyon .")
    doc.set_ents([Span(doc, 4, 7, "DRUG", kb_id="Q1"), Span(doc, 1, 2, "FOREIGN")], default="missing")
    doc = trained.get_pipe("crf_ner")(doc)
    assert entities(doc) == [(0, 1, "DRUG"), (1, 2, "FOREIGN"), (4, 7, "DRUG")]
    assert doc.ents[2].kb_id_ == "Q1"
    assert [s[:3] for s in found(doc)] == [(0, 1, "DRUG"), (4, 7, "DRUG")]
    assert found(doc)[1][3] == pytest.approx(1.0)
    assert all(token.ent_iob != 0 for token in doc)


def test_blocked_tokens_are_in_no_entity(trained: Language) -> None:
    doc = trained.make_doc("Aspirin was given for fever in Lyon .")
    doc.set_ents([], blocked=[doc[4:5]], default="missing")
    assert entities(trained.get_pipe("crf_ner")(doc)) == [(0, 1, "DRUG"), (6, 7, "PLACE")]


def test_a_second_run_changes_nothing(trained: Language) -> None:
    doc = trained(TEXTS[0][0])
    first = entities(doc)
    assert entities(trained.get_pipe("crf_ner")(doc)) == first


def test_entities_neither_begin_nor_end_on_white_space(trained: Language) -> None:
    doc = trained("\n\n fever \n Lyon \t\n\n ibuprofen  ")
    for entity in doc.ents:
        assert not entity[0].is_space
        assert not entity[-1].is_space
    assert not trained("   \n  ").ents


def test_empty_documents(trained: Language) -> None:
    assert not trained("").ents
    docs = list(trained.pipe(["", TEXTS[1][0], ""]))
    assert [len(doc.ents) for doc in docs] == [0, 1, 0]
    assert docs[0].spans["crf_ner"].attrs["scores"].shape == (0,)


def test_a_document_of_twenty_thousand_tokens(trained: Language) -> None:
    text = " ".join([TEXTS[0][0]] * 2500)
    doc = trained(text)
    assert len(doc) == 20_000
    # nothing is cut: the last sentences are read like the first, and all between like each other
    found_in = [[] for _ in range(2500)]
    for entity in doc.ents:
        found_in[entity.start // 8].append((entity.start % 8, entity.end - entity.start, entity.label_))
    assert found_in[0]
    assert found_in[-1]
    assert len({tuple(ents) for ents in found_in[10:-10]}) < 40
    assert sum(bool(ents) for ents in found_in) > 2400


def test_a_token_of_three_thousand_characters(trained: Language) -> None:
    doc = trained("Fever " + "x" * 3000 + " in Lyon .")
    assert (4, 5) not in [(e.start, e.end) for e in doc.ents]
    assert any(e.text == "Lyon" for e in doc.ents)


def test_threshold_and_temperature(trained: Language, encoder: str) -> None:
    nlp = pickle.loads(pickle.dumps(trained))
    pipe = nlp.get_pipe("crf_ner")
    text = "They took fever in New aspirin and the Lyon knee"
    sure = found(nlp(text))
    pipe.threshold = 0.999
    assert found(nlp(text)) == [s for s in sure if s[3] >= 0.999]
    pipe.threshold = 1e-3
    assert len(found(nlp(text))) >= len(sure)
    assert all(s[3] >= 1e-3 for s in found(nlp(text)))
    starts = sorted((s[0], s[1]) for s in found(nlp(text)))
    assert all(a[1] <= b[0] for a, b in zip(starts, starts[1:]))
    pipe.threshold, pipe.temperature = None, 3.0
    warm = found(nlp(text))
    assert [s[:3] for s in warm] == [s[:3] for s in sure]
    assert sum(s[3] for s in warm) < sum(s[3] for s in sure)


def test_how_to_decode_is_for_the_config_to_say(trained: Language, tmp_path: Path) -> None:
    nlp = pickle.loads(pickle.dumps(trained))
    nlp.to_disk(tmp_path / "a")
    nlp = spacy.load(tmp_path / "a", config={"components.crf_ner.threshold": 0.9})
    assert nlp.get_pipe("crf_ner").threshold == 0.9
    text = "They took fever in New aspirin and the Lyon knee"
    assert found(nlp(text)) == [e for e in found(trained(text)) if e[3] >= 0.9] != found(trained(text))
    # what is changed later is saved with the pipeline
    nlp.get_pipe("crf_ner").temperature = 2.0
    nlp.to_disk(tmp_path / "b")
    again = spacy.load(tmp_path / "b")
    assert (again.get_pipe("crf_ner").threshold, again.get_pipe("crf_ner").temperature) == (0.9, 2.0)
    assert found(again(text)) == found(nlp(text))
    for key, value in (("threshold", 1.5), ("threshold", "x"), ("temperature", 0.0), ("scores_key", 3)):
        with pytest.raises(ValueError, match=f"crf_ner. {key} = "):
            setattr(again.get_pipe("crf_ner"), key, value)


def test_without_weights_it_says_so(encoder: str) -> None:
    with pytest.raises(ValueError, match="crf_ner has no weights yet"):
        make_nlp(encoder)("Some text")


def test_output_goes_where_it_should(encoder: str) -> None:
    nlp = make_nlp(encoder, output_spans="mine", scores_key=None)
    examples = make_examples(nlp)
    train(nlp, examples)
    doc = nlp(TEXTS[0][0])
    assert list(doc.spans) == ["mine"]
    assert not doc.ents
    assert len(doc.spans["mine"].attrs["scores"]) == 3
    assert nlp.evaluate(examples)["spans_mine_f"] == 1.0


@pytest.mark.parametrize("place", ["ents", "spans"])
def test_evaluation_feeds_no_gold(encoder: str, place: str, tmp_path: Path) -> None:
    """A pipe that gives back the entities that it is shown scores 0, from .spacy and from brat."""
    from spacy.training import Corpus

    from spacy_crf_ner.corpora.readers import Standoff

    nlp = make_nlp(encoder, **({} if place == "ents" else {"target_spans": "entities"}))
    examples = make_examples(nlp)
    binary = DocBin(store_user_data=True)
    (tmp_path / "brat").mkdir()
    for i, example in enumerate(examples):
        reference = example.reference
        reference.spans["entities"] = list(reference.ents)
        binary.add(reference)
        lines = [f"T{n}\t{e.label_} {e.start_char} {e.end_char}\t{e.text}\n" for n, e in enumerate(reference.ents)]
        (tmp_path / "brat" / f"{i}.txt").write_text(reference.text)
        (tmp_path / "brat" / f"{i}.ann").write_text("".join(lines))
    binary.to_disk(tmp_path / "gold.spacy")
    nlp.initialize(lambda: examples if place == "ents" else list(Corpus(tmp_path / "gold.spacy")(nlp)))
    pipe = nlp.get_pipe("crf_ner")
    shown = []

    class Parrot(type(pipe)):  # type: ignore[misc]
        def predict(self, docs: Any) -> list:
            labels = list(self.labels)
            answers = []
            for doc in docs:
                seen = [*doc.ents, *(span for group in doc.spans.values() for span in group)]
                shown.append((seen, doc.user_data))
                answers.append([ScoredSpan(TagSpan(s.start, s.end, labels.index(s.label_)), 1.0) for s in seen])
            return answers

    parrot = Parrot(nlp.vocab, pipe.model, "crf_ner", scorer=pipe.scorer)
    parrot.cfg.update(pipe.cfg)
    nlp._components = [("crf_ner", parrot)]
    key = "ents_f" if place == "ents" else "spans_entities_f"
    for corpus in (Corpus(tmp_path / "gold.spacy"), Standoff(tmp_path / "brat")):
        assert nlp.evaluate(list(corpus(nlp)))[key] == 0.0
    assert len(shown) == 2 * len(TEXTS)
    assert not any(seen or user_data for seen, user_data in shown)


# Storage


def restore_disk(nlp: Language, folder: Path) -> Language:
    nlp.to_disk(folder)
    return spacy.load(folder)


def restore_bytes(nlp: Language, folder: Path) -> Language:
    return type(nlp).from_config(nlp.config).from_bytes(nlp.to_bytes())


def restore_pickle(nlp: Language, folder: Path) -> Language:
    return pickle.loads(pickle.dumps(nlp))


@pytest.mark.parametrize("restore", [restore_disk, restore_bytes, restore_pickle])
@pytest.mark.parametrize("settings", [{}, {"overlap": True, "target_spans": "all"}])
def test_storage_keeps_entities_and_probabilities(
    encoder: str, settings: dict, restore: Callable[[Language, Path], Language], tmp_path: Path
) -> None:
    nlp = make_nlp(encoder, threshold=0.4, temperature=1.5, **settings)
    train(nlp, make_examples(nlp, settings.get("target_spans", "")), steps=25)
    again = restore(nlp, tmp_path / "model")
    for text, _ in TEXTS:
        assert found(again(text)) == found(nlp(text))
    assert again.get_pipe("crf_ner").cfg == nlp.get_pipe("crf_ner").cfg
    assert restore(again, tmp_path / "again").to_bytes() == nlp.to_bytes()


def test_a_pipe_with_other_labels_can_be_loaded_over(encoder: str, trained: Language, tmp_path: Path) -> None:
    nlp = make_nlp(encoder)
    nlp.initialize(lambda: make_examples(nlp)[1:2])
    assert nlp.get_pipe("crf_ner").labels == ("PROBLEM",)
    again = pickle.loads(pickle.dumps(nlp))
    trained.get_pipe("crf_ner").to_disk(tmp_path / "pipe")
    nlp.get_pipe("crf_ner").from_disk(tmp_path / "pipe")
    again.get_pipe("crf_ner").from_bytes(trained.get_pipe("crf_ner").to_bytes())
    for loaded in (nlp, again):
        assert found(loaded(TEXTS[0][0])) == found(trained(TEXTS[0][0]))


def test_a_saved_pipeline_needs_neither_encoder_nor_unpickling(
    encoder: str, trained: Language, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained.to_disk(tmp_path / "model")
    config = (tmp_path / "model" / "config.cfg").read_text().replace(encoder, "nobody/gone")
    (tmp_path / "model" / "config.cfg").write_text(config)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    again = spacy.load(tmp_path / "model")
    assert found(again(TEXTS[0][0])) == found(trained(TEXTS[0][0]))


def test_two_processes_give_the_same(trained: Language) -> None:
    texts = [text for text, _ in TEXTS] * 3
    one = [found(doc) for doc in trained.pipe(texts)]
    two = [found(doc) for doc in trained.pipe(texts, n_process=2, batch_size=4)]
    assert [[s[:3] for s in doc] for doc in one] == [[s[:3] for s in doc] for doc in two]
    for a, b in zip(one, two):
        assert [s[3] for s in a] == pytest.approx([s[3] for s in b], abs=1e-4)


def test_predictions_survive_docbin(trained: Language) -> None:
    doc = trained(TEXTS[0][0])
    binary = DocBin(docs=[doc]).to_bytes()
    again = next(iter(DocBin().from_bytes(binary).get_docs(trained.vocab)))
    assert found(again) == found(doc)


def test_a_sourced_pipe_goes_on_as_it_was(trained: Language) -> None:
    source = pickle.loads(pickle.dumps(trained))
    nlp = spacy.blank("en")
    nlp.add_pipe("crf_ner", source=source)
    assert found(nlp(TEXTS[0][0])) == found(trained(TEXTS[0][0]))
    nlp.get_pipe("crf_ner").add_label("NEW")
    examples = make_examples(nlp)
    optimizer = nlp.resume_training(sgd=make_adamw(0.001, groups={}))
    for _ in range(3):
        losses = nlp.update(examples, sgd=optimizer)
    assert losses["crf_ner"] < 0.2


# Other ways to train


def test_thinc_optimizers_train_it_too(encoder: str) -> None:
    nlp = make_nlp(encoder)
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    optimizer = Adam(0.01)
    first = nlp.update(examples, sgd=optimizer)["crf_ner"]
    for _ in range(30):
        last = nlp.update(examples, sgd=optimizer)["crf_ner"]
    assert last < 0.2 * first
    with nlp.use_params(optimizer.averages):
        nlp(TEXTS[0][0])


def test_nothing_of_a_memory_zone_is_used_after_it(trained: Language) -> None:
    texts = [f"Aspirin{i} was given for zonefever{i} in Lyon ." for i in range(20)]
    expected = [found(doc) for doc in trained.pipe(texts)]
    trained.get_pipe("crf_ner").model.get_ref("tok2vec").shims[0].module.tokenizer._remembered.clear()
    for _ in range(2):
        with trained.memory_zone():
            assert [found(doc) for doc in trained.pipe(texts)] == expected
    # other strings took the place of those that are gone
    assert len(list(trained.pipe(f"other{i} word{i}" for i in range(200)))) == 200
    assert [found(doc) for doc in trained.pipe(texts)] == expected


def test_rehearsal_keeps_what_was_known(trained: Language) -> None:
    def forget(rehearse: bool) -> float:
        nlp = pickle.loads(pickle.dumps(trained))
        optimizer = nlp.resume_training(sgd=make_adamw(0.005, groups={}))
        new = [Example.from_dict(nlp.make_doc("No fever today ."), {"entities": [(10, 15, "DRUG")]})]
        old = [Example(nlp.make_doc(text), nlp.make_doc(text)) for text, _ in TEXTS]
        nlp.get_pipe("crf_ner").add_label("NEW")
        for _ in range(10):
            nlp.update(new, sgd=optimizer)
            if rehearse:
                losses = nlp.rehearse(old, sgd=optimizer)
                assert np.isfinite(losses["crf_ner"])
        return nlp.evaluate(make_examples(nlp))["ents_f"]

    assert forget(rehearse=True) > forget(rehearse=False)


def test_a_deep_copy_is_independent(trained: Language) -> None:
    model = copy.deepcopy(trained.get_pipe("crf_ner").model)
    doc = trained.make_doc(TEXTS[0][0])
    before = trained.get_pipe("crf_ner").model.predict([doc])[0]
    with torch.no_grad():
        head_module(model).linear.weight.zero_()
    assert np.array_equal(trained.get_pipe("crf_ner").model.predict([doc])[0], before)


# What a user can get wrong


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "both"}, "mode"),
        ({"partial": "some"}, "partial"),
        ({"overlap": True}, "output_spans.*span group"),
        ({"overlap": True, "target_spans": "x", "output_spans": "ents"}, "output_spans"),
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": 1.5}, "threshold"),
        ({"temperature": 0.0}, "temperature"),
        ({"entity_ratio": 2.0}, "entity_ratio"),
        ({"entity_ratio_weight": -1.0}, "entity_ratio_weight"),
    ],
)
def test_settings_that_cannot_be_are_named(encoder: str, settings: dict, message: str) -> None:
    with pytest.raises(Exception, match=message):
        make_nlp(encoder, **settings)


def test_training_without_entities_says_where_it_looked(encoder: str) -> None:
    nlp = make_nlp(encoder, target_spans="elsewhere")
    with pytest.raises(ValueError, match=r'no entity .* doc\.spans\["elsewhere"\]'):
        nlp.initialize(lambda: make_examples(nlp))


def test_an_empty_training_set_is_called_so(encoder: str) -> None:
    with pytest.raises(ValueError, match="the training corpus has no document"):
        make_nlp(encoder).get_pipe("crf_ner").initialize(lambda: iter(()))


def test_a_label_given_twice_is_refused(encoder: str) -> None:
    nlp = make_nlp(encoder)
    with pytest.raises(ValueError, match="stands there twice"):
        nlp.get_pipe("crf_ner").initialize(lambda: make_examples(nlp), labels=["DRUG", "DRUG"])


def test_a_score_that_does_not_choose_the_best_pipeline_is_pointed_out(
    encoder: str, caplog: pytest.LogCaptureFixture
) -> None:
    nlp = make_nlp(encoder, target_spans="all", overlap=True)
    with caplog.at_level("WARNING", logger="spacy"):
        nlp.initialize(lambda: make_examples(nlp, "all"))
        assert "spans_all_f = 1.0" in caplog.text
        caplog.clear()
        nlp.config["training"]["score_weights"]["spans_all_f"] = 1.0
        nlp.initialize(lambda: make_examples(nlp, "all"))
        assert not caplog.text


def test_gold_that_cannot_be_tagged_is_counted(encoder: str, caplog: pytest.LogCaptureFixture) -> None:
    nlp = make_nlp(encoder, target_spans="all")
    examples = make_examples(nlp, "all")
    reference: Doc = examples[3].reference
    reference.spans["all"].append(Span(reference, 3, 5, label="PART"))
    with caplog.at_level("WARNING", logger="spacy"):
        nlp.initialize(lambda: examples)
    assert "1 of 10 gold entities are left out of training: they overlap with a longer one" in caplog.text
