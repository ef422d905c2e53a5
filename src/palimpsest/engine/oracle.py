"""An oracle made beside a run: the base, retrained on everything but the forget set, kept for later runs.

It lies in ``.palimpsest/oracles/<digest>`` beside the output: where the models are there is room for one more, and who
deletes the outputs deletes it with them. The digest is that of the retraining's own plan: base, content of the sets,
training options, code. The forget set is no part of it: another request on the same retain set finds the same oracle,
and what is in it cannot depend on what is to be forgotten. It is an ordinary run: killed, it goes on; its
``learned.json`` says what it learned.

It is trained as the model was, as far as that is known: a model folder that a run of ours made has its recipe in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palimpsest.data.read.new_classes import names_in_order
from palimpsest.engine.execute import execute
from palimpsest.engine.forecast import duration, most_steps, seconds_per_position, step_positions
from palimpsest.engine.given import Manner
from palimpsest.engine.head_growth import classes_beyond, grown, head_after
from palimpsest.engine.inputs import Read, check_needs, digests, encode_sets
from palimpsest.engine.origin import check_base, check_makeable
from palimpsest.engine.output import RESULT, Output
from palimpsest.engine.plan import Plan, make_plan
from palimpsest.engine.returning import check_forget
from palimpsest.engine.stages import model_digests
from palimpsest.in_words import so_many
from palimpsest.models.load import device, load, use_threads
from palimpsest.records import Example
from palimpsest.untrusted import parse_json

PLACE = Path(".palimpsest") / "oracles"
STAGE = "oracle"
REPEATED = ("seed", "optimizer", "betas", "momentum", "weight_decay", "batch_size", "micro_batch_size")


def make_oracle(plan: Plan, read: Read, manner: Manner) -> Plan:
    """Retrain an oracle for a run, or find the one that was made before.

    Args:
        plan: of the run that unlearns.
        read: its sets.
        manner: of that run; the oracle lies beside its output, and the cost is told before it starts.

    Returns:
        The plan with its oracle.

    Raises:
        UsageError: no oracle can be made for this plan, or the plan itself cannot be run; nothing was written.
    """
    check_makeable(plan)
    examples = read.examples
    check_forget(plan, examples["forget"])
    check_base(plan.model_copy(update={"digests": model_digests(plan)}), examples["forget"])
    recipe = recipe_of(plan.model, len(examples["retain"]))
    made = _made(_retraining(plan, recipe), examples, manner)
    if "learn" in plan.files:
        made = _made(_teaching(plan, made, recipe_of(plan.model, len(examples["learn"]))), examples, manner)
    return plan.model_copy(update={"oracle": str(made)})


def recipe_of(model: str, num_examples: int) -> dict[str, Any]:
    """Sections of the plan a model was trained by: training and scope; empty where no run of ours taught it.

    Args:
        model: its folder; of a run that unlearned, the recipe is that of the last run before it that learned.
        num_examples: of the set to train on; a number of steps is taken in proportion, so that the passes agree.
    """
    folder, seen = Path(model), set[Path]()
    while (values := _plan_in(folder)) is not None and folder not in seen:
        seen.add(folder)
        if values.get("kind") != "learn":
            folder = Path(str(values.get("model")))
            continue
        if dict(values.get("control") or {}).get("kind") == "auto":
            return _searched(values)
        training = dict(values.get("training", {})) | {"max_seconds": None}  # it could not be repeated bit by bit
        learned = _sizes_in(folder).get("learn", 0)
        if training.get("max_steps") is not None and learned:
            training["max_steps"] = max(1, math.ceil(training["max_steps"] * num_examples / learned))
        return {"training": training, "scope": _scope_in(values)}
    return {}


def _scope_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """The scope of a run; of one that trained parts alone none, because retraining adds no part."""
    scope = dict(values.get("scope", {}))
    return {} if scope.get("kind") == "parts" else scope


def _searched(values: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of a run that found its own rate: to find one again, with the same optimizer and batches."""
    training = {key: values["training"][key] for key in REPEATED if key in values.get("training", {})}
    return {"training": training, "control": dict(values["control"]), "scope": _scope_in(values)}


def _plan_in(folder: Path) -> dict[str, Any] | None:
    return _json(folder / "plan.json")


def _sizes_in(folder: Path) -> dict[str, int]:
    sets = (_json(folder / RESULT) or {}).get("sets", {})
    return {name: int(info.get("n", 0)) for name, info in sets.items()}


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _retraining(plan: Plan, recipe: Mapping[str, Any]) -> Plan:
    """The base, trained on the retain set and the replay; model and base are one, so that only the base counts."""
    files = {name: plan.files[name] for name in ("retain", "replay") if name in plan.files}
    fields = {"kind": "unlearn", "method": "retrain", "files": files, "model": plan.base, "base": plan.base}
    lacking = classes_beyond(str(plan.base), plan.model_copy(update={"head": None}))
    head = {"added": list(lacking)} if lacking else _new_head(plan)
    return _plan(plan, fields, {**recipe, **({"head": head} if head else {})})


def _new_head(plan: Plan) -> dict[str, Any]:
    """A new head for the base, where the model that was taught from it got one, too."""
    folder, seen = Path(plan.model), set[Path]()
    while (values := _plan_in(folder)) is not None and folder not in seen:
        seen.add(folder)
        if dict(values.get("head") or {}).get("kind") == "new":
            now = head_after(plan.model_copy(update={"head": None}))
            return {} if now is None else {"kind": "new", "added": list(names_in_order(now))}
        folder = Path(str(values.get("model")))
    return {}


def _teaching(plan: Plan, oracle: Path, recipe: Mapping[str, Any]) -> Plan:
    """What an update learns as well, taught to the retrained model while the retain set is rehearsed."""
    files = {"learn": plan.files["learn"], "replay": plan.files["retain"]}
    head = {} if plan.head is None else {"head": plan.head.model_dump()}
    return _plan(
        plan, {"kind": "learn", "method": "finetune", "files": files, "model": str(oracle)}, {**recipe, **head}
    )


def _plan(plan: Plan, fields: Mapping[str, Any], recipe: Mapping[str, Any]) -> Plan:
    sections = {"encoding": plan.encoding.model_dump(), "measuring": {"limit": 100}, "gates": []}
    return make_plan({**fields, "revision": plan.revision}, {**sections, **recipe})


def _made(plan: Plan, examples: Mapping[str, list[Example]], manner: Manner) -> Path:
    """The folder of a run, which is run unless it is there."""
    sets = {name: examples[_read_as(name, plan)] for name in plan.files}
    resolved = plan.model_copy(update={"digests": {**digests(sets), **model_digests(plan)}})
    folder = manner.output.parent / PLACE / resolved.digest()[:16]
    if Output(folder).finished(resolved):
        manner.progress(f"{STAGE}: made before", 1, 1, str(folder))
        return folder
    manner.progress(f"{STAGE}: retraining", 0, 1, cost_before(resolved, sets, manner.threads))

    def tell(stage: str, done: int, total: int, note: str = "") -> None:
        manner.progress(f"{STAGE}: {stage}", done, total, note)

    check_needs(plan)
    execute(plan, Read(sets), Manner(folder, tell, manner.threads, answers=False))
    return folder


def _read_as(name: str, plan: Plan) -> str:
    """In the run that teaches, the retain set is rehearsed."""
    return "retain" if plan.kind == "learn" and name == "replay" else name


def cost_before(plan: Plan, sets: Mapping[str, list[Example]], threads: int | None) -> str:
    """What a retraining will cost, in words: rows, steps, positions, and seconds from one step that is timed.

    Args:
        plan: of the retraining.
        sets: what it reads.
        threads: as for the run.
    """
    source = plan.model
    loaded = grown(load(source, revision=plan.revision), plan)
    use_threads(loaded.model, threads)
    loaded.model.to(device())
    encoded = encode_sets(sets, loaded, plan.encoding)
    steps = most_steps(plan, encoded)
    positions = step_positions(plan, encoded) * steps
    per_position = seconds_per_position(loaded.model, next(iter(encoded.values())), plan.training.batch_size)
    said = ", ".join(f"{so_many(len(chosen), 'row')} of {name}" for name, chosen in encoded.items())
    most = "at most " if plan.control.kind == "auto" else ""
    size = f"{most}{so_many(steps, 'step')}, about {positions:,.0f} positions"
    return f"{said}; {size}, about {duration(per_position * positions)} for these alone"
