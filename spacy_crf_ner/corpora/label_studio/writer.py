"""Documents written as tasks that Label Studio imports, with their entities as predictions or annotations.

https://labelstud.io/guide/predictions. What was read from Label Studio gives the same results again.
"""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Collection, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ..document import Document, Entity, Problem
from ..files import CorpusError
from ..offsets import CODE_POINTS, UTF_16, Offsets
from .labelling import LABELS, WRITTEN, Configuration, Control, read_configuration, write_configuration
from .regions import simplified, text_of
from .settings import INFO, PLACE, LabelStudio

MODEL = "spacy_crf_ner"
Result = Dict[str, Any]


def write_label_studio(
    documents: Iterable[Document], path: Path, settings: LabelStudio = LabelStudio(), labels: Collection[str] = ()
) -> Iterator[Document]:
    """Write documents as a list of tasks, and where no labelling configuration is given one that fits beside it.

    path (Path): The file; a configuration has the same name, but ends in .xml.
    labels (Collection[str]): Labels that this configuration has besides those of the documents.
    YIELDS (Document): Each of them when it is written. Entities whose label the given configuration lacks are left out.
    RAISES (CorpusError): The given configuration lacks the names that are asked for.
    """
    given = read_configuration(settings.configuration) if settings.configuration else None
    writer = _Writer(settings, given)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        separator = "[\n"
        for task, together in writer.tasks(documents):
            file.write(separator + json.dumps(task, ensure_ascii=False, default=str))
            separator = ",\n"
            yield from together
        file.write("[]\n" if separator == "[\n" else "\n]\n")
    if given is None:
        writer.offer(labels)
        path.with_suffix(".xml").write_text(write_configuration(writer.made, writer.relations), encoding="utf-8")


class _Names(NamedTuple):
    """What a document's text is called: by results, and in the task's data."""

    to_name: str
    key: str


def _info(document: Document) -> Mapping[str, Any]:
    info = document.data.get(INFO)
    return info if isinstance(info, dict) else {}


class _Writer:
    """made (Configuration): Fits what was written. relations (Set[str]): Labels of relations that were."""

    def __init__(self, settings: LabelStudio, given: Optional[Configuration]) -> None:
        self._settings = settings
        self._given = given
        self.made = Configuration()
        self.relations: Set[str] = set()

    def tasks(self, documents: Iterable[Document]) -> Iterator[Tuple[Dict[str, Any], List[Document]]]:
        """Tasks with the documents in each: texts of one task, which follow each other, come together again."""
        together: List[Document] = []
        for document in documents:
            if together and not _belong(together, document):
                yield self._task(together), together
                together = []
            together.append(document)
        if together:
            yield self._task(together), together

    def _task(self, documents: Sequence[Document]) -> Dict[str, Any]:
        info = _info(documents[0])
        task: Dict[str, Any] = {key: info[key] for key in ("id", "meta") if key in info}
        data: Dict[str, Any] = {}
        said: Dict[str, List[Result]] = {}
        scores: Dict[str, List[Optional[float]]] = {}
        for document in documents:
            names = self._names(document)
            gone = {INFO, *_info(document).get("classes", [])}
            data.update({key: value for key, value in document.data.items() if key not in gone})
            if "id" not in info:
                more = {"document_id": document.id, "group": document.group}
                data = {**{key: value for key, value in more.items() if value}, **data}
            data[names.key] = document.text
            part = _Part(document, names, self)
            for who, results in part.results().items():
                said.setdefault(who, []).extend(results)
                scores.setdefault(who, []).extend(part.scores.get(who, []))
        if not said and any(document.annotated for document in documents):
            said[""], scores[""] = [], []  # somebody looked, and found nothing
        task["data"] = data
        if self._settings.as_annotations:
            # without names: Label Studio refuses those whom it does not know
            usual = {"was_cancelled": False, "ground_truth": False}
            task["annotations"] = [{"result": results, **usual} for results in said.values()]
        else:
            given = info.get("scores", {})
            task["predictions"] = [
                _prediction(self._settings.model_version or who or MODEL, results, scores[who], given.get(who))
                for who, results in said.items()
            ]
        return task

    def _names(self, document: Document) -> _Names:
        """RAISES (CorpusError): The given configuration has no such text."""
        info, asked, given = _info(document), self._settings, self._given
        if given is None:
            names = _Names(asked.to_name or info.get("to_name", "text"), asked.text or info.get("key", "text"))
            self.made.texts[names.to_name] = names.key
            return names
        if asked.to_name and asked.to_name not in given.texts:
            known = ", ".join(given.texts)
            raise CorpusError(f"--to-name {asked.to_name}: {given.source} has no such text; it has {known}.")
        key = asked.text or info.get("key")
        of_key = next((name for name, value in given.texts.items() if value == key), "")
        labelled = [
            name for name in given.texts for c in given.controls.values() if c.type in LABELS and name in c.to_names
        ]
        known_name = info.get("to_name") if info.get("to_name") in given.texts else ""
        name = asked.to_name or known_name or of_key or labelled[0]
        return _Names(name, given.texts[name])

    def control(self, names: _Names, label: str, wanted: str, kind: str) -> Optional[Control]:
        """The control that labels an entity; None: the given configuration has none."""
        wanted = self._settings.from_name or wanted
        if self._given is None:
            return self.put(Control(wanted or "label", kind or "labels", [names.to_name], {label}))
        control = self._given.controls.get(wanted)
        if self._settings.from_name and control is None:
            known = ", ".join(c.name for c in self._given.controls.values() if c.type in LABELS)
            raise CorpusError(f"--from-name {wanted}: {self._given.source} has no such tag; its labels are in {known}.")
        fits = control is not None and names.to_name in control.to_names
        if control is not None and fits and (control.values is None or label in control.values):
            return control
        return None if self._settings.from_name else self._given.labels_of(names.to_name, label)

    def about(self, names: _Names, name: str, kind: str, values: Set[str], per_region: bool) -> Optional[Control]:
        """The control for what is said of an entity or a task; None: there can be none."""
        if self._given is None:
            if kind not in WRITTEN or kind in LABELS or name in self.made.texts:
                return None
            return self.put(Control(name, kind, [names.to_name], values if kind == "choices" else None, per_region))
        control = self._given.controls.get(name)
        if control is None or control.per_region != per_region or names.to_name not in control.to_names:
            return None
        return control if control.values is None or values <= control.values else None

    def put(self, control: Control) -> Optional[Control]:
        """Add it to what is made, or its values to the one of the same name; None: that one is of another kind."""
        same = self.made.controls.setdefault(control.name, control)
        if (same.type, same.per_region) != (control.type, control.per_region):
            return None
        to_names = [*dict.fromkeys([*same.to_names, *control.to_names])]
        values = None if control.values is None else (same.values or set()) | control.values
        self.made.controls[control.name] = replace(same, to_names=to_names, values=values)
        return same

    def offer(self, labels: Collection[str]) -> None:
        """Let annotators choose from these labels in all texts that were written."""
        for to_name in self.made.texts if labels else ():
            controls = [c for c in self.made.controls.values() if c.type in LABELS and to_name in c.to_names]
            for control in controls[:1] or [Control(self._settings.from_name or "label", "labels", [to_name])]:
                self.put(replace(control, values=set(labels)))

    @property
    def settings(self) -> LabelStudio:
        return self._settings


def _belong(together: Sequence[Document], document: Document) -> bool:
    """Whether a document is another text of the same task."""
    info = _info(document)
    keys = {_info(other).get("key") for other in together}
    return "id" in info and info["id"] == _info(together[0]).get("id") and info.get("key") not in keys


def _prediction(
    version: str, results: Sequence[Result], scores: Sequence[Optional[float]], given: Any
) -> Dict[str, Any]:
    prediction: Dict[str, Any] = {"model_version": version, "result": [*results]}
    known = [score for score in scores if score is not None]
    score = sum(known) / len(known) if known and len(known) == len(scores) else None
    score = given if given is not None else score
    # Label Studio takes no others
    if score is not None and 0 <= score <= 1:
        prediction["score"] = score
    return prediction


class _Part:
    """What is said of one text of a task. scores (Dict[str, List[Optional[float]]]): Of entities, by their origin."""

    def __init__(self, document: Document, names: _Names, writer: _Writer) -> None:
        self._document = document
        self._names = names
        self._writer = writer
        self._info = _info(document)
        self._regions: Mapping[str, Any] = self._info.get("regions", {})
        self._offsets = Offsets(document.text)
        self._unit = UTF_16 if writer.settings.offsets == UTF_16 else CODE_POINTS
        self.scores: Dict[str, List[Optional[float]]] = {}
        self._joined: Set[int] = set()  # links that were written, by `id()`

    def results(self) -> Dict[str, List[Result]]:
        """Results by who said them."""
        found: Dict[str, List[Result]] = {}
        groups: Dict[str, List[Entity]] = {}
        for entity in self._document.entities:
            groups.setdefault("" if self._writer.settings.model_version else entity.origin, []).append(entity)
        left_out: List[Entity] = []
        for who, entities in groups.items():
            ids = _region_ids(entities)
            found[who] = []
            for entity in entities:
                written = self._entity(entity, ids[id(entity)], found[who])
                left_out += [] if written else [entity]
            present = {entity.id: ids[id(entity)] for entity in entities if entity not in left_out and entity.id}
            found[who] += self._relations(present)
            self.scores[who] = [entity.score for entity in entities if entity not in left_out]
        for entity in left_out:
            self._document.entities = [other for other in self._document.entities if other is not entity]
            self._document.unread += 1
        for who, results in self._info.get("results", {}).items():
            here = found.setdefault("" if self._writer.settings.model_version else who, [])
            here += [result for result in results if self._may_say(result)]
        self._remark_links()
        return found

    def _value(self, start: int, end: int) -> Dict[str, Any]:
        """Where something is, and the text there as Label Studio quotes it: line ends as backslash and n."""
        first, last = self._offsets.counted(start, self._unit), self._offsets.counted(end, self._unit)
        return {"start": first, "end": last, "text": re.sub(r"[\r\n]", r"\\n", self._document.text[start:end])}

    def _entity(self, entity: Entity, ids: Sequence[str], results: List[Result]) -> bool:
        """Add the results of an entity. RETURNS: False, and a problem, where its label cannot be given."""
        noted = self._regions.get(entity.id, {})
        wanted, kind = (noted.get(key, self._info.get(key, "")) for key in ("from_name", "type"))
        control = self._writer.control(self._names, entity.label, wanted, kind)
        if control is None:
            name = self._writer.settings.configuration
            message = f'"{entity.label}" is no label of {name}: the entity {entity.id} was left out. Add it there.'
            self._document.report(entity, "label that the configuration lacks", message)
            return False
        if len(entity.fragments) > 1:
            message = f"entity {entity.id} has {len(entity.fragments)} parts: each became a region."
            self._document.report(entity, "discontinuous entity", message, lost=False)
        for number, (id, (start, end)) in enumerate(zip(ids, entity.fragments)):
            result: Result = {"id": id, "from_name": control.name, "to_name": self._names.to_name, "type": control.type}
            result["value"] = {**self._value(start, end), control.type: [entity.label], **self._more(entity, noted)}
            usual = {"origin": "manual"} if self._writer.settings.as_annotations and not self._info.get("type") else {}
            result.update(noted.get("more", self._info.get("more", usual)))
            meta = {**({"text": entity.notes} if entity.notes else {}), **noted.get("meta", {})}
            result.update({"meta": meta} if meta else {})
            if entity.score is not None and math.isfinite(entity.score):
                result["score"] = entity.score
            same = next((other for other in results if _is_same_region(other, result)), None)
            if same is None:
                results.append(result)
            else:
                same["value"][control.type].append(entity.label)
            if not number and id == (entity.id or id):  # another label of a region leaves it to the first
                results += self._attributes(entity, result, noted.get("about", []))
        return True

    def _more(self, entity: Entity, noted: Mapping[str, Any]) -> Dict[str, Any]:
        """What else the value said; where it was on a page only if it is there still."""
        value = noted.get("value", {})
        moved = "at" in noted and [*entity.fragments[0]] != [*noted["at"]]
        return {k: v for k, v in value.items() if not (moved and k in PLACE)}

    def _attributes(self, entity: Entity, result: Result, about: Sequence[Result]) -> List[Result]:
        """What is said of an entity: as it was read, where that was not changed."""
        found = []
        for name, value in entity.attributes.items():
            old = next((one for one in about if (text_of(one, "from_name") or text_of(one, "type")) == name), None)
            if value is None or value is False:
                continue
            kind = text_of(old, "type") if old is not None else "choices"
            said = [name if value is True else value]
            if old is not None and (simplified(old) == value or (value is True and simplified(old) == name)):
                said = old["value"].get(kind, said) if isinstance(old.get("value"), dict) else said
            elif kind in ("choices", "textarea") or old is None:
                said = [str(one) for one in (value if isinstance(value, list) else said)]
            else:
                said = value
            values = {one for one in said if isinstance(one, str)} if isinstance(said, list) else set()
            control = self._writer.about(self._names, name, kind, values, per_region=True)
            if control is None:
                message = f"{name} of entity {entity.id} has no tag: it was not written."
                self._document.report(entity, "attribute that cannot be written", message, lost=False)
                continue
            place = {key: result["value"][key] for key in ("start", "end", "text")}
            key = "text" if kind == "textarea" else kind
            new = {"id": result["id"], "from_name": name, "to_name": self._names.to_name, "type": control.type}
            new["value"] = {**place, key: said}
            old_value = old.get("value") if old is not None else None
            if old is not None and isinstance(old_value, dict):
                # what it said beside
                new = {**old, **new}
                new["value"] = {**{k: v for k, v in old_value.items() if k not in place}, key: said}
                new["value"].update({k: v for k, v in place.items() if k in old_value and k != key})
            found.append(new)
        return found

    def _relations(self, ids: Mapping[str, Sequence[str]]) -> List[Result]:
        """Relations between entities of one annotator, by what their regions are called; events as several."""
        found: List[Result] = []
        triggers = {link.id: link.arguments[0][1] for link in self._document.links if link.kind == "event" and link.id}
        for link in self._document.links:
            ends = [(role, ids.get(triggers.get(name, name))) for role, name in link.arguments]
            pairs = [(ends[0], end) for end in ends[1:]]
            if link.kind not in ("relation", "event", "equivalence"):
                continue
            for (_, first), (role, last) in pairs:
                if first is None or last is None:
                    continue
                self._joined.add(id(link))
                label = role if link.kind == "event" else link.label
                relation: Result = {"from_id": first[0], "to_id": last[0], "type": "relation"}
                relation["direction"] = link.attributes.get("direction", "right")
                same = next((r for r in found if {k: v for k, v in r.items() if k != "labels"} == relation), None)
                unlabelled = link.attributes.get("labelled") is False
                if not unlabelled:
                    self._writer.relations.add(label)
                if unlabelled:
                    found.append(relation)
                elif same is not None and "labels" in same and label not in same["labels"]:
                    same["labels"].append(label)
                else:
                    found.append({**relation, "labels": [label]})
        return found

    def _may_say(self, result: Result) -> bool:
        """Whether what was said of the task can be written."""
        if result.get("type") == "relation":
            self._writer.relations.update(result.get("labels") or [])
            return True
        kind, name = text_of(result, "type"), text_of(result, "from_name")
        said = result["value"].get(kind) if isinstance(result.get("value"), dict) else None
        values = {one for one in said if isinstance(one, str)} if isinstance(said, list) else set()
        # it may be of a text without entities, whose key is then its name
        names = self._names._replace(to_name=text_of(result, "to_name") or self._names.to_name)
        if self._writer.about(names, name, kind, values, per_region=False) is not None:
            self._writer.made.texts.setdefault(names.to_name, names.to_name)
            return True
        where = self._document.source
        message = f"{name} ({kind}) has no tag: it was not written."
        self._document.problems.append(Problem(where, "result that cannot be written", message, lost=False))
        return False

    def _remark_links(self) -> None:
        """Say which links Label Studio has nothing for, and what it does not keep of the others."""
        for link in self._document.links:
            name = f"{link.kind} {link.id} ({link.label})"
            kind, message = "link that cannot be written", ""
            if link.kind not in ("relation", "event", "equivalence"):
                message = f"{name} was not written: Label Studio has only relations."
            elif id(link) not in self._joined:
                message = f"{name} was not written: what it joins is not all in one prediction or annotation."
            elif link.kind != "relation":
                kind, message = "link that became relations", f"{name} became relations between the entities it joins."
            elif link.notes or set(link.attributes) - {"direction", "labelled"}:
                kind, message = "said of a relation, not written", f"{name} has attributes or notes: not written."
            if message:
                self._document.problems.append(Problem(self._document.source, kind, message, lost=False))


def _region_ids(entities: Sequence[Entity]) -> Dict[int, List[str]]:
    """What the regions of entities are called, by `id()`: labels of one region have one id."""
    of_id = {entity.id: entity for entity in entities if entity.id}
    found: Dict[int, List[str]] = {}
    taken = set(of_id)
    number = 0
    for entity in entities:
        base, mark, _ = entity.id.rpartition("#")
        name = base if mark and base in of_id and of_id[base].fragments == entity.fragments else entity.id
        while not name or (not entity.id and name in taken):
            number += 1
            name = f"r{number}"
        taken.add(name)
        names = [name]
        while len(names) < len(entity.fragments):
            number += 1
            if f"{name}-{number}" not in taken:
                names.append(f"{name}-{number}")
                taken.add(names[-1])
        found[id(entity)] = names
    return found


def _is_same_region(one: Result, other: Result) -> bool:
    """Whether two results are one, but for their labels."""
    kind = other["type"]
    if kind not in one["value"]:
        return False
    values = [{k: v for k, v in result["value"].items() if k != kind} for result in (one, other)]
    rests = [{k: v for k, v in result.items() if k != "value"} for result in (one, other)]
    return values[0] == values[1] and rests[0] == rests[1] and other["value"][kind][0] not in one["value"][kind]
