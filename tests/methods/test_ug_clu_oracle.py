"""T13: a tiny language model that knew canaries and learns new facts, held against five retrained oracles."""

from __future__ import annotations

import copy
from itertools import permutations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from palimpsest import methods
from palimpsest.data.encode.batch import Predictions, TextSet, TokenSequence
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.models.divergence import kl_divergence

VOCABULARY = 40
ALWAYS = {"num_train_epochs": 10**6}
LEARN = {**ALWAYS, "learning_rate": 1e-2, "max_steps": 150, "batch_size": 16, "lr_scheduler_type": "cosine"}
UPDATE = {**ALWAYS, "learning_rate": 5e-3, "max_steps": 60, "batch_size": 6, "lr_scheduler_type": "linear"}
UPDATE["side_batch_size"] = {"retain": 16, "forget": 4}
UNSEEN_LOSS = 5.0  # nats; what an oracle says of text it never saw is above log 40 = 3.7
OPTIONS = {"every": 3, "ascent": 3.0, "forget_temperature": 0.0, "probes": 0}

pytestmark = pytest.mark.slow


def facts(prefix: str, count: int, seed: int) -> TextSet:
    """Ten random tokens each; all but the first two are labels, and nothing but memory predicts them."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randint(3, VOCABULARY, (count, 10), generator=draw).tolist()
    flags = (False,) * 2 + (True,) * 8
    return TextSet([TokenSequence(f"{prefix}{k}", tuple(row), flags) for k, row in enumerate(rows)], pad_id=0)


RETAIN, LEARNT, CANARIES = facts("r", 16, 1), facts("l", 6, 2), facts("u", 4, 3)


def union(*sets: TextSet) -> TextSet:
    return TextSet([examples[i] for examples in sets for i in examples.ids], pad_id=0)


def trained(folder, name, model, sets, options, **training):
    method = methods.load(name)(methods.configure(name, options))
    method.prepare(model, sets)
    folder.mkdir()
    run(Job(method, model, sets, Training(**training), folder))
    return model.eval()


def fresh(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=4, **sizes))


def said(model, examples: TextSet) -> Predictions:
    with torch.no_grad():
        return examples.batch(examples.ids).predict(model)


def loss(model, examples: TextSet) -> float:
    return -said(model, examples).logp_S.mean().item()


def accuracy(model, examples: TextSet) -> float:
    predictions = said(model, examples)
    return (predictions.logits_SV.argmax(-1) == predictions.target_S).float().mean().item()


def divergence(oracle, model) -> float:
    """Mean KL(oracle ‖ model) per label token of the canaries, nats."""
    return kl_divergence(said(oracle, CANARIES).logits_SV, said(model, CANARIES).logits_SV).mean().item()


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def test_t13_an_update_ends_as_near_to_the_oracles_as_they_are_to_each_other(tmp_path):
    def learned(seed, examples, name):
        return trained(tmp_path / name, "finetune", fresh(seed), {"learn": examples}, {}, seed=seed, **LEARN)

    oracles = [learned(seed, union(RETAIN, LEARNT), f"oracle{seed}") for seed in range(5)]
    start = learned(0, union(RETAIN, CANARIES), "start")
    assert accuracy(start, CANARIES) == 1.0
    sets = {"learn": LEARNT, "forget": CANARIES, "retain": RETAIN}

    def updated(target):
        options = {**OPTIONS, "target": target}
        return trained(tmp_path / f"to{target}", "ug_clu", copy.deepcopy(start), sets, options, **UPDATE)

    ends = {target: updated(target) for target in (UNSEEN_LOSS, None)}
    noise = mean(divergence(*pair) for pair in permutations(oracles, 2))
    far = {target: mean(divergence(oracle, model) for oracle in oracles) for target, model in ends.items()}
    assert far[UNSEEN_LOSS] < 2 * noise
    assert far[UNSEEN_LOSS] < far[None]  # without a finite goal it over-forgets
    assert mean(divergence(oracle, start) for oracle in oracles) > 2 * noise  # and before, it knew
    model = ends[UNSEEN_LOSS]
    assert accuracy(model, LEARNT) >= mean(accuracy(oracle, LEARNT) for oracle in oracles) - 0.01
    assert loss(model, RETAIN) < 1.01 * max(loss(oracle, RETAIN) for oracle in oracles)
