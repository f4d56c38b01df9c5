"""What a logger can learn in the extended loop beyond what spaCy's loop tells it."""

import contextlib
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

Info = Dict[str, Any]


@dataclass
class Watch:
    """A training to be watched.

    output (Optional[Path]): Where it writes; None: nowhere. step (int): Steps that are done, where it is resumed.
    every_step (List[Callable]): What is called after each step, before its logger is, with a dictionary as spaCy's
        loggers get, of which `score` is None where no evaluation followed. Besides there are `step_losses`, what
        `metrics.of_optimizer` says, and `epoch_share`, the share of the epoch's documents that is done.
    """

    output: Optional[Path] = None
    step: int = 0
    every_step: List[Callable[[Info], None]] = field(default_factory=list)

    def tell(self, info: Info) -> None:
        for listen in self.every_step:
            listen(info)


_watched: ContextVar[Optional[Watch]] = ContextVar("_watched", default=None)


@contextlib.contextmanager
def watched_by_loggers(watch: Watch) -> Iterator[None]:
    """Where loggers are made that may ask for `watched_training`, alone or inside of spacy.ChainLogger.v1."""
    token = _watched.set(watch)
    try:
        yield
    finally:
        _watched.reset(token)


def watched_training() -> Optional[Watch]:
    """The training that a logger is being made for; None: spaCy's own loop, which tells of evaluations alone."""
    return _watched.get()
