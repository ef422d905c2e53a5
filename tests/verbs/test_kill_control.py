"""A controlled run that dies in any stage ends with the same bits: sweep, round, taken back, second start, cooling."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.verbs.conftest import by_heart
from tests.verbs.test_kill import DIED, DONE, MEASURING, Deaths, in_a_fork, what_counts

import palimpsest as pal
from palimpsest.control.drive import _Drive
from palimpsest.control.hands import Hands
from palimpsest.control.snapshots import Snapshots

TRAINING = {"batch_size": 4, "side_batch_size": 4}
SHORT = {"budget": 160, "cooling": 2, "transient": 50.0, "final": 50.0}
TAKEN_BACK, STARTS_ANEW, COOLS = 2, 4, 6  # rounds
HAPPENED = {"sweep", "accepted", "taken back", "second start", "cooled"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]


def forget(clinic: Path, output: Path, *, replay: bool = True, budget: int = 160, **sections: Any) -> None:
    plan = {"training": TRAINING, "measuring": MEASURING, "control": {**SHORT, "budget": budget}, **sections}
    given = {"replay": clinic / "general.jsonl"} if replay else {}
    given |= {"retain": clinic / "retain.jsonl", "holdout": clinic / "holdout.jsonl", "answers": False}
    pal.unlearn(clinic / "learned", clinic / "forget.jsonl", output=output, method="npo", plan=plan, **given)


def adapt(clinic: Path, output: Path) -> None:
    """The same with an adapter."""
    forget(clinic, output, budget=30, scope={"kind": "lora", "merge": True})


def alone(clinic: Path, output: Path) -> None:
    """The same in the model's own words."""
    forget(clinic, output, replay=False, budget=30)


def in_cycles(clinic: Path, output: Path) -> None:
    """A method with tensors of its own, whose cycle is one round."""
    plan = {"training": TRAINING, "measuring": MEASURING, "control": {**SHORT, "budget": 30}}
    files = {"retain": clinic / "retain.jsonl", "replay": clinic / "general.jsonl", "answers": False}
    pal.unlearn(clinic / "learned", clinic / "forget.jsonl", output=output, method="ug_clu", plan=plan, **files)


def in_turns(clinic: Path, output: Path) -> None:
    """A method of two stages over two anchors, which take turns."""
    plan = {"training": TRAINING, "measuring": MEASURING, "control": {**SHORT, "budget": 30}}
    files = {"retain": clinic / "retain.jsonl", "answers": False}
    pal.unlearn(clinic / "learned", clinic / "forget.jsonl", output=output, method="scrub", plan=plan, **files)


def shown(clinic: Path, output: Path, method: str = "rmu") -> None:
    """A method that remembers what a block gave, under controls."""
    control = {"controls": {"forget": {"lowest": 0.8, "cap": 90}}} if method == "rmu" else {}
    plan = {"training": TRAINING, "measuring": MEASURING, "control": {**SHORT, "budget": 30}, **control}
    files = {"retain": clinic / "retain.jsonl", "replay": clinic / "general.jsonl", "answers": False}
    pal.unlearn(clinic / "learned", clinic / "forget.jsonl", output=output, method=method, plan=plan, **files)


def refusing(clinic: Path, output: Path) -> None:
    """A method whose set is made by the run."""
    shown(clinic, output, "idk_dpo")


def learn(clinic: Path, output: Path) -> None:
    plan = {"training": TRAINING, "measuring": MEASURING, "control": {"budget": 60, "cooling": 2}}
    given = {"replay": clinic / "general.jsonl", "plan": plan, "answers": False}
    pal.learn(clinic / "model", clinic / "learn.jsonl", output=output, **given)


class StageDeaths(Deaths):
    """Moments inside the stages of a run, each with the stage's name; going back to a snapshot is one, too."""

    stage = ""

    def moment(self, name: str, finish: Callable[[], object] = lambda: None) -> None:
        if self.stage:
            super().moment(f"{self.stage}: {name}", finish)

    def listen(self) -> None:
        super().listen()
        begin, end, restore = Hands.begin_stage, Hands.end_stage, Snapshots.restore

        def begun(hands: Hands) -> None:
            self.stage = hands.state.stage
            begin(hands)

        def ended(hands: Hands) -> None:
            end(hands)
            self.moment("written down")

        def restored(snapshots: Snapshots, number: int, *, method: bool = True) -> None:
            self.moment("going back")
            restore(snapshots, number, method=method)
            self.moment("gone back")

        Hands.begin_stage, Hands.end_stage, Snapshots.restore = begun, ended, restored


def with_deaths(verb: Callable[[Path, Path], None], clinic: Path, output: Path, dies_at: Any) -> int:
    def work() -> None:
        StageDeaths(output, dies_at).listen()
        verb(clinic, output)

    return in_a_fork(work)


def all_that_counts(folder: Path) -> dict[str, Any]:
    """What counts of any run, and the level that it went to."""
    return {**what_counts(folder), "level": json.loads((folder / "result.json").read_text())["level"]}


@pytest.fixture(scope="module")
def clinic(clinic, tmp_path_factory) -> Path:
    return by_heart(clinic, tmp_path_factory.mktemp("by-heart") / "clinic", MEASURING)


def undisturbed(verb: Callable[[Path, Path], None], clinic: Path, output: Path) -> dict[str, Any]:
    """What counts of a run in this process: those forked from it find all that it imported."""
    verb(clinic, output)
    return all_that_counts(output)


@pytest.fixture
def scripted(monkeypatch) -> None:
    """What comes after a round depends on its number alone, so that every stage comes on any machine."""
    accept = _Drive._accept

    def accepted(run: _Drive, now: Any, floors: Any, *, annealed: bool) -> None:
        number = run.state.rounds
        if number == TAKEN_BACK:
            run._refuse("as the test says", more_repairs=True)
            return
        accept(run, now, floors, annealed=annealed)
        stages = {STARTS_ANEW: "restart", COOLS: "cool"}
        run.state.stage = stages.get(number, "last" if number > COOLS else "round")
        run.state.here = max(run.state.here, run.hands._newest)

    monkeypatch.setattr(_Drive, "_accept", accepted)


def test_a_death_at_every_kind_of_moment_of_every_stage(clinic, tmp_path, scripted):
    """Every process dies at the first moment at which none died before it, until one finds no such moment and ends."""
    expected = undisturbed(forget, clinic, tmp_path / "undisturbed")
    happened = Counter(row["what"] for row in expected["rows"] if row["kind"] == "control")
    assert set(happened) == HAPPENED
    output, seen = tmp_path / "killed" / "out", []
    output.parent.mkdir()
    while (code := with_deaths(forget, clinic, output, lambda name, _count: name not in seen)) == DIED:
        seen.append((output.parent / "died-at").read_text())
    assert code == DONE
    assert all_that_counts(output) == expected
    assert {name.partition(":")[0] for name in seen} >= {"sweep", "round", "restart", "cool"}
    for stage in ("sweep", "round"):
        assert {f"{stage}: going back", f"{stage}: gone back"} < set(seen)
    assert "restart: half a file of palimpsest.models.reference" in seen
    for stage in ("sweep", "round", "restart"):
        assert f"{stage}: os.rename .partial/control/.state.json.#.tmp" in seen


@pytest.mark.parametrize(
    "verb", [forget, adapt, alone, in_cycles, in_turns, shown, refusing, learn], ids=lambda verb: verb.__name__
)
def test_a_run_that_dies_often_ends_with_the_same_bits(clinic, tmp_path, verb):
    """Five deaths one after the other, each at a random moment after the last."""
    expected = undisturbed(verb, clinic, tmp_path / "undisturbed")
    source, output, died = random.Random(0), tmp_path / "killed" / "out", []
    output.parent.mkdir()
    for _ in range(5):
        chosen = source.randrange(1, 120)
        code = with_deaths(verb, clinic, output, lambda _name, count, chosen=chosen: count == chosen)
        if code == DONE:
            break
        assert code == DIED
        died.append((output.parent / "died-at").read_text())
    if not output.exists():
        assert in_a_fork(lambda: verb(clinic, output)) == DONE
    assert len(died) >= 3, died
    assert all_that_counts(output) == expected
