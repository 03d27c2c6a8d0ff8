"""Pictures, videos, exports and the interactive page of a trained model."""
