"""A training in phases: some pipes learn first, others later."""

import contextlib
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence

from spacy.language import Language
from spacy.util import logger

PHASES = "training_extras.phases"


@dataclass
class Phase:
    """Steps in which the same pipes learn.

    name (str): What it is called in the configuration.
    until_step (int): The first step that is no more in it; 0: it lasts to the end.
    pipes (Optional[List[str]]): Those that learn; None: all.
    """

    name: str
    until_step: int
    pipes: Optional[List[str]] = None

    def __post_init__(self) -> None:
        if isinstance(self.until_step, bool) or not isinstance(self.until_step, int) or self.until_step < 0:
            raise ValueError(
                f"[{PHASES}.{self.name}] until_step = {self.until_step!r}: it is the number of a step, or 0 for the "
                "phase that lasts to the end."
            )
        names = [self.pipes] if isinstance(self.pipes, str) else self.pipes
        if names is not None and (not isinstance(names, list) or not names or isinstance(self.pipes, str)):
            raise ValueError(
                f"[{PHASES}.{self.name}] pipes = {self.pipes!r}: it is a list of the pipes that learn, or null for all."
            )


def read_phases(block: Dict[str, Any], pipeline: Sequence[str]) -> List[Phase]:
    """The phases of a configuration, in their order in time.

    block (Dict[str, Any]): [training_extras.phases]. pipeline (Sequence[str]): Names of all pipes.
    RAISES (ValueError): A phase is not described as it should be, two of them contradict each other, or none is last.
    """
    phases = []
    for name, settings in block.items():
        if not isinstance(settings, dict) or not {"until_step"} <= settings.keys() <= {"until_step", "pipes"}:
            raise ValueError(f"[{PHASES}.{name}]: a phase is a section with until_step and, if wanted, pipes.")
        phases.append(Phase(name, **settings))
    for phase in phases:
        for pipe in phase.pipes or ():
            if pipe not in pipeline:
                raise ValueError(
                    f'[{PHASES}.{phase.name}] pipes: there is no pipe "{pipe}". There are {", ".join(pipeline)}.'
                )
    phases.sort(key=lambda phase: phase.until_step or float("inf"))
    if phases and phases[-1].until_step:
        raise ValueError(
            f"[{PHASES}.{phases[-1].name}] until_step = {phases[-1].until_step}: no phase lasts to the end. Set "
            "until_step = 0 in the last one."
        )
    for before, after in zip(phases, phases[1:]):
        same = before.until_step == after.until_step
        # names that are numbers say which is meant to come first
        both = before.name.isdecimal() and after.name.isdecimal()
        if same or (both and int(before.name) > int(after.name)):
            raise ValueError(
                f"[{PHASES}.{after.name}] until_step = {after.until_step}, and that of {before.name} is "
                f"{before.until_step}: each phase has to end after the one before it, and only the last one has 0."
            )
    return phases


class Phases:
    """Which pipes learn at which step.

    phases (List[Phase]): In their order; empty: all pipes learn all the time.
    frozen (List[str]): Pipes that never learn. annotating (List[str]): Pipes that set annotations in training.
    RAISES (ValueError): In one of the phases nothing would learn.
    """

    def __init__(self, phases: List[Phase], nlp: Language, frozen: List[str], annotating: List[str]) -> None:
        self._phases = phases
        self._nlp = nlp
        self._frozen = frozen
        self._annotating = annotating
        for phase in phases:
            self._check(phase)

    def _check(self, phase: Phase) -> None:
        place = f"[{PHASES}.{phase.name}] pipes = {phase.pipes}"
        for name in set(phase.pipes or ()) & {*self._frozen}:
            logger.warning("%s: %s is one of [training] frozen_components, and stays frozen.", place, name)
        frozen = self._frozen_in(phase)
        learning = [name for name, pipe in self._nlp.pipeline if name not in frozen and _learns(pipe)]
        if not learning:
            raise ValueError(f"{place}: none of them learns anything.")
        for name in learning if phase.pipes is not None else ():
            listening = getattr(self._nlp.get_pipe(name), "listening_components", [])
            if listening and not {*listening} & {*learning}:
                raise ValueError(
                    f"{place}: {name} learns from the pipes that listen to it ({', '.join(listening)}), and none of "
                    "them does in this phase. Name one of them too."
                )

    @property
    def last_begins(self) -> int:
        """The first step of the last phase."""
        return self._phases[-2].until_step if len(self._phases) > 1 else 0

    def at(self, step: int) -> Optional[Phase]:
        """The phase that a step is in."""
        return next((p for p in self._phases if not p.until_step or step < p.until_step), None)

    def begins(self, step: int) -> bool:
        """Whether a phase, but for the first, begins with a step."""
        return any(phase.until_step == step for phase in self._phases[:-1])

    def frozen(self, step: int) -> List[str]:
        """Pipes that do not learn in a step."""
        return self._frozen_in(self.at(step))

    def waiting(self, step: int) -> List[str]:
        """Pipes that do not learn in a step, and do in another one."""
        return [n for n, pipe in self._nlp.pipeline if _learns(pipe) and n in {*self.frozen(step)} - {*self._frozen}]

    def _frozen_in(self, phase: Optional[Phase]) -> List[str]:
        if phase is None or phase.pipes is None:
            return self._frozen
        return [name for name in self._nlp.pipe_names if name not in phase.pipes or name in self._frozen]

    def annotating(self, step: int) -> List[str]:
        """Pipes that set annotations in a step: also embeddings that are frozen, whose listeners read doc.tensor."""
        frozen = self.frozen(step)
        embeddings = [
            name
            for name, pipe in self._nlp.pipeline
            if name in frozen and not {*getattr(pipe, "listening_components", [])} <= {*frozen}
        ]
        return [*self._annotating, *(name for name in embeddings if name not in self._annotating)]

    @contextlib.contextmanager
    def listening(self, step: int) -> Iterator[None]:
        """Have only pipes that learn listen to embeddings that do.

        spaCy's own embedding sends its gradients down when its last listener hands its own in, which a frozen one never
        does; and a listener whose embedding is frozen must not find what that gave to an earlier batch.
        """
        frozen = self.frozen(step)
        whole = {}
        for name, pipe in self._nlp.pipeline:
            if not hasattr(pipe, "listener_map"):
                continue
            if name in frozen:
                for listener in pipe.listeners:  # type: ignore[attr-defined]
                    listener.receive(None, None, None)
                continue
            whole[name] = pipe.listener_map
            pipe.listener_map = {n: found for n, found in pipe.listener_map.items() if n not in frozen}
        try:
            yield
        finally:
            for name, listener_map in whole.items():
                self._nlp.get_pipe(name).listener_map = listener_map  # type: ignore[attr-defined]


def _learns(pipe: Any) -> bool:
    return bool(getattr(pipe, "is_trainable", False))
