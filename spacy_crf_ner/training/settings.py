"""The section [training_extras] of a configuration: what `crf-ner train` can do beyond `spacy train`."""

import contextlib
import difflib
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import Any, Callable, Dict, Iterator, Optional, Sequence

from spacy.schemas import ConfigSchemaTraining
from spacy.util import logger, registry
from thinc.api import Config

SECTION = "training_extras"
# Settings that a resumed training may have other values of.
CHANGEABLE = (
    "training.max_steps",
    "training.max_epochs",
    "training.patience",
    "training.logger.",
    f"{SECTION}.checkpoint_steps",
    f"{SECTION}.checkpoint_minutes",
    f"{SECTION}.keep_checkpoints",
    f"{SECTION}.curves",
)
_honoured: ContextVar[bool] = ContextVar("_honoured", default=False)
HOOKS = ("train_begin", "epoch_begin", "step_end", "evaluation_end", "before_save", "train_end")


@dataclass
class TrainingExtras:
    """Settings of the extended training loop.

    checkpoint_steps (int): Steps between two checkpoints; 0: by time alone.
    checkpoint_minutes (float): Minutes between two checkpoints; 0: by steps alone. Both 0: one at the end, and one when
        the training is interrupted.
    keep_checkpoints (int): How many are kept.
    micro_batch_tokens (int): Tokens that go through the pipeline at once; gradients of a larger batch are added up
        before the step, and of crf_ner are those of the whole batch. 0: [training] accumulate_gradient decides.
    log_steps (int): Steps between two lines in metrics.jsonl.
    plateau_patience (int): Evaluations without a better score after which all rates are lowered; 0: they are not.
    plateau_factor (float): What they are multiplied by.
    shuffle_buffer (int): With max_epochs = -1, where the corpus is read as a stream: documents that are held, of which
        the next is drawn; 0: they come in their order.
    curves (bool): Whether training.png and training.html are drawn.
    weight_statistics (bool): Whether weights.jsonl and weights.png tell of the weights at each evaluation.
    hooks (Dict[str, Callable]): Registered callbacks, by when they are called: see HOOKS and docs/training.md.
    """

    checkpoint_steps: int = 0
    checkpoint_minutes: float = 15.0
    keep_checkpoints: int = 2
    micro_batch_tokens: int = 0
    log_steps: int = 1
    plateau_patience: int = 0
    plateau_factor: float = 0.5
    shuffle_buffer: int = 0
    curves: bool = True
    weight_statistics: bool = False
    hooks: Dict[str, Optional[Callable]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (
            "checkpoint_steps",
            "checkpoint_minutes",
            "micro_batch_tokens",
            "plateau_patience",
            "shuffle_buffer",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"[{SECTION}] {name} = {getattr(self, name)} must not be negative.")
        for name in ("keep_checkpoints", "log_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"[{SECTION}] {name} = {getattr(self, name)} must be at least 1.")
        if not 0 < self.plateau_factor < 1:
            raise ValueError(f"[{SECTION}] plateau_factor = {self.plateau_factor} must lie between 0 and 1.")
        for name in self.hooks:
            if name not in HOOKS:
                raise ValueError(f"[{SECTION}.hooks] {name}: there is no such hook. There are {', '.join(HOOKS)}.")


def read_extras(config: Config) -> TrainingExtras:
    """RAISES (ValueError): There is a setting that is not known, or out of its range."""
    found: Dict[str, Any] = registry.resolve({SECTION: config.get(SECTION, {})})[SECTION]
    known = {f.name: f.type for f in fields(TrainingExtras)}
    for name, value in found.items():
        if name not in known:
            raise ValueError(f"[{SECTION}] {name}: there is no such setting. There are {', '.join(known)}.")
        wanted = type(getattr(TrainingExtras(), name))
        fits = isinstance(value, wanted) or (wanted is float and isinstance(value, int))
        if not fits or (isinstance(value, bool) and wanted is not bool):
            what = {bool: "true or false", dict: "a section"}.get(wanted, "a number")
            raise ValueError(f"[{SECTION}] {name} = {value!r} must be {what}.")
    return TrainingExtras(**found)


@contextlib.contextmanager
def extended_loop() -> Iterator[None]:
    """Where the section is honoured."""
    token = _honoured.set(True)
    try:
        yield
    finally:
        _honoured.reset(token)


def warn_of_extras(config: Config) -> None:
    """Say, where it is not, that plain `spacy train` knows nothing of the section."""
    if config.get(SECTION) and not _honoured.get():
        logger.warning(
            "The configuration has a section [%s], which spacy train knows nothing of and passes over. "
            "python -m spacy crf-ner train, with the same arguments, honours it.",
            SECTION,
        )


def warn_of_unknown(config: Config) -> None:
    """Name what nobody reads: settings of [training] that spaCy drops without a word, sections whose name is nearly
    that of another."""
    known = [*ConfigSchemaTraining.model_fields]
    for name in config.get("training", {}):
        if name not in known:
            logger.warning(
                "[training] %s: there is no such setting, and it is passed over%s.", name, _guess(name, known)
            )
    sections = ["paths", "system", "nlp", "components", "corpora", "training", "initialize", "pretraining", SECTION]
    for name in config:
        if name not in sections and _guess(name, sections):
            logger.warning("[%s]: nothing reads this section%s.", name, _guess(name, sections))


def _guess(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f"; is {close[0]} meant" if close else ""


def changed_settings(old: Config, new: Config) -> Dict[str, Any]:
    """Settings whose values differ and must not. RETURNS: By dotted name, both values."""
    before, after = _flat(old), _flat(new)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {name: (before.get(name), after.get(name)) for name in names if not name.startswith(CHANGEABLE)}


def _flat(config: Dict[str, Any], path: str = "") -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for key, value in config.items():
        name = f"{path}.{key}" if path else key
        found.update(_flat(value, name) if isinstance(value, dict) else {name: value})
    return found
