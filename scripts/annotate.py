"""Show what an installed pipeline finds: a page of annotated texts, the test scores, and where the package is.

python scripts/annotate.py PIPELINE TEXTS.spacy OUTPUT.html [--metrics METRICS] [--package FOLDER] [--most N]

METRICS is the metrics.json of `crf-ner evaluate`, whose last part is shown.
"""

import argparse
import json
from pathlib import Path
from typing import Any, Dict

import spacy
from spacy import displacy
from spacy.tokens import Doc, DocBin, SpanGroup
from wasabi import msg

COLOURS = ["#7aecec", "#ffd966", "#f4a6a6", "#b6d7a8", "#c9b6f2", "#f9cb9c", "#a4c2f4", "#d9d2a6", "#f4b6d8", "#c8c8c8"]


def with_probabilities(doc: Doc, labels: Dict[str, str]) -> Dict[str, Any]:
    """A document in displaCy's own form, the probability of each entity beside its label."""
    entities = []
    group = next((g for g in doc.spans.values() if "scores" in g.attrs), SpanGroup(doc, attrs={"scores": []}))
    for span, score in zip(group, group.attrs["scores"]):
        shown = f"{span.label_} {100 * score:.0f} %"
        labels[shown] = span.label_
        entities.append({"start": span.start_char, "end": span.end_char, "label": shown})
    return {"text": doc.text, "ents": entities, "title": doc.user_data.get("id")}


def main(pipeline: str, texts: Path, output: Path, metrics: Path, package: Path, n_texts: int) -> None:
    nlp = spacy.load(pipeline)
    samples = sorted(DocBin().from_disk(texts).get_docs(nlp.vocab), key=len)[:n_texts]
    labels: Dict[str, str] = {}
    pages = [with_probabilities(doc, labels) for doc in nlp.pipe(doc.text for doc in samples)]
    colour = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(nlp.get_pipe("crf_ner").labels)}
    options = {"colors": {shown.upper(): colour[label] for shown, label in labels.items()}}
    html = displacy.render(pages, style="ent", page=True, manual=True, options=options, jupyter=False)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(html.replace("displaCy", f"{pipeline}: what it finds, and how sure it is"), encoding="utf-8")
    if metrics:
        *_, part = json.loads(metrics.read_text(encoding="utf-8"))["parts"].values()
        exact = part["characters"]["exact"]
        rows = [
            (label, *(f"{100 * score[key]:.1f}" for key in "prf"))
            for label, score in [*exact["per_label"].items(), ("all", exact["micro"])]
        ]
        msg.divider(f"Scores on {part['name']}")
        msg.table(rows, header=("Label", "Precision", "Recall", "F1"), aligns=("l", "r", "r", "r"), divider=True)
    msg.good(f"Annotated examples: {output}")
    for wheel in sorted(package.glob("*.whl")) if package else []:
        msg.good(f"Installable package: {wheel} (installed; spacy.load('{pipeline}') loads it)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Show what an installed pipeline finds.")
    parser.add_argument("pipeline")
    parser.add_argument("texts", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--metrics", type=Path)
    parser.add_argument("--package", type=Path)
    parser.add_argument("--most", dest="n_texts", type=int, default=20, help="texts on the page, the shortest first")
    arguments = parser.parse_args()
    main(arguments.pipeline, arguments.texts, arguments.output, arguments.metrics, arguments.package, arguments.n_texts)
