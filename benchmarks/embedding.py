"""Long documents and long runs: time and memory of a whole pipeline.

    python benchmarks/embedding.py MODEL TEXTS [--short 20000] [--long 200000] [--documents 100000]

MODEL is a trained pipeline with crf_ner in it; TEXTS a .spacy file, or a file with a text a line, of words to join
and cut. Each measurement runs in a process of its own. Prints one JSON line:

    long        one document of so many words, predicted (nlp.pipe) and trained on (one nlp.update with dropout and
                AdamW): seconds, peak memory in MB above what the loaded pipeline holds after a first small use, and
                between the two lengths: kilobytes a word more, and time a word of the long one beside that of the
                short one
    zone        short documents through nlp.pipe in a memory_zone: resident memory after the first tenth and at the end
"""

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any, Dict, List

import spacy
from spacy.tokens import Doc, Span
from spacy.training import Example
from timing import Peak, machine, read_texts, resident
from tqdm import tqdm

from spacy_crf_ner.training.optimizer import make_adamw


def joined(texts: List[str], words: int) -> List[str]:
    found = [word for text in texts for word in text.split()]
    return (found * (words // len(found) + 1))[:words]


def one_document(model: Path, words: List[str], what: str) -> Dict[str, float]:
    """Seconds, and MB above what the pipeline holds by itself."""
    nlp = spacy.load(model)
    optimizer = make_adamw(1e-6)
    label = nlp.get_pipe("crf_ner").labels[0]  # type: ignore[attr-defined]

    def example(n: int) -> Example:
        reference = Doc(nlp.vocab, words=words[:n])
        reference.ents = [Span(reference, i, i + 2, label=label) for i in range(0, n - 3, 50)]
        return Example(Doc(nlp.vocab, words=words[:n]), reference)

    def use(task: Any) -> None:
        if what == "training":
            nlp.update([task], sgd=optimizer, drop=0.2)
            nlp.get_pipe("crf_ner").model.get_ref("head").shims[0].settle()  # type: ignore[attr-defined]
        else:
            list(nlp.pipe([task]))

    use(example(2000) if what == "training" else Doc(nlp.vocab, words=words[:2000]))
    task = example(len(words)) if what == "training" else Doc(nlp.vocab, words=words)
    begin = time.perf_counter()
    with Peak() as peak:
        use(task)
    return {"seconds": time.perf_counter() - begin, "mb": peak.most - peak.before}


def long_documents(model: Path, texts: List[str], what: str, short: int, long: int) -> Dict[str, Any]:
    found = {n: apart(one_document, model, joined(texts, n), what) for n in (short, long)}
    a, b = found[short], found[long]
    return {
        **{str(n): {key: round(value, 1) for key, value in figures.items()} for n, figures in found.items()},
        "kb_a_word": round(1000 * (b["mb"] - a["mb"]) / (long - short), 2),
        "time_a_word": round(b["seconds"] / long / (a["seconds"] / short), 3),
    }


def zone(model: Path, texts: List[str], documents: int) -> Dict[str, Any]:
    """Resident memory over a long run of short documents, each with a word of its own."""
    nlp = spacy.load(model)
    sizes = []
    batch = documents // 100
    for i in tqdm(range(0, documents, batch), desc="memory_zone", unit_scale=batch, unit=" documents", disable=None):
        with nlp.memory_zone():
            for doc in nlp.pipe(f"{texts[k % len(texts)]} word{k}" for k in range(i, i + batch)):
                len(doc.ents)
        sizes.append(resident())
    first = sizes[len(sizes) // 10 - 1]
    return {
        "documents": documents,
        "mb_after_a_tenth": round(first),
        "mb_at_the_end": round(sizes[-1]),
        "growth": round(sizes[-1] / first - 1, 4),
    }


def apart(function: Any, *arguments: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--short", type=int, default=20_000)
    parser.add_argument("--long", type=int, default=200_000, help="0: leave this measurement out")
    parser.add_argument("--documents", type=int, default=100_000, help="0: leave this measurement out")
    options = parser.parse_args()
    texts = read_texts(options.texts, options.long or 20_000)
    result: Dict[str, Any] = {"benchmark": "embedding", "machine": machine()}
    if options.long:
        result["long"] = {
            what: long_documents(options.model, texts, what, options.short, options.long)
            for what in ("prediction", "training")
        }
    if options.documents:
        result["zone"] = apart(zone, options.model, texts, options.documents)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
