import math
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cristae.errors import CristaeError, DataError
from cristae.learn.augment import Augmentation
from cristae.learn.checkpoint import Model, load_checkpoint, load_model, save_checkpoint, save_model
from cristae.learn.fit import PATIENCE, Judge, Schedule, Score, State, Step, Watch, fit
from cristae.learn.patches import LabelledSlice, PatchSampler, Sampling
from cristae.learn.supervised import HeldOutJudge, SupervisedStep
from cristae.nets.pair import Pair, parts_of
from cristae.nets.resunet import ResUNet

CPU = torch.device("cpu")


def _slice() -> LabelledSlice:
    y, x = np.mgrid[:64, :64]
    target = (((y - 30) ** 2 + (x - 30) ** 2) < 200).astype(np.float32)[None]
    image = target + 0.2 * np.random.default_rng(0).standard_normal((1, 64, 64), np.float32)
    return LabelledSlice(0, image.astype(np.float32), target, np.ones_like(target))


def _parts(seed: int = 0, cross_entropy: float = 1.0) -> tuple[nn.Module, SupervisedStep, HeldOutJudge]:
    torch.manual_seed(seed)
    one = _slice()
    sampler = PatchSampler([one], Sampling(32, 2, 0.5, 1, Augmentation()), seed)
    return ResUNet(1, 1, 4), SupervisedStep(sampler, ["disc"], cross_entropy, CPU), HeldOutJudge([one], ["disc"])


class _Stop:
    """Progress that presses Ctrl-C after some updates."""

    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, done: int, total: int, **facts: float) -> None:
        if done == self.at:
            raise KeyboardInterrupt


def _watch(at: int = -1, rescue: list[str] | None = None, alarms: list[str] | None = None) -> Watch:
    return Watch(
        _Stop(at), (alarms if alarms is not None else []).append, (rescue if rescue is not None else []).append
    )


def test_a_tiny_network_learns_one_slice_by_heart(tmp_path: Path) -> None:
    network, step, judge = _parts()
    schedule = Schedule(80, 5e-3, check_every=20, averaging=0.9)
    best, state = fit(network, step, judge, schedule, tmp_path / "c.safetensors", _watch())
    assert judge(best)["disc"].dice > 0.95
    assert [row["step"] for row in state.history] == [20, 40, 60, 80]


@pytest.mark.parametrize("at", [7, 20, 33])
@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path, at: int, averaging: float) -> None:
    schedule = Schedule(40, 5e-3, check_every=10, averaging=averaging)
    network, step, judge = _parts()
    whole, whole_state = fit(network, step, judge, schedule, tmp_path / "whole", _watch())
    network, step, judge = _parts()
    with pytest.raises(KeyboardInterrupt):
        fit(network, step, judge, schedule, tmp_path / "cut", _watch(at))
    network, step, judge = _parts(seed=0)
    resumed, state = fit(network, step, judge, schedule, tmp_path / "cut", _watch())
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    drop = {"seconds"}
    assert [{k: v for k, v in row.items() if k not in drop} for row in state.history] == [
        {k: v for k, v in row.items() if k not in drop} for row in whole_state.history
    ]


def test_a_network_that_drops_features_by_chance_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    def parts() -> tuple[nn.Module, SupervisedStep, HeldOutJudge]:
        network, step, judge = _parts()
        network.stem = nn.Sequential(network.stem, nn.Dropout(0.5))  # type: ignore[arg-type]
        return network, step, judge

    schedule = Schedule(20, 5e-3, check_every=10)
    whole, _ = fit(*parts(), schedule, tmp_path / "whole", _watch())
    with pytest.raises(KeyboardInterrupt):
        fit(*parts(), schedule, tmp_path / "cut", _watch(at=7))
    resumed, _ = fit(*parts(), schedule, tmp_path / "cut", _watch())
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_best_network_is_kept_not_the_last(tmp_path: Path) -> None:
    network, step, _ = _parts()
    dices = iter([0.5, 0.9, 0.4, 0.3])
    seen: list[Tensor] = []

    def judge(one: nn.Module) -> Mapping[str, Score]:
        seen.append(next(one.parameters()).detach().clone())
        return {"disc": Score(next(dices), 1.0)}

    best, state = fit(network, step, judge, Schedule(40, 1e-2, check_every=10), tmp_path / "c", _watch())
    assert state.best_step == 20
    assert torch.equal(next(best.parameters()), seen[1])
    assert not torch.equal(next(best.parameters()), seen[3])


def test_a_collapsed_class_raises_an_alarm_and_recovers(tmp_path: Path) -> None:
    network, step, judge = _parts(cross_entropy=0.0)
    with torch.no_grad():  # a head that says "background" so loudly that no gradient comes back
        network.head.bias.fill_(-60.0)  # type: ignore[union-attr, operator]
        network.head.weight.zero_()  # type: ignore[union-attr, operator]
    rescued: list[str] = []
    alarms: list[str] = []
    schedule = Schedule(200, 5e-3, check_every=10, averaging=0.5)
    best, state = fit(network, step, judge, schedule, tmp_path / "c", _watch(rescue=rescued, alarms=alarms))
    assert rescued == ["disc"] and "collapsed" in alarms[0]
    assert judge(best)["disc"].dice > 0.9
    assert [alarm["class"] for alarm in state.alarms] == ["disc"]


def test_a_network_that_says_itself_how_a_class_begins_anew_is_asked(tmp_path: Path) -> None:
    class Own(ResUNet):
        def make_undecided(self, index: int, generator: torch.Generator) -> None:
            asked.append((index, int(torch.randint(1 << 30, (), generator=generator))))

    def run(name: str) -> list[tuple[int, int]]:
        asked.clear()
        torch.manual_seed(0)
        networks = Pair([Own(1, 2, 2), Own(1, 2, 2)])
        fit(networks, lambda one, n: one(torch.ones(1, 1, 32, 32)).mean(), judge, schedule, tmp_path / name, _watch())
        return list(asked)

    def judge(one: nn.Module) -> Mapping[str, Score]:
        return {"disc": Score(0.5, 1.0), "dot": Score(0.1, 0.0)}

    asked: list[tuple[int, int]] = []
    schedule = Schedule(12, 1e-3, check_every=2)
    found = run("a")
    assert [index for index, _ in found] == [1, 1] and len({number for _, number in found}) == 2
    assert run("b") == found


def test_the_learning_rate_warms_up_and_falls_to_nothing() -> None:
    schedule = Schedule(200, 1e-3)
    rates = [schedule.rate(i) for i in range(200)]
    assert rates[0] == pytest.approx(1e-4) and max(rates) == pytest.approx(1e-3) and rates[-1] < 1e-6
    assert Schedule(10, 1e-4, decay="constant").rate(9) == 1e-4


def test_models_round_trip_and_refuse_what_does_not_fit(tmp_path: Path) -> None:
    network = ResUNet(3, 2, 4).eval()
    model = Model("resunet", "small", 4, 192, ("a", "b"), 2, 1, (8.0, 8.0, 8.0))
    save_model(tmp_path, model, network)
    found, loaded = load_model(tmp_path)
    image = torch.rand(1, 3, 32, 32)
    assert found == model and torch.equal(loaded(image), network(image))
    text = (tmp_path / "model.json").read_text()
    (tmp_path / "model.json").write_text(text.replace('"b"', '"b", "c"'))
    with pytest.raises(DataError, match="do not fit"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text(text)
    content = (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"):
        load_model(tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(DataError, match="missing"):
        load_model(tmp_path)


def test_a_checkpoint_that_fails_half_way_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, {"a": torch.ones(3)}, vars(State()))
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "no space")))
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(path, {"a": torch.zeros(3)}, {})
    kept = load_checkpoint(path)
    assert kept is not None and torch.equal(kept.values["a"], torch.ones(3))


@pytest.mark.parametrize("at", [3, 25])
def test_ctrl_c_in_the_middle_of_an_update_waits_for_its_end(tmp_path: Path, at: int) -> None:
    schedule = Schedule(30, 5e-3, check_every=10, averaging=0.9)
    network, step, judge = _parts()
    whole, _ = fit(network, step, judge, schedule, tmp_path / "whole", _watch())
    network, step, judge = _parts()

    def pressing(one: nn.Module, n: int) -> Tensor:
        loss = step(one, n)  # the statistics of the batch are taken in by now
        if n == at:
            signal.raise_signal(signal.SIGINT)
        return loss

    with pytest.raises(KeyboardInterrupt):
        fit(network, pressing, judge, schedule, tmp_path / "cut", _watch())
    network, step, judge = _parts()
    resumed, _ = fit(network, step, judge, schedule, tmp_path / "cut", _watch())
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_training_that_runs_away_says_so(tmp_path: Path) -> None:
    network, _, judge = _parts()

    def diverging(one: nn.Module, n: int) -> Tensor:
        return one.head.bias.sum() * float("nan")  # type: ignore[union-attr, operator, no-any-return]

    with pytest.raises(CristaeError, match="learning_rate"):
        fit(network, diverging, judge, Schedule(5, 1e-3), tmp_path / "c", _watch())


def test_recovery_is_resumed_to_the_same_weights(tmp_path: Path) -> None:
    def silent(one: nn.Module) -> Mapping[str, Score]:
        return {"disc": Score(0.1, 0.0)}

    schedule = Schedule(60, 5e-3, check_every=3)
    network, step, _ = _parts()
    rescued: list[str] = []
    whole, state = fit(network, step, silent, schedule, tmp_path / "whole", _watch(rescue=rescued))
    assert len(state.alarms) > 1
    network, step, _ = _parts()
    with pytest.raises(KeyboardInterrupt):
        fit(network, step, silent, schedule, tmp_path / "cut", _watch(at=state.alarms[0]["step"] + 2))
    torch.manual_seed(99)  # whatever the global generator says
    network, step, _ = _parts()
    again: list[str] = []  # whoever shows patches is new, too, and is told of the alarm before the interruption
    resumed, _ = fit(network, step, silent, schedule, tmp_path / "cut", _watch(rescue=again))
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert again == rescued


class _Course:
    """A course of judgements of two classes, and what a training made of it."""

    def __init__(self, tmp_path: Path, updates: int, ratios: Sequence[float], dices: Sequence[float] = ()) -> None:
        """Judge every second update; `ratios` are those of the first class, `dices` the means of both."""
        course = iter(zip(ratios, dices or [0.5] * len(ratios), strict=True))

        def judge(one: nn.Module) -> Mapping[str, Score]:
            ratio, dice = next(course)
            return {"dot": Score(dice, ratio), "disc": Score(dice, 1.0)}

        self.told: list[str] = []
        self.rescued: list[str] = []
        watch = _watch(rescue=self.rescued, alarms=self.told)
        network = nn.Conv2d(1, 2, 1)
        schedule = Schedule(updates, 1e-3, check_every=2)
        _, state = fit(
            network, lambda one, n: one(torch.ones(1, 1, 2, 2)).mean(), judge, schedule, tmp_path / "c", watch
        )
        self.alarms = [(alarm["class"], alarm["step"]) for alarm in state.alarms]
        assert self.told == [alarm["message"] for alarm in state.alarms]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 10, 30])
def test_a_class_that_is_never_predicted_raises_an_alarm_however_short_the_training(tmp_path: Path, n: int) -> None:
    found = _Course(tmp_path, 2 * n, [0.0] * n)
    assert found.alarms[-1] == ("dot", 2 * n)  # the weights that are kept do not predict it
    assert "predict next to nothing of it" in found.told[-1]
    assert len(found.rescued) == len(found.told) - 1  # at the end there is nothing left to rescue
    assert bool(found.rescued) == (n > 2)


def test_a_rescued_class_is_given_time_before_the_next_alarm(tmp_path: Path) -> None:
    steps = [step for _, step in _Course(tmp_path, 60, [0.0] * 30).alarms]
    assert steps == [*range(20, 60, 2 * PATIENCE), 60]


def test_a_class_lost_near_the_end_raises_an_alarm_then(tmp_path: Path) -> None:
    # Ten judgements, as in a training of 500 updates: silent from the eighth on.
    lost = _Course(tmp_path, 20, [1.0] * 7 + [0.0] * 3, [0.8] * 7 + [0.4] * 3)
    assert lost.alarms == [("dot", 20)]
    assert "of update 14, predict it" in lost.told[0]
    assert lost.rescued == []


def test_the_last_judgement_alone_raises_an_alarm_if_its_weights_are_kept(tmp_path: Path) -> None:
    kept = _Course(tmp_path, 20, [1.0] * 9 + [0.0], [0.5] * 9 + [0.7])
    assert kept.alarms == [("dot", 20)]
    (tmp_path / "c").unlink()
    assert _Course(tmp_path, 20, [1.0] * 9 + [0.0], [0.7] * 9 + [0.5]).alarms == []


def test_a_class_that_comes_late_or_drops_out_once_raises_no_alarm(tmp_path: Path) -> None:
    assert _Course(tmp_path, 20, [0.0] * 4 + [1.0] * 6).alarms == []
    (tmp_path / "c").unlink()
    assert _Course(tmp_path, 20, [1.0] * 4 + [0.0] * 2 + [1.0] * 4).alarms == []
    (tmp_path / "c").unlink()
    assert _Course(tmp_path, 20, [math.nan] * 10).alarms == []  # nobody can tell


def test_of_several_classes_each_is_told(tmp_path: Path) -> None:
    def judge(one: nn.Module) -> Mapping[str, Score]:
        return {"dot": Score(0.5, 0.0), "disc": Score(0.5, 0.0)}

    told: list[str] = []
    schedule = Schedule(2, 1e-3, check_every=2)
    step = lambda one, n: one(torch.ones(1, 1, 2, 2)).mean()  # noqa: E731
    fit(nn.Conv2d(1, 2, 1), step, judge, schedule, tmp_path / "c", _watch(alarms=told))
    assert [text.split("'")[1] for text in told] == ["dot", "disc"]


def test_the_depth_of_the_loss_follows_the_share_of_the_training() -> None:
    deepening = Schedule(10, 1e-3, loss_depth=(0, 10, 20))
    assert [deepening.depth(n) for n in range(10)] == [0] * 4 + [10] * 3 + [20] * 3
    assert [Schedule(3, 1e-3).depth(n) for n in range(3)] == [0] * 3


def test_a_deepening_loss_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    class Deep(ResUNet):
        loss_depth = 0

    def parts() -> tuple[Pair, Step, Judge]:
        _, step, judge = _parts()
        torch.manual_seed(0)

        def deepening(pair: nn.Module, n: int) -> Tensor:
            assert len({one.loss_depth for one in parts_of(pair)}) == 1  # both go deeper
            return torch.stack([step(one, n) * (1 + one.loss_depth) for one in parts_of(pair)]).sum()  # type: ignore[operator]

        return Pair([Deep(1, 1, 4), Deep(1, 1, 4)]), deepening, judge

    schedule = Schedule(18, 5e-3, check_every=6, loss_depth=(0, 10, 20))
    whole, _ = fit(*parts(), schedule, tmp_path / "whole", _watch())
    with pytest.raises(KeyboardInterrupt):
        fit(*parts(), schedule, tmp_path / "cut", _watch(at=8))
    resumed, _ = fit(*parts(), schedule, tmp_path / "cut", _watch())
    plain, _ = fit(*parts(), replace(schedule, loss_depth=(0,)), tmp_path / "plain", _watch())
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    pairs = zip(whole.state_dict().values(), plain.state_dict().values(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)
