"""Many cases in one test: a test of its own for each would cost more than most of them do."""

import functools
import inspect


def each(names, cases):
    """Run a test on one case after the other; a failure names its case.

    ``inspect.unwrap`` gives back the test of a single case.
    """
    names, cases = (names, cases) if isinstance(names, tuple) else ((names,), zip(cases))
    cases = [dict(zip(names, case, strict=True)) for case in cases]

    def decorate(test):
        signature = inspect.signature(test)
        others = [p for p in signature.parameters.values() if p.name not in names]
        signature = signature.replace(parameters=others)

        @functools.wraps(test)
        def on_each(*arguments, **named):
            others = signature.bind(*arguments, **named).arguments
            for case in cases:
                try:
                    test(**case, **others)
                except Exception as error:
                    error.add_note(", ".join(f"{name} = {value}" for name, value in case.items()))
                    raise

        on_each.__signature__ = signature
        return on_each

    return decorate
