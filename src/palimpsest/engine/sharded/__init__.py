"""Runs of a method that is ``sharded``: rows cut into shards and slices, an adapter for each shard, an ensemble.

recipe.py    what a version was learned by, and what is refused before any weight is read
cutting.py   which slices are to be learned, on which rows, from which checkpoint
foretold.py  what that will cost
lessons.py   a slice learned by the loop, and its checkpoint
side_by_side.py   shards in processes of their own
run.py       all of it, from a model to a version
"""
