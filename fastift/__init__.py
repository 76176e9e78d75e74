"""fastift: restyle a picture with the statistics of other pictures, by Iterative Feature Transformation (ECCV 2020)."""

from ._version import __version__
from .affine import Affine, apply, fold
from .autoencoder import Autoencoder, AutoencoderConfig, AutoencoderProtocol
from .backend import backends
from .content import Content
from .engine import Stylizer, stylize
from .errors import DivergenceError, FastiftError, ImageFileError, InvalidInputError, OutputError, WeightsError
from .layer import IFTransform
from .moments import Moments, blend, moments
from .style import Style
from .transform import (
    adain,
    gram_distance,
    ift,
    ift_line_search,
    ift_loop,
    ift_scale_free,
    largest_stable_lam,
    ot,
    wct,
)

__all__ = [
    "Affine",
    "Autoencoder",
    "AutoencoderConfig",
    "AutoencoderProtocol",
    "Content",
    "DivergenceError",
    "FastiftError",
    "IFTransform",
    "ImageFileError",
    "InvalidInputError",
    "Moments",
    "OutputError",
    "Style",
    "Stylizer",
    "WeightsError",
    "__version__",
    "adain",
    "apply",
    "backends",
    "blend",
    "fold",
    "gram_distance",
    "ift",
    "ift_line_search",
    "ift_loop",
    "ift_scale_free",
    "largest_stable_lam",
    "moments",
    "ot",
    "stylize",
    "wct",
]
