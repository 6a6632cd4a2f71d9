"""What the studies measure on."""
