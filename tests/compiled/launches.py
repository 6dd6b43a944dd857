"""Every launch that `_launch` may ask for, on a card of each architecture."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from gpukmeans.backends import _launch, _source, _tensor_config
from gpukmeans.backends._launch import Card, Launch, Problem

from .sass import LIMITS

CARDS = {
    architecture: Card(architecture, 100, limits.shared_per_block, limits.threads)
    for architecture, limits in LIMITS.items()
}
FEATURES = (1, 2, 5, 8, 16, 17, 20, 40, 100, 200, 257, 260, 1000)
CLUSTERS = (1, 7, 64, 1000, 100_000)


def instances(file: str, architecture: int) -> tuple[str, ...]:
    """Those of a file that its card may be asked for."""
    if architecture < _source.OLDEST.get(file, 0):
        return ()
    if file == "assign_sm80":
        return _tensor_config.instances(CARDS[architecture])
    if file == "assign_sm80_wide":
        return _tensor_config.wide_instances(CARDS[architecture])
    return _source.INSTANCES[file]


def launches(card: Card) -> Iterator[Launch]:
    """Launches of all verbs, for problems of many kinds."""
    for dtype, d, k, n in itertools.product(_launch.ROW_TYPES, FEATURES, CLUSTERS, (100, 10_000_000)):
        halves = dtype if dtype in ("fp16", "bf16") else ""
        yield from _of_problem(Problem(n, d, k, "f4" if halves else dtype, halves=halves), card)
    for n in (1, 10_000_000):
        yield from _launch.farthest(n, card)
        yield _launch.value_pass("inertia_sum", n, card)
        yield from (_launch.value_pass(f"scale_values<{t}>", n, card) for t in _launch.ROW_TYPES.values())
    yield _launch.seed_scan()
    yield from (_launch.fit_small(Problem(1, 1, 1, dtype), 5000, card) for dtype in ("f4", "f8"))


def _of_problem(problem: Problem, card: Card) -> Iterator[Launch]:
    yield _launch.assign(problem, card)
    yield _launch.resolve(problem, card)
    yield _launch.recheck(problem, card)
    yield _launch.prune(problem, card)
    for first, two_limbs, has_weights in itertools.product((True, False), repeat=3):
        yield _launch.accumulate(problem, card, first=first, two_limbs=two_limbs, has_weights=has_weights)
    yield from (_launch.centers(verb, problem) for verb in ("recenter", "publish_centers"))
    yield from (_launch.row_pass(verb, problem, card) for verb in ("own_distance", "seed_update", "seed_trials"))
    yield from (_launch.feature_pass(verb, problem, card) for verb in ("summary", "weighted_peaks", "moments"))
    yield _launch.transform(problem)
    for kind in _tensor_config.KINDS:
        if found := _tensor_config.config(problem, card, kind):
            yield _tensor_config.assign(problem, card, found)
    yield _launch.seed_potentials(problem)
    yield _launch.seed_find(problem, 5)


def largest(architecture: int) -> dict[str, Launch]:
    """Of each instance, the launch that takes most shared memory of a block on the architecture's card."""
    found: dict[str, Launch] = {}
    for launch in launches(CARDS[architecture]):
        if launch.kernel not in found or launch.shared > found[launch.kernel].shared:
            found[launch.kernel] = launch
    return found
