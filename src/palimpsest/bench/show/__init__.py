"""How a bench is shown: tables, pictures, one page."""
