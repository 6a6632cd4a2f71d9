"""From artifacts to trained weights: the loop, what feeds it, what it reports."""
