"""What a bench is: its options, examples, requests and rows."""
