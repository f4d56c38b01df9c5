"""Whether the GPU kernels of `recursions_triton` can be used."""

import logging
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

# Tags whose moves one program of `recursions_triton` can hold.
MAX_TAGS = 256


def on_chip(emissions: Tensor) -> bool:
    """Whether the kernels of `recursions_triton` can do it."""
    fits = emissions.is_cuda and emissions.dtype == torch.float32 and emissions.shape[2] <= MAX_TAGS
    return fits and kernels_run(emissions.device)


@cache
def kernels_run(device: torch.device) -> bool:
    """Whether the kernels can be compiled and started on a GPU: tried once, on next to nothing."""
    if find_spec("triton") is None:
        return False
    try:
        from . import recursions_triton

        one = torch.ones(2, 1, 1, device=device)
        recursions_triton.run_sums(one[:1], one, one[:, 0], torch.ones(1, dtype=torch.int64), 0.5)
    except Exception as error:  # a compiler or a driver that is missing shows in many ways
        logger.warning("Triton does not run on %s (%s); the CRF takes its slower way there.", device, error)
        return False
    return True
