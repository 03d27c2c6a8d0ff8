"""Evaluation: ground truth, trackers, metrics and tables."""
