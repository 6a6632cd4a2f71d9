"""One vector or code per image, computed and stored; the VGG behind it."""
