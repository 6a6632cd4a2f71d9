"""Of pictures: reconstruction, samples, known truths, samples by a classifier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.abilities import DrawsSamples, Reconstructs
from models.family import Family
from pipeline.artifacts import storage
from pipeline.artifacts.progress import follow
from pipeline.data.order import picks, rows_for_sheets
from pipeline.data.tensors import is_blank, to_uint8
from pipeline.evaluation import classification, coverage, metrics, protocol
from pipeline.evaluation.measures.measure import Figures, Found
from pipeline.evaluation.setting import Setting
from pipeline.evaluation.truths import of_input
from pipeline.runs import checkpoint
from pipeline.runs.checkpoint import note
from pipeline.tracking import sheets

SHEET_SAMPLES, SHEET_COLUMNS = 9, 3
DENSITY_K = 5
"""Neighbours of density and coverage (Naeem et al. 2020)."""


class Reconstruction:
    """The output with the target's own code, at the end of each stage that trains on pictures of samples."""

    name: str = "reconstruction"
    ability: type = Reconstructs
    fields: Mapping[str, str] = {"target": "image"}

    def __call__(self, setting: Setting) -> Found:
        found = Found()
        for stage in setting.family.stages:
            if not makes_pictures(setting.family, stage.name):
                continue
            if not storage.exists(checkpoint.stage_path(setting.folder, stage.name) + ".json"):
                continue  # taken over from another run
            there, _ = checkpoint.restore(setting.folder, stage.name)
            assert isinstance(there, Reconstructs)
            rebuilt = protocol.reconstruction(there, setting.pairs, setting.distances, setting.options.swaps)
            found.figures.update({f"{stage.name}/{name}": value for name, value in rebuilt.items()})
        return found


def makes_pictures(family: Family, stage: str) -> bool:
    """Whether a stage trains the generator: it reads targets and what samples are drawn for."""
    read = {name for stream in family.streams(stage).values() for name in stream.fields}
    return {"target", *family.reads} <= read


class Samples:
    """Of each way to draw: diversity, distance to the truth, precision and recall, a sheet; where there are label maps,
    how well a segmenter reads them back."""

    name: str = "samples"
    ability: type = DrawsSamples
    fields: Mapping[str, str] = {"target": "image"}

    def __call__(self, setting: Setting) -> Found:
        found, family = Found(), setting.family
        assert isinstance(family, DrawsSamples)
        if setting.labels is not None:
            found.figures |= setting.agreement("segmenter_{}_real", setting.pairs["target"])
        for sampler in setting.options.samplers or family.samplers:
            measured, one, rows = self._one(setting, sampler)
            if setting.labels is not None:
                measured |= setting.agreement("segmentation_{}", one)
            found.figures.update({f"{sampler}/{name}": value for name, value in measured.items()})
            if rows:
                found.sheets[f"samples-{sampler}"] = _sheet(
                    rows, f"Samples: {sampler}", note(dict(setting.run.described))
                )
        return found

    @staticmethod
    def _one(setting: Setting, sampler: str) -> tuple[Figures, Tensor, list[list[np.ndarray]]]:
        """Figures of the protocol's inputs and samples; precision, recall of one sample per held-out input among the
        true images; those samples (`N 3 H W`); the sheet's rows."""
        options, pairs = setting.options, setting.pairs
        rule = setting.rule
        chosen = picks(len(pairs["target"]), rule.inputs)
        labels = [setting.data.labels[i] for i in chosen]
        judged = pairs["input"] if "input" in pairs else pairs["target"]
        shown = rows_for_sheets(options.sheet, labels, lambda i: is_blank(to_uint8(judged[chosen[i]])))
        on_sheet = {chosen[i] for i in shown}
        rows: list[list[np.ndarray]] = []

        def drawn() -> Iterator[tuple[Tensor, Tensor]]:
            for i in follow(chosen, f"samples: {sampler}", unit="inputs"):
                samples = setting.drawn(sampler, i)
                if i in on_sheet:
                    pictures = [pairs[name][i] for name in ("input", "target") if name in pairs]
                    shown = [to_uint8(x) for x in samples[:SHEET_SAMPLES]]
                    rows.append([*map(to_uint8, pictures), sheets.mosaic(shown, SHEET_COLUMNS)])
                yield samples, pairs["target"][i]

        means, seen = protocol.judge(drawn(), setting.distances, rule.pairs, setting.vgg)
        mark = f"diversity_{options.protocol}-{len(chosen)}x{rule.compared}_"
        found: Figures = {name.replace("diversity_", mark, 1): value for name, value in means.items()}
        found["diversity_protocol"] = (
            f"{options.protocol}: {len(chosen)} inputs x {rule.samples} samples, {rule.compared} {rule.pairs} "
            f"pairs of each, {len(chosen) * rule.compared} in all"
        )
        true = protocol.features(setting.vgg, pairs["target"])
        found[f"recall_vgg_k3_of_{rule.samples}"] = metrics.covered(true[chosen], seen)
        one = setting.one_each(sampler)
        made = protocol.features(setting.vgg, one)
        precision, recall = metrics.precision_recall(true, made)
        found |= {"precision_vgg_k3": precision, "recall_vgg_k3": recall}
        if len(true) > DENSITY_K:
            density, covered = coverage.density_coverage(true, made, DENSITY_K)
            found |= {f"density_vgg_k{DENSITY_K}": density, f"coverage_vgg_k{DENSITY_K}": covered}
        return found, one, rows


class Truths:
    """Where all plausible outputs of an input are known: how many of them the samples of an input hit."""

    name: str = "truths"
    ability: type = DrawsSamples
    fields: Mapping[str, str] = {"target": "image", "truths": "array"}

    def __call__(self, setting: Setting) -> Found:
        family, found, frame = setting.family, Found(), setting.run.frame
        assert isinstance(family, DrawsSamples)
        rule = setting.rule
        chosen = picks(setting.count, rule.inputs)
        for sampler in setting.options.samplers or family.samplers:
            figures: dict[str, list[float]] = {}
            for i in follow(chosen, f"truths: {sampler}", unit="inputs"):
                truths = torch.from_numpy(setting.data.value(i, "truths")) / 127.5 - 1
                if tuple(truths.shape[-2:]) != frame:
                    size = "x".join(map(str, truths.shape[-2:]))
                    raise ValueError(f"--data {setting.data.root}: its truths are {size}, train with that --size")
                for name, value in of_input(setting.drawn(sampler, i), truths).items():
                    figures.setdefault(f"{sampler}/truths_{name}_of_{rule.samples}", []).append(value)
            found.figures |= {name: float(np.mean(values)) for name, values in figures.items()}
        return found


class Classified:
    """Of each way to draw, one sample for each held-out picture: Frechet distance, precision, recall, density,
    coverage, Inception score and classes by a classifier trained here; and its accuracy on the held-out pictures."""

    name: str = "classifier"
    ability: type = DrawsSamples
    fields: Mapping[str, str] = {"target": "image", "class": "class"}

    def __call__(self, setting: Setting) -> Found:
        family, reader, found = setting.family, setting.classifier, Found()
        assert isinstance(family, DrawsSamples)
        if reader is None:
            return found
        real, y = setting.pairs["target"], torch.tensor(setting.data.column("class")[: setting.count])
        found.figures[f"classifier-{reader.mark}_accuracy"] = classification.accuracy(reader, real, y)
        asked = y if "class" in family.reads else None
        for sampler in setting.options.samplers or family.samplers:
            measured = classification.figures(reader, real, setting.one_each(sampler), asked)
            found.figures.update({f"{sampler}/{name}": value for name, value in measured.items()})
        return found


def _sheet(rows: list[list[np.ndarray]], title: str, note: str) -> Image.Image:
    side = max(rows[0][-1].shape[:2])
    cell = side * max(1, round(320 / side))  # a whole multiple: no pixel of a mosaic is drawn wider than another
    columns = ["input", "truth", "samples"][-len(rows[0]) :]
    return sheets.sheet(rows, [], columns, title, note, cell)
