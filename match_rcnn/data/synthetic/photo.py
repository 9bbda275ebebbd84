"""From the drawn picture to a photo: light, colour cast, blur, noise."""

import cv2
import numpy as np
import numpy.typing as npt

from match_rcnn.data.synthetic.conditions import Conditions

Image = npt.NDArray[np.float32]


def expose(image: Image, rng: np.random.Generator, how: Conditions) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB photo of a drawn picture (RGB, 0 to 255)."""
    image = np.clip(image / np.float32(255), 0, 1)
    gamma = float(np.exp(rng.normal(0, 0.1) * how.light))
    gain = float(np.exp(rng.normal(-0.03, 0.1) * how.light))
    cast = np.exp(rng.normal(0, 0.19, 3) * how.light).astype(np.float32)
    image = np.power(image, np.float32(gamma)) * np.float32(gain) * cast
    if how.uneven:
        image = _unevenly_lit(image, rng, how)
    image = _blurred(image, rng, how)
    noise = np.float32(rng.uniform(0.0, how.noise))
    image = image + rng.standard_normal(image.shape, np.float32) * noise
    if rng.random() < how.faded:
        image = image * np.float32(0.7) + np.float32(rng.uniform(0.1, 0.25))
    return np.asarray(np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8))


def _unevenly_lit(image: Image, rng: np.random.Generator, how: Conditions) -> Image:
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    along = (x / width - 0.5) * np.float32(np.cos(angle)) + (y / height - 0.5) * np.float32(
        np.sin(angle)
    )
    light = 1 + np.float32(rng.uniform(0, how.uneven)) * along
    if rng.random() < how.shadow:  # the shadow of something
        edge = np.float32(rng.uniform(-0.3, 0.3))
        shade = np.clip((along - edge) * np.float32(12), 0, 1)
        light = light * (1 - np.float32(rng.uniform(0.2, 0.5)) * shade)
    return np.asarray(image * light[..., None], np.float32)


def _blurred(image: Image, rng: np.random.Generator, how: Conditions) -> Image:
    kind, unit = rng.random(), max(image.shape) / 256
    if kind < how.blur:
        sigma = rng.uniform(0.3, 1.1) * unit
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)
    if kind < how.blur + how.shake:
        length = max(2, round(rng.uniform(2, 5) * unit))
        kernel = np.zeros((length, length), np.float32)
        angle = rng.uniform(0, np.pi)
        half = np.array([np.cos(angle), np.sin(angle)]) * (length - 1) / 2
        ends = [tuple(round(float(c)) for c in (length - 1) / 2 + s * half) for s in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0)
        return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.float32)
    return image
