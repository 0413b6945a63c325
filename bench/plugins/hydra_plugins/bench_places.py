"""Where Hydra looks for configurations beside ours."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from bench import command_line


class OwnPlaces(SearchPathPlugin):
    """What ``--config-dir`` and ``hydra.searchpath`` named: Hydra itself would look there for the
    run's configuration, but not for the defaults that a run is named after, nor for its help."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for place in command_line.own_places:
            search_path.append(provider=command_line.PROVIDER, path=place)
