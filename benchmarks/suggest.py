"""What a recogniser learns from documents that it chose itself, beside as many that were drawn at random.

    python benchmarks/suggest.py TRAIN DEV [--first 100] [--more 200] [--seeds 0,1,2,3,4] [--epochs 6]
        [--ways random,entropy]

TRAIN and DEV are annotated corpora in any format. For each seed a recogniser is trained on so many random documents of
TRAIN, chooses others, and a new one is trained on both; or the others are drawn at random. A way is a measure of
`crf-ner suggest --by`, with "/n" after it where it is divided by the number of tokens, and then with "*2" where those
that differ most are taken of twice as many. Prints one JSON line: for each way the F1 on DEV (mean over seeds, and
each), the words and entities of the documents, the mean difference to "random" and its standard error.
"""

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Dict, List

import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from spacy.util import registry
from timing import machine

from spacy_crf_ner.corpora.document import Report
from spacy_crf_ner.corpora.reading import read_examples
from spacy_crf_ner.deployment.suggest import suggest

CONFIG = Path(__file__).parents[1] / "configs/transformer_cnn_crf.cfg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--first", type=int, default=100)
    parser.add_argument("--more", type=int, default=200)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--ways", default="random,entropy")
    options = parser.parse_args()
    found = [one_seed(options, int(seed)) for seed in options.seeds.split(",")]
    ways = {}
    for way in found[0]:
        each = [round(seed[way]["f"], 2) for seed in found]
        ways[way] = {"f": round(mean(each), 2), "each": each}
        for key in ("words", "entities"):
            ways[way][key] = round(mean(seed[way][key] for seed in found))
        gains = [seed[way]["f"] - seed["random"]["f"] for seed in found] if "random" in found[0] else []
        if way not in ("random", "first") and gains:
            ways[way]["gain"] = round(mean(gains), 2)
            ways[way]["standard_error"] = round(stdev(gains) / len(gains) ** 0.5, 2) if len(gains) > 1 else None
    told = {key: getattr(options, key) for key in ("first", "more", "epochs", "seeds")}
    print(json.dumps({"benchmark": "suggest", "machine": machine(), **told, "ways": ways}))


def one_seed(options: Any, seed: int) -> Dict[str, Dict[str, float]]:
    """Scores of all ways with one draw of the first documents. RETURNS: By way, and "first" of these alone."""
    blank = spacy.blank("en")
    pool = [example.reference for example in read_examples(blank, options.train, Report())]
    dev = list(read_examples(blank, options.dev, Report()))
    random.Random(seed).shuffle(pool)
    first, rest = pool[: options.first], pool[options.first :]
    nlp = fit(first, 10, seed)
    scores = {"first": scored(nlp, first, dev)}
    for way in options.ways.split(","):
        measure, _, spread = way.partition("*")
        if way == "random":
            chosen = list(range(options.more))
        else:
            found = suggest(
                nlp,
                [bare(nlp, doc) for doc in rest],
                options.more,
                by=measure.removesuffix("/n"),
                per_token=measure.endswith("/n"),
                spread=float(spread or 1),
            )
            chosen = [suggestion.document for suggestion in found]
        docs = first + [rest[i] for i in chosen]
        scores[way] = scored(fit(docs, options.epochs, seed), docs, dev)
        print(seed, way, scores[way], file=sys.stderr, flush=True)
    return scores


def bare(nlp: Language, doc: Doc) -> Doc:
    return Doc(nlp.vocab, [token.text for token in doc], [bool(token.whitespace_) for token in doc])


def fit(docs: List[Doc], epochs: int, seed: int) -> Language:
    """Train on documents with the default configuration, without evaluations."""
    with tempfile.TemporaryDirectory() as folder:
        DocBin(docs=docs, store_user_data=True).to_disk(f"{folder}/train.spacy")
        DocBin(docs=docs[:1], store_user_data=True).to_disk(f"{folder}/dev.spacy")
        settings = {
            "paths.train": f"{folder}/train.spacy",
            "paths.dev": f"{folder}/dev.spacy",
            "system.seed": seed,
            "training.optimizer.warmup_steps": 10,
            "training.eval_frequency": 10**6,
        }
        config = spacy.util.load_config(CONFIG, overrides=settings, interpolate=False)
        batcher = registry.resolve({"batcher": config.interpolate()["training"]["batcher"]})["batcher"]
        config["training"]["max_steps"] = epochs * len(list(batcher(docs)))
        with contextlib.redirect_stdout(open(os.devnull, "w")):
            nlp = init_nlp(config)
            train(nlp)
    return nlp


def scored(nlp: Language, docs: List[Doc], dev: List[Example]) -> Dict[str, float]:
    predicted = nlp.pipe(bare(nlp, example.predicted) for example in dev)
    examples = [Example(doc, example.reference) for doc, example in zip(predicted, dev)]
    pipe: Any = nlp.get_pipe("crf_ner")
    f = 100 * pipe.score(examples)["ents_f"]
    return {"f": f, "words": sum(map(len, docs)), "entities": sum(len(doc.ents) for doc in docs)}


if __name__ == "__main__":
    main()
