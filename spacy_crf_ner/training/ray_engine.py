"""One training in processes that Ray starts, and starts again when one of them or its machine dies.

Ray Train places the workers, connects them and watches over them. Each runs what a process of torchrun runs, and after
a failure all of them go on from the newest checkpoint in OUTPUT, which every machine has to see under the same path.
Nothing is given to Ray to keep.
"""

import contextlib
import os
import shutil
import signal
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Union

from spacy import util
from spacy.util import logger
from thinc.api import Config

from .blame import CodeError
from .distributed import TIMEOUT, PeerLost
from .loop import Interrupted, Training

# Ray's own files, while the training runs
OWN = ".ray"
# A cluster of one machine needs little room for what workers are told; Ray's default is a third of the memory.
STORE_BYTES = 100 * 1024 * 1024


@dataclass
class Work:
    """What a worker is told.

    config (str): The configuration. output (str): Absolute. folder (str): Where relative paths begin.
    code (Optional[str]): A file of Python to import. others: As in `api.train`.
    """

    config: str
    output: str
    folder: str
    code: Optional[str]
    resume: bool
    overwrite: bool
    on_gpu: bool


def train_on_ray(
    config: Config,
    output: Path,
    resume: bool,
    overwrite: bool,
    on_gpu: bool,
    workers: int,
    cores: int,
    restarts: int,
    code: Union[str, Path, None],
) -> None:
    """Train with Ray Train, in the cluster that RAY_ADDRESS names, else the one this machine belongs to, else one that
    is started here and ends with the training.

    config (Config): The configuration, in which all that can be wrong was looked for. output (Path): Absolute.
    on_gpu (bool): A GPU for each worker. workers, cores, restarts, code: As in `api.train`.
    RAISES (ValueError): Ray is not installed, a setting is out of its range, or a worker has found something wrong that
        no restart mends.
    RAISES (Interrupted): SIGTERM or SIGINT came; the workers have written a checkpoint.
    RAISES (PeerLost): Workers died more than `restarts` times.
    """
    for name, value, least in (("workers", workers, 1), ("cores", cores, 1), ("restarts", restarts, 0)):
        if value < least:
            raise ValueError(f"{name} = {value} must be at least {least}.")
    # clinical machines need not tell the world that they train
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise ValueError(
            f"Ray Train cannot be imported ({error}). Install it: pip install 'spacy-crf-ner[ray]', or without the "
            "package index pip install 'ray[train]'. Without Ray, torchrun starts several processes on one machine."
        ) from error
    work = Work(
        config=config.to_str(interpolate=False),
        output=str(output),
        folder=os.getcwd(),
        code=None if code is None else str(Path(code).absolute()),
        resume=resume,
        overwrite=overwrite,
        on_gpu=on_gpu,
    )
    output.mkdir(parents=True, exist_ok=True)
    with _cluster(workers * cores):
        remote: Any = ray.remote(num_cpus=0)(Board)
        board = remote.remote()
        trainer = TorchTrainer(
            _work,  # type: ignore[arg-type] # Ray's own annotation knows nothing of values
            train_loop_config={"work": asdict(work), "board": board},
            torch_config=TorchConfig("nccl" if on_gpu else "gloo", timeout_s=int(TIMEOUT.total_seconds())),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=on_gpu, resources_per_worker={"CPU": cores}),
            run_config=RunConfig(storage_path=str(output / OWN), failure_config=FailureConfig(max_failures=restarts)),
        )
        try:
            ended = _fit(trainer, board)
            fault = ray.get(board.first_fault.remote())
        finally:
            shutil.rmtree(output / OWN, ignore_errors=True)
    if fault is not None:
        raise ValueError(fault)
    if isinstance(ended, Exception):
        raise PeerLost(
            f"The workers have died {restarts + 1} times, and are not started again: {_last_words(ended)}\n"
            "When that is mended, go on from the newest checkpoint with --resume."
        ) from ended
    if ended is not None:
        raise Interrupted(ended)


class Board:
    """What driver and workers let each other know: an actor of Ray, which outlives workers."""

    def __init__(self) -> None:
        import asyncio

        self._asked = asyncio.Event()
        self._reason = ""
        self._began = False
        self._fault: Optional[str] = None

    async def ask_to_stop(self, reason: str) -> None:
        self._reason = reason
        self._asked.set()

    async def wait_for_stop(self) -> str:
        """Answers when the training is asked to stop, with the reason."""
        await self._asked.wait()
        return self._reason

    async def begin(self) -> None:
        """The training has begun; workers that are started from now on take it up."""
        self._began = True

    async def has_begun(self) -> bool:
        return self._began

    async def find_fault(self, message: str) -> None:
        """A worker has found something wrong that no restart mends."""
        self._fault = self._fault or message

    async def first_fault(self) -> Optional[str]:
        return self._fault


def _work(told: Dict[str, Any]) -> Optional[str]:
    """What a worker does. RETURNS (Optional[str]): Why it was interrupted; None: it came to its end."""
    import ray

    from ..api import train_here

    work, board = Work(**told["work"]), told["board"]
    if ray.get(board.first_fault.remote()) is not None:
        return None
    if os.path.isdir(work.folder):
        os.chdir(work.folder)
    begun = ray.get(board.has_begun.remote())

    def began(training: Training) -> None:
        threading.Thread(target=_listen, args=(board, training), daemon=True).start()
        if training.group.rank == 0:
            ray.get(board.begin.remote())

    try:
        if work.code is not None:
            util.import_file("python_code", work.code)
        train_here(
            Config().from_str(work.config, interpolate=False),
            work.output,
            resume=work.resume or begun,
            overwrite=work.overwrite and not begun,
            gpu_id=0 if work.on_gpu else -1,
            began=began,
        )
    except Interrupted as interrupted:
        return str(interrupted)
    except CodeError:
        # what somebody's function met may be over when it is tried again
        raise
    except ValueError as error:
        ray.get(board.find_fault.remote(str(error)))
        # the others wait for this one: failing ends them too, and none begins anew
        raise
    return None


def _listen(board: Any, training: Training) -> None:
    """Stop a training when that is asked for. Signals do not reach it: Ray runs it outside of the main thread."""
    import ray

    # the cluster may be gone before anyone has asked
    with contextlib.suppress(Exception):
        training.stop(ray.get(board.wait_for_stop.remote()))


def _fit(trainer: Any, board: Any) -> Union[str, Exception, None]:
    """Run the workers, and pass SIGTERM and SIGINT on to them; a second SIGINT ends everything at once.

    RETURNS (Union[str, Exception, None]): Why it was interrupted; what went wrong; None: the training is done.
    """
    import ray

    ended: List[Any] = []

    def fit() -> None:
        try:
            ended.append(trainer.fit().return_value)
        except Exception as error:
            ended.append(error)

    # in a thread of its own, where Ray leaves signals alone
    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    passed = False
    with _signals() as came:
        while thread.is_alive():
            thread.join(0.2)
            if came and not passed:
                passed = True
                ray.get(board.ask_to_stop.remote(came[0]))
    return ended[0]


@contextlib.contextmanager
def _signals() -> Iterator[List[str]]:
    """The names of the signals that came meanwhile."""
    came: List[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def note(number: int, frame: Any) -> None:
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(signal.Signals(number).name)
        logger.warning("%s: the workers finish their step and write a checkpoint.", came[0])

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _cluster(cores: int) -> Iterator[None]:
    """Ray, connected. cores (int): What a cluster that is started here has at the least."""
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address="auto")
    except ConnectionError:
        ray.init(
            address="local",
            num_cpus=max(cores, os.cpu_count() or 1),
            include_dashboard=False,
            object_store_memory=STORE_BYTES,
        )
    try:
        yield
    finally:
        ray.shutdown()


def _last_words(error: Exception) -> str:
    """What the workers said before they died, the shortest there is."""
    failures = getattr(error, "worker_failures", None) or {}
    found = [f"worker {rank}: {str(failure).strip().splitlines()[-1]}" for rank, failure in sorted(failures.items())]
    return "; ".join(found) or str(error).strip().splitlines()[-1]
