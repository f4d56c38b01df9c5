"""Checkpoints: everything that a training depends on, in folders that are whole or not there.

    checkpoints/step-00000250/
        pipeline/             as nlp.to_disk writes it
        tensors.safetensors   moments of the optimizer, torch's random states
        state.json            all else: order of the data, schedules, Python's and NumPy's random states
        manifest.json         SHA-256 of each file; written last

A checkpoint is written beside its place, brought to the disk file by file, and renamed.
"""

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple, Optional, Sequence

from safetensors.torch import load_file, save_file
from spacy.language import Language
from spacy.util import logger
from torch import Tensor

FOLDER = "checkpoints"
VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint cannot be written, or does not fit what it is to be used for."""


class Checkpoint(NamedTuple):
    """A checkpoint that was verified.

    path (Path): Its folder. state (Dict): What state.json holds. tensors (Dict[str, Tensor]): On the CPU.
    """

    path: Path
    state: Dict[str, Any]
    tensors: Dict[str, Tensor]


def write(output: Path, step: int, nlp: Language, state: Dict[str, Any], tensors: Dict[str, Tensor], keep: int) -> Path:
    """Write a checkpoint and remove all but the newest `keep`.

    RAISES (CheckpointError): It could not be written; those that are there are untouched.
    """
    folder = output / FOLDER
    place = folder / f"step-{step:08d}"
    beside = folder / f".{place.name}"
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        nlp.to_disk(beside / "pipeline")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside / "tensors.safetensors")
        (beside / "state.json").write_text(json.dumps({"version": VERSION, **state}), encoding="utf-8")
        manifest = beside / "manifest.json"
        digests = {str(path.relative_to(beside)): sha256_of(path) for path in _files(beside)}
        manifest.write_text(json.dumps(digests, indent=1), encoding="utf-8")
        bring_to_disk(beside)
        shutil.rmtree(place, ignore_errors=True)
        beside.rename(place)
        _sync(folder)
    except Exception as error:  # safetensors and srsly raise what they like when a disk is full
        raise cannot_write(beside, place, error) from error
    there = sorted(folder.glob("step-*"))
    behind = [path for path in there if path.name <= place.name]
    # those of later steps are damaged ones, which were passed over
    for path in (*behind[:-keep], *there[len(behind) :]):
        shutil.rmtree(path)
    return place


def cannot_write(beside: Path, place: Path, error: Exception) -> CheckpointError:
    """What to say when a folder could not be written; what was written of it is removed."""
    free = shutil.disk_usage(place.parent).free
    shutil.rmtree(beside, ignore_errors=True)
    output = place.parent.parent if place.parent.name == FOLDER else place.parent
    left = sorted((output / FOLDER).glob("step-*"))
    is_full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or free < 1 << 20 or "space" in str(error)
    cure = "make room and" if is_full else "when that is mended,"
    last = f"The last checkpoint is {left[-1].name}: {cure} go on with --resume." if left else f"{cure} start again."
    return CheckpointError(f"{place}: it could not be written ({error}). {last[0].upper()}{last[1:]}")


def newest(output: Path) -> Optional[Checkpoint]:
    """The newest checkpoint that is whole; those that are not are named in a warning. None: there is none."""
    for path in sorted((output / FOLDER).glob("step-*"), reverse=True):
        wrong = _find_fault(path)
        if wrong is None:
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            return Checkpoint(path, state, load_file(path / "tensors.safetensors"))
        logger.warning("%s: %s. The checkpoint is passed over.", path, wrong)
    return None


def _find_fault(path: Path) -> Optional[str]:
    try:
        digests = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        for name, digest in digests.items():
            if sha256_of(path / name) != digest:
                return f"{name} is not what was written"
        if json.loads((path / "state.json").read_text(encoding="utf-8"))["version"] != VERSION:
            return "it is of another version"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"it cannot be read ({error})"
    return None


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: Any) -> str:
    """`hashlib.file_digest`, which Python 3.10 has not."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def bring_to_disk(folder: Path) -> None:
    """Wait until a folder with all that is in it is on the disk."""
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # folders cannot be opened there
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_folder(new: Path, place: Path) -> None:
    """Put a folder in the place of another.

    A crash in between leaves the old one under a name from which `mend` takes it back.
    """
    bring_to_disk(new)
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    _sync(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def mend(output: Path, names: Sequence[str]) -> None:
    """Undo what was cut short: a replacement of a folder, a checkpoint."""
    for name in names:
        old, place = output / f".{name}.old", output / name
        if old.exists() and not place.exists():
            old.rename(place)
    sweep(output, names)


def sweep(output: Path, names: Sequence[str]) -> None:
    """Remove what was half-written or is half-removed."""
    for name in names:
        for end in ("old", "new"):
            shutil.rmtree(output / f".{name}.{end}", ignore_errors=True)
    for path in (output / FOLDER).glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)
