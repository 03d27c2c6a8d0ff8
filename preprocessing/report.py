"""Report on the correspondences that preprocessing found: how many, and which frames have too few for training."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from preprocessing.sequence_paths import SequencePaths
from utils.data_files import read_json
from utils.figures import figure_image
from utils.images import decode_image, write_image

# A frame has few correspondences if less than the share FEW_VALID of its pixels is valid, on average over its pairs up
# to NEAR_GAPS frames apart. Chosen by eye, not measured.
NEAR_GAPS, FEW_VALID = 4, 0.3
MAX_MAPS, COLUMNS = 12, 4  # count maps shown


def report_path(paths: SequencePaths, chain: bool = True) -> Path:
    """Return the path of the picture for products with or without chaining."""
    return paths.root / ("report.png" if chain else "report_unchained.png")


def valid_fractions(paths: SequencePaths, names: list[str]) -> np.ndarray:
    """Return the share of valid pixels of every ordered pair [T,T]; NaN where a pair has no flow."""
    stats = read_json(paths.flow_stats)
    assert isinstance(stats, dict)  # written by `write_counts`
    size = decode_image(paths.count_map(names[0])).size
    return np.array([[stats[a].get(b, np.nan) for b in names] for a in names]) / size


def write_report(paths: SequencePaths, names: list[str], picture: Path) -> str:
    """Draw the report on filtered or chained products.

    Args:
        paths: The products that training will read.
        names: Frame file names in order.
        picture: A png to write: valid share by frame gap, by frame, and count maps of some frames.

    Returns:
        The report as a paragraph.
    """
    fractions = valid_fractions(paths, names)
    gaps = np.abs(np.subtract.outer(np.arange(len(names)), np.arange(len(names))))
    present = sorted(set(gaps[np.isfinite(fractions)]))
    by_gap = [np.nanmean(fractions[gaps == gap]) for gap in present]
    near = np.where(gaps <= NEAR_GAPS, fractions, np.nan)
    by_frame = np.nanmean(near, 1)
    few = [name for name, share in zip(names, by_frame, strict=True) if share < FEW_VALID]
    _draw(picture, (present, by_gap), by_frame, [decode_image(paths.count_map(name)) for name in _shown(names)])
    half = next((gap for gap, share in zip(present, by_gap, strict=True) if share < 0.5 * by_gap[0]), None)
    lines = [
        f"correspondences: {by_gap[0]:.0%} of the pixels are valid at gap {present[0]}, {by_gap[-1]:.0%} at gap "
        f"{present[-1]}" + (f"; half of the first is lost at gap {half}" if half else "")
    ]
    if few:
        named = ", ".join(few[:8]) + (f" and {len(few) - 8} more" if len(few) > 8 else "")
        lines.append(
            f"{len(few)} of {len(names)} frames have few (below {FEW_VALID:.0%} within {NEAR_GAPS} frames): {named}; "
            "expect tracks to break there (a cut, blur, darkness?), or leave these frames out"
        )
    lines.append(f"picture: {picture}")
    return "\n".join(lines)


def _shown(names: list[str]) -> list[str]:
    return [names[k] for k in np.unique(np.linspace(0, len(names) - 1, MAX_MAPS).round().astype(int))]


def _draw(picture: Path, by_gap: tuple[list[int], list[float]], by_frame: np.ndarray, counts: list[np.ndarray]) -> None:
    rows = -(-len(counts) // COLUMNS)
    figure = Figure(figsize=(10, 3 + 1.6 * rows), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[3, 1.6 * rows])[:, 0]
    left, right = top.subplots(1, 2)
    left.plot(*by_gap, marker="." if len(by_gap[0]) < 30 else None)
    left.set(xlabel="frame gap", ylabel="valid share of the pixels", ylim=(0, 1))
    right.bar(np.arange(len(by_frame)), by_frame, color=np.where(by_frame < FEW_VALID, "tab:red", "tab:blue"), width=1)
    right.axhline(FEW_VALID, color="tab:red", linewidth=0.8)
    right.set(xlabel="frame", ylabel=f"valid share within {NEAR_GAPS} frames", ylim=(0, 1))
    axes = bottom.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, count in zip(axes, counts, strict=False):
        shown = axis.imshow(count, vmin=0, vmax=max(int(c.max()) for c in counts))
    bottom.colorbar(shown, ax=axes.tolist(), label="valid pairs of a pixel")
    write_image(picture, figure_image(figure))
