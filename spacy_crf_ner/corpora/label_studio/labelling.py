"""Label Studio's labelling configuration: which control labels which text, read from XML and written.

https://labelstud.io/guide/setup
"""

import colorsys
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence, Set
from xml.etree import ElementTree

from ..files import CorpusError, readable

TEXTS = ("text", "hypertext")
LABELS = ("labels", "hypertextlabels")


@dataclass(frozen=True)
class Control:
    """A tag that annotators use.

    name (str): What results call it in `from_name`. type (str): Type of its results: labels, choices, textarea, ….
    to_names (Sequence[str]): The texts that it is for. values (Optional[Set[str]]): Labels or choices that it has;
        None: any, since they come with each task, or are no choices.
    per_region (bool): It says something of an entity, not of the task.
    """

    name: str
    type: str
    to_names: Sequence[str]
    values: Optional[Set[str]] = None
    per_region: bool = False


@dataclass
class Configuration:
    """texts (Dict[str, str]): Key of the task's data for the name of each text. controls (Dict[str, Control]): By name.
    source (str): What messages call it."""

    texts: Dict[str, str] = field(default_factory=dict)
    controls: Dict[str, Control] = field(default_factory=dict)
    source: str = ""

    def labels_of(self, to_name: str, label: str) -> Optional[Control]:
        """The control that gives a text a label. None: there is none."""
        fitting = [c for c in self.controls.values() if c.type in LABELS and to_name in c.to_names]
        return next((control for control in fitting if control.values is None or label in control.values), None)


def read_configuration(path: Path) -> Configuration:
    """Read a labelling configuration.

    RAISES (CorpusError): It is not there, not XML, or labels no text.
    """
    with readable(str(path)), path.open("rb") as file:
        content = file.read()
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise CorpusError(f"{path}: it is not XML ({error}). Give the project's labelling configuration.") from error
    found = Configuration(source=str(path))
    for tag in root.iter():
        name, value = tag.get("name", ""), tag.get("value", "")
        if tag.tag.lower() in TEXTS and name and value.startswith("$"):
            found.texts[name] = value[1:]
        elif name and tag.get("toName"):
            values = {
                v for child in tag.iter() if child is not tag for v in (child.get("alias"), child.get("value")) if v
            }
            found.controls[name] = Control(
                name,
                tag.tag.lower(),
                [part.strip() for part in tag.get("toName", "").split(",")],
                None if tag.get("value", "").startswith("$") or not values else values,
                tag.get("perRegion", "").lower() == "true",
            )
    if not any(c.type in LABELS and set(c.to_names) & set(found.texts) for c in found.controls.values()):
        raise CorpusError(
            f'{path}: it labels no text. It needs a <Text name="text" value="$text"/> and <Labels name="label" '
            'toName="text"> with a <Label value="…"/> for each label.'
        )
    return found


# Tags of controls that can be written, and whether choices stand in them.
WRITTEN = {
    "labels": ("Labels", "Label"),
    "hypertextlabels": ("HyperTextLabels", "Label"),
    "choices": ("Choices", "Choice"),
    "textarea": ("TextArea", ""),
    "rating": ("Rating", ""),
    "number": ("Number", ""),
    "datetime": ("DateTime", ""),
}


def write_configuration(configuration: Configuration, relations: Iterable[str] = ()) -> str:
    """A labelling configuration as XML. relations (Iterable[str]): Their labels."""
    view = ElementTree.Element("View")
    controls = sorted(configuration.controls.values(), key=lambda control: (control.type not in LABELS, control.name))
    pages = {name for control in controls if control.type == "hypertextlabels" for name in control.to_names}
    for control in (control for control in controls if control.type in LABELS):
        _write_control(view, control)
    for name, key in configuration.texts.items():
        ElementTree.SubElement(view, "HyperText" if name in pages else "Text", name=name, value=f"${key}")
    for control in (control for control in controls if control.type not in LABELS):
        _write_control(view, control)
    names = sorted(set(relations))
    if names:
        tag = ElementTree.SubElement(view, "Relations")
        for name in names:
            ElementTree.SubElement(tag, "Relation", value=name)
    ElementTree.indent(view)
    # XML cannot have control characters
    return (
        re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "", ElementTree.tostring(view, encoding="unicode")) + "\n"
    )


def _write_control(view: ElementTree.Element, control: Control) -> None:
    name, child = WRITTEN[control.type]
    said = {"name": control.name, "toName": ",".join(control.to_names)}
    said.update({"perRegion": "true"} if control.per_region else {})
    said.update({"choice": "multiple"} if name == "Choices" else {})
    tag = ElementTree.SubElement(view, name, said)
    for number, value in enumerate(sorted(control.values or ())):
        colour = {"background": _colour(number)} if child == "Label" else {}
        ElementTree.SubElement(tag, child, {"value": value, **colour})


def _colour(number: int) -> str:
    """Colours that differ, however many there are: steps of the golden ratio around the wheel."""
    parts: List[float] = [*colorsys.hls_to_rgb(number * 0.618034 % 1, (0.6, 0.72, 0.48)[number % 3], 0.75)]
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)
