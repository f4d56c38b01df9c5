"""What annotators and models have said of a task, put into its documents."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from ..document import Document, Entity, Link
from ..offsets import Offsets
from .regions import Region, TaskLog, find_unit, is_region, name_of, number_of, place, read_region, simplified, text_of
from .settings import INFO, LabelStudio
from .tasks import id_of


@dataclass
class Annotation:
    """What one annotator, or model, has said of a task.

    who (str): The annotator, or the model's version. is_model (bool): Whether it is one. regions (List[Region]): Of all
        texts. about (List[Dict[str, Any]]): Results that say something of a region or of the task.
        relations (List[Dict[str, Any]]): As they came. score (Optional[float]): Of a prediction.
    """

    who: str
    is_model: bool = False
    regions: List[Region] = field(default_factory=list)
    about: List[Dict[str, Any]] = field(default_factory=list)
    relations: List[Dict[str, Any]] = field(default_factory=list)
    score: Optional[float] = None


def annotations_of(task: Mapping[str, Any], settings: LabelStudio, log: TaskLog) -> Optional[List[Annotation]]:
    """Annotations and predictions that count. None: there are none."""
    annotations = _chosen(task, settings, log)
    said = [_read_annotation(annotation, _annotator(annotation), log) for annotation in annotations]
    wanted = settings.predictions
    if wanted == "all" or (wanted == "missing" and not said):
        predictions = _predictions(task, log)
        for prediction in predictions if wanted == "all" else predictions[-1:]:
            version = name_of(prediction, "model_version") or "prediction"
            said.append(_read_annotation(prediction, version, log))
            said[-1].is_model, said[-1].score = True, number_of(prediction.get("score"))
    return said or None


def _chosen(task: Mapping[str, Any], settings: LabelStudio, log: TaskLog) -> List[Dict[str, Any]]:
    """Annotations of a task that count."""
    raw = task.get("annotations", task.get("completions"))
    if raw is not None and not isinstance(raw, list):
        log.lost("malformed annotation", "its annotations are no list.")
    found = []
    for number, annotation in enumerate(raw if isinstance(raw, list) else [], start=1):
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result") or [], list):
            log.lost("malformed annotation", f"annotation no. {number} has no list of results.")
        elif annotation.get("was_cancelled") or annotation.get("skipped"):
            log.remark("cancelled annotation", f"annotation {_called(annotation)} was skipped by its annotator.")
        else:
            found.append(annotation)
    truth = [annotation for annotation in found if annotation.get("ground_truth") is True]
    others: List[Dict[str, Any]] = []
    if settings.annotators != "all" and truth:
        others, found = [annotation for annotation in found if annotation not in truth], truth
    if settings.annotators == "first":
        found.sort(key=_created)
        found, others = found[:1], others + found[1:]
    if others:
        names = ", ".join(map(_called, others))
        log.remark("further annotation", f"annotations {names[:60]} were not read; --annotators all reads them.")
    return found


def _called(annotation: Mapping[str, Any]) -> str:
    return f"{name_of(annotation, 'id') or '?'} of {_annotator(annotation) or '?'}"


def _created(annotation: Mapping[str, Any]) -> str:
    """When it was created, to sort by: old versions have seconds, others a date."""
    created = annotation.get("created_at")
    seconds = number_of(created)
    return f"{seconds:020.3f}" if seconds is not None else text_of(annotation, "created_at")


def _annotator(annotation: Mapping[str, Any]) -> str:
    who = annotation.get("completed_by")
    if isinstance(who, dict):
        return name_of(who, "email") or name_of(who, "id")
    return id_of(who)


def _predictions(task: Mapping[str, Any], log: TaskLog) -> List[Dict[str, Any]]:
    """Predictions of a task, the newest last. Where an export only names them, those that annotators began with."""
    listed, annotations = (
        value if isinstance(value, list) else [] for value in (task.get("predictions"), task.get("annotations"))
    )
    begun = [one.get("prediction") for one in annotations if isinstance(one, dict)]
    known = {id_of(one.get("id")): one for one in begun if isinstance(one, dict)}
    raw = [one if isinstance(one, dict) else known.get(id_of(one)) for one in listed]
    found = [one for one in raw if one is not None and isinstance(one.get("result"), list)]
    if len(found) < len(raw):
        message = f"{len(raw) - len(found)} predictions are only named, or malformed: export them with their tasks."
        log.remark("prediction that is not there", message)
    return sorted(found, key=_created)


def _read_annotation(annotation: Mapping[str, Any], who: str, log: TaskLog) -> Annotation:
    read = Annotation(who)
    for result in annotation.get("result") or []:
        if not isinstance(result, dict):
            log.lost("malformed result", f"annotation {_called(annotation)} has a result that is none.")
        elif result.get("type") == "relation":
            read.relations.append(result)
        elif is_region(result):
            region = read_region(result, log)
            if region is not None:
                read.regions.append(region)
        else:
            read.about.append(result)
    return read


@dataclass
class _Placed:
    """What an annotation says, by document.

    entities (List[Tuple[Document, Entity, Region]]): In order. links (List[Tuple[Document, Link]]): Between them.
    about (Dict[str, List[Dict[str, Any]]]): Results about an entity, by its id.
    classes (List[Tuple[Document, str, Any, Dict[str, Any]]]): What is said of a task: name, value and result.
    kept (List[Tuple[Document, Dict[str, Any]]]): Results that are only written back.
    """

    said: Annotation
    entities: List[Tuple[Document, Entity, Region]] = field(default_factory=list)
    links: List[Tuple[Document, Link]] = field(default_factory=list)
    about: Dict[str, List[Dict[str, Any]]] = field(default_factory=dict)
    classes: List[Tuple[Document, str, Any, Dict[str, Any]]] = field(default_factory=list)
    kept: List[Tuple[Document, Dict[str, Any]]] = field(default_factory=list)


class Filler:
    """Puts what annotations say into the documents of a task. made: These, by name of the text."""

    def __init__(self, made: Mapping[str, Document], log: TaskLog, settings: LabelStudio) -> None:
        self._made = made
        self._log = log
        self._settings = settings
        self._offsets = {id(document): Offsets(document.text) for document in made.values()}
        self._taken: Set[str] = set()

    def fill(self, said: Sequence[Annotation]) -> None:
        placed = [self._place(annotation) for annotation in said]
        votes = [one for one in placed if not one.said.is_model]
        if self._settings.annotators == "majority" and len(votes) > 1:
            placed = [_majority(votes, self._log), *(one for one in placed if one.said.is_model)]
        for one in placed:
            for document, entity, region in one.entities:
                document.entities.append(entity)
                _note_region(document.data[INFO], entity, region, one.about.get(entity.id, []))
            for document, link in one.links:
                document.links.append(link)
            for document, result in one.kept:
                _keep(document, one.said.who, result)
            if one.said.score is not None:
                first = next(iter(self._made.values()))
                first.data[INFO].setdefault("scores", {})[one.said.who] = one.said.score
        self._classify(placed)

    def _place(self, said: Annotation) -> _Placed:
        placed = _Placed(said)
        entities: Dict[str, List[Tuple[Document, Entity]]] = {}
        for document, regions in self._by_document(said.regions):
            offsets = self._offsets[id(document)]
            unit = find_unit(offsets, regions, self._settings.offsets, self._log)
            for region in regions:
                span = place(offsets, region, unit, self._log)
                for label in region.labels if span is not None else []:
                    assert span is not None
                    entity = Entity(label, [span], self._name(region.id), notes=[*region.notes], score=region.score)
                    entity.origin = said.who
                    placed.entities.append((document, entity, region))
                    if region.id:
                        entities.setdefault(region.id, []).append((document, entity))
        self._say(placed, entities)
        self._join(placed, entities)
        return placed

    def _by_document(self, regions: Sequence[Region]) -> List[Tuple[Document, List[Region]]]:
        found: Dict[int, Tuple[Document, List[Region]]] = {}
        for region in regions:
            document = self._made.get(region.to_name)
            if document is not None:
                found.setdefault(id(document), (document, []))[1].append(region)
            elif not self._settings.text:
                message = f'result {region.id or "?"} is of "{region.to_name}", which is no text of the data.'
                self._log.lost("region of another text", message, len(region.labels))
        return [*found.values()]

    def _name(self, id: str) -> str:
        """An id that no other entity of the task has."""
        number = 1
        name = id or "r1"
        while name in self._taken:
            number += 1
            name = f"{id}#{number}" if id else f"r{number}"
        self._taken.add(name)
        return name

    def _say(self, placed: _Placed, entities: Mapping[str, List[Tuple[Document, Entity]]]) -> None:
        """What is said of regions becomes attributes; what is said of the task, data."""
        for result in placed.said.about:
            name = text_of(result, "from_name") or text_of(result, "type") or "result"
            value = simplified(result)
            targets = entities.get(name_of(result, "id"), []) or _at(placed, result)
            if not targets:
                document = self._made.get(text_of(result, "to_name"), next(iter(self._made.values())))
                placed.classes.append((document, name, value, result))
            for _, entity in targets:
                if name in entity.attributes:
                    message = f"{entity.id} has a {name} already, which counts."
                    self._log.remark("attribute given twice", message)
                    continue
                # what our writer makes of a flag
                is_flag = value == name and text_of(result, "type") == "choices"
                entity.attributes[name] = True if is_flag else value
                placed.about.setdefault(entity.id, []).append(result)

    def _join(self, placed: _Placed, entities: Mapping[str, List[Tuple[Document, Entity]]]) -> None:
        for relation in placed.said.relations:
            ends = [entities.get(name_of(relation, key), [])[:1] for key in ("from_id", "to_id")]
            if not all(ends):
                names = f"{name_of(relation, 'from_id') or '?'} and {name_of(relation, 'to_id') or '?'}"
                self._log.remark("target that is not there", f"a relation joins {names}, of which not both were read.")
                continue
            (source, first), (target, last) = ends[0][0], ends[1][0]
            if source is not target:
                message = f"a relation joins {first.id} and {last.id}, of two texts: it is only written back."
                self._log.remark("relation between texts", message)
                placed.kept.append((source, relation))
                continue
            raw = relation.get("labels")
            labels = [label for label in raw if isinstance(label, str) and label] if isinstance(raw, list) else []
            attributes: Dict[str, Any] = {} if labels else {"labelled": False}
            direction = text_of(relation, "direction") or "right"
            attributes.update({} if direction == "right" else {"direction": direction})
            for label in labels or ["relation"]:
                link = Link("relation", label, [("Arg1", first.id), ("Arg2", last.id)], attributes=dict(attributes))
                placed.links.append((source, link))

    def _classify(self, placed: Sequence[_Placed]) -> None:
        """What annotators say of the task goes into the data: a value, or where they differ each one's."""
        found: Dict[Tuple[int, str], Tuple[Document, Dict[str, Any]]] = {}
        for one in placed:
            for document, name, value, result in one.classes:
                found.setdefault((id(document), name), (document, {}))[1][one.said.who] = value
                _keep(document, one.said.who, result)
        for (_, name), (document, values) in found.items():
            key = name
            while key in document.data:
                key += "_result"
            alike = len({_comparable(value) for value in values.values()}) == 1
            document.data[key] = next(iter(values.values())) if alike else values
            document.data[INFO].setdefault("classes", []).append(key)


def _at(placed: _Placed, result: Mapping[str, Any]) -> List[Tuple[Document, Entity]]:
    """Entities that stand where a result without id does: JSON_MIN has no ids."""
    value = result.get("value")
    if "id" in result or not isinstance(value, dict) or "start" not in value:
        return []
    ends = [value.get("start"), value.get("end")]
    return [(document, entity) for document, entity, region in placed.entities if [region.start, region.end] == ends]


def _comparable(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _keep(document: Document, who: str, result: Dict[str, Any]) -> None:
    document.data[INFO].setdefault("results", {}).setdefault(who, []).append(result)


def _note_region(info: Dict[str, Any], entity: Entity, region: Region, about: Sequence[Dict[str, Any]]) -> None:
    """Write down what an Entity cannot say, where it is not that of the first region of its text."""
    usual = {"from_name": region.from_name, "type": region.type, "more": region.more}
    for key, value in usual.items():
        info.setdefault(key, value)
    noted: Dict[str, Any] = {key: value for key, value in usual.items() if value != info[key]}
    if region.to_name != info["to_name"]:
        noted["to_name"] = region.to_name
    noted.update({key: value for key, value in (("meta", region.meta), ("value", region.value)) if value})
    if region.pages:
        noted["at"] = [*entity.fragments[0]]
    if about:
        noted["about"] = [*about]
    if noted:
        info.setdefault("regions", {})[entity.id] = noted


def _majority(votes: Sequence[_Placed], log: TaskLog) -> _Placed:
    """What more than half of several annotators say; of each thing the form that the first has given it."""
    who = f"majority of {len(votes)}"
    kept = _Placed(Annotation(who))
    enough = len(votes) / 2

    def agreed(things: Callable[[_Placed], Iterable[Tuple[str, Any]]]) -> Iterator[Any]:
        counts: Counter = Counter()
        first: Dict[str, Any] = {}
        for one in votes:
            own = dict(things(one))
            counts.update(own.keys())
            for key, thing in own.items():
                first.setdefault(key, thing)
        for key, thing in first.items():
            if counts[key] > enough:
                yield thing

    def key_of(document: Document, entity: Entity) -> str:
        return _comparable([id(document), entity.label, entity.fragments])

    def entities(one: _Placed) -> Iterable[Tuple[str, Any]]:
        return ((key_of(document, entity), (document, entity, region)) for document, entity, region in one.entities)

    def links(one: _Placed) -> Iterable[Tuple[str, Any]]:
        keys = {entity.id: key_of(document, entity) for document, entity, _ in one.entities}
        for document, link in one.links:
            ends = [keys[name] for _, name in link.arguments]
            yield _comparable([link.label, link.attributes, ends]), (document, link, ends)

    def classes(one: _Placed) -> Iterable[Tuple[str, Any]]:
        return ((_comparable([id(said[0]), said[1], said[2]]), said) for said in one.classes)

    kept.entities = [*agreed(entities)]
    kept.classes = [*agreed(classes)]
    names: Dict[str, str] = {}
    for document, entity, _ in kept.entities:
        entity.origin = who
        names[key_of(document, entity)] = entity.id
    for document, link, ends in agreed(links):
        if all(end in names for end in ends):
            arguments = [(role, names[end]) for (role, _), end in zip(link.arguments, ends)]
            kept.links.append((document, Link(link.kind, link.label, arguments, attributes=link.attributes)))
    for one in votes:
        kept.about.update(one.about)
    gone = {key for one in votes for key, _ in entities(one)} - names.keys()
    if gone:
        log.remark("entity without majority", f"{len(gone)} entities have no majority among {len(votes)} annotators.")
    return kept
