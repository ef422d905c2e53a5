"""The out-of-the-box pass rate: how often a run that is given files, and nothing else, forgets as retraining would.

    python benchmarks/out_of_the_box.py --data ../shared/data --json rows.jsonl [--worlds tune|show|NAME,...]
    python benchmarks/out_of_the_box.py --data ../shared/data --json rows.jsonl --rates papers
    python benchmarks/out_of_the_box.py --data ../shared/data --json rows.jsonl --images
    python benchmarks/out_of_the_box.py --table rows.jsonl

A world is a base model that was taught about 47 rows of a data set; a request asks it to forget one row, one subject or
a tenth; its oracle was retrained by the same recipe on the rest, and no run sees it. Each run is one call with the
files of the request. Its model is measured beside the oracle, then half of the forget rows are taught again and the
other half is measured, beside the oracle treated alike. What passes, and what a floor is, stands in
out_of_the_box/judge.py. Worlds and oracles are kept in ``--cache`` and rows are appended to ``--json``: the same
command goes on where it was stopped, and several may write to one file.

Worlds marked "tune" are those on which constants of the product may be chosen; claims are held against the others.
"""

from __future__ import annotations

from out_of_the_box.command import main

if __name__ == "__main__":
    raise SystemExit(main(__doc__))
