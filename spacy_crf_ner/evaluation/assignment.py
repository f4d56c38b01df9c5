"""The heaviest one-to-one matching of a sparse bipartite graph."""

from collections import defaultdict
from heapq import heappop, heappush
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

# Where a path may come to: a column that has no row, a row that stays alone from now on, a column that has a row.
FREE, ALONE, TAKEN = range(3)


def heaviest_matching(weights: Sequence[Mapping[int, int]]) -> List[Optional[int]]:
    """Match rows to columns, each at most once, so that the sum of the weights is as large as it can be.

    weights (Sequence[Mapping[int, int]]): For each row the columns that it may have, with weights above 0. They are
        whole numbers of any size, so that sums are exact and several criteria can stand in one, one above the other.
    RETURNS (List[Optional[int]]): The column of each row; None: it stays alone.

    Rows are added one by one, each along a shortest augmenting path (Jonker & Volgenant 1987, Dijkstra's algorithm over
    reduced costs); a path may also end in a row that gives its column away. It stays inside the part of the graph that
    hangs together, and stops at the first end: with a handful of edges a row the time grows with the rows.
    """
    state = _State(weights)
    for row in range(len(weights)):
        state.add(row)
    return state.column_of


class _State:
    """A heaviest matching of the rows so far, and the prices that prove it.

    row_price[r] + column_price[c] >= weights[r][c] for all, equal where they are matched; prices are never below 0, and
    0 where a row or column is alone.
    """

    def __init__(self, weights: Sequence[Mapping[int, int]]) -> None:
        self.weights = weights
        self.column_of: List[Optional[int]] = [None] * len(weights)
        self.row_of: Dict[int, int] = {}
        self.row_price = [0] * len(weights)
        self.column_price: Dict[int, int] = defaultdict(int)

    def add(self, root: int) -> None:
        gains = [weight - self.column_price[column] for column, weight in self.weights[root].items()]
        self.row_price[root] = max(0, *gains) if gains else 0
        rows = {root: 0}  # how far they are from the root
        columns: Dict[int, int] = {}
        nearest: Dict[int, int] = {}
        reached_from: Dict[int, int] = {}
        # how far, what, which; of what is equally far first that in which the path can end
        heap: List[Tuple[int, int, int]] = []

        def go_on(row: int) -> None:
            heappush(heap, (rows[row] + self.row_price[row], ALONE, row))
            for column, weight in self.weights[row].items():
                far = rows[row] + self.row_price[row] + self.column_price[column] - weight
                if column not in columns and (column not in nearest or far < nearest[column]):
                    nearest[column], reached_from[column] = far, row
                    heappush(heap, (far, TAKEN if column in self.row_of else FREE, column))

        go_on(root)
        while True:
            far, what, end = heappop(heap)
            if what == ALONE:
                break
            if end in columns:
                continue
            columns[end] = far
            if what == FREE:
                break
            rows[self.row_of[end]] = far
            go_on(self.row_of[end])
        for row, distance in rows.items():
            self.row_price[row] -= far - distance
        for column, distance in columns.items():
            self.column_price[column] += far - distance
        self._turn(root, self._set_free(end) if what == ALONE else end, reached_from)

    def _set_free(self, row: int) -> Optional[int]:
        """Let a row stay alone. RETURNS: the column that it had."""
        column, self.column_of[row] = self.column_of[row], None
        return column

    def _turn(self, root: int, column: Optional[int], reached_from: Mapping[int, int]) -> None:
        """Give each column on the path to the row from which it was reached."""
        while column is not None:
            row = reached_from[column]
            before = self.column_of[row]
            self.column_of[row], self.row_of[column] = column, row
            column = None if row == root else before
