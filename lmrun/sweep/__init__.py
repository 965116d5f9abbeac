"""Many points of one recipe: expanded, planned, run, and compared."""
