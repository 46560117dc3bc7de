"""Each line of the second-order equations and of the masks, broken in turn, fails a test."""

import ast
import inspect
from contextlib import contextmanager
from types import CodeType

import numpy as np
import pytest
import test_masks as masked
import test_second_order as second
from cases import FIVE, INFERENCE

from numpy_norms import masks
from numpy_norms.engine import programs
from numpy_norms.second_order import equations

pytestmark = pytest.mark.usefixtures("_without_programs")
NEAR = ast.Constant(1 + 1e-6)
TURNED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Eq: ast.NotEq,
    ast.Gt: ast.LtE,
    ast.USub: ast.UAdd,
}
OPTIONAL = {"pivot", "exponent", "mean", "gamma", "beta"}  # None is a step left out


def nearly(value):
    """Write nearly one times a value."""
    return ast.BinOp(NEAR, ast.Mult(), value)


def changes(node):
    """Yield changes to make to a copy of this node, by what they do."""
    match node:
        case ast.AugAssign(op=ast.Mult()):
            yield "left out", lambda n: setattr(n, "value", ast.Constant(1))
            yield "nearly", lambda n: setattr(n, "value", nearly(n.value))
        case ast.AugAssign():
            yield "turned", lambda n: setattr(n, "op", TURNED[type(n.op)]())
            yield "left out", lambda n: setattr(n, "value", ast.Constant(0))
        case ast.BinOp(op=ast.Pow()):
            yield "nearly", lambda n: setattr(n, "right", nearly(n.right))
        case ast.BinOp() | ast.UnaryOp() if type(node.op) in TURNED:
            yield "turned", lambda n: setattr(n, "op", TURNED[type(n.op)]())
        case ast.Compare() if type(node.ops[0]) in TURNED:
            yield "turned", lambda n: setattr(n, "ops", [TURNED[type(n.ops[0])]()])
        case ast.Constant(value=float()):
            yield "nearly", lambda n: setattr(n, "value", n.value * NEAR.value)
        case ast.Assign(value=ast.Call(func=ast.Name(id="G"))):
            yield "nearly", lambda n: setattr(n, "value", nearly(n.value))
        case ast.If() | ast.IfExp():
            yield "turned", lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))
        case ast.Expr(value=ast.Call()):
            yield "left out", lambda n: setattr(n, "value", ast.Constant(None))
        case ast.Call(func=ast.Attribute(attr="where")):
            yield "turned", lambda n: setattr(n, "args", [n.args[0], *n.args[:0:-1]])
        case ast.Call(func=ast.Name(id="Steps"), args=[_, _, _, _]):
            yield "never lifted better", lambda n: n.args.pop()
        case ast.Call(args=[_, *given]):
            for k, a in enumerate(given, 1):
                if isinstance(a, ast.Name) and a.id in OPTIONAL:
                    yield f"no {a.id}", lambda n, k=k: n.args.__setitem__(k, ast.Constant(None))
        case ast.keyword(value=ast.Name(id=name)) if name in OPTIONAL:
            yield f"no {name}", lambda n: setattr(n, "value", ast.Constant(None))


def mutants(module):
    """Yield the code of the module with one change, and which."""
    source = inspect.getsource(module)
    lines = source.splitlines()
    for k, node in enumerate(ast.walk(ast.parse(source))):
        for what, change in changes(node):
            changed = ast.parse(source)
            change(list(ast.walk(changed))[k])
            code = compile(ast.fix_missing_locations(changed), module.__file__, "exec")
            line = lines[node.lineno - 1].strip()
            yield code, f"{node.lineno}: {line}: {what} at {node.col_offset}"


@contextmanager
def put(code, module):
    """Let the functions of a module run the code that they have in another version of it."""
    programs.kind.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        for changed in code.co_consts:
            if isinstance(changed, CodeType):
                here = getattr(module, changed.co_name)
                if inspect.isfunction(here):
                    patch.setattr(here, "__code__", changed)
                else:  # a class with properties
                    put_properties(changed, here, patch)
        yield


def put_properties(code, here, patch):
    """Let the properties of a class run the code that they have in another version of it."""
    for changed in code.co_consts:
        # Python 3.14 has code of its own for annotations.
        if isinstance(changed, CodeType) and changed.co_name != "__annotate__":
            patch.setattr(vars(here)[changed.co_name].fget, "__code__", changed)


def fails(tests):
    """Run tests until one fails, and say whether one does."""
    for test, *arguments in tests:
        try:
            inspect.unwrap(test)(*arguments)
        except Exception:
            return True
    return False


def of_tangents():
    """Yield tests of jvp and double_backward."""
    for norm in (*FIVE, INFERENCE):
        yield second.test_jvp_of_each_argument_is_the_complex_step, norm
        for along in ("x", "gamma", "running_mean", "running_var"):
            yield (
                second.test_double_backward_is_the_complex_step_of_the_backward_pass,
                *(norm, along, 1.0),
            )


def of_masks():
    """Yield tests of masks."""
    for norm in FIVE:
        yield masked.test_y_is_that_of_the_definition, norm
        yield masked.test_gradients_are_the_complex_step_of_the_definition, norm
        yield masked.test_what_does_not_count_and_has_no_dy_reaches_nothing, norm, np.nan
        if norm.name != "batch_norm":
            yield masked.test_a_set_in_which_nothing_counts_gives_beta_and_no_dx, norm
        yield masked.test_an_empty_batch_has_the_statistics_that_it_has_without_a_mask, norm
        yield masked.test_numbers_whose_squares_leave_the_range, norm, 511, masked.EPS
    yield (masked.test_a_mask_that_broadcasts_is_the_whole_one,)
    for test in (
        masked.test_padded_sequences_are_pytorch_s_without_the_padding,
        masked.test_running_statistics_of_instance_norm_are_of_the_samples_that_count,
    ):
        yield test, np.random.default_rng(0)
    for norm in (*FIVE, *masked.LARGER):
        yield masked.test_many_small_tiles_agree_with_one, norm, "tiny", np.float64, None
        yield masked.test_results_of_narrow_arrays_are_rounded_once, norm, 1e6


@pytest.mark.parametrize("tests", [of_tangents, of_masks])
def test_the_right_code_fails_no_test(tests):
    assert not fails(tests())


@pytest.mark.parametrize(("module", "tests"), [(equations, of_tangents), (masks, of_masks)])
def test_a_mistake_fails_a_test(module, tests):
    for code, mistake in mutants(module):
        with put(code, module):
            assert fails(tests()), mistake
