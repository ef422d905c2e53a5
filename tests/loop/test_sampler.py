"""Laws of the stream of examples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.data.draws import places, shuffled
from palimpsest.loop import sampler
from palimpsest.loop.sampler import IdStream

ids = st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=9, unique=True)


@given(ids, st.integers(0, 99), st.integers(0, 9))
def test_a_cycle_is_a_permutation_and_depends_on_its_arguments_alone(names, seed, cycle):
    order = shuffled(names, seed, "forget", cycle)
    assert sorted(order) == sorted(names)
    assert order == shuffled(names, seed, "forget", cycle)


def test_sets_and_cycles_are_shuffled_independently():
    names = [str(i) for i in range(50)]
    orders = {tuple(shuffled(names, 0, name, cycle)) for name in ("forget", "retain") for cycle in range(3)}
    assert len(orders) == 6


@given(ids, st.integers(1, 5), st.integers(1, 20))
def test_drawing_around_shows_every_example_equally_often(names, count, draws):
    stream = IdStream("retain", tuple(names), seed=0)
    seen: list[str] = []
    for _ in range(draws):
        drawn, stream = stream.draw_around(count)
        assert len(drawn) == count
        seen += drawn
    times = [seen.count(name) for name in names]
    assert max(times) - min(times) <= 1


def test_drawing_ends_at_the_end_of_a_cycle():
    drawn, stream = IdStream("forget", ("a", "b", "c"), seed=0).draw(2)
    last, stream = stream.draw(2)
    assert sorted(drawn + last) == ["a", "b", "c"]
    assert stream.exhausted
    assert stream.restart(["a"]).draw(2)[0] == ["a"]


@pytest.fixture
def permuted(monkeypatch) -> list[tuple[str, int]]:
    """(name, cycle) of every permutation that is made."""
    made = []

    def counted(count, seed, name, cycle):
        made.append((name, cycle))
        return places(count, seed, name, cycle)

    monkeypatch.setattr(sampler, "places", counted)
    return made


def test_a_cycle_is_permuted_once_however_often_it_is_drawn_from(permuted):
    stream = IdStream("retain", tuple(map(str, range(60))), seed=0)
    for _ in range(24):
        _, stream = stream.draw_around(5)
    assert permuted == [("retain", 0), ("retain", 1)]


@given(ids, st.lists(st.integers(1, 4), max_size=12))
def test_the_kept_order_draws_what_a_fresh_permutation_would(names, counts):
    stream = IdStream("forget", tuple(names), seed=3)
    for count in counts:
        drawn, after = stream.draw_around(count)
        assert drawn == _by_the_book(stream, count)
        stream = after


def _by_the_book(stream: IdStream, count: int) -> list[str]:
    """Draws as they are defined: every example of every cycle from the cursor on, permuted anew."""
    cycles = range(stream.cycle, stream.cycle + count + 1)
    flat = [i for cycle in cycles for i in shuffled(stream.ids, stream.seed, stream.name, cycle)]
    return flat[stream.cursor : stream.cursor + count]


def test_a_restart_over_fewer_examples_has_an_order_of_its_own():
    _, stream = IdStream("forget", ("a", "b", "c", "d"), seed=0).draw(4)
    narrowed = stream.restart(["a", "c"])
    assert narrowed.draw(9)[0] == shuffled(["a", "c"], 0, "forget", 1)
