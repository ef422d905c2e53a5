from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.data.streams.stream_request import StreamRequest
from palimpsest.errors import DataError

POOL = tuple("abcdef")


def request(name: str, learn: str = "", forget: str = "", consolidate: str = "", kind: str = "R") -> StreamRequest:
    return StreamRequest(name, tuple(learn), tuple(consolidate), tuple(forget), kind)


BY_HAND = RequestStream(
    POOL,
    (
        request("one", learn="ba"),
        request("two", learn="cd", kind="T"),
        request("three", learn="e", forget="ac"),
        request("four", consolidate="d"),
        request("five", learn="a", forget="b"),
    ),
)


def test_sets_of_a_stream_worked_by_hand() -> None:
    assert [BY_HAND.known_after(j) for j in range(5)] == [*map(tuple, ("ab", "abcd", "bde", "bde", "ade"))]
    assert [BY_HAND.remaining_after(j) for j in range(5)] == [*map(tuple, ("", "ab", "bd", "be", "de"))]
    assert [BY_HAND.temporary_after(j) for j in range(5)] == [*map(tuple, ("", "cd", "d", "", ""))]
    assert [BY_HAND.forgotten_until(j) for j in range(5)] == [*map(tuple, ("", "", "ac", "ac", "bc"))]
    assert BY_HAND.requests[3].presented == ("d",)


@st.composite
def streams(draw: st.DrawFn) -> tuple[RequestStream, list[dict[str, str]]]:
    """A valid stream and, after each request, how every known id is held: "R" or "T"."""
    held: dict[str, str] = {}
    requests: list[StreamRequest] = []
    history: list[dict[str, str]] = []
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from("RT"))
        learn, consolidate, forget = [], [], []
        for i in draw(st.permutations(POOL)):
            temporary = held.get(i) == "T" and kind == "R"
            part = draw(
                st.sampled_from([[], forget, *([consolidate] if temporary else [])] if i in held else [[], learn])
            )
            part.append(i)
        if not learn + consolidate + forget:
            continue
        requests.append(StreamRequest(str(number), tuple(learn), tuple(consolidate), tuple(forget), kind))
        held = {i: how for i, how in held.items() if i not in forget} | dict.fromkeys([*learn, *consolidate], kind)
        history.append(held)
    if not requests:
        requests, history = [request("only", learn="a")], [{"a": "R"}]
    return RequestStream(POOL, tuple(requests)), history


@settings(max_examples=50)
@given(streams())
def test_every_request_has_one_oracle_set_and_disjoint_parts(made: tuple[RequestStream, list[dict[str, str]]]) -> None:
    stream, history = made
    before: set[str] = set()
    ever: set[str] = set()
    for j, (asked, held) in enumerate(zip(stream.requests, history, strict=True)):
        ever |= set(asked.learn)
        known, remaining = set(stream.known_after(j)), set(stream.remaining_after(j))
        assert known == held.keys()
        assert set(stream.temporary_after(j)) == {i for i, how in held.items() if how == "T"}
        assert remaining == before - set(asked.forget) - set(asked.presented)
        assert known == remaining | set(asked.presented)
        assert not remaining & set(asked.presented)
        assert not known & set(asked.forget)
        assert set(asked.forget) <= before
        assert set(stream.forgotten_until(j)) == ever - known
        before = known
    assert RequestStream.from_json(json.loads(json.dumps(stream.to_json()))) == stream
    assert len(stream.describe().splitlines()) == len(stream) + 1


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (
            request("x", learn="a"),
            r"^request 2 \('x'\): 1 of 1 ids to learn are known already \(first: 'a'\); accepted",
        ),
        (
            request("x", learn="fz"),
            r"1 of 2 ids to learn are not in the pool \(first: 'z'\); accepted: ids of the pool",
        ),
        (
            request("x", forget="af"),
            r"1 of 2 ids to forget were never learned \(first: 'f'\); accepted: ids of earlier",
        ),
        (request("x", forget="ab"), r"1 of 2 ids to forget were forgotten before \(first: 'b'\); accepted: ids still"),
        (
            request("x", consolidate="ca"),
            r"1 of 2 ids to consolidate are not known temporarily \(first: 'a'\); accepted",
        ),
        (request("two", learn="e"), r"request 2 \('two'\): an earlier request has this name"),
    ],
)
def test_a_request_out_of_place_is_refused(last: StreamRequest, message: str) -> None:
    first = (request("one", learn="ab"), request("two", learn="cd", forget="b", kind="T"))
    with pytest.raises(DataError, match=message):
        RequestStream(POOL, (*first, last))


def test_all_problems_of_a_request_come_in_one_line() -> None:
    with pytest.raises(DataError) as caught:
        RequestStream(POOL, (request("one", learn="a"), request("one", learn="az", forget="b")))
    text = str(caught.value)
    assert "\n" not in text
    for part in ("not in the pool", "known already", "never learned", "has this name"):
        assert part in text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, r"request 'x': it is empty; accepted: at least one id"),
        ({"learn": "ab", "forget": "b"}, r"1 of 1 ids to forget are to learn too \(first: 'b'\); accepted: each id in"),
        ({"consolidate": "b", "forget": "b"}, "ids to forget are to consolidate too"),
        ({"learn": "aab"}, "1 ids to learn are repeated; accepted: each id once"),
        ({"learn": "a", "kind": "P"}, "unknown kind of learning 'P'; accepted: R, T"),
        ({"consolidate": "a", "kind": "T"}, "it consolidates temporarily; accepted: kind 'R'"),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(wrong: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        request("x", **wrong)


def test_wrong_streams_and_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="a stream without requests"):
        RequestStream(POOL, ())
    with pytest.raises(DataError, match="2 ids of the pool are repeated"):
        RequestStream((*POOL, "a", "a"), (request("x", learn="a"),))
    for number in (-1, 5):
        with pytest.raises(DataError, match=rf"request {number} of a stream of 5; accepted: 0 to 4"):
            BY_HAND.remaining_after(number)


def test_a_broken_file_is_refused() -> None:
    saved = json.loads(json.dumps(BY_HAND.to_json()))
    with pytest.raises(DataError, match=r"not a request stream, requests.0.learned: Unexpected .*; accepted: what was"):
        RequestStream.from_json({**saved, "requests": [{**saved["requests"][0], "learned": []}]})
    with pytest.raises(DataError, match="not a request stream, pool: Field required"):
        RequestStream.from_json({"requests": saved["requests"]})
    with pytest.raises(DataError, match="request 0 .* to consolidate are not known temporarily"):
        RequestStream.from_json({**saved, "requests": saved["requests"][3:]})


def test_the_table_shows_what_each_request_does() -> None:
    lines = BY_HAND.describe().splitlines()
    assert lines[0].split() == ["#", "request", "kind", "task", "learn", "consolidate", "forget", "remaining", "known"]
    assert lines[3].split() == ["2", "three", "R", "-", "1", "0", "2", "2", "3"]
    assert lines[4].split() == ["3", "four", "R", "-", "0", "1", "0", "2", "3"]
    assert len({line.index(cell) for line, cell in zip(lines[:3], ("request", "one", "two"), strict=True)}) == 1
