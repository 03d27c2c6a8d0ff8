"""Training data: clip, flow, tracks, sampling of pairs and pixels, and the depth prior."""
