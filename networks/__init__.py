"""The model: maps between frames and the canonical volume, the volume, rays, tracks and checkpoints."""
