import pytest
import torch
from torchcrf import CRF

from spacy_crf_ner import tagging
from spacy_crf_ner.crf.chain import LinearChainCRF, PerLabelChains, allowed_by
from spacy_crf_ner.crf.recursions import Chain

from . import brute

LENGTHS = torch.tensor([4, 2, 1])


def test_without_constraints_it_is_pytorch_crf() -> None:
    theirs, ours = CRF(5), LinearChainCRF(5)
    assert set(theirs.state_dict()) == set(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    emissions, tags = torch.randn(40, 3, 5), torch.randint(0, 5, (40, 3))
    mask = torch.arange(40)[:, None] < torch.tensor([40, 7, 1])
    gradients = []
    for crf in (theirs, ours):
        leaf = emissions.clone().requires_grad_()
        loss = -crf(leaf, tags, mask, reduction="token_mean")
        loss.backward()
        gradients.append([loss.detach(), leaf.grad, *(p.grad for p in crf.parameters())])
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert theirs.decode(emissions, mask) == ours.decode(emissions, mask)
    torch.testing.assert_close(
        theirs(emissions, tags, mask, reduction="none"),
        ours(emissions, tags, mask, reduction="none"),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("reduction", ["sum", "mean", "token_mean"])
def test_batch_first_and_reductions_are_those_of_pytorch_crf(reduction: str) -> None:
    theirs, ours = CRF(4, batch_first=True), LinearChainCRF(4, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    emissions, tags = torch.randn(2, 6, 4), torch.randint(0, 4, (2, 6))
    torch.testing.assert_close(
        theirs(emissions, tags, reduction=reduction), ours(emissions, tags, reduction=reduction), rtol=1e-4, atol=1e-4
    )


def test_biluo_likelihood_counts_legal_sequences_only() -> None:
    crf = LinearChainCRF.biluo(1).double()
    emissions = torch.randn(3, 4, 5, dtype=torch.float64)
    chain = crf.scores()
    for i, n in enumerate(LENGTHS.tolist()):
        z = brute.log_z(emissions[i, :n], chain)
        total = 0.0
        for tags, score in brute.sequences(emissions[i, :n], chain):
            tagging.tags_to_spans(tags)  # raises where it is not legal
            one = torch.tensor([tags])
            ours = crf.log_likelihood(emissions[i : i + 1, :n], one, LENGTHS[i : i + 1])
            torch.testing.assert_close(ours[0], score - z, rtol=0, atol=1e-10)
            total += float(ours.exp())
        assert total == pytest.approx(1.0)


def test_decoded_sequences_are_legal_whatever_the_emissions() -> None:
    crf = LinearChainCRF.biluo(3)
    emissions = 10 * torch.randn(20, 30, 13)
    for path in crf.best_paths(emissions, torch.full((20,), 30)).tolist():
        tagging.tags_to_spans(path)


def test_unknown_tags_are_summed_out() -> None:
    crf = LinearChainCRF.biluo(1).double()
    emissions = torch.randn(3, 4, 5, dtype=torch.float64)
    tags = torch.tensor([[0, -1, -1, 0], [-1, -1, 0, 0], [4, 0, 0, 0]])
    possible = torch.rand(3, 4, 5) < 0.9
    possible[..., [0, 4]] = True
    ours = crf.log_likelihood(emissions, tags, LENGTHS, possible)
    chain = crf.scores()
    for i, n in enumerate(LENGTHS.tolist()):
        free = possible[i, :n]
        known = free & allowed_by(tags[i, :n], 5)
        expected = brute.log_z(emissions[i, :n], chain, known) - brute.log_z(emissions[i, :n], chain, free)
        torch.testing.assert_close(ours[i], expected, rtol=0, atol=1e-10)


def test_per_label_chains_are_single_chains_side_by_side() -> None:
    chains = PerLabelChains(3).double()
    assert chains.transitions.shape == (3, 5, 5)
    emissions = torch.randn(2 * 3, 4, 5, dtype=torch.float64)
    lengths = torch.tensor([4, 4, 4, 2, 2, 2])
    together = chains.best_paths(emissions, lengths)
    z = chains.forward_backward(emissions, lengths).log_z
    for label in range(3):
        single = LinearChainCRF.biluo(1).double()
        with torch.no_grad():
            for name in ("transitions", "start_transitions", "end_transitions"):
                getattr(single, name).copy_(getattr(chains, name)[label])
        for document in range(2):
            i = 3 * document + label
            alone = single.best_paths(emissions[i : i + 1], lengths[i : i + 1])
            assert together[i].tolist() == alone[0].tolist()
            torch.testing.assert_close(z[i], single.forward_backward(emissions[i : i + 1], lengths[i : i + 1]).log_z[0])


def test_temperature_divides_every_score() -> None:
    crf = LinearChainCRF.biluo(1).double()
    emissions = torch.randn(1, 4, 5, dtype=torch.float64)
    warm = crf.forward_backward(emissions, torch.tensor([4]), temperature=2.5)
    chain = Chain(*(part / 2.5 for part in crf.scores()))
    torch.testing.assert_close(warm.log_marginals()[0].exp(), brute.marginals(emissions[0] / 2.5, chain))


def test_gold_that_is_not_legal_is_named() -> None:
    crf = LinearChainCRF.biluo(1)
    emissions, lengths = torch.randn(2, 3, 5), torch.tensor([3, 2])
    tags = torch.tensor([[0, 4, 0], [0, 2, 0]])
    with pytest.raises(ValueError, match="sequence 1 of the batch are not legal"):
        crf.log_likelihood(emissions, tags, lengths)
    mask = torch.arange(3) < lengths[:, None]
    with pytest.raises(ValueError, match="sequence 1 of the batch are not legal"):
        crf(emissions, tags, mask)
    with pytest.raises(ValueError, match="mask has gaps"):
        crf.decode(emissions, torch.tensor([[True, False, True], [True, True, False]]))
    with pytest.raises(ValueError, match="n = 0"):
        crf.n_best_paths(emissions, lengths, 0)
