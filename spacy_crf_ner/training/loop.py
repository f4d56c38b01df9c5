"""The extended training loop: spaCy's own, which can be stopped at any instant and goes on as if it had not been."""

import contextlib
import math
import shutil
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Callable, Collection, Dict, Iterator, List, Optional, Sequence, TextIO, Tuple

from spacy.language import Language
from spacy.schemas import ConfigSchemaTraining
from spacy.training import Example
from spacy.training.loop import (
    DIR_MODEL_BEST,
    DIR_MODEL_LAST,
    create_before_to_disk_callback,
    create_evaluation_callback,
    subdivide_batch,
    update_meta,
)
from spacy.util import logger, registry, resolve_dot_names
from thinc.api import Config, CupyOps, Model, fix_random_seed, get_current_ops
from torch import Tensor

from ..embedding.model import tokenizers
from .adversarial import Adversary
from .blame import blamed_on
from .checkpoint import Checkpoint, CheckpointError, cannot_write, replace_folder, write
from .data import Batches, corpus_of, digest_of
from .distributed import Group
from .listening import only_listeners, with_embeddings
from .metrics import METRICS, TIMINGS, LineFile, of_optimizer
from .phases import Phases, read_phases
from .pictures import Pictures
from .settings import SECTION, TrainingExtras, read_extras
from .state import RandomState, optimizer_state, parameter_names, restore_optimizer, torch_random, use_torch_random
from .watching import Watch, watched_by_loggers
from .weights import WEIGHTS, WeightStatistics

NO_DEV = (
    "The development corpus has no document, so that nothing could be scored. Is [corpora.dev] (or what [training] "
    "dev_corpus names) the right file? To train without one, set its path to null."
)


class Interrupted(Exception):
    """The training was asked to stop, and has written a checkpoint from which it can be resumed."""


@dataclass
class Progress:
    """Where a training stands.

    step (int): Steps that are done. words (int): Words they had. results: Score and number of step of each evaluation.
    losses: Since the last evaluation, by pipe. waited (int): Evaluations since the best one, or since rates were
    lowered.
    """

    step: int = 0
    words: int = 0
    results: List[Tuple[float, int]] = field(default_factory=list)
    losses: Dict[str, float] = field(default_factory=dict)
    waited: int = 0

    @property
    def best(self) -> Optional[Tuple[float, int]]:
        """The best score and the first step that had it."""
        return max(self.results, key=lambda result: (result[0], -result[1]), default=None)


class Training:
    """A training, from its first step or from a checkpoint to its end.

    nlp (Language): The initialized pipeline, with its whole configuration.
    output (Optional[Path]): Where pipelines, checkpoints and metrics go; None: nowhere.
    resume (Optional[Checkpoint]): Where to go on; the pipeline is the one that it holds.
    extras (Optional[TrainingExtras]): None: as the pipeline's configuration says.
    evaluates (bool): False: there is no development corpus.
    given (Optional[Config]): The configuration as the user wrote it, by which a resumed training is compared; None:
        the pipeline's.
    group (Optional[Group]): The processes that train together; None: this one alone.
    """

    def __init__(
        self,
        nlp: Language,
        output: Optional[Path] = None,
        resume: Optional[Checkpoint] = None,
        extras: Optional[TrainingExtras] = None,
        evaluates: bool = True,
        given: Optional[Config] = None,
        group: Optional[Group] = None,
    ) -> None:
        self.nlp = nlp
        self.group = group or Group()
        self.output = output if self.group.rank == 0 else None
        self._given = (given or nlp.config).to_str(interpolate=False)
        config = nlp.config.interpolate()
        self.extras = extras or read_extras(config)
        self.settings = registry.resolve(config["training"], schema=ConfigSchemaTraining)  # type: ignore[arg-type]
        self.optimizer = self.settings["optimizer"]
        if hasattr(self.optimizer, "begin_loop"):
            self.optimizer.begin_loop(nlp.pipeline)
        if self.extras.plateau_patience and not hasattr(self.optimizer, "scale"):
            raise ValueError(
                f"[{SECTION}] plateau_patience lowers the rates of spacy_crf_ner.AdamW.v1, and of no other optimizer. "
                "Use that one in [training.optimizer], or set it to 0."
            )
        self.phases = Phases(
            read_phases(self.extras.phases, nlp.component_names),
            nlp,
            self.settings["frozen_components"],
            self.settings["annotating_components"],
        )
        self._adversary: Optional[Adversary] = None
        if self.extras.adversarial_epsilon:
            self._adversary = Adversary(self.extras.adversarial_epsilon, self.extras.adversarial_parameters)
            frozen = self.settings["frozen_components"]
            self._adversary.check((name, pipe) for name, pipe in nlp.pipeline if name not in frozen)
        seed = config["training"]["seed"]
        self._seed = seed or 0
        if seed is not None:
            fix_random_seed(seed)
        corpora = resolve_dot_names(config, [self.settings["train_corpus"], self.settings["dev_corpus"]])
        self._evaluate: Optional[Callable] = None
        if evaluates:
            self._evaluate = create_evaluation_callback(nlp, corpora[1], self.settings["score_weights"])
        self.batches = Batches(
            nlp,
            corpora[0],
            config["training"]["batcher"],
            self.settings["max_epochs"],
            self.extras.shuffle_buffer,
            batchers={name: corpus.batcher for name, corpus in self.extras.corpora.items() if corpus.batcher},
            one_of_each=self.extras.one_batch_of_each,
            prepare=self._tokenize_ahead(),
            ahead=self.extras.tokenize_ahead,
        )
        self._dev_digest = ""
        if evaluates:
            with RandomState.now().apart():
                # to its end: readers say then what was wrong with their files
                examples = iter(corpora[1](nlp))
                first = next(examples, None)
                if first is None:
                    raise ValueError(NO_DEV)
                self._dev_digest = digest_of(chain([first], examples))
        self._learners = {
            name: with_embeddings(nlp, corpus.pipes) for name, corpus in self.extras.corpora.items() if corpus.pipes
        }
        self.progress = Progress()
        self.metrics = LineFile(self.output and self.output / METRICS)
        self.timings = LineFile(self.output and self.output / TIMINGS)
        looks = self.extras.weight_statistics
        self.weights = LineFile(self.output / WEIGHTS if self.output and looks else None)
        self._statistics = WeightStatistics(
            nlp, self.weights, self.settings["frozen_components"], self.settings["eval_frequency"] if looks else 0
        )
        self._pictures = Pictures(self.output if self.extras.curves else None, self.settings["score_weights"])
        self.history: List[Dict[str, Any]] = []
        self._watch = Watch(self.output)
        self._before_to_disk = create_before_to_disk_callback(self.settings["before_to_disk"])
        self._stop: Optional[str] = None
        self._can_stop = output is not None
        self._saved_at = time.monotonic()
        self._saved_step = 0
        if resume is None:
            self.metrics.begin()
            self.timings.begin()
            self.weights.begin()
            if self.group.rank:
                # each process drops other values
                fix_random_seed(self._seed + self.group.rank)
        else:
            self._restore(resume)

    # The loop

    def stop(self, reason: str) -> None:
        """Ask the training, from another thread, to stop after the step that it is in, as SIGTERM does.

        reason (str): What `Interrupted` then says.
        """
        self._stop = reason

    def run(self, stdout: TextIO = sys.stdout, stderr: TextIO = sys.stderr) -> Language:
        """Train to the end. RAISES (Interrupted): SIGTERM or SIGINT came; the step was finished and is kept."""
        settings = self.settings
        if self._is_over():
            logger.warning(
                "The training is at its end already, after %d steps: raise max_steps, max_epochs or patience to go on.",
                self.progress.step,
            )  # fmt: skip
            return self._finish()
        if self._evaluate is not None and 0 < settings["max_steps"] < settings["eval_frequency"]:
            logger.warning(
                "[training] eval_frequency = %d is above max_steps = %d: one evaluation follows the first step, and "
                "model-best is the pipeline that it saw.",
                settings["eval_frequency"], settings["max_steps"],
            )  # fmt: skip
        if 0 < settings["max_steps"] < self.phases.last_begins:
            logger.warning(
                "[training] max_steps = %d: the last phase, which begins with step %d, is not reached.",
                settings["max_steps"], self.phases.last_begins,
            )  # fmt: skip
        log_step, finalize_logger = self._make_logger(stdout, stderr)
        begin = time.perf_counter()
        try:
            self._call("train_begin")
            with self._signals(), contextlib.closing(iter(self.batches)) as batches:
                # in the middle of an epoch that has begun, where the training was resumed
                epoch = self.batches.epoch if self.batches.taken else -1
                for at_epoch, batch in batches:
                    if at_epoch != epoch:
                        epoch = at_epoch
                        self._call("epoch_begin")
                    started = time.perf_counter()
                    info = self._step(epoch, batch)
                    info["seconds"] = int(time.perf_counter() - begin)
                    self._watch.tell(info)
                    with blamed_on("[training.logger] has failed", (ValueError, OSError)):
                        log_step(self._shown(info))
                    self._record(info, batch, time.perf_counter() - started)
                    over = self._is_over()
                    stop, save = self._agree(not over and self._is_time_to_save())
                    if stop or save:
                        self._checkpoint()
                    if stop:
                        raise Interrupted(stop)
                    if over:
                        break
                return self._finish()
        finally:
            finalize_logger()

    def _make_logger(self, stdout: TextIO, stderr: TextIO) -> Tuple[Callable, Callable]:
        if self.group.rank:
            return (lambda info: None), (lambda: None)
        self._watch.step = self.progress.step
        blamed = blamed_on("[training.logger] has failed", (ValueError, OSError))
        frozen = self.settings["frozen_components"]
        with blamed, watched_by_loggers(self._watch), self.nlp.select_pipes(disable=frozen):
            return self.settings["logger"](self.nlp, stdout, stderr)

    def _shown(self, info: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        """What spaCy's loggers show: a row at each evaluation, without scores where there is no development corpus."""
        if info["score"] is not None:
            return info
        if self._evaluate is None and info["step"] % self.settings["eval_frequency"] == 0:
            return {**info, "score": math.nan, "other_scores": dict.fromkeys(self.settings["score_weights"], math.nan)}
        return None

    def _agree(self, save: bool) -> Tuple[Optional[str], bool]:
        """What all processes do after a step: stop where any was asked to, save when the first finds it is time."""
        stopped, saves = self.group.add(self._stop is not None, save and self.group.rank == 0)
        return (self._stop or "Another process") if stopped else None, bool(saves)

    def _step(self, epoch: int, batch: List[Example]) -> Dict[str, Any]:
        """One step of the optimizer, and the evaluation that follows some of them.

        RETURNS (Dict[str, Any]): What spaCy's loggers get.
        """
        settings, progress = self.settings, self.progress
        step = progress.step
        if self.phases.begins(step):
            # a score that others brought about says nothing of those that learn now
            progress.waited = 0
        if settings["before_update"]:
            with blamed_on(f"[training.before_update] has failed after {step} steps"):
                settings["before_update"](self.nlp, {"step": step, "epoch": epoch})
        if isinstance(get_current_ops(), CupyOps):
            # its generator cannot be put into a checkpoint
            get_current_ops().xp.random.seed((self._seed * 1_000_003 + step) % 2**32)
        losses: Dict[str, float] = {}
        self._statistics.before(step)
        frozen = self.phases.frozen(step)
        pipes = [(name, pipe) for name, pipe in self.nlp.pipeline if name not in frozen]
        with self._whole_step(batch), self.phases.listening(step):
            alike = self._alike(self.group.part(batch))
            parts = [(learners, part) for learners, examples in alike for part in self._parts(examples)]
            self._learn_from(parts, losses)
            if self._adversary is not None:
                with self._adversary.moved(pipes, self.group) as is_moved:
                    if is_moved:
                        self._learn_from(parts, {})
        self.group.add_gradients(pipes)
        for name, pipe in pipes:
            if getattr(pipe, "is_trainable", False) and isinstance(getattr(pipe, "model", None), Model):
                if self._learners:
                    # loggers want a loss of each pipe, also of those that had nothing to learn from
                    losses.setdefault(name, 0.0)
                pipe.finish_update(self.optimizer)  # type: ignore[attr-defined]
        self.optimizer.step_schedules()
        self._statistics.after(step)
        losses = self._add_up(losses)
        for name in self.phases.waiting(step):
            # spaCy's loggers look for the loss of every pipe
            progress.losses.setdefault(name, 0.0)
        for name, loss in losses.items():
            progress.losses[name] = progress.losses.get(name, 0.0) + loss
        progress.words += sum(len(example) for example in batch)
        progress.step += 1
        info: Dict[str, Any] = {
            "epoch": epoch,
            "step": step,
            "score": None,
            "other_scores": None,
            "losses": progress.losses,
            "step_losses": losses,
            "checkpoints": progress.results,
            "words": progress.words,
            "epoch_share": self.batches.share,
            **of_optimizer(self.optimizer),
        }
        self._call("step_end", info)
        if step % settings["eval_frequency"] == 0:
            self._evaluation(step, info)
        return info

    def _learn_from(
        self, parts: Sequence[Tuple[Optional[Collection[str]], List[Example]]], losses: Dict[str, float]
    ) -> None:
        """Add the gradients of a batch to those that are there; losses to `losses`.

        parts: What goes through at once, each with the names of the pipes that learn from it, None: all of them.
        """
        frozen = self.phases.frozen(self.progress.step)
        annotating = self.phases.annotating(self.progress.step)
        for learners, part in parts:
            excluded = [name for name in self.nlp.pipe_names if learners is not None and name not in learners]
            with only_listeners(self.nlp, learners):
                self.nlp.update(
                    part,
                    drop=self.settings["dropout"],
                    losses=losses,
                    sgd=False,  # type: ignore[arg-type]
                    exclude=[*frozen, *excluded],
                    annotates=annotating,
                )
        for name, pipe in self.nlp.pipeline:
            if name not in frozen and hasattr(pipe, "end_batch"):
                pipe.end_batch()

    def _add_up(self, losses: Dict[str, float]) -> Dict[str, float]:
        """Losses of all processes together, of which some may have had nothing to learn from."""
        total: Dict[str, float] = {}
        for own in self.group.gather(losses):
            for name, loss in own.items():
                total[name] = total.get(name, 0.0) + float(loss)
        return self.group.tell(total)

    def _alike(self, batch: List[Example]) -> Iterator[Tuple[Optional[Collection[str]], List[Example]]]:
        """A batch by what is done with it: each batch of a corpus by itself, and the same pipes learn from all of it.

        YIELDS: Names of these pipes, None: all of them; and the examples.
        """
        extras = self.extras
        if not self._learners and not extras.one_batch_of_each:
            yield None, batch
            return
        found: Dict[Any, List[Example]] = {}
        for example in batch:
            name = corpus_of(example)
            learners = self._learners.get(name)
            found.setdefault((name if extras.one_batch_of_each else "", learners and tuple(learners)), []).append(
                example
            )
        for (_, learners), examples in found.items():
            yield learners, examples

    def _tokenize_ahead(self) -> Optional[Callable[[List[Example]], None]]:
        """What makes the wordpieces of this process's part of a batch; None: nothing is to be made ahead."""
        if not self.extras.tokenize_ahead:
            return None
        off = set(self.settings["frozen_components"]) - set(self.settings["annotating_components"])
        models = [getattr(pipe, "model", None) for name, pipe in self.nlp.pipeline if name not in off]
        found = {id(t): t for model in models if isinstance(model, Model) for t in tokenizers(model)}
        if not found:
            logger.warning(
                "[%s] tokenize_ahead = %d has no effect: no pipe has an embedding spacy_crf_ner.TransformerCNN.v1.",
                SECTION, self.extras.tokenize_ahead,
            )  # fmt: skip
            return None

        def prepare(batch: List[Example]) -> None:
            docs = [example.predicted for example in self.group.part(batch)]
            for tokenizer in found.values():
                tokenizer(docs)

        return prepare

    def _parts(self, batch: List[Example]) -> Iterator[List[Example]]:
        """What goes through the pipeline at once."""
        limit = self.extras.micro_batch_tokens
        if not limit:
            yield from subdivide_batch(batch, self.settings["accumulate_gradient"])
            return
        part: List[Example] = []
        tokens = 0
        for example in sorted(batch, key=lambda example: len(example.predicted)):
            if part and tokens + len(example.predicted) > limit:
                yield part
                part, tokens = [], 0
            part.append(example)
            tokens += len(example.predicted)
        yield part

    @contextlib.contextmanager
    def _whole_step(self, batch: Sequence[Example]) -> Iterator[None]:
        """Have pipes that can do so divide the loss of each part of a batch by what the whole of it has."""
        pipes = [pipe for _, pipe in self.nlp.pipeline if hasattr(pipe, "loss_tokens")]
        for pipe in pipes:
            # of what it learns from, which need not be all
            own = [eg for eg in batch if pipe.name in self._learners.get(corpus_of(eg), (pipe.name,))]  # type: ignore[attr-defined]
            pipe.step_tokens = pipe.loss_tokens(own)  # type: ignore[attr-defined]
        try:
            yield
        finally:
            for pipe in pipes:
                pipe.step_tokens = None  # type: ignore[attr-defined]

    # Evaluation and what follows from it

    def _evaluation(self, step: int, info: Dict[str, Any]) -> None:
        progress = self.progress
        if self._evaluate is None:
            info["losses"], progress.losses = dict(progress.losses), {}
            with self.group.first():
                self._save(DIR_MODEL_LAST)
            return
        with self.group.first():
            found = self._scores() if self.group.rank == 0 else None
        score, scores = self.group.tell(found)
        before = progress.best
        progress.results.append((score, step))
        is_best = before is None or score > before[0]
        info.update(score=score, other_scores=scores)
        with self.nlp.select_pipes(disable=self.settings["frozen_components"]):
            update_meta(self.settings, self.nlp, info)
        with self.group.first():
            self._save(DIR_MODEL_LAST)
            if is_best:
                self._save(DIR_MODEL_BEST)
        if self.output is not None:
            info["output_path"] = str(self.output / DIR_MODEL_LAST)
        self._watch_plateau(is_best)
        self._call("evaluation_end", info)
        info["losses"], progress.losses = dict(progress.losses), {}

    def _scores(self) -> Tuple[float, Dict[str, Any]]:
        assert self._evaluate is not None
        with self._averaged(), blamed_on(f"The evaluation after {self.progress.step} steps has failed"):
            score, scores = self._evaluate()
        return float(score), scores

    def _watch_plateau(self, is_best: bool) -> None:
        """Lower the rates where the score has not risen for a while."""
        progress, patience = self.progress, self.extras.plateau_patience
        progress.waited = 0 if is_best else progress.waited + 1
        if patience and progress.waited >= patience:
            progress.waited = 0
            self.optimizer.scale *= self.extras.plateau_factor  # type: ignore[attr-defined]
            logger.info(
                "No better score in %d evaluations: rates are now %g of what they were.", patience, self.optimizer.scale
            )

    def _is_over(self) -> bool:
        """Whether there is nothing left to do, as spaCy counts: it takes one step more than max_steps."""
        progress, settings = self.progress, self.settings
        last = progress.step - 1
        if settings["max_steps"] and last >= settings["max_steps"]:
            return True
        best = progress.best
        # pipes that are yet to learn would be lost, and what they do to the score takes its time
        since = max(best[1], self.phases.last_begins) if best else 0
        return bool(settings["patience"] and best and last - since >= settings["patience"])

    def _finish(self) -> Language:
        if self.progress.step:
            self._checkpoint()
        with self.group.first():
            self._save(DIR_MODEL_LAST)
            self._draw(at_end=True)
        self._call("train_end", {"step": self.progress.step - 1})
        return self.nlp

    def _averaged(self) -> Any:
        """The pipeline with the averages of its weights, where the optimizer keeps any."""
        averages = self.optimizer.averages
        return self.nlp.use_params(averages) if averages else contextlib.nullcontext()

    def _save(self, name: str) -> None:
        """Write the pipeline as it would be used, in the place of what was there."""
        if self.output is None:
            return
        self._call("before_save", {"step": self.progress.step - 1, "name": name})
        beside = self.output / f".{name}.new"
        shutil.rmtree(beside, ignore_errors=True)
        try:
            with self._averaged():
                with blamed_on("[training.before_to_disk] has failed"):
                    saved = self._before_to_disk(self.nlp)
                saved.to_disk(beside)
            replace_folder(beside, self.output / name)
        except OSError as error:
            raise cannot_write(beside, self.output / name, error) from error

    def _call(self, hook: str, info: Optional[Dict[str, Any]] = None) -> None:
        callback = self.extras.hooks.get(hook)
        if callback is None:
            return
        with blamed_on(f"[{SECTION}.hooks.{hook}] has failed after {self.progress.step} steps"):
            callback(self.nlp, {"step": self.progress.step, "epoch": self.batches.epoch, **(info or {})})

    # What is written down

    def _record(self, info: Dict[str, Any], batch: Sequence[Example], seconds: float) -> None:
        step = info["step"]
        if step % self.extras.log_steps and info["score"] is None:
            return
        line = {"step": step, "epoch": info["epoch"], "words": info["words"], "losses": info["step_losses"]}
        phase = self.phases.at(step)
        if phase is not None:
            line["phase"] = phase.name
        line.update(of_optimizer(self.optimizer))
        if info["score"] is not None:
            line["score"] = info["score"]
            line["scores"] = {key: value for key, value in info["other_scores"].items() if key != "speed"}
        self.metrics.add(line)
        self.history.append(line)
        words = sum(len(example) for example in batch)
        self.timings.add({"step": step, "seconds": round(seconds, 4), "words_a_second": round(words / seconds)})
        if self._shown(info) is not None:
            self._draw()

    def _draw(self, at_end: bool = False) -> None:
        self._pictures.draw(self.history, self.timings.read, self.weights.read, at_end)

    # Checkpoints

    def _is_time_to_save(self) -> bool:
        extras = self.extras
        by_step = extras.checkpoint_steps and self.progress.step % extras.checkpoint_steps == 0
        by_time = extras.checkpoint_minutes and time.monotonic() - self._saved_at >= 60 * extras.checkpoint_minutes
        return bool(by_step or by_time)

    def _checkpoint(self) -> None:
        if self._saved_step == self.progress.step:
            return
        own = self.group.gather((RandomState.now().to_json(), torch_random()))
        self._saved_at, self._saved_step = time.monotonic(), self.progress.step
        with self.group.first():
            if self.output is not None:
                self._write_checkpoint(self.output, own)

    def _write_checkpoint(self, output: Path, own: List[Tuple[Dict[str, Any], Dict[str, Tensor]]]) -> None:
        """own (List[Tuple[Dict, Dict]]): Random states of each process, and those of its torch."""
        names = parameter_names(self.nlp)
        tensors, values = optimizer_state(self.optimizer, names)
        progress = self.progress
        state = {
            "config": self._given,
            "progress": vars(progress),
            "optimizer": values,
            "batches": self.batches.state(),
            "dev": self._dev_digest,
            "random": [values for values, _ in own],
            "processes": self.group.size,
            "sizes": {name: getattr(self, name).size() for name in ("metrics", "timings", "weights")},
        }
        all_tensors = {f"optimizer|{name}": tensor for name, tensor in tensors.items()}
        for rank, (_, random_states) in enumerate(own):
            all_tensors.update({f"random|{rank}|{name}": tensor for name, tensor in random_states.items()})
        write(output, progress.step, self.nlp, state, all_tensors, self.extras.keep_checkpoints)

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        if state["processes"] != self.group.size:
            raise CheckpointError(
                f"{checkpoint.path}: the training ran in {state['processes']} processes, and this is one of "
                f"{self.group.size}. Resume it with as many (torchrun --nproc-per-node, or --workers)."
            )
        tensors: Dict[str, Dict[str, Tensor]] = {"optimizer": {}, "random": {}}
        for name, tensor in checkpoint.tensors.items():
            kind, _, rest = name.partition("|")
            tensors[kind][rest] = tensor
        self.progress = Progress(**state["progress"])
        self.progress.results = [(score, step) for score, step in self.progress.results]
        self._saved_step = self.progress.step
        self.batches.restore(state["batches"])
        if self.output is not None and state["dev"] != self._dev_digest:
            raise CheckpointError(
                "The development corpus has changed since the checkpoint was written, so that scores before and after "
                "it cannot be compared. Bring the old one back, or start anew with --overwrite."
            )
        names = parameter_names(self.nlp)
        restore_optimizer(self.optimizer, names, tensors["optimizer"], state["optimizer"], self.progress.step)
        self.metrics.begin(state["sizes"]["metrics"])
        self.timings.begin(state["sizes"]["timings"])
        self.weights.begin(state["sizes"].get("weights", 0))
        self.history = self.metrics.read()
        RandomState.from_json(state["random"][self.group.rank]).use()
        mine = f"{self.group.rank}|"
        use_torch_random({k[len(mine) :]: v for k, v in tensors["random"].items() if k.startswith(mine)})

    # Signals

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT end the training after the step that it is in; a second SIGINT at once."""
        if threading.current_thread() is not threading.main_thread() or not self._can_stop:
            yield
            return

        def stop(number: int, frame: Any) -> None:
            if self._stop is not None and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._stop = signal.Signals(number).name
            logger.warning(
                "%s: the step is finished and a checkpoint written; a second Ctrl-C ends it at once.", self._stop
            )

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
