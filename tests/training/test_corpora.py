"""Several corpora in one training: each with its batches and its pipes, and resumed in the middle of it all."""

import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as spacy_train
from thinc.api import Config, fix_random_seed

from spacy_crf_ner.corpora.multi import CorpusExample, MultiCorpus
from spacy_crf_ner.embedding.pieces import PieceTokenizer
from spacy_crf_ner.training.ahead import made_ready
from spacy_crf_ner.training.checkpoint import CheckpointError
from spacy_crf_ner.training.data import Batches
from spacy_crf_ner.training.loop import Training
from spacy_crf_ner.training.settings import CorpusExtras, TrainingExtras

from ..conftest import make_examples
from .runs import Stop, changed, digest, stop_after, train, weights, with_extras
from .test_distributed import torchrun

NLP = spacy.blank("en")
OWN = {"batcher": {"@batchers": "spacy_crf_ner.batch_by_tokens.v1", "size": 9}}


@pytest.fixture
def files(tmp_path: Path) -> Dict[str, str]:
    """The small corpus in two."""
    docs = [eg.reference for eg in make_examples(NLP)]
    paths = {"notes": tmp_path / "notes.spacy", "letters": tmp_path / "letters.spacy"}
    DocBin(docs=docs[:4]).to_disk(paths["notes"])
    DocBin(docs=docs[4:]).to_disk(paths["letters"])
    return {name: str(path) for name, path in paths.items()}


def whole(path: Optional[str]) -> Dict[str, Any]:
    return {"@readers": "spacy.Corpus.v1", "path": path, "gold_preproc": False}


def multi(config: Config, files: Dict[str, str], **settings: Any) -> Config:
    block: Dict[str, Any] = {"@readers": "spacy_crf_ner.MultiCorpus.v1", **settings}
    block["corpora"] = {name: whole(path) for name, path in files.items()}
    config = config.copy()
    config["corpora"]["train"] = block
    return config


# Batches


def numbered(name: str, n: int) -> Any:
    def corpus(nlp: Language) -> Iterator[Example]:
        for i in range(n):
            doc = nlp.make_doc(f"{name} {i}")
            yield Example(nlp.make_doc(doc.text), doc)

    return corpus


def by_docs(size: Any) -> Dict[str, Any]:
    return {"@batchers": "spacy_crf_ner.batch_by_tokens.v1", "size": size, "unit": "docs"}


def drawn(n: int, max_epochs: int = 0, proportions: Any = None, ahead: int = 0, **settings: Any) -> List[Tuple]:
    fix_random_seed(0)
    corpus = MultiCorpus({"a": numbered("a", 20), "b": numbered("b", 5)}, proportions)
    batches = Batches(
        NLP, corpus, by_docs(4), max_epochs, prepare=(lambda batch: None) if ahead else None, ahead=ahead, **settings
    )
    found = []
    for epoch, batch in batches:
        found.append((epoch, [eg.reference.text for eg in batch], batches.state()))
        if len(found) == n:
            break
    return found


def from_corpora(batches: List[Tuple]) -> List[str]:
    return ["".join(sorted({text[0] for text in texts})) for _, texts, _ in batches]


@pytest.mark.parametrize("max_epochs", [2, -1])
def test_batches_of_corpora_with_their_own_batchers_come_in_turn(max_epochs: int) -> None:
    found = drawn(14, max_epochs, batchers={"b": by_docs(1)})
    assert [epoch for epoch, _, _ in found[:10]] == [0] * 10
    assert {len(texts) for _, texts, _ in found if texts[0][0] == "b"} == {1}
    for epoch in (0, 1) if max_epochs > 0 else (0,):
        texts = [text for at, batch, _ in found for text in batch if at == epoch]
        if epoch == 0:
            assert len(set(texts)) == len(texts) == 25
    if max_epochs > 0:
        # both end together, since each has its part of what was done
        assert from_corpora(found[:10]) == ["a", "b"] * 5


@pytest.mark.parametrize("max_epochs", [2, -1])
def test_one_batch_of_each_ends_with_the_longest(max_epochs: int) -> None:
    found = drawn(10, max_epochs, one_of_each=True, batchers={"b": by_docs(2)})
    assert from_corpora(found) == ["ab"] * 10
    first = [texts for epoch, texts, _ in found if epoch == 0]
    assert len(first) == 5
    seen = Counter(text for texts in first for text in texts)
    assert [seen[f"a {i}"] for i in range(20)] == [1] * 20
    # three batches of b are an epoch of it, and two of the next were taken
    assert sum(seen[f"b {i}"] for i in range(5)) in (5 + 3, 5 + 4)
    assert all(seen[f"b {i}"] in (1, 2) for i in range(5))


@pytest.mark.parametrize(("size_a", "size_b"), [(4, 1), (4, 8), (20, 1)])
def test_the_share_of_an_epoch_is_that_of_the_corpus_that_ends_it(size_a: int, size_b: int) -> None:
    """Of 20 documents and of 5: the corpus with the most batches, five in each case, ends the epoch."""
    corpus = MultiCorpus({"a": numbered("a", 20), "b": numbered("b", 5)})
    batches = Batches(NLP, corpus, by_docs(size_a), 2, one_of_each=True, batchers={"b": by_docs(size_b)})
    shares: Dict[int, List[Any]] = {}
    for epoch, _ in batches:
        shares.setdefault(epoch, []).append(batches.share)
    assert shares == {0: [0.2, 0.4, 0.6, 0.8, 1.0], 1: [0.2, 0.4, 0.6, 0.8, 1.0]}


def test_a_stream_in_proportions_goes_on_until_all_were_read() -> None:
    found = drawn(20, -1, {"a": 1.0, "b": 1.0}, batchers={"b": by_docs(2)})
    first = [text for epoch, texts, _ in found for text in texts if epoch == 0]
    count = Counter(text[0] for text in first)
    assert count["a"] == 20
    assert abs(count["b"] - 20) <= 2
    assert min(Counter(first).values()) >= 1


CASES: Dict[str, Dict[str, Any]] = {
    "own batchers": {
        "batchers": {"b": by_docs({"@schedules": "compounding.v1", "start": 1, "stop": 4, "compound": 1.5})}
    },
    "one of each": {"one_of_each": True, "batchers": {"b": by_docs(2)}},
    "proportions": {"proportions": {"a": 1.0, "b": 2.0}},
    "all at once": {},
}


@pytest.mark.parametrize("max_epochs", [0, -1], ids=["held", "stream"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ahead", [0, 3])
def test_batches_go_on_from_any_place(case: str, max_epochs: int, ahead: int) -> None:
    settings = dict(CASES[case], max_epochs=max_epochs)
    shares = settings.pop("proportions", None)
    whole = drawn(25, proportions=shares, **settings)
    assert drawn(25, proportions=shares, ahead=ahead, **settings) == whole
    assert whole[-1][0] >= 1
    for place in range(0, 24, 5):
        fix_random_seed(1)
        corpus = MultiCorpus({"a": numbered("a", 20), "b": numbered("b", 5)}, shares)
        batches = Batches(NLP, corpus, by_docs(4), prepare=lambda batch: None, ahead=ahead, **settings)
        batches.restore(whole[place][2])
        rest = [(e, [eg.reference.text for eg in b], batches.state()) for (e, b), _ in zip(batches, whole[place + 1 :])]
        assert rest == whole[place + 1 :]


def test_where_epochs_end_a_training_more_of_them_go_on() -> None:
    schedule = {"@schedules": "compounding.v1", "start": 1, "stop": 9, "compound": 1.2}
    ends: List[Any] = []
    for epochs in (3, 1):
        fix_random_seed(0)
        batches = Batches(NLP, numbered("a", 20), by_docs(schedule), epochs)
        ends.append(([[eg.reference.text for eg in batch] for _, batch in batches], batches.state()))
    more = Batches(NLP, numbered("a", 20), by_docs(schedule), 3)
    more.restore(ends[1][1])
    assert ends[1][0] + [[eg.reference.text for eg in batch] for _, batch in more] == ends[0][0]
    assert more.state() == ends[0][1]


# What learns from what


def shared_pipeline(encoder: str, shared: str) -> Language:
    """Two recognisers that listen to one embedding, spaCy's or ours."""
    fix_random_seed(0)
    nlp = spacy.blank("en")
    if shared == "ours":
        model = {"@architectures": "spacy_crf_ner.TransformerCNN.v1", "encoder": encoder, "width": 32}
        nlp.add_pipe("transformer_cnn", name="tok2vec", config={"model": model})
    else:
        hashes = {"@architectures": "spacy.HashEmbedCNN.v2", "width": 32, "depth": 1, "embed_size": 50}
        hashes.update(window_size=1, maxout_pieces=2, subword_features=False, pretrained_vectors=None)
        nlp.add_pipe("tok2vec", config={"model": hashes})
    for name in ("one", "two"):
        listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 32, "upstream": "tok2vec"}
        head = {"@architectures": "spacy_crf_ner.CRFTagger.v1", "tok2vec": listener}
        nlp.add_pipe("crf_ner", name=name, config={"model": head})
    nlp.initialize(lambda: make_examples(nlp))
    return nlp


def gradients(nlp: Language) -> Dict[str, np.ndarray]:
    found = {}
    for name, pipe in nlp.pipeline:
        if hasattr(pipe, "_settle"):
            pipe._settle()
        for i, node in enumerate(pipe.model.walk()):
            found.update({f"{name}/{i}/{k}": node.get_grad(k) for k in node.param_names if node.has_grad(k)})
            for shim in node.shims:
                grads = ((k, p.grad) for k, p in shim._model.named_parameters() if p.grad is not None)
                found.update({f"{name}/{i}/{k}": grad.to_dense().numpy() for k, grad in grads})
    return {key: np.array(value) for key, value in found.items()}


@pytest.mark.parametrize("shared", ["ours", "spacy's"])
@pytest.mark.parametrize("one_batch_of_each", [False, True])
def test_the_gradient_is_that_of_each_pipe_by_itself(encoder: str, shared: str, one_batch_of_each: bool) -> None:
    """Pipe two learns from letters alone: as if it alone had them, and pipe one the whole batch."""
    expected: Dict[str, np.ndarray] = {}
    for learns, absent in (("one", "two"), ("two", "one")):
        nlp = shared_pipeline(encoder, shared)
        nlp.get_pipe("tok2vec").listener_map.pop(absent)
        examples = make_examples(nlp)
        nlp.update(examples if learns == "one" else examples[4:], sgd=False, exclude=[absent])
        for name, value in gradients(nlp).items():
            expected[name] = expected.get(name, 0.0) + value
    nlp = shared_pipeline(encoder, shared)
    batch = [
        CorpusExample(eg.predicted, eg.reference, "letters" if i >= 4 else "notes")
        for i, eg in enumerate(make_examples(nlp))
    ]
    step(
        nlp, batch, TrainingExtras(one_batch_of_each=one_batch_of_each, corpora={"notes": CorpusExtras(pipes=["one"])})
    )
    found = gradients(nlp)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    assert list(nlp.get_pipe("tok2vec").listener_map) == ["one", "two"]


def step(nlp: Language, batch: List[Example], extras: TrainingExtras) -> None:
    """One step of the loop, but for the optimizer."""
    nlp.config["corpora"]["train"] = nlp.config["corpora"]["dev"] = {"@readers": "tests.none.v1"}
    nlp.config["training"]["dropout"] = 0.0
    training = Training(nlp, extras=extras, evaluates=False)
    with pytest.MonkeyPatch.context() as patch:
        for _, pipe in nlp.pipeline:
            patch.setattr(pipe, "finish_update", lambda sgd: None)
        training._step(0, batch)


@spacy.registry.readers("tests.none.v1")
def make_none() -> Any:
    return MultiCorpus({"notes": make_examples, "letters": make_examples})


def test_a_pipe_stays_as_it_is_where_it_learns_from_nothing(config: Config, files: Dict[str, str]) -> None:
    config["nlp"]["pipeline"] = ["crf_ner", "other"]
    config["components"]["other"] = {**config["components"]["crf_ner"]}
    config = with_extras(multi(config, files), corpora={name: {"pipes": ["crf_ner"]} for name in files})
    begun = weights(init_nlp(plain(config)))
    nlp, history = train(config)
    after = weights(nlp)
    assert all(np.array_equal(after[name], value) for name, value in begun.items() if name.startswith("other"))
    assert not all(np.array_equal(after[name], value) for name, value in begun.items())
    assert all(line["losses"]["other"] == 0 for line in history)


def plain(config: Config) -> Config:
    return Config({key: value for key, value in config.items() if key != "training_extras"})


# Whole trainings


@pytest.mark.parametrize("proportions", [None, {"notes": 1.0, "letters": 2.0}])
def test_spacy_train_reads_it_and_takes_the_same_steps(
    config: Config,
    files: Dict[str, str],
    proportions: Optional[dict],
) -> None:
    config = multi(changed(config, training__dropout=0.0), files, proportions=proportions)
    theirs = init_nlp(config)
    with open(os.devnull, "w") as nowhere:
        spacy_train(theirs, stdout=nowhere, stderr=nowhere)
    expected, found = weights(theirs), weights(train(config)[0])
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


TRAININGS: Dict[str, Dict[str, Any]] = {
    "own batcher, pipes": {"corpora": {"notes": OWN, "letters": {"pipes": ["crf_ner"]}}},
    "one of each": {"one_batch_of_each": True, "corpora": {"letters": {**OWN, "pipes": ["crf_ner"]}}},
    "ahead": {"one_batch_of_each": True, "tokenize_ahead": 2},
}


@pytest.mark.parametrize(
    ("case", "max_epochs"), [("own batcher, pipes", 0), ("one of each", 0), ("ahead", 0), ("own batcher, pipes", -1)]
)
def test_a_training_on_corpora_is_resumed(
    config: Config,
    files: Dict[str, str],
    case: str,
    max_epochs: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = multi(changed(config, training__max_epochs=max_epochs), files)
    config = with_extras(config, checkpoint_steps=3, **TRAININGS[case])
    train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 8, Stop())
        with pytest.raises(Stop):
            train(config, tmp_path / "cut")
    train(config, tmp_path / "cut", resume=True)
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")


def test_a_document_in_another_corpus_is_another_training(
    config: Config,
    files: Dict[str, str],
    tmp_path: Path,
) -> None:
    config = multi(config, files)
    train(config, tmp_path / "out")
    docs = [list(DocBin().from_disk(path).get_docs(NLP.vocab)) for path in files.values()]
    DocBin(docs=docs[0][:-1]).to_disk(files["notes"])
    DocBin(docs=[docs[0][-1], *docs[1]]).to_disk(files["letters"])
    with pytest.raises(CheckpointError, match="corpus has changed"):
        train(config, tmp_path / "out", resume=True)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without it")
@pytest.mark.parametrize("max_epochs", [0, -1], ids=["held", "stream"])
def test_two_processes_are_one(config: Config, files: Dict[str, str], max_epochs: int, tmp_path: Path) -> None:
    config = changed(config, training__dropout=0.0, training__max_epochs=max_epochs, training__eval_frequency=5)
    config = with_extras(multi(config, files), shuffle_buffer=3 * (max_epochs < 0), **TRAININGS["one of each"])
    config["training_extras"]["tokenize_ahead"] = 1
    alone, history = train(config, tmp_path / "one")
    done = torchrun(config, tmp_path / "two")
    assert done.returncode == 0, done.stderr[-3000:]
    expected, found = weights(alone), weights(spacy.load(tmp_path / "two" / "model-last"))
    for name in expected:
        if not name.endswith("key.bias"):  # see test_distributed
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=2e-5, err_msg=name)
    # steps end a stream
    assert len((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()) == len(history) == 12


# Ahead of the step


def test_wordpieces_made_ahead_are_found_and_change_nothing(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # documents of a development corpus come without notice
    config = changed(config, paths__dev=None)
    train(config, tmp_path / "without")
    encoded: List[Tuple[bool, int]] = []
    encode = PieceTokenizer._encode

    def watched(self: PieceTokenizer, texts: Any) -> Any:
        encoded.append((threading.current_thread() is threading.main_thread(), len(texts)))
        return encode(self, texts)

    begin = Training.run

    def run(self: Training, *args: Any) -> Language:
        # what initialisation has made is not to be found
        self.nlp.get_pipe("crf_ner").model.get_ref("tok2vec").shims[0].module.tokenizer.forget()
        encoded.clear()
        return begin(self, *args)

    monkeypatch.setattr(PieceTokenizer, "_encode", watched)
    monkeypatch.setattr(Training, "run", run)
    train(with_extras(config, tokenize_ahead=2), tmp_path / "with")
    for name in ("metrics.jsonl", "model-last/crf_ner/model", "checkpoints/step-00000012/tensors.safetensors"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
    assert sum(n for in_step, n in encoded if in_step) == 0
    assert sum(n for in_step, n in encoded if not in_step) == len(make_examples(NLP))
    assert not [thread for thread in threading.enumerate() if "ahead" in thread.name]


def test_a_training_that_was_cut_goes_on_with_as_many_ahead_as_you_like(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = with_extras(config, checkpoint_steps=3, tokenize_ahead=0)
    train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 8, Stop())
        with pytest.raises(Stop):
            train(with_extras(config, tokenize_ahead=4), tmp_path / "cut")
    train(with_extras(config, tokenize_ahead=1), tmp_path / "cut", resume=True)
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")


def test_errors_in_the_thread_come_out_when_the_batch_is_due(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    call = PieceTokenizer.__call__

    def fails(self: PieceTokenizer, docs: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            raise OSError("no such tokenizer")
        return call(self, docs)

    monkeypatch.setattr(PieceTokenizer, "__call__", fails)
    with pytest.raises(OSError, match="no such tokenizer"):
        train(with_extras(config, tokenize_ahead=1))
    done: List[int] = []

    def prepare(item: int) -> None:
        if item == 3:
            raise OSError("three")

    with pytest.raises(OSError, match="three"):
        done.extend(made_ready(iter(range(9)), prepare, 2))
    assert done == [0, 1, 2]


def test_no_more_are_drawn_than_asked_for() -> None:
    drawn: List[int] = []
    ready: List[int] = []
    stream = made_ready((drawn.append(i) or i for i in range(99)), ready.append, 3)
    for n in range(5):
        assert next(stream) == n
        assert drawn == list(range(n + 4))
        assert n in ready
    stream.close()
    assert not [thread for thread in threading.enumerate() if "ahead" in thread.name]


def test_without_wordpieces_nothing_is_made_ahead(
    config: Config,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spacy.util.logger.propagate", True)
    config["nlp"]["pipeline"] = ["ner"]
    config["components"] = {"ner": {"factory": "ner"}}
    train(with_extras(changed(config, training__max_steps=3), tokenize_ahead=2))
    assert "tokenize_ahead = 2 has no effect" in caplog.text


def test_two_threads_remember_what_one_does(encoder: str) -> None:
    from spacy_crf_ner.embedding.encoder import load_tokenizer

    alone, shared = load_tokenizer(encoder), load_tokenizer(encoder)
    docs = [NLP.make_doc(f"fever {i} in Lyon") for i in range(300)]
    for doc in docs:
        alone([doc])
    threads = [threading.Thread(target=lambda: [shared(docs[i : i + 7]) for i in range(0, 300, 5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dict(shared._remembered) == dict(alone._remembered)
    assert shared._n_remembered == alone._n_remembered


# What is refused


@pytest.mark.parametrize(
    ("extras", "message"),
    [
        ({"corpora": {"note": {}}}, r"\[training_extras.corpora.note\]: \[corpora.train.corpora\] has no such corpus"),
        ({"corpora": {"notes": {"pipe": []}}}, r"\[training_extras.corpora.notes\] pipe: there is no such setting"),
        ({"corpora": {"notes": {"pipes": ["ner"]}}}, r'corpora.notes\] pipes: there is no pipe "ner"'),
        ({"corpora": {"notes": {"pipes": []}}}, "at least one pipe"),
        ({"corpora": {"notes": {"batcher": 3}}}, "must be a section with @batchers"),
        ({"corpora": {"notes": 3}}, "must be a section"),
        ({"corpora": 3}, "must be a section"),
        ({"one_batch_of_each": 3}, "must be true or false"),
        ({"tokenize_ahead": -1}, "must not be negative"),
        ({"tokenize_ahead": True}, "must be a number"),
    ],
)
def test_wrong_settings_are_named(config: Config, files: Dict[str, str], extras: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(with_extras(multi(config, files), **extras))


def test_corpora_need_a_multi_corpus(config: Config, files: Dict[str, str]) -> None:
    for extras in ({"one_batch_of_each": True}, {"corpora": {"notes": {}}}):
        with pytest.raises(ValueError, match=r"\[corpora.train\] must have @readers"):
            train(with_extras(config, **extras))
    both = with_extras(multi(config, files, proportions={"notes": 1.0, "letters": 1.0}), one_batch_of_each=True)
    with pytest.raises(ValueError, match="proportions = null"):
        train(both)


@pytest.mark.parametrize("extras", [{"one_batch_of_each": True}, {"corpora": {"notes": OWN}}])
def test_spacy_train_refuses_what_it_cannot_do(config: Config, files: Dict[str, str], extras: dict) -> None:
    with pytest.raises(ValueError, match=r"spacy train cannot treat corpora apart.*crf-ner train"):
        init_nlp(with_extras(multi(config, files), **extras))
    train(with_extras(multi(changed(config, training__max_steps=3), files), **extras))


def segments(corpus: Any, **settings: Any) -> Dict[str, Any]:
    return {"@readers": "spacy_crf_ner.Segments.v1", "corpus": corpus, "max_tokens": 4, **settings}


def test_a_development_corpus_keeps_its_empty_segments(config: Config) -> None:
    config = changed(config, training__max_steps=3)
    for name in ("train", "dev"):
        config["corpora"][name] = segments(whole(config["corpora"][name]["path"]), drop_empty=name == "train")
    train(config)
    init_nlp(config)
    # without a development corpus the training corpus stands in for it, unread
    train(changed(config, paths__dev=None))
    config["corpora"]["dev"]["drop_empty"] = True
    for fails in (init_nlp, train):
        with pytest.raises(ValueError, match=r"\[corpora.dev\] drop_empty = true: the development corpus"):
            fails(config)
    config["corpora"]["dev"] = {"@readers": "spacy_crf_ner.DocumentContext.v1", "corpus": config["corpora"]["dev"]}
    with pytest.raises(ValueError, match=r"\[corpora.dev.corpus\] drop_empty = true"):
        train(config)


def test_paths_inside_of_readers_are_looked_at(config: Config, files: Dict[str, str]) -> None:
    config = multi(config, {**files, "letters": "nowhere.spacy"})
    with pytest.raises(ValueError, match=r"\[corpora.train.corpora.letters\] path = \"nowhere.spacy\": there is no"):
        train(config)
    config = multi(changed(config, training__max_steps=3), files)
    config["corpora"]["dev"] = {**config["corpora"]["train"]}
    config["corpora"]["dev"]["corpora"] = {name: whole(None) for name in files}
    _, history = train(config)
    assert not any("score" in line for line in history)
    config["corpora"]["dev"]["corpora"]["notes"] = whole(files["notes"])
    with pytest.raises(ValueError, match=r"\[corpora.dev.corpora.letters\] path is null, and that of another"):
        train(config)


def test_a_reader_inside_of_another_needs_no_gold_preproc(config: Config, files: Dict[str, str]) -> None:
    """As [corpora.train] does not, where spaCy puts it in."""
    config = changed(multi(config, files), training__max_steps=3)
    config["corpora"]["dev"] = {"@readers": "spacy_crf_ner.Segments.v1", "corpus": whole(files["notes"])}
    expected, _ = train(config)
    for block in (*config["corpora"]["train"]["corpora"].values(), config["corpora"]["dev"]["corpus"]):
        del block["gold_preproc"]
    found, _ = train(config)
    for name, value in weights(expected).items():
        assert np.array_equal(value, weights(found)[name])


@pytest.mark.parametrize("max_epochs", [0, -1], ids=["held", "stream"])
@pytest.mark.parametrize("own", [[], ["notes"], ["letters"], ["notes", "letters"]], ids=str)
def test_a_corpus_with_a_share_of_0_is_as_one_that_is_not_there(
    config: Config, files: Dict[str, str], max_epochs: int, own: List[str]
) -> None:
    config = changed(config, training__max_steps=4, training__max_epochs=max_epochs)
    found, _ = train(
        with_extras(multi(config, files, proportions={"notes": 2.0, "letters": 0.0}), corpora=dict.fromkeys(own, OWN))
    )
    alone = multi(config, {"notes": files["notes"]}, proportions={"notes": 1.0})
    expected, _ = train(with_extras(alone, corpora=dict.fromkeys({*own} - {"letters"}, OWN)))
    for name, value in weights(expected).items():
        assert np.array_equal(value, weights(found)[name]), name
