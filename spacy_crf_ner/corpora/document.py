"""The one form between annotation formats: text, entities by characters, what joins them, and what went wrong.

A reader of any format makes Documents, a writer of any format takes them; `placing` turns them into Docs and back.
Nothing is dropped in silence: what cannot be kept becomes a Problem with file and line.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple, Union


@dataclass(slots=True)
class Entity:
    """A labelled piece of text.

    label (str): Its label.
    fragments (List[Tuple[int, int]]): First character and last + 1 of each part, in order; one for most.
    id (str): Its name in the file.
    line (int): Where it stands in the file, from 1; 0 where lines mean nothing.
    attributes (Dict[str, Any]): Attributes by name: a value, or True for a flag.
    notes (List[str]): Annotators' notes.
    score (Optional[float]): How sure a model is of it.
    origin (str): Who made it, where the file says so: an annotator, a model.
    file (str): Where it stands if not in the document's source.
    """

    label: str
    fragments: List[Tuple[int, int]]
    id: str = ""
    line: int = 0
    attributes: Dict[str, Any] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)
    score: Optional[float] = None
    origin: str = ""
    file: str = ""

    @property
    def start(self) -> int:
        return min(start for start, _ in self.fragments)

    @property
    def end(self) -> int:
        return max(end for _, end in self.fragments)


@dataclass(slots=True)
class Link:
    """Something that is said of entities, or of what joins them: kept as it came.

    kind (str): relation, event, equivalence or normalisation. label (str): Its type.
    arguments (List[Tuple[str, str]]): Role and id of each thing that it joins; of an event the trigger first, without
        a role.
    id (str): Its name in the file. text (str): What stands beside it, as the name of what is referred to.
    """

    kind: str
    label: str
    arguments: List[Tuple[str, str]]
    id: str = ""
    text: str = ""
    attributes: Dict[str, Any] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)


def fields_of(item: Union[Entity, Link]) -> Dict[str, Any]:
    """What an entity or a link says, by name, in lists and dictionaries of its own; `asdict` is slow."""
    values = ((field.name, getattr(item, field.name)) for field in fields(item))
    return {name: value.copy() if isinstance(value, (list, dict)) else value for name, value in values}


@dataclass
class Problem:
    """Something in the annotations that could not be kept as it stands.

    where (str): File and line. kind (str): A few words, the same for all of a kind. message (str): What is
    wrong and what to do. lost (bool): An entity was left out of training, rather than changed.
    """

    where: str
    kind: str
    message: str
    lost: bool = True

    def __str__(self) -> str:
        # one line, whatever characters of a file it cites
        return " ".join(f"{self.where}: {self.message}".splitlines())


@dataclass
class Document:
    """One annotated text.

    id (str): Unique within a corpus. text (str): As it stands in the file. entities (List[Entity]): As annotated.
    links (List[Link]): What joins them. group (str): What belongs together when a corpus is split.
    source (str): The annotation file. annotated (bool): False where nobody has looked at the text yet.
    unread (int): Entities that could not even be read. problems (List[Problem]): What was wrong with it so far.
    data (Dict[str, Any]): What else the file says of the document, by its own names.
    tokens (Optional[List[Tuple[int, int]]]): First character and last + 1 of each token, where the file has tokens.
    sentences (List[int]): Which of them begin sentences. unknown (List[int]): Of which of them it is not known whether
        they are in an entity.
    written (Any): What a writer of the same format needs to give back the same bytes.
    """

    id: str
    text: str
    entities: List[Entity] = field(default_factory=list)
    links: List[Link] = field(default_factory=list)
    group: str = ""
    source: str = ""
    annotated: bool = True
    unread: int = 0
    problems: List[Problem] = field(default_factory=list)
    data: Dict[str, Any] = field(default_factory=dict)
    tokens: Optional[List[Tuple[int, int]]] = None
    sentences: List[int] = field(default_factory=list)
    unknown: List[int] = field(default_factory=list)
    written: Any = None

    @property
    def digest(self) -> str:
        """SHA-256 of the text, in hexadecimal: the same for the same text."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    def place(self, entity: Entity) -> str:
        """Where an entity stands, for messages: file and line, or the document's id and characters."""
        if entity.line:
            return f"{entity.file or self.source}:{entity.line}"
        return f"{self.id}, characters {entity.start}-{entity.end}"

    def report(self, entity: Entity, kind: str, message: str, lost: bool = True) -> None:
        file = entity.file or self.source
        self.problems.append(Problem(f"{file}:{entity.line}" if entity.line else file, kind, message, lost))


@dataclass
class Report:
    """What became of the annotations of a corpus.

    documents, annotated, kept (int): Documents, entities in them, and those that are on tokens now.
    links (Counter): Relations and the like, by kind.
    listing (Optional[Callable]): Is given each problem when it comes; None: all are kept in `problems`.
    problems (List[Problem]): As `listing` says. kinds (Counter), first (Dict[str, Problem]): How many of each kind, and
        the first of them. lost (int): Entities that are not in the corpus.
    """

    documents: int = 0
    annotated: int = 0
    kept: int = 0
    links: Counter = field(default_factory=Counter)
    listing: Optional[Callable[[Problem], None]] = None
    problems: List[Problem] = field(default_factory=list)
    kinds: Counter = field(default_factory=Counter)
    first: Dict[str, Problem] = field(default_factory=dict)
    lost: int = 0

    def note(self, problems: Iterable[Problem]) -> None:
        """Count problems, and list them."""
        take = self.listing or self.problems.append
        for problem in problems:
            self.kinds[problem.kind] += 1
            self.first.setdefault(problem.kind, problem)
            self.lost += problem.lost
            take(problem)

    def summary(self) -> List[str]:
        """What to tell a person, a line each."""
        lines = [f"{self.documents:,} documents, {self.annotated:,} entities annotated, {self.kept:,} kept."]
        lines += [f"{n:,} × {kind}. First: {self.first[kind]}" for kind, n in self.kinds.most_common()]
        if self.links:
            kinds = ", ".join(f"{n:,} {kind}s" for kind, n in sorted(self.links.items()))
            lines.append(f"Not needed for entities, and kept beside them: {kinds}.")
        return lines
