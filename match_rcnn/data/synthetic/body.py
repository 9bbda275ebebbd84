"""The drawn person: proportions, poses and the map from body units to the picture plane.

One body unit is about the distance from neck to crotch; the neck is the origin, y points down,
x to the right of the picture. Sides: 0 is the left of the *picture*, 1 the right, in front and
back views alike, so that landmark order never depends on which way a person faces.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from match_rcnn.data.synthetic.curves import FloatArray, smoothstep

SHOULDER = (0.235, 0.09)
HIP = (0.11, 0.92)
UPPER_ARM, FOREARM = 0.36, 0.34
THIGH, SHIN = 0.56, 0.57
CHEST_Y, WAIST_Y, HIP_Y, CROTCH_Y = 0.30, 0.58, 0.86, 1.0
CHEST, WAIST, HIPS = 0.205, 0.165, 0.215
#: How far the chest stands before the axis about which a person turns.
DEPTH = 0.10
SIGN = (-1.0, 1.0)


def half_width(y: Any) -> FloatArray:
    """Half the torso's width at heights ``y``."""
    return np.interp(y, [0.0, CHEST_Y, WAIST_Y, HIP_Y, 1.1], [0.2, CHEST, WAIST, HIPS, 0.2])


@dataclass(frozen=True)
class Limb:
    """An arm or a leg: two bones in the picture plane."""

    root: FloatArray
    joint: FloatArray
    tip: FloatArray
    sign: float

    @cached_property
    def _upper(self) -> FloatArray:
        return np.asarray((self.joint - self.root) / np.linalg.norm(self.joint - self.root))

    @cached_property
    def _lower(self) -> FloatArray:
        return np.asarray((self.tip - self.joint) / np.linalg.norm(self.tip - self.joint))

    @cached_property
    def first(self) -> float:
        """Length of the upper bone."""
        return float(np.linalg.norm(self.joint - self.root))

    def at(self, along: Any, offset: Any) -> FloatArray:
        """(k, 2) points ``along`` the bones and ``offset`` to the limb's outer side, (k,) each."""
        along = np.atleast_1d(np.asarray(along, dtype=float))[:, None]
        offset = np.broadcast_to(np.asarray(offset, dtype=float), along.shape[:1])[:, None]
        above = self.root + along * self._upper
        below = self.joint + (along - self.first) * self._lower
        centre = np.where(along > self.first, below, above)
        blend = smoothstep((along - self.first) / 0.16 + 0.5)
        direction = (1 - blend) * self._upper + blend * self._lower
        direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-6)
        normal = self.sign * np.stack([direction[:, 1], -direction[:, 0]], axis=1)
        return np.asarray(centre + offset * normal)

    def outline(self, along: FloatArray, half: FloatArray) -> FloatArray:
        """(2k, 2) down the outer side and up the inner, ``half`` (k,) wide each way."""
        return np.concatenate([self.at(along, half), self.at(along[::-1], -half[::-1])])

    def coordinates(self, x: Any, y: Any) -> tuple[Any, Any]:
        """The (across, along) of plane points: what ``at`` undoes, up to the elbow's rounding."""
        bisector = self._upper + self._lower
        beyond = (x - self.joint[0]) * bisector[0] + (y - self.joint[1]) * bisector[1] > 0
        pieces = []
        for origin, axis, start in (
            (self.root, self._upper, 0.0),
            (self.joint, self._lower, self.first),
        ):
            dx, dy = x - origin[0], y - origin[1]
            across = self.sign * (dx * axis[1] - dy * axis[0])
            pieces.append((across, start + dx * axis[0] + dy * axis[1]))
        (near_u, near_v), (far_u, far_v) = pieces
        return np.where(beyond, far_u, near_u), np.where(beyond, far_v, near_v)


@dataclass(frozen=True)
class Pose:
    """How a person stands, or a garment lies.

    Attributes:
        worn: False draws no body (viewpoint 1).
        back: seen from behind.
        yaw: turn about the vertical axis, radians; positive faces the picture's right.
        lean, sway: sideways displacement, linear and bent.
        swing: sideways displacement of loose hems.
        wave: four offsets of the hem between its landmarks, body units.
        arms: by side, (upper arm from straight down, forearm against it), radians, outwards
            positive.
        legs: by side, (thigh, shin), as ``arms``.
    """

    worn: bool = True
    back: bool = False
    yaw: float = 0.0
    lean: float = 0.0
    sway: float = 0.0
    swing: float = 0.0
    wave: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    arms: tuple[tuple[float, float], ...] = ((0.3, 0.0), (0.3, 0.0))
    legs: tuple[tuple[float, float], ...] = ((0.06, -0.03), (0.06, -0.03))

    @property
    def squeeze(self) -> float:
        """Apparent width of a turned torso, which has some depth of its own."""
        return float(np.hypot(np.cos(self.yaw), 0.62 * np.sin(self.yaw)))

    @property
    def far_side(self) -> int | None:
        """The side that a turned person hides, None in a frontal view."""
        if abs(self.yaw) < 0.3:
            return None
        return int((self.yaw > 0) != self.back)

    def shift(self, y: Any, loose: float) -> Any:
        """Sideways displacement at heights ``y`` of the body (``loose`` 0) or a loose hem (1)."""
        body = self.lean * y + self.sway * np.sin(np.clip(y, -0.5, 2.2) * 2.2)
        if loose == 0.0:
            return body
        return body + loose * self.swing * np.maximum(y - 0.45, 0.0) ** 1.5

    def torso(self, x: Any, y: Any, depth: Any = 0.0, loose: float = 0.0) -> FloatArray:
        """(k, 2) plane points of torso points at (k,) ``x``, ``y``, ``depth`` before the axis."""
        x, y = np.atleast_1d(np.asarray(x, dtype=float)), np.atleast_1d(np.asarray(y, dtype=float))
        plane = x * self.squeeze + np.asarray(depth) * np.sin(self.yaw) + self.shift(y, loose)
        return np.stack(np.broadcast_arrays(plane, y), axis=-1).astype(float)

    def coordinates(self, x: Any, y: Any, loose: float) -> tuple[Any, Any]:
        """The torso (across, down) of plane points on the chest: what ``torso`` undoes."""
        centre = self.shift(y, loose) + DEPTH * np.sin(self.yaw)
        return (x - centre) / self.squeeze, y

    def arm(self, side: int) -> Limb:
        """The arm at ``side``."""
        root = self.torso(SIGN[side] * SHOULDER[0], SHOULDER[1])[0]
        return _limb(root, self.arms[side], (UPPER_ARM, FOREARM), side)

    def leg(self, side: int) -> Limb:
        """The leg at ``side``."""
        root = self.torso(SIGN[side] * HIP[0], HIP[1])[0]
        return _limb(root, self.legs[side], (THIGH, SHIN), side)


def _limb(
    root: FloatArray, angles: tuple[float, float], lengths: tuple[float, float], side: int
) -> Limb:
    first, second = angles[0], angles[0] + angles[1]
    joint = root + lengths[0] * np.array([SIGN[side] * np.sin(first), np.cos(first)])
    tip = joint + lengths[1] * np.array([SIGN[side] * np.sin(second), np.cos(second)])
    return Limb(root, joint, tip, SIGN[side])


def random_pose(rng: np.random.Generator, viewpoint: int, liveliness: float) -> Pose:
    """A pose of ``viewpoint`` 1 to 3; ``liveliness`` 0 stands still, 1 moves freely."""
    swing = float(np.clip(rng.normal(0, 0.05 + 0.06 * liveliness), -0.16, 0.16))
    wave = tuple(float(w) for w in rng.normal(0, 0.012 + 0.012 * liveliness, 4))
    legs = tuple(_random_leg(rng, liveliness) for _ in SIGN)
    if viewpoint == 1:
        arms = _flat_arms(rng)
        lean = float(rng.normal(0, 0.02))
        return Pose(worn=False, lean=lean, swing=swing * 0.5, wave=wave, arms=arms, legs=legs)
    arms = tuple(_random_arm(rng, liveliness) for _ in SIGN)
    back = viewpoint == 3 and rng.random() < 0.45
    if viewpoint == 3 and not back:
        yaw = float(rng.uniform(0.65, 1.25) * rng.choice(SIGN))
    else:
        yaw = float(np.clip(rng.normal(0, 0.06 + 0.12 * liveliness), -0.35, 0.35))
    lean, sway = rng.normal(0, 0.02 + 0.03 * liveliness, 2)
    return Pose(True, back, yaw, float(lean), float(sway), swing, wave, arms, legs)


def _flat_arms(rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    spread = rng.uniform(0.15, 0.95)
    bend = rng.uniform(-0.35, 0.1)
    return tuple((float(spread + rng.normal(0, 0.06)), float(bend)) for _ in SIGN)


def _random_arm(rng: np.random.Generator, liveliness: float) -> tuple[float, float]:
    kind = rng.random()
    if kind < 0.62 - 0.3 * liveliness:  # hanging
        return float(rng.uniform(0.06, 0.4)), float(rng.uniform(-0.25, 0.1))
    if kind < 0.8 - 0.25 * liveliness:  # on the hip
        return float(rng.uniform(0.6, 0.95)), float(rng.uniform(-1.7, -1.35))
    if kind < 0.9 - 0.12 * liveliness:  # held away
        return float(rng.uniform(0.5, 1.2)), float(rng.uniform(-0.5, 0.5))
    if kind < 0.9:  # before the body
        return float(rng.uniform(0.1, 0.35)), float(rng.uniform(-1.9, -1.1))
    return float(rng.uniform(1.6, 2.5)), float(rng.uniform(-0.2, 0.9))  # raised


def _random_leg(rng: np.random.Generator, liveliness: float) -> tuple[float, float]:
    spread = float(rng.uniform(0.0, 0.08 + 0.16 * liveliness))
    return spread, float(-spread * rng.uniform(0.2, 0.9) + rng.normal(0, 0.04 * liveliness))
