"""Of texts with pictures: answers, attention, retrieval."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from models.abilities import Answers, Attends, Embeds
from pipeline.data import shards
from pipeline.data.shards import DataSet
from pipeline.evaluation import answers, looks, retrieval, vqa
from pipeline.evaluation.measures.measure import Found
from pipeline.evaluation.setting import Setting


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
        inputs = setting.run.described["inputs"]
        if "question" in data.fields and inputs["split"] in shards.load(data.root)["splits"]:
            training = DataSet(data.root, inputs["split"])
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
