"""From scores to a verdict: gates, and later suites and attacks."""
