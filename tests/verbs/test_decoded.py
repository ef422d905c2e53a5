"""Decoding has a sample of its own, its cost is said first, and a learn begins without it."""

from __future__ import annotations

import pytest
import torch

import palimpsest as pal
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.engine.decoded import most_positions
from palimpsest.metrics import build
from palimpsest.metrics.evaluate import evaluate

FAST = {"training": {"learning_rate": 1e-2, "max_steps": 2, "batch_size": 4}}


def learn(clinic, output, *, sets=None, told=None, **sections) -> pal.RunResult:
    def tell(*words: object) -> None:
        if told is not None:
            told.append(words)

    plan = {**FAST, **sections}
    return pal.learn(clinic / "model", clinic / "learn.jsonl", output=output, plan=plan, progress=tell, **(sets or {}))


def test_before_a_learn_nothing_is_decoded_and_the_result_says_so(clinic, tmp_path):
    result = learn(clinic, tmp_path / "out", sets={"holdout": clinic / "holdout.jsonl"})
    for name in ("learn", "holdout"):
        assert "el_10" not in result.scores["before"][name]
        assert result.scores["after"][name]["el_10"].n > 0
        assert result.scores["before"][name]["es"].n > 0
    assert any(note.startswith("el_10: not taken before a learn") for note in result.notes)
    assert result.cost["before"].tokens < result.cost["after"].tokens


BOUND = {"set": "learn", "metric": "el_10", "at_least": 0.1, "relative_to": "before"}


@pytest.mark.parametrize(
    "asks", [{"measuring": {"metrics": ["el", "prob"]}}, {"bounds": [BOUND]}], ids=["by name", "by a gate"]
)
def test_who_asks_for_it_has_it_before_a_learn(clinic, tmp_path, asks):
    result = learn(clinic, tmp_path / "out", **asks)
    assert result.scores["before"]["learn"]["el_10"].n > 0
    assert not any("not taken" in note for note in result.notes)


def test_an_unlearning_is_measured_by_decoding_before_it(clinic, tmp_path):
    result = pal.unlearn(
        clinic / "model", clinic / "forget.jsonl", output=tmp_path / "out", retain=clinic / "retain.jsonl", plan=FAST
    )
    assert result.scores["before"]["forget"]["el_10"].n == 4
    assert not any("el_10" in note for note in result.notes)


def test_decoding_has_a_sample_of_its_own_and_the_cost_is_said_first(clinic, tmp_path):
    told: list[tuple[object, ...]] = []
    result = learn(clinic, tmp_path / "out", told=told, measuring={"decoded_limit": 5})
    after = result.scores["after"]["learn"]
    assert (after["el_10"].n, after["es"].n) == (5, 12)
    assert set(after["el_10"].by_id) < set(after["es"].by_id)
    assert any(note.startswith("el_10: of 5 of 12 learn examples") for note in result.notes)
    stage = [words[1:] for words in told if words[0] == "measuring after: learn"]
    said = next(i for i, words in enumerate(stage) if len(words) > 2)
    assert stage[said][2].startswith("(el_10 of 5 of 12 rows: at most ")
    assert stage[said][:2] == (12, 17)
    assert stage[-1] == (17, 17)


def test_the_sample_is_the_same_before_and_after(clinic, tmp_path):
    result = learn(clinic, tmp_path / "out", measuring={"decoded_limit": 5, "metrics": ["es", "el"]})
    before, after = (result.scores[column]["learn"]["el_10"].by_id for column in ("before", "after"))
    assert list(before) == list(after)


@pytest.mark.parametrize(("first", "n"), [(1, 10), (4, 2), (19, 1)])
def test_no_model_decodes_more_than_was_said(tiny_llama, first, n):
    """A random model knows next to nothing."""
    generator = torch.Generator().manual_seed(3)
    sequences = []
    for length, prompt in ((20, 1), (13, 5), (6, 5)):
        tokens = tuple(torch.randint(3, 60, (length,), generator=generator).tolist())
        sequences.append(TokenSequence(str(length), tokens, (False,) * prompt + (True,) * (length - prompt)))
    rows = TextSet(sequences, pad_id=0)
    metrics = [build("ma", {}), build("el", {"n": n, "first_prefix": first})]
    alone = evaluate(tiny_llama, rows, metrics[:1]).cost.tokens
    decoded = evaluate(tiny_llama, rows, metrics).cost.tokens - alone
    said = most_positions(rows, metrics)
    assert decoded <= said
    assert (decoded > 0) == (said > 0)  # it may be far less: what can change no count is not decoded


def test_without_a_metric_that_decodes_there_is_nothing_to_say(clinic, tmp_path):
    told: list[tuple[object, ...]] = []
    learn(clinic, tmp_path / "out", told=told, measuring={"metrics": ["prob"]})
    assert not any("positions" in str(words) for words in told)
