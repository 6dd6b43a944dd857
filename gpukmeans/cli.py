"""The command line: demo, fit, predict, info, plan, choose-k, plot, compress, doctor, bench.

Exit codes: 0, 1 for a failure, 2 for a bad call, 130 for Ctrl-C. An error is one line on stderr. Results go
to stdout, as a table on a terminal and as ``key: value`` lines elsewhere; progress shows on a terminal only.
"""

import json
import os
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ._arguments import MODEL_HELP, BadCall, check, check_output, message
from ._choosing import choose_k
from ._drawing import compress, plot
from ._large import DATA_HELP, MaxMemory, check_data, limited, load, plan
from ._machine import bench, doctor
from ._terminal import drop_stdout, phase, say, show, show_warning, write
from .errors import GpuKMeansError

_FAILURES = (GpuKMeansError, ImportError, MemoryError, OSError, RuntimeError, TypeError, ValueError)

app = typer.Typer(
    name="gpukmeans",
    help="Exact k-means: the same answer on every backend.",
    epilog="An error is one line on stderr; add --debug to any command for the traceback and the log. "
    "Exit codes: 0, 1 for a failure, 2 for a bad call. "
    "Example: gpukmeans fit data.npy -k 8 -o model.npz",
    pretty_exceptions_enable=False,
)

_FITTED = {
    "iterations": "n_iter_",
    "batches": "n_steps_",
    "inertia": "inertia_",
    "backend": "backend_",
    "rechecked rows": "n_rechecked_",
}
_LABELS_HELP = "labels: .npy, .csv or .txt."


def main(args: list[str] | None = None) -> int:
    """Run the command line with `args` (None: those of the process), and give the exit code."""
    args = sys.argv[1:] if args is None else list(args)
    if "_GPUKMEANS_COMPLETE" in os.environ:  # a shell asks what may stand next
        typer.main.get_command(app).main(args, prog_name="gpukmeans")
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    if debug:
        import logging

        logging.basicConfig(level=logging.WARNING)
        logging.getLogger("gpukmeans").setLevel(logging.DEBUG)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            try:
                with typer.main.get_command(app).make_context("gpukmeans", args) as context:
                    context.command.invoke(context)
            except typer.Exit:  # after --help and --version
                pass
        sys.stdout.flush()
        return 0
    except (KeyboardInterrupt, typer.Abort):
        say("gpukmeans: interrupted")
        return 130
    except BrokenPipeError:  # the reader (head, less) has gone: nothing to complain about
        drop_stdout()
        return 1
    except (BadCall, *_FAILURES) as error:
        drop_stdout()
        if debug:
            traceback.print_exc()
        say(f"gpukmeans: error: {message(error)}")
        return _exit_code(error)


def _exit_code(error: BaseException) -> int:
    """Give 2 for a bad call and 1 for a failure."""
    # By name: this package and scikit-learn have one each, and neither needs to have been imported.
    bad_value = any(c.__name__ == "InvalidParameterError" for c in type(error).__mro__)
    return 2 if bad_value or isinstance(error, BadCall) else 1


def _print_version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        write(f"gpukmeans {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: gpukmeans fit data.npy -k 8 -o model.npz --labels labels.csv --seed 0")
def fit(
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)],
    n_clusters: Annotated[int, typer.Option("-k", "--n-clusters", help="Number of clusters.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="MODEL", help="Model file to write.")],
    init: Annotated[str, typer.Option(help="k-means++, k-means||, random, or a file of start centers.")] = "k-means++",
    n_init: Annotated[str, typer.Option(help="Number of starts, or auto.")] = "auto",
    max_iter: Annotated[int, typer.Option(help="Most iterations of one start.")] = 300,
    tol: Annotated[float, typer.Option(help="Shift of the centers, relative, that ends a fit.")] = 1e-4,
    seed: Annotated[int | None, typer.Option(help="Seed of the random numbers.")] = None,
    algorithm: Annotated[str, typer.Option(help="lloyd or elkan; the answer is the same.")] = "lloyd",
    backend: Annotated[str, typer.Option(help="auto, or one that `gpukmeans doctor` lists.")] = "auto",
    precision: Annotated[str, typer.Option(help="exact, float32, tf32 or bf16.")] = "exact",
    weights: Annotated[str | None, typer.Option(metavar="FILE", help="One weight per row: a file like DATA.")] = None,
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help=f"Also write the {_LABELS_HELP}")] = None,
    max_memory: MaxMemory = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep there where the fit is, so that it can be gone on with.")
    ] = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="Seconds between two checkpoints.")] = 60.0,
    resume: Annotated[Path | None, typer.Option(metavar="FILE", help="Go on from a checkpoint of this fit.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="End in this time, with the model as it is then.")] = None,
) -> None:
    """Cluster the rows of DATA and write a model file. Ctrl-C leaves the last checkpoint."""
    from .data_files import check_data_path, check_labels_path, read_data, read_weights, write_labels

    check_data(data, max_memory)
    check_output("-o", output)
    if checkpoint is not None:
        check_output("--checkpoint", checkpoint)
    if resume is not None:
        check("--resume", os.stat, resume)
    if labels is not None:
        check("--labels", check_labels_path, labels)
        check_output("--labels", labels)
    if weights is not None:
        check("--weights", check_data_path, weights)
    start_is_file = init not in ("k-means++", "k-means||", "random")
    if start_is_file:
        check("--init", check_data_path, init)

    from . import model_file
    from .kmeans import KMeans
    from .validation import check_parameters

    n_starts: str | int = int(n_init) if n_init.isdecimal() else n_init
    model = KMeans(
        n_clusters, n_init=n_starts, max_iter=max_iter, tol=tol, random_state=seed, algorithm=algorithm,
        backend=backend, precision=precision, max_memory=max_memory,
    )  # fmt: skip
    check_parameters("KMeans", **model.get_params(deep=False))
    with phase("reading"):
        X = load(data, max_memory)
        sample_weight = None if weights is None else read_weights(weights)
        model.set_params(init=read_data(init) if start_is_file else init)
    if n_clusters > X.shape[0]:
        raise typer.BadParameter(f"{data} has {X.shape[0]} rows, fewer than {n_clusters} clusters", param_hint="-k")
    begin = time.perf_counter()
    model.set_params(verbose=2)
    model.fit(
        X, sample_weight=sample_weight, checkpoint=checkpoint, checkpoint_seconds=checkpoint_seconds, resume=resume,
        max_seconds=max_seconds,
    )  # fmt: skip
    model.set_params(verbose=0)
    seconds = time.perf_counter() - begin
    with phase("writing"):
        if labels is not None:
            write_labels(labels, model.labels_)
        model_file.save(model, output, labels=False)
    show(
        {
            "model": output,
            **({} if labels is None else {"labels": labels}),
            "rows": X.shape[0],
            "features": X.shape[1],
            "clusters": n_clusters,
            "iterations": model.n_iter_,
            "inertia": model.inertia_,
            "backend": model.backend_,
            "rechecked rows": model.n_rechecked_,
            "seconds": f"{seconds:.3f}",
        }
    )


@app.command(epilog="Example: gpukmeans predict model.npz new.npy -o labels.csv")
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="LABELS", help=f"Where to write the {_LABELS_HELP}")
    ],
    backend: Annotated[str | None, typer.Option(help="Another backend than the model's.")] = None,
    max_memory: MaxMemory = None,
) -> None:
    """Write the cluster of each row of DATA."""
    from .data_files import check_labels_path, write_labels

    check("MODEL", os.stat, model)
    check_data(data, max_memory)
    check("-o", check_labels_path, output)
    check_output("-o", output)
    from . import model_file

    with phase("reading"):
        fitted = model_file.load(model)
        X = load(data, max_memory)
    if backend is not None:
        fitted.set_params(backend=backend)
    with phase("predicting"), limited(max_memory):
        if isinstance(X, np.ndarray):
            write_labels(output, fitted.predict(X))
        else:  # as they come
            fitted.predict(X, out=output)
    show({"labels": output, "rows": X.shape[0]})


@app.command(epilog="Example: gpukmeans info model.npz --json")
def info(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    as_json: Annotated[bool, typer.Option("--json", help="The whole header as JSON.")] = False,
) -> None:
    """Show what a model file holds."""
    from . import model_file

    check("MODEL", os.stat, model)
    header = model_file.inspect(model)
    if as_json:
        write(json.dumps(header, indent=2))
        return
    arrays, fitted, names = header["arrays"], header["fitted"], header["feature_names_in_"]
    centers, labels = arrays["cluster_centers"], arrays.get("labels")
    left_out = {name: f"{what} (not saved)" for name, what in header["left_out"].items()}
    given = {"init": "array (saved)"} if "init" in arrays else {}
    show(
        {
            "file": model,
            "class": header["class"],
            "written by": f"gpukmeans {header['gpukmeans']}",
            "clusters": centers["shape"][0],
            "features": centers["shape"][1],
            **({} if names is None else {"feature names": ", ".join(names)}),
            "dtype": "float32" if centers["dtype"] == "<f4" else "float64",
            **{said: fitted[name] for said, name in _FITTED.items() if name in fitted},
            "labels": "not saved" if labels is None else f"{labels['shape'][0]} rows",
            **{f"parameter {name}": value for name, value in (header["params"] | given | left_out).items()},
        }
    )


app.command(epilog="Example: gpukmeans plan data.npy -k 100 --max-memory 500MB")(plan)
app.command(epilog="Example: gpukmeans choose-k data.npy --from 2 --to 12 --plot criteria.png")(choose_k)
app.command(epilog="Example: gpukmeans plot model.npz data.npy -o clusters.png --kind voronoi")(plot)
app.command(epilog="Example: gpukmeans compress photo.jpg -k 64 -o photo.png --plot palette.png")(compress)
app.command(epilog="Example: gpukmeans doctor; for an issue: gpukmeans doctor --verify > report.md")(doctor)
app.command(epilog="Example: gpukmeans bench --quick; to keep the numbers: gpukmeans bench --json bench.json")(bench)


@app.command(epilog="Example: gpukmeans demo --output picture.png")
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PNG", help="Picture to write.")] = Path(
        "gpukmeans-demo.png"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: a look, no measurement.")] = False,
) -> None:
    """Compress a photograph to 64 colours, then race scikit-learn on a million rows."""
    from . import demo as jobs

    check_output("--output", output)
    with phase("compiling"):
        compiling = jobs.warm_up()
    with phase("compressing the photograph"):
        photograph = jobs.compress_photograph(output, quick=quick)
    write(f"Compiling, or loading what was compiled: {compiling:.2f} s, not counted below.")
    write(f"The picture is {output}: the original left, the compressed one right.")
    show(photograph.summary())
    with phase("racing scikit-learn"):
        race = jobs.race_scikit_learn(quick=quick)
    show(race.summary())
