"""Names of the styles that viz.py draws; imports no torch, so that `--help` does not wait for it."""

STYLE_NAMES = ("grid", "trails", "rainbow", "flow", "depth", "color", "canonical", "page")
