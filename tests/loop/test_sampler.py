"""Laws of the stream of examples."""

from hypothesis import given
from hypothesis import strategies as st

from palimpsest.data.draws import shuffled
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
