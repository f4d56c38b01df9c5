"""What scripts and notebooks call."""

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, TextIO, Tuple, Union

from spacy import util
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import DIR_MODEL_BEST, DIR_MODEL_LAST
from spacy.util import logger
from thinc.api import Config, require_gpu, set_gpu_allocator
from wasabi import Printer

from .training.checkpoint import FOLDER, Checkpoint, CheckpointError, mend, newest, sweep
from .training.distributed import Group
from .training.loop import Training
from .training.metrics import METRICS, TIMINGS
from .training.settings import (
    SECTION,
    changed_settings,
    check_corpora,
    check_dev,
    corpus_block,
    corpus_path,
    extended_loop,
    has_dev,
    read_extras,
    readers_in,
    warn_of_unknown,
)

OWN = (DIR_MODEL_BEST, DIR_MODEL_LAST, FOLDER, METRICS, TIMINGS)
CORPORA = "corpora"


def train(
    config: Union[str, Path, Config, Dict[str, Any]],
    output: Union[str, Path, None] = None,
    *,
    overrides: Optional[Dict[str, Any]] = None,
    train_docs: Optional[Iterable[Union[Doc, Example]]] = None,
    dev_docs: Optional[Iterable[Union[Doc, Example]]] = None,
    resume: bool = False,
    overwrite: bool = False,
    gpu_id: int = -1,
    stdout: TextIO = sys.stdout,
    stderr: TextIO = sys.stderr,
) -> Tuple[Language, List[Dict[str, Any]]]:
    """Train a pipeline with the extended loop; what `python -m spacy crf-ner train` does.

    config: A configuration for `spacy train`, or its file; a section [training_extras] is honoured.
    output (Optional[Path]): Folder for model-best, model-last, checkpoints, metrics.jsonl and timings.jsonl; None:
        nothing is kept.
    overrides (Optional[Dict[str, Any]]): Settings by their dotted names, as on the command line.
    train_docs, dev_docs (Optional[Iterable[Union[Doc, Example]]]): Annotated documents in place of those that the
        configuration names; of Examples the references. They are written to the folder "corpora" in `output`, with
        their tokens as they are.
    resume (bool): Go on from the newest checkpoint in `output`; where there is none, start.
    overwrite (bool): Remove what an earlier training has left in `output`.
    gpu_id (int): GPU to use; -1: the CPU.
    RETURNS (Tuple[Language, List[Dict[str, Any]]]): The pipeline as it is at the end, without averages of
        its weights (model-last has them, and model-best is the best one); and the lines of metrics.jsonl.
    RAISES (ValueError): A setting is wrong, `output` is not empty, or the checkpoint does not fit the configuration.
    RAISES (Interrupted): SIGTERM or SIGINT came; the training can be resumed.
    """
    if resume and overwrite:
        raise ValueError("resume goes on with what is there, and overwrite removes it: choose one.")
    if gpu_id >= 0:
        # torchrun gives each of its processes a GPU of its own
        require_gpu(int(os.environ.get("LOCAL_RANK", gpu_id)))
    group = Group.from_environment(gpu_id >= 0)
    given = _load(config, overrides or {})
    folder = None if output is None else Path(output)
    with contextlib.ExitStack() as stack:
        stack.callback(group.close)
        # all that can be wrong is looked for before anything is touched
        extras = read_extras(given.interpolate())
        warn_of_unknown(given)
        if folder is not None and group.rank == 0:
            _refuse_if_in_use(folder, resume or overwrite)
        if train_docs is not None or dev_docs is not None:
            place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            if group.rank == 0:
                _write_docs(place, {"train": train_docs, "dev": dev_docs}, overwrite)
            _use_docs(given, place, train=train_docs is not None, dev=dev_docs is not None)
        group.wait()
        checkpoint = newest(folder) if folder is not None and resume else None
        if checkpoint is not None:
            _use_stored_docs(given, checkpoint)
            _compare(checkpoint, given)
        _check_paths(given)
        check_corpora(given.interpolate(), extras)
        stack.enter_context(extended_loop())
        evaluates = has_dev(given)
        _check_end(given.interpolate()["training"], evaluates)
        if evaluates:
            check_dev(given.interpolate())
        if checkpoint is None:
            nlp = init_nlp(_without_dev(given, evaluates), use_gpu=gpu_id)
        else:
            nlp = _load_pipeline(checkpoint, given, evaluates, gpu_id)
        if folder is not None and group.rank == 0:
            _make_ready(folder, overwrite)
        training = Training(nlp, folder, checkpoint, extras, evaluates, given, group)
        if not evaluates:
            _set_block(nlp.config, "dev", corpus_block(given, "dev"))
        if resume:
            where = f"Going on from {checkpoint.path}" if checkpoint else f"{folder} has no checkpoint: starting"
            stdout.write(Printer(no_print=True).info(where) + "\n")
        return training.run(stdout, stderr), training.history


def _load(config: Union[str, Path, Config, Dict[str, Any]], overrides: Dict[str, Any]) -> Config:
    """The configuration with overrides, also of settings in [training_extras] where it has no such section."""
    found = config if isinstance(config, dict) else util.load_config(config, interpolate=False)
    extras = {**found.get(SECTION, {})}
    for name in overrides:
        section, _, key = name.rpartition(".")
        if section == SECTION:
            extras.setdefault(key, None)
    whole = Config({**found, SECTION: extras} if extras else found)
    return Config().from_str(whole.to_str(interpolate=False), overrides=overrides, interpolate=False)


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
            "max_epochs, patience, the logger and how often checkpoints are written may change."
        )


def _set_block(config: Config, name: str, block: Any) -> None:
    place: Any = config
    *parents, last = corpus_path(config, name)
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = block


def _check_end(training: Dict[str, Any], evaluates: bool) -> None:
    """RAISES (ValueError): The training would never end."""
    patience = training.get("patience", 0)
    if not evaluates and patience:
        logger.warning("[training] patience = %d has no effect without a development corpus.", patience)
    if not training.get("max_steps") and training.get("max_epochs", 0) < 1 and not (evaluates and patience):
        raise ValueError("[training] max_steps = 0, and nothing else ends the training: set it, or max_epochs.")


def _load_pipeline(checkpoint: Checkpoint, given: Config, evaluates: bool, gpu_id: int) -> Language:
    """The pipeline of a checkpoint, with the configuration that is given."""
    allocator = given.interpolate()["training"].get("gpu_allocator")
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
