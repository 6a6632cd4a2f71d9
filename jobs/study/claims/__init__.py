"""What jobs.study step-claims trains and measures."""
