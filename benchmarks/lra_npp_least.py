"""LRA-NPP beside hindsight: how few neurons could make a class go at all, and what as many random ones would do.

    python benchmarks/lra_npp_least.py --data shared/data --json docs/results/lra_npp_least.jsonl --only vit
    python benchmarks/lra_npp_least.py --table docs/results/lra_npp_least.jsonl

For every class of a net of ``lra_npp.py``: how many neurons the method cuts, as it is, having looked at 36 unseen
images of the class; how few would do, chosen one by one on the training images that are counted, until at most one in
twenty of the class is called so; and the share of the class that is left by as many random neurons, of each of the two,
over 20 draws. What looks at other images cannot be expected to do with fewer. Nothing is edited but the head.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lra_npp import KEPT, LOOKED, NETS, Net, read, seen
from palimpsest.methods.lra_npp import LRANPPConfig, cut_of, relevance_for
from palimpsest.models.class_samples import Entered
from palimpsest.models.head_edit import head_of
from palimpsest.models.neuron_path import ClassStanding, LinearHead

LEFT, DRAWS = 0.05, 20


def standing(state: Entered, head: LinearHead, label: int) -> ClassStanding:
    """Of a class on its own images."""
    mine = state.target_S == label
    return ClassStanding.of(state.a_SK[mine], state.target_S[mine], head, label, everywhere=False)


def left_by(state: Entered, head: LinearHead, label: int, neurons: list[int]) -> float:
    """Share of a class's images that are called so without the edges of some neurons."""
    stands = standing(state, head, label)
    for neuron in neurons:
        stands = stands.without(neuron)
    return stands.called / len(stands.own_N)


def least_with_hindsight(state: Entered, head: LinearHead, label: int) -> int:
    """How many go, each time the neuron without which the fewest are called the class; of equal ones the largest."""
    stands = standing(state, head, label)
    share_NK = stands.a_NK * head.weight_CK[label]
    gone: list[int] = []
    while stands.called > LEFT * len(stands.own_N):
        own_NK = stands.own_N[:, None] - share_NK
        called_K = (own_NK >= stands.best_N[:, None]).double().mean(0)
        cost_K = called_K + own_NK.mean(0).sigmoid().double() / (2 * len(own_NK))  # less than one image: it breaks ties
        cost_K[gone] = torch.inf
        gone.append(int(cost_K.argmin()))
        stands = stands.without(gone[-1])
    return len(gone)


def cut_as_it_is(test: Entered, head: LinearHead, label: int) -> list[int]:
    """What the method cuts, from the first unseen images."""
    mine = test.target_S == label
    looked, kept = (
        Entered(test.a_SK[rows], test.target_S[rows], test.owner_S[rows])
        for rows in (mine.nonzero()[:LOOKED, 0], (~mine).nonzero()[:KEPT, 0])
    )
    options = LRANPPConfig(cut="head")
    return cut_of(looked, kept, head, relevance_for(looked, head, options), options).neurons


def random_left(state: Entered, head: LinearHead, label: int, count: int) -> list[float]:
    """Of so many random neurons, draw by draw."""
    width = head.weight_CK.shape[1]
    draws = [torch.randperm(width, generator=torch.Generator().manual_seed(seed))[:count] for seed in range(DRAWS)]
    return [left_by(state, head, label, draw.tolist()) for draw in draws]


def rows_of(name: str, net: Net) -> Iterator[dict[str, Any]]:
    """One for each class."""
    head = head_of(net.model, "lra_npp").numbers
    train, test = (
        Entered(found.features, found.label, torch.arange(len(found.label)))
        for found in (seen(net.model, net.train), seen(net.model, net.test))
    )
    labels: Tensor = train.target_S.unique()
    for label in labels.tolist():
        cut, least = cut_as_it_is(test, head, label), least_with_hindsight(train, head, label)
        row = {"net": name, "class": label, "width": head.weight_CK.shape[1], "cut": len(cut), "least": least}
        row["left"] = left_by(train, head, label, cut)
        for which, count in (("cut", len(cut)), ("least", least)):
            row[f"random {which}"] = random_left(train, head, label, count)
        yield row


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each net: means over its classes, and the worst draw of any."""
    yield "| net | width | cut | class left | random | least, with hindsight | random |"
    yield "|---|---|---|---|---|---|---|"
    for net in dict.fromkeys(row["net"] for row in rows):
        mine = [row for row in rows if row["net"] == net]
        cells = [net, str(mine[0]["width"])]
        for which in ("cut", "least"):
            counts, left = [row[which] for row in mine], [x for row in mine for x in row[f"random {which}"]]
            cells.append(f"{sum(counts) / len(counts):.0f} ({min(counts)} to {max(counts)})")
            if which == "cut":
                cells.append(f"{sum(row['left'] for row in mine) / len(mine):.3f}")
            cells.append(f"{sum(left) / len(left):.2f} ({min(left):.2f})")
        yield f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="where mnist, cifar10 and cifar10-resnets are")
    parser.add_argument("--json", type=Path, help="file of rows; nets that are there are left out")
    parser.add_argument("--only", nargs="*", choices=tuple(NETS), default=list(NETS))
    parser.add_argument("--table", type=Path, help="file of rows to print")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.table is not None:
        print("\n".join(table(read(arguments.table))))
        return 0
    if arguments.data is None or arguments.json is None:
        parser.error("give --data DIR and --json FILE, or --table FILE")
    there = {row["net"] for row in read(arguments.json)}
    for name in [name for name in arguments.only if name not in there]:
        rows = list(rows_of(name, NETS[name](arguments.data)))
        with arguments.json.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
