"""p(x | h) as the recipe has it: the model, and what makes its condition of a class, vector or the picture itself."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from models.common.seeds import seeded
from models.family import Facts
from models.pixelcnn.conditions import Condition, Upsampler
from models.pixelcnn.encoder import Encoder
from models.pixelcnn.heads import Bernoulli, Head, Mixture, Softmax
from models.pixelcnn.model import Model, refuse_batch_norm
from models.pixelcnn.networks import Gated, Plain, Sizes
from models.pixelcnn.recipe import Config


class Conditional(nn.Module):
    """p(x | h) with what makes the condition of h: an encoder where h is the picture's own code, m(h) where it becomes
    a map."""

    def __init__(self, recipe: Config, facts: Facts) -> None:
        super().__init__()
        r, generator = recipe, seeded(recipe.seed, "model")
        vector, maps = condition_sizes(r, facts)
        self.up = Upsampler(vector, r.map_features, r.map_features, r.frame, generator) if r.located else None
        self.encoder = (
            Encoder(r.channels, r.encoder_features, r.code, r.frame, generator) if r.condition == "own" else None
        )
        head = head_of(r)
        sizes = Sizes(
            channels=r.channels,
            outputs=head.outputs,
            groups=r.channels if head.ordered else 1,
            features=r.features,
            layers=r.layers,
            first_kernel=r.first_kernel,
            kernel=r.kernel,
            dilations=r.dilations,
            head=r.head_features,
            vector=0 if r.located else vector,
            maps=r.map_features if r.located else maps,
            embedding=r.embedding,
        )
        net = Gated(sizes, generator) if r.network == "gated" else Plain(sizes, generator)
        self.model = Model(net, head, r.frame, generator)
        refuse_batch_norm(self)

    def condition(self, h: Tensor | None) -> Condition:
        """Of a one-hot class, a vector, a code, or a map; None without any."""
        if h is None:
            return Condition()
        if self.up is not None:
            return Condition(map=self.up(h))
        return Condition(vector=h) if h.ndim == 2 else Condition(map=h)

    def forward(self, x: Int[Tensor, "b c h w"], h: Tensor | None) -> Float[Tensor, " b"]:
        """ln p(x | h), nats."""
        return self.model.log_prob(x, self.condition(h), check=x.device.type == "cpu")


def head_of(recipe: Config) -> Head:
    """The distribution of a pixel that the recipe names."""
    if recipe.head == "bernoulli":
        return Bernoulli(recipe.channels)
    if recipe.head == "mixture":
        return Mixture(recipe.channels, recipe.levels, recipe.components)
    return Softmax(recipe.channels, recipe.levels)


def condition_sizes(recipe: Config, facts: Facts) -> tuple[int, int]:
    """(length of the condition's vector, channels of its map).

    Raises:
        ValueError: the data set has no classes, or an array that is neither a vector nor a map of the picture's size.
    """
    if recipe.condition == "class":
        return facts.classes("class"), 0
    if recipe.condition == "own":
        return recipe.code, 0
    if recipe.condition == "array":
        shape = list(facts.fields.get("code", {}).get("shape", ()))
        if len(shape) == 1:
            return int(shape[0]), 0
        if len(shape) == 3 and tuple(shape[1:]) == recipe.frame and not recipe.located:
            return 0, int(shape[0])
        raise ValueError(
            f"the field 'code' has shape {shape}: give a vector, or a map of {recipe.frame[0]} x {recipe.frame[1]} "
            "with its channels first (and not --located)"
        )
    if recipe.located:
        raise ValueError("--located: there is no condition that could be put anywhere; name one by --condition")
    return 0, 0
