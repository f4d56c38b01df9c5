import pytest
import torch

from spacy_crf_ner.embedding import cnn as cnn_module
from spacy_crf_ner.embedding.cnn import ACTIVATIONS, TextCNN

LENGTHS = [4, 0, 1, 7]
BASE = {"n_in": 6, "width": 6, "kernel_sizes": [3], "filters": 8, "activation": "relu", "residual": True, "norm": "pre"}


def build(**settings: object) -> TextCNN:
    torch.manual_seed(0)
    return TextCNN(**{**BASE, **settings}).eval()


@pytest.mark.parametrize("kernel_sizes", [[1], [2], [3], [4], [2, 3, 5]])
def test_documents_do_not_leak_into_each_other(kernel_sizes: list) -> None:
    cnn = build(kernel_sizes=kernel_sizes)
    vectors = torch.randn(sum(LENGTHS), 6)
    together = cnn(vectors, LENGTHS)
    alone = torch.cat([cnn(part, [len(part)]) for part in vectors.split(LENGTHS) if len(part)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("size", "left", "right"), [(1, 0, 0), (2, 0, 1), (3, 1, 1), (4, 1, 2), (5, 2, 2)])
def test_a_kernel_sees_as_many_tokens_as_it_says(size: int, left: int, right: int) -> None:
    cnn = build(kernel_sizes=[size])
    vectors = torch.randn(9, 6, requires_grad=True)
    cnn(vectors, [9])[4].sum().backward()
    seen = [i for i in range(9) if vectors.grad[i].abs().sum() > 0]
    assert seen == list(range(4 - left, 4 + right + 1))


@pytest.mark.parametrize(
    "setting",
    [
        {"kernel_sizes": [5]},
        {"filters": 9},
        {"residual": False},
        {"norm": "post"},
        {"norm": None},
        *({"activation": name} for name in ACTIVATIONS if name != "relu"),
    ],
)
def test_every_setting_has_an_effect(setting: dict) -> None:
    vectors = torch.randn(12, 6)
    changed = build(**setting)(vectors, LENGTHS)
    assert changed.shape == (12, 6)
    assert not torch.allclose(build()(vectors, LENGTHS), changed)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("kernel_sizes", [[3], []])
def test_any_width_can_come_out(residual: bool, kernel_sizes: list) -> None:
    cnn = build(width=10, residual=residual, kernel_sizes=kernel_sizes)
    assert cnn(torch.randn(12, 6), LENGTHS).shape == (12, 10)


def test_without_kernels_the_vectors_pass_as_they_are() -> None:
    vectors = torch.randn(12, 6)
    assert torch.equal(build(kernel_sizes=[], norm=None)(vectors, LENGTHS), vectors)


def test_dropout_acts_in_training_only() -> None:
    cnn, vectors = build(), torch.randn(12, 6)
    assert torch.equal(cnn(vectors, LENGTHS, 0.5), cnn(vectors, LENGTHS, 0.0))
    cnn.train()
    assert not torch.equal(cnn(vectors, LENGTHS, 0.5), cnn(vectors, LENGTHS, 0.0))


@pytest.mark.parametrize("kernel_sizes", [[], [1], [3], [2, 5]])
@pytest.mark.parametrize("chunk", [1, 2, 5, 11])
def test_chunks_are_the_whole(kernel_sizes: list, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cnn = build(kernel_sizes=kernel_sizes, width=7).train()
    weights = torch.randn(12, 7)
    answers = []
    for size in (100, chunk):
        monkeypatch.setattr(cnn_module, "CHUNK", size)
        vectors = torch.linspace(-1, 1, 72).view(12, 6).requires_grad_()
        cnn.zero_grad()
        out = cnn(vectors, LENGTHS)
        (out * weights).sum().backward()
        with torch.no_grad():
            assert torch.allclose(cnn.eval()(vectors, LENGTHS), out, atol=1e-6)
        cnn.train()
        answers.append([out.detach(), vectors.grad, *(p.grad.clone() for p in cnn.parameters() if p.grad is not None)])
    for whole, parts in zip(*answers):
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_chunks_drop_the_same_on_the_way_back(precision: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cnn_module, "CHUNK", 5)
    cnn = build(activation="tanh").train()
    generator = torch.Generator().manual_seed(1)
    vectors, direction, weights = (torch.randn(12, 6, generator=generator) for _ in range(3))

    def value(shift: float, dropout: float = 0.4) -> torch.Tensor:
        torch.manual_seed(5)
        with torch.autocast("cpu", precision, enabled=precision is not None):
            return (cnn(vectors + shift * direction, LENGTHS, dropout) * weights).sum()

    vectors.requires_grad_()
    value(0).backward()
    step = 0.01 if precision is None else 0.5
    with torch.no_grad():
        expected = float(value(step) - value(-step)) / (2 * step)
        without = float(value(step, 0.0) - value(-step, 0.0)) / (2 * step)
    found = float((vectors.grad * direction).sum())
    assert found == pytest.approx(expected, rel=0.01 if precision is None else 0.2)
    assert without != pytest.approx(expected, rel=0.3)


def test_weights_that_change_before_the_way_back_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cnn_module, "CHUNK", 5)
    cnn = build().train()
    out = cnn(torch.randn(12, 6, requires_grad=True), LENGTHS)
    with torch.no_grad():
        cnn.project.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize("kernel_sizes", [[1], [3], [2, 5]])
def test_in_half_precision_there_are_few_sizes(kernel_sizes: list, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel is compiled for each number of rows that a linear layer has."""
    linear, seen = torch.nn.functional.linear, []

    def counted(vectors: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        seen.append(len(vectors))
        return linear(vectors, *rest)

    monkeypatch.setattr(torch.nn.functional, "linear", counted)
    cnn = build(kernel_sizes=kernel_sizes)
    for lengths in ([3], [40, 0, 7], [1] * 60, [64], [100, 20]):
        vectors = torch.randn(sum(lengths), 6)
        with torch.no_grad():
            expected = cnn(vectors, lengths)
            whole = len(seen)
            with torch.autocast("cpu", torch.bfloat16):
                found = cnn(vectors, lengths)
        torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)
        assert all(rows % 64 == 0 for rows in seen[whole:])
        assert not all(rows % 64 == 0 for rows in seen[:whole]) or lengths == [64]
        seen.clear()
