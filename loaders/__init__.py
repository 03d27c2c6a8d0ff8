"""What a training step is drawn from: clip, flow, tracks, pairs, pixels and the depth prior."""
