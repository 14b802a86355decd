"""What the rules on learning say of returns that are noise with a memory, and that the README says the same."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks"))

from benchmark import dependent_noise
from benchmark.dependent_noise import NOISES, RUNS, UPDATES, critical_rules, made_run, noise_row, shows_progress

README = Path(dependent_noise.__file__).with_name("README.md").read_text(encoding="utf-8")


def drawn(name: str, runs: int, *, has_learned: bool) -> list[frozenset[str]]:
    """The critical rules of the first runs of one noise."""
    rng = np.random.default_rng(list(NOISES).index(name))
    return critical_rules([made_run(NOISES[name](rng, UPDATES), has_learned=has_learned) for _ in range(runs)])


def test_noise_without_a_memory_is_found_where_nothing_is_learned() -> None:
    """Ten runs of ten are called critical by the rule for a return that does not rise."""
    assert all("return_stalled" in rules for rules in drawn("independent", 10, has_learned=False))


def test_noise_with_a_memory_passes_as_progress() -> None:
    """Under AR(1) with φ = 0.9 ten runs of ten show progress, and none is called stalled: a known weakness."""
    rng = np.random.default_rng(list(NOISES).index("AR(1), φ = 0.9"))
    made = [made_run(NOISES["AR(1), φ = 0.9"](rng, UPDATES), has_learned=False) for _ in range(10)]
    assert all(map(shows_progress, made))
    assert not any("return_stalled" in rules for rules in critical_rules(made))


@pytest.mark.parametrize("name", list(NOISES)[:-1])
def test_noise_after_a_rise_is_no_failure(name: str) -> None:
    """Six deviations above its start, a return is not called critical in any of ten runs, unless it walks far below."""
    assert drawn(name, 10, has_learned=True) == [frozenset()] * 10


@pytest.mark.parametrize("name", ["AR(1), φ = 0.5", "AR(1), φ = 0.98", "independent on a walk, steps of 0.5"])
def test_a_noise_is_what_it_says(name: str) -> None:
    """AR(1) noise has deviation 1 and its φ from value to value; a walk goes far."""
    values = np.array([NOISES[name](np.random.default_rng(seed), 2000) for seed in range(40)])
    if name.startswith("AR"):
        phi = float(name.rpartition(" ")[2])
        assert values.std() == pytest.approx(1.0, abs=0.15)
        assert np.mean(values[:, 1:] * values[:, :-1]) / values.var() == pytest.approx(phi, abs=0.03)
    else:
        assert np.diff(values).std() == pytest.approx(np.sqrt(2 + 0.25), abs=0.05)
        assert values[:, -100:].mean(axis=1).std() > 10


def test_the_same_numbers_are_printed_each_time() -> None:
    """Two calls print the same, with a row for each noise in both tables."""
    first, second = (CliRunner().invoke(dependent_noise.main, ["--runs", "2"]).stdout for _ in range(2))
    assert first == second
    assert all(first.count(f"\n{name}  ") == 2 for name in NOISES)


@pytest.mark.slow
@pytest.mark.notebooks
@pytest.mark.parametrize("name", NOISES)
def test_the_readme_has_the_tables(name: str) -> None:
    """Each row stands in the README of the benchmark as the command prints it, in both tables."""
    rows = [noise_row(name, RUNS, has_learned=has_learned) for has_learned in (False, True)]
    in_readme = [line for line in README.splitlines() if line.startswith(f"| {name} |")]
    assert in_readme == [f"| {' | '.join(row)} |" for row in rows]
