"""MixUp and CutMix of batches; CutMix's boxes lie on the borders of encrypted blocks."""

import torch


def mix_batch(
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    mixup: float,
    cutmix: float,
    grid: int,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns a batch mixed with itself in another order, as one of MixUp and CutMix does.

    MixUp (Zhang et al. 2018) takes λ·x + (1 − λ)·x′; CutMix (Yun et al. 2019) cuts a box out of x′.
    Under a common key mixing commutes with encryption, as long as no block is cut.

    Args:
        images: floating point [N, C, H, W].
        targets: floating point [N, classes].
        mixup: alpha of λ's Beta distribution; 0 leaves MixUp out.
        cutmix: alpha of the box's share; 0 leaves CutMix out.
        grid: pixels per side of the blocks; divides H and W.
        generator: of the random numbers, on the CPU.
    """
    choices = [name for name, alpha in (("mixup", mixup), ("cutmix", cutmix)) if alpha > 0]
    if not choices:
        return images, targets
    choice = choices[int(torch.randint(len(choices), (), generator=generator))]
    order = torch.randperm(len(images), generator=generator).to(images.device)
    if choice == "mixup":
        share = _beta(mixup, generator)
        images = share * images + (1 - share) * images[order]
    else:
        top, bottom, left, right = cut_box(
            images.shape[-2] // grid, images.shape[-1] // grid, 1 - _beta(cutmix, generator), generator
        )
        box = (..., slice(top * grid, bottom * grid), slice(left * grid, right * grid))
        images = images.clone()
        images[box] = images[order][box]
        cells = (images.shape[-2] // grid) * (images.shape[-1] // grid)
        share = 1 - (bottom - top) * (right - left) / cells
    return images, share * targets + (1 - share) * targets[order]


def cut_box(
    rows: int, columns: int, share: float, generator: torch.Generator
) -> tuple[int, int, int, int]:
    """Returns a random box of about a share of a grid: first and last row + 1, the same of columns."""
    height, width = round(rows * share**0.5), round(columns * share**0.5)
    top = int(torch.randint(rows - height + 1, (), generator=generator))
    left = int(torch.randint(columns - width + 1, (), generator=generator))
    return top, top + height, left, left + width


def _beta(alpha: float, generator: torch.Generator) -> float:
    """Draws from Beta(alpha, alpha): the share of one Gamma variate in the sum of two."""
    first, second = torch._standard_gamma(  # the only sampler of torch that takes a generator
        torch.full((2,), alpha, dtype=torch.float64), generator=generator
    ).tolist()
    return first / (first + second) if first + second > 0 else 0.5
