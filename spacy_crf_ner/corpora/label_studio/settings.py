"""What can be said of Label Studio's files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..files import CorpusError
from ..offsets import CODE_POINTS, UTF_16

ANNOTATORS = ("first", "all", "majority")
PREDICTIONS = ("none", "missing", "all")
OFFSETS = ("auto", CODE_POINTS, UTF_16)
# Key of Document.data: what a Document cannot say of the task and its results, for the writer.
INFO = "label_studio"
# Values of a result that say something of an entity or a task rather than where it is.
PLACE = {"start", "end", "startOffset", "endOffset", "globalOffsets"}


@dataclass(frozen=True)
class LabelStudio:
    """What a user can say of Label Studio's files.

    annotators (str): Of several annotations of a task: "first": the one that was completed first; "all": each, so that
        what several annotators have said is there several times, with the annotator as origin; "majority": entities
        that more than half of them have. "first" and "majority" read only ground truth, where a task has any.
    predictions (str): Models' predictions: "none"; "missing": the newest one of tasks without annotation; "all": each,
        beside the annotations. Their origin is the model's version.
    offsets (str): How characters are counted: "auto": seen from what results quote; "code-points", "utf-16".
    text (str): Key of the task's data that is read; "": all that are annotated.
    configuration (Optional[Path]): The project's labelling configuration, an XML file.
    from_name, to_name (str): Of results that are written: names of the tags that label, and of the text.
    model_version (str): Of predictions that are written; "": that of the entities.
    as_annotations (bool): Entities are written as annotations, not predictions.
    RAISES (CorpusError): A setting is none of these.
    """

    annotators: str = "first"
    predictions: str = "none"
    offsets: str = "auto"
    text: str = ""
    configuration: Optional[Path] = None
    from_name: str = ""
    to_name: str = ""
    model_version: str = ""
    as_annotations: bool = False

    def __post_init__(self) -> None:
        known = {"annotators": ANNOTATORS, "predictions": PREDICTIONS, "offsets": OFFSETS}
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise CorpusError(f'{name} = "{getattr(self, name)}" is not one of {", ".join(values)}.')
