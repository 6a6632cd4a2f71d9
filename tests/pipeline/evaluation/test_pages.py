"""The pages of a run: where the map of styles puts its pictures."""

import numpy as np
import torch
from sklearn.decomposition import PCA

from pipeline.evaluation.pages import flatten


def test_the_map_of_styles_is_the_first_two_principal_components() -> None:
    codes = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1, 3.0, 0.5])
    wanted = PCA(2, svd_solver="full").fit(codes.numpy())
    found, points = flatten(codes), wanted.transform(codes.numpy())
    axes = wanted.components_
    signs = np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1))[:, 0]
    np.testing.assert_allclose(found, points * signs, atol=1e-4)
    np.testing.assert_allclose(flatten(-codes), -found, atol=1e-6)  # the signs are the axes' own, not the data's
