"""Golden vectors: inputs and correctly rounded results for kernels in any language.

`cases` makes the inputs, each aimed at bug classes that `flags` describes; `sets` and `exact` have
the expected values, from the definition and in multiple precision; `tolerance` says how far from
them an honest kernel may be. `export` writes all that, `verify` checks a folder of vectors and
this library against it. `formats`, `files` and `schema` are what the files are made of.
"""
