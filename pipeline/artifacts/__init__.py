"""A folder that a job fills part by part, on any workers, and can fill again after a kill; storage, lease, pool."""
