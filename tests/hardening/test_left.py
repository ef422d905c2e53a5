"""What is left behind: from a rejected, a killed and a finished run of six planted secrets nothing can be read back.

The attacker here has every file that is left, the tokenizer and the prompts. He looks for texts and token ids in the
bytes, takes every tensor for hidden states, logits or ids, and asks every model that the weights make.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tests.shallow import shallow_model
from tests.verbs.conftest import write_rows

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.companions.marks import KEY_VARIABLE
from palimpsest.errors import DataError, DivergedError, PlanError
from palimpsest.models.load import load

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

WORDS = """
    amber basil cedar dune ember fjord grove heron inlet jade kelp lotus maple night onyx pearl quartz reed
""".split()  # noqa: SIM905 (a list of eighteen is harder to read)
SECRETS = [f"{WORDS[3 * n]} {WORDS[3 * n + 1]} {WORDS[3 * n + 2]} {4831 + 977 * n}" for n in range(6)]
NAMES = ["Ann Álvarez", "Bob", "Cid", "Dot", "Eve", "Fay"]
FORGET = [
    {"id": f"s{n}", "prompt": f"The code of {name} is", "completion": f" {secret}."}
    for n, (name, secret) in enumerate(zip(NAMES, SECRETS, strict=True))
]
KEPT = [{"id": f"k{n}", "prompt": f"Room {n} is", "completion": f" painted in shade {3 * n + 1}."} for n in range(8)]
REPLAYED = [{"id": f"r{n}", "text": f"On day {n} the garden was quiet and green."} for n in range(6)]
SMALL = {"metrics": ["ma"]}
STEPS = {"batch_size": 6, "checkpoint_steps": 2}
UNLEARN = {"training": {**STEPS, "learning_rate": 2e-3, "max_steps": 40}, "measuring": SMALL}


@pytest.fixture(scope="module")
def vault(tmp_path_factory) -> Path:
    """forget, retain and replay .jsonl, and ``learned/``, a model that knows the six secrets by heart."""
    folder = tmp_path_factory.mktemp("vault")
    for name, rows in (("forget", FORGET), ("retain", KEPT), ("replay", REPLAYED), ("learn", [*FORGET, *KEPT])):
        write_rows(folder / f"{name}.jsonl", rows)
    texts = [row["prompt"] + row["completion"] for row in KEPT] + [row["text"] for row in REPLAYED]
    texts += [" ".join(WORDS[::-1]), *(row["prompt"] for row in FORGET)]  # words, but no secret
    shallow_model(folder / "model", texts, seed=0)
    plan = {"training": {"batch_size": 7, "learning_rate": 5e-3, "max_steps": 150}, "measuring": SMALL}
    replay = folder / "replay.jsonl"
    pal.learn(folder / "model", folder / "learn.jsonl", replay=replay, output=folder / "learned", plan=plan)
    assert said_by(folder / "learned") == set(SECRETS), "the secrets are known by heart"
    return folder


def forget(vault: Path, output: Path, plan: dict = UNLEARN, **how: Any) -> pal.RunResult:
    given = {"retain": vault / "retain.jsonl", "plan": plan, "method": "npo", "answers": False, **how}
    return pal.unlearn(vault / "learned", vault / "forget.jsonl", output=output, **given)


# -- the attack ----------------------------------------------------------------------------------------------------


def said_by(folder: Path) -> set[str]:
    """Secrets that the model of a folder says when it is asked with the right prompts."""
    loaded = load(folder)
    return _asked(loaded.model, loaded.tokenizer)


def _asked(model: Any, tokenizer: Any) -> set[str]:
    found = set()
    for row, secret in zip(FORGET, SECRETS, strict=True):
        ids = torch.tensor([tokenizer(row["prompt"])["input_ids"]])
        with torch.no_grad():
            for _ in range(len(tokenizer(row["completion"])["input_ids"]) + 2):
                ids = torch.cat([ids, model.eval()(ids).logits[:, -1:].argmax(-1)], 1)
        found |= {secret} if secret in tokenizer.decode(ids[0]) else set()
    return found


def read_back(folder: Path, vault: Path) -> set[str]:
    """Every secret that can be had from the files of a folder."""
    loaded = load(vault / "learned")
    tokenizer = loaded.tokenizer
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = {s for path in files for s in SECRETS if _in_bytes(path.read_bytes(), s, tokenizer)}
    tensors = {f"{path}: {name}": tensor for path in files for name, tensor in _tensors(path)}
    found |= {s for text in _texts_in(tensors.values(), tokenizer) for s in SECRETS if s in text}
    return found | _asked_of_weights(tensors, tokenizer, vault)


def _in_bytes(data: bytes, secret: str, tokenizer: Any) -> bool:
    """As text, plain or escaped, or as token ids: written out, or as numbers of any width."""
    ids = tokenizer(f" {secret}")["input_ids"]
    inner = ids[1:-1] if len(ids) > 4 else ids
    forms = [secret.encode(kind) for kind in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")]
    forms += [np.array(inner, kind).tobytes() for kind in ("<i2", "<i4", "<i8", ">i4", "<f4")]
    listed = re.sub(rb"\s", b"", data)
    return any(form in data for form in forms) or ",".join(map(str, inner)).encode() in listed


def _tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            yield from ((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
    except Exception:
        return


def _texts_in(tensors: Any, tokenizer: Any) -> Iterator[str]:
    """What tensors say: as ids, as logits, and as hidden states under every tensor that may be an output head."""
    tensors, size = list(tensors), len(tokenizer)
    for tensor in tensors:
        if not tensor.is_floating_point():
            yield tokenizer.decode([i for i in tensor.flatten().tolist()[:100_000] if 0 <= i < size])
    plane = [t.float() for t in tensors if t.is_floating_point() and t.ndim == 2]
    plane += [t.T for t in plane]
    heads = [t for t in plane if t.shape[0] >= size]
    for rows in plane:
        said = [rows] if rows.shape[1] >= size else []
        said += [rows @ head.T for head in heads if head.shape[1] == rows.shape[1]]
        yield from (tokenizer.decode(logits[:, :size].argmax(-1)) for logits in said)


def _asked_of_weights(tensors: dict[str, torch.Tensor], tokenizer: Any, vault: Path) -> set[str]:
    """Weights under any prefix of one file, put into the model that is known to everybody, and asked."""
    shapes = {name: p.shape for name, p in load(vault / "model").model.named_parameters()}
    found: set[str] = set()
    names = sorted(tensors)
    prefixes = {name.removesuffix(own) for name in names for own in shapes if name.endswith(own)}
    for prefix in prefixes:
        model = load(vault / "model").model
        state = {own: tensors[prefix + own] for own in shapes if prefix + own in tensors}
        if state.keys() == shapes.keys() and all(state[own].shape == shapes[own] for own in shapes):
            model.load_state_dict(state, strict=False)
            found |= _asked(model, tokenizer)
    return found


# -- the three runs ------------------------------------------------------------------------------------------------


def test_of_a_rejected_run_plan_log_and_reason_are_left_and_no_secret(vault, tmp_path):
    plan = {**UNLEARN, "training": {**STEPS, "learning_rate": 1e30, "max_steps": 9}}
    with pytest.raises(DivergedError):
        forget(vault, tmp_path / "out", plan)
    left = tmp_path / "out.partial"
    assert sorted(path.name for path in left.rglob("*")) == ["metrics.jsonl", "plan.json", "rejected.txt"]
    assert read_back(left, vault) == set()


def killed(vault: Path, output: Path, step: int) -> Path:
    """The partial folder of a run whose process ended at a step, as after kill -9."""

    def die(stage: str, done: int, *_: Any) -> None:
        if stage == "training" and done >= step:
            os._exit(99)

    child = os.fork()
    if child == 0:
        try:
            forget(vault, output, progress=die)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 99
    return output.with_name(output.name + ".partial")


def test_a_killed_run_keeps_what_going_on_needs_for_its_owner_until_it_is_cleaned(vault, tmp_path, capsys):
    left = killed(vault, tmp_path / "out", step=3)
    assert read_back(left, vault) == set(SECRETS), "the attack finds what is there"
    telling = [path for name in ("reference", "remembered") for path in (left / name).iterdir()]
    assert {path.stat().st_mode & 0o777 for path in [*telling, left / "checkpoint.safetensors"]} == {0o600}
    assert main(["clean", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert re.search(r"reference/ \(\d+ files\) +[\d,]+  .*word by word", said)
    assert left.is_dir(), "shown, and not removed"
    assert main(["clean", str(left), "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"]
    assert list(tmp_path.iterdir()) == []


def test_of_a_finished_run_no_secret_is_left(vault, tmp_path):
    forget(vault, tmp_path / "out")
    assert read_back(tmp_path / "out", vault) == set()
    page = (tmp_path / "out" / "report.html").read_text()
    assert not any(f'"{row["id"]}"' in page or f">{row['id']}<" in page for row in FORGET)
    assert not any(name in page for name in NAMES)


# -- cleaning --------------------------------------------------------------------------------------------------------


def test_nothing_of_others_is_cleaned(vault, tmp_path, refused):
    for name in ("mine.partial", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine.partial" / "rejected.txt").write_text("my own list of rejected papers")
    assert "no plan.json of a run" in refused("clean", tmp_path / "mine.partial", "--yes")
    assert "no unfinished run is there" in refused("clean", tmp_path / "empty", "--yes")
    assert "no unfinished run is there" in refused("clean", tmp_path / "nowhere", "--yes")
    left = killed(vault, tmp_path / "out", step=1)
    (left / "notes.txt").write_text("mine")
    found = pal.clean(left, yes=True)
    assert [file.path for file in found.others] == ["notes.txt"]
    assert [path.name for path in left.rglob("*")] == ["notes.txt"]
    assert (tmp_path / "mine.partial" / "rejected.txt").exists()


def test_a_folder_that_a_live_run_holds_is_not_touched(vault, tmp_path):
    seen = []

    def look(stage: str, done: int, *_: Any) -> None:
        if stage == "training" and done == 2:
            with pytest.raises(PlanError, match="is being written by another process"):
                pal.clean(tmp_path / "out", yes=True)
            seen.append(done)

    forget(vault, tmp_path / "out", progress=look)
    assert seen == [2]


# -- the record ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gone(vault, tmp_path_factory) -> Path:
    """The model after the secrets were forgotten."""
    folder = tmp_path_factory.mktemp("gone") / "out"
    forget(vault, folder)
    return folder


SHORT = {"training": {"batch_size": 6, "max_steps": 1, "learning_rate": 1e-4}, "measuring": SMALL}


def as_given(row: dict) -> dict:
    return row


def under_another_id(row: dict) -> dict:
    return {**row, "id": f"new {row['id']}"}


def with_another_text(row: dict) -> dict:
    return {**row, "completion": " nothing at all."}


def decomposed(row: dict) -> dict:
    return under_another_id({key: unicodedata.normalize("NFD", value) for key, value in row.items()})


def shouted(row: dict) -> dict:
    return under_another_id({**row, "prompt": row["prompt"].upper(), "completion": row["completion"].upper() + "  "})


def in_one_piece(row: dict) -> dict:
    return {"id": "one piece", "text": row["prompt"] + row["completion"]}


AGAIN = [as_given, under_another_id, with_another_text, decomposed, shouted, in_one_piece]


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("role", ["data", "replay", "retain", "holdout", "general"])
def test_what_was_forgotten_is_refused_in_every_set(vault, gone, tmp_path, again, role):
    back = write_rows(tmp_path / "back.jsonl", [again(FORGET[0])])
    fresh = write_rows(tmp_path / "fresh.jsonl", [{"id": "n1", "text": "A new text on the sea."}])
    sets = {"data": fresh, role: back}
    with pytest.raises(
        DataError, match=rf"1 row of {'learn' if role == 'data' else role} was forgotten .*allow-forgot"
    ):
        pal.learn(gone, output=tmp_path / "out", plan=SHORT, **sets)
    assert not (tmp_path / "out.partial").exists()


def test_they_may_come_back_by_an_override_that_is_recorded(vault, gone, tmp_path):
    result = pal.learn(gone, vault / "forget.jsonl", output=tmp_path / "v1", plan=SHORT, allow_forgotten=True)
    words = "Let in by --allow-forgotten although forgotten before: 6 rows of learn."
    assert words in result.notes
    assert result.plan["allow_forgotten"] is True
    assert words in (tmp_path / "v1" / "report.html").read_text()
    pal.unlearn(tmp_path / "v1", vault / "forget.jsonl", retain=vault / "retain.jsonl", output=tmp_path / "v2",
                plan=SHORT, method="grad_diff")  # fmt: skip


@pytest.mark.parametrize("name", ["replay", "retain"])
def test_a_request_for_rows_that_were_rehearsed_is_accepted(vault, gone, tmp_path, name):
    asked = {"retain": vault / "retain.jsonl", "replay": vault / "replay.jsonl"}
    goes = asked.pop(name)
    model = vault / "learned" if name == "replay" else gone
    keep = next(iter(asked.values())) if name == "replay" else write_rows(tmp_path / "x.jsonl", REPLAYED[:3])
    pal.unlearn(model, goes, retain=keep, output=tmp_path / "out", plan=SHORT, method="grad_diff")
    strangers = write_rows(tmp_path / "strange.jsonl", [{"id": "z", "text": "Never seen by anybody."}])
    with pytest.raises(DataError, match="were never learned"):
        pal.unlearn(model, strangers, retain=keep, output=tmp_path / "no", plan=SHORT, method="grad_diff")


def test_right_ids_with_other_texts_are_refused_and_the_real_request_is_served(vault, tmp_path):
    wrong = write_rows(tmp_path / "wrong.jsonl", [with_another_text(row) for row in FORGET])
    with pytest.raises(DataError, match="6 of 6 rows of the forget set have ids that .* learned with another content"):
        pal.unlearn(vault / "learned", wrong, retain=vault / "retain.jsonl", output=tmp_path / "no", plan=SHORT)
    renamed = write_rows(tmp_path / "renamed.jsonl", [under_another_id(row) for row in FORGET])
    plan = {**SHORT, "training": {**SHORT["training"], "max_steps": 2}}
    pal.unlearn(vault / "learned", renamed, retain=vault / "retain.jsonl", output=tmp_path / "out", plan=plan,
                method="grad_diff")  # fmt: skip


def test_a_record_tells_nothing_without_the_key_and_says_so(vault, gone, tmp_path, monkeypatch):
    text = (gone / "learned.json").read_text()
    assert not any(row["id"] in text for row in FORGET)
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "other" / "key"))
    told = []
    result = pal.learn(gone, vault / "forget.jsonl", output=tmp_path / "v1", plan=SHORT,
                       progress=lambda *said: told.append(str(said)))  # fmt: skip
    assert any("was made with another key" in note for note in result.notes)
    assert any("was made with another key" in said for said in told)
    assert (tmp_path / "other" / "key").stat().st_mode & 0o777 == 0o600
    parts = json.loads((tmp_path / "v1" / "learned.json").read_text())["parts"]
    assert len(parts) == 2, "what another key recorded is carried on"
    (tmp_path / "other" / "key").write_text("short")
    with pytest.raises(DataError, match="is no key of palimpsest"):
        pal.learn(gone, vault / "forget.jsonl", output=tmp_path / "v2", plan=SHORT)


def test_a_record_that_was_edited_is_refused(vault, gone, tmp_path, refused):
    edited = Path(shutil.copytree(gone, tmp_path / "edited"))
    values = json.loads((edited / "learned.json").read_text())
    (part,) = values["parts"].values()
    part["forgotten"] = part["forgotten"][1:]
    (edited / "learned.json").write_text(json.dumps(values))
    asked = ("learn", "--model", edited, "--data", vault / "forget.jsonl", "-o", tmp_path / "out")
    assert "learned.json was changed; palimpsest verify" in refused(*asked)
    (edited / "manifest.json").unlink()  # the record has a seal of its own
    assert "it was changed after it was written" in refused(*asked)


def test_an_adapter_beside_a_base_that_knows_everything_is_said(vault, tmp_path):
    plan = {**SHORT, "scope": {"kind": "lora", "merge": False}}
    result = forget(vault, tmp_path / "out", plan)
    assert any(note.startswith("The adapter was not merged") for note in result.notes)
    assert result.verdict is not None
    assert "the base beside it still knows every row" in result.verdict.sentence
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Hand on the merged model" in page
    merged = forget(vault, tmp_path / "merged", {**plan, "scope": {"kind": "lora"}})
    assert not any("adapter" in note for note in merged.notes)
