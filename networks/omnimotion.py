"""The whole model of one video: the warp between frames and canonical volume, the volume, and questions to both."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from networks.canonical import CanonicalVolume
from networks.recompute import Recomputed
from networks.warp import FrameMaps, Warp, random_axes
from utils.chunking import chunked
from utils.coords import inside_image, pixel_grid
from utils.rays import points_on_rays, project, sample_depths
from utils.volrend import composite, density_to_alpha, hide_nearest, render_weights, take_heaviest

# A target sample hides the mapped point if it is nearer than this many sample spacings (released constant).
OCCLUSION_MARGIN = 1.1
# Share of the nearest samples that `mask_near` switches off early in training (released constant).
NEAR_SHARE = 0.2


@dataclass(frozen=True)
class ModelConfig:
    """All that is needed to build the networks anew; lies in the checkpoint beside their weights.

    `axes` are the coordinates changed by the coupling layers, `min_depth`/`max_depth` the ends of every ray.
    """

    num_frames: int
    height: int
    width: int
    axes: list[int] = field(default_factory=list)
    code_size: int = 128
    code_width: int = 256
    code_depth: int = 2
    coupling_width: int = 256
    coupling_depth: int = 3
    use_affine: bool = True
    affine_width: int = 256
    affine_depth: int = 7
    volume_width: int = 512
    volume_depth: int = 3
    pe_freq: int = 4
    num_samples_ray: int = 32
    min_depth: float = 0.0
    max_depth: float = 2.0
    plane_size: int = 0
    plane_channels: int = 16
    plane_interval: int = 2
    volume_plane_size: int = 0
    volume_plane_channels: int = 8


@dataclass(frozen=True)
class Rendering:
    """Everything along P×N rays of K samples: canonical points, alphas, weights and colours per sample."""

    x_canonical: Tensor  # [P,N,K,3]
    alphas: Tensor  # [P,N,K]
    weights: Tensor  # [P,N,K]
    rgbs: Tensor  # [P,N,K,3]


@dataclass(frozen=True)
class Tracks:
    """Where N points of one frame are in all T frames."""

    px: Tensor  # [T,N,2] pixels
    depth: Tensor  # [T,N]
    occlusion: Tensor  # [T,N] score in [0,1], 1 = hidden

    def occluded(self, threshold: float, height: int, width: int) -> Tensor:
        """bool [T,N]: hidden behind something nearer, or outside the image."""
        return (self.occlusion > threshold) | ~inside_image(self.px, height, width)


class OmniMotion(nn.Module):
    """The networks of one video (Wang et al., "Tracking Everything Everywhere All at Once", ICCV 2023)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.warp = Warp(
            config.num_frames,
            config.axes,
            code_size=config.code_size,
            code_width=config.code_width,
            code_depth=config.code_depth,
            coupling_width=config.coupling_width,
            coupling_depth=config.coupling_depth,
            use_affine=config.use_affine,
            affine_width=config.affine_width,
            affine_depth=config.affine_depth,
            num_freqs=config.pe_freq,
            plane_size=config.plane_size,
            plane_channels=config.plane_channels,
            plane_interval=config.plane_interval,
        )
        self.volume = CanonicalVolume(
            config.volume_width, config.volume_depth, config.volume_plane_size, config.volume_plane_channels
        )

    @classmethod
    def initialised(cls, config: ModelConfig, num_layers: int, seed: int) -> "OmniMotion":
        """New networks: coupling order and weights drawn from `seed`, the global generator left as it was."""
        axes = random_axes(num_layers, torch.Generator().manual_seed(seed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(ModelConfig(**{**asdict(config), "axes": axes}))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def checkpoint_activations(self) -> None:
        """From here on compute hidden layers again for the gradient instead of keeping them."""
        for module in self.modules():
            if isinstance(module, Recomputed):
                module.checkpoint_activations = True

    def compile_networks(self) -> None:
        """From here on run the networks as kernels of torch.compile, made when each is first called.

        For any number of points (`dynamic`): batches and queries differ in it. What lies between the networks stays as
        it is, so that recomputing and parts of a batch work as before.
        """
        self.volume.net.compile(dynamic=True)
        for part in (*self.warp.layers, *filter(None, [self.warp.affine])):
            part._network = torch.compile(part._network, dynamic=True)

    def named_parameter_groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """Parameters by name in the three groups with learning rates of their own: `feature`, `deform`, `color`.

        The released names: feature is the code net, deform the couplings and the affine net, color the volume.
        """
        groups: dict[str, dict[str, nn.Parameter]] = {"feature": {}, "deform": {}, "color": {}}
        for name, parameter in self.named_parameters():
            is_code = name.startswith("warp.code_net.")
            group = "color" if name.startswith("volume.") else "feature" if is_code else "deform"
            groups[group][name] = parameter
        return groups

    def depths(self) -> Tensor:
        """The unjittered sample depths [K] of every ray."""
        config = self.config
        return sample_depths(config.num_samples_ray, config.min_depth, config.max_depth, self.device)

    def render_rays(self, x_local: Tensor, frame_ids: Tensor, mask_near: bool = False) -> Rendering:
        """March the rays given by their samples x_local [P,N,K,3] of frames [P] through the canonical volume."""
        return self.march(self.warp.at(frame_ids), x_local, mask_near)

    def march(self, maps: FrameMaps, x_local: Tensor, mask_near: bool = False) -> Rendering:
        """`render_rays` for frames whose maps are made."""
        x_canonical = maps.to_canonical(x_local)
        rgbs, sigmas = self.volume(x_canonical)
        alphas = density_to_alpha(sigmas)
        if mask_near:
            alphas = hide_nearest(alphas, NEAR_SHARE)
        return Rendering(x_canonical, alphas, render_weights(alphas), rgbs)

    def rays(self, px: Tensor) -> Tensor:
        """Pixels [*,2] → their ray samples [*,K,3] in local coordinates."""
        return points_on_rays(px, self.depths(), self.config.height, self.config.width)

    @torch.no_grad()
    def render(self, frame_id: int, px: Tensor, chunk_size: int = 10000) -> tuple[Tensor, Tensor]:
        """Composited colour [N,3] and depth [N] at pixels px [N,2] of one frame."""
        depths = self.depths().unsqueeze(-1)

        def render_chunk(px: Tensor) -> tuple[Tensor, Tensor]:
            rays = self.render_rays(self.rays(px).unsqueeze(0), self._ids(frame_id))
            weights = rays.weights[0]
            return composite(weights, rays.rgbs[0]), composite(weights, depths.expand(*weights.shape, 1))[:, 0]

        return chunked(render_chunk, chunk_size, px.to(self.device))

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
            surface = take_heaviest(rays.weights, rays.x_canonical) if use_max_loc else rays.x_canonical
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

        source, targets = self.warp.at(torch.tensor([src_id])), self.warp.at(torch.tensor(list(tgt_ids)))
        x_tgt, occlusion = chunked(map_chunk, chunk_size, px.to(self.device))
        tgt_px = project(x_tgt, self.config.height, self.config.width)
        return Tracks(tgt_px.transpose(0, 1), x_tgt[..., 2].T, occlusion.T)

    def track(self, query_frame: int, px: Tensor, use_max_loc: bool = True, chunk_size: int = 10000) -> Tracks:
        """Follow pixels px [N,2] of one frame through the whole video; the query frame returns the query, visible."""
        tracks = self.map_points(query_frame, px, range(self.config.num_frames), use_max_loc, chunk_size)
        tracks.px[query_frame], tracks.occlusion[query_frame] = px.to(tracks.px), 0
        return tracks

    @torch.no_grad()
    def dense_tracks(self, src_id: int, tgt_ids: Iterable[int], chunk_size: int = 10000) -> Iterator[Tensor]:
        """Where every pixel of frame `src_id` is in one frame after the other, each [H,W,2] pixels.

        The surface points (heaviest samples) of the source frame are found once and kept, three numbers a pixel;
        memory grows with the picture and `chunk_size`, not with the number of frames.
        """
        height, width = self.config.height, self.config.width
        source = self.warp.at(torch.tensor([src_id]))

        def surface_of(px: Tensor) -> tuple[Tensor]:
            rays = self.march(source, self.rays(px).unsqueeze(0))
            return (take_heaviest(rays.weights, rays.x_canonical)[0],)

        (surface,) = chunked(surface_of, chunk_size, pixel_grid(height, width, self.device).flatten(0, 1))
        for tgt_id in tgt_ids:
            frame = self.warp.at(torch.tensor([tgt_id]))
            (x_tgt,) = chunked(lambda x, frame=frame: (frame.to_local(x.unsqueeze(0))[0],), chunk_size, surface)
            yield project(x_tgt, height, width).reshape(height, width, 2)

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

    def _ids(self, frame_id: int) -> Tensor:
        return torch.tensor([frame_id], device=self.device)


def load_model(checkpoint: dict, device: torch.device | str = "cpu") -> OmniMotion:
    """The networks held by one of our checkpoints (see `utils.checkpoint`), ready for inference."""
    model = OmniMotion(ModelConfig(**checkpoint["model_config"]))
    model.load_state_dict(checkpoint["model"])
    return model.to(device).eval()
