"""From the user's files to shards, and from shards to pixels and tensors."""
