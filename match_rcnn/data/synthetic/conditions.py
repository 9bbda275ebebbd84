"""How shops and consumers photograph: every number that makes one harder than the other."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Conditions:
    """Shares are probabilities; the rest of the photos takes the ordinary case.

    Attributes:
        viewpoints: shares of viewpoint 1 (not worn), 2 (frontal), 3 (side or back).
        liveliness: 0 stands still, 1 moves freely.
        whole: share of photos framed by the whole outfit instead of the main garment.
        far, zoom: shares of photos taken from afar, and of those that cut the garment off.
        far_range, near_range, zoom_range: extent of the main garment against the picture's.
        jitter: displacement of the main garment from the middle, against the picture.
        tilt: rotation of the camera, radians (standard deviation); laid garments turn more.
        bystander: share with a second person.
        outwear: share of outfits that get a jacket which the photo is not of.
        occluders: shares of 0, 1, 2 things before the clothes.
        occluder_size: their size against the usual one.
        light: strength of exposure errors and colour casts.
        uneven, shadow: strongest unevenness of the light; share with a cast shadow.
        blur, shake: shares of unsharp and of shaken photos.
        noise: strongest noise, of the full range.
        faded: share of washed-out photos.
        jpeg: lowest and highest quality.
    """

    viewpoints: tuple[float, float, float]
    liveliness: float
    whole: float
    far: float
    zoom: float
    far_range: tuple[float, float]
    near_range: tuple[float, float]
    zoom_range: tuple[float, float]
    jitter: float
    tilt: float
    bystander: float
    outwear: float
    occluders: tuple[float, float, float]
    occluder_size: tuple[float, float]
    light: float
    uneven: float
    shadow: float
    blur: float
    shake: float
    noise: float
    faded: float
    jpeg: tuple[int, int]


# Soft enough that a small network trained from nothing for ten minutes on two CPU cores learns
# the categories, and hard enough that every variation costs it.
SHOP = Conditions(
    viewpoints=(0.42, 0.54, 0.04),
    liveliness=0.04,
    whole=0.6,
    far=0.05,
    zoom=0.05,
    far_range=(0.4, 0.55),
    near_range=(0.65, 0.92),
    zoom_range=(1.0, 1.2),
    jitter=0.04,
    tilt=0.02,
    bystander=0.0,
    outwear=0.04,
    occluders=(0.95, 0.05, 0.0),
    occluder_size=(0.4, 0.7),
    light=0.15,
    uneven=0.0,
    shadow=0.0,
    blur=0.0,
    shake=0.0,
    noise=0.006,
    faded=0.0,
    jpeg=(88, 96),
)
USER = Conditions(
    viewpoints=(0.26, 0.67, 0.07),
    liveliness=0.12,
    whole=0.5,
    far=0.06,
    zoom=0.12,
    far_range=(0.38, 0.55),
    near_range=(0.6, 0.92),
    zoom_range=(1.05, 1.4),
    jitter=0.07,
    tilt=0.06,
    bystander=0.06,
    outwear=0.1,
    occluders=(0.75, 0.22, 0.03),
    occluder_size=(0.45, 1.0),
    light=0.75,
    uneven=0.15,
    shadow=0.15,
    blur=0.15,
    shake=0.08,
    noise=0.012,
    faded=0.04,
    jpeg=(50, 92),
)


def conditions(source: str) -> Conditions:
    """The conditions of ``user`` or ``shop`` photos."""
    return {"user": USER, "shop": SHOP}[source]
