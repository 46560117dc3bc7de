"""The bug classes that the vectors are marked with: what goes wrong, and who had it."""

from typing import NamedTuple


class Flag(NamedTuple):
    """One bug class: the mistake, what it does to the results, public issues that had it."""

    bug: str
    effect: str
    issues: tuple[str, ...]


FLAGS = {
    "AxisOrder": Flag(
        "a parameter's gradient summed over the wrong axes of a multi-axis or channels-last input",
        "dgamma and dbeta wrong; y and dx right",
        ("pytorch/pytorch#192016", "pytorch/pytorch#140913", "flagos-ai/FlagGems#5392"),
    ),
    "ChannelsLast": Flag(
        "the channel axis taken to be axis 1 whatever the layout",
        "everything wrong once the axes differ in length",
        ("pytorch/pytorch#140913", "pytorch/pytorch#107199"),
    ),
    "ConstantSet": Flag(
        "a variance of rounding errors where the variance is zero, or a division by it",
        "y differs from beta, or is NaN",
        ("microsoft/onnxruntime#21935", "pytorch/pytorch#5410"),
    ),
    "DroppedTerm": Flag(
        "one of the three terms of dx left out, or its sign wrong",
        "dx wrong; hidden by dy = 1, by dy = y and by gamma = 1",
        (),
    ),
    "EpsPlacement": Flag(
        "eps added to the standard deviation, forgotten in backward, or floored",
        "y and dx wrong as soon as eps is not far below the variance",
        ("FluxML/Flux.jl#2096", "joe-siyuan-qiao/WeightStandardization#16"),
    ),
    "EpsUnderflow": Flag(
        "eps rounded to the type of x before it is used",
        "y infinite or too large where the variance is as small as eps",
        ("keras-team/keras#22586", "nntrainer/nntrainer#4318"),
    ),
    "ExactArithmetic": Flag(
        "any: all that is added, divided or rooted is a small dyadic number, in whatever order",
        "any difference is a bug: the tolerance is 0 (but Welford's recurrence rounds on its way)",
        (),
    ),
    "GammaForgotten": Flag(
        "gamma left out of the gradient of x, or applied after the projection",
        "dx wrong unless gamma is 1",
        ("pytorch/pytorch#41595",),
    ),
    "GammaZero": Flag(
        "x_hat recovered as (y - beta) / gamma in backward",
        "NaN or infinity in dx and dgamma where gamma is 0",
        ("mapillary/inplace_abn#4", "NVIDIA/apex#1715"),
    ),
    "GroupOrder": Flag(
        "groups interleaved (channel c in group c mod G) instead of contiguous",
        "y wrong unless there is one group or one channel in each",
        ("tenstorrent/tt-metal#56202",),
    ),
    "InferenceBackward": Flag(
        "the training gradient used where the statistics are constants",
        "dx wrong by two terms; y right",
        ("pytorch/pytorch#586", "pytorch/xla#913"),
    ),
    "LargeMean": Flag(
        "variance as E[x^2] - E[x]^2, x_hat as x*a + b, or backward sums that are not centred",
        "y and dx lose as many digits as the mean has more than the deviations, or are NaN",
        ("pytorch/pytorch#51102", "microsoft/onnxruntime#28463", "tracel-ai/burn#5607"),
    ),
    "MaskedTail": Flag(
        "the unused end of the last block counted as zeros in the sum of squared deviations",
        "variance too large by mean^2, unless the length divides the block or the mean is 0",
        ("triton-lang/triton#9838", "linkedin/Liger-Kernel#518"),
    ),
    "NaNSpreads": Flag(
        "a NaN in one set reaches another set",
        "NaN outside the set, or a number inside it",
        (),
    ),
    "PartialBlock": Flag(
        "features beyond one block, or the last and incomplete block, left out",
        "statistics of the first block only",
        ("facebookresearch/xformers#785", "NVIDIA/apex#411"),
    ),
    "SingleElement": Flag(
        "a set of one element: a division by m - 1, or 0/0",
        "y differs from beta, or dx from 0",
        ("pytorch/pytorch#98075",),
    ),
    "Spike": Flag(
        "a sum in which one large element wipes out the small ones",
        "the small deviations lost, their order changed",
        (),
    ),
    "SquaresOverflow": Flag(
        "squares or sums kept in the type of x",
        "infinite variance: y is 0 or NaN",
        ("pytorch/pytorch#162489", "microsoft/onnxruntime#28442"),
    ),
    "SwappedParameters": Flag(
        "dgamma and dbeta returned in the other order",
        "both wrong, with the right shapes",
        ("Oneflow-Inc/oneflow#6149",),
    ),
    "TinyValues": Flag(
        "x rescaled and eps with it, or squares that vanish",
        "y is 0 or NaN where it is tiny and regular",
        ("apple/coremltools#2822",),
    ),
    "UnbiasedVariance": Flag(
        "normalization by the variance with divisor m - 1",
        "y too small by sqrt(1 - 1/m)",
        ("CanReader/FastNN#11",),
    ),
}
