"""Loggers that hand numbers to TensorBoard, MLflow, and Weights & Biases."""

import importlib.util
import json
import math
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, TextIO, Tuple

from spacy.language import Language
from spacy.util import logger

from .metrics import METRICS
from .pictures import HTML, PNG
from .progress import Info, Logger
from .standing import Standing
from .watching import watched_training

# Remembers the runs of trackers, which a resumed training goes on with.
MEMORY = "trackers.json"
TENSORBOARD, WANDB = "tensorboard", "wandb"
# What of the configuration is told: nothing that could hold text of documents.
SECTIONS = ("paths", "system", "nlp", "components", "training", "training_extras")
# Seconds that the end of a training waits for a tracker.
PATIENCE = 30.0
# Messages that wait for a tracker; more are dropped.
MOST_WAITING = 10_000


def make_tensorboard_logger(folder: Optional[str] = None, log_steps: int = 10) -> Logger:
    """Write event files for TensorBoard.

    folder (Optional[str]): Where; null: "tensorboard" in OUTPUT of crf-ner train, in spacy train where it is started.
    log_steps (int): Steps between two points; evaluations are always told. Losses are means over the steps in between.
        spaCy's own loop tells of evaluations alone.
    RAISES (ValueError): log_steps is below 1, or the package is missing.
    """
    return _logger("tensorboard", "TensorBoardLogger", "tensorboard", log_steps, False, {"folder": folder})


def make_mlflow_logger(
    experiment: str,
    tracking_uri: Optional[str] = None,
    run_name: Optional[str] = None,
    log_steps: int = 10,
    artifacts: bool = False,
) -> Logger:
    """Log a run to MLflow.

    experiment (str): Name of the experiment; it is made where there is none.
    tracking_uri (Optional[str]): Address of the server, or a folder or database; null: MLFLOW_TRACKING_URI.
    run_name (Optional[str]): Name of the run; null: MLflow gives it one.
    log_steps (int): As for TensorBoard. artifacts (bool): Whether the curves and metrics.jsonl are added at the end.
    RAISES (ValueError): log_steps is below 1, the package is missing, or no address is given.
    """
    tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not tracking_uri:
        raise ValueError("[training.logger] tracking_uri = null: give MLflow's address, or set MLFLOW_TRACKING_URI.")
    settings = {"experiment": experiment, "tracking_uri": tracking_uri, "run_name": run_name}
    return _logger("mlflow", "MLflowLogger", "mlflow", log_steps, artifacts, settings)


def make_wandb_logger(
    project: str,
    mode: str = "offline",
    run_name: Optional[str] = None,
    log_steps: int = 10,
    artifacts: bool = False,
) -> Logger:
    """Log a run to Weights & Biases.

    project (str): Name of the project. mode (str): "offline": files in OUTPUT, for `wandb sync`; "online": its server,
        with WANDB_API_KEY. run_name (Optional[str]): Name of the run; null: it is given one.
    log_steps (int): As for TensorBoard. artifacts (bool): Whether the curves and metrics.jsonl are added at the end.
    RAISES (ValueError): log_steps is below 1, the package is missing, or there is no such mode.
    """
    if mode not in ("offline", "online"):
        raise ValueError(f'[training.logger] mode = "{mode}" is neither "offline" nor "online".')
    settings = {"project": project, "mode": mode, "run_name": run_name}
    return _logger("wandb", "WandbLogger", "wandb", log_steps, artifacts, settings)


def _logger(kind: str, name: str, package: str, log_steps: int, artifacts: bool, settings: Dict[str, Any]) -> Logger:
    if log_steps < 1:
        raise ValueError(f"[training.logger] log_steps = {log_steps} must be at least 1.")
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"[training.logger] spacy_crf_ner.{name}.v1 needs the package {package}, which is not installed: "
            "pip install spacy-crf-ner[tracking]."
        )

    def setup(nlp: Language, stdout: TextIO = sys.stdout, stderr: TextIO = sys.stderr) -> Any:
        config = nlp.config.interpolate()
        watch = watched_training()
        output = watch.output if watch else None
        step = watch.step if watch else 0
        begin = {
            **settings,
            "folder": settings.get("folder") or _folder(kind, output),
            "memory": str(output.absolute() / MEMORY) if output else None,
            "step": step,
            "config": dict(_flat({name: config[name] for name in SECTIONS if name in config})),
        }
        standing = Standing(config["training"], step)
        losses = Means()
        process = Process(name, kind, begin)

        def send(info: Info, mean_losses: Dict[str, float]) -> None:
            process.send({"step": info["step"], "values": numbers(info, mean_losses, standing.words_a_second)})

        def on_step(info: Info) -> None:
            standing.take(info)
            losses.add(info["step_losses"])
            if info["score"] is not None or info["step"] % log_steps == 0:
                send(info, losses.take())

        def log_step(info: Optional[Info]) -> None:
            if watch is None and info is not None:
                standing.take(info)
                send(info, standing.losses_of(info))

        def finalize() -> None:
            # both loops call this while an error that ends them is on its way
            done = sys.exc_info()[0] is None
            found = [output / file for file in (METRICS, PNG, HTML)] if artifacts and output else []
            for path in found:
                if path.exists():
                    process.send({"file": str(path.absolute())})
            process.end(done)

        if watch is not None:
            watch.every_step.append(on_step)
        return log_step, finalize

    return setup


def numbers(info: Info, losses: Dict[str, float], speed: Optional[float]) -> Dict[str, float]:
    """What a tracker is told of a step: losses, rates, norm of the gradient, words a second, scores. Numbers alone."""
    found: Dict[str, Any] = {f"loss/{name}": loss for name, loss in losses.items()}
    found["learn_rate"] = info.get("learn_rate")
    found.update({f"learn_rate/{name}": rate for name, rate in info.get("learn_rates", {}).items()})
    found.update(gradient_norm=info.get("gradient_norm"), words_a_second=speed, score=info["score"])
    if info["score"] is not None:
        found.update({f"scores/{name}": value for name, value in info["other_scores"].items() if name != "speed"})
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


class Means:
    """Losses a step since the last time that somebody asked."""

    def __init__(self) -> None:
        self._sums: Dict[str, float] = {}
        self._steps = 0

    def add(self, losses: Dict[str, float]) -> None:
        self._steps += 1
        for name, loss in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + loss

    def take(self) -> Dict[str, float]:
        found = {name: total / self._steps for name, total in self._sums.items()}
        self._sums, self._steps = {}, 0
        return found


class Process:
    """The process of `tracking`, written to and read from in threads, so that the training never waits for it.

    name (str): What it is called in warnings. kind (str): One of tracking.KINDS. begin (Dict[str, Any]): See there.
    """

    def __init__(self, name: str, kind: str, begin: Dict[str, Any]) -> None:
        self._name = name
        self._queue: queue.Queue[Optional[Dict[str, Any]]] = queue.Queue(MOST_WAITING)
        self._warned = False
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "spacy_crf_ner.training.tracking", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the training, which ends the run in order
        )
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._read)]
        for thread in self._threads:
            thread.start()
        self.send(begin)

    def send(self, message: Dict[str, Any]) -> None:
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self._warn("it is too slow, or cannot be reached, and misses values")

    def end(self, done: bool) -> None:
        """Say that no more comes, and wait for a while. done (bool): Whether the training has come to its end."""
        self.send({"end": done})
        try:
            self._queue.put(None, timeout=PATIENCE)
            self._process.wait(PATIENCE)
        except (queue.Full, subprocess.TimeoutExpired) as error:
            self._process.kill()
            self._process.wait()
            self._warn(f"it did not take everything within {PATIENCE:.0f} seconds of the end, and misses values")
            if isinstance(error, queue.Full):
                self._queue.put(None)  # there is room as soon as the thread that writes finds the pipe broken
        for thread in self._threads:
            thread.join(PATIENCE)

    def _write(self) -> None:
        assert self._process.stdin is not None
        try:
            with self._process.stdin as file:
                for message in iter(self._queue.get, None):
                    file.write(json.dumps(message) + "\n")
                    file.flush()
        except OSError as error:
            self._warn(f"its process has ended ({error})")
            for _ in iter(self._queue.get, None):
                pass  # so that the end finds the queue read

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as file:
            for line in file:
                self._warn(line.strip())

    def _warn(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            logger.warning("%s: %s. The training goes on.", self._name, what)


def _folder(kind: str, output: Optional[Path]) -> str:
    """Where a tracker writes by itself."""
    place = output.absolute() if output else Path.cwd()
    return str(place / TENSORBOARD) if kind == "tensorboard" else str(place)


def _flat(config: Dict[str, Any], path: str = "") -> Iterator[Tuple[str, Any]]:
    """Settings that are words and numbers, by dotted name."""
    for key, value in config.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, dict):
            yield from _flat(value, name)
        elif isinstance(value, (str, int, float)):
            # names of optimizers and the like begin with @, which MLflow does not take
            yield name.replace("@", ""), value
