"""Figures of the styles' codes."""
