"""`kill -9` while clients learn together and while one of them is erased: do both end with the same bits and rounds?

    python benchmarks/kill_federated.py                       # 10 kills of erase
    python benchmarks/kill_federated.py --times 4 --verbs federate erase

The moments, the lines and the first two digests are those of ``kill.py``. Three clients of a few sentences each teach a
small model, four rounds; one is erased by ``fed_eraser``, with the oracle retrained beside it. The third digest is of
all files' names, rounds among them; the fourth of who answered what in which round: of the clock nothing, which is
another one in every run. Exit code 1 if a digest differs, a file of somebody else was touched, or a command fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from kill import OF_FEDERATIONS, Command, attack, digests

CLIENTS = ("anna", "bert", "cleo")


class FederatedCommand(Command):
    """A command whose rounds are compared by what they hold."""

    def ended(self, output: Path, code: int) -> str:
        """Digests of what came out, or why nothing did."""
        said = super().ended(output, code)
        if not self.has_result(output):
            return said
        weights, scores, names, _ = digests(output).split()
        return " ".join([weights, scores, names, digest_of_rounds(output)])


def digest_of_rounds(output: Path) -> str:
    """Of every tensor of every round, and of who answered and who did not; 12 digits."""
    found = hashlib.sha256()
    for part in _parts_of_rounds(output / "companion" / "rounds"):
        found.update(part)
    return found.hexdigest()[:12]


def _parts_of_rounds(folder: Path) -> Iterator[bytes]:
    from safetensors.numpy import load_file

    for path in sorted(folder.rglob("*.safetensors")):
        yield str(path.relative_to(folder)).encode()
        for name, tensor in sorted(load_file(path).items()):
            yield name.encode() + tensor.tobytes()
    for path in sorted(folder.rglob("round.json")):
        record = json.loads(path.read_text(encoding="utf-8"))["said"]
        yield json.dumps([[one["client"] for one in record[which]] for which in ("told", "absent")]).encode()


def make_clinics(folder: Path) -> dict[str, Command]:
    """Three clients' rows, a model, the federation to erase from, and the commands to kill."""
    from palimpsest.demo.tiny_model import new_model

    folder.mkdir(parents=True, exist_ok=True)
    texts = {name: [f"{name.title()} saw {n} patients on day {n}." for n in range(6)] for name in CLIENTS}
    for name, own in texts.items():
        rows = [json.dumps({"id": f"{name}{n}", "text": text}) for n, text in enumerate(own)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    new_model(folder / "model", [text for own in texts.values() for text in own], seed=0)
    clients = [word for name in CLIENTS for word in ("--client", f"{name}={folder / name}.jsonl")]
    run = ["--model", str(folder / "model"), *clients, "--rounds", "4", "--lr", "0.01"]
    said = FederatedCommand("federate", run, folder).finish(folder / "together")
    if not (folder / "together").is_dir():
        raise SystemExit(f"the federation to erase from could not be made: {said}")
    erase = [str(folder / "together"), "--client", "bert", "--oracle"]
    return {
        "federate": FederatedCommand("federate", run, folder / "federate"),
        "erase": FederatedCommand("erase", erase, folder / "erase"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="kills of each")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--verbs", nargs="+", choices=OF_FEDERATIONS, default=["erase"])
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="palimpsest-kill-") as folder:
        commands = make_clinics(Path(folder))
        agreed = [attack(commands[verb], options.times, random.Random(options.seed)) for verb in options.verbs]
    said = "every run ended with the same digests, nothing foreign touched"
    print(f"\n{options.times} kills of each of {', '.join(options.verbs)}: {said if all(agreed) else 'NOT SO'}")
    return 0 if all(agreed) else 1


if __name__ == "__main__":
    raise SystemExit(main())
