from typing import Union

import numpy as np
import pytest
import torch

from spacy_crf_ner import tagging
from spacy_crf_ner.crf.chain import LinearChainCRF, PerLabelChains
from spacy_crf_ner.crf.recursions import Chain
from spacy_crf_ner.crf.uncertainty import MEASURES, uncertainty

from . import brute


@pytest.mark.parametrize("crf", [LinearChainCRF.biluo(2).double(), PerLabelChains(2).double()])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_it_is_that_of_enumeration(crf: Union[LinearChainCRF, PerLabelChains], temperature: float) -> None:
    n_chains, n_tags = crf.scores().start.shape
    lengths = torch.tensor([4, 1, 3]).repeat_interleave(n_chains)
    emissions = torch.randn(len(lengths), 4, n_tags, dtype=torch.float64)
    possible = torch.rand(emissions.shape) < 0.8
    possible[..., 0] = True
    found = uncertainty(crf, emissions, lengths, possible, temperature)
    assert set(found) == set(MEASURES)
    expected = {measure: np.zeros(3) for measure in MEASURES}
    for i, n in enumerate(lengths.tolist()):
        chain = Chain(*(part[i % n_chains][None] / temperature for part in crf.scores()))
        paths, scores = brute.every(emissions[i, :n] / temperature, chain, possible[i, :n])
        p = torch.softmax(scores, 0)
        best = set(tagging.tags_to_spans(paths[int(p.argmax())].tolist()))
        document = i // n_chains
        expected["entropy"][document] += float(torch.special.entr(p).sum())
        expected["best"][document] -= float(p.max().log())
        for path, share in zip(paths.tolist(), p.tolist()):
            expected["errors"][document] += share * len(best ^ set(tagging.tags_to_spans(path)))
        marginals = brute.marginals(emissions[i, :n] / temperature, chain, possible[i, :n])
        top = marginals.sort(-1, descending=True).values
        expected["margin"][document] += float((1 - top[:, 0] + top[:, 1]).sum())
    for measure, values in expected.items():
        assert found[measure] == pytest.approx(values, abs=1e-8), measure


def test_long_documents_stay_apart() -> None:
    """1 − P(best) is 1 for all of these, as far as a number can tell."""
    crf = LinearChainCRF.biluo(1)
    lengths = torch.tensor([2000, 1900])
    found = uncertainty(crf, torch.zeros(2, 2000, 5), lengths)
    assert found["best"][0] > found["best"][1] > 700
