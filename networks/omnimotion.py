"""The whole model of one video, and the questions that it answers: tracks, flow, depth, colour."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from networks.checkpoints import newest_checkpoint, read_checkpoint
from networks.model_config import ModelConfig
from networks.ray_marcher import RayMarcher
from networks.rendering import composite, density_to_alpha, gather_max_weight, project, render_weights
from networks.warp import FrameMaps, random_axes
from utils.coords import is_inside_image, pixel_grid
from utils.device import pick_device
from utils.errors import InputError

# A target sample hides the mapped point if it is nearer than this many sample spacings (released constant).
OCCLUSION_MARGIN = 1.1


@dataclass(frozen=True)
class TrackingOptions:
    """How points are tracked: by the heaviest sample or the composite, how many at a time, and when they are occluded."""

    use_max_loc: bool = True
    chunk_size: int = 10000
    occlusion_th: float = 0.99


@dataclass(frozen=True)
class Tracks:
    """Where N points are in T frames."""

    px: Tensor  # [T,N,2] pixels
    depth: Tensor  # [T,N]
    occlusion: Tensor  # [T,N] score in [0,1], 1 = hidden

    @classmethod
    def joined(cls, pieces: Sequence["Tracks"]) -> "Tracks":
        """The points of all pieces, one after the other, in the same frames."""
        return cls(*(torch.cat([getattr(piece, f.name) for piece in pieces], 1) for f in fields(cls)))

    def occluded(self, threshold: float, height: int, width: int) -> Tensor:
        """bool [T,N]: hidden behind something nearer, or outside the image."""
        return (self.occlusion > threshold) | ~is_inside_image(self.px, height, width)


class OmniMotion(RayMarcher):
    """The networks of one video (Wang et al., "Tracking Everything Everywhere All at Once", ICCV 2023)."""

    @classmethod
    def initialised(cls, config: ModelConfig, num_layers: int, seed: int) -> "OmniMotion":
        """New networks: coupling order and weights drawn from `seed`, the global generator left as it was."""
        axes = random_axes(num_layers, torch.Generator().manual_seed(seed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(ModelConfig(**{**asdict(config), "axes": axes}))

    @classmethod
    def from_run(cls, run_dir: Path | str, device: torch.device | str = "auto") -> "OmniMotion":
        """The model of a run's folder (`out/<expname>_<name>`), as of its newest checkpoint, ready for questions.

        `device` as the flag: auto, cuda, cuda:1, mps or cpu. Neither flow, frames nor the optimizer's state are needed.

        Raises:
            InputError: no such folder, no checkpoint in it, a damaged one or one of the released code; no such device.
        """
        path, device = newest_checkpoint(Path(run_dir)), pick_device(str(device))
        try:
            model = load_model(read_checkpoint(path))
        except (KeyError, TypeError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{path} does not hold a model of this code ({reason}): give another run, or for a checkpoint of the "
                "released code use networks.released_checkpoint.load_released_checkpoint"
            ) from error
        return model.to(device)

    @torch.no_grad()
    def render(self, frame_id: int, px: Tensor | None = None, chunk_size: int = 10000) -> tuple[Tensor, Tensor]:
        """Composited colour [*,3] in [0,1] and depth [*] at pixels px [*,2] of a frame (default: all of them, [H,W,2]).

        Raises:
            InputError: no such frame.
        """
        px = pixel_grid(self.config.height, self.config.width) if px is None else px
        frame, depths = self._at([frame_id]), self.depths().unsqueeze(-1)

        def render_chunk(px: Tensor) -> tuple[Tensor, Tensor]:
            rays = self.march(frame, self.rays(px).unsqueeze(0))
            weights = rays.weights[0]
            return composite(weights, rays.rgbs[0]), composite(weights, depths.expand(*weights.shape, 1))[:, 0]

        rgb, depth = chunked(render_chunk, chunk_size, px.to(self.device).reshape(-1, 2))
        return rgb.reshape(*px.shape[:-1], 3), depth.reshape(px.shape[:-1])

    def depth(self, frame_id: int, chunk_size: int = 10000) -> Tensor:
        """Composited depth of every pixel of a frame, [H,W], small = near. Raises InputError: no such frame."""
        return self.render(frame_id, chunk_size=chunk_size)[1]

    @torch.no_grad()
    def map_points(
        self,
        src_id: int,
        px: Tensor,
        tgt_ids: Sequence[int],
        use_max_loc: bool = True,
        chunk_size: int = 10000,
        with_occlusion: bool = True,
    ) -> Tracks:
        """Where pixels px [N,2] of frame `src_id` are in each of the frames `tgt_ids` (T of them).

        `use_max_loc` takes the surface point of a ray at its heaviest sample; otherwise all samples are mapped and
        composited (paper, equation 3). Without `with_occlusion` the scores are 0 and the target rays are not marched.
        """

        def map_chunk(px: Tensor) -> tuple[Tensor, ...]:
            rays = self.march(source, self.rays(px).unsqueeze(0))
            surface = gather_max_weight(rays.weights, rays.x_canonical) if use_max_loc else rays.x_canonical
            # Few points are mapped to many frames at once: small products would cost more around them than in them.
            at_once = max(1, chunk_size // len(px))
            points = []
            for rows in torch.arange(len(tgt_ids)).split(at_once):
                x_tgt = targets.pick(rows.tolist()).to_local(surface.expand(len(rows), *surface.shape[1:]))
                points.append(x_tgt if use_max_loc else composite(rays.weights, x_tgt))
            x_tgt = torch.cat(points)
            scores = x_tgt.new_zeros(x_tgt.shape[:2])
            if with_occlusion:
                for row, x in enumerate(x_tgt):
                    scores[row] = self._occlusion(targets.pick([row]), x)
            return x_tgt.transpose(0, 1), scores.T

        source, targets = self._at([src_id]), self._at(tgt_ids)
        x_tgt, occlusion = chunked(map_chunk, chunk_size, px.to(self.device))
        tgt_px = project(x_tgt, self.config.height, self.config.width)
        return Tracks(tgt_px.transpose(0, 1), x_tgt[..., 2].T, occlusion.T)

    def track(
        self,
        query_points: Tensor,
        frames: Sequence[int] | None = None,
        use_max_loc: bool = True,
        chunk_size: int = 10000,
    ) -> Tracks:
        """Follow query points [N,3] (t, x, y), of any frames t, into `frames` (default: all). Others as `map_points`.

        In its own frame a point is where the query says, visible.

        Raises:
            InputError: not [N,3] finite numbers, or frames that the clip has not.
        """
        queries = torch.as_tensor(query_points, dtype=torch.float32).to(self.device)
        if queries.ndim != 2 or queries.shape[-1] != 3 or not len(queries) or not queries.isfinite().all():
            raise InputError(f"query points of shape {list(queries.shape)}: expected rows of finite numbers (t, x, y)")
        frames = range(self.config.num_frames) if frames is None else frames
        pieces, places = [], []
        for t in queries[:, 0].unique().tolist():
            rows = (queries[:, 0] == t).nonzero()[:, 0]
            found = self.map_points(t, queries[rows, 1:], frames, use_max_loc, chunk_size)
            own = torch.tensor([frame == t for frame in frames], dtype=torch.bool, device=self.device)
            found.px[own], found.occlusion[own] = queries[rows, 1:], 0
            pieces.append(found)
            places.append(rows)
        order = torch.cat(places).argsort()
        joined = Tracks.joined(pieces)
        return Tracks(joined.px[:, order], joined.depth[:, order], joined.occlusion[:, order])

    @torch.no_grad()
    def dense_tracks(
        self, src_id: int, tgt_ids: Iterable[int] | None = None, chunk_size: int = 10000
    ) -> Iterator[Tensor]:
        """Where every pixel of frame `src_id` is in one frame after the other (default: all), each [H,W,2] pixels.

        The surface points (heaviest samples) of the source frame are found once and kept, three numbers a pixel;
        memory grows with the picture and `chunk_size`, not with the number of frames.

        Raises:
            InputError: a frame that the clip has not, once it is asked for.
        """
        height, width = self.config.height, self.config.width
        source = self._at([src_id])

        def surface_of(px: Tensor) -> tuple[Tensor]:
            rays = self.march(source, self.rays(px).unsqueeze(0))
            return (gather_max_weight(rays.weights, rays.x_canonical)[0],)

        (surface,) = chunked(surface_of, chunk_size, pixel_grid(height, width, self.device).flatten(0, 1))
        for tgt_id in range(self.config.num_frames) if tgt_ids is None else tgt_ids:
            frame = self._at([tgt_id])
            (x_tgt,) = chunked(lambda x, frame=frame: (frame.to_local(x.unsqueeze(0))[0],), chunk_size, surface)
            yield project(x_tgt, height, width).reshape(height, width, 2)

    def flow(self, src_id: int, tgt_id: int, chunk_size: int = 10000) -> Tensor:
        """How far every pixel of a frame moves until another frame, [H,W,2] pixels. Errors as `dense_tracks`."""
        (px,) = self.dense_tracks(src_id, [tgt_id], chunk_size)
        return px - pixel_grid(self.config.height, self.config.width, self.device)

    def _occlusion(self, frame: FrameMaps, x_local: Tensor) -> Tensor:
        """Σ of the weights of the samples in front of local points [N,3] of a frame on their own rays; [N] in [0,1].

        What lies behind a point has no part in the sum and is not computed.
        """
        depths = self.depths()
        px = project(x_local, self.config.height, self.config.width)
        spacing = (self.config.max_depth - self.config.min_depth) / self.config.num_samples_ray
        in_front = depths < x_local[:, 2:] - OCCLUSION_MARGIN * spacing  # [N,K]
        alphas = x_local.new_zeros(in_front.shape)
        if in_front.any():
            _, sigmas = self.volume(frame.to_canonical(self.rays(px)[in_front].unsqueeze(0)))
            alphas[in_front] = density_to_alpha(sigmas[0])
        return render_weights(alphas).sum(-1)

    def _at(self, frame_ids: Iterable[float]) -> FrameMaps:
        """The maps of frames that the clip has."""
        ids, last = list(frame_ids), self.config.num_frames - 1
        if wrong := [i for i in ids if i != int(i) or not 0 <= i <= last]:
            raise InputError(f"there is no frame {wrong[0]:g}: the clip's frames are 0 to {last}, give one of these")
        return self.warp.at(torch.tensor(ids, dtype=torch.long))


def load_model(checkpoint: dict, device: torch.device | str = "cpu") -> OmniMotion:
    """The networks held by one of our checkpoints (see `networks.checkpoints`), ready for inference."""
    model = OmniMotion(ModelConfig(**checkpoint["model_config"]))
    model.load_state_dict(checkpoint["model"])
    return model.to(device).eval()


def chunked(function: Callable[..., tuple[Tensor, ...]], chunk_size: int, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Apply `function` to pieces of at most `chunk_size` rows of `inputs` [N,*]; outputs joined along axis 0."""
    pieces = [
        function(*(x[start : start + chunk_size] for x in inputs)) for start in range(0, len(inputs[0]), chunk_size)
    ]
    return tuple(torch.cat(outputs) for outputs in zip(*pieces, strict=True))
