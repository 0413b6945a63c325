"""How often a report says what is false, and its intervals miss: ``python -m bench.calibration``.

Studies are drawn from a truth that is known (``studies``), and go through the statistics and the
sentences of a report as any study does. ``rankings`` counts what was asserted, ``coverage`` which
intervals held the truth.
"""
