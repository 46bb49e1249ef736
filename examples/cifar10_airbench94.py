"""CIFAR-10 from JPEG files by the whole recipe of airbench94: 1.97 million weights, 9.9 passes.

    python examples/cifar10_airbench94.py [--epochs 9.9] [--seeds 1] [--data FOLDER]

Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU" (2024); 0.34 PFLOP, which two cores need
half an hour for. Files are JPEG here, with colours at half resolution, and lose some of that.
"""

from __future__ import annotations

import cifar10_fast

if __name__ == "__main__":
    cifar10_fast.main("cifar10_airbench94", __doc__, [64, 256, 256])
