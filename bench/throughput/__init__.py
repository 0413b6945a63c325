"""How fast training is here, against PyTorch loops, JAX and a conventional Lightning project.

Every figure is a ratio of things measured in turns on one machine: `contenders` are what is
measured, each in a process of its own; `measure` takes the turns; `write` says what came out.
"""
