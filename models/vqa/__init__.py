"""Visual question answering: the baselines of VQA, and Dual Attention Networks.

Antol et al., "VQA: Visual Question Answering", ICCV 2015. https://arxiv.org/abs/1505.00468
Nam, Ha, Kim, "Dual Attention Networks for Multimodal Reasoning and Matching", CVPR 2017.
https://arxiv.org/abs/1611.00471

One stage, `main`: questions about images are answered (baselines, r-DAN), or images and sentences are matched (m-DAN).
Images come as features that `jobs.features` computed: `grid` (regions) for DAN, `vector` for the baselines.

Different from the papers:
- the answer learned is the one that most people gave among the most frequent answers (there, the majority's; questions
  whose majority's answer is not among them are left out); questions without any such answer do not count in the loss;
- the paper names no optimiser for the baselines: the released code's is used;
- the released code trains without an end to words seen once; so does this, by the data set's vocabulary, with word
  vectors as an embedding, which is its linear layer on one-hot words without the bias;
- where DAN drops out is not said: here word vectors, attention's hidden vectors and the last memory;
- features of images are scaled by one number for the whole data set (`even`);
- m-DAN's wrong pairs are rows of the same batch with another image.
"""

from torch import nn

from models.family import ArtifactSpec, Facts, FieldSpec
from models.group import Group
from models.vqa.matching import Matcher
from models.vqa.recipe import PRESETS, Config
from models.vqa.training import Answerers, check

SUMMARY = "answers to questions about images, and images for sentences; needs features"
"""What the family is for, in a line."""


def fields(recipe: Config) -> dict[str, FieldSpec]:
    """The fields that it is trained on."""
    if recipe.network == "m-dan":
        return {"grid": FieldSpec("array"), "caption": FieldSpec("tokens", length=recipe.longest)}
    asked = {"question": FieldSpec("tokens", length=recipe.longest)}
    known = {"answers": FieldSpec("answers", length=recipe.answers)}
    if recipe.network == "r-dan":
        return {**asked, **known, "grid": FieldSpec("array")}
    return {**asked, **known} if recipe.image == "none" else {**asked, **known, "vector": FieldSpec("array")}


def artifacts(recipe: Config) -> dict[str, ArtifactSpec]:
    """None: features are fields of the data set."""
    return {}


def build(
    recipe: Config, group: Group, perceptual: nn.Module | None = None, facts: Facts | None = None
) -> Answerers | Matcher:
    """The family with fresh weights from `recipe.seed`, the same on every rank.

    Args:
        facts: vocabularies and widths of the training set; None: of a data set of two words.

    Raises:
        ValueError: sizes that do not fit together.
    """
    check(recipe, perceptual)
    facts = facts or PLAIN
    return Matcher(recipe, group, facts) if recipe.network == "m-dan" else Answerers(recipe, group, facts)


PLAIN = Facts(
    1,
    {
        "question": {"words": ["what", "is"]},
        "caption": {"words": ["a", "cat"]},
        "answers": {"answers": ["yes", "no"]},
        "grid": {"shape": [2, 2, 4]},
        "vector": {"shape": [4]},
    },
)

__all__ = ["PRESETS", "SUMMARY", "Answerers", "Config", "Matcher", "artifacts", "build", "check", "fields"]
