"""The sentence on training in the paragraph on methods: a training of one's own, or a network adapted to a volume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cristae.errors import DataError
from cristae.learn.checkpoint import read_model
from cristae.project import Run
from cristae.wording import listed, number_ranges

_RELEASED = ", in the form that Pagano et al. (2023) released"
NETWORKS = {
    "resunet": "residual U-Net",
    "ceecnet_v1": "CEECNet V1",
    "ceecnet_v1_pagano": f"CEECNet V1{_RELEASED}",
    "ceecnet_v2": "CEECNet V2",
    "ceecnet_v2_pagano": f"CEECNet V2{_RELEASED}",
    "fractalresnet": "FracTAL ResNet",
    "fractalresnet_pagano": f"FracTAL ResNet{_RELEASED}",
    "senformer": "SenFormer",
    "senformer_pagano": f"SenFormer{_RELEASED}",
    "senformer_shared": "SenFormer with shared learners",
    "setr_mla": "SETR-MLA",
    "setr_naive": "SETR-Naïve",
    "setr_pup": "SETR-PUP",
    "transunet": "TransUNet",
    "unet_pagano": f"U-Net{_RELEASED}",
    "unetplusplus": "U-Net++ with deep supervision",
    "unetplusplus_pagano": f"U-Net++{_RELEASED}",
    "unetplusplus_plain": "U-Net++",
}
"""The networks that come with cristae, as a paper names them."""
_LEARNERS = "cross-entropy of the merged prediction and mean cross-entropy of the learners"
_TANIMOTO = "the mean fractal Tanimoto loss of masks, their boundaries and their distances, each with its complement"
LOSSES = {
    "ceecnet_v1": _TANIMOTO,
    "ceecnet_v1_pagano": _TANIMOTO,
    "ceecnet_v2": _TANIMOTO,
    "ceecnet_v2_pagano": _TANIMOTO,
    "fractalresnet": _TANIMOTO,
    "fractalresnet_pagano": _TANIMOTO,
    "senformer": f"{_LEARNERS}, and Dice loss",
    "senformer_pagano": _LEARNERS,
    "senformer_shared": f"{_LEARNERS}, and Dice loss",
}
"""The losses of the networks that have one of their own; the others are trained as the settings say."""
_AUXILIARY = 1.0, ", and 0.4 times those of each auxiliary head"
SUMS = {
    "setr_mla": _AUXILIARY,
    "setr_naive": _AUXILIARY,
    "setr_pup": _AUXILIARY,
    "unetplusplus": (0.5, ", their mean over all heads"),
}
"""Of networks that add up the usual loss of several outputs: part of the cross-entropy, and how they are added."""
_SCHEMES = {
    "cps": " by cross pseudo supervision of two networks, which also learn from unlabelled slices",
    "cps_cutmix": " by cross pseudo supervision of two networks with CutMix, which also learn from unlabelled slices",
}
_OPTIMISERS = {"adam": "Adam", "adamw": "AdamW"}

Facts = Mapping[str, Any]


def network_of(run: Run | None) -> str:
    """Return the name of the network that a run trained or adapted; empty where it cannot be told."""
    groups = run.manifest.get("groups") if run else None
    if run is None or not groups:
        return ""
    try:
        return read_model(run.path / str(groups[0])).network
    except DataError:
        return ""


def training_sentence(facts: Facts, settings: Facts, network: str) -> str:
    """Return what was done to make the networks.

    Parameters
    ----------
    facts, settings
        Of the run of the stage train: a training, or an adaptation.
    network
        From `network_of`; the settings of a training say it, too.
    """
    if "adapted" in facts:
        return _adapted(facts, settings, network)
    names = list(facts.get("learnt", ()) or facts.get("classes", ()))
    slices = _labelled(facts)
    begun = f"{listed(names)} {'were' if len(names) > 1 else 'was'} annotated by hand on {len(slices)} slices"
    begun += f" (z = {number_ranges(slices)})" if 0 < len(slices) <= 24 else ""
    name = str(settings.get("network", network))
    many = len(facts.get("groups", ())) > 1
    trained = f"{_networks(facts, name)} {'were' if many else 'was'} trained"
    trained += _SCHEMES.get(str(settings.get("scheme", "")), "")
    channels = settings.get("neighbours")
    context = f", shown each slice with {channels} on either side" if channels else ""
    details = "; ".join(filter(None, [_effort(facts, settings), _pace(settings), _loss(facts, settings, name)]))
    return f"{begun[0].upper()}{begun[1:]}; {trained}{context} ({details})."


def _adapted(facts: Facts, settings: Facts, network: str) -> str:
    """Return what an adaptation did, which no label was needed for."""
    how, source = facts["adapted"], facts.get("start", {})
    where = "/".join(str(source[key]) for key in ("project", "run") if source.get(key))
    many = len(facts.get("groups", ())) > 1
    taken = _networks(facts, network)
    taken += f" trained on another volume{f' (training {where})' if where else ''} "
    taken += f"{'were' if many else 'was'} brought to this one without any label of it"
    steps = []
    if how.get("statistics") and facts.get("measured", True):
        steps.append(
            f"statistics of batch normalisation were measured on it (they count {how['statistics']:g}, those of the "
            f"training {1 - how['statistics']:g})"
        )
    if how.get("histogram"):
        steps.append("grey values were mapped so that they are distributed as those that were learnt from")
    learning = str(how.get("learning", "none"))
    if learning != "none":
        steps.append(_learnt_on(learning, facts, settings))
    told = f": {listed(steps)}" if steps else ", as they are" if many else ", as it is"
    return f"{taken[0].upper()}{taken[1:]}{told}."


def _learnt_on(learning: str, facts: Facts, settings: Facts) -> str:
    of = (
        f"from what they were sure of (probability {settings.get('confidence', 0.9):g} or more)"
        if learning == "self_training"
        else "by cross pseudo supervision of two networks" + (" with CutMix" if learning == "cps_cutmix" else "")
    )
    return f"weights were learnt on {of} ({'; '.join(filter(None, [_effort(facts, settings), _pace(settings)]))})"


def _labelled(facts: Facts) -> list[int]:
    labelled = facts.get("labelled_slices", {})
    return sorted({int(z) for one in labelled.values() for z in one}) if isinstance(labelled, Mapping) else []


def _networks(facts: Facts, name: str) -> str:
    """Return kind and number of the networks, and their parameters."""
    n, groups, kind = facts.get("n_parameters"), len(facts.get("groups", ())), NETWORKS.get(name, name) or "network"
    size = f" ({n:,} parameters{' in all' if groups > 1 else ''})" if isinstance(n, int) else ""
    return (f"{groups} networks of the kind {kind}" if groups > 1 else f"a {kind}") + size


def _effort(facts: Facts, settings: Facts) -> str:
    details = [
        f"{facts['updates']:,} updates" if isinstance(facts.get("updates"), int) else "",
        f"batches of {settings['batch']} patches" if "batch" in settings else "",
        f"{settings['tile_px']} px a side" if "tile_px" in settings else "",
        f"{settings['context_nm']:g} nm wide" if "context_nm" in settings else "",
    ]
    return ", ".join(filter(None, details))


def _pace(settings: Facts) -> str:
    if "learning_rate" not in settings:
        return ""
    optimiser = _OPTIMISERS.get(str(settings.get("optimiser", "")), str(settings.get("optimiser", "")))
    rate = ", ".join(filter(None, [optimiser, f"learning rate {settings['learning_rate']:g}"]))
    return rate + (f" ({settings['decay']} decay)" if settings.get("decay") else "")


def _loss(facts: Facts, settings: Facts, name: str) -> str:
    """Return the loss; nothing of a network of others whose run did not note whether it has its own."""
    if name in LOSSES:
        depths = settings.get("loss_depth") if LOSSES[name] == _TANIMOTO else None
        return LOSSES[name] + (f" (depth {', '.join(map(str, depths))})" if depths else "")
    if facts.get("own_loss", None if name not in NETWORKS else False) is None:
        return ""
    if facts.get("own_loss"):
        return "a loss of its own"
    part, added = SUMS.get(name, (1.0, ""))
    weight = part * settings.get("cross_entropy", 0.0)
    return "Dice loss" + (f" and cross-entropy (weight {weight:g})" if weight else "") + added
