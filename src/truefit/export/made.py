"""Which variants are made of which model, for the notebook and for the benchmark alike."""

from sklearn.base import BaseEstimator

from truefit.export.prune import Pruned, lighter_blends
from truefit.export.quantise import fewer_digits, int8
from truefit.export.variants import Variant, exactly


def own_variants(model: BaseEstimator, of: str, case: str) -> dict[str, Variant]:
    """A fitted model as it is, in fewer digits, and a blend with fewer members.

    Parameters
    ----------
    model : estimator
    of, case : str
        Its name, and that of the case.

    Returns
    -------
    dict from name to Variant
        The model as it is comes first.
    """
    found = [exactly(model, of, case), *fewer_digits(model, of, case), int8(model, of, case)]
    found += [exactly(m, of, case, done) for done, m in lighter_blends(model).items()]
    return {v.name: v for v in found if v is not None}


def pruned_variants(pruned: Pruned, whole: BaseEstimator, case: str) -> dict[str, Variant]:
    """What was pruned beside the model as it was; that alone if nothing could go.

    Parameters
    ----------
    pruned : Pruned
        From `truefit.export.prune`.
    whole : estimator
        The model before.
    case : str
        Its name.

    Returns
    -------
    dict from name to Variant
        Of a perceptron also in fewer digits, because it shows best what they do.
    """
    whole_alone = [exactly(whole, pruned.of, case)]
    digits = own_variants(whole, pruned.of, case).values() if pruned.kind == "weights" else ()
    left = []
    if pruned.left < pruned.whole:
        done = f"{pruned.left:,} of {pruned.whole:,} {pruned.kind}"
        left.append(exactly(pruned.model, pruned.of, case, done))
    return {v.name: v for v in (*whole_alone, *left, *digits)}
