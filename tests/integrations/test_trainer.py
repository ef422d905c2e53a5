"""ObjectiveTrainer beside the loop: the same weights, the same interruptions, one line for what it cannot do."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from peft import LoraConfig, get_peft_model
from tests.contract.letters import letters
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments, set_seed

from palimpsest import derived, methods
from palimpsest.contract import Method, Phase
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.data.read.examples import read_rows
from palimpsest.demo.tiny_model import new_model
from palimpsest.derived.made import Made
from palimpsest.derived.nearest import random_pairs
from palimpsest.engine.inputs import encode_sets
from palimpsest.engine.plan import Plan
from palimpsest.engine.prepare import prepare_job
from palimpsest.engine.progress import silent
from palimpsest.errors import DivergedError, PlanError, UsageError
from palimpsest.integrations.given_sets import loaded_in_trainer, plan_in_trainer
from palimpsest.integrations.served import served_methods, why_not
from palimpsest.integrations.trainer import REFERENCE, ObjectiveTrainer
from palimpsest.loop import machine
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.models.load import Loaded
from palimpsest.models.reference import build_reference
from palimpsest.models.resnet import SmallResNet, resnet_config
from palimpsest.records import Example, Image

SEED = 3
SGD = {"optim": "sgd", "learning_rate": 0.05}


@pytest.fixture
def start(tiny_llama: Any) -> Any:
    """A model that is not as it was made: the incompetent teacher of ``bad_teacher`` is."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in tiny_llama.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return tiny_llama


def random_set(prefix: str, count: int, seed: int) -> TextSet:
    """Ragged random sequences over the vocabulary of ``tiny_llama``; the first tokens are no labels."""
    generator = torch.Generator().manual_seed(seed)
    sequences = []
    for number in range(count):
        length, prompt = int(torch.randint(5, 13, (1,), generator=generator)), 1 + number % 3
        tokens = torch.randint(3, 61, (length,), generator=generator).tolist()
        flags = (False,) * prompt + (True,) * (length - prompt)
        sequences.append(TokenSequence(f"{prefix}{number}", tuple(tokens), flags))
    return TextSet(sequences, pad_id=0)


SETS = {
    "forget": random_set("f", 11, 1),
    "retain": random_set("r", 14, 2),
    "learn": random_set("l", 11, 3),
    "replay": random_set("p", 5, 4),
    "holdout": random_set("h", 6, 5),
}
ON_TEXTS = [name for name in served_methods() if "text" in methods.load(name).modalities]


def sets_of(name: str) -> dict[str, TextSet]:
    """What a user would give the method: all that it draws from."""
    kind = methods.load(name)
    drawn = {role if role != "analogous" else "retain" for role in kind.draws_from((*SETS, "analogous"))}
    return {role: SETS[role] for role in SETS if role in drawn}


def arguments(folder: Path, **how: Any) -> TrainingArguments:
    """Small steps on the CPU that nobody watches."""
    usual = {
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "seed": SEED,
        "per_device_train_batch_size": 4,
        "lr_scheduler_type": "linear",
        "optim": "adamw_torch_fused",
        "learning_rate": 1e-3,
        "max_steps": 7,
    }
    return TrainingArguments(str(folder), **{**usual, **how})


def trainer_of(model: Any, args: TrainingArguments, name: str, **how: Any) -> ObjectiveTrainer:
    how = {"sets": sets_of(name), **how}
    if name == "icu":
        how["plan"] = {"pairing": {"random": True}, **how.get("plan", {})}
    if {"refusal", "alternative"} & {*methods.load(name).needs}:  # special tokens are told by a tokenizer
        how["processing_class"] = letters()
    return ObjectiveTrainer(model, args, method=name, **how)


def made_by_hand(role: str, model: Any, sets: dict[str, Any], folder: Path) -> Made:
    """A paired set as a run would make it: neighbours at random, anything else by its own file."""
    if role == "analogous":
        partner = random_pairs(sets["forget"], sets["retain"], seed=SEED).partner
        return Made(sets["retain"].subset(partner.values()), partner)
    loaded = Loaded(model, letters(), "toy")
    return derived.load(role).make(loaded, sets, derived.build_config(role, {}), seed=SEED, folder=folder)


def looped(model: Any, args: TrainingArguments, name: str, folder: Path, **plan: Any) -> Any:
    """The same run by the loop, prepared as the engine prepares it."""
    folder.mkdir()
    kind, config = methods.load(name), methods.configure(name, plan.get("options", {}))
    sets: dict[str, Any] = sets_of(name)
    set_seed(SEED)
    made = {role: made_by_hand(role, model, sets, folder) for role in kind.paired}
    pairs = {role: one.partner for role, one in made.items()}
    sets |= {role: one.examples for role, one in made.items()}
    wanted = {role: sets[role] for role in kind.asks_reference_on(config) if role in sets}
    places = kind.asks_outputs_of(config, model)
    how = {"batch_size": args.per_device_train_batch_size, "places": places}  # in other company the last bits differ
    method = kind(config, build_reference(model, wanted, folder / "reference", **how) if wanted else None)
    drawn = {role: sets[role] for role in kind.draws_from(sets)}
    method.prepare(model, drawn)
    training = Training(
        seed=SEED,
        optimizer="sgd" if args.optim == "sgd" else "adamw",
        momentum=0.0,
        learning_rate=args.learning_rate,
        lr_scheduler_type=str(args.lr_scheduler_type.value),
        max_grad_norm=args.max_grad_norm,
        batch_size=args.per_device_train_batch_size * args.gradient_accumulation_steps,
        micro_batch_size=args.per_device_train_batch_size,
        max_steps=args.max_steps if args.max_steps > 0 else None,
        num_train_epochs=args.num_train_epochs,
        **plan.get("training", {}),
    )
    run(Job(method, model, drawn, training, folder, pairs=pairs))
    return model


def distance(left: Any, right: Any) -> float:
    """Largest difference of two weights."""
    pairs = zip(left.parameters(), right.parameters(), strict=True)
    return max(float((a.detach() - b.detach()).abs().max()) for a, b in pairs)


def both(model: Any, tmp_path: Path, name: str, plan: dict[str, Any] | None = None, **how: Any) -> tuple[Any, Any]:
    """The model after the Trainer and after the loop."""
    args = arguments(tmp_path / "trainer", **how)
    mine, loop = copy.deepcopy(model), copy.deepcopy(model)
    trainer = trainer_of(mine, args, name, plan=plan or {})
    torch.manual_seed(99)  # whatever a user draws in between
    trainer.train()
    return mine, looped(loop, args, name, tmp_path / "loop", **(plan or {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_TEXTS)
def test_every_served_method_ends_where_the_loop_ends(start, tmp_path, name):
    mine, loop = both(start, tmp_path, name, max_steps=-1, num_train_epochs=2, gradient_accumulation_steps=2)
    assert distance(mine, start) > 1e-4
    assert distance(mine, loop) <= 1e-6


@pytest.mark.parametrize(("name", "accumulation"), [("npo", 3), ("kl", 1), ("finetune", 1), ("icu", 3)])
def test_plain_descent_ends_where_the_loop_ends(start, tmp_path, name, accumulation):
    mine, loop = both(start, tmp_path, name, gradient_accumulation_steps=accumulation, max_steps=3, **SGD)
    assert distance(mine, start) > 1e-4
    assert distance(mine, loop) <= 1e-6


@pytest.mark.parametrize(
    "how",
    [
        {"lr_scheduler_type": "cosine", "max_grad_norm": 0.3},
        {"lr_scheduler_type": "constant", "max_grad_norm": 0.0, "max_steps": -1, "num_train_epochs": 1.5},
        {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4},  # a step is more than the set holds
        {"activation_checkpointing": True, "plan": {"training": {"side_batch_size": 2}}},
        {"plan": {"options": {"alpha": 0.3}, "training": {"side_batch_size": {"retain": 9}}}},
    ],
    ids=["cosine", "epochs", "one-step-epochs", "checkpointing", "sizes"],
)
def test_options_that_both_have_mean_the_same(start, tmp_path, how):
    mine, loop = both(start, tmp_path, "grad_diff", **how)
    assert distance(mine, start) > 1e-4
    assert distance(mine, loop) <= 1e-6


def test_a_model_with_dropout_draws_what_it_draws_in_the_loop(start, tmp_path):
    start.config.attention_dropout = 0.3
    for layer in start.model.layers:
        layer.self_attn.attention_dropout = 0.3
    mine, loop = both(start, tmp_path, "npo", gradient_accumulation_steps=2)
    assert distance(mine, loop) <= 1e-6


@pytest.mark.slow
def test_bf16_casts_what_the_loop_casts(start, tmp_path, monkeypatch):
    """The loop takes bf16 where an accelerator has it; here it is made to take it on the CPU."""

    def in_bf16(job: Job) -> Accelerator:
        AcceleratorState._reset_state()
        return Accelerator(cpu=True, mixed_precision="bf16")

    monkeypatch.setattr(machine, "_accelerator", in_bf16)
    try:
        mine, loop = both(start, tmp_path, "npo", bf16=True, gradient_accumulation_steps=2, **SGD)
        whole = copy.deepcopy(start)
        trainer_of(whole, arguments(tmp_path / "whole", gradient_accumulation_steps=2, **SGD), "npo").train()
    finally:
        AcceleratorState._reset_state()
    assert distance(mine, loop) <= 1e-6
    assert distance(mine, whole) > 1e-6


class Stops(TrainerCallback):
    """Stops a run after some steps, and remembers what it was told."""

    def __init__(self, step: int = 10**9) -> None:
        self.step = step
        self.logs: list[dict[str, float]] = []
        self.begun = 0

    def on_step_begin(self, args, state, control, **given):
        self.begun += 1

    def on_log(self, args, state, control, logs=None, **given):
        self.logs.append(dict(logs))

    def on_step_end(self, args, state, control, **given):
        if state.global_step >= self.step:
            control.should_training_stop = True


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stop"), [("npo", 2), ("ewc", 3)])
def test_a_resumed_run_ends_with_the_same_bits(start, tmp_path, name, stop):
    how = {"save_strategy": "steps", "save_steps": stop, "gradient_accumulation_steps": 2, "max_steps": 5}
    whole, cut, resumed = (copy.deepcopy(start) for _ in range(3))
    trainer_of(whole, arguments(tmp_path / "whole", **how), name).train()
    args = arguments(tmp_path / "cut", **how)
    trainer_of(cut, args, name, callbacks=[Stops(stop)]).train()
    assert distance(cut, whole) > 0
    trainer = trainer_of(resumed, args, name)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 5
    assert distance(resumed, whole) == 0
    assert not (tmp_path / "cut" / REFERENCE).exists()


def test_a_checkpoint_of_another_run_is_refused(start, tmp_path):
    args = arguments(tmp_path, save_strategy="steps", save_steps=2, max_steps=4)
    first = copy.deepcopy(start)
    trainer_of(start, args, "npo").train()
    with pytest.raises(PlanError, match="another model; resume with what the run was started with"):
        trainer_of(start, args, "npo").train(resume_from_checkpoint=True)
    with pytest.raises(PlanError, match="another options"):
        trainer_of(first, args, "npo", plan={"options": {"beta": 0.7}}).train(str(tmp_path / "checkpoint-2"))
    with pytest.raises(PlanError, match=r"no objective\.json"):
        trainer_of(first, args, "npo").train(str(tmp_path))
    with pytest.raises(PlanError, match="no checkpoint in"):
        trainer_of(first, arguments(tmp_path / "empty"), "npo").train(True)
    note = json.loads((tmp_path / "checkpoint-2" / "objective.json").read_text())
    assert note["positions"]["forget"] == [1, 8]
    assert '"f' not in json.dumps(note).replace('"forget"', ""), "ids may be a person's"


def pictures(prefix: str, count: int, seed: int) -> list[Example]:
    """Noise of two classes."""
    noise = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return [Example(f"{prefix}{n}", Image(noise[n].tobytes(), (8, 8, 3), n % 2)) for n in range(count)]


@pytest.mark.slow
def test_augmented_images_are_drawn_alike_by_all(tmp_path):
    """Crops and mirror images are drawn when a step begins, also in the first step after a resume."""
    torch.manual_seed(0)
    start = SmallResNet(resnet_config("resnet20", 2, widths=(4, 4, 4), image_size=8))
    rows = {"forget": pictures("f", 9, 1), "retain": pictures("r", 12, 2)}
    plan = {"encoding": {"augment": {"padding": 1}}}
    how = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, **SGD}
    models = {name: copy.deepcopy(start) for name in ("whole", "cut", "resumed", "loop")}
    for name, stop in (("whole", 9), ("cut", 2)):
        args = arguments(tmp_path / name, **how)
        trainer = trainer_of(models[name], args, "kl", sets=rows, plan=plan, callbacks=[Stops(stop)])
        trainer.train()
    trainer_of(models["resumed"], args, "kl", sets=rows, plan=plan).train(resume_from_checkpoint=True)
    engine_run(models["loop"], plan_in_trainer(start, args, "kl", plan), rows, tmp_path / "engine", args)
    for name in ("resumed", "loop"):
        kept = zip(models["whole"].state_dict().values(), models[name].state_dict().values(), strict=True)
        assert all(torch.allclose(a.float(), b.float(), atol=1e-6) for a, b in kept), name
    assert distance(models["resumed"], models["whole"]) == 0


def engine_run(model: Any, plan: Plan, rows: Any, folder: Path, args: TrainingArguments, tokenizer: Any = None) -> Job:
    """Rows to the last step by the engine's own functions."""
    folder.mkdir()
    given = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": args.learning_rate, "lr_scheduler_type": "linear"}
    training = plan.training.model_copy(
        update={**given, "max_steps": args.max_steps, "max_grad_norm": args.max_grad_norm}
    )
    plan = plan.model_copy(update={"training": training})
    loaded = loaded_in_trainer(model, tokenizer)
    sets = encode_sets({role: read_rows(given).examples for role, given in rows.items()}, loaded, plan.encoding)
    job = prepare_job(plan, loaded, sets, folder, progress=silent, trackers=[]).job
    run(job)
    return job


@pytest.mark.slow
def test_rows_and_neighbours_are_those_of_the_engine(tmp_path):
    names = ("Ann", "Bob", "Cid", "Dot", "Eve", "Fay", "Gus", "Hal", "Ida", "Jon")
    rows = [
        {"id": n, "prompt": f"Where does {n} live?", "completion": f" {n} lives in {7 * i} Hill Road."}
        for i, n in enumerate(names)
    ]
    place = new_model(tmp_path / "model", [row["completion"] for row in rows], seed=0)
    tokenizer = AutoTokenizer.from_pretrained(place)
    mine, other = (AutoModelForCausalLM.from_pretrained(place).eval() for _ in range(2))
    (tmp_path / "retain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[3:]), encoding="utf-8")
    sets = {"forget": rows[:3], "retain": str(tmp_path / "retain.jsonl")}
    args = arguments(tmp_path / "trainer", max_steps=3, per_device_train_batch_size=2, **SGD)
    trainer = ObjectiveTrainer(mine, args, method="icu", sets=sets, processing_class=tokenizer)
    trainer.train()
    plan = plan_in_trainer(other, args, "icu", {})
    engine_run(other, plan, sets, tmp_path / "engine", args, tokenizer)
    assert distance(mine, AutoModelForCausalLM.from_pretrained(place)) > 1e-4
    assert distance(mine, other) <= 1e-6


def test_a_trainer_trains_once(start, tmp_path):
    trainer = trainer_of(start, arguments(tmp_path, max_steps=1), "finetune")
    trainer.train()
    with pytest.raises(PlanError, match="has trained; give a new ObjectiveTrainer"):
        trainer.train()


def test_callbacks_are_told_of_every_term(start, tmp_path):
    seen = Stops()
    args = arguments(tmp_path, logging_steps=2, max_steps=4, include_num_input_tokens_seen="all")
    trainer = trainer_of(start, args, "grad_diff", callbacks=[seen])
    output = trainer.train()
    rows = [row for row in seen.logs if "loss" in row]
    assert seen.begun == 4
    assert [row["learning_rate"] for row in rows] == pytest.approx([7.5e-4, 2.5e-4])
    for row in rows:
        assert row["loss"] == pytest.approx(row["term/retain"] + row["term/forget"], abs=1e-5)
        assert row["grad_norm"] > 0
    assert output.training_loss == pytest.approx(sum(row["loss"] for row in rows) / 2)
    assert trainer.state.num_input_tokens_seen > 0
    assert trainer.state.total_flos > 0
    assert trainer.num_examples(trainer.get_train_dataloader()) == 11


def test_what_a_method_says_of_itself_is_logged(start, tmp_path):
    seen = Stops()
    trainer_of(start, arguments(tmp_path, logging_steps=1, max_steps=2), "ewc", callbacks=[seen]).train()
    assert [row["method/penalty"] > 0 for row in seen.logs if "loss" in row] == [False, True]


def test_tensorboard_gets_the_terms(start, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    args = arguments(tmp_path, report_to="tensorboard", logging_steps=1, max_steps=2)
    trainer_of(start, args, "npo").train()
    (file,) = tmp_path.rglob("events.out.tfevents.*")
    read = events.EventAccumulator(str(file.parent)).Reload()
    assert {"train/loss", "train/term/forget", "train/term/retain"} <= set(read.Tags()["scalars"])
    assert len(read.Scalars("train/term/forget")) == 2


def test_an_evaluation_is_the_trainers_own(start, tmp_path):
    rows = [{"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8]}, {"input_ids": [9, 8, 7, 6], "labels": [9, 8, 7, 6]}]
    args = arguments(tmp_path, eval_strategy="steps", eval_steps=2, max_steps=4)
    seen = Stops()
    trainer = trainer_of(start, args, "npo", eval_dataset=rows, callbacks=[seen])
    trainer.train()
    with torch.no_grad():
        ids = torch.tensor([row["input_ids"] for row in rows])
        expected = float(start(input_ids=ids, labels=ids).loss)
    assert [row["eval_loss"] for row in seen.logs if "eval_loss" in row][-1] == pytest.approx(expected, abs=1e-5)


PEFT_ASKS = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def adapted(model: Any) -> Any:
    torch.manual_seed(5)
    return get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))


@PEFT_ASKS
def test_a_fresh_adapter_is_its_own_reference(start, tmp_path):
    mine, loop = adapted(copy.deepcopy(start)), adapted(copy.deepcopy(start))
    args = arguments(tmp_path / "trainer", learning_rate=1e-2)
    trainer_of(mine, args, "npo").train()
    assert distance(mine, adapted(copy.deepcopy(start))) > 1e-4
    assert distance(mine, looped(loop, args, "npo", tmp_path / "loop")) <= 1e-6


@PEFT_ASKS
def test_an_adapter_that_says_something_is_part_of_the_reference(start, tmp_path):
    """At the first step the model is its reference, and the loss of NPO 2 / beta · log 2 without the retain set."""
    model = adapted(start)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(torch.randn_like(parameter))
    seen = Stops()
    args = arguments(tmp_path, logging_steps=1, max_steps=1)
    trainer_of(model, args, "npo", sets={"forget": SETS["forget"]}, callbacks=[seen]).train()
    beta = methods.configure("npo", {}).beta
    assert seen.logs[0]["term/forget"] == pytest.approx(2 / beta * 0.693147, rel=1e-4)


def test_a_diverged_step_leaves_the_weights_of_the_one_before(start, tmp_path):
    with torch.no_grad():
        start.model.norm.weight[0] = torch.inf
    first = copy.deepcopy(start)
    with pytest.raises(DivergedError, match="step 0: loss nan; lower the learning rate"):
        trainer_of(start, arguments(tmp_path), "finetune").train()
    pairs = zip(first.parameters(), start.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def refusal(model: Any, args: Any, name: str, **how: Any) -> str:
    with pytest.raises(UsageError) as caught:
        trainer_of(model, args, name, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("scrub", "has its own stages"),
        ("sfr_on", "has its own update"),
        ("ug_clu", "has its own update and settle"),
        ("salun", "has the rule masked, which works by its own around"),
        ("random_edit", "changes the weights without steps"),
        ("clpu_der_pp", "learns in a copy of the model"),
    ],
)
def test_other_methods_are_refused_with_those_that_work(start, tmp_path, name, reason):
    said = refusal(start, arguments(tmp_path / "out"), name)
    assert reason in said
    assert said.endswith(f"a Trainer can train: {', '.join(served_methods())}")
    assert not (tmp_path / "out").exists()


def test_every_method_is_served_or_refused_with_a_reason():
    assert {"npo", "grad_diff", "kl", "gradient_ascent", "finetune", "icu", "ewc"} <= set(served_methods())
    for name in set(methods.names()) - set(served_methods()):
        assert why_not(methods.load(name), methods.configure(name, {}))


def test_a_hook_that_comes_later_is_not_served_by_chance(monkeypatch):
    monkeypatch.setattr(Method, "around", lambda self, model: None, raising=False)
    kind = type("Wrapped", (methods.load("npo"),), {"around": lambda self, model: model})
    assert why_not(kind, methods.configure("npo", {})) == "has its own around"
    assert why_not(methods.load("npo"), methods.configure("npo", {})) is None


@pytest.mark.parametrize(
    ("phases", "reason"),
    [
        (lambda self, step, planned: (Phase("a", self.sets), Phase("b", self.sets)), "takes 2 phases"),
        (lambda self, step, planned: (Phase("a", self.sets, again=True),), "no plain step"),
        (lambda self, step, planned: (Phase("a", self.sets[1:]),), "no plain step"),
        (lambda self, step, planned: (Phase(self.made, self.sets),), "only its preparation knows"),
    ],
)
def test_phases_are_looked_at(phases, reason):
    kind = type("Custom", (methods.load("npo"),), {"phases": phases})
    assert reason in (why_not(kind, methods.configure("npo", {})) or "")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"label_smoothing_factor": 0.1}, "args.label_smoothing_factor = 0.1: the loss is the method's; accepted: 0"),
        ({"auto_find_batch_size": True}, "args.auto_find_batch_size = True"),
        ({"ignore_data_skip": True}, "args.ignore_data_skip = True"),
        ({"dataloader_drop_last": True}, "args.dataloader_drop_last = True"),
        ({"train_sampling_strategy": "sequential"}, "args.train_sampling_strategy = 'sequential'"),
        (
            {"accelerator_config": {"gradient_accumulation_kwargs": {"num_steps": 2}}},
            "give gradient_accumulation_steps",
        ),
    ],
)
def test_training_arguments_that_change_a_step_are_refused(start, tmp_path, how, said):
    assert said in refusal(start, arguments(tmp_path, **how), "npo")


def test_half_precision_with_skipped_steps_is_refused(start, tmp_path):
    args = arguments(tmp_path)
    args.fp16 = True
    assert "give bf16; accepted: False" in refusal(start, args, "npo")


@pytest.mark.parametrize(("name", "what"), [("world_size", "2 processes"), ("n_gpu", "2 GPUs in one process")])
def test_one_process_on_one_device(start, tmp_path, monkeypatch, name, what):
    monkeypatch.setattr(TrainingArguments, name, property(lambda self: 2))
    assert f"{what}: this version trains in one process" in refusal(start, arguments(tmp_path), "npo")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"train_dataset": [1]}, "train_dataset was given: the examples to train on are given as sets"),
        ({"compute_loss_func": print}, "compute_loss_func was given: the loss is the method's"),
        ({"model_init": print}, "model_init was given"),
        ({"tokenizer": 1}, "unknown argument 'tokenizer'; did you mean 'processing_class'?"),
        ({"calbacks": []}, "unknown argument 'calbacks'; did you mean 'callbacks'?"),
        (
            {"plan": {"control": {}}},
            "plan.control is for Palimpsest's own loop; accepted here: derived, encoding",
        ),
        ({"plan": {"rules": [{"kind": "ema"}]}}, "plan.rules is for Palimpsest's own loop"),
        ({"plan": {"training": {"learning_rate": 1}}}, "plan.training.learning_rate: give it in TrainingArguments"),
        ({"plan": {"options": {"bta": 1}}}, "unknown option of npo 'bta'; did you mean 'beta'?"),
        ({"plan": {"training": {"side_batch_size": 1}}}, "side_batch_size of retain is 1 and gradient_accumulation"),
        ({"sets": {"retain": SETS["retain"]}}, "method 'npo' needs the forget set; give sets={'forget': ...}"),
        ({"sets": {**sets_of("npo"), "lern": SETS["learn"]}}, "unknown set 'lern'"),
        ({"sets": {**sets_of("npo"), "replay": SETS["replay"]}}, "unknown set 'replay'"),
        ({"sets": [SETS["forget"]]}, "sets is a list; accepted: a mapping"),
        (
            {"sets": {"forget": SETS["forget"], "retain": SETS["forget"]}},
            "11 ids are in both the forget and",
        ),
        ({"sets": {"forget": TextSet([], 0)}}, "the forget set is empty"),
        ({"sets": {"forget": [{"text": "abc"}]}}, "give processing_class=tokenizer"),
    ],
)
def test_what_is_given_is_checked(start, tmp_path, how, said):
    assert said in refusal(start, arguments(tmp_path, gradient_accumulation_steps=2), "npo", **how)


def test_a_model_and_its_arguments_are_what_they_should_be(start, tmp_path):
    assert "model is a str; accepted: a model in memory" in refusal("folder", arguments(tmp_path), "npo")
    for parameter in start.lm_head.parameters():
        parameter.data = parameter.data.bfloat16()
    said = refusal(start, arguments(tmp_path), "npo")
    assert "is bfloat16, where a small update rounds away; load the model with dtype=torch.float32" in said
    assert "no parameter of the model" in refusal(start.requires_grad_(False), arguments(tmp_path), "npo")
    assert "args is a dict" in refusal(torch.nn.Linear(1, 1), {}, "npo")
    assert "unknown method 'nop'" in refusal(torch.nn.Linear(1, 1), arguments(tmp_path), "nop", sets={})


def test_what_the_machine_lacks_is_said(start, tmp_path, monkeypatch):
    args = arguments(tmp_path, report_to="tensorboard")
    monkeypatch.setattr("transformers.integrations.is_tensorboard_available", lambda: False)
    assert "pip install 'palimpsest-ml[trackers]'" in refusal(start, args, "npo")
    monkeypatch.delattr(Trainer, "loss_is_scaled_for_ga")
    assert "install a newer transformers" in refusal(start, args, "npo")


class CutsShort(TrainerCallback):
    """Ends the first epoch after its first step."""

    def on_step_end(self, args, state, control, **given):
        control.should_epoch_stop = state.global_step == 1


def test_a_run_whose_epochs_were_cut_short_is_not_resumed_wrongly(start, tmp_path):
    first = copy.deepcopy(start)
    how = {"save_strategy": "steps", "save_steps": 3, "gradient_accumulation_steps": 2}
    args = arguments(tmp_path, max_steps=3, **how)
    trainer_of(start, args, "finetune", callbacks=[CutsShort()]).train()
    with pytest.raises(PlanError, match="a run whose epochs were cut short cannot be resumed"):
        trainer_of(first, arguments(tmp_path, max_steps=6, **how), "finetune").train(resume_from_checkpoint=True)


def test_a_checkpoint_of_the_model_alone_is_refused(start, tmp_path):
    args = arguments(tmp_path, save_strategy="steps", save_steps=1, max_steps=1, save_only_model=True)
    first = copy.deepcopy(start)
    trainer_of(start, args, "finetune").train()
    with pytest.raises(PlanError, match="holds the model alone"):
        trainer_of(first, args, "finetune").train(resume_from_checkpoint=True)


def test_a_smaller_learn_set_beside_a_forget_set_needs_a_length(start, tmp_path, monkeypatch):
    """The loop goes over the larger of the two; an epoch of the Trainer is a pass over the first."""
    kind = type("Both", (methods.load("finetune"),), {"uses": ("forget",)})
    monkeypatch.setattr(methods, "load", lambda name: kind)
    sets = {"learn": SETS["replay"], "forget": SETS["forget"]}
    said = refusal(start, arguments(tmp_path, max_steps=-1), "finetune", sets=sets)
    assert "give max_steps" in said


def test_importing_the_package_imports_no_torch():
    code = "import sys, palimpsest.integrations; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
