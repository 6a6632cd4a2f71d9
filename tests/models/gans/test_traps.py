"""What re-implementations get wrong, and the test that would see it. Those without a place elsewhere are here."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models import gans
from models.common.seeds import seeded
from models.gans import assembly
from models.gans.game import alternating, simultaneous
from models.gans.objectives.penalties import GradientPenalty, Perturb, interpolate
from models.gans.objectives.scores import Adversarial, nonsaturating
from models.gans.rules import OBJECTIVES
from models.gans.terms import Heads, Random, Round, Side
from models.group import Group

GROUP = Group()
TESTS = Path(__file__).parents[2]
TRAPS = {
    # catGAN
    "catgan: K + 1 outputs": "test_catgan_has_no_fake_class_and_weighs_labels",
    "catgan: the generator's marginal entropy with the wrong sign": "test_catgans_values",
    "catgan: the mean of entropies for the entropy of the mean": "test_entropies_of_a_loop",
    "catgan: each worker's own marginal": "test_the_comparison_sees_rank_local_statistics",
    "catgan: an epsilon within the logarithm": "test_entropies_near_one_hot_stay_finite",
    "catgan: a batch hardly larger than the number of classes": "test_presets_have_the_papers_setting",
    "catgan: accuracy of D watched, not confidence": "test_catgan_has_no_fake_class_and_weighs_labels",
    "catgan: clusters not matched, or on the samples that are counted": "test_clusters_take_the_majority_class",
    # SGAN
    "sgan: softmax before the cross-entropy": "test_odenas_sgan_is_the_likelihood_of_both_halves",
    "sgan: the generator not saturating": "test_odenas_sgan_is_the_likelihood_of_both_halves",
    "sgan: FAKE among the classes that are read": "test_the_fake_class_is_never_read",
    "sgan: taken for semi-supervised": "test_odenas_sgan_sees_labelled_samples_alone",
    "salimans: a logit for FAKE": "test_salimans_sgan_has_a_fake_logit_of_zero",
    "salimans: the generator's gradient through real features": (
        "test_feature_matching_compares_means_and_moves_only_the_fakes"
    ),
    # LSGAN
    "lsgan: a sigmoid at the critic's end": "test_scores_are_linear",
    "lsgan: called Pearson's with labels 0, 1, 1": "test_lsgans_two_identities",
    "lsgan: the halves left out, or sums over the batch": "test_lsgan_at_equilibrium",
    "lsgan: nine angles on the ring, two of them one": "test_the_two_conventions_of_points",
    "lsgan: the last checkpoint, after it fell apart": "test_points_train_and_are_drawn",
    # WGAN
    "wgan: f(G) - f(x)": "test_wasserstein_pulls_fakes_towards_the_data",
    "wgan: the generator steps after the first of its critic's steps": (
        "test_alternating_makes_all_critic_steps_first_on_fresh_data"
    ),
    "wgan: all critic steps on one batch": "test_alternating_makes_all_critic_steps_first_on_fresh_data",
    "wgan: no bursts": "test_bursts_are_wgans",
    "wgan: Adam or momentum": "test_presets_have_the_papers_setting",
    "wgan: buffers clipped": "test_weights_are_clipped_and_buffers_are_not",
    "wgan: clipped to [0, c]": "test_weights_are_clipped_and_buffers_are_not",
    # WGAN-GP
    "wgan-gp: norms over the channels, or over the batch": "test_norms_are_each_samples_over_all_its_dimensions",
    "wgan-gp: the penalty at real points alone": "test_one_number_a_sample_places_the_points",
    "wgan-gp: one number an element": "test_one_number_a_sample_places_the_points",
    "wgan-gp: batch norm in the critic": "test_what_does_not_fit_is_refused",
    "wgan-gp: fakes not detached": "test_the_points_carry_no_graph_of_the_generator",
    "wgan-gp: the root at zero": "test_a_flat_critic_gives_no_nan",
    "wgan-gp: no second derivative": "test_the_penalty_moves_the_critic",
    "wgan-gp: half precision": "test_penalties_are_in_full_precision",
    "wgan-gp: its loss taken for the distance": "test_two_point_masses",
    "wgan-gp: ELU": "test_activations_of_their_papers",
    # DRAGAN
    "dragan: the gradient of the sigmoid": "test_the_gradient_is_the_scores_not_the_sigmoids",
    "dragan: lambda 0.25": "test_presets_have_the_papers_setting",
    "dragan: the loss never reaches the critic": "test_dragans_loss_and_penalty_both_reach_the_critic",
    "dragan: noise above zero alone": "test_dragans_points_are_noise_around_the_data",
    "dragan: one draw for a whole sample": "test_dragans_points_are_noise_around_the_data",
    "dragan: points from fakes": "test_dragans_points_are_noise_around_the_data",
    "dragan: with Wasserstein's loss": "test_presets_have_the_papers_setting",
    # EBGAN
    "ebgan: the margin in other units than the energy": "test_energies_are_a_samples_norm_or_mean",
    "ebgan: the hinge of the batch's mean": "test_ebgans_hinge_is_each_samples_own",
    "ebgan: cosines not squared, or with the diagonal, or over the batch": "test_the_check_sees_wrong_versions",
    "ebgan: pulling away in the critic's loss": "test_pull_away_is_the_generators_alone",
    "ebgan: the reconstruction's target detached": "test_a_fake_moves_its_energy_both_ways",
    "ebgan: codes after an activation": "test_codes_are_taken_before_any_activation",
    # BEGAN
    "began: the generator minimises minus the critic's loss": "test_k_weighs_the_critics_fakes_and_starts_at_none",
    "began: k not clipped": "test_the_controllers_closed_form",
    "began: k by the critic's fakes": "test_the_controllers_closed_form",
    "began: k with a graph, or not in the checkpoint": "test_k_weighs_the_critics_fakes_and_starts_at_none",
    "began: k not resumed": "test_it_trains_and_resumes_bit_for_bit",
    "began: gamma 1 or 0.75": "test_presets_have_the_papers_setting",
    "began: energies summed over pixels": "test_energies_are_a_samples_norm_or_mean",
    "began: M after the new k": "test_the_controllers_closed_form",
    "began: alternating steps": "test_presets_have_the_papers_setting",
    # ACGAN
    "acgan: softmax before the cross-entropy": "test_acgans_class_term_is_of_fakes_too",
    "acgan: no class term for fakes in the critic": "test_acgans_class_term_is_of_fakes_too",
    "acgan: the saturating source term": "test_presets_have_the_papers_setting",
    # infoGAN
    "infogan: true labels as codes": "test_infogans_codes_are_drawn_not_read",
    "infogan: softmax before the cross-entropy": "test_discrete_information_is_at_most_log_k",
    "infogan: a third optimiser": "test_infogans_head_is_the_critics_optimisers",
    "infogan: information without gradient": "test_information_is_in_both_losses_with_gradient",
    "infogan: real and fake share batch statistics": "test_real_and_fake_pass_the_critic_apart",
    # f-GAN
    "fgan: activations that fall": "test_the_activation_fills_the_domain_and_increases",
    "fgan: Pearson's conjugate that grows again": "test_pearsons_conjugate_is_flat_where_the_table_grows_again",
    "fgan: accuracy above 0 for every divergence": "test_each_divergence_says_real_above_its_own_threshold",
    "fgan: composed logarithms and exponentials": "test_composing_the_naive_forms_is_not_finite",
    "fgan: Jeffrey by autograd through the iteration": "test_jeffreys_derivative",
    "fgan: Jensen-Shannon with another factor": "test_names_that_mean_multiples_of_each_other",
    "fgan: alternating steps": "test_presets_have_the_papers_setting",
}
"""Trap -> the test that a version with it would fail."""


def test_every_trap_has_its_test() -> None:
    there = set()
    for path in [*(TESTS / "models" / "gans").glob("test_*.py"), *(TESTS / "pipeline" / "data").glob("test_*.py")]:
        there |= {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
    assert set(TRAPS.values()) - there == set()


def built(objective: str, **changes: object) -> gans.GANs:
    recipe = dataclasses.replace(
        gans.PRESETS["tiny"], objective=objective, channels=1, classes=3, codes=1, critic_norm="layer"
    )
    recipe = dataclasses.replace(recipe, **changes)  # type: ignore[arg-type]
    family = gans.build(recipe, GROUP)
    family.enter("game")
    return family


def test_presets_have_the_papers_setting() -> None:
    presets = gans.PRESETS
    assert presets["catgan"].batch >= 10 * presets["catgan"].classes
    wgan = built("wgan", optimiser=presets["wgan"].optimiser, rate=presets["wgan"].rate)
    for optimiser in wgan.optimisers.values():
        assert isinstance(optimiser, torch.optim.RMSprop) and optimiser.param_groups[0]["momentum"] == 0
    assert presets["wgan"].bursts and presets["wgan"].critic_steps == 5 and presets["wgan"].clip == 0.01
    played = gans.rules(presets["dragan"])
    [term], [penalty] = played.terms, played.penalties
    assert isinstance(term, Adversarial) and isinstance(penalty, GradientPenalty)
    s = torch.linspace(-4, 4, 9)
    for ours, papers in zip(term.rule, nonsaturating(), strict=True):
        torch.testing.assert_close(ours(s), papers(s))
    assert penalty.points == Perturb(0.5) and (penalty.weight, penalty.target) == (10, 1)
    assert (presets["wgan-gp"].penalty_weight, presets["wgan-gp"].critic_norm) == (10, "none")
    assert (presets["began"].gamma, presets["began"].k_rate) == (0.5, 1e-3)
    acgan = gans.rules(presets["acgan"])
    assert isinstance(acgan.terms[0], Adversarial)
    torch.testing.assert_close(acgan.terms[0].rule.generator(s), nonsaturating().generator(s))
    for name in OBJECTIVES:
        together = name == "began" or name.startswith("fgan")
        recipe = dataclasses.replace(presets["nonsaturating"], objective=name)
        assert gans.rules(recipe).stepper is (simultaneous if together else alternating), name


def test_the_fake_class_is_never_read() -> None:
    """Fakes' logit is the largest of all samples: their class is the largest of the others."""
    family = built("sgan")
    y = torch.tensor([0, 2, 1, 1])
    logits = torch.cat([nn.functional.one_hot(y, 3).float(), torch.full((4, 1), 9.0)], 1)
    family.critic.forward = lambda x, y, random: {"logits": logits}  # type: ignore[method-assign, assignment]
    batch = {"target": torch.rand(4, 1, 16, 16), "class": y, "index": torch.arange(4)}
    assert family.judge([batch])["error"] == 0


def test_odenas_sgan_sees_labelled_samples_alone() -> None:
    """One stream, of the samples with a class; Salimans' has all of them too."""
    [(_, stream)] = built("sgan").streams("game").items()
    assert stream.keep is not None and [stream.keep({"class_value": y}) for y in (0, 2, -1)] == [True, True, False]
    streams = built("salimans").streams("game")
    assert streams["real"].keep is None and streams["labelled"].keep is not None


def test_penalties_are_in_full_precision() -> None:
    weight = torch.randn(48, 1, generator=seeded("w")) * 0.2

    def critic(x: Tensor, y: Tensor | None, random: Random) -> Heads:
        return {"score": (x.flatten(1) @ weight).tanh()[:, 0]}

    def penalty() -> float:
        real, fake = (torch.randn(8, 3, 4, 4, generator=seeded(n)) for n in ("real", "fake"))
        around = Round(Side(real), Side(fake), Random(seeded("round"), GROUP), GROUP)
        return float(GradientPenalty(interpolate)(critic, around)["penalty"].detach())

    plain = penalty()
    with torch.autocast("cpu", torch.bfloat16):
        assert penalty() == plain
        low = critic(torch.randn(8, 3, 4, 4, generator=seeded("real")), None, Random(seeded(0), GROUP))["score"]
    assert low.dtype == torch.bfloat16  # there is something to protect from


def test_codes_are_taken_before_any_activation() -> None:
    for network in ("perceptron", "began"):
        recipe = dataclasses.replace(
            gans.PRESETS["tiny"], objective="ebgan-pt", network=network, critic_activation="relu", noise=8
        )
        net = assembly.critic(recipe, gans.rules(recipe), GROUP)
        code = net(torch.randn(64, 3, 16, 16, generator=seeded("x")), None, Random(seeded(0), GROUP))["code"]
        assert 0.2 < float((code < 0).double().mean()) < 0.8


def test_infogans_codes_are_drawn_not_read() -> None:
    family = built("infogan")
    stream = family.streams("game")["real"]
    assert stream.fields == ("target",)  # it never sees a class
    _, parts = family.latent.draw(300, Random(seeded("z"), GROUP))
    assert torch.bincount(parts["class"], minlength=3).min() > 70


def test_infogans_head_is_the_critics_optimisers() -> None:
    family = built("infogan")
    assert family.optimisers.keys() == {"generator", "critic"}
    stepped = {id(p) for p in family.optimisers["critic"].param_groups[0]["params"]}
    q = [p for name, p in family.critic.named_parameters() if name.startswith("heads.q.")]
    assert q and {id(p) for p in q} <= stepped
    assert not stepped & {id(p) for p in family.generator.parameters()}


def test_real_and_fake_pass_the_critic_apart() -> None:
    family = built("infogan", critic_norm="batch")
    real = torch.full((4, 1, 16, 16), 7.0)
    batches: list[Tensor] = []
    family.critic.register_forward_pre_hook(lambda net, args: batches.append(args[0]))
    family.update(lambda stream: {"target": real}, 0)
    assert len(batches) == 3 and all(bool((b == 7).all()) or not bool((b == 7).any()) for b in batches)


@pytest.mark.parametrize(("name", "threshold"), [("kl", 1.0), ("jensen-shannon", 0.0)])
def test_each_divergence_says_real_above_its_own_threshold(name: str, threshold: float) -> None:
    for objective in (f"fgan-{name}", f"fgan-{name}-heuristic"):
        [term] = gans.rules(dataclasses.replace(gans.PRESETS["fgan"], objective=objective)).terms
        assert isinstance(term, Adversarial) and term.threshold == threshold
