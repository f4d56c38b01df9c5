"""Trains, is killed at random instants, and resumes: python kills.py CONFIG FOLDER KILLS SEED.

Imports everything once and forks for each attempt, so that a hundred kills take minutes. Prints one JSON line: kills,
those that came while a checkpoint was being written, and the trainings that came to their end.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import spacy_crf_ner
from spacy_crf_ner.api import train  # noqa: F401 # and with it all that a training imports


def attempt(config: str, output: Path) -> int:
    """Start a process that trains. RETURNS: Its id."""
    pid = os.fork()
    if pid == 0:
        try:
            with open(os.devnull, "w") as nowhere:
                spacy_crf_ner.train(config, output, resume=True, stdout=nowhere, stderr=nowhere)
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def _writes(output: Path) -> bool:
    """Whether a checkpoint is half-written."""
    return any((output / "checkpoints").glob(".step-*"))


def main() -> None:
    config, folder, kills, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    chance = random.Random(seed)
    begin = time.monotonic()
    assert os.waitpid(attempt(config, folder / "whole"), 0)[1] == 0
    whole = time.monotonic() - begin
    killed = writing = finished = 0
    while killed < kills or not finished:
        output = folder / f"run{finished}"
        for stale in (output / "checkpoints").glob(".step-*"):
            shutil.rmtree(stale)
        pid = attempt(config, output)
        # early enough to hit loading, late enough to get on; every second one waits for a checkpoint to be written
        until = time.monotonic() + (chance.random() * 0.5 * whole if killed < kills else 60 + 10 * whole)
        aimed = killed < kills and killed % 2
        status = None
        while status is None and (time.monotonic() < until or (aimed and not _writes(output))):
            done, code = os.waitpid(pid, os.WNOHANG)
            status = code if done else None
            time.sleep(0.0005)
        if status is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            killed += 1
            writing += _writes(output)
        elif status == 0:
            finished += 1
        else:
            raise SystemExit(f"an attempt ended with {status}")
    print(json.dumps({"killed": killed, "writing": writing, "finished": finished}))


if __name__ == "__main__":
    main()
