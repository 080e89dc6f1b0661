import numpy as np
import pytest

from etc_data.audit.puzzle_scores import largest_component, puzzle_scores


def test_a_whole_picture_scores_one():
    whole = puzzle_scores(*(np.ones(shape, bool) for shape in ((3, 4), (3, 3), (2, 4))))
    assert whole == {"dc": 1, "nc": 1, "lc": 1}


def test_scores_count_blocks_joins_and_the_largest_part():
    in_place = np.array([[True, False], [False, False], [False, False]])
    across = np.array([[True], [False], [True]])
    down = np.array([[False, True], [False, False]])
    assert puzzle_scores(in_place, across, down) == pytest.approx({"dc": 1 / 6, "nc": 3 / 7, "lc": 0.5})


def test_the_largest_part_agrees_with_a_flood_fill():
    random = np.random.default_rng(0)
    for _ in range(20):
        across, down = random.random((6, 4)) < 0.5, random.random((5, 5)) < 0.5
        seen, largest = set(), 0
        for start in np.ndindex(6, 5):
            part, waiting = set(), [start]
            while waiting:
                y, x = waiting.pop()
                if (y, x) in part:
                    continue
                part.add((y, x))
                waiting += [(y, x + 1)] if x < 4 and across[y, x] else []
                waiting += [(y, x - 1)] if x > 0 and across[y, x - 1] else []
                waiting += [(y + 1, x)] if y < 5 and down[y, x] else []
                waiting += [(y - 1, x)] if y > 0 and down[y - 1, x] else []
            if start not in seen:
                seen |= part
                largest = max(largest, len(part))
        assert largest_component(across, down) == largest
