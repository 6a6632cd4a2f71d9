"""The figures of a finished run."""
