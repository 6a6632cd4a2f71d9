"""What the study of exact answers plays: the mixture of f-GAN's table, small players, parallel lines."""
