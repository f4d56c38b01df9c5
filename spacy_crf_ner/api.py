"""What scripts and notebooks call."""

import contextlib
import functools
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Literal, Optional, TextIO, Tuple, Union

from spacy import util
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import DIR_MODEL_BEST, DIR_MODEL_LAST
from spacy.util import logger
from thinc.api import Config, require_gpu, set_gpu_allocator
from wasabi import Printer

from .training.blame import blamed_on
from .training.checkpoint import FOLDER, Checkpoint, CheckpointError, mend, newest, sweep
from .training.distributed import Group, PeerLost
from .training.log import LOG, TrainingLog
from .training.loop import Interrupted, Training
from .training.metrics import METRICS, TIMINGS, LineFile
from .training.pictures import HTML, PNG, WEIGHTS_PNG
from .training.record import RECORD, RunRecord
from .training.settings import (
    SECTION,
    TrainingExtras,
    changed_settings,
    check_corpora,
    check_dev,
    check_effects,
    check_override,
    check_seed,
    check_training,
    corpus_block,
    corpus_path,
    extended_loop,
    has_dev,
    read_extras,
    readers_in,
    training_setting,
    warn_of_unknown,
)
from .training.trackers import MEMORY, TENSORBOARD, WANDB
from .training.weights import WEIGHTS

Docs = Iterable[Union[Doc, Example]]
Trained = Tuple[Language, List[Dict[str, Any]]]
OWN = (
    DIR_MODEL_BEST,
    DIR_MODEL_LAST,
    FOLDER,
    METRICS,
    TIMINGS,
    WEIGHTS,
    LOG,
    RECORD,
    PNG,
    HTML,
    WEIGHTS_PNG,
    MEMORY,
    TENSORBOARD,
    WANDB,
)
CORPORA = "corpora"


def train(
    config: Union[str, Path, Config, Dict[str, Any]],
    output: Union[str, Path, None] = None,
    *,
    overrides: Optional[Dict[str, Any]] = None,
    train_docs: Optional[Docs] = None,
    dev_docs: Optional[Docs] = None,
    resume: bool = False,
    overwrite: bool = False,
    gpu_id: int = -1,
    engine: Literal["local", "ray"] = "local",
    workers: int = 1,
    cores: int = 1,
    restarts: int = 3,
    code: Union[str, Path, None] = None,
    stdout: Optional[TextIO] = None,
    stderr: Optional[TextIO] = None,
) -> Trained:
    """Train a pipeline with the extended loop; what `python -m spacy crf-ner train` does.

    config: A configuration for `spacy train`, or its file; a section [training_extras] is honoured.
    output (Optional[Path]): Folder for model-best, model-last, checkpoints, metrics.jsonl and all else that is
        written, see docs/training.md; None: nothing is kept.
    overrides (Optional[Dict[str, Any]]): Settings by their dotted names, as on the command line.
    train_docs, dev_docs (Optional[Iterable[Union[Doc, Example]]]): Annotated documents in place of those that the
        configuration names; of Examples the references. They are written to the folder "corpora" in `output`, with
        their tokens as they are.
    resume (bool): Go on from the newest checkpoint in `output`; where there is none, start.
    overwrite (bool): Remove what an earlier training has left in `output`.
    gpu_id (int): GPU to use; -1: the CPU. With "ray" any number but -1 means a GPU for each worker.
    engine (str): "local": in this process, which may be one of several that torchrun has started. "ray": in processes
        that Ray starts, and starts again from the newest checkpoint where one or its machine dies; see
        `training.ray_engine`.
    workers (int): With "ray": processes that train together. cores (int): With "ray": processor cores of each.
    restarts (int): With "ray": how often they are started again.
    code (Union[str, Path, None]): Python file with registered functions that the configuration names. With "ray" those
        that a notebook has registered are not known to the workers: they have to be in this file, or in a package.
    stdout, stderr (Optional[TextIO]): For the table of scores and the progress; None: those of the process, wherever
        they lead now. With "ray" it goes where Ray's own messages go.
    RETURNS (Tuple[Language, List[Dict[str, Any]]]): The pipeline as it is at the end, without averages of
        its weights (model-last has them, and model-best is the best one); and the lines of metrics.jsonl.
    RAISES (ValueError): A setting is wrong, `output` is not empty, or the checkpoint does not fit the configuration.
    RAISES (Interrupted): SIGTERM or SIGINT came; the training can be resumed.
    RAISES (PeerLost): Another of several processes has ended; with "ray" once too often.
    """
    if code is not None:
        util.import_file("python_code", code)
    if engine == "local":
        if workers != 1:
            raise ValueError(
                f'workers = {workers} is for engine = "ray"; without Ray, torchrun starts several processes.'
            )
        return train_here(
            config, output, overrides=overrides, train_docs=train_docs, dev_docs=dev_docs, resume=resume,
            overwrite=overwrite, gpu_id=gpu_id, stdout=stdout, stderr=stderr,
        )  # fmt: skip
    if engine != "ray":
        raise ValueError(f'engine = "{engine}" is neither "local" nor "ray".')
    from .training.ray_engine import train_on_ray

    if output is None:
        raise ValueError('engine = "ray" needs an output: a folder that all its machines see.')
    given = _load(config, overrides or {})
    folder = Path(output).absolute()
    prepare(given, folder, folder, train_docs, dev_docs, resume, overwrite, Group())
    train_on_ray(given, folder, resume, overwrite, gpu_id >= 0, workers, cores, restarts, code)
    last = newest(folder)
    if last is None:
        raise CheckpointError(f"{folder}: the checkpoint that the workers have written cannot be read from here.")
    return util.load_model(last.path / "pipeline"), LineFile(folder / METRICS).read()


def train_here(
    config: Union[str, Path, Config, Dict[str, Any]],
    output: Union[str, Path, None] = None,
    *,
    overrides: Optional[Dict[str, Any]] = None,
    train_docs: Optional[Docs] = None,
    dev_docs: Optional[Docs] = None,
    resume: bool = False,
    overwrite: bool = False,
    gpu_id: int = -1,
    stdout: Optional[TextIO] = None,
    stderr: Optional[TextIO] = None,
    began: Optional[Callable[[Training], None]] = None,
) -> Trained:
    """`train` in this process.

    began (Optional[Callable[[Training], None]]): Called before the first step; it may keep the training, to stop it.
    """
    stdout = sys.stdout if stdout is None else stdout
    stderr = sys.stderr if stderr is None else stderr
    if gpu_id >= 0:
        # torchrun gives each of its processes a GPU of its own
        require_gpu(int(os.environ.get("LOCAL_RANK", gpu_id)))
    group = Group.from_environment(gpu_id >= 0)
    given = _load(config, overrides or {})
    folder = None if output is None else Path(output)
    with contextlib.ExitStack() as stack:
        stack.push(functools.partial(_leave, group))
        log = stack.enter_context(TrainingLog())
        place = folder
        if place is None and (train_docs is not None or dev_docs is not None):
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        extras, checkpoint, evaluates = prepare(given, folder, place, train_docs, dev_docs, resume, overwrite, group)
        stack.enter_context(extended_loop())
        with blamed_on("The pipeline of the configuration could not be made", (ValueError, OSError)):
            if checkpoint is None:
                nlp = init_nlp(_without_dev(given, evaluates), use_gpu=gpu_id)
            else:
                nlp = _load_pipeline(checkpoint, given, evaluates, gpu_id)
        if folder is not None and group.rank == 0:
            _make_ready(folder, overwrite)
        training = Training(nlp, folder, checkpoint, extras, evaluates, given, group)
        if not evaluates:
            _set_block(nlp.config, "dev", corpus_block(given, "dev"))
        if folder is not None and group.rank == 0:
            log.open(folder / LOG)
            stack.enter_context(RunRecord(folder, nlp.config.interpolate(), training))
        if resume:
            where = f"Going on from {checkpoint.path}" if checkpoint else f"{folder} has no checkpoint: starting"
            stdout.write(Printer(no_print=True).info(where) + "\n")
        if began is not None:
            began(training)
        return training.run(stdout, stderr), training.history


def _leave(group: Group, kind: Any, error: Optional[BaseException], trace: Any) -> None:
    """End the connection to the other processes, unless it is lost: then that could wait for them."""
    if isinstance(error, Interrupted):
        # torchrun ends all when one has ended, and the first has its record to write
        with contextlib.suppress(PeerLost):
            group.wait()
    if not isinstance(error, PeerLost):
        group.close()


def prepare(
    given: Config,
    folder: Optional[Path],
    place: Optional[Path],
    train_docs: Optional[Docs],
    dev_docs: Optional[Docs],
    resume: bool,
    overwrite: bool,
    group: Group,
) -> Tuple[TrainingExtras, Optional[Checkpoint], bool]:
    """Look for all that can be wrong before anything is touched; write documents down, and have `given` name them.

    given (Config): The configuration, with overrides. folder (Optional[Path]): The output.
    place (Optional[Path]): Where documents are written.
    RETURNS (Tuple[TrainingExtras, Optional[Checkpoint], bool]): Settings; where to go on; whether there is a
        development corpus.
    RAISES (ValueError): A setting is wrong, the folder is in use, or the checkpoint does not fit.
    """
    if resume and overwrite:
        raise ValueError("resume goes on with what is there, and overwrite removes it: choose one.")
    check_training(given.interpolate())
    extras = read_extras(given.interpolate())
    warn_of_unknown(given)
    check_seed(given.interpolate(), group.size)
    with group.first():
        if folder is not None and group.rank == 0:
            _refuse_if_in_use(folder, resume or overwrite)
        if place is not None and group.rank == 0:
            _write_docs(place, {"train": train_docs, "dev": dev_docs}, overwrite)
    if place is not None:
        _use_docs(given, place, train=train_docs is not None, dev=dev_docs is not None)
    checkpoint = newest(folder) if folder is not None and resume else None
    if checkpoint is not None:
        _use_stored_docs(given, checkpoint)
        _compare(checkpoint, given)
    _check_paths(given)
    check_corpora(given.interpolate(), extras)
    evaluates = has_dev(given)
    _check_end(given.interpolate(), evaluates)
    check_effects(given.interpolate(), extras, evaluates)
    if evaluates:
        check_dev(given.interpolate())
    return extras, checkpoint, evaluates


def _load(config: Union[str, Path, Config, Dict[str, Any]], overrides: Dict[str, Any]) -> Config:
    """The configuration with overrides, also of settings in [training_extras] where it has no such section."""
    found = config if isinstance(config, dict) else util.load_config(config, interpolate=False)
    extras = {**found.get(SECTION, {})}
    for name in overrides:
        check_override(name)
        section, _, key = name.rpartition(".")
        if section == SECTION:
            extras.setdefault(key, None)
    whole = Config({"training": {}, **found, **({SECTION: extras} if extras else {})})
    given = Config().from_str(whole.to_str(interpolate=False), overrides=overrides, interpolate=False)
    for name in ("train", "dev"):
        for _, block in readers_in(corpus_block(given, name), ""):
            if block["@readers"] == "spacy.Corpus.v1":
                # spaCy puts it into [corpora.train] and [corpora.dev], and not into a reader inside of another one
                block.setdefault("gold_preproc", False)
    return given


def _refuse_if_in_use(folder: Path, may_be: bool) -> None:
    """RAISES (ValueError): There is a training in a folder, or it is none."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: a folder is to be written there, and it is a file.")
    left = _left(folder)
    if left and not may_be:
        raise ValueError(
            f"{folder}: there is a training in it already ({', '.join(path.name for path in left)}). --resume goes on "
            "with it, --overwrite starts anew in its place; or name another folder."
        )


def _left(folder: Path) -> List[Path]:
    """What an earlier training has left; a file that is empty is nothing."""
    paths = [folder / name for name in OWN]
    return [path for path in paths if path.exists() and (path.is_dir() or path.stat().st_size)]


def _make_ready(folder: Path, overwrite: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = (DIR_MODEL_BEST, DIR_MODEL_LAST)
    if not overwrite:
        mend(folder, names)
        return
    for path in _left(folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    sweep(folder, names)


def _check_paths(given: Config) -> None:
    """RAISES (ValueError): A corpus that is described by a path is not there."""
    config = given.interpolate()
    for name in ("train", "dev"):
        for place, block in readers_in(corpus_block(config, name), ".".join(corpus_path(config, name))):
            path = block.get("path", ".")
            if path is None and name == "train":
                raise ValueError(
                    f"[{place}] path is null: name the training corpus, with --paths.train on the command line, or "
                    "with train_docs from Python."
                )
            if path is None and has_dev(given):
                raise ValueError(f"[{place}] path is null, and that of another part of the development corpus is not.")
            if isinstance(path, str) and (not path or not Path(path).exists()):
                raise ValueError(f'[{place}] path = "{path}": there is no such file or folder.')


def _compare(checkpoint: Checkpoint, given: Config) -> None:
    """RAISES (CheckpointError): The configuration is another one than the checkpoint's."""
    before = Config().from_str(checkpoint.state["config"], interpolate=False)
    changed = changed_settings(before, given)
    if changed:
        listed = "; ".join(f"{name} was {old!r} and is {new!r}" for name, (old, new) in sorted(changed.items()))
        raise CheckpointError(
            f"{checkpoint.path}: a training cannot be resumed with other settings: {listed}. Only max_steps, "
            "max_epochs, patience, the logger, curves, tokenize_ahead and how often checkpoints are written may change."
        )


def _set_block(config: Config, name: str, block: Any) -> None:
    place: Any = config
    *parents, last = corpus_path(config, name)
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = block


def _check_end(config: Config, evaluates: bool) -> None:
    """RAISES (ValueError): The training would never end."""
    max_steps, max_epochs, patience = (
        training_setting(config, name) for name in ("max_steps", "max_epochs", "patience")
    )
    if not evaluates and config["training"].get("patience"):
        logger.warning("[training] patience = %d has no effect without a development corpus.", patience)
    if not max_steps and max_epochs < 1 and not (evaluates and patience):
        raise ValueError("[training] max_steps = 0, and nothing else ends the training: set it, or max_epochs.")


def _load_pipeline(checkpoint: Checkpoint, given: Config, evaluates: bool, gpu_id: int) -> Language:
    """The pipeline of a checkpoint, with the configuration that is given."""
    allocator = training_setting(given.interpolate(), "gpu_allocator")
    if gpu_id >= 0 and allocator:
        set_gpu_allocator(allocator)
    nlp = util.load_model_from_config(_without_dev(given, evaluates), auto_fill=True)
    config = nlp.config.copy()
    nlp.from_disk(checkpoint.path / "pipeline")
    nlp.config = config
    return nlp


def _without_dev(given: Config, evaluates: bool) -> Config:
    """spaCy makes the development corpus in any case: where there is none, the training corpus stands in, unread."""
    config = given.copy()
    if not evaluates:
        _set_block(config, "dev", corpus_block(config, "train"))
    return config


def _write_docs(folder: Path, docs: Dict[str, Optional[Iterable[Union[Doc, Example]]]], overwrite: bool) -> None:
    """Write documents down.

    RAISES (ValueError): There is a file in their place that no training has put there, or they are no documents.
    """
    for name, given in docs.items():
        if given is None:
            continue
        path = folder / CORPORA / f"{name}.spacy"
        if path.exists() and not overwrite and not _left(folder):
            raise ValueError(f"{path}: the documents would be written there, and there is a file. Name another output.")
        references = [item.reference if isinstance(item, Example) else item for item in given]
        wrong = next((item for item in references if not isinstance(item, Doc)), None)
        if wrong is not None:
            raise ValueError(f"{name}_docs: a {type(wrong).__name__} is among them; they are spaCy's Docs or Examples.")
        path.parent.mkdir(parents=True, exist_ok=True)
        DocBin(docs=references, store_user_data=True).to_disk(path)


def _use_docs(config: Config, folder: Path, **given: bool) -> None:
    """Let the configuration read documents from where they were written."""
    for name, is_given in given.items():
        if is_given:
            _set_block(config, name, _stored(folder / CORPORA / f"{name}.spacy"))


def _stored(path: Path) -> Dict[str, Any]:
    return {"@readers": "spacy.Corpus.v1", "path": str(path)}


def _use_stored_docs(given: Config, checkpoint: Checkpoint) -> None:
    """Let a training that began with documents from Python go on with what was written down of them."""
    before = Config().from_str(checkpoint.state["config"], interpolate=False)
    for name in ("train", "dev"):
        stored = _stored(checkpoint.path.parent.parent / CORPORA / f"{name}.spacy")
        if corpus_block(before, name) == stored:
            _set_block(given, name, stored)
