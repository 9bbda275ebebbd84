"""From the drawn picture to a photo: light, colour cast, blur, noise."""

import cv2
import numpy as np
import numpy.typing as npt


def expose(
    image: npt.NDArray[np.float32], rng: np.random.Generator, shop: bool
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a drawn picture; shops photograph well."""
    amount = 0.25 if shop else 1.0
    image = np.clip(image / np.float32(255), 0, 1)
    gamma = float(np.exp(rng.normal(0, 0.25) * amount))
    gain = float(np.exp(rng.normal(0.0 if shop else -0.05, 0.16) * amount))
    cast = np.exp(rng.normal(0, 0.09, 3) * amount).astype(np.float32)
    image = np.power(image, np.float32(gamma)) * np.float32(gain) * cast
    if not shop:
        image = _unevenly_lit(image, rng)
        image = _blurred(image, rng)
    noise = rng.uniform(0.0, 0.01 if shop else 0.04)
    image = image + rng.standard_normal(image.shape, np.float32) * np.float32(noise)
    if not shop and rng.random() < 0.2:  # washed out
        image = image * np.float32(0.7) + np.float32(rng.uniform(0.1, 0.25))
    return np.asarray(np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8))


def jpeg_quality(rng: np.random.Generator, shop: bool) -> int:
    """A JPEG quality."""
    return int(rng.integers(88, 97) if shop else rng.integers(35, 92))


def _unevenly_lit(
    image: npt.NDArray[np.float32], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    along = (x / width - 0.5) * np.float32(np.cos(angle)) + (y / height - 0.5) * np.float32(
        np.sin(angle)
    )
    light = 1 + np.float32(rng.uniform(0, 0.55)) * along
    if rng.random() < 0.3:  # the shadow of something
        edge = np.float32(rng.uniform(-0.3, 0.3))
        shade = np.clip((along - edge) * np.float32(12), 0, 1)
        light = light * (1 - np.float32(rng.uniform(0.2, 0.5)) * shade)
    return np.asarray(image * light[..., None], np.float32)


def _blurred(image: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    kind, unit = rng.random(), max(image.shape) / 256
    if kind < 0.35:
        sigma = rng.uniform(0.3, 1.3) * unit
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)
    if kind < 0.5:
        length = max(2, round(rng.uniform(2, 6) * unit))
        kernel = np.zeros((length, length), np.float32)
        angle = rng.uniform(0, np.pi)
        half = np.array([np.cos(angle), np.sin(angle)]) * (length - 1) / 2
        ends = [tuple(round(float(c)) for c in (length - 1) / 2 + s * half) for s in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0)
        return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.float32)
    return image
