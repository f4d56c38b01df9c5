"""`crf-ner train`: the extended training loop."""

import os
import sys
from enum import Enum
from pathlib import Path
from typing import Optional

import typer

# what `spacy train` itself reads its arguments with; there is no public way to them
from spacy.cli._util import import_code, parse_config_overrides, setup_gpu, show_validation_error
from wasabi import msg

from .errors import clear_errors, fail

# EX_TEMPFAIL of sysexits.h: not now, but try again
RESUMABLE = 75


class Engine(str, Enum):
    """What starts the processes of a training."""

    local = "local"
    ray = "ray"


@clear_errors
def train(
    context: typer.Context,
    config: Path = typer.Argument(..., help="A configuration for spacy train.", exists=True, allow_dash=True),
    output: Path = typer.Option(
        ..., "--output", "-o", help="Folder for model-best, model-last, checkpoints and metrics.jsonl."
    ),
    resume: bool = typer.Option(
        False, "--resume", help="Go on from the newest checkpoint in OUTPUT; where there is none, start."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Remove what an earlier training has left in OUTPUT."),
    code: Optional[Path] = typer.Option(None, "--code", "-c", help="Python file with registered functions to import."),
    gpu_id: int = typer.Option(-1, "--gpu-id", "-g", help="GPU to use, or -1 for the CPU."),
    engine: Engine = typer.Option(
        Engine.local, "--engine", help="ray: in workers that Ray starts, and starts again when one dies."
    ),
    workers: int = typer.Option(1, "--workers", min=1, help="With --engine ray: processes that train together."),
    cores: int = typer.Option(1, "--cores", min=1, help="With --engine ray: processor cores of each worker."),
    restarts: int = typer.Option(3, "--restarts", min=0, help="With --engine ray: how often workers are started anew."),
) -> None:
    """Train a pipeline as spacy train does, with checkpoints to resume from and all that [training_extras] has.

    Settings are overridden as there: --training.max_steps 2000. Ends with 0 when the training is done, with 75 when it
    was interrupted (SIGTERM, Ctrl-C) and --resume goes on with it, with 1 when something is wrong.
    """
    import torch

    from ..api import train as train_pipeline
    from ..training.distributed import PeerLost
    from ..training.loop import Interrupted

    overrides = parse_config_overrides(context.args)
    import_code(code)
    if engine == Engine.local:
        # Ray's workers may be on machines that have what this one has not
        if gpu_id >= 0 and not torch.cuda.is_available():
            fail(f"--gpu-id {gpu_id}: there is no GPU that torch can use. Leave --gpu-id out to train on the CPU.")
        # torchrun gives each of its processes a GPU of its own
        setup_gpu(int(os.environ.get("LOCAL_RANK", gpu_id)) if gpu_id >= 0 else gpu_id)
    try:
        with show_validation_error(config, hint_fill=False):
            train_pipeline(
                config, output, overrides=overrides, resume=resume, overwrite=overwrite, gpu_id=gpu_id,
                engine=engine.value, workers=workers, cores=cores, restarts=restarts,
                code=code if engine == Engine.ray else None, stdout=sys.stdout, stderr=sys.stderr,
            )  # fmt: skip
    except Interrupted as interrupted:
        msg.warn(f"{interrupted}: the training was interrupted and has written a checkpoint. Go on with --resume.")
        raise typer.Exit(RESUMABLE) from None
    except PeerLost as lost:
        fail(str(lost))
    kept = next((name for name in ("model-best", "model-last") if (output / name).exists()), None)
    if kept is not None:  # one process of several writes
        msg.good(f"Wrote {output}.")
        # not by wasabi, which would wrap what is to be copied
        typer.echo(f"Score the pipeline with: python -m spacy crf-ner evaluate {output / kept} DATA --output scores")
