import pytest
import torch

from spacy_crf_ner.embedding.rows import ROWS, TILE, few_sizes, missing_rows, with_rows_added


def test_sizes_are_few_and_little_larger() -> None:
    assert [few_sizes(n) for n in (0, 1, 7, 8, 9, 16, 17, 33, 1000)] == [0, 1, 7, 8, 10, 16, 20, 40, 1024]
    assert all(n <= few_sizes(n) <= 1.25 * n and few_sizes(few_sizes(n)) == few_sizes(n) for n in range(1, 3000))
    assert len({few_sizes(n) for n in range(1, 2049)}) == 8 + 4 * 8


def test_numbers_of_rows_are_few_and_fewer_than_a_tile_are_added_to_few() -> None:
    assert [missing_rows(n) for n in (0, 1, 16, 17, 64, 65, 128, 2047)] == [0, 15, 0, 15, 0, 63, 0, 1]
    assert len({n + missing_rows(n) for n in range(1, 2049)}) == 4 + 31


@pytest.mark.parametrize("n", [1, TILE, ROWS - 1, ROWS, ROWS + 1])
def test_rows_are_added_and_copied_only_where_they_must(n: int) -> None:
    rows = torch.randn(n, 3)
    filled = with_rows_added(rows)
    assert len(filled) == n + missing_rows(n)
    assert torch.equal(filled[:n], rows)
    assert (filled.data_ptr() == rows.data_ptr()) == (missing_rows(n) == 0)
    assert len(with_rows_added(rows, copy=False)) == n
    roomy = torch.empty(len(filled), 3)[:n]
    roomy[:] = rows
    again = with_rows_added(roomy, copy=False)
    assert len(again) == len(filled)
    assert again.data_ptr() == roomy.data_ptr()
    assert torch.equal(again[:n], rows)


def test_memory_that_is_not_theirs_is_not_read() -> None:
    whole = torch.randn(ROWS, 3)
    last = whole[10:]
    assert with_rows_added(last).data_ptr() != last.data_ptr()
    assert torch.equal(with_rows_added(last)[: ROWS - 10], last)
    slanted = torch.randn(3, ROWS - 1).T
    assert torch.equal(with_rows_added(slanted)[: ROWS - 1], slanted)
