"""What the studies of GANs play: exact answers, digits, small players."""
