"""What the benchmarks share: tasks in turns, the machine, texts."""

import os
import platform
import statistics
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import torch


def in_turns(tasks: Dict[str, Callable[[], Any]], rounds: int) -> Dict[str, float]:
    """Median seconds of each task, taken in turns after one round to warm up."""
    seconds: Dict[str, List[float]] = {name: [] for name in tasks}
    for i in range(rounds + 1):
        for name, task in tasks.items():
            synchronize()
            begin = time.perf_counter()
            task()
            synchronize()
            if i:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine() -> str:
    kind = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return f"{kind}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def resident() -> float:
    """Memory that this process holds, in MB. Linux only."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Peak:
    """The most memory that this process holds while the context lasts, in MB, seen every few milliseconds."""

    def __enter__(self) -> "Peak":
        self.before = self.most = resident()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.most = max(self.most, resident())

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()
        self.most = max(self.most, resident())


def read_texts(path: Path, words: int) -> List[str]:
    """Texts of a .spacy file, or the lines of any other, until they have so many words."""
    if path.suffix == ".spacy":
        import spacy
        from spacy.tokens import DocBin

        found = [doc.text for doc in DocBin().from_disk(path).get_docs(spacy.blank("xx").vocab)]
    else:
        found = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    texts: List[str] = []
    n_words = 0
    for text in found:
        if n_words >= words:
            break
        texts.append(text)
        n_words += len(text.split())
    return texts
