"""Learners that count, as a user runs them: what would change nothing is refused early; a death in the edit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.models.test_resnet import tiny
from tests.verbs.test_head_growth import put_npz

import palimpsest as pal
from palimpsest import companions
from palimpsest.companions.marks import own_key
from palimpsest.errors import DataError
from palimpsest.methods.icarl import ICaRL
from palimpsest.methods.ranpac import RanPAC
from palimpsest.models.parts.parts_folder import files_in

BRIEF = {"training": {"max_steps": 2, "batch_size": 8}}


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """start/, of three classes; a.npz; and ranpac/ and icarl/, which learned it."""
    folder = tmp_path_factory.mktemp("kept")
    tiny().save_pretrained(folder / "start")
    put_npz(folder / "a.npz", [0, 1, 2] * 4)
    for method, plan in (("ranpac", {}), ("icarl", {**BRIEF, "options": {"per_class": 2}})):
        pal.learn(folder / "start", folder / "a.npz", output=folder / method, method=method, plan=plan)
    return folder


def some(kept: Path, place: Path, *, exemplars: bool) -> Path:
    """A file of the rows that are exemplars of icarl/, but one, or of those that are none."""
    key, rows = own_key(), np.load(kept / "a.npz")
    assert key is not None
    held = companions.load("class_statistics").open(statistics(kept / "icarl"), key).holds(rows["name"].tolist())
    assert len(held) == 6
    chosen = np.array([(name in held) == exemplars for name in rows["name"]]) & (rows["name"] != max(held))
    np.savez(place / "some.npz", **{field: rows[field][chosen] for field in ("x", "y", "name")})
    return place / "some.npz"


def statistics(version: Path) -> Path:
    return companions.companion_place("class_statistics", version)


def bits(version: Path) -> dict[str, bytes | str]:
    """Of the head and of what is counted."""
    of_parts = {name: path.read_bytes() for name, path in files_in(version).items() if name.endswith(".safetensors")}
    assert of_parts
    return {**of_parts, "kept": companions.load("class_statistics").open(statistics(version), own_key()).digest()}


def test_rows_that_are_counted_already_are_refused_and_nothing_is_written(kept, tmp_path):
    wanted = r"all 12 rows to learn, first 'a-0', are counted already in the class statistics of .*not learned yet"
    with pytest.raises(DataError, match=wanted):
        pal.learn(kept / "ranpac", kept / "a.npz", output=tmp_path / "again", method="ranpac")
    assert not [*tmp_path.iterdir()]


def test_rows_none_of_which_is_an_exemplar_are_refused_and_nothing_is_written(kept, tmp_path):
    rows = some(kept, tmp_path, exemplars=False)
    with pytest.raises(DataError, match=r"none of 6 rows to delete, first 'a-\d+', is an exemplar of .*scrub, ug_clu"):
        pal.unlearn(kept / "icarl", rows, output=tmp_path / "gone", method="icarl")
    assert [*tmp_path.iterdir()] == [rows]


@pytest.mark.parametrize("kind", [RanPAC, ICaRL])
def test_a_death_in_the_edit_changes_no_bit(kept, tmp_path, monkeypatch, kind):
    """What was written of the statistics until then is written anew."""
    name = kind.__module__.rpartition(".")[2]
    start, rows = kept / name, some(kept, tmp_path, exemplars=True)

    class DeadError(BaseException):
        """The process is gone."""

    def dies(method, model, sets):
        edits(method, model, sets)
        raise DeadError

    edits = kind.edit
    with monkeypatch.context() as patched:
        patched.setattr(kind, "edit", dies)
        with pytest.raises(DeadError):
            pal.unlearn(start, rows, output=tmp_path / "cut", method=name)
    assert not (tmp_path / "cut").exists()
    pal.unlearn(start, rows, output=tmp_path / "cut", method=name)
    pal.unlearn(start, rows, output=tmp_path / "whole", method=name)
    assert bits(tmp_path / "cut") == bits(tmp_path / "whole") != bits(start)


def test_rows_that_the_head_still_names_are_no_failed_deletion(kept, tmp_path):
    """What never counted them may name them, too; the advice asks for a level, and not for a stronger edit."""
    alike = np.repeat(np.load(kept / "a.npz")["x"][:3], 5, axis=0)  # but for one channel of one place
    alike[:, 0, 0, 0] = np.arange(15)
    rows = {"x": alike, "y": np.repeat([0, 1, 2], 5), "name": np.array([f"like-{n}" for n in range(15)])}
    np.savez(tmp_path / "all.npz", **rows)
    np.savez(tmp_path / "one.npz", **{field: value[:1] for field, value in rows.items()})
    pal.learn(kept / "start", tmp_path / "all.npz", output=tmp_path / "means", method="simple_cil")
    result = pal.unlearn(tmp_path / "means", tmp_path / "one.npz", output=tmp_path / "gone", method="simple_cil")
    assert (
        result.scores["before"]["forget"]["accuracy"].value == result.scores["after"]["forget"]["accuracy"].value == 1
    )
    assert result.verdict.outcome == "undecided"
    assert "a head that never saw it may know it as well" in result.verdict.gates[0].sentence
    assert any("--holdout FILE" in line for line in result.advice)
    assert not any("Edit more strongly" in line for line in result.advice)
