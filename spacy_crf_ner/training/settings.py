"""The section [training_extras] of a configuration: what `crf-ner train` can do beyond `spacy train`."""

import contextlib
import difflib
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from spacy.language import DEFAULT_CONFIG
from spacy.schemas import ConfigSchemaTraining
from spacy.util import logger, registry
from thinc.api import Config

from ..corpora.multi import NAME as MULTI_CORPUS
from ..corpora.segments import NAME as SEGMENTS
from .phases import read_phases

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
    f"{SECTION}.tokenize_ahead",
    f"{SECTION}.curves",
)
# Settings of [training] that are numbers, and their least values; spaCy looks at their kind alone.
LEAST = {"accumulate_gradient": 1, "eval_frequency": 1, "max_epochs": -1, "max_steps": 0, "patience": 0, "dropout": 0}
HOOKS = ("train_begin", "epoch_begin", "step_end", "evaluation_end", "before_save", "train_end")
_honoured: ContextVar[bool] = ContextVar("_honoured", default=False)


@dataclass
class CorpusExtras:
    """What [training_extras.corpora.NAME] says of a corpus in a MultiCorpus.

    batcher (Optional[Dict[str, Any]]): A block with @batchers, which makes batches of this corpus alone. None: it
        shares [training.batcher] with the others.
    pipes (Optional[List[str]]): Names of the pipes that learn from it; None: all.
    """

    batcher: Optional[Dict[str, Any]] = None
    pipes: Optional[List[str]] = None


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
    tokenize_ahead (int): Batches whose wordpieces are made in a thread before their step comes; 0: in the step.
    one_batch_of_each (bool): With a MultiCorpus: a step has one batch of each of its corpora.
    corpora (Dict[str, CorpusExtras]): With a MultiCorpus: settings of its corpora, by name.
    adversarial_epsilon (float): Above 0: each batch goes through once more with its embeddings moved so far towards a
        higher loss, and both gradients are added up; see `adversarial.Adversary`.
    adversarial_parameters (str): What is moved: a shell-style pattern on `pipe/parameter`.
    phases (Dict[str, Dict]): Which pipes learn until which step; see `phases.Phase`.
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
    tokenize_ahead: int = 0
    one_batch_of_each: bool = False
    corpora: Dict[str, CorpusExtras] = field(default_factory=dict)
    adversarial_epsilon: float = 0.0
    adversarial_parameters: str = "*word_embeddings.weight"
    phases: Dict[str, Any] = field(default_factory=dict)
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
            "tokenize_ahead",
            "adversarial_epsilon",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"[{SECTION}] {name} = {getattr(self, name)} must not be negative.")
        for name in ("keep_checkpoints", "log_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"[{SECTION}] {name} = {getattr(self, name)} must be at least 1.")
        if not 0 < self.plateau_factor < 1:
            raise ValueError(f"[{SECTION}] plateau_factor = {self.plateau_factor} must lie between 0 and 1.")
        for name, hook in self.hooks.items():
            if name not in HOOKS:
                raise ValueError(f"[{SECTION}.hooks] {name}: there is no such hook. There are {', '.join(HOOKS)}.")
            if hook is not None and not callable(hook):
                raise ValueError(
                    f"[{SECTION}.hooks] {name} = {hook!r} is no function. A hook is a section [{SECTION}.hooks.{name}] "
                    "with @callbacks, whose function has to return the hook."
                )


def read_extras(config: Config) -> TrainingExtras:
    """RAISES (ValueError): There is a setting that is not known, or out of its range."""
    section = dict(config.get(SECTION, {}))
    # not resolved: schedules of a batcher are counted where it is made
    corpora = section.pop("corpora", {})
    found: Dict[str, Any] = registry.resolve({SECTION: section})[SECTION]
    found["corpora"] = corpora
    known = {f.name: f.type for f in fields(TrainingExtras)}
    for name, value in found.items():
        if name not in known:
            raise ValueError(f"[{SECTION}] {name}: there is no such setting. There are {', '.join(known)}.")
        wanted = type(getattr(TrainingExtras(), name))
        fits = isinstance(value, wanted) or (wanted is float and isinstance(value, int))
        if not fits or isinstance(value, bool) != (wanted is bool):
            kind = {dict: "a section", bool: "true or false", str: "text"}.get(wanted, "a number")
            raise ValueError(f"[{SECTION}] {name} = {value!r} must be {kind}.")
    found["corpora"] = {name: _read_corpus(name, block) for name, block in corpora.items()}
    extras = TrainingExtras(**found)
    read_phases(extras.phases, config.get("nlp", {}).get("pipeline", []))
    return extras


def _read_corpus(name: str, block: Any) -> CorpusExtras:
    """RAISES (ValueError): A setting of a corpus is not known, or not of its kind."""
    place = f"[{SECTION}.corpora.{name}]"
    if not isinstance(block, dict):
        raise ValueError(f"{place} must be a section.")
    known = [f.name for f in fields(CorpusExtras)]
    for key in block:
        if key not in known:
            raise ValueError(f"{place} {key}: there is no such setting. There are {', '.join(known)}.")
    batcher, pipes = block.get("batcher"), block.get("pipes")
    if batcher is not None and not (isinstance(batcher, dict) and "@batchers" in batcher):
        raise ValueError(f"{place} batcher must be a section with @batchers, as [training.batcher] is, or null.")
    if pipes is not None and not (isinstance(pipes, list) and pipes and all(isinstance(pipe, str) for pipe in pipes)):
        raise ValueError(f"{place} pipes = {pipes!r} must be a list with the name of at least one pipe, or null.")
    return CorpusExtras(batcher, pipes)


def training_setting(config: Config, name: str) -> Any:
    """A setting of [training], or what spaCy puts there where it is missing. config: All variables filled in."""
    section = config.get("training", {})
    if name in section:
        return section[name]
    default = DEFAULT_CONFIG["training"][name]
    if isinstance(default, str) and default.startswith("${system."):
        name = default[len("${system.") : -1]
        return config.get("system", {}).get(name, DEFAULT_CONFIG["system"][name])
    return default


def check_training(config: Config) -> None:
    """RAISES (ValueError): The configuration describes no pipeline, or a number in [training] is out of its range.

    config (Config): All variables filled in.
    """
    if "lang" not in config.get("nlp", {}):
        raise ValueError("[nlp] lang is missing: is this the configuration of a pipeline?")
    for name, least in LEAST.items():
        value = training_setting(config, name)
        kinds = (int, float) if name == "dropout" else int
        if isinstance(value, bool) or not isinstance(value, kinds) or value < least:
            kind = "a number" if name == "dropout" else "a whole number"
            raise ValueError(f"[training] {name} = {value!r} must be {kind}, at least {least}.")
    if training_setting(config, "dropout") >= 1:
        raise ValueError(f"[training] dropout = {config['training']['dropout']} must be below 1.")
    for name, weight in training_setting(config, "score_weights").items():
        if weight is not None and (isinstance(weight, bool) or not isinstance(weight, (int, float))):
            raise ValueError(f"[training.score_weights] {name} = {weight!r} must be a number, or null.")
    for name in ("train_corpus", "dev_corpus"):
        found: Any = {**DEFAULT_CONFIG, **config}
        place = str(training_setting(config, name))
        for key in place.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if found is None and place not in ("corpora.train", "corpora.dev"):
            raise ValueError(f'[training] {name} = "{place}": there is no section [{place}].')


def check_seed(config: Config, processes: int) -> None:
    """RAISES (ValueError): Several processes would begin with weights of their own."""
    if processes > 1 and training_setting(config, "seed") is None:
        raise ValueError(
            f"[training] seed = null: each of the {processes} processes would begin with other weights, and shuffle in "
            "another order. Set a number, which all of them have."
        )


def check_effects(config: Config, extras: TrainingExtras, evaluates: bool) -> None:
    """Say of settings that they have no effect. evaluates (bool): There is a development corpus."""
    if extras.shuffle_buffer and training_setting(config, "max_epochs") >= 0:
        logger.warning(
            "[%s] shuffle_buffer = %d has no effect: without max_epochs = -1 the whole corpus is shuffled.",
            SECTION, extras.shuffle_buffer,
        )  # fmt: skip
    if extras.plateau_patience and not evaluates:
        logger.warning(
            "[%s] plateau_patience = %d has no effect without a development corpus.", SECTION, extras.plateau_patience
        )


def corpus_path(config: Config, name: str) -> List[str]:
    """Where in a configuration the training or the development corpus is described."""
    return str(training_setting(config, f"{name}_corpus")).split(".")


def corpus_block(config: Config, name: str) -> Any:
    """That description, or an empty dictionary."""
    found: Any = config
    for key in corpus_path(config, name):
        found = found.get(key, {}) if isinstance(found, dict) else {}
    return found


def readers_in(block: Any, place: str) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Readers that a description of a corpus has in it, each with its place in the configuration; it is itself one."""
    if not isinstance(block, dict):
        return
    if "@readers" in block:
        yield place, block
    for key, value in block.items():
        yield from readers_in(value, f"{place}.{key}")


def has_dev(config: Config) -> bool:
    """Whether there is a development corpus: not all paths in its section are null."""
    paths = [block["path"] for _, block in readers_in(corpus_block(config.interpolate(), "dev"), "") if "path" in block]
    return not paths or any(path is not None for path in paths)


def check_dev(config: Config) -> None:
    """RAISES (ValueError): The development corpus leaves out segments, so that its scores would be too high."""
    for place, block in readers_in(corpus_block(config, "dev"), ".".join(corpus_path(config, "dev"))):
        if block["@readers"] == SEGMENTS and block.get("drop_empty"):
            raise ValueError(
                f"[{place}] drop_empty = true: the development corpus would have no segment without an entity, and its "
                "scores would be too high. Set it to false there; it is for the training corpus."
            )


def check_corpora(config: Config, extras: TrainingExtras) -> None:
    """RAISES (ValueError): Settings of corpora do not fit the training corpus, or the pipeline."""
    if not extras.corpora and not extras.one_batch_of_each:
        return
    place = ".".join(corpus_path(config, "train"))
    block = corpus_block(config, "train")
    first = f"[{SECTION}.corpora]" if extras.corpora else f"[{SECTION}] one_batch_of_each = true"
    if block.get("@readers") != MULTI_CORPUS:
        raise ValueError(
            f'{first} is for several corpora: [{place}] must have @readers = "{MULTI_CORPUS}". A reader that '
            "wraps others stands inside of it, around each of its corpora."
        )
    if extras.one_batch_of_each and block.get("proportions") is not None:
        raise ValueError(
            f"[{SECTION}] one_batch_of_each = true: the batches say how much comes from each corpus. Set [{place}] "
            "proportions = null, or one_batch_of_each = false."
        )
    for name, corpus in extras.corpora.items():
        if name not in block.get("corpora", {}):
            known = ", ".join(block.get("corpora", {}))
            raise ValueError(f"[{SECTION}.corpora.{name}]: [{place}.corpora] has no such corpus. There are {known}.")
        pipeline = config["nlp"]["pipeline"]
        wrong = [pipe for pipe in corpus.pipes or [] if pipe not in pipeline]
        if wrong:
            raise ValueError(
                f'[{SECTION}.corpora.{name}] pipes: there is no pipe "{wrong[0]}". There are {", ".join(pipeline)}.'
            )


@contextlib.contextmanager
def extended_loop() -> Iterator[None]:
    """Where the section is honoured."""
    token = _honoured.set(True)
    try:
        yield
    finally:
        _honoured.reset(token)


def warn_of_extras(config: Config) -> None:
    """Say, where the section is not honoured, that plain `spacy train` knows nothing of it.

    RAISES (ValueError): There are settings without which it would be quite another training, or the development corpus
        cannot be evaluated on.
    """
    if _honoured.get():
        return
    config = config.interpolate()
    check_dev(config)
    section = config.get(SECTION)
    if not section:
        return
    for name in ("corpora", "one_batch_of_each"):
        if section.get(name):
            raise ValueError(
                f"[{SECTION}] {name}: spacy train cannot treat corpora apart, and would train something else. "
                "Use python -m spacy crf-ner train, with the same arguments, or take the setting out."
            )
    logger.warning(
        "The configuration has a section [%s], which spacy train knows nothing of and passes over. "
        "python -m spacy crf-ner train, with the same arguments, honours it.",
        SECTION,
    )


def check_override(name: str) -> None:
    """RAISES (ValueError): What is set from outside is no setting of [training], so a misspelt one changes nothing."""
    section, _, key = name.rpartition(".")
    known = [*ConfigSchemaTraining.model_fields]
    if section == "training" and key not in known:
        raise ValueError(f"--{name}: there is no such setting{_guess(key, known)}.")


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
    return f" (is {close[0]} meant?)" if close else ""


def changed_settings(old: Config, new: Config) -> Dict[str, Any]:
    """Settings whose values differ and must not. RETURNS: By dotted name, both values."""
    before, after = _flat(old), _flat(new)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    # a section that was filled or emptied: its settings tell
    names = [name for name in names if not any(other.startswith(f"{name}.") for other in (*before, *after))]
    changed = {name: (before.get(name), after.get(name)) for name in names if not name.startswith(CHANGEABLE)}
    epochs = [training_setting(config.interpolate(), "max_epochs") for config in (old, new)]
    if (epochs[0] < 0) != (epochs[1] < 0):
        # a corpus that is read as a stream has another order
        changed["training.max_epochs"] = (epochs[0], epochs[1])
    return changed


def _flat(config: Dict[str, Any], path: str = "") -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for key, value in config.items():
        name = f"{path}.{key}" if path else key
        # a section that is empty says something too: that there are no groups, for instance
        found.update(_flat(value, name) if isinstance(value, dict) and value else {name: value})
    return found
