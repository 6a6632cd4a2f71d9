"""Claims measured again: a paper's or our own, with seeds and spreads."""
