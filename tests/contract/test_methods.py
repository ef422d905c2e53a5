"""What every method must pass, also one that is added tomorrow.

The toy model has first learned the forget and the retain set by heart, so that there is something to forget and
something to lose. All sequences are random tokens of ragged lengths: nothing but memory can predict them.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tests.contract.by_codes import coded_by_heart
from tests.contract.by_heart import recorded_by_heart
from tests.contract.letters import letters
from transformers import LlamaConfig, LlamaForCausalLM

from palimpsest import derived, methods
from palimpsest.companions.delta_log import DeltaLog
from palimpsest.contract import Method, Phase
from palimpsest.data.encode.batch import TextBatch, TextSet, TokenSequence
from palimpsest.data.encode.controlled import as_shown
from palimpsest.data.sets.controls import Controls
from palimpsest.data.sets.roles import given_roles
from palimpsest.derived.made import Made
from palimpsest.errors import ModelError, PlanError
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.step import micro_batches, take_step
from palimpsest.loop.training import Training
from palimpsest.method_card import MethodCard, card_of
from palimpsest.method_file import read_card
from palimpsest.models.load import Loaded, load
from palimpsest.models.reference import AdapterOff, build_reference
from palimpsest.models.scope import Scope, apply_scope, leave_scope, parameter_digests, state_digests
from palimpsest.rules.rule import Setting
from palimpsest.rules.rule_stack import RuleStack


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every method; what guards and soft prompts do, which change no weight, and learners of classes, is elsewhere."""
    cards = {name: methods.card(name) for name in methods.names()}
    moving = [name for name, card in cards.items() if "text" in card.modalities and not stands_beside(card)]
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", moving if "toy" in metafunc.fixturenames else methods.names())


def stands_beside(card: MethodCard) -> bool:
    """Does it learn a part alone, beside a model that stays as it is?"""
    return card.approach == "guard" or card.only_asks


DRAWN = {"random_label", "salun"}  # draw labels in the order of the rows
CONTROLS = {"random_edit"}  # look at no data, so they forget no more than they lose
# Times the length: refusals are learned before the answers go, what is certain hardly has a weight, nothing aims.
UNHURRIED = {"idk_dpo": 2, "jens_un": 4, "l1_sparse": 4, "sat_imp": 2}
HEADED = {"lra_npp"}  # edit the head, which a scope of layers leaves out
AIMED = {"depn", "lunar", "prune_neurons", "rep_select"}  # edit feed-forward matrices, and nothing else
NO_ADAPTER = AIMED - {"rep_select"} | HEADED | {"ssd"}  # edit the weights that an adapter lies on
PULLED = {"ewc": 1e-3, "l1_sparse": 1.0}  # by weights alone, whatever is shown of a set, no further than this
OPTIONS = {"code_unlearn": {"significance": 1.0}}  # six rows are too few for a test of many codes
VOCABULARY = 61
MEMORISED = 0.1  # nats per token; a guess costs log 61 = 4.1
BY_HEART = {"learning_rate": 2e-2, "num_train_epochs": 50, "batch_size": 16}
BRIEF = {"learning_rate": 2e-3, "num_train_epochs": 4, "batch_size": 4, "side_batch_size": 6}


def random_set(prefix: str, count: int, seed: int) -> TextSet:
    """Sequences of 5 to 12 random tokens; the first one or two are no labels."""
    generator = torch.Generator().manual_seed(seed)
    sequences = []
    for number in range(count):
        length = int(torch.randint(5, 13, (1,), generator=generator))
        tokens = torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()
        prompt = 1 + number % 2
        flags = (False,) * prompt + (True,) * (length - prompt)
        sequences.append(TokenSequence(f"{prefix}{number}", tuple(tokens), flags))
    return TextSet(sequences, pad_id=0)


def asked_otherwise(forget: TextSet) -> TextSet:
    """The same answers to other prompts: rows of what must go that nobody learned."""
    rows = [forget[i] for i in forget.ids]
    return TextSet([TokenSequence(f"u{row.id}", (3, *row.tokens[1:]), row.scored) for row in rows], pad_id=0)


def new_model() -> LlamaForCausalLM:
    """The model before it learned anything, as ``tests/conftest.py`` has it but in a wider scope."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = LlamaConfig(
            vocab_size=VOCABULARY, num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True, **sizes
        )
        return LlamaForCausalLM(config).eval()


def loss_of(model: torch.nn.Module, examples: TextSet) -> float:
    """Mean negative log-likelihood of the label tokens, nats."""
    model.eval()
    with torch.no_grad():
        return -examples.batch(examples.ids).predict(model).logp_S.mean().item()


@dataclass(frozen=True)
class Toy:
    """A model that knows forget and retain by heart, and sets of every name a method may ask for."""

    base: LlamaForCausalLM
    model: LlamaForCausalLM
    sets: Mapping[str, TextSet]
    pairs: Mapping[str, Mapping[str, str]]
    logged: tuple[LlamaForCausalLM, DeltaLog]
    coded: Callable[[], LlamaForCausalLM]

    def before(self, kind: type[Method]) -> LlamaForCausalLM:
        """The model that knows both: of a method that reads what was recorded, or needs a part, the one that has it."""
        if kind.needs_part:
            return self.coded()
        return self.logged[0] if kind.reads else self.model

    def start_of(self, kind: type[Method]) -> LlamaForCausalLM:
        """A fresh copy of the model that the method starts from."""
        return copy.deepcopy(self.base if begins_anew(kind) else self.before(kind))


def begins_anew(kind: type[Method]) -> bool:
    """Does it learn what stays on the model before it learned anything? Shards do, each on its own."""
    return kind.starts_from == "base" or kind.sharded


class Watched:
    """A set that remembers which ids were asked for."""

    def __init__(self, examples: TextSet, asked: list[str] | None = None) -> None:
        self._examples = examples
        self.asked: list[str] = asked if asked is not None else []

    @property
    def ids(self) -> tuple[str, ...]:
        return self._examples.ids

    def __len__(self) -> int:
        return len(self._examples)

    def batch(self, ids: Sequence[str]) -> TextBatch:
        self.asked += ids
        return self._examples.batch(ids)

    def subset(self, ids: Iterable[str]) -> Watched:
        return Watched(self._examples.subset(ids), self.asked)

    def plain(self) -> Watched:
        return Watched(self._examples.plain(), self.asked)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    forget, retain = random_set("f", 6, 1), random_set("r", 10, 2)
    partners = dict(zip(forget.ids, retain.ids, strict=False))
    analogous = TextSet([retain[i] for i in partners.values()], pad_id=0)
    known = TextSet([forget[i] for i in forget.ids] + [retain[i] for i in retain.ids], pad_id=0)
    base = new_model()
    model = copy.deepcopy(base)
    finetune = methods.load("finetune")(methods.configure("finetune", {}))
    finetune.prepare(model, {"learn": known})
    run(Job(finetune, model, {"learn": known}, Training(**BY_HEART), tmp_path_factory.mktemp("by-heart")))
    assert max(loss_of(model, forget), loss_of(model, retain)) < MEMORISED
    others = [role for role in given_roles() if role not in ("forget", "retain", "unseen")]
    given = {role: random_set(role, 5 + number % 2, 3 + number) for number, role in enumerate(others)}
    control = random_set("unrelated to f", 6, 99)  # rows of random tokens have no words to replace
    sets = {
        "forget": forget,
        "retain": retain,
        "unseen": asked_otherwise(forget),
        **given,
        "analogous": analogous,
        "unrelated": control,
    }
    made = made_for(Loaded(model.eval(), letters(), "toy"), sets, tmp_path_factory.mktemp("derived"))
    pairs = {"analogous": partners, **{name: of.partner for name, of in made.items()}}
    logged = recorded_by_heart(base, (retain, forget), tmp_path_factory.mktemp("logged"))
    assert max(loss_of(logged[0], forget), loss_of(logged[0], retain)) < 5 * MEMORISED
    coded = lru_cache(lambda: coded_by_heart(model, known, tmp_path_factory.mktemp("coded")))
    return Toy(base, model, {**sets, **{name: of.examples for name, of in made.items()}}, pairs, logged, coded)


def made_for(loaded: Loaded, sets: Mapping[str, TextSet], folder: Path) -> dict[str, Made]:
    """The sets that a run would make for any of the methods, as it would make them; but those that are here."""
    wanted = derived.of_needs({need for name in methods.names() for need in methods.load(name).needs} - sets.keys())
    configs = {name: derived.build_config(name, {}) for name in wanted}
    return {name: derived.load(name).make(loaded, sets, configs[name], seed=0, folder=folder) for name in wanted}


def build(toy: Toy, name: str, folder: Path, scope: Scope) -> tuple[Method, Any]:
    """Method and model as a run would have them before the first step."""
    kind = methods.load(name)
    model = apply_scope(toy.start_of(kind), scope)
    config = methods.configure(name, OPTIONS.get(name, {}))
    wanted = {s: toy.sets[s] for s in kind.asks_reference_on(config)}
    places = kind.asks_outputs_of(config, model)
    method = kind(config, build_reference(model, wanted, folder / "reference", places=places) if wanted else None)
    method.companions = {"deltas": toy.logged[1]} if kind.reads else {}
    return method, method.prepare(model, {s: toy.sets[s] for s in kind.draws_from(toy.sets)})


def pairs_of(kind: type[Method], toy: Toy) -> dict[str, Mapping[str, str]]:
    return {name: toy.pairs[name] for name in kind.paired}


def is_staged(method: Method) -> bool:
    """Has it stages of its own, with a length for each?"""
    return type(method).stages is not Method.stages


def first_phases(method: Method, sets: Mapping[str, Any]) -> list[Phase]:
    """Those of the first iteration of every stage, each once."""
    stages = method.stages({name: len(examples) for name, examples in sets.items()})
    found = [phase for s in stages for phase in (method.phases(0, 1) if s.phases is None else s.phases)]
    return list(dict.fromkeys(found))


def brief(method: Method) -> dict[str, Any]:
    """As many passes longer as the method lets iterations go by between two looks at the forget set."""
    if is_staged(method):
        return BRIEF
    looks = [any("forget" in phase.sets for phase in method.phases(step, 100)) for step in range(30)]
    between = round(len(looks) / sum(looks)) if any(looks) else 1
    return {**BRIEF, "num_train_epochs": BRIEF["num_train_epochs"] * between}


def run_method(
    toy: Toy, name: str, folder: Path, *, scope: Scope | None = None, sets: Any = None, **training: Any
) -> tuple[Method, Any]:
    """A short run by the loop; retraining gets as long as learning had."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    method, model = build(toy, name, folder, scope or Scope())
    length = BY_HEART if begins_anew(type(method)) else brief(method)
    length = {**length, "num_train_epochs": length["num_train_epochs"] * UNHURRIED.get(name, 1)}
    options = Training(**{**method.defaults, **length, **training})
    rules = rules_of(method, model, toy, folder)
    run(Job(method, model, sets or toy.sets, options, folder, pairs=pairs_of(type(method), toy), rules=rules))
    return method, model


def rules_of(method: Method, model: Any, toy: Toy, folder: Path) -> RuleStack:
    """The method's own rules, as a run would have them."""
    rules = RuleStack(method.rules(), setting=Setting(folder, 0))
    rules.prepare(model, {s: toy.sets[s] for s in method.draws_from(toy.sets)}, toy.sets)
    return rules


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


def source_of(name: str) -> Path:
    return Path(inspect.getfile(methods.load(name)))


def documentation(name: str) -> str:
    return inspect.getmodule(methods.load(name)).__doc__ or ""


def test_same_seed_same_bits(toy, tmp_path, name):
    first, second = (state_digests(run_method(toy, name, tmp_path / n, max_steps=4)[1]) for n in "ab")
    assert first == second
    assert first != state_digests(toy.start_of(methods.load(name)))


def test_only_the_named_layers_move(toy, tmp_path, name):
    if methods.card(name).needs_part:
        pytest.skip("what it changes is in a part, whatever the scope")
    before = dict(toy.start_of(methods.load(name)).named_parameters())
    scope = Scope(kind="layers", names=(r"layers\.1\.",))
    if name in HEADED:
        with pytest.raises(PlanError, match=r"lm_head\.weight, which the scope of the run freezes"):
            run_method(toy, name, tmp_path / "run", scope=scope)
        return
    _, model = run_method(toy, name, tmp_path / "run", scope=scope, max_steps=2)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    named = {n for n in before if "layers.1." in n}
    assert moved <= named
    assert moved == named or (name in AIMED and moved)


def test_does_what_it_is_for(toy, tmp_path, name):
    """Unlearning: what must go gets lost more than what must stay. Learning: the new examples are known better."""
    kind = methods.load(name)
    if "text" not in kind.modalities:
        pytest.skip("not for texts: what it does to images is in its own test")
    _, model = run_method(toy, name, tmp_path / "run")
    known = toy.before(kind)
    rise = {s: loss_of(model, toy.sets[s]) - loss_of(known, toy.sets[s]) for s in ("forget", "retain", "learn")}
    if name in CONTROLS:
        assert rise["forget"] - rise["retain"] < 0.1
    elif "unlearn" in kind.kinds:
        assert rise["forget"] > 0.1
        assert rise["forget"] > 1.5 * rise["retain"]
    else:
        assert rise["learn"] < -0.1


def test_draws_only_from_the_sets_it_declares(toy, tmp_path, name):
    kind = methods.load(name)
    watched = {s: Watched(examples) for s, examples in toy.sets.items()}
    method, _model = run_method(toy, name, tmp_path / "run", sets=watched, max_steps=3)
    asked = {s for s, examples in watched.items() if examples.asked}
    assert asked <= set(kind.draws_from(toy.sets))
    assert asked or method.edits
    if begins_anew(kind):
        everything = [i for examples in watched.values() for i in examples.asked]
        assert everything
        assert not set(everything) & set(toy.sets["forget"].ids)


def gradients(
    toy: Toy, name: str, folder: Path, size: int | None, controls: Controls | None = None, *, turned: bool = False
) -> Iterator[torch.Tensor]:
    """Gradient of each phase over the whole sets; plain descent at rate 1 moves the weights by exactly it.

    Turned: the rows of every set in the other order, those of paired sets with them.
    """
    step = -1 if turned else 1
    shown = {s: as_shown(examples, controls) for s, examples in toy.sets.items()}
    folder.mkdir()
    torch.manual_seed(0)  # of a method that draws, e.g. labels
    method, model = build(toy, name, folder, Scope())
    rules = rules_of(method, model, toy, folder)
    with torch.no_grad():
        for parameter in model.parameters():  # at the reference itself a divergence has no gradient
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    anchor = method.draws_from(toy.sets)[0]
    for phase in (phase for phase in first_phases(method, toy.sets) if phase.update):
        drawn = {s: toy.sets[s].ids[::step] for s in phase.sets}
        asked = toy.sets["forget"].ids[::step]
        drawn |= {s: tuple(toy.pairs[s][i] for i in asked) for s in phase.sets if s in method.paired}
        before = weights(model)
        parts = micro_batches(shown, drawn, anchor, size)
        assert len(parts) == (1 if size is None else min(len(ids) for ids in drawn.values()))
        how = {"phase": phase, "max_grad_norm": 0.0, "rules": rules}
        take_step(Accelerator(cpu=True), method, model, optimizer, parts, **how)
        yield before - weights(model)


@pytest.fixture(scope="module")
def at_once(toy, tmp_path_factory) -> Callable[[str], list[torch.Tensor]]:
    """The gradients of a method over all rows at once, without controls: three tests compare with them."""
    return lru_cache(lambda name: list(gradients(toy, name, tmp_path_factory.mktemp("at-once") / "run", None)))


def test_micro_batches_do_not_change_a_step(toy, at_once, tmp_path, name):
    """One row at a time or all rows at once: the same gradient but for rounding.

    A weight near 1 stores a step to 6e-8, a sum of about a hundred fp32 terms keeps a relative 1e-5; the mean of the
    means of these ragged rows would be off by several percent.
    """
    whole, cut = at_once(name), list(gradients(toy, name, tmp_path / "cut", 1))
    assert bool(whole) is not methods.card(name).edits
    for all_at_once, one_by_one in zip(whole, cut, strict=True):
        difference = (all_at_once - one_by_one).norm() / all_at_once.norm()
        assert difference < 1e-4


def test_the_order_of_rows_does_not_change_a_step(toy, at_once, tmp_path, name):
    """But where something is drawn row by row, which is another draw then."""
    turned = list(gradients(toy, name, tmp_path / "turned", None, turned=True))
    for one_way, other_way in zip(at_once(name), turned, strict=True):
        difference = float((one_way - other_way).norm() / one_way.norm())
        assert difference > 0.1 if name in DRAWN else difference < 1e-4


def test_every_loss_on_texts_is_asked_so():
    """Padding, micro-batches, order, layers and adapters: the tests above are of all methods with a loss on texts."""
    cards = {name: methods.card(name) for name in methods.names() if methods.load(name).loss is not Method.loss}
    left_out = {name for name, card in cards.items() if stands_beside(card) and "text" in card.modalities}
    assert left_out == {"uld", "spul", "prompt_tuning"}  # each in tests/methods, under its name


@pytest.mark.parametrize("controls", [Controls(temperature=2.0, lowest=0.5), Controls(cap=30.0)], ids=["shown", "cap"])
def test_controls_hold_however_a_step_is_cut(toy, at_once, tmp_path, name, controls):
    """What the objective is shown changes its gradient, for every method unchanged, however a step is cut."""
    whole, cut = (list(gradients(toy, name, tmp_path / str(size), size, controls)) for size in (None, 1))
    for all_at_once, one_by_one, without in zip(whole, cut, at_once(name), strict=True):
        assert (all_at_once - one_by_one).norm() <= 1e-4 * all_at_once.norm() + 1e-5
        if controls.cap is None:
            assert (all_at_once - without).norm() / without.norm() > 1e-2


def test_what_is_capped_moves_nothing(toy, tmp_path, name):
    """Every row of the toy sets is above the cap: but for what looks at no row, the weights stay where they are."""
    for gradient in gradients(toy, name, tmp_path / "run", None, Controls(cap=1e-9)):
        if name in PULLED:
            assert gradient.norm() < PULLED[name]
        else:
            assert torch.equal(gradient, torch.zeros_like(gradient))


def test_saves_and_reloads_to_equal_outputs(toy, tmp_path, name):
    method, model = run_method(toy, name, tmp_path / "run", max_steps=2)
    model = leave_scope(method.finish(model), Scope()).eval()
    model.save_pretrained(tmp_path / "saved")
    reloaded = load(tmp_path / "saved", tokenizer_needed=False).model
    batch = toy.sets["retain"].batch(toy.sets["retain"].ids)
    with torch.no_grad():
        assert torch.equal(batch.predict(model).logits_SV, batch.predict(reloaded).logits_SV)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_works_through_an_adapter(toy, tmp_path, name):
    """LoRA: the weights below the adapter stay as they are, and the reference is the model without it."""
    if methods.card(name).needs_part:
        pytest.skip("what it changes is in a part, and no adapter goes on one")
    before = parameter_digests(toy.start_of(methods.load(name)))
    scope = Scope(kind="lora", rank=4, lora_alpha=8.0)
    if methods.card(name).reads:  # what was recorded is of the weights below
        with pytest.raises(ModelError, match="does not have"):
            run_method(toy, name, tmp_path / "run", scope=scope)
        return
    if name in NO_ADAPTER:
        with pytest.raises(PlanError, match="scope.kind = all"):
            run_method(toy, name, tmp_path / "run", scope=scope)
        return
    method, model = run_method(toy, name, tmp_path / "run", scope=scope, max_steps=4)
    below = {
        n.replace("base_model.model.", "").replace("base_layer.", ""): d for n, d in parameter_digests(model).items()
    }
    assert {n: d for n, d in below.items() if "lora_" not in n} == before
    assert isinstance(method.reference, AdapterOff) is bool(method.asks_reference_on(method.config))
    merged = leave_scope(method.finish(model), scope)
    changed = {n for n, d in parameter_digests(merged).items() if d != before[n]}
    assert changed == {n for n in before if ("mlp." if name in AIMED else "_proj") in n}


def test_options_go_through_json_and_carry_a_meaning(name):
    schema = methods.load(name).Config
    config = methods.configure(name, {})
    assert schema.model_validate_json(config.model_dump_json()) == config
    assert all((field.description or "").strip() for field in schema.model_fields.values())


def test_an_unknown_option_is_refused(name):
    with pytest.raises(PlanError, match=f"unknown option of {name} 'no_such_option'.*accepted: "):
        methods.configure(name, {"no_such_option": 1})


def test_its_training_defaults_exist(name):
    defaults = methods.load(name).defaults
    given = Training(**defaults).model_dump(include=set(defaults))
    assert given == dict(defaults)  # each is an option of training and is taken as it stands


def test_says_when_to_use_it_and_when_not(name):
    """``palimpsest methods`` shows the first sentence behind the name, in at most 100 columns."""
    first, stop, second = methods.card(name).use_when.partition(". ")
    assert len(f"  {name:15} {'texts':7}use when {first}") <= 100
    assert stop
    assert second.startswith(("Not ", "Add "))
    assert " Not " in f" {second}"
    assert second.endswith(".")


def test_its_card_is_what_its_class_says(name):
    """Read from the file without importing it, and no other answer."""
    read, asked = read_card(name, methods.file_of(name)), card_of(name, methods.load(name))
    assert read is not None, f"{name} is written so that only its class can tell"
    assert {f.name: getattr(read, f.name) for f in fields(read) if f.name != "schema"} == {
        f.name: getattr(asked, f.name) for f in fields(asked) if f.name != "schema"
    }
    assert read.schema.model_json_schema() == asked.schema.model_json_schema()
    assert read.schema.RETIRED == asked.schema.RETIRED


def test_states_source_equation_and_departures(name):
    text = documentation(name)
    for heading in ("Source: ", "Departs from the paper: ", "Official code: "):
        assert re.search(rf"^{heading}\S", text, re.MULTILINE), f"{name} lacks {heading!r}"
    assert re.search(r"^    \S.*[=←].*\S", text, re.MULTILINE), f"{name} states no equation on an indented line"


def test_is_one_short_file_with_its_own_test(name):
    assert len(source_of(name).read_text(encoding="utf-8").splitlines()) <= 240
    assert (Path(__file__).parents[1] / "methods" / f"test_{name}.py").is_file()
