"""What must hold for every rule of the registry, on a tiny model with one objective."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.contract.test_methods import new_model, random_set

from palimpsest import methods, rules
from palimpsest.companions import companion_place
from palimpsest.companions.delta_recording import RECORDING
from palimpsest.companions.gradient_log import PastGradients, record_gradients
from palimpsest.companions.marks import own_key
from palimpsest.control.snapshots import Snapshots
from palimpsest.loop.job import Job, Repair
from palimpsest.loop.machine import Machine
from palimpsest.loop.repair import Repairer
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.models.scope import Scope, apply_scope, parameter_digests, trainable
from palimpsest.rules.past_gradients import mean_gradient
from palimpsest.rules.rule import Setting
from palimpsest.rules.rule_stack import RuleStack

SETS = {name: random_set(name, 6, seed) for seed, name in enumerate(("forget", "retain", "learn"))}
TRAINING = {"learning_rate": 1e-2, "batch_size": 4, "weight_decay": 0.1, "checkpoint_steps": 100}
RULES = rules.names()
OFF = {  # options under which a rule leaves every weight alone
    "ball": {"radius": 1e6},
    "ema": {"decay": 0.0},
    "masked": {"share": 1.0},
    "partial": {"keep": 1.0},
    "pull": {"factor": 1e-30},
    "slow_weights": {"alpha": 1.0},
    "smooth": {"rho": 0.0},
    "spring": {"strength": 0.0},
}
"""Further rules need no row: one that has none is not asked."""


class Stopped(Exception):
    """The process dies here."""


def job_of(
    folder: Path,
    kind: str | None,
    scope: Scope | None = None,
    dies_after: int | None = None,
    method: str = "grad_diff",
    **options: Any,
) -> Job:
    """Seven steps of a method, with a rule or without."""
    folder.mkdir(exist_ok=True)
    model = apply_scope(new_model(), scope or Scope())
    made = methods.load(method)(methods.configure(method, {}))
    drawn = {name: SETS[name] for name in made.draws_from(SETS)}
    made.prepare(model, drawn)
    chosen = () if kind is None else rules.chosen([{"kind": kind, **options}])
    start = past_of(folder / "start") if kind == "orthogonal_to_past" else None
    stack = RuleStack(made.rules(), [*map(rules.rule_of, chosen)], Setting(folder, 0, start))
    stack.prepare(model, drawn, SETS)

    def told(step: int, planned: int, values: Any) -> None:
        if step == dies_after:
            raise Stopped

    return Job(made, model, drawn, Training(max_steps=7, **TRAINING), folder, rules=stack, progress=told)


def past_of(start: Path) -> Path:
    """A version beside which the gradient of an earlier request lies."""
    if not start.exists():
        gradient = mean_gradient(new_model(), SETS["retain"], SETS["retain"].ids)
        record_gradients(start / RECORDING / PastGradients.kind, [(gradient, {"somebody"})])
        key = own_key()
        assert key is not None
        PastGradients.open(companion_place(PastGradients.kind, start), key).take_up(start)
    return start


def ended(job: Job) -> dict[str, str]:
    torch.manual_seed(0)
    run(job)
    return parameter_digests(job.model)


@pytest.mark.parametrize("kind", RULES)
def test_same_seed_same_bits_and_it_does_something(tmp_path, kind):
    first, second = (ended(job_of(tmp_path / name, kind)) for name in "ab")
    assert first == second
    rule = rules.load(kind)
    if rule.place != "watches" or kind in ("ema", "smooth"):
        assert first != ended(job_of(tmp_path / "without", None))


@pytest.mark.parametrize("scope", ["all", "lora"])
@pytest.mark.parametrize(
    ("method", "objective", "kind"), [("salun", "random_label", "masked"), ("ewc", "finetune", "spring")]
)
def test_two_methods_are_an_objective_and_a_rule(tmp_path, method, objective, kind, scope):
    """Bit for bit; and more than the objective alone."""
    one = ended(job_of(tmp_path / "method", None, Scope(kind=scope), method=method))
    assert one == ended(job_of(tmp_path / "rule", kind, Scope(kind=scope), method=objective))
    assert one != ended(job_of(tmp_path / "without", None, Scope(kind=scope), method=objective))


@pytest.mark.parametrize("kind", [kind for kind in RULES if kind in OFF])
def test_off_is_as_if_it_were_not_there(tmp_path, kind):
    assert ended(job_of(tmp_path / "off", kind, **OFF[kind])) == ended(job_of(tmp_path / "without", None))


@pytest.mark.parametrize("kind", RULES)
def test_what_is_frozen_stays_frozen(tmp_path, kind):
    scope = Scope(kind="layers", names=(r"layers\.1\.",))
    before = parameter_digests(new_model())
    after = ended(job_of(tmp_path / "run", kind, scope))
    moved = {name for name in after if after[name] != before[name]}
    assert moved
    assert all("layers.1." in name for name in moved)


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("step", [3, 6])
def test_a_run_that_died_goes_on_to_the_same_bits(tmp_path, kind, step, monkeypatch):
    whole = ended(job_of(tmp_path / "whole", kind))
    monkeypatch.setitem(TRAINING, "checkpoint_steps", 2)
    torch.manual_seed(0)
    with pytest.raises(Stopped):
        run(job_of(tmp_path / "dies", kind, dies_after=step))
    assert (tmp_path / "dies" / "checkpoint.safetensors").is_file()
    assert ended(job_of(tmp_path / "dies", kind)) == whole


@pytest.mark.parametrize("kind", RULES)
def test_steps_that_are_taken_back_leave_nothing_behind(tmp_path, kind):
    """As a controlled run does it: look, snap, try, go back; then the same step gives the same weights."""
    machine = Machine(job_of(tmp_path / "run", kind), bounded=True)
    snapshots = Snapshots(tmp_path / "run" / "control", machine, None)
    for _ in range(3):
        iterate(machine)
    machine.settle()
    snapshots.take(0)
    looked_at = parameter_digests(machine.job.model)
    state = {name: tensor.clone() for name, tensor in machine.rules.state().items()}
    standing = machine.state
    ends = []
    for _ in range(2):
        machine.state.anchor, machine.state.sides = standing.anchor, dict(standing.sides)
        torch.manual_seed(1)
        streams = (machine.state.anchor, dict(machine.state.sides))
        for _ in range(2):
            iterate(machine)
        machine.settle()
        ends.append(parameter_digests(machine.job.model))
        machine.state.anchor, machine.state.sides = streams
        snapshots.restore(0)
        assert parameter_digests(machine.job.model) == looked_at
        back = machine.rules.state()
        assert back.keys() == state.keys()
        assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    assert ends[0] == ends[1] != looked_at


def test_repair_is_within_the_rules_of_the_run_and_not_within_the_methods(tmp_path):
    """SalUn's mask lets half of the weights go, that of the run another tenth; repair obeys the second alone."""
    rule = {"kind": "masked", "of": "retain", "share": 0.1}
    job = job_of(tmp_path / "run", method="salun", **rule)
    job = replace(job, repair=Repair({"retain": SETS["retain"]}, Before(new_model()), rows=4, steps=1))
    machine = Machine(job)
    repairer = Repairer(machine, job.repair)
    machine.iterate(1e-2, 10)  # else there is nothing to repair
    own, added = (rule.mask for rule in machine.rules._rules)
    before = {name: p.detach().clone() for name, p in job.model.named_parameters()}
    repairer.step(1e-2)
    moved = {name: p != before[name] for name, p in trainable(job.model).items()}
    assert not any((moved[name] & ~added.mask(name)).any() for name in moved)
    assert any((moved[name] & ~own.mask(name)).any() for name in moved)


class Before:
    """The model before the run."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def predict(self, model: Any, batch: Any) -> Any:
        return batch.predict(self._model)


def iterate(machine: Machine) -> None:
    if machine.state.anchor.exhausted:
        machine.state.anchor = machine.state.anchor.restart(machine.state.anchor.ids)
    machine.iterate(1e-2, 100)


@pytest.mark.parametrize("kind", RULES)
def test_it_says_what_it_is(kind):
    rule = rules.load(kind)
    about = inspect.getmodule(rule).__doc__ or ""
    assert "Source:" in about
    assert rule.use_when
    assert not rule.use_when.endswith(".")
    assert all(field.description for field in rule.Config.model_fields.values())
    assert rule().kind == kind
    config = rule.Config()
    assert rule.Config.model_validate(json.loads(config.model_dump_json())) == config
    assert rule.decides(config)
