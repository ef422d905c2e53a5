"""Step control: a run finds its own rate and length, and ends where the forget set is as if it had never been seen.

Orthogonal to the method, as scope and stopping are. Reading order: ``settings`` (what may be chosen), ``readings`` (what
the model knows), ``shadow`` and ``level`` (what it would know had it never seen the forget set), ``goal`` (how far it is
from there, and what the floors leave), ``sweep`` (the first rate), ``repair`` and ``own_words`` (keeping the rest),
``snapshots`` and ``state`` (nothing is lost), ``drive`` (the closed loop).
"""
