"""One grammar of faults: it makes the catalogue, the faults drawn at random and the diagnosis.

grammar     what a fault is, and the verbs: sign, left_out, factor, averaged, cast, replaced
factors     what a value may be multiplied by, by name
regions     what a sum may run over in place of its set
memory      arrays read or written in the wrong way
place       where a fault is, and when
catalogue   the known ones, each with a public issue
sentences   all that the diagnosis tries
"""
