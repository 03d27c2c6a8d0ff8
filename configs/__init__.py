"""Flags of the commands, and files that set them."""
