"""training.log: what spaCy's logger says while a pipeline trains, with the time, and the traceback if it fails."""

import logging
from pathlib import Path
from types import TracebackType
from typing import Any, List, Optional, Type

from spacy.util import logger

from .loop import Interrupted

LOG = "training.log"
FORMAT = "%(asctime)s %(levelname)s %(message)s"


class TrainingLog(logging.Handler):
    """Takes all messages from INFO on, and what ends the training; the console gets no more than before.

    Messages from before `open` are kept until then, and are lost where it is never called.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._early: List[logging.LogRecord] = []
        self._file: Optional[logging.FileHandler] = None

    def open(self, path: Path) -> None:
        """Write to the end of a file from now on, the messages so far first."""
        self._file = logging.FileHandler(path, encoding="utf-8")
        self._file.setFormatter(logging.Formatter(FORMAT))
        for record in self._early:
            self._file.handle(record)
        self._early.clear()

    def emit(self, record: logging.LogRecord) -> None:
        if self._file is None:
            self._early.append(record)
        else:
            self._file.handle(record)

    def __enter__(self) -> "TrainingLog":
        before = logger.getEffectiveLevel()
        self._levels = [(handler, handler.level) for handler in logger.handlers]
        self._level = logger.level
        if before > logging.INFO:
            for handler, level in self._levels:
                handler.setLevel(max(level, before))
            logger.setLevel(logging.INFO)
        logger.addHandler(self)
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        logger.removeHandler(self)
        logger.setLevel(self._level)
        for handler, level in self._levels:
            handler.setLevel(level)
        if self._file is not None:
            if isinstance(error, (Interrupted, KeyboardInterrupt)):
                self._write(logging.WARNING, "The training was interrupted.")
            elif error is not None:
                self._write(logging.ERROR, "The training has failed.", (kind, error, trace))
            self._file.close()

    def _write(self, level: int, message: str, error: Any = None) -> None:
        assert self._file is not None
        self._file.handle(logging.LogRecord(logger.name, level, __file__, 0, message, None, error))
