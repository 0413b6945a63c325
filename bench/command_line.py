"""What is typed after ``bench``: the arguments, as Hydra is to have them."""


def choose_custom(arguments: list[str]) -> list[str]:
    """An ``optimizer._target_`` alone means any importable optimizer: ``optimizer=custom``."""
    keys = [argument.partition("=")[0] for argument in arguments]
    if "optimizer._target_" in keys and "optimizer" not in keys:
        place = keys.index("optimizer._target_")
        return [*arguments[:place], "optimizer=custom", *arguments[place:]]
    return arguments
