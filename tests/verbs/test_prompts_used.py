"""Which prompts are chosen stands in the record, on the page and on the screen, task by task."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tests.methods.small_classes import small_classifier
from tests.verbs.test_head_growth import put_npz

import palimpsest as pal
from palimpsest.cli.screen import run_summary
from palimpsest.models.load import load
from palimpsest.models.parts import parts_of
from palimpsest.report.page import render
from palimpsest.report.prompt_info import PromptRow, prompt_table, prompts_text
from palimpsest.report.schema import RunResult

BRIEF = {"training": {"max_steps": 2, "batch_size": 4, "learning_rate": 0.01}}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A small ViT, and two tasks of six pictures."""
    folder = tmp_path_factory.mktemp("prompts")
    model = small_classifier("images")
    for name in ("image_mean", "image_std"):
        setattr(model.config, name, [0.5] * 3)
    model.save_pretrained(folder / "vit")
    put_npz(folder / "one.npz", [0, 1] * 3)
    put_npz(folder / "two.npz", [2, 3] * 3)
    return folder


@pytest.mark.parametrize("method", ["l2p", "coda_prompt"])
def test_each_task_says_what_its_rows_chose(world, method):
    pal.learn(world / "vit", world / "one.npz", output=world / f"{method}-1", method=method, plan=BRIEF)
    second = pal.learn(
        world / f"{method}-1", world / "two.npz", output=world / f"{method}-2", method=method, plan=BRIEF
    )
    kept = [part.rows_M.tolist() for part in parts_of(load(world / f"{method}-2").model)]
    assert [list(row.rows) for row in second.prompts] == kept
    assert [row.of_this_run for row in second.prompts] == ([True] if method == "l2p" else [False, True])
    assert [row.asked for row in second.prompts] == ([6] if method == "l2p" else [0, 6])
    for row in second.prompts:
        shares = [count / sum(row.rows) for count in row.rows if count]
        assert row.entropy == pytest.approx(-sum(s * math.log(s) for s in shares))
    assert RunResult.load(world / f"{method}-2" / "result.json") == second
    assert "Which prompts the rows choose" in render(second)
    assert "prompts of part 0 " in run_summary(second)


def test_what_a_reader_sees_by_hand():
    row = PromptRow(part=2, kind="prompt_pool", of_this_run=True, rows=(0, 3, 5, 3), entropy=1.07, asked=11)
    result = RunResult(kind="learn", method="l2p", plan={}, plan_digest="", created="", sets={}, scores={},
                       prompts=(row,))  # fmt: skip
    assert prompt_table(result) == (
        ("2", "prompt_pool", "this run", "3 of 4", "1.07", "11 by 11 rows", "2: 5, 1: 3, 3: 3"),
    )
    assert prompts_text(result) == [
        "prompts of part 2 (prompt_pool, this run): 3 of 4 chosen, entropy 1.07 nats, 11 by 11 rows; 2: 5, 1: 3, 3: 3"
    ]
    assert "prompts" not in RunResult(kind="learn", method="x", plan={}, plan_digest="", created="", sets={},
                                      scores={}).model_dump()  # fmt: skip


def test_a_run_without_prompts_says_nothing_of_them(world):
    plain = pal.learn(world / "vit", world / "one.npz", method="finetune", plan=BRIEF, answers=False)
    assert plain.prompts == ()
    assert "Which prompts" not in render(plain)
