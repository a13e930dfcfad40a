"""The table of nodes: a mapping, spread evenly, freed in slices."""

from __future__ import annotations

import pytest
from quorate.plugins.znodes.table import PARTS, Table


@pytest.fixture
def table() -> Table[int]:
    """A thousand entries for each part."""
    table: Table[int] = Table()
    table.update((b"/some/path/n%06d" % number, number) for number in range(PARTS * 1000))
    return table


def test_it_is_a_mapping(table: Table[int]) -> None:
    """What was put in is there, what was deleted is not, and iteration meets everything once."""
    assert len(table) == PARTS * 1000
    assert sorted(table.values()) == list(range(PARTS * 1000))
    assert table[b"/some/path/n000007"] == table.get(b"/some/path/n000007") == 7
    del table[b"/some/path/n000007"]
    assert b"/some/path/n000007" not in table
    assert table.get(b"/some/path/n000007") is None
    assert table.get(b"/some/path/n000007", 3) == 3
    with pytest.raises(KeyError):
        table[b"/some/path/n000007"]
    assert len(list(table)) == len(table) == PARTS * 1000 - 1


def test_parts_are_alike_in_size(table: Table[int]) -> None:
    """No part holds much more than its share, so that none grows large when the table does. The share's deviation is
    31: a part beyond seven of them does not come by chance."""
    assert len(table.parts) == PARTS
    assert all(abs(len(part) - 1000) < 220 for part in table.parts)


def test_it_is_freed_in_slices(table: Table[int]) -> None:
    """So many at a time, across the parts, until nothing is left."""
    assert table.discard(2500) == PARTS * 1000 - 2500
    assert len(table) == PARTS * 1000 - 2500
    assert table.discard(PARTS * 1000) == 0
    assert not table
