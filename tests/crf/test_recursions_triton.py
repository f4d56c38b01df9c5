"""The GPU kernels against the loops in torch: on a GPU where there is one, else in Triton's interpreter."""

import os
import subprocess
import sys

import pytest
import torch

from spacy_crf_ner.crf import kernels, scans
from spacy_crf_ner.crf import paths as paths_module
from spacy_crf_ner.crf.chain import LinearChainCRF, PerLabelChains
from spacy_crf_ner.crf.recursions import Chain, log_normalizer, token_marginals, viterbi
from spacy_crf_ner.crf.schedule import Schedule

from . import brute

pytest.importorskip("triton")
from spacy_crf_ner.crf import recursions_triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LENGTHS = torch.tensor([5, 1, 4, 2])


@pytest.fixture
def on_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in float32 goes by the kernels, on the CPU too."""
    for room in (scans, paths_module):
        monkeypatch.setattr(room, "on_chip", lambda emissions: emissions.dtype == torch.float32)


def chains(n_labels: int, overlap: bool) -> Chain:
    crf = PerLabelChains(n_labels) if overlap else LinearChainCRF.biluo(n_labels)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.mul_(10)
    return Chain(*(part.detach() for part in crf.scores()))


@pytest.mark.usefixtures("on_chip")
@pytest.mark.parametrize("overlap", [False, True])
def test_kernels_agree_with_enumeration(overlap: bool) -> None:
    chain = chains(2 if overlap else 1, overlap)
    lengths = LENGTHS.repeat_interleave(len(chain.transitions))
    emissions = 2 * torch.randn(len(lengths), 5, 5)
    there = [emissions.to(DEVICE), Chain(*(part.to(DEVICE) for part in chain)), lengths]
    z, p, paths = (ask(*there).cpu() for ask in (log_normalizer, token_marginals, viterbi))
    for i, n in enumerate(lengths.tolist()):
        own, part = emissions[i, :n].double(), Chain(*(x.double() for x in brute.part(chain, i)))
        torch.testing.assert_close(z[i], brute.log_z(own, part), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(p[i, :n].double(), brute.marginals(own, part), rtol=0, atol=1e-5)
        assert paths[i, :n].tolist() == brute.best(own, part)
        assert (paths[i, n:] == 0).all()
        assert (p[i, n:] == 0).all()


@pytest.mark.parametrize(("n_labels", "overlap"), [(4, False), (8, False), (3, True)])
def test_kernels_do_what_the_loops_do(n_labels: int, overlap: bool) -> None:
    chain = Chain(*(part.to(DEVICE) for part in chains(n_labels, overlap)))
    n_chains, tags = chain.start.shape
    lengths = torch.tensor([40, 3, 1, 17]).repeat_interleave(n_chains)
    emissions = (3 * torch.randn(len(lengths), 40, tags)).to(DEVICE)
    prepared = scans.prepare(emissions, chain)
    moves, floor = scans._both_ways(prepared.moves), scans.DIGITS[torch.float32].floor
    kernel = recursions_triton.run_sums(prepared.local, moves, prepared.edges, lengths, floor)
    loop = scans.run_sums(Schedule(lengths, 40, n_chains, emissions.device), prepared.local, moves, prepared.edges)[:2]
    for a, b in zip(kernel, loop):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    paths = recursions_triton.best_paths(emissions, *chain, lengths)
    assert torch.equal(paths, paths_module.best_paths(emissions.double(), chain, lengths))


@pytest.mark.usefixtures("on_chip")
def test_gradients_through_the_kernels() -> None:
    crf = LinearChainCRF.biluo(2)
    emissions, lengths = torch.randn(3, 9, 9), torch.tensor([9, 5, 1])
    tags = torch.zeros(3, 9, dtype=torch.int64)
    answers = []
    for dtype in (torch.float32, torch.float64):  # the second goes by the loops
        own = LinearChainCRF.biluo(2).to(dtype).to(DEVICE)
        own.load_state_dict(crf.state_dict())
        leaf = emissions.to(DEVICE, dtype).clone().requires_grad_()
        own.log_likelihood(leaf, tags.to(DEVICE), lengths).sum().backward()
        answers.append([leaf.grad, *(parameter.grad for parameter in own.parameters())])
    for a, b in zip(*answers):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-5)


def test_the_kernels_compile_for_a_gpu() -> None:
    """The interpreter takes what the compiler may not: here they go through the compiler, GPU or not."""
    program = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from spacy_crf_ner.crf import recursions_triton as kernels

whole, real, index = "i32", "*fp32", "*i64"
arguments = {
    kernels._sum_kernel: dict(
        local=real, moves=real, edges=real, lengths=index, message=real, scale=real, time=whole, tags=whole,
        chains=whole, floor="fp32", BLOCK="constexpr",
    ),
    kernels._viterbi_kernel: dict(
        emissions=real, transitions=real, start=real, end=real, lengths=index, origins="*i16", last=index, time=whole,
        tags=whole, chains=whole, BLOCK="constexpr",
    ),
    kernels._trace_kernel: dict(origins="*i16", last=index, lengths=index, found=index, time=whole, tags=whole),
}
for kernel, signature in arguments.items():
    for tags in (5, 33, 165) if "BLOCK" in signature else (5,):
        block, warps = kernels._size(tags)
        constants = {"BLOCK": block} if "BLOCK" in signature else {}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs={})
        compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": warps})
        assert compiled.asm["ptx"]
print("compiled")
"""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert result.stdout.strip() == "compiled", result.stderr


@pytest.mark.parametrize("tags", [5, 17, 33, 73, 165, 256])
def test_a_program_holds_all_tags(tags: int) -> None:
    block, warps = recursions_triton._size(tags)
    assert block >= tags
    assert 1 <= warps <= 16
    # at most 128 registers a thread for the moves
    assert block * block <= 128 * 32 * warps


def test_the_kernels_are_for_float32_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu:
        is_cuda, device = True, torch.device("cuda:0")

        def __init__(self, dtype: torch.dtype, tags: int) -> None:
            self.dtype, self.shape = dtype, (1, 1, tags)

    monkeypatch.setattr(kernels, "kernels_run", lambda device: True)
    assert kernels.on_chip(OnGpu(torch.float32, 256))  # type: ignore[arg-type]
    assert not kernels.on_chip(OnGpu(torch.float32, 257))  # type: ignore[arg-type]
    assert not kernels.on_chip(OnGpu(torch.float64, 5))  # type: ignore[arg-type]
    assert not kernels.on_chip(torch.zeros(1, 1, 5))


def test_without_triton_the_loops_run(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no compiler")

    kernels.kernels_run.cache_clear()
    monkeypatch.setattr(recursions_triton, "run_sums", broken)
    assert not kernels.kernels_run(torch.device("cpu"))
    assert "no compiler" in caplog.text
    kernels.kernels_run.cache_clear()
    monkeypatch.undo()
    assert kernels.kernels_run(torch.device(DEVICE))
    kernels.kernels_run.cache_clear()


@pytest.mark.usefixtures("on_chip")
def test_scores_that_are_no_numbers_leave_the_memory_of_others_alone() -> None:
    chain = Chain(*(part.to(DEVICE) for part in chains(4, False)))
    emissions = torch.full((2, 9, 17), torch.nan, device=DEVICE)
    paths = viterbi(emissions, chain, torch.tensor([9, 5]))
    assert 0 <= int(paths.min()) <= int(paths.max()) < 17
