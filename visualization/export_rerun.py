"""Everything on one time line as a recording for the rerun viewer; needs the optional package rerun-sdk.

Rerun's origin is the upper left corner of the image, y points down, the centre of the first pixel is at 0.5.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.atomic import write_atomic
from utils.conventions import corner_from_px
from visualization.colors import point_colors
from visualization.export_model import PointCloud
from visualization.export_tracks import TrackTable

TIME_LINE = "frame"
JPEG_QUALITY = 90
VISIBLE_RADIUS, OCCLUDED_RADIUS, CLOUD_RADIUS = 3.5, 1.5, 1.0  # on the screen


def write_rrd(path: Path, table: TrackTable, video: NDArray[np.uint8], depths: NDArray, cloud: PointCloud) -> None:
    """Write a recording with frames, tracks, depth and the canonical point cloud.

    Entities are `video`, `video/visible` and `video/occluded` (the points, each in the colour of its query's position,
    with its name), `depth`, and `canonical`, which has no time. They are complete before the file is written: rerun
    itself does not report a full disk.

    Args:
        path: Path of the file.
        table: The tracks.
        video: The frames [T,H,W,3].
        depths: Depth maps [T,h,w], of any size.
        cloud: Points of the canonical volume.
    """
    import rerun as rr  # optional
    import rerun.blueprint as views

    recording = rr.RecordingStream("omnimotion")
    memory = recording.memory_recording()
    origins = ("video", views.Spatial2DView), ("depth", views.Spatial2DView), ("canonical", views.Spatial3DView)
    recording.send_blueprint(views.Horizontal(*(view(origin=origin, name=origin) for origin, view in origins)))
    surfaces = rr.Points3D(cloud.points, colors=cloud.colors, radii=rr.Radius.ui_points(CLOUD_RADIUS))
    recording.log("canonical", rr.ViewCoordinates.RIGHT_HAND_Y_UP, surfaces, static=True)
    positions, labels = corner_from_px(table.tracks), np.array(table.labels)
    colors = point_colors(table.queries[:, 1:], *table.size)
    for t, depth in enumerate(depths):
        recording.set_time(TIME_LINE, sequence=int(table.frame_numbers[t]))
        recording.log("video", rr.Image(video[t]).compress(jpeg_quality=JPEG_QUALITY))
        for name, shown, radius in (
            ("visible", table.visibility[t], VISIBLE_RADIUS),
            ("occluded", ~table.visibility[t], OCCLUDED_RADIUS),
        ):
            points = rr.Points2D(
                positions[t, shown],
                colors=colors[shown],
                labels=labels[shown].tolist(),
                show_labels=bool(table.names),
                radii=rr.Radius.ui_points(radius),
            )
            recording.log(f"video/{name}", points)
        recording.log("depth", rr.DepthImage(depth.astype(np.float16)))  # half the size, exact to 0.1 %
    recording.flush()
    write_atomic(path, memory.drain_as_bytes())
