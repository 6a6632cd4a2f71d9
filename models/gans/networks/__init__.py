"""Backbones: perceptrons, DCGAN's and WGAN-GP's networks, auto-encoders. Weights come from a passed generator."""
