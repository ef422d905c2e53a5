"""How a bench is carried out: runs, chains of runs, and what is kept of them."""
