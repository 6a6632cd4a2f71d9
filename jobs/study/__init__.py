"""Claims, a paper's or our own, reproduced over several seeds."""
