"""Methods beside each other on a stream of requests, with the retrained oracle of every request in the same table.

Reading order, from the command to the result: ``define/`` says what a bench is. Its options are checked (``config``,
with ``bench_rows`` and ``defaults``), files become examples by id with one spelling of each class (``pool``,
``labels``), a scenario makes requests of them, and every request finds its memory (``situations``). ``whole_bench``
checks all that before anything runs, and lets ``perform/`` do it: tasks wait for each other (``parallel``), each the
step of one row on one request (``row_step``), which responds (``respond``) by runs on the sets it may draw from
(``drawn_sets``, ``one_run``); each of these knows where it stands (``request_cell``) and is kept by its digest
(``cache``). What a model then says is read ``beside_oracle``, and the facts of all rows are one value (``results``).
``scores`` are pure functions of these, and ``show/`` writes them: numbers (``summary``), tables (``console``,
``cells``), pictures (``charts``), warnings (``already_known``, ``caveats``), one page (``bench_page``).
"""
