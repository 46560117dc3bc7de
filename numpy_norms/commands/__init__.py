"""The commands of ``python -m numpy_norms``, one module or package each.

A command module has ``HELP`` (one line), ``add_arguments(parser)`` and ``run(args)``, which
returns the exit status: 0 all agree, 1 a disagreement, 2 wrong usage.
"""
