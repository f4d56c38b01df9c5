"""What a frozen encoder gave for a document, kept so that it is computed once."""

import logging
import os
import shutil
import tempfile
from typing import Any, Dict, Literal, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from .pieces import Content

logger = logging.getLogger("spacy")

Cache = Literal["none", "memory", "gpu", "disk"]
CACHES = ("none", "memory", "gpu", "disk")
# Share of what is free, when the cache is made, that it may fill.
SHARE = 0.5


class VectorCache:
    """Token vectors by the content of their document, float32.

    What is in stays in: in training, every epoch asks for all documents in another order, so that throwing out
    what was not asked for longest would throw out what comes next. When its share of the memory is full, nothing is
    added.

    place (str): "memory", "gpu", or "disk": a file in the folder for temporary files (TMPDIR), gone with the process.
    device (torch.device): Where the vectors are wanted.
    settings: What they depend on but for the document.
    """

    def __init__(self, place: Cache, device: torch.device, settings: Any = None) -> None:
        self.settings = settings
        self._place = place
        self._device = device
        self._kept: Dict[Content, Tensor] = {}
        self._shapes: Dict[Content, Tuple[int, Tuple[int, ...]]] = {}
        self._file: Any = tempfile.TemporaryFile(prefix="spacy_crf_ner-") if place == "disk" else None  # noqa: SIM115
        self._process = os.getpid()
        self._taken = 0
        self._limit = SHARE * _free(place, device)
        self._full = False

    def __len__(self) -> int:
        return len(self._kept) + len(self._shapes)

    def get(self, key: Content) -> Optional[Tensor]:
        """Vectors of a document, (tokens, width), or None."""
        if key in self._shapes and self._process == os.getpid():  # a forked process would move the file's position
            start, shape = self._shapes[key]
            data = np.empty(shape, dtype=np.float32)
            self._file.seek(start)
            self._file.readinto(data.view(np.uint8).reshape(-1))
            return torch.from_numpy(data).to(self._device)
        kept = self._kept.get(key)
        return None if kept is None else kept.to(self._device)

    def wants(self, key: Content) -> bool:
        """Whether the vectors of a document are not there, and may be put in."""
        is_there = key in self._kept or key in self._shapes
        return not is_there and not self._full and self._process == os.getpid()

    def put(self, key: Content, vectors: Tensor) -> None:
        """Keep the vectors of a document, (tokens, width), while there is room."""
        n_bytes = 4 * vectors.nelement()
        if not n_bytes or not self.wants(key):
            return
        if self._taken + n_bytes > self._limit:
            self._full = True
            logger.warning(
                'cache = "%s": full with the vectors of %d documents (%.1f GB); others are computed in each epoch.',
                self._place, len(self), self._taken / 1e9,
            )  # fmt: skip
            return
        if self._file is not None:
            self._file.seek(self._taken)
            self._file.write(vectors.detach().cpu().numpy().tobytes())
            self._shapes[key] = (self._taken, tuple(vectors.shape))
        else:
            self._kept[key] = vectors.detach().to(self._device if self._place == "gpu" else "cpu", copy=True)
        self._taken += n_bytes


def _free(place: Cache, device: torch.device) -> float:
    """Bytes that are free where vectors are to be kept."""
    if place == "disk":
        return float(shutil.disk_usage(tempfile.gettempdir()).free)
    if place == "gpu" and device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):  # not on every system
        return 8e9
