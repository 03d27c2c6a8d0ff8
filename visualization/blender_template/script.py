"""Tracks of OmniMotion in Blender 3.6 or newer.

Run `blender -P tracks.py`, or open this file in Blender's text editor and run it there. It makes a scene of its own:

- a movie clip of the frames, with every point as a tracking marker, muted where the point is occluded;
- an orthographic camera with the clip in its background, and every point as an animated empty before it, at its depth.

Frames are read from the folder `frames` beside this file, wherever it was moved, or from where they were written.
"""

from pathlib import Path

import bpy

# data begins
SCENE: dict = {}
POINTS: list = []
# data ends

MARGIN = 1.0  # between the camera and depth 0


def main() -> None:
    """Set up the scene and show it."""
    clip = load_clip()
    scene = bpy.data.scenes.new("OmniMotion")
    set_up(scene, clip)
    add_markers(clip)
    add_camera(scene, clip)
    add_empties(scene)
    if bpy.context.window:
        bpy.context.window.scene = scene


def load_clip() -> "bpy.types.MovieClip":
    """Load the frames as an image sequence that starts in its own frame of the scene."""
    clip = bpy.data.movieclips.load(str(find_frames() / f"{SCENE['first_frame']:05d}.png"))
    clip.name, clip.frame_start = "OmniMotion", SCENE["first_frame"]
    return clip


def find_frames() -> Path:
    """Return the folder of the frames. In the text editor `__file__` ends with the text's name, but is no file."""
    script = Path(__file__)
    texts = [text.filepath for text in bpy.data.texts if text.name == script.name and text.filepath]
    files = [script.resolve(), *(Path(bpy.path.abspath(path)) for path in texts)]
    folders = (file.with_name("frames") for file in files)
    return next(filter(Path.is_dir, folders), Path(SCENE["frames"]))


def set_up(scene: "bpy.types.Scene", clip: "bpy.types.MovieClip") -> None:
    """Give the scene the clip's frames, size and, where it is known, rate."""
    scene.active_clip = clip
    scene.frame_start = SCENE["first_frame"]
    scene.frame_end = SCENE["first_frame"] + SCENE["num_frames"] - 1
    scene.frame_current = scene.frame_start
    scene.render.resolution_x, scene.render.resolution_y = SCENE["size"]
    if SCENE["fps"]:
        scene.render.fps = max(1, round(SCENE["fps"]))
        scene.render.fps_base = scene.render.fps / SCENE["fps"]


def add_markers(clip: "bpy.types.MovieClip") -> None:
    """Add a track for each point; frames of markers count from 1, positions from the lower left corner."""
    tracks = clip.tracking.objects[0].tracks
    for point in POINTS:
        track = tracks.new(name=point["name"], frame=1)
        track.use_custom_color = True
        track.color = [value / 255 for value in point["color"]]
        for frame, (position, visible) in enumerate(zip(point["markers"], point["visible"], strict=True), 1):
            marker = track.markers.insert_frame(frame)
            marker.co, marker.mute = position, not visible  # insert_frame(co=...) would cut off what exceeds 1


def add_camera(scene: "bpy.types.Scene", clip: "bpy.types.MovieClip") -> None:
    """Add a camera that looks along -z and sees from -1 to 1 along the image's longer side."""
    camera = bpy.data.objects.new("OmniMotion camera", bpy.data.cameras.new("OmniMotion camera"))
    camera.location.z = MARGIN
    camera.data.type, camera.data.ortho_scale = "ORTHO", 2.0
    camera.data.show_background_images = True
    background = camera.data.background_images.new()
    background.source, background.clip, background.alpha = "MOVIE_CLIP", clip, 1.0
    scene.collection.objects.link(camera)
    scene.camera = camera


def add_empties(scene: "bpy.types.Scene") -> None:
    """Add an empty for each point, with a key in every frame."""
    collection = bpy.data.collections.new("OmniMotion points")
    scene.collection.children.link(collection)
    for point in POINTS:
        empty = bpy.data.objects.new(point["name"], None)
        empty.empty_display_size = 0.02
        empty.color = [*(value / 255 for value in point["color"]), 1.0]
        collection.objects.link(empty)
        for frame, location in enumerate(point["locations"], SCENE["first_frame"]):
            empty.location = location
            empty.keyframe_insert("location", frame=frame)


if __name__ == "__main__":
    main()
