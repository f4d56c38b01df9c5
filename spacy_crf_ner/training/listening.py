"""Pipes that learn, and the shared embeddings that they listen to."""

import contextlib
from typing import Any, Collection, Dict, Iterator, List, Optional, Sequence

from spacy.language import Language

from ..embedding.pipe import SharedEmbedding


def with_embeddings(nlp: Language, pipes: Sequence[str]) -> List[str]:
    """Names of pipes and of the shared embeddings that at least one of them listens to, in their order."""
    wanted = set(pipes)
    for name, pipe in nlp.pipeline:
        if wanted & set(_listeners(pipe)):
            wanted.add(name)
    return [name for name in nlp.pipe_names if name in wanted]


@contextlib.contextmanager
def only_listeners(nlp: Language, pipes: Optional[Collection[str]]) -> Iterator[None]:
    """Have shared embeddings send only some pipes their vectors, for a while.

    spaCy's own, and spacy-transformers', learn when the last of their listeners hands its gradients in: with one at the
    end that does not learn they would lose those of all others.

    pipes (Optional[Collection[str]]): Names of pipes; None: all.
    """
    if pipes is None:
        yield
        return
    # ours waits for whoever comes, and has to know all that hold its vectors
    embeddings = [pipe for _, pipe in nlp.pipeline if _listeners(pipe) and not isinstance(pipe, SharedEmbedding)]
    before = [_listeners(pipe) for pipe in embeddings]
    for pipe, listeners in zip(embeddings, before):
        pipe.listener_map = {  # type: ignore[attr-defined]
            name: models for name, models in listeners.items() if name in pipes
        }
    try:
        yield
    finally:
        for pipe, listeners in zip(embeddings, before):
            pipe.listener_map = listeners  # type: ignore[attr-defined]


def _listeners(pipe: Any) -> Dict[str, Any]:
    """Models that listen to a pipe, by the pipe that they are in."""
    return getattr(pipe, "listener_map", {})
