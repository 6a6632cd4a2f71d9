"""What jobs.compare compares: the rows of its table, and their runs."""
