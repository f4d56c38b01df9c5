"""How many wordpieces go through the encoder at once, so that memory suffices."""

import contextlib
from typing import Callable

import torch

# On a CPU more is no faster: in prediction the activations of these stay near the cache of the core that has them.
CPU_TRAINING, CPU_PREDICTION = 2048, 1536
# With how many a GPU is first tried.
FIRST_TRIAL = 2048
# On a GPU more than this is no faster.
LARGEST_BUDGET = 65_536
# Share of a GPU's free memory that one micro-batch may take; the rest is for token vectors, the CNN and the CRF.
SHARE = 0.5


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def find_budget(device: torch.device, trial: Callable[[int], None]) -> int:
    """Wordpieces that fit into the memory of a GPU at once. RAISES (RuntimeError): Not even a single window does.

    trial (Callable[[int], None]): Runs a micro-batch of so many pieces, with its way back where there is one.
    RETURNS (int): A power of two; see `largest_budget`.
    """
    size = FIRST_TRIAL
    while not _fits(trial, size):  # also for what is allocated once only
        if size == 1:
            raise out_of_memory(size)
        size //= 2
        torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    trial(size)
    taken = torch.cuda.max_memory_allocated(device) - before
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return largest_budget(taken / size, free)


def _fits(trial: Callable[[int], None], size: int) -> bool:
    with contextlib.suppress(torch.OutOfMemoryError):
        trial(size)
        return True
    return False


def largest_budget(bytes_a_piece: float, free: float) -> int:
    """The power of two, up to LARGEST_BUDGET, whose pieces take at most SHARE of so many free bytes."""
    budget = LARGEST_BUDGET
    while budget > 1 and budget * bytes_a_piece > SHARE * free:
        budget //= 2
    return budget


def out_of_memory(n_pieces: int) -> RuntimeError:
    return RuntimeError(
        f"The GPU's memory is too small even for {n_pieces} wordpieces at once. Set micro_batch_pieces to less, use a "
        "smaller window or a smaller encoder, freeze its lower layers (frozen_layers), or free the memory that other "
        "processes hold."
    )
