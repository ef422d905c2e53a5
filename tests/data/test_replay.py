from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.data.memory.purge import check_purged, with_copies
from palimpsest.data.memory.replay import ReplayBuffer
from palimpsest.errors import DataError, PlanError


def names(*numbers: int) -> list[str]:
    return [f"example-{i}" for i in numbers]


def filled(capacity: int = 4, count: int = 10, seed: int = 0) -> ReplayBuffer:
    buffer = ReplayBuffer(capacity, seed)
    buffer.insert(names(*range(count)))
    return buffer


def words_of(value: object) -> Iterator[str]:
    """Every string inside an object, whatever it is made of."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (*words_of(key), *words_of(inner))
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from words_of(inner)
    elif hasattr(value, "__dict__"):
        yield from words_of(vars(value))


# Each step inserts new examples, some with a copy or two, or deletes some of the live ones.
histories = st.lists(st.tuples(st.booleans(), st.integers(1, 6)), max_size=10)


@settings(max_examples=50)
@given(histories, st.integers(1, 5), st.randoms(use_true_random=False))
def test_membership_and_content_equal_sets(steps, capacity, draw) -> None:
    buffer = ReplayBuffer(capacity, seed=3)
    source: dict[str, str] = {}  # the oracle: every live record and its source
    ever: set[str] = set()
    for inserting, count in steps:
        if inserting:
            originals = [f"x{len(ever) + i}" for i in range(count)]
            copies = {f"{i}~{k}": i for i in originals for k in range(draw.randint(0, 2))}
            buffer.insert([*originals, *copies], copies_of=copies)
            source |= {**{i: i for i in originals}, **copies}
            ever |= source.keys()
        else:
            doomed = draw.sample(sorted(source), min(count, len(source)))
            before = set(buffer.ids)
            gone = {record for record, of in source.items() if record in doomed or of in doomed}
            removed = buffer.purge(doomed) if draw.random() < 0.5 else buffer.delete(doomed)
            assert set(removed) == gone & before
            source = {record: of for record, of in source.items() if record not in gone}
        assert buffer.n == len(source)
        assert {record for record in ever if buffer.seen(record)} == source.keys()
        assert set(buffer.ids) <= source.keys()
        assert buffer.copies_of == {i: source[i] for i in buffer.ids if source[i] != i}


def test_of_a_deleted_id_nothing_survives() -> None:
    buffer = filled(capacity=6, count=10)
    inside = buffer.ids[0]
    outside = next(i for i in names(*range(10)) if i not in buffer.ids)
    buffer.insert(["a~flip", "b~flip"], copies_of={"a~flip": inside, "b~flip": outside})
    buffer.record("logits", {i: torch.zeros(2) for i in buffer.ids})
    before = buffer.n
    assert inside in set(words_of(buffer))
    never = ReplayBuffer(6, 0)
    never.insert([inside, outside, "a~flip", "b~flip"], copies_of={"a~flip": inside, "b~flip": outside})
    traces = {word for word in words_of(never._population) if word not in {"live", "sources"}}
    assert len(traces) == 4  # the digests of both examples and of their copies
    assert traces <= set(words_of(buffer))
    buffer.delete([inside, outside])
    survivors = set(words_of(buffer)) | set(words_of(buffer.to_json()))
    assert not survivors & (traces | {inside, outside, "a~flip", "b~flip"})
    assert (buffer.n, buffer.c1 + buffer.c2) == (before - 4, 4)
    assert buffer.c1 >= 1
    assert buffer.c2 >= 1


def test_records_leave_with_their_source_and_the_request_names_its_copies() -> None:
    buffer = ReplayBuffer(10, 0)
    buffer.insert(["b~1", "c", "d~1", "d~1~1", "e"], copies_of={"b~1": "b", "d~1": "d", "d~1~1": "d~1"})
    assert buffer.copies_of == {"b~1": "b", "d~1": "d", "d~1~1": "d~1"}
    assert buffer.purge(["b"]) == ("b~1",)  # b itself was never a record
    assert buffer.purge(["d"]) == ("d~1", "d~1~1")
    assert buffer.purge(["f"], copies_of={"e": "f"}) == ("e",)  # a near-duplicate found later
    assert buffer.ids == ("c",)
    with pytest.raises(DataError, match=r"1 records \(first: 'f'\) have no record in the buffer's population"):
        buffer.purge(["c", "f"], copies_of={"gone": "f"})
    assert buffer.ids == ("c",)


def test_a_record_that_stayed_is_refused() -> None:
    check_purged(["c", "b~1"], ["a"], {"b~1": "b"})
    with pytest.raises(DataError, match=r"1 records of forgotten examples are left \(first: 'a'\); purge the buffer"):
        check_purged(["c", "a"], ["a"])
    with pytest.raises(DataError, match=r"2 records .* are left \(first: 'a~1~1', a copy of 'a~1'\)"):
        check_purged(["c", "a~1~1", "a~1"], ["a"], {"a~1": "a", "a~1~1": "a~1"})
    assert with_copies(["a"], [("a", "b"), ("b", "a"), ("c", "d")]) == {"a", "b"}  # a circle ends


@settings(max_examples=30)
@given(st.integers(0, 12), st.integers(1, 6))
def test_a_saved_buffer_goes_on_bit_by_bit(deleted: int, more: int) -> None:
    buffer = filled(capacity=5, count=12, seed=9)
    buffer.insert(["k"], copies_of={"k": "example-11"})
    buffer.delete(names(*range(min(deleted, 11))))
    saved = json.loads(json.dumps(buffer.to_json()))
    resumed = ReplayBuffer.from_json(saved)
    assert resumed.to_json() == buffer.to_json()
    for continued in (buffer, resumed):
        continued.insert(names(*range(100, 100 + more)))
    one_by_one = ReplayBuffer.from_json(saved)
    for i in range(100, 100 + more):
        one_by_one.insert(names(i))
    assert buffer.to_json() == resumed.to_json() == one_by_one.to_json()


def test_content_depends_on_the_seed() -> None:
    assert filled(seed=1).ids == filled(seed=1).ids
    assert len({filled(8, 200, seed).ids for seed in range(5)}) == 5


def test_payloads_follow_their_records_and_every_deletion_drops_them() -> None:
    buffer = filled(capacity=4, count=4)
    batch = torch.arange(8.0, requires_grad=True).reshape(4, 2)
    buffer.record("logits", dict(zip(buffer.ids, batch, strict=True)))
    buffer.record("features", {buffer.ids[2]: batch[0]})
    kept = buffer.payload("logits")
    assert tuple(kept) == buffer.ids
    assert not any(tensor.requires_grad for tensor in kept.values())
    assert all(tensor.untyped_storage().nbytes() == 8 for tensor in kept.values())  # its own numbers, not the batch's
    with torch.no_grad():
        batch.fill_(-1)
    assert kept[buffer.ids[1]].tolist() == [2.0, 3.0]
    buffer.insert([f"new-{i}" for i in range(50)])
    old = {i for i in buffer.ids if not i.startswith("new")}
    assert buffer.payload("logits").keys() == old
    assert set(words_of(buffer)) & set(names(0, 1, 2, 3)) == old  # evicted: known by its digest alone
    buffer.record("logits", {i: torch.zeros(1) for i in buffer.ids})
    outside = next(i for i in names(0, 1, 2, 3) if i not in buffer.ids)
    buffer.delete([outside])  # not in the buffer, and yet the model knew it when the logits were recorded
    assert buffer.payload("logits") == buffer.payload("features") == {}
    assert len(buffer) == 4
    with pytest.raises(
        DataError, match=r"1 records \(first: 'x'\) cannot have logits; accepted: records in the buffer"
    ):
        buffer.record("logits", {"x": torch.zeros(1)})
    with pytest.raises(DataError, match=r"unknown payload 'logit'; did you mean 'logits'\? accepted: features, logits"):
        buffer.payload("logit")


def test_wrong_requests_are_refused_and_change_nothing() -> None:
    buffer = filled()
    before = buffer.to_json()
    with pytest.raises(
        DataError, match=r"1 records \(first: 'example-3'\) are in the buffer's population; accepted: new"
    ):
        buffer.insert(["new", "example-3"])
    with pytest.raises(DataError, match=r"1 records \(first: 'new'\) occur twice; accepted: each id once"):
        buffer.insert(["new", "new"])
    with pytest.raises(DataError, match=r"\(first: 'a~1'\) are called copies and not inserted; accepted: inserted"):
        buffer.insert(["new"], copies_of={"a~1": "a"})
    with pytest.raises(
        DataError, match=r"1 records \(first: 'x'\) are not in the buffer's population; accepted: ids ins"
    ):
        buffer.delete(["example-1", "x"])
    with pytest.raises(DataError, match=r"\(first: 'example-1'\) occur twice"):
        buffer.delete(["example-1", "example-1"])
    with pytest.raises(DataError, match=r"\(first: 'example-2'\) occur twice"):
        buffer.purge(["example-2", "example-2"])
    assert buffer.to_json() == before
    buffer.delete(["example-1"])
    with pytest.raises(DataError, match=r"\(first: 'example-1'\) are not in the buffer's population"):
        buffer.delete(["example-1"])
    buffer.insert(["example-1"])  # what was forgotten may be learned again
    assert buffer.n == 10
    with pytest.raises(PlanError, match="accepted: a capacity of 1 or more"):
        ReplayBuffer(0, 0)


def test_a_broken_file_is_refused() -> None:
    saved = filled().to_json()
    for wrong, message in (
        (
            {**saved, "more": 1},
            r"this is not a replay buffer, more: Extra inputs .* \(1 in all\); accepted: what was saved",
        ),
        ({**saved, "live": ["x"]}, "live.0: String should match pattern"),
        ({**saved, "live": saved["live"][1:]}, "its records and digests differ"),
        ({**saved, "copies_of": {"x": "y"}}, "its records and digests differ"),
        ({**saved, "sample": {**saved["sample"], "c1": 1}}, "are no sample of 4"),
        ({**saved, "live": {1, 2}}, "not JSON serializable; accepted"),
    ):
        with pytest.raises(DataError, match=message):
            ReplayBuffer.from_json(wrong)
