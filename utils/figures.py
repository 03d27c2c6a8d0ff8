"""Matplotlib figures as images, without a display or global state."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray


def figure_image(figure: Figure) -> NDArray[np.uint8]:
    """Render a matplotlib figure as uint8 RGB [H,W,3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
