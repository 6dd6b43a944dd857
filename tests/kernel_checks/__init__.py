"""Checks of the kernels against the oracle: small data, every corner, a file of ``kernels/`` or a part of it each.

tests/test_kernels.py holds the kernels to them, tests/test_mutants.py shows that they see defects. They run on the
backend's own verbs over the stand-in for CuPy; a kernel is launched alone where no verb reaches the corner.
"""

from .centers import check_bound, check_duplicates, check_halted, check_load, check_recenter, check_state
from .halves import check_halves
from .labels import check_assign, check_recheck, check_resolve
from .machine import SHRUNK, machine, problem
from .passes import check_farthest, check_scale, check_summary, check_transform
from .pruning import check_line, check_prune
from .seeds import check_seed_distances, check_seed_search
from .small import check_small
from .sums import check_accumulate, check_inertia
from .tensor import check_pack, check_tensor, check_tensor_groups, check_tensor_types, check_tensor_wide

CHECKS = {
    "assign": check_assign,
    "resolve": check_resolve,
    "recheck": check_recheck,
    "prune": check_prune,
    "line": check_line,
    "accumulate": check_accumulate,
    "load": check_load,
    "recenter": check_recenter,
    "duplicates": check_duplicates,
    "bound": check_bound,
    "state": check_state,
    "halted": check_halted,
    "inertia": check_inertia,
    "farthest": check_farthest,
    "transform": check_transform,
    "scale": check_scale,
    "summary": check_summary,
    "seed distances": check_seed_distances,
    "seed search": check_seed_search,
    "small": check_small,
    "halves": check_halves,
    "tensor": check_tensor,
    "tensor types": check_tensor_types,
    "tensor groups": check_tensor_groups,
    "tensor wide": check_tensor_wide,
    "pack": check_pack,
}

__all__ = ["CHECKS", "SHRUNK", "machine", "problem"]
