"""A training run on disk: checkpoints, samples, the MLflow model."""
