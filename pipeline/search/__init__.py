"""Arrays in, exact lists out: no artifact folders and no Ray."""
