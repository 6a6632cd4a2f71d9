"""The nearest and furthest images of each image of a whole data set, found as units of work on Ray."""
