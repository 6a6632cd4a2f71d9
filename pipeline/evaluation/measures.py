"""What can be measured of a finished run. Each measure says which ability and which fields it needs. Those that fit the
run and the data set are taken. Nothing is loaded that none of them asks for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol as Interface

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.abilities import (
    Answers,
    Attends,
    DrawsPoints,
    DrawsSamples,
    Embeds,
    GivesLikelihood,
    JudgesSet,
    Reconstructs,
    described,
)
from models.common.seeds import seeded
from models.family import Family
from pipeline.artifacts import storage
from pipeline.artifacts.progress import follow
from pipeline.data.order import picks, rows_for_sheets
from pipeline.data.shards import DataSet
from pipeline.data.tensors import is_blank, to_uint8
from pipeline.evaluation import answers, classification, coverage, looks, metrics, protocol, retrieval, vqa
from pipeline.evaluation.setting import Setting
from pipeline.evaluation.truths import of_input
from pipeline.runs import checkpoint
from pipeline.runs.checkpoint import note
from pipeline.tracking import sheets

VERSION = 2
"""Raised when a measure changes: figures of before are then made anew."""
SHEET_SAMPLES, SHEET_COLUMNS = 9, 3
DENSITY_K = 5
"""Neighbours of density and coverage (Naeem et al. 2020)."""
POINTS = 2500
"""Points whose modes are counted (PacGAN)."""

Figures = dict[str, float | str]


@dataclass
class Found:
    """Figures, pictures and tables by name."""

    figures: Figures = field(default_factory=dict)
    sheets: dict[str, Image.Image] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    """CSV."""
    missing: dict[str, str] = field(default_factory=dict)
    """Measure that was not taken -> why."""


class Measure(Interface):
    """One measure."""

    name: str
    ability: type
    """What the family must be able to do."""
    fields: Mapping[str, str]
    """Field -> kind that the data set must have."""

    def __call__(self, setting: Setting) -> Found:
        """Measure; pictures are made within `torch.no_grad`."""


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


class PointModes:
    """Of points with classes: modes captured, share of high quality, reverse KL of 2,500 samples, by PacGAN's rule. The
    modes are the classes of the training samples: their means, and their common deviation."""

    name: str = "modes"
    ability: type = DrawsPoints
    fields: Mapping[str, str] = {"points": "array", "class": "class"}

    def __call__(self, setting: Setting) -> Found:
        family, data = setting.family, setting.training.data
        assert isinstance(family, DrawsPoints)
        points = setting.training.centred(range(len(data)), ["points"], setting.run.frame)["points"]
        modes = coverage.centres_of(points.double().numpy(), np.asarray(data.column("class")))
        drawn = family.draws(POINTS, seeded(setting.options.seed, "modes")).double().numpy()
        measured = coverage.mode_figures(drawn, *modes)
        found: Figures = {"modes": float(len(modes[0])), "modes_captured": float(measured.captured)}
        found["modes_high_quality"] = measured.high_quality
        if measured.captured:
            found["modes_reverse_kl"] = measured.reverse_kl
        return Found(found)


class Likelihood:
    """Negative log-likelihood of the held-out targets: nats an image, and bits per dimension."""

    name: str = "likelihood"
    ability: type = GivesLikelihood
    fields: Mapping[str, str] = {"target": "image"}

    def __call__(self, setting: Setting) -> Found:
        family = setting.family
        assert isinstance(family, GivesLikelihood)
        nats = -float(torch.cat([family.log_prob(batch) for batch in setting.batches()]).double().mean())
        return Found({"nats": nats, "bits_per_dimension": nats / (family.dimensions() * math.log(2))})


class Answering:
    """VQA's official figures: overall, by answer type and question type where the data set has them, beside the
    baselines without a network where it has the questions' words; of questions with choices the multiple-choice task
    too. A table, and which answers are confused."""

    name: str = "vqa"
    ability: type = Answers
    fields: Mapping[str, str] = {"answers": "answers"}

    def __call__(self, setting: Setting) -> Found:
        family, data = setting.family, setting.data
        assert isinstance(family, Answers)
        scores = torch.cat([family.answer(batch).cpu() for batch in setting.batches()])
        truths = [
            vqa.Truth(
                i, tuple(data.column("answers")[i]), _class(data, "question_type", i), _class(data, "answer_type", i)
            )
            for i in range(setting.count)
        ]
        said = {"run": [family.answers[int(best)] for best in scores.argmax(1)]}
        if "question" in data.fields:
            training = DataSet(data.root, str(setting.run.described["inputs"]["split"]))
            said |= answers.baselines(training, data, setting.count, setting.options.seed)
        reports = {name: vqa.report(dict(enumerate(given)), truths) for name, given in said.items()}
        found = Found({"vqa_overall": reports["run"].overall})
        for kind in ("answer_type", "question_type"):
            if kind in data.fields:
                groups = getattr(reports["run"], f"by_{kind}")
                found.figures |= {f"vqa_{group}": value for group, value in groups.items()}
        found.figures |= {f"vqa_baseline_{name}": one.overall for name, one in reports.items() if name != "run"}
        if "choices" in data.fields:
            chosen = {}
            for i, row in enumerate(scores.tolist()):
                chosen[i] = vqa.choose(dict(zip(family.answers, row, strict=True)), data.column("choices")[i])
            found.figures["vqa_multiple_choice"] = vqa.report(chosen, truths).overall
        found.tables["accuracies"] = answers.table(reports, truths)
        wanted = [answers.given_most(truth.answers) for truth in truths]
        found.sheets["answers-confused"] = answers.confusion(wanted, said["run"])
        return found


def _class(data: DataSet, field: str, position: int) -> str:
    """The name of a sample's class; empty where the data set has no such field."""
    if field not in data.fields:
        return ""
    return data.fields[field].names[int(data.column(field)[position])]


class Attention:
    """A sheet of what the network attends to at each step, in pictures and in texts."""

    name: str = "attention"
    ability: type = Attends
    fields: Mapping[str, str] = {"image": "image"}

    def __call__(self, setting: Setting) -> Found:
        family, data = setting.family, setting.data
        assert isinstance(family, Attends)
        positions = setting.images.rows_for_sheets(setting.options.sheet, setting.run.frame)
        if not positions:
            return Found()
        batch = setting.images.centred(positions, list(data.fields), setting.run.frame)
        weights = family.attention(batch)
        if not weights:
            return Found()
        names = [data.keys[p] for p in positions]
        if isinstance(family, Answers):
            best = [family.answers[int(i)] for i in family.answer(batch).argmax(1)]
            given = [answers.given_most(data.column("answers")[p]) for p in positions]
            names = [f"says {a}\npeople: {b}" for a, b in zip(best, given, strict=True)]
        return Found(sheets={"attention": looks.attention(setting, batch, weights, names)})


class Retrieval:
    """Recall at 1, 5, 10 and median rank both ways among the measured samples, with all their sentences; a sheet of
    what is found, each way."""

    name: str = "retrieval"
    ability: type = Embeds
    fields: Mapping[str, str] = {}

    def __call__(self, setting: Setting) -> Found:
        family, found = setting.family, Found()
        assert isinstance(family, Embeds)
        sides = {name: looks.embedded(setting, family, name) for name in family.embedded}
        for name, other in (family.embedded, family.embedded[::-1]):
            queries, pool = sides[name], sides[other]
            ranks = retrieval.ranks(queries.vectors, pool.vectors, queries.owner, pool.owner)
            found.figures |= {f"{figure}_{other}": value for figure, value in retrieval.recalls(ranks).items()}
            if setting.options.sheet and (sheet := looks.found(setting, queries, pool)):
                found.sheets[f"retrieval-{other}"] = sheet
        return found


class WholeSet:
    """What the family itself says of the whole held-out set."""

    name: str = "set"
    ability: type = JudgesSet
    fields: Mapping[str, str] = {}

    def __call__(self, setting: Setting) -> Found:
        assert isinstance(setting.family, JudgesSet)
        return Found(dict(setting.family.judge(setting.batches())))


MEASURES: tuple[Measure, ...] = (
    Reconstruction(),
    Samples(),
    Truths(),
    Classified(),
    PointModes(),
    Likelihood(),
    Answering(),
    Attention(),
    Retrieval(),
    WholeSet(),
)


def fitting(setting: Setting) -> tuple[list[Measure], dict[str, str]]:
    """The measures that fit the run and the data set; of the others, name -> why not."""
    fit, why = [], {}
    for measure in MEASURES:
        there = {name: f.kind for name, f in setting.data.fields.items()}
        missing = [f"{name} ({kind})" for name, kind in measure.fields.items() if there.get(name) != kind]
        if not isinstance(setting.family, measure.ability):
            why[measure.name] = f"the family is none that {described(measure.ability)}"
        elif missing:
            why[measure.name] = f"the data set has no field {', '.join(missing)}"
        else:
            fit.append(measure)
    return fit, why


def measure(setting: Setting) -> Found:
    """All measures that fit.

    Raises:
        ValueError: none does; the message says of each why.
    """
    chosen, why = fitting(setting)
    if not chosen:
        raise ValueError("nothing to measure: " + "; ".join(f"{name}: {reason}" for name, reason in why.items()))
    found = Found({"images": float(setting.count)}, missing=why)
    with torch.no_grad():
        for one in chosen:
            result = one(setting)
            found.figures |= result.figures
            found.sheets |= result.sheets
            found.tables |= result.tables
    return found


def _sheet(rows: list[list[np.ndarray]], title: str, note: str) -> Image.Image:
    side = max(rows[0][-1].shape[:2])
    cell = side * max(1, round(320 / side))  # a whole multiple: no pixel of a mosaic is drawn wider than another
    columns = ["input", "truth", "samples"][-len(rows[0]) :]
    return sheets.sheet(rows, [], columns, title, note, cell)
