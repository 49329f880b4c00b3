"""What the KV cache already holds, as a radix tree over tokens.

A path from the root is a run of tokens whose keys and values are in the cache. Every leaf owns a
sequence of the context that covers its whole path; llama.cpp lets sequences share cells, so a
common beginning is held once. The least recently used leaf goes first; a leaf that gives way
leaves its parent's sequence behind, so that a system prompt outlives the questions asked after it.

Whose tokens they are is part of the path: after the part that everybody shares (the system prompt)
comes a mark of the owner, which takes no cell. Nobody's prompt can therefore run faster for what
another person asked, and nobody can find out by the clock what that was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class Cells(Protocol):
    """The sequences of a context."""

    def copy(self, source: int, target: int, start: int, end: int) -> None: ...

    def remove(self, sequence: int, start: int) -> None:
        """Forget the sequence's tokens from position `start` on."""


Path = list[int]  # tokens, and one negative number for the owner


def path(tokens: Sequence[int], shared: int, owner: str) -> Path:
    """The tokens as a path. The first `shared` are everybody's; an owner of "*" is everybody."""
    if owner == "*":
        return list(tokens)
    mark = -1 - int.from_bytes(hashlib.blake2b(owner.encode(), digest_size=8).digest())
    return [*tokens[:shared], mark, *tokens[shared:]]


def cells(key: Sequence[int]) -> int:
    """The cells that a path takes."""
    return sum(1 for token in key if token >= 0)


def common(one: Path, other: Path) -> int:
    """The cells of their common beginning."""
    return cells(one[: _common(one, other, 0)])


@dataclass(eq=False)
class Node:
    key: Path  # from the parent's end
    start: int  # cells before it
    parent: Node | None
    children: dict[int, Node] = field(default_factory=dict)
    sequence: int = -1  # of a leaf
    pins: int = 0
    used: int = 0

    def __post_init__(self) -> None:
        self.size = cells(self.key)

    @property
    def end(self) -> int:
        return self.start + self.size


class Prefixes:
    """`sequences` are the tree's own. `cells` counts what is held, each shared cell once."""

    def __init__(self, context: Cells, sequences: Sequence[int]) -> None:
        self._context = context
        self._free = list(sequences)
        self._root = Node([], 0, None)
        self._clock = 0
        self.cells = 0

    def find(self, wanted: Path) -> Node:
        """The deepest node whose path begins `wanted`. Splits an edge that parts in the middle."""
        node, at = self._root, 0
        while at < len(wanted) and (child := node.children.get(wanted[at])):
            same = _common(child.key, wanted, at)
            at += same
            if same < len(child.key):
                node = self._split(child, same)
                break
            node = child
        self._touch(node)
        return node

    def lend(self, node: Node, target: int) -> None:
        """Give a running sequence the node's path, and hold it until `unpin`."""
        if node.end:
            self._context.copy(self._sequence(node), target, 0, node.end)
        self.pin(node)

    def keep(self, wanted: Path, source: int) -> Node:
        """Hold this path, whose cells `source` has, too. Returns the deepest node kept, pinned.

        What the tree has already is not taken twice; without a free sequence nothing is added.
        """
        node = self.find(wanted)
        rest = wanted[_length(node) :]
        if not rest or not cells(rest):
            self.pin(node)
            return node
        self.pin(node)
        if node.sequence >= 0:
            sequence, node.sequence = node.sequence, -1  # the leaf grows into its child
        elif (sequence := self._take()) < 0:
            return node
        elif node.end:
            self._context.copy(self._sequence(node), sequence, 0, node.end)
        leaf = Node(rest, node.end, node, sequence=sequence)
        self._context.copy(source, sequence, leaf.start, leaf.end)
        node.children[rest[0]] = leaf
        self.cells += leaf.size
        self._touch(leaf)
        self.pin(leaf)
        self.unpin(node)
        return leaf

    def pin(self, node: Node) -> None:
        node.pins += 1

    def unpin(self, node: Node) -> None:
        node.pins -= 1

    @property
    def idle(self) -> int:
        """Cells that nobody runs on."""
        held = set[Node]()
        for node in self.nodes():
            step: Node | None = node if node.pins else None
            while step and step not in held:
                held.add(step)
                step = step.parent
        return self.cells - sum(node.size for node in held)

    def give_way(self, wanted: int) -> int:
        """Drop leaves, the least recently used first, until `wanted` cells are freed. Returns how many were."""
        freed = 0
        while freed < wanted and (leaf := self._oldest()):
            freed += leaf.size
            self._drop(leaf)
        return freed

    def clear(self) -> None:
        """Forget everything; the context was emptied."""
        self._free += [n.sequence for n in self.nodes() if n.sequence >= 0]
        self._root = Node([], 0, None)
        self.cells = 0

    def nodes(self) -> Iterator[Node]:
        waiting = list(self._root.children.values())
        while waiting:
            node = waiting.pop()
            waiting += node.children.values()
            yield node

    def _touch(self, node: Node) -> None:
        self._clock += 1
        step: Node | None = node
        while step:
            step.used = self._clock
            step = step.parent

    def _split(self, child: Node, at: int) -> Node:
        assert child.parent
        upper = Node(child.key[:at], child.start, child.parent)
        child.parent.children[child.key[0]] = upper
        child.key = child.key[at:]
        child.__post_init__()
        child.start = upper.end
        child.parent = upper
        upper.children[child.key[0]] = child
        return upper

    def _sequence(self, node: Node) -> int:
        """A sequence that covers the node's path: that of any leaf below it."""
        while node.sequence < 0:
            node = next(iter(node.children.values()))
        return node.sequence

    def _take(self) -> int:
        if not self._free and (leaf := self._oldest(whole=True)):
            while leaf and not self._free:
                self._drop(leaf)
                parent = leaf.parent
                leaf = parent if parent and parent.sequence >= 0 and not parent.pins else None
        return self._free.pop() if self._free else -1

    def _oldest(self, whole: bool = False) -> Node | None:
        """The least recently used leaf that nobody runs on."""
        leaves = (n for n in self.nodes() if n.sequence >= 0 and not n.pins)
        usable: Callable[[Node], bool] = _frees_sequence if whole else (lambda n: True)
        return min((n for n in leaves if usable(n)), key=lambda n: n.used, default=None)

    def _drop(self, leaf: Node) -> None:
        parent = leaf.parent
        assert parent and not leaf.children and not leaf.pins
        del parent.children[leaf.key[0]]
        self._context.remove(leaf.sequence, leaf.start)
        self.cells -= leaf.size
        if parent is self._root or parent.children:
            self._context.remove(leaf.sequence, 0)
            self._free.append(leaf.sequence)
        else:
            parent.sequence = leaf.sequence
        leaf.sequence = -1


def _frees_sequence(leaf: Node) -> bool:
    """Whether dropping the leaf, and what stands alone above it, gives a sequence back."""
    node: Node | None = leaf
    while node and node.parent:
        if node.pins:
            return False
        if node.parent.parent is None or len(node.parent.children) > 1:
            return True
        node = node.parent
    return False


def _length(node: Node) -> int:
    total, step = 0, node
    while step.parent:
        total += len(step.key)
        step = step.parent
    return total


def _common(key: Path, wanted: Path, at: int) -> int:
    """How many tokens of `key` stand in `wanted` from `at` on."""
    limit = min(len(key), len(wanted) - at)
    if key[:limit] == wanted[at : at + limit]:
        return limit
    return next(n for n in range(limit) if key[n] != wanted[at + n])
