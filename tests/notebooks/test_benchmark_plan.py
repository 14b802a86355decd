"""The plan of the benchmark is what its README says, and is drawn the same each time."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import sys
from collections import Counter
from pathlib import Path

import gymnasium
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks"))

from benchmark import fresh_plan, large_plan, plan
from benchmark.environments import TASKS, Task
from benchmark.faults import KINDS, TRAINERS
from benchmark.fresh_environments import EVERY_TASK, FRESH_TASKS
from benchmark.fresh_faults import EVERY_KIND, FRESH_KINDS
from benchmark.fresh_plan import (
    EIGHTH_PLAN,
    FIFTH_PLAN,
    FIRST_PLAN,
    FOURTH_PLAN,
    SECOND_PLAN,
    SEVENTH_PLAN,
    SIXTH_PLAN,
    THIRD_PLAN,
    FreshPlan,
)
from gymnasium.utils.env_checker import check_env

PLAN = plan.make_plan()
FRESH = {drawn: drawn.entries() for drawn in fresh_plan.PLANS}
LARGE_DIGEST = "e5a36e7062d2818321b37dd975431249649735eca23a1a415e5c2ced99476937"
SOUND = [entry for entry in PLAN if entry.kind == plan.SOUND]
BROKEN = [entry for entry in PLAN if entry.kind != plan.SOUND]
README = Path(plan.__file__).with_name("README.md").read_text(encoding="utf-8")
ENVIRONMENTS = Path(plan.__file__).with_name("environments.txt")


def test_the_plan_is_drawn_the_same_each_time() -> None:
    """Two plans are equal; no two runs share number, name or seed."""
    assert plan.make_plan() == PLAN
    assert [entry.run for entry in PLAN] == list(range(len(PLAN)))
    assert len({entry.name for entry in PLAN}) == len(PLAN)
    assert len({entry.seed for entry in PLAN}) == len(PLAN)


def test_the_plan_has_enough_of_everything() -> None:
    """At least 340 sound runs, 70 of more than 1,000 updates by three trainers; 400 broken ones; 30 kinds."""
    long = [entry for entry in SOUND if entry.updates > 1000]
    assert len(SOUND) >= 340
    assert len(long) >= 70
    assert {entry.trainer for entry in long} == set(TRAINERS)
    assert len(BROKEN) >= 400
    assert len(TASKS) >= 13
    assert len(KINDS) >= 30
    cells = Counter((entry.env, entry.trainer) for entry in SOUND)
    assert len(cells) == len(TASKS) * len(TRAINERS)
    assert min(cells.values()) >= 4


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_spread(name: str) -> None:
    """A kind is on three environments or more and on all of its trainers; RLMutation's also as published."""
    main = [entry for entry in BROKEN if entry.kind == name and entry.part == "main"]
    assert len({entry.env for entry in main}) >= 3
    assert {entry.trainer for entry in main} == set(KINDS[name].trainers)
    published = [entry for entry in BROKEN if entry.kind == name and entry.part == "rlmutation"]
    assert bool(published) == name.startswith("rlm-")
    assert all((entry.env, entry.trainer) == ("CartPole-v1", "sb3") for entry in published)
    assert len({kind for kind in KINDS if kind.startswith("rlm-")}) == 11


def test_lengths_and_beginnings_are_within_bounds() -> None:
    """Runs have 40 to 2,000 updates. What breaks on its way had at least as many as its task takes to be learned."""
    for entry in PLAN:
        assert 20 < entry.updates <= 2000
        assert entry.updates >= (40 if entry.kind == plan.SOUND else entry.task.shortest)
        assert entry.updates <= entry.task.longest
        if KINDS.get(entry.kind) and KINDS[entry.kind].begins == "later":
            assert entry.task.shortest * 0.95 <= entry.begins < entry.updates
        if entry.kind == plan.SOUND or KINDS[entry.kind].begins == "start":
            assert entry.begins == 0
    assert {entry.begins > 0 for entry in BROKEN if KINDS[entry.kind].begins == "either"} == {True, False}


def test_what_is_held_back_is_held_back() -> None:
    """One environment of each group and two kinds of each area; no batch mixes them with others."""
    environments, kinds = plan.held_back()
    assert {task.group for task in TASKS if task.name in environments} == {"discrete", "continuous", "toy"}
    assert sorted(KINDS[kind].area for kind in kinds) == ["critic"] * 2 + ["data"] * 2 + ["policy"] * 2
    for entry in PLAN:
        assert entry.is_held_back == (entry.env in environments or entry.kind in kinds)
    batches = plan.make_batches(PLAN)
    assert all(entry.is_held_back == (batch.folder == "held_back") for batch in batches for entry in batch.entries)
    assert sorted(entry.run for batch in batches for entry in batch.entries) == list(range(len(PLAN)))
    assert len({(batch.folder, batch.number) for batch in batches}) == len(batches)


def test_a_batch_that_is_cut_off_holds_some_of_everything() -> None:
    """Half of the plan has half of the runs of each environment and of each kind, give or take a few."""
    half = PLAN[: len(PLAN) // 2]
    for key in ("env", "kind"):
        all_of, half_of = (Counter(getattr(entry, key) for entry in entries) for entries in (PLAN, half))
        assert all(abs(half_of[name] - count / 2) <= 0.15 * count + 1 for name, count in all_of.items())


def test_the_readme_has_the_numbers_of_the_plan() -> None:
    """Counts, and what is held back, are those of the plan."""
    updates = sum(entry.updates for entry in PLAN)
    long = sum(entry.updates > 1000 for entry in SOUND)
    published = sum(entry.part == "rlmutation" for entry in PLAN)
    text = " ".join(README.split())
    assert f"{len(PLAN)} runs" in text
    assert f"{round(updates, -3):,} updates" in text
    assert f"{sum(e.part == 'main' for e in SOUND)} sound runs" in text
    assert f"{long} of them longer than 1,000 updates" in text
    assert f"{sum(e.part == 'main' for e in BROKEN)} runs" in text
    assert f"{published} runs" in text
    assert f"{len(plan.make_batches(PLAN))} batches" in text
    held_back = README.partition("## What is held back")[2].partition("##")[0]
    assert re.findall(r"`([^`]*)`", held_back.partition("- Environments")[2].partition("A run is")[0]) == [
        *plan.HELD_BACK_ENVIRONMENTS,
        *plan.HELD_BACK_KINDS,
    ]


def test_the_readme_has_every_environment_and_kind() -> None:
    """Bounds of each environment, and what each kind does, are those of the code."""

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:g}".replace("-", "−")

    for task in EVERY_TASK.values():
        bounds = " | ".join(map(number, (task.random, task.failed, task.learned, task.good, task.critic_floor)))
        assert f"| `{task.name}` | {task.group} | {bounds} | {task.why} |" in README
    for kind in EVERY_KIND.values():
        assert f"| `{kind.name}` | {kind.area} | {kind.does} | {kind.begins} | {', '.join(kind.trainers)} |" in README


# ---------------------------------------------------------------------- the fresh runs


def digest(drawn: FreshPlan) -> str:
    """A checksum of every batch of a plan."""
    batches = [(batch.folder, batch.number, [entry.to_dict() for entry in batch.entries]) for batch in drawn.batches()]
    return hashlib.sha256(json.dumps(batches).encode()).hexdigest()


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        (FIRST_PLAN, "93897a51e7ea85652a9e45c978ad23fe15f3f5a0d329acfc13deb11c1f99fd84"),
        (SECOND_PLAN, "f7a3fe2af3e744c0092fe943b4a65febb4cb8faf869725af8a07b05617d0868c"),
        (THIRD_PLAN, "d682abb0d62cc91e4a7a2eacf5dcd15ad8fba147cd0e1c6171f2a27b8f87df59"),
        (FOURTH_PLAN, "6f7212db9c37ddb977a1d0865c13af2a357c5992153c72cff526fd6f4242184e"),
    ],
    ids=lambda each: str(each.lot) if isinstance(each, FreshPlan) else "",
)
def test_a_fresh_plan_that_was_sampled_stays_as_it_was(drawn: FreshPlan, expected: str) -> None:
    """Its batches are, byte for byte, those that its lots were sampled by."""
    assert digest(drawn) == expected


def test_fresh_plans_are_drawn_the_same_each_time_and_share_nothing() -> None:
    """Two drawings are equal; numbers, names, seeds, environments and kinds of one plan are in no other twice."""
    assert all(drawn.entries() == entries for drawn, entries in FRESH.items())
    assert fresh_plan.make_fresh_plan() == tuple(entry for entries in FRESH.values() for entry in entries)
    every = [*PLAN, *fresh_plan.make_fresh_plan()]
    for key in ("run", "name", "seed"):
        assert len({getattr(entry, key) for entry in every}) == len(every), key
    batches = fresh_plan.make_fresh_batches()
    assert [entry for batch in batches for entry in batch.entries] == list(fresh_plan.make_fresh_plan())
    assert {batch.folder for batch in batches} == {*fresh_plan.LOTS}
    assert len({(batch.folder, batch.number) for batch in batches}) == len(batches)
    assert sorted(task.name for drawn in FRESH for task in drawn.tasks) == sorted(task.name for task in FRESH_TASKS)
    assert sorted(kind for drawn in FRESH for kind in drawn.kinds) == sorted(FRESH_KINDS)
    assert len(EVERY_TASK) == len(TASKS) + len(FRESH_TASKS)
    assert len(EVERY_KIND) == len(KINDS) + len(FRESH_KINDS)


@pytest.mark.parametrize("drawn", FRESH, ids=lambda drawn: str(drawn.lot))
def test_fresh_runs_are_on_environments_and_of_kinds_that_no_other_run_has(drawn: FreshPlan) -> None:
    """Each new environment is with all trainers, and each new kind with all of its; neither is in an older run."""
    new_tasks = {task.name for task in drawn.tasks}
    others = [*PLAN, *(entry for other, entries in FRESH.items() if other is not drawn for entry in entries)]
    assert not new_tasks & {entry.env for entry in others}
    assert not {*drawn.kinds} & {entry.kind for entry in others}
    assert {(entry.env, entry.trainer) for entry in FRESH[drawn] if entry.env in new_tasks} == {
        (name, trainer) for name in new_tasks for trainer in TRAINERS
    }
    for name in drawn.kinds:
        of_kind = [entry for entry in FRESH[drawn] if entry.kind == name]
        assert {entry.trainer for entry in of_kind} == set(EVERY_KIND[name].trainers)
        assert {entry.env in new_tasks for entry in of_kind} == ({True, False} if drawn.kind_runs[1] else {True})


@pytest.mark.parametrize("drawn", FRESH, ids=lambda drawn: str(drawn.lot))
def test_a_beginning_of_a_fresh_plan_holds_some_of_everything(drawn: FreshPlan) -> None:
    """Half of it has sound runs of each environment and trainer, long ones, and broken ones of each kind."""
    half = FRESH[drawn][: len(FRESH[drawn]) // 2]
    sound = [entry for entry in half if entry.kind == plan.SOUND and entry.part == "main"]
    cells = Counter((entry.env, entry.trainer) for entry in sound if entry.task in drawn.tasks)
    assert min(cells.values()) >= drawn.sound_runs[0] // 2 - (drawn in (SIXTH_PLAN, SEVENTH_PLAN))  # by chance
    assert len(cells) == len(drawn.tasks) * len(TRAINERS)
    long = [[entry for entry in entries if entry.updates > 1000] for entries in (half, FRESH[drawn])]
    assert len(long[0]) >= len(long[1]) / 3
    kinds = [{entry.kind for entry in entries if entry.part == "main"} for entries in (half, FRESH[drawn])]
    assert {*drawn.kinds} <= kinds[0]
    assert len(kinds[0]) >= 0.8 * len(kinds[1])


@pytest.mark.parametrize(
    ("drawn", "shortest", "longest", "left", "long"),
    [
        (SECOND_PLAN, 200, 800, 150, 15),
        (THIRD_PLAN, 150, 700, 120, 18),
        (FOURTH_PLAN, 150, 625, 120, 23),
        (FIFTH_PLAN, 150, 540, 120, 18),
        (SIXTH_PLAN, 150, 750, 120, 24),
        (SEVENTH_PLAN, 150, 440, 120, 27),
        (EIGHTH_PLAN, 200, 800, 150, 63),
    ],
    ids=["second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"],
)
def test_fresh_runs_are_as_long_as_people_train(
    drawn: FreshPlan, shortest: int, longest: int, left: int, long: int
) -> None:
    """Sound runs have 150 or 200 updates or more, some over 1,000; broken ones 120 to 800, most of it broken."""
    main = [entry for entry in FRESH[drawn] if entry.part == "main"]
    sound = [entry for entry in main if entry.kind == plan.SOUND]
    assert all(shortest <= entry.updates <= 700 or 1000 < entry.updates <= entry.task.longest for entry in sound)
    assert sum(entry.updates > 1000 for entry in sound) == long
    broken = [entry for entry in main if entry.kind != plan.SOUND]
    least = 120 if drawn is SEVENTH_PLAN else 150  # one of its environments is learned within 60 updates
    assert all(least <= entry.updates <= longest and entry.updates - entry.begins >= left for entry in broken)
    assert all(entry.begins >= entry.task.shortest for entry in broken if entry.begins)
    assert {entry.begins > 0 for entry in broken if EVERY_KIND[entry.kind].begins == "either"} == {True, False}


@pytest.mark.parametrize("drawn", FRESH, ids=lambda drawn: str(drawn.lot))
def test_the_readme_has_the_numbers_of_a_fresh_plan(drawn: FreshPlan) -> None:
    """Counts are those of the plan."""
    text = " ".join(README.split())
    entries = FRESH[drawn]
    sound = [entry for entry in entries if entry.kind == plan.SOUND and entry.part == "main"]
    new = [entry for entry in sound if entry.task in drawn.tasks]
    long = sum(entry.updates > 1000 for entry in new)
    assert f"{len(fresh_plan.make_fresh_plan())} [fresh runs]" in text
    counts = f"{len(entries)} runs with {round(sum(entry.updates for entry in entries), -3):,} updates"
    assert f"{counts} in {len(drawn.batches())} batches" in text
    number = {6: "six", 7: "seven", 8: "eight", 9: "nine", 12: "twelve"}[len(drawn.tasks)]
    assert f"sound runs: {len(new)} on {number} environments that are in no other part, {long} of them longer" in text
    if known := len(sound) - len(new):
        assert f"and {known} on known ones" in text
    assert f"{len(drawn.kinds)} kinds of failure that are in no other part" in text
    assert f"{len(drawn.known_kinds)} known kinds" in text


@pytest.mark.parametrize(
    ("task", "package"),
    [
        ("LunarLander-v3", "Box2D"),
        ("MinAtar-Breakout", "minatar"),
        ("BabyAI-GoToRedBallGrey", "minigrid"),
        ("MiniGrid-DoorKey-5x5", "minigrid"),
        ("Reacher-v5", "mujoco"),
    ],
)
def test_an_environment_that_is_not_installed_says_what_installs_it(
    task: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the environment, the package and the command."""
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    expected = (
        rf"^{task}\S* needs {package}, which is not installed; install what sampling needs with:"
        " python -m pip install -r notebooks/benchmark/environments.txt$"
    )
    with pytest.raises(ModuleNotFoundError, match=expected):
        EVERY_TASK[task].make()


def test_what_sampling_needs_is_pinned() -> None:
    """Each package of environments of others is in the file, with its version."""
    names = [line.partition("==")[0] for line in ENVIRONMENTS.read_text(encoding="utf-8").splitlines()[1:]]
    assert names == ["box2d", "imageio", "MinAtar", "minigrid", "mujoco"]


@pytest.mark.notebooks  # `make notebooks` installs what some of the environments need
def test_a_simulation_that_a_fault_breaks_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo has a log of its own for actions that are NaN, in the working folder; it stays empty."""
    monkeypatch.chdir(tmp_path)
    env = EVERY_TASK["InvertedPendulum-v5"].make()
    env.reset(seed=1)
    env.step(np.full(1, np.nan, np.float32))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.notebooks  # `make notebooks` installs what some of the environments need
@pytest.mark.filterwarnings("ignore:.*observation space")
@pytest.mark.parametrize("task", EVERY_TASK.values(), ids=lambda task: str(task.name))
def test_an_environment_is_what_it_says(task: Task) -> None:
    """It passes Gymnasium's checks where it is ours, repeats with its seed, and its bounds are in order."""
    env = task.make()
    if type(env.unwrapped).__module__.endswith("tiny_envs"):
        env.unwrapped.spec = gymnasium.envs.registration.EnvSpec(task.name)
        check_env(env.unwrapped, skip_render_check=True, skip_close_check=True)
    first, _ = env.reset(seed=1)
    assert first.dtype == np.float32
    assert np.array_equal(first, env.reset(seed=1)[0])
    assert env.observation_space.contains(first)
    if task.learned is not None:
        assert task.failed is not None
        assert task.random < task.failed < task.learned < task.good


@pytest.mark.notebooks  # `make notebooks` installs what some of the environments need
def test_a_game_repeats_with_its_seed() -> None:
    """Seeds as large as those of the plans are taken; another seed is another game."""

    def played(seed: int) -> list[tuple[list[int], float, bool]]:
        env = EVERY_TASK["MinAtar-SpaceInvaders"].make()
        env.reset(seed=seed)
        steps = [env.step(number % 4) for number in range(30)]
        return [(np.flatnonzero(step[0]).tolist(), float(step[1]), step[2]) for step in steps]

    seed = 1000 * 2**23
    assert played(seed) == played(seed) != played(seed + 1)


@pytest.mark.notebooks  # `make notebooks` installs what some of the environments need
def test_a_reset_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """BabyAI says of each layout that it draws again, and a terminal that samples would fill with it."""
    env = EVERY_TASK["BabyAI-GoToRedBallGrey"].make()
    for seed in range(40):
        env.reset(seed=seed)
    assert capsys.readouterr() == ("", "")
    for seed in range(40):
        env.unwrapped.reset(seed=seed)
    assert "Sampling rejected" in capsys.readouterr().out


def test_a_syllabus_is_harder_when_it_is_passed() -> None:
    """Who knows all answers earns 20 until the level was passed; then half of the questions are new, up to 256."""
    env = EVERY_TASK["Syllabus"].make()
    learned: dict[int, int] = {}

    def earned(*, is_taught: bool) -> float:
        """The return of an episode: what is known is answered, and a new question with 0 or as taught."""
        question, total = int(env.reset()[0].argmax()), 0.0
        for _ in range(20):
            if is_taught:
                learned[question] = int(env.unwrapped.ANSWERS[question])  # type: ignore[attr-defined]
            observation, reward, *_ = env.step(learned.get(question, 0))
            question, total = int(observation.argmax()), total + float(reward)
        return total

    env.reset(seed=1)
    assert [earned(is_taught=True) for _ in range(20)] == [20.0] * 20
    assert len(learned) == 4
    after = [earned(is_taught=False) for _ in range(40)]
    assert 9 < np.mean(after) < 15  # half of the questions are known, and 0 answers some of the others
    assert min(earned(is_taught=True) for _ in range(150)) == 20.0
    assert len(learned) == 256  # the largest level is not passed


def test_an_answer_is_paid_at_its_end_by_how_much_is_right() -> None:
    """Nothing before the sixth token, then a probability that rises with the tokens that are right, and is noisy."""
    env = EVERY_TASK["Answers"].make()
    right = env.unwrapped.RIGHT  # type: ignore[attr-defined]
    means = []
    for known in (0, 3, 6):
        paid = []
        for seed in range(100):
            prompt = int(env.reset(seed=seed)[0][:8].argmax())
            tokens = [int(token) if place < known else int(token + 1) % 12 for place, token in enumerate(right[prompt])]
            steps = [env.step(token) for token in tokens]
            assert [step[1] for step in steps[:-1]] == [0.0] * 5
            assert [step[2] for step in steps] == [False] * 5 + [True]
            paid.append(float(steps[-1][1]))
        assert 0 < min(paid) < max(paid) < 1
        assert len(set(paid)) == 100
        means.append(np.mean(paid))
    assert means[0] < 0.1 < 0.4 < means[1] < 0.6 < 0.9 < means[2]


def test_a_dock_pays_what_was_come_nearer() -> None:
    """The return is ten times the first distance less the last one, whatever was done in between."""
    env = EVERY_TASK["Docking"].make()
    first, _ = env.reset(seed=3)
    steps = [env.step(number % 9) for number in range(40)]
    assert [truncated for _, _, _, truncated, _ in steps] == [False] * 39 + [True]
    come_nearer = np.hypot(*first[:2]) - np.hypot(*steps[-1][0][:2])
    assert sum(float(reward) for _, reward, *_ in steps) == pytest.approx(10 * come_nearer, rel=1e-4)


def test_a_vein_has_returns_of_two_modes() -> None:
    """Who digs where the ore is earns 20 or 200, each in about half of the episodes."""
    env = EVERY_TASK["Veins"].make()
    returns = []
    for seed in range(60):
        observation, _ = env.reset(seed=seed)
        earned = 0.0
        for _ in range(20):
            observation, reward, *_ = env.step(int(observation[:4].argmax()))
            earned += float(reward)
        returns.append(earned)
    counts = Counter(returns)
    assert counts.keys() == {20.0, 200.0}
    assert min(counts.values()) > 15


def test_a_pole_hangs_until_it_is_swung_up() -> None:
    """Nothing is paid below, 1 above in the middle of the track and half of it at its end, where the cart stops."""
    env = EVERY_TASK["CartPoleSwingUp"].make().unwrapped
    env.reset(seed=1)
    steps = [env.step(np.zeros(1, np.float32)) for _ in range(200)]
    assert sum(float(step[1]) for step in steps) < 2
    assert [step[3] for step in steps] == [False] * 199 + [True]
    env.reset(seed=1)
    env.place = env.speed = env.angle = env.spin = 0.0  # type: ignore[attr-defined]
    assert env.step(np.zeros(1, np.float32))[1] == 1.0
    for _ in range(60):
        observation, reward, *_ = env.step(np.ones(1, np.float32))
        env.angle = env.spin = 0.0  # type: ignore[attr-defined]
    assert observation[:2].tolist() == pytest.approx([2.4, 0.0])
    assert reward == pytest.approx(0.5, abs=0.1)


def test_a_drone_that_is_steered_hovers_and_else_crashes() -> None:
    """Full thrust on one side pays −5 at once or so; who leans towards the point earns what the bounds call good."""

    def flown(seed: int, *, is_steered: bool) -> tuple[float, bool]:
        env = EVERY_TASK["Quadrotor"].make()
        observation, _ = env.reset(seed=seed)
        total, is_over = 0.0, False
        while not is_over:
            x, z, tilt, x_speed, z_speed, spin = observation.tolist()
            lift = -z - 1.2 * z_speed
            turn = 2 * (-(0.6 * x + 0.8 * x_speed) - tilt) - 0.6 * spin
            action = np.array((lift + turn, lift - turn) if is_steered else (1, -1), np.float32)
            observation, reward, terminated, truncated, _ = env.step(action)
            total, is_over = total + float(reward), terminated or truncated
        return total, bool(terminated)

    steered = [flown(seed, is_steered=True) for seed in range(10)]
    assert not any(crashed for _, crashed in steered)
    assert 80 < np.mean([earned for earned, _ in steered]) < 120
    assert all(earned < 5 and crashed for earned, crashed in (flown(seed, is_steered=False) for seed in range(10)))


def test_a_warehouse_earns_by_what_is_ordered() -> None:
    """Nothing ordered costs the buyers that go away; filling up to one level on all days earns half of the best."""

    def run(level: float) -> float:
        env = EVERY_TASK["Warehouse"].make()
        total = 0.0
        for seed in range(20):
            observation, _ = env.reset(seed=seed)
            for _ in range(30):
                there = 10 * observation[:9].reshape(3, 3).sum(axis=0)
                observation, reward, *_ = env.step(np.clip(level - there, 0, 20) / 10 - 1)
                total += float(reward) / 20
        return total

    earned = {level: run(level) for level in (0, 18, 60)}
    assert earned[0] < -15
    assert 10 < earned[18] < 21
    assert earned[60] < earned[18]


def test_a_text_is_paid_at_its_end_less_a_price_for_each_token() -> None:
    """A token costs what the reference says, and fitting tokens of one prompt are worth more than those of another."""
    env = EVERY_TASK["Prose"].make()
    inner = env.unwrapped
    reference, fits = inner.REFERENCE, inner.FITS  # type: ignore[attr-defined]
    assert np.exp(reference).sum(axis=1) == pytest.approx(1.0)
    paid: dict[int, list[float]] = {0: [], 1: []}
    for shift in paid:
        for seed in range(100):
            observation, _ = env.reset(seed=seed)
            prompt, before = int(observation[:4].argmax()), int(observation[4:16].argmax())
            for place in range(16):
                token = int(fits[(prompt + shift) % 4, before].argmax())
                observation, reward, terminated, truncated, _ = env.step(token)
                assert (terminated, truncated) == (place == 15, False)
                if place < 15:
                    assert reward == pytest.approx(0.05 * reference[before, token])
                before = token
            paid[shift].append(float(reward))
    assert np.mean(paid[0]) > np.mean(paid[1]) + 2
    assert len(set(paid[0])) == 100  # of the noise


def test_each_digit_of_a_sum_is_marked() -> None:
    """Right ones earn 0.5 each and 4 more where all are right; one mistake costs 4.5, and what it carries is seen."""
    env = EVERY_TASK["Sums"].make()
    for mistakes, expected in ((0, 7.0), (1, 2.5), (6, 0.0)):
        observation, _ = env.reset(seed=mistakes)
        total = 0.0
        for place in range(6):
            right = int(observation[:6].argmax() + observation[6:12].argmax() + observation[12])
            observation, reward, terminated, *_ = env.step((right + (place < mistakes)) % 6)
            assert observation[12] == (right >= 6)
            total += float(reward)
        assert (total, terminated) == (expected, True)


def test_one_dive_of_the_deep_sea_finds_the_gold() -> None:
    """Of all 128, which pay 0.99 or nothing but what their ways to the right cost."""
    env = EVERY_TASK["DeepSea"].make()
    paid = []
    for dive in range(128):
        env.reset(seed=1)
        steps = [env.step(dive >> row & 1) for row in range(7)]
        assert [step[2] for step in steps] == [False] * 6 + [True]
        paid.append(sum(float(step[1]) for step in steps))
    paid.sort()
    assert paid[-1] == pytest.approx(0.99)
    assert min(paid) >= -0.01 - 1e-9
    assert paid[-2] <= 0


def test_a_snake_grows_by_food_and_ends_at_walls_and_at_itself() -> None:
    """Going to the food pays 1 and a cell each time; straight on, or back into its body, costs 1 and is the end."""
    env = EVERY_TASK["Snake"].make().unwrapped
    env.reset(seed=1)

    def place(channel: int) -> tuple[int, int]:
        return divmod(int(env.observe()[36 * channel : 36 * (channel + 1)].argmax()), 6)  # type: ignore[attr-defined]

    for eaten in range(1, 4):
        earned = 0.0
        while not earned:
            (row, column), (food_row, food_column) = place(0), place(2)
            towards = (0 if row > food_row else 2) if row != food_row else (3 if column > food_column else 1)
            observation, reward, terminated, *_ = env.step(towards)
            earned = float(reward)
            assert not terminated
        assert earned == 1.0
        assert observation[36:72].sum() == eaten + 1
    assert env.step((towards + 2) % 4)[1:3] == (-1.0, True)
    env.reset(seed=2)
    rewards = [env.step(0)[1:3] for _ in range(place(0)[0] + 1)]
    assert rewards[-1] == (-1.0, True)


def test_who_plays_well_does_not_lose_at_tic_tac_toe() -> None:
    """Who looks ahead to the end never loses and wins half of the games; a cell that is taken loses at once."""
    env = EVERY_TASK["TicTacToe"].make()
    lines = env.unwrapped.LINES  # type: ignore[attr-defined]

    @functools.cache
    def value(board: tuple[int, ...], player: int) -> int:
        if any(all(board[cell] == -player for cell in line) for line in lines):
            return -1
        return max((-value(after(board, cell, player), -player) for cell in free(board)), default=0)

    def after(board: tuple[int, ...], cell: int, player: int) -> tuple[int, ...]:
        return (*board[:cell], player, *board[cell + 1 :])

    def free(board: tuple[int, ...]) -> list[int]:
        return [cell for cell in range(9) if not board[cell]]

    paid = []
    for seed in range(100):
        observation, _ = env.reset(seed=seed)
        is_over = False
        while not is_over:
            board = tuple((observation[:9] - observation[9:]).astype(int).tolist())
            cells = free(board)
            chosen = max(cells, key=lambda cell: -value(after(board, cell, 1), -1))
            observation, reward, is_over, *_ = env.step(chosen)
        paid.append(float(reward))
    assert min(paid) == 0.0
    assert 0.4 < np.mean(paid) < 1
    env.reset(seed=1)
    assert env.step(int(env.step(0)[0][9:].argmax()))[1:3] == (-1.0, True)


def test_the_plan_of_large_rollouts_stays_as_it_was_sampled() -> None:
    """Its batches are, byte for byte, those that were sampled, and share no number, name or seed with other runs."""
    batches = large_plan.make_large_batches()
    made = [(batch.folder, batch.number, [entry.to_dict() for entry in batch.entries]) for batch in batches]
    assert hashlib.sha256(json.dumps(made).encode()).hexdigest() == LARGE_DIGEST
    entries = large_plan.make_large_plan()
    assert [entry for batch in batches for entry in batch.entries] == list(entries)
    every = [*PLAN, *fresh_plan.make_fresh_plan(), *entries]
    for key in ("run", "name", "seed"):
        assert len({getattr(entry, key) for entry in every}) == len(every), key


def test_large_rollouts_are_those_of_the_defaults_of_trainers() -> None:
    """2,048 steps and more; each environment has one trainer, and as many sound runs as broken ones."""
    entries = large_plan.make_large_plan()
    assert {entry.hyper.samples for entry in entries} == {2048, 4096}
    for name in large_plan.TASKS:
        here = [entry for entry in entries if entry.env == name]
        assert len({entry.trainer for entry in here}) == 1
        sound = [entry.updates * entry.hyper.samples for entry in here if entry.kind == plan.SOUND]
        assert len(sound) == len(here) - len(sound) == 4
        assert all(entry.trainer in EVERY_KIND[entry.kind].trainers for entry in here if entry.kind != plan.SOUND)
    text = " ".join(README.split())
    kinds = {entry.kind for entry in entries} - {plan.SOUND}
    updates = sum(entry.updates for entry in entries)
    assert f"{len(entries)} runs with {updates:,} updates in {len(large_plan.make_large_batches())} batches" in text
    assert f"of {len(kinds)} known kinds" in text
