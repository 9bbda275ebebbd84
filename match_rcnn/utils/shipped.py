"""Files that come with the package, by name."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def configs_folder() -> Path:
    """Where the configs are: in the package; in a clone, at its top."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def samples_folder() -> Path:
    """Where the sample photographs are, as the configs."""
    inside = _PACKAGE / "samples"
    return inside if inside.is_dir() else _PACKAGE.parent / "samples"


def shipped_models() -> dict[str, Path]:
    """The models that come with the package, by name."""
    return {file.stem: file for file in sorted((_PACKAGE / "models").glob("*.safetensors"))}


def config_file(name: str | Path) -> Path:
    """A config by its path, or by the name of one that comes with the package.

    Args:
        name: such as ``configs/quickstart.yaml``, ``quickstart`` or ``quickstart.yaml``.

    Raises:
        FileNotFoundError: there is no such file, and no config of that name.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = {file.stem: file for file in sorted(configs_folder().glob("*.yaml"))}
    named = known.get(path.name.removesuffix(".yaml")) if path.parent == Path() else None
    if named is None:
        raise FileNotFoundError(
            f"there is no config file {name}; those that come with the package are "
            f"{', '.join(known)}"
        )
    return named
