"""What is long is begun first, by every worker, and nothing is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.order import dealt

LONG = {"d", "e"}


def order(items: list[tuple[str, int]], workers: int) -> list[tuple[str, int]]:
    return dealt(items, workers, is_long=lambda item: item[0] in LONG, file_of=lambda item: item[0])


@given(st.lists(st.sampled_from("abcde"), max_size=30), st.integers(1, 5))
def test_every_item_once_and_the_others_as_they_were(files: list[str], workers: int) -> None:
    items = [(file, number) for number, file in enumerate(files)]
    found = order(items, workers)
    assert sorted(found) == sorted(items)
    assert [item for item in found if item[0] not in LONG] == [item for item in items if item[0] not in LONG]


def test_each_part_begins_with_a_long_file() -> None:
    items = [(file, number) for file in "abdec" for number in range(4)]
    found = order(items, 2)
    assert [[file for file, _ in part[:5]] for part in (found[:10], found[10:])] == [[*"dddda"], [*"eeeeb"]]
