"""LRA-NPP: the path by hand, what each cut zeroes, the controls, texts as classes of tokens, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.contract.test_methods import random_set
from tests.methods.blobs import BlobNet, blob_images
from torch import nn

from palimpsest import methods
from palimpsest.errors import DataError, ModelError, NothingToEdit, PlanError
from palimpsest.methods.lra_npp import LRANPP, LRANPPConfig, cut_of, relevance_for
from palimpsest.models.class_samples import Entered
from palimpsest.models.head_edit import head_of, layer_before
from palimpsest.models.neuron_cut import Cut
from palimpsest.models.neuron_path import LinearHead

HEAD = LinearHead(torch.tensor([[2.0, 1.0, 0.0, 0.0], [0.0, 1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0]]), torch.zeros(3))
LOOKED = Entered(torch.tensor([[2.0, 2.0, 0.0, 0.0], [3.0, 1.0, 0.0, 0.0]]), torch.tensor([0, 0]), torch.tensor([0, 1]))


def path(**options) -> list[int]:
    return found(LOOKED, HEAD, LRANPPConfig(k_a=0.25, **options)).neurons


def found(looked: Entered, head: LinearHead, options: LRANPPConfig) -> Cut:
    return cut_of(looked, None, head, relevance_for(looked, head, options), options)


def test_the_path_by_hand():
    """Relevance of class 0 is (4, 2, 0, 0) and (6, 1, 0, 0): neuron 0 is first in both. Without it z_0 = (2, 1),
    z_1 = (2, 1) and z_2 = 0: still not below the best other. Without both z_0 = 0, below the mean of the others."""
    assert path() == [0, 1]


def test_a_share_that_is_given_is_taken():
    assert path(k_p=0.25) == [0]


def test_random_neurons_are_as_many():
    drawn = path(ranking="random", seed=3)
    assert len(drawn) == 2
    assert drawn == torch.randperm(4, generator=torch.Generator().manual_seed(3))[:2].tolist()


def test_relevance_starts_from_the_class_or_from_what_is_said():
    """A sample of class 1 that is called 0: of class 1 neuron 2 speaks, of what is said neuron 0."""
    wrong = Entered(torch.tensor([[3.0, 0.0, 1.0, 0.0]]), torch.tensor([1]), torch.tensor([0]))
    options = LRANPPConfig(k_a=0.25, k_p=0.25)
    assert found(wrong, HEAD, options).neurons == [2]
    assert found(wrong, HEAD, options.model_copy(update={"source": "predicted"})).neurons == [0]


def test_absolute_relevance_counts_what_speaks_against():
    head = replace(HEAD, weight_CK=torch.tensor([[1.0, -3.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]), bias_C=torch.zeros(2))
    looked = Entered(torch.tensor([[2.0, 1.0, 0.0, 0.0]]), torch.tensor([0]), torch.tensor([0]))
    options = LRANPPConfig(k_a=0.25, k_p=0.25)
    assert found(looked, head, options).neurons == [0]
    assert found(looked, head, options.model_copy(update={"relevance": "absolute"})).neurons == [1]


def test_two_classes_that_speak_against_each_other_lose_columns():
    """z_0 = a, z_1 = −a + b for a = 3 and b = 1: without its edge z_0 = 0 is still above −2; without the column
    z_0 = 0 and z_1 = 1."""
    head = LinearHead(torch.tensor([[1.0], [-1.0]]), torch.tensor([0.0, 1.0]))
    looked = Entered(torch.tensor([[3.0]]), torch.tensor([0]), torch.tensor([0]))
    assert found(looked, head, LRANPPConfig()) == Cut([0], "columns")
    assert found(looked, head, LRANPPConfig(cut="head")) == Cut([0], "head")


@pytest.fixture
def net() -> nn.Module:
    return BlobNet.learned()


def edited(net: nn.Module, **options) -> tuple[LRANPP, list[str]]:
    """The edit of class 1 of a net that tells three blobs apart, from samples it never saw."""
    images = blob_images(40, seed=9)
    of = dict(zip(images.ids, images.label_N.tolist(), strict=True))
    sets = {
        "forget": images.subset([i for i, c in of.items() if c == 1]),
        "retain": images.subset([i for i, c in of.items() if c != 1]),
    }
    method = LRANPP(LRANPPConfig(**options))
    method.prepare(net, sets)
    return method, method.edit(net.eval(), sets)


def accuracy(net: nn.Module, *, forgotten: bool) -> float:
    images = blob_images(60, seed=5)
    batch = images.batch([i for i, c in zip(images.ids, images.label_N.tolist(), strict=True) if (c == 1) == forgotten])
    with torch.no_grad():
        return float((batch.predict(net).logits_SV.argmax(1) == batch.target_S).float().mean())


def test_the_class_goes_the_others_stay_and_random_neurons_do_not_do_it(net):
    before = accuracy(net, forgotten=False)
    method, names = edited(net)
    assert names == ["inner.head.weight"]
    assert accuracy(net, forgotten=True) <= 0.05
    assert accuracy(net, forgotten=False) >= before - 0.02
    count = method.diagnostics(0.0)["neurons"]
    other = BlobNet.learned()
    assert edited(other, ranking="random")[0].diagnostics(0.0)["neurons"] == count
    assert accuracy(other, forgotten=True) >= 0.9


def test_each_cut_zeroes_what_it_says(net):
    start = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for cut, tensors in (("head", 1), ("columns", 1), ("path", 3)):
        net.load_state_dict(start)
        method, names = edited(net, cut=cut, k_p=0.25)
        path = [row["neuron"] for row in method.explanation()["neurons"]]
        expected = {name: tensor.clone() for name, tensor in start.items()}
        rows = slice(None) if cut == "columns" else 1
        for neuron in path:
            expected["inner.head.weight"][rows, neuron] = 0
            if cut == "path":
                expected["inner.hidden.weight"][neuron] = 0
                expected["inner.hidden.bias"][neuron] = 0
        assert len(names) == tensors
        assert all(torch.equal(tensor, expected[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_noise_goes_where_the_zeros_would(net, noise):
    start = net.inner.head.weight.detach().clone()
    method, _ = edited(net, noise=noise, k_p=0.25)
    moved = (net.inner.head.weight.detach() != start).nonzero().tolist()
    assert sorted(moved) == sorted([1, row["neuron"]] for row in method.explanation()["neurons"])


def test_the_bias_leaves_no_floor(net):
    _, names = edited(net, bias="lowest")
    assert names == ["inner.head.weight", "inner.head.bias"]
    assert net.inner.head.bias[1] == net.inner.head.bias.min()


def test_of_texts_the_tokens_that_nothing_keeps_are_cut(tiny_llama):
    """A language model: rows of the vocabulary, also where the embedding shares them."""
    sets = {"forget": random_set("f", 3, 1), "retain": random_set("r", 3, 2)}
    said = {name: set(s.batch(s.ids).target_S.tolist()) for name, s in sets.items()}
    start = tiny_llama.lm_head.weight.detach().clone()
    method = LRANPP(LRANPPConfig(k_p=0.1))
    method.prepare(tiny_llama, sets)
    method.edit(tiny_llama.eval(), sets)
    moved = set((tiny_llama.lm_head.weight.detach() != start).any(1).nonzero()[:, 0].tolist())
    assert moved == said["forget"] - said["retain"]


def test_unseen_rows_are_looked_at_instead(net):
    images = blob_images(40, seed=9)
    labels = dict(zip(images.ids, images.label_N.tolist(), strict=True))
    of = {c: [i for i, label in labels.items() if label == c] for c in range(3)}
    ids = {"forget": of[1][:2], "retain": of[0], "unseen": [*of[1][2:6], *of[2]]}
    sets = {name: images.subset(chosen) for name, chosen in ids.items()}
    method = LRANPP(LRANPPConfig())
    method.prepare(net, sets)
    method.edit(net.eval(), sets)
    why = method.explanation()
    assert why["set"] == "unseen"
    assert {row["of"] for row in why["neurons"]} == {4}


def test_a_class_that_stays_as_well_is_refused(net):
    images = blob_images(12, seed=9)
    sets = {"forget": images.subset(images.ids[:6]), "retain": images.subset(images.ids[6:])}
    method = LRANPP(LRANPPConfig())
    method.prepare(net, sets)
    with pytest.raises(DataError, match="a class is cut whole"):
        method.edit(net, sets)


def test_a_path_needs_a_layer_of_its_own(net):
    """Where the outputs of a layer are laid flat it has fewer rows than the head has inputs."""
    net.inner.hidden, net.inner.relu = nn.Linear(3, 8), Flat()
    with pytest.raises(ModelError, match=r"inner\.hidden has 8 rows; accepted: head, columns"):
        layer_before(net, head_of(net, "lra_npp"), blob_images(3, seed=0), "lra_npp")


class Flat(nn.Module):
    """Four of each."""

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        return a.repeat(1, 4)


def test_a_class_that_the_model_never_says_is_wrong_usage(net):
    """Its logit is the lowest of all whatever is shown, so that there is no edge to cut."""
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with torch.no_grad():
        head_of(net, "lra_npp").module.bias[1] = before[head_of(net, "lra_npp").name + ".bias"][1] = -1e4
    with pytest.raises(NothingToEdit, match="the model calls none of .* by its class, so that there is nothing to cut"):
        edited(net)
    assert NothingToEdit.exit_code == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_no_neurons_are_refused():
    with pytest.raises(PlanError, match=r"lra_npp\.k_a = 0: .*greater than 0"):
        methods.configure("lra_npp", {"k_a": 0})


def test_its_file_names_what_it_is(tmp_path: Path):
    assert methods.card("lra_npp").looks_only
