"""Review: what a person is asked to look at, and the page that asks."""
