"""A finished folder is bound to what is in it, an unfinished one goes on from nothing that was damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tests.verbs.conftest import by_heart
from tests.verbs.test_images import album

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.errors import PlanError, UsageError
from palimpsest.models.bound import MANIFEST, check_bound
from palimpsest.models.sources import source_digest
from palimpsest.records import Outcome
from palimpsest.report.schema import RunResult

__all__ = ["album"]

TRAINING = {"learning_rate": 1e-2, "max_steps": 4, "batch_size": 4, "checkpoint_steps": 2}
PLAN = {"training": TRAINING, "measuring": {"metrics": ["prob"]}}
KINDS = ("whole", "adapter", "images")
RECORDS = {"learned.json", "plan.json", "result.json"}
TOKENIZER = {"generation_config.json", "tokenizer.json", "tokenizer_config.json"}
BOUND = {
    "whole": {"config.json", "model.safetensors", *TOKENIZER, *RECORDS},
    "adapter": {
        "adapter_config.json",
        "adapter_model.safetensors",
        *(TOKENIZER - {"generation_config.json"}),
        *RECORDS,
    },
    "images": {"config.json", "model.safetensors", *RECORDS},
}


@pytest.fixture(scope="module")
def finished(clinic, album, tmp_path_factory) -> dict[str, Path]:
    """A finished run of each kind."""
    place = tmp_path_factory.mktemp("finished")
    pal.learn(clinic / "model", clinic / "learn.jsonl", output=place / "whole", plan=PLAN)
    lora = {**PLAN, "scope": {"kind": "lora", "rank": 2, "merge": False}}
    pal.learn(clinic / "model", clinic / "learn.jsonl", output=place / "adapter", plan=lora)
    shutil.copytree(album / "model", place / "images")
    return {name: place / name for name in KINDS}


@pytest.fixture
def copy_of(finished, tmp_path) -> Callable[[str], Path]:
    return lambda kind: Path(shutil.copytree(finished[kind], tmp_path / kind))


def flipped(file: Path) -> None:
    """One byte in the middle has another last bit."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def said_by(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out + err


def doors(kind: str, folder: Path, clinic: Path, album: Path) -> dict[str, tuple[Any, ...]]:
    """The commands that use a finished folder again."""
    data = album / "retain.npz" if kind == "images" else clinic / "retain.jsonl"
    return {
        "verify": ("verify", folder),
        "report": ("report", folder),
        "judge": ("judge", folder),
        "measure": ("measure", "--model", folder, "--data", data),
        "learn": ("learn", "--model", folder, "--data", data, "--output", folder.with_name("next")),
    }


class TestOneByte:
    @pytest.mark.parametrize("kind", KINDS)
    def test_of_any_file_that_decides_is_named_at_every_door(self, copy_of, clinic, album, capsys, kind):
        folder = copy_of(kind)
        bound = json.loads((folder / MANIFEST).read_text())["files"]
        assert set(bound) >= BOUND[kind]
        assert pal.verify(folder).holds is True
        for name in bound:
            content = (folder / name).read_bytes()
            flipped(folder / name)
            for door, command in doors(kind, folder, clinic, album).items():
                code, said = said_by(capsys, *command)
                assert code == (1 if door == "verify" else 2), (name, door, said)
                assert name in said, (door, said)
            (folder / name).write_bytes(content)
        assert said_by(capsys, "verify", folder) == (0, f"{folder} is as its run left it\n")

    def test_of_an_adapters_base(self, clinic, tmp_path, capsys):
        base = Path(shutil.copytree(clinic / "model", tmp_path / "base"))
        lora = {**PLAN, "scope": {"kind": "lora", "rank": 2, "merge": False}}
        pal.learn(base, clinic / "learn.jsonl", output=tmp_path / "out", plan=lora)
        assert pal.verify(tmp_path / "out").holds is True
        flipped(base / "model.safetensors")
        for command in doors("adapter", tmp_path / "out", clinic, clinic).values():
            code, said = said_by(capsys, *command)
            assert code
            assert "the base of the adapter was changed" in said or "changed     the base of the adapter" in said

    def test_of_the_manifest_itself(self, copy_of):
        folder = copy_of("whole")
        for place in range(0, len((folder / MANIFEST).read_bytes()), 97):
            text = (folder / MANIFEST).read_bytes()
            (folder / MANIFEST).write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
            found = pal.verify(folder)
            blank = text[place : place + 1] in b" \n"
            assert found.holds is False or (blank and found.holds), place
            (folder / MANIFEST).write_bytes(text)

    def test_of_a_page_or_a_log_decides_nothing(self, copy_of):
        folder = copy_of("whole")
        for name in ("report.html", "metrics.jsonl"):
            flipped(folder / name)
        (folder / "notes.txt").write_text("mine")
        assert pal.verify(folder).holds is True

    def test_of_a_page_is_told_until_it_is_written_anew(self, copy_of, capsys):
        """The page is what people read: another verdict in it is not "as its run left it" without a word."""
        folder = copy_of("whole")
        assert pal.verify(folder).notes == ()
        page = folder / "report.html"
        page.write_text(page.read_text().replace("Learning report", "Passed"))
        assert main(["verify", str(folder)]) == 0
        assert "note: report.html is not the page of result.json" in capsys.readouterr().out
        assert main(["report", str(folder)]) == 0
        assert pal.verify(folder).notes == ()

    @pytest.mark.parametrize("name", sorted(BOUND["whole"]))
    def test_a_file_that_is_gone(self, copy_of, capsys, name):
        folder = copy_of("whole")
        (folder / name).unlink()
        code, said = said_by(capsys, "verify", folder, "--json")
        assert (code, json.loads(said)["missing"]) == (1, [name])

    @pytest.mark.parametrize(
        "name",
        ["chat_template.jinja", "additional_chat_templates/tools.jinja", "vocab.json", "merges.txt", "spiece.model",
         "added_tokens.json", "special_tokens_map.json", "model.safetensors.index.json",
         "adapter_config.json", "preprocessor_config.json"],
    )  # fmt: skip
    def test_a_file_that_was_put_there(self, copy_of, clinic, tmp_path, name):
        folder = copy_of("whole")
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
        assert pal.verify(folder).additional == (name,)
        with pytest.raises(UsageError, match=Path(name).name.split(".")[0]):
            pal.learn(folder, clinic / "learn.jsonl", output=tmp_path / "next", plan=PLAN)

    def test_what_we_write_anew_ourselves_is_bound_again(self, copy_of, capsys):
        folder = copy_of("whole")
        assert RunResult.of_run(folder).answers
        assert said_by(capsys, "report", folder, "--no-answers")[0] == 0
        assert not RunResult.of_run(folder).answers
        assert pal.verify(folder).holds is True

    def test_a_run_in_memory_that_is_saved_is_bound(self, clinic, tmp_path):
        pal.learn(clinic / "model", clinic / "learn.jsonl", plan=PLAN).save(tmp_path / "out")
        assert pal.verify(tmp_path / "out").holds is True

    def test_a_folder_without_a_manifest_is_said_to_have_none(self, copy_of, clinic, tmp_path, capsys):
        folder = copy_of("whole")
        (folder / MANIFEST).unlink()
        code, said = said_by(capsys, "verify", folder)
        assert code == 3
        assert "has no manifest.json" in said
        code, said = said_by(capsys, "report", folder)
        assert code == 0
        assert "is a run without manifest.json" in said
        heard: list[str] = []
        told = {"progress": lambda stage, *_: heard.append(stage)}
        pal.learn(folder, clinic / "learn.jsonl", output=tmp_path / "next", plan=PLAN, **told)
        assert sum("is a run without manifest.json" in line for line in heard) == 1
        assert said_by(capsys, "verify", clinic / "model")[0] == 3
        assert said_by(capsys, "verify", tmp_path / "nowhere")[0] == 2


def edited(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def unlearn(clinic: Path, output: Path, model: Path | None = None, **how: Any) -> pal.RunResult:
    given = {"retain": clinic / "retain.jsonl", "method": "grad_diff", "plan": PLAN, **how}
    return pal.unlearn(model or clinic / "model", clinic / "forget.jsonl", output=output, **given)


class TestTheRecord:
    """Even where nobody binds the folder to it any more."""

    @pytest.fixture
    def run(self, clinic, tmp_path) -> Path:
        unlearn(clinic, tmp_path / "out")
        (tmp_path / "out" / MANIFEST).unlink()
        return tmp_path / "out"

    def test_a_verdict_follows_from_the_scores(self, run, clinic, capsys):
        then = RunResult.of_run(run).verdict
        assert then is not None
        other = "passed" if then.outcome is not Outcome.PASSED else "failed"
        change = {"outcome": other, "sentence": "all 9 gates hold", "plain": "Passed: all 9 gates hold", "gates": []}
        edited(run / "result.json", lambda values: values["verdict"].update(change))
        code, said = said_by(capsys, "report", run)
        assert code == 0
        assert "all 9 gates hold" not in said + (run / "report.html").read_text()
        assert f"the verdict written into result.json is {other}; by its scores it is {then.outcome}" in said
        assert unlearn(clinic, run).verdict == then
        assert pal.judge(run).verdict == then
        code, said = said_by(capsys, "verify", run)
        assert code == 1
        assert other in said

    @pytest.mark.parametrize("file", ["plan.json", "result.json"])
    def test_another_learning_rate(self, run, clinic, capsys, file):
        def change(values: dict[str, Any]) -> None:
            values.get("plan", values)["training"]["learning_rate"] = 7.0

        edited(run / file, change)
        for command in (("verify", run), ("report", run)):
            code, said = said_by(capsys, *command)
            assert code
            assert f"{file} has another digest than the one that is written" in said
        with pytest.raises(UsageError, match="another digest|another plan"):
            unlearn(clinic, run)

    def test_the_weights_of_another_model(self, run, clinic, capsys):
        shutil.copy(clinic / "model" / "model.safetensors", run / "model.safetensors")
        for command in (("verify", run), ("report", run)):
            code, said = said_by(capsys, *command)
            assert code
            assert "the model is not the one that result.json was written for" in said
        with pytest.raises(UsageError, match="the model is not the one"):
            unlearn(clinic, run)

    def test_a_verdict_on_a_plan_that_is_none_is_not_shown(self, run, capsys):
        (run / "plan.json").unlink()
        edited(run / "result.json", lambda values: values.update(plan={}, model_digest=""))
        code, said = said_by(capsys, "report", run)
        assert code == 0
        assert "no verdict is shown" in said

    def test_no_learning_rate_is_believed_beside_an_old_digest(self, run, clinic):
        edited(run / "plan.json", lambda values: values["training"].update(learning_rate=5e-3))
        run.rename(run.with_name("out.partial"))
        with pytest.raises(PlanError, match=r"unfinished run of another plan \(it differs in training.learning_rate\)"):
            unlearn(clinic, run)


class TestAPartialFolder:
    @pytest.mark.parametrize("manifest", [True, False])
    def test_with_the_unchanged_weights_is_not_completed(self, clinic, tmp_path, manifest):
        unlearn(clinic, tmp_path / "whole")
        partial = Path(shutil.copytree(tmp_path / "whole", tmp_path / "out.partial"))
        shutil.copy(clinic / "model" / "model.safetensors", partial / "model.safetensors")
        if not manifest:
            (partial / MANIFEST).unlink()
        unlearn(clinic, tmp_path / "out")
        names = [tmp_path / name / "model.safetensors" for name in ("whole", "out")]
        assert names[0].read_bytes() == names[1].read_bytes() != (clinic / "model/model.safetensors").read_bytes()

    def test_that_is_whole_is_put_in_its_place(self, clinic, tmp_path):
        unlearn(clinic, tmp_path / "out")
        stamp = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
        (tmp_path / "out").rename(tmp_path / "out.partial")
        unlearn(clinic, tmp_path / "out")
        assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == stamp


class Died(Exception):
    pass


def cut(run: Callable[..., Any], output: Path, stage: str, step: int = 0) -> Path:
    """The partial folder of a run that died when it told of a stage."""

    def tell(told: str, done: int, *_: Any) -> None:
        if told.startswith(stage) and done >= step:
            raise Died

    with pytest.raises(Died):
        run(output, progress=tell)
    return output.with_name(output.name + ".partial")


def scaled(file: Path) -> None:
    """A whole safetensors file in which one tensor has other values."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(file)
    name = max(tensors, key=lambda name: tensors[name].is_floating_point())
    save_file({**tensors, name: tensors[name] + 0.5}, file, metadata)


def damaged_everywhere(partial: Path, pattern: str, how: Callable[[Path], None]) -> list[str]:
    files = sorted(partial.glob(pattern))
    for file in files:
        how(file)
    return [file.relative_to(partial).as_posix() for file in files]


DAMAGE = {
    "one value": scaled,
    "half a file": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "nothing": lambda file: file.write_bytes(b""),
    "no UTF-8": lambda file: file.write_bytes(b"\xff\xfe"),
    "a digit": lambda file: file.write_text(file.read_text().replace('"value": 0.', '"value": 1.', 1)),
}


@pytest.fixture(scope="module")
def whole(clinic, tmp_path_factory) -> bytes:
    """Weights of the run that nobody disturbed."""
    output = tmp_path_factory.mktemp("whole") / "out"
    unlearn(clinic, output, method="npo")
    return (output / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def knows(clinic, tmp_path_factory) -> Path:
    """A clinic whose model knows its records by heart."""
    return by_heart(clinic, tmp_path_factory.mktemp("knows") / "clinic", {"metrics": ["prob"]})


def heard_of(run: Callable[..., Any], output: Path) -> list[str]:
    """What a run tells."""
    heard: list[str] = []
    run(output, progress=lambda told, *_: heard.append(told))
    return heard


class TestDamageOfAnUnfinishedRun:
    @pytest.mark.parametrize(
        ("pattern", "damage", "stage", "step", "word"),
        [("checkpoint.safetensors", damage, "training", 3, "training starts again")
         for damage in ("one value", "half a file", "nothing")]
        + [("reference/*.safetensors", damage, "training", 3, "it is made again")
           for damage in ("one value", "half a file", "nothing")]
        + [("remembered/before.json", damage, "training", 3, "it is made again")
           for damage in ("a digit", "half a file", "nothing", "no UTF-8")]
        + [("trained.json", damage, "measuring after", 0, "it is trained again")
           for damage in ("half a file", "nothing", "no UTF-8")]
        + [("model.safetensors", "one value", "measuring after", 0, "it is trained again")],
    )  # fmt: skip
    def test_is_named_and_made_again(self, clinic, tmp_path, whole, pattern, damage, stage, step, word):
        def run(output: Path, **how: Any) -> pal.RunResult:
            return unlearn(clinic, output, method="npo", **how)

        partial = cut(run, tmp_path / "out", stage, step)
        names = damaged_everywhere(partial, pattern, DAMAGE[damage])
        assert names
        heard: list[str] = []
        result = run(tmp_path / "out", progress=lambda told, *_: heard.append(told))
        assert (tmp_path / "out" / "model.safetensors").read_bytes() == whole
        for name in names:
            said = "trained.json" if name == "model.safetensors" else name
            assert [line for line in heard if said in line and word in line], (name, heard)
        score = result.scores["before"]["forget"]["prob"]
        assert score.low is not None
        assert score.low <= score.value <= score.high
        assert pal.verify(tmp_path / "out").holds is True

    @pytest.mark.slow
    def test_of_a_controlled_run(self, knows, tmp_path):
        plan = {"training": {"batch_size": 4}, "measuring": {"metrics": ["prob"]}, "control": {"budget": 30}}

        def run(output: Path, **how: Any) -> pal.RunResult:
            return unlearn(knows, output, knows / "learned", method="npo", plan=plan, answers=False, **how)

        run(tmp_path / "whole")
        partial = cut(run, tmp_path / "first", "training", 8)
        for pattern in ("control/state.json", "control/0*.safetensors", "control/own_words.json", "reference/*"):
            shutil.copytree(partial, tmp_path / "out.partial")
            names = damaged_everywhere(tmp_path / "out.partial", pattern, DAMAGE["half a file"])
            assert names
            heard = heard_of(run, tmp_path / "out")
            files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "out")]
            assert files[0] == files[1], pattern
            assert any(name in line for name in names for line in heard), heard
            shutil.rmtree(tmp_path / "out")


class TestTheDigestOfAModel:
    @pytest.mark.parametrize(
        "name",
        ["generation_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
         "spiece.model", "vocab.txt", "sentencepiece.bpe.model", "tokenizer.model", "chat_template.jinja",
         "additional_chat_templates/x.jinja", "preprocessor_config.json", "tokenizer.v2.json"],
    )  # fmt: skip
    def test_covers_all_that_decides(self, clinic, tmp_path, name):
        folder = Path(shutil.copytree(clinic / "model", tmp_path / "model"))
        found = {source_digest(folder)}
        for content in ('{"eos_token_id": 1}', '{"eos_token_id": 2}'):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content)
            found.add(source_digest(folder))
        assert len(found) == 3

    def test_does_not_change_by_what_decides_nothing(self, clinic, tmp_path):
        folder = Path(shutil.copytree(clinic / "model", tmp_path / "model"))
        before = source_digest(folder)
        for name in ("README.md", "notes.json", "learned.json", "result.json", "other.safetensors"):
            (folder / name).write_text("{}")
        assert source_digest(folder) == before

    def test_covers_shards_wherever_the_index_puts_them(self, clinic, tmp_path):
        folder = Path(shutil.copytree(clinic / "model", tmp_path / "model"))
        tensors = load_file(folder / "model.safetensors")
        (tmp_path / "out").mkdir()
        (folder / "model.safetensors").rename(tmp_path / "out" / "w.safetensors")
        index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, "../out/w.safetensors")}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        save_file({"x": tensors["lm_head.weight"] if "lm_head.weight" in tensors else next(iter(tensors.values()))},
                  folder / "beside.safetensors")  # fmt: skip
        before = source_digest(folder)
        flipped(tmp_path / "out" / "w.safetensors")
        assert source_digest(folder) != before

    def test_covers_the_base_of_an_adapter_and_a_run_notices(self, clinic, tmp_path):
        base = Path(shutil.copytree(clinic / "model", tmp_path / "base"))
        lora = {**PLAN, "scope": {"kind": "lora", "rank": 2, "merge": False}}
        pal.learn(base, clinic / "learn.jsonl", output=tmp_path / "adapter", plan=lora)
        (tmp_path / "adapter" / MANIFEST).unlink()
        one = unlearn(clinic, tmp_path / "out", tmp_path / "adapter")
        weights = load_file(base / "model.safetensors")
        save_file({n: t / 2 if "mlp" in n else t for n, t in weights.items()}, base / "model.safetensors",
                  {"format": "pt"})  # fmt: skip
        with pytest.raises(PlanError, match=r"another plan \(it differs in digests.model\)"):
            unlearn(clinic, tmp_path / "out", tmp_path / "adapter")
        other = unlearn(clinic, tmp_path / "other", tmp_path / "adapter")
        assert one.plan_digest != other.plan_digest

    def test_the_order_of_the_rows_is_another_run(self, clinic, tmp_path):
        rows = (clinic / "retain.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / "turned.jsonl").write_text("".join(rows[::-1]))
        one = unlearn(clinic, tmp_path / "one")
        other = unlearn(clinic, tmp_path / "other", retain=tmp_path / "turned.jsonl")
        assert one.plan_digest != other.plan_digest
        assert one.model_digest != other.model_digest
        with pytest.raises(PlanError, match=r"it differs in digests.retain"):
            unlearn(clinic, tmp_path / "one", retain=tmp_path / "turned.jsonl")


def test_a_rewritten_file_of_the_same_size_is_seen_at_once(clinic, tmp_path):
    """A digest that is kept for a while must not outlive a change."""
    file = Path(shutil.copytree(clinic / "model", tmp_path / "model")) / "model.safetensors"
    for _ in range(20):
        before = source_digest(file.parent)
        flipped(file)
        assert source_digest(file.parent) != before


def test_what_is_no_folder_is_bound_to_nothing(tmp_path):
    check_bound(tmp_path / "nowhere")
    check_bound("owner/name")
