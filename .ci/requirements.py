"""Print what a build of this project and its tests require, one to a line."""

import tomllib

with open("pyproject.toml", "rb") as file:
    config = tomllib.load(file)
print(*config["build-system"]["requires"], sep="\n")
print(*config["project"]["optional-dependencies"]["test"], sep="\n")
