from typing import Any

import pytest
import torch

from spacy_crf_ner.crf.chain import LinearChainCRF, PerLabelChains, allowed_by
from spacy_crf_ner.crf.losses import distillation_loss, entity_ratio_loss, sequence_losses, symmetric_divergence
from spacy_crf_ner.crf.recursions import FORBIDDEN, Chain

from . import brute

LENGTHS = torch.tensor([4, 2])
TAGS = torch.tensor([[0, 1, 3, -1], [-1, 4, 0, 0]])


@pytest.fixture
def crf() -> LinearChainCRF:
    torch.manual_seed(1)
    return LinearChainCRF.biluo(1).double()


@pytest.fixture
def emissions() -> torch.Tensor:
    torch.manual_seed(2)
    return torch.randn(2, 4, 5, dtype=torch.float64)


@pytest.mark.parametrize("mode", ["joint", "marginal", "independent"])
def test_modes_are_their_formulas(crf: LinearChainCRF, emissions: torch.Tensor, mode: str) -> None:
    possible = torch.ones(2, 4, 5, dtype=torch.bool)
    possible[0, 0, 4] = False
    ours = sequence_losses(crf, emissions, TAGS, LENGTHS, possible, mode)
    chain = crf.scores()
    for i, n in enumerate(LENGTHS.tolist()):
        free = possible[i, :n]
        gold = free & allowed_by(TAGS[i, :n], 5)
        if mode == "joint":
            expected = brute.log_z(emissions[i, :n], chain, free) - brute.log_z(emissions[i, :n], chain, gold)
        elif mode == "marginal":
            expected = -(brute.marginals(emissions[i, :n], chain, free) * gold).sum(-1).log().sum()
        else:
            scores = torch.softmax(emissions[i, :n].masked_fill(~free, FORBIDDEN), -1)
            expected = -(scores * gold).sum(-1).log().sum()
        torch.testing.assert_close(ours[i], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("mode", ["joint", "marginal", "independent"])
def test_gradients_of_the_modes(crf: LinearChainCRF, emissions: torch.Tensor, mode: str) -> None:
    leaf = emissions.requires_grad_()
    assert torch.autograd.gradcheck(lambda e: sequence_losses(crf, e, TAGS, LENGTHS, None, mode), (leaf,))
    leaf.grad = None
    sequence_losses(crf, leaf, TAGS, LENGTHS, None, mode).sum().backward()
    learned = crf.transitions.grad is not None and bool((crf.transitions.grad != 0).any())
    assert learned == (mode != "independent")


@pytest.mark.parametrize("mode", ["joint", "independent"])
def test_entity_ratio_is_the_expected_share_of_entity_tokens(
    crf: LinearChainCRF, emissions: torch.Tensor, mode: str
) -> None:
    chain = crf.scores()
    share = 0.0
    for i, n in enumerate(LENGTHS.tolist()):
        if mode == "joint":
            share += float((1 - brute.marginals(emissions[i, :n], chain)[:, 0]).sum())
        else:
            share += float((1 - torch.softmax(emissions[i, :n], -1)[:, 0]).sum())
    share /= int(LENGTHS.sum())
    loss = entity_ratio_loss(crf, emissions, LENGTHS, None, mode, ratio=share - 0.3, margin=0.1)
    assert float(loss) == pytest.approx(0.2)
    assert float(entity_ratio_loss(crf, emissions, LENGTHS, None, mode, ratio=share + 0.05, margin=0.1)) == 0
    leaf = emissions.requires_grad_()
    assert torch.autograd.gradcheck(lambda e: entity_ratio_loss(crf, e, LENGTHS, None, mode, 0.1, 0.05), (leaf,))


def test_distillation_is_the_divergence_of_whole_chains(crf: LinearChainCRF, emissions: torch.Tensor) -> None:
    teacher = LinearChainCRF.biluo(1).double()
    theirs = torch.randn(2, 4, 5, dtype=torch.float64)
    ours = distillation_loss(emissions, crf.scores(), theirs, teacher.scores(), LENGTHS)
    expected = 0.0
    for i, n in enumerate(LENGTHS.tolist()):
        student_scores = dict(brute.sequences(emissions[i, :n], crf.scores()))
        student_z = brute.log_z(emissions[i, :n], crf.scores())
        teacher_z = brute.log_z(theirs[i, :n], teacher.scores())
        expected += sum(
            -(score - teacher_z).exp() * (student_scores[tags] - student_z)
            for tags, score in brute.sequences(theirs[i, :n], teacher.scores())
        )
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)


def divergence_by_enumeration(
    first: torch.Tensor, second: torch.Tensor, chain: Any, free: torch.Tensor
) -> torch.Tensor:
    log_p, log_q = (torch.log_softmax(brute.every(scores, chain, free)[1], 0) for scores in (first, second))
    return (log_p.exp() * (log_p - log_q) + log_q.exp() * (log_q - log_p)).sum()


@pytest.mark.parametrize("kind", ["joint", "marginal", "independent", "overlap"])
def test_symmetric_divergence_is_that_of_all_sequences(crf: LinearChainCRF, emissions: torch.Tensor, kind: str) -> None:
    """Its value, and its gradients for both passes and for the moves."""
    torch.manual_seed(3)
    model = PerLabelChains(2).double() if kind == "overlap" else crf
    lengths = torch.tensor([4, 4]) if kind == "overlap" else LENGTHS
    mode = "joint" if kind == "overlap" else kind
    possible = torch.ones(2, 4, 5, dtype=torch.bool)
    possible[0, 1, 2] = False
    passes = [emissions.clone().requires_grad_(), torch.randn_like(emissions).requires_grad_()]
    leaves = [*passes, *model.parameters()]
    ours = symmetric_divergence(model, *passes, lengths, possible, mode)
    expected = []
    for i, n in enumerate(lengths.tolist()):
        first, second = (part[i, :n] for part in passes)
        if kind == "independent":
            # token by token: no moves between them
            zero = Chain(torch.zeros(1, 5, 5), torch.zeros(1, 5), torch.zeros(1, 5))
            chain = Chain(*(part.double() for part in zero))
        else:
            chain = brute.part(model.scores(), i)
        expected.append(divergence_by_enumeration(first, second, chain, possible[i, :n]))
    torch.testing.assert_close(ours, torch.stack(expected), rtol=0, atol=1e-10)
    weight = torch.tensor([1.0, -0.7], dtype=torch.float64)
    found, wanted = (
        torch.autograd.grad((x * weight).sum(), leaves, allow_unused=True) for x in (ours, torch.stack(expected))
    )
    for a, b in zip(found, wanted):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    assert torch.autograd.gradcheck(
        lambda *both: symmetric_divergence(model, *both, lengths, possible, mode), tuple(passes)
    )


@pytest.mark.parametrize("mode", ["joint", "independent"])
def test_passes_that_agree_are_not_apart(crf: LinearChainCRF, emissions: torch.Tensor, mode: str) -> None:
    passes = [emissions.float().requires_grad_(), emissions.float().requires_grad_()]
    apart = symmetric_divergence(crf.float(), *passes, LENGTHS, None, mode)
    apart.sum().backward()
    assert not apart.any()
    assert not any(part.grad.any() for part in passes)


def test_symmetric_divergence_in_float32(crf: LinearChainCRF, emissions: torch.Tensor) -> None:
    other = emissions + 0.1 * emissions.flip(0)
    exact = symmetric_divergence(crf, emissions, other, LENGTHS, None, "joint")
    rough = symmetric_divergence(crf.float(), emissions.float(), other.float(), LENGTHS, None, "joint")
    torch.testing.assert_close(rough, exact, rtol=0, atol=1e-5)
    assert (exact > 0.002).all()


def test_distillation_in_float32(crf: LinearChainCRF, emissions: torch.Tensor) -> None:
    exact = distillation_loss(emissions, crf.scores(), emissions.flip(0), crf.scores(), LENGTHS)
    crf.float()
    rough = distillation_loss(emissions.float(), crf.scores(), emissions.flip(0).float(), crf.scores(), LENGTHS)
    assert float(rough) == pytest.approx(float(exact), abs=1e-4)


@pytest.mark.parametrize("mode", ["joint", "marginal", "independent"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_emissions_are_welcome(emissions: torch.Tensor, mode: str, dtype: torch.dtype) -> None:
    crf = LinearChainCRF.biluo(1)
    possible = torch.ones(2, 4, 5, dtype=torch.bool)
    possible[0, 0, 4] = False
    half = emissions.to(dtype)
    losses = [sequence_losses(crf, e, TAGS, LENGTHS, possible, mode) for e in (half, half.double())]
    torch.testing.assert_close(losses[0].double(), losses[1], rtol=0, atol=1e-4)


def test_distillation_is_flat_where_student_and_teacher_agree(crf: LinearChainCRF, emissions: torch.Tensor) -> None:
    leaf = emissions.clone().requires_grad_()
    distillation_loss(leaf, crf.scores(), emissions, crf.scores(), LENGTHS).backward()
    assert leaf.grad.abs().max() < 1e-12
    assert crf.transitions.grad.abs().max() < 1e-12
