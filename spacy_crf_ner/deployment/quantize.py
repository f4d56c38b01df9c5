"""A trained pipeline with its encoders in int8."""

from dataclasses import replace
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import torch
from spacy.language import Language
from spacy.tokens import Doc
from thinc.api import Model
from torch import Tensor

from ..embedding.model import Running
from ..embedding.module import TransformerCNNModule
from ..embedding.pieces import batch_pieces

ARCHITECTURE = "spacy_crf_ner.TransformerCNN.v1"


def quantize(nlp: Language, docs: Sequence[Doc]) -> None:
    """Turn the encoders of a pipeline's TransformerCNN embeddings into int8, for prediction on a CPU.

    nlp (Language): A trained pipeline, which is changed: weights, and precision = "int8" in its config.
    docs (Sequence[Doc]): Examples of what it will be used on, to which the ranges of activations are fitted; a hundred
        short texts are enough, and no annotation is needed.
    RAISES (ValueError): There is no such embedding, it is quantized already, or there is no text.
    """
    embeddings = list(_embeddings(nlp))
    if not embeddings:
        raise ValueError(f"The pipeline has no {ARCHITECTURE} in it; there is nothing to quantize.")
    for name, model in embeddings:
        shim: Any = model.shims[0]
        if "int8" in shim.cfg:
            raise ValueError(f"{name}: its encoder is quantized already.")
        examples = list(_inputs(model, docs))
        if not examples:
            raise ValueError("There is no text to fit the quantization to.")
        shim.cfg = {**shim.cfg, "int8": shim.module.quantize(examples)}
        running: Running = model.attrs["running"]
        model.attrs["running"] = replace(running, precision="int8", frozen_layers=None, cache="none")
        nlp.meta.pop("performance", None)  # those are the scores of another
        for section in _sections(nlp.get_pipe_config(name)):
            section.update(precision="int8", frozen_layers=None, cache="none")


def _embeddings(nlp: Language) -> Iterator[Tuple[str, Model]]:
    for name, pipe in nlp.pipeline:
        model = getattr(pipe, "model", None)
        for node in model.walk() if isinstance(model, Model) else ():
            if node.shims and isinstance(getattr(node.shims[0], "_model", None), TransformerCNNModule):
                yield name, node


def _inputs(model: Model, docs: Sequence[Doc]) -> Iterator[Tuple[Tensor, Tensor]]:
    """Input ids and attention mask of documents, as the pipeline makes them."""
    module: TransformerCNNModule = model.shims[0].module  # type: ignore[attr-defined]
    attrs = model.attrs
    pieces = module.tokenizer(docs)
    for batch in batch_pieces(module.tokenizer, pieces, attrs["window"], attrs["stride"], 2048).micro_batches:
        ids, n_real = torch.from_numpy(batch.ids), torch.from_numpy(batch.n_real)
        yield ids, (torch.arange(ids.shape[1]) < n_real[:, None]).long()


def _sections(config: Any) -> Iterator[Dict[str, Any]]:
    """The sections of a config that describe a TransformerCNN."""
    if isinstance(config, dict):
        if config.get("@architectures") == ARCHITECTURE:
            yield config
        for value in config.values():
            yield from _sections(value)


def same_entities(before: List[Doc], after: List[Doc]) -> Tuple[int, int, int]:
    """Entities that two runs over the same texts share. RETURNS: shared, and all of either run."""
    sets = [
        {(i, e.start_char, e.end_char, e.label_) for i, doc in enumerate(docs) for e in entities(doc)}
        for docs in (before, after)
    ]
    return len(sets[0] & sets[1]), len(sets[0]), len(sets[1])


def entities(doc: Doc) -> List[Any]:
    """All entities of a document, those in span groups too."""
    return [*doc.ents, *(span for group in doc.spans.values() for span in group)]
