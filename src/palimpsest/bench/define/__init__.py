"""What a bench is: its options and rows, its examples, and the requests that a scenario makes of them."""
