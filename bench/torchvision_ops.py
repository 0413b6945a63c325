"""Makes `import torchvision` work beside a CPU-only torch.

torchvision's wheels on PyPI are built for CUDA. Without its libraries their compiled operators do
not load; torchvision tolerates that, except where it registers fake kernels for `nms` and `qnms`,
whose schemas only the compiled code declares. pytorch_lightning is hit too: torchmetrics imports
torchvision. Nothing here uses these operators, so declaring them is enough.
"""

import functools
import importlib.machinery
import importlib.util
import sys

import torch


@functools.cache  # declares once, and keeps the library (hence the declarations) alive
def declare_ops() -> torch.library.Library | None:
    """Declares the two schemas if torchvision's compiled operators cannot load.

    Call it before the first import of torchvision or pytorch_lightning.
    """
    package = None if "torchvision" in sys.modules else importlib.util.find_spec("torchvision")
    if package is None:
        return None
    binary = importlib.machinery.PathFinder.find_spec("_C", package.submodule_search_locations)
    try:
        if binary is not None and binary.origin is not None:
            torch.ops.load_library(binary.origin)
            return None
    except OSError:
        pass
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
