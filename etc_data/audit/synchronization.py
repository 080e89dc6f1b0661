"""Synchronization: from relative states of neighbors to one state for everything.

Each edge of a graph says, with some confidence, which relative state its two ends have.  The most
confident edges form a spanning tree, along which the states follow from the first node's; then every
node may change to the state that its neighbors together prefer (iterated conditional modes).
"""

import numpy as np
import numpy.typing as npt

from etc_data.keystream import IntArray

_SWEEPS = 8


def synchronize(
    nodes: int, edges: IntArray, scores: npt.NDArray[np.floating], joined: IntArray
) -> IntArray:
    """Returns a state for each node, intp [nodes]; all are right up to one common state.

    Args:
        nodes: how many there are.
        edges: intp [edges, 2], of a connected graph.
        scores: float [edges, states]: how well it fits that ``joined[state of first, s]`` is the state
            of the second node.
        joined: the group's table, intp [states, states]; state 0 is the identity.
    """
    states = np.zeros(nodes, np.intp)
    inverse = (joined == 0).argmax(axis=1)
    best = scores.argmax(axis=1)
    ranked = np.sort(scores, axis=1)
    for edge in _spanning_order(nodes, edges, ranked[:, -1] - ranked[:, -2]):
        first, second, forward = edge
        step = best[forward >> 1]
        step = inverse[step] if forward & 1 else step
        states[second] = joined[states[first], step]
    # relative[a, b] is the state that leads from a to b.
    relative = joined[inverse]
    for _ in range(_SWEEPS):
        changed = _sweep(states, edges, scores, relative)
        if not changed:
            break
    return states


def _spanning_order(
    nodes: int, edges: IntArray, confidence: npt.NDArray[np.floating]
) -> list[tuple[int, int, int]]:
    """Returns (known node, new node, 2 · edge + reversed) in an order that begins at node 0."""
    root = list(range(nodes))

    def find(node: int) -> int:
        while root[node] != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    neighbors: list[list[tuple[int, int]]] = [[] for _ in range(nodes)]
    ends = edges.tolist()
    for number in np.argsort(-confidence, kind="stable").tolist():
        first, second = ends[number]
        a, b = find(first), find(second)
        if a != b:
            root[a] = b
            neighbors[first].append((second, 2 * number))
            neighbors[second].append((first, 2 * number + 1))
    order: list[tuple[int, int, int]] = []
    seen, waiting = [False] * nodes, [0]
    seen[0] = True
    while waiting:
        node = waiting.pop()
        for other, edge in neighbors[node]:
            if not seen[other]:
                seen[other] = True
                order.append((node, other, edge))
                waiting.append(other)
    return order


def _sweep(
    states: IntArray, edges: IntArray, scores: npt.NDArray[np.floating], relative: IntArray
) -> bool:
    """Lets each node take the state its neighbors prefer; returns whether any changed.

    All nodes decide at once, but only a random half of them moves, so that two neighbors do not keep
    changing places.
    """
    first, second = edges[:, 0], edges[:, 1]
    number = np.arange(len(edges))[:, None]
    votes = np.zeros((len(states), len(relative)))
    np.add.at(votes, second, scores[number, relative[states[first]]])
    np.add.at(votes, first, scores[number, relative[:, states[second]].T])
    wanted = votes.argmax(axis=1)
    here = np.arange(len(states))
    moving = votes[here, wanted] > votes[here, states] + 1e-9
    if not moving.any():
        return False
    half = np.random.default_rng(int(moving.sum())).random(len(states)) < 0.5
    states[moving & half] = wanted[moving & half]
    return True


def group_table(permutations: IntArray) -> IntArray:
    """Returns the table of a group of permutations, ``joined[a, b]`` being a and then b.

    Args:
        permutations: intp [states, n], closed under joining; row 0 is the identity.  State s puts
            component ``permutations[s, c]`` into place c.
    """
    joined = permutations[:, permutations]
    table = (joined[:, :, None, :] == permutations).all(axis=-1).argmax(axis=-1)
    return np.asarray(table, np.intp)
