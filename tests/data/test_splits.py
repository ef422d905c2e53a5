from __future__ import annotations

import unicodedata

import pytest

from palimpsest.data.sets.splits import check_disjoint, check_known, check_unique
from palimpsest.errors import DataError
from palimpsest.records import Chat, Completion, Example, Image, Message, Text, content_id

NUNEZ = "José Núñez lives in Málaga."
A, B, C = (Example(name, Text(name * 3)) for name in "abc")


def test_disjoint_sets_pass() -> None:
    check_disjoint({"forget": [A], "retain": [B], "holdout": [C], "learn": []})


@pytest.mark.parametrize(
    "again",
    [
        Text(unicodedata.normalize("NFD", NUNEZ)),
        Text(NUNEZ.upper()),
        Text(f"{NUNEZ} \n"),
        Text("José Núñez lives\u200b in Málaga."),
        Text("<s>José Núñez\ufe0f lives in Málaga.\u0001<|im_end|>"),
        Completion("José Núñez lives", "in Málaga."),
        Chat((Message("user", "José Núñez lives"), Message("assistant", " in Málaga."))),
    ],
    ids=["NFD", "case", "blanks", "invisible", "special", "split", "turns"],
)
def test_one_text_is_not_forgotten_and_kept_at_once_however_it_is_written(again) -> None:
    forget, kept = [Example("x", Text(NUNEZ))], [Example("y", again)]
    with pytest.raises(DataError, match="forget and retain 1 times .*written otherwise: case, characters, blanks"):
        check_disjoint({"forget": forget, "retain": kept})
    check_disjoint({"learn": forget, "holdout": kept})  # nothing goes there, so nothing is at odds


def test_digits_are_not_run_together() -> None:
    check_disjoint({"forget": [Example("x", Text("add 1 23"))], "retain": [Example("y", Text("add 12 3"))]})


def test_a_shared_id_names_both_sets() -> None:
    with pytest.raises(DataError, match=r"forget and retain share 2 ids \(first: example 'a'\); accepted"):
        check_disjoint({"forget": [A, B], "retain": [C, B, Example("a", Text("other"))]})


def test_the_same_content_under_two_ids_names_both() -> None:
    names = r"forget's example 'a' and retain's example 'twin'"
    with pytest.raises(DataError, match=rf"forget and retain 1 times \(first: {names}\)"):
        check_disjoint({"forget": [A], "retain": [B, Example("twin", A.content)]})


def test_equal_pixels_are_one_content_whatever_their_class() -> None:
    cat, dog = (Example(name, Image(b"123", (1, 1, 3), label)) for name, label in (("cat", 0), ("dog", "dog")))
    with pytest.raises(DataError, match="forget's example 'cat' and retain's example 'dog'"):
        check_disjoint({"forget": [cat], "retain": [dog]})


def test_a_content_under_two_ids_is_found_within_a_set() -> None:
    check_unique([A, B, C], "the data")
    expected = r"^the data: 2 contents .* \(first: example 'a' and example 'twin'\).*accepted: each content once"
    with pytest.raises(DataError, match=expected):
        check_unique([A, B, Example("twin", A.content), Example("again", A.content)], "the data")


def test_all_problems_come_in_one_line() -> None:
    with pytest.raises(DataError) as caught:
        check_disjoint({"forget": [A, B], "retain": [A], "holdout": [Example("twin", B.content), A]})
    text = str(caught.value)
    twins = "forget's example 'b' and holdout's example 'twin'"
    for part in ("forget and retain share 1", "forget and holdout share 1", twins):
        assert part in text
    assert "retain and holdout share 1" in text
    assert "\n" not in text


def test_forget_ids_must_have_been_learned() -> None:
    check_known([A, B], {"a", "b", "c"})
    with pytest.raises(
        DataError, match=r"2 of 3 ids \(first: example 'patient-1' \(did you mean 'patient-10'\?\)\) of the forget"
    ):
        check_known([A, Example("patient-1", Text("x")), Example("q", Text("y"))], ["a", "patient-10"])


def test_both_places_are_named() -> None:
    one = Example("a", Text("x"), where="people.jsonl, line 3")
    other = Example("a", Text("y"), where="keep.csv, line 9")
    with pytest.raises(DataError, match=r"first: people.jsonl, line 3 \(id 'a'\) and keep.csv, line 9 \(id 'a'\)"):
        check_disjoint({"forget": [one], "retain": [other]})
    copies = [Example(content_id(Text("x")), Text("x"), where="keep.csv, line 2")]
    names = r"forget's people.jsonl, line 3 \(id 'a'\) and retain's keep.csv, line 2\)"
    with pytest.raises(DataError, match=names):
        check_disjoint({"forget": [one], "retain": copies})
    with pytest.raises(DataError, match=r"first: people.jsonl, line 3 \(id 'a'\) and keep.csv, line 2\), so that"):
        check_unique([one, *copies], "the data")
    with pytest.raises(DataError, match=r"1 of 1 ids \(first: people.jsonl, line 3 \(id 'a'\)\)"):
        check_known([one], [])
