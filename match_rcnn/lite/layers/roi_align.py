"""RoIAlign (He et al., Mask R-CNN, 2017), as a module over torchvision's operator."""

from torch import Tensor, nn
from torchvision.ops import roi_align


class ROIAlign(nn.Module):
    """Pools the map under each box to a fixed size, by bilinear sampling.

    Args:
        output_size: (height, width) of the pooled map, or one number for both.
        spatial_scale: map cells per box unit.
        sampling_ratio: samples per pooled cell and axis; 0 takes as many as the box has cells.
        aligned: shift by half a cell, so that a cell's value lies at its centre
            ("ROIAlignV2"); without, the first Detectron's behaviour.
    """

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool = True,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pool ``rois`` (R, 5: index in the batch, x0, y0, x1, y1) from ``input`` (N, C, H, W).

        Returns:
            (R, C, output height, output width).
        """
        if rois.dim() != 2 or rois.shape[1] != 5:
            raise ValueError(f"expected rois of shape (R, 5), got {tuple(rois.shape)}")
        return roi_align(
            input,
            rois.to(input.dtype),
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.aligned,
        )

    def extra_repr(self) -> str:
        names = ("output_size", "spatial_scale", "sampling_ratio", "aligned")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)
