"""What layers that vary sound have in common: draws by row, and nothing outside training."""

from __future__ import annotations

from typing import Any

from handmill import ops, random
from handmill.errors import ShapeError
from handmill.ir.shapes import FLOATS
from handmill.layers.layer import Layer
from handmill.layers.preprocessing.images.draws import Draws, draws_of


class SoundLayer(Layer):
    """Changes each sound of a batch by numbers of its own while training.

    In ``fit`` what is drawn follows from seed, epoch and the number of the row in the data, as for
    images.

    Args:
        seed: an integer; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.
    """

    RANKS: tuple[int, ...] = (2, 3)
    MEANING = "(batch, samples) or (batch, samples, channels)"

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.generator = random.SeedGenerator(seed)
        self.supports_masking = True
        self._build_at_init()

    @property
    def row_generator(self) -> random.SeedGenerator:
        """What draws for rows whose numbers are known."""
        return self.generator

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Computes the output."""
        shape = ops.shape(inputs)
        if len(shape) not in self.RANKS or ops.dtype(inputs) not in FLOATS:
            raise ShapeError(
                f"{self.describe()}: floats of shape {self.MEANING} were expected, received "
                f"{ops.dtype(inputs)} of shape {tuple(shape)}"
            )
        if not training:
            return inputs
        return ops.cast(self.varied(inputs, draws_of(self.generator)), ops.dtype(inputs))

    def varied(self, sounds: Any, draws: Draws) -> Any:
        """Returns the sounds changed by what is drawn."""
        raise NotImplementedError(f"{type(self).__name__} defines no `varied`")

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output: that of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "seed": self.seed}


def of_each(numbers: Any, rank: int) -> Any:
    """One number for each sound, in a shape that broadcasts with the sounds."""
    return ops.reshape(numbers, (-1,) + (1,) * (rank - 1))
