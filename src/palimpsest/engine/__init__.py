"""The machine: a plan and its sets -> a version, its scores, its verdict. Who has no wish to call a verb calls this."""
