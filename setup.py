"""Installation of match_rcnn; every dependency is declared here and only here."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

INSTALL_REQUIRES = [
    "torch>=2.4",
    "torchvision>=0.19",
    "numpy>=1.24",
    "pycocotools>=2.0.6",
    # opencv-python without its GUI half: the same `cv2`, and it imports on servers without libGL.
    "opencv-python-headless>=4.8",
    "Pillow>=10.1",
    "fvcore>=0.1.5.post20221221",
    "iopath>=0.1.9",
    "tqdm>=4.60",
    "tabulate>=0.9",
    "termcolor>=2.0",
    "orjson>=3.9",
    "safetensors>=0.4.3",
    "PyYAML>=6.0",
    "tensorboard>=2.12",
    "Jinja2>=3.1",
    "MarkupSafe>=2.1",
    "shtab>=1.6",  # completion in shells
]

GALLERY_REQUIRES = [
    "pylance>=14.0",  # where galleries are stored
    "pyarrow>=16.0",
]
INDEX_REQUIRES = [
    *GALLERY_REQUIRES,
    "faiss-cpu>=1.8",  # approximate search of large galleries
]

# What Gallery.export() writes into; milvus-lite is a Milvus in a file.
DATABASES_REQUIRE = [
    "qdrant-client>=1.20",
    "pymilvus>=3.0",
    "milvus-lite>=3.2; sys_platform != 'win32'",
    "psycopg[binary]>=3.3",
]

# Writing a model as ONNX and running it; running alone needs onnxruntime only.
EXPORT_REQUIRES = ["onnx>=1.16", "onnxruntime>=1.18.1"]

SERVE_REQUIRES = [
    *GALLERY_REQUIRES,
    "starlette>=0.45",
    "uvicorn>=0.34",
    "h11>=0.14",  # uvicorn's HTTP in Python, which match_rcnn.serving.limits adds to
    "anyio>=4.0",
    "prometheus_client>=0.20",
]

CCP_REQUIRES = ["scipy>=1.10"]  # Clothing Co-Parsing's pixel maps are MATLAB files

# The documentation as a site: `make docs`.
DOCS_REQUIRES = ["sphinx>=7.4", "myst-parser>=4.0", "furo>=2024.8.6"]

EXTRAS_REQUIRE = {
    "gallery": GALLERY_REQUIRES,
    "index": INDEX_REQUIRES,
    "databases": DATABASES_REQUIRE,
    "ray": ["ray[data]>=2.60", *GALLERY_REQUIRES],  # catalogues embedded by a cluster
    "cloud": ["fsspec>=2023.6", *GALLERY_REQUIRES],  # photos and galleries in object stores
    "ccp": CCP_REQUIRES,
    "export": EXPORT_REQUIRES,
    "docs": DOCS_REQUIRES,
    "serve": SERVE_REQUIRES,
    "hub": ["huggingface_hub>=0.20"],  # weights named hf://owner/repository/file
    "timm": ["timm>=1.0"],  # its classifiers as backbones
    "wandb": ["wandb>=0.16"],
    "browser": ["playwright>=1.49"],  # tests of the page; they use the machine's Chromium
    "dev": [
        *INDEX_REQUIRES,
        *DATABASES_REQUIRE,
        *CCP_REQUIRES,
        *EXPORT_REQUIRES,
        *DOCS_REQUIRES,
        *SERVE_REQUIRES,
        "httpx2>=2.0",  # starlette's TestClient; before 1.0 it wants
        "httpx>=0.27",
        "jsonschema>=4.20",
        "ruff>=0.15",
        "mypy>=1.15",
        "pytest>=8.0",
        "pytest-xdist>=3.5",
        "hypothesis>=6.100",
        "hotcoco>=1.3",
        "types-PyYAML",
        "types-tabulate",
        "types-tqdm",
    ],
}


def read_version() -> str:
    for line in (ROOT / "match_rcnn" / "__init__.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise RuntimeError("match_rcnn/__init__.py states no __version__")


setup(
    name="match_rcnn",
    version=read_version(),
    description="Match R-CNN on DeepFashion2: a detectron2 extension that also runs without it",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[
        *find_packages(include=["match_rcnn", "match_rcnn.*"]),
        "match_rcnn.configs",
        "match_rcnn.samples",
    ],
    # These lie at the top, where people find them, and go along inside of the package.
    package_dir={"match_rcnn.configs": "configs", "match_rcnn.samples": "samples"},
    package_data={
        "match_rcnn.configs": ["*.yaml"],
        "match_rcnn.samples": ["*.jpg"],
        "match_rcnn": ["py.typed", "models/*.safetensors"],
        "match_rcnn.data": ["*.json"],
        "match_rcnn.reporting": ["templates/*"],
        "match_rcnn.serving": ["openapi.yaml", "page/*"],
        "match_rcnn.data.sources": ["*.json"],
        "match_rcnn.data.synthetic": ["*.json"],
    },
    entry_points={"console_scripts": ["match-rcnn = match_rcnn.cli:main"]},
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
)
