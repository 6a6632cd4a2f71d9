"""What studies share: crops to measure on, the folder of their runs."""
