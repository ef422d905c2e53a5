from __future__ import annotations

import pytest

from palimpsest.data.streams.tasks import Task, by_domain, pool_of, split_by_class, split_by_subject
from palimpsest.errors import DataError, PlanError

LABELS = {f"i{n}": n % 12 for n in range(36)}  # twelve classes of three, numbers so that 10 comes after 9


def test_classes_are_split_in_their_natural_order() -> None:
    tasks = split_by_class(LABELS, 2)
    assert [task.classes for task in tasks] == [(str(n), str(n + 1)) for n in range(0, 12, 2)]
    assert tasks[5].name == "10+11"
    assert tasks[0].ids == ("i0", "i1", "i12", "i13", "i24", "i25")  # the order of the data
    assert tasks[0].of_class("1") == ("i1", "i13", "i25")
    assert split_by_class(LABELS, 4)[1].name == "4..7"
    assert sorted(pool_of(tasks)) == sorted(LABELS)


def test_chosen_classes_come_in_their_order_and_a_seed_shuffles_them() -> None:
    assert [task.classes for task in split_by_class(LABELS, 1, classes=[3, 1])] == [("3",), ("1",)]
    orders = [tuple(task.name for task in split_by_class(LABELS, 1, seed=seed)) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(str(n) for n in range(12))


def test_subjects_are_split_alike() -> None:
    subjects = {"1": "Ada", "2": "Bo", "3": "Ada", "4": "Cy"}
    assert [(task.name, task.ids) for task in split_by_subject(subjects)] == [
        ("Ada", ("1", "3")),
        ("Bo", ("2",)),
        ("Cy", ("4",)),
    ]
    assert [task.name for task in split_by_subject(subjects, 2, chosen=["Cy", "Ada"])] == ["Cy+Ada"]
    assert {tuple(t.name for t in split_by_subject(subjects, seed=seed)) for seed in range(30)} > {("Ada", "Bo", "Cy")}


def test_groups_are_taken_as_given() -> None:
    groups = {"news": ["n1", "n2"], "web": ["w1"]}
    assert by_domain(groups) == (
        Task("news", {"n1": "news", "n2": "news"}),
        Task("web", {"w1": "web"}),
    )
    labelled = by_domain(groups, labels={"n1": 0, "n2": 1, "w1": 0})
    assert [task.classes for task in labelled] == [("0", "1"), ("0",)]
    assert {tuple(task.name for task in by_domain(groups, seed=s)) for s in range(9)} == {
        ("news", "web"),
        ("web", "news"),
    }


def test_what_does_not_exist_is_refused_with_what_does() -> None:
    with pytest.raises(DataError, match=r"unknown class '12'; did you mean '2'\? accepted: 0, 1, 10, 11, 2, 3"):
        split_by_class(LABELS, 1, classes=[1, 12])
    with pytest.raises(DataError, match=r"unknown subject 'Hiro'; did you mean 'Hiro Tanaka'\? accepted: Hiro Tanaka"):
        split_by_subject({"a": "Hiro Tanaka"}, chosen=["Hiro"])
    with pytest.raises(DataError, match=r"unknown class of task 'cats' 'dog'; accepted: lion, lynx"):
        Task("cats", {"a": "lynx", "b": "lion"}).of_class("dog")


def test_wrong_splits_are_refused() -> None:
    for per_task in (0, -1, 5, 13):
        with pytest.raises(
            PlanError, match=rf"{per_task} per task cannot be made of 12 \(class\); accepted: 1, 2, 3, 4, 6"
        ):
            split_by_class(LABELS, per_task)
    with pytest.raises(PlanError, match=r"cannot be made of 0 \(class\); accepted: data with at least one class"):
        split_by_class({}, 1)
    with pytest.raises(DataError, match="a class is named twice in 1, 1; accepted: each once"):
        split_by_class(LABELS, 1, classes=[1, 1])
    with pytest.raises(DataError, match=r"1 of 2 examples have no subject \(first: 'b'\); accepted"):
        split_by_subject({"a": "Ada", "b": None})


def test_wrong_groups_are_refused() -> None:
    with pytest.raises(DataError, match="no groups; accepted"):
        by_domain({})
    with pytest.raises(DataError, match="group 'web' is empty"):
        by_domain({"news": ["a"], "web": []})
    with pytest.raises(DataError, match="id 'a' is in group 'news' and again in 'web'; accepted: each id once"):
        by_domain({"news": ["a"], "web": ["a"]})
    with pytest.raises(DataError, match="id 'b' of group 'news' has no label"):
        by_domain({"news": ["a", "b"]}, labels={"a": 1})
    twice = Task("news", {"a": "x"})
    with pytest.raises(
        DataError, match="the tasks are: news, news; accepted: at least one, each with a name of its own"
    ):
        pool_of([twice, twice])
    with pytest.raises(DataError, match="the tasks are: none"):
        pool_of([])
