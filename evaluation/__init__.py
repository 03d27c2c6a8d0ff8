"""Ground truth, trackers, metrics and tables."""
