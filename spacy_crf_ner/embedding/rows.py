"""Numbers of rows that come in few sizes.

oneDNN compiles a kernel for each number of rows that a matrix has, which takes it up to 15 ms, and keeps it, up to a
megabyte. Texts have any number of wordpieces: without more ado the first of them would be slow on a CPU, and memory
would grow for long.
"""

import torch
from torch import Tensor

ROWS = 64


def missing_rows(n_rows: int, whole: int = ROWS) -> int:
    """How many rows to add, for a whole number of `whole`."""
    return -n_rows % whole


def few_sizes(n: int) -> int:
    """The next of the numbers 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, …: four from a power of 2 to the next."""
    coarse = max(0, n.bit_length() - 3)
    return -(-n >> coarse) << coarse


def room_for(n_rows: int, width: int, dtype: torch.dtype) -> Tensor:
    """Rows of whatever content on the CPU, (a whole number of ROWS, width)."""
    return torch.empty(n_rows + missing_rows(n_rows), width, dtype=dtype)


def filled_up(rows: Tensor, copy: bool = True) -> Tensor:
    """Rows with others of whatever content after them, (a whole number of ROWS, width).

    rows (Tensor): On the CPU, (n, width). Where their memory goes on far enough, as it does in what a layer made of
        such rows, nothing is copied.
    copy (bool): Whether they may be copied otherwise; if not, they are given back.
    """
    n_rows, width = rows.shape
    more = missing_rows(n_rows)
    end = rows.storage_offset() + (n_rows + more) * width
    if rows.is_contiguous() and end * rows.element_size() <= rows.untyped_storage().nbytes():
        return rows.as_strided((n_rows + more, width), (width, 1))
    if not copy:
        return rows
    filled = room_for(n_rows, width, rows.dtype)
    filled[:n_rows] = rows
    return filled
