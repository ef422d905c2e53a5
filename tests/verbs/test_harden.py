"""Hardening as a user meets it: its limits, its record, what it refuses, and a death at any moment."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.models.small_texts import labelled_rows, saved
from tests.verbs.test_kill import DIED, DONE, run_with_deaths

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.contract import Config
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.engine import hardening
from palimpsest.engine.hardening_plan import HardeningPlan
from palimpsest.engine.said_again import SaidAgain
from palimpsest.errors import DataError, PlanError
from palimpsest.loop.repair import Keeping
from palimpsest.models.load import load
from palimpsest.models.noised import xavier
from palimpsest.report.schema import RunResult

TRAINING = {"batch_size": 4, "learning_rate": 5e-3, "max_steps": 60}
MEASURING = {"metrics": ["es"]}
FAST = {"epochs": 3.0, "batch_size": 4, "measuring": MEASURING}


@pytest.fixture(scope="module")
def town(clinic, tmp_path_factory) -> Path:
    """The clinic with ``learned``, which knows its rows, and ``ga``, which forgot some."""
    folder = tmp_path_factory.mktemp("harden") / "clinic"
    shutil.copytree(clinic, folder)
    pal.learn(
        folder / "model",
        folder / "learn.jsonl",
        output=folder / "learned",
        plan={"training": TRAINING, "measuring": MEASURING},
    )
    ascent = {"training": {"batch_size": 4, "learning_rate": 1e-3, "max_steps": 10}, "measuring": MEASURING}
    how = {"retain": folder / "retain.jsonl", "method": "gradient_ascent"}
    pal.unlearn(folder / "learned", folder / "forget.jsonl", output=folder / "ga", plan=ascent, **how)
    return folder


def harden(town: Path, output: Path, **how) -> RunResult:
    given = {"forget": town / "forget.jsonl", **FAST, **how}
    return pal.harden(town / "ga", town / "retain.jsonl", output=output, **given)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load(folder).model.state_dict()


@pytest.fixture(scope="module")
def done(town, tmp_path_factory) -> tuple[Path, RunResult]:
    output = tmp_path_factory.mktemp("done") / "h"
    return output, harden(town, output, alpha=0.3)


def test_it_learns_again_what_the_model_said_and_the_record_is_whole(town, done):
    output, result = done
    drowned = {n: 0.7 * w + 0.03 * xavier(n, w, 0) for n, w in weights(town / "ga").items()}
    far = {n: (weights(output)[n] - w).norm().item() for n, w in drowned.items()}
    assert all(value > 0 for value in far.values())
    assert result.scores["after"]["retain"]["es"].value > 0
    assert pal.verify(output).holds
    assert (output / "learned.json").read_text() == (town / "ga" / "learned.json").read_text()
    assert RunResult.load(output / "result.json") == result
    assert set(result.scores) == {"before", "after"}
    assert result.verdict is None
    assert any("stayed forgotten" in note or "came back" in note for note in result.notes)
    page = (output / "report.html").read_text()
    assert "Hardening report" in page
    with pytest.raises(DataError, match="a hardening is not judged"):
        pal.judge(output)


def test_without_noise_it_is_the_model_itself(town, tmp_path):
    result = harden(town, tmp_path / "same", alpha=0.0)
    before, after = weights(town / "ga"), weights(tmp_path / "same")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert result.stopped == "nothing to do at alpha 0"


def test_with_all_of_it_nothing_of_the_model_is_left(town, tmp_path, monkeypatch):
    """The same rows, and the same answers to learn: another model of the same shape ends in the same place."""
    started = []
    monkeypatch.setattr("palimpsest.engine.hardening.run", lambda job: started.append(job) or _stop(job))
    with pytest.raises(_StoppedError):
        harden(town, tmp_path / "fresh", alpha=1.0, seed=3)
    for name, weight in started[0].model.named_parameters():
        assert torch.equal(weight, (0.1 * xavier(name, weight, 3)).to(weight.dtype))


def test_what_is_given_to_keep_is_taught(town, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr("palimpsest.engine.hardening.run", lambda job: started.append(job) or _stop(job))
    with pytest.raises(_StoppedError):
        harden(town, tmp_path / "more", alpha=0.5, general=town / "general.jsonl")
    assert set(started[0].sets) == {"retain", "general"}
    assert started[0].stopping is not None


def test_it_ends_when_what_stays_is_said_as_before():
    """The mean over all positions, by loops; rows of other lengths, more of them than go through at once."""
    rows = [
        TokenSequence(f"r{n}", tuple((n + k) % 5 for k in range(2 + n)), (False,) + (True,) * (1 + n))
        for n in range(11)
    ]
    taught = TextSet(rows, pad_id=0)
    before, after = Says(0.0), Says(0.5)
    method = Keeping(Config(), before)
    divergences = []
    for row in rows:
        for token in row.tokens[:-1]:
            p, q = (model.table_VV[token].softmax(0) for model in (before, after))
            divergences.append(float((p * (p / q).log()).sum()))
    enough = SaidAgain(method, taught, taught)
    check = enough.check(after, 3)
    assert enough.divergence == pytest.approx(sum(divergences) / len(divergences), rel=1e-5)
    assert check.scores == {"retain.kl": enough.divergence}
    assert (check.active, check.satisfied) == (taught.ids, None)
    assert "as before" in SaidAgain(method, taught, taught).check(before, 3).satisfied


class Says(torch.nn.Module):
    """Logits by the token alone; as a reference, what it says itself."""

    def __init__(self, farther: float) -> None:
        super().__init__()
        drawn = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(0))
        self.table_VV = torch.nn.Parameter(drawn[0] + farther * drawn[1], requires_grad=False)

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=self.table_VV[input_ids])

    def predict(self, model, batch):
        return batch.predict(self)


@pytest.mark.parametrize(("after", "said"), [(0.44, "es 0.50 before and 0.44 after; give more epochs"), (0.46, "")])
def test_what_did_not_come_back_is_said(after, said):
    found = {"before": 0.5, "after": after}
    columns = {name: ({"retain": {"es": SimpleNamespace(value=value)}}, None) for name, value in found.items()}
    assert said in hardening._what_was_lost(columns)
    assert bool(said) == bool(hardening._what_was_lost(columns))


class _StoppedError(Exception):
    pass


def _stop(job):
    raise _StoppedError


def quietly(folder: Path, output: Path) -> None:
    harden(folder, output, alpha=0.3)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_death_at_any_moment_leaves_a_whole_folder_or_none(town, done, tmp_path):
    seen: list[str] = []
    output = tmp_path / "h"
    while (code := run_with_deaths(quietly, town, output, lambda name, _count: name not in seen)) == DIED:
        seen.append((tmp_path / "died-at").read_text())
        assert not output.exists() or (output / "result.json").is_file()
    assert code == DONE
    assert RunResult.load(output / "result.json").model_digest == done[1].model_digest
    for name in ("plan.json", "remembered", "learned.json", "result.json"):
        assert name in " ".join(seen)


@pytest.mark.parametrize("options", [{"alpha": 1.5}, {"alpha": 0.5, "beta": 0.0}, {"alpha": 0.5, "epochs": -1.0}])
def test_what_cannot_be_is_refused(town, tmp_path, options):
    with pytest.raises(PlanError, match=r"^(alpha is 1.5; accepted: 0|harden\.(beta|epochs) = )"):
        harden(town, tmp_path / "no", **options)
    assert not (tmp_path / "no").exists()


def test_what_was_forgotten_is_not_taught_again(town, tmp_path, capsys):
    with pytest.raises(DataError, match="leave them out of what is taught again"):
        pal.harden(town / "ga", town / "learn.jsonl", alpha=0.5, output=tmp_path / "no")
    code = main(["harden", str(town / "ga"), "--retain", str(town / "learn.jsonl"), "--alpha", "2", "--output", "no"])
    assert code == 2
    assert "alpha is 2; accepted: 0 (the model as it is) to 1" in capsys.readouterr().err
    assert HardeningPlan(model="m", files={}, alpha=0.5, beta=1, epochs=1).kind == "harden"


def test_a_classifier_of_texts_is_hardened_and_measured_as_one(tmp_path):
    model = saved("bert", tmp_path / "bert")
    result = pal.harden(model, labelled_rows(), alpha=0.2, epochs=1.0, output=tmp_path / "hard")
    assert set(result.scores["after"]["retain"]) == {"accuracy"}
