"""Numbers of rows that come in few sizes.

oneDNN compiles a kernel for each number of rows that a matrix has, which takes it up to 15 ms, and keeps it, up to a
megabyte. Texts have any number of wordpieces: without more ado the first of them would be slow on a CPU, and memory
would grow for long.
"""

import torch
from torch import Tensor

# Rows are filled up to a whole number of the first where they are few, of the second where they are many.
TILE, ROWS = 16, 64


def missing_rows(n_rows: int) -> int:
    """How many rows to add, to a whole number of TILE up to ROWS, and of ROWS beyond."""
    return -n_rows % (TILE if n_rows <= ROWS else ROWS)


def few_sizes(n: int) -> int:
    """The smallest of the numbers 0 to 8, 10, 12, 14, 16, 20, 24, … that is not below n.

    There are four from a power of 2 to the next.
    """
    coarse = max(0, n.bit_length() - 3)
    return -(-n >> coarse) << coarse


def with_rows_added(rows: Tensor, copy: bool = True) -> Tensor:
    """Rows and, after them, those that are missing, of whatever content.

    rows (Tensor): On the CPU, (n, width). Where their memory goes on far enough, as it does in what a layer made of
        such rows, nothing is copied.
    copy (bool): Whether they may be copied otherwise; if not, they are given back as they are.
    RETURNS (Tensor): (n and the missing ones, width).
    """
    n_rows, width = rows.shape
    n_filled = n_rows + missing_rows(n_rows)
    end = rows.storage_offset() + n_filled * width
    if rows.is_contiguous() and end * rows.element_size() <= rows.untyped_storage().nbytes():
        return rows.as_strided((n_filled, width), (width, 1))
    return copied_with_rows_added(rows, rows.dtype) if copy else rows


def copied_with_rows_added(rows: Tensor, kind: torch.dtype) -> Tensor:
    """`with_rows_added` to a copy, of another kind of numbers."""
    filled = rows.new_empty(len(rows) + missing_rows(len(rows)), rows.shape[1], dtype=kind)
    filled[: len(rows)] = rows
    return filled
