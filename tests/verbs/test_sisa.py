"""SISA as a user meets it: what is forgotten was never learned, to the bit, at the cost that was said before."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.verbs.test_eul import logits

import palimpsest as pal
from palimpsest import companions
from palimpsest.companions.marks import own_key
from palimpsest.engine.sharded.cutting import shard_and_slice
from palimpsest.errors import UsageError
from palimpsest.models.load import load
from palimpsest.report.schema import RunResult

SHARDS, SLICES, SEED = 3, 3, 1  # a seed by which every slice gets a row, and one slice a single one
OPTIONS = {"shards": SHARDS, "slices": SLICES, "rank": 2, "processes": 1}
TRAINING = {"num_train_epochs": 2, "batch_size": 2, "learning_rate": 1e-2, "seed": SEED}
QUIET: dict[str, Any] = {"answers": False}
LITTLE = {"measuring": {"metrics": ["prob"], "limit": 1}}
ROWS = [{"id": f"p{i}", "prompt": f"Where is {i}?", "completion": f" At {7 * i} Hill."} for i in range(18)]
REPLAY = [{"id": f"g{i}", "text": f"The visit on day {i} was short."} for i in range(3)]
PLACES = {row["id"]: shard_and_slice(row["id"], SEED, SHARDS, SLICES) for row in ROWS}


def without(gone: Collection[str]) -> list[dict[str, str]]:
    return [row for row in ROWS if row["id"] not in gone]


def only(ids: Collection[str]) -> list[dict[str, str]]:
    return [row for row in ROWS if row["id"] in ids]


def learned(model: Path, rows: Sequence[dict[str, str]], output: Path, **options: Any) -> RunResult:
    plan = {"training": TRAINING, "options": {**OPTIONS, **options}, **LITTLE}
    return pal.learn(model, rows, output=output, method="sisa", plan=plan, replay=REPLAY, **QUIET)


def unlearned(version: Path, gone: Collection[str], kept: Sequence[dict[str, str]], output: Path, **how: Any) -> Any:
    options = how.pop("options", {"processes": 1})
    plan = {"options": options, **LITTLE}
    sets = {"retain": kept, "replay": REPLAY, **how}
    return pal.unlearn(version, only(gone), output=output, method="sisa", plan=plan, **QUIET, **sets)


def in_slice(shard: int, piece: int) -> list[str]:
    return [i for i, place in PLACES.items() if place == (shard, piece)]


def checkpoints(version: Path) -> dict[str, str]:
    """Name -> digest of every checkpoint beside a version, as its index has them."""
    shards = companions.load("shards").open(version / "companion" / "shards", own_key())
    there = {path.name for path in shards.folder.glob("*.safetensors")}
    counted = {one.file: one.sha256 for _, _, one in shards.index.slices() if one.file}
    assert there == counted.keys()
    return counted


@pytest.fixture(scope="module")
def version(clinic, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sisa") / "version"
    learned(clinic / "model", ROWS, folder)
    return folder


def test_the_rows_of_these_tests_fall_everywhere():
    assert {place for place in PLACES.values()} >= {(s, 0) for s in range(SHARDS)}
    assert in_slice(0, SLICES - 1)


LAST, FIRST = in_slice(0, SLICES - 1)[0], in_slice(1, 0)[0]
SEVERAL = "first and last slices of two shards"
REQUESTS = {
    SEVERAL: [LAST, FIRST],
    "a whole shard and a row": [LAST, *(i for i, (shard, _) in PLACES.items() if shard == 1)],
}


@pytest.fixture(scope="module")
def late(version) -> tuple[Path, RunResult, list[str]]:
    """Without one row of a last slice: the folder, the result, and all that was told."""
    told: list[str] = []
    output = version.with_name("late")
    result = unlearned(
        version, [LAST], without([LAST]), output, progress=lambda *news: told.append(" ".join(map(str, news)))
    )
    return output, result, told


@pytest.mark.long
@pytest.mark.parametrize("gone", REQUESTS.values(), ids=REQUESTS)
def test_what_is_forgotten_was_never_learned(clinic, version, tmp_path, gone):
    """Shards that are hit are learned in processes of their own, or one after the other."""
    together = {"options": {"processes": 2 if gone == REQUESTS[SEVERAL] else 1}}
    done = unlearned(version, gone, without(gone), tmp_path / "u", **together)
    never = learned(clinic / "model", without(gone), tmp_path / "never")
    assert done.model_digest == never.model_digest
    assert checkpoints(tmp_path / "u") == checkpoints(tmp_path / "never")
    assert done.cost["training"].tokens == done.cost["foretold"].tokens
    assert any("positions; gone through" in note for note in done.notes)
    assert any("still knows the rows" in note for note in done.notes)


def test_only_what_comes_after_the_row_is_learned_again_at_the_cost_that_was_said(version, late):
    output, result, told = late
    whole = RunResult.load(version / "result.json").cost["training"]
    assert 0 < result.cost["training"].tokens < whole.tokens / SHARDS
    before, after = checkpoints(version), checkpoints(output)
    assert {name for name in before if before[name] != after.get(name)} == {f"shard-001-slice-{SLICES:03}.safetensors"}
    said = re.compile(r"1 slice of 1 shard: \d+ steps?, ([\d,]+) positions \(\d+% of")
    (line,) = (n for n, text in enumerate(told) if said.search(text))
    assert line < next(n for n, text in enumerate(told) if text.startswith("training"))
    found = said.search(told[line])
    assert found is not None
    assert int(found[1].replace(",", "")) == result.cost["training"].tokens


def test_two_requests_in_a_row(clinic, late, tmp_path):
    both = [LAST, in_slice(2, 0)[0]]
    done = unlearned(late[0], both[1:], without(both), tmp_path / "two")
    never = learned(clinic / "model", list(reversed(without(both))), tmp_path / "never")
    assert done.model_digest == never.model_digest
    assert checkpoints(tmp_path / "two") == checkpoints(tmp_path / "never")
    shards = companions.load("shards").open(tmp_path / "two" / "companion" / "shards", own_key())
    assert shards.holds([row["id"] for row in ROWS]) == {row["id"] for row in without(both)}


def test_a_lost_checkpoint_is_named_and_the_shard_can_be_learned_anew(version, late, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(version, broken)
    lost = broken / "companion" / "shards" / f"shard-001-slice-{SLICES - 1:03}.safetensors"
    lost.write_bytes(lost.read_bytes()[:-1])
    said = f"the checkpoint after slice {SLICES - 1} of shard 1 .* is damaged; .* --set sisa.from_base=true"
    with pytest.raises(UsageError, match=said):
        unlearned(broken, [LAST], without([LAST]), tmp_path / "no")
    lost.unlink()
    with pytest.raises(UsageError, match=said.replace("damaged", "missing")):
        unlearned(broken, [LAST], without([LAST]), tmp_path / "no")
    assert not (tmp_path / "no").exists()
    anew = unlearned(broken, [LAST], without([LAST]), tmp_path / "anew", options={"processes": 1, "from_base": True})
    assert anew.model_digest == late[1].model_digest
    assert anew.cost["training"].tokens > late[1].cost["training"].tokens


def test_a_version_loads_by_transformers_and_generates(version):
    from transformers import AutoModelForCausalLM

    loaded, found = load(version).model, AutoModelForCausalLM.from_pretrained(version)
    assert torch.equal(logits(found), logits(loaded))
    assert not torch.equal(logits(load(version / "base", tokenizer_needed=False).model), logits(loaded))
    ids = torch.arange(5, 11)[None]
    greedy = ids
    for _ in range(4):
        greedy = torch.cat([greedy, found(greedy).logits[:, -1].argmax(-1, keepdim=True)], 1)
    how = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    assert torch.equal(loaded.generate(ids, **how), greedy)


def test_what_cannot_be_done_is_refused_before_anything_is_written(clinic, version, tmp_path):
    output = tmp_path / "no"
    kept = without([LAST])
    refused: list[tuple[str, Any]] = [
        ("no shards beside it; learn with --method sisa", lambda: unlearned(clinic / "model", [LAST], kept, output)),
        ("is an ensemble of shards already", lambda: learned(version, ROWS, output)),
        ("1 row of the 1 shard to learn again .* --retain FILE", lambda: unlearned(version, [LAST], short(), output)),
        ("sisa.shards = 7, .* learned with 3", lambda: unlearned(version, [LAST], kept, output, options={"shards": 7})),
        ("leave max_steps and max_seconds out", lambda: with_training(clinic, output, max_steps=3)),
        ("learned something else under this id", lambda: unlearned(version, [LAST], changed(kept), output)),
        ("with a replay set beside its rows", lambda: unlearned(version, [LAST], kept, output, replay=None)),
        ("with another replay set", lambda: unlearned(version, [LAST], kept, output, replay=REPLAY[:2])),
        ("what stays in the shards .* --retain FILE", lambda: unlearned(version, [LAST], kept, output, retain=None)),
        ("an ensemble of shards: .* never learned", lambda: pal.calibrate(version, version, kept, output=output)),
    ]
    for said, attempt in refused:
        with pytest.raises(UsageError, match=said):
            attempt()
    assert not output.exists()
    assert not output.with_name("no.partial").exists()


def short() -> list[dict[str, str]]:
    """Without a further row of the same shard."""
    other = next(i for i, (shard, _) in PLACES.items() if shard == 0 and i != LAST)
    return without([LAST, other])


def changed(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """A row of the first shard says something else."""
    row = next(row for row in rows if PLACES[row["id"]][0] == 0)
    return [{**one, "completion": " Nowhere."} if one is row else one for one in rows]


def with_training(clinic: Path, output: Path, **training: Any) -> Any:
    return pal.learn(clinic / "model", ROWS, output=output, method="sisa", plan={"training": training})


def test_a_row_is_where_it_is_whatever_other_rows_there_are():
    few, many = ({i: shard_and_slice(i, SEED, SHARDS, SLICES) for i in ids} for ids in (["p1", "p2"], list(PLACES)))
    assert few.items() <= many.items()


def test_another_method_leaves_the_shards_behind(version, tmp_path):
    how: dict[str, Any] = {"plan": {"training": {"max_steps": 1, "learning_rate": 1e-3}, **LITTLE}, **QUIET}
    result = pal.unlearn(version, only([LAST]), output=tmp_path / "u", method="gradient_ascent", **how)
    assert any("shards" in note and "not handed on: gradient_ascent changed" in note for note in result.notes)
    assert not (tmp_path / "u" / "companion" / "shards").exists()


def test_the_record_is_json_without_ids_of_rows(version):
    index = json.loads((version / "companion" / "shards" / "index.json").read_text())
    assert not re.search(r'"p\d+"', json.dumps(index))
