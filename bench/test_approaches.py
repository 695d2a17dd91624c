"""All approaches beside each other: what ``python -m safemmap compare`` measures, in
its short form, by the names of that command."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from safemmap._commands.compare.costs import Cost, costs

COSTS = costs(quick=True)


@pytest.mark.parametrize("cost", COSTS, ids=[cost.name for cost in COSTS])
def test_cost(compare: Callable[..., None], cost: Cost) -> None:
    with cost.prepare() as alternatives:
        ours = next(
            name for name in ("guarded", "view", "sealed") if name in alternatives
        )
        others = {k: v for k, v in alternatives.items() if k != ours}
        compare(cost.name, **{ours: alternatives[ours]}, **others)
