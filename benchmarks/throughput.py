"""A whole pipeline beside the encoder in it, run bare over the same wordpieces.

    python benchmarks/throughput.py MODEL TEXTS [--words 20000] [--rounds 5] [--precisions fp32 bf16 int8]

MODEL is a trained pipeline with crf_ner in it; TEXTS a .spacy file, or a file with a text a line. "Bare" is Hugging
Face's encoder alone, in prediction with its weights in that precision, in training under autocast, over the windows
that the pipeline makes, sorted, packed and padded the same way, from arrays that are ready; at int8, which Hugging
Face's has not, with our integer layers in it. "Engine" is the same encoder as the pipeline runs it in prediction.
Everything is measured in turns in one process; each figure is a median over rounds. Prints one JSON line:

    prediction   words (spaCy tokens) a second from text to doc.ents by nlp.pipe, of the bare encoder's forward pass
                 over the same and of the engine's, and the shares of both that the pipeline reaches
    training     words a second of nlp.update with spacy_crf_ner.AdamW.v1, of the bare encoder's forward + backward +
                 torch's fused AdamW over the same batches, and its share of that
"""

import argparse
import copy
import json
from pathlib import Path
from typing import Any, Callable, Dict, List

import spacy
import torch
from spacy.language import Language
from spacy.training import Example
from timing import device, in_turns, machine, read_texts

from spacy_crf_ner.deployment.quantize import quantize
from spacy_crf_ner.embedding.dropout import Dropout
from spacy_crf_ner.embedding.module import TransformerCNNModule
from spacy_crf_ner.embedding.pieces import MicroBatch, batch_pieces
from spacy_crf_ner.embedding.precision import DTYPES, computed_in
from spacy_crf_ner.embedding.threads import side_by_side
from spacy_crf_ner.training.batching import batch_by_tokens
from spacy_crf_ner.training.optimizer import make_adamw

TRAINABLE = ("fp32", "bf16")


def load(path: Path, precision: str, texts: List[str]) -> Language:
    """The pipeline at a precision; for int8 quantized on the spot."""
    if precision == "int8":
        nlp = load(path, "fp32", texts)
        quantize(nlp, [nlp.make_doc(text) for text in texts[:500]])
        return nlp
    settings = {"nlp.batch_size": 1000, "components.crf_ner.model.tok2vec.precision": precision}
    return spacy.load(path, config=settings)


def embedding(nlp: Language) -> Any:
    return nlp.get_pipe("crf_ner").model.get_ref("tok2vec")  # type: ignore[attr-defined]


def plan(nlp: Language, docs: List[Any], is_train: bool) -> List[MicroBatch]:
    """The micro-batches that the pipeline makes of a batch."""
    model = embedding(nlp)
    module: TransformerCNNModule = model.shims[0].module
    running = model.attrs["running"]
    budget = module.budget(running.micro_batch_pieces, model.attrs["window"], running.precision, is_train)
    sizes = model.attrs["window"], model.attrs["stride"]
    return batch_pieces(module.tokenizer, module.tokenizer(docs), *sizes, budget, model.attrs["pooling"]).micro_batches


def encoder_alone(nlp: Language, batches: List[List[MicroBatch]], engine: bool) -> Callable[[], None]:
    """The forward pass of the encoder, as the pipeline runs it (engine) or as Hugging Face does."""
    model = embedding(nlp)
    module, precision = model.shims[0].module, model.attrs["running"].precision
    module.eval()
    mode = module.mode(precision, trains=False, drops=False)
    encoder = mode.encoder
    if not engine and precision in DTYPES:
        encoder = copy.deepcopy(module.encoder).to(DTYPES[precision])
    together = engine and module.compiles(precision)

    def pass_through(micro_batch: MicroBatch) -> None:
        with torch.inference_mode():
            ids, n_real = (torch.from_numpy(part).to(device()) for part in micro_batch[:2])
            if engine:
                module._encode(mode, ids, n_real if (micro_batch.n_real < ids.shape[1]).any() else None)
            else:
                mask = (torch.arange(ids.shape[1], device=ids.device) < n_real[:, None]).long()
                encoder(input_ids=ids, attention_mask=mask)

    def run() -> None:
        for batch in batches:
            for _ in side_by_side(pass_through, batch) if together else map(pass_through, batch):
                pass

    return run


def prediction(path: Path, texts: List[str], precisions: List[str], rounds: int) -> Dict[str, Any]:
    pipelines = {precision: load(path, precision, texts) for precision in precisions}
    tasks: Dict[str, Callable[[], Any]] = {}
    n_words = 0
    for precision, nlp in pipelines.items():
        docs = [nlp.make_doc(text) for text in texts]
        n_words = sum(map(len, docs))
        groups = [docs[i : i + nlp.batch_size] for i in range(0, len(docs), nlp.batch_size)]
        module = embedding(nlp).shims[0].module
        batches = [plan(nlp, group, False) for group in groups]
        tasks[f"{precision} engine"] = encoder_alone(nlp, batches, engine=True)
        tasks[f"{precision} bare"] = encoder_alone(nlp, batches, engine=False)

        def pipe(nlp: Language = nlp, module: Any = module) -> None:
            module.tokenizer.forget()
            for doc in nlp.pipe(texts):
                doc.ents  # noqa: B018

        tasks[f"{precision} pipe"] = pipe
    return ratios(tasks, "pipe", precisions, n_words, rounds)


def training(path: Path, texts: List[str], precisions: List[str], rounds: int) -> Dict[str, Any]:
    tasks: Dict[str, Callable[[], Any]] = {}
    n_words = 0
    precisions = [p for p in precisions if p in TRAINABLE]
    for precision in precisions:
        nlp = load(path, precision, texts)
        examples = [Example(nlp.make_doc(doc.text), doc.copy()) for doc in nlp.pipe(texts)]
        n_words = sum(len(eg.reference) for eg in examples)
        model = embedding(nlp)
        settings = {"encoder": model.attrs["encoder"], "shuffle": False}
        batches = list(batch_by_tokens(512, unit="padded_wordpieces", **settings)(examples))
        plans = [plan(nlp, [eg.reference for eg in batch], True) for batch in batches]
        optimizer = make_adamw(1e-6)

        def update(nlp: Language = nlp, batches: Any = batches, optimizer: Any = optimizer) -> None:
            for batch in batches:
                nlp.update(batch, sgd=False, drop=0.2)  # type: ignore[arg-type]
                for _, pipe in nlp.pipeline:
                    pipe.finish_update(optimizer)  # type: ignore[attr-defined]
                optimizer.step_schedules()

        tasks[f"{precision} update"] = update
        tasks[f"{precision} bare"] = bare_training(load(path, precision, texts), plans, precision)
    return ratios(tasks, "update", precisions, n_words, rounds)


def bare_training(nlp: Language, batches: List[List[MicroBatch]], precision: str) -> Callable[[], None]:
    encoder = embedding(nlp).shims[0].module.encoder
    for module in encoder.modules():
        for name, child in module.named_children():
            if isinstance(child, Dropout):
                setattr(module, name, torch.nn.Dropout(child.p))
    encoder.train()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-6, fused=True)

    def run() -> None:
        for batch in batches:
            for micro_batch in batch:
                ids, n_real = (torch.from_numpy(part).to(device()) for part in micro_batch[:2])
                mask = (torch.arange(ids.shape[1], device=ids.device) < n_real[:, None]).long()
                with computed_in(precision, device()):  # type: ignore[arg-type]
                    hidden = encoder(input_ids=ids, attention_mask=mask)[0]
                hidden.float().sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return run


def ratios(
    tasks: Dict[str, Callable[[], Any]], ours: str, precisions: List[str], n_words: int, rounds: int
) -> Dict[str, Any]:
    seconds = in_turns(tasks, rounds)
    result: Dict[str, Any] = {"words": n_words}
    for precision in precisions:
        mine = seconds[f"{precision} {ours}"]
        result[precision] = {
            "words_a_second": round(n_words / mine),
            "times_fp32": round(seconds[f"{precisions[0]} {ours}"] / mine, 2),
        }
        for other in ("bare", "engine"):
            if f"{precision} {other}" in seconds:
                alone = seconds[f"{precision} {other}"]
                result[precision] |= {other: round(n_words / alone), f"share_of_{other}": round(alone / mine, 3)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--words", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16", "int8"])
    parser.add_argument("--no-training", action="store_true")
    options = parser.parse_args()
    if torch.cuda.is_available():
        spacy.require_gpu()
    texts = read_texts(options.texts, options.words)
    result = {"benchmark": "throughput", "machine": machine(), "texts": len(texts), "rounds": options.rounds}
    result["prediction"] = prediction(options.model, texts, options.precisions, options.rounds)
    if not options.no_training:
        result["training"] = training(options.model, texts, options.precisions, options.rounds)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
