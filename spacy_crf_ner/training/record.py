"""run.json: what a training was: its settings, data, versions and machine, and when it began, went on and ended."""

import hashlib
import json
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Iterator, List, Optional, Type

from spacy.util import logger
from thinc.api import Config

from ..machine import cores, memory, processor, versions
from .checkpoint import sha256_of
from .files import put
from .loop import Interrupted, Training

RECORD = "run.json"


class RunRecord:
    """Keeps run.json while a training runs; a context in which `training.run` is called.

    folder (Path): Where it is. config (Config): The configuration, all variables filled in.
    training (Training): It is asked how many steps are done.
    """

    def __init__(self, folder: Path, config: Config, training: Training) -> None:
        self._path = folder / RECORD
        self._training = training
        self._record: Dict[str, Any] = {"state": "", "config": config, "corpora": {}, "runs": []}

    def __enter__(self) -> "RunRecord":
        self._record["runs"] = _earlier_runs(self._path)
        self._record["corpora"] = corpora(self._record["config"])
        run = {
            "started": _now(),
            "step": self._training.progress.step,
            "command": sys.argv,
            "versions": {"python": platform.python_version(), **versions()},
            "machine": machine(),
            "git": git(),
        }
        self._record["runs"].append(run)
        self._write("running")
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        state = "finished"
        if error is not None:
            state = "interrupted" if isinstance(error, (Interrupted, KeyboardInterrupt)) else "failed"
            self._record["runs"][-1]["error"] = f"{type(error).__name__}: {error}"
        self._record["runs"][-1].update(ended=_now(), end_step=self._training.progress.step)
        self._write(state)

    def _write(self, state: str) -> None:
        """A record that cannot be written must not hide how the training ended."""
        self._record["state"] = state
        try:
            put(self._path, (json.dumps(self._record, indent=1, default=str) + "\n").encode())
        except OSError as error:
            logger.warning("%s: it could not be written (%s).", self._path, error)


def _earlier_runs(path: Path) -> List[Dict[str, Any]]:
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s: it cannot be read (%s); what it said of earlier runs is lost.", path, error)
        return []
    return list(runs)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def corpora(config: Dict[str, Any]) -> Dict[str, str]:
    """SHA-256 of each file or folder that the corpora of a configuration name as their `path`, by that path.

    That of a folder is of its files' names and digests, sorted by name.
    """
    training = config.get("training", {})
    sections = {training.get(name, "corpora").split(".")[0] for name in ("train_corpus", "dev_corpus")}
    found = {}
    for path in sorted({path for section in sections for path in _paths(config.get(section, {}))}):
        place = Path(path)
        if place.is_file():
            found[path] = sha256_of(place)
        elif place.is_dir():
            files = [file for file in sorted(place.rglob("*")) if file.is_file()]
            lines = [f"{file.relative_to(place).as_posix()} {sha256_of(file)}\n" for file in files]
            found[path] = hashlib.sha256("".join(lines).encode()).hexdigest()
    return found


def _paths(block: Any) -> Iterator[str]:
    for key, value in block.items() if isinstance(block, dict) else ():
        if key == "path" and isinstance(value, str) and value:
            yield value
        yield from _paths(value)


def machine() -> Dict[str, Any]:
    """Processor, cores, bytes of memory, and names of the GPUs that torch can use."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(),
        "processor": processor(),
        "cores": cores(),
        "memory": memory().get("MemTotal"),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def git() -> Optional[Dict[str, Any]]:
    """Commit of the working directory, and whether its files differ from it. None: it is no repository, or there is
    no git."""
    try:
        commit = _ask_git("rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(_ask_git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _ask_git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()
