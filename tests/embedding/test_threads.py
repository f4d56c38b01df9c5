import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterator, List, Tuple

import numpy as np
import pytest
import torch
from spacy.tokens import Doc
from spacy.vocab import Vocab

from spacy_crf_ner.embedding import module as module_code
from spacy_crf_ner.embedding.model import TransformerCNN
from spacy_crf_ner.embedding.precision import Precision
from spacy_crf_ner.embedding.threads import side_by_side


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def look(item: int) -> Tuple[int, str, int]:
    time.sleep(0.02 + 0.01 * (item % 2))
    return item, threading.current_thread().name, torch.get_num_threads()


def test_each_by_one_thread_in_order_and_the_rest_by_all() -> None:
    found = list(side_by_side(look, range(8)))
    assert [item for item, _, _ in found] == [*range(8)]
    assert len({name for _, name, _ in found[:6]}) == 3
    assert [n for _, _, n in found] == [1] * 6 + [3] * 2
    assert {name for _, name, _ in found[6:]} == {threading.current_thread().name}


def test_with_one_thread_there_is_no_other() -> None:
    torch.set_num_threads(1)
    assert {name for _, name, _ in side_by_side(look, range(8))} == {threading.current_thread().name}


@pytest.mark.parametrize("end", ["all", "some", "error"])
def test_the_number_of_threads_is_given_back(end: str) -> None:
    def fail(item: int) -> int:
        if item == 4:
            raise ValueError("no")
        return item

    results = side_by_side(fail if end == "error" else look, range(9))
    if end == "some":
        next(results)
        results.close()  # type: ignore[attr-defined]
    elif end == "error":
        with pytest.raises(ValueError, match="no"):
            list(results)
    else:
        list(results)
    assert torch.get_num_threads() == 3
    later: List[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [3]


def test_little_is_begun_before_it_is_asked_for() -> None:
    begun: List[int] = []
    results = side_by_side(begun.append, range(30))
    next(results)
    time.sleep(0.1)
    assert len(begun) <= 6
    list(results)
    assert sorted(begun) == [*range(30)]


def _in_a_fork(results: Any) -> None:
    results.put([item for item, _, _ in side_by_side(look, range(6))])


def test_after_a_fork_there_are_others() -> None:
    list(side_by_side(look, range(6)))
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_in_a_fork, args=(results,))
    process.start()
    assert results.get(timeout=60) == [*range(6)]
    process.join(60)
    assert process.exitcode == 0


def test_other_threads_get_as_many_as_ever() -> None:
    seen: List[int] = []

    def ask(item: int) -> None:
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        time.sleep(0.1)  # until all have been told
        thread.start()
        thread.join()

    list(side_by_side(ask, range(3)))
    assert seen == [3, 3, 3]


def test_where_no_thread_can_be_started_it_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    submit = ThreadPoolExecutor.submit
    left = [4]

    def fail(self: Any, *args: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        return submit(self, *args)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", fail)
    found = list(side_by_side(look, range(8)))
    assert [item for item, _, _ in found] == [*range(8)]
    assert [n for _, _, n in found] == [1] * 4 + [3] * 4


def test_after_an_error_nothing_goes_on() -> None:
    done: List[int] = []

    def fail(item: int) -> None:
        if item == 0:
            raise ValueError("no")
        time.sleep(0.05)
        done.append(item)

    with pytest.raises(ValueError, match="no"):
        list(side_by_side(fail, range(30)))
    n_done = len(done)
    time.sleep(0.2)
    assert len(done) == n_done < 7


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_embedding_is_the_same_whatever_the_threads(
    encoder: str, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = TransformerCNN(encoder, window=12, stride=9, micro_batch_pieces=30, precision=precision)
    model.initialize()
    vocab = Vocab()
    docs = [Doc(vocab, words=[f"w{(i * j) % 17}" for j in range(i)]) for i in range(1, 20)]
    used: List[int] = []

    def counted(work: Any, items: Any) -> Iterator[Any]:
        used.append(len(items))
        return side_by_side(work, items)

    monkeypatch.setattr(module_code, "side_by_side", counted)
    many = np.concatenate(model.predict(docs))
    torch.set_num_threads(1)
    one = np.concatenate(model.predict(docs))
    assert [n > 6 for n in used] == ([True] * 2 if precision == "bf16" else [])
    np.testing.assert_allclose(many, one, atol=1e-5 if precision == "fp32" else 0.05)


def test_dropout_is_off_before_threads_begin(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"frozen_layers": "all", "cache": "memory", "precision": "bf16", "micro_batch_pieces": 12}
    model = TransformerCNN(encoder, window=12, stride=9, **settings)  # type: ignore[arg-type]
    model.initialize()
    parts = [*model.shims[0].module.encoder.modules()]  # type: ignore[attr-defined]
    seen: List[bool] = []

    def watched(work: Any, items: Any) -> Iterator[Any]:
        seen.append(any(part.training for part in parts))
        return side_by_side(work, items)

    monkeypatch.setattr(module_code, "side_by_side", watched)
    # a step of training remembers what the frozen encoder gives, while all around it is in training
    model.begin_update([Doc(Vocab(), words=["w"] * 40)])
    assert seen
    assert not any(seen)
