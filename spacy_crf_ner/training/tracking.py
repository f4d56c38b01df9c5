"""The process that hands values to a tracker: python -m spacy_crf_ner.training.tracking KIND.

It is a process of its own, so that neither waiting for a server, nor what a tracker's library does to random numbers
or signals, nor its end can touch the training. Reads lines of JSON: first how to begin, then values; writes lines for
people to standard output. Imports nothing but the standard library and, when it begins, the tracker's own.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

# Seconds between two attempts to begin.
RETRY = 60.0
# The longest value of a setting that trackers take.
LONGEST = 250
# MLflow takes no more in one request.
PARAMS = 100


class TensorBoard:
    """Event files in a folder."""

    def __init__(self, begin: Dict[str, Any], run: Optional[str]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event = Event
        self._writer = EventFileWriter(begin["folder"])
        if begin["step"]:  # what an interrupted run has written of later steps counts no more
            log = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(wall_time=time.time(), step=begin["step"], session_log=log))
        self.run = ""

    def log(self, step: int, values: Dict[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=summary))

    def add_file(self, path: str) -> None:
        """Event files hold no others."""

    def end(self, done: bool) -> None:
        self._writer.close()


class MLflow:
    """A run on an MLflow server, or in a folder or database that stands for one."""

    def __init__(self, begin: Dict[str, Any], run: Optional[str]) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=begin["tracking_uri"])
        if run:
            self._client.update_run(run, status="RUNNING")
            self.run = run
            return
        experiment = self._client.get_experiment_by_name(begin["experiment"])
        place = experiment.experiment_id if experiment else self._client.create_experiment(begin["experiment"])
        self.run = self._client.create_run(place, run_name=begin["run_name"]).info.run_id
        params = [Param(name, str(value)[:LONGEST]) for name, value in begin["config"].items()]
        for i in range(0, len(params), PARAMS):
            self._client.log_batch(self.run, params=params[i : i + PARAMS])

    def log(self, step: int, values: Dict[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self.run, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def add_file(self, path: str) -> None:
        self._client.log_artifact(self.run, path)

    def end(self, done: bool) -> None:
        self._client.set_terminated(self.run, "FINISHED" if done else "KILLED")


class Wandb:
    """A run of Weights & Biases, without what its library would collect by itself."""

    def __init__(self, begin: Dict[str, Any], run: Optional[str]) -> None:
        import wandb

        settings = wandb.Settings(
            console="off", disable_code=True, disable_git=True, save_code=False, silent=True, x_disable_stats=True,
            x_disable_meta=True,
        )  # fmt: skip
        self._run = wandb.init(
            project=begin["project"], name=begin["run_name"], id=run, resume="allow" if run else None,
            mode=begin["mode"], dir=begin["folder"], config=begin["config"], settings=settings,
        )  # fmt: skip
        # steps that are repeated after a resume are dropped where the library counts them itself
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        self.run = self._run.id

    def log(self, step: int, values: Dict[str, float]) -> None:
        self._run.log({**values, "step": step})

    def add_file(self, path: str) -> None:
        self._run.save(path, base_path=str(Path(path).parent), policy="now")

    def end(self, done: bool) -> None:
        self._run.finish(exit_code=0 if done else 1)


KINDS: Dict[str, Callable[..., Any]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": Wandb}


class Tracked:
    """A run of a tracker that may fail at any time: it is said once, and tried again.

    kind (str): One of KINDS. begin (Dict[str, Any]): What it begins with; `memory`, a file that remembers runs, or
        None. say (Callable): Takes a sentence for people.
    """

    def __init__(self, kind: str, begin: Dict[str, Any], say: Callable[[str], None]) -> None:
        self._kind, self._begin, self._say = kind, begin, say
        self._run: Any = None
        self._next = 0.0
        self._said = False

    def take(self, message: Dict[str, Any]) -> None:
        """Hand over values, a file, or the end."""
        if self._run is None and (time.monotonic() >= self._next or "end" in message):
            self._next = time.monotonic() + RETRY
            self._try(self._start)
        if self._run is None:
            return
        if "values" in message:
            self._try(lambda: self._run.log(message["step"], message["values"]))
        elif "file" in message:
            self._try(lambda: self._run.add_file(message["file"]))
        else:
            self._try(lambda: self._run.end(message["end"]))

    def _start(self) -> None:
        memory = self._begin["memory"] and Path(self._begin["memory"])
        known = json.loads(memory.read_text(encoding="utf-8")) if memory and memory.exists() else {}
        self._run = KINDS[self._kind](self._begin, known.get(self._kind))
        if memory and self._run.run:
            beside = memory.with_name(f".{memory.name}.{self._kind}")
            beside.write_text(json.dumps({**known, self._kind: self._run.run}), encoding="utf-8")
            beside.replace(memory)

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (Exception, SystemExit) as error:
            if not self._said:
                self._said = True
                first = (str(error).splitlines() or [""])[0][:LONGEST]
                self._say(f"{type(error).__name__}: {first}")


def read(lines: Any) -> Iterator[Dict[str, Any]]:
    for line in lines:
        yield json.loads(line)


def main(arguments: List[str]) -> None:
    messages = read(sys.stdin)
    # what libraries print goes nowhere; the training reads the rest
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    tracked = Tracked(arguments[0], next(messages), lambda text: print(text, file=out, flush=True))
    for message in messages:
        tracked.take(message)


if __name__ == "__main__":
    main(sys.argv[1:])
