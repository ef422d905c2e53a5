"""Codebooks beyond causal models: where they sit, by which tokens they are judged, and that a topic goes alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.methods.counting import images
from tests.methods.topics_by_family import KINDS, new_model, right_of, toy_set
from tests.models.test_resnet import tiny

from palimpsest.contract import Phase
from palimpsest.errors import PlanError, UsageError
from palimpsest.loop.editing import make_edit
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.methods import configure
from palimpsest.methods.code_learn import CodeLearn
from palimpsest.methods.code_unlearn import CodeUnlearn
from palimpsest.models.parts import attach
from palimpsest.models.parts.code_firing import fired
from palimpsest.models.parts.codebook import Codebook, codebooks_of
from palimpsest.models.scope import Scope, apply_scope

PLACES = {"t5": "encoder.block.1.layer.0", "bert": "bert.encoder.layer.0", "llama": "model.layers.0"}
BOOK = {"codes": 96, "chosen": 3, "revive_every": 20, "rounds": 5}
TOPIC = 1


def begun(kind: str, **options: Any) -> tuple[CodeLearn, Any, Any]:
    """A method, its model with a new codebook, and the rows that it is to learn."""
    rows, model = toy_set(kind, "r", 60), new_model(kind)
    method = CodeLearn(configure("code_learn", {**BOOK, **options}))
    made = method.parts(model, {"learn": rows}, 0)
    for part in made:
        part.is_new = True
    apply_scope(attach(model, made), Scope())
    method.prepare(model, {"learn": rows})
    return method, model, rows


@pytest.fixture(scope="module", params=KINDS)
def coded(request, tmp_path_factory) -> tuple[str, Any]:
    method, model, rows = begun(request.param)
    training = Training(learning_rate=4e-3, max_steps=90, batch_size=20)
    run(Job(method, model, {"learn": rows}, training, tmp_path_factory.mktemp("run")))
    codebooks_of(model)[0].is_new = False
    return request.param, model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_it_sits_where_all_of_a_row_goes_through(kind):
    _, model, _ = begun(kind)
    assert codebooks_of(model)[0].config.at == PLACES[kind]
    blocks = 2 if kind == "t5" else 1
    with pytest.raises(
        PlanError, match=rf"one can sit behind {blocks} blocks of the model; accepted: 0 to {blocks - 1}"
    ):
        begun(kind, layer=blocks)


def test_a_network_of_feature_maps_is_told_what_carries_a_codebook():
    rows, model = images(range(7)), tiny()
    for options, said in (({}, "has no list of blocks"), ({"at": "layer1"}, r"layer1 answers with \(7, 4, 8, 8\)")):
        method = CodeLearn(configure("code_learn", {**BOOK, **options}))
        with pytest.raises(UsageError, match=rf"{said}.*feature maps \(CNN, ResNet\) carry no codebook"):
            method.parts(model, {"learn": rows}, 0)


def terms_of(book: Codebook, model: Any, batch: Any) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    hook = book.terms.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        model(**batch.inputs())
    hook.remove()
    return seen[0]


@pytest.mark.parametrize(("kind", "at"), [("t5", ""), ("t5", "decoder.block.1"), ("bert", ""), ("llama", "")])
def test_it_is_judged_by_all_tokens_of_each_row_alone(kind, at):
    """By a loop over rows and tokens, none of them padded."""
    method, model, rows = begun(kind, at=at)
    (book,) = codebooks_of(model)
    batch = rows.batch(rows.ids[:9])
    terms = method.loss(model, {"learn": batch}, Phase("joint", ("learn",)))
    off, size, lengths = 0.0, 0.0, set()
    for example_id in batch.ids:
        (tokens_T2,) = terms_of(book, model, rows.batch([example_id])).tolist()
        off += sum(one for one, _ in tokens_T2) / len(tokens_T2)
        size += sum(two for _, two in tokens_T2) / len(tokens_T2)
        lengths.add(len(tokens_T2))
    assert len(lengths) == (1 if at else 3)
    assert terms["mse learn"].total.item() == pytest.approx(off, rel=1e-4)
    assert terms["size learn"].total.item() == pytest.approx(size, rel=1e-4)
    assert {terms[f"{name} learn"].per for name in ("mse", "size")} == {"example"}
    assert torch.equal(fired(model, book, rows), fired(model, book, rows, batch_size=1))


def without(kind: str, model: Any, **options: Any) -> Any:
    """A copy with the codes of the topic deleted."""
    one = range(TOPIC, TOPIC + 1)
    sets = {"forget": toy_set(kind, "f", 40, one), "unrelated": toy_set(kind, "u", 40, one, replaced=True)}
    method, other = CodeUnlearn(configure("code_unlearn", {"s_prime": 6, **options})), copy.deepcopy(model)
    method.prepare(other, sets)
    make_edit(method, other, sets, seed=0)
    return other


def test_a_topic_goes_and_the_others_stay_and_it_comes_back(coded):
    kind, model = coded
    rows = toy_set(kind, "t", 45)
    before = right_of(model, rows)
    gone, drawn = without(kind, model), without(kind, model, random_codes=True)
    fell, by_chance = ([one - two for one, two in zip(before, right_of(m, rows), strict=True)] for m in (gone, drawn))
    others = [fell[topic] for topic in range(len(fell)) if topic != TOPIC]
    assert fell[TOPIC] > 0.3
    assert fell[TOPIC] >= 3 * max(others)
    assert max(by_chance) <= 0.05
    codebooks_of(gone)[0].undo(1)
    assert right_of(gone, rows) == before


def test_a_topic_that_no_word_tells_is_refused_before_the_run(coded):
    kind, _ = coded
    rows = toy_set(kind, "f", 6)
    with pytest.raises(PlanError, match="no word of the rows to forget was told"):
        CodeUnlearn(configure("code_unlearn", {})).check_rows({"forget": rows, "unrelated": rows})
    CodeUnlearn(configure("code_unlearn", {"topic": "one"})).check_rows({"forget": rows, "unrelated": rows})
