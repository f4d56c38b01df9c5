"""Parts of a corpus: at random or stratified by label, by groups that stay together, in folds."""

import random
import re
from collections import Counter
from typing import Any, Callable, Dict, Hashable, List, Optional, Sequence, Tuple

import numpy as np

from .files import CorpusError
from .items import Item, said_by

# Documents that a message names.
NAMED = 5
# What bounds the time of the last step of stratification: units that are tried, how often each, with how many others.
SWAPPED, PASSES, CANDIDATES = 5000, 3, 1000


def group_items(items: Sequence[Item], by: Optional[str] = None, same_text_together: bool = True) -> List[List[int]]:
    """Documents that must not be separated.

    by (Optional[str]): A key of the documents' data, or between slashes a regular expression on their ids, and where
        it does not fit those, on the names of their files: /^([^-]+)-/. Its first group, or all that fits, is what
        documents of a group have in common. None: the group that a document names itself, if it does.
    same_text_together (bool): Documents with the same text belong together too.
    RETURNS (List[List[int]]): Numbers of the documents of each group, in the order of the first of each.
    RAISES (CorpusError): A document has no such key, or the expression does not fit it.
    """
    groups = _Groups(len(items))
    keys = _group_keys(items, by)
    if same_text_together:
        groups.join([("text", item.document.digest) for item in items])
    groups.join(keys)
    return groups.members()


def _group_keys(items: Sequence[Item], by: Optional[str]) -> List[Optional[Hashable]]:
    if by is None:
        return [("group", item.document.group) if item.document.group else None for item in items]
    find = _expression(by[1:-1]) if len(by) > 2 and by[0] == by[-1] == "/" else None
    found = [said_by(item, by) if find is None else find(item) for item in items]
    missing = [item.document.id for item, value in zip(items, found) if value is None or value == ""]
    if missing:
        named = ", ".join(missing[:NAMED]) + (f", and {len(missing) - NAMED:,} more" if len(missing) > NAMED else "")
        what = f'have no "{by}" in their data' if find is None else f"have no id that {by} fits"
        help = ". A regular expression on ids stands between slashes: /^([^-]+)-/." if find is None else "."
        raise CorpusError(f"--group-by {by}: {len(missing):,} of {len(items):,} documents {what}: {named}{help}")
    return [("key", str(value)) for value in found]


def _expression(pattern: str) -> Callable[[Item], Optional[str]]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise CorpusError(f"--group-by /{pattern}/: it is no regular expression: {error}.") from error

    def find(item: Item) -> Optional[str]:
        match = compiled.search(item.document.id) or compiled.search(item.document.source)
        if match is None:
            return None
        return match.group(1) if compiled.groups else match.group()

    return find


class _Groups:
    """Sets that grow together: union-find with path halving."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def _root(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def join(self, keys: Sequence[Optional[Hashable]]) -> None:
        """Bring those together that have the same key; None: a key of its own."""
        first: Dict[Hashable, int] = {}
        for i, key in enumerate(keys):
            if key is not None:
                one, other = sorted((self._root(first.setdefault(key, i)), self._root(i)))
                self._parent[other] = one

    def members(self) -> List[List[int]]:
        found: Dict[int, List[int]] = {}
        for i in range(len(self._parent)):
            found.setdefault(self._root(i), []).append(i)
        return list(found.values())


def deal(
    items: Sequence[Item],
    groups: Sequence[Sequence[int]],
    shares: Dict[str, float],
    seed: int,
    stratified: bool = False,
) -> Dict[str, List[int]]:
    """Deal documents out to parts, the same for the same seed.

    groups (Sequence[Sequence[int]]): Numbers of documents that stay together.
    shares (Dict[str, float]): Share of the documents of each part; they sum to 1. A part with a share above 0 gets a
        group at least.
    stratified (bool): Each part is to have its share of the entities of each label, see `stratify`; otherwise at
        random.
    RETURNS (Dict[str, List[int]]): Numbers of the documents of each part, rising.
    RAISES (CorpusError): The shares do not sum to 1, or there are fewer groups than parts.
    """
    if any(share < 0 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
        listed = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        raise CorpusError(f"The shares ({listed}) must not be negative and must sum to 1.")
    wanted = [name for name, share in shares.items() if share > 0]
    if len(groups) < len(wanted):
        why = ""
        if len(groups) < len(items):
            why = f" Those of one group, or with the same text, stay together: {len(groups):,} groups."
        raise CorpusError(f"{len(items):,} documents cannot be split into {len(wanted)} parts.{why}")
    sizes = np.array([len(group) for group in groups], dtype=np.int64)
    counts = label_counts(items, groups) if stratified else np.zeros((len(groups), 0), dtype=np.int64)
    chosen = stratify(counts, sizes, [shares[name] for name in wanted], seed)
    parts: Dict[str, List[int]] = {name: [] for name in shares}
    for group, part in zip(groups, chosen.tolist()):
        parts[wanted[part]].extend(group)
    return {name: sorted(members) for name, members in parts.items()}


def label_counts(items: Sequence[Item], groups: Sequence[Sequence[int]]) -> np.ndarray:
    """Entities of each label in each group, int64, (groups, labels)."""
    labels = sorted({entity.label for item in items for entity in item.document.entities})
    column = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(groups), len(labels)), dtype=np.int64)
    for row, group in zip(counts, groups):
        for i in group:
            for entity in items[i].document.entities:
                row[column[entity.label]] += 1
    return counts


def stratify(counts: np.ndarray, sizes: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Deal units out so that each part has its share of every label, and of the documents.

    counts (np.ndarray): Occurrences of each label in each unit, int64, (units, labels); without labels the units are
        dealt out at random.
    sizes (np.ndarray): Documents of each unit, int64, (units,).
    shares (Sequence[float]): Of each part, above 0; they sum to 1.
    RETURNS (np.ndarray): The part of each unit, int64, (units,); no part is empty.
    RAISES (ValueError): There are fewer units than parts.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, algorithm 1): always the label next that the fewest
    undealt units have, since it is the hardest to get right, and each of its units to the part that lacks most of it.
    Here a unit counts with all its occurrences, those with many first; and a part that has its documents gets more only
    when all have theirs. At the end units of the same size change places where that helps: documents with many labels
    are dealt out for the sake of one of them, and the others suffer.
    """
    n_units, n_parts = len(sizes), len(shares)
    if n_units < n_parts:
        raise ValueError(f"{n_units} units cannot be dealt out to {n_parts} parts.")
    fraction = np.asarray(shares, dtype=np.float64)
    order = np.array(random.Random(seed).sample(range(n_units), n_units), dtype=np.int64)
    lacking = fraction[:, None] * counts.sum(0)  # (parts, labels)
    room = _whole_shares(int(sizes.sum()), fraction).astype(np.float64)  # (parts,)
    part_of = np.full(n_units, -1, dtype=np.int64)
    has = counts > 0
    open_units = has.sum(0)  # undealt units of each label, (labels,)

    def give(unit: int, need: np.ndarray) -> None:
        # fits without more than its documents; else where there is most room
        fits = room >= sizes[unit]
        allowed = fits if fits.any() else room == room.max()
        best = np.flatnonzero(allowed & (need >= need[allowed].max() - 1e-9))
        part = int(best[np.argmax(room[best] / fraction[best])])
        part_of[unit] = part
        lacking[part] -= counts[unit]
        room[part] -= sizes[unit]
        open_units[has[unit]] -= 1

    while (open_units > 0).any():
        label = int(np.where(open_units > 0, open_units, n_units + 1).argmin())
        units = order[(part_of[order] < 0) & has[order, label]]
        for unit in units[np.argsort(-counts[units, label], kind="stable")].tolist():
            give(unit, lacking[:, label])
    rest = order[part_of[order] < 0]
    for unit in rest[np.argsort(-sizes[rest], kind="stable")].tolist():
        give(unit, room)
    _fill_empty(part_of, sizes, n_parts)
    if counts.shape[1]:
        _swap(part_of, counts, sizes, fraction, order)
    return part_of


def _swap(part_of: np.ndarray, counts: np.ndarray, sizes: np.ndarray, fraction: np.ndarray, order: np.ndarray) -> None:
    """Let units of the same size change places while that brings the labels of all parts nearer to their shares.

    order (np.ndarray): The units, in the order in which they are tried. What is made smaller is the sum over parts and
    labels of the squared deviation, as a share of the label.
    """
    shares = counts / np.maximum(counts.sum(0), 1)  # (units, labels)
    lacking = fraction[:, None] * (counts.sum(0) > 0) - np.stack(
        [shares[part_of == part].sum(0) for part in range(len(fraction))]
    )
    of_size = {size: order[sizes[order] == size] for size in np.unique(sizes).tolist()}
    for unit in np.tile(order[:SWAPPED], PASSES).tolist():
        others = of_size[int(sizes[unit])]
        # from another place for each, so that a few of many do not stand for all
        others = np.roll(others, -unit)[:CANDIDATES]
        others = others[part_of[others] != part_of[unit]]
        if not len(others):
            continue
        change = shares[unit] - shares[others]  # (others, labels)
        gain = lacking[part_of[unit]] - lacking[part_of[others]]
        cost = (change * (gain + change)).sum(1)
        best = int(cost.argmin())
        if cost[best] < -1e-12:
            other = int(others[best])
            lacking[part_of[unit]] += change[best]
            lacking[part_of[other]] -= change[best]
            part_of[unit], part_of[other] = part_of[other], part_of[unit]


def _whole_shares(n: int, shares: np.ndarray) -> np.ndarray:
    """How many of `n` each part gets: its share, rounded so that they sum to `n`, and 1 at least. int64, (parts,)."""
    exact = shares * n
    whole = np.maximum(np.floor(exact + 1e-9), 1).astype(np.int64)
    while whole.sum() < n:
        whole[np.argmax(exact - whole)] += 1
    while whole.sum() > n:
        whole[np.argmax(np.where(whole > 1, whole - exact, -np.inf))] -= 1
    return whole


def _fill_empty(part_of: np.ndarray, sizes: np.ndarray, n_parts: int) -> None:
    """Give a part that got nothing, as where one group is most of the corpus, the smallest unit that can be spared."""
    for part in range(n_parts):
        if (part_of == part).any():
            continue
        spare = np.bincount(part_of, minlength=n_parts)[part_of] > 1
        part_of[np.argmin(np.where(spare, sizes, sizes.max() + 1))] = part


def folds(
    items: Sequence[Item], groups: Sequence[Sequence[int]], k: int, seed: int, stratified: bool = False
) -> List[Tuple[List[int], List[int]]]:
    """`k` ways to split a corpus into train and dev, so that each document is in dev once.

    RETURNS (List[Tuple[List[int], List[int]]]): Numbers of the documents of train and of dev.
    RAISES (CorpusError): k is less than 2, or there are fewer groups.
    """
    if k < 2:
        raise CorpusError(f"--folds {k}: at least 2 are needed.")
    parts = deal(items, groups, {f"{i}": 1 / k for i in range(k)}, seed, stratified)
    everything = range(len(items))
    return [(sorted(set(everything) - set(dev)), dev) for dev in parts.values()]


def count_labels(items: Sequence[Item]) -> Dict[str, int]:
    """Entities by label, the most frequent first."""
    counts = Counter(entity.label for item in items for entity in item.document.entities)
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def describe(items: Sequence[Item]) -> Dict[str, Any]:
    """What a manifest says of a part: ids and SHA-256 of the texts, and how many entities there are of each label."""
    documents = [
        {"id": item.document.id, "sha256": item.document.digest}
        | ({"group": item.document.group} if item.document.group else {})
        for item in items
    ]
    labels = count_labels(items)
    return {"n_documents": len(items), "n_entities": sum(labels.values()), "labels": labels, "documents": documents}


def worst_balance(items: Sequence[Item], parts: Dict[str, List[int]], shares: Dict[str, float]) -> Optional[str]:
    """How far the label is off that is split worst, of those that have an entity for each part at least.

    None where all are as near to their shares as the figures show.
    """
    totals = count_labels(items)
    least = min(shares[name] for name in parts if shares[name] > 0)
    worst: Tuple[float, str] = (5e-4, "")
    for name, members in parts.items():
        here = count_labels([items[i] for i in members])
        for label, total in totals.items():
            wanted = shares[name] * total
            if least * total >= 1 and abs(here.get(label, 0) - wanted) / total > worst[0]:
                said = f"{name} has {here.get(label, 0):,} of {total:,} {label} ({here.get(label, 0) / total:.1%})"
                worst = (abs(here.get(label, 0) - wanted) / total, f"{said}, and {shares[name]:.1%} were wanted")
    return worst[1] or None


def shared_texts(items: Sequence[Item], parts: Dict[str, List[int]]) -> List[str]:
    """Documents with the same text in different parts, a line for each text."""
    where: Dict[str, List[Tuple[str, str]]] = {}
    for name, members in parts.items():
        for i in members:
            where.setdefault(items[i].document.digest, []).append((items[i].document.id, name))
    found = [places for places in where.values() if len({name for _, name in places}) > 1]
    return [", ".join(f"{id} in {name}" for id, name in places) for places in found]
