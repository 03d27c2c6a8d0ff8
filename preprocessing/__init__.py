"""Preprocessing: from a video to filtered and chained flow on disk."""
