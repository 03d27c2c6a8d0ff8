"""Names of the styles that viz.py draws; without torch, so that the flags can list them at once."""

STYLE_NAMES = ("grid", "trails", "rainbow", "flow", "depth", "color", "canonical", "page")
