import copy
from typing import Any

import pytest
import torch

from spacy_crf_ner.embedding import fused

from .shapes import Shapes
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


def test_kernels_that_are_dear_to_compile_are_compiled_for_few_numbers_of_rows() -> None:
    encoder = fused.fuse(bert().bfloat16())
    wide, narrow = encoder.config.intermediate_size, encoder.config.hidden_size
    with Shapes() as shapes, torch.no_grad():
        for n, longest in ((1, 7), (5, 9), (9, 13), (7, 21)):
            ids = torch.randint(5, 90, (n, longest))
            encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
    widths = [width for _, width in shapes.seen]
    assert set(widths) == {wide, narrow}
    after_gelu = [rows for rows, width in shapes.seen if width == wide]
    # what comes before a wide one is the layer with a GELU
    with_gelu = [shapes.seen[i - 1][0] for i, width in enumerate(widths) if width == wide]
    assert set(after_gelu) == set(with_gelu) == {16, 48, 128, 192}
