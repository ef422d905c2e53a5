"""What a user may ask of Flower, and what is refused without it being there."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from palimpsest.errors import MissingExtra, PlanError
from palimpsest.federated import erasers
from palimpsest.federated.going_through import Combining, check_way, combining_of


@pytest.mark.parametrize(
    ("given", "way", "apart", "said"),
    [
        ({"by": "krun"}, "here", False, "way to combine 'krun'.*krum"),
        ({"by": "median", "noise_multiplier": 1.0}, "here", False, "computed for the mean, not for 'median'"),
        ({"secret": True}, "here", False, "needs clients in processes of their own"),
        ({"secret": True, "by": "krum"}, "simulation", False, "gives the mean alone"),
        ({"secret": True}, "simulation", True, "--for learns by its own procedure"),
        ({"noise_multiplier": 0.5}, "here", True, "--for learns by its own procedure"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], way: str, apart: bool, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        combining_of(given).check(way, apart)


def test_a_value_that_is_none_is_refused_in_one_line() -> None:
    with pytest.raises(PlanError, match="^--clip = -1: .*greater than 0"):
        combining_of({"clipping_norm": -1})
    with pytest.raises(PlanError, match="way to reach clients 'simulatoin'.*simulation"):
        check_way("simulatoin")


def test_secure_aggregation_leaves_erasers_that_need_no_single_updates() -> None:
    needs = {name: erasers.load(name).needs for name in erasers.names()}
    able = tuple(name for name in needs if not needs[name])
    assert "retrain_others" in able
    for name, own in needs.items():
        if own:
            with pytest.raises(PlanError, match=rf"{name} needs single clients' updates.*--by .*retrain_others"):
                Combining(secret=True).check_eraser(name, own, able)
        else:
            Combining(secret=True).check_eraser(name, own, able)
        Combining().check_eraser(name, own, able)


def test_without_flower_the_extra_is_named() -> None:
    if importlib.util.find_spec("flwr") is not None:
        pytest.skip("Flower is installed here: nothing is missing")
    for ask in (lambda: check_way("simulation"), lambda: Combining(by="median").check("here")):
        with pytest.raises(MissingExtra, match=r"needs the package 'flwr': pip install 'palimpsest-ml\[federated\]'"):
            ask()
    Combining().check("here")
