"""A version with parts: attached, off, saved, loaded, folded; and every way in which its folder can be broken."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from palimpsest.errors import ModelError
from palimpsest.models import parts
from palimpsest.models.load import check_folder, load, source_digest
from palimpsest.models.parts.with_parts import folded, write_version
from palimpsest.models.places import ffn_outputs

ROWS = torch.arange(12).reshape(2, 6)


def said(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ROWS).logits.clone()


def made(kind: str, place: str, seed: int = 0, width: int = 32):
    torch.manual_seed(seed)
    return parts.load(kind)(parts.part_options(kind, {"at": place, "width": width}))


@pytest.fixture
def with_nudges(own_parts, tiny_llama):
    """The tiny Llama with one part after each network."""
    return parts.attach(tiny_llama, [made("nudge", f"model.layers.{i}.mlp", i) for i in range(2)])


def test_a_part_acts_as_its_equation_says_and_alpha_scales_it(own_parts, tiny_llama):
    """By hand, on the output of the module itself."""
    seen = []
    mlp = tiny_llama.model.layers[1].mlp
    mlp.register_forward_hook(lambda _m, _i, out: seen.append(out))
    part = made("nudge", "model.layers.1.mlp")
    plain = said(tiny_llama)
    parts.attach(tiny_llama, [part])
    whole = said(tiny_llama)
    assert not torch.equal(plain, whole)
    hidden = seen[0]
    by_hand = hidden + torch.tanh(hidden @ part.down.weight.T + part.down.bias) @ part.up.weight.T + part.up.bias
    torch.testing.assert_close(part.acting(hidden), by_hand)
    part.alpha = 0.5
    torch.testing.assert_close(part.acting(hidden), (hidden + by_hand) / 2)
    part.alpha = 0
    assert torch.equal(said(tiny_llama), plain)


def test_off_is_the_model_without_and_may_be_nested(with_nudges):
    first, _ = parts.parts_of(with_nudges)
    whole = said(with_nudges)
    with parts.off(with_nudges):
        plain = said(with_nudges)
        with parts.off(with_nudges, [first]):
            assert torch.equal(said(with_nudges), plain)
        assert torch.equal(said(with_nudges), plain)
    assert torch.equal(said(with_nudges), whole)
    with parts.off(with_nudges, [first]):
        assert not torch.equal(said(with_nudges), plain)
        assert not torch.equal(said(with_nudges), whole)
    parts.detach(with_nudges)
    assert torch.equal(said(with_nudges), plain)
    assert not hasattr(with_nudges, "palimpsest_parts")
    assert "save_pretrained" not in vars(with_nudges)


def test_names_of_the_model_stay_and_those_of_the_parts_are_their_numbers(own_parts, tiny_llama):
    before = list(tiny_llama.state_dict())
    parts.attach(tiny_llama, [made("gain", "model.layers.0.mlp")])
    parts.attach(tiny_llama, [made("nudge", "model.layers.0.mlp")])
    names = list(tiny_llama.state_dict())
    assert names[: len(before)] == before
    assert names[len(before) :] == [
        "palimpsest_parts.0.gain_D",
        *(f"palimpsest_parts.1.{n}.{w}" for n in ("down", "up") for w in ("weight", "bias")),
    ]


def test_what_is_taken_off_leaves_the_others_in_their_order(own_parts, tiny_llama):
    """A gain and a nudge at one place do not commute."""
    gain, nudge, last = (
        made("gain", "model.layers.0.mlp"),
        made("nudge", "model.layers.0.mlp"),
        made("gain", "lm_head", 5, 61),
    )
    parts.attach(tiny_llama, [gain, nudge])
    wanted = said(tiny_llama)
    parts.detach(tiny_llama)
    parts.attach(tiny_llama, [last, gain, nudge])
    assert parts.detach(tiny_llama, [last]) == (last,)
    assert torch.equal(said(tiny_llama), wanted)
    parts.detach(tiny_llama)
    parts.attach(tiny_llama, [nudge, gain])
    assert not torch.equal(said(tiny_llama), wanted)


def test_a_place_that_is_not_there_attaches_nothing(own_parts, tiny_llama):
    with pytest.raises(ModelError, match=r"has no module 'model.layers.7.mlp'; did you mean 'model.layers.\d.mlp'\?"):
        parts.attach(tiny_llama, [made("gain", "model.layers.0.mlp"), made("gain", "model.layers.7.mlp")])
    assert parts.parts_of(tiny_llama) == ()
    assert not tiny_llama.model.layers[0].mlp._forward_hooks


def test_a_copy_has_parts_of_its_own(with_nudges):
    twin = copy.deepcopy(with_nudges)
    wanted = said(with_nudges)
    with torch.no_grad():
        parts.parts_of(twin)[0].up.bias += 1
    assert torch.equal(said(with_nudges), wanted)
    assert not torch.equal(said(twin), wanted)
    parts.detach(with_nudges)
    assert len(parts.parts_of(twin)) == 2


def saved(model, folder: Path) -> Path:
    write_version(model.eval(), folder)
    return folder


def test_saved_and_loaded_the_bits_are_the_same_and_the_base_is_plain(with_nudges, tmp_path, tiny_llama):
    parts.parts_of(with_nudges)[1].alpha = 0.25
    wanted = said(with_nudges)
    folder = saved(with_nudges, tmp_path / "v")
    assert torch.equal(said(with_nudges), wanted)  # saving took nothing off
    found = load(folder, tokenizer_needed=False)
    assert torch.equal(said(found.model), wanted)
    assert type(found.model).__name__ == "LlamaForCausalLM"
    assert [part.alpha for part in parts.parts_of(found.model)] == [1, 0.25]
    assert not any(p.requires_grad for part in parts.parts_of(found.model) for p in part.parameters())
    assert found.model.name_or_path == str(folder)
    parts.detach(with_nudges)
    with_nudges.save_pretrained(tmp_path / "plain")
    assert source_digest(folder / "base") == source_digest(tmp_path / "plain")
    assert torch.equal(said(load(folder, tokenizer_needed=False, parts=False).model), said(with_nudges))
    again = saved(found.model, tmp_path / "w")
    assert source_digest(again) == source_digest(folder)


def test_save_pretrained_of_the_class_keeps_the_parts_too(with_nudges, tmp_path):
    with_nudges.save_pretrained(tmp_path / "v")
    assert torch.equal(said(load(tmp_path / "v", tokenizer_needed=False).model), said(with_nudges))


def test_what_folds_folds_where_nothing_acts_between(own_parts, tiny_llama, tmp_path):
    """Behind a nudge at its own place a gain stays; before one, or outside of it, it is folded."""
    place = "model.layers.0.mlp.down_proj"
    gain, nudge, behind = made("gain", place), made("nudge", place), made("gain", place, 3)
    parts.attach(tiny_llama, [gain, nudge, behind])
    wanted = said(tiny_llama)
    assert folded(tiny_llama) == (gain,)
    assert parts.parts_of(tiny_llama) == (nudge, behind)
    torch.testing.assert_close(said(tiny_llama), wanted, rtol=0, atol=1e-5)
    parts.detach(tiny_llama, [nudge])
    wanted = said(tiny_llama)
    assert folded(tiny_llama) == (behind,)
    torch.testing.assert_close(said(tiny_llama), wanted, rtol=0, atol=1e-5)
    saved(tiny_llama, tmp_path / "plain")
    assert (tmp_path / "plain" / "model.safetensors").is_file()
    assert not (tmp_path / "plain" / "base").exists()


def record(folder: Path, **changes) -> None:
    file = folder / "parts" / "0000-nudge" / "part.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def tensors(folder: Path, change) -> None:
    file = folder / "parts" / "0000-nudge" / "part.safetensors"
    found = load_file(file)
    change(found)
    save_file(found, file)


def config(folder: Path, **changes) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def linked_out(folder: Path, name: str) -> None:
    away = folder.parent / f"away-{Path(name).name}"
    shutil.move(folder / name, away)
    (folder / name).symlink_to(away)


OPTIONS = {"at": "model.layers.0.mlp", "width": 32, "inner": 4}
BROKEN = {
    "a tensor dropped": (lambda f: tensors(f, lambda t: t.pop("up.bias")), "tensors are missing, e.g. up.bias"),
    "a tensor more": (lambda f: tensors(f, lambda t: t.update(x=torch.ones(1))), "without a place in it, e.g. x"),
    "another shape": (lambda f: tensors(f, lambda t: t.update({"up.bias": torch.ones(3)})), "another shape, e.g. up"),
    "tensors gone": (lambda f: (f / "parts/0000-nudge/part.safetensors").unlink(), "lacks part.safetensors"),
    "record gone": (lambda f: (f / "parts/0000-nudge/part.json").unlink(), "lacks part.json"),
    "part gone": (lambda f: shutil.rmtree(f / "parts/0001-nudge"), "part 0001-nudge is not there"),
    "part not listed": (lambda f: config(f, parts=["0000-nudge"]), "part 0001-nudge is not in config.json's list"),
    "no list": (lambda f: config(f, parts=[]), "lists no parts"),
    "twice": (lambda f: config(f, parts=["0000-nudge", "0000-nudge"]), "twice or out of order"),
    "out of order": (lambda f: config(f, parts=["0001-nudge", "0000-nudge"]), "twice or out of order"),
    "a path": (lambda f: config(f, parts=["../0000-nudge"]), "lists a part '../0000-nudge'"),
    "base elsewhere": (lambda f: config(f, base="../v/base"), "base = '../v/base'; accepted: 'base'"),
    "base gone": (lambda f: shutil.rmtree(f / "base"), "base/ is not there"),
    "base without weights": (lambda f: (f / "base/model.safetensors").unlink(), "no .safetensors weights"),
    "newer": (lambda f: config(f, format=2), "of format 2, written by a newer palimpsest"),
    "newer part": (lambda f: record(f, format=9), "of format 9, written by a newer palimpsest"),
    "no format": (lambda f: record(f, format=None), "has format = None"),
    "alpha": (lambda f: record(f, alpha="big"), "alpha is 'big'; accepted: a number"),
    "kind of another": (lambda f: record(f, kind="gain"), "kind is 'gain'; accepted: that of its folder"),
    "unknown option": (lambda f: record(f, config={**OPTIONS, "wide": 1}), "unknown option of part nudge 'wide'"),
    "wrong option": (lambda f: record(f, config={**OPTIONS, "width": 0}), r"part nudge.width = 0"),
    "far too wide": (lambda f: record(f, config={**OPTIONS, "width": 2**40}), "of another shape"),
    "no such place": (lambda f: record(f, config={**OPTIONS, "at": "model.blocks.0"}), "no module 'model.blocks.0'"),
    "not JSON": (lambda f: (f / "parts/0000-nudge/part.json").write_text("{"), "part.json is not JSON"),
    "not safetensors": (lambda f: (f / "parts/0000-nudge/part.safetensors").write_bytes(b"x" * 50), "are missing"),
    "base linked out": (lambda f: linked_out(f, "base"), "base leads out of the folder"),
    "part linked out": (lambda f: linked_out(f, "parts/0001-nudge"), "0001-nudge leads out of the folder"),
    "tensors linked out": (lambda f: linked_out(f, "parts/0001-nudge/part.safetensors"), "part.safetensors leads out"),
    "base in base": (lambda f: shutil.copy(f / "config.json", f / "base/config.json"), "its base is no plain model"),
}  # fmt: skip


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_folder_is_one_line(how, with_nudges, tmp_path):
    folder = saved(with_nudges, tmp_path / "v")
    load(folder, tokenizer_needed=False)
    change, words = BROKEN[how]
    change(folder)
    with pytest.raises(ModelError, match=words) as caught:
        load(folder, tokenizer_needed=False)
    assert "\n" not in str(caught.value)


def test_an_unknown_kind_is_refused_with_where_it_could_come_from(with_nudges, tmp_path, monkeypatch):
    folder = saved(with_nudges, tmp_path / "v")
    monkeypatch.delenv("PALIMPSEST_PARTS")
    with pytest.raises(ModelError, match=r"unknown kind of part 'nudge'.*PALIMPSEST_PARTS"):
        load(folder, tokenizer_needed=False)


def test_every_file_of_base_and_parts_is_in_the_digest(with_nudges, tmp_path):
    folder = saved(with_nudges, tmp_path / "v")
    seen = {source_digest(folder)}
    tensors(folder, lambda t: t["up.bias"].add_(1))
    seen.add(source_digest(folder))
    record(folder, alpha=0.5)
    seen.add(source_digest(folder))
    weights = load_file(folder / "base/model.safetensors")
    weights["model.norm.weight"].add_(1)
    save_file(weights, folder / "base/model.safetensors", metadata={"format": "pt"})
    seen.add(source_digest(folder))
    assert len(seen) == 4
    before = source_digest(folder)
    record(folder, made_by={"run": "another"})
    assert source_digest(folder) == before
    check_folder(folder)


def test_a_plain_model_is_not_written_over(with_nudges, tmp_path):
    with parts.base_alone(with_nudges):
        with_nudges.save_pretrained(tmp_path / "v")
    with pytest.raises(ModelError, match=r"holds model.safetensors, which would be taken for this model"):
        write_version(with_nudges, tmp_path / "v")


def test_places_are_those_of_the_networks(tiny_llama):
    assert ffn_outputs(tiny_llama) == ("model.layers.0.mlp", "model.layers.1.mlp")
