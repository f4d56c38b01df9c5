import pytest
import torch

from spacy_crf_ner.crf.recursions import (
    FORBIDDEN,
    Chain,
    forward_backward,
    log_normalizer,
    path_score,
    viterbi,
)

from . import brute

LENGTHS = torch.tensor([3, 5, 1, 5])


def random_chain(n_tags: int, chains: int = 1, forbid: float = 0.0) -> Chain:
    transitions = torch.randn(chains, n_tags, n_tags, dtype=torch.float64)
    start, end = torch.randn(chains, n_tags, dtype=torch.float64), torch.randn(chains, n_tags, dtype=torch.float64)
    if forbid:
        # tag 0 stays free, so that a legal sequence is left
        blocked = torch.rand(transitions.shape) < forbid
        blocked[:, 0] = False
        blocked[:, :, 0] = False
        transitions = transitions.masked_fill(blocked, FORBIDDEN)
        start[:, 2], end[:, 1] = FORBIDDEN, FORBIDDEN
    return Chain(transitions, start, end)


@pytest.mark.parametrize(("n_tags", "chains", "forbid"), [(2, 1, 0), (4, 1, 0), (4, 1, 0.4), (3, 4, 0.3)])
def test_everything_agrees_with_enumeration(n_tags: int, chains: int, forbid: float) -> None:
    chain = random_chain(n_tags, chains, forbid)
    emissions = torch.randn(4, 5, n_tags, dtype=torch.float64)
    emissions[1, 2, 1] = FORBIDDEN
    z = log_normalizer(emissions, chain, LENGTHS)
    scores = forward_backward(emissions, chain, LENGTHS)
    paths = viterbi(emissions, chain, LENGTHS)
    for i, n in enumerate(LENGTHS.tolist()):
        own, part = emissions[i, :n], brute.part(chain, i)
        torch.testing.assert_close(z[i], brute.log_z(own, part), rtol=0, atol=1e-10)
        torch.testing.assert_close(scores.log_z[i], brute.log_z(own, part), rtol=0, atol=1e-10)
        marginals = scores.log_marginals()[i, :n].exp()
        torch.testing.assert_close(marginals, brute.marginals(own, part), rtol=0, atol=1e-10)
        assert paths[i, :n].tolist() == brute.best(own, part)
        assert (paths[i, n:] == 0).all()


@pytest.mark.parametrize("chains", [1, 4])
def test_gradient_of_log_z_is_that_of_finite_differences(chains: int) -> None:
    chain = random_chain(3, chains, 0.3)
    legal = [part > FORBIDDEN / 2 for part in chain]
    emissions = torch.randn(4, 5, 3, dtype=torch.float64, requires_grad=True)
    parts = [part.clone().requires_grad_() for part in chain]

    def function(emissions: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
        masked = [part.masked_fill(~ok, FORBIDDEN) for part, ok in zip(parts, legal)]
        return log_normalizer(emissions, Chain(*masked), LENGTHS)

    # a forbidden score takes no step, or the differences would be 1e30
    free = [part.detach().masked_fill(~ok, 0.0).requires_grad_() for part, ok in zip(parts, legal)]
    assert torch.autograd.gradcheck(function, (emissions, *free))


def test_path_score_reads_each_sequence_to_its_end() -> None:
    chain, emissions = random_chain(3, 4), torch.randn(4, 5, 3, dtype=torch.float64)
    tags = torch.randint(0, 3, (4, 5))
    scores = path_score(emissions, chain, tags, LENGTHS)
    for i, n in enumerate(LENGTHS.tolist()):
        every = dict(brute.sequences(emissions[i, :n], brute.part(chain, i)))
        torch.testing.assert_close(scores[i], every[tuple(tags[i, :n].tolist())])


def test_ten_thousand_tokens_in_float32_agree_with_float64() -> None:
    exact = random_chain(5, forbid=0.3)
    chain = Chain(*(part.float().requires_grad_() for part in exact))
    emissions = (3 * torch.randn(2, 10_000, 5)).requires_grad_()
    lengths = torch.tensor([10_000, 9_000])
    log_normalizer(emissions, chain, lengths).sum().backward()
    marginals = emissions.grad
    assert (marginals[0].sum(-1) - 1).abs().max() < 1e-5
    assert (marginals[1].sum(-1) - (torch.arange(10_000) < 9_000).float()).abs().max() < 1e-5
    assert float(chain.transitions.grad.double().sum()) == pytest.approx(18_998, rel=1e-5)
    reference = forward_backward(emissions.detach().double(), exact, lengths).log_marginals().exp()
    torch.testing.assert_close(marginals[0].double(), reference[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(marginals[1, :9_000].double(), reference[1, :9_000], rtol=0, atol=1e-4)


def test_a_legal_path_far_behind_an_illegal_one_is_found_and_scored() -> None:
    # tag 1 wins by 200 nats a token, but only 0 -> 0 is legal
    chain = Chain(*(part.float() for part in random_chain(2)))
    chain.transitions[0] = torch.tensor([[0.0, FORBIDDEN], [FORBIDDEN, FORBIDDEN]])
    emissions = torch.tensor([[0.0, 200.0]]).repeat(6, 1)[None]
    lengths = torch.tensor([6])
    assert viterbi(emissions, chain, lengths).tolist() == [[0] * 6]
    score = path_score(emissions, chain, torch.zeros(1, 6, dtype=torch.int64), lengths)
    torch.testing.assert_close(log_normalizer(emissions, chain, lengths), score)


@pytest.mark.parametrize("size", [0.0, 1e4])
def test_equal_and_extreme_emissions_stay_finite_and_right(size: float) -> None:
    chain = random_chain(3, forbid=0.3)
    emissions = size * torch.sign(torch.randn(1, 5, 3, dtype=torch.float64))
    lengths = torch.tensor([5])
    torch.testing.assert_close(
        log_normalizer(emissions, chain, lengths)[0], brute.log_z(emissions[0], chain), rtol=1e-12, atol=1e-10
    )
    leaf = emissions.float().requires_grad_()
    log_normalizer(leaf, Chain(*(p.float() for p in chain)), lengths).sum().backward()
    assert torch.isfinite(leaf.grad).all()
    torch.testing.assert_close(leaf.grad.sum(-1), torch.ones(1, 5), atol=1e-4, rtol=0)


def test_a_batch_gives_what_each_sequence_gives_alone() -> None:
    chain = Chain(*(part.float() for part in random_chain(5)))
    emissions = torch.randn(4, 5, 5)
    together = log_normalizer(emissions, chain, LENGTHS)
    for i, n in enumerate(LENGTHS.tolist()):
        alone = log_normalizer(emissions[i : i + 1, :n], chain, LENGTHS[i : i + 1])
        torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("lengths", [[0, 1], [1, 6], [1]])
def test_wrong_lengths_are_refused(lengths: list) -> None:
    with pytest.raises(ValueError, match=r"[Ll]engths"):
        log_normalizer(torch.zeros(2, 5, 2), random_chain(2), torch.tensor(lengths))
