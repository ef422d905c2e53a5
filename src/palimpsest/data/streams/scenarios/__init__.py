"""Request streams: the three scenarios of continual learning and unlearning, and one for texts about people.

    task_aware            whole tasks, learned for good (R) or temporarily (T), and forgotten (F): CLPU's sequence
    cross_task_category   task by task; now and then one class of each of several earlier tasks is unlearned
    random_samples        task by task; after each a random share of all that is still known is unlearned
    interleaved           groups learned, and a given part of each unlearned, in any order

Builders are pure functions of metadata (``data/streams/tasks.py``) and a seed.
"""
