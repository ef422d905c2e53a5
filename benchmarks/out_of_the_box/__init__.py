"""The parts of ``benchmarks/out_of_the_box.py``: worlds, runs, judging, tables."""
