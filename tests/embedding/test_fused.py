import copy
from typing import Any

import pytest
import torch

from spacy_crf_ner.embedding import fused

from .test_int8 import batches, bert, distilbert, electra, relative_error, roberta, run

pytestmark = pytest.mark.skipif(not fused.works(), reason="this build of torch lacks the operator")


@pytest.mark.parametrize("make", [bert, distilbert, roberta, electra])
def test_an_encoder_of_fused_layers_is_the_same_in_bfloat16(make: Any) -> None:
    exact = make()
    plain = copy.deepcopy(exact).bfloat16()
    encoder = fused.fuse(copy.deepcopy(plain))
    assert not any(isinstance(part, torch.nn.Linear) for part in encoder.modules())
    for ids, mask in batches(100):
        expected = run(exact, ids, mask)
        theirs = relative_error(run(plain, ids, mask).float(), expected)
        assert relative_error(run(encoder, ids, mask).float(), expected) < 1.2 * theirs < 0.05


@pytest.mark.parametrize(("make", "kind"), [(bert, "none"), (roberta, "tanh"), (electra, None), (distilbert, None)])
def test_it_is_found_where_gelu_follows(make: Any, kind: Any) -> None:
    found = fused.followed_by_gelu(make())
    assert set(found.values()) == ({kind} if kind else set())
    assert len(found) == (2 if kind else 0)
