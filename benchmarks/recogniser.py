"""One recogniser from start to end, to put beside others that are given the same files.

    python benchmarks/recogniser.py ENCODER TRAIN TEST EPOCHS [--precision fp32] [--seed 0] [--int8] [--config FILE]

ENCODER is a folder with a Hugging Face encoder; TRAIN and TEST are files in CoNLL columns, a token a line with its
IOB2 tag last, an empty line after each sentence; EPOCHS may be a fraction. Trains with the configuration as
`spacy train` does, without evaluations, then tags the sentences of TEST. Prints one JSON line:

    train_wps           words a second in training
    predict_wps         and in prediction, from the first text
    predict_again_wps   and of the same texts once more, when all kernels are compiled
    rss_mb              most memory that the process has held
    p, r, f             exact spans, micro
"""

import argparse
import json
import re
import resource
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from spacy.util import registry
from timing import machine

from spacy_crf_ner.deployment.quantize import quantize
from spacy_crf_ner.embedding.model import tokenizers

Sentence = Tuple[List[str], List[str]]


def read(path: Path) -> List[Sentence]:
    sentences: List[Sentence] = []
    for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
        rows = [line.split() for line in block.splitlines() if line.strip()]
        if rows:
            sentences.append(([row[0] for row in rows], [row[-1] for row in rows]))
    return sentences


def docs(nlp: Language, sentences: List[Sentence]) -> List[Doc]:
    return [Doc(nlp.vocab, words=words, ents=tags) for words, tags in sentences]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("epochs", type=float)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--int8", action="store_true", help="quantize after training")
    parser.add_argument("--config", type=Path, default=Path(__file__).parents[1] / "configs/transformer_cnn_crf.cfg")
    options = parser.parse_args()
    print(json.dumps({"benchmark": "recogniser", "machine": machine(), **run(options)}))


def run(options: Any) -> Dict[str, Any]:
    blank = spacy.blank("en")
    sentences, test = read(options.train), read(options.test)
    sentences = sentences[: int(len(sentences) * min(1.0, options.epochs))]
    epochs = max(1, round(options.epochs))
    with tempfile.TemporaryDirectory() as folder:
        DocBin(docs=docs(blank, sentences)).to_disk(f"{folder}/train.spacy")
        DocBin(docs=docs(blank, sentences[:1])).to_disk(f"{folder}/dev.spacy")
        settings = {
            "paths.train": f"{folder}/train.spacy",
            "paths.dev": f"{folder}/dev.spacy",
            "paths.encoder": str(options.encoder),
            "system.seed": options.seed,
            "components.crf_ner.model.tok2vec.precision": options.precision,
            "training.eval_frequency": 10**6,
        }
        config = spacy.util.load_config(options.config, overrides=settings, interpolate=False)
        batcher = registry.resolve({"batcher": config.interpolate()["training"]["batcher"]})["batcher"]
        steps = config["training"]["max_steps"] = epochs * len(list(batcher(docs(blank, sentences))))
        nlp = init_nlp(config)
        begin = time.perf_counter()
        train(nlp)
        seconds = time.perf_counter() - begin
    trained = sum(len(words) for words, _ in sentences) * epochs
    if options.int8:
        quantize(nlp, docs(blank, sentences[:500]))
    tagged = [Doc(nlp.vocab, words=words) for words, _ in test]
    begin = time.perf_counter()
    found = list(nlp.pipe(tagged))
    predicting = time.perf_counter() - begin
    tagged = [Doc(nlp.vocab, words=words) for words, _ in test]
    for tokenizer in tokenizers(nlp.get_pipe("crf_ner").model):  # type: ignore[attr-defined]
        tokenizer.forget()
    begin = time.perf_counter()
    list(nlp.pipe(tagged))
    again = time.perf_counter() - begin
    scores = nlp.get_pipe("crf_ner").score(  # type: ignore[attr-defined]
        [Example(doc, gold) for doc, gold in zip(found, docs(nlp, test))]
    )
    return {
        "precision": "int8" if options.int8 else options.precision,
        "train_wps": round(trained / seconds),
        "predict_wps": round(sum(map(len, found)) / predicting),
        "predict_again_wps": round(sum(map(len, found)) / again),
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "steps": steps,
        **{key[-1]: round(100 * scores[key], 2) for key in ("ents_p", "ents_r", "ents_f")},
    }


if __name__ == "__main__":
    main()
