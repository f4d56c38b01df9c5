"""`ProgressLogger.v1`: a row at each evaluation, and between them how far the training is."""

import logging
import math
import sys
import time
from typing import Any, Callable, Dict, List, Optional, TextIO, Tuple, Union

from spacy.language import Language
from spacy.training.loggers import setup_table
from spacy.util import logger
from wasabi import Printer

from ..machine import resident
from .standing import Standing
from .watching import watched_training

Info = Dict[str, Any]
Logger = Callable[..., Tuple[Callable[[Optional[Info]], None], Callable[[], None]]]
# Seconds between two pictures of the bar.
REFRESH = 0.2


def make_progress_logger(progress_bar: bool = True, line_seconds: float = 60.0) -> Logger:
    """A logger for [training.logger], of spaCy's loop and of the extended one.

    At each evaluation it writes a row to stdout, as spaCy's console logger does, with losses a step. In between it
    shows on stderr how far the training is; of spaCy's own loop it learns no more than the number of the step there.

    progress_bar (bool): Whether a terminal gets a bar that moves; if not, it gets lines as a file does.
    line_seconds (float): Where stderr is no terminal, seconds between two lines there; 0: none.
    RAISES (ValueError): line_seconds is negative.
    """
    if line_seconds < 0:
        raise ValueError(f"[training.logger] line_seconds = {line_seconds} must not be negative.")

    def setup(nlp: Language, stdout: TextIO = sys.stdout, stderr: TextIO = sys.stderr) -> Any:
        training = nlp.config.interpolate()["training"]
        watch = watched_training()
        standing = Standing(training, watch.step if watch else 0)
        shown: Union[Bar, Lines] = Bar(stderr) if progress_bar and stderr.isatty() else Lines(stderr, line_seconds)
        table = Table(nlp, training, stdout)

        def on_step(info: Info) -> None:
            standing.take(info)
            shown.show(standing)

        def log_step(info: Optional[Info]) -> None:
            if watch is None:
                standing.take(info) if info is not None else standing.count()
            if info is not None:
                shown.hide()
                table.write(info, standing)
            shown.show(standing)

        if watch is not None:
            watch.every_step.append(on_step)
        return log_step, shown.close

    return setup


class Table:
    """The rows on stdout. Its head is written when it is made."""

    def __init__(self, nlp: Language, training: Dict[str, Any], out: TextIO) -> None:
        self._out = out
        self._pipes = [name for name, pipe in nlp.pipeline if getattr(pipe, "is_trainable", False)]
        self._scores = [name for name, weight in training["score_weights"].items() if weight is not None]
        head = ["E", "#", *(f"Loss {name}" for name in self._pipes), *self._scores, "Score", "Best", "Words/s", "Time"]
        widths = [3, 6, *(8 for _ in self._pipes), *(6 for _ in self._scores), 6, 4, 7, 8]
        names, self._widths, self._aligns = setup_table(cols=head, widths=widths)
        self._row(names)
        self._row(["-" * width for width in self._widths])

    def write(self, info: Info, standing: Standing) -> None:
        losses = standing.losses_of(info)
        is_best = standing.best is not None and standing.best[1] == info["step"]
        scores = [100 * _number(info["other_scores"].get(name)) for name in self._scores]
        speed = standing.words_a_second
        self._row(
            [
                str(info["epoch"]),
                str(info["step"]),
                *(_figure(losses.get(name, math.nan), "#.4g") for name in self._pipes),
                *(_figure(score / 100 if name == "speed" else score) for name, score in zip(self._scores, scores)),
                _figure(info["score"], ".4f"),
                "*" if is_best else "",
                "-" if speed is None else f"{speed:,.0f}",
                _clock(standing.seconds),
            ]
        )

    def _row(self, cells: List[str]) -> None:
        text = Printer(no_print=True).row(cells, widths=self._widths, aligns=self._aligns, spacing=2)
        print(text, file=self._out, flush=True)


class Lines:
    """Now and then a line, for files."""

    def __init__(self, out: TextIO, seconds: float) -> None:
        self._out, self._seconds = out, seconds
        self._written = time.monotonic()

    def show(self, standing: Standing) -> None:
        if self._seconds and time.monotonic() - self._written >= self._seconds:
            self._written = time.monotonic()
            print(", ".join([how_far(standing), *measures(standing), *patience(standing)]), file=self._out, flush=True)

    def hide(self) -> None:
        """A line stays."""

    def close(self) -> None:
        """Nothing is open."""


class Bar(logging.Handler):
    """A few lines at the bottom of a terminal, which make room for rows and for what spaCy's logger says."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        from rich.console import Console

        self._console = Console(file=out)
        self._live: Any = None
        self._drawn = 0.0
        # the first of the handlers, so that the bar is gone before others write
        logger.handlers.insert(0, self)

    def emit(self, record: logging.LogRecord) -> None:
        self.hide()

    def show(self, standing: Standing) -> None:
        if time.monotonic() - self._drawn >= REFRESH:
            assert self.lock is not None
            with self.lock:  # other threads may log
                self._draw(standing)

    def _draw(self, standing: Standing) -> None:
        self._drawn = time.monotonic()
        if self._live is None:
            from rich.live import Live

            self._live = Live(
                console=self._console,
                transient=True,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
            # a process that is killed leaves a terminal that can be used
            self._console.show_cursor(True)
        self._live.update(self._picture(standing), refresh=True)

    def _picture(self, standing: Standing) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table as Grid
        from rich.text import Text

        first = Grid.grid(padding=(0, 1))
        first.add_row(
            ProgressBar(total=1.0, completed=standing.done or 0.0, width=max(10, self._console.width // 4)),
            Text(how_far(standing), no_wrap=True, overflow="ellipsis"),
        )
        facts = measures(standing)
        half = next((i for i, fact in enumerate(facts) if fact.endswith("words/s")), len(facts))
        lines = [", ".join(facts[:half]), ", ".join(facts[half:]), *patience(standing)]
        return Group(first, *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines if line))

    def hide(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._drawn = 0.0

    def close(self) -> None:
        self.hide()
        if self in logger.handlers:
            logger.handlers.remove(self)
        super().close()


# In words


def how_far(standing: Standing) -> str:
    """Steps, epochs, and the time that is left."""
    last = f"{standing.step - 1:,}" if standing.step else "0"
    parts = [f"step {last}" + (f"/{standing.max_steps:,}" if standing.max_steps else "")]
    if standing.done is not None:
        parts[0] += f" ({standing.done:.0%})"
    epoch = standing.epoch if standing.epochs is None else f"{standing.epochs:.1f}"
    parts.append(f"epoch {epoch}" + (f"/{standing.max_epochs}" if standing.max_epochs > 0 else ""))
    left = standing.seconds_left
    if left is not None:
        parts.append(f"{_clock(left)} left")
    return ", ".join(parts)


def patience(standing: Standing) -> List[str]:
    """When it ends the training, if it does."""
    steps = standing.patience_left
    return [] if steps is None else [f"patience ends it in {steps:,} steps without a better score"]


def measures(standing: Standing) -> List[str]:
    """Losses, rates and norm; then speed, memory and scores."""
    found = [f"loss {name} {loss:.4g}" for name, loss in standing.losses.items()]
    found += [f"rate {name} {rate:.3g}" if name else f"rate {rate:.3g}" for name, rate in standing.rates.items()]
    if standing.gradient_norm is not None:
        found.append(f"norm {standing.gradient_norm:.3g}")
    if standing.words_a_second is not None:
        found.append(f"{standing.words_a_second:,.0f} words/s")
    found.append(f"memory {resident() / 1e9:.1f} GB")
    on_gpu = _gpu_memory()
    if on_gpu:
        found.append(f"GPU {on_gpu / 1e9:.1f} GB")
    if standing.score is not None and standing.best is not None:
        best, step = standing.best
        found.append(f"score {standing.score:.4f}, best {best:.4f} at step {step:,}")
    return found


def _gpu_memory() -> int:
    """Bytes that torch holds on the GPU in use; 0 where there is none."""
    import torch

    return torch.cuda.memory_reserved() if torch.cuda.is_available() and torch.cuda.is_initialized() else 0


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _figure(value: float, form: str = ".2f") -> str:
    return "-" if math.isnan(value) else format(value, form)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
