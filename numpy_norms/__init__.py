"""Normalization layers in NumPy alone: forward and backward, every line a numbered equation."""

from .add_norm import (
    add_layer_norm_backward,
    add_layer_norm_forward,
    add_rms_norm_backward,
    add_rms_norm_forward,
)
from .batch_norm import batch_norm_backward, batch_norm_forward
from .batch_norm_inference import batch_norm_inference_backward, batch_norm_inference_forward
from .cache import Cache
from .engine.threads import get_num_threads, set_num_threads
from .fold import fold_batch_norm, fold_batch_norm_into_next
from .further.batch_renorm import batch_renorm_backward, batch_renorm_forward
from .further.global_response_norm import (
    global_response_norm_backward,
    global_response_norm_forward,
)
from .further.local_response_norm import local_response_norm_backward, local_response_norm_forward
from .further.lp_normalize import lp_normalize_backward, lp_normalize_forward
from .further.mean_variance_norm import mean_variance_norm_backward, mean_variance_norm_forward
from .further.spectral_norm import (
    power_iteration,
    spectral_norm_backward,
    spectral_norm_forward,
)
from .further.weight_norm import weight_norm_backward, weight_norm_forward
from .group_norm import group_norm_backward, group_norm_forward
from .groups import groups
from .instance_norm import instance_norm_backward, instance_norm_forward
from .layer_norm import layer_norm_backward, layer_norm_forward
from .moments import Moments
from .rms_norm import rms_norm_backward, rms_norm_forward
from .running_stats import update_running_stats
from .second_order.double_backward import double_backward
from .second_order.jvp import jvp

__version__ = "0.1.0"

__all__ = [
    "Cache",
    "Moments",
    "add_layer_norm_backward",
    "add_layer_norm_forward",
    "add_rms_norm_backward",
    "add_rms_norm_forward",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_inference_backward",
    "batch_norm_inference_forward",
    "batch_renorm_backward",
    "batch_renorm_forward",
    "double_backward",
    "fold_batch_norm",
    "fold_batch_norm_into_next",
    "get_num_threads",
    "global_response_norm_backward",
    "global_response_norm_forward",
    "group_norm_backward",
    "group_norm_forward",
    "groups",
    "instance_norm_backward",
    "instance_norm_forward",
    "jvp",
    "layer_norm_backward",
    "layer_norm_forward",
    "local_response_norm_backward",
    "local_response_norm_forward",
    "lp_normalize_backward",
    "lp_normalize_forward",
    "mean_variance_norm_backward",
    "mean_variance_norm_forward",
    "power_iteration",
    "rms_norm_backward",
    "rms_norm_forward",
    "set_num_threads",
    "spectral_norm_backward",
    "spectral_norm_forward",
    "update_running_stats",
    "weight_norm_backward",
    "weight_norm_forward",
]
