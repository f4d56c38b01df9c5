"""Documents of any format as a pipeline is to see them."""

from pathlib import Path
from typing import Iterator, Sequence

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from ..context import KEY
from .document import Document, Report
from .formats import Options, detect, read, read_docs
from .placing import ALL_ENTITIES, Placing, to_doc


def read_examples(
    nlp: Language,
    path: Path,
    report: Report,
    source: str = "",
    groups: Sequence[str] = (),
    options: Options = Options(),  # it is frozen
) -> Iterator[Example]:
    """Annotated documents, and beside each the Doc that a pipeline is to annotate, which carries no gold.

    report (Report): Is brought up to date; a .spacy file adds nothing to it.
    source (str): Format; "": found out.
    groups (Sequence[str]): Span groups that entities go to, besides `doc.ents` and `doc.spans["entities"]`; a .spacy
        file has its own.
    options (Options): How the format is read.
    RAISES (CorpusError): It cannot be read.
    """
    nlp.max_length = max(nlp.max_length, 10**9)
    if (source or detect(path)) == "spacy":
        for reference in read_docs(path, nlp.vocab):
            yield Example(_bare(nlp, reference, reference.has_unknown_spaces), reference)
        return
    placing = Placing(tuple(dict.fromkeys(("ents", ALL_ENTITIES, *groups))))
    for document in read(path, source, options):
        reference = to_doc(document, nlp.make_doc, placing, report)
        yield Example(_bare(nlp, reference, document.tokens is not None), reference)


def bare_doc(nlp: Language, document: Document) -> Doc:
    """A Doc of a document without its annotations, with the tokens that its file has."""
    return to_doc(Document(document.id, document.text, tokens=document.tokens, annotated=False), nlp.make_doc)


def _bare(nlp: Language, reference: Doc, own_tokens: bool) -> Doc:
    if own_tokens:
        doc = Doc(nlp.vocab, [t.text for t in reference], [bool(t.whitespace_) for t in reference])
    else:
        doc = nlp.make_doc(reference.text)
    if KEY in reference.user_data:
        doc.user_data[KEY] = reference.user_data[KEY]
    return doc
