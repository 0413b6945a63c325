"""Runs on Lightning: one is built from its configuration, trained, evaluated and recorded."""

import logging
import warnings

from bench import light_imports

with light_imports.uncollected():
    from bench.torchvision_ops import declare_ops

    declare_ops()  # for whoever imports torchvision
    light_imports.wait()  # before Lightning
    from bench.training.run import Run

# Lightning looks for Slurm in every fit, also where it was told that a run is one process.
warnings.filterwarnings("ignore", "The `srun` command is available on your system but is not used")

# Lightning prints what it says on a handler of its own; here it belongs in a run's log.
_lightning = logging.getLogger("pytorch_lightning")
_lightning.handlers.clear()
_lightning.propagate = True

__all__ = ["Run"]
