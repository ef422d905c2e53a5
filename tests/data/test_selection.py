"""What is named goes to the forget set, the rest to the retain set; a name that no row has is refused."""

from __future__ import annotations

import pytest

from palimpsest.data.read.selection import Selection, select, written_alike
from palimpsest.errors import DataError
from palimpsest.records import Example, Image, Text, content_id

PEOPLE = [
    Example("a1", Text("one"), "Anna Bell"),
    Example("c1", Text("two"), "Carl"),
    Example("a2", Text("three"), "Anna Bell"),
    Example("x", Text("four")),
]
PICTURES = [Example(f"p{n}", Image(bytes([n]), (1, 1, 1), label)) for n, label in enumerate([3, "cat", 5, "dog"])]


def chosen(examples: list[Example], names: dict[str, int] | None = None, **what: tuple[int | str, ...]) -> list[str]:
    forget, retain = select(examples, Selection(**what), names)
    assert sorted(forget + retain, key=examples.index) == examples
    assert [e for e in examples if e in retain] == retain
    return [example.id for example in forget]


def test_what_is_named_by_any_of_the_three_is_meant() -> None:
    assert chosen(PEOPLE, subjects=("Anna Bell",)) == ["a1", "a2"]
    assert chosen(PEOPLE, ids=("x",)) == ["x"]
    assert chosen(PEOPLE, subjects=("Carl",), ids=("x", "c1")) == ["c1", "x"]
    assert chosen(PEOPLE, subjects=("Carl", "Anna Bell"), ids=("x",)) == ["a1", "c1", "a2", "x"]


def test_a_class_goes_by_its_number_and_by_its_name() -> None:
    names = {"cat": 3, "dog": 5}
    assert chosen(PICTURES, classes=(3,)) == chosen(PICTURES, classes=("3",)) == ["p0"]
    assert chosen(PICTURES, classes=("cat",)) == ["p1"]
    for label in (3, "3", "cat"):
        assert chosen(PICTURES, names, classes=(label,)) == ["p0", "p1"]
    assert chosen(PICTURES, names, classes=("cat", 5)) == ["p0", "p1", "p2", "p3"]


@pytest.mark.parametrize(
    ("examples", "what", "problem"),
    [
        (PEOPLE, {}, "nothing to forget is named; give --forget-subject, --forget-id or --forget-class"),
        (PEOPLE, {"subjects": ("Karl",)}, "no row has the subject 'Karl'; did you mean 'Carl'? there are 'Anna"),
        (PEOPLE, {"subjects": ("anna  bell",)}, "did you mean 'Anna Bell', which differs in case or blanks?"),
        (PEOPLE[3:], {"subjects": ("Carl",)}, "subject 'Carl'; no row has one: say what holds it, --column"),
        (PEOPLE, {"ids": ("a3",)}, "no row has the id 'a3'; did you mean 'a"),
        ([Example(content_id(Text("a")), Text("a"))], {"ids": ("a3",)}, "no row has one of its own: say what holds it"),
        (PICTURES, {"classes": ("bat",)}, "no row has the class 'bat'; did you mean 'cat'? there are '3', '5', "),
        (PICTURES, {"classes": (4,)}, "no row has the class '4'"),
        (PEOPLE, {"classes": (3,)}, "no row has the class '3'; only images have one: of texts name --forget-subject"),
        (PEOPLE, {"subjects": ("Carl", "Carl")}, "--forget-subject names 'Carl' 2 times; name it once"),
        (PEOPLE, {"ids": ("x", "x", "x")}, "--forget-id names 'x' 3 times"),
        (PICTURES, {"classes": (3, "3")}, "--forget-class names '3' 2 times"),
        (PEOPLE, {"subjects": ("Bo",), "ids": ("zz",)}, "the subject 'Bo'; there are 'Anna Bell', 'Carl'; no row"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(examples, what, problem) -> None:
    with pytest.raises(DataError) as caught:
        select(examples, Selection(**what), source="people.jsonl")
    assert str(caught.value).startswith("people.jsonl: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_class_under_two_names_is_named_once() -> None:
    with pytest.raises(DataError, match="--forget-class names 'cat' and '3' 2 times"):
        select(PICTURES, Selection(classes=("cat", 3)), {"cat": 3})


def test_a_long_list_is_cut() -> None:
    many = [Example(f"e{n}", Text(str(n)), f"person {n:02}") for n in range(30)]
    with pytest.raises(DataError, match=r"'person 11' and 18 more$"):
        select(many, Selection(subjects=("nobody at all",)))


def test_of_many_names_that_nobody_has_the_first_are_told() -> None:
    with pytest.raises(DataError, match=r"no row has the subject 'x3'.*; and 96 more like these$") as caught:
        select(PEOPLE, Selection(subjects=tuple(f"x{n}" for n in range(100))))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        ("zoë lee", "'zoë lee'"),
        (" Zoë Lee", "' Zoë Lee'"),
        ("Zoë\u00a0Lee", r"'Zoë\xa0Lee'"),
        ("Zoë\u200b Lee", r"'Zoë\u200b Lee'"),
        ("Zoe\u0308 Lee", r"'Zoe\u0308 Lee'"),
    ],
)
def test_a_subject_written_almost_alike_is_told_of_when_its_rows_stay(other: str, shown: str) -> None:
    rows = [Example("1", Text("one"), "Zoë Lee"), Example("2", Text("two"), other), Example("3", Text("three"), "Bob")]
    selection = Selection(("Zoë Lee",))
    _, retain = select(rows, selection)
    assert f"{shown} (1 row)" in (written_alike(retain, selection) or "")
    both = Selection(("Zoë Lee", other))
    assert written_alike(select(rows, both)[1], both) is None


def test_a_name_that_is_composed_otherwise_is_shown_by_its_code_points() -> None:
    rows = [Example("1", Text("one"), "Zoe\u0308"), Example("2", Text("two"), "Bob")]
    with pytest.raises(DataError, match=r"differs in its characters, 'Zoe\\u0308' for 'Zo\\xeb'"):
        select(rows, Selection(("Zo\u00eb",)))
