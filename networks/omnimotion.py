"""The whole model of one video, and inference with it: tracks, flow, depth, colours."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from networks.checkpoints import newest_checkpoint, read_checkpoint
from networks.frame_blocks import FrameBlocks
from networks.model_config import ModelConfig
from networks.occupancy import Occupancy
from networks.ray_marcher import RayMarcher
from networks.rendering import composite, density_to_alpha, gather_max_weight, project, render_weights
from networks.tracks import CHUNK_SIZE, Tracks
from networks.warp import FrameWarp, random_axes
from utils.coords import pixel_grid
from utils.device import pick_device
from utils.errors import InputError

# A target sample occludes the mapped point if it is nearer than this many sample spacings (released constant).
OCCLUSION_MARGIN = 1.1
# Values of a hidden layer computed at a time on a CPU: with more, memory is slower than the products.
CPU_HIDDEN_VALUES = 2**20


class OmniMotion(RayMarcher):
    """The model of one video (Wang et al., "Tracking Everything Everywhere All at Once", ICCV 2023)."""

    @classmethod
    def initialised(cls, config: ModelConfig, seed: int) -> "OmniMotion":
        """Return a new model with coupling order and weights drawn from `seed`; torch's global generator is kept."""
        axes = random_axes(config.num_layers, torch.Generator().manual_seed(seed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(replace(config, axes=axes))

    @classmethod
    def from_run(cls, run_dir: Path | str, device: torch.device | str = "auto") -> "OmniMotion":
        """Load the model from the newest checkpoint of a run, ready for inference.

        Args:
            run_dir: The run's folder, `out/<expname>_<name>`. Flow, frames and the optimizer's state are not needed.
            device: As the flag `--device`: auto, cuda, cuda:1, mps or cpu.

        Raises:
            InputError: No such folder, no checkpoint in it, a damaged one or one of the released code; no such device.
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
    def map_points(
        self,
        src_ids: int | Tensor,
        px: Tensor,
        tgt_ids: Sequence[int],
        use_max_loc: bool = True,
        chunk_size: int = CHUNK_SIZE,
        with_occlusion: bool = True,
        occupancy: Occupancy | None = None,
    ) -> Tracks:
        """Map pixels of one or several frames to other frames.

        Args:
            src_ids: The frame of the pixels, or the frames [N] of each.
            px: Pixels [N,2].
            tgt_ids: The T frames to map to.
            use_max_loc: Map only each ray's sample of largest weight, its surface; otherwise map all samples and
                composite the results (paper, equation 3).
            chunk_size: Points at a time.
            with_occlusion: Compute occlusion scores, which needs marching the target rays; otherwise they are 0.
            occupancy: Samples to compute for them; the others count as empty. For many points: scores are then less
                exact, and 0 outside the image, but `Tracks.occluded` is the same for all but a few points.

        Raises:
            InputError: No such frame.
        """

        def map_chunk(queries: Tensor) -> tuple[Tensor, ...]:
            weights, x_canonical = self._march_queries(queries)
            if use_max_loc:
                x_canonical = gather_max_weight(weights, x_canonical)
            # Few points are mapped to many frames at once: for small products the overhead dominates.
            num_mapped = min(chunk_size, samples // (1 if use_max_loc else self.config.num_samples_ray))
            points = []
            for rows in torch.arange(len(tgt_ids)).split(max(1, num_mapped // len(queries))):
                x_tgt = targets.select(rows.tolist()).to_local(x_canonical.expand(len(rows), *x_canonical.shape))
                points.append(x_tgt if use_max_loc else composite(weights, x_tgt))
            x_tgt = torch.cat(points)
            if not with_occlusion:
                return x_tgt.transpose(0, 1), x_tgt.new_zeros(x_tgt.shape[1::-1])
            tgt_px = project(x_tgt, self.config.height, self.config.width)
            dense = None if occupancy is None else occupancy.at(tgt_ids, tgt_px)
            return x_tgt.transpose(0, 1), self._occlusion(targets, x_tgt, samples, dense).T

        rays, targets = self.rays_at_once(chunk_size), self._at(tgt_ids)
        samples = rays * self.config.num_samples_ray
        px = px.to(self.device)
        src_ids = torch.as_tensor(src_ids, dtype=px.dtype, device=px.device).expand(len(px))
        order = src_ids.argsort(stable=True)  # a chunk has pixels of few frames
        x_tgt, occlusion = _in_chunks(map_chunk, rays, torch.cat([src_ids.unsqueeze(-1), px], -1)[order])
        x_tgt, occlusion = x_tgt[order.argsort()].transpose(0, 1), occlusion[order.argsort()].T
        return Tracks(project(x_tgt, self.config.height, self.config.width), x_tgt[..., 2], occlusion)

    def _march_queries(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights [N,K] and canonical samples [N,K,3] of the rays of queries [N,3] (t, x, y), ordered by t."""
        frames, counts = queries[:, 0].unique_consecutive(return_counts=True)
        blocks = FrameBlocks.of_counts(counts.tolist(), self.device)
        rays = self.march(self._at(frames.tolist()).select(blocks.frames), blocks.arrange(self.rays(queries[:, 1:])))
        return blocks.rows(rays.weights), blocks.rows(rays.x_canonical)

    def _occlusion(self, frames: FrameWarp, x_local: Tensor, num_samples: int, dense: Tensor | None) -> Tensor:
        """Return the occlusion scores [T,N] in [0,1] of local points [T,N,3] of T frames.

        A score sums the rendering weights of the samples in front of the point on its ray; the others are not computed.

        Args:
            frames: The maps of the frames.
            x_local: The points.
            num_samples: Samples at a time, at least those of N rays.
            dense: Samples to compute, bool [T,N,K]; None: all that are in front.
        """
        depths = self.depths()
        px = project(x_local, self.config.height, self.config.width)
        spacing = (self.config.max_depth - self.config.min_depth) / self.config.num_samples_ray
        in_front = depths < x_local[..., 2:] - OCCLUSION_MARGIN * spacing  # [T,N,K]
        if dense is not None:
            in_front &= dense
        alphas = x_local.new_zeros(in_front.shape)
        counts = in_front.flatten(1).sum(-1).tolist()
        for first, end in _runs(counts, num_samples):
            chosen, blocks = in_front[first:end], FrameBlocks.of_counts(counts[first:end], self.device)
            warps = frames.select([first + frame for frame in blocks.frames])
            x_canonical = warps.to_canonical(blocks.arrange(self.rays(px[first:end])[chosen]))
            _, sigmas = self.volume(blocks.rows(x_canonical).unsqueeze(0))
            alphas[first:end][chosen] = density_to_alpha(sigmas[0])
        return render_weights(alphas).sum(-1)

    def track(
        self,
        query_points: Tensor,
        frames: Sequence[int] | None = None,
        use_max_loc: bool = True,
        chunk_size: int = CHUNK_SIZE,
        occupancy: Occupancy | None = None,
    ) -> Tracks:
        """Track query points; in its query's frame a point lies exactly at the query and is visible.

        Args:
            query_points: [N,3] (t, x, y), in any frames t.
            frames: Frames to track into; default: all.
            use_max_loc: As in `map_points`.
            chunk_size: As in `map_points`.
            occupancy: As in `map_points`.

        Raises:
            InputError: The queries are not [N,3] finite numbers, or a frame is not in the clip.
        """
        queries = torch.as_tensor(query_points, dtype=torch.float32).to(self.device)
        if queries.ndim != 2 or queries.shape[-1] != 3 or not len(queries) or not queries.isfinite().all():
            raise InputError(f"query points of shape {list(queries.shape)}: expected rows of finite numbers (t, x, y)")
        frames = range(self.config.num_frames) if frames is None else frames
        found = self.map_points(queries[:, 0], queries[:, 1:], frames, use_max_loc, chunk_size, occupancy=occupancy)
        rows, points = (torch.tensor(list(frames), device=self.device).unsqueeze(-1) == queries[:, 0]).nonzero().T
        found.px[rows, points], found.occlusion[rows, points] = queries[points, 1:], 0
        return found

    @torch.no_grad()
    def dense_tracks(
        self, src_id: int, tgt_ids: Iterable[int] | None = None, chunk_size: int = CHUNK_SIZE
    ) -> Iterator[Tensor]:
        """Map all pixels of a frame to target frames, and yield the positions [H,W,2] in one target after the other.

        Surface points of the source frame (samples of largest weight) are computed once and kept, three numbers a
        pixel: memory grows with the image and `chunk_size`, not with the number of frames.

        Args:
            src_id: The source frame.
            tgt_ids: Target frames; default: all.
            chunk_size: Pixels at a time.

        Raises:
            InputError: A frame is not in the clip; raised when the iterator reaches it.
        """
        height, width = self.config.height, self.config.width
        source = self._at([src_id])

        def surface_of(px: Tensor) -> tuple[Tensor]:
            rays = self.march(source, self.rays(px).unsqueeze(0))
            return (gather_max_weight(rays.weights, rays.x_canonical)[0],)

        px = pixel_grid(height, width, self.device).flatten(0, 1)
        (surface,) = _in_chunks(surface_of, self.rays_at_once(chunk_size), px)
        for tgt_id in range(self.config.num_frames) if tgt_ids is None else tgt_ids:
            frame = self._at([tgt_id])
            (x_tgt,) = _in_chunks(lambda x, frame=frame: (frame.to_local(x.unsqueeze(0))[0],), chunk_size, surface)
            yield project(x_tgt, height, width).reshape(height, width, 2)

    def flow(self, src_id: int, tgt_id: int, chunk_size: int = CHUNK_SIZE) -> Tensor:
        """Return the flow [H,W,2] in pixels from one frame to another. Raises as `dense_tracks`."""
        (px,) = self.dense_tracks(src_id, [tgt_id], chunk_size)
        return px - pixel_grid(self.config.height, self.config.width, self.device)

    @torch.no_grad()
    def render(self, frame_id: int, px: Tensor | None = None, chunk_size: int = CHUNK_SIZE) -> tuple[Tensor, Tensor]:
        """Return composited colours [*,3] in [0,1] and depths [*] at pixels of a frame.

        Args:
            frame_id: The frame.
            px: Pixels [*,2]; default: all of them, [H,W,2].
            chunk_size: Pixels at a time.

        Raises:
            InputError: No such frame.
        """
        px = pixel_grid(self.config.height, self.config.width) if px is None else px
        frame, depths = self._at([frame_id]), self.depths().unsqueeze(-1)

        def render_chunk(px: Tensor) -> tuple[Tensor, Tensor]:
            rays = self.march(frame, self.rays(px).unsqueeze(0))
            weights = rays.weights[0]
            return composite(weights, rays.rgbs[0]), composite(weights, depths.expand(*weights.shape, 1))[:, 0]

        rgb, depth = _in_chunks(render_chunk, self.rays_at_once(chunk_size), px.to(self.device).reshape(-1, 2))
        return rgb.reshape(*px.shape[:-1], 3), depth.reshape(px.shape[:-1])

    def depth(self, frame_id: int, chunk_size: int = CHUNK_SIZE) -> Tensor:
        """Return the composited depth [H,W] of a frame, small = near. Raises as `render`."""
        return self.render(frame_id, chunk_size=chunk_size)[1]

    def rays_at_once(self, chunk_size: int) -> int:
        """Return how many rays to march at a time: `chunk_size`, on a CPU at most as many as its cache holds."""
        if self.device.type != "cpu":
            return chunk_size
        width = max(self.config.coupling_width, self.config.volume_width)
        return max(1, min(chunk_size, CPU_HIDDEN_VALUES // (width * self.config.num_samples_ray)))

    def _at(self, frame_ids: Iterable[float]) -> FrameWarp:
        """Return the maps of frames; raise an InputError for a frame that is not in the clip."""
        ids, last = list(frame_ids), self.config.num_frames - 1
        if wrong := [i for i in ids if i != int(i) or not 0 <= i <= last]:
            raise InputError(f"there is no frame {wrong[0]:g}: the clip's frames are 0 to {last}, give one of these")
        return self.warp.at(torch.tensor(ids, dtype=torch.long))


def load_model(checkpoint: dict, device: torch.device | str = "cpu") -> OmniMotion:
    """Return the model of one of our checkpoints (see `networks.checkpoints`), ready for inference."""
    model = OmniMotion(ModelConfig(**checkpoint["model_config"]))
    model.load_state_dict(checkpoint["model"])
    return model.to(device).eval()


def _in_chunks(function: Callable[..., tuple[Tensor, ...]], chunk_size: int, points: Tensor) -> tuple[Tensor, ...]:
    """Apply `function` to at most `chunk_size` rows of `points` [N,*] at a time and join its outputs along axis 0."""
    return tuple(torch.cat(outputs) for outputs in zip(*map(function, points.split(chunk_size)), strict=True))


def _runs(counts: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Yield (first, end) of runs of items that hold something, and at most `limit` together unless it is one item."""
    first = total = 0
    for end, count in enumerate(counts):
        if total and total + count > limit:
            yield first, end
            first, total = end, 0
        total += count
    if total:
        yield first, len(counts)
