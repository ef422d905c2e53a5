"""Step control: a run finds its own rate and length, and ends where the forget set is as if it had never been seen.

Orthogonal to the method, as scope and stopping are. Reading order: ``settings`` (what may be chosen), ``readings``
(what the model knows), ``shadow`` and ``level`` (what it would know had it never seen the forget set), ``goal`` (how
far it is from there, and what the floors leave), ``probes`` (which rows are read), ``own_words`` (replay without a
file), ``snapshots`` and ``state`` (nothing is lost), ``hands`` (what a run does), ``sweep`` (its first rate),
``drive`` (the closed loop of unlearning) and ``learning`` (that of learning).
"""
