import pytest
import torch

from spacy_crf_ner.embedding.rows import ROWS, few_sizes, filled_up, room_for


def test_sizes_are_few_and_little_larger() -> None:
    assert [few_sizes(n) for n in (0, 1, 7, 8, 9, 16, 17, 33, 1000)] == [0, 1, 7, 8, 10, 16, 20, 40, 1024]
    assert all(n <= few_sizes(n) <= 1.25 * n and few_sizes(few_sizes(n)) == few_sizes(n) for n in range(1, 3000))
    assert len({few_sizes(n) for n in range(1, 2049)}) == 8 + 4 * 8


@pytest.mark.parametrize("n", [1, ROWS - 1, ROWS, ROWS + 1])
def test_rows_are_filled_up_and_copied_only_where_they_must(n: int) -> None:
    rows = torch.randn(n, 3)
    filled = filled_up(rows)
    assert len(filled) == -(-n // ROWS) * ROWS
    assert torch.equal(filled[:n], rows)
    assert (filled.data_ptr() == rows.data_ptr()) == (n == ROWS)
    assert len(filled_up(rows, copy=False)) == n
    roomy = room_for(n, 3, torch.float32)[:n]
    roomy[:] = rows
    again = filled_up(roomy, copy=False)
    assert len(again) == len(filled)
    assert again.data_ptr() == roomy.data_ptr()
    assert torch.equal(again[:n], rows)


def test_memory_that_is_not_theirs_is_not_read() -> None:
    whole = torch.randn(ROWS, 3)
    last = whole[10:]
    assert filled_up(last).data_ptr() != last.data_ptr()
    assert torch.equal(filled_up(last)[: ROWS - 10], last)
    slanted = torch.randn(3, ROWS - 1).T
    assert torch.equal(filled_up(slanted)[: ROWS - 1], slanted)
